//! What only some links have.

use std::io;

use sidewire_wire::App;

use super::super::system::System;
use super::Link;

/// Boxed: most links have none of it, and it should cost them next to nothing.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// What the peer's application says of itself.
    pub(crate) app: Option<App>,
    /// What broke the link.
    pub(crate) broken: Option<io::Error>,
}

impl<Y: System> Link<Y> {
    /// What broke it, if something did.
    pub(crate) fn broken(&self) -> Option<&io::Error> {
        self.about.as_ref()?.broken.as_ref()
    }
}
