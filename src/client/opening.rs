//! How a connection is opened: whether the options go together, whether it is whom we want to talk to, the hellos.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sidewire_platform::{
    Address, Channel, DatagramChannel, Endpoint, EndpointKind, Peer, carries_attachments,
};

use super::closing::Closing;
use super::datagram::DatagramCalls;
use super::fate::Fate;
use super::given::Taken;
use super::lasting::Lasting;
use super::leader::SharedConnection;
use super::line::Line;
use super::medium::{Medium, at_once};
use super::{Client, Connect, Link, RawDatagrams, RawStream};
use crate::access::{Access, Asked, NotAsked, OwnIdentity, Policy};
use crate::attached;
use crate::error::{Error, Kind, RefusedBy, Result};
use crate::limits::MAX_SPIN;
use crate::loops;
use crate::random::random_id;
use sidewire_wire::caller::{Caller, End};
use sidewire_wire::{App, Attachments, Classic, ResultCode, Settings};

impl Connect {
    /// Connects.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for limits that contradict
    /// each other, for an app whose name is longer than a hello takes, and for handlers in the classic layout or
    /// over datagrams, where no server asks.
    pub fn open(self) -> Result<Client> {
        self.check_all()?;
        let call_timeout = self.call_timeout;
        let closing = self.closing();
        if self.endpoint.kind() != EndpointKind::Stream {
            self.check_unsummoned()?;
            let calls = Box::new(DatagramCalls::open(self)?);
            return Ok(Client { link: Link::Datagrams(calls), call_timeout, closing });
        }
        let line = at_once(Line::open(self, closing.clone()))?;
        Ok(Client { link: Link::Stream(line), call_timeout, closing })
    }

    /// Whether all that is asked for goes together.
    pub(crate) fn check_all(&self) -> Result<()> {
        let is_classic_or_datagrams = self.classic.is_some() || self.endpoint.kind() != EndpointKind::Stream;
        if is_classic_or_datagrams && !self.handlers.is_empty() {
            return Err(self.invalid("no server asks in the classic layout or over datagrams"));
        }
        if is_classic_or_datagrams && self.is_particular() {
            return Err(
                self.invalid("no server says of which build it is in the classic layout or over datagrams")
            );
        }
        let takes_attachments = self.given.is_none() && carries_attachments(&self.endpoint);
        if self.attachments && (is_classic_or_datagrams || !takes_attachments) {
            return Err(self.invalid(
                "attachments are not supported here: they go with frames, over Unix sockets and pipes",
            ));
        }
        if self.has_token() && is_classic_or_datagrams {
            return Err(
                self.invalid("a token goes with frames on a stream, and the classic layout knows none")
            );
        }
        self.check_options()?;
        self.check_given(self.classic.is_none())
    }

    /// The same over a helper's channel.
    pub(crate) fn check_helper_options(&self) -> Result<()> {
        if self.has_token() {
            return Err(
                self.invalid("nobody but the helper is at the other end of its channel: it needs no token")
            );
        }
        self.check_options()
    }

    /// Whether its numbers and texts can be.
    pub(crate) fn check_options(&self) -> Result<()> {
        if self.spin > MAX_SPIN {
            return Err(self.invalid(&format!("spin ({:?}) is more than {MAX_SPIN:?}", self.spin)));
        }
        self.limits.check().map_err(|contradiction| self.invalid(&contradiction.to_string()))?;
        self.own_app().iter().try_for_each(App::check).map_err(|why| self.invalid(&why.to_string()))
    }

    /// Whether a channel that is there already can be used so.
    fn check_given(&self, is_v1: bool) -> Result<()> {
        let objection = self
            .given
            .as_ref()
            .and_then(|given| given.objection(is_v1, self.reconnect.is_none(), &self.access));
        objection.map_or(Ok(()), |objection| Err(self.invalid(objection)))
    }

