//! Endpoint names to system names and addresses.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use widestring::{U16CStr, U16CString};
use windows_sys::Win32::Foundation::ERROR_BAD_DEV_TYPE;

use super::identity;
use super::reasons::{invalid, unsupported};
use crate::{Endpoint, User, hosts};

/// Most characters of a pipe's whole name ("CreateNamedPipeW function",
/// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
const PIPE_NAME_MAX: usize = 256;
/// The folder of all pipes.
const PIPES: &str = r"\\.\pipe\";

/// The address of a stream endpoint on this system.
#[derive(Debug)]
pub(super) enum StreamAddress {
    Pipe(PipeName),
    Tcp(Vec<SocketAddr>),
}

/// The address of a datagram endpoint on this system.
#[derive(Debug)]
pub(super) enum DatagramAddress {
    Udp(Vec<SocketAddr>),
    Mailslot(MailslotName),
}

/// A pipe's full name, in both spellings that are needed.
#[derive(Clone, Debug)]
pub(super) struct PipeName {
    text: Arc<str>,
    wide: U16CString,
}

impl PipeName {
    /// `\\.\pipe\` and `name`, exactly, but for upper and lower case, which Windows takes for one.
    ///
    /// Some names with a backslash have a meaning: an app container may create `LOCAL\x` only ("Pipe
    /// Names", learn.microsoft.com/windows/win32/ipc/pipe-names), and only administrators may create
    /// `ProtectedPrefix\Administrators\x`.
    pub(super) fn new(name: &str) -> io::Result<PipeName> {
        let text = format!("{PIPES}{name}");
        let length = text.encode_utf16().count();
        if length > PIPE_NAME_MAX {
            return Err(invalid(format!(
                "the pipe name {text} has {length} characters, Windows allows {PIPE_NAME_MAX}"
            )));
        }
        let wide =
            U16CString::from_str(&text).map_err(|_| invalid("a pipe name can't hold a NUL character"))?;
        Ok(PipeName { text: text.into(), wide })
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(super) fn wide(&self) -> &U16CStr {
        &self.wide
    }
}

/// A mailslot's full name, in both spellings that are needed.
#[derive(Debug)]
pub(super) struct MailslotName {
    text: Arc<str>,
    wide: U16CString,
}

impl MailslotName {
    /// `\\.\mailslot\` and `name`, exactly.
    pub(super) fn new(name: &str) -> io::Result<MailslotName> {
        let text = format!(r"\\.\mailslot\{name}");
        let wide = U16CString::from_str(&text)
            .map_err(|_| invalid("a mailslot's name can't hold a NUL character"))?;
        Ok(MailslotName { text: text.into(), wide })
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub(super) fn wide(&self) -> &U16CStr {
        &self.wide
    }
}

/// Finds the address of a stream endpoint. Looks host names up, which may take as long as the
/// system's resolver takes.
pub(super) fn stream_address(endpoint: &Endpoint) -> io::Result<StreamAddress> {
    checked(endpoint)?;
    match endpoint {
        Endpoint::Unnamed(_) => Err(invalid(Endpoint::NO_NAME)),
        Endpoint::Local(name) => local_pipe(name).map(StreamAddress::Pipe),
        Endpoint::Pipe(name) => PipeName::new(name).map(StreamAddress::Pipe),
        Endpoint::Tcp { host, port } => hosts::resolve(host, *port).map(StreamAddress::Tcp),
        Endpoint::Unix(_) => Err(unsupported("unix: works on Unix systems; use local: or pipe: on Windows")),
        Endpoint::Abstract(_) => Err(unsupported("abstract: works on Linux; use local: or pipe: on Windows")),
        Endpoint::UnixGram(_) => Err(unsupported(
            "unixgram: works on Unix systems and carries datagrams; use local: or pipe: on Windows",
        )),
        Endpoint::AbstractGram(_) => Err(unsupported(
            "abstractgram: works on Linux and carries datagrams; use local: or pipe: on Windows",
        )),
        Endpoint::Udp { .. } => {
            Err(invalid("udp: carries datagrams, a stream is needed here; use tcp: or local:"))
        }
        Endpoint::Mailslot(_) => {
            Err(invalid("mailslot: carries datagrams one way, a stream is needed here; use local: or pipe:"))
        }
    }
}

/// As [`stream_address`], for datagrams.
pub(super) fn datagram_address(endpoint: &Endpoint) -> io::Result<DatagramAddress> {
    checked(endpoint)?;
    match endpoint {
        Endpoint::Unnamed(_) => Err(invalid(Endpoint::NO_NAME)),
        Endpoint::Udp { host, port } => hosts::resolve(host, *port).map(DatagramAddress::Udp),
        Endpoint::Mailslot(name) => MailslotName::new(name).map(DatagramAddress::Mailslot),
        Endpoint::UnixGram(_) => {
            Err(unsupported("unixgram: works on Unix systems; use udp: or mailslot: on Windows"))
        }
        Endpoint::AbstractGram(_) => {
            Err(unsupported("abstractgram: works on Linux; use udp: or mailslot: on Windows"))
        }
        Endpoint::Local(_)
        | Endpoint::Unix(_)
        | Endpoint::Abstract(_)
        | Endpoint::Pipe(_)
        | Endpoint::Tcp { .. } => Err(invalid(format!(
            "{}: carries a stream, datagrams are needed here; use udp: or mailslot:",
            endpoint.scheme()
        ))),
    }
}

/// The rules of the text form, by the one who knows them: a program can make endpoints without it.
fn checked(endpoint: &Endpoint) -> io::Result<()> {
    if let Endpoint::Unnamed(_) = endpoint {
        return Err(invalid(Endpoint::NO_NAME));
    }
    endpoint.to_string().parse::<Endpoint>().map(drop).map_err(|error| invalid(error.to_string()))
}

/// The user's SID in the name keeps users apart; what keeps them out is the pipe's descriptor.
fn local_pipe(name: &str) -> io::Result<PipeName> {
    match identity::current_user()? {
        User::Sid(sid) => PipeName::new(&format!("sidewire-{sid}-{name}")),
        User::Uid(_) => Err(unsupported("this system names its users by number")),
    }
}

/// The `local:` endpoints of this user that there seem to be; also some that nobody serves any more.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::Unsupported`] under Wine 8.
///
/// # Platform-specific behavior
///
/// Unix: what lies in the folders of `local:` and is called `NAME.sock`, whoever has put it there. Windows: the pipes
/// with the user's SID in the name. Those of the instances of apps ([`InstanceLock`](crate::InstanceLock)) are left out.
pub fn local_endpoints() -> io::Result<Vec<Endpoint>> {
    let own = local_pipe("")?;
    let Some(prefix) = own.text().strip_prefix(PIPES) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(PIPES).map_err(unlisted)? {
        // Some names are none that a file could have.
        let Ok(name) = entry.map(|entry| entry.file_name()) else { continue };
        found.extend(name.to_str().and_then(|name| endpoint_of(name, prefix)));
    }
    found.sort_by_key(Endpoint::to_string);
    found.dedup();
    Ok(found)
}

/// Wine 8 does not tell which pipes there are.
fn unlisted(error: io::Error) -> io::Error {
    match error.raw_os_error().map(i32::cast_unsigned) {
        Some(ERROR_BAD_DEV_TYPE) => unsupported("this system does not tell which pipes there are"),
        _ => error,
    }
}

fn endpoint_of(pipe: &str, prefix: &str) -> Option<Endpoint> {
    let (start, name) = pipe.split_at_checked(prefix.len())?;
    let is_session = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_instance = name.rsplit_once(".instance-").is_some_and(|(_, number)| is_session(number));
    let is_ours = start.eq_ignore_ascii_case(prefix) && !is_instance;
    is_ours.then(|| format!("local:{name}").parse().ok()).flatten()
}

/// Bytes as a text of the system, which has to be Unicode.
pub(crate) fn os_string(bytes: &[u8]) -> Option<OsString> {
    std::str::from_utf8(bytes).ok().map(OsString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(text: &str) -> io::Result<String> {
        match stream_address(&text.parse().unwrap())? {
            StreamAddress::Pipe(name) => Ok(name.text().to_string()),
            StreamAddress::Tcp(addresses) => Ok(format!("{addresses:?}")),
        }
    }

    /// PROTOCOL A5, A6
    #[test]
    fn names_are_exact() {
        let user = identity::current_user().unwrap();
        assert_eq!(pipe("pipe:a b").unwrap(), r"\\.\pipe\a b");
        assert_eq!(pipe(r"pipe:LOCAL\x").unwrap(), r"\\.\pipe\LOCAL\x");
        assert_eq!(pipe("local:app").unwrap(), format!(r"\\.\pipe\sidewire-{user}-app"));
        assert_eq!(pipe("tcp:127.0.0.1:80").unwrap(), "[127.0.0.1:80]");
    }

    #[test]
    fn whoever_serves_at_a_local_name_is_found() {
        let own = Endpoint::Local(format!("Found-{}", std::process::id()));
        let _listener = crate::Listener::bind(&own, &crate::BindOptions::default()).unwrap();
        match local_endpoints() {
            Ok(found) => assert_eq!(found.iter().filter(|found| **found == own).count(), 1),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
                println!("skipped: whoever_serves_at_a_local_name_is_found: {error}");
            }
        }
    }

    #[test]
    fn names_of_servers_are_told_from_others() {
        let found = |pipe| endpoint_of(pipe, "sidewire-S-1-").map(|endpoint| endpoint.to_string());
        assert_eq!(found("sidewire-S-1-app").as_deref(), Some("local:app"));
        assert_eq!(found("Sidewire-s-1-a.instance-x").as_deref(), Some("local:a.instance-x"));
        for other in [
            "sidewire-S-2-app",
            "sidewire",
            "sidewire-S-1-",
            "sidewire-S-1-a.instance-12",
            "sidewire-S-1-a b",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn names_that_no_parser_saw_are_checked() {
        for name in ["../x", "..", r"a\..\b", r"\x", "x.", "a\0b", ""] {
            let error = stream_address(&Endpoint::Pipe(name.into())).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
    }

    #[test]
    fn what_is_refused_says_what_to_use() {
        for (text, kind, word) in [
            ("unix:/run/x", io::ErrorKind::Unsupported, "use local:"),
            ("abstract:x", io::ErrorKind::Unsupported, "use local:"),
            ("unixgram:/run/x", io::ErrorKind::Unsupported, "datagrams"),
            ("abstractgram:x", io::ErrorKind::Unsupported, "datagrams"),
            ("udp:127.0.0.1:1", io::ErrorKind::InvalidInput, "use tcp:"),
            ("mailslot:x", io::ErrorKind::InvalidInput, "one way"),
        ] {
            let error = pipe(text).unwrap_err();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn names_that_have_a_meaning_and_long_ones() {
        for name in [r"LOCAL\x", r"ProtectedPrefix\Administrators\x", r"a.b\ c", ".x", "x..y"] {
            assert_eq!(pipe(&format!("pipe:{name}")).unwrap(), format!(r"\\.\pipe\{name}"));
        }
        let room = PIPE_NAME_MAX - r"\\.\pipe\".len();
        assert!(PipeName::new(&"x".repeat(room)).is_ok());
        // Counted as Windows counts: two for each of these.
        for name in ["x".repeat(room + 1), "😀".repeat(room / 2 + 1)] {
            let error = PipeName::new(&name).unwrap_err().to_string();
            assert!(error.contains("Windows allows 256"), "{error}");
        }
        // They would be names of other pipes.
        for endpoint in ["x.", "x ", r"a.\x", "..", "a/b"].map(|name| Endpoint::Pipe(name.into())) {
            assert_eq!(
                stream_address(&endpoint).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{endpoint}"
            );
        }
        assert_eq!(
            stream_address(&Endpoint::Local("x.".into())).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn datagrams_that_are_refused_say_what_to_use() {
        for (text, kind, word) in [
            ("unixgram:/run/x", io::ErrorKind::Unsupported, "use udp:"),
            ("abstractgram:x", io::ErrorKind::Unsupported, "use udp:"),
            ("local:x", io::ErrorKind::InvalidInput, "stream"),
            ("pipe:x", io::ErrorKind::InvalidInput, "stream"),
            ("tcp:127.0.0.1:1", io::ErrorKind::InvalidInput, "stream"),
        ] {
            let error = datagram_address(&text.parse().unwrap()).err().unwrap();
            assert_eq!(error.kind(), kind, "{text}: {error}");
            assert!(error.to_string().contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn mailslots_names_are_exact_and_checked() {
        let name = MailslotName::new("a b.c").unwrap();
        assert_eq!(&**name.text(), r"\\.\mailslot\a b.c");
        let long = "x".repeat(250);
        for name in ["", "a\0b", r"a\..\b", "a/b", "..", ".", "x.", "x ", &long] {
            let error = datagram_address(&Endpoint::Mailslot(name.into())).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        let nowhere = Endpoint::Udp { host: String::new(), port: 1 };
        assert_eq!(datagram_address(&nowhere).err().unwrap().kind(), io::ErrorKind::InvalidInput);
    }
}
