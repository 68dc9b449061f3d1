//! What the tests have in common: watchdogs, random names, servers as processes, raw peers.

#![allow(dead_code, unused_imports, reason = "each test binary uses its own part of this")]

mod alone;
mod conversation;
mod dialect;
pub(crate) mod fake;
mod gate;

use std::io::{BufRead, BufReader, ErrorKind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sidewire::{Access, Endpoint, Listen, Running, Server};
use sidewire_platform::Channel;

pub(crate) use alone::{alone, announce};
#[cfg(unix)] // Windows has no such limit.
pub(crate) use alone::{alone_with, serve_alone};
pub(crate) use conversation::{Conversation, Step, conversations};
pub(crate) use dialect::{
    Dialect, FIXED, Reply, client, connect, everywhere, everywhere_with, in_every_dialect, on_every_stream,
};
pub(crate) use gate::Gate;

/// How many times slower than usual a machine may be before its tests count as hanging.
const SLOWEST: u32 = 5;

/// Ends the test process if a test takes longer than it may on a machine on which it usually takes no longer
/// than so many seconds: a test may fail, it may not hang.
#[must_use = "it watches until it is dropped"]
pub(crate) fn watchdog(seconds: u64) -> Watchdog {
    let (alive, gone) = mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::spawn(move || {
        let patience = Duration::from_secs(seconds) * SLOWEST;
        if gone.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} has run for {patience:?} and is ended");
            std::process::abort();
        }
    });
    Watchdog(alive)
}

/// See [`watchdog`].
pub(crate) struct Watchdog(mpsc::Sender<()>);

/// A name that no other test has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{:08x}{:08x}", std::process::id(), getrandom::u32().expect("randomness"))
}

/// A fresh endpoint of this scheme, to listen on.
pub(crate) fn fresh(scheme: &str) -> Endpoint {
    let text = match scheme {
        "tcp" | "udp" => format!("{scheme}:127.0.0.1:0"),
        "unix" | "unixgram" => {
            format!("{scheme}:{}", std::env::temp_dir().join(unique("sw")).with_extension("sock").display())
        }
        scheme => format!("{scheme}:{}", unique("sw")),
    };
    text.parse().expect("an endpoint")
}

/// One fresh endpoint for each kind of stream that this system has.
pub(crate) fn all_streams() -> Vec<Endpoint> {
    sidewire_platform::stream_schemes().iter().map(|scheme| fresh(scheme)).collect()
}

/// The same, each with how many times a crowd does something there: so often on the first, a tenth on the others. On
/// Windows a quarter of it: under Wine a call takes several times as long.
pub(crate) fn crowded_streams(times: usize) -> Vec<(Endpoint, usize)> {
    let times = if cfg!(windows) { times / 4 } else { times };
    let often = [times].into_iter().chain(std::iter::repeat(times / 10));
    all_streams().into_iter().zip(often).collect()
}

/// Who may be at the other end in tests: the same user, or anyone where nobody can tell.
pub(crate) fn usual_access(endpoint: &Endpoint) -> Access {
    if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone }
}

/// How tests listen where it does not matter.
pub(crate) fn usual(endpoint: &Endpoint) -> Listen {
    Listen::from(endpoint).access(usual_access(endpoint))
}

/// Runs a server with these listeners on a thread. Returns the endpoints as bound.
pub(crate) fn start<S: Send + 'static>(
    mut server: Server<S>,
    listen: impl IntoIterator<Item = Listen>,
) -> (Running<S>, Vec<Endpoint>) {
    let bound = listen.into_iter().map(|listen| server.listen(listen).expect("listen")).collect();
    (server.spawn().expect("spawn"), bound)
}

/// The store that most tests talk to: 1 get, 2 set, 3 set-and-get, 4 echo; 16 types.
pub(crate) fn store() -> Server<Vec<u8>> {
    store_with(sidewire::Limits::default())
}

