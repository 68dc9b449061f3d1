//! Replies in parts: what waits, for what, in what order it goes on, and who is told when it does not.

use std::sync::Mutex;
use std::thread;

use super::calls::{GOODBYE, v1_frame};
use super::deferred::{CANCEL, REPLY, frames, timed_request};
use super::*;
use crate::reactor::streams::{TOGETHER, WINDOW};
use crate::reactor::system::memory::Side;
use crate::reactor::{IfFull, Unsent, Unwanted};

const CREDIT: u8 = 8;
/// More than any test sends.
const ENDLESS: u32 = 1 << 30;

fn credit(id: u32, amount: u32) -> Vec<u8> {
    v1_frame(CREDIT, 0, id, 0, &amount.to_le_bytes())
}

/// A stage with such limits, and a caller whose calls begin with so much credit.
fn streaming(credit: u32, set: impl FnOnce(&mut Limits)) -> (Stage, Caller) {
    let mut stage = Stage::new(set);
    stage.service.defers = true;
    let caller = caller(&mut stage, credit);
    (stage, caller)
}

fn caller(stage: &mut Stage, credit: u32) -> Caller {
    let caller = stage.accepted();
    let mut hello = v1_hello();
    hello[28..32].copy_from_slice(&credit.to_le_bytes());
    caller.send(&hello);
    stage.turn();
    caller.receive();
    caller
}

/// The caller asks this, and the reply will have parts.
fn begin(stage: &mut Stage, caller: &Caller, request: &[u8]) -> Arc<Call> {
    caller.send(request);
    stage.turn();
    let call = Arc::clone(stage.service.deferred.last().expect("it has come"));
    call.begin_stream(usize::MAX);
    call
}

fn send(call: &Arc<Call>, part: &[u8]) -> Result<(), Unsent> {
    call.send_part(part.to_vec(), IfFull::Fail)
}

fn end(call: &Arc<Call>, payload: &[u8]) {
    Arc::clone(call).answer(Answer::Reply(ResultCode::OK, payload.to_vec()));
}

/// Of each frame that the caller got, all of which are replies, the id, the rc and the payload.
fn replies(caller: &Caller) -> Vec<(u32, i32, Vec<u8>)> {
    let received = caller.receive();
    let replies = frames(&received).into_iter();
    replies
        .map(|(kind, id, rc, payload)| (kind == REPLY).then_some((id, rc, payload)).expect("a reply"))
        .collect()
}

/// The same where each payload is a text.
fn texts(caller: &Caller) -> Vec<(u32, String)> {
    replies(caller).into_iter().map(|(id, _, text)| (id, String::from_utf8(text).expect("a text"))).collect()
}

fn said(id: u32, texts: &[&str]) -> Vec<(u32, String)> {
    texts.iter().map(|text| (id, (*text).to_owned())).collect()
}

/// PROTOCOL M3
#[test]
fn parts_go_when_there_is_credit_however_late_it_is_given() {
    let (mut stage, caller) = streaming(5, |_| {});
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    // While any is left, one may go, whatever it costs.
    for part in ["four", "five!", "more", "last"] {
        send(&call, part.as_bytes()).expect("room");
    }
    end(&call, b"end");
    stage.turn();
    stage.turn();
    assert_eq!(texts(&caller), said(1, &["four", "five!"]));
    assert!(stage.run(Duration::from_secs(3600)), "a caller may take its time");
    caller.send(&credit(1, 4));
    stage.run(ms(1));
    assert_eq!(texts(&caller), [], "as much is owed");
    caller.send(&credit(1, 1));
    stage.run(ms(1));
    assert_eq!(texts(&caller), said(1, &["more"]));
    caller.send(&credit(1, 4));
    stage.run(ms(1));
    assert_eq!(texts(&caller), said(1, &["last", "end"]));
    // The end costs nothing, and comes at once where no part is in front of it.
    assert_eq!(call.unwanted(), None);
    assert_eq!(send(&call, b"behind the end"), Ok(()), "it goes nowhere");
    stage.run(ms(1));
    assert_eq!(texts(&caller), []);
    assert_eq!(stage.counters.answers_to_nobody(), 0);
}

