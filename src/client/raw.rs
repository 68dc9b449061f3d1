//! Bytes and datagrams without frames, from the client's side.

use std::io;
use std::time::Duration;

use sidewire_platform::{Address, Channel, DatagramChannel, Endpoint, Peer};

use crate::error::{Error, Kind, Result};
use crate::loops;

/// A stream of bytes to a server that knows no frames; from [`Connect::open_raw`](super::Connect::open_raw).
///
/// Reading and writing take `&self`, so that one thread can read while another writes. Each
/// operation waits at most as long as [`Connect::call_timeout`](super::Connect::call_timeout)
/// says, and then fails with [`io::ErrorKind::TimedOut`]. In a handler of that very server
/// neither waits: what has not come yet is [`io::ErrorKind::InvalidInput`].
///
/// ```no_run
/// use std::io::{Read, Write};
/// use sidewire::{Access, Connect};
///
/// let stream = Connect::to("tcp:127.0.0.1:27015")?.access(Access::Anyone).open_raw()?;
/// (&stream).write_all(b"hello")?;
/// stream.shutdown_write()?;
/// let mut answer = Vec::new();
/// (&stream).read_to_end(&mut answer)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct RawStream {
    channel: Channel,
    endpoint: Endpoint,
    timeout: Option<Duration>,
}

impl RawStream {
    pub(super) fn new(channel: Channel, endpoint: Endpoint, timeout: Option<Duration>) -> RawStream {
        RawStream { channel, endpoint, timeout }
    }

    /// The endpoint that it is connected to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whose process the server is, as far as the system tells.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.channel.peer()
    }

    /// The server's address (getpeername(2)).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn peer_address(&self) -> Result<Address> {
        let address = self.channel.peer_address();
        address.map_err(|error| Error::os("look up the server's address on", &self.endpoint, error))
    }

    /// Our own address (getsockname(2)).
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn local_address(&self) -> Result<Address> {
        let address = self.channel.local_address();
        address.map_err(|error| Error::os("look up our address on", &self.endpoint, error))
    }

    fn waits_for_itself(&self) -> bool {
        loops::serves_peer(self.channel.peer(), &self.endpoint, || self.channel.peer_address().ok())
    }

    /// Half-close: tells the server that we send no more. What it sends still comes.
    ///
    /// # Errors
    /// If the connection has ended.
    ///
    /// # Platform-specific behavior
    /// A Windows pipe has no half-close: [`is_unsupported`](Error::is_unsupported).
    pub fn shutdown_write(&self) -> Result<()> {
        self.channel.shutdown_write().map_err(|error| Error::os("end writing to", &self.endpoint, error))
    }

    /// Ends the connection both ways; a thread that waits in it sees the end.
    pub fn shutdown(&self) {
        self.channel.shutdown();
    }
}

impl io::Read for &RawStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let is_own = self.waits_for_itself();
        let timeout = if is_own { Some(Duration::ZERO) } else { self.timeout };
        let received = self.channel.recv(buf, timeout);
        if is_own && received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Err(loops::waits_for_itself("read from", &self.endpoint).into());
        }
        received.map_err(|error| Error::os("read from", &self.endpoint, error).into())
    }
}

impl io::Write for &RawStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let timeout = if self.waits_for_itself() { Some(Duration::ZERO) } else { self.timeout };
        let sent = self.channel.send(buf, timeout);
        sent.map_err(|error| Error::os("write to", &self.endpoint, error).into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl io::Read for RawStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        io::Read::read(&mut &*self, buf)
    }
}

impl io::Write for RawStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut &*self, buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
            return Err(loops::waits_for_itself("receive from", &self.endpoint));
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
