//! How an endpoint is opened.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sidewire_platform::{BindOptions, Endpoint, Owned};

use crate::access::Access;
use crate::error::Error;
use crate::limits::ListenerLimits;
#[cfg(feature = "token")]
use crate::token::Token;
use sidewire_wire::Classic;

/// An endpoint to listen on, with options. [`Server::listen`](super::Server::listen) also takes
/// a plain text where the defaults will do.
///
/// ```
/// use sidewire::{Access, Listen};
///
/// let listen = Listen::on("tcp:127.0.0.1:0")?.access(Access::Anyone).classic_max(4096);
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Listen {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    /// `None`: the default, which depends on the address.
    pub(super) classic: Option<Classic>,
    pub(super) bind: BindOptions,
    /// `None`: the server's.
    pub(super) limits: Option<ListenerLimits>,
    /// How long it may take to take the endpoint over, if that is to be done.
    pub(super) take_over: Option<Duration>,
    /// What clients have to prove that they know.
    #[cfg(feature = "token")]
    pub(super) token: Option<Token>,
    adopted: Option<Adopted>,
}

/// A socket that is there already. Whoever opens it first has it, of all that are clones of each other.
#[derive(Clone, Debug)]
struct Adopted {
    socket: Arc<Mutex<Option<Owned>>>,
    name: Option<Arc<str>>,
}

const ADOPT: &str = "adopt a socket";

