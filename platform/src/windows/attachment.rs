//! Handles that frames name, and whoever gets the frame fetches.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{DUPLICATE_SAME_ACCESS, DuplicateHandle};
use windows_sys::Win32::Networking::WinSock::{SO_TYPE, SOCKET, SOL_SOCKET, getsockopt};
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, OpenProcess, PROCESS_DUP_HANDLE, PROCESS_QUERY_INFORMATION,
};

use super::{current_user, security};
use crate::endpoint::Endpoint;
use crate::{MAX_ATTACHMENTS, Peer, User};

/// Something that goes from one process to another with a frame: an open file, an end of a pipe, an event. Dropping it
/// closes it.
///
/// # Platform-specific behavior
///
/// Windows: a handle, from and into `OwnedHandle`; sockets are none (they need WSADuplicateSocketW). What comes is not
/// inherited by children, and has the rights that the sender's has. Unix: a descriptor, from and into `OwnedFd`.
#[derive(Debug)]
pub struct Attachment(OwnedHandle);

impl Attachment {
    /// Whether frames name them, instead of the system carrying them beside the bytes.
    pub const ARE_NAMED: bool = true;

    /// As a file, which is what reads and writes; whatever it is, it stays that.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: std's files want handles that were not opened for overlapped operations. Of one that was, std ends the
    /// process if another operation on it is done first, which whoever sent it can bring about; no harmless question tells
    /// them apart. So do this with what comes from whom you trust, otherwise read it with `OVERLAPPED`s of your own.
    #[must_use]
    pub fn into_file(self) -> File {
        self.0.into()
    }

    /// What frames call it: the handle's value in this process, as long as it is open.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a socket in the guise of a handle.
    pub fn name(&self) -> io::Result<u32> {
        if is_socket(self.as_handle()) {
            let text = "sockets can't be attached on Windows: their handles are no good in other processes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // "64-bit versions of Windows use 32-bit handles for interoperability"
        // (learn.microsoft.com/windows/win32/winprog64/interprocess-communication).
        u32::try_from(self.0.as_raw_handle().addr()).map_err(|_| io::ErrorKind::InvalidInput.into())
    }
}

/// Duplicated, it would be a handle that Winsock does not know ("DuplicateHandle function",
/// learn.microsoft.com/windows/win32/api/handleapi/nf-handleapi-duplicatehandle).
fn is_socket(handle: BorrowedHandle<'_>) -> bool {
    let (mut kind, mut length) = (0i32, size_of::<i32>() as i32);
    // SAFETY: the handle is borrowed, hence open, and one that is no socket is an error ("getsockopt function",
    // learn.microsoft.com/windows/win32/api/winsock/nf-winsock-getsockopt); `kind`, whose size is the one given, and
    // `length` live on this stack until the call returns.
    let code = unsafe {
        getsockopt(
            handle.as_raw_handle().addr() as SOCKET,
            SOL_SOCKET,
            SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut length,
        )
    };
    code == 0
}

impl AsHandle for Attachment {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.0.as_handle()
    }
}

impl From<OwnedHandle> for Attachment {
    fn from(handle: OwnedHandle) -> Attachment {
        Attachment(handle)
    }
}

impl From<Attachment> for OwnedHandle {
    fn from(attachment: Attachment) -> OwnedHandle {
        attachment.0
    }
}

impl From<File> for Attachment {
    fn from(file: File) -> Attachment {
        Attachment(file.into())
    }
}

impl From<PipeReader> for Attachment {
    fn from(pipe: PipeReader) -> Attachment {
        Attachment(pipe.into())
    }
}

impl From<PipeWriter> for Attachment {
    fn from(pipe: PipeWriter) -> Attachment {
        Attachment(pipe.into())
    }
}

/// Whether attachments can go over connections to this endpoint.
///
/// # Platform-specific behavior
///
/// Unix: over Unix sockets. Windows: over named pipes, between processes of one user with the same integrity level.
#[must_use]
pub fn carries_attachments(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Local(_) | Endpoint::Pipe(_))
}

