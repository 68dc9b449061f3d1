//! From a text to an endpoint.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use super::{Endpoint, quoted, shown};
use crate::hosts;

/// Most bytes of a Unix socket's path or abstract name: `sun_path` holds 108 with one NUL (unix(7)).
const UNIX_NAME_MAX: usize = 107;
/// Most bytes of a `local:` name; small enough for every system's folders and prefixes.
const LOCAL_NAME_MAX: usize = 64;
/// Most characters of a pipe's or mailslot's whole name, `\\.\pipe\` included (CreateNamedPipeW).
const WINDOWS_NAME_MAX: usize = 256;
/// Most bytes of a host's name (RFC 1035, section 2.3.4).
const HOST_MAX: usize = 255;
/// Most characters of an interface's name: `IFNAMSIZ` is 16 with one NUL; Windows has numbers.
const ZONE_MAX: usize = 15;

/// Why a text is no endpoint.
pub(super) enum Fault<'a> {
    /// All that is to be said.
    Said(String),
    // What comes from another tool, and has an answer in `hints.rs`.
    NoScheme,
    UnknownScheme {
        scheme: &'a [u8],
        rest: &'a [u8],
    },
    /// What stands behind one of our schemes and a colon begins with `//`.
    Url {
        scheme: &'static str,
        rest: &'a [u8],
    },
    NoAbsolutePath {
        scheme: &'static str,
        path: Vec<u8>,
    },
    /// A host with colons; `rest` has it with what may be a port.
    NoBrackets {
        scheme: &'static str,
        host: &'a str,
        port: u16,
        rest: &'a str,
    },
}

impl From<String> for Fault<'_> {
    fn from(why: String) -> Self {
        Fault::Said(why)
    }
}

impl From<&str> for Fault<'_> {
    fn from(why: &str) -> Self {
        Fault::Said(why.to_owned())
    }
}

pub(super) fn parse(text: &[u8]) -> Result<Endpoint, Fault<'_>> {
    let Some(colon) = text.iter().position(|&byte| byte == b':') else {
        return Err(Fault::NoScheme);
    };
    let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
    match scheme {
        b"unix" => unix_path("unix", rest).map(Endpoint::Unix),
        b"unixgram" => unix_path("unixgram", rest).map(Endpoint::UnixGram),
        b"abstract" => abstract_name("abstract", rest).map(Endpoint::Abstract),
        b"abstractgram" => abstract_name("abstractgram", rest).map(Endpoint::AbstractGram),
        b"abstract-padded" => padded_name("abstract-padded", rest).map(Endpoint::Abstract),
        b"abstractgram-padded" => padded_name("abstractgram-padded", rest).map(Endpoint::AbstractGram),
        b"local" => Ok(Endpoint::Local(local_name(characters("local", rest)?)?)),
        b"pipe" => windows_name("pipe", rest).map(Endpoint::Pipe),
        b"mailslot" => windows_name("mailslot", rest).map(Endpoint::Mailslot),
        b"tcp" => host_port("tcp", rest).map(|(host, port)| Endpoint::Tcp { host, port }),
        b"udp" => host_port("udp", rest).map(|(host, port)| Endpoint::Udp { host, port }),
        _ => Err(Fault::UnknownScheme { scheme, rest }),
    }
}

/// The bytes of a Unix socket's name, which may stand in quotes. Without them a name has none of
/// what is as good as always a mistake.
fn bytes<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<Vec<u8>, Fault<'a>> {
    if rest.starts_with(b"\"") {
        return Ok(quoted::unquote(rest)?);
    }
    if rest.starts_with(b"//") {
        return Err(Fault::Url { scheme, rest });
    }
    if let Some(what) = odd(rest) {
        return Err(format!("it {what}; if that is meant, write {scheme}:{}", quoted::Name(rest)).into());
    }
    Ok(rest.to_vec())
}

/// The characters of a name that is a text.
fn characters<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<&'a str, Fault<'a>> {
    let text = std::str::from_utf8(rest)
        .map_err(|_| "it is not UTF-8, which only names of Unix sockets need not be".to_owned())?;
    if rest.starts_with(b"//") {
        return Err(Fault::Url { scheme, rest });
    }
    match odd(rest) {
        Some(what) => Err(format!("it {what}").into()),
        None => Ok(text),
    }
}

