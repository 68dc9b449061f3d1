//! Named pipes: listener, stream and channel against each other. Runs on Windows and under Wine.
#![cfg(windows)]

mod windows_support;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use mio::{Interest, Token};
use sidewire_platform::{
    Address, BindOptions, Channel, Endpoint, EndpointKind, Events, Listener, Poll, Stream, current_integrity,
    current_user, stream_schemes,
};
use windows_support::*;

fn options(pending_instances: u32) -> BindOptions {
    let mut options = BindOptions::default();
    options.pending_instances = pending_instances;
    options
}

fn path(endpoint: &Endpoint) -> String {
    let Endpoint::Pipe(name) = endpoint else { panic!("{endpoint} is not a pipe") };
    format!(r"\\.\pipe\{name}")
}

/// A foreign client, without any of our code.
fn foreign(endpoint: &Endpoint) -> File {
    OpenOptions::new().read(true).write(true).open(path(endpoint)).unwrap()
}

#[test]
fn echo_on_pipe_and_local() {
    let _watchdog = Watchdog::new();
    let local = Endpoint::Local(format!("test.{:016x}", random()));
    for endpoint in [random_pipe(), local] {
        let server = Server::new(&endpoint, &BindOptions::default(), echo());
        assert_eq!(server.endpoint, endpoint);
        let channel = server.connect();
        ask(&channel, b"hello");
        ask(&channel, &pattern(10_000));
        assert!(!channel.has_half_close());
        assert_eq!(channel.shutdown_write().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert_eq!(channel.local_address().unwrap(), Address::Unnamed);
        let Address::Pipe(name) = channel.peer_address().unwrap() else { panic!("not a pipe") };
        assert!(name.starts_with(r"\\.\pipe\"), "{name}");
        drop(channel);
        assert_eq!(server.end(), 10_005);
    }
    assert_eq!(stream_schemes(), ["local", "pipe", "tcp"]);
}

/// PROTOCOL A6
#[test]
fn foreign_client_and_its_empty_write() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let mut file = foreign(&server.endpoint);
    let mut buf = [0; 3];
    file.write_all(b"one").unwrap();
    file.read_exact(&mut buf).unwrap();
    // A write of no bytes reaches the reader, whose next read is under way already, and is not the end of
    // the stream.
    assert_eq!(file.write(b"").unwrap(), 0);
    file.write_all(b"two").unwrap();
    file.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"two");
    drop(file);
    assert_eq!(server.end(), 6);
}

#[test]
fn twenty_clients_at_once_on_four_instances() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &options(4), echo());
    let start = Barrier::new(20);
    thread::scope(|scope| {
        for client in 0..20u8 {
            let (server, start) = (&server.endpoint, &start);
            scope.spawn(move || {
                start.wait();
                let channel = Channel::connect(server, Some(LONG)).unwrap();
                start.wait();
                for turn in 0..20 {
                    ask(&channel, &[client, turn].repeat(100));
                }
            });
        }
    });
}

#[test]
fn two_hundred_connections_stay() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let channels: Vec<_> = (0..200).map(|_| server.connect()).collect();
    for round in 0..3u8 {
        for (client, channel) in channels.iter().enumerate() {
            ask(channel, &[round, client as u8]);
        }
    }
}

#[test]
fn clients_that_leave_at_once_cost_nothing() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &options(2), echo());
    for _ in 0..200 {
        drop(server.connect());
    }
    ask(&server.connect(), b"still there");
    let (mut accepted, mut ended) = (0, 0);
    while ended < 201 {
        match server.seen() {
            Seen::Accepted => accepted += 1,
            Seen::End(count) => {
                assert!(count == 0 || count == 11);
                ended += 1;
            }
            Seen::Peer(peer) => drop(peer.unwrap()),
            Seen::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(accepted, 201);
}

#[test]
fn what_a_client_leaves_behind_is_read() {
    let _watchdog = Watchdog::new();
    // Before anybody accepts, or has even registered the listener.
    let listener = Listener::bind(&random_pipe(), &options(2)).unwrap();
    for _ in 0..2 {
        let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
        send_all(&channel, b"last words");
    }
    let server = Server::with_listener(listener, sink());
    assert_eq!(server.end(), 10);
    assert_eq!(server.end(), 10);
}

#[test]
fn receiving_times_out() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let channel = server.connect();
    let mut buf = [0; 16];
    let (result, took) = timed(|| channel.recv(&mut buf, millis(250)));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(took >= Duration::from_millis(250) && took < LONG / 2, "{took:?}");
    let (result, took) = timed(|| channel.recv(&mut buf, Some(Duration::ZERO)));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(took < LONG / 2, "{took:?}");
    // Nothing was lost or left over by the cancelled reads.
    ask(&channel, b"and on");
    send_all(&channel, b"x");
    assert_eq!(until("the echo", || channel.recv(&mut buf, Some(Duration::ZERO)).ok()), 1);
    assert_eq!(channel.recv(&mut [], None).unwrap(), 0);
}

