//! A small server on a poll, a watchdog and random names, for the Windows tests.
// Each test file uses its part, and `pub` says which functions are for them.
#![allow(dead_code, unreachable_pub)]

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use sidewire_platform::{BindOptions, Channel, Endpoint, Events, Listener, Peer, Poll, Stream, Waker};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleW, GetProcAddress};

/// Longer than any test takes that works, on a machine that has ten times as much to do as it can: what takes
/// 4 s on an idle one under Wine was seen to take 36 s.
pub const LONG: Duration = Duration::from_secs(60);
pub const SECOND: Option<Duration> = Some(Duration::from_secs(1));

pub fn millis(millis: u64) -> Option<Duration> {
    Some(Duration::from_millis(millis))
}

/// Ends the whole process, loudly, if the test that holds it does not end in time.
pub struct Watchdog(Option<Sender<()>>);

impl Watchdog {
    pub fn new() -> Watchdog {
        let (alive, watch) = mpsc::channel::<()>();
        let name = thread::current().name().unwrap_or("?").to_owned();
        thread::spawn(move || {
            if watch.recv_timeout(2 * LONG) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name}: the watchdog barks");
                std::process::abort();
            }
        });
        Watchdog(Some(alive))
    }
}

/// Whether this is Wine, which has a function of its own among the system's.
pub fn is_wine() -> bool {
    let library = [b'n', b't', b'd', b'l', b'l', 0].map(u16::from);
    // SAFETY: both names are NUL-terminated and live until the calls return; ntdll is in every
    // process, and stays there.
    unsafe {
        let library = GetModuleHandleW(library.as_ptr());
        GetProcAddress(library, c"wine_get_version".as_ptr().cast()).is_some()
    }
}

/// Whether a test is to be left out because Wine can't tell; says so.
pub fn skipped_under_wine(why: &str) -> bool {
    let is_wine = is_wine();
    if is_wine {
        skip(&format!("Wine: {why}"));
    }
    is_wine
}

/// Says why a test proves nothing here, past the harness, which shows the prints of failed tests only.
pub fn skip(why: &str) {
    let name = thread::current().name().unwrap_or("?").to_owned();
    let line = format!("\nskipped: {name}: {why}\n"); // The harness has begun a line of its own.
    let _ = io::stderr().write_all(line.as_bytes());
}

pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

pub fn random_pipe() -> Endpoint {
    Endpoint::Pipe(format!("sidewire-test-{}-{:016x}", std::process::id(), random()))
}

/// Asks often until there is something.
pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs something and says how long it took.
pub fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

/// What becomes of a link after its handler has run.
pub enum Then {
    Go,
    Drop,
    Flush(Duration),
    Abort,
}

/// What the server reports.
#[derive(Debug)]
pub enum Seen {
    Accepted,
    /// After the first bytes.
    Peer(io::Result<Peer>),
    /// The end, and how many bytes came before it.
    End(usize),
    Failed(io::Error),
}

pub struct Link {
    pub stream: Stream,
    pub outbox: Vec<u8>,
    pub received: usize,
}

/// Gets what a link has read; nothing at the end of its stream.
pub type Handler = Box<dyn FnMut(&mut Link, &[u8]) -> Then + Send>;

pub struct Server {
    pub endpoint: Endpoint,
    seen: Receiver<Seen>,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

pub fn echo() -> Handler {
    Box::new(|link, bytes| {
        link.outbox.extend_from_slice(bytes);
        Then::Go
    })
}

pub fn sink() -> Handler {
    Box::new(|_, _| Then::Go)
}

impl Server {
    pub fn new(endpoint: &Endpoint, options: &BindOptions, handler: Handler) -> Server {
        let listener = Listener::bind(endpoint, options).unwrap();
        Server::with_listener(listener, handler)
    }

    pub fn with_listener(listener: Listener, handler: Handler) -> Server {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let (report, seen) = mpsc::channel();
        let endpoint = listener.endpoint().clone();
        let mut reactor =
            Reactor { poll, listener, links: HashMap::new(), next: 2, handler, report, stop: stop.clone() };
        let thread = Some(thread::spawn(move || {
            reactor.run();
            drop(reactor.handler);
            reactor.links.clear();
            drop(reactor.listener);
        }));
        Server { endpoint, seen, stop, waker, thread }
    }

    pub fn seen(&self) -> Seen {
        self.seen.recv_timeout(LONG).expect("the server has nothing to report")
    }

    /// Skips reports until one is of use.
    pub fn find<T>(&self, mut pick: impl FnMut(Seen) -> Option<T>) -> T {
        loop {
            if let Some(found) = pick(self.seen()) {
                return found;
            }
        }
    }

    pub fn end(&self) -> usize {
        self.find(|seen| if let Seen::End(count) = seen { Some(count) } else { None })
    }

