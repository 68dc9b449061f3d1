//! The harness itself: each of these takes microseconds.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::*;
use crate::{Access, App, Failure, Listen, ResultCode, User, WhenSlow};
use sidewire_wire::Executed;

const ECHO: u16 = 1;
const LATER: u16 = 2;
const PARTS: u16 = 3;
const PANICS: u16 = 4;
const TELL: u16 = 5;
const NOTE: u16 = 6;
const ANSWER: u16 = 7;
const TOPIC: u16 = 8;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    notes: Vec<String>,
    kept: Vec<crate::Responder>,
}

fn server() -> Server<State> {
    let mut server = Server::builder(State::default()).app(App::new("test", "1")).build().expect("a server");
    server.topic(TOPIC, WhenSlow::DropNewest);
    server.on_connect(|state, connection| {
        let app = connection.app().map(|app| app.name().to_owned()).unwrap_or_default();
        state.notes.push(format!("came {app}"));
    });
    server.on_disconnect(|state, _connection, why| state.notes.push(format!("left: {why}")));
    server.on(ECHO, |_state, request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(LATER, |state, _request, reply| {
        state.kept.push(reply.defer()?);
        Ok(())
    });
    server.on(ANSWER, |state, request, _reply| {
        state.kept.drain(..).for_each(|responder| responder.reply(request.payload()));
        Ok(())
    });
    server.on(PARTS, |_state, request, reply| {
        let count = u32::from(request.payload()[0]);
        let mut stream = reply.stream()?;
        std::thread::spawn(move || {
            for part in 0..count {
                stream.send(part.to_string()).expect("somebody reads");
            }
            stream.finish(ResultCode::OK, "end");
        });
        Ok(())
    });
    server.on(PANICS, |_state, _request, _reply| panic!("on purpose"));
    server.on(TELL, |_state, request, _reply| {
        request.publish(TOPIC, request.payload())?;
        Ok(())
    });
    server.on(NOTE, |state, request, _reply| {
        state.notes.push(String::from_utf8_lossy(request.payload()).into());
        Ok(())
    });
    server
}

fn payloads(events: &mut Events) -> Vec<String> {
    events.map(|event| String::from_utf8_lossy(event.payload()).into()).collect()
}

#[test]
fn calls_are_answered_by_the_servers_handlers_in_no_time() {
    let harness = Harness::new(server());
    let client = harness.connect();
    for length in [0, 1, 100_000, 5 << 20] {
        let payload = vec![7; length];
        assert_eq!(client.call(ECHO, &payload).expect("an echo").payload(), payload);
    }
    let error = client.call(99, "").expect_err("there is no such handler");
    assert_eq!((error.result_code(), error.msg_type()), (Some(ResultCode::NO_HANDLER), Some(99)));
    assert_eq!(client.exchange(300, "").expect("an answer").result_code(), ResultCode::UNKNOWN_TYPE);
    let error = client.call(PANICS, "").expect_err("it panics");
    assert_eq!(error.result_code(), Some(ResultCode::HANDLER_FAILED));
    assert_eq!(client.peer_app().map(|app| app.name().to_owned()).as_deref(), Some("test"));
    assert_eq!(harness.elapsed(), Duration::ZERO);
}

#[test]
fn what_the_server_takes_at_most_is_what_it_would_take() {
    let mut limits = crate::Limits::default();
    limits.listener.connection.max_payload = 10;
    limits.listener.max_connections = 1;
    let mut server = Server::builder(()).limits(limits).build().expect("a server");
    server.on(ECHO, |(), _request, _reply| Ok(()));
    let harness = Harness::new(server);
    let client = harness.connect();
    client.call(ECHO, [0; 10]).expect("it fits");
    let error = client.call(ECHO, [0; 11]).expect_err("one byte too many");
    assert!(error.is_invalid_input(), "{error}");
    let error = harness.client().connect().expect_err("there is one place");
    assert_eq!(error.refused_by(), Some(crate::RefusedBy::Server(ResultCode::BUSY)), "{error}");
    drop(client);
    harness.connect().call(ECHO, "").expect("a place again");
}

#[test]
fn whom_the_server_does_not_let_in_is_refused() {
    let harness = Harness::new(server());
    let other = || User::Uid(4_000_000);
    let error = harness.client().user(other()).connect().expect_err("another user");
    assert_eq!(error.refused_by(), Some(crate::RefusedBy::Server(ResultCode::NOT_PERMITTED)), "{error}");
    let listen = Listen::on("local:app").expect("an endpoint").access(Access::Anyone);
    let harness = Harness::at(server(), listen).expect("a harness");
    let client = harness.client().user(other()).app(App::new("other", "2")).connect().expect("anyone");
    client.call(ECHO, "").expect("an echo");
    assert_eq!(harness.state().notes, ["came other"]);
    let [info] = &harness.peers()[..] else { panic!("one is there") };
    assert_eq!(
        (info.endpoint.to_string().as_str(), info.peer.credentials().map(|c| c.user().clone())),
        ("local:app", Some(other()))
    );
}

#[test]
fn ends_are_told_with_their_reasons() {
    let harness = Harness::new(server());
    let (orderly, dropped, dying) = (harness.connect(), harness.connect(), harness.connect());
    orderly.close();
    assert!(orderly.is_closed());
    assert!(orderly.call(ECHO, "").expect_err("it is closed").is_closed());
    drop(dropped);
    dying.abort();
    let notes = std::mem::take(&mut harness.state_mut().notes);
    assert_eq!(notes[..3], ["came ", "came ", "came "]);
    assert_eq!(notes[3], notes[4], "both say goodbye");
    assert_ne!(notes[4], notes[5]);
    assert!(harness.peers().is_empty());
}

#[test]
fn answers_that_wait_for_something_else_come_with_it() {
    let harness = Harness::new(server());
    let (one, other) = (harness.connect(), harness.connect());
    let (mut first, mut second) =
        (one.start(LATER, "").expect("begun"), one.start(LATER, "").expect("begun"));
    assert!(first.poll().is_none());
    other.call(ANSWER, "now").expect("answered");
    assert_eq!(second.poll().expect("it is known").expect("an answer").payload(), b"now");
    assert!(second.poll().expect("it is known").expect_err("told before").is_invalid_input());
    assert_eq!(first.wait().expect("an answer").payload(), b"now");
    assert_eq!(harness.elapsed(), Duration::ZERO);
}

#[test]
fn time_limits_pass_in_no_time() {
    let harness = Harness::new(server());
    harness.set_patience(Duration::ZERO);
    let client = harness.client().call_timeout(5 * SECOND).connect().expect("a client");
    let error = client.call(LATER, "").expect_err("nobody answers");
    assert!(error.is_timeout() && error.executed() == Executed::Perhaps, "{error}");
    assert_eq!(harness.elapsed(), 5 * SECOND);
    let mut call = client.start(LATER, "").expect("begun");
    harness.advance(4 * SECOND);
    assert!(call.poll().is_none());
    harness.advance(SECOND);
    assert!(call.poll().expect("its time is up").is_err());
    assert_eq!(harness.elapsed(), 10 * SECOND);
    assert!(harness.state().kept.iter().all(|responder| responder.cancellation().is_cancelled()));
    // One without a time limit waits as long as anything can happen.
    let client = harness.client().call_timeout(None).connect().expect("a client");
    let error = client.call(LATER, "").expect_err("nobody answers");
    assert!(error.is_timeout() && error.to_string().contains("nothing more can happen"), "{error}");
}

#[test]
fn who_waits_for_threads_that_do_not_answer_is_told_so() {
    let harness = Harness::new(server());
    harness.set_patience(Duration::from_millis(1));
    let error = harness.connect().call(LATER, "").expect_err("nobody answers");
    assert!(error.is_timeout() && error.to_string().contains("no other thread gave it in 1ms"), "{error}");
    assert_eq!(harness.elapsed(), 30 * SECOND);
}

#[test]
fn who_does_not_read_gets_no_more_than_a_buffer_and_answers_nothing() {
    let harness = Harness::new(server());
    let slow = harness.client().on(1, |_payload| Ok(Vec::new())).connect().expect("a client");
    let mut events = slow.subscribe(TOPIC).expect("a topic");
    slow.stop_reading();
    let peer = harness.remote().peer(harness.peers()[0].connection);
    let timed_out = |state: &mut State, answer: Result<crate::Answer<'_>>| {
        state.notes.push(answer.expect_err("no answer").to_string());
    };
    peer.call(1, "", SECOND, timed_out).expect("asked");
    for _ in 0..100 {
        harness.publish(TOPIC, [0; 50_000]).expect("published");
    }
    harness.advance(2 * SECOND);
    assert!(harness.state().notes[1].contains("time"), "{:?}", harness.state().notes);
    slow.read_on();
    let got = events.by_ref().count();
    assert!((2..100).contains(&got), "{got}");
    harness.publish(TOPIC, "next").expect("published");
    assert_eq!(events.next().map(|event| event.dropped() as usize), Some(100 - got));
    slow.stop_reading();
    for _ in 0..100 {
        harness.publish(TOPIC, [0; 50_000]).expect("published");
    }
    harness.advance(60 * SECOND);
    assert!(harness.peers().is_empty(), "it was given up");
}

