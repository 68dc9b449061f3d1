//! Answers that come later: in whatever order things happen, each deferred call ends in exactly one way.

use std::time::{Duration, Instant};

use super::{
    Answers, Frame, Kind, Seen, Side, classic_frame, classic_request, defaults, frame, request, settings,
};
use crate::error::ProtocolError;
use crate::memory::with_at_most;
use crate::owed::{Owed, OwedId};
use crate::rc::ResultCode;

/// What can happen to two deferred calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Reply(usize),
    Cancel(usize),
    /// The time passes that the call with this index has.
    Pass(usize),
    PeersGoodbye,
    OurGoodbye,
    EndOfInput,
}

/// How a deferred call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Replied,
    Cancelled,
    TimedOut,
    Dropped,
}

/// How long the callers wait, by index.
const TIMES: [u64; 2] = [100, 200];

fn timed_request(id: u32, timeout_ms: i32) -> Vec<u8> {
    frame(Kind::Request, 0, 7, id, timeout_ms, b"q")
}

/// A responder that has deferred calls with these ids.
fn deferring(requests: &[Vec<u8>]) -> (Side, Vec<OwedId>) {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&requests.concat());
    let ids = defer_all(&mut side);
    assert_eq!(ids.len(), requests.len());
    (side, ids)
}

fn defer_all(side: &mut Side) -> Vec<OwedId> {
    let (tickets, now) = (std::mem::take(&mut side.tickets), side.now);
    let defer = |ticket| side.connection.defer(ticket, now).expect("memory");
    tickets.into_iter().map(defer).collect()
}

fn answer(side: &mut Side, id: OwedId) -> bool {
    let Some(mut reply) = side.connection.begin_owed_reply(id) else { return false };
    reply.write(b"late");
    reply.finish(ResultCode::OK);
    true
}

fn polled(side: &mut Side) -> Vec<Owed> {
    let now = side.now;
    std::iter::from_fn(|| side.connection.poll_owed(now)).collect()
}

/// The conversation, and beside it what should become of the calls.
struct Story {
    side: Side,
    ids: Vec<OwedId>,
    begun: Instant,
    ends: Vec<Option<End>>,
    expected: Vec<Option<End>>,
    frames: Vec<Frame>,
    peer: Peer,
}

/// What the peer may still say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Everything,
    /// It has said goodbye, and still reads: it can cancel.
    Cancels,
    Nothing,
}

impl Story {
    fn begin(count: usize) -> Story {
        let requests: Vec<_> =
            (0..count).map(|index| timed_request(index as u32 + 1, TIMES[index] as i32)).collect();
        let (side, ids) = deferring(&requests);
        let begun = side.now;
        Story {
            side,
            ids,
            begun,
            ends: vec![None; count],
            expected: vec![None; count],
            frames: Vec::new(),
            peer: Peer::Everything,
        }
    }

    fn expect(&mut self, index: usize, end: End) {
        self.expected[index].get_or_insert(end);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Reply(index) => {
                let is_first = self.expected[index].is_none();
                self.expect(index, End::Replied);
                let replied = answer(&mut self.side, self.ids[index]);
                assert_eq!(replied, is_first, "who comes late is told so");
                if replied {
                    self.note(index, End::Replied);
                }
            }
            Act::Cancel(index) => {
                if self.peer != Peer::Nothing {
                    self.expect(index, End::Cancelled);
                }
                self.side.feed(&frame(Kind::Cancel, 0, 0, index as u32 + 1, 0, b""));
            }
            Act::Pass(last) => {
                self.side.now = self.side.now.max(self.begun + Duration::from_millis(TIMES[last]));
                (0..self.ids.len().min(last + 1)).for_each(|index| self.expect(index, End::TimedOut));
            }
            Act::PeersGoodbye => {
                self.side.feed(&frame(Kind::Goodbye, 0, 0, 0, 0, b""));
                if self.peer == Peer::Everything {
                    self.peer = Peer::Cancels;
                }
            }
            Act::OurGoodbye => self.side.connection.goodbye(ResultCode::SHUTTING_DOWN),
            Act::EndOfInput => {
                if self.peer == Peer::Everything {
                    (0..self.ids.len()).for_each(|index| self.expect(index, End::Dropped));
                }
                self.peer = Peer::Nothing;
                self.side.connection.end_of_input();
            }
        }
        for owed in polled(&mut self.side) {
            let index = self.ids.iter().position(|id| *id == owed.id()).expect("one of them");
            self.note(
                index,
                match owed {
                    Owed::Cancelled(_) => End::Cancelled,
                    Owed::TimedOut(_) => End::TimedOut,
                    Owed::Dropped(_) => End::Dropped,
                    Owed::MayGoOn(_) => panic!("nothing is answered in parts"),
                },
            );
        }
        self.frames.extend(self.side.frames());
    }

    fn note(&mut self, index: usize, end: End) {
        assert_eq!(self.ends[index].replace(end), None, "it ended before");
    }

    fn judge(&self, acts: &[Act]) {
        assert_eq!(self.ends, self.expected, "{acts:?}");
        for (index, end) in self.ends.iter().enumerate() {
            let replies: Vec<i32> = self
                .frames
                .iter()
                .filter(|frame| frame.kind == Kind::Reply as u8 && frame.id == index as u32 + 1)
                .map(|frame| frame.rc)
                .collect();
            let expected: &[i32] = match end {
                Some(End::Replied) => &[0],
                Some(End::Cancelled) => &[-8],
                Some(End::TimedOut) => &[-7],
                Some(End::Dropped) | None => &[],
            };
            assert_eq!(replies, expected, "{acts:?}");
        }
        assert!(self.side.connection.next_deadline().is_none(), "{acts:?}");
        assert!(self.side.connection.flow().failure().is_none(), "{acts:?}");
        assert!(self.side.connection.is_finished(), "{acts:?}");
    }
}