/// With credit without end there is still the soft mark: what the caller does not read stays with its producer.
#[test]
fn no_more_than_the_soft_mark_waits_for_a_reader() {
    let (mut stage, caller) = streaming(ENDLESS, |limits| limits.listener.connection.outbox_soft = 1000);
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    caller.takes(0);
    for number in 0..50_u8 {
        send(&call, &[number; 100]).expect("room");
    }
    end(&call, b"");
    stage.run(ms(10));
    let link = stage.reactor.links.keys().into_iter().next().expect("a link");
    let waiting =
        |stage: &mut Stage| stage.reactor.links.get_mut(link).expect("it").protocol_mut().unsent().len();
    let most = waiting(&mut stage);
    assert!((1000..1000 + 116).contains(&most), "{most} bytes");
    // And no more comes while little is read at a time.
    let mut got = Vec::new();
    for _ in 0..200 {
        caller.takes(40);
        stage.run(ms(1));
        assert!(waiting(&mut stage) < 1000 + 116);
        got.extend(caller.receive());
    }
    let got: Vec<_> = frames(&got).into_iter().map(|(.., payload)| payload).collect();
    let expected = (0..50_u8).map(|number| vec![number; 100]).chain([vec![]]);
    assert_eq!(got, expected.collect::<Vec<_>>());
}

/// Those who produce them are told, and what waited is gone.
#[test]
fn what_ends_a_call_ends_its_parts() {
    type End = fn(&mut Stage, &Caller);
    let ends: [(End, Unwanted, Option<ResultCode>); 4] = [
        (
            |_, caller| caller.send(&v1_frame(CANCEL, 0, 1, 0, b"")),
            Unwanted::Cancelled,
            Some(ResultCode::CANCELLED),
        ),
        (|stage, _| assert!(stage.run(ms(100))), Unwanted::TimedOut, Some(ResultCode::TIMED_OUT)),
        (|_, caller| caller.close(), Unwanted::Disconnected, None),
        (|_, caller| caller.reset(), Unwanted::Disconnected, None),
    ];
    for (ends, why, rc) in ends {
        let (mut stage, caller) = streaming(1, |_| {});
        let call = begin(&mut stage, &caller, &timed_request(1, 100));
        for part in [&b"one"[..], b"two", b"three"] {
            send(&call, part).expect("room");
        }
        let told = Arc::new(Mutex::new(Vec::new()));
        let (unwanted, ready) = (Arc::clone(&told), Arc::clone(&told));
        call.on_unwanted(Box::new(move |why| unwanted.lock().expect("unpoisoned").push(Some(why))));
        while send(&call, &[0; 10_000]).is_ok() {}
        call.when_ready(Box::new(move || ready.lock().expect("unpoisoned").push(None)));
        stage.turn();
        stage.turn();
        assert_eq!(texts(&caller), said(1, &["one"]));
        assert!(told.lock().expect("unpoisoned").is_empty());
        ends(&mut stage, &caller);
        stage.run(ms(1));
        let expected = rc.map(|rc| (1, rc.code()));
        let got: Vec<_> = replies(&caller).into_iter().map(|(id, rc, _)| (id, rc)).collect();
        assert_eq!(got, expected.into_iter().collect::<Vec<_>>(), "{why}");
        // Whoever waits for room learns that there is none to wait for, and finds out why.
        let mut told = std::mem::take(&mut *told.lock().expect("unpoisoned"));
        told.sort_unstable_by_key(Option::is_some);
        assert_eq!(told, [None, Some(why)]);
        assert_eq!((call.unwanted(), send(&call, b"more")), (Some(why), Err(Unsent::Unwanted(why))));
        end(&call, b"for nobody");
        stage.turn();
        assert_eq!((replies(&caller), stage.counters.answers_to_nobody()), (vec![], 1), "{why}");
    }
}

