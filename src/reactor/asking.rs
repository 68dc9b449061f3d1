//! Who asks, and whither an answer goes that comes later.

use std::sync::Arc;

use super::deferred::{Call, Caller};
use super::link::PeerName;
use super::mailbox::{Mailbox, Unposted};
use super::site::Site;
use crate::counters::Limit;
use sidewire_wire::{Connection, ConnectionLimits, MAX_ATTACHED};

/// Whither an answer goes that comes later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReturnAddress<'a> {
    pub(super) mailbox: &'a Arc<Mailbox>,
    pub(super) caller: Caller,
    /// What bounds a part of the answer; `None`: it can't have any.
    pub(super) parts: Option<&'a ConnectionLimits>,
    pub(super) attaching: Attaching,
    /// `None` in tests of single rooms.
    pub(super) asker: Option<Asker<'a>>,
}

/// Who asks, and by what rules he is here: whoever refuses him something tells of him.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(super) site: &'a Site,
    pub(super) peer: PeerName<'a>,
}

impl Asker<'_> {
    /// One more request is not deferred.
    #[cold]
    fn refuse_to_defer(self, limit: Limit, held: usize) {
        let Asker { site, peer } = self;
        match limit {
            Limit::Unwanted => site.at_limit(
                limit,
                format_args!(
                    "nothing more is deferred for {peer}: what nobody waits for, and is still worked on, holds {held} bytes"
                ),
            ),
            _ => site.at_limit(limit, format_args!("nothing more is deferred for {peer}: there is no memory")),
        }
    }

    /// So many can't go to him now.
    #[cold]
    pub(super) fn refuse_attachments(self, count: usize) {
        let Asker { site, peer } = self;
        let what = format_args!("{count} attachments do not go to {peer}, too many wait already");
        site.at_limit(Limit::AttachmentsLeaving, what);
    }
}

/// Whether something that is no bytes may go with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attaching {
    /// It was not agreed on.
    Never,
    /// Too many wait to leave to this peer already.
    NotNow,
    Fine,
}

impl Attaching {
    #[inline(always)]
    pub(super) fn to(connection: &Connection) -> Attaching {
        if connection.attaches() { Attaching::as_agreed(connection) } else { Attaching::Never }
    }

    /// As many as there may be with one answer.
    #[cold]
    fn as_agreed(connection: &Connection) -> Attaching {
        match connection.may_attach(MAX_ATTACHED) {
            true => Attaching::Fine,
            false => Attaching::NotNow,
        }
    }
}

impl<'a> ReturnAddress<'a> {
    /// Of what wants no answer.
    pub(crate) fn nobody(mailbox: &'a Arc<Mailbox>, payload: &[u8]) -> ReturnAddress<'a> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let (caller, attaching) = (Caller::Nobody(length), Attaching::Never);
        ReturnAddress { mailbox, caller, parts: None, attaching, asker: None }
    }

    /// The same, to somebody in particular.
    pub(super) fn asked_by(self, asker: Asker<'a>) -> ReturnAddress<'a> {
        ReturnAddress { asker: Some(asker), ..self }
    }

    /// Whether something may go with the answer.
    pub(crate) fn attaching(&self) -> Attaching {
        self.attaching
    }

    /// Tells all who have subscribed to a topic.
    pub(crate) fn publish(&self, topic: u16, payload: &[u8]) -> Result<(), Unposted> {
        self.mailbox.publish(topic, payload)
    }

    /// Most bytes of a part of the answer, of which the caller takes `room`; `None`: it can't have parts.
    pub(crate) fn part_limit(&self, room: usize) -> Option<usize> {
        Some(room.min(self.parts?.part_limit()))
    }

    /// Something can't go with the answer now.
    #[cold]
    pub(crate) fn refuse_attachment(&self) {
        if let Some(asker) = self.asker {
            asker.refuse_attachments(1);
        }
    }

    /// Begins a call that is answered later: see [`Call::begin`].
    pub(crate) fn begin_call(&self) -> Result<Arc<Call>, Limit> {
        let begun = Call::begin(self.mailbox, self.caller, self.attaching != Attaching::Never);
        begun.inspect_err(|limit| {
            if let Some(asker) = self.asker {
                asker.refuse_to_defer(*limit, self.mailbox.heap(self.caller).held());
            }
        })
    }
}
