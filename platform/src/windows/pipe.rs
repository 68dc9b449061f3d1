//! Named pipes: one system call per function.
//!
//! See "Named Pipe Operations", learn.microsoft.com/windows/win32/ipc/named-pipe-operations.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptorExt, SecurityDescriptor};
use windows_sys::Wdk::Storage::FileSystem::{
    FILE_PIPE_CONNECTED_STATE, FILE_PIPE_LOCAL_INFORMATION, FilePipeLocalInformation, NtQueryInformationFile,
};
use windows_sys::Win32::Foundation::{
    ERROR_BAD_PIPE, ERROR_BROKEN_PIPE, ERROR_FILE_NOT_FOUND, ERROR_HANDLES_CLOSED, ERROR_IO_PENDING,
    ERROR_NO_DATA, ERROR_PIPE_BUSY, ERROR_PIPE_CONNECTED, ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED,
    ERROR_SEM_TIMEOUT, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FlushFileBuffers, PIPE_ACCESS_DUPLEX, ReadFile,
    SECURITY_CONTEXT_TRACKING, SECURITY_IDENTIFICATION, WriteFile,
};
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, IO_STATUS_BLOCK, OVERLAPPED};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, DisconnectNamedPipe, GetNamedPipeClientProcessId,
    GetNamedPipeHandleStateW, GetNamedPipeServerProcessId, PIPE_READMODE_BYTE, PIPE_REJECT_REMOTE_CLIENTS,
    PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT, PeekNamedPipe, WaitNamedPipeW,
};

use super::names::PipeName;
use super::overlapped::{Started, started};
use super::security::{self, CLIENT_ACCESS};
use super::timeout::millis;
use crate::deadline::Deadline;
#[cfg(test)]
use crate::fault::{self, Call};
use crate::{Credentials, User};

/// Bytes that the system buffers in each direction, and most that one write hands over: Windows
/// charges every byte in flight to the writer's quota of non-paged memory.
pub(super) const BUFFER: usize = 64 * 1024;

/// Which instance of a pipe is created.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Instance {
    /// The one that makes the name ours: fails if the name is taken.
    First,
    /// One more of a name that is ours already.
    Further,
    /// The first and the last: there is room for one client.
    Only,
}

