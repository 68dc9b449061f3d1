//! Child processes that have a channel of their own: the parent's side.

use std::fs::File;
use std::io;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::Channel;

/// A child process with a private channel.
#[derive(Debug)]
pub enum ChildProcess {}

#[allow(missing_docs, clippy::missing_errors_doc)] // See unix/child.rs.
impl ChildProcess {
    pub fn spawn(_command: &mut Command) -> io::Result<ChildProcess> {
        Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
    }
    #[must_use]
    pub fn id(&self) -> u32 {
        match *self {}
    }
    pub fn channel(&self, _timeout: Option<Duration>) -> io::Result<Channel> {
        match *self {}
    }
    pub fn take_stdout(&mut self) -> Option<File> {
        match *self {}
    }
    pub fn take_stderr(&mut self) -> Option<File> {
        match *self {}
    }
    pub fn wait(&self, _timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        match *self {}
    }
    pub fn terminate(&self) -> io::Result<()> {
        match *self {}
    }
    pub fn kill(&self) -> io::Result<()> {
        match *self {}
    }
}