#[test]
fn connecting_to_nobody_fails_at_once() {
    let _watchdog = Watchdog::new();
    let (result, took) = timed(|| Channel::connect(&random_pipe(), None));
    assert_eq!(result.err().unwrap().kind(), io::ErrorKind::NotFound);
    assert!(took < LONG / 2, "{took:?}");
}

/// PROTOCOL A9
#[test]
fn busy_pipe_is_waited_for() {
    let _watchdog = Watchdog::new();
    // Not registered: the one instance takes one client and is not replaced.
    let listener = Listener::bind(&random_pipe(), &options(1)).unwrap();
    let endpoint = listener.endpoint().clone();
    let first = Channel::connect(&endpoint, SECOND).unwrap();
    let (result, took) = timed(|| Channel::connect(&endpoint, millis(250)));
    assert_eq!(result.err().unwrap().kind(), io::ErrorKind::TimedOut);
    assert!(took >= Duration::from_millis(250) && took < LONG / 2, "{took:?}");
    let (result, took) = timed(|| Channel::connect(&endpoint, Some(Duration::ZERO)));
    assert_eq!(result.err().unwrap().kind(), io::ErrorKind::TimedOut);
    assert!(took < LONG / 2, "{took:?}");
    thread::scope(|scope| {
        let second = scope.spawn(|| Channel::connect(&endpoint, Some(LONG)).unwrap());
        thread::sleep(Duration::from_millis(200));
        assert!(!second.is_finished());
        let server = Server::with_listener(listener, echo());
        ask(&second.join().unwrap(), b"second");
        ask(&first, b"first");
        drop(server);
    });
}

#[test]
fn server_that_goes_is_seen_at_once() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let channel = server.connect();
    ask(&channel, b"hello");
    // The poll is dropped without another turn.
    drop(server);
    let (result, took) = timed(|| channel.recv(&mut [0; 16], Some(LONG)));
    assert_eq!(result.unwrap(), 0);
    assert!(took < LONG / 2, "{took:?}");
    assert_eq!(channel.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn client_that_waits_for_acceptance_sees_the_listener_go() {
    let _watchdog = Watchdog::new();
    let mut listener = Listener::bind(&random_pipe(), &options(3)).unwrap();
    let mut poll = Poll::new().unwrap();
    listener.register(poll.registry(), Token(0)).unwrap();
    let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
    let endpoint = listener.endpoint().clone();
    listener.deregister(poll.registry()).unwrap();
    drop(listener);
    // The poll does not turn, and yet nobody is kept waiting.
    let (result, took) = timed(|| channel.recv(&mut [0; 16], Some(LONG)));
    assert_eq!(result.unwrap(), 0);
    assert!(took < LONG / 2, "{took:?}");
    drop(channel);
    // One turn, and the name is free again.
    poll.poll(&mut Events::with_capacity(16), millis(50)).unwrap();
    assert_eq!(Channel::connect(&endpoint, SECOND).err().unwrap().kind(), io::ErrorKind::NotFound);
    Listener::bind(&endpoint, &BindOptions::default()).unwrap();
}

/// Does nothing unless started, and then killed, by `client_that_is_killed_is_seen`.
#[test]
fn child_that_waits_to_be_killed() {
    let Ok(endpoint) = std::env::var("SIDEWIRE_TEST_CHILD") else { return };
    let channel = Channel::connect(&endpoint.parse().unwrap(), Some(LONG)).unwrap();
    send_all(&channel, b"alive");
    thread::sleep(LONG);
}

#[test]
fn client_that_is_killed_is_seen() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), sink());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_waits_to_be_killed"])
        .env("SIDEWIRE_TEST_CHILD", server.endpoint.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let peer = server.find(|seen| if let Seen::Peer(peer) = seen { Some(peer.unwrap()) } else { None });
    assert_eq!(peer.credentials().unwrap().pid(), Some(child.id()));
    child.kill().unwrap();
    let (received, took) = timed(|| server.end());
    assert_eq!(received, 5);
    assert!(took < LONG / 2, "{took:?}");
    child.wait().unwrap();
}

