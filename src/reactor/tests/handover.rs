//! A newer server that takes an endpoint over from the loop.

use super::calls::{GOODBYE, v1_frame};
use super::*;
use crate::reactor::system::memory::Passes;
use sidewire_wire::{App, Task, Tasks};

const NOTIFY: u8 = 3;
/// How long what was accepted may take.
const GRACE: Duration = ms(5000);

/// A hello that asks for the endpoint, of this app.
fn asks(name: &str, version: &str) -> Vec<u8> {
    let mut hello = v1_hello();
    hello[12] = 2;
    for (tag, text) in [(4u16, name), (5, version)] {
        let length = u16::try_from(text.len()).expect("short");
        hello.extend([tag.to_le_bytes(), length.to_le_bytes()].concat());
        hello.extend(text.as_bytes());
    }
    hello[4] = u8::try_from(hello.len()).expect("short");
    hello
}

fn takes_over() -> Vec<u8> {
    v1_frame(NOTIFY, 0, 0, 0, b"")
}

fn goodbye(last: u32, rc: ResultCode) -> Vec<u8> {
    v1_frame(GOODBYE, 0, last, rc.code(), b"")
}

/// The status of a hello, and what is said behind that.
fn status(bytes: &[u8]) -> (i32, String) {
    let status = bytes[48..52].try_into().expect("four bytes");
    (i32::from_le_bytes(status), String::from_utf8_lossy(&bytes[72..]).into_owned())
}

/// Version 1.10 of an app, which gives way.
fn older() -> Stage {
    let mut stage = Stage::bare(|_| {});
    let site = giving_way(&stage);
    stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
    stage
}

fn giving_way(stage: &Stage) -> Site {
    let mut site = stage.site("local:memory", Access::SameUser, Carries::Frames);
    site.gives_way = Some(GRACE);
    let settings = Arc::make_mut(&mut site.settings);
    settings.grants = Tasks::default().and(Task::Handover);
    settings.app = Some(App::new("app", "1.10"));
    site
}

impl Stage {
    /// A server that has asked, with what it got.
    fn newer(&mut self) -> (Caller, Vec<u8>) {
        let newer = self.accepted();
        newer.send(&asks("app", "2"));
        assert!(self.turn());
        let said = newer.receive();
        (newer, said)
    }

    /// A client that has said hello.
    fn client(&mut self) -> Caller {
        let client = self.accepted();
        client.send(&v1_hello());
        assert!(self.turn());
        assert!(!client.receive().is_empty());
        client
    }
}

/// PROTOCOL J9, J11, J12
#[test]
fn the_newer_one_gets_the_listener_and_the_older_one_finishes_what_it_has_accepted() {
    let mut stage = older();
    let client = stage.client();
    let (newer, said) = stage.newer();
    assert_eq!((status(&said).0, newer.passed()), (0, Some(0)));
    assert!(stage.run(ms(60_000)), "nothing changes before it says that it has it");
    // Accepted, and answered late.
    stage.service.defers = true;
    client.send(&v1_request(1, 3));
    assert!(stage.turn());
    newer.send(&takes_over());
    client.send(&v1_request(2, 3));
    assert!(stage.turn());
    let waiting = stage.connect();
    assert!(stage.turn() && stage.turn());
    assert!(stage.world.is_handed_on(0) && !stage.world.is_withdrawn(0));
    assert_eq!(newer.receive(), goodbye(0, ResultCode::OK));
    // What it says is the last one is what it does.
    let last = u32::try_from(stage.service.requests).expect("few");
    assert_eq!(client.receive(), goodbye(last, ResultCode::SHUTTING_DOWN));
    assert_eq!((stage.service.stops, stage.counters.accepted()), (1, 2), "who waits is the newer one's");
    newer.send(&goodbye(0, ResultCode::OK));
    assert!(stage.run(GRACE - ms(10)), "it waits for the answer");
    for call in stage.service.deferred.drain(..) {
        call.answer(Answer::Reply(ResultCode::OK, b"late".to_vec()));
    }
    client.send(&goodbye(0, ResultCode::OK));
    assert!(stage.turn());
    assert!(client.receive().ends_with(b"late"));
    client.close();
    newer.close();
    assert!(!stage.run(ms(1)));
    drop(waiting);
}

/// PROTOCOL J9
#[test]
fn where_nothing_has_to_go_along_nothing_does() {
    let mut stage = older();
    stage.world.passes(Passes::Apart);
    let (newer, said) = stage.newer();
    assert_eq!((status(&said).0, newer.passed()), (0, None));
    newer.send(&takes_over());
    assert!(stage.turn() && stage.turn());
    assert!(stage.world.is_handed_on(0));
    assert_eq!(newer.receive(), goodbye(0, ResultCode::OK));
}