    /// Over a channel to a child, which is to say hello.
    pub(super) fn adopt(
        &self,
        endpoint: Endpoint,
        channel: Channel,
        fate: Arc<Fate>,
    ) -> Arc<SharedConnection> {
        let mut handlers = self.handlers.clone();
        handlers.call_timeout = self.call_timeout;
        // Its first bytes are a hello, or nothing that is meant.
        let mut settings = Settings::new(self.limits.clone(), Classic::Refused);
        settings.app = self.own_app();
        (settings.instance, settings.nonce) = (random_id(), random_id);
        let now = Instant::now();
        let caller = Caller::v1_responder(Arc::new(settings), now);
        SharedConnection::new(channel, endpoint, caller, handlers, None, Some(fate))
    }

    /// One attempt, for a client that may be closed meanwhile.
    pub(super) async fn open_once<M: Medium>(
        &self,
        closing: Option<&Closing>,
        lasting: Option<&Lasting<M>>,
    ) -> Result<Arc<SharedConnection<M>>> {
        let deadline = self.deadline();
        lasting.map_or(Ok(()), Lasting::check_open)?;
        let (opening, closing) = (self.clone(), closing.cloned());
        let connection = M::aside(&self.endpoint, move || opening.begin_stream(closing)).await??;
        lasting.map_or(Ok(()), |lasting| lasting.show(&connection))?;
        let greeted = self.greeted(&connection, connection.shake_hands(deadline).await);
        match (greeted, connection.own_fate()) {
            (Ok(()), _) => Ok(connection),
            (Err(error), None) => Err(error),
            (Err(error), Some(fate)) => {
                drop(connection);
                Err(M::aside(&self.endpoint, move || fate.explain_failure(error)).await?)
            }
        }
    }

    fn no_token(&self, error: std::io::Error) -> Error {
        Error::os("connect to", &self.endpoint, error).not_executed()
    }

    /// Opens the channel and begins to say hello.
    fn begin_stream<M: Medium>(&self, closing: Option<Closing>) -> Result<Arc<SharedConnection<M>>> {
        let Taken { channel, fate } = self.reach()?;
        let begun = self.begin_over(channel, fate.clone(), closing);
        if let (Err(_), Some(fate)) = (&begun, fate) {
            fate.give_up();
        }
        begun
    }

    fn begin_over<M: Medium>(
        &self,
        channel: Channel,
        fate: Option<Arc<Fate>>,
        closing: Option<Closing>,
    ) -> Result<Arc<SharedConnection<M>>> {
        let channel = M::over(channel);
        let channel =
            channel.map_err(|error| Error::os("connect to", &self.endpoint, error).not_executed())?;
        let mut handlers = self.handlers.clone();
        handlers.call_timeout = self.call_timeout;
        let mut settings = Settings::new(self.limits.clone(), self.classic.unwrap_or_default());
        settings.app = self.own_app();
        let source = match attached::HOW {
            Attachments::Named if self.attachments => attached::source(channel.peer(), &self.endpoint),
            _ => None,
        };
        // Who can fetch nothing does not say so.
        if self.attachments && (attached::HOW != Attachments::Named || source.is_some()) {
            settings.attachments = attached::HOW;
            channel.expect_attachments();
        }
        settings.token = self.key().map_err(|error| self.no_token(error))?;
        let (nonce, now) = (random_id(), Instant::now());
        if settings.token.is_some() && nonce == [0; 16] {
            return Err(self.no_token(std::io::Error::other("the system has no random numbers")));
        }
        let mut caller = match self.classic {
            Some(_) => Caller::classic(Arc::new(settings), now),
            None => Caller::v1(Arc::new(settings), nonce, now),
        };
        if let Some(source) = source {
            caller.fetch_with(source);
        }
        Ok(SharedConnection::new(channel, self.endpoint.clone(), caller, handlers, closing, fate))
    }

