//! A completion port, where operations on handles end: one system call per function.
//!
//! See "I/O Completion Ports", learn.microsoft.com/windows/win32/fileio/i-o-completion-ports.

use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::Storage::FileSystem::SetFileCompletionNotificationModes;
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatusEx, OVERLAPPED_ENTRY, PostQueuedCompletionStatus,
};

use super::pipe;

/// A completion port that any number of handles belong to.
#[derive(Debug)]
pub(super) struct Port(OwnedHandle);

impl Port {
    pub(super) fn new() -> io::Result<Port> {
        // Whoever has taken a packet counts until he waits again, also where another thread is to take the next.
        const THREADS: u32 = 64;
        // SAFETY: without a file the call only makes a port; the other arguments are values.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, THREADS) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `port` is open and nobody else owns it.
        Ok(Port(unsafe { OwnedHandle::from_raw_handle(port) }))
    }

    /// From here on an operation on `handle` that was pending puts a packet with this key here when it ends; one that
    /// has ended when its call returns, does not ("SetFileCompletionNotificationModes function",
    /// learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes). A handle has one
    /// port in its life.
    pub(super) fn add(&self, handle: BorrowedHandle<'_>, key: usize) -> io::Result<()> {
        const FILE_SKIP_COMPLETION_PORT_ON_SUCCESS: u8 = 1;
        let (handle, port) = (handle.as_raw_handle(), self.0.as_raw_handle());
        // First, since it fails where the handle belongs to another port, whose owner counts on all packets.
        // SAFETY: both handles are open until the call returns, which only connects them.
        if unsafe { CreateIoCompletionPort(handle, port, key, 0) }.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is borrowed, hence open until the call returns.
        match unsafe { SetFileCompletionNotificationModes(handle, FILE_SKIP_COMPLETION_PORT_ON_SUCCESS) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Puts a packet here that belongs to no operation: its OVERLAPPED is null.
    pub(super) fn post(&self) -> io::Result<()> {
        // SAFETY: the port is open as long as `self`; there is no OVERLAPPED.
        match unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, ptr::null()) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Waits for packets, for so many milliseconds, and says how many it has taken.
    pub(super) fn take(&self, packets: &mut [OVERLAPPED_ENTRY], millis: u32) -> io::Result<usize> {
        const ALERTABLE: i32 = 0;
        let mut count = 0;
        let room = u32::try_from(packets.len()).unwrap_or(u32::MAX);
        // SAFETY: the port is open as long as `self`; `packets` has room for as many as said, and it and `count` are
        // borrowed until the call returns ("GetQueuedCompletionStatusEx function",
        // learn.microsoft.com/windows/win32/fileio/getqueuedcompletionstatusex-func).
        let ok = unsafe {
            GetQueuedCompletionStatusEx(
                self.0.as_raw_handle(),
                packets.as_mut_ptr(),
                room,
                &raw mut count,
                millis,
                ALERTABLE,
            )
        };
        if ok != 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if pipe::has_code(&error, WAIT_TIMEOUT) { Ok(0) } else { Err(error) }
    }
}
