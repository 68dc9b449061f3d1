//! Bound stream endpoints.

mod handover;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::bound::{BoundPath, Location};
use super::channel::Channel;
use super::folders::Folders;
use super::lifecycle::Role;
use super::names::{self, StreamAddress};
use super::owned::Owned;
use super::rights::Rights;
use super::socket::{self, Buffers, Strangers, Transport};
use super::stream::Stream;
use crate::BindOptions;
use crate::endpoint::Endpoint;
use crate::hosts;
use crate::peer::Address;

/// A bound stream endpoint: a source of [`Stream`]s.
///
/// Dropping it removes from the file system what [`Listener::bind`] put there, unless someone has
/// put something else in its place; in a process that was forked meanwhile it only closes what it
/// has. Connections that were accepted live on.
#[derive(Debug)]
pub struct Listener {
    /// Before the socket: see [`BoundPath`]. `None` for what has no file.
    file: Option<BoundPath>,
    socket: Socket,
    /// Those whose files have gone, until nobody waits at them any more.
    former: Vec<Socket>,
    standing: Standing,
    transport: Transport,
    /// Whether those who come may attach descriptors, asked for or not.
    strangers: Strangers,
    /// For Unix connections, which do not inherit them.
    buffers: Buffers,
    endpoint: Endpoint,
}

