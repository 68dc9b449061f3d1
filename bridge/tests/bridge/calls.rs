//! The map's rows about one call.

use std::sync::mpsc;
use std::time::Duration;

use futures_util::StreamExt;
use sidewire::{App, Connect, Failure, Limits, ResultCode, Server, Unwanted};

use crate::util::{Line, Nats, PATIENCE, client, refusal, start, started, watchdog};

const ECHO: u16 = 1;
const REFUSE: u16 = 2;
const LIMIT: u16 = 3;
const WHO: u16 = 4;
const APPEND: u16 = 5;
const READ: u16 = 6;
const NEVER: u16 = 7;
const LENGTH: u16 = 8;

/// Keeps a text, and tells how calls without an answer end.
fn server(ends: mpsc::Sender<Unwanted>) -> Server<Vec<u8>> {
    let mut server = Server::new(Vec::new());
    server.on(ECHO, |_, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(REFUSE, |_, request, reply| match request.payload() {
        b"text" => Err(Failure::new(7, "no more of it,\r\nnot even größere")),
        data => {
            reply.set_result(-900);
            reply.write(data);
            Ok(())
        }
    });
    server.on(LIMIT, |_, request, reply| {
        reply.write(format!("{:?}", request.timeout()));
        Ok(())
    });
    server.on(WHO, |_, request, reply| {
        let app = request.peer_app().map(|app| (app.name().to_owned(), app.version().to_owned()));
        reply.write(format!("{app:?}"));
        Ok(())
    });
    server.on(APPEND, |text, request, _reply| {
        text.extend_from_slice(request.payload());
        Ok(())
    });
    server.on(READ, |text, _request, reply| {
        reply.write(text);
        Ok(())
    });
    let mut waiting = Vec::new();
    server.on(NEVER, move |_, _request, reply| {
        let responder = reply.defer()?;
        let ends = ends.clone();
        responder.cancellation().on_cancel(move |why| {
            let _ = ends.send(why);
        });
        waiting.push(responder);
        Ok(())
    });
    server.on(LENGTH, |_, request, reply| {
        let length = std::str::from_utf8(request.payload()).ok().and_then(|text| text.parse().ok());
        reply.give(vec![b'x'; length.ok_or(Failure::from(ResultCode::MALFORMED))?]);
        Ok(())
    });
    server
}

#[test]
fn types_payloads_result_codes_and_texts() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    let client = &line.client;
    for payload in [&b""[..], b"\0\xff\r\n", &vec![7; 300_000]] {
        assert_eq!(client.call(ECHO, payload).expect("an echo").payload(), payload);
    }
    let refused = client.call(REFUSE, "text").expect_err("it is refused");
    assert_eq!(refusal(&refused), (7, "no more of it,\r\nnot even größere".into()));
    let refused = client.call(REFUSE, [0, 255]).expect_err("it is refused");
    assert_eq!(refused.result_code(), Some(ResultCode::new(-900)));
    assert_eq!((refused.payload(), refused.is_explanation()), (&[0, 255][..], false));
    for (msg_type, code, text) in
        [(0, -2, "type 0 has no handler"), (41, -2, "is not served by thing, which serves the types 0-40")]
    {
        let refused = client.call(msg_type, "").expect_err("nobody handles it");
        let (rc, why) = refusal(&refused);
        assert!(rc == code && why.contains(text), "{refused}");
    }
}

#[test]
fn each_of_many_callers_gets_its_own_reply() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    let clients = [&line.client, &client(&line.far)];
    let calls: Vec<_> = (0..200)
        .map(|n: u32| (n, clients[n as usize % 2].start(ECHO, n.to_le_bytes()).expect("a call")))
        .collect();
    for (n, call) in calls.into_iter().rev() {
        assert_eq!(call.wait().expect("an echo").payload(), n.to_le_bytes());
    }
}

#[test]
fn what_one_caller_asks_is_done_in_its_order() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    let said: String = (0..100).map(|n| format!("{n},")).collect();
    let calls: Vec<_> = (0..100)
        .map(|n| {
            // Notifies are no exception.
            if n % 3 == 0 {
                line.client.notify(APPEND, format!("{n},")).expect("a notify");
            }
            (n % 3 > 0).then(|| line.client.start(APPEND, format!("{n},")).expect("a call"))
        })
        .collect();
    let read = line.client.start(READ, "").expect("a call");
    calls.into_iter().flatten().for_each(|call| drop(call.wait().expect("an answer")));
    assert_eq!(read.wait().expect("an answer").payload(), said.as_bytes());
}

