//! The life of socket files: rights, stale ones, races, what is removed and what never.
#![cfg(unix)]

mod unix_util;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use sidewire_platform::{BindOptions, Channel, Endpoint, Listener};
use unix_util::*;

fn bind_error(endpoint: &Endpoint) -> io::Error {
    Listener::bind(endpoint, &BindOptions::default()).unwrap_err()
}

#[test]
fn a_socket_is_private_unless_it_is_for_anyone() {
    watched(|| {
        let place = Place::new();
        let listener = bind(&place.endpoint());
        assert_eq!(mode(&place.path()), 0o600);
        assert_eq!(place.files(), ["s"], "the lock file is gone");
        drop(listener);
        assert_eq!(place.files(), [""; 0]);
        let mut options = BindOptions::default();
        options.anyone = true;
        let _listener = Listener::bind(&place.endpoint(), &options).unwrap();
        assert_eq!(mode(&place.path()), 0o666);
    });
}

/// The mode of every socket that a watcher sees at any time, while the folder is watched closely.
#[test]
fn there_is_no_moment_with_another_mode() {
    watched(|| {
        let place = Place::new();
        let path = place.path();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let watcher = thread::spawn(move || {
            let mut seen = Vec::new();
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                if let Ok(found) = rustix::fs::lstat(&path) {
                    seen.push(found.st_mode & 0o777);
                }
            }
            seen.sort_unstable();
            seen.dedup();
            seen
        });
        for _ in 0..2000 {
            bind(&place.endpoint());
        }
        drop(stop);
        let seen = watcher.join().unwrap();
        assert!(seen.iter().all(|&mode| mode == 0o600), "{seen:?}");
    });
}

#[test]
fn a_stale_socket_is_replaced() {
    watched(|| {
        let place = Place::new();
        place.leave_stale_socket();
        let refused = Channel::connect(&place.endpoint(), SOON).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let mut listener = bind(&place.endpoint());
        pair(&mut listener);
        assert_eq!((mode(&place.path()), place.files()), (0o600, vec!["s".to_owned()]));
    });
}

#[test]
fn a_live_server_is_never_displaced() {
    watched(|| {
        let place = Place::new();
        let mut listener = bind(&place.endpoint());
        let error = bind_error(&place.endpoint());
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("already listening"), "{error}");
        pair(&mut listener);
        assert_eq!(place.files(), ["s"]);
    });
}

#[test]
fn a_server_with_a_full_backlog_is_live() {
    watched(|| {
        let place = Place::new();
        let mut options = BindOptions::default();
        options.backlog = 0;
        let mut listener = Listener::bind(&place.endpoint(), &options).unwrap();
        let _waiting = connect(&place.endpoint());
        let error = bind_error(&place.endpoint());
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        if cfg!(target_os = "linux") {
            assert!(error.to_string().contains("backlog"), "{error}");
        }
        accept(&mut listener);
    });
}

