//! Whether a request ran.

/// What is known of a request that has no answer: whether its handler has run, or may run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "nothing lies between the two")]
pub enum Executed {
    /// It certainly did not run and never will: it can be sent again.
    Never,
    /// It may have run, or may still run: only the application knows whether it can be sent again.
    Perhaps,
}
