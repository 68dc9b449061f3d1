//! Why something can't be done here, and what can.

use std::io;

pub(super) fn unsupported(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, why.into())
}

pub(super) fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.into())
}

pub(super) fn too_large(length: usize) -> io::Error {
    invalid(format!("a message of {length} bytes is too large for one datagram here"))
}

pub(super) fn one_way(who: &str) -> io::Error {
    unsupported(format!("{who}: mailslots carry messages one way, to their server"))
}
