//! What errors say: the operation, the endpoint, who is there, and what to do next.

use sidewire::{
    Access, Client, Connect, Endpoint, Error, Executed, Failure, Limits, Pending, RefusedBy, ResultCode,
    Server,
};

use crate::util::fake::{Fake, send, take_hello, take_request, wait_for_the_end};
use crate::util::{Dialect, all_streams, frame, fresh, start, store, usual, watchdog};

#[track_caller]
fn says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no '{word}' in: {text}");
    }
    assert_eq!(text, format!("{error:?}"), "who returns it from main reads the same");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn a_server_that_is_full_says_so() {
    let _watchdog = watchdog(60);
    let mut limits = Limits::default();
    limits.listener.max_connections = 1;
    for endpoint in all_streams() {
        let server = Server::builder(()).limits(limits.clone()).build().expect("a server");
        let (running, bound) = start(server, [usual(&endpoint)]);
        let first = Dialect::V1.client(&bound[0]);
        let error = Dialect::V1.connect(&bound[0]).open().expect_err("full");
        assert!(error.is_refused() && !error.is_timeout() && !error.is_peer_gone(), "{error}");
        assert_eq!(error.refused_by(), Some(RefusedBy::Server(ResultCode::BUSY)), "{error}");
        assert_eq!(
            (error.operation(), error.endpoint(), error.msg_type()),
            ("connect to", Some(&bound[0]), None)
        );
        says(&error, &["connect to ", "refused: busy (-6)", "no room for another connection"]);
        drop(first);
        running.stop().expect("the server ends well");
    }
}

/// What the end of a connection means for a call is what its caller asks next.
#[test]
fn a_call_without_an_answer_says_whether_it_was_executed() {
    let _watchdog = watchdog(60);
    let fake = Fake::v1(|stream| assert_eq!(take_request(stream), 1));
    let client = fake.client();
    let error = client.call(4, b"x").expect_err("gone");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    says(&error, &["(type 4): the peer has gone", "; it may have been executed"]);
    assert_eq!((error.operation(), error.msg_type()), ("call", Some(4)));
    fake.join();
    let error = client.call(5, b"x").expect_err("gone before");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
    says(&error, &["(type 5): the peer has gone", "; it was not executed"]);
    client.close();
    let error = client.call(6, b"x").expect_err("gone before");
    says(&error, &["(type 6)", "; it was not executed"]);
}

/// Type 1 answers -5 without data, type 2 -6 with some, type 3 is fine.
fn refusing() -> Server<()> {
    let mut server = Server::builder(()).types(8).build().expect("a server");
    server.on(1, |(), _request, _reply| Err(Failure::new(ResultCode::NOT_PERMITTED, "")));
    server.on(2, |(), _request, reply| {
        reply.write("wait");
        reply.set_result(ResultCode::BUSY);
        Ok(())
    });
    server.on(3, |(), _request, _reply| Ok(()));
    server
}

/// Only the first reply of a connection can be the server's own "no".
#[test]
fn a_handlers_no_is_no_refusal_of_the_connection() {
    let _watchdog = watchdog(60);
    for endpoint in all_streams() {
        let (running, bound) = start(refusing(), [usual(&endpoint)]);
        for dialect in [Dialect::V1, Dialect::Classic] {
            let client = dialect.client(&bound[0]);
            client.call(3, b"").expect("the first");
            for (msg_type, rc, payload) in
                [(1, ResultCode::NOT_PERMITTED, &b""[..]), (2, ResultCode::BUSY, b"wait")]
            {
                let error = client.call(msg_type, b"").expect_err("a handler's no");
                assert_eq!((error.result_code(), error.payload()), (Some(rc), payload), "{error}");
                assert!(!error.is_refused() && error.executed() == Executed::Perhaps, "{error}");
                says(&error, &[&format!("(type {msg_type})"), "the server answered"]);
            }
        }
        running.stop().expect("the server ends well");
    }
}

