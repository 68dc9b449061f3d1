//! One datagram with all that the system says about it: recvmsg(2).
//!
//! Not `rustix::net::recvmsg` (1.1): it panics on a sender whose path has all 108 bytes, and holds
//! credentials as values that can't express pid 0, which is what the kernel says about a sender
//! outside our pid namespace. Senders choose both.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::SockAddr;

use super::{disposal, names, passing};
use crate::datagram::Received;
use crate::peer::{Address, Credentials, User};

/// Room for one control message with a sender's credentials, and for nothing else.
///
/// The exact size keeps strangers' descriptors out: Linux writes the credentials first (they are
/// complete or, by their length, visibly not), finds no room for descriptors (SCM_RIGHTS, unix(7)),
/// and drops them unopened. Were they opened first, closing them could take as long as the file
/// system of the sender's choice likes. MSG_CTRUNC is set then, and means nothing else. They are
/// dropped by our thread even so, which for some takes long: hence `socket::refuse_descriptors`, and
/// [`receive_and_dispose`] where that is of no use.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CONTROL: usize = rustix::cmsg_aligned_space!(ScmCredentials(1));
/// Elsewhere datagrams come without credentials. Without a buffer descriptors are dropped, too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CONTROL: usize = 0;

/// Aligned as the system's cmsghdr (cmsg(3)) is, or more.
#[repr(C, align(8))]
struct Control<const ROOM: usize>([u8; ROOM]);

/// The same with room for all descriptors that there can be.
const WITH_DESCRIPTORS: usize = CONTROL + rustix::cmsg_aligned_space!(ScmRights(253));

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::CMSG_CLOEXEC;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOSE_ON_EXEC: RecvFlags = RecvFlags::empty();

