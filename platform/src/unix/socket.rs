//! One system call a function, for what listeners, streams and channels share.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::BindOptions;
use crate::datagram::SendBuffer;
#[cfg(test)]
use crate::fault::{self, Call};
use crate::peer::{Credentials, Group, Peer, User};

/// What carries a connection; decides what the system knows about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Unix,
    /// The socket that this process got from its parent.
    Parent,
    Tcp,
}

/// No SIGPIPE: a Rust program ignores that signal, but this library may live in another's process.
/// Apple has no such flag; there socket2 sets SO_NOSIGPIPE on each socket, which accept inherits.
#[cfg(not(target_vendor = "apple"))]
pub(super) const QUIET: SendFlags = SendFlags::NOSIGNAL;
#[cfg(target_vendor = "apple")]
pub(super) const QUIET: SendFlags = SendFlags::empty();

/// A socket for this address, close-on-exec. One that stands for IPv4 addresses as well, `[::]` or an
/// IPv4 address written in IPv6, takes both, whatever the system's default is (IPV6_V6ONLY, ipv6(7)).
pub(super) fn inet(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    let ip = address.ip();
    if ip.is_ipv6() && (ip.is_unspecified() || ip.to_canonical().is_ipv4()) {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Accepts one connection, non-blocking and close-on-exec.
///
/// The peer's address is not asked for: it can be had later, most never need it, and mio's accept
/// for Unix sockets panics (as of 1.2) when a client is bound to a path of all 108 bytes.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, accept_with};
    Ok(retry_on_intr(|| {
        #[cfg(test)]
        fault::strikes(Call::Accept)?;
        accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
    })?)
}

/// As above, for systems without accept4(2).
#[cfg(target_vendor = "apple")]
pub(super) fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let (socket, _) = SockRef::from(&listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Receives into `buf`. Interruptions are the caller's, who knows how long to wait.
pub(super) fn recv(socket: impl AsFd, buf: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
    #[cfg(test)]
    let length = fault::most(Call::Read)?.min(buf.len());
    #[cfg(test)]
    let buf = &mut buf[..length];
    rustix::net::recv(socket, buf, flags).map(|(count, _)| count)
}

/// Receives at most `most` bytes behind what `buf` holds, without clearing the room for them first.
pub(super) fn recv_append(
    socket: impl AsFd,
    buf: &mut Vec<u8>,
    most: usize,
    flags: RecvFlags,
) -> rustix::io::Result<usize> {
    #[cfg(test)]
    let most = fault::most(Call::Read)?.min(most);
    buf.reserve(most);
    let ((received, _), _) = rustix::net::recv(socket, &mut buf.spare_capacity_mut()[..most], flags)?;
    let count = received.len();
    // SAFETY: recv has initialised the first `count` bytes of the spare capacity (it returned them
    // as a `&mut [u8]`), so they lie within the capacity and directly behind the old length.
    unsafe { buf.set_len(buf.len() + count) };
    Ok(count)
}

/// Sends what fits, without SIGPIPE.
pub(super) fn send(socket: impl AsFd, buf: &[u8], flags: SendFlags) -> rustix::io::Result<usize> {
    retry_on_intr(|| {
        #[cfg(test)]
        let buf = fault::cut(Call::Write, buf)?;
        rustix::net::send(&socket, buf, QUIET | flags)
    })
}

/// The same of several pieces that follow each other.
pub(super) fn send_pieces(
    socket: impl AsFd,
    pieces: &[IoSlice<'_>],
    flags: SendFlags,
) -> rustix::io::Result<usize> {
    retry_on_intr(|| {
        #[cfg(test)]
        fault::strikes(Call::Write)?;
        rustix::net::sendmsg(&socket, pieces, &mut SendAncillaryBuffer::default(), QUIET | flags)
    })
}

/// Sends one datagram to an address, without SIGPIPE.
pub(super) fn send_to(socket: impl AsFd, bytes: &[u8], to: &impl SocketAddrArg) -> rustix::io::Result<usize> {
    retry_on_intr(|| rustix::net::sendto(&socket, bytes, QUIET | SendFlags::DONTWAIT, to))
}

/// How much the system keeps for a socket, in bytes; `None` leaves it as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers {
    pub(super) recv: Option<u32>,
    pub(super) send: Option<u32>,
}

impl Buffers {
    pub(super) fn of(options: &BindOptions) -> Buffers {
        Buffers { recv: options.recv_buffer, send: options.send_buffer }
    }

    /// SO_RCVBUF and SO_SNDBUF, which are ints (socket(7)). What is too much is cut by Linux and
    /// refused by others.
    pub(super) fn set(self, socket: SockRef<'_>) -> io::Result<()> {
        let size = |bytes: u32| bytes.min(i32::MAX as u32) as usize;
        self.recv.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(size(bytes)))?;
        self.send.map_or(Ok(()), |bytes| socket.set_send_buffer_size(size(bytes)))
    }
}

/// Asks for the credentials of each message's sender (SO_PASSCRED, unix(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn want_credentials(socket: impl AsFd) -> io::Result<()> {
    rustix::net::sockopt::set_socket_passcred(socket, true).map_err(|error| {
        let error = io::Error::from(error);
        let text = format!("the system does not tell who sends datagrams (SO_PASSCRED: {error})");
        io::Error::new(error.kind(), text)
    })
}

