//! Endpoints: names that processes meet at, written `scheme:rest`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A name that processes meet at. See the README for what each one is good for.
///
/// Every endpoint parses on every system, so that configuration files can be shared; opening one
/// that this system does not have fails with [`std::io::ErrorKind::Unsupported`] and says where it works.
///
/// ```
/// use sidewire_platform::Endpoint;
///
/// let endpoint: Endpoint = "tcp:[::1]:4711".parse()?;
/// assert_eq!(endpoint, Endpoint::Tcp { host: "::1".into(), port: 4711 });
/// assert_eq!(endpoint.to_string(), "tcp:[::1]:4711");
/// # Ok::<(), sidewire_platform::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Endpoint {
    /// `local:NAME`: a private meeting place of the current user, by whatever means the system
    /// has: a Unix socket in the user's runtime folder, or a pipe with the user's SID in its name.
    Local(String),
    /// `unix:/path`: a Unix stream socket.
    Unix(PathBuf),
    /// `abstract:NAME`: a Unix stream socket without a file (Linux). The bytes are `\0NAME`, unpadded.
    Abstract(String),
    /// `pipe:NAME`: the named pipe `\\.\pipe\NAME` (Windows).
    Pipe(String),
    /// `tcp:HOST:PORT`. The IPv6 wildcard, `tcp:[::]:PORT`, listens to IPv4 as well, on every system.
    Tcp {
        /// Name or numeric address; IPv6 without brackets.
        host: String,
        /// Port; 0 lets the system choose one when listening.
        port: u16,
    },
    /// `unixgram:/path`: a Unix datagram socket.
    UnixGram(PathBuf),
    /// `abstractgram:NAME`: a Unix datagram socket without a file (Linux).
    AbstractGram(String),
    /// `udp:HOST:PORT`. The IPv6 wildcard takes IPv4 as well, as with `tcp:`.
    Udp {
        /// Name or numeric address; IPv6 without brackets.
        host: String,
        /// Port; 0 lets the system choose one when listening.
        port: u16,
    },
    /// `mailslot:NAME`: the mailslot `\\.\mailslot\NAME` (Windows).
    Mailslot(String),
}

/// What can be sent over an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream of bytes, both ways.
    Stream,
    /// Datagrams, both ways.
    Datagram,
    /// Datagrams to the server only.
    OneWay,
}

/// Why a text is not an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad endpoint '{text}': {why}")]
pub struct EndpointError {
    text: String,
    why: String,
}

/// Most bytes of a Unix socket's path or abstract name: `sun_path` holds 108 with one NUL (unix(7)).
const UNIX_NAME_MAX: usize = 107;
/// Most bytes of a `local:` name; small enough for every system's folders and prefixes.
const LOCAL_NAME_MAX: usize = 64;
/// Most characters of a pipe's or mailslot's whole name, `\\.\pipe\` included (CreateNamedPipeW).
const WINDOWS_NAME_MAX: usize = 256;

