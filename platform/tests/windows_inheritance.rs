//! What a child process gets of us: nothing. A handle that it keeps would keep a connection open, or a
//! name taken, after we have closed ours.
//!
//! One test, because it looks at all handles of the process.
#![cfg(windows)]

mod windows_support;

use std::collections::BTreeSet;
use std::ptr;

use mio::{Interest, Token};
use sidewire_platform::{
    BindOptions, Channel, DatagramChannel, Datagrams, Endpoint, Events, Listener, Poll, Stream,
};
use windows_support::*;
use windows_sys::Win32::Foundation::{GetHandleInformation, HANDLE_FLAG_INHERIT};

/// Handles that a child process would inherit. They are small multiples of four.
fn inheritable() -> BTreeSet<usize> {
    let is_inheritable = |value: &usize| {
        let mut flags = 0;
        // SAFETY: `flags` lives on this stack until the call returns; a value that is no handle of
        // ours is an error, not a fault.
        let known = unsafe { GetHandleInformation(ptr::without_provenance_mut(*value), &raw mut flags) };
        known != 0 && flags & HANDLE_FLAG_INHERIT != 0
    };
    (4..0x8000).step_by(4).filter(is_inheritable).collect()
}

/// Both ends of a connection, and what they live on.
fn connection(endpoint: &Endpoint, poll: &mut Poll, first: usize) -> (Listener, Channel, Stream) {
    let mut listener = Listener::bind(endpoint, &BindOptions::default()).unwrap();
    let registry = poll.registry().try_clone().unwrap();
    listener.register(&registry, Token(first)).unwrap();
    let channel = Channel::connect(listener.endpoint(), Some(LONG)).unwrap();
    let mut stream = loop {
        poll.poll(&mut Events::with_capacity(16), millis(50)).unwrap();
        if let Ok(stream) = listener.accept(&registry, Token(first)) {
            break stream;
        }
    };
    stream.register(&registry, Token(first + 1), Interest::READABLE).unwrap();
    // With reads and writes under way.
    send_all(&channel, b"x");
    let _ = (stream.read(&mut [0; 8]), stream.write(b"y"));
    (listener, channel, stream)
}

#[test]
fn no_handle_is_inheritable() {
    let _watchdog = Watchdog::new();
    let before = inheritable();
    let mut poll = Poll::new().unwrap();
    let local = Endpoint::Local(format!("test.{:016x}", random()));
    let endpoints = [random_pipe(), local, "tcp:127.0.0.1:0".parse().unwrap()];
    let connections: Vec<_> = endpoints
        .iter()
        .zip([2, 4, 6])
        .map(|(endpoint, token)| connection(endpoint, &mut poll, token))
        .collect();
    let mailslot = Endpoint::Mailslot(format!("sidewire-test-{}-{:016x}", std::process::id(), random()));
    let datagrams: Vec<_> = [mailslot, "udp:127.0.0.1:0".parse().unwrap()]
        .iter()
        .map(|endpoint| {
            let server = Datagrams::bind(endpoint, &BindOptions::default()).unwrap();
            let client = DatagramChannel::connect(server.endpoint()).unwrap();
            (server, client)
        })
        .collect();
    let after = inheritable();
    assert_eq!(after.difference(&before).count(), 0, "{after:x?}, before {before:x?}");
    drop((connections, datagrams, poll));
}