#[test]
fn last_reply_arrives_whole_before_the_end() {
    let _watchdog = Watchdog::new();
    let reply = |within: u64| -> Handler {
        Box::new(move |link, _| {
            link.outbox = pattern(60_000);
            // The server loop writes it with one call, and then closes.
            Then::Flush(Duration::from_millis(within))
        })
    };
    let server = Server::new(&random_pipe(), &BindOptions::default(), reply(10_000));
    for patience in [0, 300] {
        let channel = server.connect();
        send_all(&channel, b"?");
        thread::sleep(Duration::from_millis(patience));
        assert!(recv_to_end(&channel) == pattern(60_000));
    }
    // One that doesn't read is thrown out when time is up, and others are served meanwhile.
    let server = Server::new(&random_pipe(), &BindOptions::default(), reply(200));
    let lazy = server.connect();
    send_all(&lazy, b"?");
    let channel = server.connect();
    send_all(&channel, b"?");
    assert!(recv_to_end(&channel) == pattern(60_000));
    let error = until("it is thrown out", || lazy.send(b"x", SECOND).err());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn more_than_the_buffer_is_flushed_too() {
    let _watchdog = Watchdog::new();
    // 64 KiB fill the system's buffer; the rest of the write is still under way when it is closed.
    let mut written = 0;
    let server = Server::new(
        &random_pipe(),
        &BindOptions::default(),
        Box::new(move |link, _| {
            while written < 3 * 65_536 {
                match link.stream.write(&pattern(65_536)) {
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            Then::Flush(LONG)
        }),
    );
    let channel = server.connect();
    send_all(&channel, b"?");
    thread::sleep(Duration::from_millis(200));
    let all = recv_to_end(&channel);
    assert!(!all.is_empty() && all.len().is_multiple_of(65_536), "{}", all.len());
    assert!(all.chunks(65_536).all(|chunk| chunk == pattern(65_536)));
}

#[test]
fn aborted_stream_ends_at_once() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), Box::new(|_, _| Then::Abort));
    let channel = server.connect();
    send_all(&channel, b"?");
    let (result, took) = timed(|| channel.recv(&mut [0; 16], Some(LONG)));
    assert_eq!(result.unwrap(), 0);
    assert!(took < LONG / 2, "{took:?}");
}

#[test]
fn sixteen_mebibytes_each_way() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    pump(&server.connect(), 16 << 20);
}

#[test]
fn names_are_taken_once() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&random_pipe(), &options(3)).unwrap();
    let endpoint = listener.endpoint().clone();
    let error = Listener::bind(&endpoint, &BindOptions::default()).err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
    // The attempt did the first one no harm.
    let server = Server::with_listener(listener, echo());
    ask(&server.connect(), b"hello");
    drop(server);
    Server::new(&endpoint, &BindOptions::default(), echo());
}

#[test]
fn peers_know_each_other() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let channel = server.connect();
    let credentials = channel.peer().credentials().unwrap();
    assert_eq!(*credentials.user(), current_user().unwrap());
    assert_eq!(credentials.pid(), Some(std::process::id()));
    assert_eq!(credentials.integrity(), current_integrity());
    ask(&channel, b"hello");
    let peer = server.find(|seen| if let Seen::Peer(peer) = seen { Some(peer.unwrap()) } else { None });
    let credentials = peer.credentials().unwrap();
    assert_eq!(*credentials.user(), current_user().unwrap());
    assert_eq!(credentials.pid(), Some(std::process::id()));
    assert_eq!(credentials.integrity(), current_integrity());
    assert_eq!(peer.address(), None);
}

