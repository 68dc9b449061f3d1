//! A bound stream endpoint: a set of pending pipe instances, or a TCP socket.

mod handover;

use std::collections::VecDeque;
use std::io;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::time::Duration;

use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use mio::net::TcpListener;
use mio::{Interest, Token};
use socket2::SockRef;
use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_NO_SYSTEM_RESOURCES, ERROR_PIPE_BUSY};

use super::names::{self, PipeName, StreamAddress};
use super::owned::Owned;
use super::pipe::{self, Instance};
use super::poll::Registry;
use super::polled::PolledPipe;
use super::{security, tcp};
use crate::deadline::{Backoff, Deadline};
#[cfg(test)]
use crate::fault::{self, Call};
use crate::{Address, BindOptions, Endpoint, Stream, Tally, hosts};

/// A bound stream endpoint, a source of a [`Poll`](crate::Poll) that yields [`Stream`]s.
///
/// # Platform-specific behavior
///
/// Pipes have no backlog: a client connects to an instance that waits, or finds the pipe busy. So
/// several instances wait at any time ([`BindOptions::pending_instances`]), and each that gets a
/// client is replaced before [`Listener::accept`] returns it.
///
/// A pipe's name is free again when the listener and all its streams have been dropped *and* the
/// poll that they were registered with has turned until [`Listener::is_gone`], or has been dropped
/// after them. A server that is killed leaves its name to its clients until all have closed their
/// handles; [`Listener::bind`] waits for that, for two seconds at most.
pub struct Listener {
    endpoint: Endpoint,
    source: Source,
}

enum Source {
    Pipe(PipeListener),
    Tcp(TcpListener, tcp::SocketOptions),
}

impl Listener {
    /// Creates the endpoint and listens.
    ///
    /// A pipe is created with its final rights: its owner is the user, only that user and SYSTEM
    /// may connect (everyone with [`BindOptions::anyone`]), nobody from another machine, and no
    /// process of a lower integrity level (unless [`BindOptions::lower_integrity`]).
    ///
    /// # Errors
    ///
    /// `AddrInUse` when somebody else has the name or the port; `ResourceBusy` when the clients of a
    /// server that has gone keep the name of its pipe; `Unsupported` for an endpoint that
    /// Windows doesn't have; `InvalidInput` for one that is no stream; `PermissionDenied` for TCP
    /// beyond loopback without [`BindOptions::beyond_loopback`]; what the system says.
    pub fn bind(endpoint: &Endpoint, options: &BindOptions) -> io::Result<Listener> {
        match names::stream_address(endpoint)? {
            StreamAddress::Pipe(name) => {
                let source = Source::Pipe(PipeListener::bind(name, options)?);
                Ok(Listener { endpoint: endpoint.clone(), source })
            }
            StreamAddress::Tcp(addresses) => {
                Listener::of_socket(TcpListener::from_std(tcp::listen(&addresses, options)?), options)
            }
        }
    }

    /// Of a TCP socket that listens already. It becomes non-blocking, and children do not inherit it from
    /// here on. Its backlog stays as it is. Of the options count those about connections, and
    /// [`BindOptions::beyond_loopback`].
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is no such socket; the text says what it is.
    /// [`io::ErrorKind::PermissionDenied`]: beyond loopback without [`BindOptions::beyond_loopback`].
    /// Otherwise what the system says. It is closed then.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: a TCP socket; a pipe's listener is its name. Unix: a stream socket, Unix or TCP.
    pub fn from_owned(owned: Owned, options: &BindOptions) -> io::Result<Listener> {
        let socket = TcpListener::from_std(owned.into_listener(options)?.into());
        Listener::of_socket(socket, options)
    }

    fn of_socket(socket: TcpListener, options: &BindOptions) -> io::Result<Listener> {
        let bound = socket.local_addr()?;
        let endpoint = Endpoint::Tcp { host: hosts::host(&bound), port: bound.port() };
        Ok(Listener { endpoint, source: Source::Tcp(socket, tcp::SocketOptions::of(options)) })
    }

    /// Whether nothing is left of a listener on this endpoint that was dropped, nor of its streams, and
    /// another can be bound there. After a drop the poll must turn until this is true.
    ///
    /// # Platform-specific behavior
    ///
    /// On Windows a pipe is there as long as any handle of its server is. Elsewhere, and for
    /// sockets, this is always true.
    #[must_use]
    pub fn is_gone(endpoint: &Endpoint) -> bool {
        match endpoint {
            Endpoint::Local(_) | Endpoint::Pipe(_) => match names::stream_address(endpoint) {
                Ok(StreamAddress::Pipe(name)) => !pipe::exists(&name),
                _ => true,
            },
            _ => true,
        }
    }

