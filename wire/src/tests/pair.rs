//! Two connections joined by byte queues, with virtual time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Answers, Seen, Side, defaults, echo, settings};
use crate::connection::Connection;
use crate::error::ProtocolError;
use crate::layout::Layout;
use crate::rc::ResultCode;
use crate::settings::Settings;

/// What lies between one side's outbox and the other's input.
#[derive(Debug)]
pub(super) struct Wire {
    /// Bytes under way, and when they arrive.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    delay: Duration,
    /// Bytes that arrive in one piece at most.
    piece: usize,
    /// Bytes that may be under way at a time, as in a socket's buffer.
    pub(super) room: usize,
    /// Bytes that still pass; further ones are lost.
    lost_behind: usize,
    /// Whether the sender has closed its side, and the receiver been told.
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Coming,
    Seen,
}

impl Wire {
    fn under_way(&self) -> usize {
        self.chunks.iter().map(|(_, chunk)| chunk.len()).sum()
    }

    /// Takes what there is room for. Says how much.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) -> usize {
        let count = bytes.len().min(self.room - self.under_way());
        let passes = count.min(self.lost_behind);
        self.lost_behind -= passes;
        if passes > 0 {
            self.chunks.push_back((now + self.delay, bytes[..passes].to_vec()));
        }
        count
    }

    fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (at, chunk) = self.chunks.front_mut()?;
        if *at > now {
            return None;
        }
        let piece: Vec<u8> = chunk.drain(..self.piece.min(chunk.len())).collect();
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        Some(piece)
    }
}

/// The client's side, the server's, and the wires to each.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) client: Side,
    pub(super) server: Side,
    pub(super) to_client: Wire,
    pub(super) to_server: Wire,
}

impl Pair {
    pub(super) fn new(client: Arc<Settings>, server: Arc<Settings>) -> Pair {
        let now = Instant::now();
        Pair::of(Connection::initiator(client, [1; 16], now), Connection::responder(server, now), now)
    }

    fn classic() -> Pair {
        let now = Instant::now();
        let client = Connection::classic_initiator(defaults(), now);
        Pair::of(client, Connection::responder(defaults(), now), now)
    }

    fn of(client: Connection, server: Connection, now: Instant) -> Pair {
        let wire = || Wire {
            chunks: VecDeque::new(),
            delay: Duration::ZERO,
            piece: usize::MAX,
            room: 1 << 30,
            lost_behind: usize::MAX,
            end: End::Open,
        };
        Pair {
            client: Side::new(client, now),
            server: Side::new(server, now),
            to_client: wire(),
            to_server: wire(),
        }
    }

    /// Past its hello, over wires that deliver in pieces of this size.
    pub(super) fn open(piece: usize) -> Pair {
        let mut pair = Pair::new(defaults(), defaults());
        pair.to_client.piece = piece;
        pair.to_server.piece = piece;
        pair.run();
        assert_eq!(pair.client.seen(), [Seen::Opened]);
        pair
    }

    /// Moves bytes until nothing moves any more.
    pub(super) fn run(&mut self) {
        while [
            exchange(&mut self.client, &mut self.to_server, &mut self.to_client),
            exchange(&mut self.server, &mut self.to_client, &mut self.to_server),
        ]
        .contains(&true)
        {}
    }

    /// Lets time pass, in steps of a millisecond.
    pub(super) fn pass(&mut self, time: Duration) {
        self.run();
        let end = self.client.now + time;
        while self.client.now < end {
            let step = Duration::from_millis(1).min(end - self.client.now);
            self.client.pass(step);
            self.server.pass(step);
            self.run();
        }
    }

    fn replies(&mut self) -> Vec<(u32, i32, Vec<u8>)> {
        let reply = |seen| match seen {
            Seen::Reply { id, rc, payload, .. } => Some((id, rc, payload)),
            _ => None,
        };
        self.client.seen().into_iter().filter_map(reply).collect()
    }
}

/// One side writes what its wire takes, closes if it is done, and reads one piece.
fn exchange(side: &mut Side, out: &mut Wire, input: &mut Wire) -> bool {
    let mut moved = false;
    while side.connection.has_unsent() {
        let count = out.push(side.connection.unsent(), side.now);
        side.connection.mark_sent(count, side.now);
        if count == 0 {
            break;
        }
        moved = true;
    }
    if side.connection.is_finished() && out.end == End::Open {
        out.end = End::Coming;
        moved = true;
    }
    if side.connection.has_backlog() {
        side.feed(&[]);
        moved = true;
    } else if side.connection.is_paused() {
        return moved;
    }
    match input.pop(side.now) {
        Some(piece) => {
            side.feed(&piece);
            true
        }
        None if input.end == End::Coming && input.chunks.is_empty() => {
            input.end = End::Seen;
            side.connection.end_of_input();
            true
        }
        None => moved,
    }
}

