//! Subscriptions and the events that they bring, both ways.

use std::sync::Arc;

use super::{Connection, Phase};
use crate::call_rules;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, Extension, Header, Kind, flags, split_extension};
use crate::layout::Layout;
use crate::memory::NoMemory;
use crate::rc::ResultCode;
use crate::reply::Ticket;
use crate::subscriptions::{Pushed, Stamp, WhenSlow};

/// The peer subscribes, and we publish.
impl Connection {
    /// A subscribe or an unsubscribe. What its owner answers is up to him; its payload has no meaning.
    #[cold]
    pub(super) fn take_subscribe(
        &mut self,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<Event<'static>>, ProtocolError> {
        if !self.accept_call(&header)? {
            return Ok(None);
        }
        let ticket = Ticket::v1(&header, header.length);
        if let Err(failure) = call_rules::check_subscribe(&header, payload) {
            self.begin_reply(ticket).fail(failure.result_code(), failure.text());
            return Ok(None);
        }
        Ok(Some(match header.kind == Kind::Subscribe as u8 {
            true => Event::Subscribe { ticket },
            false => Event::Unsubscribe { ticket },
        }))
    }

    /// Answers a subscribe with yes. From now on [`push_event`](Connection::push_event) tells the peer of this
    /// topic. Says whether it is so: not if there is no memory for it, and then the answer was "busy" (-6).
    pub fn accept_subscription(&mut self, ticket: Ticket) -> bool {
        let topic = topic_of(&ticket);
        match self.open_calls.get_or_insert_default().topics.serve(topic) {
            Ok(()) => {
                self.begin_reply(ticket).finish(ResultCode::OK);
                true
            }
            Err(NoMemory) => {
                self.begin_reply(ticket).fail(ResultCode::BUSY, "there is no memory for the subscription");
                false
            }
        }
    }

    /// Answers an unsubscribe: the peer is told no more of this topic.
    pub fn end_subscription(&mut self, ticket: Ticket) {
        if let Some(calls) = &mut self.open_calls {
            calls.topics.stop_serving(topic_of(&ticket));
        }
        self.begin_reply(ticket).finish(ResultCode::OK);
    }

    /// The topics to which the peer has subscribed, also when the connection is over.
    pub fn subscribed(&self) -> impl Iterator<Item = u16> {
        self.open_calls.iter().flat_map(|calls| calls.topics.served())
    }

    /// Tells the peer of something, if it has subscribed to the topic. An event is queued only while less
    /// than the soft mark waits to be sent, and never beyond the hard mark; `slow` says what becomes of it
    /// otherwise. After this, [`has_unsent`](Connection::has_unsent) and
    /// [`is_finished`](Connection::is_finished).
    pub fn push_event(&mut self, topic: u16, payload: &Arc<Vec<u8>>, slow: WhenSlow) -> Pushed {
        if self.phase != Phase::Open {
            return Pushed::Nobody;
        }
        let Some(calls) = self.open_calls.as_mut().filter(|calls| calls.topics.serves(topic)) else {
            return Pushed::Nobody;
        };
        let stamp = calls.topics.stamp(topic);
        let is_too_large = payload.len() > self.allowance.max_payload as usize
            || event_len(payload) > self.flow.settings.limits.outbox_hard;
        if is_too_large {
            return self.drop_event(topic);
        }
        if let Some(stamp) = stamp
            && self.has_room_for_event(payload)
        {
            // For want of memory it is not kept: nobody would come to send it.
            let written = self.write_event(topic, stamp, payload);
            return if written.is_ok() { Pushed::Queued } else { self.drop_event(topic) };
        }
        match slow {
            WhenSlow::DropNewest => self.drop_event(topic),
            WhenSlow::KeepLatest => self.keep_event(topic, payload),
            WhenSlow::Disconnect => {
                let waiting = self.flow.outbox.len();
                self.abandon(ProtocolError::SlowSubscriber { topic, waiting });
                Pushed::Ended
            }
        }
    }

    /// Counts so many events of the topic, which others have lost on their way to us, among those that the peer has
    /// missed: the next one that it gets says so. If it has not subscribed, nothing happens.
    pub fn miss_events(&mut self, topic: u16, count: u32) {
        if let Some(calls) = &mut self.open_calls {
            calls.topics.miss(topic, count);
        }
    }

