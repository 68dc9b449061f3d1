//! Servers that do what no real one would, on TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use sidewire::{Client, Connect, Endpoint};

use super::{PATIENCE, connect, hello};

/// A server that does with one connection what a real one never would.
pub(crate) struct Fake {
    pub(crate) endpoint: Endpoint,
    thread: thread::JoinHandle<()>,
}

impl Fake {
    pub(crate) fn new(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("its address").port();
        let thread = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            script(&mut stream);
        });
        Fake { endpoint: Endpoint::Tcp { host: "127.0.0.1".into(), port }, thread }
    }

    /// One that shakes hands first.
    pub(crate) fn v1(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> Fake {
        Fake::new(|stream| {
            take_hello(stream);
            send(stream, &answer(0, 1, 1));
            script(stream);
        })
    }

    pub(crate) fn connect(&self) -> Connect {
        connect(&self.endpoint).timeout(Some(Duration::from_secs(5)))
    }

    pub(crate) fn client(&self) -> Client {
        self.connect().open().expect("connect")
    }

    /// Its own errors count too.
    pub(crate) fn join(self) {
        self.thread.join().expect("the fake server");
    }
}

pub(crate) fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("send");
}

pub(crate) fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("receive");
    bytes
}

pub(crate) fn take_hello(stream: &mut TcpStream) {
    let head = take(stream, 6);
    take(stream, usize::from(u16::from_le_bytes([head[4], head[5]])) - 6);
}

/// Takes a v1 request and returns its id.
pub(crate) fn take_request(stream: &mut TcpStream) -> u32 {
    let head = take(stream, 16);
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    take(stream, word(0) as usize);
    word(8)
}

/// Waits until the client has closed; with what it has not read, that is a reset.
pub(crate) fn wait_for_the_end(stream: &mut TcpStream) {
    while !matches!(stream.read(&mut [0; 1000]), Ok(0) | Err(_)) {}
}

/// A responder's hello of version `chosen`, which speaks 1 to `max`.
pub(crate) fn answer(status: i32, chosen: u8, max: u8) -> Vec<u8> {
    let mut bytes = hello(1, max);
    bytes[4] = 72;
    bytes.extend_from_slice(&status.to_le_bytes());
    bytes.extend_from_slice(&[chosen, 0, 0, 0]);
    bytes.extend_from_slice(&[9; 16]);
    bytes
}