impl Listen {
    /// This endpoint, for processes of the same user.
    ///
    /// # Errors
    /// If it is a text that is no endpoint.
    pub fn on<E>(endpoint: E) -> Result<Listen, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Ok(endpoint.try_into()?.into())
    }

    /// A socket that the program has already: one that listens for streams, or one that datagrams come to, which is
    /// bound. The server serves it as it is, where it is: the options about opening an endpoint
    /// ([`backlog`](Listen::backlog), [`pending_instances`](Listen::pending_instances)) say nothing here, nor does
    /// [`access`](Listen::access) change who may reach the socket; only who of those is let in, which is held to
    /// as anywhere. Its file belongs to whoever made it: it is not removed in the end, and not put back when
    /// somebody else has removed it. Who waits there when the server stops is left to whoever else has the socket,
    /// such as a service manager, who starts the next server for them; if nobody has, they are turned away by its end.
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::unix::net::UnixListener;
    /// use sidewire::{Listen, Server};
    ///
    /// # let folder = std::env::temp_dir().join(format!("adopt-{}", std::process::id()));
    /// # let path = &folder;
    /// let socket = UnixListener::bind(path)?;
    /// let mut server = Server::new(());
    /// let endpoint = server.listen(Listen::adopt(socket)?)?;
    /// assert_eq!(endpoint, sidewire::Endpoint::Unix(path.clone()));
    /// # std::fs::remove_file(path)?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    ///
    /// It may be listened on once; so may what is [cloned](Clone) from this.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) if it is something else; the text says what.
    ///
    /// # Platform-specific behavior
    /// Unix: an `OwnedFd`, or a socket of std, of TCP, UDP or Unix. Clients take whoever called listen(2) for the
    /// server (SO_PEERCRED), and so hold that user to their policy. Windows: a TCP or UDP socket.
    pub fn adopt(socket: impl Into<Owned>) -> Result<Listen, Error> {
        Listen::adopt_as(socket.into(), None)
    }

    /// The sockets that a service manager has opened for this process (socket activation): each to be
    /// [adopted](Listen::adopt), with [the name](Listen::socket_name) that the manager gave it. None if
    /// there is no such manager; and none when this is called again.
    ///
    /// Call it at the beginning of `main`, before the program opens anything. The sockets are the program's from then
    /// on; those that it does not listen on are closed with what this returns.
    ///
    /// ```no_run
    /// use sidewire::{Listen, Server};
    ///
    /// let mut server = Server::new(());
    /// let sockets = Listen::activated()?;
    /// if sockets.is_empty() {
    ///     server.listen("local:com.example.app")?; // started by hand
    /// }
    /// for socket in sockets {
    ///     server.listen(socket)?;
    /// }
    /// server.notify_service_manager();
    /// server.run()?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) if one of them is neither a listener nor a datagram socket (as
    /// with systemd's `Accept=yes`, which starts a process for each connection), or what the
    /// manager says of them makes no sense.
    ///
    /// # Platform-specific behavior
    /// Unix: what `LISTEN_FDS` and `LISTEN_FDNAMES` say, if `LISTEN_PID` is this process (sd_listen_fds(3)): systemd's
    /// `.socket` units, and whoever else does as they do. Windows: none.
    pub fn activated() -> Result<Vec<Listen>, Error> {
        let sockets = sidewire_platform::activated().map_err(unfit)?;
        sockets.into_iter().map(|(name, socket)| Listen::adopt_as(socket, Some(name.into()))).collect()
    }

    fn adopt_as(socket: Owned, name: Option<Arc<str>>) -> Result<Listen, Error> {
        let endpoint = socket.endpoint().map_err(|error| match &name {
            None => unfit(error),
            Some(name) => unfit(io::Error::new(error.kind(), format!("{}: {error}", name.escape_debug()))),
        })?;
        let adopted = Some(Adopted { socket: Arc::new(Mutex::new(Some(socket))), name });
        Ok(Listen { adopted, ..endpoint.into() })
    }

    /// What its service manager calls a socket that it has opened for this process: with systemd
    /// `FileDescriptorName=`, by default the name of its unit.
    #[must_use]
    pub fn socket_name(&self) -> Option<&str> {
        self.adopted.as_ref()?.name.as_deref()
    }

    /// Takes the endpoint over from the server that has it, if that is an older build of the same app, or the same
    /// build, which [gives way](super::ServerBuilder::gives_way). So an update takes effect at once, and no client
    /// finds nobody. If nobody serves there this changes nothing.
    ///
    /// The older one lets nobody in any more, tells its clients to go on with the newer one, which
    /// [those that reconnect](crate::Connect::reconnect) do, finishes what it has accepted, and ends. Meanwhile this
    /// server serves already, as soon as it [runs](super::Server::run): what only one of them may have open at a time
    /// is to be waited for. The older one goes on, and has changed nothing, if this process dies before it has the
    /// endpoint. A client that connects just as the older one lets go may be told that it is shutting down (-9), and
    /// to try again.
    ///
    /// `within`: how long [`listen`](super::Server::listen) may take; a second more if the older one is letting go just
    /// then. Needs an [app](super::ServerBuilder::app) with a
    /// name and a version, by which the older one knows whom it gives way to; and is for frames only. A server with
    /// several endpoints gives all of them up with the first that is taken over: listen on that one first.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use sidewire::{App, Listen, Server};
    ///
    /// let app = App::new("com.example.app", env!("CARGO_PKG_VERSION"));
    /// let mut server = Server::builder(()).app(app).gives_way(Duration::from_secs(10)).build()?;
    /// server.listen(Listen::on("local:com.example.app")?.take_over(Duration::from_secs(5)))?;
    /// server.run()?; // until a newer one takes over
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// `listen` then fails also with [`is_refused`](Error::is_refused) if the server there does not give way; the text
    /// says why: it is newer, another app, or was not made to. With [`is_timeout`](Error::is_timeout) if it does not
    /// answer in time, with [`is_protocol`](Error::is_protocol) if it speaks something else, and with
    /// [`is_invalid_input`](Error::is_invalid_input) without an app, and for endpoints where the system does not say
    /// whose process the server is.
    ///
    /// # Platform-specific behavior
    /// Unix: the listening socket itself goes from one process to the other, with those who wait at it; its backlog
    /// and mode become those that are said here. Windows: both processes have instances of the pipe for a moment; who
    /// may connect is what the older server has said until the last connection to it has gone. A client that connects
    /// to an instance in the very moment in which the older one closes it sees the end, and may try again.
    #[must_use]
    pub fn take_over(mut self, within: Duration) -> Listen {
        self.take_over = Some(within);
        self
    }

    /// Whether the socket was there already.
    pub(super) fn is_adopted(&self) -> bool {
        self.adopted.is_some()
    }

    /// The socket that is there already, for whoever asks first.
    ///
    /// # Errors
    /// Somebody has asked before.
    pub(super) fn take_socket(&self) -> io::Result<Option<Owned>> {
        let Some(adopted) = &self.adopted else { return Ok(None) };
        let socket = adopted.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        match socket {
            Some(socket) => Ok(Some(socket)),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "this socket is listened on already")),
        }
    }

    /// Who may connect. Default [`Access::SameUser`]. What can't be kept is said by `listen`: see [`Access`].
    #[must_use]
    pub fn access(mut self, access: Access) -> Listen {
        (self.bind.anyone, self.bind.users, self.bind.groups) = access.reach();
        self.access = access;
        self
    }

    /// Serves only clients that prove that they know this token, and proves to them that the server knows it. Where the
    /// system does not say who connects (`tcp:`), a token is what [`Access::SameUser`] hangs on: whoever can read its file
    /// is that user. Elsewhere it is asked for besides.
    ///
    /// ```no_run
    /// use sidewire::{Listen, Server, Token};
    ///
    /// let mut server = Server::new(());
    /// server.listen(Listen::on("tcp:127.0.0.1:4711")?.token(Token::file("/run/user/1000/app.token")))?;
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// Before a client has proved it, 1,024 bytes of it are taken at most, nothing is executed, and no handler hears of it.
    /// The classic layout knows no token, and is refused; so are [take-overs](Listen::take_over), and asking the server to
    /// stop ([`may_be_stopped`](crate::ServerBuilder::may_be_stopped)). What follows on the connection is neither encrypted nor signed.
    ///
    /// # Errors
    /// [`listen`](super::Server::listen) says [`is_invalid_input`](Error::is_invalid_input) where it can't be: datagrams,
    /// streams without frames, and with the classic layout asked for; and what is wrong with the
    /// [file](crate::Token::file).
    #[cfg(feature = "token")]
    #[must_use]
    pub fn token(mut self, token: Token) -> Listen {
        self.token = Some(token);
        self
    }

    /// Whether clients have to prove something.
    pub(super) fn has_token(&self) -> bool {
        #[cfg(feature = "token")]
        return self.token.is_some();
        #[cfg(not(feature = "token"))]
        return false;
    }

    /// What they have to prove that they know.
    pub(super) fn key(&self) -> io::Result<Option<Arc<dyn sidewire_wire::Token>>> {
        #[cfg(feature = "token")]
        return self.token.as_ref().map(Token::of_server).transpose();
        #[cfg(not(feature = "token"))]
        return Ok(None);
    }

    /// Lets clients send attachments with their requests, and handlers with their replies: open files, ends of pipes,
    /// sockets. Default: not. Only clients that [say so as well](crate::Connect::attachments) take part.
    ///
    /// A client may so fill the table of this process' descriptors: 16 on each of its connections, with the beginning of a
    /// request, and what handlers [take](super::Request::take_attachments) and keep. What they do not take is closed behind
    /// them. One that does not read its replies keeps what goes with them on its way; the system counts that for this
    /// process' user (sendmsg(2), ETOOMANYREFS), whose other connections then break where something is to go along. And it
    /// may make that closing wait, and all others with it: a TCP socket with SO_LINGER and unsent bytes (socket(7))
    /// for as long as it says, a file for as long as a file system of the client's own likes. So only let clients attach
    /// something that you trust as your own code.
    ///
    /// # Platform-specific behavior
    /// Unix: over Unix sockets (SCM_RIGHTS, unix(7)). Windows: handles over named pipes, but no sockets; frames name them, and
    /// whoever gets a frame fetches them out of the other process. So both processes must be one user's and have one
    /// integrity level: with others nothing is agreed on, as if they had not said so. What goes with a reply stays open here,
    /// too, until the client has fetched it, or its connection ends. Look at what
    /// [`Attachment::into_file`](crate::Attachment::into_file) says before files of others are read. Elsewhere, and over TCP, `listen` fails with
    /// [`is_invalid_input`](Error::is_invalid_input).
    #[must_use]
    pub fn attachments(mut self, are_taken: bool) -> Listen {
        self.bind.attachments = are_taken;
        self
    }

    /// Limits of its own. Default: [`Limits::listener`](crate::Limits::listener) of the server.
    #[must_use]
    pub fn limits(mut self, limits: ListenerLimits) -> Listen {
        self.limits = Some(limits);
        self
    }

    /// Classic peers: most bytes of payload, either way. Default 1,024.
    #[must_use]
    pub fn classic_max(mut self, bytes: u32) -> Listen {
        self.classic = Some(Classic::Short(bytes.min(i32::MAX as u32)));
        self
    }

    /// Classic peers: every request and every reply is exactly `12 + bytes` long, zero-padded,
    /// for programs that send and read their whole struct.
    #[must_use]
    pub fn classic_fixed(mut self, bytes: u32) -> Listen {
        self.classic = Some(Classic::Fixed(bytes.min(i32::MAX as u32)));
        self
    }

    /// Classic peers are refused.
    #[must_use]
    pub fn without_classic(mut self) -> Listen {
        self.classic = Some(Classic::Refused);
        self
    }

    /// How many connections the system queues before they are accepted (listen(2)). Default:
    /// as many as it allows; Linux cuts it to `net.core.somaxconn`. Pipes have no such queue.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Listen {
        self.bind.backlog = connections;
        self
    }

    /// Whether small writes leave at once on TCP (TCP_NODELAY, tcp(7)). Default true.
    #[must_use]
    pub fn nodelay(mut self, at_once: bool) -> Listen {
        self.bind.nodelay = at_once;
        self
    }

    /// After how long a silence TCP asks whether the peer is still there (SO_KEEPALIVE, tcp(7)),
    /// in whole seconds. Default `None`: never.
    #[must_use]
    pub fn keep_alive(mut self, after: Option<Duration>) -> Listen {
        self.bind.keepalive = after;
        self
    }

    /// Bytes of the system's receive buffer for each socket (SO_RCVBUF, socket(7)). Default: the
    /// system's for streams, and what the largest datagrams need.
    ///
    /// # Platform-specific behavior
    /// Windows pipes have buffers of 64 KiB, whatever is said here.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Listen {
        self.bind.recv_buffer = Some(bytes);
        self
    }

    /// Bytes of the system's send buffer for each socket (SO_SNDBUF, socket(7)). Default: as
    /// [`receive_buffer`](Listen::receive_buffer). Larger ones help large payloads.
    ///
    /// # Platform-specific behavior
    /// As [`receive_buffer`](Listen::receive_buffer).
    #[must_use]
    pub fn send_buffer(mut self, bytes: u32) -> Listen {
        self.bind.send_buffer = Some(bytes);
        self
    }

    /// Lets `tcp:` and `udp:` bind addresses that other machines can reach, as `0.0.0.0` (IPv4) and
    /// `[::]` (IPv6 and IPv4, on every system). By default only loopback addresses can be bound.
    /// Nothing on the wire is encrypted.
    ///
    /// The classic layout, whose byte order is this machine's, is refused there unless
    /// [`classic_max`](Listen::classic_max) or [`classic_fixed`](Listen::classic_fixed) asks for it.
    #[must_use]
    pub fn beyond_loopback(mut self) -> Listen {
        self.bind.beyond_loopback = true;
        self
    }

    /// How many instances of a named pipe wait for clients at any time. Default 4.
    ///
    /// # Platform-specific behavior
    /// Windows only; elsewhere there are no pipe instances and this changes nothing.
    #[must_use]
    pub fn pending_instances(mut self, instances: u32) -> Listen {
        self.bind.pending_instances = instances;
        self
    }

    /// Accepts clients of the same user whose integrity level is below the server's.
    ///
    /// # Platform-specific behavior
    /// Windows only; elsewhere there are no integrity levels and this changes nothing. The pipe gets a
    /// label of low integrity: processes down there can set up instances of it as well, so clients
    /// above must say [`Connect::lower_integrity`](crate::Connect::lower_integrity).
    #[must_use]
    pub fn lower_integrity(mut self) -> Listen {
        self.bind.lower_integrity = true;
        self
    }
}