/// Nothing to ask for here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn want_credentials(_socket: impl AsFd) -> io::Result<()> {
    Ok(())
}

/// Keeps descriptors (SCM_RIGHTS, unix(7)) out of a Unix socket: who attaches one can't send (EPERM).
/// To be called before bind(2) and connect(2). Accepted sockets inherit it.
///
/// If nobody opens what is attached, the kernel holds it until the message is read, and closes it
/// in the thread that reads. That waits as long as the sender likes if it is a TCP socket with
/// unsent bytes and SO_LINGER (socket(7)), which stops a whole loop. SO_PASSRIGHTS came with Linux
/// 6.16; on older kernels and on other systems an error is no failure: see [`Strangers`].
pub(super) fn refuse_descriptors(socket: impl AsFd) {
    admit_descriptors(socket, false);
}

/// Lets them through after all, to a socket whose peer is to pass one.
pub(super) fn take_descriptors(socket: impl AsFd) {
    admit_descriptors(socket, true);
}

/// Not in libc 0.2 yet: asm-generic/socket.h, which only SPARC differs from.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SO_PASSRIGHTS: libc::c_int =
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x5c } else { 83 };

#[cfg(any(target_os = "linux", target_os = "android"))]
fn admit_descriptors(socket: impl AsFd, admits: bool) {
    use std::os::fd::AsRawFd;

    let value = libc::c_int::from(admits);
    // SAFETY: `value` is a local int, and its size is given; the socket is borrowed, so open.
    let status = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status != 0 {
        log::trace!("whether descriptors come can't be said: {}", io::Error::last_os_error());
    }
}

/// Whether anybody may attach descriptors to what is sent to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strangers {
    /// None come.
    KeptOut,
    /// Some may. Who reads takes them, and has them [closed](super::disposal) elsewhere.
    MayCome,
}

