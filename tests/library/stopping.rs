//! How a server ends, and what its clients see of that.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Executed, ResultCode, Server};
use sidewire_platform::Channel;

use crate::util::{
    Dialect, Raw, all_streams, client, connect, everywhere, frame, start, store, until, usual, watchdog,
};

const SET: u16 = 2;
const ECHO: u16 = 4;
const GOODBYE: u8 = 12;

/// "At once", with room for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(60);

#[test]
fn stop_from_another_thread_ends_run() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = store();
        let bound = server.listen(usual(&endpoint)).expect("listen");
        let remote = server.remote().expect("remote");
        let (sender, stopped) = mpsc::channel();
        thread::spawn(move || drop(sender.send((server.run(), server))));
        client(&bound).call(SET, b"served").expect("set");
        remote.stop().expect("stop");
        let (result, _server) = stopped.recv_timeout(AT_ONCE).expect("run returns");
        result.expect("without an error");
        // The server is still there, but serves no more.
        let error = connect(&bound).open().expect_err("nobody is there");
        assert!(error.is_not_listening(), "{error}");
        store().listen(usual(&bound)).expect("the place is free");
    }
}

/// Not even the lock file stays.
#[cfg(unix)] // Other systems have no files there.
#[test]
fn socket_files_go_with_the_server() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint: sidewire::Endpoint =
        format!("unix:{}/s", folder.path().display()).parse().expect("an endpoint");
    let files = || std::fs::read_dir(folder.path()).expect("a folder").count();
    let (running, _) = start(store(), [usual(&endpoint)]);
    assert_eq!(files(), 1);
    running.remote().stop().expect("stop");
    running.stop().expect("the server ends well");
    assert_eq!(files(), 0);
    drop(start(store(), [usual(&endpoint)]));
    assert_eq!(files(), 0, "dropping does it too");
    let mut idle = store();
    idle.listen(usual(&endpoint)).expect("listen");
    drop(idle);
    assert_eq!(files(), 0, "and one that never ran");
}

#[test]
fn stop_gives_the_state_back() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), all_streams().iter().map(usual));
    bound.iter().for_each(|endpoint| drop(client(endpoint).call(SET, endpoint.to_string()).expect("set")));
    let state = running.stop().expect("the server ends well");
    assert_eq!(state, bound.last().expect("one").to_string().as_bytes());
}

#[test]
fn stopping_twice_is_fine() {
    let _watchdog = watchdog(60);
    let (running, _) = start(store(), all_streams().iter().map(usual));
    let remote = running.remote();
    (0..100).for_each(|_| remote.stop().expect("stop"));
    running.stop().expect("the server ends well");
    remote.stop().expect("after the end there is nothing to do");
}

/// v1 clients are told what was executed; who has been told may ask again elsewhere.
#[test]
fn idle_clients_learn_of_the_end_with_their_next_call() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let (running, bound) = start(store(), [dialect.listen(usual(endpoint))]);
        let client = dialect.client(&bound[0]);
        assert!(client.call(ECHO, b"x").is_ok());
        running.remote().stop_within(Duration::from_secs(300)).expect("stop");
        // What comes before the loop has heard of it is still served.
        // A pipe is busy for as long as its last client stays.
        let patience = if cfg!(windows) { Duration::from_secs(10) } else { AT_ONCE };
        until("nobody is let in", || Channel::connect(&bound[0], Some(patience)).is_err());
        if dialect != Dialect::V1 {
            until("it sees the end", || client.is_closed()); // Nothing else tells a classic peer.
        }
        for _ in 0..2 {
            let begun = Instant::now();
            let error = client.call(SET, b"too late").expect_err("it has said goodbye");
            assert!(error.is_peer_gone(), "{error}");
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
            assert!(error.executed() == Executed::Never || dialect != Dialect::V1, "{error}");
        }
        drop(client);
        let begun = Instant::now();
        assert_eq!(running.stop().expect("the server ends well"), b"hello, this is server!");
        assert!(begun.elapsed() < AT_ONCE, "it waits for nobody any more");
    });
}

