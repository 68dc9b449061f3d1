//! An owner of a connection, who does anything that one may do, in the order that bytes decide, and keeps account of
//! what was asked, owed and answered.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_wire::{Connection, Event, Input, Layout, Owed, OwedId, Parted, ResultCode, Ticket, WhenSlow};

use super::Choices;

/// Topics and types are few, so that they meet.
const TYPES: u8 = 3;
/// What is published.
const NEWS: &[u8] = b"news";

/// A call of the peer that has no answer yet.
struct Open {
    ticket: Ticket,
    payload: Vec<u8>,
    wants: Wants,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Answer,
    Topic,
    NoTopic,
}

pub(super) struct Owner {
    pub(super) connection: Connection,
    pub(super) now: Instant,
    /// Whether the peer keeps to the rules: then what it says is held against what we know.
    honest: bool,
    /// Our calls that somebody waits for, and what is to come back.
    asked: BTreeMap<u32, Vec<u8>>,
    open: Vec<Open>,
    /// Calls of the peer that were deferred and have not ended.
    owed: BTreeMap<OwedId, Vec<u8>>,
    /// The last call of the peer.
    last: u32,
    /// Whether this side has said that it ends.
    pub(super) leaves: bool,
    has_ended: bool,
    /// What the system has taken, and nobody has fetched.
    left: Vec<u8>,
}

impl Owner {
    pub(super) fn new(connection: Connection, honest: bool, now: Instant) -> Owner {
        let (asked, open, owed, left) = Default::default();
        Owner { connection, now, honest, asked, open, owed, last: 0, leaves: false, has_ended: false, left }
    }