#[test]
fn who_cancels_is_answered_so() {
    let harness = Harness::new(server());
    let client = harness.connect();
    let mut call = client.start(LATER, "").expect("begun");
    call.cancel();
    let error = call.wait().expect_err("cancelled");
    assert_eq!(error.result_code(), Some(ResultCode::CANCELLED));
    drop(client.start(LATER, "").expect("begun"));
    assert!(harness.state().kept.iter().all(|responder| responder.cancellation().is_cancelled()));
}

#[test]
fn events_come_in_order_to_those_who_have_subscribed() {
    let harness = Harness::new(server());
    let (one, other) = (harness.connect(), harness.connect());
    let mut events = one.subscribe(TOPIC).expect("a topic");
    assert_eq!(one.subscribe(ECHO).expect_err("no topic").result_code(), Some(ResultCode::NO_HANDLER));
    other.call(TELL, "a").expect("told");
    one.notify(TELL, "b").expect("told");
    harness.publish(TOPIC, "c").expect("published");
    harness.remote().publish(TOPIC, "d").expect("published");
    assert_eq!(payloads(&mut events), ["a", "b", "c", "d"]);
    assert!(events.next().is_none());
    harness.publish(TOPIC, "e").expect("published");
    assert_eq!(events.next().map(|event| (event.sequence(), event.dropped())), Some((5, 0)));
    drop(events);
    harness.publish(TOPIC, "nobody").expect("published");
    let mut events = one.subscribe(TOPIC).expect("a topic");
    assert!(events.next().is_none());
    one.close();
    assert!(events.next().is_none());
}

