//! What an application needs around a conversation: a helper process that is looked after.

mod helper;
mod supervisor;

pub use helper::{Helper, HelperBuilder, HelperState, HelperStates};
pub use supervisor::Restart;