    /// The endpoint really bound: as given, but TCP with a numeric host and the real port.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The address that it is bound to, as its clients see it: the pipe's name, or the socket's address.
    ///
    /// # Errors
    ///
    /// What the system says about a socket.
    pub fn local_address(&self) -> io::Result<Address> {
        match &self.source {
            Source::Pipe(listener) => Ok(Address::Pipe(listener.name.text().to_string())),
            Source::Tcp(socket, _) => socket.local_addr().map(Address::Inet),
        }
    }

    /// Registers with a poll: a readable or writable event for `token` says that [`Listener::accept`]
    /// may succeed.
    ///
    /// # Errors
    ///
    /// When it is registered already, or the system refuses.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.source {
            Source::Pipe(listener) => listener.register(registry, token),
            Source::Tcp(socket, _) => registry.sockets()?.register(socket, token, Interest::READABLE),
        }
    }

    /// Ends the registration. To be done before dropping.
    ///
    /// # Errors
    ///
    /// When it is not registered.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match &mut self.source {
            Source::Pipe(listener) => listener.deregister(),
            Source::Tcp(socket, _) => registry.sockets()?.deregister(socket),
        }
    }

    /// Whether others can remove what leads clients here: never, on Windows. See [`Self::renew`].
    #[must_use]
    pub fn can_be_lost(&self) -> bool {
        false
    }

    /// Looks whether clients still find the way here, and opens the endpoint anew if not; says whether it did.
    ///
    /// # Errors
    ///
    /// None on Windows.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: does nothing, since names last as long as their handles.
    pub fn renew(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        let _ = (registry, token);
        Ok(false)
    }

    /// Takes the next connection; never blocks. `registry` and `token` are those that the listener
    /// is registered with: the next pipe instance is created and registered here.
    ///
    /// A client that has connected and left already is a stream like any other, with whatever it
    /// sent and then the end.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when there is nobody. An error for which [`crate::is_descriptor_limit`] is
    /// true when no pipe instance is left and none can be created: then there will be no event,
    /// and accepting must be tried again after a while. Other errors concern one connection.
    pub fn accept(&mut self, registry: &Registry, token: Token) -> io::Result<Stream> {
        match &mut self.source {
            Source::Pipe(listener) => listener.accept(registry, token),
            Source::Tcp(socket, options) => {
                #[cfg(test)]
                fault::strikes(Call::Accept)?;
                let (socket, _) = socket.accept().map_err(tcp::error)?;
                // Unlike all other handles here an accepted socket begins inheritable: a child that
                // another thread starts in this very moment may still get it.
                SockRef::from(&socket).set_no_inherit(true)?;
                if let Err(error) = options.set(&SockRef::from(&socket)) {
                    // Mostly because the client has left already, which reading tells soon enough.
                    log::debug!("{}: setting up a connection: {error}", self.endpoint);
                }
                Ok(Stream::from_tcp(socket))
            }
        }
    }

    /// Has nobody find the way here any more. Who had found it is still there for [`Listener::accept`], up to
    /// `WouldBlock`; then drop the listener, behind which such connections would end. Not for a socket that another has
    /// given and may go on listening with.
    ///
    /// # Platform-specific behavior
    ///
    /// On Windows an instance that waits for a client is closed; one who connects to it in that very moment sees the
    /// end. A TCP socket can't be withdrawn: who comes before the drop may see a reset. Elsewhere see there.
    pub fn withdraw(&mut self, registry: &Registry) {
        let _ = registry;
        if let Source::Pipe(listener) = &mut self.source {
            listener.withdraw();
        }
    }
}

struct PipeListener {
    name: PipeName,
    descriptor: SecurityDescriptor,
    /// Instances that wait for a client, or have one that was not accepted yet; oldest first.
    pending: VecDeque<PolledPipe>,
    /// How many there should be.
    wanted: usize,
    state: State,
    shortages: Tally,
}

/// What the pending instances are up to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Known to no poll. Clients can connect all the same.
    Unregistered,
    /// Registered, as many as wanted.
    Complete,
    /// Registered, but creating one failed, which has been reported.
    Short,
    /// Registered, as many as had a client when there was to be no other.
    Withdrawn,
}

impl PipeListener {
    fn bind(name: PipeName, options: &BindOptions) -> io::Result<PipeListener> {
        PipeListener::begin(name, options, first_instance)
    }