#[test]
fn other_threads_are_waited_for_by_the_walls_clock() {
    let mut server = server();
    let remote = server.remote().expect("a remote");
    server.on(20, |_state, request, reply| {
        let (responder, payload) = (reply.defer()?, request.to_vec()?);
        std::thread::spawn(move || responder.reply(payload));
        Ok(())
    });
    server.on(21, move |_state, _request, _reply| {
        let remote = remote.clone();
        std::thread::spawn(move || remote.publish(TOPIC, "from a thread"));
        Ok(())
    });
    let harness = Harness::new(server);
    harness.set_patience(60 * SECOND);
    let client = harness.connect();
    assert_eq!(client.call(20, "later").expect("an answer").payload(), b"later");
    let mut events = client.subscribe(TOPIC).expect("a topic");
    client.call(21, "").expect("begun");
    let event = loop {
        match events.next() {
            Some(event) => break event,
            None => assert!(harness.wait_for_threads(60 * SECOND), "the thread tells it"),
        }
    };
    assert_eq!(event.payload(), b"from a thread");
    assert!(!harness.wait_for_threads(Duration::ZERO));
    assert_eq!(harness.elapsed(), Duration::ZERO);
}

#[test]
fn replies_come_in_parts() {
    let harness = Harness::new(server());
    harness.set_patience(60 * SECOND);
    let client = harness.connect();
    let mut parts = client.stream(PARTS, [200]).expect("begun");
    let all: Vec<String> =
        parts.by_ref().map(|part| String::from_utf8(part.expect("a part")).expect("digits")).collect();
    assert_eq!(all, (0..200).map(|part| part.to_string()).collect::<Vec<_>>());
    assert_eq!(parts.response().expect("the end").payload(), b"end");
    assert!(parts.next().is_none() && matches!(parts.poll(), Poll::Ready(None)));
    let mut parts = client.stream(ECHO, "none").expect("begun");
    assert!(parts.next().is_none());
    assert_eq!(parts.response().expect("the end").payload(), b"none");
    let mut failed = client.stream(99, "").expect("begun");
    assert!(failed.next().expect("the reason").is_err() && failed.next().is_none());
    let mut cancelled = client.stream(LATER, "").expect("begun");
    assert!(cancelled.poll().is_pending());
    cancelled.cancel();
    let error = cancelled.next().expect("the reason").expect_err("cancelled");
    assert_eq!(error.result_code(), Some(ResultCode::CANCELLED));
}