/// Calls `each` with every order of these.
fn orders(acts: &mut [Act], fixed: usize, each: &mut impl FnMut(&[Act])) {
    if fixed == acts.len() {
        return each(acts);
    }
    for next in fixed..acts.len() {
        acts.swap(fixed, next);
        orders(acts, fixed + 1, each);
        acts.swap(fixed, next);
    }
}

/// PROTOCOL K2, T1, T2, T3
#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn one_deferred_call_ends_once_in_every_order() {
    let mut acts =
        [Act::Reply(0), Act::Cancel(0), Act::Pass(0), Act::PeersGoodbye, Act::OurGoodbye, Act::EndOfInput];
    orders(&mut acts, 0, &mut |acts| {
        let mut story = Story::begin(1);
        acts.iter().for_each(|act| story.act(*act));
        story.judge(acts);
    });
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn two_deferred_calls_end_once_each_in_every_order() {
    let calls = [Act::Reply(0), Act::Reply(1), Act::Cancel(0), Act::Cancel(1)];
    let rest = [
        [Act::Pass(0), Act::PeersGoodbye, Act::EndOfInput],
        [Act::Pass(1), Act::OurGoodbye, Act::EndOfInput],
    ];
    for rest in rest {
        let mut acts = [&calls[..], &rest].concat();
        orders(&mut acts, 0, &mut |acts| {
            let mut story = Story::begin(2);
            acts.iter().for_each(|act| story.act(*act));
            story.judge(acts);
        });
    }
}

/// PROTOCOL T1
#[test]
fn a_timeout_counts_from_receipt_and_is_a_deadline() {
    let tick = Duration::from_millis(1);
    let (mut side, ids) = deferring(&[timed_request(1, 50), timed_request(2, 0), timed_request(3, 20)]);
    let begun = side.now;
    assert_eq!(side.connection.next_deadline(), Some(begun + tick * 20));
    side.now = begun + tick * 19;
    assert_eq!((polled(&mut side), side.sent()), (vec![], vec![]));
    side.now = begun + tick * 20;
    assert_eq!(polled(&mut side), [Owed::TimedOut(ids[2])]);
    let frames = side.frames();
    assert_eq!((frames.len(), frames[0].id, frames[0].rc), (1, 3, -7));
    assert_eq!(side.connection.next_deadline(), Some(begun + tick * 50));
    // Whoever looks late still judges by the time of the receipt; 0 is for ever.
    side.now = begun + Duration::from_secs(1_000_000);
    assert_eq!(polled(&mut side), [Owed::TimedOut(ids[0])]);
    assert_eq!(side.connection.next_deadline(), None);
    assert!(answer(&mut side, ids[1]));
    // One whose time is over, but of whom nobody was told yet, is still answered.
    side.feed(&timed_request(4, 1));
    let last = defer_all(&mut side)[0];
    side.now += tick * 2;
    assert!(answer(&mut side, last));
    assert_eq!(polled(&mut side), []);
}