    /// What has come of shaking hands; and holds the server to what it was to be.
    fn greeted<M: Medium>(&self, connection: &SharedConnection<M>, shaken: Result<()>) -> Result<()> {
        let server = connection.channel().peer();
        shaken.map_err(|error| {
            // A goodbye right behind its hello says the same as a hello which says so.
            let is_leaving =
                matches!(connection.lock().caller.end(), Some(End::Goodbye(ResultCode::SHUTTING_DOWN)));
            let error = if is_leaving { self.shutting_down() } else { error };
            explain(error, server, self.timeout)
        })?;
        let held = self.hold_to_build(connection.peer_app());
        held.map_err(|error| error.with_note(|_| format!("that is {server}")))
    }

    fn shutting_down(&self) -> Error {
        let rc = ResultCode::SHUTTING_DOWN;
        let kind = Kind::Refused { by: RefusedBy::Server(rc), why: rc.to_string() };
        Error::new("connect to", &self.endpoint, kind)
    }

    /// Connects to a server that knows no frames.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for an endpoint
    /// that carries datagrams.
    pub fn open_raw(self) -> Result<RawStream> {
        if self.endpoint.kind() != EndpointKind::Stream {
            return Err(self.invalid("this endpoint carries datagrams, not a stream of bytes"));
        }
        if self.has_token() {
            return Err(self.invalid("a token goes with frames"));
        }
        self.check_given(false)?;
        self.check_unsummoned()?;
        let channel = self.connect()?;
        Ok(RawStream::new(channel, self.endpoint, self.call_timeout))
    }

    /// Opens a socket for datagrams without frames.
    ///
    /// # Errors
    /// See [`Client::connect`]; [`is_invalid_input`](Error::is_invalid_input) for an endpoint
    /// that carries a stream.
    pub fn open_messages(self) -> Result<RawDatagrams> {
        if self.endpoint.kind() == EndpointKind::Stream {
            return Err(self.invalid("this endpoint carries a stream of bytes, not datagrams"));
        }
        if self.has_token() {
            return Err(self.invalid("a token goes with frames"));
        }
        self.check_unsummoned()?;
        let socket = self.connect_datagrams()?;
        Ok(RawDatagrams::new(socket, self.endpoint, self.call_timeout))
    }

    /// Opens the channel, and holds the server to the policy before anything is sent.
    pub(crate) fn connect(&self) -> Result<Channel> {
        self.reach().map(|taken| taken.channel)
    }

    fn reach(&self) -> Result<Taken> {
        if let Some(given) = &self.given {
            let mut taken = given.take()?;
            let channel = &mut taken.channel;
            channel.spin(self.spin);
            if !given.is_own_program() {
                self.hold(&self.policy()?, channel.peer(), channel)?;
            }
            log::debug!("{}: a channel to {}", self.endpoint, channel.peer());
            return Ok(taken);
        }
        let policy = self.check_verifiable()?;
        self.check_thread(|| None)?;
        let os = |error| Error::os("connect to", &self.endpoint, error).not_executed();
        let mut channel = Channel::connect(&self.endpoint, self.timeout).map_err(os)?;
        channel.spin(self.spin);
        self.hold(&policy, channel.peer(), &channel)?;
        self.check_thread(|| channel.peer_address().ok())?;
        log::debug!("{}: connected to {}", self.endpoint, channel.peer().as_server());
        Ok(Taken { channel, fate: None })
    }

    /// The same for datagrams.
    pub(super) fn connect_datagrams(&self) -> Result<DatagramChannel> {
        let policy = self.check_verifiable()?;
        let os = |error| Error::os("connect to", &self.endpoint, error);
        let socket = DatagramChannel::connect(&self.endpoint).map_err(os)?;
        self.hold(&policy, socket.peer(), &NotAsked)?;
        log::debug!("{}: a socket for {}", self.endpoint, socket.peer());
        Ok(socket)
    }

    /// Whether it can be told whose server it is; and by which policy that is judged.
    fn check_verifiable(&self) -> Result<Policy> {
        if let Endpoint::Tcp { port: 0, .. } | Endpoint::Udp { port: 0, .. } = self.endpoint {
            return Err(
                self.invalid("port 0 is for servers, for which the system chooses one; write that one")
            );
        }
        if self.access.needs_credentials()
            && !self.is_verified_otherwise()
            && !self.endpoint.can_verify_server()
        {
            return Err(self.invalid(
                "nobody vouches for who serves there; use a token, or say Access::Anyone if that may be anyone",
            ));
        }
        match self.access.objection(&self.endpoint) {
            Some(text) => Err(self.invalid(text)),
            None => self.policy(),
        }
    }