#[test]
fn the_server_hears_how_long_a_caller_waits_and_who_it_is() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    let connect = || Connect::to(&line.far).expect("an endpoint").call_timeout(PATIENCE);
    let text = |client: &sidewire::Client, msg_type| {
        String::from_utf8(client.call(msg_type, "").expect("an answer").into_payload()).expect("text")
    };
    // The bridge keeps the time itself, and takes parts: the server is told of no limit.
    assert_eq!(text(&line.client, LIMIT), "None");
    assert_eq!(
        text(&line.client, WHO),
        format!("{:?}", Some(("sidewire-bridge", env!("CARGO_PKG_VERSION"))))
    );
    for (name, version) in [("editor", "1.2"), ("a b\r\nSw-Rc: 5 %", "größer"), ("editor", "1.3")] {
        let client = connect().app(App::new(name, version)).open().expect("a client");
        assert_eq!(text(&client, WHO), format!("{:?}", Some((name, version))));
    }
    let classic = connect().classic().open().expect("a client");
    assert_eq!(classic.call(ECHO, "old").expect("an echo").payload(), b"old");
}

/// All others would wait for each try to connect.
#[test]
fn an_application_that_can_not_connect_shares_the_first_connection() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut limits = Limits::default();
    limits.listener.max_connections = 1;
    let mut server = Server::builder(()).limits(limits).build().expect("a server");
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let counters = server.counters();
    let _running = start(server, &near);
    let _serve = nats.serve(&near, &[]);
    let (_connect, far) = nats.connect("far", &[]);
    let connect = Connect::to(&far).expect("an endpoint").call_timeout(PATIENCE);
    let editor = connect.app(App::new("editor", "1")).open().expect("a client");
    for n in 0..3 {
        assert_eq!(editor.call(ECHO, [n]).expect("an echo").payload(), [n]);
    }
    assert_eq!(counters.stats().refused, 1);
}

/// A caller may say anything of itself, so connections are bounded.
#[test]
fn the_thirty_third_application_shares_the_first_connection() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    for n in 1..=33 {
        let connect = Connect::to(&line.far).expect("an endpoint").call_timeout(PATIENCE);
        let name = format!("editor {n}");
        let client = connect.app(App::new(&name, "1")).open().expect("a client");
        let who = client.call(WHO, "").expect("an answer").into_payload();
        let who = String::from_utf8(who).expect("text");
        let expected = if n == 33 { "sidewire-bridge" } else { &name };
        assert!(who.contains(&format!("{expected:?}")), "{n}: {who}");
    }
}

/// Its bridge goes on, and answers what others ask.
#[test]
fn a_server_that_stands_still_does_not_hold_up_its_bridge() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let (go_on, waits) = mpsc::channel::<()>();
    let mut server = Server::new(());
    server.on(ECHO, move |(), _request, _reply| {
        let _ = waits.recv();
        Ok(())
    });
    let running = start(server, &near);
    let _serve = nats.serve(&near, &[]);
    let stranger = nats.stranger();
    // More than the bridge keeps for its server.
    let payload = bytes::Bytes::from(vec![0; 1 << 20]);
    for _ in 0..80 {
        let sent = stranger.client.publish("sw.thing.1", payload.clone());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    stranger.request("$SRV.PING", "");
    drop(go_on);
    running.stop().expect("it ends");
}

/// The one before it waits a second for a connection of its own, to a server that stands still.
#[test]
fn a_call_whose_time_is_over_before_its_turn_is_not_executed() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let near = nats.endpoint("near");
    let mut server = Server::new(Vec::new());
    server.on(ECHO, |asked: &mut Vec<Vec<u8>>, request, reply| {
        asked.push(request.payload().to_vec());
        reply.write(request.payload());
        Ok(())
    });
    let running = start(server, &near);
    let _serve = nats.serve(&near, &[]);
    let (go_on, waits) = mpsc::channel::<()>();
    running.remote().with(move |_| _ = waits.recv()).expect("room");
    let stranger = nats.stranger();
    let answers = ["answers.first", "answers.late"].map(|subject| {
        stranger.runtime.block_on(stranger.client.subscribe(subject)).expect("a subscription")
    });
    for (payload, header, value) in [("first", "Sw-App", "editor"), ("late", "Sw-Timeout", "100")] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert(header, value);
        let reply = format!("answers.{payload}");
        let sent =
            stranger.client.publish_with_reply_and_headers("sw.thing.1", reply, headers, payload.into());
        stranger.runtime.block_on(sent).expect("it is sent");
    }
    let [mut first, mut late] = answers;
    let late = stranger.runtime.block_on(late.next()).expect("an answer");
    let rc = late.headers.as_ref().and_then(|headers| headers.get("Sw-Rc")).map(|rc| rc.as_str());
    assert!(rc == Some("-7") && late.payload.ends_with(b"not executed"), "{late:?}");
    drop(go_on);
    assert_eq!(stranger.runtime.block_on(first.next()).expect("an answer").payload, "first");
    assert_eq!(running.stop().expect("it ends"), [b"first"]);
}

