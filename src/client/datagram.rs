//! Calls over datagrams: one frame each way in one datagram, and no hidden repeats.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::{Address, DatagramChannel, Endpoint, EndpointKind, Peer};

use super::journal::Asked;
use super::leader::{is_past, remaining};
use super::{Connect, Response};
use crate::error::{Error, Kind, Result};
use crate::random::random_id;
use sidewire_wire::datagram::{Reply, encode_classic, encode_v1, parse_reply};
use sidewire_wire::frame::{Kind as FrameKind, timeout_ms};
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Classic, Executed, Layout};

/// A datagram socket with one call at a time; other threads wait until it is idle.
#[derive(Debug)]
pub(super) struct DatagramCalls {
    connect: Connect,
    peer: Peer,
    state: Mutex<State>,
    /// Or closed.
    is_idle: Condvar,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    socket: SocketState,
    /// The socket's, or if it is to be replaced, the last one's.
    addresses: Addresses,
    last_id: u32,
}

#[derive(Debug)]
enum SocketState {
    Idle(Socket),
    /// A call is under way.
    Busy,
    /// An answer that nobody waits for any more may still come. In the classic layout, where answers
    /// have no id, it must not be taken for the next call's, so that one needs a new socket.
    ToBeReplaced,
}

/// Remembered, so that nobody who asks for them waits for a call.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    pub(super) local: Result<Address>,
    pub(super) server: Result<Address>,
}

/// A socket, and the buffer for what comes in on it.
#[derive(Debug)]
struct Socket {
    channel: DatagramChannel,
    buffer: Box<[u8]>,
}

/// Datagrams that are looked at behind the deadline, should they never end.
const LAST_LOOKS: usize = 1024;
/// How long a call waits in one go: nothing wakes it when another thread closes the client.
const CLOSED_CHECK: Duration = Duration::from_millis(50);
/// Bytes that a reply may have.
const BUFFER: usize = 256 << 10;

impl Socket {
    fn new(channel: DatagramChannel) -> Socket {
        Socket { channel, buffer: vec![0; BUFFER].into() }
    }

    fn addresses(&self, endpoint: &Endpoint) -> Addresses {
        let Socket { channel, .. } = self;
        let os = |operation| move |error| Error::os(operation, endpoint, error);
        Addresses {
            local: channel.local_address().map_err(os("look up our address on")),
            server: channel.peer_address().map_err(os("look up the server's address on")),
        }
    }
}