/// Creates a pipe instance that a client can connect to from this moment on.
pub(super) fn create(
    name: &PipeName,
    descriptor: &SecurityDescriptor,
    instance: Instance,
) -> io::Result<OwnedHandle> {
    #[cfg(test)]
    fault::strikes(if instance == Instance::Further { Call::Accept } else { Call::Bind })?;
    let first = if instance == Instance::Further { 0 } else { FILE_FLAG_FIRST_PIPE_INSTANCE };
    let most = if instance == Instance::Only { 1 } else { PIPE_UNLIMITED_INSTANCES };
    let size = BUFFER as u32;
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: ptr::null_mut(),
        bInheritHandle: 0,
    };
    descriptor.write_to_security_attributes(&mut attributes);
    // SAFETY: the name is NUL-terminated; name and descriptor are borrowed and `attributes` lives
    // on this stack until the call returns, which copies them.
    let handle = unsafe {
        CreateNamedPipeW(
            name.wide().as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | first,
            PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT | PIPE_REJECT_REMOTE_CLIENTS,
            most,
            size,
            size,
            0,
            &raw const attributes,
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// How many instances the name has at this moment, in all processes.
pub(super) fn instances(pipe: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut count = 0;
    // SAFETY: the handle is borrowed, hence open; `count` lives on this stack until the call
    // returns, nothing else is asked for.
    let ok = unsafe {
        GetNamedPipeHandleStateW(
            pipe.as_raw_handle(),
            ptr::null_mut(),
            &raw mut count,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(count) }
}

/// Opens the client's end, waiting for a free instance until `deadline`.
///
/// "Named Pipe Client", learn.microsoft.com/windows/win32/ipc/named-pipe-client. A pipe that does
/// not exist is an error at once.
pub(super) fn open(name: &PipeName, deadline: Deadline) -> io::Result<OwnedHandle> {
    loop {
        let is_last = deadline.has_passed();
        match open_now(name) {
            Err(error) if has_code(&error, ERROR_PIPE_BUSY) => {
                if is_last {
                    let why = "all instances of the pipe are busy";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                wait_for_instance(name, deadline)?;
            }
            other => return other,
        }
    }
}

/// The server learns who we are, but can't act as us: SECURITY_IDENTIFICATION ("Impersonation
/// Levels", learn.microsoft.com/windows/win32/secauthz/impersonation-levels).
///
/// SECURITY_CONTEXT_TRACKING is what clients have that say nothing ("CreateFileW function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew): each write carries who we
/// are. Otherwise it would be said once, at the opening, and a server that then asks the system once
/// more whether somebody has connected may lose it for good.
fn open_now(name: &PipeName) -> io::Result<OwnedHandle> {
    #[cfg(test)]
    fault::strikes(Call::Connect)?;
    let file = OpenOptions::new()
        .access_mode(CLIENT_ACCESS)
        .custom_flags(FILE_FLAG_OVERLAPPED)
        .security_qos_flags(SECURITY_IDENTIFICATION | SECURITY_CONTEXT_TRACKING)
        .open(&**name.text())?;
    Ok(file.into())
}

/// Waits until an instance is free or a while has passed. Several clients may be told of the same
/// instance: the caller tries, and waits again.
fn wait_for_instance(name: &PipeName, deadline: Deadline) -> io::Result<()> {
    // Neither 0 nor u32::MAX, which are not lengths of time to this call.
    let wait = millis(deadline).clamp(1, 1_000);
    // SAFETY: the name is NUL-terminated and borrowed until the call returns.
    if unsafe { WaitNamedPipeW(name.wide().as_ptr(), wait) } != 0 {
        return Ok(());
    }
    // When the pipe vanishes meanwhile, Wine says that its handles are closed; opening tells more.
    let error = io::Error::last_os_error();
    let open_tells_more = has_code(&error, ERROR_SEM_TIMEOUT) || has_code(&error, ERROR_HANDLES_CLOSED);
    if open_tells_more { Ok(()) } else { Err(error) }
}

/// Whether the name is in use: by a server, or by what clients keep of one that has gone.
pub(super) fn exists(name: &PipeName) -> bool {
    const SHORT: u32 = 1;
    // SAFETY: the name is NUL-terminated and borrowed until the call returns.
    let ok = unsafe { WaitNamedPipeW(name.wide().as_ptr(), SHORT) } != 0;
    ok || !has_code(&io::Error::last_os_error(), ERROR_FILE_NOT_FOUND)
}

/// Whether a server holds the name, be it a busy one, or one that lets us not in. A pipe of which only
/// clients' handles are left can't be opened any more.
pub(super) fn has_server(name: &PipeName) -> bool {
    open_now(name).err().is_none_or(|error| !has_code(&error, ERROR_FILE_NOT_FOUND))
}

/// The process that opened the client's end.
pub(super) fn client_pid(pipe: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut pid = 0;
    // SAFETY: the handle is borrowed, hence open; `pid` lives on this stack until the call returns.
    let ok = unsafe { GetNamedPipeClientProcessId(pipe.as_raw_handle(), &raw mut pid) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// The process that created the server's end.
pub(super) fn server_pid(pipe: BorrowedHandle<'_>) -> io::Result<u32> {
    let mut pid = 0;
    // SAFETY: the handle is borrowed, hence open; `pid` lives on this stack until the call returns.
    let ok = unsafe { GetNamedPipeServerProcessId(pipe.as_raw_handle(), &raw mut pid) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// What the system says about who made the pipe; that it says nothing is a fact, too.
pub(super) fn server_credentials(pipe: BorrowedHandle<'_>) -> Option<Credentials> {
    ask_for_server(pipe).inspect_err(|error| log::debug!("the owner of a pipe: {error}")).ok()
}

/// The same of a pipe that was opened just now. Of one that its server has left meanwhile the system may know nothing:
/// that is an end like others, not a server that nobody knows.
pub(super) fn server_credentials_at_first(pipe: BorrowedHandle<'_>) -> io::Result<Option<Credentials>> {
    match ask_for_server(pipe) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(error) if is_end(&error) || !is_open(pipe) => {
            Err(io::Error::new(io::ErrorKind::ConnectionReset, error))
        }
        Err(error) => {
            log::debug!("the owner of a pipe: {error}");
            Ok(None)
        }
    }
}

fn ask_for_server(pipe: BorrowedHandle<'_>) -> io::Result<Credentials> {
    let (sid, integrity) = security::owner_and_integrity(pipe)?;
    Ok(Credentials::new(User::Sid(sid), server_pid(pipe).ok(), Some(integrity)))
}

/// Whether the other end is still open, or has left bytes that nobody has read yet.
pub(super) fn is_open(pipe: BorrowedHandle<'_>) -> bool {
    peek(pipe).is_ok()
}

/// Whether the other end is still open, whatever is left to be read ("FILE_PIPE_LOCAL_INFORMATION structure",
/// learn.microsoft.com/windows-hardware/drivers/ddi/ntifs/ns-ntifs-_file_pipe_local_information). Not if the system doesn't
/// say.
pub(super) fn is_connected(pipe: BorrowedHandle<'_>) -> bool {
    let (mut found, mut status) = (FILE_PIPE_LOCAL_INFORMATION::default(), IO_STATUS_BLOCK::default());
    // SAFETY: the handle is borrowed, hence open; `found`, whose size is the one given, and `status` live on this stack
    // until the call returns, which is not overlapped.
    let code = unsafe {
        NtQueryInformationFile(
            pipe.as_raw_handle(),
            &raw mut status,
            (&raw mut found).cast(),
            size_of::<FILE_PIPE_LOCAL_INFORMATION>() as u32,
            FilePipeLocalInformation,
        )
    };
    code == 0 && found.NamedPipeState == FILE_PIPE_CONNECTED_STATE
}

/// Whether a client has connected to a server's instance, and has perhaps left again.
///
/// ConnectNamedPipe would tell, too, but asked a second time it may throw away what the system knows
/// about the client.
pub(super) fn has_client(pipe: BorrowedHandle<'_>) -> io::Result<bool> {
    match peek(pipe) {
        Ok(_) => Ok(true),
        Err(error) if [ERROR_BAD_PIPE, ERROR_PIPE_LISTENING].iter().any(|&code| has_code(&error, code)) => {
            Ok(false)
        }
        Err(error) if [ERROR_BROKEN_PIPE, ERROR_NO_DATA].iter().any(|&code| has_code(&error, code)) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// "PeekNamedPipe function",
/// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-peeknamedpipe. It fails unless
/// there is a client, or unread bytes of one that has left; of these it tells how many there are.
fn peek(pipe: BorrowedHandle<'_>) -> io::Result<usize> {
    let mut unread = 0;
    // SAFETY: the handle is borrowed, hence open; `unread` lives on this stack until the call returns, nothing else is
    // asked for.
    let ok = unsafe {
        PeekNamedPipe(
            pipe.as_raw_handle(),
            ptr::null_mut(),
            0,
            ptr::null_mut(),
            &raw mut unread,
            ptr::null_mut(),
        )
    };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(unread as usize) }
}

/// How many bytes can be read at once.
pub(super) fn available(pipe: BorrowedHandle<'_>) -> io::Result<usize> {
    peek(pipe)
}

/// Starts to read at most `length` bytes to `buf`.
///
/// # Safety
///
/// If this succeeds, `buf` (with room for `length` bytes) and `overlapped` (of no other operation) must stay where they
/// are until the operation has ended ("ReadFile function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile).
pub(super) unsafe fn start_read(
    pipe: BorrowedHandle<'_>,
    buf: *mut u8,
    length: u32,
    overlapped: *mut OVERLAPPED,
) -> io::Result<Started> {
    // SAFETY: the handle is borrowed, hence open; the rest by this function's contract.
    started(unsafe { ReadFile(pipe.as_raw_handle(), buf, length, ptr::null_mut(), overlapped) } != 0)
}

/// Starts to write `length` bytes at `buf`.
///
/// # Safety
///
/// As for [`start_read`], and the bytes must not change either ("WriteFile function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-writefile).
pub(super) unsafe fn start_write(
    pipe: BorrowedHandle<'_>,
    buf: *const u8,
    length: u32,
    overlapped: *mut OVERLAPPED,
) -> io::Result<Started> {
    // SAFETY: the handle is borrowed, hence open; the rest by this function's contract.
    started(unsafe { WriteFile(pipe.as_raw_handle(), buf, length, ptr::null_mut(), overlapped) } != 0)
}

/// How many bytes an operation moved.
///
/// # Safety
///
/// `overlapped` must be that of an operation that was started on this pipe, and that has ended.
pub(super) unsafe fn result(pipe: BorrowedHandle<'_>, overlapped: *mut OVERLAPPED) -> io::Result<usize> {
    const WAIT: i32 = 0;
    let mut count = 0;
    // SAFETY: the handle is borrowed, hence open; `overlapped` by this function's contract; `count` lives on this stack
    // until the call returns ("GetOverlappedResult function",
    // learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getoverlappedresult).
    let ok = unsafe { GetOverlappedResult(pipe.as_raw_handle(), overlapped, &raw mut count, WAIT) };
    if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
}

/// Blocks until the client has read everything that was written.
pub(super) fn flush(pipe: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    if unsafe { FlushFileBuffers(pipe.as_raw_handle()) } == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Starts to wait for a client. Finished: there is one.
///
/// # Safety
///
/// If this is pending, `overlapped` (of no other operation) must stay where it is until the operation has ended.
pub(super) unsafe fn start_accept(
    pipe: BorrowedHandle<'_>,
    overlapped: *mut OVERLAPPED,
) -> io::Result<Started> {
    // SAFETY: the handle is borrowed, hence open; `overlapped` stays by this function's contract.
    if unsafe { ConnectNamedPipe(pipe.as_raw_handle(), overlapped) } != 0 {
        return Ok(Started::Finished);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_IO_PENDING) => Ok(Started::Pending),
        // The second: one that has left already.
        Some(ERROR_PIPE_CONNECTED | ERROR_NO_DATA) => Ok(Started::Finished),
        _ => Err(error),
    }
}

/// Asks the system to end an operation on a pipe soon. It may have ended already, which is as good.
pub(super) fn cancel(pipe: BorrowedHandle<'_>, overlapped: *mut OVERLAPPED) {
    // SAFETY: the handle is borrowed, hence open. The address only says which operation is meant: the
    // call doesn't follow it.
    unsafe { CancelIoEx(pipe.as_raw_handle(), overlapped) };
}

/// Throws the client out, along with all it has not read. Ends what is blocked on the pipe.
pub(super) fn disconnect(pipe: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    if unsafe { DisconnectNamedPipe(pipe.as_raw_handle()) } == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether an error of a read says that the other end has gone. Windows says 109 after a close and
/// 233 after a disconnect, and 232 to some operations in between; it doesn't tell an orderly end
/// from a death.
pub(super) fn is_end(error: &io::Error) -> bool {
    [ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED].into_iter().any(|code| has_code(error, code))
}

/// Gives a failed write the kind that it has on other systems.
pub(super) fn write_error(error: io::Error) -> io::Error {
    if is_end(&error) && error.kind() != io::ErrorKind::BrokenPipe {
        return io::Error::new(io::ErrorKind::BrokenPipe, error);
    }
    error
}

/// Whether `error` is the system's error `code`.
pub(super) fn has_code(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}