/// PROTOCOL T3
#[test]
fn a_cancel_of_what_is_not_deferred_is_skipped() {
    let mut side = Side::open_responder(defaults());
    let cancel = |id| frame(Kind::Cancel, 0, 0, id, 0, b"");
    let answered = side.ask(&[cancel(1), request(1, 1, b"x"), cancel(1), cancel(77)].concat());
    assert_eq!(answered, [Frame::reply(1, 1, ResultCode::OK, b"x")]);
    assert_eq!(polled(&mut side), []);
    // Nor does it end one that is answered by a ticket that was kept.
    side.answers = Answers::Later;
    side.feed(&[request(2, 1, b"y"), cancel(2)].concat());
    assert_eq!((polled(&mut side), side.sent()), (vec![], vec![]));
}

#[test]
fn a_deferred_call_is_in_flight_until_its_reply_has_left() {
    let limits = settings(|settings| settings.limits.max_in_flight = 2);
    let mut side = Side::open_responder(limits);
    side.answers = Answers::Later;
    side.feed(&[request(1, 1, b""), request(2, 1, b"")].concat());
    let ids = defer_all(&mut side);
    assert!(answer(&mut side, ids[0]));
    side.sent();
    side.feed(&request(3, 1, b""));
    let third = defer_all(&mut side);
    // Cancelled, but what says so has not left.
    side.feed(&frame(Kind::Cancel, 0, 0, 2, 0, b""));
    side.feed(&request(4, 1, b""));
    assert_eq!(*side.failure(), ProtocolError::TooManyInFlight { what: "calls", limit: 2 });
    assert_eq!(polled(&mut side), [Owed::Cancelled(ids[1]), Owed::Dropped(third[0])]);
    assert!(!answer(&mut side, third[0]));
}

#[test]
fn an_id_means_one_call_only() {
    // Half the numbers further, twice: the peer is at 1 again.
    let around = [1, 1 + u32::MAX / 2, u32::MAX];
    let (mut side, first) = deferring(&[request(1, 1, b"")]);
    side.feed(&[request(around[1], 1, b""), request(around[2], 1, b"")].concat());
    side.tickets.drain(..).for_each(|ticket| super::echo(&mut side.connection, ticket, b""));
    side.sent();
    side.feed(&request(1, 1, b"again, while it is open"));
    assert_eq!(*side.failure(), ProtocolError::BadId { id: 1, last: u32::MAX });
    assert_eq!(polled(&mut side), [Owed::Dropped(first[0])]);

    let (mut side, first) = deferring(&[request(1, 1, b"")]);
    assert!(answer(&mut side, first[0]));
    side.feed(&[request(around[1], 1, b""), request(around[2], 1, b"")].concat());
    side.tickets.drain(..).for_each(|ticket| super::echo(&mut side.connection, ticket, b""));
    side.feed(&request(1, 1, b"again"));
    let second = defer_all(&mut side);
    assert!(!answer(&mut side, first[0]), "the first one had its answer");
    assert!(answer(&mut side, second[0]));
}

/// A ticket that is kept is in no register that could tell.
#[test]
fn an_id_that_two_tickets_have_is_found_when_they_are_deferred() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    let around = [1, 1 + u32::MAX / 2, u32::MAX, 1];
    side.feed(&around.map(|id| request(id, 1, b"")).concat());
    assert_eq!((side.tickets.len(), side.connection.flow().failure()), (4, None));
    let (first, last) = (side.tickets.remove(0), side.tickets.remove(2));
    let first = side.connection.defer(first, side.now).expect("memory");
    assert_eq!(side.connection.defer(last, side.now), None);
    assert_eq!(*side.failure(), ProtocolError::BadId { id: 1, last: 1 });
    assert_eq!(polled(&mut side), [Owed::Dropped(first)]);
}

#[test]
fn replies_that_are_not_read_end_the_connection() {
    let limits = settings(|settings| settings.limits.outbox_hard = 100);
    let mut side = Side::open_responder(limits);
    side.answers = Answers::Later;
    side.feed(&(1..=9).flat_map(|id| request(id, 1, b"")).collect::<Vec<u8>>());
    let ids = defer_all(&mut side);
    // Five of 20 bytes are not over the mark, six are.
    assert!(ids[..6].iter().all(|id| answer(&mut side, *id)));
    assert!(side.connection.flow().failure().is_none(), "nobody has looked");
    assert_eq!(polled(&mut side), [6, 7, 8].map(|index| Owed::Dropped(ids[index])));
    assert_eq!(*side.failure(), ProtocolError::OutboxFull(120));
    assert!(side.connection.flow().is_hopeless() && !side.connection.has_unsent());
}