    /// As many instances as are wanted; where the first of them comes from is another matter.
    fn begin(
        name: PipeName,
        options: &BindOptions,
        first: impl FnOnce(&PipeName, &SecurityDescriptor) -> io::Result<PolledPipe>,
    ) -> io::Result<PipeListener> {
        let descriptor = security::descriptor(options)?;
        let wanted = options.pending_instances.max(1) as usize;
        let mut pending = VecDeque::new();
        pending.push_back(first(&name, &descriptor)?);
        while pending.len() < wanted {
            pending.push_back(PolledPipe::alone(pipe::create(&name, &descriptor, Instance::Further)?));
        }
        let (state, shortages) = (State::Unregistered, Tally::new());
        Ok(PipeListener { name, descriptor, pending, wanted, state, shortages })
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if self.state != State::Unregistered {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the listener is registered already"));
        }
        for index in 0..self.pending.len() {
            if let Err(error) = arm(&self.pending[index], registry, token) {
                for pipe in self.pending.iter().take(index + 1) {
                    // The last one may not have come so far; there is nothing to undo then.
                    let _ = pipe.deregister();
                }
                return Err(error);
            }
        }
        self.state = State::Complete;
        Ok(())
    }

    fn deregister(&mut self) -> io::Result<()> {
        if self.state == State::Unregistered {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the listener is not registered"));
        }
        self.state = State::Unregistered;
        // All of them, whatever becomes of one.
        let results: Vec<_> = self.pending.iter().map(PolledPipe::deregister).collect();
        results.into_iter().collect()
    }

    fn accept(&mut self, registry: &Registry, token: Token) -> io::Result<Stream> {
        if self.state == State::Unregistered {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a listener accepts while it is registered",
            ));
        }
        if self.state != State::Withdrawn {
            self.refill(registry, token);
        }
        let mut index = 0;
        for _ in 0..self.pending.len() {
            match has_client(&self.pending[index]) {
                Ok(false) => index += 1,
                Ok(true) => {
                    if let Some(pipe) = self.replace(index, registry, token) {
                        return Ok(Stream::from_pipe(pipe, self.name.text().clone()));
                    }
                }
                Err(error) => {
                    log::debug!("{}: an instance is of no use any more: {error}", self.name.text());
                    drop(self.replace(index, registry, token));
                }
            }
        }
        if self.pending.is_empty() && self.state != State::Withdrawn {
            // Nothing will wake us: the caller must come back by itself, as it does for this.
            return Err(io::Error::from_raw_os_error(ERROR_NO_SYSTEM_RESOURCES.cast_signed()));
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes an instance out, after a fresh one has been put in: clients always find one.
    fn replace(&mut self, index: usize, registry: &Registry, token: Token) -> Option<PolledPipe> {
        if self.state != State::Withdrawn {
            match self.create(registry, token) {
                Ok(pipe) => self.pending.push_back(pipe),
                Err(error) => self.report_short(&error),
            }
        }
        self.pending.remove(index)
    }

    /// Closes those that nobody has connected to.
    fn withdraw(&mut self) {
        if self.state == State::Unregistered {
            return;
        }
        self.state = State::Withdrawn;
        let name = self.name.text();
        self.pending.retain(|pipe| {
            // One of which that can't be told is of no use either.
            if has_client(pipe).unwrap_or(false) {
                return true;
            }
            for done in [pipe.disconnect(), pipe.deregister()] {
                if let Err(error) = done {
                    log::debug!("{name}: closing an instance that waits: {error}");
                }
            }
            false
        });
    }

    /// Makes up for instances that could not be created earlier.
    fn refill(&mut self, registry: &Registry, token: Token) {
        while self.pending.len() < self.wanted {
            match self.create(registry, token) {
                Ok(pipe) => self.pending.push_back(pipe),
                Err(error) => return self.report_short(&error),
            }
        }
        if self.state == State::Short {
            log::debug!("{}: all {} instances are waiting again", self.name.text(), self.wanted);
            self.state = State::Complete;
        }
    }

    fn create(&self, registry: &Registry, token: Token) -> io::Result<PolledPipe> {
        let pipe = PolledPipe::alone(pipe::create(&self.name, &self.descriptor, Instance::Further)?);
        arm(&pipe, registry, token)?;
        Ok(pipe)
    }

    /// Once, until all is well again.
    fn report_short(&mut self, error: &io::Error) {
        if self.state == State::Complete {
            let (name, left, wanted) = (self.name.text(), self.pending.len(), self.wanted);
            if let Some(count) = self.shortages.next_worth_telling() {
                log::warn!(
                    "{name}: can't create another instance ({error}); {left} of {wanted} are left to wait \
                     for clients; {count} times so far"
                );
            }
            self.state = State::Short;
        }
    }
}

