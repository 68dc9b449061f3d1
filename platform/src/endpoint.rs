//! Endpoints: names that processes meet at, written `scheme:rest`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::hosts;
use quoted::{Name, Plain};

pub use command::CommandEndpoint;

mod command;
mod hints;
mod quoted;
mod ssh;
#[cfg(test)]
mod tests;
mod text;

/// A name that processes meet at. See the README for what each one is good for.
///
/// Every endpoint parses on every system, so that configuration files can be shared; opening one
/// that this system does not have fails with [`std::io::ErrorKind::Unsupported`] and says where it works.
///
/// Names are exact. The names of Unix sockets may stand in quotes, with `\xNN` for a byte, `\"` and
/// `\\`: that is how to write what is not UTF-8, a control character, white space at the end.
///
/// ```
/// # extern crate sidewire_platform as sidewire;
/// use sidewire::Endpoint;
///
/// let endpoint: Endpoint = "tcp:[::1]:4711".parse()?;
/// assert_eq!(endpoint, Endpoint::Tcp { host: "::1".into(), port: 4711 });
/// assert_eq!(endpoint.to_string(), "tcp:[::1]:4711");
/// # Ok::<(), sidewire::EndpointError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `local:NAME`: a private meeting place of the current user, by whatever means the system
    /// has: a Unix socket in the user's runtime folder, or a pipe with the user's SID in its name.
    Local(String),
    /// `unix:/path`: a Unix stream socket.
    Unix(PathBuf),
    /// `abstract:NAME`: a Unix stream socket without a file (Linux). The bytes are `\0NAME`, exactly;
    /// `abstract-padded:NAME` has NULs behind it, up to the 107 bytes that there can be.
    Abstract(Vec<u8>),
    /// `pipe:NAME`: the named pipe `\\.\pipe\NAME` (Windows).
    Pipe(String),
    /// `tcp:HOST:PORT`. The IPv6 wildcard, `tcp:[::]:PORT`, listens to IPv4 as well, on every system.
    Tcp {
        /// Name or numeric address; IPv6 without brackets, a zone behind `%`.
        host: String,
        /// Port; 0 lets the system choose one when listening.
        port: u16,
    },
    /// `unixgram:/path`: a Unix datagram socket.
    UnixGram(PathBuf),
    /// `abstractgram:NAME` or `abstractgram-padded:NAME`: a Unix datagram socket without a file (Linux).
    AbstractGram(Vec<u8>),
    /// `udp:HOST:PORT`. The IPv6 wildcard takes IPv4 as well, as with `tcp:`.
    Udp {
        /// Name or numeric address; IPv6 without brackets, a zone behind `%`.
        host: String,
        /// Port; 0 lets the system choose one when listening.
        port: u16,
    },
    /// `mailslot:NAME`: the mailslot `\\.\mailslot\NAME` (Windows).
    Mailslot(String),
    /// A connection that has no name to meet at, as the one between a program and its helper, or one that the
    /// program has brought along. The text says what it is, for people: `parent`, `helper resize (pid 4711)`, `fd 7`.
    /// It is not parsed, and can't be opened.
    Unnamed(String),
}

/// What can be sent over an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointKind {
    /// A stream of bytes, both ways.
    Stream,
    /// Datagrams, both ways.
    Datagram,
    /// Datagrams to the server only.
    OneWay,
}

/// Why a text is not an endpoint, and as a rule what to write in its place.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad endpoint '{}': {why}", shown(text))]
pub struct EndpointError {
    text: String,
    why: String,
}

impl Endpoint {
    /// Why it can't be opened if it is [`Endpoint::Unnamed`].
    pub(crate) const NO_NAME: &str = "this connection has no name that anybody could meet at";

