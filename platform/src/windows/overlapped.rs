//! Overlapped operations on a pipe or a socket: one system call a function.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, AsRawSocket, BorrowedHandle, OwnedHandle};
use std::ptr;
use std::sync::{PoisonError, RwLock};

use socket2::Socket;
use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_IO_PENDING, HANDLE};
use windows_sys::Win32::Networking::WinSock::{SOCKET, WSABUF, WSAGetOverlappedResult, WSARecv, WSASend};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};

use super::pipe;

/// What is read from and written to. The handle was opened for overlapped use.
pub(super) enum Object {
    Pipe(PipeEnd),
    Tcp(Socket),
}

/// A handle that can be closed while others have a share in it. It is held for the length of a call,
/// not for that of an operation: the system sees to those under way.
pub(super) struct PipeEnd(RwLock<Option<OwnedHandle>>);

impl PipeEnd {
    /// `None`: it was closed.
    #[cfg(feature = "tokio")]
    pub(super) fn into_handle(self) -> Option<OwnedHandle> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `call` with the handle. A pipe that was closed has ended.
    fn with(&self, call: impl FnOnce(HANDLE) -> io::Result<Started>) -> io::Result<Started> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(handle) => call(handle.as_raw_handle()),
            None => Err(io::Error::from_raw_os_error(ERROR_BROKEN_PIPE.cast_signed())),
        }
    }
}

/// What a started operation does.
#[derive(Clone, Copy)]
pub(super) enum Started {
    /// It has finished; the result is there.
    Finished,
    /// It goes on.
    Pending,
}

impl Object {
    pub(super) fn pipe(handle: OwnedHandle) -> Object {
        Object::Pipe(PipeEnd(RwLock::new(Some(handle))))
    }

    /// A pipe that was closed.
    #[cfg(feature = "tokio")]
    pub(super) fn closed() -> Object {
        Object::Pipe(PipeEnd(RwLock::new(None)))
    }