#[test]
fn hello_in_pieces_of_any_size() {
    for piece in [1, 2, 7, 47, 48, 1000] {
        let pair = Pair::open(piece);
        for side in [&pair.client, &pair.server] {
            assert_eq!(side.connection.layout(), Some(Layout::V1));
            assert!(side.connection.flow().failure().is_none());
        }
        assert_eq!(pair.client.connection.request_limit(), 16 << 20);
    }
}

#[test]
fn pipelined_calls_in_pieces_of_any_size() {
    for piece in [1, 5, 16, 17, 1000] {
        for mut pair in [Pair::open(piece), Pair::classic()] {
            let payloads = [vec![], vec![1; 3], vec![2; 700], vec![3; 16]];
            let ids: Vec<u32> = payloads.iter().map(|payload| pair.client.call(9, payload)).collect();
            pair.run();
            let expected: Vec<_> =
                ids.into_iter().zip(payloads).map(|(id, payload)| (id, 0, payload)).collect();
            assert_eq!(pair.replies(), expected);
        }
    }
}

#[test]
fn calls_answered_out_of_order() {
    let mut pair = Pair::open(3);
    pair.server.answers = Answers::Later;
    let ids: Vec<u32> = (0..4).map(|n| pair.client.call(n, &[n as u8])).collect();
    pair.run();
    for index in [2, 0, 1, 0] {
        let ticket = pair.server.tickets.remove(index);
        let payload = [ticket.msg_type as u8];
        echo(&mut pair.server.connection, ticket, &payload);
        pair.run();
    }
    let order: Vec<u32> = pair.replies().into_iter().map(|(id, ..)| id).collect();
    assert_eq!(order, [ids[2], ids[0], ids[3], ids[1]]);
}

/// PROTOCOL H3
#[test]
fn the_clients_limits_are_the_servers_hellos() {
    let small = settings(|settings| {
        settings.limits.max_in_flight = 3;
        settings.limits.max_in_flight_bytes = 100;
        settings.limits.max_payload = 60;
    });
    let mut pair = Pair::new(defaults(), small);
    pair.run();
    pair.client.seen();
    assert_eq!(pair.client.connection.request_limit(), 60);
    let mut replies = 0;
    for round in 1..200 {
        // As much as is allowed, which is never too much for the server.
        while pair.client.connection.may_call(round % 61) {
            pair.client.call(1, &vec![0; round as usize % 61]);
        }
        pair.run();
        replies += pair.replies().len();
        assert!(pair.server.connection.flow().failure().is_none(), "{:?}", pair.server.failure());
    }
    assert!(replies > 199);
}

#[test]
fn late_replies_meet_tombstones() {
    let mut pair = Pair::open(1000);
    pair.to_client.delay = Duration::from_millis(50);
    let (a, b) = (pair.client.call(1, b"a"), pair.client.call(1, b"b"));
    pair.pass(Duration::from_millis(20));
    pair.client.connection.abandon_call(a);
    pair.pass(Duration::from_millis(29));
    assert_eq!(pair.replies(), []);
    pair.pass(Duration::from_millis(1));
    assert_eq!(pair.replies(), [(b, 0, b"b".to_vec())]);
}

#[test]
fn a_client_leaves_in_order() {
    let mut pair = Pair::open(2);
    let id = pair.client.call(1, b"last words");
    pair.client.connection.goodbye(ResultCode::OK);
    pair.run();
    assert_eq!(pair.replies(), [(id, 0, b"last words".to_vec())]);
    assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    assert_eq!((pair.to_client.end, pair.to_server.end), (End::Seen, End::Seen));
    assert!(
        pair.client.connection.flow().failure().is_none()
            && pair.server.connection.flow().failure().is_none()
    );
}

#[test]
fn a_server_leaves_in_order() {
    for delay in [0, 30] {
        let mut pair = Pair::open(2);
        pair.server.answers = Answers::Later;
        let accepted = pair.client.call(1, b"accepted");
        pair.run();
        pair.to_server.delay = Duration::from_millis(delay);
        let crossed = pair.client.call(1, b"crosses the goodbye");
        let written = pair.client.sent();
        pair.to_server.push(&written, pair.client.now);
        pair.server.connection.goodbye(ResultCode::SHUTTING_DOWN);
        pair.pass(Duration::from_millis(100));
        let goodbye = Seen::Goodbye { rc: -9, last_id: accepted };
        assert_eq!(pair.client.seen(), [goodbye]);
        assert!(!pair.server.connection.is_finished());
        echo(&mut pair.server.connection, pair.server.tickets.remove(0), b"done");
        pair.run();
        assert_eq!(pair.replies(), [(accepted, 0, b"done".to_vec())], "and none to {crossed}");
        assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    }
}

