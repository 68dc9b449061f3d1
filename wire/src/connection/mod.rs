//! One connection as a state machine: bytes and the time in, events, bytes and a deadline out.

mod answers;
mod attached;
mod deferring;
mod events;
mod input;
mod leaving;
mod meaning;
mod opening;
mod ordinary;
mod output;
mod parts;
mod pinging;
mod proving;
mod replies;
mod requests;
mod time;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use crate::asked::Asked;
use crate::decoder::Decoder;
use crate::error::ProtocolError;
use crate::flow::Flow;
use crate::hello::{self, Allowance, Hello};
use crate::layout::{Classic, Layout};
use crate::owed::Register;
use crate::parcel::Parcels;
use crate::pinged::Pinged;
use crate::rc::ResultCode;
use crate::settings::{Attachments, Settings};
use crate::subscriptions::Subscriptions;
use crate::task::Task;
use proving::Proving;
use time::Partial;

#[cfg(test)]
pub(crate) use ordinary::without as without_the_short_way;

pub use parts::Parted;
pub use time::Input;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Policy said no: as soon as the layout is known, this is the answer.
    Refusing(ResultCode),
    /// The layout or the hello is still to come.
    Opening,
    /// The initiator's hello asks for this, and has no answer yet.
    Judging {
        task: Task,
        versions: (u8, u8),
    },
    /// The initiator has our hello, and is still to prove that it knows the token.
    Proving,
    Open,
    /// The same, but for this instead of calls.
    Administering(Task),
    /// We have said goodbye: calls that come now are not executed, replies still count.
    Leaving,
    /// Both have. Our last calls are still to be answered, and perhaps the peer's.
    Parting,
    /// The peer has said goodbye. Of what it still sends only words about the answers that it is owed count:
    /// cancels and credit.
    Answering {
        goodbye: bool,
    },
    /// Nothing more is taken. Once the peer's last call is answered we are finishing, after a
    /// goodbye of our own if that is still to be said.
    Concluding {
        goodbye: bool,
    },
    /// Nothing more is taken; what is in the outbox still goes out.
    Finishing,
}

/// Calls that have no final reply yet, and are no matter of this moment; and what else is not over with a frame.
#[derive(Debug, Default)]
struct OpenCalls {
    /// What we asked.
    asked: Asked,
    /// What we owe an answer later.
    owed: Register,
    /// Who is told of what.
    topics: Subscriptions,
    /// Whose signs of life we wait for.
    pinged: Pinged,
    /// What came, or is to leave, with frames. Boxed: few connections carry any.
    parcels: Option<Box<Parcels>>,
    /// Until both sides know that the other one knows the token.
    proving: Option<Box<Proving>>,
}

/// What a peer takes whose hello has not come.
const NOTHING: Allowance =
    Allowance { max_payload: 0, max_in_flight: 0, max_in_flight_bytes: 0, stream_credit: 0 };

/// One connection as a state machine: bytes and the time in, events, bytes and a deadline out. How an owner
/// drives it stands [at the top](crate#with-a-loop-of-your-own).
///
/// What is worth asking, and after what; whoever asks more often wastes only time. After everything,
/// [`next_deadline`](Connection::next_deadline) may be another one.
///
/// | after | ask |
/// |---|---|
/// | [`receive`](Connection::receive) and [`received`](Connection::received) | [`poll_owed`](Connection::poll_owed), [`has_unsent`](Connection::has_unsent), [`has_backlog`](Connection::has_backlog), [`is_finished`](Connection::is_finished) |
/// | [`end_of_input`](Connection::end_of_input), [`goodbye`](Connection::goodbye), [`refuse`](Connection::refuse), [`shed`](Connection::shed) | `poll_owed`, `has_unsent`, `is_finished` |
/// | a reply outside of `receive`, to a [deferred](Connection::defer) call or with a ticket that was kept | `has_unsent`, then `poll_owed` (the peer may have been given up for what it does not read), `has_backlog` (a classic peer's next request may have waited for this) |
/// | [`push_event`](Connection::push_event) | `has_unsent`, then `poll_owed`, `is_finished` (the peer may have been given up for what it does not read) |
/// | [`push_part`](Connection::push_part) | `has_unsent`, then `poll_owed` |
/// | [`mark_sent`](Connection::mark_sent) | `poll_owed` (who [sends parts](Connection::push_part) may go on), `has_unsent`, `has_backlog`, `is_finished` |
/// | the time of [`next_deadline`](Connection::next_deadline) | [`handle_timeout`](Connection::handle_timeout), then `poll_owed`, `has_unsent`, `is_finished` |
#[derive(Debug)]
pub struct Connection {
    flow: Flow,
    decoder: Decoder,
    phase: Phase,
    role: Role,
    /// How both hellos say that frames may take something along.
    attaching: Attachments,
    /// What the peer's hello allows us (v1).
    allowance: Allowance,
    /// Of a frame for which there is no memory only the header is in the stash; so many bytes of its
    /// payload are still to be thrown away.
    lost: Option<NonZeroU32>,
    /// The peer's calls whose replies have not left, and their payload bytes.
    in_flight: u32,
    in_flight_bytes: u32,
    /// The peer's last request that was accepted.
    last_id: u32,
    /// What came last belonged to a large frame, and so may what comes next.
    expects_large: bool,
    /// The id of the pong, as bytes, which need no alignment: idle connections are to be small.
    pong_owed: Option<[u8; 4]>,
    /// Boxed, since most connections of a server have none.
    open_calls: Option<Box<OpenCalls>>,
    /// The frame that is incomplete now; while refusing, what is waited for then.
    /// Boxed: most connections of a server are idle, and have none.
    partial: Option<Box<Partial>>,
}