impl Strangers {
    /// As it is with this socket, and with those that it accepts.
    pub(super) fn at(socket: impl AsFd, transport: Transport) -> Strangers {
        match transport {
            Transport::Unix if admits_descriptors(socket) => Strangers::MayCome,
            Transport::Unix | Transport::Parent | Transport::Tcp => Strangers::KeptOut,
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn admits_descriptors(socket: impl AsFd) -> bool {
    use std::os::fd::AsRawFd;

    let (mut value, mut length): (libc::c_int, _) = (1, size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `value` and `length` are locals, and the second is the size of the first; the socket is borrowed, so open.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    status != 0 || value != 0
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn admits_descriptors(_socket: impl AsFd) -> bool {
    true
}

/// Nothing to be done here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn admit_descriptors(_socket: impl AsFd, _admits: bool) {}

/// What the system knows about the other end of a connected socket.
pub(super) fn peer(socket: impl AsFd, transport: Transport) -> io::Result<Peer> {
    match transport {
        Transport::Unix => Ok(Peer::new(Some(credentials(socket.as_fd())?), None)),
        Transport::Parent => Ok(Peer::new(Some(parent(socket)), None)),
        Transport::Tcp => {
            let address = SockRef::from(&socket).peer_addr()?.as_socket();
            Ok(Peer::new(None, address))
        }
    }
}

/// The parent at the other end of the socketpair that it made: the system names who made it, or, as
/// some do, nobody.
pub(super) fn parent(socket: impl AsFd) -> Credentials {
    let (user, pid) = match credentials(socket.as_fd()) {
        Ok(found) => (found.user().clone(), found.pid()),
        Err(_) => (User::Uid(super::identity::euid()), None),
    };
    let parent = || rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    Credentials::new(user, pid.or_else(parent), None)
}

/// Whether the peer was in one of these groups when it called connect(2) or listen(2), or its effective group is one.
///
/// SO_PEERGROUPS (linux/net/core/sock.c, from Linux 4.13 on) tells the supplementary ones, of which the effective one
/// need not be any (credentials(7)).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn is_member(socket: impl AsFd, groups: &[Group]) -> io::Result<bool> {
    let own = peer_ucred(socket.as_fd())?.gid;
    Ok(is_one_of(own, groups) || peer_groups(socket.as_fd())?.into_iter().any(|gid| is_one_of(gid, groups)))
}

fn is_one_of(gid: libc::gid_t, groups: &[Group]) -> bool {
    let group = Group::Gid(gid);
    group.is_known() && groups.contains(&group)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    use std::os::fd::AsRawFd;

    // As many as most processes have; a second look is for all that there are.
    let mut groups: Vec<libc::gid_t> = vec![0; 32];
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: `groups` and `length` are locals that outlive the call, `length` is the size of what `groups` holds,
        // and gid_t is an integer, valid whatever the kernel writes. `socket` is borrowed, so open.
        let status = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // They were told once and for all, so that their number does not change.
        if Errno::from_io_error(&error) != Some(Errno::RANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// As above, but here the system tells the effective group only (getpeereid(3)).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn is_member(socket: impl AsFd, groups: &[Group]) -> io::Result<bool> {
    if is_one_of(peer_ids(socket.as_fd())?.1, groups) {
        return Ok(true);
    }
    let text = "this system tells the first group of a peer, and no more";
    Err(io::Error::new(io::ErrorKind::Unsupported, text))
}

/// The peer's effective user and process at the time of connect(2) or listen(2) (SO_PEERCRED, unix(7)).
///
/// No process id stands for one outside of our pid namespace.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    let found = peer_ucred(socket)?;
    let pid = u32::try_from(found.pid).ok().filter(|&pid| pid != 0);
    Ok(Credentials::new(User::Uid(found.uid), pid, None))
}

/// What the system notes of the peer at the time of connect(2) or listen(2).
///
/// Not `rustix::net::sockopt::socket_peercred`: its process id can't be 0, which is what the kernel
/// says about a process outside our pid namespace (a container's socket, mounted into another).
#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_ucred(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    use std::os::fd::AsRawFd;

    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `found` and `length` are locals that outlive the call, `length` is the size of `found`,
    // and ucred is plain integers, valid whatever the kernel writes. `socket` is borrowed, so open.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if status == 0 { Ok(found) } else { Err(io::Error::last_os_error()) }
}

/// The peer's effective user at the time of connect(2) or listen(2) (getpeereid(3)).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn credentials(socket: BorrowedFd<'_>) -> io::Result<Credentials> {
    Ok(Credentials::new(User::Uid(peer_ids(socket)?.0), None, None))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_ids(socket: BorrowedFd<'_>) -> io::Result<(libc::uid_t, libc::gid_t)> {
    use std::os::fd::AsRawFd;

    let (mut uid, mut gid) = (0, 0);
    // SAFETY: `uid` and `gid` are locals that outlive the call; `socket` is borrowed, so open.
    let status = unsafe { libc::getpeereid(socket.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if status == 0 { Ok((uid, gid)) } else { Err(io::Error::last_os_error()) }
}

/// Ends one direction or both. A connection that has ended already is no failure.
pub(super) fn shutdown(socket: impl AsFd, how: rustix::net::Shutdown) -> io::Result<()> {
    match rustix::net::shutdown(socket, how) {
        Ok(()) | Err(Errno::NOTCONN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What receivers of a Unix datagram socket have not read yet, and how much that may be: SIOCOUTQ
/// (unix(7)), which is TIOCOUTQ by another name, and SO_SNDBUF.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn send_buffer(socket: impl AsFd) -> Option<SendBuffer> {
    use std::os::fd::AsRawFd;

    let mut unread: libc::c_int = 0;
    // SAFETY: `unread` is a local int, which is what this request writes to; the socket is borrowed,
    // so open.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    let size = SockRef::from(&socket).send_buffer_size().ok()?;
    (result == 0).then_some(SendBuffer { unread: usize::try_from(unread).ok()?, size })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn send_buffer(_socket: impl AsFd) -> Option<SendBuffer> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn append_keeps_what_is_there_and_takes_no_more_than_asked() {
        let (near, far) = UnixStream::pair().unwrap();
        send(&far, b"abcdef", SendFlags::empty()).unwrap();
        let mut buf = Vec::with_capacity(64);
        buf.extend_from_slice(b"--");
        assert_eq!(recv_append(&near, &mut buf, 4, RecvFlags::DONTWAIT).unwrap(), 4);
        assert_eq!(buf, b"--abcd");
        assert_eq!(recv_append(&near, &mut buf, 4, RecvFlags::DONTWAIT).unwrap(), 2);
        assert_eq!(recv_append(&near, &mut buf, 4, RecvFlags::DONTWAIT), Err(Errno::AGAIN));
        assert_eq!(buf, b"--abcdef");
    }

    #[test]
    fn sockets_for_both_families_take_both() {
        for text in ["[::]:0", "[::ffff:127.0.0.1]:0"] {
            match inet(text.parse().unwrap(), Type::DGRAM, Protocol::UDP) {
                Ok(socket) => assert!(!socket.only_v6().unwrap(), "{text}"),
                // Not every machine has IPv6.
                Err(error) => println!("skipped: {text}: {error}"),
            }
        }
    }

    #[test]
    fn a_pair_is_ourselves() {
        let (near, _far) = UnixStream::pair().unwrap();
        let credentials = peer(&near, Transport::Unix).unwrap().credentials().unwrap().clone();
        assert_eq!(*credentials.user(), User::Uid(super::super::identity::euid()));
        if cfg!(target_os = "linux") {
            assert_eq!(credentials.pid(), Some(std::process::id()));
        }
        let own = Group::Gid(rustix::process::getegid().as_raw());
        assert!(is_member(&near, &[Group::Gid(4711), own]).unwrap());
        if cfg!(target_os = "linux") {
            assert!(!is_member(&near, &[]).unwrap());
            for gid in rustix::process::getgroups().unwrap() {
                assert!(is_member(&near, &[Group::Gid(gid.as_raw())]).unwrap());
            }
        }
    }
}
