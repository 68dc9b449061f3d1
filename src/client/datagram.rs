//! Calls over datagrams: one frame each way in one datagram, and no hidden repeats.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::{Address, DatagramChannel, Endpoint, EndpointKind, Peer};

use super::journal::Asked;
use super::leader::{is_past, remaining};
use super::{Connect, Response};
use crate::error::{Error, Kind, Result};
use crate::loops::{self, WAITS_FOR_ITSELF};
use crate::random::random_id;
use sidewire_wire::datagram::{Reply, encode_classic, encode_v1, parse_reply};
use sidewire_wire::frame::Kind as FrameKind;
use sidewire_wire::memory::{self, NoMemory};
use sidewire_wire::{Classic, Executed, Layout};

/// A datagram socket that asks one question at a time; other threads wait for their turn.
#[derive(Debug)]
pub(super) struct DatagramCalls {
    connect: Connect,
    peer: Peer,
    server: Option<Address>,
    turn: Mutex<Turn>,
    is_free: Condvar,
}

#[derive(Debug)]
struct Turn {
    line: Line,
    last_id: u32,
}

#[derive(Debug)]
enum Line {
    Free(Socket),
    /// A call is under way.
    Taken,
    /// An answer that nobody waits for any more may still come. In the classic layout, where answers
    /// have no id, it must not be taken for the next call's, so that one needs a new socket.
    Spoiled,
}

/// A socket, and the buffer for what comes in on it.
#[derive(Debug)]
struct Socket {
    channel: DatagramChannel,
    buffer: Box<[u8]>,
}

/// Datagrams that are looked at behind the deadline, should they never end.
const LAST_LOOKS: usize = 1024;
/// Bytes that a reply may have.
const BUFFER: usize = 256 << 10;

impl Socket {
    fn new(channel: DatagramChannel) -> Socket {
        Socket { channel, buffer: vec![0; BUFFER].into() }
    }
}