/// What no name should have by accident.
fn odd(name: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(name);
    if name.contains(&0) {
        return Some("has a NUL character in it");
    }
    if text.contains(char::is_control) {
        return Some("has a control character in it, perhaps the end of a line");
    }
    (text.trim() != text).then_some("begins or ends with white space")
}

fn unix_path<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<PathBuf, Fault<'a>> {
    let bytes = bytes(scheme, rest)?;
    let path = crate::os::os_string(&bytes).ok_or("a path that is not Unicode; this system has none")?;
    if !Path::new(&path).has_root() {
        return Err(Fault::NoAbsolutePath { scheme, path: bytes });
    }
    if bytes.len() > UNIX_NAME_MAX {
        return Err(format!(
            "a Unix socket's path has at most {UNIX_NAME_MAX} bytes, this one has {}",
            bytes.len()
        )
        .into());
    }
    if bytes.contains(&0) {
        return Err("a path can't hold a NUL byte".into());
    }
    if bytes.ends_with(b"/") {
        return Err("this names a folder; a Unix socket needs a file name".into());
    }
    Ok(path.into())
}

fn abstract_name<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<Vec<u8>, Fault<'a>> {
    let name = bytes(scheme, rest)?;
    if name.is_empty() || name.len() > UNIX_NAME_MAX {
        return Err(
            format!("an abstract name has 1 to {UNIX_NAME_MAX} bytes, this one has {}", name.len()).into()
        );
    }
    Ok(name)
}

/// As programs make them that hand the system all of `sun_path`.
fn padded_name<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<Vec<u8>, Fault<'a>> {
    let mut name = bytes(scheme, rest)?;
    if name.is_empty() || name.len() >= UNIX_NAME_MAX || name.ends_with(&[0]) {
        return Err(format!(
            "a name to be padded has 1 to {} bytes, the last not NUL; this one has {}",
            UNIX_NAME_MAX - 1,
            name.len()
        )
        .into());
    }
    name.resize(UNIX_NAME_MAX, 0);
    Ok(name)
}

/// What stands before the padding, if it is an abstract name that has one.
pub(super) fn without_padding(name: &[u8]) -> Option<&[u8]> {
    let length = name.iter().rposition(|&byte| byte != 0)? + 1;
    (name.len() == UNIX_NAME_MAX && length < UNIX_NAME_MAX).then_some(&name[..length])
}

/// One rule on every system, so that a name that works here works there.
pub(super) fn local_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > LOCAL_NAME_MAX {
        return Err(format!(
            "a local name has 1 to {LOCAL_NAME_MAX} characters, this one has {}",
            name.chars().count()
        ));
    }
    // Windows drops a dot at the end: such a name would be that of another pipe.
    if !name.chars().all(plain) || name.starts_with(['.', '-']) || name.ends_with('.') {
        return Err(
            "a local name has letters, digits, '.', '_' and '-', begins with none of '.' and '-', and does \
             not end with '.'"
                .into(),
        );
    }
    Ok(name.to_owned())
}

/// Parts of a pipe's or a mailslot's name stand behind backslashes. Windows takes a slash for one,
/// follows dots, and cuts dots and spaces off the end ("Naming Files, Paths, and Namespaces",
/// learn.microsoft.com/windows/win32/fileio/naming-a-file).
fn windows_name<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<String, Fault<'a>> {
    if let Some(name) = behind_device(rest) {
        return Err(format!(r"\\.\{scheme}\ goes without saying; write {scheme}:{}", shown(&name)).into());
    }
    let name = characters(scheme, rest)?;
    let most = WINDOWS_NAME_MAX - format!(r"\\.\{scheme}\").len();
    let length = name.encode_utf16().count();
    if name.is_empty() || length > most {
        return Err(format!("the name has 1 to {most} characters, this one has {length}").into());
    }
    if let Some(bad) = name.chars().find(|&c| !quoted::is_visible(c)) {
        let bad = shown(bad.encode_utf8(&mut [0; 4]));
        return Err(format!("the name can't hold '{bad}', which nobody can see").into());
    }
    if name.contains('/') {
        return Err(
            r"the name can't hold a slash; the parts of one stand behind backslashes, as in LOCAL\x".into()
        );
    }
    if name.split('\\').any(|part| part.is_empty() || part.ends_with(['.', ' '])) {
        return Err(
            "a part of the name is empty, or ends with a dot or a space: Windows would read another".into()
        );
    }
    Ok(name.to_owned())
}

