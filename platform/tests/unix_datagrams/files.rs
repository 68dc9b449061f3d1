//! Names: files and their rights, stale ones, live ones, and what is refused.

use std::fs;
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::thread;

use sidewire_platform::{BindOptions, Channel, DatagramChannel, Datagrams, Endpoint};

use crate::unix_util::*;
use crate::*;

#[test]
fn a_socket_is_private_unless_it_is_for_anyone() {
    watched(|| {
        let place = Place::new();
        let server = serve(&gram(&place));
        assert_eq!((mode(&place.path()), place.files()), (0o600, vec!["s".to_owned()]));
        drop(server);
        assert_eq!(place.files(), [""; 0]);
        let mut options = BindOptions::default();
        options.anyone = true;
        let _server = Datagrams::bind(&gram(&place), &options).unwrap();
        assert_eq!(mode(&place.path()), 0o666);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn there_is_no_moment_with_another_mode() {
    watched(|| {
        let place = Place::new();
        thread::scope(|scope| {
            let binding = scope.spawn(|| (0..1000).for_each(|_| drop(serve(&gram(&place)))));
            while !binding.is_finished() {
                if let Ok(found) = rustix::fs::lstat(place.path()) {
                    assert_eq!(found.st_mode & 0o777, 0o600);
                }
            }
        });
    });
}

#[test]
fn the_dead_are_replaced_and_the_living_are_not() {
    watched(|| {
        let place = Place::new();
        drop(UnixDatagram::bind(place.path()).unwrap());
        assert_eq!(kind(DatagramChannel::connect(&gram(&place))), io::ErrorKind::ConnectionRefused);
        let mut server = serve(&gram(&place));
        let error = Datagrams::bind(&gram(&place), &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("already"), "{error}");
        assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock, "the probe left nothing");
        dial(&server).send(b"x", SOON).unwrap();
        assert_eq!(receive(&mut server, &mut [0; 8]).length, 1);
        let error = Channel::connect(&place.endpoint(), SOON).unwrap_err();
        assert!(error.to_string().contains("not a stream socket"), "{error}");
    });
}

#[test]
fn what_is_in_use_or_no_socket_is_left_alone() {
    watched(|| {
        let place = Place::new();
        let stream = UnixListener::bind(place.path()).unwrap();
        let error = Datagrams::bind(&gram(&place), &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another kind"), "{error}");
        let error = DatagramChannel::connect(&gram(&place)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("not a datagram socket"), "{error}");
        drop(stream);
        drop(serve(&gram(&place)));

        // One that has chosen a peer refuses the probe, but lives.
        let taken = UnixDatagram::bind(place.path()).unwrap();
        let peer = place.path().with_extension("peer");
        let _peer = UnixDatagram::bind(&peer).unwrap();
        taken.connect(&peer).unwrap();
        let error = Datagrams::bind(&gram(&place), &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(kind(DatagramChannel::connect(&gram(&place))), io::ErrorKind::PermissionDenied);

        let place = Place::new();
        fs::write(place.path(), "precious").unwrap();
        let error = Datagrams::bind(&gram(&place), &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");
    });
}

#[test]
fn a_server_removes_only_its_own_socket() {
    watched(|| {
        let place = Place::new();
        let server = serve(&gram(&place));
        fs::remove_file(place.path()).unwrap();
        let _other = UnixDatagram::bind(place.path()).unwrap();
        drop(server);
        assert_eq!(place.files(), ["s"]);
        DatagramChannel::connect(&gram(&place)).unwrap();
    });
}

#[test]
fn of_many_threads_exactly_one_wins() {
    watched(|| {
        for _ in 0..30 {
            let place = Place::new();
            drop(UnixDatagram::bind(place.path()).unwrap());
            let start = || Datagrams::bind(&gram(&place), &BindOptions::default());
            let mut winners: Vec<_> = thread::scope(|scope| {
                let starters: Vec<_> = (0..6).map(|_| scope.spawn(start)).collect();
                starters.into_iter().filter_map(|starter| starter.join().unwrap().ok()).collect()
            });
            assert_eq!(winners.len(), 1);
            DatagramChannel::connect(&gram(&place)).unwrap().send(b"x", SOON).unwrap();
            receive(&mut winners[0], &mut [0; 8]);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_names_are_exact_bytes() {
    watched(|| {
        use std::os::linux::net::SocketAddrExt;
        let endpoint = abstractgram();
        let Endpoint::AbstractGram(name) = &endpoint else { unreachable!() };
        let mut server = serve(&endpoint);
        let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
        UnixDatagram::unbound().unwrap().send_to_addr(b"x", &address).unwrap();
        assert_eq!(receive(&mut server, &mut [0; 8]).length, 1);
        let error = kind(Datagrams::bind(&endpoint, &BindOptions::default()));
        assert_eq!(error, io::ErrorKind::AddrInUse);
        drop(server);
        assert_eq!(kind(DatagramChannel::connect(&endpoint)), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn udp_stays_on_this_machine_unless_told_otherwise() {
    watched(|| {
        let everywhere: Endpoint = "udp:0.0.0.0:0".parse().unwrap();
        let error = Datagrams::bind(&everywhere, &BindOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("beyond_loopback"), "{error}");
        let mut options = BindOptions::default();
        options.beyond_loopback = true;
        Datagrams::bind(&everywhere, &options).unwrap();

        let server = serve(&udp());
        let Endpoint::Udp { port, .. } = *server.endpoint() else { panic!("{:?}", server.endpoint()) };
        assert_ne!(port, 0);
        let error = kind(Datagrams::bind(server.endpoint(), &BindOptions::default()));
        assert_eq!(error, io::ErrorKind::AddrInUse);
        // Whoever resolves to several addresses: the first that works.
        let named = Endpoint::Udp { host: "localhost".into(), port: 0 };
        DatagramChannel::connect(serve(&named).endpoint()).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", ("127.0.0.1", port)).unwrap();
    });
}

#[test]
fn endpoints_of_another_sort_are_refused() {
    watched(|| {
        for (text, expected) in [
            ("mailslot:x", io::ErrorKind::Unsupported),
            ("unix:/x", io::ErrorKind::InvalidInput),
            ("tcp:127.0.0.1:0", io::ErrorKind::InvalidInput),
        ] {
            let endpoint = text.parse().unwrap();
            assert_eq!(kind(Datagrams::bind(&endpoint, &BindOptions::default())), expected, "{text}");
            assert_eq!(kind(DatagramChannel::connect(&endpoint)), expected, "{text}");
        }
        let long = Endpoint::UnixGram(format!("/{}", "x".repeat(107)).into());
        assert_eq!(kind(Datagrams::bind(&long, &BindOptions::default())), io::ErrorKind::InvalidInput);
        assert_eq!(kind(DatagramChannel::connect(&long)), io::ErrorKind::InvalidInput);
    });
}
