//! UDP and mailslots: both ends against each other and against strangers. Runs on Windows and under
//! Wine.
#![cfg(windows)]

mod windows_support;

use std::fmt::Debug;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mio::Token;
use sidewire_platform::{
    Address, BindOptions, DatagramChannel, Datagrams, Endpoint, Events, Peer, Poll, Received, Waker,
    datagram_schemes,
};
use windows_support::*;

const ZERO: Option<Duration> = Some(Duration::ZERO);

fn udp(host: &str, port: u16) -> Endpoint {
    Endpoint::Udp { host: host.into(), port }
}

fn mailslot() -> Endpoint {
    Endpoint::Mailslot(format!("sidewire-test-{}-{:016x}", std::process::id(), random()))
}

fn serve(endpoint: &Endpoint) -> Datagrams {
    Datagrams::bind(endpoint, &BindOptions::default()).unwrap()
}

fn dial(server: &Datagrams) -> DatagramChannel {
    DatagramChannel::connect(server.endpoint()).unwrap()
}

fn udp_pair() -> (Datagrams, DatagramChannel) {
    let server = serve(&udp("127.0.0.1", 0));
    let client = dial(&server);
    (server, client)
}

fn kind<T: Debug>(result: io::Result<T>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

/// Asks until there is a datagram, as long as a test may take.
/// Length, whether it was cut, and the sender's address; there are no credentials here.
fn facts(received: &Received) -> (usize, bool, Option<&Address>) {
    assert_eq!(received.credentials, None);
    (received.length, received.truncated, received.from.as_ref())
}

fn receive(server: &mut Datagrams, buf: &mut [u8]) -> Received {
    let start = Instant::now();
    loop {
        match server.receive(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(start.elapsed() < LONG, "no datagram came");
                thread::sleep(Duration::from_millis(1));
            }
            received => return received.unwrap(),
        }
    }
}

fn receive_bytes(server: &mut Datagrams) -> Vec<u8> {
    let mut buf = vec![0; 100_000];
    let received = receive(server, &mut buf);
    assert!(!received.truncated);
    buf.truncate(received.length);
    buf
}

#[test]
fn schemes() {
    assert_eq!(datagram_schemes(), ["udp", "mailslot"]);
}

#[test]
fn udp_goes_both_ways() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let Endpoint::Udp { host, port } = server.endpoint().clone() else { panic!("{}", server.endpoint()) };
    assert_eq!(host, "127.0.0.1");
    assert_ne!(port, 0);
    let Address::Inet(far) = client.peer_address().unwrap() else { panic!("no address") };
    assert_eq!(far.port(), port);
    assert_eq!(*client.peer(), Peer::new(None, Some(far)));
    let mut buf = [0; 16];
    assert_eq!(kind(server.receive(&mut buf)), io::ErrorKind::WouldBlock);
    client.send(b"ping", SECOND).unwrap();
    client.send(b"", SECOND).unwrap();
    let near = client.local_address().unwrap();
    let first = receive(&mut server, &mut buf);
    assert_eq!((facts(&first), &buf[..4]), ((4, false, Some(&near)), &b"ping"[..]));
    assert_eq!(facts(&receive(&mut server, &mut buf)), (0, false, Some(&near)));
    server.send(b"pong", &near, None).unwrap();
    server.send(b"", &near, None).unwrap();
    let answer = client.receive(&mut buf, SECOND).unwrap();
    assert_eq!((facts(&answer), &buf[..4]), ((4, false, Some(&Address::Inet(far))), &b"pong"[..]));
    assert_eq!(client.receive(&mut buf, None).unwrap().length, 0);
    assert_eq!(kind(client.receive(&mut buf, ZERO)), io::ErrorKind::TimedOut);
}