    /// Sends what was kept, as far as there is room by now.
    #[cold]
    pub(super) fn push_kept(&mut self) {
        while let Some((topic, stamp, payload)) =
            self.open_calls.as_ref().and_then(|calls| calls.topics.first_kept())
        {
            let is_open = self.phase == Phase::Open;
            if is_open && !self.has_room_for_event(&payload) {
                return;
            }
            let is_written = is_open && self.write_event(topic, stamp, &payload).is_ok();
            let Some(calls) = &mut self.open_calls else { return };
            calls.topics.forget_first_kept();
            if !is_written {
                calls.topics.drop_one(topic);
            }
        }
    }

    fn drop_event(&mut self, topic: u16) -> Pushed {
        if let Some(calls) = &mut self.open_calls {
            calls.topics.drop_one(topic);
        }
        Pushed::Dropped
    }

    fn keep_event(&mut self, topic: u16, payload: &Arc<Vec<u8>>) -> Pushed {
        let is_replaced = self.open_calls.as_mut().is_some_and(|calls| calls.topics.keep(topic, payload));
        if is_replaced { Pushed::Replaced } else { Pushed::Kept }
    }

    fn has_room_for_event(&self, payload: &[u8]) -> bool {
        !self.flow.is_backed_up()
            && self.flow.outbox.len() + event_len(payload) <= self.flow.settings.limits.outbox_hard
    }

    fn write_event(&mut self, topic: u16, stamp: Stamp, payload: &[u8]) -> Result<(), NoMemory> {
        self.flow.outbox.reserve(event_len(payload))?;
        self.push_frame(Kind::Event, 0, topic, stamp.sequence, stamp.dropped, payload);
        if let Some(calls) = &mut self.open_calls {
            calls.topics.sent(topic, stamp);
        }
        Ok(())
    }
}

/// We subscribe, and the peer publishes.
impl Connection {
    /// Asks for the events of a topic (v1 only), and returns the call's id: the peer answers like a request. The
    /// caller has looked at [`may_call`](Connection::may_call). Each event is an [`Event::Published`], and none
    /// comes before the answer.
    pub fn push_subscribe(&mut self, topic: u16) -> Result<u32, NoMemory> {
        self.open_calls.get_or_insert_default().topics.reserve()?;
        let id = self.push_topic(Kind::Subscribe, topic)?;
        self.open_calls.get_or_insert_default().topics.ask(id, topic);
        Ok(id)
    }

    /// Asks for no more events of a topic, on the same conditions. None is told of from here on.
    pub fn push_unsubscribe(&mut self, topic: u16) -> Result<u32, NoMemory> {
        let id = self.push_topic(Kind::Unsubscribe, topic)?;
        self.open_calls.get_or_insert_default().topics.ask_no_more(topic);
        Ok(id)
    }

    /// Whether we have asked for the events of a topic, and not been refused.
    pub(crate) fn is_subscribing(&self, topic: u16) -> bool {
        self.open_calls.as_ref().is_some_and(|calls| calls.topics.is_ours(topic))
    }

    fn push_topic(&mut self, kind: Kind, topic: u16) -> Result<u32, NoMemory> {
        debug_assert!(self.layout() == Some(Layout::V1), "other layouts have no events");
        self.flow.outbox.reserve(frame::HEADER_LEN)?;
        let id = self.open_calls.get_or_insert_default().asked.begin(i32::from(topic), 0);
        self.push_frame(kind, 0, topic, id, 0, &[]);
        Ok(id)
    }

    /// One that nobody waits for may have crossed an unsubscribe, and is skipped.
    pub(super) fn take_event<'b>(&mut self, header: Header, payload: &'b [u8]) -> Option<Event<'b>> {
        let topics = &mut self.open_calls.as_mut()?.topics;
        let (topic, sequence) = (header.msg_type, header.id);
        match split_extension(header.flags, payload) {
            Extension::Fine(payload) if header.flags & !flags::EXT == 0 && self.phase != Phase::Leaving => {
                let dropped = topics.take(topic, header.rc)?;
                Some(Event::Published { topic, sequence, dropped, payload })
            }
            // It can't be taken as it is meant.
            _ => {
                topics.lose(topic, header.rc);
                None
            }
        }
    }

    /// There was no memory for an event's payload.
    pub(super) fn lose_event(&mut self, header: Header) {
        if let Some(calls) = &mut self.open_calls {
            calls.topics.lose(header.msg_type, header.rc);
        }
    }
}

fn topic_of(ticket: &Ticket) -> u16 {
    // It came in a v1 frame, which has room for no more.
    ticket.msg_type as u16
}

fn event_len(payload: &[u8]) -> usize {
    frame::HEADER_LEN.saturating_add(payload.len())
}
