//! What the Unix tests share: a watchdog, random places, the two ends of a connection.
#![allow(dead_code, unreachable_pub)] // Each test file uses a part.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use sidewire_platform::{BindOptions, Channel, Endpoint, Listener, Stream};

/// More than any wait in these tests, less than anyone's patience.
pub const SOON: Option<Duration> = Some(Duration::from_secs(60));

/// Runs a test; kills the whole process, with a text, if it hangs.
pub fn watched(test: impl FnOnce()) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, hung) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if hung.recv_timeout(Duration::from_secs(150)) == Err(RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            process::abort();
        }
    });
    test();
    drop(done);
    watchdog.join().unwrap();
}

/// A folder of our own, with room for a path that nobody else uses.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path())
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut files: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }

    /// What a server that was killed leaves behind (the standard library removes nothing).
    pub fn leave_stale_socket(&self) {
        drop(std::os::unix::net::UnixListener::bind(self.path()).unwrap());
    }
}

pub fn abstract_endpoint() -> Endpoint {
    let folder = tempfile::tempdir().unwrap();
    format!("abstract:sidewire{}", folder.path().display()).parse().unwrap()
}

pub fn bind(endpoint: &Endpoint) -> Listener {
    Listener::bind(endpoint, &BindOptions::default()).unwrap()
}

pub fn connect(endpoint: &Endpoint) -> Channel {
    Channel::connect(endpoint, SOON).unwrap()
}

/// Accepts without a poll, which these tests mostly don't need.
pub fn accept(listener: &mut Listener) -> Stream {
    let poll = mio::Poll::new().unwrap();
    until("a connection", || would_block(listener.accept(poll.registry(), mio::Token(0))))
}

pub fn pair(listener: &mut Listener) -> (Stream, Channel) {
    let channel = connect(&listener.endpoint().clone());
    (accept(listener), channel)
}

pub fn read(stream: &mut Stream, buf: &mut [u8]) -> usize {
    until("bytes", || would_block(stream.read(buf)))
}

/// Nothing for "not now", panics on other errors.
pub fn would_block<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

/// Runs this on a thread of its own, and returns when that waits.
pub fn spawn_to_wait<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    run: impl FnOnce() -> T + Send + 's,
) -> ScopedJoinHandle<'s, T> {
    let (sender, own) = mpsc::channel();
    let thread = scope.spawn(move || {
        sender.send(std::fs::read_link("/proc/thread-self").ok()).unwrap();
        run()
    });
    match own.recv().unwrap() {
        Some(own) => until("a thread that waits", || {
            let stat = std::fs::read_to_string(Path::new("/proc").join(&own).join("stat"));
            // It may have gone; then the test finds out why.
            stat.map_or(true, |stat| stat.contains(") S ")).then_some(())
        }),
        // Systems without /proc.
        None => thread::sleep(Duration::from_millis(20)),
    }
    thread
}

pub fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "waited for {what} in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Nothing for an attempt that lost to a live server; panics on other errors.
pub fn won(bound: std::io::Result<Listener>) -> Option<Listener> {
    match bound {
        Ok(listener) => Some(listener),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}");
            None
        }
    }
}

/// Skips what the losers' probes have left in the queue: connections that are over already.
pub fn pair_beyond_probes(listener: &mut Listener, endpoint: &Endpoint) -> (Stream, Channel) {
    let channel = connect(endpoint);
    loop {
        let mut stream = accept(listener);
        match stream.read(&mut [0; 1]) {
            Ok(0) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return (stream, channel),
            other => panic!("{other:?}"),
        }
    }
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
