//! What is no reason to start a server, and what becomes of programs that don't serve.

use std::time::Duration;

use sidewire::{Client, Limits, Presence, RefusedBy, ResultCode, Server, Start, on_data};
use sidewire_platform::{BindOptions, Listener};

use crate::program::{Place, kill, pid_of};
use crate::util::{fresh, start, until, usual, watchdog};

#[test]
fn a_program_that_ends_before_it_serves_says_how() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let error = place.connect_with("exits 7").open().expect_err("nobody serves");
    assert!(error.is_not_started() && !error.is_timeout(), "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(7));
    let (_, pid) = place.traces()[0];
    assert!(error.to_string().contains(&format!("process {pid}")), "{error}");
    assert_eq!(place.traces().len(), 1);
    assert_eq!(place.connect_only().presence().expect("a look"), Presence::Absent);
}

/// One that serves somewhere has a recorder, of which the error tells.
#[test]
fn a_program_that_dies_before_it_serves_says_at_what() {
    let _watchdog = watchdog(120);
    let place = Place::at(fresh("local"));
    let error = place.connect_with(&format!("dies {}", fresh("local"))).open().expect_err("nobody serves");
    assert!(error.is_not_started(), "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(9));
    let text = error.to_string();
    assert!(text.contains("; it was in the handler of type 7 (call ") && text.contains(" ago"), "{text}");
}

#[test]
fn a_program_that_is_not_there() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let command = std::process::Command::new("/no/such/program");
    let error = place.connect_only().start(command).open().expect_err("there is no such program");
    assert!(error.is_not_started() && error.exit_status().is_none(), "{error}");
    assert!(error.to_string().contains("/no/such/program"), "{error}");
}

#[test]
fn a_program_that_never_listens_is_ended() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let start = Start::new(place.program("sleeps")).within(Duration::from_secs(3));
    let error = place.connect_only().start(start).open().expect_err("nobody serves");
    assert!(error.is_timeout() && !error.is_hung(), "{error}");
    let text = error.to_string();
    assert!(text.contains("does not listen within 3s") && text.contains("was ended"), "{text}");
    // Not before it has begun, on a machine that is busy.
    if let Some((_, pid)) = place.traces().first() {
        assert!(text.contains(&format!("process {pid}")), "{text}");
    }
}

/// Whoever waits for a starter is told whom for.
#[test]
fn who_waits_for_another_starter_is_told_for_whom() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let mut starter = place.program("start sleeps").spawn().expect("start a process");
    let presence = || place.connect_only().presence().expect("a look");
    until("it has started a program", || matches!(presence(), Presence::Starting { pid: Some(_) }));
    let Presence::Starting { pid: Some(pid) } = presence() else { panic!("it goes on") };
    let start = Start::new(place.program("serve 0")).within(Duration::from_millis(100));
    let error = place.connect_only().start(start).open().expect_err("another starts it");
    assert!(error.is_timeout() && error.to_string().contains(&format!("as process {pid}")), "{error}");
    assert_eq!(place.servers(), 0);
    starter.kill().expect("kill the starter");
    starter.wait().expect("wait for the starter");
    let connected = place.connect(Duration::ZERO).open();
    pid_of(&connected.unwrap_or_else(|error| panic!("{error}"))).expect("an answer");
    kill(pid);
}

const LONG: Duration = Duration::from_secs(30);

/// What is there, and how connecting fails then.
fn starts_nothing(place: &Place, timeout: Duration, fails_well: impl Fn(&sidewire::Error) -> bool) {
    let connect = place.connect(Duration::ZERO).timeout(timeout);
    let error = connect.open().expect_err("it is no server for us");
    assert!(fails_well(&error), "{error}");
    assert_eq!(place.traces(), []);
}

#[test]
fn a_refusal_starts_nothing() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.max_connections = 0;
    let place = Place::at(fresh("local"));
    let server = Server::builder(()).limits(limits).build().expect("a server");
    let (running, _) = start(server, [usual(&place.endpoint)]);
    starts_nothing(&place, LONG, |error| error.refused_by() == Some(RefusedBy::Server(ResultCode::BUSY)));
    running.stop().expect("the server ends well");
}

#[test]
fn another_kind_of_server_starts_nothing() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let mut server = Server::new(());
    let garbage = on_data(|(), session, _bytes| {
        session.write(b"220 mail.example.com ESMTP, what do you want?\r\n");
    });
    server.listen_raw(usual(&place.endpoint), garbage).expect("listen");
    let running = server.spawn().expect("spawn");
    starts_nothing(&place, LONG, sidewire::Error::is_protocol);
    running.stop().expect("the server ends well");
}

#[test]
fn a_server_that_hangs_starts_nothing() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let hangs = Listener::bind(&place.endpoint, &BindOptions::default()).expect("listen");
    starts_nothing(&place, Duration::from_millis(500), |error| error.is_hung() && error.is_timeout());
    drop(hangs);
}

/// As somebody who squats the name: he is not asked for ever.
#[test]
fn one_that_ends_every_connection_starts_nothing() {
    let _watchdog = watchdog(60);
    let place = Place::at(fresh("local"));
    let mut server = Server::new(());
    server
        .listen_raw(usual(&place.endpoint), on_data(|(), session, _bytes| session.close()))
        .expect("listen");
    let running = server.spawn().expect("spawn");
    let error = place.connect(Duration::ZERO).open().expect_err("it is no server for us");
    assert!(error.is_peer_gone(), "{error}");
    assert_eq!(place.traces(), []);
    running.stop().expect("the server ends well");
}

#[test]
fn what_a_dead_server_left_is_no_server() {
    let _watchdog = watchdog(60);
    let path = std::env::temp_dir().join(crate::util::unique("stale")).with_extension("sock");
    if !sidewire_platform::stream_schemes().contains(&"unix") {
        return println!("skipped: nothing is left of a server here");
    }
    let place = Place::at(format!("unix:{}", path.display()).parse().expect("an endpoint"));
    let dead = Listener::bind(&place.endpoint, &BindOptions::default()).expect("listen");
    // As one that is killed: the socket is closed with its process.
    leave(dead);
    assert!(path.exists());
    let connected = place.connect(Duration::ZERO).open();
    pid_of(&connected.unwrap_or_else(|error| panic!("{error}"))).expect("an answer");
    until("the server has gone", || !path.exists());
}

#[cfg(unix)]
fn leave(listener: Listener) {
    use std::os::unix::net::UnixListener;

    // A file with nobody behind it, at the same path.
    let sidewire::Endpoint::Unix(path) = listener.endpoint().clone() else { panic!("{listener:?}") };
    drop(listener);
    drop(UnixListener::bind(path).expect("bind"));
}

#[cfg(not(unix))]
fn leave(_listener: Listener) {}

#[test]
fn where_no_server_can_be_started_it_is_said() {
    let _watchdog = watchdog(60);
    let place = Place::at("udp:127.0.0.1:9".parse().expect("an endpoint"));
    // Nobody is connected to, so that nobody can be missed.
    let connected = place.connect(Duration::ZERO).open();
    let error = connected.map(|_: Client| ()).expect_err("datagrams");
    assert!(error.is_invalid_input(), "{error}");
    assert_eq!(place.traces(), []);
}
