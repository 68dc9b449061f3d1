//! Whether the server of a Unix datagram socket can answer to an abstract name, which belongs to a
//! network namespace, where a path does not (unix(7), network_namespaces(7)).

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// Whether the socket that this one is connected to lives in another network namespace than ours, as
/// far as the system tells: unix_diag (sock_diag(7)) knows the sockets of our own only.
pub(super) fn peer_is_elsewhere(socket: impl AsFd) -> bool {
    let look = || -> io::Result<bool> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, protocol) = (AddressFamily::NETLINK, Some(netlink::SOCK_DIAG));
        let diag = net::socket_with(family, SocketType::RAW, flags, protocol)?;
        // The system's inode numbers of sockets have 32 bits.
        let own = rustix::fs::fstat(socket)?.st_ino as u32;
        let Some(peer) = peer_of(&ask(&diag, own)?) else { return Ok(false) };
        match ask(&diag, peer) {
            Ok(_) => Ok(false),
            Err(Errno::NOENT) => Ok(true),
            Err(error) => Err(error.into()),
        }
    };
    look().unwrap_or_else(|error| {
        log::debug!("can't look whether a server is in our network namespace: {error}");
        false
    })
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
/// nlmsghdr, and unix_diag_msg.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// What is known about the Unix socket with this inode: the attributes behind a `unix_diag_msg`.
fn ask(diag: impl AsFd, inode: u32) -> rustix::io::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(HEADER + 24);
    request.extend_from_slice(&(HEADER as u32 + 24).to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&[0; 8]); // sequence, port
    request.extend_from_slice(&u32::from(AddressFamily::UNIX.as_raw()).to_ne_bytes()); // and three zero bytes
    for word in [u32::MAX, inode, UDIAG_SHOW_PEER, u32::MAX, u32::MAX] {
        request.extend_from_slice(&word.to_ne_bytes()); // all states; no cookie
    }
    net::send(&diag, &request, SendFlags::empty())?;
    // The kernel has answered before send(2) returns.
    let mut answer = [0; 1024];
    let (length, _) = net::recv(&diag, &mut answer[..], RecvFlags::DONTWAIT)?;
    let answer = &answer[..length];
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, answer.get(HEADER..)) {
        (Some(SOCK_DIAG_BY_FAMILY), Some(rest)) => Ok(rest.get(MESSAGE..).unwrap_or_default().to_vec()),
        (Some(NLMSG_ERROR), Some([a, b, c, d, ..])) => {
            Err(Errno::from_raw_os_error(i32::from_ne_bytes([*a, *b, *c, *d]).saturating_neg()))
        }
        _ => Err(Errno::PROTO),
    }
}

/// The peer's inode, from attributes: `u16 length, u16 type`, the value, padded to four bytes.
fn peer_of(mut attributes: &[u8]) -> Option<u32> {
    loop {
        let (&[a, b, c, d], rest) = attributes.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([a, b])).checked_sub(4)?;
        if u16::from_ne_bytes([c, d]) == UNIX_DIAG_PEER {
            return Some(u32::from_ne_bytes(rest.get(..length)?.try_into().ok()?));
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_peer_of_ours_is_here() {
        let (near, _far) = UnixDatagram::pair().unwrap();
        assert!(!peer_is_elsewhere(&near));
        let unconnected = UnixDatagram::unbound().unwrap();
        assert!(!peer_is_elsewhere(&unconnected));
    }

    #[test]
    fn attributes_of_any_form_are_read_within_their_bounds() {
        let peer = [8, 0, 2, 0, 1, 2, 3, 4];
        let other = [5, 0, 6, 0, 9, 0, 0, 0];
        let whole = [&other[..], &peer].concat();
        assert_eq!(peer_of(&whole), Some(u32::from_ne_bytes([1, 2, 3, 4])));
        for cut in 0..whole.len() {
            assert_eq!(peer_of(&whole[..cut]), None);
        }
        for length in 0..8 {
            assert_eq!(peer_of(&[&[length, 0, 2, 0][..], &[0; 64]].concat()), None);
        }
    }
}
