//! Bound stream endpoints.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::folders::Folders;
use super::lifecycle::{self, SocketFile};
use super::names::{self, Place};
use super::socket::{self, Transport};
use super::stream::Stream;
use crate::BindOptions;
use crate::endpoint::Endpoint;

/// A bound stream endpoint: a source of [`Stream`]s.
///
/// Dropping it removes from the file system what [`Listener::bind`] put there, unless someone has
/// put something else in its place. Connections that were accepted live on.
#[derive(Debug)]
pub struct Listener {
    /// Before the socket: see [`SocketFile`]. `None` for what has no file.
    _file: Option<SocketFile>,
    socket: Socket,
    transport: Transport,
    endpoint: Endpoint,
}

impl Listener {
    /// Creates the endpoint, with its final access rights, and listens.
    ///
    /// A live server is never displaced; what a dead one has left behind is replaced. Waits at
    /// most two seconds for other programs that are starting at the same endpoint, and for the
    /// resolver if a TCP host is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::AddrInUse`]: a server is already there.
    /// - [`io::ErrorKind::AlreadyExists`]: a file is in the way that is not a socket.
    /// - [`io::ErrorKind::PermissionDenied`]: TCP beyond loopback without
    ///   [`BindOptions::beyond_loopback`]; no private folder for `local:`; or the system says so.
    /// - [`io::ErrorKind::ResourceBusy`]: the lock of a socket's path can't be had.
    /// - [`io::ErrorKind::Unsupported`]: this system has no such endpoint; the text says which does.
    /// - [`io::ErrorKind::InvalidInput`]: not a stream endpoint, or a name that does not fit.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: sockets in the file system have mode 0600, or 0666 for [`BindOptions::anyone`], from
    /// the moment that anyone can connect. Next to the path, `PATH.lock` exists while a listener
    /// starts and while it goes. `abstract:` sockets have no mode: whoever shares the network
    /// namespace can connect, and only a check of [`Stream::peer`] keeps others out. On the BSDs
    /// and macOS a server whose backlog is full can't be told from a dead one.
    /// TCP sets SO_REUSEADDR, so that a restart does not wait for old connections (socket(7)).
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Listener> {
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        let at_path = |(socket, file)| (socket, Some(file), Transport::Unix, endpoint.clone());
        let (socket, file, transport, endpoint) = match names::place(endpoint)? {
            Place::Local(name) => {
                let path = Folders::of_this_process().server_path(name)?;
                lifecycle::bind(&path, options.anyone, backlog).map(at_path)?
            }
            Place::Path(path) => lifecycle::bind(path, options.anyone, backlog).map(at_path)?,
            Place::Abstract(address) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.bind(&address)?;
                socket.listen(backlog)?;
                (socket, None, Transport::Unix, endpoint.clone())
            }
            Place::Inet { host, port } => {
                let (socket, bound) = bind_host(host, port, backlog, options.beyond_loopback)?;
                let endpoint = Endpoint::Tcp { host: bound.ip().to_string(), port: bound.port() };
                (socket, None, Transport::Tcp, endpoint)
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Listener { _file: file, socket, transport, endpoint })
    }

    /// The endpoint that is really bound: as it was given, but TCP with its numeric address and port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Registers with mio, for [`Interest::READABLE`], edge-triggered: after an event, accept until
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// # Errors
    ///
    /// What the system's selector says (epoll_ctl(2)), for example that it is registered already.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, Interest::READABLE)
    }

    /// Takes the listener out of the poll, for example to pause accepting.
    ///
    /// # Errors
    ///
    /// What the system's selector says, for example that it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }

    /// Takes the next connection, without blocking. `registry` and `token` are those that the
    /// listener is registered with.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when nobody is waiting. When
    /// [`is_descriptor_limit`](crate::is_descriptor_limit) is true the connection goes on waiting;
    /// pause before trying again. Any other error concerns one connection, which is gone, as
    /// [`io::ErrorKind::ConnectionAborted`] does: go on accepting (accept(2)).
    ///
    /// # Platform-specific behavior
    ///
    /// Unix ignores `registry` and `token`. TCP connections have TCP_NODELAY set.
    pub fn accept(&mut self, registry: &Registry, token: Token) -> io::Result<Stream> {
        let _ = (registry, token);
        let socket = socket::accept(&self.socket)?;
        if self.transport == Transport::Tcp {
            // It fails only on a connection that is gone already, which reading will tell.
            let _ = socket2::SockRef::from(&socket).set_tcp_nodelay(true);
        }
        Ok(Stream::new(socket, self.transport))
    }
}

/// Listens on the first address of a host that works.
fn bind_host(host: &str, port: u16, backlog: i32, beyond_loopback: bool) -> io::Result<(Socket, SocketAddr)> {
    let mut refusal = None;
    for address in names::inet_addresses(host, port)? {
        // An IPv4 address in IPv6 clothes is judged by what it is.
        if !beyond_loopback && !address.ip().to_canonical().is_loopback() {
            refusal.get_or_insert_with(|| {
                let text = format!(
                    "{} is not a loopback address; the option `beyond_loopback` (BindOptions) allows others",
                    address.ip()
                );
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            });
            continue;
        }
        match bind_inet(address, backlog) {
            Ok(bound) => return Ok(bound),
            // The system's own words say more than that another address was not allowed.
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

fn bind_inet(address: SocketAddr, backlog: i32) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(backlog)?;
    let bound = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, bound))
}
