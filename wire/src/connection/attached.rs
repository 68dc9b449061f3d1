//! Frames with which something goes that is no bytes.

use std::cell::Cell;

use super::{Connection, Phase};
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, ATTACHED_BLOCK, Announced, Header, Kind, flags};
use crate::memory::NoMemory;
use crate::parcel::{Arrived, Parcel, Parcels};
use crate::recipient::{Each, Recipient};

/// Taking them.
impl Connection {
    /// Whether both hellos say that frames may carry something.
    #[inline]
    #[must_use]
    pub fn attaches(&self) -> bool {
        self.attaches
    }

    /// [`receive`](Connection::receive) on a connection that [offers attachments](crate::Settings), with what came along
    /// with these bytes. Whoever reads there reads so, with the hello as well: the responder may attach something to
    /// what it sends right behind its own.
    pub fn receive_attached(
        &mut self,
        fresh: &[u8],
        arrived: Arrived,
        budget: &Cell<usize>,
        each: &mut impl FnMut(&mut Connection, Event<'_>),
    ) {
        self.receive_attached_for(fresh, arrived, budget, &mut Each(each));
    }

    /// The same for somebody who gets requests in another way than the rest.
    pub fn receive_attached_for(
        &mut self,
        fresh: &[u8],
        arrived: Arrived,
        budget: &Cell<usize>,
        each: &mut impl Recipient,
    ) {
        match arrived {
            Arrived::Nothing => {}
            Arrived::Cut => self.fail(ProtocolError::BadAttachments(CUT).into()),
            Arrived::Parcel(parcel) => self.arrive(parcel),
        }
        self.receive_for(fresh, budget, each);
        self.check_unclaimed();
    }

    fn arrive(&mut self, parcel: Parcel) {
        let most = self.flow.settings.limits.max_attachments;
        if !self.parcels_for_more().arrive(parcel, most) {
            let error = ProtocolError::TooManyInFlight { what: "attachments", limit: most };
            self.fail(error.into());
        }
    }

    /// What comes with the first byte of a frame is claimed by it, and so can wait for the rest of one frame only.
    fn check_unclaimed(&mut self) {
        let unclaimed = self.parcels().map_or(0, Parcels::unclaimed);
        if unclaimed == 0 {
            return;
        }
        if self.is_finishing() {
            return self.drop_unclaimed();
        }
        let is_opening = matches!(
            self.phase,
            Phase::Opening | Phase::Refusing(_) | Phase::Judging { .. } | Phase::Proving
        );
        let may_wait = usize::from(self.attaches && !is_opening && !self.flow.stash.is_empty());
        if unclaimed > may_wait && !self.has_backlog() {
            self.drop_unclaimed();
            self.fail(ProtocolError::BadAttachments(UNCLAIMED).into());
        }
    }

    pub(super) fn drop_unclaimed(&mut self) {
        if let Some(parcels) = self.parcels_mut() {
            parcels.drop_unclaimed();
        }
    }

    /// A frame with an extension block, where one may announce attachments.
    #[cold]
    pub(super) fn take_extended<'b>(
        &mut self,
        header: Header,
        payload: &'b [u8],
    ) -> Result<Option<Event<'b>>, ProtocolError> {
        let (count, header, payload) = match frame::announced(payload) {
            Announced::Nothing => return self.take_plain(header, payload),
            Announced::Wrong => return Err(ProtocolError::BadAttachments(WRONG)),
            Announced::Among(count) => (count, header, payload),
            Announced::Alone(count, proper) => {
                (count, Header { flags: header.flags & !flags::EXT, ..header }, proper)
            }
        };
        let claimed = self.parcels_mut().and_then(Parcels::claim);
        let Some(parcel) = claimed.filter(|parcel| parcel.count() == count) else {
            return Err(ProtocolError::BadAttachments(MISCOUNTED));
        };
        let then = self.take_plain(header, payload)?;
        Ok(Some(Event::Attached { parcel, then: then.map(Box::new) }))
    }
}

/// Sending them.
impl Connection {
    /// Whether so many things may go with the next frame: the peer takes them, and not too many wait to leave.
    #[must_use]
    pub fn may_attach(&self, count: usize) -> bool {
        self.attaches
            && (1..=crate::MAX_ATTACHED).contains(&count)
            && self.parcels().is_none_or(|parcels| parcels.has_room(count))
    }

    /// The same as [`push_request`](Connection::push_request), with something that goes with it. The caller has also
    /// asked [`may_attach`](Connection::may_attach), and counted [`ATTACHED_COST`](crate::ATTACHED_COST) bytes more of
    /// payload.
    pub fn push_request_attached(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        parcel: Parcel,
    ) -> Result<u32, NoMemory> {
        self.flow.outbox.reserve(frame::HEADER_LEN + ATTACHED_BLOCK + payload.len())?;
        let cost = (payload.len() + ATTACHED_BLOCK) as u32;
        let id = self.open_calls.get_or_insert_default().asked.begin(i32::from(msg_type), cost);
        self.push_attached(Kind::Request, msg_type, id, timeout_ms, payload, parcel);
        Ok(id)
    }

    /// The same as [`push_notify`](Connection::push_notify), on the same conditions.
    pub fn push_notify_attached(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        parcel: Parcel,
    ) -> Result<(), NoMemory> {
        self.flow.outbox.reserve(frame::HEADER_LEN + ATTACHED_BLOCK + payload.len())?;
        self.push_attached(Kind::Notify, msg_type, 0, 0, payload, parcel);
        Ok(())
    }

    fn push_attached(&mut self, kind: Kind, msg_type: u16, id: u32, rc: i32, payload: &[u8], parcel: Parcel) {
        let length = (payload.len() + ATTACHED_BLOCK) as u32;
        let header = Header { length, kind: kind as u8, flags: flags::EXT, msg_type, id, rc };
        let bytes = self.flow.outbox.bytes();
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&frame::announce(parcel.count()));
        bytes.extend_from_slice(payload);
        self.attach(frame::HEADER_LEN + length as usize, parcel);
    }

    /// Has this go with the last frame in the outbox, which has so many bytes and
    /// [announces it](crate::ReplyWriter::complete_attached).
    pub fn attach(&mut self, frame_len: usize, parcel: Parcel) {
        let at = self.flow.outbox.len().saturating_sub(frame_len);
        self.parcels_for_more().send(at, parcel);
    }

    /// What goes with the first byte that is [`unsent`](Connection::unsent). Ask before each write on a connection that
    /// [attaches](Connection::attaches).
    #[inline]
    #[must_use]
    pub fn next_parcel(&self) -> Option<&Parcel> {
        self.parcels()?.next()
    }

    /// What is [`unsent`](Connection::unsent) and can leave without anything that goes with it.
    pub(crate) fn unaccompanied(&mut self) -> &[u8] {
        match self.next_parcel() {
            None => self.unsent(),
            Some(_) => &[],
        }
    }

    #[inline]
    pub(super) fn parcels(&self) -> Option<&Parcels> {
        self.open_calls.as_ref()?.parcels.as_deref()
    }

    pub(super) fn parcels_mut(&mut self) -> Option<&mut Parcels> {
        self.open_calls.as_mut()?.parcels.as_deref_mut()
    }

    fn parcels_for_more(&mut self) -> &mut Parcels {
        self.open_calls.get_or_insert_default().parcels.get_or_insert_default()
    }
}

const CUT: &str = "more came than can be taken";
const UNCLAIMED: &str = "no frame announces those that came";
const WRONG: &str = "a frame announces none, or more than 16";
const MISCOUNTED: &str = "a frame announces others than came with it";
