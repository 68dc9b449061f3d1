//! Endpoints in every spelling, opened for real.

use sidewire::{Access, Client, Connect, Endpoint, Layout, Listen};

use crate::util::{start, store, watchdog};

const ECHO: u16 = 4;

fn client(endpoint: &Endpoint) -> Client {
    let connect = Connect::to(endpoint).expect("an endpoint").access(Access::Anyone);
    connect.open().unwrap_or_else(|error| panic!("{error}"))
}

/// A port on the host that a client may spell otherwise.
fn with_host(bound: &Endpoint, host: &str) -> Endpoint {
    let Endpoint::Tcp { port, .. } = bound else { panic!("{bound} is not TCP") };
    format!("tcp:{host}:{port}").parse().expect("an endpoint")
}

#[test]
fn loopback_is_loopback_however_it_is_written() {
    let _watchdog = watchdog(60);
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "127.0.0.2",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::ffff:127.0.0.1]",
    ] {
        let listen = Listen::on(format!("tcp:{host}:0")).expect(host).access(Access::Anyone);
        let (running, bound) = start(store(), [listen]);
        let client = client(&with_host(&bound[0], host));
        assert_eq!(client.call(ECHO, host).expect("call").payload(), host.as_bytes());
        // The classic layout is only spoken on this machine.
        let classic =
            Connect::to(&bound[0]).expect(host).access(Access::Anyone).classic().open().expect(host);
        assert_eq!(classic.layout(), Layout::Classic);
        assert_eq!(classic.call(ECHO, host).expect("call").payload(), host.as_bytes());
        drop((client, classic));
        running.stop().expect("the server ends well");
    }
}

#[test]
fn what_is_not_loopback_is_refused_however_it_is_written() {
    let _watchdog = watchdog(60);
    for host in ["0.0.0.0", "0", "0x0.0", "[::]", "[::ffff:0.0.0.0]"] {
        for scheme in ["tcp", "udp"] {
            let listen = Listen::on(format!("{scheme}:{host}:0")).expect(host).access(Access::Anyone);
            let error = store().listen(listen).expect_err(host);
            assert!(error.is_refused() && error.to_string().contains("loopback"), "{error}");
        }
    }
}

#[test]
fn nobody_is_asked_about_port_0() {
    for endpoint in ["tcp:127.0.0.1:0", "udp:127.0.0.1:0"] {
        let error =
            Connect::to(endpoint).expect("an endpoint").access(Access::Anyone).open().expect_err(endpoint);
        assert!(error.is_invalid_input() && error.to_string().contains("port 0"), "{error}");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;
    use crate::util::{Raw, unique};

    /// `name` with NULs to the end of sun_path, as a program has it that hands the system the whole.
    fn padded(name: &str) -> SocketAddr {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(107, 0);
        SocketAddr::from_abstract_name(bytes).expect("a name")
    }

    /// PROTOCOL A3
    #[test]
    fn padded_names_meet_programs_that_pad() {
        let _watchdog = watchdog(60);
        let name = unique("padded");
        let endpoint: Endpoint = format!("abstract-padded:{name}").parse().expect("an endpoint");
        let (running, bound) = start(store(), [Listen::from(&endpoint)]);
        assert_eq!(bound, std::slice::from_ref(&endpoint));
        UnixStream::connect_addr(&padded(&name)).expect("a program that pads");
        let exact = Client::connect(format!("abstract:{name}")).expect_err("another name");
        assert!(exact.is_not_listening(), "{exact}");
        assert_eq!(
            Client::connect(&endpoint).expect("connect").call(ECHO, b"x").expect("call").payload(),
            b"x"
        );
        running.stop().expect("the server ends well");

        let server = UnixListener::bind_addr(&padded(&name)).expect("a server that pads");
        let client = std::thread::spawn(move || Raw::connect(&endpoint));
        server.accept().expect("accept");
        drop(client.join().expect("the client"));
    }

    /// PROTOCOL A1, A2
    #[test]
    fn names_need_not_be_text() {
        let _watchdog = watchdog(60);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(OsStr::from_bytes(b"\xff\n.sock"));
        let written = format!(r#"unix:"{}/\xff\x0a.sock""#, folder.path().display());
        let name = unique("abstract");
        for (endpoint, written) in [
            (Endpoint::Unix(path.clone()), written),
            (Endpoint::Abstract([name.as_bytes(), b"\xff"].concat()), format!(r#"abstract:"{name}\xff""#)),
        ] {
            let (running, bound) = start(store(), [Listen::from(endpoint)]);
            assert_eq!(bound[0].to_string(), written);
            assert_eq!(
                Client::connect(&written).expect("connect").call(ECHO, b"x").expect("call").payload(),
                b"x"
            );
            running.stop().expect("the server ends well");
        }
        assert!(!path.exists(), "it is removed");
    }

    /// Link-local addresses, where the machine has one.
    #[test]
    fn a_zone_reaches_the_system_and_comes_back() {
        let _watchdog = watchdog(60);
        let list = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let local = list.lines().find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let groups: Vec<&str> = (0..8).map(|at| &fields[0][4 * at..4 * at + 4]).collect();
            // Scope 0x20: the link. Flag 0x40: not ready yet.
            (fields[3] == "20" && fields[4] == "80").then(|| (groups.join(":"), fields[5].to_owned()))
        });
        let Some((ip, zone)) = local else { return println!("no link-local address here: skipped") };
        let listen = Listen::on(format!("tcp:[{ip}%{zone}]:0")).expect("an endpoint");
        let (running, bound) = start(store(), [listen.access(Access::Anyone).beyond_loopback()]);
        assert!(bound[0].numeric_address().is_some(), "{}", bound[0]);
        for endpoint in [bound[0].clone(), with_host(&bound[0], &format!("[{ip}%{zone}]"))] {
            assert_eq!(client(&endpoint).call(ECHO, b"x").expect("call").payload(), b"x");
        }
        running.stop().expect("the server ends well");
    }

    #[test]
    fn an_unknown_zone_is_named() {
        let error = Connect::to("tcp:[fe80::1%nope]:1").expect("an endpoint").access(Access::Anyone).open();
        let error = error.expect_err("no such interface");
        assert!(error.to_string().contains("no network interface 'nope'"), "{error}");
    }
}
