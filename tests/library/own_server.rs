//! Handlers that deal with the server that runs them.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sidewire::{Access, Client, Connect, Endpoint, Error, Executed, Listen, Running, Server, on_data};

use crate::util::{all_streams, connect, start, store, until, usual, usual_access, watchdog};

const STOP: u16 = 1;
const ASK: u16 = 2;
const COUNT: u16 = 3;

type Slot = Arc<Mutex<Option<Running<u32>>>>;

/// A server whose handler does something to its own `Running`.
fn ended_by_its_handler(
    endpoint: &Endpoint,
    mut end: impl FnMut(Running<u32>) -> &'static str + Send + 'static,
) -> Endpoint {
    let slot = Slot::default();
    let mut server = Server::new(0);
    let running = Arc::clone(&slot);
    server.on(STOP, move |_, _, reply| {
        let running = running.lock().expect("a lock").take().expect("it runs");
        reply.write(end(running));
        Ok(())
    });
    let bound = server.listen(usual(endpoint)).expect("listen");
    *slot.lock().expect("a lock") = Some(server.spawn().expect("spawn"));
    bound
}

/// The caller gets the reply, and the server then ends.
fn expect_its_end(bound: &Endpoint, reply: &str) {
    let client = connect(bound).open().expect("connect");
    assert_eq!(client.call(STOP, b"").expect("a reply").into_payload(), reply.as_bytes());
    drop(client);
    until("the endpoint is free again", || match store().listen(usual(bound)) {
        Ok(_) => true,
        Err(error) => {
            assert!(error.is_in_use(), "{error}");
            false
        }
    });
}

#[test]
fn stop_in_a_handler_stops_without_waiting() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let bound = ended_by_its_handler(&endpoint, |running| match running.stop() {
            Err(error) if error.is_invalid_input() => "not awaited",
            Err(_) => "another error",
            Ok(_) => "awaited",
        });
        expect_its_end(&bound, "not awaited");
    }
}

#[test]
fn a_running_that_is_dropped_in_a_handler_stops_without_waiting() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let bound = ended_by_its_handler(&endpoint, |running| {
            drop(running);
            "dropped"
        });
        expect_its_end(&bound, "dropped");
    }
}

#[test]
fn a_remote_in_a_handler_stops_its_server() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = Server::new(());
        let remote = server.remote().expect("a remote");
        server.on(STOP, move |_, _, reply| {
            remote.stop()?;
            reply.write("bye");
            Ok(())
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        expect_its_end(&bound[0], "bye");
        running.stop().expect("an orderly end");
    }
}

/// What asks the server at this endpoint, and how it is told that it can't.
type Ask = Box<dyn FnMut() -> Result<(), Error> + Send>;

/// Runs `ask` in a handler of the server; the reply is what the error says.
fn asked_by_its_handler(endpoint: &Endpoint, make: impl FnOnce(&Endpoint) -> Ask) -> String {
    let mut server = Server::new(());
    let slot: Arc<Mutex<Option<Ask>>> = Arc::default();
    let ask = Arc::clone(&slot);
    server.on(ASK, move |_, _, reply| {
        let mut ask = ask.lock()?.take().expect("asked once");
        match ask() {
            Err(error) if error.is_invalid_input() && error.executed() == Executed::Never => {
                reply.write("refused")
            }
            Err(error) => reply.write(error.to_string()),
            Ok(()) => reply.write("no error"),
        }
        Ok(())
    });
    let (running, bound) = start(server, [usual(endpoint)]);
    *slot.lock().expect("a lock") = Some(make(&bound[0]));
    let client = connect(&bound[0]).open().expect("connect");
    let reply = client.request(ASK).timeout(Duration::from_secs(20)).send(b"").expect("a reply");
    drop(client);
    running.stop().expect("an orderly end");
    String::from_utf8(reply.into_payload()).expect("text")
}

fn to(endpoint: &Endpoint) -> Connect {
    Connect::to(endpoint)
        .expect("an endpoint")
        .access(usual_access(endpoint))
        .timeout(None)
        .call_timeout(None)
}

#[test]
fn connecting_to_the_own_server_fails_at_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let ways: [fn(Connect) -> Result<(), Error>; 3] = [
            |connect| connect.open().map(drop),
            |connect| connect.classic().open().map(drop),
            |connect| connect.open_raw().map(drop),
        ];
        for way in ways {
            let said = asked_by_its_handler(&endpoint, |bound| {
                let connect = to(bound);
                Box::new(move || way(connect.clone()))
            });
            assert_eq!(said, "refused", "{endpoint}");
        }
    }
}

