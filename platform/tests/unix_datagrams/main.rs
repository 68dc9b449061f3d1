//! Datagrams over every transport of Unix: messages, sizes, full queues, ends. Their files are in
//! `files`, who sent and who serves in `senders`.
#![cfg(unix)]

mod files;
mod senders;
#[path = "../unix_util/mod.rs"]
mod unix_util;

use std::io;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use sidewire_platform::{
    Address, BindOptions, DatagramChannel, Datagrams, Endpoint, Received, User, current_user,
    datagram_schemes,
};
use unix_util::*;

const ZERO: Option<Duration> = Some(Duration::ZERO);

const HAS_ABSTRACT: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn gram(place: &Place) -> Endpoint {
    Endpoint::UnixGram(place.path())
}

fn udp() -> Endpoint {
    "udp:127.0.0.1:0".parse().unwrap()
}

fn abstractgram() -> Endpoint {
    let Endpoint::Abstract(name) = abstract_endpoint() else { unreachable!() };
    Endpoint::AbstractGram(name)
}

fn serve(endpoint: &Endpoint) -> Datagrams {
    Datagrams::bind(endpoint, &BindOptions::default()).unwrap()
}

fn dial(server: &Datagrams) -> DatagramChannel {
    DatagramChannel::connect(server.endpoint()).unwrap()
}

/// Runs a test on each transport, with both ends.
fn on_each(test: impl Fn(&mut Datagrams, &DatagramChannel)) {
    watched(|| {
        let place = Place::new();
        for scheme in datagram_schemes() {
            let mut server = serve(&match *scheme {
                "unixgram" => gram(&place),
                "abstractgram" => abstractgram(),
                _ => udp(),
            });
            let client = dial(&server);
            test(&mut server, &client);
        }
    });
}

/// Whose sockets are answered at their paths.
fn me() -> Option<User> {
    Some(current_user().unwrap())
}

fn is_udp(server: &Datagrams) -> bool {
    server.endpoint().scheme() == "udp"
}

