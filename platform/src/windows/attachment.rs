//! Handles that frames carry.

use std::fs::File;
use std::io::{PipeReader, PipeWriter};
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};

use crate::endpoint::Endpoint;

/// Something that goes from one process to another with a frame: an open file, an end of a pipe, an event. Dropping it
/// closes it.
///
/// # Platform-specific behavior
///
/// Windows: a handle, from and into `OwnedHandle`; sockets are none (they need WSADuplicateSocket). Nothing takes it there
/// yet: where attachments are asked for that is refused. Unix: a descriptor, from and into `OwnedFd`.
#[derive(Debug)]
pub struct Attachment(OwnedHandle);

impl Attachment {
    /// As a file, which is what reads and writes; whatever it is, it stays that.
    #[must_use]
    pub fn into_file(self) -> File {
        self.0.into()
    }
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
/// Windows: not yet.
#[must_use]
pub fn carries_attachments(_endpoint: &Endpoint) -> bool {
    false
}