/// Closes these, which came from somebody else and that nobody wants, without waiting for that.
///
/// # Platform-specific behavior
///
/// Windows: closed at once: they were fetched from a process of this user. Unix: by a thread.
pub fn close_aside(attachments: Vec<Attachment>) {
    drop(attachments);
}

/// The process at the other end of a connection, as far as what its frames name can be fetched out of it.
///
/// Values of handles mean something in the process alone that has them. So nobody is told values of his own, which a
/// stranger could make up, to adopt or close them: whoever gets a frame duplicates what it names out of the process that has
/// sent it, and what he has then is what that process has.
#[derive(Debug)]
pub struct PeerProcess {
    process: OwnedHandle,
}

impl PeerProcess {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `Unsupported` of a peer that the system does not name; `PermissionDenied` if it is not the user's that the
    /// connection's facts say, or not ours, if its integrity level is lower than ours, and if it does not let us.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: from here on its process id can't become another's. It may have become that before, if a process has handed
    /// its end of the connection to another one and ended. So the system's word of the connection itself counts as well: a
    /// client's token, the label of a server's pipe. Whoever arranges that can have nothing fetched but from processes that
    /// he could have opened himself.
    pub fn of(peer: &Peer) -> io::Result<PeerProcess> {
        let unknown =
            || io::Error::new(io::ErrorKind::Unsupported, "the system does not tell which process it is");
        let known = peer.credentials().ok_or_else(unknown)?;
        let process = open(known.pid().ok_or_else(unknown)?)?;
        let token = security::token_of(process.as_handle())?;
        let user = User::Sid(security::token_user(token.as_handle())?);
        let integrity = security::token_integrity(token.as_handle())?;
        let own = security::token_integrity(security::process_token()?.as_handle())?;
        if user != *known.user() || user != current_user()? {
            return Err(denied("it runs as another user"));
        }
        if known.integrity().is_none_or(|level| integrity.min(level) < own) {
            return Err(denied("its integrity level is lower than ours"));
        }
        Ok(PeerProcess { process })
    }

    /// Fetches what it calls so; it keeps its own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for what can be no handle, or more than [`MAX_ATTACHMENTS`](crate::MAX_ATTACHMENTS); what the system
    /// says of one that it does not have, or if it has ended. Those that were fetched before are closed.
    pub fn fetch(&self, names: &[u32]) -> io::Result<Vec<Attachment>> {
        if names.len() > MAX_ATTACHMENTS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        names.iter().map(|&name| self.fetch_one(name)).collect()
    }

