//! Whose each thing is that comes.

use std::cell::Cell;
use std::time::Instant;

use super::seats::State;
use super::step::Reply;
use super::{Caller, Wake};
use crate::connection::Connection;
use crate::event::Event;
use crate::layout::Layout;
use crate::memory::{self, NoMemory};
use crate::rc::ResultCode;

impl<W: Wake> Caller<W> {
    pub(super) fn receive(&mut self, bytes: &[u8], now: Instant) {
        let Caller { connection, settings, seats, hello, course, incoming, has_news, .. } = self;
        let mut is_left = false;
        let mut take = |connection: &mut Connection, event: Event<'_>| match event {
            Event::Reply { id, rc, is_text, payload } => {
                let Some(call) = seats.call_mut(id) else { return };
                let is_classic_first = id == 1 && connection.layout() == Some(Layout::Classic);
                *has_news |= !call.answer(match memory::copy(payload) {
                    Ok(payload) => State::Answered(Reply { rc, is_text, payload, is_classic_first }),
                    Err(NoMemory) => State::Lost,
                });
            }
            Event::Part { id, payload } => {
                if let Some(call) = seats.call_mut(id) {
                    *has_news |= !call.take_part(connection, id, payload);
                }
            }
            Event::LostReply { id } => {
                if let Some(call) = seats.call_mut(id) {
                    *has_news |= !call.answer(State::Lost);
                }
            }
            Event::Goodbye { rc, last_id } => {
                course.leave(rc, last_id);
                is_left = true;
            }
            Event::Opened(theirs) | Event::Greeted(theirs) => *hello = Some(theirs),
            Event::Request { ticket, payload } => match incoming {
                Some(queue) => queue.request(connection, ticket, payload, now),
                None => {
                    let reply = connection.begin_reply(ticket);
                    reply.fail(ResultCode::NO_HANDLER, "this client serves no requests");
                }
            },
            Event::Notify { msg_type, payload } => {
                if let Some(queue) = incoming {
                    queue.notify(&settings.limits, msg_type, payload);
                }
            }
            Event::Subscribe { ticket } | Event::Unsubscribe { ticket } => {
                connection.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "this client has no events");
            }
            Event::Published { .. } => {
                *has_news |= !seats.listeners.take(&event, settings.limits.event_queue);
            }
            Event::Pong { id } => seats.pings.answer(id),
            // Of a client nothing is granted.
            Event::Asks { .. } | Event::TakesOver => {}
        };
        connection.receive(bytes, &Cell::new(usize::MAX), &mut take);
        // What is answered at once has come to enough for a turn, and there are no turns here.
        while connection.has_backlog() {
            connection.receive(&[], &Cell::new(usize::MAX), &mut take);
        }
        connection.received(now);
        if is_left {
            *has_news = true;
            seats.wake_all();
        }
    }
}