#[test]
fn shutdown_wakes_and_ends() {
    let _watchdog = Watchdog::new();
    let server = Server::new(&random_pipe(), &BindOptions::default(), echo());
    let channel = server.connect();
    wakes(&channel, |channel| assert_eq!(channel.recv(&mut [0; 16], None).unwrap(), 0));
    assert_eq!(channel.recv(&mut [0; 16], SECOND).unwrap(), 0);
    assert_eq!(channel.send(b"x", SECOND).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    drop(channel);
    server.end();

    // Nobody accepts, nobody reads.
    let listener = Listener::bind(&random_pipe(), &options(1)).unwrap();
    let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
    wakes(&channel, |channel| {
        loop {
            if let Err(error) = channel.send(&[0; 65_536], None) {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
                return;
            }
        }
    });
    let ((), took) = timed(|| drop(channel));
    assert!(took < LONG / 2, "{took:?}");
}

#[test]
fn what_was_reported_as_sent_arrives() {
    let _watchdog = Watchdog::new();
    let listener = Listener::bind(&random_pipe(), &options(1)).unwrap();
    let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
    let mut sent = 0;
    loop {
        let (result, took) = timed(|| channel.send(&[7; 50_000], millis(200)));
        match result {
            Ok(count) => sent += count,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(took >= Duration::from_millis(200) && took < LONG / 2, "{took:?}");
                break;
            }
        }
        assert!(sent < 1 << 20, "somebody swallows everything");
    }
    assert_eq!(channel.send(b"x", Some(Duration::ZERO)).unwrap_err().kind(), io::ErrorKind::TimedOut);
    // The write under way is delivered although the channel is dropped.
    let (server, ()) = thread::scope(|scope| {
        let dropping = scope.spawn(|| drop(channel));
        thread::sleep(Duration::from_millis(200));
        (Server::with_listener(listener, sink()), dropping.join().unwrap())
    });
    assert_eq!(server.end(), sent);
}

#[test]
fn bytes_outlive_the_thread_that_sent_them() {
    let _watchdog = Watchdog::new();
    // Windows cancels what a thread has started when it ends, with an exception that we rely on.
    let listener = Listener::bind(&random_pipe(), &options(1)).unwrap();
    let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
    let bytes = pattern(3 * 65_536);
    let mut sent = 0;
    while thread::scope(|scope| scope.spawn(|| channel.send(&bytes[sent..], millis(100))).join().unwrap())
        .map(|count| sent += count)
        .is_ok()
    {
        assert!(sent < bytes.len(), "somebody swallows everything");
    }
    let server = Server::with_listener(listener, echo());
    assert!(recv_exactly(&channel, sent) == bytes[..sent]);
    drop(channel);
    assert_eq!(server.end(), sent);
}

#[test]
fn stream_by_hand() {
    let _watchdog = Watchdog::new();
    let mut listener = Listener::bind(&random_pipe(), &options(2)).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let refused = listener.accept(&registry, Token(0)).err().unwrap();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    listener.register(&registry, Token(0)).unwrap();
    assert!(listener.register(&registry, Token(0)).is_err());
    assert_eq!(listener.accept(&registry, Token(0)).err().unwrap().kind(), io::ErrorKind::WouldBlock);

    let channel = Channel::connect(listener.endpoint(), SECOND).unwrap();
    send_all(&channel, b"early");
    let mut events = Events::with_capacity(16);
    // Several turns before anybody accepts: what came in meanwhile must not be lost.
    for _ in 0..3 {
        poll.poll(&mut events, millis(100)).unwrap();
    }
    let mut stream = listener.accept(&registry, Token(0)).unwrap();
    assert_eq!(stream.local_address().unwrap(), Address::Pipe(path(listener.endpoint())));
    assert_eq!(stream.peer_address().unwrap(), Address::Unnamed);
    assert!(!stream.has_half_close() && !Stream::SHORT_READ_DRAINS);
    assert_eq!(stream.shutdown_write().unwrap_err().kind(), io::ErrorKind::Unsupported);

    stream.register(&registry, Token(7), Interest::READABLE).unwrap();
    poll.poll(&mut events, SECOND).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(7)), "an event after registering: {events:?}");
    let mut buf = [0; 3];
    assert_eq!(stream.read(&mut buf).unwrap(), 3);
    assert_eq!(stream.read(&mut buf).unwrap(), 2);
    assert_eq!(stream.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);

    assert_eq!(stream.write(b"").unwrap(), 0);
    assert_eq!(stream.write(b"one two").unwrap(), 7);
    assert_eq!(recv_exactly(&channel, 7), b"one two");

    // Out of one registration and into another.
    stream.deregister(&registry).unwrap();
    assert!(stream.deregister(&registry).is_err());
    stream.register(&registry, Token(8), Interest::READABLE).unwrap();
    stream.reregister(&registry, Token(9), Interest::READABLE | Interest::WRITABLE).unwrap();
    send_all(&channel, b"more");
    poll.poll(&mut events, SECOND).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(9)), "{events:?}");
    stream.deregister(&registry).unwrap();
    drop(stream);
    poll.poll(&mut events, millis(50)).unwrap();
    assert_eq!(channel.recv(&mut buf, SECOND).unwrap(), 0);
    listener.deregister(&registry).unwrap();
}