/// The same server by another name.
#[test]
fn the_own_server_is_known_by_its_address() {
    let _watchdog = watchdog(60);
    let said = asked_by_its_handler(&"tcp:127.0.0.1:0".parse().expect("an endpoint"), |bound| {
        let other: Endpoint =
            bound.to_string().replace("127.0.0.1", "localhost").parse().expect("an endpoint");
        Box::new(move || to(&other).open().map(drop))
    });
    assert_eq!(said, "refused");
}

#[test]
fn a_call_on_an_older_connection_fails_at_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        for classic in [false, true] {
            let said = asked_by_its_handler(&endpoint, |bound| {
                let connect = if classic { to(bound).classic() } else { to(bound) };
                let client = connect.open().expect("connect");
                Box::new(move || client.call(COUNT, b"").map(drop))
            });
            assert_eq!(said, "refused", "{endpoint} {classic}");
        }
    }
}

/// Nothing is waited for, so it may be sent; it is handled after the handler.
#[test]
fn a_notify_to_the_own_server_is_handled_later() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = Server::new(0u32);
        let slot: Arc<Mutex<Option<Client>>> = Arc::default();
        let own = Arc::clone(&slot);
        server.on(ASK, move |count, _, reply| {
            own.lock()?.as_ref().expect("connected").notify(COUNT, b"")?;
            reply.write(count.to_string());
            Ok(())
        });
        server.on(COUNT, |count, _, _| {
            *count += 1;
            Ok(())
        });
        let (running, bound) = start(server, [usual(&endpoint)]);
        *slot.lock().expect("a lock") = Some(to(&bound[0]).open().expect("connect"));
        let client = connect(&bound[0]).open().expect("connect");
        assert_eq!(client.call(ASK, b"").expect("a reply").into_payload(), b"0");
        until("one is counted", || client.call(ASK, b"").expect("a reply").payload() != b"0");
        running.stop().expect("an orderly end");
    }
}

#[test]
fn reading_from_the_own_server_fails_at_once() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let mut server = Server::new(());
        let slot: Arc<Mutex<Option<sidewire::RawStream>>> = Arc::default();
        let own = Arc::clone(&slot);
        let answer = on_data(move |(), session, _| {
            let said = match own.lock().expect("a lock").as_mut().map(|own| own.read(&mut [0; 9])) {
                Some(Err(error)) => error.kind().to_string(),
                other => format!("{other:?}"),
            };
            session.write(said);
            session.finish();
        });
        let bound = server.listen_raw(usual(&endpoint), answer).expect("listen");
        let running = server.spawn().expect("spawn");
        *slot.lock().expect("a lock") = Some(to(&bound).open_raw().expect("connect"));
        let mut asker = to(&bound).open_raw().expect("connect");
        std::io::Write::write_all(&mut asker, b"?").expect("written");
        let mut said = String::new();
        asker.read_to_string(&mut said).expect("an answer");
        assert_eq!(said, std::io::ErrorKind::InvalidInput.to_string(), "{endpoint}");
        running.stop().expect("an orderly end");
    }
}

/// A server of the same process on another thread is like any other.
#[test]
fn a_handler_may_call_another_server_of_its_process() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (other, there) = start(store(), [usual(&crate::util::fresh("tcp"))]);
        let said = asked_by_its_handler(&endpoint, |_| {
            let there = there[0].clone();
            Box::new(move || Connect::to(&there)?.access(Access::Anyone).open()?.call(4, b"x").map(drop))
        });
        assert_eq!(said, "no error");
        other.stop().expect("an orderly end");
    }
}

#[test]
fn a_datagram_call_to_the_own_server_fails_at_once() {
    let _watchdog = watchdog(60);
    let udp: Endpoint = "udp:127.0.0.1:0".parse().expect("an endpoint");
    let mut server = Server::new(());
    let slot: Arc<Mutex<Option<Client>>> = Arc::default();
    let own = Arc::clone(&slot);
    server.on(ASK, move |(), _, reply| {
        let client = own.lock()?.take().expect("asked once");
        match client.call(COUNT, b"") {
            Err(error) if error.is_invalid_input() => reply.write("refused"),
            other => reply.write(format!("{other:?}")),
        }
        Ok(())
    });
    let bound = server.listen(Listen::from(&udp).access(Access::Anyone)).expect("listen");
    let running = server.spawn().expect("spawn");
    *slot.lock().expect("a lock") = Some(to(&bound).open().expect("a socket"));
    let client = to(&bound).call_timeout(Some(Duration::from_secs(20))).open().expect("a socket");
    assert_eq!(client.call(ASK, b"").expect("a reply").into_payload(), b"refused");
    running.stop().expect("an orderly end");
}
