//! Who is there.

use std::time::Duration;

use sidewire::{App, Connect, Failure, ResultCode, Server};

use crate::util::{PATIENCE, connect, on_every_stream, watchdog};

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
    server.on(WHICH, |(), _, _| {
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    });
    on_every_stream(
        server,
        |listen| listen,
        |endpoint| {
            let client = connect(endpoint).open().expect("connect");
            client.notify(WHICH, b"").expect("notify");
            let error = client.ping(Duration::from_millis(50)).expect_err("busy");
            assert!(error.is_timeout() && error.to_string().contains("no sign of life"), "{error}");
            client.ping(PATIENCE).expect("a pong");
        },
    );
}
