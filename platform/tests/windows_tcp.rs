//! TCP on Winsock: listener, stream and channel against each other. Runs on Windows and under Wine.
#![cfg(windows)]

mod windows_support;

use std::io::{self, Write};
use std::net::TcpListener;
use std::time::Duration;

use sidewire_platform::{Address, BindOptions, Channel, Endpoint, Listener};
use windows_support::*;

fn tcp(host: &str, port: u16) -> Endpoint {
    Endpoint::Tcp { host: host.into(), port }
}

fn server(handler: Handler) -> Server {
    Server::new(&tcp("127.0.0.1", 0), &BindOptions::default(), handler)
}

#[test]
fn echo_and_addresses() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    let Endpoint::Tcp { host, port } = &server.endpoint else { panic!("{}", server.endpoint) };
    assert_eq!(host, "127.0.0.1");
    assert_ne!(*port, 0);
    let channel = server.connect();
    ask(&channel, b"hello");
    ask(&channel, &pattern(100_000));
    let Address::Inet(far) = channel.peer_address().unwrap() else { panic!("no address") };
    assert_eq!(far.port(), *port);
    assert_eq!(channel.peer().address(), Some(far));
    assert_eq!(channel.peer().credentials(), None);
    let Address::Inet(near) = channel.local_address().unwrap() else { panic!("no address") };
    let peer = server.find(|seen| if let Seen::Peer(peer) = seen { Some(peer.unwrap()) } else { None });
    assert_eq!(peer.address(), Some(near));
    drop(channel);
    assert_eq!(server.end(), 100_005);
}

#[test]
fn localhost_is_tried_at_every_address() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    let Endpoint::Tcp { port, .. } = &server.endpoint else { panic!("{}", server.endpoint) };
    ask(&Channel::connect(&tcp("localhost", *port), Some(LONG)).unwrap(), b"hello");
}

#[test]
fn refused_is_said_at_once() {
    let _watchdog = Watchdog::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (result, took) = timed(|| Channel::connect(&tcp("127.0.0.1", free), Some(LONG)));
    assert_eq!(result.err().unwrap().kind(), io::ErrorKind::ConnectionRefused);
    assert!(took < LONG / 2, "{took:?}");
}

#[test]
fn ports_are_taken_once_and_on_loopback() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&tcp("127.0.0.1", 0), &BindOptions::default()).unwrap();
    let error = Listener::bind(listener.endpoint(), &BindOptions::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    let error = Listener::bind(&tcp("0.0.0.0", 0), &BindOptions::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    let mut beyond = BindOptions::default();
    beyond.beyond_loopback = true;
    Listener::bind(&tcp("0.0.0.0", 0), &beyond).unwrap();
}

#[test]
fn half_close() {
    let _watchdog = Watchdog::new();
    let server = server(Box::new(|link, bytes| {
        assert!(link.stream.has_half_close());
        if bytes.is_empty() {
            // All has been said: the reply goes out after the end of the request.
            link.outbox = pattern(50_000);
            return Then::Flush(LONG);
        }
        Then::Go
    }));
    let channel = server.connect();
    assert!(channel.has_half_close());
    send_all(&channel, &pattern(300_000));
    channel.shutdown_write().unwrap();
    assert_eq!(channel.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert!(recv_to_end(&channel) == pattern(50_000));
    assert_eq!(server.end(), 300_000);
}

#[test]
fn receiving_times_out() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    let channel = server.connect();
    let mut buf = [0; 16];
    let (result, took) = timed(|| channel.recv(&mut buf, millis(250)));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(took >= Duration::from_millis(250) && took < LONG / 2, "{took:?}");
    assert_eq!(channel.recv(&mut buf, Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    ask(&channel, b"and on");
}

#[test]
fn sending_times_out() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&tcp("127.0.0.1", 0), &BindOptions::default()).unwrap();
    let channel = Channel::connect(listener.endpoint(), Some(LONG)).unwrap();
    let mut sent = 0;
    let error = loop {
        match channel.send(&[7; 65_536], millis(250)) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 1 << 30, "somebody swallows everything");
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(Server::with_listener(listener, sink()));
}

#[test]
fn shutdown_wakes_and_ends() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    let channel = server.connect();
    wakes(&channel, |channel| assert_eq!(channel.recv(&mut [0; 16], None).unwrap(), 0));
    assert_eq!(channel.recv(&mut [0; 16], SECOND).unwrap(), 0);
    assert_eq!(channel.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    drop(channel);
    server.end();
}

#[test]
fn server_that_goes_is_seen_at_once() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    let channel = server.connect();
    ask(&channel, b"hello");
    drop(server);
    let (result, took) = timed(|| channel.recv(&mut [0; 16], Some(LONG)));
    // A reset is as good.
    assert!(matches!(result, Ok(0) | Err(_)), "{result:?}");
    assert!(took < LONG / 2, "{took:?}");
}