    /// The word before the colon.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Endpoint::Local(_) => "local",
            Endpoint::Unix(_) => "unix",
            Endpoint::Abstract(name) if text::without_padding(name).is_some() => "abstract-padded",
            Endpoint::Abstract(_) => "abstract",
            Endpoint::Pipe(_) => "pipe",
            Endpoint::Tcp { .. } => "tcp",
            Endpoint::UnixGram(_) => "unixgram",
            Endpoint::AbstractGram(name) if text::without_padding(name).is_some() => "abstractgram-padded",
            Endpoint::AbstractGram(_) => "abstractgram",
            Endpoint::Udp { .. } => "udp",
            Endpoint::Mailslot(_) => "mailslot",
            Endpoint::Unnamed(_) => "unnamed",
        }
    }

    /// Reads an endpoint from an argument or a variable of the environment as the system hands it
    /// out: the names of Unix sockets need not be UTF-8. Otherwise the same as [`str::parse`].
    ///
    /// # Errors
    ///
    /// As [`str::parse`]; and everything but a Unix socket's path or name has to be UTF-8.
    ///
    /// # Platform-specific behavior
    ///
    /// On Windows all of it has to be valid Unicode.
    pub fn from_os(text: &OsStr) -> Result<Endpoint, EndpointError> {
        let bytes = text.as_encoded_bytes();
        text::parse(bytes).map_err(|fault| EndpointError {
            text: text.to_string_lossy().into_owned(),
            why: hints::explain(bytes, fault),
        })
    }

    /// Stream, datagram, or one way.
    #[must_use]
    pub fn kind(&self) -> EndpointKind {
        match self {
            Endpoint::Local(_)
            | Endpoint::Unix(_)
            | Endpoint::Abstract(_)
            | Endpoint::Pipe(_)
            | Endpoint::Tcp { .. }
            | Endpoint::Unnamed(_) => EndpointKind::Stream,
            Endpoint::UnixGram(_) | Endpoint::AbstractGram(_) | Endpoint::Udp { .. } => {
                EndpointKind::Datagram
            }
            Endpoint::Mailslot(_) => EndpointKind::OneWay,
        }
    }

    /// The address, where the host is numeric and so needs no resolver; as it does of endpoints that
    /// were bound. `None` for everything but TCP and UDP.
    #[must_use]
    pub fn numeric_address(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } => hosts::numeric(host, *port),
            _ => None,
        }
    }

    /// Whether a *server* need not take strangers at their word: the system tells it which user a
    /// client is (SO_PEERCRED or SCM_CREDENTIALS, unix(7); a pipe client's token), or, for
    /// mailslots, keeps the others out by access rights. False for TCP and UDP, where anyone who
    /// can reach the port can send.
    ///
    /// Says nothing about what a *client* knows of its server: that is
    /// [`Endpoint::can_verify_server`].
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        !matches!(self, Endpoint::Tcp { .. } | Endpoint::Udp { .. })
    }

    /// Whether a *client* can learn from the system which user serves here, before it sends its
    /// first byte: by SO_PEERCRED (unix(7)), by the owner of a named pipe, by the owner of a
    /// datagram socket's file.
    ///
    /// It can, does not mean that it will: [`DatagramChannel::peer`](crate::DatagramChannel::peer)
    /// knows nobody if others could have changed the file's folder. False for `abstractgram`,
    /// `tcp`, `udp` and `mailslot`: there anyone may have taken the name or the port first.
    #[must_use]
    pub fn can_verify_server(&self) -> bool {
        match self {
            Endpoint::Local(_)
            | Endpoint::Unix(_)
            | Endpoint::Abstract(_)
            | Endpoint::Pipe(_)
            | Endpoint::UnixGram(_)
            | Endpoint::Unnamed(_) => true,
            Endpoint::AbstractGram(_)
            | Endpoint::Tcp { .. }
            | Endpoint::Udp { .. }
            | Endpoint::Mailslot(_) => false,
        }
    }
}

/// As it is parsed. Names of Unix sockets stand in quotes if they hold what can't be shown, as
/// `unix:"/tmp/\xff"`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(self, Endpoint::Unnamed(_)) {
            write!(f, "{}:", self.scheme())?;
        }
        match self {
            Endpoint::Unnamed(text) => Plain(text).fmt(f),
            Endpoint::Local(name) | Endpoint::Pipe(name) | Endpoint::Mailslot(name) => Plain(name).fmt(f),
            Endpoint::Abstract(name) | Endpoint::AbstractGram(name) => {
                Name(text::without_padding(name).unwrap_or(name)).fmt(f)
            }
            Endpoint::Unix(path) | Endpoint::UnixGram(path) => {
                Name(path.as_os_str().as_encoded_bytes()).fmt(f)
            }
            Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } if host.contains(':') => {
                write!(f, "[{}]:{port}", Plain(host))
            }
            Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } => {
                write!(f, "{}:{port}", Plain(host))
            }
        }
    }
}

/// The text form in quotes: names of Unix sockets are bytes, which nobody can read as numbers.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        let bytes = text.as_bytes();
        let explained = |fault| EndpointError { text: text.to_owned(), why: hints::explain(bytes, fault) };
        text::parse(bytes).map_err(explained)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &str) -> Result<Endpoint, EndpointError> {
        text.parse()
    }
}

impl From<&Endpoint> for Endpoint {
    fn from(endpoint: &Endpoint) -> Endpoint {
        endpoint.clone()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Endpoint, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &String) -> Result<Endpoint, EndpointError> {
        text.parse()
    }
}

impl TryFrom<&OsStr> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &OsStr) -> Result<Endpoint, EndpointError> {
        Endpoint::from_os(text)
    }
}

impl TryFrom<OsString> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: OsString) -> Result<Endpoint, EndpointError> {
        Endpoint::from_os(&text)
    }
}

impl TryFrom<&OsString> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: &OsString) -> Result<Endpoint, EndpointError> {
        Endpoint::from_os(text)
    }
}

/// The same sentence, for a `main` that returns it.
impl fmt::Debug for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text of a stranger, so that it fits into a message and drives nobody's terminal.
fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let mut shown: String = text.chars().take(MOST).flat_map(quoted::escaped).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