impl DatagramCalls {
    pub(super) fn open(connect: Connect) -> Result<DatagramCalls> {
        let socket = open_socket(&connect)?;
        let (peer, server) = (socket.channel.peer().clone(), socket.channel.peer_address().ok());
        // Another client may have had our address before us, and its answer may come now.
        let turn = Mutex::new(Turn { line: Line::Free(socket), last_id: first_id() });
        Ok(DatagramCalls { connect, peer, server, turn, is_free: Condvar::new() })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.connect.endpoint()
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The server's address.
    pub(super) fn server(&self) -> Option<&Address> {
        self.server.as_ref()
    }

    pub(super) fn layout(&self) -> Layout {
        if self.classic().is_some() { Layout::Classic } else { Layout::V1 }
    }

    /// `None`: v1.
    fn classic(&self) -> Option<Classic> {
        self.connect.classic_layout()
    }

    /// An address of the socket, as soon as no call is under way.
    pub(super) fn address(
        &self,
        ask: impl FnOnce(&DatagramChannel) -> io::Result<Address>,
    ) -> io::Result<Address> {
        let (socket, _) = self.take_turn("look up an address on", None)?;
        let address = ask(&socket.channel);
        self.end_turn(Line::Free(socket));
        address
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
        let (mut socket, id) = self.take_turn("call", deadline)?;
        let asked = Asked::begin(self.endpoint(), msg_type, id, payload.len());
        let v1 = || encode_v1(FrameKind::Request, msg_type, id, super::request::timeout_ms(timeout), payload);
        let result = self.ask(&mut socket, &classic.unwrap_or_else(v1), msg_type, id, deadline);
        asked.end(self.endpoint(), &result);
        let is_spoiled = result.is_err() && self.classic().is_some();
        self.end_turn(if is_spoiled { Line::Spoiled } else { Line::Free(socket) });
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
        let (socket, _) = self.take_turn("notify", deadline)?;
        log::debug!("{}: notify type {msg_type}, {} bytes", self.endpoint(), payload.len());
        let result = self.send(&socket.channel, &bytes, deadline);
        self.end_turn(Line::Free(socket));
        result.map_err(|error| Error::os("notify", self.endpoint(), error))
    }

    fn ask(
        &self,
        socket: &mut Socket,
        request: &[u8],
        msg_type: u16,
        id: u32,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let os = |error| Error::os("call", self.endpoint(), error);
        self.send(&socket.channel, request, deadline).map_err(os)?;
        let response = receive_until(socket, deadline, |bytes| {
            let reply = parse_reply(bytes, self.layout());
            let Some(Reply { rc, is_text, payload, .. }) =
                reply.filter(|reply| self.is_ours(reply, id, msg_type))
            else {
                log::debug!("{}: a datagram that answers nothing", self.endpoint());
                return None;
            };
            let payload = memory::copy(payload);
            Some(
                payload
                    .map(|payload| Response { rc, payload, is_text, may_be_refusal: false }.with_doubt(true)),
            )
        });
        response.map_err(os)?.map_err(|NoMemory| Error::no_memory("call", self.endpoint(), Executed::Perhaps))
    }

    fn send(&self, channel: &DatagramChannel, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        let send = || channel.send(bytes, remaining(deadline));
        match (send(), self.endpoint()) {
            // UDP says so of an earlier datagram, and has not sent this one.
            (Err(error), Endpoint::Udp { .. }) if error.kind() == io::ErrorKind::ConnectionRefused => send(),
            (sent, _) => sent,
        }
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
    fn take_turn(&self, operation: &'static str, deadline: Option<Instant>) -> Result<(Socket, u32)> {
        let mut turn = self.lock();
        loop {
            match std::mem::replace(&mut turn.line, Line::Taken) {
                Line::Free(socket) => {
                    turn.last_id = turn.last_id.wrapping_add(1).max(1);
                    return Ok((socket, turn.last_id));
                }
                Line::Spoiled => {
                    drop(turn);
                    let (line, result) = match open_socket(&self.connect) {
                        Ok(socket) => (Line::Free(socket), Ok(())),
                        Err(error) => (Line::Spoiled, Err(error)),
                    };
                    self.end_turn(line);
                    result?;
                    turn = self.lock();
                }
                Line::Taken => turn = self.wait(turn, operation, deadline)?,
            }
        }
    }

    fn wait<'t>(
        &self,
        turn: MutexGuard<'t, Turn>,
        operation: &'static str,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'t, Turn>> {
        Ok(match remaining(deadline) {
            Some(Duration::ZERO) => {
                return Err(Error::new(operation, self.endpoint(), Kind::TimedOut).not_executed());
            }
            Some(left) => self.is_free.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0,
            None => self.is_free.wait(turn).unwrap_or_else(PoisonError::into_inner),
        })
    }

    fn end_turn(&self, line: Line) {
        self.lock().line = line;
        self.is_free.notify_one();
    }

    fn invalid(&self, operation: &'static str, text: &str) -> Error {
        Error::new(operation, self.endpoint(), Kind::InvalidInput(text.into()))
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
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
    receive_until(socket, deadline, |bytes| bytes.starts_with(&answer).then_some(()))
}

/// Receives until `find` has found what it waits for. What came before the deadline counts, even if
/// other things came before it and we look late.
fn receive_until<T>(
    socket: &mut Socket,
    deadline: Option<Instant>,
    mut find: impl FnMut(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let mut last_looks = 0..LAST_LOOKS;
    loop {
        let received = socket.channel.receive(&mut socket.buffer, remaining(deadline))?;
        if let Some(found) = find(&socket.buffer[..received.length]) {
            return Ok(found);
        }
        if is_past(deadline) && last_looks.next().is_none() {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

/// Datagrams without frames to one server; from [`Connect::open_messages`](super::Connect::open_messages).
///
/// Sending and receiving take `&self`, so that one thread can receive while another sends. Each
/// waits at most as long as [`Connect::call_timeout`](super::Connect::call_timeout) says, and then
/// fails: [`is_timeout`](Error::is_timeout). In a handler of that very server neither waits: what has
/// not come yet is [`is_invalid_input`](Error::is_invalid_input).
#[derive(Debug)]
pub struct RawDatagrams {
    socket: DatagramChannel,
    endpoint: Endpoint,
    timeout: Option<Duration>,
}

impl RawDatagrams {
    pub(super) fn new(
        socket: DatagramChannel,
        endpoint: Endpoint,
        timeout: Option<Duration>,
    ) -> RawDatagrams {
        RawDatagrams { socket, endpoint, timeout }
    }

    /// The endpoint that it sends to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whose the server is, as far as the system tells.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.socket.peer()
    }

    /// Sends one datagram; it may be empty.
    ///
    /// # Errors
    /// If the server has gone, the datagram is too large for the transport, or the server's queue
    /// stays full.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let timeout = if self.waits_for_itself() { Some(Duration::ZERO) } else { self.timeout };
        let sent = self.socket.send(bytes.as_ref(), timeout);
        sent.map_err(|error| Error::os("send to", &self.endpoint, error))
    }

    /// Waits for the next datagram of the server. Returns its length.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout); [`is_protocol`](Error::is_protocol) for one that is longer than
    /// `buffer`, whose end is lost; the server has gone.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<usize> {
        let is_own = self.waits_for_itself();
        let timeout = if is_own { Some(Duration::ZERO) } else { self.timeout };
        let received = self.socket.receive(buffer, timeout);
        if is_own && received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            let kind = Kind::InvalidInput(WAITS_FOR_ITSELF.into());
            return Err(Error::new("receive from", &self.endpoint, kind));
        }
        let received = received.map_err(|error| Error::os("receive from", &self.endpoint, error))?;
        if received.truncated {
            let kind = Kind::Protocol("the datagram is longer than the buffer".into());
            return Err(Error::new("receive from", &self.endpoint, kind));
        }
        Ok(received.length)
    }

    fn waits_for_itself(&self) -> bool {
        loops::serves_peer(self.socket.peer(), &self.endpoint, || self.socket.peer_address().ok())
    }

    /// Our own address (getsockname(2)), which the server answers to.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn local_address(&self) -> Result<Address> {
        let address = self.socket.local_address();
        address.map_err(|error| Error::os("look up our address on", &self.endpoint, error))
    }

    /// The server's address.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn peer_address(&self) -> Result<Address> {
        let address = self.socket.peer_address();
        address.map_err(|error| Error::os("look up the server's address on", &self.endpoint, error))
    }
}
