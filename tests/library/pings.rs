//! Servers that ask their clients for signs of life.

use std::sync::mpsc;
use std::time::Duration;

use sidewire::{ConnectionId, Failure, PeerHandle, Result, Server};

use crate::util::{PATIENCE, all_streams, connect, fresh, start, usual, watchdog};

/// Tells the test which connection asks.
const HERE: u16 = 1;

/// A server that counts pings which have come to something, and who has called.
fn server() -> (Server<usize>, mpsc::Receiver<ConnectionId>) {
    let mut server = Server::new(0);
    let (tell, came) = mpsc::channel();
    server.on(HERE, move |_, request, _| {
        let connection = request.connection().ok_or_else(|| Failure::new(1, "no connection"))?;
        Ok(tell.send(connection)?)
    });
    (server, came)
}

/// Asks, and waits for what the closure is told.
fn ping(peer: &PeerHandle<usize>, timeout: impl Into<Option<Duration>>) -> Result<Duration> {
    let (tell, told) = mpsc::channel();
    let asked = peer.ping(timeout, move |count: &mut usize, took| {
        *count += 1;
        tell.send(took).expect("somebody waits");
    });
    asked.expect("room");
    told.recv().expect("exactly one outcome")
}

#[test]
fn a_server_hears_whether_its_clients_live() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (server, came) = server();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let client = connect(&bound[0]).open().expect("connect");
        client.call(HERE, b"").expect("call");
        let peer = running.remote().peer(came.recv().expect("a call"));
        // Nobody reads there.
        let error = ping(&peer, Duration::from_millis(50)).expect_err("silence");
        assert!(error.is_timeout(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("ping {}", bound[0])), "{text}");
        client.spawn_reader().expect("a reader");
        for _ in 0..20 {
            assert!(ping(&peer, None).is_ok_and(|took| took < PATIENCE), "on {endpoint}");
        }
        // Both at once, each with ids of its own.
        assert!(ping(&peer, PATIENCE).is_ok() && client.ping(PATIENCE).is_ok());
        client.close();
        let error = ping(&peer, PATIENCE).expect_err("it has gone");
        assert!(error.is_peer_gone(), "{error}");
        assert_eq!(
            running.stop().expect("the server ends well"),
            23,
            "each closure runs once, with the state"
        );
    }
}

#[test]
fn what_ends_before_a_sign_of_life_comes_is_told() {
    let _watchdog = watchdog(60);
    let (server, came) = server();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let classic = connect(&bound[0]).classic().open().expect("connect");
    classic.call(HERE, b"").expect("call");
    let peer = running.remote().peer(came.recv().expect("a call"));
    let error = ping(&peer, PATIENCE).expect_err("classic");
    assert!(error.is_invalid_input() && error.to_string().contains("only clients that speak v1"), "{error}");

    let [leaves, stays] = [(); 2].map(|()| connect(&bound[0]).open().expect("connect"));
    let handles = [&leaves, &stays].map(|client| {
        client.call(HERE, b"").expect("call");
        running.remote().peer(came.recv().expect("a call"))
    });
    // Nobody reads there; what is said behind it shows that it is sent.
    let open = handles.each_ref().map(|peer| {
        let (tell, told) = mpsc::channel();
        peer.ping(None, move |_, took| {
            tell.send(took.map_err(|error| error.is_peer_gone())).expect("somebody waits")
        })
        .expect("room");
        told
    });
    let (tell, sent) = mpsc::channel();
    running.remote().with(move |_| tell.send(()).expect("somebody waits")).expect("room");
    sent.recv().expect("it is sent");
    leaves.close();
    assert_eq!(open[0].recv().expect("exactly one outcome"), Err(true));
    running.stop().expect("the server ends well");
    assert_eq!(open[1].recv().expect("exactly one outcome"), Err(true));
    assert!(handles[1].ping(None, |_, _| {}).expect_err("nobody is there").is_stopped());
}

/// As one of a call's would not.
#[test]
fn a_closure_that_panics_ends_nothing() {
    let _watchdog = watchdog(60);
    let (server, came) = server();
    let (running, bound) = start(server, [usual(&fresh("local"))]);
    let client = connect(&bound[0]).open().expect("connect");
    client.call(HERE, b"").expect("call");
    client.spawn_reader().expect("a reader");
    let peer = running.remote().peer(came.recv().expect("a call"));
    peer.ping(PATIENCE, |_, _| panic!("on purpose")).expect("room");
    assert!(ping(&peer, PATIENCE).is_ok());
    drop(client);
    running.stop().expect("the server ends well");
}