/// Who may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Open,
    /// Nobody any more.
    Withdrawn,
    /// Whoever comes is another's, who listens in our place.
    HandedOn,
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
    /// Unix: sockets in the file system have mode 0600, or what [`BindOptions::anyone`], `users` and `groups` say, from
    /// the moment that anyone can connect. Next to the path, `PATH.lock` exists while a listener
    /// starts and while it goes; a file system without flock(2) is locked by fcntl(2) (Linux), and one
    /// with neither gets a warning in the log, and keeps a dead server's socket until somebody removes
    /// it. `abstract:` sockets have no mode: whoever shares the network
    /// namespace can connect, and only a check of [`Stream::peer`] keeps others out. On the BSDs
    /// and macOS a server whose backlog is full can't be told from a dead one.
    ///
    /// `local:NAME` is one name for a user, whatever the environment: the socket is `NAME.sock` in the
    /// first folder that takes it of `$XDG_RUNTIME_DIR`, `/run/user/UID` and `/tmp/sidewire-UID`, after
    /// nobody was found in any of them. If it is in one that others may not know, symbolic links in the
    /// other two lead to it. Where neither of these can be written to (somebody else has created
    /// `/tmp/sidewire-UID`, or a sandbox has a `/tmp` of its own), programs with different
    /// `$XDG_RUNTIME_DIR` do not see each other.
    ///
    /// TCP sets SO_REUSEADDR, so that a restart does not wait for old connections (socket(7)).
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Listener> {
        Listener::open(endpoint, options).map_err(|error| in_use(endpoint, error))
    }

    fn open(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Listener> {
        let role = Role::listener(options);
        let at_path = |location| {
            BoundPath::bind(location, role, Rights::of(options))
                .map(|(socket, file)| (socket, Some(file), Transport::Unix, endpoint.clone()))
        };
        let (socket, file, transport, endpoint) = match names::stream_address(endpoint)? {
            StreamAddress::Local(name) => {
                at_path(Location::Local { name: name.to_owned(), folders: Folders::of_this_process() })?
            }
            StreamAddress::Path(path) => at_path(Location::Path(path.to_owned()))?,
            StreamAddress::Abstract(address) => {
                let socket = role.socket()?;
                socket.bind(&address)?;
                role.start(&socket)?;
                (socket, None, Transport::Unix, endpoint.clone())
            }
            StreamAddress::Inet { host, port } => {
                let socket = bind_host(host, port, options.beyond_loopback, |address| {
                    let socket = tcp_socket(address, options)?;
                    role.start(&socket).map(|()| socket)
                })?;
                let (host, port) = bound_to(&socket)?;
                let endpoint = Endpoint::Tcp { host, port };
                (socket, None, Transport::Tcp, endpoint)
            }
        };
        socket.set_nonblocking(true)?;
        Ok(Listener::of(socket, (file, transport, endpoint), options))
    }

    /// Of a socket that listens already, as a service manager hands it over. It becomes non-blocking, which
    /// concerns all copies of it (fcntl(2), F_SETFL), and close-on-exec. Its rights and its backlog stay
    /// as they are, and dropping this removes nothing from the file system. Of the options count those
    /// about connections, and [`BindOptions::beyond_loopback`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is no such socket; the text says what it is.
    /// [`io::ErrorKind::PermissionDenied`]: TCP beyond loopback without [`BindOptions::beyond_loopback`].
    /// Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: a stream socket, Unix or TCP; whoever has called listen(2) is what clients take for the
    /// server (SO_PEERCRED, unix(7)). Windows: a TCP socket; a pipe's listener is its name.
    pub fn from_owned(owned: Owned, options: &BindOptions) -> io::Result<Listener> {
        let (socket, transport, endpoint) = owned.into_listener(options)?;
        if transport == Transport::Tcp {
            set_tcp_options(&socket, options)?;
        }
        socket.set_nonblocking(true)?;
        Ok(Listener::of(socket, (None, transport, endpoint), options))
    }

    /// One that listens.
    fn of(
        socket: Socket,
        (file, transport, endpoint): (Option<BoundPath>, Transport, Endpoint),
        options: &BindOptions,
    ) -> Listener {
        let (strangers, buffers) = (Strangers::at(&socket, transport), Buffers::of(options));
        let (former, standing) = (Vec::new(), Standing::Open);
        Listener { file, socket, former, standing, transport, strangers, buffers, endpoint }
    }

    /// Whether nothing is left of a listener on this endpoint that was dropped, nor of its streams, and
    /// another can be bound there. After a drop the poll must turn until this is true.
    ///
    /// # Platform-specific behavior
    ///
    /// Always true on Unix. On Windows a pipe is there as long as any handle of its server is.
    #[must_use]
    pub fn is_gone(endpoint: &Endpoint) -> bool {
        let _ = endpoint;
        true
    }

    /// The endpoint that is really bound: as it was given, but TCP with its numeric address and port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address that it is bound to, as its clients see it.
    ///
    /// # Errors
    ///
    /// What getsockname(2) says.
    pub fn local_address(&self) -> io::Result<Address> {
        Ok(names::address(&self.socket.local_addr()?))
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
        for former in self.former.drain(..) {
            let _ = SourceFd(&former.as_raw_fd()).deregister(registry);
        }
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }

    /// Whether others can remove what leads clients here, so that [`Listener::renew`] is to be called
    /// every few seconds.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: what has a file. Windows: nothing.
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        self.file.is_some()
    }

    /// Looks whether clients still find the way here, and if not, opens the endpoint anew, by the rules
    /// of [`Listener::bind`] but without waiting for anybody. `registry` and `token` are those that
    /// the listener is registered with. True: it was opened anew; accept until
    /// [`io::ErrorKind::WouldBlock`], as after an event: first come those who were waiting before.
    ///
    /// # Errors
    ///
    /// It is lost, and can't be opened now, for the reasons of [`Listener::bind`]: for example, somebody
    /// else is there. Or it can't be told whether it is lost. Try again later.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: one lstat(2) as long as all is well, and one for each symbolic link that `local:` has left
    /// elsewhere. Windows: does nothing.
    pub fn renew(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let Some((socket, files)) = file.renew()? else { return Ok(false) };
        socket.set_nonblocking(true)?;
        SourceFd(&socket.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        file.adopt(files);
        self.former.push(std::mem::replace(&mut self.socket, socket));
        Ok(true)
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
    /// Unix ignores `token`.
    pub fn accept(&mut self, registry: &Registry, token: Token) -> io::Result<Stream> {
        let _ = token;
        while let Some(former) = self.former.last() {
            match self.accept_from(former) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = SourceFd(&former.as_raw_fd()).deregister(registry);
                    self.former.pop();
                }
                accepted => return Ok(Stream::new(accepted?, self.transport, self.strangers)),
            }
        }
        if self.standing == Standing::HandedOn {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Stream::new(self.accept_from(&self.socket)?, self.transport, self.strangers))
    }

    /// Has nobody find the way here any more. Who had found it is still there for [`Listener::accept`], up to
    /// [`io::ErrorKind::WouldBlock`]; then drop the listener, behind which such connections would be reset. Not for a
    /// socket that another [has given](Listener::from_owned) and may go on listening with: nobody would come to him, either.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: what [`Listener::bind`] put into the file system is removed, under its lock, and on Linux a Unix
    /// socket refuses whoever comes now, also one who had looked its name up before. Elsewhere such a one, and
    /// a TCP client that comes before the drop, can still be reset. Windows: an instance that waits is closed; a
    /// client that connects to it in that very moment sees the end.
    pub fn withdraw(&mut self, registry: &Registry) {
        let _ = registry;
        self.file = None;
        self.standing = Standing::Withdrawn;
        if self.transport == Transport::Unix {
            self.former.iter().chain([&self.socket]).for_each(|socket| self.shut_down(socket));
        }
    }

    /// Only Linux knows this of a listener; it keeps those who wait, and takes no more (unix(7)).
    fn shut_down(&self, socket: &Socket) {
        if let Err(error) = socket.shutdown(std::net::Shutdown::Read) {
            log::debug!("{}: shutting a listener down: {error}", self.endpoint);
        }
    }

    fn accept_from(&self, listening: &Socket) -> io::Result<OwnedFd> {
        let socket = socket::accept(listening).map_err(|error| match Errno::from_io_error(&error) {
            // What Linux says of one that was shut down when all are out.
            Some(Errno::INVAL) if self.standing != Standing::Open => io::ErrorKind::WouldBlock.into(),
            _ => error,
        })?;
        if self.transport == Transport::Unix {
            // Asked for, not needed: that they were accepted at bind(2) is as much as can be said.
            let _ = self.buffers.set(SockRef::from(&socket));
        }
        Ok(socket)
    }
}

