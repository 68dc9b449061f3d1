//! Descriptors that go from one process to another with bytes, over a Unix connection (SCM_RIGHTS, unix(7)): one, as a
//! listener is passed, or up to sixteen, as frames carry them.

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::slice;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::socket::QUIET;
use super::{Attachment, disposal};
#[cfg(test)]
use crate::fault::{self, Call};
use crate::{Carried, MAX_ATTACHMENTS};

/// Sends bytes, and with the first of them a copy of a descriptor. Says how many went.
pub(super) fn send(
    socket: impl AsFd,
    bytes: &[u8],
    descriptor: BorrowedFd<'_>,
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    retry_on_intr(|| rustix::net::sendmsg(&socket, &[io::IoSlice::new(bytes)], &mut control, QUIET | flags))
}

/// Sends bytes, and with the first of them copies of these. Says how many bytes went.
pub(super) fn send_all(
    socket: impl AsFd,
    pieces: &[io::IoSlice<'_>],
    attachments: &[Attachment],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    let descriptors: Vec<_> = attachments.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_ATTACHMENTS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > MAX_ATTACHMENTS || !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS);
    }
    retry_on_intr(|| {
        #[cfg(test)]
        fault::strikes(Call::Write)?;
        rustix::net::sendmsg(&socket, pieces, &mut control, QUIET | flags)
    })
}

/// Descriptors that the system lets anybody attach to one message (SCM_MAX_FD, unix(7)). Where there is room for all of them it
/// drops none itself, which it would do by our thread.
const MOST: usize = 253;