#[test]
fn udp_on_ipv6_and_by_name() {
    let _watchdog = Watchdog::new();
    for host in ["localhost", "::1"] {
        let mut server = match Datagrams::bind(&udp(host, 0), &BindOptions::default()) {
            // Not every machine has IPv6.
            Err(error) if host == "::1" => return println!("skipped: {error}"),
            server => server.unwrap(),
        };
        let client = dial(&server);
        client.send(b"x", SECOND).unwrap();
        let from = receive(&mut server, &mut [0; 8]).from.unwrap();
        server.send(b"y", &from, None).unwrap();
        assert_eq!(client.receive(&mut [0; 8], SECOND).unwrap().length, 1);
    }
}

#[test]
fn udp_of_both_families_meets_at_an_ipv6_wildcard() {
    let _watchdog = Watchdog::new();
    let mut beyond = BindOptions::default();
    beyond.beyond_loopback = true;
    let mut server = match Datagrams::bind(&udp("::", 0), &beyond) {
        // Not every machine has IPv6.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => return println!("skipped: {error}"),
        server => server.unwrap(),
    };
    let Endpoint::Udp { port, .. } = *server.endpoint() else { panic!("{}", server.endpoint()) };
    for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        let client = DatagramChannel::connect(&udp(host, port)).unwrap();
        client.send(host.as_bytes(), SECOND).unwrap();
        let mut buf = [0; 64];
        let received = receive(&mut server, &mut buf);
        assert_eq!(&buf[..received.length], host.as_bytes());
        server.send(b"here", &received.from.unwrap(), None).unwrap();
        assert_eq!(client.receive(&mut buf, SECOND).unwrap().length, 4, "{host}");
    }
}

#[test]
fn udp_keeps_sizes_and_boundaries() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let near = client.local_address().unwrap();
    let mut buf = vec![0; 100_000];
    // 20 sizes: 0, 1, 3, 7, …, and the largest there is.
    for size in (0..19).map(|i| ((1 << i) - 1).min(65_506 - i)).chain([65_507]) {
        let message = pattern(size);
        client.send(&message, SECOND).unwrap();
        client.send(b"end", SECOND).unwrap();
        assert!(receive_bytes(&mut server) == message, "{size}");
        assert_eq!(receive_bytes(&mut server), b"end");
        server.send(&message, &near, None).unwrap();
        server.send(b"end", &near, None).unwrap();
        let received = client.receive(&mut buf, SECOND).unwrap();
        assert!(buf[..received.length] == message && !received.truncated, "{size}");
        assert_eq!(client.receive(&mut buf, SECOND).unwrap().length, 3);
    }
    assert_eq!(kind(client.send(&[0; 65_508], SECOND)), io::ErrorKind::InvalidInput);
    assert_eq!(kind(server.send(&[0; 65_508], &near, None)), io::ErrorKind::InvalidInput);
}

#[test]
fn udp_says_what_was_cut_and_who_sent_it() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let mut buf = [0; 4];
    client.send(b"12345", SECOND).unwrap();
    client.send(b"1234", SECOND).unwrap();
    let cut = receive(&mut server, &mut buf);
    assert_eq!((cut.length, cut.truncated, &buf), (4, true, b"1234"));
    assert_eq!(cut.from, Some(client.local_address().unwrap()));
    assert!(!receive(&mut server, &mut buf).truncated);
    server.send(&pattern(65_507), &cut.from.unwrap(), None).unwrap();
    let cut = client.receive(&mut buf, SECOND).unwrap();
    assert_eq!((cut.length, cut.truncated, &buf[..]), (4, true, &pattern(4)[..]));
    client.send(b"x", SECOND).unwrap();
    let empty = receive(&mut server, &mut []);
    assert_eq!((empty.length, empty.truncated), (0, true));
}

#[test]
fn udp_clients_that_go_are_nobody_elses_trouble() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let near = client.local_address().unwrap();
    for _ in 0..3 {
        let other = dial(&server);
        let gone = other.local_address().unwrap();
        drop(other);
        server.send(b"x", &gone, None).unwrap();
        server.send(b"x", &near, None).unwrap();
        client.receive(&mut [0; 8], Some(LONG)).unwrap();
        // Windows' 10054, if it comes at all, would come here.
        assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock);
    }
    client.send(b"and on", SECOND).unwrap();
    assert_eq!(receive_bytes(&mut server), b"and on");
}