    fn policy(&self) -> Result<Policy> {
        Policy::set_up(&self.access, self.lower_integrity)
            .map_err(|error| Error::os("connect to", &self.endpoint, error))
    }

    /// Whether it is not this thread that would have to answer.
    pub(crate) fn check_thread(&self, address: impl FnOnce() -> Option<Address>) -> Result<()> {
        if loops::serves(&self.endpoint, address) {
            return Err(loops::waits_for_itself("connect to", &self.endpoint).not_executed());
        }
        Ok(())
    }

    /// Whether the system need not say who serves there, since the token will.
    fn is_verified_otherwise(&self) -> bool {
        let is_asked_for = self.has_token() && self.access == Access::SameUser;
        is_asked_for && self.given.is_none() && !self.endpoint.can_verify_server()
    }

    /// Holds a server to the policy. `more`: what the system tells of it besides.
    fn hold(&self, policy: &Policy, server: &Peer, more: &impl Asked) -> Result<()> {
        if self.is_verified_otherwise() {
            return Ok(());
        }
        policy.admits_server(server, more).map_err(|denied| {
            let rule = match policy.access() {
                Access::SameUser | Access::Anyone => String::new(),
                access @ Access::Rules(_) => format!(", by {access}"),
            };
            let advice = if self.has_choice { format!("; {}", denied.remedy()) } else { String::new() };
            let why = format!("we do not talk to that server{rule}: {denied}");
            let us = policy.us();
            Error::new("connect to", &self.endpoint, Kind::Refused { by: RefusedBy::OurAccess, why })
                .with_note(|_| format!("that is {}, this is {us}{advice}", server.as_server()))
        })
    }
}

/// Says of a handshake that failed with whom it was, and what that may mean.
fn explain(error: Error, server: &Peer, timeout: Option<Duration>) -> Error {
    let server = server.as_server();
    error.without_a_hello().with_note(|error| {
        if error.was_refused_with(ResultCode::NOT_PERMITTED) {
            let us = OwnIdentity::look_up().map_or_else(|_| "another user".into(), |us| us.to_string());
            format!(
                "the server is {server}, this is {us}; unless it is told to let others in, it serves processes of \
                 its own user, and root; its log says by which rule it has refused this one"
            )
        } else if error.was_refused_with(ResultCode::BUSY) {
            format!("the server, {server}, has no room for another connection; try again later")
        } else if error.was_refused_with(ResultCode::SHUTTING_DOWN) {
            format!("the server, {server}, ends; try again, there may be another")
        } else if let (true, Some(timeout)) = (error.is_timeout(), timeout) {
            format!("connected to {server}, no hello within {timeout:?}: hung, or not Sidewire?")
        } else if error.is_peer_gone() {
            format!("connected to {server}, no hello before the end: not Sidewire?")
        } else {
            format!("connected to {server}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sidewire_platform::{Credentials, User};

    #[test]
    fn what_would_let_us_in_is_said_to_those_who_can_say_it() {
        let other = Credentials::new(User::Uid(4711), Some(1), None);
        let connect = Connect::at(Endpoint::Local("app".into()));
        let said = |connect: Connect| {
            let peer = Peer::new(Some(other.clone()), None);
            connect.hold(&connect.policy().expect("a policy"), &peer, &NotAsked).expect_err("another")
        };
        let (free, bound) = (said(connect.clone()), said(connect.without_choice()));
        assert_eq!([&free, &bound].map(Error::refused_by), [Some(RefusedBy::OurAccess); 2]);
        assert!(
            free.to_string().contains("that is ") && free.to_string().contains("access for anyone"),
            "{free}"
        );
        assert!(bound.to_string().contains("that is ") && !bound.to_string().contains("allow"), "{bound}");
    }
}
