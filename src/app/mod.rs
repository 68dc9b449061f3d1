//! What an application needs around a conversation: a helper process that is looked after, a server that is started when
//! somebody needs it, a program that is the server of one connection, one instance of an app, the end of a server before its program is replaced.

mod commands;
mod helper;
mod inherited;
mod single_instance;
mod starting;
mod stopping;
mod supervisor;

pub use helper::{Helper, HelperBuilder, HelperState, HelperStates};
pub use inherited::outlive_parent;
pub use single_instance::{
    Acquired, Activation, Activations, OtherInstance, SingleInstance, SingleInstanceBuilder,
};
pub use starting::{Presence, Start};
pub use stopping::{Stopped, stop_server};
pub use supervisor::Restart;
