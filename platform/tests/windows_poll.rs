//! What a poll tells of pipes and sockets, and when. Runs on Windows and under Wine.
#![cfg(windows)]

mod windows_support;

use std::io;
use std::thread;
use std::time::Duration;

use mio::{Interest, Token};
use sidewire_platform::{BindOptions, Channel, Endpoint, Events, Listener, Poll, Registry, Stream, Waker};
use windows_support::*;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const LISTENER: Token = Token(0);
const STREAM: Token = Token(7);
const WAKER: Token = Token(1);

fn tcp() -> Endpoint {
    "tcp:127.0.0.1:0".parse().unwrap()
}

/// A poll with a listener, and one connection that is not registered yet.
struct Stage {
    poll: Poll,
    registry: Registry,
    listener: Listener,
    channel: Channel,
    stream: Stream,
}

impl Stage {
    fn new(endpoint: &Endpoint) -> Stage {
        Stage::with(Poll::new().unwrap(), endpoint)
    }

    fn with(mut poll: Poll, endpoint: &Endpoint) -> Stage {
        let registry = poll.registry().try_clone().unwrap();
        let mut listener = Listener::bind(endpoint, &BindOptions::default()).unwrap();
        listener.register(&registry, LISTENER).unwrap();
        let channel = Channel::connect(listener.endpoint(), Some(LONG)).unwrap();
        let stream = accept(&mut poll, &mut listener, LISTENER);
        Stage { poll, registry, listener, channel, stream }
    }

    fn register(&mut self, interest: Interest) {
        self.stream.register(&self.registry, STREAM, interest).unwrap();
    }

    fn reregister(&mut self, interest: Interest) {
        self.stream.reregister(&self.registry, STREAM, interest).unwrap();
    }

    /// Turns the poll until it tells this of the stream.
    fn wait(&mut self, is_it: impl Fn(&sidewire_platform::Event) -> bool) {
        wait(&mut self.poll, |event| event.token() == STREAM && is_it(event));
    }

    /// Everything that comes until so many bytes have.
    fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            match self.stream.read_append(&mut bytes, 1 << 20) {
                Ok(more) => assert_ne!(more, 0, "the end"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(|event| event.is_readable())
                }
                Err(error) => panic!("{error}"),
            }
        }
        bytes
    }

    fn is_quiet(&mut self) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, millis(50)).unwrap();
        assert!(events.iter().all(|event| event.token() != STREAM), "{events:?}");
    }
}

fn wait(poll: &mut Poll, is_it: impl Fn(&sidewire_platform::Event) -> bool) {
    let mut events = Events::with_capacity(8);
    until("an event", || {
        poll.poll(&mut events, millis(100)).unwrap();
        events.iter().any(&is_it).then_some(())
    });
}

fn accept(poll: &mut Poll, listener: &mut Listener, token: Token) -> Stream {
    let registry = poll.registry().try_clone().unwrap();
    let mut events = Events::with_capacity(8);
    until("a client", || match listener.accept(&registry, token) {
        Ok(stream) => Some(stream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            poll.poll(&mut events, millis(100)).unwrap();
            None
        }
        Err(error) => panic!("{error}"),
    })
}