    /// Closes a pipe whose stream has ended. As long as a client has a handle, the name is not free,
    /// and a server that was killed can't be started again ("DisconnectNamedPipe function",
    /// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
    pub(super) fn close_pipe(&self) {
        if let Object::Pipe(end) = self {
            drop(end.0.write().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Whether it is a pipe whose other end has gone, and that has nothing to read any more.
    pub(super) fn is_ended_pipe(&self) -> bool {
        match self {
            Object::Pipe(end) => match &*end.0.read().unwrap_or_else(PoisonError::into_inner) {
                Some(handle) => !pipe::is_open(handle.as_handle()),
                None => false,
            },
            Object::Tcp(_) => false,
        }
    }

    /// Calls this with the pipe, if it is one that is open.
    pub(super) fn with_pipe<R>(&self, ask: impl FnOnce(BorrowedHandle<'_>) -> R) -> Option<R> {
        match self {
            Object::Pipe(end) => {
                let handle = end.0.read().unwrap_or_else(PoisonError::into_inner);
                handle.as_ref().map(|handle| ask(handle.as_handle()))
            }
            Object::Tcp(_) => None,
        }
    }

    /// Starts to read at most `length` bytes to `buf`.
    ///
    /// # Safety
    ///
    /// If this succeeds, `buf` (with room for `length` bytes) and `overlapped` (of no other
    /// operation) must stay where they are until the operation has ended.
    pub(super) unsafe fn start_read(
        &self,
        buf: *mut u8,
        length: u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        match self {
            Object::Pipe(end) => end.with(|handle| {
                // SAFETY: by this function's contract; the handle is open until the call returns.
                let ok = unsafe { ReadFile(handle, buf, length, ptr::null_mut(), overlapped) };
                started(ok != 0)
            }),
            Object::Tcp(socket) => {
                let buffer = WSABUF { len: length, buf };
                let mut flags = 0;
                // SAFETY: by this function's contract; the system copies the WSABUF and has done
                // with `flags` when the call returns. The socket is open as long as `self`.
                let code = unsafe {
                    WSARecv(
                        raw(socket),
                        &raw const buffer,
                        1,
                        ptr::null_mut(),
                        &raw mut flags,
                        overlapped,
                        None,
                    )
                };
                started(code == 0)
            }
        }
    }

    /// Starts to write `length` bytes at `buf`.
    ///
    /// # Safety
    ///
    /// As for [`Object::start_read`], and the bytes must not change either.
    pub(super) unsafe fn start_write(
        &self,
        buf: *const u8,
        length: u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        match self {
            Object::Pipe(end) => end.with(|handle| {
                // SAFETY: by this function's contract; the handle is open until the call returns.
                let ok = unsafe { WriteFile(handle, buf, length, ptr::null_mut(), overlapped) };
                started(ok != 0)
            }),
            Object::Tcp(socket) => {
                let buffer = WSABUF { len: length, buf: buf.cast_mut() };
                // SAFETY: by this function's contract; the system copies the WSABUF before the call
                // returns, and only reads from `buf`. The socket is open as long as `self`.
                let code = unsafe {
                    WSASend(raw(socket), &raw const buffer, 1, ptr::null_mut(), 0, overlapped, None)
                };
                started(code == 0)
            }
        }
    }

    /// Calls `call` with the handle, which is null if it was closed. A socket is a handle, too
    /// ("Socket Handles", learn.microsoft.com/windows/win32/winsock/socket-handles-2).
    pub(super) fn with_handle<T>(&self, call: impl FnOnce(HANDLE) -> T) -> T {
        match self {
            Object::Pipe(end) => {
                let handle = end.0.read().unwrap_or_else(PoisonError::into_inner);
                call(handle.as_ref().map_or(ptr::null_mut(), AsRawHandle::as_raw_handle))
            }
            Object::Tcp(socket) => call(ptr::with_exposed_provenance_mut(raw(socket))),
        }
    }

    /// Asks the system to end an operation soon. It may have ended already, which is as good; and
    /// those on a handle that was closed have.
    pub(super) fn cancel(&self, overlapped: *mut OVERLAPPED) {
        self.with_handle(|handle| {
            if !handle.is_null() {
                // SAFETY: the handle is open until the call returns. The address only says which
                // operation is meant: the call doesn't follow it.
                unsafe { CancelIoEx(handle, overlapped) };
            }
        });
    }

    /// How many bytes an operation moved.
    ///
    /// # Safety
    ///
    /// `overlapped` must be that of an operation that was started on this object, and that has ended.
    pub(super) unsafe fn result(&self, overlapped: *mut OVERLAPPED) -> io::Result<usize> {
        const WAIT: i32 = 0;
        let (mut count, mut flags) = (0, 0);
        let ok = match self {
            // SAFETY: by this function's contract; `count` lives on this stack until the call returns.
            // The handle is not looked at unless it is to be waited for, and may have been closed.
            Object::Pipe(_) => self.with_handle(|handle| unsafe {
                GetOverlappedResult(handle, overlapped, &raw mut count, WAIT)
            }),
            // SAFETY: by this function's contract; `count` and `flags` live on this stack until the
            // call returns.
            Object::Tcp(socket) => unsafe {
                WSAGetOverlappedResult(raw(socket), overlapped, &raw mut count, WAIT, &raw mut flags)
            },
        };
        if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

/// Tells a finished operation from a pending one (WSA_IO_PENDING is the same number) and from one
/// that was never started. WSAGetLastError is GetLastError.
pub(super) fn started(finished: bool) -> io::Result<Started> {
    if finished {
        return Ok(Started::Finished);
    }
    let error = io::Error::last_os_error();
    if pipe::has_code(&error, ERROR_IO_PENDING) { Ok(Started::Pending) } else { Err(error) }
}

fn raw(socket: &Socket) -> SOCKET {
    // RawSocket is u64 in std and SOCKET usize in windows-sys: both as wide as a pointer.
    socket.as_raw_socket() as SOCKET
}
