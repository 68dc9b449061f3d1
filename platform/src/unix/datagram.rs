//! Bound datagram endpoints.
//!
//! Whoever sends from a path decides where that leads when the answer goes out: it may have become a
//! way to a private socket of ours, where what we say is taken for our own. So answers go only to a
//! socket file of the user who has sent, by the kernel's word, and never to our own.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::addr::SocketAddrArg;
use rustix::net::{RecvFlags, SocketAddrAny};
use socket2::{Protocol, SockAddr, SockRef, Socket, Type};

use super::bound::{BoundPath, Location};
use super::lifecycle::Role;
use super::listener::{bind_host, bound_to};
use super::message;
use super::names::{self, DatagramAddress};
use super::owned::Owned;
use super::rights::Rights;
use super::socket::{self, Buffers, Strangers, Transport};
use crate::BindOptions;
use crate::datagram::{Received, SendBuffer};
use crate::endpoint::Endpoint;
use crate::peer::{Address, User};

/// A bound datagram endpoint: receives from anyone who may send to it, and answers.
///
/// Dropping it removes from the file system what [`Datagrams::bind`] put there, unless someone has
/// put something else in its place; in a process that was forked meanwhile it only closes what it
/// has.
#[derive(Debug)]
pub struct Datagrams {
    /// Before the socket: see [`BoundPath`]. `None` for what has no file.
    file: Option<BoundPath>,
    socket: Socket,
    /// Those whose files have gone: clients that are connected there can go on.
    former: Vec<Socket>,
    /// Whether whoever sends may attach descriptors, which nobody has asked for.
    strangers: Strangers,
    buffers: Buffers,
    endpoint: Endpoint,
    /// What the system calls us as a sender.
    own: Address,
    /// Whether others than our own user and root can send. Counts where the system does not tell
    /// who has sent.
    #[cfg_attr(any(target_os = "linux", target_os = "android"), allow(dead_code))]
    others: bool,
}

impl Datagrams {
    /// Creates the endpoint, with its final access rights.
    ///
    /// A live server is never displaced; what a dead one has left behind is replaced. Waits at
    /// most two seconds for other programs that are starting at the same endpoint, and for the
    /// resolver if a UDP host is a name.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::AddrInUse`]: a server is already there.
    /// - [`io::ErrorKind::AlreadyExists`]: a file is in the way that is not a socket.
    /// - [`io::ErrorKind::PermissionDenied`]: UDP beyond loopback without
    ///   [`BindOptions::beyond_loopback`]; or the system says so.
    /// - [`io::ErrorKind::ResourceBusy`]: the lock of a socket's path can't be had.
    /// - [`io::ErrorKind::Unsupported`]: this system has no such endpoint; the text says which does.
    /// - [`io::ErrorKind::InvalidInput`]: not a datagram endpoint, or a name that does not fit.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: sockets in the file system have mode 0600, or what [`BindOptions::anyone`], `users` and `groups` say; on
    /// Linux at all times, on the BSDs and macOS from shortly after bind(2). Next to the path,
    /// `PATH.lock` exists while a server starts and while it goes. `abstractgram:` sockets have no
    /// mode: whoever shares the network namespace can send, and only a check of
    /// [`Received::credentials`] keeps others out. How many datagrams wait is up to the system, and
    /// not much: 11 per Unix socket where `net.unix.max_dgram_qlen` has its default of 10.
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Datagrams> {
        let (role, buffers) = (Role::Datagrams, Buffers::of(options));
        let (socket, file, endpoint) = match names::datagram_address(endpoint)? {
            DatagramAddress::Path(path) => {
                let location = Location::Path(path.to_owned());
                let (socket, file) = BoundPath::bind(location, role, Rights::of(options))?;
                set_buffers(&socket, buffers)?;
                (socket, Some(file), endpoint.clone())
            }
            DatagramAddress::Abstract(address) => {
                let socket = role.socket()?;
                set_buffers(&socket, buffers)?;
                socket.bind(&address)?;
                (socket, None, endpoint.clone())
            }
            DatagramAddress::Inet { host, port } => {
                let bind = |address| udp_socket(address, options);
                let socket = bind_host(host, port, options.beyond_loopback, bind)?;
                let (host, port) = bound_to(&socket)?;
                (socket, None, Endpoint::Udp { host, port })
            }
        };
        socket.set_nonblocking(true)?;
        let own = names::address(&socket.local_addr()?);
        let (former, others) = (Vec::new(), options.lets_in_others());
        let strangers = strangers_at(&socket, &endpoint);
        Ok(Datagrams { file, socket, former, strangers, buffers, endpoint, own, others })
    }