/// The same with other limits.
pub(crate) fn store_with(limits: sidewire::Limits) -> Server<Vec<u8>> {
    let mut server = Server::builder(b"hello, this is server!".to_vec())
        .types(16)
        .limits(limits)
        .build()
        .expect("a server");
    server.on(1, |value, _request, reply| {
        reply.write(value);
        Ok(())
    });
    server.on(2, |value, request, _reply| {
        *value = request.payload().to_vec();
        request.publish(1, request.payload())
    });
    server.on(3, |value, request, reply| {
        reply.write(std::mem::replace(value, request.payload().to_vec()));
        request.publish(1, request.payload())
    });
    server.topic(1, sidewire::WhenSlow::KeepLatest);
    server.on(4, |_value, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server
}

/// Waits until something is so, asking often.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < patience, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many times as many rounds a test of many has: `SIDEWIRE_ROUNDS`, or once.
pub(crate) fn times() -> usize {
    std::env::var("SIDEWIRE_ROUNDS").map_or(1, |times| times.parse().expect("a number"))
}

/// A raw connection: bytes in and out, and a time limit on everything.
pub(crate) struct Raw(pub(crate) Channel);

/// What a raw peer waits for before it calls the test failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

impl Raw {
    pub(crate) fn connect(endpoint: &Endpoint) -> Raw {
        Raw(Channel::connect(endpoint, Some(PATIENCE)).unwrap_or_else(|error| panic!("{endpoint}: {error}")))
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    pub(crate) fn try_send(&self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.0.send(bytes, Some(PATIENCE))?..];
        }
        Ok(())
    }

    /// Exactly so many bytes.
    pub(crate) fn receive(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut have = 0;
        while have < count {
            match self.0.recv(&mut bytes[have..], Some(PATIENCE)).expect("receive") {
                0 => panic!("the end after {have} of {count} bytes: {:x?}…", &bytes[..have.min(64)]),
                got => have += got,
            }
        }
        bytes
    }

    /// All bytes until the other side ends the connection in order. A reset is no such end: it may
    /// have eaten what was still to come.
    pub(crate) fn receive_to_end(&self) -> Vec<u8> {
        let (bytes, end) = self.receive_all(PATIENCE);
        if let Err(error) = end {
            panic!("no end in order after {} bytes: {error}", bytes.len());
        }
        bytes
    }

    /// The same where the server gives up on a peer, and may well reset the connection. Why it may
    /// is said at the call.
    pub(crate) fn receive_to_end_or_reset(&self) -> Vec<u8> {
        match self.receive_all(PATIENCE) {
            (bytes, Err(error)) if error.kind() == ErrorKind::TimedOut => {
                panic!("no end in sight after {} bytes", bytes.len())
            }
            (bytes, _) => bytes,
        }
    }

    /// The end of the connection in order, with nothing before it.
    pub(crate) fn expect_end(&self) {
        let (bytes, end) = self.receive_all(PATIENCE);
        assert!(bytes.is_empty(), "more comes: {:x?}", &bytes[..bytes.len().min(64)]);
        end.expect("an end in order");
    }

    /// The same where a reset does as well. Why it does is said at the call.
    pub(crate) fn expect_end_or_reset(&self) {
        let bytes = self.receive_to_end_or_reset();
        assert!(bytes.is_empty(), "more comes: {:x?}", &bytes[..bytes.len().min(64)]);
    }

    /// All bytes, and how they ended.
    fn receive_all(&self, patience: Duration) -> (Vec<u8>, std::io::Result<()>) {
        let (mut bytes, mut chunk) = (Vec::new(), vec![0; 65536]);
        loop {
            match self.0.recv(&mut chunk, Some(patience)) {
                Ok(0) => return (bytes, Ok(())),
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) => return (bytes, Err(error)),
            }
        }
    }

    /// Whether nothing comes for a while, not even an end.
    pub(crate) fn is_silent(&self, during: Duration) -> bool {
        self.0.recv(&mut [0], Some(during)).is_err_and(|error| error.kind() == ErrorKind::TimedOut)
    }

    /// A classic request, short.
    pub(crate) fn send_classic(&self, msg_type: i32, payload: &[u8]) {
        self.send(&classic(msg_type, 0, payload));
    }

    /// A classic reply, short: type, rc, payload.
    pub(crate) fn receive_classic(&self) -> (i32, i32, Vec<u8>) {
        let head = self.receive(12);
        let number = |at: usize| i32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes"));
        (number(0), number(4), self.receive(number(8) as usize))
    }

    /// Sends a v1 hello and takes the server's; returns it.
    pub(crate) fn shake_hands(&self) -> Vec<u8> {
        self.send(&hello(1, 1));
        let mut answer = self.receive(8);
        let length = u16::from_le_bytes([answer[4], answer[5]]) as usize;
        answer.extend(self.receive(length - 8));
        answer
    }

    /// One v1 frame: kind, flags, type, id, rc, payload.
    pub(crate) fn receive_frame(&self) -> Frame {
        let head = self.receive(16);
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        Frame {
            kind: head[4],
            flags: head[5],
            msg_type: u16::from_le_bytes([head[6], head[7]]),
            id: word(8),
            rc: word(12) as i32,
            payload: self.receive(word(0) as usize),
        }
    }
}

/// A v1 frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub msg_type: u16,
    pub id: u32,
    pub rc: i32,
    pub payload: Vec<u8>,
}

/// The bytes of a classic frame.
pub(crate) fn classic(msg_type: i32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let head = [msg_type, rc, payload.len() as i32].map(i32::to_ne_bytes).concat();
    [&head[..], payload].concat()
}

/// The bytes of an initiator's hello that speaks these versions.
pub(crate) fn hello(min: u8, max: u8) -> Vec<u8> {
    let mut bytes = vec![0xD1, 0x53, 0x57, 0xD1, 48, 0, min, max];
    for number in [0u32, 0, 16 << 20, 4096, 64 << 20, 0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&[7; 16]);
    bytes
}

/// The bytes of a v1 frame.
pub(crate) fn frame(kind: u8, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&[kind, 0]);
    bytes.extend_from_slice(&msg_type.to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&rc.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A program that announces its endpoints with `listening ENDPOINT` lines, as `sidewire serve`
/// and the examples do. Killed when dropped.
pub(crate) struct Process {
    pub child: Child,
    pub endpoints: Vec<Endpoint>,
}

impl Process {
    /// Starts it and waits for `count` such lines.
    pub(crate) fn start(command: &mut Command, count: usize) -> Process {
        Process::start_with_input(command.stdin(Stdio::null()), count)
    }

    /// The same of one whose standard input is what the command says.
    pub(crate) fn start_with_input(command: &mut Command, count: usize) -> Process {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("start a process");
        let stdout = child.stdout.take().expect("its output");
        let mut process = Process { child, endpoints: Vec::new() };
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        while process.endpoints.len() < count {
            let line = lines.recv_timeout(PATIENCE).expect("a line that says 'listening'");
            if let Some(endpoint) = line.strip_prefix("listening ") {
                process.endpoints.push(endpoint.parse().expect("an endpoint"));
            }
        }
        process
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for a process") {
                return status;
            }
            assert!(Instant::now() < until, "the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
