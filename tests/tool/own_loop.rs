//! The examples that serve in a loop of the program's own.

use crate::getset::example;
use crate::stage::{Stage, Started};
use crate::util::watchdog;

const POLL_LOOP: &str = include_str!("../../examples/poll_loop.rs");

#[test]
fn they_are_short() {
    assert!(POLL_LOOP.lines().count() < 100);
}

#[cfg(unix)]
#[test]
fn poll_waits_for_clients_and_for_what_is_typed() {
    use std::io::Write;
    use std::process::Stdio;
    use std::time::Duration;

    use sidewire::Client;

    use crate::stage::signal;
    use crate::util::{Process, until};

    let _watchdog = watchdog(60);
    let stage = Stage::new();
    Started::new(&mut stage.command(example("poll_loop"), ["x", "y"]), b"")
        .finish()
        .expect(2)
        .mentions("usage: poll_loop");
    for endpoint in stage.verified_streams() {
        let mut serve = stage.command(example("poll_loop"), [&endpoint]);
        let mut server = Process::start_with_input(serve.stdin(Stdio::piped()), 1);
        let client = Client::connect(stage.seen_from_here(&server.endpoints[0])).expect("connect");
        let value = || client.call(1, "").expect("a reply").into_payload();
        assert_eq!(value(), b"");
        let mut input = server.child.stdin.take().expect("its input");
        for typed in ["good day", "good night"] {
            writeln!(input, "{typed}").expect("it reads");
            until("it has read that", || value() == typed.as_bytes());
        }
        drop(input); // It serves on.
        assert_eq!(value(), b"good night");
        signal("TERM", server.child.id());
        assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
    }
}

#[cfg(not(unix))]
#[test]
fn where_there_is_no_poll_it_says_so() {
    let _watchdog = watchdog(60);
    Started::new(&mut Stage::new().command(example("poll_loop"), [""; 0]), b"")
        .finish()
        .expect(2)
        .mentions("Server::spawn");
}
