//! Who is there.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidewire::{App, Connect, Failure, ResultCode, Server};

use crate::util::{Gate, PATIENCE, all_streams, connect, on_every_stream, start, until, usual, watchdog};

const WHICH: u16 = 1;

#[test]
fn requests_name_their_connection() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on(WHICH, |(), request, reply| {
        let connection = request.connection();
        let connection = connection.ok_or_else(|| Failure::new(ResultCode::new(1), "no connection"))?;
        reply.write(connection.to_string());
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let ask = |client: &sidewire::Client| client.call(WHICH, b"").expect("call").into_payload();
            let (v1, classic) = (connect(endpoint), connect(endpoint).classic());
            let clients = [&v1, &v1, &classic].map(|how| how.clone().open().expect("connect"));
            let names = clients.each_ref().map(ask);
            assert!(names[0] != names[1] && names[1] != names[2] && names[2] != names[0], "{names:?}");
            assert_eq!(clients.each_ref().map(ask), names, "the same as before");
        },
    );
}

const YOU: u16 = 2;

#[test]
fn each_side_reads_what_the_other_s_app_says_of_itself() {
    let _watchdog = watchdog(60);
    let ours = App::new("store", "2.1").contract([7; 32]);
    let mut server = Server::builder(()).app(ours.clone()).build().expect("a server");
    server.on(YOU, |(), request, reply| {
        reply.write(format!("{:?}", request.peer_app()));
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let you = |client: &sidewire::Client| client.call(YOU, b"").expect("call").into_payload();
            let theirs = App::new("editor", "0.3\u{20ac}");
            let named = connect(endpoint).app(theirs.clone()).open().expect("connect");
            assert_eq!(String::from_utf8(you(&named)), Ok(format!("{:?}", Some(theirs))));
            assert_eq!(named.peer_app(), Some(ours.clone()));
            let nameless = connect(endpoint).open().expect("connect");
            assert_eq!((you(&nameless), nameless.peer_app()), (b"None".to_vec(), Some(ours.clone())));
            let classic = connect(endpoint).classic().app(App::new("old", "")).open().expect("connect");
            assert_eq!((you(&classic), classic.peer_app()), (b"None".to_vec(), None));
        },
    );
}

#[test]
fn names_that_no_hello_takes_are_refused_at_once() {
    let long = App::new("x".repeat(129), "");
    let error = Server::builder(()).app(long.clone()).build().expect_err("too long");
    assert!(error.is_invalid_input() && error.to_string().contains("129 bytes"), "{error}");
    let error = Connect::to("local:nobody").expect("an endpoint").app(long).open().expect_err("too long");
    assert!(error.is_invalid_input() && error.to_string().contains("129 bytes"), "{error}");
}

#[test]
fn a_ping_goes_through_the_loop_and_back() {
    let _watchdog = watchdog(60);
    on_every_stream(
        Server::new(()),
        |listen| listen,
        |endpoint| {
            let client = connect(endpoint).open().expect("connect");
            let took = client.ping(PATIENCE).expect("a pong");
            assert!(took < PATIENCE && client.ping(None).is_ok(), "{took:?}");
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..100).for_each(|_| assert!(client.ping(PATIENCE).is_ok())));
                }
            });
            let classic = connect(endpoint).classic().open().expect("connect");
            let error = classic.ping(PATIENCE).expect_err("no such thing");
            assert!(error.is_invalid_input() && error.to_string().contains("no pings"), "{error}");
        },
    );
}

/// What a ping that is not answered says, and that the connection stays good.
#[test]
fn a_ping_of_a_busy_loop_times_out() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    let gate = Gate::default();
    let busy = gate.clone();
    server.on(WHICH, move |(), _, _| {
        busy.pass();
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let client = connect(endpoint).open().expect("connect");
            let closed = gate.close();
            client.notify(WHICH, b"").expect("notify");
            let error = client.ping(Duration::from_millis(50)).expect_err("busy");
            assert!(error.is_timeout() && error.to_string().contains("no sign of life"), "{error}");
            drop(closed);
            client.ping(PATIENCE).expect("a pong");
        },
    );
}

type Guests = Arc<Mutex<Vec<String>>>;

