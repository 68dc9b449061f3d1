//! What to write in place of what was written: texts as other tools have them.

use std::net::Ipv6Addr;

use super::text::{Fault, behind_device, local_name, parse};
use super::{Endpoint, shown};

const SCHEMES: &str = "local, unix, abstract, pipe, tcp, unixgram, abstractgram, udp, mailslot";

/// What to say of a text that is no endpoint.
pub(super) fn explain(text: &[u8], fault: Fault<'_>) -> String {
    match fault {
        Fault::Said(why) => why,
        Fault::NoScheme => without_scheme(text),
        Fault::UnknownScheme { scheme, rest } => unknown_scheme(text, scheme, rest),
        Fault::Url { scheme, rest } => url(scheme, rest),
        Fault::NoAbsolutePath { scheme, path } => no_absolute_path(scheme, &path),
        Fault::NoBrackets { scheme, host, port, rest } => without_brackets(scheme, host, port, rest),
    }
}

/// Of a text without a colon.
fn without_scheme(text: &[u8]) -> String {
    let expected = "expected SCHEME:REST, for example local:com.example.app or tcp:127.0.0.1:4711";
    if let Some(name) = behind_device(text) {
        return format!("{expected}; write pipe:{}", shown(&name));
    }
    if let Some(endpoint) = path_or_abstract(text) {
        return format!("{expected}; write {endpoint}");
    }
    match std::str::from_utf8(text).map(local_name) {
        Ok(Ok(name)) => format!("{expected}; perhaps local:{name} is meant"),
        _ => expected.into(),
    }
}

/// Of a text whose scheme there is not.
fn unknown_scheme(text: &[u8], scheme: &[u8], rest: &[u8]) -> String {
    let lossy = String::from_utf8_lossy(text);
    let name = String::from_utf8_lossy(scheme);
    let small = name.trim().to_ascii_lowercase();
    let corrected = [small.as_bytes(), b":", rest.trim_ascii()].concat();
    if small != name
        && let Ok(endpoint) = parse(&corrected)
    {
        let why =
            if name.trim() == name { "schemes have small letters" } else { "there is white space before it" };
        return format!("{why}; write {endpoint}");
    }
    if let Some(endpoint) = path_or_abstract(text) {
        return format!("expected SCHEME:REST; write {endpoint}");
    }
    if matches!(&*small, "exec" | "ssh") {
        return format!(
            "{small}: starts a program, which only clients do that are asked to (Connect::to_command)"
        );
    }
    for host_port in [lossy.as_ref(), &format!("127.0.0.1{lossy}")] {
        if let Ok(endpoint) = parse(format!("tcp:{host_port}").as_bytes()) {
            return format!("expected SCHEME:REST; write {endpoint}");
        }
    }
    let unknown = format!("unknown scheme '{}'", shown(&name));
    let meant = match &*small {
        "http" | "https" | "ws" | "wss" | "tcp4" | "tcp6" | "tls" | "ssl" => "tcp",
        "udp4" | "udp6" => "udp",
        "file" | "ipc" | "http+unix" | "unix-connect" | "unix-listen" => "unix",
        "npipe" | "np" | "ncacn_np" => "pipe",
        _ => return format!("{unknown}; there are {SCHEMES}"),
    };
    format!("{unknown}; {}", write(meant, rest))
}

/// Of what stands in a URL behind one of our schemes and a colon: `//` and more.
fn url(scheme: &str, rest: &[u8]) -> String {
    let hint = write(scheme, rest);
    match scheme {
        "unix" | "unixgram" | "abstract" | "abstractgram" | "abstract-padded" | "abstractgram-padded" => {
            let quoted = String::from_utf8_lossy(rest);
            format!(
                "endpoints are no URLs: {hint}; where the slashes are meant, in quotes: {scheme}:\"{}\"",
                shown(&quoted)
            )
        }
        _ => format!("endpoints are no URLs: {hint}"),
    }
}

/// "write …": the endpoint that a URL's rest stands for, or how such a one is written.
fn write(scheme: &str, rest: &[u8]) -> String {
    let bare = rest.trim_ascii();
    let slashes = bare.iter().take_while(|&&byte| byte == b'/').count();
    let bare = &bare[slashes..];
    let (candidate, form) = match scheme {
        "unix" | "unixgram" => ([b"/", bare].concat(), "/path"),
        "tcp" | "udp" => {
            let end = bare.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(bare.len());
            (bare[..end].to_vec(), "HOST:PORT")
        }
        "pipe" | "mailslot" => {
            (behind_device(rest).map_or_else(|| bare.to_vec(), String::into_bytes), "NAME")
        }
        _ => {
            let end = bare.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
            (bare[..end].to_vec(), "NAME")
        }
    };
    let whole = [scheme.as_bytes(), b":", &candidate].concat();
    match parse(&whole) {
        Ok(endpoint) => format!("write {endpoint}"),
        Err(_) => format!("write {scheme}:{form}"),
    }
}

/// Of a path that is not absolute.
fn no_absolute_path(scheme: &str, path: &[u8]) -> String {
    if let [b'@', name @ ..] = path
        && let Ok(endpoint) =
            parse(&[if scheme == "unix" { &b"abstract:"[..] } else { b"abstractgram:" }, name].concat())
    {
        return format!("a name without a file is written {endpoint}");
    }
    let tilde = if path.starts_with(b"~") { "; '~' is not replaced here" } else { "" };
    format!("a Unix socket needs an absolute path, as in {scheme}:/run/app.sock{tilde}")
}

/// Of a host with colons and without brackets, and perhaps without a port.
fn without_brackets(scheme: &str, host: &str, port: u16, rest: &str) -> String {
    match parse(format!("{scheme}:[{host}]:{port}").as_bytes()) {
        Ok(endpoint) => format!("an IPv6 address needs brackets; write {endpoint}"),
        Err(_) if rest.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address needs brackets and a port, as in {scheme}:[{rest}]:4711")
        }
        Err(_) => format!("an IPv6 address needs brackets, as in {scheme}:[::1]:4711"),
    }
}

/// `/path` or `@name`, as other tools take them.
fn path_or_abstract(text: &[u8]) -> Option<Endpoint> {
    let scheme = match text {
        [b'/', ..] => &b"unix:"[..],
        [b'@', _, ..] => return parse(&[b"abstract:", &text[1..]].concat()).ok(),
        _ => return None,
    };
    parse(&[scheme, text].concat()).ok()
}
