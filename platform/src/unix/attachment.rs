//! Descriptors that frames carry.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use crate::Peer;
use crate::endpoint::Endpoint;

/// Something that goes from one process to another with a frame: an open file, an end of a pipe, a socket. Dropping it
/// closes it.
///
/// # Platform-specific behavior
///
/// Unix: a descriptor, from and into `OwnedFd`; what comes is closed in children (close-on-exec). Windows: a handle, from
/// and into `OwnedHandle`; sockets are none.
#[derive(Debug)]
pub struct Attachment(OwnedFd);

impl Attachment {
    /// Whether frames name them, instead of the system carrying them beside the bytes.
    pub const ARE_NAMED: bool = false;

    /// As a file, which is what reads and writes; whatever it is, it stays that.
    #[must_use]
    pub fn into_file(self) -> File {
        self.0.into()
    }

    /// What frames call it.
    ///
    /// # Errors
    ///
    /// `Unsupported`: here they have no names.
    pub fn name(&self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl AsFd for Attachment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Attachment {
    fn from(descriptor: OwnedFd) -> Attachment {
        Attachment(descriptor)
    }
}

impl From<Attachment> for OwnedFd {
    fn from(attachment: Attachment) -> OwnedFd {
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

impl From<UnixStream> for Attachment {
    fn from(socket: UnixStream) -> Attachment {
        Attachment(socket.into())
    }
}

impl From<UnixListener> for Attachment {
    fn from(socket: UnixListener) -> Attachment {
        Attachment(socket.into())
    }
}

impl From<UnixDatagram> for Attachment {
    fn from(socket: UnixDatagram) -> Attachment {
        Attachment(socket.into())
    }
}

impl From<TcpStream> for Attachment {
    fn from(socket: TcpStream) -> Attachment {
        Attachment(socket.into())
    }
}

impl From<TcpListener> for Attachment {
    fn from(socket: TcpListener) -> Attachment {
        Attachment(socket.into())
    }
}

impl From<UdpSocket> for Attachment {
    fn from(socket: UdpSocket) -> Attachment {
        Attachment(socket.into())
    }
}

/// Whether attachments can go over connections to this endpoint.
///
/// # Platform-specific behavior
///
/// Unix: over Unix sockets. Windows: over named pipes, between processes of one user with the same integrity level.
#[must_use]
pub fn carries_attachments(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Local(_) | Endpoint::Unix(_) | Endpoint::Abstract(_))
}

/// The process at the other end of a connection, as far as what its frames name can be fetched out of it.
///
/// # Platform-specific behavior
///
/// Unix: there is none, the system carries what goes with frames.
#[derive(Debug)]
pub struct PeerProcess(Infallible);

impl PeerProcess {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// `Unsupported` on Unix.
    pub fn of(_peer: &Peer) -> io::Result<PeerProcess> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fetches what it calls so.
    ///
    /// # Errors
    ///
    /// None, since there is no such process.
    pub fn fetch(&self, _names: &[u32]) -> io::Result<Vec<Attachment>> {
        match self.0 {}
    }
}
