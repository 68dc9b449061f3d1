//! A client in a loop that is not its own.

use std::time::Duration;

use sidewire_platform::PollDescriptor;

use super::leader::{SharedConnection, Waiting};
use super::line::{Line, nothing_comes};
use super::{Client, Link};
use crate::error::{Error, Kind, Result};
use crate::sync::now;

const TURN: &str = "take a turn of";
const DESCRIPTOR: &str = "get a descriptor of";

/// In a loop of the program's own.
///
/// Where other loops can watch a descriptor, as on Unix, a client that is to hear what comes needs no thread: they wait until
/// its [`poll_descriptor`](Client::poll_descriptor) is readable, or for as long as
/// [`next_timeout`](Client::next_timeout) says, and then have it [`turn`](Client::turn), which never waits. Behind each turn
/// the program looks at what it expects: [`Pending::poll`](super::Pending::poll),
/// [`Events::next_timeout`](super::Events::next_timeout) with no time, until there is nothing more. Whatever looks or waits on
/// this connection reads for all, and then the next turn is due at once, as behind what was [begun](super::RequestBuilder::start), which
/// leaves with it. So no other thread does that meanwhile: the
/// loop would not hear of what that has read.
///
/// What begins a call waits for room if much is under way already ([`start`](super::RequestBuilder::start) says when), and a
/// request with its reply, or a subscription, for the server.
///
/// Not for a client that [connects anew](super::Connect::reconnect), which has one connection after the other and waits for
/// them, nor for that of a [helper](crate::Helper): all this is [`is_invalid_input`](Error::is_invalid_input) there, and
/// over datagrams.
impl Client {
    /// Takes in what has come, [handles](super::Connect::on) what the server asks, and sends what waits to be sent; waits for none of
    /// it, but for handlers. Where much has come one turn does not take all of it: the descriptor stays readable. Returns
    /// `false` when the server has said goodbye and all is over, or somebody has [closed](Client::close) this.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sidewire::Client;
    ///
    /// # fn look(client: &Client) -> Result<(), sidewire::Error> {
    /// # #[cfg(unix)]
    /// # {
    /// let mut news = client.subscribe(3)?;
    /// let descriptor = client.poll_descriptor()?;
    /// while client.turn()? {
    ///     while let Some(event) = news.next_timeout(Duration::ZERO)? {
    ///         println!("{} bytes", event.payload().len());
    ///     }
    ///     // For room as well, if client.has_unsent() says so.
    ///     wait_until_readable(&descriptor, client.next_timeout());
    /// }
    /// # }
    /// # Ok(())
    /// # }
    /// # #[cfg(unix)]
    /// # fn wait_until_readable(_: &impl std::os::fd::AsFd, _: Option<Duration>) {}
    /// ```
    ///
    /// # Errors
    /// Any other end: [`is_peer_gone`](Error::is_peer_gone), [`is_protocol`](Error::is_protocol),
    /// [`is_timeout`](Error::is_timeout).
    pub fn turn(&self) -> Result<bool> {
        self.only(TURN)?.turn()
    }

    /// After how long the next [`turn`](Client::turn) is due, even if the [descriptor](Client::poll_descriptor) tells
    /// nothing before: at once, if something was read or begun since the last one. `None`: nothing is due. Time limits of calls are not
    /// counted in: those are told when the calls are looked at. Ask before each wait, behind all that looks or begins something.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.only(TURN).ok()?.next_turn()
    }

    /// Whether something waits to be sent, since the system has not taken it yet, or nobody has turned since it was begun. Whoever
    /// watches the descriptor then does so for room as well (POLLOUT), and has the client [`turn`](Client::turn).
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.only(TURN).is_ok_and(SharedConnection::has_unsent)
    }

    /// What other loops watch: readable (level-triggered) when there is something for a [`turn`](Client::turn) to take in,
    /// or the connection has ended. It is a descriptor of its own, so it may be kept anywhere; nothing but watching it is of
    /// use. Take it out of the loop, and drop it, before the client is dropped: the connection is open as long as it is, unless
    /// that was [closed](Client::close).
    ///
    /// # Errors
    /// If the system has no descriptors left; [`is_unsupported`](Error::is_unsupported) where there is no such thing.
    ///
    /// # Platform-specific behavior
    /// Unix: the descriptor implements `AsFd` and `AsRawFd`, and becomes an `OwnedFd`. Windows: there is none, since what waits
    /// for a pipe is an operation with a buffer; a [reader](Client::spawn_reader) can wait there in place of the loop.
    pub fn poll_descriptor(&self) -> Result<PollDescriptor> {
        let descriptor = self.only(DESCRIPTOR)?.channel().poll_descriptor();
        descriptor.map_err(|error| Error::os(DESCRIPTOR, self.endpoint(), error))
    }

    /// Its one connection.
    fn only(&self, operation: &'static str) -> Result<&SharedConnection> {
        match &self.link {
            Link::Stream(Line::Once(connection)) => Ok(connection),
            Link::Stream(Line::Lasting(_) | Line::Relayed(_)) => {
                let text = "it may get another connection, which a loop of the program's own would not know";
                Err(Error::new(operation, self.endpoint(), Kind::InvalidInput(text.into())))
            }
            Link::Datagrams(calls) => Err(nothing_comes(calls.endpoint())),
        }
    }
}

impl SharedConnection {
    /// Reads once: what more there is keeps the descriptor readable, and whoever turns takes what has come in between.
    fn turn(&self) -> Result<bool> {
        let mut state = self.lock();
        state.now = now();
        if !state.caller.is_somebody_reading() && !state.caller.is_over() {
            let at_once = Some(state.now);
            state = self.read(state, None, at_once, at_once).0;
        }
        while let Some(incoming) = self.take_work(&mut state) {
            state = self.serve(state, &[], None, incoming, Waiting::here);
        }
        self.offer(&mut state);
        state.has_come = false;
        state.is_stuck = state.caller.has_unsent();
        if !state.caller.is_over() {
            return Ok(true);
        }
        let end = self.stood_by(&state);
        drop(state);
        self.tell_end();
        end.map(|()| false)
    }

    fn next_turn(&self) -> Option<Duration> {
        let state = self.lock();
        let now = now();
        if state.caller.is_over() {
            return None;
        }
        // The descriptor does not tell of what was read meanwhile: there may be work in it, and what was looked for before. Nor
        // of what was begun, which leaves with a turn.
        if state.has_come || state.caller.has_unsent() && !state.is_stuck {
            return Some(Duration::ZERO);
        }
        Some(state.caller.look_at(now)?.saturating_duration_since(now))
    }

    fn has_unsent(&self) -> bool {
        let state = self.lock();
        state.caller.has_unsent() && !state.caller.is_over()
    }
}
