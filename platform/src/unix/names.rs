//! Endpoint names to system addresses, and back.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::net::{SocketAddrAny, SocketAddrUnix};
use socket2::SockAddr;

use super::folders::Folders;
use crate::endpoint::Endpoint;
use crate::peer::Address;

/// Whether this system has Unix sockets without a file (unix(7)).
pub(super) const HAS_ABSTRACT: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Most bytes of a socket's path, without the NUL behind it: `sun_path` holds 108 on Linux
/// (unix(7)), 104 on the BSDs and macOS.
const PATH_MAX: usize = if HAS_ABSTRACT { 107 } else { 103 };

/// What a stream endpoint means on this system.
#[derive(Debug)]
pub(super) enum StreamAddress<'a> {
    /// A name to be found in the user's private folders.
    Local(&'a str),
    /// A socket in the file system.
    Path(&'a Path),
    /// A socket without a file, its address complete.
    Abstract(SockAddr),
    /// TCP, to be resolved.
    Inet { host: &'a str, port: u16 },
}

/// What a datagram endpoint means on this system.
#[derive(Debug)]
pub(super) enum DatagramAddress<'a> {
    /// A socket in the file system.
    Path(&'a Path),
    /// A socket without a file, its address complete.
    Abstract(SockAddr),
    /// UDP, to be resolved.
    Inet { host: &'a str, port: u16 },
}

const NO_MAILSLOTS: &str = "mailslots exist on Windows only; use unixgram:/path or udp:HOST:PORT";

/// Checks the name once more, since an [`Endpoint`] need not come from a text that was parsed.
pub(super) fn stream_address(endpoint: &Endpoint) -> io::Result<StreamAddress<'_>> {
    match endpoint {
        Endpoint::Pipe(_) => {
            Err(unsupported("named pipes exist on Windows only; use local:NAME, which works everywhere"))
        }
        Endpoint::Mailslot(_) => Err(unsupported(NO_MAILSLOTS)),
        Endpoint::UnixGram(_) | Endpoint::AbstractGram(_) | Endpoint::Udp { .. } => {
            let text = format!(
                "{} carries datagrams; streams go over local, unix, abstract or tcp",
                endpoint.scheme()
            );
            Err(invalid(text))
        }
        Endpoint::Unix(path) => Ok(StreamAddress::Path(path)),
        Endpoint::Local(name) => checked(endpoint).map(|()| StreamAddress::Local(name)),
        Endpoint::Abstract(_) if !HAS_ABSTRACT => {
            Err(unsupported("abstract sockets exist on Linux only; use local:NAME, which works everywhere"))
        }
        Endpoint::Abstract(name) => {
            checked(endpoint).and_then(|()| abstract_address(name)).map(StreamAddress::Abstract)
        }
        Endpoint::Tcp { host, port } => checked(endpoint).map(|()| StreamAddress::Inet { host, port: *port }),
        Endpoint::Unnamed(_) => Err(invalid(Endpoint::NO_NAME)),
    }
}

/// As [`stream_address`], for datagrams.
pub(super) fn datagram_address(endpoint: &Endpoint) -> io::Result<DatagramAddress<'_>> {
    match endpoint {
        Endpoint::Mailslot(_) => Err(unsupported(NO_MAILSLOTS)),
        Endpoint::Local(_)
        | Endpoint::Unix(_)
        | Endpoint::Abstract(_)
        | Endpoint::Pipe(_)
        | Endpoint::Tcp { .. } => {
            let text = format!(
                "{} carries a stream; datagrams go over unixgram, abstractgram or udp",
                endpoint.scheme()
            );
            Err(invalid(text))
        }
        Endpoint::UnixGram(path) => Ok(DatagramAddress::Path(path)),
        Endpoint::AbstractGram(_) if !HAS_ABSTRACT => {
            Err(unsupported("abstract sockets exist on Linux only; use unixgram:/path or udp:HOST:PORT"))
        }
        Endpoint::AbstractGram(name) => {
            checked(endpoint).and_then(|()| abstract_address(name)).map(DatagramAddress::Abstract)
        }
        Endpoint::Udp { host, port } => {
            checked(endpoint).map(|()| DatagramAddress::Inet { host, port: *port })
        }
        Endpoint::Unnamed(_) => Err(invalid(Endpoint::NO_NAME)),
    }
}

/// Where an answer goes, as the system wants it.
///
/// The peer has chosen these names. Every one that a peer can have is taken, a path of all 108 bytes
/// too, but a relative one is refused: it meant something in the peer's folder and would be looked
/// for in ours.
pub(super) fn answer_address(to: &Address) -> io::Result<SocketAddrAny> {
    match to {
        Address::Inet(address) => Ok((*address).into()),
        Address::Path(path) if path.is_absolute() => Ok(SocketAddrUnix::new(path.as_path())?.into()),
        Address::Path(path) => {
            Err(invalid(format!("the path {} is relative; it can't be answered", path.display())))
        }
        Address::Abstract(name) => abstract_answer(name),
        Address::Unnamed => Err(invalid("a sender without an address can't be answered")),
        Address::Pipe(_) => Err(invalid("a pipe is not a place for datagrams")),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn abstract_answer(name: &[u8]) -> io::Result<SocketAddrAny> {
    Ok(SocketAddrUnix::new_abstract_name(name)?.into())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn abstract_answer(_name: &[u8]) -> io::Result<SocketAddrAny> {
    Err(unsupported("abstract sockets exist on Linux only"))
}

/// The rules of the text form, by the one who knows them. Not for paths: those need not be UTF-8.
fn checked(endpoint: &Endpoint) -> io::Result<()> {
    endpoint.to_string().parse::<Endpoint>().map(drop).map_err(invalid)
}

/// A path as a socket address; refused rather than cut when it does not fit.
pub(super) fn path_address(path: &Path) -> io::Result<SockAddr> {
    let bytes = path.as_os_str().as_bytes();
    if !path.is_absolute() {
        return Err(invalid("a Unix socket needs an absolute path"));
    }
    if bytes.contains(&0) {
        return Err(invalid("a path can't hold a NUL byte"));
    }
    if !fits(path) {
        return Err(invalid(format!(
            "a Unix socket's path has at most {PATH_MAX} bytes, this one has {}",
            bytes.len()
        )));
    }
    SockAddr::unix(path)
}

/// Whether a path is short enough to be a socket's address.
pub(super) fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= PATH_MAX
}

/// Exactly the bytes `\0NAME`: the length of the address says where the name ends.
fn abstract_address(name: &[u8]) -> io::Result<SockAddr> {
    let bytes = [b"\0", name].concat();
    SockAddr::unix(OsStr::from_bytes(&bytes))
}

/// One end of a connection, as a value.
pub(super) fn address(address: &SockAddr) -> Address {
    if let Some(inet) = address.as_socket() {
        return Address::Inet(inet);
    }
    if let Some(name) = address.as_abstract_namespace() {
        return Address::Abstract(name.to_vec());
    }
    address.as_pathname().map_or(Address::Unnamed, |path| Address::Path(path.to_owned()))
}

/// The `local:` endpoints of this user that there seem to be; also some that nobody serves any more.
///
/// # Errors
///
/// What the system says.
///
/// # Platform-specific behavior
///
/// Unix: what lies in the folders of `local:` and is called `NAME.sock`, whoever has put it there. Windows: the pipes
/// with the user's SID in the name. Those of the instances of apps ([`InstanceLock`](crate::InstanceLock)) are left out.
#[allow(clippy::unnecessary_wraps)] // Elsewhere the system is asked for all names at once.
pub fn local_endpoints() -> io::Result<Vec<Endpoint>> {
    let names = Folders::of_this_process().names();
    let servers = names.iter().filter(|name| !name.ends_with(".instance"));
    Ok(servers.filter_map(|name| format!("local:{name}").parse().ok()).collect())
}

/// Bytes as a text of the system; any will do here.
#[allow(clippy::unnecessary_wraps)] // Other systems have texts that are Unicode.
pub(crate) fn os_string(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from_vec(bytes.to_vec()))
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

pub(super) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_system_lacks_is_refused_with_advice() {
        for (text, kind, word) in [
            ("pipe:x", io::ErrorKind::Unsupported, "local:NAME"),
            ("mailslot:x", io::ErrorKind::Unsupported, "Windows"),
            ("udp:127.0.0.1:1", io::ErrorKind::InvalidInput, "datagrams"),
            ("unixgram:/x", io::ErrorKind::InvalidInput, "datagrams"),
        ] {
            let error = stream_address(&text.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn datagrams_and_streams_are_kept_apart() {
        for (text, kind, word) in [
            ("mailslot:x", io::ErrorKind::Unsupported, "Windows"),
            ("pipe:x", io::ErrorKind::InvalidInput, "stream"),
            ("local:x", io::ErrorKind::InvalidInput, "unixgram"),
            ("tcp:127.0.0.1:1", io::ErrorKind::InvalidInput, "udp"),
        ] {
            let error = datagram_address(&text.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn answers_go_to_whatever_a_peer_can_be_called() {
        let path = |length| Address::Path(format!("/{}", "x".repeat(length - 1)).into());
        let most = PATH_MAX + 1;
        for fine in [path(1), path(PATH_MAX), path(most), Address::Inet("[::1]:1".parse().unwrap())] {
            assert!(answer_address(&fine).is_ok(), "{fine}");
        }
        for bad in [
            path(most + 1),
            Address::Path("s".into()),
            Address::Path("".into()),
            Address::Path("/a\0b".into()),
            Address::Unnamed,
            Address::Pipe("x".into()),
        ] {
            assert!(answer_address(&bad).is_err(), "{bad}");
        }
        for (length, is_fine) in [(0, true), (107, true), (108, false)] {
            let name = Address::Abstract(vec![0; length]);
            assert_eq!(answer_address(&name).is_ok(), is_fine && HAS_ABSTRACT, "{length}");
        }
    }

    #[test]
    fn names_that_no_parser_saw_are_checked() {
        for endpoint in [
            Endpoint::Local("../x".into()),
            Endpoint::Local("x".repeat(65)),
            Endpoint::Abstract(Vec::new()),
            Endpoint::Abstract("x".repeat(108).into()),
            Endpoint::Tcp { host: String::new(), port: 1 },
        ] {
            assert_eq!(
                stream_address(&endpoint).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{endpoint:?}"
            );
        }
    }

    #[test]
    fn paths_are_exact_or_refused() {
        let longest = format!("/{}", "x".repeat(PATH_MAX - 1));
        let address = path_address(Path::new(&longest)).unwrap();
        assert_eq!(address.as_pathname(), Some(Path::new(&longest)));
        for bad in ["relative", "", "/nul\0", &format!("{longest}x")] {
            assert_eq!(
                path_address(Path::new(bad)).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{bad}"
            );
        }
    }

    #[test]
    fn abstract_names_are_padded_only_where_that_is_asked_for() {
        let address = abstract_address(&[b'x'; 107]).unwrap();
        assert_eq!(address.as_abstract_namespace().map(<[u8]>::len), HAS_ABSTRACT.then_some(107));
        assert_eq!(abstract_address(b"ab").unwrap().len(), 2 + 1 + 2);
    }
}
