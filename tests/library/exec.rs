//! Programs that a client starts, and whose standard streams are the connection: the tool's relay, on every system.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use sidewire::{Access, Connect, Endpoint, Executed, Reconnect};

use crate::util::{all_streams, fresh, start, store, until, usual, watchdog};

const SIDEWIRE: &str = env!("CARGO_BIN_EXE_sidewire");
const ECHO: u16 = 4;
/// More than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// By way of a text.
fn relay(endpoint: &Endpoint) -> Connect {
    let connect = Connect::to_command(format!("exec:'{SIDEWIRE}' relay '{endpoint}'")).expect("a command");
    connect.timeout(PATIENCE).call_timeout(PATIENCE)
}

#[test]
fn the_relay_leads_to_every_stream() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let client = relay(&bound[0]).open().unwrap_or_else(|error| panic!("{endpoint}: {error}"));
        for length in [0, 5, 3 << 20] {
            let payload = vec![7; length];
            assert_eq!(client.call(ECHO, &payload).expect("an echo").into_payload(), payload, "{endpoint}");
        }
        std::thread::scope(|scope| {
            for number in 0..4_u8 {
                let client = &client;
                scope.spawn(move || {
                    for round in 0..20_u8 {
                        let reply = client.call(ECHO, [number, round]).expect("an echo");
                        assert_eq!(reply.payload(), [number, round]);
                    }
                });
            }
        });
        client.ping(PATIENCE).expect("a pong");
        assert_eq!(counters.connections(), 1);
        drop(client);
        until("the server has seen its end", || counters.connections() == 0);
        running.stop().expect("a clean end");
    }
}

#[test]
fn a_program_that_ends_tells_its_status_and_last_words() {
    let _watchdog = watchdog(60);
    let error = relay(&fresh("local")).open().expect_err("nobody is there");
    assert!(error.is_peer_gone(), "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(3), "{error}");
    assert!(error.last_words().iter().any(|line| line.contains("nobody listens")), "{error}");
    assert!(error.to_string().contains(" relay "), "{error}");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let _watchdog = watchdog(60);
    let error = Connect::to_command("exec:no-such-program-anywhere").expect("a command").open();
    let error = error.expect_err("it is not there");
    assert!(error.to_string().starts_with("start exec:no-such-program-anywhere: "), "{error}");
    assert_eq!(error.executed(), Executed::Never);
    let error = Connect::command(Command::new("no-such-program-anywhere")).open().expect_err("nor here");
    assert!(error.to_string().contains("program no-such-program-anywhere"), "{error}");
}

#[test]
fn it_is_started_anew_when_the_server_was() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let client = relay(&bound[0]).reconnect(Reconnect::new()).open().expect("connect");
    client.call(ECHO, "before").expect("an echo");
    running.stop().expect("a clean end");
    let (running, _) = start(store(), [usual(&bound[0])]);
    // Until it has seen its end, the last one's relay may take a request that it can't hand on.
    let reply = client.request(ECHO).idempotent().send("behind").expect("an echo");
    assert_eq!(reply.payload(), b"behind");
    drop(client);
    running.stop().expect("a clean end");
}

/// Its relay has connected, and is gone when the client says so.
#[test]
fn a_server_that_says_nothing_takes_no_longer_than_that() {
    let _watchdog = watchdog(60);
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a socket");
    let endpoint = format!("tcp:{}", silent.local_addr().expect("bound")).parse().expect("an endpoint");
    // A busy machine may take longer to start a program.
    for limit in [2, 10, 60] {
        let error = relay(&endpoint).timeout(Duration::from_secs(limit)).open().expect_err("no hello");
        assert!(error.is_timeout() && error.is_hung(), "{error}");
        let Ok((mut stream, _)) = silent.accept() else { continue };
        stream.set_nonblocking(false).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let mut said = Vec::new();
        if let Err(end) = stream.read_to_end(&mut said) {
            let is_open = matches!(end.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_open, "the relay has outlived the client");
        }
        if !said.is_empty() {
            return assert!(said.starts_with(b"\xd1SW\xd1"), "{said:?}");
        }
    }
    panic!("the relay was never started");
}

/// PROTOCOL O2
#[test]
fn what_would_run_a_program_unasked_or_means_nothing_is_refused() {
    let _watchdog = watchdog(60);
    for text in ["exec:true", "ssh:host unix:/x"] {
        let error = sidewire::Client::connect(text).expect_err("no endpoint");
        assert!(error.is_invalid_input() && error.to_string().contains("to_command"), "{error}");
        let mut server = store();
        assert!(server.listen(text).expect_err("no endpoint").is_invalid_input());
    }
    assert!(Connect::to_command("local:x").expect_err("no command").is_invalid_input());
    // Were one of them started, it would not be found.
    let command = || Connect::command(Command::new("no-such-program-anywhere"));
    for (connect, word) in [
        (command().access(Access::program(SIDEWIRE)), "rule"),
        (command().access(Access::same_program()), "rule"),
        (command().attachments(true), "attachments"),
        (command().classic(), "v1"),
    ] {
        let error = connect.open().expect_err("refused");
        assert!(error.is_invalid_input() && error.to_string().contains(word), "{error}");
    }
    let error = command().open_raw().expect_err("no frames");
    assert!(error.is_invalid_input(), "{error}");
}

#[cfg(feature = "tokio")]
#[test]
fn tasks_start_programs_too() {
    let _watchdog = watchdog(60);
    for runtime in crate::tasks::runtimes() {
        let server = store();
        let counters = server.counters();
        let (running, bound) = start(server, [usual(&fresh("local"))]);
        runtime.block_on(async {
            let client = relay(&bound[0]).open_async().await.expect("connect");
            let large = vec![3; 1 << 20];
            for payload in [&b"hello"[..], &large] {
                assert_eq!(client.call(ECHO, payload).await.expect("an echo").payload(), payload);
            }
            drop(client);
            let error = relay(&fresh("local")).open_async().await.expect_err("nobody is there");
            assert_eq!(error.exit_status().and_then(|status| status.code()), Some(3), "{error}");
        });
        until("the server has seen its end", || counters.connections() == 0);
        running.stop().expect("a clean end");
    }
}
