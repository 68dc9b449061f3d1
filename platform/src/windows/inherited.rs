//! The channel to the parent: the child's side.

use std::io;

use super::{Channel, Stream};

/// The channel to the parent.
#[derive(Debug)]
pub enum ParentChannel {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/inherited.rs.
impl ParentChannel {
    pub fn take() -> io::Result<Option<ParentChannel>> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
    #[must_use]
    pub fn parent(&self) -> u32 {
        match *self {}
    }
    pub fn into_channel(self) -> io::Result<Channel> {
        match self {}
    }
    pub fn into_stream(self) -> io::Result<Stream> {
        match self {}
    }
    pub fn watch(&mut self, _on_death: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        match *self {}
    }
}