/// PROTOCOL J10
#[test]
fn only_the_same_app_gets_it_that_is_no_older() {
    for (name, version, may) in [
        ("app", "1.10", true),
        ("app", "1.10.1", true),
        ("app", "1.9", false),
        ("app", "", false),
        ("app", "May", false),
        ("other", "2", false),
        ("", "", false),
    ] {
        let mut stage = older();
        let newer = stage.accepted();
        newer.send(&asks(name, version));
        assert!(stage.run(ms(5)));
        let (status, text) = status(&newer.receive());
        let expected = if may { ResultCode::OK } else { ResultCode::NOT_PERMITTED };
        assert_eq!((status, newer.passed().is_some()), (expected.code(), may), "{name} {version}");
        assert!(may || text.contains("app 1.10"), "{text}");
        assert!(!stage.world.is_handed_on(0));
    }
}

/// PROTOCOL J10
#[test]
fn a_socket_that_was_given_is_not_given_away() {
    let mut stage = Stage::bare(|_| {});
    let mut site = giving_way(&stage);
    site.is_adopted = true;
    stage.reactor.add_listener(stage.world.listener(), site).expect("a listener");
    let (newer, said) = stage.newer();
    assert_eq!((status(&said).0, newer.passed()), (ResultCode::NOT_PERMITTED.code(), None));
}

/// PROTOCOL J11
#[test]
fn one_that_dies_before_it_has_said_so_changes_nothing() {
    for ends in [Caller::close, Caller::reset, Caller::shut_down] {
        let mut stage = older();
        let client = stage.client();
        let (newer, _) = stage.newer();
        ends(&newer);
        assert!(stage.run(ms(10_000)));
        client.send(&v1_request(1, 3));
        assert!(stage.turn());
        assert!(client.receive().ends_with(b"xxx") && !stage.world.is_handed_on(0));
        assert_eq!(stage.service.stops, 0);
        // And the next one gets it.
        let (next, _) = stage.newer();
        next.send(&takes_over());
        assert!(stage.turn() && stage.turn());
        assert!(stage.world.is_handed_on(0));
    }
}

/// As when this one was stopped for longer than the other waited. PROTOCOL J11
#[test]
fn one_that_has_said_so_and_given_up_since_changes_nothing() {
    for ends in [Caller::close, Caller::reset, Caller::shut_down] {
        let mut stage = older();
        let client = stage.client();
        let (newer, _) = stage.newer();
        newer.send(&takes_over());
        ends(&newer);
        assert!(stage.run(ms(10_000)));
        assert!(!stage.world.is_handed_on(0));
        client.send(&v1_request(1, 3));
        assert!(stage.turn());
        assert!(client.receive().ends_with(b"xxx"));
    }
}

/// PROTOCOL J12
#[test]
fn of_two_that_ask_one_gets_it() {
    let mut stage = older();
    let (one, other) = (stage.newer().0, stage.newer().0);
    for newer in [&one, &other] {
        newer.send(&takes_over());
    }
    assert!(stage.turn() && stage.turn());
    assert_eq!(one.receive(), goodbye(0, ResultCode::OK));
    assert_eq!(other.receive(), goodbye(0, ResultCode::SHUTTING_DOWN));
}

/// PROTOCOL J12
#[test]
fn a_server_that_stops_leaves_its_endpoint_to_nobody() {
    let mut stage = older();
    let (newer, _) = stage.newer();
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    newer.send(&takes_over());
    assert!(stage.turn() && stage.turn());
    assert_eq!(newer.receive(), goodbye(0, ResultCode::SHUTTING_DOWN));
    assert!(stage.world.is_withdrawn(0) && !stage.world.is_handed_on(0));
}

#[test]
fn what_can_t_be_passed_stays() {
    let mut stage = older();
    stage.world.passes(Passes::Never);
    let (newer, said) = stage.newer();
    assert!(said.ends_with(&goodbye(0, ResultCode::HANDLER_FAILED)) && newer.passed().is_none());
    assert!(stage.run(ms(1000)) && !stage.world.is_handed_on(0));
}

/// Those who had come and said nothing yet are told to come again; so are those at its other endpoints.
#[test]
fn nobody_is_left_without_an_answer() {
    let mut stage = older();
    stage.listen(Access::SameUser, Carries::Frames);
    let silent = [stage.accepted(), stage.accepted()];
    let (newer, _) = stage.newer();
    newer.send(&takes_over());
    let elsewhere = stage.world.connect_as(1, WE);
    assert!(stage.turn() && stage.turn());
    assert!(stage.world.is_withdrawn(1) && !stage.world.is_withdrawn(0));
    let [v1, classic] = &silent;
    v1.send(&v1_hello());
    classic.send(&request(1, b"hello"));
    elsewhere.send(&v1_hello());
    assert!(stage.turn() && stage.turn());
    for caller in [v1, &elsewhere] {
        assert_eq!(status(&caller.receive()).0, ResultCode::SHUTTING_DOWN.code());
    }
    assert_eq!(classic.receive(), reply(1, ResultCode::SHUTTING_DOWN, b""));
    assert_eq!(stage.service.requests, 0);
}
