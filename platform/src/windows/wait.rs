//! What waits are for: an event, or a completion port.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptorExt, SecurityDescriptor};
use widestring::U16CStr;
use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_BROKEN_PIPE, GetLastError, HANDLE, INVALID_HANDLE_VALUE, WAIT_FAILED,
    WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::System::IO::{
    CreateIoCompletionPort, GetQueuedCompletionStatus, OVERLAPPED, PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, OpenEventW, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::overlapped::Object;
use super::pipe;
use super::timeout::millis;
use crate::deadline::Deadline;

/// Why a wait has ended.
#[derive(Clone, Copy)]
pub(super) enum Wake {
    Finished,
    Stopped,
    TimedOut,
}

/// A manual-reset event, as overlapped operations want it.
#[derive(Debug)]
pub(super) struct Event(OwnedHandle);

impl Event {
    pub(super) fn new() -> io::Result<Event> {
        // SAFETY: no attributes and no name are given; the other arguments are values.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// An event that another process may open by its name, and that one wait is told of each time that
    /// it is set. Nobody may have made it before.
    pub(super) fn create_named(name: &U16CStr, descriptor: &SecurityDescriptor) -> io::Result<Event> {
        let mut attributes = SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: ptr::null_mut(),
            bInheritHandle: 0,
        };
        descriptor.write_to_security_attributes(&mut attributes);
        // SAFETY: the name is NUL-terminated; name and descriptor are borrowed and `attributes` lives on
        // this stack until the call returns, which copies them.
        let handle = unsafe { CreateEventW(&raw const attributes, 0, 0, name.as_ptr()) };
        // SAFETY: takes no arguments. Also set when the call succeeds.
        let code = unsafe { GetLastError() };
        if handle.is_null() {
            return Err(io::Error::from_raw_os_error(code.cast_signed()));
        }
        // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
        let event = Event(unsafe { OwnedHandle::from_raw_handle(handle) });
        if code == ERROR_ALREADY_EXISTS {
            return Err(io::Error::from_raw_os_error(code.cast_signed()));
        }
        Ok(event)
    }

    /// Opens such an event for what these rights are good for.
    pub(super) fn open_named(name: &U16CStr, access: u32) -> io::Result<Event> {
        const INHERIT: i32 = 0;
        // SAFETY: the name is NUL-terminated, and borrowed until the call returns.
        let handle = unsafe { OpenEventW(access, INHERIT, name.as_ptr()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    pub(super) fn set(&self) {
        // SAFETY: the handle is open as long as `self`. It can't fail on an event that was made by us, or
        // opened for that.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    /// An OVERLAPPED for an operation that sets this event when it ends (and resets it when it
    /// starts). The lowest bit says that no packet is wanted at the completion port that the handle
    /// belongs to ("GetQueuedCompletionStatus function",
    /// learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getqueuedcompletionstatus).
    pub(super) fn overlapped(&self) -> OVERLAPPED {
        OVERLAPPED { hEvent: self.0.as_raw_handle().map_addr(|handle| handle | 1), ..OVERLAPPED::default() }
    }

    /// Waits for this event, for `stop`, or for the deadline.
    pub(super) fn wait(&self, stop: &Event, deadline: Deadline) -> io::Result<Wake> {
        loop {
            let left = millis(deadline);
            match wait_for_either(self.0.as_handle(), stop.0.as_handle(), left) {
                WAIT_OBJECT_0 => return Ok(Wake::Finished),
                WAIT_TIMEOUT if left == 0 => return Ok(Wake::TimedOut),
                // Waits may end a little early, by the clock that deadlines are measured with; and so
                // late, if we were suspended, that what was waited for came in time.
                WAIT_TIMEOUT => {}
                WAIT_FAILED => return Err(io::Error::last_os_error()),
                _ => return Ok(Wake::Stopped),
            }
        }
    }

    /// Waits for a cancelled operation, which takes no time to speak of.
    pub(super) fn wait_for_end(&self) {
        if wait_for(self.0.as_handle(), INFINITE) != WAIT_OBJECT_0 {
            // It can't happen to an event of our own; and if it did, the kernel would go on to
            // write into memory that is about to become something else.
            log::error!("waiting for a cancelled read to end: {}", io::Error::last_os_error());
            std::process::abort();
        }
    }
}

impl AsHandle for Event {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

/// Waits for the first of some objects (there are few), or for the deadline, behind which it looks
/// once more.
pub(super) fn wait_for_any(objects: &[BorrowedHandle<'_>], deadline: Deadline) -> io::Result<Option<usize>> {
    loop {
        let left = millis(deadline);
        match wait_for_first(objects, left) {
            WAIT_TIMEOUT if left == 0 => return Ok(None),
            // Waits may end a little early.
            WAIT_TIMEOUT => {}
            WAIT_FAILED => return Err(io::Error::last_os_error()),
            woken => return Ok(Some(woken.wrapping_sub(WAIT_OBJECT_0) as usize)),
        }
    }
}

fn wait_for_first(objects: &[BorrowedHandle<'_>], millis: u32) -> u32 {
    const ALL: i32 = 0;
    let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
    // SAFETY: a borrowed handle is a handle (`repr(transparent)`), and open; the array is borrowed until
    // the call returns, and as long as said.
    unsafe { WaitForMultipleObjects(count, objects.as_ptr().cast::<HANDLE>(), ALL, millis) }
}

fn wait_for(event: BorrowedHandle<'_>, millis: u32) -> u32 {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    unsafe { WaitForSingleObject(event.as_raw_handle(), millis) }
}

fn wait_for_either(event: BorrowedHandle<'_>, stop: BorrowedHandle<'_>, millis: u32) -> u32 {
    const ALL: i32 = 0;
    let handles: [HANDLE; 2] = [event.as_raw_handle(), stop.as_raw_handle()];
    // SAFETY: both handles are borrowed, hence open, and the array lives on this stack until the
    // call returns.
    unsafe { WaitForMultipleObjects(2, handles.as_ptr(), ALL, millis) }
}

/// A completion port that knows one object, and gets the packets of its writes and of its stop.
pub(super) struct CompletionPort(OwnedHandle);

impl CompletionPort {
    pub(super) fn new(object: &Object) -> io::Result<CompletionPort> {
        // SAFETY: without a file the call only makes a port; the other arguments are values.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `port` is open and nobody else owns it.
        let port = CompletionPort(unsafe { OwnedHandle::from_raw_handle(port) });
        object.with_handle(|handle| {
            if handle.is_null() {
                return Err(io::Error::from_raw_os_error(ERROR_BROKEN_PIPE.cast_signed()));
            }
            // SAFETY: both handles are open until the call returns, which only connects them.
            match unsafe { CreateIoCompletionPort(handle, port.0.as_raw_handle(), 0, 0) }.is_null() {
                true => Err(io::Error::last_os_error()),
                false => Ok(()),
            }
        })?;
        Ok(port)
    }

    /// Queues a packet without an operation. It can only fail for want of memory; then a writer
    /// finds out when it next looks at the flag.
    pub(super) fn post_stop(&self) {
        // SAFETY: the port is open as long as `self`; there is no OVERLAPPED.
        if unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, ptr::null()) } == 0 {
            log::error!("waking a writer: {}", io::Error::last_os_error());
        }
    }

    /// Waits for a packet or for the deadline; as [`Event::wait`] it looks once more behind that.
    pub(super) fn wait(&self, deadline: Deadline) -> io::Result<Wake> {
        loop {
            let left = millis(deadline);
            match self.next(left) {
                Err(error) if pipe::has_code(&error, WAIT_TIMEOUT) && left == 0 => {
                    return Ok(Wake::TimedOut);
                }
                Err(error) if pipe::has_code(&error, WAIT_TIMEOUT) => {}
                other => return other,
            }
        }
    }

    fn next(&self, millis: u32) -> io::Result<Wake> {
        let (mut count, mut key, mut overlapped) = (0, 0, ptr::null_mut());
        // SAFETY: the port is open as long as `self`; the results live on this stack until the call
        // returns. The OVERLAPPED is only compared.
        let ok = unsafe {
            GetQueuedCompletionStatus(
                self.0.as_raw_handle(),
                &raw mut count,
                &raw mut key,
                &raw mut overlapped,
                millis,
            )
        };
        match (ok, overlapped.is_null()) {
            // The end of an operation, good or bad: its own result tells.
            (_, false) => Ok(Wake::Finished),
            (0, true) => Err(io::Error::last_os_error()),
            (_, true) => Ok(Wake::Stopped),
        }
    }
}
