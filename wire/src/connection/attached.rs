//! Frames with which something goes that is no bytes.

use std::cell::Cell;

use super::{Connection, Phase};
use crate::error::ProtocolError;
use crate::event::Event;
use crate::frame::{self, Announced, Header, Kind, TAKEN, flags};
use crate::hello::Hello;
use crate::memory::NoMemory;
use crate::parcel::{Arrived, Fetch, Parcel, Parcels};
use crate::recipient::{Each, Recipient};
use crate::settings::Attachments;

/// Agreeing on them.
impl Connection {
    /// Whether both hellos say that frames may take something along.
    #[inline]
    #[must_use]
    pub fn attaches(&self) -> bool {
        self.attaching != Attachments::Never
    }

    /// Whether it may come and go beside the bytes, so that it is to be looked for with each read and write.
    #[inline]
    #[must_use]
    pub fn is_accompanied(&self) -> bool {
        self.attaching == Attachments::Carried
    }

    /// Where frames [name](Attachments::Named) what goes with them: who fetches it. Before the peer's hello, which is then
    /// told that we can; an initiator, which says so with its first bytes, has this at once.
    pub fn fetch_with(&mut self, source: Box<dyn Fetch>) {
        self.parcels_for_more().fetch_with(source);
    }

    /// What our hello offers.
    pub(super) fn attachments(&self) -> Attachments {
        match self.flow.settings.attachments {
            Attachments::Named if !self.parcels().is_some_and(Parcels::can_fetch) => Attachments::Never,
            how => how,
        }
    }

    pub(super) fn agree_on_attachments(&mut self, theirs: &Hello) {
        let ours = self.attachments();
        self.attaching = if theirs.offers(ours) { ours } else { Attachments::Never };
    }
}

/// Taking them.
impl Connection {
    /// [`receive`](Connection::receive) on a connection that offers to have them
    /// [carried](Attachments::Carried), with what came along
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
        let may_wait = usize::from(self.is_accompanied() && !is_opening && !self.flow.stash.is_empty());
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
        let plain = Header { flags: header.flags & !flags::EXT, ..header };
        let (said, is_understood, header, payload) = match frame::announced(payload, self.attaching) {
            Announced::Nothing => return self.take_plain(header, payload),
            Announced::Wrong => return Err(ProtocolError::BadAttachments(TWICE)),
            Announced::Among(said) => (said, false, header, payload),
            Announced::Alone(said, proper) => (said, true, plain, proper),
        };
        let parcel = match self.attaching {
            Attachments::Named => self.fetch(said, is_understood)?,
            _ => Some(self.claim(said)?),
        };
        let then = self.take_plain(header, payload)?;
        match parcel {
            Some(parcel) => Ok(Some(Event::Attached { parcel, then: then.map(Box::new) })),
            None => Ok(then),
        }
    }

    fn claim(&mut self, said: &[u8]) -> Result<Parcel, ProtocolError> {
        let count = frame::count(said).ok_or(ProtocolError::BadAttachments(WRONG))?;
        let claimed = self.parcels_mut().and_then(Parcels::claim);
        let claimed = claimed.filter(|parcel| parcel.count() == count);
        claimed.ok_or(ProtocolError::BadAttachments(MISCOUNTED))
    }

    /// Fetches what a frame names, unless nobody would take it, and says that it was done: so the sender keeps it for no
    /// longer than it takes to get there.
    fn fetch(&mut self, said: &[u8], is_wanted: bool) -> Result<Option<Parcel>, ProtocolError> {
        let names = frame::names(said).ok_or(ProtocolError::BadAttachments(MISNAMED))?;
        let most = self.flow.settings.limits.max_attachments;
        let parcels = self.parcels_for_more();
        if is_wanted && parcels.held() as usize + names.len() > most as usize {
            return Err(ProtocolError::TooManyInFlight { what: "attachments", limit: most });
        }
        let parcel = match is_wanted {
            true => Some(parcels.fetch(&names).ok_or(ProtocolError::BadAttachments(UNFETCHED))?),
            false => None,
        };
        let handled = parcels.count_fetched();
        self.push_word(TAKEN, handled)?;
        Ok(parcel)
    }

    /// A frame of a kind that may be skipped.
    #[cold]
    pub(super) fn take_skippable(&mut self, header: Header) -> Result<(), ProtocolError> {
        let is_for_us = header.kind == TAKEN && self.attaching == Attachments::Named;
        let is_fine = !is_for_us || self.parcels_for_more().were_taken(header.id);
        if is_fine { Ok(()) } else { Err(NEVER_SENT) }
    }
}

/// Counting them.
impl Connection {
    /// How many are under way: that came and that nobody has taken yet, and that wait to leave or to be fetched.
    #[must_use]
    pub fn attachments_under_way(&self) -> usize {
        self.parcels().map_or(0, |parcels| parcels.held() as usize + parcels.waiting())
    }

    /// From now on so many more may wait to leave or to be fetched, and never more than
    /// [`MAX_ATTACHED_LEAVING`](crate::MAX_ATTACHED_LEAVING): see [`may_attach`](Connection::may_attach). What
    /// others have under way may leave no room for more.
    pub fn leave_room_for_attachments(&mut self, more: usize) {
        self.parcels_for_more().leave_room(more);
    }
}

/// Sending them.
impl Connection {
    /// Whether so many things may go with the next frame: the peer takes them, and not too many wait to leave, or to be
    /// fetched.
    #[must_use]
    pub fn may_attach(&self, count: usize) -> bool {
        self.attaches()
            && (1..=crate::MAX_ATTACHED).contains(&count)
            && self.parcels().is_none_or(|parcels| parcels.has_room(count))
    }

    /// The same as [`push_request`](Connection::push_request), with something that goes with it. The caller has also
    /// asked [`may_attach`](Connection::may_attach), and counted [what it costs](Parcel::cost) as payload.
    pub fn push_request_attached(
        &mut self,
        msg_type: u16,
        payload: &[u8],
        timeout_ms: i32,
        parcel: Parcel,
    ) -> Result<u32, NoMemory> {
        self.flow.outbox.reserve(frame::HEADER_LEN + parcel.cost() + payload.len())?;
        let cost = (payload.len() + parcel.cost()) as u32;
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
        self.flow.outbox.reserve(frame::HEADER_LEN + parcel.cost() + payload.len())?;
        self.push_attached(Kind::Notify, msg_type, 0, 0, payload, parcel);
        Ok(())
    }

    fn push_attached(&mut self, kind: Kind, msg_type: u16, id: u32, rc: i32, payload: &[u8], parcel: Parcel) {
        let length = (payload.len() + parcel.cost()) as u32;
        let header = Header { length, kind: kind as u8, flags: flags::EXT, msg_type, id, rc };
        let bytes = self.flow.outbox.bytes();
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&frame::announce(&parcel));
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

    /// The peer will fetch nothing any more.
    pub(crate) fn let_go(&mut self) {
        if let Some(parcels) = self.parcels_mut() {
            parcels.let_go();
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
const TWICE: &str = "a frame announces them twice";
const WRONG: &str = "a frame announces none, or more than 16";
const MISCOUNTED: &str = "a frame announces others than came with it";
const MISNAMED: &str = "a frame names none, more than 16, or what can be no handle";
const UNFETCHED: &str = "what a frame names can't be fetched";
pub(super) const NEVER_SENT: ProtocolError = ProtocolError::BadAttachments("more were taken than were sent");