/// Names the server that holds an endpoint, if the system tells: whoever answers there, which notices
/// nothing but a client that leaves at once.
fn in_use(endpoint: &Endpoint, error: io::Error) -> io::Error {
    const PATIENCE: Duration = Duration::from_millis(50);
    if error.kind() != io::ErrorKind::AddrInUse || !endpoint.has_credentials() {
        return error;
    }
    match Channel::connect(endpoint, Some(PATIENCE)) {
        Ok(server) => io::Error::new(error.kind(), format!("{error}: {}", server.peer().as_server())),
        Err(_) => error,
    }
}

/// Binds the first address of a host that works.
pub(super) fn bind_host(
    host: &str,
    port: u16,
    beyond_loopback: bool,
    bind: impl Fn(SocketAddr) -> io::Result<Socket>,
) -> io::Result<Socket> {
    let mut refusal = None;
    for address in hosts::resolve(host, port)? {
        if !beyond_loopback && !hosts::is_loopback(&address) {
            refusal.get_or_insert_with(|| hosts::not_loopback(&address));
            continue;
        }
        match bind(address) {
            Ok(bound) => return Ok(bound),
            // The system's own words say more than that another address was not allowed.
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// The numeric host and the port that a TCP or UDP socket has been bound to.
pub(super) fn bound_to(socket: &Socket) -> io::Result<(String, u16)> {
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((hosts::host(&address), address.port()))
}

/// A bound socket whose options the connections inherit that it accepts.
fn tcp_socket(address: SocketAddr, options: &BindOptions) -> io::Result<Socket> {
    let socket = socket::inet(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    set_tcp_options(&socket, options)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn set_tcp_options(socket: &Socket, options: &BindOptions) -> io::Result<()> {
    socket.set_tcp_nodelay(options.nodelay)?;
    if let Some(idle) = options.keepalive {
        let idle = idle.max(MIN_KEEPALIVE).min(MAX_KEEPALIVE);
        let whole = Duration::from_secs(idle.as_secs() + u64::from(idle.subsec_nanos() > 0));
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(whole))?;
    }
    Buffers::of(options).set(SockRef::from(socket))
}

/// What TCP_KEEPIDLE takes (`MAX_TCP_KEEPIDLE` of the Linux kernel).
const MIN_KEEPALIVE: Duration = Duration::from_secs(1);
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, Call, script};
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn accepted(listener: &Listener) -> Socket {
        loop {
            match listener.accept_from(&listener.socket) {
                Ok(socket) => return Socket::from(socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn over_tcp(options: &BindOptions) -> Socket {
        let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap(), options).unwrap();
        let Endpoint::Tcp { host, port } = listener.endpoint() else { panic!("{listener:?}") };
        let _client = TcpStream::connect((host.as_str(), *port)).unwrap();
        accepted(&listener)
    }

    #[test]
    fn tcp_connections_have_the_options_of_their_listener() {
        let plain = over_tcp(&BindOptions::default());
        assert!(plain.tcp_nodelay().unwrap() && !plain.keepalive().unwrap());

        let options = BindOptions {
            recv_buffer: Some(50_000),
            send_buffer: Some(60_000),
            nodelay: false,
            keepalive: Some(Duration::from_millis(6_001)),
            ..BindOptions::default()
        };
        let tuned = over_tcp(&options);
        assert!(!tuned.tcp_nodelay().unwrap() && tuned.keepalive().unwrap());
        assert_eq!(tuned.tcp_keepalive_time().unwrap(), Duration::from_secs(7));
        let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
        assert_eq!(tuned.recv_buffer_size().unwrap(), factor * 50_000);
        assert_eq!(tuned.send_buffer_size().unwrap(), factor * 60_000);
    }

    #[test]
    fn any_keepalive_time_is_made_to_fit() {
        for (asked, seconds) in [(Duration::ZERO, 1), (Duration::MAX, 32_767)] {
            let tuned = over_tcp(&BindOptions { keepalive: Some(asked), ..BindOptions::default() });
            assert_eq!(tuned.tcp_keepalive_time().unwrap(), Duration::from_secs(seconds));
        }
    }

    #[test]
    fn unix_connections_have_the_buffers_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let options = BindOptions { send_buffer: Some(30_000), ..BindOptions::default() };
        let listener = Listener::bind(&Endpoint::Unix(path.clone()), &options).unwrap();
        let _client = UnixStream::connect(path).unwrap();
        let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
        assert_eq!(accepted(&listener).send_buffer_size().unwrap(), factor * 30_000);
    }

    /// A listener that one client waits at.
    fn with_client() -> (mio::Poll, Listener, TcpStream) {
        let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap(), &BindOptions::default()).unwrap();
        let Endpoint::Tcp { host, port } = listener.endpoint() else { panic!("{listener:?}") };
        let client = TcpStream::connect((host.as_str(), *port)).unwrap();
        (mio::Poll::new().unwrap(), listener, client)
    }

    #[test]
    fn who_waits_for_a_descriptor_is_accepted_later() {
        for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
            let (poll, mut listener, client) = with_client();
            let _script = script(&[(Call::Accept, Answer::Fails(code)); 2]);
            for _ in 0..2 {
                let error = listener.accept(poll.registry(), Token(0)).unwrap_err();
                assert!(crate::is_descriptor_limit(&error), "{error}");
            }
            let stream = listener.accept(poll.registry(), Token(0)).unwrap();
            assert_eq!(stream.peer_address().unwrap(), Address::Inet(client.local_addr().unwrap()));
        }
    }

    #[test]
    fn a_client_that_has_left_is_one_error_and_an_interruption_is_none() {
        let (poll, mut listener, _client) = with_client();
        let _script = script(
            &[libc::ECONNABORTED, libc::EINTR, libc::EINTR].map(|code| (Call::Accept, Answer::Fails(code))),
        );
        let error = listener.accept(poll.registry(), Token(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(!crate::is_descriptor_limit(&error));
        listener.accept(poll.registry(), Token(0)).unwrap();
        let error = listener.accept(poll.registry(), Token(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn behind_a_withdrawal_those_who_had_found_the_way_are_there_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (path, known) = (folder.path().join("s"), folder.path().join("known"));
        let mut poll = mio::Poll::new().unwrap();
        let mut listener = Listener::bind(&Endpoint::Unix(path.clone()), &BindOptions::default()).unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        // As one who has looked the name up, and then is slow.
        std::fs::hard_link(&path, &known).unwrap();
        let waiting = [(); 3].map(|()| UnixStream::connect(&path).unwrap());
        listener.withdraw(poll.registry());
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        if cfg!(any(target_os = "linux", target_os = "android")) {
            assert_eq!(UnixStream::connect(&known).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
        let next = Listener::bind(&Endpoint::Unix(path), &BindOptions::default()).unwrap();
        poll.poll(&mut mio::Events::with_capacity(8), Some(Duration::ZERO)).unwrap();
        for _ in &waiting {
            listener.accept(poll.registry(), Token(0)).unwrap();
        }
        let error = listener.accept(poll.registry(), Token(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        listener.deregister(poll.registry()).unwrap();
        drop((listener, next, waiting));
    }
}