/// Receives one datagram. Interruptions are the caller's, who knows how long to wait.
pub(super) fn receive(socket: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> rustix::io::Result<Received> {
    receive_with(socket, buf, &mut Control([0; CONTROL]), flags)
}

/// The same from a socket to which strangers may attach descriptors: those are opened, to be closed elsewhere.
#[cold]
pub(super) fn receive_and_dispose(
    socket: impl AsFd,
    buf: &mut [u8],
    flags: RecvFlags,
) -> rustix::io::Result<Received> {
    receive_with(socket, buf, &mut Control([0; WITH_DESCRIPTORS]), flags)
}

fn receive_with<const ROOM: usize>(
    socket: impl AsFd,
    buf: &mut [u8],
    control: &mut Control<ROOM>,
    flags: RecvFlags,
) -> rustix::io::Result<Received> {
    let (message, from) =
        recvmsg(socket, buf, control, flags | CLOSE_ON_EXEC).map_err(|error| errno(&error))?;
    let used = message.control.min(ROOM);
    Ok(Received {
        length: message.length,
        truncated: message.flags & libc::MSG_TRUNC != 0,
        from: Some(names::address(&from)).filter(|from| *from != Address::Unnamed),
        credentials: credentials(&control.0[..used]),
    })
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// What the system has written, apart from the buffers.
struct Message {
    length: usize,
    flags: libc::c_int,
    /// How much of the control buffer is in use.
    control: usize,
}

#[allow(clippy::unnecessary_cast)] // The lengths have other types on other systems.
fn recvmsg<const ROOM: usize>(
    socket: impl AsFd,
    buf: &mut [u8],
    control: &mut Control<ROOM>,
    flags: RecvFlags,
) -> io::Result<(Message, SockAddr)> {
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let receive = |name: *mut socket2::SockAddrStorage, name_length: *mut libc::socklen_t| {
        // SAFETY: msghdr is integers and pointers, for all of which zero is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = name.cast();
        // SAFETY: try_init passes pointers to locals of its own.
        header.msg_namelen = unsafe { *name_length };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if ROOM > 0 {
            header.msg_control = control.0.as_mut_ptr().cast();
            header.msg_controllen = ROOM as _;
        }
        // SAFETY: `header` and `part` are locals, and what they point to is borrowed for longer than
        // the call: `name` by try_init, `buf` and `control` by our caller, each exclusively and with
        // its real length. `socket` is borrowed, so open.
        let count = unsafe {
            libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags.bits() as libc::c_int)
        };
        let length = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        if ROOM > CONTROL {
            disposal::dispose(passing::descriptors(&header));
        }
        // SAFETY: as above. The system has written that many bytes of the name, at most those it had.
        unsafe { *name_length = header.msg_namelen };
        Ok(Message { length, flags: header.msg_flags, control: header.msg_controllen as usize })
    };
    // SAFETY: on success, `receive` leaves behind an address as the system wrote it, and its length;
    // zero if the sender has none. The storage was zeroed, so the family is then none, too.
    unsafe { SockAddr::try_init(receive) }
}

/// Reads the one control message that there can be: `size_t length, int level, int type`, then
/// `pid_t, uid_t, gid_t` (cmsg(3), SCM_CREDENTIALS in unix(7)).
fn credentials(control: &[u8]) -> Option<Credentials> {
    const WHOLE: usize = size_of::<usize>() + 5 * size_of::<i32>();
    let (length, rest) = control.get(..WHOLE)?.split_first_chunk()?;
    let mut fields = rest.chunks_exact(4).map(|field| field.try_into().map_or(0, i32::from_ne_bytes));
    let is_credentials = usize::from_ne_bytes(*length) == WHOLE
        && fields.next() == Some(libc::SOL_SOCKET)
        && fields.next() == Some(SCM_CREDENTIALS);
    let (pid, uid) = (fields.next()?, fields.next()?);
    let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0);
    is_credentials.then(|| Credentials::new(User::Uid(uid.cast_unsigned()), pid, None))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const SCM_CREDENTIALS: i32 = libc::SCM_CREDENTIALS;
/// Never seen here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SCM_CREDENTIALS: i32 = i32::MIN;

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;

    fn control(length: usize, fields: [i32; 5]) -> Vec<u8> {
        let fields = fields.iter().flat_map(|field| field.to_ne_bytes());
        length.to_ne_bytes().into_iter().chain(fields).collect()
    }

    #[test]
    fn credentials_are_whole_or_none() {
        let whole = size_of::<usize>() + 20;
        let fields = [libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 42, 1000, 100];
        let found = credentials(&control(whole, fields)).unwrap();
        assert_eq!((found.pid(), found.user()), (Some(42), &User::Uid(1000)));
        assert!(whole <= CONTROL && CONTROL < whole + 8, "no room for a second message");
        for cut in 0..whole {
            assert_eq!(credentials(&control(whole, fields)[..cut]), None);
            assert_eq!(credentials(&control(cut, fields)), None);
        }
        for (place, other) in [(0, libc::IPPROTO_IP), (1, libc::SCM_RIGHTS)] {
            let mut fields = fields;
            fields[place] = other;
            assert_eq!(credentials(&control(whole, fields)), None);
        }
    }

    /// As on a kernel without SO_PASSRIGHTS: all that else says who sends and what is as ever.
    #[test]
    fn what_strangers_attach_to_datagrams_is_closed() {
        use std::io::Read;
        use std::os::unix::net::UnixDatagram;

        let (near, far) = UnixDatagram::pair().unwrap();
        super::super::socket::want_credentials(&far).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        for _ in 0..3 {
            passing::send(&near, b"hello", writer.as_fd(), rustix::net::SendFlags::empty()).unwrap();
            let received = receive_and_dispose(&far, &mut [0; 9], RecvFlags::empty()).unwrap();
            let credentials = received.credentials.unwrap();
            assert_eq!((received.length, received.truncated), (5, false));
            assert_eq!(credentials.pid(), Some(std::process::id()));
        }
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_sender_of_another_pid_namespace_has_no_pid() {
        let whole = size_of::<usize>() + 20;
        let fields = [libc::SOL_SOCKET, libc::SCM_CREDENTIALS, 0, -2, 0];
        let found = credentials(&control(whole, fields)).unwrap();
        assert_eq!((found.pid(), found.user()), (None, &User::Uid(u32::MAX - 1)));
    }
}
