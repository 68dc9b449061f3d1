//! Answers that come later.

use sidewire_platform::Address;

use super::*;
use crate::limits::MAX_UNWANTED;
use crate::reactor::system::memory::Side;

/// Frames of v1 that a caller got: their kind, id, rc and payload.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<(u8, u32, i32, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<16>() {
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let (payload, behind) = rest.split_at(number(0) as usize);
        frames.push((header[4], number(8), number(12) as i32, payload.to_vec()));
        bytes = behind;
    }
    frames
}

pub(super) const REPLY: u8 = 2;
pub(super) const CANCEL: u8 = 7;
const GOODBYE: u8 = 12;

fn header(kind: u8, id: u32, rc: i32) -> Vec<u8> {
    let mut header = vec![0, 0, 0, 0, kind, 0, if kind == 1 { 1 } else { 0 }, 0];
    header.extend(id.to_le_bytes());
    header.extend(rc.to_le_bytes());
    header
}

/// A request of type 1 whose caller waits for so many milliseconds.
pub(super) fn timed_request(id: u32, timeout: i32) -> Vec<u8> {
    header(1, id, timeout)
}

/// A stage on which all requests are deferred.
fn deferring() -> Stage {
    let mut stage = Stage::new(|_| {});
    stage.service.defers = true;
    stage
}

/// A v1 caller that has read the server's hello.
fn greeted(stage: &mut Stage) -> Caller {
    let caller = stage.accepted();
    caller.send(&v1_hello());
    stage.turn();
    assert_eq!(caller.receive().first_chunk(), Some(&[0xD1, 0x53, 0x57, 0xD1]));
    caller
}

/// The call that was deferred at this place.
fn call(stage: &Stage, number: usize) -> Arc<Call> {
    Arc::clone(&stage.service.deferred[number])
}

fn answer(stage: &Stage, number: usize, payload: &[u8]) {
    call(stage, number).answer(Answer::Reply(ResultCode::OK, payload.to_vec()));
}

#[test]
fn calls_are_answered_in_whatever_order_others_answer_them() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    (1..=3).for_each(|id| caller.send(&v1_request(id, 0)));
    assert!(stage.turn());
    assert_eq!((stage.service.requests, caller.receive().len()), (3, 0));
    answer(&stage, 2, b"third");
    answer(&stage, 0, b"first");
    assert!(stage.turn());
    let expected = [(REPLY, 3, 0, b"third".to_vec()), (REPLY, 1, 0, b"first".to_vec())];
    assert_eq!(frames(&caller.receive()), expected);
    answer(&stage, 1, b"second");
    assert!(stage.turn());
    assert_eq!(frames(&caller.receive()), [(REPLY, 2, 0, b"second".to_vec())]);
    assert_eq!(stage.counters.answers_to_nobody(), 0);
}

/// One is answered at the time at which the other's is over.
#[test]
fn what_is_said_of_a_call_that_ends_beside_an_answer_leaves_with_it() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    caller.send(&v1_request(1, 0));
    caller.send(&timed_request(2, 200));
    assert!(stage.turn());
    stage.world.pass(ms(200));
    answer(&stage, 0, b"in time");
    assert!(stage.turn() && stage.turn());
    let frames = frames(&caller.receive());
    let ends: Vec<_> = frames.iter().map(|(_, id, rc, _)| (*id, *rc)).collect();
    assert_eq!(ends, [(1, 0), (2, ResultCode::TIMED_OUT.code())]);
}

/// What comes the system tells of.
#[test]
fn nothing_is_read_for_an_answer() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    (1..=2).for_each(|id| caller.send(&v1_request(id, 0)));
    assert!(stage.turn());
    caller.fail_reads(1, io::ErrorKind::Other);
    answer(&stage, 0, b"first");
    assert!(stage.turn() && stage.turn());
    assert_eq!(frames(&caller.receive()), [(REPLY, 1, 0, b"first".to_vec())]);
    assert_eq!(caller.server(), Side::Open);
    caller.send(&v1_request(3, 0));
    assert!(stage.turn());
    assert_ne!(caller.server(), Side::Open, "now it is read");
}

