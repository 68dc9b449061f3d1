//! What needs more than one process. Apart from the other tests, since a child that has been forked
//! and not yet become another program keeps the sockets of all of them open for a moment.
#![cfg(unix)]

mod unix_util;

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sidewire_platform::{BindOptions, Endpoint, Listener};
use unix_util::*;

#[test]
fn a_signal_does_not_end_a_wait() {
    watched(|| {
        let place = Place::new();
        let mut listener = bind(&place.endpoint());
        let (mut stream, channel) = pair(&mut listener);
        // A stopped process that goes on sees EINTR where SO_RCVTIMEO is set (signal(7)): no handler needed.
        let me = process::id().to_string();
        let helper = format!("kill -STOP {me}; sleep 0.1; kill -CONT {me}");
        let start = Instant::now();
        let mut child = Command::new("sh").args(["-c", &helper]).spawn().unwrap();
        let timeout = Duration::from_millis(400);
        assert_eq!(channel.recv(&mut [0; 8], Some(timeout)).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(start.elapsed() >= timeout);
        assert!(child.wait().unwrap().success());
        stream.write(b"x").unwrap();
        assert_eq!(channel.recv(&mut [0; 8], SOON).unwrap(), 1);
    });
}

/// Processes that bind one path, come and go, each dying without cleaning up. (For threads, see
/// unix_lifecycle.rs.)
#[test]
fn of_many_processes_never_two_win() {
    watched(|| {
        let place = Place::new();
        let claim = place.path().with_extension("claim");
        let end = Instant::now() + Duration::from_secs(2);
        let mut deaths = 0;
        thread::scope(|scope| {
            let lines = [(); 4].map(|()| {
                scope.spawn(|| {
                    let mut deaths = 0;
                    while Instant::now() < end {
                        assert!(start_racer(&place.path(), &claim).wait().unwrap().success());
                        deaths += 1;
                    }
                    deaths
                })
            });
            deaths = lines.into_iter().map(|line| line.join().unwrap()).sum();
        });
        assert!(deaths >= 4);
        assert_eq!(place.files(), ["s"], "the last one's socket, and nothing else");
        drop(bind(&place.endpoint()));
        assert_eq!(place.files(), [""; 0]);
    });
}

const RACE_PATH: &str = "SIDEWIRE_TEST_RACE_PATH";
const RACE_CLAIM: &str = "SIDEWIRE_TEST_RACE_CLAIM";

fn start_racer(path: &Path, claim: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "racer", "--nocapture"])
        .env(RACE_PATH, path)
        .env(RACE_CLAIM, claim)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Does nothing unless started by `of_many_processes_never_two_win`: what each process of the race does. It wins a few times, and each time
/// owns a claim that no other may find; the last time it dies without removing its socket.
#[test]
fn racer() {
    let (Ok(path), Ok(claim)) = (env::var(RACE_PATH), env::var(RACE_CLAIM)) else { return };
    let endpoint = Endpoint::Unix(path.into());
    for wins in 0.. {
        let mut listener = until("a win", || won(Listener::bind(&endpoint, &BindOptions::default())));
        File::create_new(&claim).expect("two servers at a time");
        pair_beyond_probes(&mut listener, &endpoint);
        fs::remove_file(&claim).unwrap();
        if wins == 4 {
            process::exit(0);
        }
    }
}