/// Counts what each connection asks, and notes who comes and goes.
fn guest_book() -> (Server<Guests>, Guests) {
    let guests = Guests::default();
    let mut server = Server::new(Arc::clone(&guests));
    server.on_connect(|guests, connection| {
        let name = connection.app().map(ToString::to_string).unwrap_or_default();
        connection.with_data(|own: &mut String| own.clone_from(&name));
        guests.lock().expect("unpoisoned").push(format!("{} {name} came", connection.id()));
    });
    server.on_disconnect(|guests, connection, why| {
        let name = connection.with_data(|name: &mut String| name.clone());
        let asked = connection.with_data(|asked: &mut u32| *asked);
        let line = format!("{} {name} asked {asked} times: {why}", connection.id());
        guests.lock().expect("unpoisoned").push(line);
    });
    server.on(WHICH, |_, request, reply| {
        request.with_data(|asked: &mut u32| {
            *asked += 1;
            reply.write(asked.to_string());
        });
        Ok(())
    });
    (server, guests)
}

#[test]
fn the_app_is_told_who_comes_and_goes_and_keeps_something_for_each() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (server, guests) = guest_book();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let open = |name: &str| connect(&bound[0]).app(App::new(name, "1")).open().expect("connect");
        let (first, second) = (open("first"), open("second"));
        let ask = |client: &sidewire::Client| client.call(WHICH, b"").expect("call").into_payload();
        assert_eq!([ask(&first), ask(&second), ask(&first)], [&b"1"[..], b"1", b"2"]);
        drop(first);
        until("the first has gone", || guests.lock().expect("unpoisoned").len() == 3);
        assert_eq!(ask(&second), b"2");
        drop(second);
        until("the second has gone", || guests.lock().expect("unpoisoned").len() == 4);
        // What was kept for others is not found by those who come later.
        assert_eq!(ask(&open("third")), b"1");
        running.stop().expect("the server ends well");
        let lines = guests.lock().expect("unpoisoned").clone();
        let expected = [
            "#0 first 1 came",
            "#1 second 1 came",
            "#0 first 1 asked 2 times: closed in order",
            "#1 second 1 asked 2 times: closed in order",
            "#2 third 1 came",
        ];
        assert_eq!(lines[..5], expected, "on {endpoint}");
        assert!(lines[5].starts_with("#2 third 1 asked 1 times: ") && lines.len() == 6, "{lines:?}");
    }
}

#[test]
fn a_handler_of_connections_that_panics_ends_nothing() {
    let _watchdog = watchdog(60);
    let mut server = Server::new(());
    server.on_connect(|(), _| panic!("on connect"));
    server.on_disconnect(|(), _, _| panic!("on disconnect"));
    server.on(WHICH, |(), _, _| Ok(()));
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            for _ in 0..3 {
                connect(endpoint).open().expect("connect").call(WHICH, b"").expect("call");
            }
        },
    );
}

#[test]
fn any_thread_asks_who_is_connected() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = Server::new(());
        let remote = server.remote().expect("a remote");
        server.on(WHICH, move |(), _, reply| {
            reply.write(remote.peers().expect_err("on the server's thread").to_string());
            Ok(())
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        let remote = running.remote();
        assert_eq!(remote.peers().expect("peers").len(), 0);
        let named = connect(&bound[0]).app(App::new("editor", "2")).open().expect("connect");
        let classic = connect(&bound[0]).classic().open().expect("connect");
        let text = named.call(WHICH, b"").expect("call").into_payload();
        assert!(String::from_utf8_lossy(&text).contains("own thread"), "{text:?}");
        classic.call(WHICH, b"").expect("call");
        let peers = remote.peers().expect("peers");
        let apps: Vec<_> = peers.iter().map(|peer| peer.app.as_ref().map(App::name)).collect();
        assert_eq!(apps, [Some("editor"), None], "on {endpoint}");
        assert!(peers.iter().all(|peer| peer.endpoint == bound[0] && peer.bytes_received > 0));
        assert!(peers.iter().all(|peer| peer.since.elapsed().is_ok_and(|age| age < PATIENCE)));
        drop((named, classic));
        until("all have gone", || remote.peers().expect("peers").is_empty());
        running.stop().expect("the server ends well");
        assert!(remote.peers().expect_err("it has stopped").is_stopped());
    }
}
