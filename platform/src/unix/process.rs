//! Descriptors: how many there may be, and one kept for the day there are none.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// A spare descriptor, to be given up when the process has run out of them: then one connection
/// more can be accepted, refused politely and closed, instead of being left to wait unseen.
///
/// # Platform-specific behavior
///
/// Unix: a socket that is never used, since a server has the right to those, and a chroot may lack
/// `/dev/null`. Windows: nothing, there is no such limit.
#[derive(Debug)]
pub struct Reserve {
    _spare: Socket,
}

impl Reserve {
    /// Takes a descriptor into reserve.
    ///
    /// # Errors
    ///
    /// What socket(2) says, in particular that the process is out of descriptors already; see
    /// [`is_descriptor_limit`].
    pub fn new() -> io::Result<Reserve> {
        Ok(Reserve { _spare: Socket::new(Domain::UNIX, Type::DGRAM, None)? })
    }
}

/// Whether an error says that the process or the system is out of descriptors, or of memory for
/// sockets: accepting has to pause, since trying again at once fails again.
///
/// # Platform-specific behavior
///
/// Unix: EMFILE, ENFILE, ENOBUFS, ENOMEM (accept(2)). Windows: WSAEMFILE and its kin.
#[must_use]
pub fn is_descriptor_limit(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// Raises the number of descriptors that this process may have to the most it may ask for, and
/// returns it: the soft limit to the hard one (getrlimit(2)).
///
/// Meant for servers with many connections, called once at the start. Programs that use
/// select(2) should not call it: that function can't hold descriptors above 1,023.
///
/// # Errors
///
/// What setrlimit(2) says.
///
/// # Platform-specific behavior
///
/// `u64::MAX` means unlimited, as it always is on Windows. macOS has a hard limit of "unlimited"
/// which it does not accept as a soft one; there it is 10,240 (`OPEN_MAX`).
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most =
        if cfg!(target_vendor = "apple") { Some(maximum.unwrap_or(u64::MAX).min(10_240)) } else { maximum };
    let wanted = most.unwrap_or(u64::MAX);
    if current.unwrap_or(u64::MAX) < wanted {
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum })?;
        return Ok(wanted);
    }
    Ok(current.unwrap_or(u64::MAX))
}

/// How many descriptors this process may have now: the soft limit (getrlimit(2)).
///
/// # Platform-specific behavior
///
/// `u64::MAX` means unlimited, as it always is on Windows.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Standard error as a file of its own: who waits in it holds no lock that others need.
///
/// # Errors
///
/// If the process is out of descriptors, or has no standard error.
pub fn standard_error() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_descriptor_limit().unwrap();
        assert_eq!(descriptor_limit(), limit);
        assert_eq!(raise_descriptor_limit().unwrap(), limit);
    }

    #[test]
    fn only_a_lack_of_descriptors_counts() {
        assert!(is_descriptor_limit(&Errno::MFILE.into()));
        assert!(is_descriptor_limit(&Errno::NOBUFS.into()));
        assert!(!is_descriptor_limit(&Errno::CONNABORTED.into()));
        assert!(!is_descriptor_limit(&io::ErrorKind::OutOfMemory.into()));
        Reserve::new().unwrap();
    }
}