/// The name of a pipe or mailslot that was written in full, with slashes or backslashes.
pub(super) fn behind_device(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text);
    let slashed = text.replace('\\', "/").to_ascii_lowercase();
    let device = ["/pipe/", "/mailslot/"].into_iter().find_map(|device| {
        let before = slashed.find(device)?;
        matches!(&slashed[..before], "//." | "//?" | "////." | "////?").then_some(before + device.len())
    })?;
    let name = text[device..].replace('/', "\\");
    (!name.is_empty()).then_some(name)
}

fn host_port<'a>(scheme: &'static str, rest: &'a [u8]) -> Result<(String, u16), Fault<'a>> {
    let rest = characters(scheme, rest)?;
    let example = format!("as in {scheme}:127.0.0.1:4711");
    let Some((host, port)) = rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) else {
        return Err(match rest.parse::<u16>() {
            Ok(port) => format!("expected HOST:PORT; write {scheme}:127.0.0.1:{port}"),
            Err(_) => format!("expected HOST:PORT, {example}"),
        }
        .into());
    };
    // Parsing takes a sign, too.
    let number = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
    let number = number.ok_or_else(|| format!("'{}' is not a port (0 to 65535)", shown(port)))?;
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    match (bare, host) {
        (_, "") | (Some(""), _) => Err(format!("expected a host before the port, {example}").into()),
        (None, "*") => Err(format!("write {scheme}:0.0.0.0:{number}, or {scheme}:[::]:{number}").into()),
        (None, host) if host.contains(':') => Err(Fault::NoBrackets { scheme, host, port: number, rest }),
        (None, host) => Ok(name_or_v4(host).map(|()| (host.to_owned(), number))?),
        (Some(bare), _) => Ok(v6(scheme, bare, number).map(|()| (bare.to_owned(), number))?),
    }
}

fn name_or_v4(host: &str) -> Result<(), String> {
    let fits = |c: char| c.is_alphanumeric() && quoted::is_visible(c) || matches!(c, '.' | '-' | '_');
    if let Some(bad) = host.chars().find(|&c| !fits(c)) {
        return Err(format!("a host can't hold '{}'", shown(bad.encode_utf8(&mut [0; 4]))));
    }
    if host.len() > HOST_MAX {
        return Err(format!("a host has at most {HOST_MAX} bytes, this one has {}", host.len()));
    }
    if hosts::is_meant_as_v4(host) && hosts::loose_v4(host).is_none() {
        return Err(format!("'{host}' is not an IPv4 address"));
    }
    // The last one is, where a dot says that the name is whole.
    if host.split('.').rev().skip(1).any(str::is_empty) {
        return Err(format!("a part of the host '{host}' is empty"));
    }
    Ok(())
}

/// An IPv6 address, with the zone that some need (RFC 4007, section 11).
fn v6(scheme: &str, bare: &str, port: u16) -> Result<(), String> {
    let (address, zone) = bare.split_once('%').map_or((bare, None), |(address, zone)| (address, Some(zone)));
    let ip: Ipv6Addr = address.parse().map_err(|_| format!("'{}' is not an IPv6 address", shown(address)))?;
    let is_zone = |zone: &str| {
        (1..=ZONE_MAX).contains(&zone.len())
            && zone.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%' | b'[' | b']'))
    };
    match zone {
        None if hosts::needs_zone(&ip) => Err(format!(
            "this address means something only together with a network interface, as in {scheme}:[{ip}%eth0]:{port}"
        )),
        Some(_) if !hosts::needs_zone(&ip) => {
            Err(format!("only link-local addresses have a zone; write {scheme}:[{ip}]:{port}"))
        }
        Some(zone) if !is_zone(zone) => Err(format!("'{}' can't name a network interface", shown(zone))),
        _ => Ok(()),
    }
}
