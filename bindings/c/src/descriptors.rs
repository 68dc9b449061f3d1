//! What the system calls open things by, as C has it. Here alone this library differs by system.

use std::io;

use sidewire::{Attachment, PollDescriptor};

use crate::codes::SW_SYSTEM;
use crate::error::{Failed, Outcome};

/// Something open: on Unix a descriptor, to be cast from and to int; on Windows a HANDLE, cast likewise.
pub type Descriptor = isize;

/// None.
pub const SW_NO_DESCRIPTOR: Descriptor = -1;

/// Another one for the same thing, since the caller keeps his.
pub(crate) fn copy(descriptor: Descriptor) -> Outcome<Attachment> {
    // Below 0 is nothing, or with Windows what each process has: itself, its threads.
    if descriptor < 0 {
        return Err(Failed::invalid(&format!("{descriptor} is nothing that is open")));
    }
    let copy = system::copy(descriptor);
    copy.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Failed::invalid(&format!("{descriptor} is nothing that is open")),
        _ => Failed::new(SW_SYSTEM, &format!("duplicate what is to be attached: {error}")),
    })
}

pub(crate) use system::{hand_out, watched};

#[cfg(unix)]
mod system {
    use super::{Attachment, Descriptor, PollDescriptor, io};
    use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

    pub(super) fn copy(descriptor: Descriptor) -> io::Result<Attachment> {
        let number = descriptor.try_into().map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: it is not -1, and C's caller says that it is open until behind this; fcntl(2) says so if it is not.
        let lent = unsafe { BorrowedFd::borrow_raw(number) };
        lent.try_clone_to_owned().map(Attachment::from)
    }

    /// For the program to close.
    pub(crate) fn hand_out(attachment: Attachment) -> Descriptor {
        Descriptor::try_from(OwnedFd::from(attachment).into_raw_fd()).unwrap_or(super::SW_NO_DESCRIPTOR)
    }

    pub(crate) fn watched(descriptor: &PollDescriptor) -> Descriptor {
        Descriptor::try_from(descriptor.as_raw_fd()).unwrap_or(super::SW_NO_DESCRIPTOR)
    }
}

#[cfg(windows)]
mod system {
    use super::{Attachment, Descriptor, PollDescriptor, io};
    use std::os::windows::io::{BorrowedHandle, IntoRawHandle, OwnedHandle};

    pub(super) fn copy(descriptor: Descriptor) -> io::Result<Attachment> {
        if descriptor == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let handle = std::ptr::without_provenance_mut(descriptor.cast_unsigned());
        // SAFETY: it is not NULL, and C's caller says that it is open until behind this; DuplicateHandle says so if it is not.
        let lent = unsafe { BorrowedHandle::borrow_raw(handle) };
        lent.try_clone_to_owned().map(Attachment::from)
    }

    /// For the program to close.
    pub(crate) fn hand_out(attachment: Attachment) -> Descriptor {
        OwnedHandle::from(attachment).into_raw_handle().addr().cast_signed()
    }

    /// There is none to ask of.
    pub(crate) fn watched(_: &PollDescriptor) -> Descriptor {
        super::SW_NO_DESCRIPTOR
    }
}