#[test]
fn behind_a_classic_request_that_is_deferred_nothing_is_begun() {
    let mut stage = deferring();
    let caller = stage.accepted();
    caller.send(&[request(1, b"a"), request(2, b"b")].concat());
    assert!(stage.turn() && stage.turn());
    assert_eq!(stage.service.requests, 1);
    answer(&stage, 0, b"A");
    assert!(stage.turn() && stage.turn());
    assert_eq!((stage.service.requests, caller.receive()), (2, reply(1, ResultCode::OK, b"A")));
    // And it still gets its answer when it has said that it asks no more.
    caller.shut_down();
    assert!(stage.turn());
    answer(&stage, 1, b"B");
    assert!(stage.turn() && stage.turn());
    assert_eq!((caller.receive(), caller.server()), (reply(2, ResultCode::OK, b"B"), Side::Flushed));
}

#[test]
fn who_works_on_a_call_hears_that_its_time_is_over() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    caller.send(&timed_request(1, 200));
    assert!(stage.run(ms(199)));
    assert_eq!((caller.receive().len(), call(&stage, 0).unwanted()), (0, None));
    assert!(stage.run(ms(1)));
    assert_eq!(frames(&caller.receive())[0].2, ResultCode::TIMED_OUT.code());
    assert_eq!(call(&stage, 0).unwanted(), Some(Unwanted::TimedOut));
    answer(&stage, 0, b"too late");
    assert!(stage.turn());
    assert_eq!((caller.receive().len(), stage.counters.answers_to_nobody()), (0, 1));
}

/// PROTOCOL T1
#[test]
fn what_nobody_waits_for_any_more_is_not_begun() {
    let mut stage = Stage::new(|_| {});
    let caller = greeted(&mut stage);
    stage.service.takes = ms(3000);
    // The second waits for the first longer than its caller does; the last one's caller has time.
    caller.send(&[v1_request(1, 0), timed_request(2, 2999), timed_request(3, 3001)].concat());
    assert!(stage.turn() && stage.turn() && stage.turn());
    assert_eq!(stage.service.requests, 2);
    let codes: Vec<_> = frames(&caller.receive()).iter().map(|(_, id, rc, _)| (*id, *rc)).collect();
    assert_eq!(codes, [(1, 0), (2, ResultCode::TIMED_OUT.code()), (3, 0)]);
    // Nobody's own time counts for the next.
    caller.send(&timed_request(4, 100));
    assert!(stage.turn());
    assert_eq!((stage.service.requests, frames(&caller.receive())[0].2), (3, 0));
}

/// What lies in the mailbox was there first.
#[test]
fn an_answer_in_time_is_none_too_late_although_the_loop_is() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    caller.send(&timed_request(1, 200));
    assert!(stage.turn());
    answer(&stage, 0, b"in time");
    stage.world.pass(ms(500));
    assert!(stage.turn());
    assert_eq!(frames(&caller.receive()), [(REPLY, 1, 0, b"in time".to_vec())]);
}

#[test]
fn who_works_on_a_call_hears_that_it_is_cancelled() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    (1..=2).for_each(|id| caller.send(&v1_request(id, 0)));
    assert!(stage.turn());
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    for number in 0..2 {
        let heard = Arc::clone(&heard);
        let note = move |why| heard.lock().expect("a lock").push((number, why));
        call(&stage, number).on_unwanted(Box::new(note));
    }
    caller.send(&header(CANCEL, 2, 0));
    assert!(stage.turn());
    let got = frames(&caller.receive());
    assert_eq!((got.len(), got[0].1, got[0].2), (1, 2, ResultCode::CANCELLED.code()));
    assert_eq!(*heard.lock().expect("a lock"), [(1, Unwanted::Cancelled)]);
    answer(&stage, 0, b"");
    answer(&stage, 1, b"");
    assert!(stage.turn());
    assert_eq!(frames(&caller.receive()), [(REPLY, 1, 0, Vec::new())]);
    assert_eq!((stage.counters.answers_to_nobody(), heard.lock().expect("a lock").len()), (1, 1));
}