/// Clients that were not accepted yet see the end at once, and none connects any more, even though
/// the handles close only when the poll has turned.
impl Drop for PipeListener {
    fn drop(&mut self) {
        for pipe in &self.pending {
            if let Err(error) = pipe.disconnect() {
                log::debug!("{}: disconnecting a pending instance: {error}", self.name.text());
            }
        }
    }
}

/// How long the clients of a dead server may take to close their handles of its pipe.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// The instance that makes the name ours.
fn first_instance(name: &PipeName, descriptor: &SecurityDescriptor) -> io::Result<PolledPipe> {
    let handle = claim(name, descriptor, LEFTOVERS)?;
    // Wine ignores the flag for the first instance.
    if pipe::instances(handle.as_handle())? != 1 {
        return Err(in_use(name));
    }
    Ok(PolledPipe::alone(handle))
}

/// Waits until the name is free, unless a server has it.
///
/// What clients still hold of a server that was killed keeps the name as if the server were there
/// ("DisconnectPolledPipe function",
/// learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
fn claim(name: &PipeName, descriptor: &SecurityDescriptor, patience: Duration) -> io::Result<OwnedHandle> {
    let mut backoff = Backoff::until(Deadline::after(Some(patience)));
    loop {
        match pipe::create(name, descriptor, Instance::First) {
            Err(error) if is_taken(&error) && pipe::has_server(name) => return Err(in_use(name)),
            Err(error) if is_taken(&error) && backoff.pause() => {}
            Err(error) if is_taken(&error) => return Err(left_over(name, &error)),
            other => return other,
        }
    }
}

/// What FILE_FLAG_FIRST_PIPE_INSTANCE says when there is an instance already ("CreatePolledPipeW
/// function", learn.microsoft.com/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew),
/// and what a pipe says whose owner allowed fewer instances.
fn is_taken(error: &io::Error) -> bool {
    [ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY].into_iter().any(|code| pipe::has_code(error, code))
}

fn in_use(name: &PipeName) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, format!("another listener has the pipe {}", name.text()))
}