fn receive(server: &mut Datagrams, buf: &mut [u8]) -> Received {
    until("a datagram", || would_block(server.receive(buf)))
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[test]
fn messages_go_both_ways() {
    on_each(|server, client| {
        let mut buf = [0; 16];
        assert_eq!(kind(server.receive(&mut buf)), io::ErrorKind::WouldBlock);
        client.send(b"ping", SOON).unwrap();
        client.send(b"", SOON).unwrap();
        let first = receive(server, &mut buf);
        assert_eq!((&buf[..first.length], first.truncated), (&b"ping"[..], false));
        let empty = receive(server, &mut buf);
        assert_eq!((empty.length, empty.truncated, &empty.from), (0, false, &first.from));
        let from = first.from.unwrap();
        assert_eq!(from, client.local_address().unwrap());
        server.send(b"pong", &from, me().as_ref()).unwrap();
        server.send(b"", &from, me().as_ref()).unwrap();
        let answer = client.receive(&mut buf, SOON).unwrap();
        assert_eq!(&buf[..answer.length], b"pong");
        assert_eq!(answer.from.unwrap(), client.peer_address().unwrap());
        assert_eq!(client.receive(&mut buf, None).unwrap().length, 0);
        assert_eq!(kind(client.receive(&mut buf, ZERO)), io::ErrorKind::TimedOut);
        match (server.endpoint(), from) {
            (Endpoint::Udp { host, .. }, Address::Inet(from)) => assert_eq!(from.ip().to_string(), *host),
            (_, Address::Abstract(name)) if HAS_ABSTRACT => assert_eq!(name.len(), 5, "autobind"),
            (_, Address::Path(_)) if !HAS_ABSTRACT => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn sizes_and_boundaries_are_kept() {
    on_each(|server, client| {
        let most = if is_udp(server) { 65_507 } else { 100_000 };
        let sizes = (0..19).map(|i| (1 << i).min(most) - i).chain([most]);
        let mut buf = vec![0; 200_000];
        for size in sizes {
            let message = pattern(size);
            client.send(&message, SOON).unwrap();
            client.send(b"end", SOON).unwrap();
            let received = receive(server, &mut buf);
            assert!(buf[..received.length] == message && !received.truncated, "{size}");
            assert_eq!(receive(server, &mut buf).length, 3);
            let from = received.from.unwrap();
            server.send(&message, &from, me().as_ref()).unwrap();
            server.send(b"end", &from, me().as_ref()).unwrap();
            let received = client.receive(&mut buf, SOON).unwrap();
            assert!(buf[..received.length] == message && !received.truncated, "{size}");
            assert_eq!(client.receive(&mut buf, SOON).unwrap().length, 3);
        }
        let giant = vec![0; if is_udp(server) { 65_508 } else { 64 << 20 }];
        assert_eq!(kind(client.send(&giant, SOON)), io::ErrorKind::InvalidInput);
        let to = client.local_address().unwrap();
        assert_eq!(kind(server.send(&giant, &to, me().as_ref())), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn the_send_buffer_bounds_a_message() {
    watched(|| {
        let place = Place::new();
        let mut options = BindOptions::default();
        options.send_buffer = Some(8_000);
        let mut server = Datagrams::bind(&gram(&place), &options).unwrap();
        let client = dial(&server);
        let to = client.local_address().unwrap();
        server.send(&pattern(4_000), &to, me().as_ref()).unwrap();
        assert_eq!(client.receive(&mut [0; 8_000], SOON).unwrap().length, 4_000);
        assert_eq!(kind(server.send(&pattern(20_000), &to, me().as_ref())), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn what_does_not_fit_is_cut_and_said_so() {
    on_each(|server, client| {
        let mut buf = [0; 4];
        client.send(b"12345", SOON).unwrap();
        client.send(b"1234", SOON).unwrap();
        let cut = receive(server, &mut buf);
        assert_eq!((cut.length, cut.truncated, &buf), (4, true, b"1234"));
        assert!(!receive(server, &mut buf).truncated);
        server.send(b"12345", &cut.from.unwrap(), me().as_ref()).unwrap();
        let cut = client.receive(&mut buf, SOON).unwrap();
        assert_eq!((cut.length, cut.truncated), (4, true));
    });
}

#[test]
fn events_are_edges() {
    on_each(|server, client| {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(8);
        server.register(poll.registry(), Token(7), Box::new(|| panic!("not for sockets"))).unwrap();
        for round in 0..3 {
            client.send(b"x", SOON).unwrap();
            client.send(b"", SOON).unwrap();
            poll.poll(&mut events, SOON).unwrap();
            let event = events.iter().next().unwrap_or_else(|| panic!("no event in round {round}"));
            assert!(event.token() == Token(7) && event.is_readable());
            assert_eq!((receive(server, &mut [0; 8]).length, receive(server, &mut [0; 8]).length), (1, 0));
            assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock);
        }
        server.deregister(poll.registry()).unwrap();
        client.send(b"x", SOON).unwrap();
        poll.poll(&mut events, Some(Duration::from_millis(20))).unwrap();
        assert!(events.is_empty());
    });
}

#[test]
fn receiving_times_out_and_no_sooner() {
    on_each(|_server, client| {
        for millis in [1, 40, 40, 5] {
            let (start, timeout) = (Instant::now(), Duration::from_millis(millis));
            assert_eq!(kind(client.receive(&mut [0; 8], Some(timeout))), io::ErrorKind::TimedOut);
            assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        }
    });
}

#[test]
fn one_thread_receives_while_another_sends() {
    on_each(|server, client| {
        thread::scope(|scope| {
            let answer = spawn_to_wait(scope, || client.receive(&mut [0; 8], None).unwrap());
            client.send(b"question", SOON).unwrap();
            let from = receive(server, &mut [0; 8]).from.unwrap();
            server.send(b"answer", &from, me().as_ref()).unwrap();
            assert_eq!(answer.join().unwrap().length, 6);
        });
    });
}

#[test]
fn a_full_queue_is_would_block_until_it_has_room() {
    watched(|| {
        let place = Place::new();
        let mut server = serve(&gram(&place));
        let slow = place.path().with_extension("slow");
        let receiver = UnixDatagram::bind(&slow).unwrap();
        let to = Address::Path(slow);
        let sent =
            (0u32..).take_while(|_| would_block(server.send(b"x", &to, me().as_ref())).is_some()).count();
        assert!(sent > 0, "some go");
        receiver.recv(&mut [0; 8]).unwrap();
        server.send(b"x", &to, me().as_ref()).unwrap();
        assert_eq!(kind(server.send(b"x", &to, me().as_ref())), io::ErrorKind::WouldBlock);
        // One that is slow is nobody else's trouble.
        let client = dial(&server);
        server.send(b"x", &client.local_address().unwrap(), me().as_ref()).unwrap();
        client.receive(&mut [0; 8], SOON).unwrap();
    });
}

#[test]
fn a_client_waits_for_room_in_the_servers_queue() {
    watched(|| {
        let place = Place::new();
        let mut server = serve(&gram(&place));
        let client = dial(&server);
        while client.send(b"x", ZERO).is_ok() {}
        assert_eq!(kind(client.send(b"x", ZERO)), io::ErrorKind::TimedOut);
        let (start, timeout) = (Instant::now(), Duration::from_millis(50));
        assert_eq!(kind(client.send(b"x", Some(timeout))), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeout, "{:?}", start.elapsed());
        for timeout in [SOON, None] {
            thread::scope(|scope| {
                let sending = spawn_to_wait(scope, || client.send(b"late", timeout));
                assert!(!sending.is_finished());
                receive(&mut server, &mut [0; 8]);
                sending.join().unwrap().unwrap();
            });
        }
    });
}

#[test]
fn who_has_gone_is_told_by_the_next_send() {
    on_each(|server, client| {
        let other = dial(server);
        let gone = other.local_address().unwrap();
        drop(other);
        if is_udp(server) {
            // ICMP tells a server of it, if at all, in its next receive: which is about others.
            server.send(b"x", &gone, me().as_ref()).unwrap();
            assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock);
            server.send(b"x", &client.local_address().unwrap(), me().as_ref()).unwrap();
            client.receive(&mut [0; 8], SOON).unwrap();
            // However late it is told.
            assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock);
        } else {
            let error = kind(server.send(b"x", &gone, me().as_ref()));
            assert!(matches!(error, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound), "{error:?}");
        }
        // And a client whose server has gone.
        let place = Place::new();
        let former = serve(&if is_udp(server) { udp() } else { gram(&place) });
        let orphan = dial(&former);
        let name = former.endpoint().clone();
        drop(former);
        if is_udp(server) {
            orphan.send(b"x", SOON).unwrap();
            assert_eq!(kind(orphan.receive(&mut [0; 8], SOON)), io::ErrorKind::ConnectionRefused);
        } else {
            for _ in 0..3 {
                assert_eq!(kind(orphan.send(b"x", SOON)), io::ErrorKind::ConnectionRefused);
            }
            assert_eq!(kind(DatagramChannel::connect(&name)), io::ErrorKind::NotFound);
        }
    });
}
