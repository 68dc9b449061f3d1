//! What an application needs around a conversation: a helper process that is looked after, a server that is started when
//! somebody needs it.

mod helper;
mod inherited;
mod starting;
mod supervisor;

pub use helper::{Helper, HelperBuilder, HelperState, HelperStates};
pub use inherited::outlive_parent;
pub use starting::{Presence, Start};
pub use supervisor::Restart;