    /// Bytes have come, after which nothing is left undone.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        if self.has_ended || self.connection.is_finished() {
            return;
        }
        self.receive_once(bytes);
        let mut rounds = 0;
        while self.connection.has_backlog() {
            rounds += 1;
            assert!(rounds < 100_000, "it says for ever that something is left");
            self.receive_once(&[]);
            self.write(usize::MAX);
        }
        self.tend();
    }

    fn receive_once(&mut self, bytes: &[u8]) {
        let Owner { connection, asked, open, last, honest, now, .. } = self;
        let now = *now;
        let mut each = |connection: &mut Connection, event: Event<'_>| {
            hear(connection, event, &mut Hearing { asked, open, last, honest: *honest, now });
        };
        connection.receive(bytes, &Cell::new(usize::MAX), &mut each);
        connection.received(now);
    }

    /// There is no more to come, perhaps inside a frame.
    pub(super) fn end(&mut self) {
        if !self.has_ended && !self.connection.has_backlog() {
            (self.has_ended, self.honest) = (true, false);
            self.connection.end_of_input();
            self.tend();
        }
    }

    /// What leaves, at most so much.
    pub(super) fn send(&mut self, most: usize) -> Vec<u8> {
        self.write(most);
        let later = self.left.split_off(most.min(self.left.len()));
        std::mem::replace(&mut self.left, later)
    }

    /// Gives the system what it takes: at most so much, with what lies there.
    fn write(&mut self, most: usize) {
        while self.connection.has_unsent() && self.left.len() < most {
            let unsent = self.connection.unsent();
            assert!(!unsent.is_empty(), "something is unsent, and it is nothing");
            let count = unsent.len().min(most - self.left.len());
            self.left.extend_from_slice(&unsent[..count]);
            self.connection.mark_sent(count, self.now);
        }
        self.tend();
    }

    /// Hears of deferred calls that have ended, each once.
    fn tend(&mut self) {
        while let Some(news) = self.connection.poll_owed(self.now) {
            match news {
                Owed::MayGoOn(id) => assert!(self.owed.contains_key(&id), "it ended before"),
                ended => {
                    assert!(self.owed.remove(&ended.id()).is_some(), "{ended:?} twice, or after its reply")
                }
            }
            if let Owed::MayGoOn(id) = news {
                self.push_part(id);
            }
        }
        if let Some(failure) = self.connection.flow().failure() {
            assert!(self.connection.is_finishing(), "{failure}");
            assert!(!self.honest, "a peer that keeps to the rules is accused: {failure}");
        }
        assert!(self.connection.buffered() < 4 << 20, "{} bytes are held", self.connection.buffered());
    }

    /// Time passes, and those whose time is over are given up.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        while let Some(id) = self.connection.poll_asked(self.now) {
            assert!(self.asked.remove(&id).is_some(), "call {id} was over");
        }
        while self.connection.poll_pinged(self.now).is_some() {}
        self.connection.handle_timeout(self.now, Input::Quiet);
        self.tend();
        if let Some(deadline) = self.connection.next_deadline() {
            assert!(deadline > self.now || !self.honest, "a time that is over is waited for");
        }
    }

    /// Does something.
    pub(super) fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.byte() % 20 {
            0 | 1 => self.ask(choices),
            2 => self.notify(choices),
            3 => self.give_up(choices),
            4 => self.limit(choices),
            5 => self.subscribe(choices),
            6 => self.credit(choices),
            7 => self.ping(),
            8..=10 => self.answer(choices),
            11 | 12 => self.defer(choices),
            13 => self.answer_owed(choices),
            14 => self.part(choices),
            15 => self.publish(choices),
            16 => self.pass(Duration::from_millis(choices.byte().into())),
            17 => drop(choices.byte()),
            18 if choices.byte() > 200 => self.leave(choices),
            _ => {}
        }
        self.tend();
    }

    fn is_v1(&self) -> bool {
        self.connection.layout() == Some(Layout::V1)
    }

    fn ask(&mut self, choices: &mut Choices<'_>) {
        let (msg_type, timeout) = (choices.byte() % TYPES, i32::from(choices.byte() / 4));
        let length = usize::from(choices.byte());
        let payload = choices.bytes(length);
        let length = payload.len() as u32;
        let connection = &mut self.connection;
        if connection.may_ask() && connection.may_call(length) && length <= connection.request_limit() {
            let id = connection.push_request(msg_type.into(), payload, timeout).expect("memory");
            assert!(self.asked.insert(id, payload.to_vec()).is_none(), "id {id} is in use");
        }
    }

    fn notify(&mut self, choices: &mut Choices<'_>) {
        let payload = choices.bytes(3);
        if self.is_v1()
            && self.connection.may_ask()
            && payload.len() as u32 <= self.connection.request_limit()
        {
            self.connection.push_notify(1, payload).expect("memory");
        }
    }

    /// One of ours, by a byte.
    fn pick(&self, choices: &mut Choices<'_>) -> Option<u32> {
        let at = usize::from(choices.byte()) % self.asked.len().max(1);
        self.asked.keys().nth(at).copied()
    }

    fn give_up(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let how = choices.byte();
        if how & 1 == 0 && self.is_v1() && !self.connection.is_finishing() {
            self.connection.push_cancel(id);
        }
        if how & 2 == 0 {
            self.connection.abandon_call(id);
            self.asked.remove(&id);
        }
    }

    fn limit(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        if self.is_v1() {
            self.connection.limit_call(id, self.now + Duration::from_millis(choices.byte().into()));
        }
    }

    fn subscribe(&mut self, choices: &mut Choices<'_>) {
        let what = choices.byte();
        if !self.is_v1() || !self.connection.may_ask() || !self.connection.may_call(0) {
            return;
        }
        let topic = u16::from(what % TYPES);
        let id = match what & 0x80 {
            0 => self.connection.push_subscribe(topic),
            _ => self.connection.push_unsubscribe(topic),
        };
        self.asked.insert(id.expect("memory"), Vec::new());
    }

    fn credit(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let amount = u32::from(choices.byte());
        if self.is_v1() {
            self.connection.give_credit(id, amount);
        }
    }

    fn ping(&mut self) {
        if self.is_v1() && self.connection.may_ask() && self.connection.pings() < 8 {
            self.connection.begin_ping(self.now, None).expect("memory");
        }
    }

    fn publish(&mut self, choices: &mut Choices<'_>) {
        let what = choices.byte();
        let slow = if what & 0x80 == 0 { WhenSlow::KeepLatest } else { WhenSlow::DropNewest };
        let _ = self.connection.push_event((what % TYPES).into(), &Arc::new(NEWS.to_vec()), slow);
    }

    fn next_open(&mut self, choices: &mut Choices<'_>) -> Option<Open> {
        let at = usize::from(choices.byte()) % self.open.len().max(1);
        (!self.open.is_empty()).then(|| self.open.remove(at))
    }

    fn answer(&mut self, choices: &mut Choices<'_>) {
        let Some(Open { ticket, payload, wants }) = self.next_open(choices) else { return };
        match (wants, choices.byte() % 8) {
            (Wants::Topic, ..6) => drop(self.connection.accept_subscription(ticket)),
            (Wants::NoTopic, ..6) => self.connection.end_subscription(ticket),
            (Wants::Answer, ..6) => {
                let mut reply = self.connection.begin_reply(ticket);
                reply.write(&payload);
                reply.finish(ResultCode::OK);
            }
            (_, 6) => drop(self.connection.begin_reply(ticket).fail(ResultCode::new(7), "no")),
            // Whoever forgets it, answers all the same.
            _ => drop(self.connection.begin_reply(ticket)),
        }
    }

    fn defer(&mut self, choices: &mut Choices<'_>) {
        let Some(Open { ticket, payload, .. }) = self.next_open(choices) else { return };
        if let Some(id) = self.connection.defer(ticket, self.now) {
            assert!(self.owed.insert(id, payload).is_none(), "it is deferred already");
        }
    }

    fn pick_owed(&self, choices: &mut Choices<'_>) -> Option<OwedId> {
        let at = usize::from(choices.byte()) % self.owed.len().max(1);
        self.owed.keys().nth(at).copied()
    }

    fn answer_owed(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.pick_owed(choices) else { return };
        self.finish_owed(id);
    }

    /// `None` of the connection: it has ended, and we shall be told.
    fn finish_owed(&mut self, id: OwedId) {
        if let Some(mut reply) = self.connection.begin_owed_reply(id) {
            let payload = self.owed.remove(&id).expect("it had not ended");
            reply.write(&payload);
            reply.finish(ResultCode::OK);
        }
    }

    fn part(&mut self, choices: &mut Choices<'_>) {
        if let Some(id) = self.pick_owed(choices).filter(|_| self.connection.has_parts()) {
            self.push_part(id);
        }
    }

    fn push_part(&mut self, id: OwedId) {
        let Some(payload) = self.owed.get(&id) else { return };
        if self.connection.push_part(id, payload) == Parted::Lost {
            self.owed.remove(&id);
        }
    }

    fn leave(&mut self, choices: &mut Choices<'_>) {
        self.leaves = true;
        match choices.byte() & 1 {
            0 => self.connection.goodbye(ResultCode::OK),
            _ => self.connection.close(),
        }
    }

    /// Answers all that the peer is owed.
    pub(super) fn answer_all(&mut self) {
        while !self.open.is_empty() {
            self.answer(&mut Choices(&[]));
        }
        while let Some(id) = self.owed.keys().next().copied() {
            self.finish_owed(id);
            self.tend();
            assert!(!self.owed.contains_key(&id), "a deferred call neither takes an answer nor ends");
        }
        self.tend();
    }

    /// Whether nobody waits for anything.
    pub(super) fn is_quits(&self) -> bool {
        self.asked.is_empty() && self.open.is_empty() && self.owed.is_empty() && self.connection.pings() == 0
    }

    /// What is open.
    pub(super) fn account(&self) -> String {
        let Owner { connection, asked, open, owed, .. } = self;
        let (asked, owed) = (asked.keys().collect::<Vec<_>>(), owed.len());
        format!("asked {asked:?}, open {}, owed {owed}, pings {}", open.len(), connection.pings())
    }
}