#[test]
fn udp_server_that_has_gone_is_told_of() {
    let _watchdog = Watchdog::new();
    let (server, client) = udp_pair();
    drop(server);
    client.send(b"x", SECOND).unwrap();
    let told = kind(client.receive(&mut [0; 8], SECOND));
    // Wine 8 mostly keeps it for itself.
    assert!(matches!(told, io::ErrorKind::ConnectionRefused | io::ErrorKind::TimedOut), "{told:?}");
}

#[test]
fn udp_receiving_times_out_and_no_sooner() {
    let _watchdog = Watchdog::new();
    let (_server, client) = udp_pair();
    for wait in [250, 40, 1] {
        let (result, took) = timed(|| client.receive(&mut [0; 8], millis(wait)));
        assert_eq!(kind(result), io::ErrorKind::TimedOut);
        assert!(took >= Duration::from_millis(wait), "{took:?}");
        assert!(took < LONG / 2, "{took:?}");
    }
}

#[test]
fn udp_one_thread_receives_while_another_sends() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    thread::scope(|scope| {
        let answer = scope.spawn(|| client.receive(&mut [0; 8], None).unwrap());
        client.send(b"question", None).unwrap();
        let from = receive(&mut server, &mut [0; 8]).from.unwrap();
        server.send(b"answer", &from, None).unwrap();
        assert_eq!(answer.join().unwrap().length, 6);
    });
}

#[test]
fn udp_takes_nothing_from_strangers() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let near @ Address::Inet(own) = client.local_address().unwrap() else { panic!("no address") };
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"strange", own).unwrap();
    server.send(b"mine", &near, None).unwrap();
    assert_eq!(client.receive(&mut [0; 8], SECOND).unwrap().length, 4);
    assert_eq!(kind(client.receive(&mut [0; 8], millis(50))), io::ErrorKind::TimedOut);
}

#[test]
fn udp_events_are_edges() {
    let _watchdog = Watchdog::new();
    let (mut server, client) = udp_pair();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    server.register(poll.registry(), Token(7), Box::new(|| panic!("not for sockets"))).unwrap();
    for round in 0..3 {
        client.send(b"x", SECOND).unwrap();
        poll.poll(&mut events, SECOND).unwrap();
        let event = events.iter().next().unwrap_or_else(|| panic!("no event in round {round}"));
        assert!(event.token() == Token(7) && event.is_readable());
        assert_eq!(receive_bytes(&mut server), b"x");
        assert_eq!(kind(server.receive(&mut [0; 8])), io::ErrorKind::WouldBlock);
    }
    server.deregister(poll.registry()).unwrap();
    client.send(b"x", SECOND).unwrap();
    poll.poll(&mut events, millis(50)).unwrap();
    assert!(events.is_empty());
}

#[test]
fn udp_ports_are_taken_once_and_on_loopback() {
    let _watchdog = Watchdog::new();
    let server = serve(&udp("127.0.0.1", 0));
    let again = Datagrams::bind(server.endpoint(), &BindOptions::default());
    assert_eq!(kind(again), io::ErrorKind::AddrInUse);
    let beyond = udp("0.0.0.0", 0);
    assert_eq!(kind(Datagrams::bind(&beyond, &BindOptions::default())), io::ErrorKind::PermissionDenied);
    let mut options = BindOptions::default();
    options.beyond_loopback = true;
    Datagrams::bind(&beyond, &options).unwrap();
}

#[test]
fn udp_answers_go_to_addresses_of_its_own_kind() {
    let mut server = serve(&udp("127.0.0.1", 0));
    for to in [Address::Unnamed, Address::Pipe("x".into()), Address::Inet("[::1]:9".parse().unwrap())] {
        assert_eq!(kind(server.send(b"x", &to, None)), io::ErrorKind::InvalidInput, "{to}");
    }
}

