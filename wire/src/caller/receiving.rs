//! Whose each thing is that comes.

use std::cell::Cell;
use std::time::Instant;

use super::course::Course;
use super::incoming::Queue;
use super::seats::{Answered, Seats, State};
use super::step::Reply;
use super::{Caller, Wake};
use crate::blocks::LARGE;
use crate::connection::Connection;
use crate::event::Event;
use crate::hello::Hello;
use crate::layout::Layout;
use crate::limits::ConnectionLimits;
use crate::memory::{self, NoMemory};
use crate::parcel::{Arrived, Parcel};
use crate::payload::Payload;
use crate::rc::ResultCode;
use crate::recipient::Recipient;

impl<W: Wake> Caller<W> {
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let Caller { connection, settings, seats, hello, course, incoming, arrived, has_news, .. } = self;
        let (limits, is_left) = (&settings.limits, false);
        let large = None;
        let mut taking = Taking { seats, limits, hello, course, incoming, has_news, now, is_left, large };
        match arrived.take() {
            None if !connection.is_accompanied() => {
                connection.receive_for(bytes, &Cell::new(usize::MAX), &mut taking);
            }
            arrived => {
                let arrived = arrived.map_or(Arrived::Nothing, |arrived| *arrived);
                connection.receive_attached_for(bytes, arrived, &Cell::new(usize::MAX), &mut taking);
            }
        }
        // What is answered at once has come to enough for a turn, and there are no turns here.
        while connection.has_backlog() {
            connection.receive_for(&[], &Cell::new(usize::MAX), &mut taking);
        }
        connection.received(now);
        if let Some(id) = taking.large
            && let Some(payload) = connection.take_frame()
        {
            taking.seats.fill(id, payload);
        }
        if taking.is_left {
            self.has_news = true;
            self.seats.wake_all();
        }
    }
}

/// All that what comes may concern, but for the connection.
struct Taking<'c, W> {
    seats: &'c mut Seats<W>,
    limits: &'c ConnectionLimits,
    hello: &'c mut Option<Box<Hello>>,
    course: &'c mut Course,
    incoming: &'c mut Option<Box<Queue>>,
    has_news: &'c mut bool,
    now: Instant,
    /// Whether the server has said goodbye.
    is_left: bool,
    /// Whose reply is still to get the memory of its frame.
    large: Option<u32>,
}

impl<W: Wake> Recipient for Taking<'_, W> {
    #[inline]
    fn reply(&mut self, connection: &mut Connection, id: u32, rc: ResultCode, is_text: bool, payload: &[u8]) {
        let is_classic_first = id == 1 && connection.layout() == Some(Layout::Classic);
        let large = &mut self.large;
        let answered = self.seats.answer(id, || {
            let kept = if payload.len() >= LARGE && connection.keep_frame(payload) {
                *large = Some(id);
                Ok(Payload::default())
            } else {
                memory::copy(payload).map(Payload::from)
            };
            match kept {
                Ok(payload) => {
                    State::Answered(Reply { rc, is_text, payload, is_classic_first, attached: None })
                }
                Err(NoMemory) => State::Lost,
            }
        });
        *self.has_news |= answered == Answered::News;
    }

    fn event(&mut self, connection: &mut Connection, event: Event<'_>) {
        let Taking { seats, limits, hello, course, incoming, has_news, now, is_left, large: _ } = self;
        match event {
            Event::Reply { id, rc, is_text, payload } => self.reply(connection, id, rc, is_text, payload),
            Event::Part { id, payload } => {
                **has_news |= seats.take_part(connection, id, payload) == Answered::News;
            }
            Event::LostReply { id } => {
                **has_news |= seats.answer(id, || State::Lost) == Answered::News;
            }
            Event::Goodbye { rc, last_id } => {
                course.leave(rc, last_id);
                *is_left = true;
            }
            Event::Opened(theirs) | Event::Greeted(theirs) => **hello = Some(theirs),
            Event::Request { ticket, payload } => match incoming {
                Some(queue) => queue.request(connection, ticket, payload, *now),
                None => {
                    let reply = connection.begin_reply(ticket);
                    reply.fail(ResultCode::NO_HANDLER, "this client serves no requests");
                }
            },
            Event::Notify { msg_type, payload } => {
                if let Some(queue) = incoming {
                    queue.notify(limits, msg_type, payload);
                }
            }
            Event::Subscribe { ticket } | Event::Unsubscribe { ticket } => {
                connection.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "this client has no events");
            }
            Event::Published { .. } => {
                **has_news |= !seats.listeners.take(&event, limits.event_queue);
            }
            Event::Pong { id } => seats.pings.answer(id),
            Event::Attached { parcel, then } => self.attached(connection, parcel, then),
            // Of a client nothing is granted.
            Event::Asks { .. } | Event::TakesOver => {}
        }
    }
}

impl<W: Wake> Taking<'_, W> {
    /// Replies keep what came with them. Nobody takes what came with anything else.
    #[cold]
    fn attached(&mut self, connection: &mut Connection, parcel: Parcel, then: Option<Box<Event<'_>>>) {
        let Some(event) = then else { return };
        let call = if let Event::Reply { id, .. } = *event { Some(id) } else { None };
        self.event(connection, *event);
        if let Some(id) = call {
            self.seats.attach(id, parcel);
        }
    }
}