#[test]
fn who_works_on_a_call_hears_that_its_caller_has_gone() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    caller.send(&v1_request(1, 0));
    assert!(stage.turn());
    caller.close();
    assert!(stage.turn() && stage.turn());
    assert_eq!((call(&stage, 0).unwanted(), stage.counters.connections()), (Some(Unwanted::Disconnected), 0));
    answer(&stage, 0, b"");
    assert!(stage.turn());
    assert_eq!(stage.counters.answers_to_nobody(), 1);
}

#[test]
fn a_loop_that_stops_waits_for_what_is_owed() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    (1..=2).for_each(|id| caller.send(&v1_request(id, 0)));
    assert!(stage.turn());
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.run(ms(300)));
    answer(&stage, 0, b"in time");
    assert!(stage.run(ms(199)));
    let got = frames(&caller.receive());
    assert_eq!((got[0].0, got[0].1), (GOODBYE, 2), "it is told what was the last one");
    assert_eq!(got[1..], [(REPLY, 1, 0, b"in time".to_vec())]);
    assert_eq!(call(&stage, 1).unwanted(), None);
    assert!(!stage.run(ms(1)));
    let got = frames(&caller.receive());
    assert_eq!((got.len(), got[0].1, got[0].2), (1, 2, ResultCode::SHUTTING_DOWN.code()));
    assert_eq!(call(&stage, 1).unwanted(), Some(Unwanted::ShuttingDown));
    answer(&stage, 1, b"nobody reads it");
}

#[test]
fn a_loop_that_stops_ends_with_its_last_answer() {
    let mut stage = deferring();
    let (v1, classic) = (greeted(&mut stage), stage.accepted());
    v1.send(&v1_request(1, 0));
    classic.send(&request(1, b""));
    assert!(stage.turn());
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.turn());
    (0..2).for_each(|number| answer(&stage, number, b"done"));
    v1.send(&header(GOODBYE, 0, 0));
    assert!(stage.turn());
    assert_eq!(frames(&v1.receive())[1..], [(REPLY, 1, 0, b"done".to_vec())]);
    assert_eq!(classic.receive(), reply(1, ResultCode::OK, b"done"));
    v1.close();
    classic.close();
    assert!(!stage.run(ms(1)));
}

/// Nothing that waits elsewhere is lost when the loop is dropped without a word.
#[test]
fn who_works_on_a_call_hears_that_the_loop_has_gone() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    caller.send(&v1_request(1, 0));
    assert!(stage.turn());
    let call = call(&stage, 0);
    drop(stage);
    assert_eq!(call.unwanted(), Some(Unwanted::Disconnected));
    call.answer(Answer::Reply(ResultCode::OK, Vec::new()));
}

/// A link owns what its calls cost, until they have ended.
#[test]
fn what_is_owed_counts_as_held() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    let held = |stage: &Stage| stage.reactor.links.iter().map(|link| link.accounted).sum::<usize>();
    assert_eq!(held(&stage), 0);
    (1..=50).for_each(|id| caller.send(&timed_request(id, 60_000)));
    assert!(stage.turn());
    assert!(held(&stage) > 50 * 32, "{}", held(&stage));
    (0..50).for_each(|number| answer(&stage, number, b""));
    assert!(stage.turn());
    assert_eq!((frames(&caller.receive()).len(), held(&stage)), (50, 0));
}

/// A v1 datagram.
fn datagram(frame: &[u8]) -> Vec<u8> {
    [&[0xD1, 0x53, 0x57, 0xD1, 1, 0, 0, 0], frame].concat()
}

fn sender(number: usize) -> Address {
    Address::Path(format!("/caller-{number}").into())
}