/// A loop that waits for a mailslot by way of a Waker, as the reactor does.
#[test]
fn mailslot_messages_arrive_by_the_loop() {
    let _watchdog = Watchdog::new();
    let mut server = serve(&mailslot());
    let client = dial(&server);
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let waker = Arc::new(Waker::new(poll.registry(), Token(1)).unwrap());
    let calls = Arc::new(AtomicUsize::new(0));
    let ready = {
        let (waker, calls) = (waker.clone(), calls.clone());
        move || {
            calls.fetch_add(1, Ordering::Relaxed);
            waker.wake().unwrap();
        }
    };
    server.register(poll.registry(), Token(0), Box::new(ready.clone())).unwrap();
    assert_eq!(
        kind(server.register(poll.registry(), Token(0), Box::new(ready.clone()))),
        io::ErrorKind::AlreadyExists
    );
    for round in 1..=3 {
        client.send(b"hello", SECOND).unwrap();
        poll.poll(&mut events, Some(LONG)).unwrap();
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
        let mut buf = [0; 16];
        let received = server.receive(&mut buf).unwrap();
        assert_eq!((facts(&received), &buf[..5]), ((5, false, None), &b"hello"[..]));
        assert_eq!(kind(server.receive(&mut buf)), io::ErrorKind::WouldBlock);
        assert_eq!(calls.load(Ordering::Relaxed), round);
    }
    server.deregister(poll.registry()).unwrap();
    assert_eq!(kind(server.deregister(poll.registry())), io::ErrorKind::NotFound);
    client.send(b"later", SECOND).unwrap();
    poll.poll(&mut events, millis(100)).unwrap();
    assert!(events.is_empty() && calls.load(Ordering::Relaxed) == 3);
    // What has come meanwhile is announced at once.
    server.register(poll.registry(), Token(0), Box::new(ready)).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!(receive_bytes(&mut server), b"later");
}

#[test]
fn mailslot_keeps_order_and_boundaries() {
    let _watchdog = Watchdog::new();
    let mut server = serve(&mailslot());
    let (one, other) = (dial(&server), dial(&server));
    for number in 0..50 {
        let client = if number % 3 == 0 { &other } else { &one };
        client.send(format!("message {number}").as_bytes(), ZERO).unwrap();
    }
    for number in 0..50 {
        assert_eq!(receive_bytes(&mut server), format!("message {number}").as_bytes());
    }
    for size in [1, 424, 425, 426, 4_096, 65_507, 65_536] {
        one.send(&pattern(size), SECOND).unwrap();
        assert!(receive_bytes(&mut server) == pattern(size), "{size}");
    }
}

#[test]
fn mailslot_says_what_was_cut() {
    let _watchdog = Watchdog::new();
    let mut server = serve(&mailslot());
    let client = dial(&server);
    client.send(b"12345", SECOND).unwrap();
    client.send(b"1234", SECOND).unwrap();
    let mut buf = [0; 4];
    let cut = receive(&mut server, &mut buf);
    assert_eq!((cut.length, cut.truncated, &buf), (4, true, b"1234"));
    assert!(!receive(&mut server, &mut buf).truncated);
}

#[test]
fn mailslot_lives_through_odd_messages() {
    let _watchdog = Watchdog::new();
    let mut server = serve(&mailslot());
    let client = dial(&server);
    // Wine 8 loses it; Windows reads it as what it is.
    client.send(b"", SECOND).unwrap();
    // Both ends have been told that 65,536 bytes are the most; Wine 8 takes some more.
    let large = client.send(&vec![0; 1 << 20], SECOND);
    assert_eq!(kind(large), io::ErrorKind::InvalidInput);
    client.send(b"and on", SECOND).unwrap();
    let mut buf = vec![0; 100_000];
    while receive(&mut server, &mut buf).length != 6 {}
    assert_eq!(buf[..6], *b"and on");
}