/// One that says goodbye takes what it has asked for, and gives credit for it.
#[test]
fn a_peer_that_leaves_gets_its_parts() {
    let (mut stage, caller) = streaming(1, |_| {});
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    for part in [&b"one"[..], b"two"] {
        send(&call, part).expect("room");
    }
    caller.send(&v1_frame(GOODBYE, 0, 0, 0, b""));
    stage.run(ms(1));
    assert_eq!((texts(&caller), call.unwanted()), (said(1, &["one"]), None));
    caller.send(&credit(1, 10));
    stage.run(ms(1));
    assert_eq!(texts(&caller), said(1, &["two"]));
    send(&call, b"three").expect("room");
    end(&call, b"end");
    stage.run(ms(1));
    let received = caller.receive();
    let kinds: Vec<_> = frames(&received).into_iter().map(|(kind, _, _, payload)| (kind, payload)).collect();
    assert_eq!(kinds, [(REPLY, b"three".to_vec()), (REPLY, b"end".to_vec()), (GOODBYE, vec![])]);
}

/// One that has ended its side gives no credit any more: what needs none still goes, and the rest is for nobody.
#[test]
fn a_peer_that_only_reads_gets_what_it_has_given_credit_for() {
    let all = vec![(0, b"one".to_vec()), (0, b"two".to_vec()), (0, b"end".to_vec())];
    let cancelled = (ResultCode::CANCELLED.code(), b"its caller has cancelled it".to_vec());
    let some = vec![all[0].clone(), cancelled];
    for (given, expected, why) in [(ENDLESS, all, None), (1, some, Some(Unwanted::Cancelled))] {
        let (mut stage, caller) = streaming(given, |_| {});
        let call = begin(&mut stage, &caller, &v1_request(1, 0));
        caller.takes(0);
        for part in [&b"one"[..], b"two"] {
            send(&call, part).expect("room");
        }
        caller.send(&v1_frame(GOODBYE, 0, 0, 0, b""));
        caller.shut_down();
        stage.run(ms(1));
        end(&call, b"end");
        caller.takes(10_000);
        stage.run(ms(1));
        let received = caller.receive();
        let replies = frames(&received).into_iter().filter(|(kind, ..)| *kind == REPLY);
        let replies: Vec<_> = replies.map(|(_, _, rc, payload)| (rc, payload)).collect();
        assert_eq!((replies, call.unwanted()), (expected, why));
    }
}

#[test]
fn a_loop_that_stops_gives_streams_their_time() {
    let (mut stage, caller) = streaming(1, |_| {});
    let [ends, hangs] = [1, 2].map(|id| begin(&mut stage, &caller, &v1_request(id, 0)));
    for call in [&ends, &hangs] {
        for part in [&b"one"[..], b"two"] {
            send(call, part).expect("room");
        }
    }
    stage.run(ms(1));
    caller.receive();
    stage.reactor.mailbox.stop(ms(200)).expect("told");
    assert!(stage.turn());
    caller.receive();
    // It still gets what it takes.
    caller.send(&credit(1, 10));
    send(&ends, b"three").expect("room");
    end(&ends, b"end");
    assert!(stage.run(ms(100)));
    assert_eq!(texts(&caller), said(1, &["two", "three", "end"]));
    assert_eq!(hangs.unwanted(), None);
    assert!(!stage.run(ms(200)), "the time is over");
    let got: Vec<_> = replies(&caller).into_iter().map(|(id, rc, _)| (id, rc)).collect();
    assert_eq!(got, [(2, ResultCode::SHUTTING_DOWN.code())]);
    let why = Unwanted::ShuttingDown;
    assert_eq!((hangs.unwanted(), send(&hangs, b"more")), (Some(why), Err(Unsent::Unwanted(why))));
}