    /// Of a datagram socket that the program has already, as a service manager hands it over. It becomes
    /// non-blocking, which concerns all copies of it (fcntl(2), F_SETFL), and close-on-exec. Its rights stay
    /// as they are, and dropping this removes nothing from the file system. Of the options count the buffers,
    /// [`BindOptions::beyond_loopback`] and those that say whom it lets in.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is no such socket, or one without a name; the text says what it is.
    /// [`io::ErrorKind::PermissionDenied`]: UDP beyond loopback without [`BindOptions::beyond_loopback`].
    /// Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux: who has sent what came before this is not known. Windows: a UDP socket.
    pub fn from_owned(owned: Owned, options: &BindOptions) -> io::Result<Datagrams> {
        let (socket, endpoint) = owned.into_datagrams(options)?;
        let buffers = Buffers::of(options);
        set_buffers(&socket, buffers)?;
        socket.set_nonblocking(true)?;
        let own = names::address(&socket.local_addr()?);
        let (former, others) = (Vec::new(), options.lets_in_others());
        let strangers = strangers_at(&socket, &endpoint);
        Ok(Datagrams { file: None, socket, former, strangers, buffers, endpoint, own, others })
    }

    /// The endpoint that is really bound: as it was given, but UDP with its numeric address and port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Registers with mio, for [`Interest::READABLE`], edge-triggered: after an event, receive until
    /// [`io::ErrorKind::WouldBlock`].
    ///
    /// `ready` is for sources that mio can't watch: those call it, on a thread of their own, after
    /// each message that has come.
    ///
    /// # Errors
    ///
    /// What the system's selector says (epoll_ctl(2)), for example that it is registered already.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix drops `ready` at once; Windows calls it for mailslots.
    pub fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        ready: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<()> {
        drop(ready);
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, Interest::READABLE)
    }

    /// Takes the socket out of the poll, for example to pause receiving.
    ///
    /// # Errors
    ///
    /// What the system's selector says, for example that it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        for former in &self.former {
            let _ = SourceFd(&former.as_raw_fd()).deregister(registry);
        }
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }

    /// Whether others can remove what leads clients here, so that [`Datagrams::renew`] is to be called
    /// every few seconds.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: `unixgram:`. Windows: nothing.
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        self.file.is_some()
    }

    /// Looks whether clients still find the way here, and if not, opens the endpoint anew, by the rules
    /// of [`Datagrams::bind`] but without waiting for anybody. `registry` and `token` are those that it
    /// is registered with. True: it was opened anew; receive until [`io::ErrorKind::WouldBlock`], as
    /// after an event. Clients that had found the way before are served as before.
    ///
    /// # Errors
    ///
    /// It is lost, and can't be opened now, for the reasons of [`Datagrams::bind`]: for example, somebody
    /// else is there. Or it can't be told whether it is lost. Try again later.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: one lstat(2) as long as all is well. Of the sockets that have lost their files the last four
    /// are kept. Windows: does nothing.
    pub fn renew(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let Some((socket, files)) = file.renew()? else { return Ok(false) };
        set_buffers(&socket, self.buffers)?;
        socket.set_nonblocking(true)?;
        SourceFd(&socket.as_raw_fd()).register(registry, token, Interest::READABLE)?;
        file.adopt(files);
        if self.former.len() == MOST_FORMER {
            let _ = SourceFd(&self.former.remove(0).as_raw_fd()).deregister(registry);
        }
        self.former.push(std::mem::replace(&mut self.socket, socket));
        Ok(true)
    }

    /// Takes the next datagram, without blocking. An empty one is a message too, of length 0; what
    /// `buf` has no room for is lost, and [`Received::truncated`] says so. What comes from our own
    /// address is dropped: a server that answers itself does nothing else any more.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when there is none. That an earlier answer found nobody is not
    /// reported here (udp(7), ECONNREFUSED).
    ///
    /// # Platform-specific behavior
    ///
    /// Linux, Unix sockets: [`Received::credentials`] come from SCM_CREDENTIALS (unix(7)), attached
    /// by the kernel as the datagram was sent. The user is the sender's *real* user id, where streams
    /// tell the effective one, unless the sender has named another that it may take on at will: its
    /// effective or saved one, or any if it has CAP_SETUID (root) over that user. The process id is
    /// the sender's own unless it has CAP_SYS_ADMIN. No process id for a sender outside our pid
    /// namespace, and the overflow user ([`User::is_known`](crate::User::is_known) is false) for one
    /// outside our user namespace. Descriptors that a sender attaches (SCM_RIGHTS) are closed,
    /// by another thread, and from Linux 6.16 on are not accepted to begin with (SO_PASSRIGHTS). Other systems, and UDP everywhere: no credentials.
    pub fn receive(&mut self, buf: &mut [u8]) -> io::Result<Received> {
        loop {
            match self.receive_any(buf) {
                // Answering it would be for ever.
                Ok(received) if received.from.as_ref().is_some_and(|from| self.is_own(from)) => {
                    log::trace!("{}: dropped a datagram from its own address", self.endpoint);
                }
                // ICMP's word on something that was sent earlier, to whomever. Each is told once.
                Err(
                    Errno::CONNREFUSED
                    | Errno::CONNRESET
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::HOSTDOWN
                    | Errno::NETDOWN,
                ) => {}
                received => return Ok(received?),
            }
        }
    }

    /// From the socket, or from one that has lost its file.
    fn receive_any(&self, buf: &mut [u8]) -> rustix::io::Result<Received> {
        let mut receive = |socket: &Socket| retry_on_intr(|| self.receive_one(socket, buf));
        let mut received = receive(&self.socket);
        for former in &self.former {
            if !matches!(received, Err(Errno::AGAIN)) {
                break;
            }
            received = receive(former);
        }
        received
    }

    fn receive_one(&self, socket: &Socket, buf: &mut [u8]) -> rustix::io::Result<Received> {
        match self.strangers {
            Strangers::KeptOut => message::receive(socket, buf, RecvFlags::DONTWAIT),
            Strangers::MayCome => message::receive_and_dispose(socket, buf, RecvFlags::DONTWAIT),
        }
    }

    /// Sends one datagram, as a rule to where one came from ([`Received::from`]), without blocking.
    /// It goes whole or not at all. `owner`: whose socket a path must lead to, which is the user of
    /// that datagram ([`Received::credentials`]).
    ///
    /// # Errors
    ///
    /// All of them concern this one receiver or message:
    ///
    /// - [`io::ErrorKind::WouldBlock`]: its queue is full, or ours. No event will tell of room: try
    ///   again later.
    /// - [`io::ErrorKind::NotFound`], [`io::ErrorKind::ConnectionRefused`]: the receiver has gone.
    /// - [`io::ErrorKind::PermissionDenied`]: it does not take datagrams from us; or the path does
    ///   not lead to a socket of `owner`, or nobody knows who that is, or it is ourselves.
    /// - [`io::ErrorKind::InvalidInput`]: too large for this transport, or no address that can be
    ///   answered: none, a relative path, one of another transport.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: UDP takes 65,507 bytes over IPv4 (udp(7)); a Unix socket somewhat less than its send
    /// buffer, with the default options at least 200,000. UDP does not tell of a receiver that has
    /// gone, and drops what finds no room.
    ///
    /// On Unix sockets, what receivers have not read stays in *our* send buffer: see
    /// [`Datagrams::send_buffer`]. A path is looked up *now*, with our rights and at the speed of its
    /// file system. On Linux it must then lead to a socket file that belongs to `owner`, who must be
    /// known, and to no symbolic link; /proc must be there. (So a program whose real and effective users
    /// differ is not answered at a path, since its file has the one and its datagrams tell the other.)
    /// Other systems tell no credentials; there an endpoint that is bound for its owner alone answers at
    /// any path but its own, and one for others at none. Clients bound to an abstract name, as [`DatagramChannel`](crate::DatagramChannel) is on Linux, have no such file,
    /// but must be in our network namespace to be answered.
    pub fn send(&mut self, bytes: &[u8], to: &Address, owner: Option<&User>) -> io::Result<()> {
        let address = names::answer_address(to)?;
        if self.is_own(to) {
            return Err(refused("that is our own address"));
        }
        let sent = match (to, &self.endpoint) {
            // Which the system refuses, whatever the path leads to.
            (Address::Path(path), Endpoint::UnixGram(_) | Endpoint::AbstractGram(_)) => {
                self.send_to_path(bytes, path, &address, owner)?
            }
            _ => self.send_any(bytes, &address),
        };
        match sent {
            Ok(_) => Ok(()),
            // The BSDs and macOS say so of a full queue.
            Err(Errno::NOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(Errno::AFNOSUPPORT) => {
                let text = "this address belongs to another transport";
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
            Err(Errno::MSGSIZE) => Err(too_large(bytes.len())),
            Err(error) => Err(error.into()),
        }
    }

    /// From the socket, or from one that has lost its file, to clients that are connected to that: they
    /// take nothing from any other (EPERM, unix(7)).
    fn send_any(&self, bytes: &[u8], to: &impl SocketAddrArg) -> rustix::io::Result<usize> {
        let mut sent = socket::send_to(&self.socket, bytes, to);
        for former in self.former.iter().rev() {
            if sent != Err(Errno::PERM) {
                break;
            }
            sent = socket::send_to(former, bytes, to);
        }
        sent
    }

    /// By a handle, so that nobody can exchange the file between the look and the sending.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn send_to_path(
        &self,
        bytes: &[u8],
        path: &Path,
        address: &SocketAddrAny,
        owner: Option<&User>,
    ) -> io::Result<rustix::io::Result<usize>> {
        use rustix::fs::{Mode, OFlags, fstat, open};
        use rustix::net::SocketAddrUnix;

        use super::file::is_socket;

        let Some(User::Uid(owner)) = owner.filter(|owner| owner.is_known()) else {
            return Err(refused("who has sent from this path is not known"));
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = match open(path, flags, Mode::empty()) {
            Err(Errno::MFILE | Errno::NFILE) => return Err(io::ErrorKind::WouldBlock.into()),
            opened => opened?,
        };
        let found = fstat(&handle)?;
        if !is_socket(&found) || found.st_uid != *owner {
            return Err(refused("the path does not lead to a socket of who has sent from there"));
        }
        if self.file.as_ref().is_some_and(|file| file.is(&found)) {
            return Err(refused("the path leads to ourselves"));
        }
        let by_handle = SocketAddrUnix::new(format!("/proc/self/fd/{}", handle.as_raw_fd()))?;
        match self.send_any(bytes, &by_handle) {
            // There is no /proc here. The path will do where nobody else can change what it leads to.
            Err(Errno::NOENT) if is_kept_by_owner(path, &found) => Ok(self.send_any(bytes, address)),
            sent => Ok(sent),
        }
    }

    /// Where the system does not tell who has sent, the mode of our own file has to: it lets nobody
    /// in but our user, who gains nothing by a path of theirs, and root.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn send_to_path(
        &self,
        bytes: &[u8],
        path: &Path,
        address: &SocketAddrAny,
        _owner: Option<&User>,
    ) -> io::Result<rustix::io::Result<usize>> {
        if self.others {
            return Err(refused("who has sent from this path is not known"));
        }
        let found = rustix::fs::stat(path)?;
        if self.file.as_ref().is_some_and(|file| file.is(&found)) {
            return Err(refused("the path leads to ourselves"));
        }
        Ok(self.send_any(bytes, address))
    }

    /// Whether a datagram from there comes from this socket, or one to there arrives at it.
    fn is_own(&self, address: &Address) -> bool {
        match (&self.own, address) {
            (Address::Inet(own), Address::Inet(other)) => {
                let (ours, theirs) = (own.ip().to_canonical(), other.ip().to_canonical());
                let is_us = ours == theirs || (ours.is_unspecified() && theirs.is_loopback());
                own.port() == other.port() && is_us
            }
            (own, other) => own == other,
        }
    }

    /// How much of what was sent has not been read yet, where that takes room from what is still to
    /// be sent. `None`: it does not, or the system does not tell.
    ///
    /// # Platform-specific behavior
    ///
    /// Linux, Unix sockets: the bytes stay in our send buffer until they are read. A receiver that is
    /// connected to us can take all of it (af_unix.c; others take 11 datagrams, see
    /// [`Datagrams::bind`]), and one that does not read them keeps us from answering anyone. `None`
    /// on other systems, and for UDP.
    #[must_use]
    pub fn send_buffer(&self) -> Option<SendBuffer> {
        match self.endpoint {
            Endpoint::Udp { .. } => None,
            _ => socket::send_buffer(&self.socket),
        }
    }
}

