//! What units mean, and what a side that can't serve them answers.

use super::{Connection, Phase, Role};
use crate::decoder::Unit;
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{Extension, Header, Kind, flags, split_extension};
use crate::hello::{Allowance, Hello};
use crate::layout::Layout;
use crate::limits::ConnectionLimits;
use crate::rc::ResultCode;
use crate::reply::Ticket;
use crate::{classic, hello};

impl Connection {
    pub(super) fn interpret<'b>(&mut self, unit: Unit<'b>) -> Option<Event<'b>> {
        let result = match unit {
            Unit::Hello(bytes) if self.role == Role::Responder => self.take_hello(bytes),
            Unit::Hello(bytes) => self.take_answer(bytes),
            Unit::Classic(header, payload) => self.take_classic(header, payload),
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
        match Kind::from_byte(header.kind) {
            Some(Kind::Request | Kind::Subscribe | Kind::Unsubscribe) => {
                let ticket = self.accept_call(&header)?;
                Ok(ticket.and_then(|ticket| self.answer_lost(ticket)))
            }
            Some(Kind::Reply) => {
                let header = Header { flags: header.flags & !flags::EXT, ..header };
                let reply = self.take_reply(header, &[])?;
                Ok(reply.map(|_| Event::LostReply { id: header.id }))
            }
            Some(Kind::Notify) => Ok(None),
            _ => self.take_v1(header, &[]),
        }
    }

    fn answer_lost(&mut self, ticket: Ticket) -> Option<Event<'static>> {
        self.begin_reply(ticket).fail(ResultCode::BUSY, "there is no memory for so large a request now");
        None
    }

    fn take_hello(&mut self, bytes: &[u8]) -> Result<Option<Event<'static>>, ProtocolError> {
        let theirs = Hello::decode(bytes)?;
        theirs.check_demands()?;
        let version = hello::common_version(theirs.versions).unwrap_or(hello::VERSIONS.1);
        self.push_answer(ResultCode::OK, version, String::new());
        self.open(theirs.allowance);
        Ok(Some(Event::Greeted(theirs.into())))
    }

    fn take_answer(&mut self, bytes: &[u8]) -> Result<Option<Event<'static>>, ProtocolError> {
        let (theirs, answer) = Hello::decode_answer(bytes)?;
        match answer.status {
            ResultCode::OK if (hello::VERSIONS.0..=hello::VERSIONS.1).contains(&answer.version) => {
                self.open(theirs.allowance);
                theirs.check_demands()?;
                Ok(Some(Event::Opened(theirs.into())))
            }
            ResultCode::OK => Err(ProtocolError::BadHello("it chooses a version that was not offered")),
            ResultCode::NO_COMMON_VERSION => {
                Err(ProtocolError::NoCommonVersion { ours: hello::VERSIONS, theirs: theirs.versions })
            }
            rc => Err(ProtocolError::Refused { rc, text: answer.text }),
        }
    }

    fn open(&mut self, allowance: Allowance) {
        self.allowance = allowance;
        self.decoder.expect_v1(self.settings.limits.max_payload);
        if self.phase == Phase::Opening {
            self.phase = Phase::Open;
        }
    }

    fn take_classic<'b>(
        &mut self,
        header: classic::Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        match self.role {
            Role::Responder => {
                if self.phase == Phase::Opening {
                    self.phase = Phase::Open;
                }
                self.in_flight += 1;
                let ticket = Ticket { id: 0, msg_type: header.msg_type, cost: 0, layout: Layout::Classic };
                Ok(Some(Event::Request { ticket, payload }))
            }
            Role::Initiator => {
                let id = self.calls.get_or_insert_default().finish_next(header.msg_type)?;
                Ok(id.map(|id| Event::Reply { id, rc: ResultCode::new(header.rc), is_text: false, payload }))
            }
        }
    }

    fn take_v1<'b>(&mut self, header: Header, payload: &'b [u8]) -> Result<Option<Event<'b>>, ProtocolError> {
        let Some(kind) = Kind::from_byte(header.kind) else { return Ok(None) };
        match kind {
            Kind::Request | Kind::Subscribe | Kind::Unsubscribe => self.take_request(kind, header, payload),
            Kind::Notify => Ok(self.take_notify(header, payload)),
            Kind::Reply => self.take_reply(header, payload),
            Kind::Ping => {
                self.pong_owed = Some(header.id);
                Ok(None)
            }
            Kind::Goodbye => {
                self.take_goodbye();
                Ok(Some(Event::Goodbye { rc: ResultCode::new(header.rc), last_id: header.id }))
            }
            // Nobody subscribed, no call can be cancelled or streams, no token was asked for.
            Kind::Event | Kind::Cancel | Kind::Credit | Kind::Pong | Kind::Auth => Ok(None),
        }
    }

    /// A notify that could not be executed as it is meant has nobody to be told.
    fn take_notify<'b>(&self, header: Header, payload: &'b [u8]) -> Option<Event<'b>> {
        if self.phase == Phase::Leaving || header.flags & !flags::EXT != 0 {
            return None;
        }
        match split_extension(header.flags, payload) {
            Extension::Fine(payload) => Some(Event::Notify { msg_type: header.msg_type, payload }),
            Extension::NotUnderstood(_) | Extension::Malformed => None,
        }
    }

    /// The peer asks no more, but answers what it has accepted of ours, perhaps behind this.
    fn take_goodbye(&mut self) {
        if self.calls.as_ref().is_some_and(|calls| calls.len() > 0) {
            self.goodbye(ResultCode::OK);
        } else {
            self.conclude(self.phase == Phase::Open);
        }
    }

    fn take_request<'b>(
        &mut self,
        kind: Kind,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Some(ticket) = self.accept_call(&header)? else { return Ok(None) };
        if kind != Kind::Request {
            self.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "this server has no events");
        } else if self.role == Role::Initiator {
            self.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "this client serves no requests");
        } else if header.rc < 0 {
            self.begin_reply(ticket).fail(ResultCode::MALFORMED, "the timeout is negative");
        } else if header.flags & flags::TEXT != 0 {
            self.begin_reply(ticket).fail(ResultCode::MALFORMED, "a request can't carry the flag TEXT");
        } else if header.flags & flags::MORE != 0 {
            self.begin_reply(ticket).fail(ResultCode::NO_HANDLER, "requests in parts are not served");
        } else {
            return Ok(self.take_extension(ticket, header.flags, payload));
        }
        Ok(None)
    }

    /// Counts a call of the peer, which is to be answered. `None`: it comes behind our goodbye.
    fn accept_call(&mut self, header: &Header) -> Result<Option<Ticket>, ProtocolError> {
        if self.phase == Phase::Leaving {
            return Ok(None);
        }
        // Half the number space counts as "behind", so that ids may wrap; any may be the first.
        let step = header.id.wrapping_sub(self.last_id);
        if header.id == 0 || step == 0 || (self.last_id != 0 && step > u32::MAX / 2) {
            return Err(ProtocolError::BadId { id: header.id, last: self.last_id });
        }
        let ConnectionLimits { max_in_flight, max_in_flight_bytes, .. } = self.settings.limits;
        if self.in_flight >= max_in_flight {
            return Err(ProtocolError::TooManyInFlight { what: "calls", limit: max_in_flight });
        }
        if header.length > max_in_flight_bytes - self.in_flight_bytes {
            return Err(ProtocolError::TooManyInFlight { what: "bytes", limit: max_in_flight_bytes });
        }
        self.in_flight += 1;
        self.in_flight_bytes += header.length;
        self.last_id = header.id;
        Ok(Some(Ticket {
            id: header.id,
            msg_type: i32::from(header.msg_type),
            cost: header.length,
            layout: Layout::V1,
        }))
    }

    fn take_extension<'b>(&mut self, ticket: Ticket, flags: u8, payload: &'b [u8]) -> Option<Event<'b>> {
        match split_extension(flags, payload) {
            Extension::Fine(payload) => return Some(Event::Request { ticket, payload }),
            Extension::Malformed => {
                self.begin_reply(ticket).fail(ResultCode::MALFORMED, "the extension block is malformed");
            }
            Extension::NotUnderstood(tag) => {
                let text = format!("extension {tag:#06x} is not known here");
                self.begin_reply(ticket).fail(ResultCode::FEATURE_MISSING, &text);
            }
        }
        None
    }

    fn take_reply<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let Extension::Fine(payload) = split_extension(header.flags, payload) else {
            return Err(ProtocolError::BadExtension);
        };
        let Some(calls) = &mut self.calls else { return Err(ProtocolError::UnknownReply(header.id)) };
        if header.flags & flags::MORE != 0 {
            return Err(ProtocolError::UnaskedPart(header.id));
        }
        let waited_for = calls.finish(header.id, i32::from(header.msg_type))?;
        let is_text = header.flags & flags::TEXT != 0;
        let reply = Event::Reply { id: header.id, rc: ResultCode::new(header.rc), is_text, payload };
        Ok(waited_for.then_some(reply))
    }
}