impl DatagramCalls {
    pub(super) fn open(connect: Connect) -> Result<DatagramCalls> {
        let socket = open_socket(&connect)?;
        let (peer, addresses) = (socket.channel.peer().clone(), socket.addresses(connect.endpoint()));
        // Another client may have had our address before us, and its answer may come now.
        let last_id = first_id();
        let state = State { socket: SocketState::Idle(socket), addresses, last_id };
        let (state, is_idle, is_closed) = (Mutex::new(state), Condvar::new(), AtomicBool::new(false));
        Ok(DatagramCalls { connect, peer, state, is_idle, is_closed })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.connect.endpoint()
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The addresses of both ends, at once.
    pub(super) fn addresses(&self) -> Addresses {
        self.lock().addresses.clone()
    }

    pub(super) fn layout(&self) -> Layout {
        if self.classic().is_some() { Layout::Classic } else { Layout::V1 }
    }

    /// Ends the call that is under way, and all that wait or come later.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        self.is_closed.store(true, Ordering::Release);
        if let SocketState::Idle(_) = state.socket {
            state.socket = SocketState::ToBeReplaced;
        }
        drop(state);
        self.is_idle.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    fn closed(&self, operation: &'static str, executed: Executed) -> Error {
        Error::new(operation, self.endpoint(), Kind::Closed).for_request(operation, executed)
    }

    /// `None`: v1.
    fn classic(&self) -> Option<Classic> {
        self.connect.classic_layout()
    }

    /// Sends a request and waits for its reply.
    pub(super) fn exchange(
        &self,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        if self.endpoint().kind() == EndpointKind::OneWay {
            let text = "nothing comes back on this endpoint: it takes only requests without an answer";
            return Err(self.invalid("call", text));
        }
        let classic = self.encode_classic("call", msg_type, payload)?;
        let (mut socket, id) = self.acquire("call", deadline)?;
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        let v1 = || encode_v1(FrameKind::Request, msg_type, id, timeout_ms(timeout), payload);
        let result = self.ask(&mut socket, &classic.unwrap_or_else(v1), msg_type, id, deadline);
        asked.end(self.endpoint(), &result);
        let may_come_late = result.is_err() && (self.classic().is_some() || self.is_closed());
        self.release(if may_come_late { SocketState::ToBeReplaced } else { SocketState::Idle(socket) });
        result
    }

    /// Sends a request that wants no answer.
    pub(super) fn notify(&self, msg_type: u16, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        let bytes = match self.encode_classic("notify", msg_type, payload)? {
            // Without ids and kinds, a classic request on a one-way endpoint is all there is.
            Some(bytes) if self.endpoint().kind() == EndpointKind::OneWay => bytes,
            Some(_) => {
                return Err(self.invalid("notify", "the classic layout has no requests without an answer"));
            }
            None => encode_v1(FrameKind::Notify, msg_type, 0, 0, payload),
        };
        let (socket, _) = self.acquire("notify", deadline)?;
        log::debug!("{}: notify type {msg_type}, {} bytes", self.endpoint(), payload.len());
        let result = self.send("notify", &socket.channel, &bytes, deadline);
        self.release(SocketState::Idle(socket));
        result
    }

    /// Waits for a pong.
    pub(super) fn ask_for_life(&self, deadline: Option<Instant>) -> Result<()> {
        if self.endpoint().kind() == EndpointKind::OneWay {
            return Err(self.invalid("ping", "nothing comes back on this endpoint"));
        }
        let (mut socket, id) = self.acquire("ping", deadline)?;
        let ping = encode_v1(FrameKind::Ping, 0, id, 0, &[]);
        let pong = encode_v1(FrameKind::Pong, 0, id, 0, &[]);
        let result = self.send("ping", &socket.channel, &ping, deadline).and_then(|()| {
            let is_pong = |bytes: &[u8]| (bytes == pong).then_some(());
            let received = receive_until(&mut socket, deadline, || self.is_closed(), is_pong);
            received.map_err(|error| match self.is_closed() {
                true => self.closed("ping", Executed::Never),
                false => Error::os("ping", self.endpoint(), error),
            })
        });
        let is_closed = self.is_closed();
        self.release(if is_closed { SocketState::ToBeReplaced } else { SocketState::Idle(socket) });
        result
    }

    fn ask(
        &self,
        socket: &mut Socket,
        request: &[u8],
        msg_type: u16,
        id: u32,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        self.send("call", &socket.channel, request, deadline)?;
        // What goes wrong from here on, goes wrong behind it: even "nobody is there" may be about an
        // earlier one, or come from a server that has gone since.
        let os = |error| match self.is_closed() {
            true => self.closed("call", Executed::Perhaps),
            false => Error::os("call", self.endpoint(), error).for_request("call", Executed::Perhaps),
        };
        let response = receive_until(
            socket,
            deadline,
            || self.is_closed(),
            |bytes| {
                let reply = parse_reply(bytes, self.layout());
                let Some(Reply { rc, is_text, payload, .. }) =
                    reply.filter(|reply| self.is_ours(reply, id, msg_type))
                else {
                    log::debug!("{}: a datagram that answers nothing", self.endpoint());
                    return None;
                };
                let payload = memory::copy(payload);
                Some(payload.map(|payload| {
                    let payload = payload.into();
                    Response { rc, payload, is_text, may_be_refusal: false, attached: None }.with_doubt(true)
                }))
            },
        );
        response.map_err(os)?.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Perhaps))
    }

    /// Sends one datagram. An error says that it was not sent.
    fn send(
        &self,
        operation: &'static str,
        channel: &DatagramChannel,
        bytes: &[u8],
        deadline: Option<Instant>,
    ) -> Result<()> {
        let send = || in_turns(deadline, || self.is_closed(), |patience| channel.send(bytes, patience));
        let sent = match (send(), self.endpoint()) {
            // UDP says so of an earlier datagram, and has not sent this one.
            (Err(error), Endpoint::Udp { .. }) if error.kind() == io::ErrorKind::ConnectionRefused => send(),
            (sent, _) => sent,
        };
        sent.map_err(|error| match self.is_closed() {
            true => self.closed(operation, Executed::Never),
            false => Error::os(operation, self.endpoint(), error).not_executed(),
        })
    }

    fn is_ours(&self, reply: &Reply<'_>, id: u32, msg_type: u16) -> bool {
        reply.msg_type == i32::from(msg_type) && (self.classic().is_some() || reply.id == id)
    }

    /// The whole request, if that is the layout.
    fn encode_classic(
        &self,
        operation: &'static str,
        msg_type: u16,
        payload: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let Some(classic) = self.classic() else { return Ok(None) };
        let pad_to = match classic {
            Classic::Fixed(size) if payload.len() > size as usize => {
                let text = format!("{} bytes of payload where the server takes {size}", payload.len());
                return Err(self.invalid(operation, &text));
            }
            Classic::Fixed(size) => Some(size),
            _ => None,
        };
        Ok(Some(encode_classic(msg_type.into(), payload, pad_to)))
    }

    /// Waits until no other call is under way. Returns the socket and the new call's id.
    fn acquire(&self, operation: &'static str, deadline: Option<Instant>) -> Result<(Socket, u32)> {
        let mut state = self.lock();
        loop {
            if self.is_closed() {
                return Err(self.closed(operation, Executed::Never));
            }
            match std::mem::replace(&mut state.socket, SocketState::Busy) {
                SocketState::Idle(socket) => {
                    state.last_id = state.last_id.wrapping_add(1).max(1);
                    return Ok((socket, state.last_id));
                }
                SocketState::ToBeReplaced => {
                    drop(state);
                    self.replace_socket()?;
                    state = self.lock();
                }
                SocketState::Busy => state = self.wait(state, operation, deadline)?,
            }
        }
    }

    fn replace_socket(&self) -> Result<()> {
        match open_socket(&self.connect) {
            Ok(socket) => {
                self.lock().addresses = socket.addresses(self.endpoint());
                self.release(SocketState::Idle(socket));
                Ok(())
            }
            Err(error) => {
                self.release(SocketState::ToBeReplaced);
                Err(error)
            }
        }
    }

    fn wait<'s>(
        &self,
        state: MutexGuard<'s, State>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'s, State>> {
        Ok(match remaining(deadline) {
            Some(Duration::ZERO) => {
                return Err(Error::new(operation, self.endpoint(), Kind::TimedOut).not_executed());
            }
            Some(left) => self.is_idle.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            None => self.is_idle.wait(state).unwrap_or_else(PoisonError::into_inner),
        })
    }

    /// Leaves the socket to the next call.
    fn release(&self, socket: SocketState) {
        self.lock().socket = socket;
        self.is_idle.notify_one();
    }

    fn invalid(&self, operation: &'static str, text: &str) -> Error {
        Error::new(operation, self.endpoint(), Kind::InvalidInput(text.into()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_id() -> u32 {
    let [a, b, c, d, ..] = random_id();
    u32::from_le_bytes([a, b, c, d])
}

fn open_socket(connect: &Connect) -> Result<Socket> {
    let mut socket = Socket::new(connect.connect_datagrams()?);
    // It is asked before the first request, which it could execute without our ever hearing of it.
    if socket.channel.is_elsewhere() {
        prove_answerable(&mut socket, connect).map_err(|error| {
            let text = "the server is in another network namespace, and does not find our socket's path";
            let text = format!("{text} there: {error}");
            let error = io::Error::new(io::ErrorKind::AddrNotAvailable, text);
            Error::os("connect to", connect.endpoint(), error).not_executed()
        })?;
    }
    Ok(socket)
}

/// By a ping, or where there is none by a classic type that no server has.
fn prove_answerable(socket: &mut Socket, connect: &Connect) -> io::Result<()> {
    let deadline = connect.deadline();
    let (ask, answer) = match connect.classic_layout() {
        None => {
            let id = first_id().max(1);
            (encode_v1(FrameKind::Ping, 0, id, 0, &[]), encode_v1(FrameKind::Pong, 0, id, 0, &[]))
        }
        Some(classic) => {
            let pad_to = if let Classic::Fixed(size) = classic { Some(size) } else { None };
            (encode_classic(-1, &[], pad_to), (-1_i32).to_ne_bytes().to_vec())
        }
    };
    socket.channel.send(&ask, remaining(deadline))?;
    receive_until(socket, deadline, || false, |bytes| bytes.starts_with(&answer).then_some(()))
}

/// Waits in turns, so that it is soon seen that the client was closed.
fn in_turns<T>(
    deadline: Option<Instant>,
    is_closed: impl Fn() -> bool,
    mut wait: impl FnMut(Option<Duration>) -> io::Result<T>,
) -> io::Result<T> {
    loop {
        let left = remaining(deadline);
        let is_last = left.is_some_and(|left| left <= CLOSED_CHECK);
        match wait(Some(left.map_or(CLOSED_CHECK, |left| left.min(CLOSED_CHECK)))) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !is_last && !is_closed() => {}
            result => return result,
        }
    }
}

/// Receives until `find` has found what it waits for. What came before the deadline counts, even if
/// other things came before it and we look late.
fn receive_until<T>(
    socket: &mut Socket,
    deadline: Option<Instant>,
    is_closed: impl Fn() -> bool,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let mut last_looks = 0..LAST_LOOKS;
    loop {
        let Socket { channel, buffer } = socket;
        let received = in_turns(deadline, &is_closed, |patience| channel.receive(buffer, patience))?;
        if let Some(found) = find(&socket.buffer[..received.length]) {
            return Ok(found);
        }
        if is_past(deadline) && last_looks.next().is_none() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}
