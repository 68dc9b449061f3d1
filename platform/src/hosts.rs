//! Hosts to addresses and back, the same on every system.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Every address of a host, in the order in which they are tried. Asks the resolver, and so perhaps
/// the network, only when the host is a name other than `localhost`; for as long as that likes
/// (getaddrinfo(3)).
pub(crate) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Some(address) = numeric(host, port) {
        return Ok(vec![address]);
    }
    if is_localhost(host) {
        let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let not_found = |why: String| io::Error::new(io::ErrorKind::NotFound, why);
    let addresses: Vec<_> = match ((host, port).to_socket_addrs(), host.split_once('%')) {
        (Ok(addresses), _) => addresses.collect(),
        (Err(_), Some((_, zone))) => {
            return Err(not_found(format!("this machine has no network interface '{zone}'")));
        }
        (Err(error), None) => return Err(not_found(format!("the host '{host}' can't be found: {error}"))),
    };
    if addresses.is_empty() {
        return Err(not_found(format!("the host '{host}' has no address")));
    }
    Ok(addresses)
}

/// The address of a host that is written in numbers, in any of the ways that there are.
pub(crate) fn numeric(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        // An IPv4 address in IPv6 clothes is what it is; some systems bind it as nothing else.
        return Some(SocketAddr::new(ip.to_canonical(), port));
    }
    if host.contains('%') {
        // With the number of an interface; its name is the system's to find.
        return format!("[{host}]:{port}").parse().ok();
    }
    loose_v4(host).map(|ip| SocketAddr::new(ip.into(), port))
}

/// Whether a host is meant to be an IPv4 address: its last part is a number (URL Standard, "ends in
/// a number"), as that of no name is.
pub(crate) fn is_meant_as_v4(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or(host);
    let is_decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal || loose_number(last).is_some()
}

/// `127.1`, `0x7f.1`, `2130706433`: one to four numbers, decimal, octal or hexadecimal, the last of
/// which fills what is left (inet_aton(3)).
pub(crate) fn loose_v4(host: &str) -> Option<Ipv4Addr> {
    let parts = host.split('.').map(loose_number).collect::<Option<Vec<u64>>>()?;
    let (last, bytes) = parts.split_last().filter(|(_, bytes)| bytes.len() < 4)?;
    let room = 1u64 << (8 * (4 - bytes.len()));
    let fits = bytes.iter().all(|&byte| byte < 256) && *last < room;
    let high = (0u32..).zip(bytes).map(|(place, &byte)| byte << (24 - 8 * place)).sum::<u64>();
    let whole = u32::try_from(high | *last).ok().filter(|_| fits)?;
    Some(Ipv4Addr::from(whole))
}

fn loose_number(text: &str) -> Option<u64> {
    let (digits, radix) = match (text.strip_prefix("0x").or(text.strip_prefix("0X")), text.strip_prefix('0'))
    {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        (None, _) => (text, 10),
    };
    // from_str_radix takes a sign, too.
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    if is_number { u64::from_str_radix(digits, radix).ok() } else { None }
}

/// This machine by name (RFC 6761, section 6.3), in any case, with or without a last dot.
fn is_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost")
}

/// Whether only this machine can reach an address: 127.0.0.0/8 or ::1, also where an IPv4 address is
/// written in IPv6.
#[must_use]
pub(crate) fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Why an address is not bound unless it was asked for. Both spellings: this is shown to users of the tool, too.
pub(crate) fn not_loopback(address: &SocketAddr) -> io::Error {
    let text = format!(
        "{} is not a loopback address: other machines may reach it, and nothing is encrypted; say \
         `beyond_loopback` (in the tool `--beyond-loopback`) if that is meant",
        address.ip()
    );
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// The host of an endpoint with this address: numeric, with the number of its interface if it has one.
pub(crate) fn host(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        other => other.ip().to_string(),
    }
}

/// Whether an address means something only together with an interface.
pub(crate) fn needs_zone(ip: &Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || (ip.is_multicast() && matches!(ip.segments()[0] & 0xf, 1 | 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_spelling() {
        for (host, ip) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("127.0.1", Some("127.0.0.1")),
            ("0x7f.1", Some("127.0.0.1")),
            ("0X7F.0.0.1", Some("127.0.0.1")),
            ("0177.0.0.01", Some("127.0.0.1")),
            ("2130706433", Some("127.0.0.1")),
            ("0", Some("0.0.0.0")),
            ("127.65535", Some("127.0.255.255")),
            ("4294967295", Some("255.255.255.255")),
            ("4294967296", None),
            ("127.16777216", None),
            ("256.0.0.1", None),
            ("1.2.3.4.5", None),
            ("1.2.3.", None),
            ("0x", None),
            ("08", None),
            ("+1", None),
            ("99999999999999999999", None),
            ("a.1", None),
            ("", None),
        ] {
            assert_eq!(loose_v4(host), ip.map(|ip| ip.parse().unwrap()), "{host}");
        }
        let meant = ["999.1.1.1", "a.1", "1.2.3.08", "127.0.0.1.", "0xff"].map(|host| (host, true));
        for (host, is_meant) in
            meant.into_iter().chain(["1.a", "x", "f00", "0xg", "+1"].map(|host| (host, false)))
        {
            assert_eq!(is_meant_as_v4(host), is_meant, "{host}");
        }
    }

    #[test]
    fn every_way_to_write_loopback_is_loopback_and_needs_no_resolver() {
        for host in [
            "127.1",
            "0x7f.1",
            "localhost",
            "LOCALHOST",
            "localhost.",
            "app.localhost",
            "127.0.0.1",
            "127.0.0.2",
            "::1",
            "0:0::1",
            "::ffff:127.0.0.1",
            "::ffff:7f00:1",
        ] {
            let addresses = resolve(host, 80).unwrap();
            assert!(!addresses.is_empty() && addresses.iter().all(is_loopback), "{host}: {addresses:?}");
        }
        for host in ["0.0.0.0", "0", "::", "::ffff:0.0.0.0", "10.0.0.1", "fe80::1%1", "128.1"] {
            let addresses = resolve(host, 80).unwrap();
            assert!(!addresses.iter().any(is_loopback), "{host}: {addresses:?}");
        }
    }

    #[test]
    fn an_interface_is_kept() {
        let address = numeric("fe80::1%7", 80).unwrap();
        assert_eq!(host(&address), "fe80::1%7");
        assert_eq!(host(&"[::1]:80".parse().unwrap()), "::1");
        let error = resolve("fe80::1%no-such-if", 80).unwrap_err();
        assert!(error.to_string().contains("no network interface 'no-such-if'"), "{error}");
    }
}