impl Connection {
    /// The side that was connected to.
    pub fn responder(settings: Arc<Settings>, now: Instant) -> Connection {
        // The classic layout knows no token.
        let classic = if settings.token.is_some() { Classic::Refused } else { settings.classic };
        let decoder = Decoder::responder(classic, settings.web_is_error);
        Connection::new(settings, decoder, Role::Responder, Phase::Opening, now)
    }

    /// The side that waits for a hello where nothing but v1 is spoken, as between a program and its helper.
    pub fn v1_responder(settings: Arc<Settings>, now: Instant) -> Connection {
        Connection::new(settings, Decoder::v1(), Role::Responder, Phase::Opening, now)
    }

    /// The side that connected, with its hello on the way; `nonce` is random.
    pub fn initiator(settings: Arc<Settings>, nonce: [u8; 16], now: Instant) -> Connection {
        let mut connection = Connection::new(settings, Decoder::v1(), Role::Initiator, Phase::Opening, now);
        let settings = &connection.flow.settings;
        let mut ours = Hello::ours(connection.our_allowance(), nonce, settings.app.clone());
        ours.offered = hello::offers(settings.attachments);
        ours.required = settings.asks.map_or(0, Task::bit);
        ours.encode(None, connection.flow.outbox.bytes());
        connection.expect_proof();
        connection.flow.wait_since(now);
        connection
    }

    /// The side that connected and speaks the classic layout.
    pub fn classic_initiator(settings: Arc<Settings>, now: Instant) -> Connection {
        let decoder = Decoder::classic(settings.classic);
        Connection::new(settings, decoder, Role::Initiator, Phase::Open, now)
    }

    fn new(settings: Arc<Settings>, decoder: Decoder, role: Role, phase: Phase, now: Instant) -> Connection {
        Connection {
            flow: Flow::new(settings, now),
            decoder,
            phase,
            role,
            attaching: Attachments::Never,
            allowance: NOTHING,
            lost: None,
            in_flight: 0,
            in_flight_bytes: 0,
            last_id: 0,
            expects_large: false,
            pong_owed: None,
            open_calls: None,
            partial: None,
        }
    }

    /// Bytes of memory held: for what has come, for what is to leave, and for the answers that are owed.
    #[inline]
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.flow.buffered() + self.open_calls.as_ref().map_or(0, |calls| calls.owed.held())
    }

    /// What it has in common with streams without frames.
    #[inline]
    #[must_use]
    pub fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The same, to lend it memory and take it back.
    #[inline]
    pub fn flow_mut(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// The peer's calls that were accepted, and whose final replies have not left.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    /// The layout, once known.
    #[inline]
    pub fn layout(&self) -> Option<Layout> {
        self.decoder.layout()
    }

    /// Whether both hellos were exchanged; still true when the connection is over.
    #[inline]
    pub fn has_opened_v1(&self) -> bool {
        self.layout() == Some(Layout::V1)
    }

    /// Whether all is said: no more is taken, and nothing is left to be sent.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.is_over() && self.flow.outbox.is_empty()
    }

    /// Whether it is open and nothing at all is under way: all that came is handled, all that was said has left,
    /// nobody waits for anything, and no time limit runs. Then all questions of the table above have their answer,
    /// which is no.
    #[inline]
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Open
            && self.open_calls.is_none()
            && self.partial.is_none()
            && self.pong_owed.is_none()
            && self.in_flight == 0
            && self.flow.is_at_rest()
    }

    /// Whether nothing more will be taken from the peer.
    #[inline]
    pub fn is_finishing(&self) -> bool {
        matches!(self.phase, Phase::Concluding { .. }) || self.is_over()
    }

    /// Whether calls may come now. False: they are neither executed nor answered.
    #[inline]
    fn takes_calls(&self) -> Result<bool, ProtocolError> {
        match self.phase {
            Phase::Leaving | Phase::Parting | Phase::Answering { .. } => Ok(false),
            Phase::Administering(task) => Err(ProtocolError::CarriesNoCalls(task)),
            _ => Ok(true),
        }
    }

    /// Whether nothing more is taken, nor waited for.
    #[inline]
    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Finishing
    }

    /// What is counted in two places is the same in both.
    #[inline]
    fn check_accounts(&self) {
        let deferred = self.open_calls.as_ref().map_or(0, |calls| calls.owed.len());
        debug_assert!(
            self.in_flight as usize >= self.flow.outbox.replies() + deferred,
            "what is in flight has a reply that has not left, or is owed one"
        );
        debug_assert!(self.in_flight > 0 || self.in_flight_bytes == 0, "bytes in flight are a call's");
        debug_assert!(!self.is_over() || deferred == 0, "at the end nothing is owed");
        debug_assert!(!self.flow.stash.is_empty() || self.flow.stash.capacity() == 0);
    }

    /// The peer's calls that were accepted and have no reply yet, not even in the outbox.
    #[inline]
    pub(super) fn owed(&self) -> usize {
        self.in_flight as usize - self.flow.outbox.replies()
    }
}