/// Nor does a client that keeps its handle, and reads nothing.
#[test]
fn a_write_under_way_does_not_keep_the_name() {
    let _watchdog = Watchdog::new();
    let mut listener = Listener::bind(&random_pipe(), &options(2)).unwrap();
    let endpoint = listener.endpoint().clone();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let mut events = Events::with_capacity(16);
    listener.register(&registry, Token(0)).unwrap();
    let channel = Channel::connect(&endpoint, SECOND).unwrap();
    poll.poll(&mut events, SECOND).unwrap();
    let mut stream = listener.accept(&registry, Token(0)).unwrap();
    stream.register(&registry, Token(1), Interest::READABLE).unwrap();
    // Until a write is under way for two turns.
    let mut refused = 0;
    while refused < 2 {
        refused = if stream.write(&pattern(65_536)).is_err() { refused + 1 } else { 0 };
        poll.poll(&mut events, millis(20)).unwrap();
    }
    stream.deregister(&registry).unwrap();
    listener.deregister(&registry).unwrap();
    drop((stream, listener));
    for _ in 0..500 {
        if Listener::is_gone(&endpoint) {
            break;
        }
        poll.poll(&mut events, millis(10)).unwrap();
    }
    Listener::bind(&endpoint, &BindOptions::default()).unwrap();
    drop(channel);
}

#[test]
fn accepting_may_pause() {
    let _watchdog = Watchdog::new();
    let mut listener = Listener::bind(&random_pipe(), &options(2)).unwrap();
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let mut events = Events::with_capacity(16);
    listener.register(&registry, Token(0)).unwrap();
    listener.deregister(&registry).unwrap();
    let early = Channel::connect(listener.endpoint(), SECOND).unwrap();
    poll.poll(&mut events, millis(50)).unwrap();
    assert!(events.is_empty());
    listener.register(&registry, Token(3)).unwrap();
    poll.poll(&mut events, SECOND).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(3)), "{events:?}");
    let stream = listener.accept(&registry, Token(3)).unwrap();
    assert_eq!(listener.accept(&registry, Token(3)).err().unwrap().kind(), io::ErrorKind::WouldBlock);
    // Dropped without ever having been registered by its owner.
    drop(stream);
    poll.poll(&mut events, millis(50)).unwrap();
    assert_eq!(early.recv(&mut [0; 1], SECOND).unwrap(), 0);
}

#[test]
fn what_is_no_stream_here_is_refused() {
    for text in
        ["unix:/run/x", "abstract:x", "unixgram:/run/x", "abstractgram:x", "udp:127.0.0.1:1", "mailslot:x"]
    {
        let endpoint: Endpoint = text.parse().unwrap();
        let expected = match endpoint {
            Endpoint::Udp { .. } | Endpoint::Mailslot(_) => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Unsupported,
        };
        let bind = Listener::bind(&endpoint, &BindOptions::default()).err().unwrap();
        let connect = Channel::connect(&endpoint, SECOND).err().unwrap();
        assert_eq!((bind.kind(), connect.kind()), (expected, expected), "{text}: {bind}");
        assert!(endpoint.kind() != EndpointKind::Stream || bind.to_string().contains("use local: or pipe:"));
    }
}