/// PROTOCOL G4, E5, E6
#[test]
fn raw_peers_get_goodbye_and_then_no_service() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(store(), [usual(&endpoint)]);
        let (v1, classic, silent) =
            (Dialect::V1.raw(&bound[0]), Dialect::Classic.raw(&bound[0]), Raw::connect(&bound[0]));
        assert_eq!(Dialect::V1.call(&v1, 7, ECHO, b"x"), Dialect::V1.good(7, ECHO, b"x"));
        assert_eq!(Dialect::Classic.call(&classic, 0, ECHO, b"x"), Dialect::Classic.good(0, ECHO, b"x"));
        running.remote().stop_within(Duration::from_secs(300)).expect("stop");
        let goodbye = v1.receive_frame();
        assert_eq!((goodbye.kind, goodbye.rc, goodbye.id), (GOODBYE, ResultCode::SHUTTING_DOWN.code(), 7));
        // What crosses it is neither executed nor answered.
        v1.send(&frame(1, SET, 8, 0, b"too late"));
        v1.send(&frame(GOODBYE, 0, 0, 0, b""));
        if v1.0.has_half_close() {
            v1.expect_end();
        }
        classic.expect_end();
        silent.expect_end();
        drop((v1, classic, silent));
        assert_eq!(running.stop().expect("the server ends well"), b"hello, this is server!");
    }
}

/// Who does not leave is not waited for for ever.
/// PROTOCOL E7
#[test]
fn a_stop_takes_no_longer_than_it_may() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let (running, bound) = start(store(), [dialect.listen(usual(endpoint))]);
        let stubborn = [dialect.raw(&bound[0]), dialect.raw(&bound[0])];
        stubborn[1].send(&dialect.request(1, ECHO, b"not whole")[..5]);
        let begun = Instant::now();
        running.remote().stop_within(Duration::from_millis(200)).expect("stop");
        running.stop().expect("the server ends well");
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        // Cut off, perhaps before what they had sent was read: that resets.
        stubborn.iter().for_each(|raw| drop(raw.receive_to_end_or_reset()));
    });
}

/// A server whose type 1 tells that it is at work, and goes on when it is told to.
fn interruptible() -> (Server<()>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (working, is_working) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let mut server = Server::new(());
    server.on(1, move |(), _request, _reply| {
        working.send(())?;
        Ok(may_go.recv()?)
    });
    server.on(2, |(), _request, _reply| Ok(()));
    (server, is_working, go)
}

/// One call is at work when the server is dropped, twenty wait behind it: the one gets its reply,
/// the others an error at once, and v1 clients also that they were not executed.
#[test]
fn clients_that_wait_when_the_server_is_dropped() {
    let _watchdog = watchdog(60);
    everywhere(|dialect, endpoint| {
        let (server, is_working, go) = interruptible();
        let counters = server.counters();
        let (running, bound) = start(server, [dialect.listen(usual(endpoint))]);
        let at_work = dialect.client(&bound[0]);
        let waiting = [(); 20].map(|()| dialect.client(&bound[0]));
        until("all are let in", || counters.connections() == 21);
        thread::scope(|scope| {
            let first = scope.spawn(|| at_work.call(1, b""));
            is_working.recv().expect("it is at work");
            // What dropping does first; here so that it certainly comes before the calls.
            running.remote().stop().expect("stop");
            scope.spawn(move || drop(running));
            let calls = waiting.each_ref().map(|client| scope.spawn(|| client.call(2, b"")));
            thread::sleep(Duration::from_millis(50));
            let begun = Instant::now();
            go.send(()).expect("the handler waits");
            let reply = first.join().expect("a thread");
            assert!(reply.is_ok(), "what was at work is finished: {reply:?}");
            for call in calls {
                let error = call.join().expect("a thread").expect_err("the server has gone");
                assert!(error.is_peer_gone(), "{error}");
                assert!(error.executed() == Executed::Never || dialect != Dialect::V1, "{error}");
            }
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        });
        assert_eq!(counters.requests(), 1, "none of the others was executed");
    });
}

/// They have connected, and nobody has let them in yet.
#[test]
fn clients_in_the_backlog_when_the_server_is_dropped() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = store();
        let bound = server.listen(usual(&endpoint)).expect("listen");
        thread::scope(|scope| {
            let connecting = [(); 20].map(|()| {
                let connect = connect(&bound).timeout(Some(Duration::from_secs(30)));
                scope.spawn(|| connect.open())
            });
            thread::sleep(Duration::from_millis(100));
            let begun = Instant::now();
            drop(server);
            for thread in connecting {
                let error = thread.join().expect("a thread").expect_err("the server has gone");
                assert!(error.is_peer_gone() || error.is_not_listening(), "{bound}: {error}");
                assert!(error.executed() == Executed::Never, "{error}");
            }
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        });
    }
}