fn left_over(name: &PipeName, error: &io::Error) -> io::Error {
    let why = format!(
        "nobody listens on the pipe {}, and yet it can't be created ({error}): either clients of a server \
         that was killed still hold it, then end them and try again; or this process may not create \
         pipes of that name",
        name.text()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

/// Registers an instance and lets it wait for a client. Either way there will be an event for one.
fn arm(pipe: &PolledPipe, registry: &Registry, token: Token) -> io::Result<()> {
    pipe.register(registry, token, Interest::READABLE)?;
    let armed = pipe.wait_for_client();
    if armed.is_err() {
        pipe.deregister()?;
    }
    armed
}

/// Whether a client has connected to an instance (and has perhaps left again).
fn has_client(pipe: &PolledPipe) -> io::Result<bool> {
    match pipe.take_error() {
        Some(error) => Err(error),
        None => pipe::has_client(pipe.handle()),
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Answer, script};
    use crate::{Channel, Events, Poll};
    use windows_sys::Win32::Foundation::{ERROR_BROKEN_PIPE, ERROR_FILE_NOT_FOUND};
    use windows_sys::Win32::Networking::WinSock::{WSAECONNABORTED, WSAEMFILE};

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    fn fails(call: Call, code: u32) -> (Call, Answer) {
        (call, Answer::Fails(code.cast_signed()))
    }

    fn pipe_of(test: &str) -> Endpoint {
        Endpoint::Pipe(format!("sidewire-{test}-{}", std::process::id()))
    }

    /// Claims a name that nobody has, for so long.
    fn claimed(test: &str, patience: Duration, answers: &[(Call, Answer)]) -> io::Result<OwnedHandle> {
        let StreamAddress::Pipe(name) = names::stream_address(&pipe_of(test)).unwrap() else {
            unreachable!()
        };
        let descriptor = security::descriptor(&BindOptions::default()).unwrap();
        let _script = script(answers);
        claim(&name, &descriptor, patience)
    }

    #[test]
    fn what_a_dead_server_s_clients_hold_is_waited_for() {
        let long = Duration::from_secs(60);
        let held = [fails(Call::Bind, ERROR_ACCESS_DENIED), fails(Call::Connect, ERROR_FILE_NOT_FOUND)];
        claimed("leftover", long, &[held, held].concat()).unwrap();
        // Once more behind the deadline.
        let error = claimed("leftover", Duration::ZERO, &[held, held].concat()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        assert!(error.to_string().contains(r"\\.\pipe\") && error.to_string().contains("killed"), "{error}");
    }

    #[test]
    fn a_server_that_is_there_is_not_waited_for() {
        let long = Duration::from_secs(60);
        for code in [ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY] {
            let taken = [fails(Call::Bind, code), fails(Call::Connect, ERROR_PIPE_BUSY)];
            assert_eq!(claimed("taken", long, &taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        }
        let lack = [fails(Call::Bind, ERROR_NO_SYSTEM_RESOURCES)];
        assert_eq!(claimed("lack", long, &lack).unwrap_err().raw_os_error(), Some(1450));
    }

    /// Turns the poll until somebody was accepted, or it failed for another reason than that nobody came.
    fn accept(listener: &mut Listener, poll: &mut Poll) -> io::Result<Stream> {
        let until = Deadline::after(SOON);
        loop {
            match listener.accept(poll.registry(), Token(0)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !until.has_passed() => {
                    poll.poll(&mut Events::with_capacity(8), Some(Duration::from_millis(20))).unwrap();
                }
                answer => return answer,
            }
        }
    }

    #[test]
    fn without_a_further_instance_a_client_is_accepted_and_the_lack_is_told() {
        let options = BindOptions { pending_instances: 1, ..BindOptions::default() };
        let endpoint = pipe_of("further");
        let mut listener = Listener::bind(&endpoint, &options).unwrap();
        let mut poll = Poll::new().unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        let _first = Channel::connect(&endpoint, SOON).unwrap();
        let lack = script(&[fails(Call::Accept, ERROR_NO_SYSTEM_RESOURCES); 2]);
        let mut streams = vec![accept(&mut listener, &mut poll).unwrap()];
        let error = accept(&mut listener, &mut poll).unwrap_err();
        assert!(crate::is_descriptor_limit(&error), "{error}");
        drop(lack);
        // From now on there is one again.
        let error = listener.accept(poll.registry(), Token(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let _second = Channel::connect(&endpoint, SOON).unwrap();
        streams.push(accept(&mut listener, &mut poll).unwrap());
        listener.deregister(poll.registry()).unwrap();
        for mut stream in streams {
            stream.deregister(poll.registry()).unwrap();
        }
    }

    #[test]
    fn over_tcp_who_waits_is_accepted_later() {
        let tcp = "tcp:127.0.0.1:0".parse().unwrap();
        let mut listener = Listener::bind(&tcp, &BindOptions::default()).unwrap();
        let mut poll = Poll::new().unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        let _client = Channel::connect(listener.endpoint(), SOON).unwrap();
        let _script = script(&[WSAEMFILE, WSAECONNABORTED].map(|code| (Call::Accept, Answer::Fails(code))));
        let error = accept(&mut listener, &mut poll).unwrap_err();
        assert!(crate::is_descriptor_limit(&error), "{error}");
        let error = accept(&mut listener, &mut poll).unwrap_err();
        assert!(!crate::is_descriptor_limit(&error), "{error}");
        accept(&mut listener, &mut poll).unwrap();
    }

    #[test]
    fn a_busy_pipe_is_waited_for_and_a_short_write_counted() {
        let endpoint = pipe_of("busy");
        let mut listener = Listener::bind(&endpoint, &BindOptions::default()).unwrap();
        let mut poll = Poll::new().unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        let busy = fails(Call::Connect, ERROR_PIPE_BUSY);
        let full = script(&[busy]);
        let error = Channel::connect(&endpoint, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(full);
        let _script = script(&[
            busy,
            busy,
            (Call::Write, Answer::Short(2)),
            fails(Call::Read, ERROR_NO_SYSTEM_RESOURCES),
            fails(Call::Read, ERROR_BROKEN_PIPE),
        ]);
        let channel = Channel::connect(&endpoint, SOON).unwrap();
        let mut stream = accept(&mut listener, &mut poll).unwrap();
        assert_eq!(stream.write(b"hello").unwrap(), 2);
        poll.poll(&mut Events::with_capacity(8), SOON).unwrap();
        assert_eq!(channel.recv(&mut [0; 9], SOON).unwrap(), 2);
        assert_eq!(stream.read(&mut [0; 9]).unwrap_err().raw_os_error(), Some(1450));
        assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0);
        stream.deregister(poll.registry()).unwrap();
        listener.deregister(poll.registry()).unwrap();
    }
}