/// What a server can listen on: a [`Listen`], or whatever names an [`Endpoint`], for which the usual options
/// will do.
pub trait IntoListen {
    /// The endpoint with its options.
    ///
    /// # Errors
    /// If it is a text that is no endpoint.
    fn into_listen(self) -> Result<Listen, Error>;
}

impl IntoListen for Listen {
    fn into_listen(self) -> Result<Listen, Error> {
        Ok(self)
    }
}

impl<E> IntoListen for E
where
    Endpoint: TryFrom<E>,
    Error: From<<Endpoint as TryFrom<E>>::Error>,
{
    fn into_listen(self) -> Result<Listen, Error> {
        Listen::on(self)
    }
}

impl From<Endpoint> for Listen {
    fn from(endpoint: Endpoint) -> Listen {
        Listen {
            endpoint,
            access: Access::default(),
            classic: None,
            bind: BindOptions::default(),
            limits: None,
            take_over: None,
            #[cfg(feature = "token")]
            token: None,
            adopted: None,
        }
    }
}

impl From<&Endpoint> for Listen {
    fn from(endpoint: &Endpoint) -> Listen {
        endpoint.clone().into()
    }
}

/// Of something that is no socket to listen on.
fn unfit(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidInput => Error::invalid(ADOPT, &error.to_string()),
        _ => Error::system(ADOPT, error),
    }
}