#[test]
fn reset_is_seen() {
    let _watchdog = Watchdog::new();
    let server = server(sink());
    let Endpoint::Tcp { port, .. } = &server.endpoint else { panic!("{}", server.endpoint) };
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", *port)).unwrap();
    stream.write_all(b"hello").unwrap();
    server.find(|seen| matches!(seen, Seen::Peer(Ok(_))).then_some(()));
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    match server.seen() {
        Seen::Failed(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error:?}"),
        // Wine 8.
        Seen::End(5) if is_wine() => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn sixteen_mebibytes_each_way() {
    let _watchdog = Watchdog::new();
    let server = server(echo());
    pump(&server.connect(), 16 << 20);
}

/// However much is handed over: else a peer that reads nothing would look as if it kept up.
#[test]
fn writes_are_taken_in_pieces() {
    let _watchdog = Watchdog::new();
    let (report, taken) = std::sync::mpsc::channel();
    let server = server(Box::new(move |link, bytes| {
        if !bytes.is_empty() {
            report.send(link.stream.write(&vec![7; 1 << 20]).unwrap()).unwrap();
            return Then::Abort;
        }
        Then::Go
    }));
    let channel = server.connect();
    send_all(&channel, b"x");
    assert_eq!(taken.recv_timeout(LONG).unwrap(), 65_536);
}

/// The side that has heard the other's end first says its last words and closes at once. They arrive,
/// many times over, also when the reader is slow.
#[test]
fn last_words_after_the_peers_end_arrive() {
    let _watchdog = Watchdog::new();
    let answer = pattern(60_000);
    let words = answer.clone();
    let server = server(Box::new(move |link, bytes| {
        if bytes.is_empty() {
            link.outbox = words.clone();
            return Then::Flush(LONG);
        }
        Then::Go
    }));
    for round in 0..50 {
        let channel = server.connect();
        send_all(&channel, b"question");
        channel.shutdown_write().unwrap();
        if round % 10 == 0 {
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(recv_to_end(&channel) == answer, "round {round}");
    }
}

#[test]
fn last_words_of_a_client_arrive() {
    let _watchdog = Watchdog::new();
    let server = server(Box::new(|link, bytes| {
        if link.received == 1 && bytes == b"x" {
            link.stream.shutdown_write().unwrap();
        }
        Then::Go
    }));
    for _ in 0..50 {
        let channel = server.connect();
        send_all(&channel, b"x");
        assert_eq!(recv_to_end(&channel), b"");
        send_all(&channel, &pattern(60_000));
        drop(channel);
        assert_eq!(server.end(), 60_001);
    }
}

/// Nobody accepts meanwhile. On Windows a backlog is 200 at most unless it is asked for in a way of
/// its own.
#[test]
fn a_backlog_is_as_long_as_asked_for() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&tcp("127.0.0.1", 0), &BindOptions::default()).unwrap();
    let channels: Vec<_> =
        (0..300).map(|_| Channel::connect(listener.endpoint(), Some(LONG)).unwrap()).collect();
    let server = Server::with_listener(listener, echo());
    for channel in &channels {
        ask(channel, b"still there");
    }
    drop(server);
}

#[test]
fn both_families_meet_at_an_ipv6_wildcard() {
    let _watchdog = Watchdog::new();
    let mut beyond = BindOptions::default();
    beyond.beyond_loopback = true;
    let listener = match Listener::bind(&tcp("::", 0), &beyond) {
        // Not every machine has IPv6.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => return println!("skipped: {error}"),
        listener => listener.unwrap(),
    };
    let server = Server::with_listener(listener, echo());
    let Endpoint::Tcp { host, port } = &server.endpoint else { panic!("{}", server.endpoint) };
    assert_eq!(host, "::");
    for host in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
        ask(&Channel::connect(&tcp(host, *port), Some(LONG)).unwrap(), host.as_bytes());
    }
}