/// A stage with a datagram socket, on which all requests are deferred.
fn deferring_datagrams() -> Stage {
    let mut stage = deferring();
    stage.bind(Access::SameUser, Carries::Frames);
    stage
}

/// What was sent: to whom, with what id, rc and payload (v1).
fn sent(stage: &Stage) -> Vec<(Address, u32, i32, Vec<u8>)> {
    let frame = |bytes: &[u8]| frames(&bytes[8..]).remove(0);
    let told = |(bytes, to): (Vec<u8>, Address)| (to, frame(&bytes).1, frame(&bytes).2, frame(&bytes).3);
    stage.world.sent(0).into_iter().map(told).collect()
}

#[test]
fn datagrams_are_answered_later_too() {
    let mut stage = deferring_datagrams();
    stage.world.datagram(0, &sender(1), WE, &datagram(&v1_request(5, 0)));
    stage.world.datagram(0, &sender(2), WE, &datagram(&v1_request(5, 0)));
    stage.world.datagram(0, &sender(3), WE, &request(7, b""));
    assert!(stage.turn());
    assert_eq!((stage.service.requests, stage.world.sent(0).len()), (3, 0));
    answer(&stage, 1, b"second");
    assert!(stage.turn());
    answer(&stage, 0, b"first");
    assert!(stage.turn());
    let expected = [(sender(2), 5, 0, b"second".to_vec()), (sender(1), 5, 0, b"first".to_vec())];
    assert_eq!(sent(&stage), expected);
    answer(&stage, 2, b"classic");
    assert!(stage.turn());
    assert_eq!(stage.world.sent(0)[0], (reply(7, ResultCode::OK, b"classic"), sender(3)));
    assert_eq!(stage.counters.answers_to_nobody(), 0);
}

/// PROTOCOL D10a
#[test]
fn senders_of_datagrams_give_up_as_others_do() {
    let mut stage = deferring_datagrams();
    stage.world.datagram(0, &sender(1), WE, &datagram(&timed_request(5, 200)));
    stage.world.datagram(0, &sender(1), WE, &datagram(&v1_request(6, 0)));
    stage.world.datagram(0, &sender(2), WE, &datagram(&v1_request(6, 0)));
    assert!(stage.run(ms(199)));
    assert_eq!(stage.world.sent(0).len(), 0);
    assert!(stage.run(ms(1)));
    stage.world.datagram(0, &sender(1), WE, &datagram(&header(CANCEL, 6, 0)));
    assert!(stage.turn());
    let ends = (0..3).map(|number| call(&stage, number).unwanted()).collect::<Vec<_>>();
    assert_eq!(ends, [Some(Unwanted::TimedOut), Some(Unwanted::Cancelled), None]);
    (0..3).for_each(|number| answer(&stage, number, b""));
    assert!(stage.turn());
    let codes: Vec<_> = sent(&stage).into_iter().map(|(to, id, rc, _)| (to, id, rc)).collect();
    let (late, cancelled) = (ResultCode::TIMED_OUT.code(), ResultCode::CANCELLED.code());
    assert_eq!(codes, [(sender(1), 5, late), (sender(1), 6, cancelled), (sender(2), 6, 0)]);
    assert_eq!(stage.counters.answers_to_nobody(), 2);
}

/// PROTOCOL D10b
///
/// Nothing tells that a sender of datagrams has gone, so each of them is owed so much and no more.
#[test]
fn so_many_datagrams_are_owed_an_answer() {
    let mut stage = deferring_datagrams();
    for number in 0..5 {
        for id in 1..=1025 {
            stage.world.datagram(0, &sender(number), WE, &datagram(&v1_request(id, 0)));
        }
    }
    assert!(stage.run(ms(10)));
    let refused = sent(&stage);
    assert!(refused.iter().all(|(_, _, rc, _)| *rc == ResultCode::BUSY.code()));
    let busy = |number| refused.iter().filter(|(to, ..)| *to == sender(number)).count();
    assert_eq!((0..5).map(busy).collect::<Vec<_>>(), [1, 1, 1, 1, 1025]);
    let unwanted = stage.service.deferred.iter().filter(|call| call.unwanted().is_some()).count();
    assert_eq!(unwanted, 1029);
}