#[test]
#[cfg_attr(miri, ignore = "takes too long")]
fn what_can_not_be_kept_is_answered_busy() {
    with_at_most(0, || {
        let mut side = Side::open_responder(settings(|settings| settings.limits.max_in_flight = u32::MAX));
        side.answers = Answers::Later;
        for id in 1..100_000 {
            side.feed(&request(id, 1, b""));
            let ticket = side.tickets.remove(0);
            if side.connection.defer(ticket, side.now).is_none() {
                let frames = side.frames();
                assert_eq!((frames.len(), frames[0].id, frames[0].rc), (1, id, -6));
                return;
            }
        }
        panic!("there was memory for all");
    });
}

#[test]
fn what_is_deferred_behind_the_end_is_dropped() {
    let mut side = Side::open_responder(defaults());
    side.answers = Answers::Later;
    side.feed(&request(1, 1, b""));
    side.connection.end_of_input();
    let ids = defer_all(&mut side);
    assert_eq!(polled(&mut side), [Owed::Dropped(ids[0])]);
    assert!(side.connection.is_finished() && side.sent().is_empty());
}

/// PROTOCOL C4a
#[test]
fn nothing_overtakes_a_deferred_classic_request() {
    for ends_input in [false, true] {
        let mut side = Side::responder(defaults());
        side.answers = Answers::Later;
        // Its rc, a timeout in v1, means nothing.
        side.feed(
            &[classic_frame(1, 5, 1, b"a"), classic_request(2, b"b"), classic_request(3, b"c")].concat(),
        );
        for msg_type in 1..=3 {
            assert_eq!(side.seen().len(), 1, "the next one waits");
            let ids = defer_all(&mut side);
            side.now += Duration::from_secs(60);
            assert_eq!((polled(&mut side), side.sent()), (vec![], vec![]));
            assert!(side.connection.is_paused() && !side.connection.has_backlog());
            if ends_input && msg_type == 3 {
                side.connection.end_of_input();
            }
            assert!(answer(&mut side, ids[0]) && !answer(&mut side, ids[0]));
            assert_eq!(side.sent(), classic_frame(msg_type, 0, 4, b"late"));
            side.feed(&[]);
        }
        assert_eq!((side.seen(), side.connection.is_finished()), (vec![], ends_input));
    }
}

#[test]
fn a_call_can_be_deferred_while_it_is_handed_out() {
    let mut side = Side::open_responder(defaults());
    let (now, mut ids) = (side.now, Vec::new());
    let bytes = [request(1, 1, b"later"), request(2, 1, b"now")].concat();
    side.connection.receive(&bytes, &std::cell::Cell::new(9), &mut |connection, event| {
        let crate::event::Event::Request { ticket, payload } = event else { panic!("{event:?}") };
        match payload {
            b"later" => ids.extend(connection.defer(ticket, now)),
            _ => super::echo(connection, ticket, payload),
        }
    });
    assert_eq!(side.frames(), [Frame::reply(2, 1, ResultCode::OK, b"now")]);
    assert!(answer(&mut side, ids[0]));
    assert_eq!(side.frames(), [Frame::reply(1, 1, ResultCode::OK, b"late")]);
    assert_eq!(side.seen(), [] as [Seen; 0]);
}

/// PROTOCOL L13
#[test]
fn who_waits_for_an_answer_is_not_idle() {
    let limit = Duration::from_secs(1);
    let mut side = Side::open_responder(settings(|settings| settings.limits.idle_timeout = Some(limit)));
    side.answers = Answers::Later;
    side.feed(&request(1, 7, b""));
    let ids = defer_all(&mut side);
    assert_eq!(side.connection.next_deadline(), None);
    side.now += limit * 10;
    let input = crate::Input::Quiet;
    assert!(!side.connection.handle_timeout(side.now, input));
    assert!(answer(&mut side, ids[0]));
    assert_eq!(side.frames().len(), 1);
    assert_eq!(side.connection.next_deadline(), Some(side.now + limit));
    side.now += limit;
    assert!(side.connection.handle_timeout(side.now, input));
}