fn would_block<T: std::fmt::Debug>(result: io::Result<T>) {
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// Nobody need have tried to read.
#[test]
fn what_comes_is_told_without_a_read_before() {
    let _watchdog = Watchdog::new();
    let mut stage = Stage::new(&random_pipe());
    send_all(&stage.channel, b"early");
    stage.register(Interest::READABLE);
    stage.wait(|event| event.is_readable());
    assert_eq!(stage.read(5), b"early");
    would_block(stage.stream.read(&mut [0; 8]));
    stage.is_quiet();
    send_all(&stage.channel, b"later");
    stage.wait(|event| event.is_readable());
    assert_eq!(stage.read(5), b"later");
}

#[test]
fn what_was_left_unread_is_told_again_to_a_new_registration() {
    let _watchdog = Watchdog::new();
    let mut stage = Stage::new(&random_pipe());
    stage.register(Interest::READABLE);
    send_all(&stage.channel, b"hello");
    stage.wait(|event| event.is_readable());
    // A part of it stays where it is.
    assert_eq!(stage.stream.read(&mut [0; 2]).unwrap(), 2);
    stage.is_quiet();
    stage.reregister(BOTH);
    stage.wait(|event| event.is_readable());
    assert_eq!(stage.stream.read(&mut [0; 2]).unwrap(), 2);
    stage.stream.deregister(&stage.registry).unwrap();
    stage.register(Interest::READABLE);
    stage.wait(|event| event.is_readable());
    assert_eq!(stage.read(1), b"o");
}

#[test]
fn a_write_that_was_refused_is_told_of_when_it_can_go_on() {
    let _watchdog = Watchdog::new();
    let mut stage = Stage::new(&random_pipe());
    stage.register(Interest::READABLE);
    let mut written = 0;
    while let Ok(count) = stage.stream.write(&pattern(65_536)) {
        written += count;
    }
    assert!(written >= 2 * 65_536, "{written}");
    stage.reregister(BOTH);
    stage.is_quiet();
    assert!(recv_exactly(&stage.channel, 65_536) == pattern(65_536));
    stage.wait(|event| event.is_writable());
    assert_eq!(stage.stream.write(b"more").unwrap(), 4);
    // Asked for only now, and yet told.
    stage.reregister(Interest::READABLE);
    stage.is_quiet();
    assert!(recv_exactly(&stage.channel, written - 65_536 + 4).ends_with(b"more"));
    stage.is_quiet();
    stage.reregister(BOTH);
    stage.wait(|event| event.is_writable());
}

#[test]
fn large_reads_go_where_they_are_wanted() {
    let _watchdog = Watchdog::new();
    let mut stage = Stage::new(&random_pipe());
    stage.register(Interest::READABLE);
    let bytes = pattern(3 << 20);
    let channel = &stage.channel;
    let largest = thread::scope(|scope| {
        scope.spawn(|| send_all(channel, &bytes));
        let (mut all, mut largest) = (Vec::new(), 0);
        let mut events = Events::with_capacity(8);
        while all.len() < bytes.len() {
            match stage.stream.read_append(&mut all, 1 << 20) {
                Ok(count) => largest = largest.max(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stage.poll.poll(&mut events, Some(LONG)).unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(all == bytes);
        largest
    });
    assert!(largest > 4_096, "{largest}");
    // And what is little again.
    send_all(&stage.channel, b"hello");
    assert_eq!(stage.read(5), b"hello");
}

#[test]
fn the_end_is_told_behind_the_last_bytes() {
    let _watchdog = Watchdog::new();
    let Stage { mut poll, registry, channel, mut stream, mut listener } = Stage::new(&random_pipe());
    stream.register(&registry, STREAM, Interest::READABLE).unwrap();
    send_all(&channel, b"bye");
    drop(channel);
    let mut bytes = Vec::new();
    while let Some(count) = stream
        .read_append(&mut bytes, 8)
        .map_or_else(|error| (error.kind() == io::ErrorKind::WouldBlock).then_some(usize::MAX), Some)
    {
        match count {
            0 => break,
            usize::MAX => wait(&mut poll, |event| event.token() == STREAM && event.is_readable()),
            _ => {}
        }
    }
    assert_eq!(bytes, b"bye");
    stream.deregister(&registry).unwrap();
    listener.deregister(&registry).unwrap();
}

/// What was under way when it was dropped has the token of nobody.
#[test]
fn a_dropped_stream_tells_nothing_to_the_next_with_its_token() {
    let _watchdog = Watchdog::new();
    let mut stage = Stage::new(&random_pipe());
    for _ in 0..20 {
        stage.register(BOTH);
        would_block(stage.stream.read(&mut [0; 8]));
        stage.poll.poll(&mut Events::with_capacity(8), millis(5)).unwrap();
        while stage.stream.write(&pattern(65_536)).is_ok() {}
        stage.stream.deregister(&stage.registry).unwrap();
        let next = Channel::connect(stage.listener.endpoint(), Some(LONG)).unwrap();
        let stream = accept(&mut stage.poll, &mut stage.listener, LISTENER);
        drop(std::mem::replace(&mut stage.stream, stream));
        stage.register(Interest::READABLE);
        stage.is_quiet();
        stage.stream.deregister(&stage.registry).unwrap();
        stage.channel = next;
    }
}

/// In either order: who comes second has the poll wait elsewhere.
#[test]
fn pipes_and_sockets_share_a_poll() {
    let _watchdog = Watchdog::new();
    for (first, second) in [(random_pipe(), tcp()), (tcp(), random_pipe())] {
        let Stage { poll, registry, listener, channel, mut stream } = Stage::new(&first);
        stream.register(&registry, Token(3), Interest::READABLE).unwrap();
        let mut other = Stage::with(poll, &second);
        other.register(Interest::READABLE);
        for round in 0..20u8 {
            send_all(&channel, &[round]);
            wait(&mut other.poll, |event| event.token() == Token(3));
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
            would_block(stream.read(&mut [0; 8]));
            assert_eq!(stream.write(b"yes").unwrap(), 3);
            assert_eq!(recv_exactly(&channel, 3), b"yes");
            send_all(&other.channel, &[round]);
            assert_eq!(other.read(1), [round]);
        }
        stream.deregister(&registry).unwrap();
        drop(listener);
    }
}

#[test]
fn it_is_woken_wherever_it_waits() {
    let _watchdog = Watchdog::new();
    let woken = |poll: &mut Poll, waker: &Waker| {
        let mut events = Events::with_capacity(8);
        // Before it waits: once, however often.
        waker.wake().unwrap();
        waker.wake().unwrap();
        poll.poll(&mut events, None).unwrap();
        assert_eq!(events.iter().filter(|event| event.token() == WAKER).count(), 1);
        poll.poll(&mut events, millis(20)).unwrap();
        assert!(events.is_empty(), "{events:?}");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                waker.wake().unwrap();
            });
            wait(poll, |event| event.token() == WAKER);
        });
    };
    for endpoints in [[random_pipe(), tcp()], [tcp(), random_pipe()]] {
        let mut poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        assert!(Waker::new(poll.registry(), WAKER).is_err());
        woken(&mut poll, &waker);
        let mut listeners = Vec::new();
        for endpoint in endpoints {
            let mut listener = Listener::bind(&endpoint, &BindOptions::default()).unwrap();
            listener.register(poll.registry(), LISTENER).unwrap();
            listeners.push(listener);
            woken(&mut poll, &waker);
        }
        drop(poll);
        waker.wake().unwrap();
    }
}

/// While it waits for others: also then it moves.
#[test]
fn what_another_thread_registers_is_told_at_once() {
    let _watchdog = Watchdog::new();
    for endpoints in [[random_pipe(), tcp()], [tcp(), random_pipe()]] {
        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut listeners = Vec::new();
        for (number, endpoint) in endpoints.iter().enumerate() {
            let token = Token(10 + number);
            let listener = thread::scope(|scope| {
                let other = scope.spawn(|| {
                    thread::sleep(Duration::from_millis(50));
                    let mut listener = Listener::bind(endpoint, &BindOptions::default()).unwrap();
                    listener.register(&registry, token).unwrap();
                    let channel = Channel::connect(listener.endpoint(), Some(LONG)).unwrap();
                    (listener, channel)
                });
                let mut events = Events::with_capacity(8);
                until("an event", || {
                    poll.poll(&mut events, None).unwrap();
                    events.iter().any(|event| event.token() == token).then_some(())
                });
                other.join().unwrap()
            });
            listeners.push(listener);
        }
    }
}
