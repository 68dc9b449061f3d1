//! Limits of the process. Windows counts no descriptors, but it runs out of memory for them.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle};

use windows_sys::Win32::Foundation::{
    ERROR_COMMITMENT_LIMIT, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY, ERROR_NOT_ENOUGH_QUOTA,
    ERROR_OUTOFMEMORY, ERROR_TOO_MANY_OPEN_FILES,
};
use windows_sys::Win32::Networking::WinSock::{WSAEMFILE, WSAENOBUFS};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetExitCodeProcess, TerminateProcess};

/// Nothing: Windows has no limit on handles that a spare one could get us below.
#[derive(Debug)]
pub struct Reserve {
    _private: (),
}

impl Reserve {
    /// Always succeeds.
    ///
    /// # Errors
    ///
    /// None on Windows.
    pub fn new() -> io::Result<Reserve> {
        Ok(Reserve { _private: () })
    }
}

/// Whether an error says that the process or the system has run out of what connections are made
/// of, so that accepting is better paused than retried at once.
#[must_use]
pub fn is_descriptor_limit(error: &io::Error) -> bool {
    let Some(code) = error.raw_os_error() else { return false };
    // Winsock's codes are i32 and the others u32, though both come by the same road.
    code == WSAEMFILE
        || code == WSAENOBUFS
        || [
            ERROR_TOO_MANY_OPEN_FILES,
            ERROR_NO_SYSTEM_RESOURCES,
            ERROR_NOT_ENOUGH_MEMORY,
            ERROR_OUTOFMEMORY,
            ERROR_COMMITMENT_LIMIT,
            ERROR_NOT_ENOUGH_QUOTA,
        ]
        .contains(&code.cast_unsigned())
}

/// Does nothing: there is no limit to raise.
///
/// # Errors
///
/// None on Windows.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    Ok(u64::MAX)
}

/// How many descriptors this process may have now: there is no limit.
#[must_use]
pub fn descriptor_limit() -> u64 {
    u64::MAX
}

/// Standard error as a file of its own: who waits in it holds no lock that others need.
///
/// # Errors
///
/// If the process is out of descriptors, or has no standard error.
pub fn standard_error() -> io::Result<File> {
    Ok(io::stderr().as_handle().try_clone_to_owned()?.into())
}

/// The exit code of a process that has ended.
pub(super) fn exit_code(process: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut code = 0;
    // SAFETY: the handle is borrowed, hence open; `code` lives on this stack until the call returns.
    let ok = unsafe { GetExitCodeProcess(process.as_raw_handle(), &raw mut code) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
}

/// Ends this process with this exit code, whatever its threads are busy with: nobody is asked.
pub(super) fn end_at_once(code: u32) -> ! {
    // SAFETY: GetCurrentProcess is a constant; no memory is touched.
    unsafe { TerminateProcess(GetCurrentProcess(), code) };
    // It can't fail.
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_from_other_errors() {
        for code in [4, 8, 1450, 10024, 10055] {
            assert!(is_descriptor_limit(&io::Error::from_raw_os_error(code)), "{code}");
        }
        for code in [2, 5, 231, 10054, 10035] {
            assert!(!is_descriptor_limit(&io::Error::from_raw_os_error(code)), "{code}");
        }
        assert!(!is_descriptor_limit(&io::ErrorKind::TimedOut.into()));
        assert_eq!(raise_descriptor_limit().unwrap(), u64::MAX);
        Reserve::new().unwrap();
    }
}