impl Endpoint {
    /// The word before the colon.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Endpoint::Local(_) => "local",
            Endpoint::Unix(_) => "unix",
            Endpoint::Abstract(_) => "abstract",
            Endpoint::Pipe(_) => "pipe",
            Endpoint::Tcp { .. } => "tcp",
            Endpoint::UnixGram(_) => "unixgram",
            Endpoint::AbstractGram(_) => "abstractgram",
            Endpoint::Udp { .. } => "udp",
            Endpoint::Mailslot(_) => "mailslot",
        }
    }

    /// Reads an endpoint from an argument or a variable of the environment as the system hands it
    /// out: a Unix socket's path need not be UTF-8. Otherwise the same as [`str::parse`].
    ///
    /// # Errors
    ///
    /// As [`str::parse`]; and everything but a Unix socket's path has to be UTF-8.
    ///
    /// # Platform-specific behavior
    ///
    /// On Windows all of it has to be valid Unicode.
    pub fn from_os(text: &OsStr) -> Result<Endpoint, EndpointError> {
        let lossy = text.to_string_lossy();
        if let Some(text) = text.to_str() {
            return text.parse();
        }
        let bytes = text.as_encoded_bytes();
        let path = |scheme: &str| bytes.strip_prefix(scheme.as_bytes()).and_then(crate::os::os_string);
        let parsed = match (path("unix:"), path("unixgram:")) {
            (Some(path), _) => unix_path(&path).map(Endpoint::Unix),
            (_, Some(path)) => unix_path(&path).map(Endpoint::UnixGram),
            (None, None) => Err("only the path of a Unix socket need not be UTF-8".into()),
        };
        parsed.map_err(|why| EndpointError { text: lossy.into_owned(), why })
    }

    /// Stream, datagram, or one way.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Endpoint::Local(_)
            | Endpoint::Unix(_)
            | Endpoint::Abstract(_)
            | Endpoint::Pipe(_)
            | Endpoint::Tcp { .. } => Kind::Stream,
            Endpoint::UnixGram(_) | Endpoint::AbstractGram(_) | Endpoint::Udp { .. } => Kind::Datagram,
            Endpoint::Mailslot(_) => Kind::OneWay,
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
            | Endpoint::UnixGram(_) => true,
            Endpoint::AbstractGram(_)
            | Endpoint::Tcp { .. }
            | Endpoint::Udp { .. }
            | Endpoint::Mailslot(_) => false,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme())?;
        match self {
            Endpoint::Local(name) | Endpoint::Abstract(name) | Endpoint::Pipe(name) => f.write_str(name),
            Endpoint::AbstractGram(name) | Endpoint::Mailslot(name) => f.write_str(name),
            Endpoint::Unix(path) | Endpoint::UnixGram(path) => path.display().fmt(f),
            Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Endpoint::Tcp { host, port } | Endpoint::Udp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        parse(text).map_err(|why| EndpointError { text: text.to_owned(), why })
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

fn parse(text: &str) -> Result<Endpoint, String> {
    let (scheme, rest) = text
        .split_once(':')
        .ok_or("expected SCHEME:REST, for example local:com.example.app or tcp:127.0.0.1:4711")?;
    if rest.contains('\0') {
        return Err("a name can't hold a NUL character".into());
    }
    match scheme {
        "local" => local_name(rest).map(Endpoint::Local),
        "unix" => unix_path(rest).map(Endpoint::Unix),
        "unixgram" => unix_path(rest).map(Endpoint::UnixGram),
        "abstract" => abstract_name(rest).map(Endpoint::Abstract),
        "abstractgram" => abstract_name(rest).map(Endpoint::AbstractGram),
        "pipe" => windows_name(rest, r"\\.\pipe\").map(Endpoint::Pipe),
        "mailslot" => windows_name(rest, r"\\.\mailslot\").map(Endpoint::Mailslot),
        "tcp" => host_port(rest).map(|(host, port)| Endpoint::Tcp { host, port }),
        "udp" => host_port(rest).map(|(host, port)| Endpoint::Udp { host, port }),
        _ => Err(format!(
            "unknown scheme '{scheme}'; there are local, unix, abstract, pipe, tcp, unixgram, abstractgram, udp, mailslot"
        )),
    }
}

/// One rule on every system, so that a name that works here works there.
fn local_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > LOCAL_NAME_MAX {
        return Err(format!(
            "a local name has 1 to {LOCAL_NAME_MAX} characters, this one has {}",
            name.len()
        ));
    }
    if !name.chars().all(plain) || name.starts_with(['.', '-']) {
        return Err(
            "a local name has letters, digits, '.', '_' and '-', and begins with none of '.' and '-'".into(),
        );
    }
    Ok(name.to_owned())
}

fn unix_path(path: impl AsRef<OsStr>) -> Result<PathBuf, String> {
    let path = path.as_ref();
    if !Path::new(path).has_root() {
        return Err("a Unix socket needs an absolute path, as in unix:/run/app.sock".into());
    }
    if path.len() > UNIX_NAME_MAX {
        return Err(format!(
            "a Unix socket's path has at most {UNIX_NAME_MAX} bytes, this one has {}",
            path.len()
        ));
    }
    if path.as_encoded_bytes().ends_with(b"/") {
        return Err("this names a folder; a Unix socket needs a file name".into());
    }
    Ok(path.into())
}

fn abstract_name(name: &str) -> Result<String, String> {
    if name.is_empty() || name.len() > UNIX_NAME_MAX {
        return Err(format!("an abstract name has 1 to {UNIX_NAME_MAX} bytes, this one has {}", name.len()));
    }
    Ok(name.to_owned())
}

fn windows_name(name: &str, prefix: &str) -> Result<String, String> {
    let most = WINDOWS_NAME_MAX - prefix.len();
    let length = name.encode_utf16().count();
    if name.is_empty() || length > most {
        return Err(format!("the name has 1 to {most} characters, this one has {length}"));
    }
    if name.contains('\\') {
        return Err(format!(r"the name stands behind {prefix} and can't hold a backslash"));
    }
    Ok(name.to_owned())
}

fn host_port(rest: &str) -> Result<(String, u16), String> {
    let (host, port) = rest.rsplit_once(':').ok_or("expected HOST:PORT, as in 127.0.0.1:4711")?;
    let port = port.parse().map_err(|_| format!("'{port}' is not a port (0 to 65535)"))?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    match (bare, host) {
        (_, "") | (Some(""), _) => Err("expected a host before the port, as in 127.0.0.1:4711".into()),
        (None, host) if host.contains(':') => Err("an IPv6 address needs brackets, as in [::1]:4711".into()),
        (None, host) => Ok((host.to_owned(), port)),
        (Some(bare), _) => match bare.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok((bare.to_owned(), port)),
            Err(_) => Err(format!("'{bare}' is not an IPv6 address")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_round_trips() {
        for text in [
            "local:com.example.app",
            "unix:/run/a b.sock",
            "abstract:a:b/c",
            "pipe:app",
            "tcp:127.0.0.1:0",
            "tcp:[::1]:65535",
            "tcp:localhost:80",
            "unixgram:/tmp/x",
            "abstractgram:x",
            "udp:127.0.0.1:1235",
            "mailslot:a/b",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(endpoint.scheme(), text.split(':').next().unwrap());
        }
    }

    #[test]
    fn what_the_system_hands_out_is_read() {
        let read = |bytes: &[u8]| crate::os::os_string(bytes).map(|text| Endpoint::from_os(&text));
        assert_eq!(read(b"tcp:127.0.0.1:1"), Some("tcp:127.0.0.1:1".parse()));
        assert_eq!(Endpoint::try_from(OsString::from("local:x")), "local:x".parse());
        // Systems whose texts are Unicode have no such path.
        if let Some(path) = crate::os::os_string(b"/tmp/\xff.sock") {
            assert_eq!(read(b"unix:/tmp/\xff.sock").unwrap().unwrap(), Endpoint::Unix(path.clone().into()));
            assert_eq!(read(b"unixgram:/tmp/\xff.sock").unwrap().unwrap(), Endpoint::UnixGram(path.into()));
            for bad in [&b"abstract:\xff"[..], b"unix:\xff", b"\xff:/x", b"unix:/\xff/"] {
                assert!(read(bad).unwrap().is_err(), "{}", bad.escape_ascii());
            }
        }
    }

    #[test]
    fn who_can_be_told_from_strangers() {
        for (text, client, server) in [
            ("local:x", true, true),
            ("unix:/x", true, true),
            ("abstract:x", true, true),
            ("pipe:x", true, true),
            ("tcp:127.0.0.1:1", false, false),
            ("unixgram:/x", true, true),
            ("abstractgram:x", true, false),
            ("udp:127.0.0.1:1", false, false),
            ("mailslot:x", true, false),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.has_credentials(), endpoint.can_verify_server()),
                (client, server),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_refused_says_why() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, word) in [
            ("", "SCHEME:REST"),
            ("sidewire", "SCHEME:REST"),
            ("http://x", "unknown scheme"),
            ("local:", "1 to 64"),
            ("local:a/b", "letters"),
            ("local:..", "begins"),
            ("unix:relative", "absolute"),
            ("unix:/run/", "file name"),
            (long.as_str(), "at most 107"),
            ("abstract:", "1 to 107"),
            (r"pipe:a\b", "backslash"),
            ("tcp:127.0.0.1", "HOST:PORT"),
            ("tcp::80", "expected a host"),
            ("tcp:::1:80", "brackets"),
            ("tcp:127.0.0.1:x", "not a port"),
            ("tcp:[x]:80", "IPv6"),
            ("tcp:h:65536", "0 to 65535"),
            ("abstract:a\0b", "NUL"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
