//! What the loop writes down of what it does.

use super::*;
use crate::recorder::{Record, RecordKind, RecordState};

fn records(stage: &mut Stage) -> Vec<Record> {
    stage.reactor.recorder().records()
}

fn kinds(records: &[Record]) -> Vec<RecordKind> {
    records.iter().map(|record| record.kind).collect()
}

#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    use RecordKind::*;
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&request(1, b"hello").repeat(2));
    stage.turn();
    let told = records(&mut stage);
    assert_eq!(kinds(&told), [Opened, Connect, Request, Request]);
    let request = &told[2];
    assert_eq!((request.msg_type, request.length, request.rc), (Some(1), 5, Some(ResultCode::OK)));
    assert!(told.iter().all(|record| record.connection == Some(0) && record.state == RecordState::Done));
    caller.close();
    stage.run(ms(1));
    assert_eq!(kinds(&records(&mut stage))[4..], [Disconnect, Closed]);
}

/// By the looks at the clock that the loop takes anyway: behind the 1st, 2nd, 4th, 8th of a turn.
#[test]
fn times_are_those_that_the_loop_has_read() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    caller.send(&request(1, b""));
    stage.run(ms(5));
    stage.service.takes = Duration::from_micros(10);
    caller.send(&request(1, b"").repeat(4));
    stage.turn();
    let told = records(&mut stage);
    let requests = &told[told.len() - 4..];
    let micros = |time: Duration| time.as_micros() as u64;
    assert!(requests.iter().all(|record| record.took == Some(Duration::from_micros(10))), "{told:?}");
    assert_eq!(requests.iter().map(|record| micros(record.queued)).collect::<Vec<_>>(), [0, 10, 20, 20]);
    let first = requests[0].at;
    assert_eq!(requests.iter().map(|record| micros(record.at - first)).collect::<Vec<_>>(), [0, 10, 20, 20]);
    assert_eq!(first, ms(5));
}

/// The rest of what came is for later turns, and has waited since.
#[test]
fn what_was_left_over_has_waited() {
    let mut stage = Stage::new(|limits| limits.turn_frames = 1);
    let caller = stage.accepted();
    caller.send(&request(1, b"").repeat(2));
    stage.turn();
    stage.world.pass(ms(30));
    stage.turn();
    let told = records(&mut stage);
    assert_eq!(told.last().map(|record| record.queued), Some(ms(30)), "{told:?}");
}

#[test]
fn who_holds_the_loop_is_marked() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.service.slow_at = Some((2, ms(200)));
    caller.send(&[request(1, b""), request(2, b""), request(3, b"")].concat());
    stage.run(ms(1));
    let told = records(&mut stage);
    let slow: Vec<_> = told.iter().filter(|record| record.is_slow).collect();
    assert_eq!(slow.iter().map(|record| record.msg_type).collect::<Vec<_>>(), [Some(2)]);
    assert_eq!(slow[0].took, Some(ms(200)));
}

#[test]
fn a_deferred_call_is_told_twice() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.accepted();
    stage.service.defers = true;
    caller.send(&v1_hello());
    stage.turn();
    caller.send(&v1_request(7, 3));
    stage.turn();
    let Some(call) = stage.service.deferred.pop() else { panic!("one was deferred") };
    call.answer(Answer::Reply(ResultCode::OK, Vec::new()));
    stage.turn();
    let told = records(&mut stage);
    let [.., asked, answered] = &told[..] else { panic!("two at least") };
    assert_eq!((asked.kind, asked.state, asked.rc), (RecordKind::Request, RecordState::Deferred, None));
    assert_eq!((answered.kind, answered.rc), (RecordKind::Answer, Some(ResultCode::OK)));
    let call = (Some(0), Some(1), 7);
    assert!(
        [asked, answered].iter().all(|told| (told.connection, told.msg_type, told.id) == call),
        "{told:?}"
    );
}

#[test]
fn who_is_refused_is_told() {
    let mut stage = Stage::new(|_| {});
    let caller = stage.world.connect_as(0, OTHERS);
    stage.turn();
    assert_eq!(kinds(&records(&mut stage)), [RecordKind::Refused]);
    drop(caller);
}

#[test]
fn bytes_and_datagrams_are_told() {
    let mut stage = Stage::with(|_| {}, Access::SameUser, Carries::Plain(Cut::Raw));
    let caller = stage.accepted();
    caller.send(b"seven b");
    stage.turn();
    let told = records(&mut stage);
    assert_eq!(
        (told.last().map(|record| (record.kind, record.length))),
        Some((RecordKind::Bytes, 7)),
        "{told:?}"
    );
}