/// So much of one reply waits, and as much again fits when half of it has gone.
#[test]
fn a_reply_keeps_a_window_of_parts() {
    let (mut stage, caller) = streaming(1, |_| {});
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    let part = [7; 1000];
    let mut waiting = 0;
    while send(&call, &part).is_ok() {
        waiting += 1;
    }
    // Each counts for 64 bytes more, and the first that does not fit is kept.
    assert_eq!(waiting, WINDOW.div_ceil(1064));
    let calls = Arc::new(Mutex::new(0));
    let called = Arc::clone(&calls);
    call.when_ready(Box::new(move || *called.lock().expect("unpoisoned") += 1));
    stage.turn();
    stage.turn();
    let mut left = waiting - replies(&caller).len();
    while *calls.lock().expect("unpoisoned") == 0 {
        assert!(left * 1064 > WINDOW / 2, "it is called when half of it has gone");
        assert_eq!(send(&call, &part).is_ok(), (left * 1064) < WINDOW, "{left} are left");
        left += usize::from((left * 1064) < WINDOW);
        caller.send(&credit(1, 2000));
        stage.run(ms(1));
        left -= replies(&caller).len();
    }
    assert!(left * 1064 <= WINDOW / 2, "{left} are left");
    stage.run(ms(1));
    assert_eq!(*calls.lock().expect("unpoisoned"), 1, "once");
}

/// Whatever a caller opens, all of it together has its bound; and each reply goes on, part by part.
#[test]
fn all_replies_together_keep_no_more_than_their_bound() {
    const STREAMS: usize = 60;
    let (mut stage, first) = streaming(0, |_| {});
    let callers: Vec<_> = (0..6).map(|_| caller(&mut stage, 0)).chain([first]).collect();
    let part = vec![7; WINDOW];
    let mut calls = Vec::new();
    // Two parts of the same size would be more than a window: each keeps one.
    for caller in &callers {
        for id in 1..=STREAMS as u32 {
            let call = begin(&mut stage, caller, &v1_request(id, 0));
            send(&call, &part).expect("each keeps one");
            assert_eq!(send(&call, b"x"), Err(Unsent::Full));
            calls.push(call);
        }
    }
    let held = calls.len() * (WINDOW + 64);
    assert!(held > TOGETHER, "{held} bytes");
    // One that is new keeps one part, and not a second, however small, until others have gone.
    let last = callers.last().expect("one");
    let call = begin(&mut stage, last, &v1_request(STREAMS as u32 + 1, 0));
    send(&call, b"first").expect("each keeps one");
    assert_eq!(send(&call, b"second"), Err(Unsent::Full));
    last.send(&credit(STREAMS as u32 + 1, 1));
    stage.run(ms(1));
    assert_eq!(texts(last), said(STREAMS as u32 + 1, &["first"]));
    send(&call, b"second").expect("it goes on");
    assert_eq!(send(&call, b"third"), Err(Unsent::Full));
    callers[..5].iter().for_each(Caller::close);
    stage.run(ms(1));
    send(&call, b"third").expect("there is room again");
}

/// Those that wait for room in the outbox get their turn one after the other.
#[test]
fn streams_of_one_link_take_turns() {
    let (mut stage, caller) = streaming(ENDLESS, |limits| limits.listener.connection.outbox_soft = 100);
    let calls = [1, 2, 3].map(|id| begin(&mut stage, &caller, &v1_request(id, 0)));
    caller.takes(0);
    for call in &calls {
        for _ in 0..20 {
            send(call, &[7; 100]).expect("room");
        }
    }
    stage.run(ms(1));
    let mut order = Vec::new();
    while order.len() < 60 {
        caller.takes(116);
        stage.run(ms(1));
        order.extend(replies(&caller).into_iter().map(|(id, ..)| id));
    }
    // From when all of them wait, until the first has no more.
    let together = &order[3..54];
    for turns in together.windows(3) {
        assert!((1..=3).all(|id| turns.contains(&id)), "{order:?}");
    }
}