#[test]
fn mailslot_is_one_way() {
    let _watchdog = Watchdog::new();
    let mut server = serve(&mailslot());
    let client = dial(&server);
    assert_eq!(kind(client.receive(&mut [0; 8], SECOND)), io::ErrorKind::Unsupported);
    assert_eq!(kind(server.send(b"x", &Address::Unnamed, None)), io::ErrorKind::Unsupported);
    assert_eq!(*client.peer(), Peer::default());
    assert_eq!(client.local_address().unwrap(), Address::Unnamed);
    let Endpoint::Mailslot(name) = server.endpoint() else { panic!("{}", server.endpoint()) };
    assert_eq!(client.peer_address().unwrap(), Address::Pipe(format!(r"\\.\mailslot\{name}")));
}

#[test]
fn mailslot_names_are_exact_and_taken_once() {
    let _watchdog = Watchdog::new();
    let endpoint = mailslot();
    assert_eq!(kind(DatagramChannel::connect(&endpoint)), io::ErrorKind::NotFound);
    let mut server = serve(&endpoint);
    assert_eq!(kind(Datagrams::bind(&endpoint, &BindOptions::default())), io::ErrorKind::AddrInUse);
    let Endpoint::Mailslot(name) = &endpoint else { panic!("{endpoint}") };
    let path = format!(r"\\.\mailslot\{name}");
    let mut stranger = OpenOptions::new().write(true).open(path).unwrap();
    stranger.write_all(b"hello from afar").unwrap();
    assert_eq!(receive_bytes(&mut server), b"hello from afar");
}

#[test]
fn mailslot_goes_with_its_server() {
    let _watchdog = Watchdog::new();
    let endpoint = mailslot();
    let mut server = serve(&endpoint);
    let poll = Poll::new().unwrap();
    let (ready, heard) = mpsc::channel();
    server.register(poll.registry(), Token(0), Box::new(move || ready.send(()).unwrap())).unwrap();
    let client = dial(&server);
    client.send(b"x", SECOND).unwrap();
    heard.recv_timeout(LONG).unwrap();
    let (_, took) = timed(|| drop(server));
    assert!(took < LONG / 2, "{took:?}");
    // The thread has gone, and with it `ready`.
    assert_eq!(heard.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    println!("dropped in {took:?}; sending to a server that has gone: {:?}", client.send(b"x", SECOND));
    drop(client);
    assert_eq!(kind(DatagramChannel::connect(&endpoint)), io::ErrorKind::NotFound);
    let mut server = serve(&endpoint);
    dial(&server).send(b"again", SECOND).unwrap();
    assert_eq!(receive_bytes(&mut server), b"again");
}

#[test]
fn mailslot_ends_under_fire() {
    let _watchdog = Watchdog::new();
    let server = serve(&mailslot());
    let client = dial(&server);
    let (sending, sent) = mpsc::channel();
    // Nobody waits for it to end: under Wine 8 it blocks once nobody reads what it sends.
    thread::spawn(move || while client.send(b"x", ZERO).is_ok() && sending.send(()).is_ok() {});
    for _ in 0..2_000 {
        sent.recv_timeout(LONG).unwrap();
    }
    let (_, took) = timed(|| drop(server));
    assert!(took < LONG / 2, "{took:?}");
    drop(sent);
}

/// More than the queue holds: the first are kept, the rest is dropped, and what comes later is heard.
#[test]
fn mailslot_queue_is_bounded() {
    let _watchdog = Watchdog::new();
    // Nothing tells when it has taken all; a busy machine gets some more tries.
    assert!((1..=10).any(drops_the_rest));
}

fn drops_the_rest(attempt: u32) -> bool {
    let mut server = serve(&mailslot());
    let client = dial(&server);
    for number in 0..1_500u32 {
        client.send(&number.to_le_bytes(), SECOND).unwrap();
    }
    thread::sleep(Duration::from_millis(300) * attempt);
    for number in 0..1_024u32 {
        assert_eq!(receive_bytes(&mut server), number.to_le_bytes());
    }
    if server.receive(&mut [0; 8]).is_ok() {
        return false; // It was still being filled.
    }
    client.send(b"and on", SECOND).unwrap();
    receive_bytes(&mut server) == b"and on"
}