#[test]
fn the_server_asks_its_clients() {
    let harness = Harness::new(server());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let client = harness
        .client()
        .on(1, |payload| Ok([payload, b"!"].concat()))
        .on(2, |_payload| Err(Failure::new(ResultCode::new(9), "no")))
        .on(3, move |payload| {
            noted.lock().expect("one thread").push(payload.to_vec());
            Ok(Vec::new())
        })
        .connect()
        .expect("a client");
    let peer = harness.remote().peer(harness.peers()[0].connection);
    for msg_type in [1, 2, 7] {
        peer.call(msg_type, "hey", SECOND, |state: &mut State, answer| {
            let answer = answer.expect("it answers");
            let text = String::from_utf8_lossy(answer.payload());
            state.notes.push(format!("{} {text}", answer.result_code().code()));
        })
        .expect("asked");
    }
    peer.notify(3, "psst").expect("told");
    harness.settle();
    assert_eq!(harness.state().notes[1..], ["0 hey!", "9 no", "-2 no handler for type 7"]);
    assert_eq!(*seen.lock().expect("one thread"), [b"psst"]);
    peer.close().expect("ordered");
    harness.settle();
    assert!(client.is_closed());
    let error = client.call(ECHO, "").expect_err("the server has said goodbye");
    assert!(error.is_peer_gone() && error.executed() == Executed::Never, "{error}");
}

#[test]
fn a_classic_client_is_served() {
    let harness = Harness::new(server());
    let client = harness.client().classic().connect().expect("a client");
    assert_eq!(client.call(ECHO, "hello").expect("an echo").payload(), b"hello");
    assert!(client.notify(ECHO, "").expect_err("none there").is_invalid_input());
    assert!(client.subscribe(TOPIC).expect_err("none there").is_invalid_input());
    drop(client);
    assert_eq!(harness.state().notes.len(), 2);
}

#[test]
fn a_server_that_stops_says_goodbye_and_refuses_what_waits() {
    let harness = Harness::new(server());
    let client = harness.connect();
    let call = client.start(LATER, "").expect("begun");
    harness.stop();
    assert!(harness.has_stopped());
    assert_eq!(call.wait().expect_err("refused").result_code(), Some(ResultCode::SHUTTING_DOWN));
    assert!(client.is_closed());
    assert!(harness.client().connect().expect_err("nobody is there").is_not_listening());
    assert_eq!(harness.elapsed(), Duration::from_millis(500));
    assert_eq!(harness.state().notes.len(), 2);
    assert!(harness.remote().with(|_| ()).expect_err("nobody runs it").is_stopped());
}

#[test]
fn a_server_leaves_when_nobody_needs_it() {
    let mut server = server();
    server.exit_when_idle(60 * SECOND).expect("a loop");
    let harness = Harness::new(server);
    let client = harness.connect();
    harness.advance(3600 * SECOND);
    drop(client);
    harness.advance(59 * SECOND);
    assert!(!harness.has_stopped());
    harness.advance(2 * SECOND);
    assert!(harness.has_stopped());
}

#[test]
fn handlers_need_not_be_send() {
    let count = Rc::new(std::cell::Cell::new(0));
    let mut server = Server::builder(()).one_thread().build().expect("a server");
    let counted = Rc::clone(&count);
    server.on(ECHO, move |(), _request, _reply| {
        counted.set(counted.get() + 1);
        Ok(())
    });
    let harness = Harness::new(server);
    let clients = [harness.connect(), harness.connect()];
    clients.iter().for_each(|client| drop(client.call(ECHO, "").expect("an answer")));
    assert_eq!(count.get(), 2);
    drop(harness);
    clients[0].call(ECHO, "").expect("it is there as long as its clients are");
}

#[test]
fn a_server_that_is_somewhere_already_is_none_for_a_harness() {
    let mut server = Server::new(());
    server
        .listen(Listen::on("tcp:127.0.0.1:0").expect("an endpoint").access(Access::Anyone))
        .expect("a port");
    let error = Harness::at(server, "local:app").expect_err("it listens");
    assert!(error.is_invalid_input() && error.to_string().contains("listen behind that"), "{error}");
    let error = Harness::at(Server::new(()), "udp:127.0.0.1:7").expect_err("datagrams");
    assert!(error.is_invalid_input(), "{error}");
}

#[test]
#[should_panic(expected = "the harness is in use: by whoever was lent its state")]
fn what_was_lent_of_the_state_is_to_be_given_back() {
    let harness = Harness::new(server());
    let client = harness.connect();
    let lent = harness.state();
    drop(client.call(ECHO, ""));
    drop(lent);
}