/// PROTOCOL B7
#[test]
fn a_first_no_without_data_can_be_either() {
    let _watchdog = watchdog(60);
    let mut endpoints = all_streams();
    endpoints.extend(
        sidewire_platform::datagram_schemes()
            .iter()
            .filter(|scheme| **scheme == "udp")
            .map(|_| "udp:127.0.0.1:0".parse().expect("an endpoint")),
    );
    for endpoint in endpoints {
        let (running, bound) = start(refusing(), [usual(&endpoint)]);
        let either = Dialect::Classic.client(&bound[0]).call(1, b"").expect_err("a no");
        assert!(either.is_refused() && either.executed() == Executed::Perhaps, "{either}");
        assert_eq!(either.refused_by(), Some(RefusedBy::Server(ResultCode::NOT_PERMITTED)));
        assert_eq!(either.result_code(), Some(ResultCode::NOT_PERMITTED));
        says(&either, &["refused: not permitted (-5), by the server or by its handler"]);
        // What has data is a handler's.
        let answer = Dialect::Classic.client(&bound[0]).call(2, b"").expect_err("a no");
        assert!(!answer.is_refused() && answer.payload() == b"wait", "{answer}");
        running.stop().expect("the server ends well");
    }
}

#[test]
fn a_call_names_its_type() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let client = Client::connect(&bound[0]).expect("connect");
    let error = client.call(7, b"").expect_err("no handler");
    says(&error, &[&format!("call {} (type 7): the server answered no handler (-2)", bound[0])]);
    drop(client);
    running.stop().expect("the server ends well");
}

/// Each way to ask says of what type, and where, whatever it is that goes wrong.
#[track_caller]
fn name_their_call(client: &Client, endpoint: &Endpoint, payload: &[u8], words: &[&str]) {
    let request = || client.request(9).timeout(std::time::Duration::from_millis(100));
    for (what, result) in [
        ("call", request().send(payload)),
        ("call", request().start(payload).and_then(Pending::wait)),
        ("call", client.call(9, payload)),
    ] {
        let error = result.expect_err("it fails");
        says(&error, &[&format!("{what} {endpoint} (type 9): ")]);
        says(&error, words);
        assert_eq!(error.endpoint(), Some(endpoint));
    }
}

#[test]
fn whatever_ends_a_call_it_names_its_type_and_endpoint() {
    let _watchdog = watchdog(60);
    // Takes the first request, says this, and closes; or says nothing.
    for (bytes, words) in [
        (frame(12, 0, 0, -9, b""), &["the peer has gone: it said goodbye: shutting down (-9)"][..]),
        (frame(12, 0, 0, 0, b""), &["it said goodbye"]),
        (frame(13, 0, 0, 0, b""), &["kind 13"]),
        (frame(2, 9, 77, 0, b""), &["77"]),
        (Vec::new(), &["the peer has gone: it closed the connection"]),
    ] {
        let fake = Fake::v1(move |stream| {
            take_request(stream);
            send(stream, &bytes);
        });
        name_their_call(&fake.client(), &fake.endpoint, b"x", words);
        fake.join();
    }
    let fake = Fake::v1(wait_for_the_end);
    let client = fake.connect().call_timeout(Some(std::time::Duration::from_millis(100))).open();
    let client = client.expect("connect");
    name_their_call(&client, &fake.endpoint, b"x", &["timed out: no reply from 127.0.0.1:", "within 100ms"]);
    client.close();
    name_their_call(&client, &fake.endpoint, b"x", &["this side has closed the connection"]);
    fake.join();
}

#[test]
fn what_can_not_be_sent_names_its_type_and_endpoint() {
    let _watchdog = watchdog(60);
    let (running, bound) = start(store(), [usual(&fresh("local"))]);
    let too_large = vec![0; (16 << 20) + 1];
    let client = Client::connect(&bound[0]).expect("connect");
    name_their_call(
        &client,
        &bound[0],
        &too_large,
        &["the payload has 16777217 bytes, the server takes 16777216"],
    );
    let error = client.notify(9, &too_large).expect_err("too large");
    says(&error, &[&format!("notify {} (type 9): the payload has", bound[0])]);
    let classic = Dialect::Classic.client(&bound[0]);
    let error = classic.notify(9, b"").expect_err("not in the classic layout");
    says(&error, &[&format!("notify {} (type 9): ", bound[0]), "without an answer"]);
    drop((client, classic));
    running.stop().expect("the server ends well");
}

