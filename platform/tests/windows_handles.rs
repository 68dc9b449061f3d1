//! That no handle is left of pipes, whatever was under way on them.
//!
//! One test, because it counts all handles of the process.
#![cfg(windows)]

mod windows_support;

use std::io;
use std::time::Duration;

use mio::{Interest, Token};
use sidewire_platform::{BindOptions, Channel, Events, Listener, Poll, Registry, Stream};
use windows_support::*;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};

fn handles() -> u32 {
    let mut count = 0;
    // SAFETY: GetCurrentProcess is a constant; `count` lives on this stack until the call returns.
    assert_ne!(unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) }, 0);
    count
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum Last {
    Stream,
    Channel,
    Poll,
    Flushed,
}

fn connection(poll: &mut Poll, registry: &Registry) -> (Listener, Channel, Stream) {
    let mut listener = Listener::bind(&random_pipe(), &BindOptions::default()).unwrap();
    listener.register(registry, Token(0)).unwrap();
    let channel = Channel::connect(listener.endpoint(), Some(LONG)).unwrap();
    let mut events = Events::with_capacity(8);
    let stream = until("a client", || match listener.accept(registry, Token(0)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            poll.poll(&mut events, millis(100)).unwrap();
            None
        }
        accepted => Some(accepted.unwrap()),
    });
    (listener, channel, stream)
}

/// A read is under way, and a write that nobody takes; then all is dropped, this last.
fn round(last: Last) {
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let (mut listener, channel, mut stream) = connection(&mut poll, &registry);
    stream.register(&registry, Token(1), Interest::READABLE).unwrap();
    let _ = stream.read(&mut [0; 8]);
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, millis(1)).unwrap();
    while stream.write(&[7; 65_536]).is_ok() {}
    stream.deregister(&registry).unwrap();
    listener.deregister(&registry).unwrap();
    match last {
        Last::Stream => drop((listener, channel, poll, stream)),
        Last::Channel => drop((listener, stream, poll, channel)),
        Last::Poll => {
            drop((stream, listener, channel));
            poll.poll(&mut events, millis(1)).unwrap();
        }
        Last::Flushed => {
            // The poll has gone when time is up, and the write ends.
            stream.close_flushed(Duration::from_millis(100));
            drop((listener, poll, channel));
        }
    }
}

#[test]
fn nothing_is_left_open() {
    let _watchdog = Watchdog::new();
    let all = [Last::Stream, Last::Channel, Last::Poll, Last::Flushed];
    // What is made once and kept.
    all.into_iter().for_each(round);
    std::thread::sleep(Duration::from_millis(500));
    let before = handles();
    for last in all {
        (0..5).for_each(|_| round(last));
        // Helper threads take their time.
        until(&format!("the handles of before, behind {last:?}"), || (handles() <= before).then_some(()));
    }
}