    pub fn connect(&self) -> Channel {
        Channel::connect(&self.endpoint, Some(LONG)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake().unwrap();
        let result = self.thread.take().unwrap().join();
        if !thread::panicking() {
            result.expect("the server's thread panicked");
        }
    }
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

struct Reactor {
    poll: Poll,
    listener: Listener,
    links: HashMap<usize, Link>,
    next: usize,
    handler: Handler,
    report: Sender<Seen>,
    stop: Arc<AtomicBool>,
}

impl Reactor {
    fn run(&mut self) {
        self.listener.register(self.poll.registry(), LISTENER).unwrap();
        let mut events = Events::with_capacity(64);
        while !self.stop.load(Ordering::Acquire) {
            self.poll.poll(&mut events, SECOND).unwrap();
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(token) => self.turn(token),
                }
            }
        }
        for link in self.links.values_mut() {
            link.stream.deregister(self.poll.registry()).unwrap();
        }
        self.listener.deregister(self.poll.registry()).unwrap();
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept(self.poll.registry(), LISTENER) {
                Ok(mut stream) => {
                    let token = self.next;
                    self.next += 1;
                    stream
                        .register(self.poll.registry(), Token(token), Interest::READABLE | Interest::WRITABLE)
                        .unwrap();
                    self.links.insert(token, Link { stream, outbox: Vec::new(), received: 0 });
                    let _ = self.report.send(Seen::Accepted);
                    self.turn(token);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let _ = self.report.send(Seen::Failed(error));
                }
            }
        }
    }

    /// Reads until WouldBlock, lets the handler speak, writes until WouldBlock.
    fn turn(&mut self, token: usize) {
        let Some(link) = self.links.get_mut(&token) else { return };
        let mut then = Then::Go;
        let mut buf = Vec::new();
        loop {
            buf.clear();
            match link.stream.read_append(&mut buf, 256 * 1024) {
                Ok(count) => {
                    assert_eq!(count, buf.len());
                    if link.received == 0 && count > 0 {
                        let _ = self.report.send(Seen::Peer(link.stream.peer()));
                    }
                    link.received += count;
                    then = (self.handler)(link, &buf);
                    if count == 0 {
                        let _ = self.report.send(Seen::End(link.received));
                        if matches!(then, Then::Go) {
                            then = Then::Drop;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let _ = self.report.send(Seen::Failed(error));
                    then = Then::Drop;
                }
            }
            if !matches!(then, Then::Go) {
                break;
            }
        }
        while !link.outbox.is_empty() {
            match link.stream.write(&link.outbox) {
                Ok(count) => drop(link.outbox.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let _ = self.report.send(Seen::Failed(error));
                    then = Then::Drop;
                    break;
                }
            }
        }
        if !matches!(then, Then::Go)
            && let Some(mut link) = self.links.remove(&token)
        {
            link.stream.deregister(self.poll.registry()).unwrap();
            match then {
                Then::Flush(within) => link.stream.close_flushed(within),
                Then::Abort => link.stream.abort(),
                Then::Go | Then::Drop => drop(link),
            }
        }
    }
}

pub fn send_all(channel: &Channel, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = channel.send(bytes, Some(LONG));
        let count = sent.unwrap_or_else(|error| panic!("{} bytes were left to send: {error}", bytes.len()));
        bytes = &bytes[count..];
    }
}

pub fn recv_exactly(channel: &Channel, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let left = length - all.len();
        let received = channel.recv_append(&mut all, left, Some(LONG));
        let count = received.unwrap_or_else(|error| panic!("{} of {length} bytes, then {error}", all.len()));
        assert_ne!(count, 0, "the end after {} of {length} bytes", all.len());
    }
    all
}

/// Everything until the end.
pub fn recv_to_end(channel: &Channel) -> Vec<u8> {
    let mut all = Vec::new();
    while channel.recv_append(&mut all, 64 * 1024, Some(LONG)).unwrap() != 0 {}
    all
}

pub fn ask(channel: &Channel, question: &[u8]) {
    send_all(channel, question);
    assert_eq!(recv_exactly(channel, question.len()), question);
}

/// Bytes that are wrong when shifted, lost or repeated.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Sends `length` bytes and receives their echo at the same time, on two threads.
pub fn pump(channel: &Channel, length: usize) {
    let bytes = pattern(length);
    thread::scope(|scope| {
        scope.spawn(|| send_all(channel, &bytes));
        let back = recv_exactly(channel, length);
        assert!(back == bytes, "the bytes came back different");
    });
}

/// Blocks a thread in `blocked` and sees to it that `shutdown` ends that soon.
pub fn wakes(channel: &Channel, blocked: impl FnOnce(&Channel) + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| timed(|| blocked(channel)).1);
        thread::sleep(Duration::from_millis(150));
        assert!(!thread.is_finished(), "it did not block");
        let (_, shut) = timed(|| channel.shutdown());
        assert!(shut < LONG / 2, "shutdown took {shut:?}");
        let took = thread.join().unwrap();
        assert!(took < LONG / 2, "woken after {took:?}");
    });
}