/// PROTOCOL H21
#[test]
fn what_answers_in_other_ways_is_shown() {
    let _watchdog = watchdog(60);
    for (answer, words) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n"[..],
            &["not Sidewire", r"HTTP/1.1 400 Bad Request\r\n"][..],
        ),
        (b"\x1b]0;220 ready", &["not Sidewire", r"\x1b]0;220 ready"]),
        // The magic as the type, -1, no payload: what a classic server makes of a hello.
        (b"\xd1\x53\x57\xd1\xff\xff\xff\xff\0\0\0\0", &["speaks the classic layout only"]),
        (b"\xd1\x53\x57\xd1\0\0\0\0\0\0\0\0", &["speaks the classic layout only"]),
        (b"", &["no hello before the end", "not Sidewire?"]),
    ] {
        let fake = Fake::new(move |stream| {
            take_hello(stream);
            send(stream, answer);
        });
        let error = fake.connect().open().expect_err("no Sidewire server");
        says(&error, &[&format!("connect to {}", fake.endpoint), "connected to 127.0.0.1:"]);
        says(&error, words);
        fake.join();
    }
}

#[test]
fn errors_in_a_box_read_the_same() {
    let error = Client::connect("tcp://127.0.0.1:1").expect_err("a URL");
    says(&error, &["write tcp:127.0.0.1:1"]);
    let boxed: Box<dyn std::error::Error> = Box::new(error);
    assert!(format!("{boxed:?}").starts_with("bad endpoint 'tcp://127.0.0.1:1': "), "{boxed:?}");
    let parsed: Box<dyn std::error::Error> = "nonsense!".parse::<Endpoint>().expect_err("no endpoint").into();
    assert_eq!(format!("{parsed:?}"), parsed.to_string());
}

#[cfg(unix)]
mod unix {
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    use super::*;
    use crate::util::usual_access;

    fn connect(endpoint: &Endpoint) -> Connect {
        Connect::to(endpoint)
            .expect("an endpoint")
            .access(usual_access(endpoint))
            .timeout(Some(Duration::from_millis(300)))
    }

    #[test]
    fn a_hung_server_is_named() {
        let _watchdog = watchdog(60);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hung.sock");
        let _server = UnixListener::bind(&path).expect("bind");
        let endpoint = Endpoint::Unix(path);
        let us = if cfg!(target_os = "linux") {
            format!(", opened by pid {}", std::process::id())
        } else {
            "uid".into()
        };
        let error = connect(&endpoint).open().expect_err("nobody answers");
        assert!(error.is_timeout() && error.is_hung(), "{error}");
        says(&error, &[&us, "no hello within 300ms: hung, or not Sidewire?"]);
        // In the classic layout the first thing that is missing is a reply.
        let client = connect(&endpoint).classic().open().expect("connect");
        let error =
            client.request(4).timeout(Duration::from_millis(200)).send(b"x").expect_err("nobody answers");
        says(&error, &["(type 4)", &us, "no reply from", "within 200ms"]);
        assert!(error.is_timeout() && !error.is_hung(), "it need not have said anything before");
    }

    #[test]
    fn what_is_no_socket_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let endpoint = Endpoint::Unix(file.path().into());
        let error = connect(&endpoint).open().expect_err("no socket");
        assert!(error.is_not_listening(), "{error}");
        says(&error, &["nobody listens there", "a regular file, no socket"]);
        let error = store().listen(&endpoint).expect_err("no socket");
        says(&error, &["is not a socket", "left alone"]);
    }

    #[test]
    #[cfg(target_os = "linux")] // Elsewhere the system tells no process ids.
    fn who_is_there_already_is_named() {
        let _watchdog = watchdog(60);
        for endpoint in all_streams() {
            let (running, bound) = start(store(), [usual(&endpoint)]);
            let error = store().listen(usual(&bound[0])).expect_err("taken");
            assert!(error.is_in_use(), "{error}");
            says(&error, &["another server is there already"]);
            if endpoint.has_credentials() {
                says(&error, &[": uid ", &format!(", opened by pid {}", std::process::id())]);
            }
            running.stop().expect("the server ends well");
        }
    }

    #[test]
    fn a_local_name_is_looked_for_with_this_user() {
        let error = Client::connect("local:nobody-serves-this-name").expect_err("nobody");
        assert!(error.is_not_listening(), "{error}");
        says(&error, &["for uid ", "`local:` is per user"]);
    }
}

#[test]
fn nobody_vouched_for_needs_a_decision() {
    let error = Connect::to("tcp:127.0.0.1:1")
        .expect("an endpoint")
        .access(Access::SameUser)
        .open()
        .expect_err("tcp");
    says(&error, &["say Access::Anyone"]);
}