/// As above, on two links: one that reads nothing is in nobody's way.
#[test]
fn a_slow_reader_holds_up_its_own_reply_only() {
    let (mut stage, slow) = streaming(ENDLESS, |_| {});
    let quick = caller(&mut stage, ENDLESS);
    slow.takes(0);
    let [stuck, flows] = [&slow, &quick].map(|caller| begin(&mut stage, caller, &v1_request(1, 0)));
    while send(&stuck, &[0; 100_000]).is_ok() {
        stage.turn();
    }
    for number in 0..100_u8 {
        send(&flows, &[number]).expect("room");
        stage.turn();
        stage.turn();
        assert_eq!(replies(&quick), [(1, 0, vec![number])]);
    }
    assert_eq!(send(&stuck, b"x"), Err(Unsent::Full));
}

#[test]
fn a_producer_that_waits_for_room_is_told_that_its_link_has_gone() {
    let (mut stage, caller) = streaming(1, |_| {});
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    call.send_part(vec![0; 50_000], IfFull::Wait).expect("there is room for one");
    let producer = {
        let call = Arc::clone(&call);
        thread::spawn(move || {
            loop {
                if let Err(unsent) = call.send_part(vec![0; 50_000], IfFull::Wait) {
                    return unsent;
                }
            }
        })
    };
    // It is full, and so the producer waits or will.
    while send(&call, b"x") != Err(Unsent::Full) {
        thread::yield_now();
    }
    stage.turn();
    caller.close();
    stage.run(ms(1));
    let unsent = producer.join().expect("it does not panic");
    assert_eq!(unsent, Unsent::Unwanted(Unwanted::Disconnected));
}

/// Never before its own call has returned, in the order of the letters, and again as often as it is asked for.
#[test]
fn those_who_wait_to_go_on_are_called_in_turn() {
    let (mut stage, caller) = streaming(ENDLESS, |_| {});
    let calls = [1, 2, 3].map(|id| begin(&mut stage, &caller, &v1_request(id, 0)));
    let told = Arc::new(Mutex::new(Vec::new()));
    for (number, call) in [1, 2, 3].into_iter().zip(&calls) {
        go_on(call, number, 4, &told);
    }
    assert!(told.lock().expect("unpoisoned").is_empty(), "the loop calls, nobody else");
    stage.run(ms(1));
    assert_eq!(*told.lock().expect("unpoisoned"), [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
    let ids: Vec<_> = replies(&caller).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), 12 + 3, "four parts each, and the end");
}

/// Notes that it was called, sends a part, and is called again, so many times in all.
fn go_on(call: &Arc<Call>, number: u32, times: u32, told: &Arc<Mutex<Vec<u32>>>) {
    let (again, told) = (Arc::clone(call), Arc::clone(told));
    call.when_ready(Box::new(move || {
        told.lock().expect("unpoisoned").push(number);
        send(&again, b"part").expect("room");
        match times - 1 {
            0 => end(&again, b""),
            times => go_on(&again, number, times, &told),
        }
    }));
}

/// Who is to be called when there is room is so once more at most, and then nothing of it is left.
#[test]
fn nobody_waits_for_a_loop_that_has_gone() {
    let (mut stage, caller) = streaming(1, |_| {});
    let call = begin(&mut stage, &caller, &v1_request(1, 0));
    while send(&call, &[0; 50_000]).is_ok() {}
    let (alive, told) = (Arc::new(()), Arc::new(Mutex::new(0)));
    let (held, called) = (Arc::clone(&alive), Arc::clone(&told));
    call.when_ready(Box::new(move || {
        let _held = held;
        *called.lock().expect("unpoisoned") += 1;
    }));
    drop(stage);
    assert!(*told.lock().expect("unpoisoned") <= 1);
    assert_eq!(Arc::strong_count(&alive), 1, "nothing of it is left");
    assert!(matches!(send(&call, b"x"), Err(Unsent::Unwanted(_))));
    assert_ne!(caller.server(), Side::Open);
}
