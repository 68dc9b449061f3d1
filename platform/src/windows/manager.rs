//! Service managers: none that hand over sockets, or are told something.

use std::io;

use super::owned::Owned;
use crate::manager::Notice;

/// Takes the sockets that a service manager has opened for this process: there are none here.
///
/// # Errors
///
/// None.
///
/// # Platform-specific behavior
///
/// Windows: none. Unix: see there.
pub fn activated() -> io::Result<Vec<(String, Owned)>> {
    Ok(Vec::new())
}

/// Tells the service manager something: nobody listens here.
///
/// # Errors
///
/// None.
///
/// # Platform-specific behavior
///
/// Windows: nobody listens. Unix: see there.
pub fn tell_manager(notices: &[Notice<'_>]) -> io::Result<bool> {
    let _ = notices;
    Ok(false)
}
