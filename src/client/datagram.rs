//! Calls over datagrams: one frame each way in one datagram, and no hidden repeats.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sidewire_platform::{Address, DatagramChannel, Endpoint, Kind as EndpointKind, Peer};

use super::Response;
use crate::error::{Error, Kind, Result};
use crate::wire::datagram::{Reply, encode_classic, encode_v1, parse_reply};
use crate::wire::frame::Kind as FrameKind;
use crate::wire::{Classic, Layout};

/// A datagram socket that asks one question at a time; other threads wait for their turn.
#[derive(Debug)]
pub(super) struct DatagramCalls {
    endpoint: Endpoint,
    peer: Peer,
    /// `None`: v1.
    classic: Option<Classic>,
    turn: Mutex<Turn>,
    is_free: Condvar,
}

#[derive(Debug)]
struct Turn {
    /// `None` while a call is under way.
    socket: Option<DatagramChannel>,
    last_id: u32,
}

/// Bytes that a reply may have.
const BUFFER: usize = 256 << 10;

impl DatagramCalls {
    pub(super) fn new(
        socket: DatagramChannel,
        endpoint: Endpoint,
        classic: Option<Classic>,
    ) -> DatagramCalls {
        let peer = socket.peer().clone();
        let turn = Mutex::new(Turn { socket: Some(socket), last_id: 0 });
        DatagramCalls { endpoint, peer, classic, turn, is_free: Condvar::new() }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn layout(&self) -> Layout {
        if self.classic.is_some() { Layout::Classic } else { Layout::V1 }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn exchange(
        &self,
        msg_type: u16,
        payload: &[u8],
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        if self.endpoint.kind() == EndpointKind::OneWay {
            let text = "nothing comes back on this endpoint: it takes only requests without an answer";
            return Err(Error::new("call", &self.endpoint, Kind::InvalidInput(text.into())));
        }
        let (socket, id) = self.take_turn(deadline)?;
        let result = self.ask(&socket, msg_type, payload, id, timeout, deadline);
        // A classic reply has no id. One that comes late must not be taken for the next one's, so
        // it goes to an address that nobody listens at any more.
        let spoiled = self.classic.is_some() && result.is_err();
        let socket =
            if spoiled { DatagramChannel::connect(&self.endpoint).unwrap_or(socket) } else { socket };
        self.end_turn(socket);
        result
    }

    /// Sends a request that wants no answer.
    pub(super) fn notify(&self, msg_type: u16, payload: &[u8], deadline: Option<Instant>) -> Result<()> {
        let bytes = match self.classic {
            // Without ids and kinds, a classic request on a one-way endpoint is all there is.
            Some(_) if self.endpoint.kind() == EndpointKind::OneWay => self.encode_classic(msg_type, payload),
            Some(_) => {
                let text = "the classic layout has no requests without an answer";
                return Err(Error::new("notify", &self.endpoint, Kind::InvalidInput(text.into())));
            }
            None => encode_v1(FrameKind::Notify, msg_type, 0, 0, payload),
        };
        let (socket, _) = self.take_turn(deadline)?;
        let result = socket.send(&bytes, remaining(deadline));
        self.end_turn(socket);
        result.map_err(|error| Error::os("notify", &self.endpoint, error))
    }

    fn ask(
        &self,
        socket: &DatagramChannel,
        msg_type: u16,
        payload: &[u8],
        id: u32,
        timeout: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Result<Response> {
        let bytes = match self.classic {
            Some(_) => self.encode_classic(msg_type, payload),
            None => encode_v1(FrameKind::Request, msg_type, id, super::timeout_ms(timeout), payload),
        };
        let os = |error| Error::os("call", &self.endpoint, error);
        socket.send(&bytes, remaining(deadline)).map_err(os)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let received = socket.receive(&mut buffer, remaining(deadline)).map_err(os)?;
            let reply = parse_reply(&buffer[..received.length], self.layout());
            if let Some(Reply { rc, is_text, payload, .. }) =
                reply.filter(|reply| self.is_ours(reply, id, msg_type))
            {
                return Ok(Response { rc, payload: payload.to_vec(), is_text });
            }
            log::debug!("{}: a datagram that answers nothing", self.endpoint);
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(os(io::ErrorKind::TimedOut.into()));
            }
        }
    }

    fn is_ours(&self, reply: &Reply<'_>, id: u32, msg_type: u16) -> bool {
        reply.msg_type == i32::from(msg_type) && (self.classic.is_some() || reply.id == id)
    }

    fn encode_classic(&self, msg_type: u16, payload: &[u8]) -> Vec<u8> {
        let pad_to = match self.classic {
            Some(Classic::Fixed(size)) => Some(size),
            _ => None,
        };
        encode_classic(msg_type, payload, pad_to)
    }

    /// Waits until no other call is under way. Returns the socket and the new call's id.
    fn take_turn(&self, deadline: Option<Instant>) -> Result<(DatagramChannel, u32)> {
        let mut turn = self.lock();
        loop {
            if let Some(socket) = turn.socket.take() {
                turn.last_id = turn.last_id.wrapping_add(1).max(1);
                return Ok((socket, turn.last_id));
            }
            turn = match remaining(deadline) {
                Some(Duration::ZERO) => return Err(Error::new("call", &self.endpoint, Kind::TimedOut)),
                Some(left) => self.is_free.wait_timeout(turn, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.is_free.wait(turn).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn end_turn(&self, socket: DatagramChannel) {
        self.lock().socket = Some(socket);
        self.is_free.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Datagrams without frames to one server; from [`Connect::open_messages`](super::Connect::open_messages).
///
/// Sending and receiving take `&self`, so that one thread can receive while another sends. Each
/// waits at most as long as [`Connect::call_timeout`](super::Connect::call_timeout) says, and then
/// fails with [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct RawDatagrams {
    socket: DatagramChannel,
    timeout: Option<Duration>,
}

impl RawDatagrams {
    pub(super) fn new(socket: DatagramChannel, timeout: Option<Duration>) -> RawDatagrams {
        RawDatagrams { socket, timeout }
    }

    /// Sends one datagram; it may be empty.
    ///
    /// # Errors
    /// If the server has gone, the datagram is too large for the transport, or the server's queue
    /// stays full.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.send(bytes.as_ref(), self.timeout)
    }

    /// Waits for the next datagram of the server. Returns its length.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::InvalidData`] for one that is longer than
    /// `buffer`, whose end is lost; the server has gone.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = self.socket.receive(buffer, self.timeout)?;
        if received.truncated {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the datagram is longer than the buffer"));
        }
        Ok(received.length)
    }

    /// Our own address (getsockname(2)), which the server answers to.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn local_address(&self) -> io::Result<Address> {
        self.socket.local_address()
    }

    /// The server's address.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn peer_address(&self) -> io::Result<Address> {
        self.socket.peer_address()
    }
}