/// Receives bytes, and has what comes with them closed elsewhere.
pub(super) fn receive_bytes(
    socket: impl AsFd,
    buf: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<usize> {
    let mut control = Control::<{ rustix::cmsg_aligned_space!(ScmRights(MOST)) }>::new();
    let (count, found, _) = receive_with(socket, uninit(buf), &mut control, flags)?;
    disposal::dispose(found);
    Ok(count)
}

/// The same of at most `most` bytes behind what `buf` holds, without clearing the room for them first.
pub(super) fn append_bytes(
    socket: impl AsFd,
    buf: &mut Vec<u8>,
    most: usize,
    flags: RecvFlags,
) -> rustix::io::Result<usize> {
    buf.reserve(most);
    let mut control = Control::<{ rustix::cmsg_aligned_space!(ScmRights(MOST)) }>::new();
    let room = &mut buf.spare_capacity_mut()[..most];
    let (count, found, _) = receive_with(socket, room, &mut control, flags)?;
    // SAFETY: the system has written the first `count` bytes of the spare capacity, directly behind the old length.
    unsafe { buf.set_len(buf.len() + count) };
    disposal::dispose(found);
    Ok(count)
}

/// Receives bytes and what comes with them, at most as much as a frame may carry.
pub(super) fn receive_all(
    socket: impl AsFd,
    buf: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<(usize, Carried)> {
    let mut control = Control::<{ rustix::cmsg_aligned_space!(ScmRights(MOST)) }>::new();
    let (count, found, is_cut) = receive_with(socket, uninit(buf), &mut control, flags)?;
    if is_cut || found.len() > MAX_ATTACHMENTS {
        // All that were opened (CVE-2020-12049).
        disposal::dispose(found);
        return Ok((count, Carried::Cut));
    }
    let carried = match found.len() {
        0 => Carried::Nothing,
        _ => Carried::These(found.into_iter().map(Attachment::from).collect()),
    };
    Ok((count, carried))
}

/// What came with bytes.
#[derive(Debug)]
pub(super) enum Attached {
    Nothing,
    One(OwnedFd),
    /// Several, or some that could not be opened; those that were are closed.
    Unfit,
}

/// Room for what is expected. What there is no room for the system closes, and says so (MSG_CTRUNC, recvmsg(2)).
/// Aligned as the system's cmsghdr (cmsg(3)) is, or more.
#[repr(C, align(8))]
struct Control<const ROOM: usize>([MaybeUninit<u8>; ROOM]);

impl<const ROOM: usize> Control<ROOM> {
    const fn new() -> Control<ROOM> {
        Control([MaybeUninit::uninit(); ROOM])
    }
}

/// For those who only write there, and say how much they have.
fn uninit(buf: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the same bytes, borrowed for as long; `receive_with` and the system put nothing uninitialised there.
    unsafe { slice::from_raw_parts_mut(buf.as_mut_ptr().cast(), buf.len()) }
}

#[cfg(not(target_vendor = "apple"))]
const CLOSE_ON_EXEC: libc::c_int = libc::MSG_CMSG_CLOEXEC;
#[cfg(target_vendor = "apple")]
const CLOSE_ON_EXEC: libc::c_int = 0;

/// Receives bytes and the one descriptor that may come with them. Interruptions are the caller's, who knows how long to wait.
///
/// Not `rustix::net::recvmsg`: see [`message`](super::message).
pub(super) fn receive(
    socket: impl AsFd,
    buf: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<(usize, Attached)> {
    let mut control = Control::<{ rustix::cmsg_aligned_space!(ScmRights(1)) }>::new();
    let (count, mut found, is_cut) = receive_with(socket, uninit(buf), &mut control, flags)?;
    let attached = match (found.pop(), found.is_empty() && !is_cut) {
        (None, true) => Attached::Nothing,
        (Some(descriptor), true) => Attached::One(descriptor),
        _ => Attached::Unfit,
    };
    Ok((count, attached))
}

/// Receives bytes and descriptors, and says whether some of those were left out. As many bytes are initialised as it says.
#[allow(clippy::unnecessary_cast)] // The lengths have other types on other systems.
fn receive_with<const ROOM: usize>(
    socket: impl AsFd,
    buf: &mut [MaybeUninit<u8>],
    control: &mut Control<ROOM>,
    flags: RecvFlags,
) -> rustix::io::Result<(usize, Vec<OwnedFd>, bool)> {
    #[cfg(test)]
    let length = fault::most(Call::Read)?.min(buf.len());
    #[cfg(test)]
    let buf = &mut buf[..length];
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: msghdr is integers and pointers, for all of which zero is a value.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = ROOM as _;
    let flags = flags.bits() as libc::c_int | CLOSE_ON_EXEC;
    // SAFETY: `header`, `part` and `control` are locals, `buf` is borrowed exclusively; all have the lengths that
    // are given. `socket` is borrowed, so open.
    let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let Ok(count) = usize::try_from(count) else {
        return Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO));
    };
    let found = descriptors(&header);
    #[cfg(target_vendor = "apple")]
    for descriptor in &found {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((count, found, header.msg_flags & libc::MSG_CTRUNC != 0))
}

/// The descriptors that the system has opened for us. All of them, so that none stays open unseen.
#[allow(clippy::unnecessary_cast)] // As above.
pub(super) fn descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut found = Vec::new();
    // SAFETY: `header` is as recvmsg(2) left it, and its control buffer is still there.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: what these macros return is null, or lies in the control buffer, as far as the system has filled it.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_SOCKET && message.cmsg_type == libc::SCM_RIGHTS {
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(next) };
            let header_length = data as usize - next as usize;
            let length = (message.cmsg_len as usize).saturating_sub(header_length);
            for index in 0..length / size_of::<libc::c_int>() {
                // SAFETY: the message has that many ints, each a descriptor that was opened for us, and that
                // nobody else knows. They need not be aligned.
                found.push(unsafe {
                    OwnedFd::from_raw_fd(data.cast::<libc::c_int>().add(index).read_unaligned())
                });
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::time::{Duration, Instant};

    fn open_descriptors() -> usize {
        (0..1024)
            .filter(|&fd| {
                // SAFETY: only asks whether that number is open.
                unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
            })
            .count()
    }

    fn attach(socket: &UnixStream, descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        rustix::net::sendmsg(socket, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
    }

    #[test]
    fn one_descriptor_comes_with_its_bytes_and_is_closed_in_children() {
        let (near, far) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        (&near).write_all(b"before").unwrap();
        assert_eq!(send(&near, b"with it", writer.as_fd(), SendFlags::empty()).unwrap(), 7);
        drop(writer);
        (&near).write_all(b"behind").unwrap();
        let mut bytes = [0; 64];
        let (mut came, mut passed) = (Vec::new(), None);
        while came.len() < 19 {
            let (count, attached) = receive(&far, &mut bytes, RecvFlags::empty()).unwrap();
            came.extend_from_slice(&bytes[..count]);
            match attached {
                Attached::One(descriptor) => assert!(passed.replace(descriptor).is_none()),
                Attached::Nothing => {}
                Attached::Unfit => panic!("one is fit"),
            }
        }
        assert_eq!(came, b"beforewith itbehind");
        let passed = passed.unwrap();
        assert!(rustix::io::fcntl_getfd(&passed).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::File::from(passed).write_all(b"!").unwrap();
        let mut said = String::new();
        io::Read::read_to_string(&mut reader, &mut said).unwrap();
        assert_eq!(said, "!");
    }

    #[test]
    fn more_than_one_is_none_and_none_stays_open() {
        let (near, far) = UnixStream::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let before = open_descriptors();
        for count in 2..9 {
            attach(&near, &[reader.as_fd(), writer.as_fd()].repeat(4)[..count]);
            let (length, attached) = receive(&far, &mut [0; 9], RecvFlags::empty()).unwrap();
            assert!(length == 1 && matches!(attached, Attached::Unfit), "{count}");
        }
        // Other tests of this process open some, too, but not seven for each time.
        assert!(open_descriptors() < before + 20);
    }

    /// CVE-2020-12049: who does not close what came with too much of it runs out of descriptors.
    #[test]
    fn up_to_sixteen_come_together_and_of_more_none_stays_open() {
        let (near, far) = UnixStream::pair().unwrap();
        let attachment = || Attachment::from(io::pipe().unwrap().0);
        let before = open_descriptors();
        for count in [1, MAX_ATTACHMENTS] {
            let attachments: Vec<_> = (0..count).map(|_| attachment()).collect();
            assert_eq!(
                send_all(
                    &near,
                    &[io::IoSlice::new(b"x"), io::IoSlice::new(b"y")],
                    &attachments,
                    SendFlags::empty()
                )
                .unwrap(),
                2
            );
            let (length, carried) = receive_all(&far, &mut [0; 9], RecvFlags::empty()).unwrap();
            assert!(matches!(carried, Carried::These(these) if these.len() == count) && length == 2);
        }
        let seventeen: Vec<_> = (0..=MAX_ATTACHMENTS).map(|_| attachment()).collect();
        assert_eq!(
            send_all(&near, &[io::IoSlice::new(b"x")], &seventeen, SendFlags::empty()).unwrap_err(),
            Errno::NOBUFS
        );
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(17))];
        for _ in 0..20 {
            let descriptors: Vec<_> = seventeen.iter().map(AsFd::as_fd).collect();
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
            rustix::net::sendmsg(&near, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
            let (length, carried) = receive_all(&far, &mut [0; 9], RecvFlags::empty()).unwrap();
            assert!(matches!(carried, Carried::Cut) && length == 1);
        }
        drop(seventeen);
        // Another thread closes them. Other tests of this process open some, too, but not twenty times sixteen.
        let begun = Instant::now();
        while open_descriptors() >= before + 100 {
            assert!(begun.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
    }
}