/// What is needed to hear an event.
struct Hearing<'o> {
    asked: &'o mut BTreeMap<u32, Vec<u8>>,
    open: &'o mut Vec<Open>,
    last: &'o mut u32,
    honest: bool,
    now: Instant,
}

fn hear(connection: &mut Connection, event: Event<'_>, hearing: &mut Hearing<'_>) {
    let Hearing { asked, open, last, honest, now } = hearing;
    let mut keep = |ticket: Ticket, payload: &[u8], wants| {
        if *honest && ticket.layout == Layout::V1 {
            assert!(ticket.id > **last, "call {} comes behind {last}", ticket.id);
            **last = ticket.id;
        }
        open.push(Open { ticket, payload: payload.to_vec(), wants });
    };
    match event {
        Event::Request { ticket, payload } => keep(ticket, payload, Wants::Answer),
        Event::Subscribe { ticket } => keep(ticket, b"", Wants::Topic),
        Event::Unsubscribe { ticket } => keep(ticket, b"", Wants::NoTopic),
        Event::Reply { id, rc, is_text, payload } => {
            let expected = asked.remove(&id).expect("somebody waits for it, once");
            assert!(!*honest || is_text || !rc.is_ok() || payload == expected, "another answer to {id}");
        }
        Event::LostReply { id } => drop(asked.remove(&id).expect("somebody waits for it, once")),
        Event::Part { id, payload } => {
            let expected = asked.get(&id).expect("somebody waits for it");
            assert!(!*honest || payload == expected, "another part of {id}");
        }
        Event::Published { payload, .. } => assert!(!*honest || payload == NEWS),
        Event::Pong { id } => while connection.poll_ponged(id, *now).is_some() {},
        Event::Attached { then: Some(event), .. } => hear(connection, *event, hearing),
        _ => {}
    }
}