/// PROTOCOL D22
#[test]
fn a_loop_that_stops_refuses_what_it_owes_datagrams() {
    let mut stage = deferring_datagrams();
    for id in 1..=2 {
        stage.world.datagram(0, &sender(1), WE, &datagram(&v1_request(id, 0)));
    }
    assert!(stage.turn());
    stage.reactor.mailbox().stop(ms(500)).expect("stop");
    assert!(stage.run(ms(499)));
    answer(&stage, 1, b"in time");
    assert!(stage.turn());
    assert!(!stage.run(ms(1)));
    let codes: Vec<_> = sent(&stage).into_iter().map(|(_, id, rc, _)| (id, rc)).collect();
    assert_eq!(codes, [(2, 0), (1, ResultCode::SHUTTING_DOWN.code())]);
    assert_eq!(call(&stage, 0).unwanted(), Some(Unwanted::ShuttingDown));
}

/// One that reads nothing gets no more turns for it.
#[test]
fn answers_are_no_turns_of_their_caller() {
    let mut stage = Stage::new(|limits| {
        limits.turn_frames = 10;
        limits.listener.connection.outbox_soft = 1000;
    });
    stage.service.defers = true;
    let caller = greeted(&mut stage);
    caller.takes(0);
    (1..=10).for_each(|id| caller.send(&v1_request(id, 0)));
    stage.turn();
    stage.service.defers = false;
    (11..=500).for_each(|id| caller.send(&v1_request(id, 0)));
    (0..10).for_each(|number| answer(&stage, number, &[b'x'; 2000]));
    stage.turn();
    assert!(stage.service.requests <= 10 + 2 * 10, "{}", stage.service.requests);
    caller.takes(usize::MAX);
    stage.run(ms(1));
    assert_eq!((stage.service.requests, frames(&caller.receive()).len()), (500, 500));
}

/// A caller that asks and cancels, again and again, is owed nothing, and yet whoever works on it has all of it.
#[test]
fn what_nobody_waits_for_is_not_heaped_up_without_end() {
    let mut stage = deferring();
    let caller = greeted(&mut stage);
    let length = 1 << 20;
    let most = MAX_UNWANTED / length;
    for id in 1..=2 * most as u32 {
        caller.send(&[v1_request(id, length as u32), header(CANCEL, id, 0)].concat());
        stage.run(ms(1));
        caller.receive();
    }
    let heap = std::mem::take(&mut stage.service.deferred);
    assert!(heap.len() <= most + 1, "{}", heap.len());
    for call in heap {
        call.answer(Answer::Reply(ResultCode::OK, Vec::new()));
    }
    stage.run(ms(1));
    caller.send(&v1_request(1 << 20, 0));
    stage.run(ms(1));
    assert_eq!((stage.service.deferred.len(), caller.receive().len()), (1, 0));
}

#[test]
fn notifies_are_not_heaped_up_without_end_nor_in_the_way_of_calls() {
    let mut stage = deferring();
    let (caller, mailbox) = (greeted(&mut stage), stage.reactor.mailbox());
    let payload = vec![0; 1 << 20];
    let begin = || ReturnAddress::nobody(&mailbox, &payload).begin_call();
    let mut calls: Vec<_> = (0..300).map_while(|_| begin().ok()).collect();
    assert_eq!(calls.len(), MAX_UNWANTED / payload.len());
    caller.send(&v1_request(1, 0));
    stage.turn();
    assert_eq!((stage.service.deferred.len(), caller.receive().len()), (1, 0));
    calls.pop().expect("one").answer(Answer::Reply(ResultCode::OK, Vec::new()));
    begin().expect("room again").answer(Answer::Reply(ResultCode::OK, Vec::new()));
}