#[test]
fn a_call_that_nobody_needs_is_cancelled_where_it_is_served() {
    let _watchdog = watchdog();
    let (ends, ended) = mpsc::channel();
    let (line, _running) = Line::to(server(ends));
    // Given up, by a caller who stays; at once, before anybody knows who has the call.
    drop(started(&line.client, NEVER));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Unwanted::Cancelled));
    // Its caller has gone.
    let other = client(&line.far);
    let call = started(&other, NEVER);
    assert_eq!(ended.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
    drop((call, other));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Unwanted::Cancelled));
    // Its time is over.
    let late =
        line.client.request(NEVER).timeout(Duration::from_millis(400)).send("").expect_err("no answer");
    assert!(late.is_timeout() || refusal(&late).0 == -7, "{late}");
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Unwanted::Cancelled));
}

#[test]
fn what_the_broker_does_not_take_is_too_large() {
    let _watchdog = watchdog();
    let (line, _running) = Line::over(Nats::with("max_payload: 100000"), server(mpsc::channel().0), &[]);
    let client = &line.client;
    // A request's headers count, too: less than 200 bytes of them.
    assert_eq!(client.call(ECHO, vec![1; 99_800]).expect("it fits").payload().len(), 99_800);
    for length in [100_000, 100_001, 1_000_000] {
        let refused = client.call(ECHO, vec![1; length]).expect_err("it is too large");
        let (rc, text) = refusal(&refused);
        assert!(rc == -3 && text.contains("100000 bytes") && text.ends_with("not executed"), "{refused}");
    }
    // A reply without headers has all of it.
    assert_eq!(client.call(LENGTH, "100000").expect("it fits").payload().len(), 100_000);
    for length in ["100001", "5000000"] {
        let refused = client.call(LENGTH, length).expect_err("it is too large");
        let (rc, text) = refusal(&refused);
        assert!(rc == -3 && text.contains(length) && text.ends_with("it was executed"), "{refused}");
    }
    assert_eq!(client.call(ECHO, "still here").expect("an echo").payload(), b"still here");
}

#[test]
fn where_nobody_serves_it_that_is_said_at_once() {
    let _watchdog = watchdog();
    let nats = Nats::start();
    let (_connect, far) = nats.connect("far", &[]);
    let client = client(&far);
    let refused = client.call(ECHO, "").expect_err("nobody is there");
    let (rc, text) = refusal(&refused);
    assert!(rc == -6 && text.contains("nobody serves this at nats://127.0.0.1:"), "{refused}");
    assert!(text.ends_with("not executed"), "{refused}");
    let near = nats.endpoint("near");
    let _running = start(server(mpsc::channel().0), &near);
    let serve = nats.serve(&near, &[]);
    assert_eq!(client.call(ECHO, "there").expect("an echo").payload(), b"there");
    drop(serve);
    // The broker notices the end of its process.
    crate::util::until("nobody is there", || {
        client.call(ECHO, "").is_err_and(|error| refusal(&error).0 == -6)
    });
}

#[test]
fn a_program_of_nats_alone_can_call() {
    let _watchdog = watchdog();
    let (line, _running) = Line::to(server(mpsc::channel().0));
    let stranger = line.nats.stranger();
    let answer = stranger.request("sw.thing.1", "plain");
    assert_eq!((&answer.payload[..], answer.headers), (&b"plain"[..], None));
    let answer = stranger.request("sw.thing.2", "text");
    let headers = answer.headers.expect("a result code");
    assert_eq!(headers.get("Sw-Rc").map(|rc| rc.as_str()), Some("7"));
    // What is no type, or no header, is answered, too.
    for subject in ["sw.thing.x", "sw.thing.01", "sw.thing.99999"] {
        let headers = stranger.request(subject, "").headers.expect("a result code");
        assert_eq!(headers.get("Sw-Rc").map(|rc| rc.as_str()), Some("-2"), "{subject}");
    }
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Sw-Timeout", "soon");
    let request = stranger.client.request_with_headers("sw.thing.1", headers, "".into());
    let answer = stranger.runtime.block_on(request).expect("an answer");
    assert_eq!(answer.headers.expect("a result code").get("Sw-Rc").map(|rc| rc.as_str()), Some("-4"));
}