#[test]
fn what_is_no_socket_is_never_removed() {
    watched(|| {
        let place = Place::new();
        fs::write(place.path(), "precious").unwrap();
        assert_eq!(bind_error(&place.endpoint()).kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");
        fs::remove_file(place.path()).unwrap();

        fs::create_dir(place.path()).unwrap();
        assert_eq!(bind_error(&place.endpoint()).kind(), io::ErrorKind::AlreadyExists);
        fs::remove_dir(place.path()).unwrap();

        symlink("nowhere", place.path()).unwrap();
        assert_eq!(bind_error(&place.endpoint()).kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(place.files(), ["s"]);
    });
}

#[test]
fn a_socket_of_another_kind_is_not_taken_for_dead() {
    watched(|| {
        let place = Place::new();
        let _datagram = UnixDatagram::bind(place.path()).unwrap();
        let error = bind_error(&place.endpoint());
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another kind"), "{error}");
        let error = Channel::connect(&place.endpoint(), SOON).unwrap_err();
        assert!(error.to_string().contains("not a stream socket"), "{error}");
    });
}

#[test]
fn a_listener_removes_only_its_own_socket() {
    watched(|| {
        let place = Place::new();
        let listener = bind(&place.endpoint());
        fs::remove_file(place.path()).unwrap();
        let other = UnixListener::bind(place.path()).unwrap();
        drop(listener);
        assert_eq!(place.files(), ["s"]);
        connect(&place.endpoint());
        drop(other);

        let place = Place::new();
        let listener = bind(&place.endpoint());
        fs::remove_file(place.path()).unwrap();
        fs::write(place.path(), "precious").unwrap();
        drop(listener);
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");
    });
}

#[test]
fn the_lock_of_another_is_waited_for_but_not_for_ever() {
    watched(|| {
        let place = Place::new();
        let lock = place.path().with_extension("lock");
        let held = File::create(&lock).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let start = Instant::now();
        let error = bind_error(&place.endpoint());
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains("s.lock"), "{error}");
        assert!(start.elapsed() >= Duration::from_secs(2));

        let endpoint = place.endpoint();
        thread::scope(|scope| {
            let waiting = spawn_to_wait(scope, move || bind(&endpoint));
            drop(held);
            drop(waiting.join().unwrap());
        });
        assert_eq!(place.files(), [""; 0], "what a crash left behind is removed by the next one");
    });
}

#[test]
fn a_listener_that_goes_does_not_hang_on_the_lock() {
    watched(|| {
        let taken = || {
            let place = Place::new();
            let listener = bind(&place.endpoint());
            let held = File::create(place.path().with_extension("lock")).unwrap();
            flock(&held, FlockOperation::LockExclusive).unwrap();
            let start = Instant::now();
            drop(listener);
            let taken = start.elapsed();
            assert_eq!(place.files(), ["s.lock"]);
            taken
        };
        // The best of many, for a machine that is busy: whoever waits for a lock does so for 2 s.
        assert!((0..10).any(|_| taken() < Duration::from_secs(1)));
    });
}

#[test]
fn a_file_that_only_looks_like_a_lock_is_left_alone() {
    watched(|| {
        let place = Place::new();
        let lock = place.path().with_extension("lock");
        fs::write(&lock, "precious").unwrap();
        let error = bind_error(&place.endpoint());
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&lock).unwrap(), "precious");
        fs::remove_file(&lock).unwrap();

        let target = place.path().with_extension("target");
        symlink(&target, &lock).unwrap();
        let error = bind_error(&place.endpoint());
        assert!(error.to_string().contains("s.lock"), "{error}");
        assert!(!target.exists(), "a link in place of the lock is not followed");
    });
}

#[test]
fn a_missing_folder_is_named() {
    watched(|| {
        let place = Place::new();
        let error = bind_error(&Endpoint::Unix(place.path().join("x/y")));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/s/x does not exist"), "{error}");
    });
}

#[test]
fn names_that_are_too_long_are_refused_not_cut() {
    watched(|| {
        for endpoint in [
            Endpoint::Unix(format!("/tmp/{}", "x".repeat(103)).into()),
            Endpoint::Abstract(vec![b'x'; 108]),
            Endpoint::Local("x".repeat(65)),
        ] {
            assert_eq!(bind_error(&endpoint).kind(), io::ErrorKind::InvalidInput, "{endpoint}");
            let error = Channel::connect(&endpoint, SOON).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{endpoint}");
        }
    });
}

/// Of threads that start at one stale path together, one wins, stays reachable, and is the only one.
#[test]
fn of_many_threads_exactly_one_wins() {
    const THREADS: usize = 8;
    watched(|| {
        for round in 0..100 {
            let place = Place::new();
            if round % 4 != 3 {
                place.leave_stale_socket();
            }
            let start = Barrier::new(THREADS);
            let mut winners: Vec<Listener> = thread::scope(|scope| {
                let starters: Vec<_> = (0..THREADS)
                    .map(|_| {
                        scope.spawn(|| {
                            start.wait();
                            Listener::bind(&place.endpoint(), &BindOptions::default())
                        })
                    })
                    .collect();
                starters.into_iter().filter_map(|starter| won(starter.join().unwrap())).collect()
            });
            assert_eq!(winners.len(), 1, "round {round}");
            let (mut stream, channel) = pair_beyond_probes(&mut winners[0], &place.endpoint());
            channel.send(b"x", SOON).unwrap();
            assert_eq!(read(&mut stream, &mut [0; 8]), 1);
            assert_eq!(place.files(), ["s"]);
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn abstract_names_are_exact_bytes() {
    watched(|| {
        let endpoint = abstract_endpoint();
        let name = endpoint.to_string().replacen("abstract:", "@", 1);
        let mut listener = bind(&endpoint);
        let table = BufReader::new(File::open("/proc/net/unix").unwrap());
        let found = table.lines().map(Result::unwrap).any(|line| line.split(' ').next_back() == Some(&name));
        assert!(found, "{name} is in /proc/net/unix, without padding (shown as @)");
        pair(&mut listener);
        assert_eq!(bind_error(&endpoint).kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        let error = Channel::connect(&endpoint, SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        bind(&endpoint);
    });
}
