//! What an application needs around a conversation: a helper process that is looked after, a server that is started when
//! somebody needs it, one instance of an app.

mod helper;
mod inherited;
mod single_instance;
mod starting;
mod supervisor;

pub use helper::{Helper, HelperBuilder, HelperState, HelperStates};
pub use inherited::outlive_parent;
pub use single_instance::{
    Acquired, Activation, Activations, OtherInstance, SingleInstance, SingleInstanceBuilder,
};
pub use starting::{Presence, Start};
pub use supervisor::Restart;
