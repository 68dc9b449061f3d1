//! What units mean: who asks, who answers, and what neither is.

use super::{Connection, Phase, Role};
use crate::classic;
use crate::decoder::Unit;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{Header, Kind, flags};
use crate::layout::Layout;
use crate::rc::ResultCode;
use crate::reply::Ticket;

impl Connection {
    #[inline]
    pub(super) fn interpret<'b>(&mut self, unit: Unit<'b>) -> Option<Event<'b>> {
        let result = match unit {
            Unit::Hello(bytes) if self.role == Role::Responder => self.take_hello(bytes),
            Unit::Hello(bytes) => self.take_answer(bytes),
            Unit::Classic(header, payload) => self.take_classic(header, payload),
            Unit::V1(header, payload) if self.phase == Phase::Proving => self.take_proof(&header, payload),
            Unit::V1(header, payload) => self.take_v1(header, payload),
        };
        result.unwrap_or_else(|error| {
            self.fail(error.into());
            None
        })
    }

    /// What the header of a frame means whose payload is lost for want of memory. A request is answered
    /// "busy", and the connection goes on.
    pub(super) fn interpret_lost(&mut self, head: &[u8]) -> Option<Event<'static>> {
        let result = self.take_lost(head);
        result.unwrap_or_else(|error| {
            self.fail(error.into());
            None
        })
    }

    fn take_lost(&mut self, head: &[u8]) -> Result<Option<Event<'static>>, ProtocolError> {
        if self.phase == Phase::Proving {
            return Err(ProtocolError::NoMemory("the proof of a token"));
        }
        if self.layout() == Some(Layout::Classic) {
            let Some(head) = head.first_chunk() else { return Ok(None) };
            let header = classic::Header::decode(head);
            return Ok(match self.take_classic(header, &[])? {
                Some(Event::Request { ticket, .. }) => self.answer_lost(ticket),
                Some(Event::Reply { id, .. }) => Some(Event::LostReply { id }),
                _ => None,
            });
        }
        let Some(head) = head.first_chunk() else { return Ok(None) };
        let header = Header::decode(head);
        if header.flags & flags::EXT != 0 && self.attaches() {
            // Which of those that came belong to it was in its payload; or what it names.
            return Err(ProtocolError::NoMemory("a frame that attachments may have come with"));
        }
        match Kind::from_byte(header.kind) {
            Some(Kind::Request | Kind::Subscribe | Kind::Unsubscribe) => {
                let is_accepted = self.accept_call(&header)?;
                let ticket = is_accepted.then(|| Ticket::v1(&header, header.length));
                Ok(ticket.and_then(|ticket| self.answer_lost(ticket)))
            }
            Some(Kind::Reply) => {
                if header.flags & flags::MORE != 0 {
                    return self.lose_part(header);
                }
                let header = Header { flags: header.flags & !flags::EXT, ..header };
                let reply = self.take_reply(header, &[])?;
                Ok(reply.map(|_| Event::LostReply { id: header.id }))
            }
            Some(Kind::Notify) => Ok(None),
            Some(Kind::Event) => {
                self.lose_event(header);
                Ok(None)
            }
            _ => self.take_v1(header, &[]),
        }
    }

    #[inline]
    fn take_classic<'b>(
        &mut self,
        header: classic::Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        match self.role {
            Role::Responder => Ok(Some(self.take_classic_request(header, payload))),
            Role::Initiator => self.take_classic_reply(header, payload),
        }
    }

    #[inline]
    fn take_v1<'b>(&mut self, header: Header, payload: &'b [u8]) -> Result<Option<Event<'b>>, ProtocolError> {
        if header.flags & flags::EXT != 0 && self.attaches() {
            return self.take_extended(header, payload);
        }
        self.take_plain(header, payload)
    }

    /// The same of one with which nothing goes.
    #[inline]
    pub(super) fn take_plain<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Some(kind) = Kind::from_byte(header.kind) else {
            self.take_skippable(header)?;
            return Ok(None);
        };
        match kind {
            Kind::Request => self.take_request(header, payload),
            Kind::Subscribe | Kind::Unsubscribe => self.take_subscribe(header, payload),
            Kind::Event => Ok(self.take_event(header, payload)),
            Kind::Notify => self.take_notify(header, payload),
            Kind::Reply => self.take_reply(header, payload),
            Kind::Ping => {
                self.pong_owed = Some(header.id.to_le_bytes());
                Ok(None)
            }
            Kind::Goodbye => {
                self.take_goodbye(header.id);
                Ok(Some(Event::Goodbye { rc: ResultCode::new(header.rc), last_id: header.id }))
            }
            Kind::Cancel => {
                self.take_cancel(header.id);
                Ok(None)
            }
            Kind::Credit => {
                self.take_credit(header, payload)?;
                Ok(None)
            }
            // No token was asked for, or it was proved before.
            Kind::Auth => Ok(None),
            Kind::Pong => Ok(Some(Event::Pong { id: header.id })),
        }
    }
}
