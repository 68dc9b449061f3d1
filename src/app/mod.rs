//! What an application needs around a conversation: a helper process that is looked after.

mod helper;
mod inherited;
mod supervisor;

pub use helper::{Helper, HelperBuilder, HelperState, HelperStates};
pub use inherited::outlive_parent;
pub use supervisor::Restart;