#[test]
fn both_leave_at_once() {
    let mut pair = Pair::open(2);
    let id = pair.client.call(1, b"x");
    pair.client.connection.goodbye(ResultCode::OK);
    pair.server.connection.goodbye(ResultCode::SHUTTING_DOWN);
    pair.run();
    assert!(pair.client.connection.is_finished() && pair.server.connection.is_finished());
    assert!(pair.server.seen().iter().all(|seen| !matches!(seen, Seen::Request { .. })), "{id} came behind");
}

#[test]
fn a_cut_anywhere_ends_both_sides() {
    let sent = {
        let mut client = Side::open_initiator(defaults());
        client.call(1, b"one");
        client.call(1, b"two");
        client.sent().len()
    };
    for cut in 0..=sent {
        let mut pair = Pair::open(usize::MAX);
        pair.to_server.lost_behind = cut;
        pair.client.call(1, b"one");
        pair.client.call(1, b"two");
        pair.run();
        let executed = pair.server.seen().len();
        assert_eq!(executed, cut / 19);
        assert_eq!(pair.replies().len(), executed);
        pair.server.connection.end_of_input();
        pair.client.connection.end_of_input();
        pair.run();
        assert!(pair.server.connection.is_finished() && pair.client.connection.is_finished());
        assert_eq!(pair.server.connection.flow().failure().is_some(), cut % 19 != 0);
    }
}

#[test]
fn a_lost_tail_runs_into_the_time_limit_and_both_sides_know() {
    let mut pair = Pair::open(usize::MAX);
    pair.to_server.lost_behind = 18;
    let id = pair.client.call(1, b"one");
    pair.pass(Duration::from_millis(9_999));
    assert!(pair.server.connection.flow().failure().is_none());
    pair.pass(Duration::from_millis(1));
    assert_eq!(*pair.server.failure(), ProtocolError::TimedOut("end of a frame"));
    assert_eq!(pair.client.seen(), [Seen::Goodbye { rc: -7, last_id: 0 }]);
    assert!(id > 0 && pair.server.connection.is_finished() && pair.client.connection.is_finished());
}

#[test]
fn two_that_call_each_other_over_narrow_wires_do_not_deadlock() {
    let mut pair = Pair::open(11);
    pair.to_client.room = 64;
    pair.to_server.room = 64;
    for _ in 0..100 {
        pair.client.call(1, &[1; 300]);
        pair.server.call(2, &[2; 300]);
    }
    pair.run();
    let from_server = pair.client.seen();
    assert_eq!(from_server.iter().filter(|seen| matches!(seen, Seen::Reply { rc: 0, .. })).count(), 100);
    let answered = |seen: &&Seen| matches!(seen, Seen::Reply { rc: 0, payload, .. } if *payload == [2; 300]);
    assert_eq!(pair.server.seen().iter().filter(answered).count(), 100);
    assert!(!pair.client.connection.has_unsent() && !pair.server.connection.has_unsent());
}

/// PROTOCOL G6
#[test]
fn both_leave_with_calls_under_way_in_both_directions() {
    for client_is_first in [false, true] {
        let mut pair = Pair::open(usize::MAX);
        pair.client.answers = Answers::Later;
        pair.server.answers = Answers::Later;
        pair.client.call(1, b"asked");
        pair.server.call(2, b"asked back");
        pair.run();
        pair.client.connection.goodbye(ResultCode::OK);
        pair.server.connection.goodbye(ResultCode::SHUTTING_DOWN);
        pair.run();
        assert!(!pair.client.connection.is_finishing() && !pair.server.connection.is_finishing());
        for is_client in [client_is_first, !client_is_first] {
            let side = if is_client { &mut pair.client } else { &mut pair.server };
            let ticket = side.tickets.remove(0);
            echo(&mut side.connection, ticket, b"late");
            pair.run();
        }
        for side in [&mut pair.client, &mut pair.server] {
            let answered = |seen: &Seen| matches!(seen, Seen::Reply { payload, .. } if payload == b"late");
            assert!(side.seen().iter().any(answered));
            assert!(side.connection.is_finished() && side.connection.flow().failure().is_none());
        }
    }
}

#[test]
fn a_reader_that_stops_is_given_up() {
    let mut pair = Pair::open(usize::MAX);
    pair.to_client.room = 10;
    pair.to_client.delay = Duration::from_secs(3600);
    pair.client.call(1, b"who never reads the answer");
    pair.pass(Duration::from_millis(29_999));
    assert!(pair.server.connection.flow().failure().is_none());
    pair.pass(Duration::from_millis(1));
    assert_eq!(*pair.server.failure(), ProtocolError::STALLED);
    assert!(pair.server.connection.flow().is_hopeless() && pair.server.connection.is_finished());
}
