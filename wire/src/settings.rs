//! What an owner sets for its connections.

use std::time::Duration;

use crate::layout::Classic;
use crate::limits::ConnectionLimits;

/// What all connections of a listener, or of a client, have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    pub limits: ConnectionLimits,
    pub classic: Classic,
    /// Whether first bytes that look like HTTP or TLS are a mistake (TCP).
    pub web_is_error: bool,
    /// How long a peer may be silent at first.
    pub first_byte: Option<Duration>,
    /// The server's instance id, which tells clients of a restart.
    pub instance: [u8; 16],
}
