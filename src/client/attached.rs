//! What requests and replies carry besides bytes.

use std::io;
use std::time::{Duration, Instant};

use sidewire_platform::{Attachment, Carried, Endpoint};

use super::Response;
use super::journal::Asked;
use super::leader::{Guard, INBOX, SharedConnection, State, Waiting, whole_millis};
use super::medium::{Blocking, Medium, at_once};
use crate::attached;
use crate::error::{Error, Kind, Result};
use crate::sync::now;
use sidewire_wire::caller::{Purpose, Seat};
use sidewire_wire::frame::timeout_ms;
use sidewire_wire::{Arrived, Attachments, MAX_ATTACHED, Parcel};

/// These, to go with a request.
pub(super) fn parcel(
    attachments: impl IntoIterator<Item = Attachment>,
    endpoint: &Endpoint,
) -> Result<Parcel> {
    attached::parcel(attachments.into_iter().collect()).map_err(|error| {
        Error::new("attach to a request for", endpoint, Kind::InvalidInput(error.to_string())).not_executed()
    })
}

impl SharedConnection {
    /// As [`exchange`](SharedConnection::exchange), with something that goes with the request.
    pub(super) fn exchange_attached(
        &self,
        (msg_type, payload): (u16, &[u8]),
        parcel: &Parcel,
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let purpose = Purpose::Call(payload.len() + parcel.cost());
        let mut state = self.wait_for_leave(self.lock(), "call", purpose, deadline)?;
        self.check_attaches(&state, "call", parcel)?;
        let with = (parcel.clone(), Waiting::here());
        let begun = state.caller.begin_attached(msg_type, payload, timeout_ms(timeout), deadline, with);
        let id = self.begun("call", begun)?;
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        let (state, outcome) = self.wait(state, Seat::Call(id), deadline);
        let result = self.result(&state, outcome);
        drop(state);
        asked.end(self.endpoint(), &result);
        result
    }

    /// As [`notify`](SharedConnection::notify), with something that goes with it.
    pub(super) fn notify_attached(
        &self,
        (msg_type, payload): (u16, &[u8]),
        parcel: &Parcel,
        deadline: Option<Instant>,
    ) -> Result<()> {
        let state = self.lock();
        self.check_notifies(&state)?;
        let purpose = Purpose::Notify(payload.len() + parcel.cost());
        let mut state = self.wait_for_leave(state, "notify", purpose, deadline)?;
        self.check_attaches(&state, "notify", parcel)?;
        let pushed = state.caller.notify_attached(msg_type, payload, parcel.clone());
        self.begun("notify", pushed)?;
        log::debug!("{}: notify type {msg_type}, {} bytes", self.endpoint(), payload.len());
        let state = self.flush(state, None, deadline);
        self.check_sent(&state, "notify")?;
        drop(state);
        if attached::HOW == Attachments::Named {
            // Whoever closes the client now, or ends, would take them away from a server that has not got that far. What
            // becomes of this says nothing of the notify, which has left.
            let _ = at_once(self.ping(deadline));
        }
        Ok(())
    }

    fn check_attaches(&self, state: &State, operation: &'static str, parcel: &Parcel) -> Result<()> {
        let count = usize::from(parcel.count());
        let text = match () {
            () if count == 0 || count > MAX_ATTACHED => "1 to 16 attachments go with a request",
            () if !state.caller.attaches() => NOT_AGREED,
            () if !state.caller.may_attach(count) => "too many attachments wait to be sent, or to be taken",
            () => return Ok(()),
        };
        Err(Error::new(operation, self.endpoint(), Kind::InvalidInput(text.into())).not_executed())
    }
}

const NOT_AGREED: &str = match attached::HOW {
    Attachments::Named => {
        "attachments go with requests if both Connect::attachments and Listen::attachments say so, and both \
         processes are one user's and have the same integrity level"
    }
    _ => "attachments go with requests if both Connect::attachments and Listen::attachments say so",
};

impl<M: Blocking> SharedConnection<M> {
    /// As [`read`](SharedConnection::read) does, with what comes along with the bytes.
    #[cold]
    pub(super) fn read_attached<'a>(
        &'a self,
        mut state: Guard<'a>,
        seat: Option<Seat>,
        until: Option<Instant>,
        asked: Option<Instant>,
    ) -> (Guard<'a>, bool) {
        // Large frames come into the buffer of all others.
        let _ = state.caller.begin_read(usize::MAX);
        let mut inbox = std::mem::take(&mut state.inbox);
        drop(state);
        let asked = asked.unwrap_or_else(now);
        let timeout = until.map(|until| whole_millis(until.saturating_duration_since(asked)));
        inbox.resize(INBOX, 0);
        let (result, carried) = match self.channel().recv_attached(&mut inbox, timeout) {
            Ok((count, carried)) => (Ok(count), carried),
            Err(error) => (Err(error), Carried::Nothing),
        };
        let mut state = self.lock();
        let length = result.as_ref().map_or(0, |count| *count);
        // A short read does not say that this is all: it ends where something is attached, before it or behind it.
        let has_come = self.take_in(&mut state, result, (&inbox[..length], length), |caller, came, now| {
            match carried {
                Carried::Nothing => {}
                Carried::These(these) => caller.arrived(Arrived::Parcel(attached::came(these))),
                Carried::Cut => caller.arrived(Arrived::Cut),
            }
            caller.end_read(seat, came, asked, now);
        });
        state.inbox = inbox;
        (self.tell_news(state), has_come)
    }
}

/// Sends what the channel takes at once.
#[cold]
pub(super) fn send_now<M: Medium>(channel: &M, bytes: &[u8], parcel: &Parcel) -> io::Result<usize> {
    looked(parcel.look(|these: &Vec<_>| channel.send_attached_now(bytes, these)))
}

/// Sends, and waits for room.
#[inline]
pub(super) fn send<M: Blocking>(
    channel: &M,
    bytes: &[u8],
    parcel: Option<&Parcel>,
    patience: Duration,
) -> io::Result<usize> {
    match parcel {
        None => channel.send(bytes, patience),
        Some(parcel) => looked(parcel.look(|these: &Vec<_>| channel.send_attached(bytes, these, patience))),
    }
}

fn looked(sent: Option<io::Result<usize>>) -> io::Result<usize> {
    sent.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::NotFound, "the attachments are gone")))
}