    /// "DuplicateHandle function" (see above). Values that are negative stand for the process itself and other things
    /// that each has ("GetCurrentProcess function",
    /// learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentprocess), and are refused.
    fn fetch_one(&self, name: u32) -> io::Result<Attachment> {
        const INHERIT: i32 = 0;
        let is_fine = i32::try_from(name).is_ok_and(|name| name > 0);
        if !is_fine {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let theirs = ptr::without_provenance_mut(name as usize);
        let mut ours = ptr::null_mut();
        // SAFETY: the process is open until the call returns; `theirs` is looked up in its table, not followed; GetCurrentProcess
        // is a constant; `ours` lives on this stack until the call returns.
        let ok = unsafe {
            DuplicateHandle(
                self.process.as_raw_handle(),
                theirs,
                GetCurrentProcess(),
                &raw mut ours,
                0,
                INHERIT,
                DUPLICATE_SAME_ACCESS,
            )
        };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `ours` is open and nobody else owns it.
        Ok(Attachment(unsafe { OwnedHandle::from_raw_handle(ours) }))
    }
}

fn denied(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// "Process Security and Access Rights",
/// learn.microsoft.com/windows/win32/procthread/process-security-and-access-rights.
fn open(pid: u32) -> io::Result<OwnedHandle> {
    const INHERIT: i32 = 0;
    // SAFETY: only values are given.
    let handle = unsafe { OpenProcess(PROCESS_DUP_HANDLE | PROCESS_QUERY_INFORMATION, INHERIT, pid) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Credentials, current_integrity};
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::windows::io::{IntoRawSocket, RawHandle};
    use windows_sys::Win32::Foundation::{GetHandleInformation, HANDLE_FLAG_INHERIT};

    fn ourselves(user: User, pid: Option<u32>, integrity: Option<u32>) -> io::Result<PeerProcess> {
        PeerProcess::of(&Peer::new(Some(Credentials::new(user, pid, integrity)), None))
    }

    fn we() -> PeerProcess {
        ourselves(current_user().unwrap(), Some(std::process::id()), current_integrity()).unwrap()
    }

    #[test]
    fn what_is_fetched_is_the_same_thing_and_not_inherited() {
        let (mut reader, writer) = io::pipe().unwrap();
        let lent = Attachment::from(writer);
        let mut fetched = we().fetch(&[lent.name().unwrap()]).unwrap();
        let one = fetched.pop().unwrap();
        assert!(fetched.is_empty());
        assert_ne!(one.name().unwrap(), lent.name().unwrap());
        let mut flags = 9;
        // SAFETY: the handle is open; `flags` lives on this stack until the call returns.
        assert_ne!(unsafe { GetHandleInformation(one.as_handle().as_raw_handle(), &raw mut flags) }, 0);
        assert_eq!(flags & HANDLE_FLAG_INHERIT, 0);
        drop(lent);
        one.into_file().write_all(b"through the pipe").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the pipe");
    }

    /// Numbers that are no handles, that stand for something in each process, and that are not open.
    #[test]
    fn what_is_no_handle_is_not_fetched() {
        let we = we();
        let pseudo = [-1i32, -2, -3, -4, -5, -6, i32::MIN].map(i32::cast_unsigned);
        for name in pseudo.into_iter().chain([0, 0x7fff_fffc]) {
            let error = we.fetch(&[name]).expect_err("no handle");
            assert!([None, Some(6)].contains(&error.raw_os_error()), "{name:#x}: {error}");
        }
        let pipe = Attachment::from(io::pipe().unwrap().0);
        let name = pipe.name().unwrap();
        assert!(we.fetch(&[name, 0, name]).is_err());
        assert_eq!(we.fetch(&[name; 17]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(we.fetch(&[name; 16]).unwrap().len(), 16);
    }

    #[test]
    fn nothing_is_fetched_from_whom_it_can_not_be() {
        let (user, pid) = (current_user().unwrap(), Some(std::process::id()));
        let other = User::Sid(crate::Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 19, 0, 0, 0]).unwrap());
        let refused = |peer: io::Result<PeerProcess>| peer.expect_err("no").kind();
        let own = current_integrity();
        assert_eq!(refused(ourselves(other, pid, own)), io::ErrorKind::PermissionDenied);
        for lower in [None, Some(0)] {
            assert_eq!(refused(ourselves(user.clone(), pid, lower)), io::ErrorKind::PermissionDenied);
        }
        assert_eq!(refused(ourselves(user.clone(), None, None)), io::ErrorKind::Unsupported);
        assert_eq!(refused(PeerProcess::of(&Peer::new(None, None))), io::ErrorKind::Unsupported);
        assert!(ourselves(user, Some(0xffff_fffc), None).is_err(), "there is no such process");
    }

    #[test]
    fn a_socket_in_the_guise_of_a_handle_is_recognised() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap().into_raw_socket();
        let handle: RawHandle = ptr::with_exposed_provenance_mut(socket as usize);
        // SAFETY: it is open, and nobody else owns it.
        let guised = Attachment::from(unsafe { OwnedHandle::from_raw_handle(handle) });
        assert!(guised.name().unwrap_err().to_string().contains("sockets can't be attached"));
    }
}
