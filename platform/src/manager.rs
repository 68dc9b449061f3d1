//! The service manager that has started this process, if one has.

/// What a service tells its manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// It has started, and whoever needs it may be started now.
    Ready,
    /// It is about to end.
    Stopping,
    /// One line for people to read.
    Status(&'a str),
}
