//! Servers that leave because nobody needs them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use sidewire::{Presence, Server};

use crate::program::{Place, pid_of};
use crate::util::{fresh, until, usual, watchdog};

#[test]
fn a_server_stays_as_long_as_it_was_told() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let client = place.connect(Duration::from_millis(300)).open().unwrap_or_else(|error| panic!("{error}"));
    let pid = pid_of(&client).expect("an answer");
    let begun = Instant::now();
    drop(client);
    // Not by looking for it: that is being connected.
    until("it leaves", || place.traces().iter().any(|(what, who)| what == "left" && *who == pid));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let again = place.connect(Duration::ZERO).open().unwrap_or_else(|error| panic!("{error}"));
    assert_ne!(pid_of(&again).expect("an answer"), pid);
}

/// What the state does last is done before the next server is started.
#[test]
fn the_next_one_is_started_when_nothing_is_left_of_the_last() {
    let _watchdog = watchdog(60);

    /// Takes its time to go.
    struct Slow(Arc<AtomicBool>, mpsc::Receiver<()>);
    impl Drop for Slow {
        fn drop(&mut self) {
            self.1.recv().expect("somebody lets it go");
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let place = Place::at(fresh("local"));
    let (has_gone, (go, told)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let state = Slow(Arc::clone(&has_gone), told);
    let (endpoint, listening) = (place.endpoint.clone(), Arc::new(AtomicBool::new(false)));
    let listens = Arc::clone(&listening);
    let thread = std::thread::spawn(move || {
        let mut server = Server::new(state);
        server.exit_when_idle(Duration::ZERO).expect("a loop");
        server.listen(usual(&endpoint)).expect("listen");
        listens.store(true, Ordering::SeqCst);
        server.run().expect("it leaves");
        drop(server);
    });
    until("it listens", || listening.load(Ordering::SeqCst));
    drop(place.connect_only().open().unwrap_or_else(|error| panic!("{error}")));
    let presence = || place.connect_only().presence().expect("a look");
    until("it leaves", || presence() == Presence::Leaving { pid: std::process::id() });
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            let client = place.connect(Duration::ZERO).open().unwrap_or_else(|error| panic!("{error}"));
            pid_of(&client).expect("an answer");
            assert!(has_gone.load(Ordering::SeqCst), "it was started before");
        });
        assert_eq!(place.servers(), 0);
        go.send(()).expect("it waits");
        next.join().expect("the next one");
    });
    thread.join().expect("a server");
}

/// Nothing of it stays, on any system.
#[test]
fn nothing_is_left_of_one_that_has_left() {
    let _watchdog = watchdog(60);
    let folder = Place::at(fresh("local"));
    for scheme in sidewire_platform::stream_schemes().iter().filter(|scheme| **scheme == "unix") {
        let path = folder.folder().join("app.sock");
        let place = Place::at(format!("{scheme}:{}", path.display()).parse().expect("an endpoint"));
        let client = place.connect(Duration::ZERO).open().unwrap_or_else(|error| panic!("{error}"));
        pid_of(&client).expect("an answer");
        drop(client);
        let left = || std::fs::read_dir(folder.folder()).expect("a folder").count();
        until("the socket and the locks have gone", || left() == 0);
    }
}