/// Sockets without a file that are kept for the clients that are connected to them.
const MOST_FORMER: usize = 4;

fn strangers_at(socket: &Socket, endpoint: &Endpoint) -> Strangers {
    match endpoint {
        Endpoint::Udp { .. } => Strangers::KeptOut,
        _ => Strangers::at(socket, Transport::Unix),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_kept_by_owner(path: &Path, found: &rustix::fs::Stat) -> bool {
    let folder = path.parent().and_then(|folder| rustix::fs::stat(folder).ok());
    folder.is_some_and(|folder| super::owner::speaks_for_its_owner(found, &folder))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

pub(super) fn too_large(length: usize) -> io::Error {
    let text = format!("a message of {length} bytes is too large for one datagram here");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// What is asked for unless the options say otherwise: room for a few large messages. The systems'
/// defaults are made for UDP over networks, and on some don't take 100,000 bytes.
const BUFFER: u32 = 1 << 20;

/// What was asked for must be had; the default is a wish.
fn set_buffers(socket: &Socket, buffers: Buffers) -> io::Result<()> {
    set_default_buffers(socket);
    buffers.set(SockRef::from(socket))
}

pub(super) fn set_default_buffers(socket: &Socket) {
    for wish in [Buffers { recv: Some(BUFFER), send: None }, Buffers { recv: None, send: Some(BUFFER) }] {
        if let Err(error) = wish.set(SockRef::from(socket)) {
            log::debug!("the system has no buffer of {BUFFER} bytes for datagrams: {error}");
        }
    }
}

/// Without SO_REUSEADDR, with which UDP lets another process of ours take the port (socket(7)).
fn udp_socket(address: SocketAddr, options: &BindOptions) -> io::Result<Socket> {
    let socket = socket::inet(address, Type::DGRAM, Protocol::UDP)?;
    set_buffers(&socket, Buffers::of(options))?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}
