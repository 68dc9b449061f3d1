//! Getting at a server's state from elsewhere.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use sidewire::Server;

use crate::util::{connect, fresh, start, usual, watchdog};

const COUNT: u16 = 1;

#[test]
fn many_threads_reach_the_state_without_locks() {
    const EACH: usize = 500;
    let _watchdog = watchdog(60);
    let running = Server::new(Vec::new()).spawn().expect("spawn");
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let remote = running.remote();
            scope.spawn(move || {
                for number in 0..EACH {
                    remote.with(move |seen: &mut Vec<_>| seen.push((thread, number))).expect("room");
                }
            });
        }
    });
    let (done, wait) = mpsc::channel();
    running.remote().with(move |_| done.send(()).expect("somebody waits")).expect("room");
    wait.recv().expect("it is run");
    let seen = running.stop().expect("the server ends well");
    for thread in 0..8 {
        let own: Vec<_> =
            seen.iter().filter(|(from, _)| *from == thread).map(|(_, number)| *number).collect();
        assert_eq!(own, (0..EACH).collect::<Vec<_>>(), "thread {thread}'s are run once, in its order");
    }
}

/// A handler's closure finds the state as that handler has left it.
#[test]
fn a_handler_reaches_its_own_server() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(0);
    let remote = server.remote().expect("a remote");
    server.on(COUNT, move |count, _request, reply| {
        remote.with(|count| *count += 10).expect("room");
        *count += 1;
        reply.write(format!("{count}"));
        Ok(())
    });
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let client = connect(&bound[0]).open().expect("connect");
    for expected in ["1", "12", "23"] {
        assert_eq!(client.call(COUNT, b"").expect("call").into_payload(), expected.as_bytes());
    }
    drop(client);
    assert_eq!(running.stop().expect("the server ends well"), 33);
}

#[test]
fn a_closure_that_panics_ends_nobody() {
    let _watchdog = watchdog(60);
    let running = Server::new(0).spawn().expect("spawn");
    running.remote().with(|_| panic!("on purpose")).expect("room");
    running.remote().with(|count| *count += 1).expect("room");
    let (done, wait) = mpsc::channel();
    running.remote().with(move |_| done.send(()).expect("somebody waits")).expect("room");
    wait.recv().expect("it is run");
    assert_eq!(running.stop().expect("the server ends well"), 1);
}

/// What nobody will run holds nothing any more, although others still hold the way to it.
#[test]
fn closures_go_with_their_server() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let remote = server.remote().expect("a remote");
    let held = Arc::new(());
    let (in_closure, of_closure) = (Arc::clone(&held), remote.clone());
    let drops = OnDrop(Some(move || assert!(of_closure.with(|()| {}).expect_err("it is gone").is_stopped())));
    remote.with(move |()| drop((in_closure, drops))).expect("room");
    drop(server);
    assert_eq!(Arc::strong_count(&held), 1);
}

struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|run| run());
    }
}

/// Nobody waits for a server that is busy, or that has ended.
#[test]
fn a_full_server_and_one_that_has_stopped_say_so() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(0);
    server.listen(usual(&fresh("local"))).expect("listen");
    let remote = server.remote().expect("a remote");
    let waiting = (0..).take_while(|_| remote.with(|count| *count += 1).is_ok()).count();
    assert_eq!(waiting, 4096);
    let error = remote.with(|_| {}).expect_err("no room");
    assert!(error.is_full(), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::WouldBlock);
    server.turn(Some(Duration::ZERO)).expect("a turn");
    assert_eq!(*server.state(), 4096);
    remote.with(|count| *count += 1).expect("room again");
    drop(server);
    let error = remote.with(|_| {}).expect_err("nobody is there");
    assert!(error.is_stopped(), "{error}");
    assert_eq!(error.to_string(), "reach the server: it has stopped");
}
