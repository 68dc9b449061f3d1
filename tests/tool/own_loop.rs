//! The examples that serve in a loop of the program's own.

use crate::getset::example;
use crate::stage::{Stage, Started};
use crate::util::watchdog;

const POLL_LOOP: &str = include_str!("../../examples/poll_loop.rs");
const CALLOOP: &str = include_str!("../../examples/calloop.rs");

#[test]
fn they_are_short() {
    assert!(POLL_LOOP.lines().count() < 100 && CALLOOP.lines().count() < 100);
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

#[cfg(unix)]
#[test]
fn calloop_serves_beside_a_timer_and_waits_for_events() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    use std::time::Duration;

    use crate::stage::signal;
    use crate::util::Process;

    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut nonsense = stage.command(example("calloop"), ["x"]);
    Started::new(&mut nonsense, b"").finish().expect(2).mentions("usage: calloop");
    let endpoint = stage.verified_streams().remove(0);
    let mut server = Process::start(&mut stage.command(example("calloop"), ["serve", &endpoint]), 1);
    let mut watch = stage.command(example("calloop"), ["watch", &server.endpoints[0].to_string()]);
    let mut client = watch.stdout(Stdio::piped()).spawn().expect("start it");
    let ticks = BufReader::new(client.stdout.take().expect("its output")).lines().take(5);
    let ticks: Vec<u32> = ticks.map(|tick| tick.expect("a line").parse().expect("a number")).collect();
    assert!(ticks.len() == 5 && ticks.is_sorted(), "{ticks:?}");
    client.kill().expect("kill it");
    client.wait().expect("its end");
    signal("TERM", server.child.id());
    assert_eq!(server.wait(Duration::from_secs(30)).code(), Some(0));
}

#[cfg(not(unix))]
#[test]
fn where_there_is_no_such_loop_they_say_so() {
    let _watchdog = watchdog(60);
    for name in ["poll_loop", "calloop"] {
        let mut command = Stage::new().command(example(name), [""; 0]);
        Started::new(&mut command, b"").finish().expect(2).mentions("Server::spawn");
    }
}
