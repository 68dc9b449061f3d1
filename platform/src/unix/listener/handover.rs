//! A listener that goes from one server to the next, together with those who wait at it.

use std::io;
use std::os::fd::AsFd;

use mio::Registry;
use rustix::net::SendFlags;

use super::super::bound::{BoundPath, Location};
use super::super::channel::Channel;
use super::super::folders::Folders;
use super::super::lifecycle::Role;
use super::super::names::{self, StreamAddress, invalid};
use super::super::owned::Owned;
use super::super::passing;
use super::super::rights::Rights;
use super::super::socket;
use super::super::socket::{Buffers, Strangers, Transport};
use super::super::stream::Stream;
use super::{Listener, Standing};
use crate::{BindOptions, Endpoint};

impl Listener {
    /// Sends a peer these bytes, together with what makes a [`Listener::take_over`] of them there. Says how many it
    /// has sent; those that are left are to be written as any others. What this listener does goes on.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`]: over TCP. Otherwise what the system says; nothing was sent then.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: a copy of the listening socket goes along with the first byte (SCM_RIGHTS, unix(7)). Windows: none has to,
    /// since more than one process can listen under one name; no byte is sent.
    pub fn pass(&self, stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
        if self.transport != Transport::Unix || !stream.is_unix() {
            return Err(cant_be_passed());
        }
        Ok(passing::send(stream, bytes, self.socket.as_fd(), SendFlags::DONTWAIT)?)
    }

    /// From here on this is the listener of whoever has [taken it over](Listener::take_over): who comes is his, and what
    /// is in the file system. Those who are ours alone are still there for [`Listener::accept`], up to
    /// [`io::ErrorKind::WouldBlock`]; then drop it.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: those are ours who wait at a socket whose file had gone. Windows: those who have connected to an
    /// instance of ours.
    pub fn hand_on(&mut self, registry: &Registry) {
        let _ = registry;
        if let Some(file) = self.file.take() {
            file.disown();
        }
        self.standing = Standing::HandedOn;
        self.former.iter().for_each(|socket| self.shut_down(socket));
    }

    /// What the server at the other end of a channel has [passed](Listener::pass) there, as
    /// [`Channel::recv_passed`] has brought it: a listener on the endpoint that the channel leads to. It is the
    /// other's as well, until [`Listener::own`]: as long as it was not called, a drop leaves everything as it is.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is something else, or nothing; the text says what. As [`Listener::bind`], for
    /// what it has in the file system.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: of the options count those about connections and access, and the backlog. Windows: all of them but what
    /// was said of access by the server before.
    pub fn take_over(
        endpoint: &Endpoint,
        options: &BindOptions,
        channel: &Channel,
        passed: Option<Owned>,
    ) -> io::Result<Listener> {
        let passed = passed.ok_or_else(|| invalid("the server has passed no socket"))?;
        let (socket, transport, _) = passed.into_listener(options)?;
        let (theirs, reached) = (names::address(&socket.local_addr()?), channel.peer_address()?);
        if transport != Transport::Unix || theirs != reached {
            return Err(invalid(format!(
                "the server was reached at {reached}, and passes a socket of {theirs}"
            )));
        }
        let role = Role::listener(options);
        let location = match names::stream_address(endpoint)? {
            StreamAddress::Abstract(_) => None,
            StreamAddress::Path(path) => Some(Location::Path(path.to_owned())),
            StreamAddress::Local(name) => {
                Some(Location::Local { name: name.to_owned(), folders: Folders::of_this_process() })
            }
            StreamAddress::Inet { .. } => return Err(cant_be_passed()),
        };
        let file =
            location.map(|location| BoundPath::take_over(location, role, Rights::of(options), &theirs));
        // As a listener's is already. It concerns all copies.
        socket.set_nonblocking(true)?;
        let strangers = Strangers::at(&socket, transport);
        Ok(Listener {
            file: file.transpose()?,
            socket,
            former: Vec::new(),
            standing: Standing::Open,
            transport,
            strangers,
            buffers: Buffers::of(options),
            endpoint: endpoint.clone(),
        })
    }

    /// From here on it is ours alone, with what is in the file system: the other [has handed it on](Listener::hand_on).
    ///
    /// # Errors
    ///
    /// Its mode can't be set, or its backlog. It is ours all the same.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: listen(2) is called once more, so that clients find this process at the other end (SO_PEERCRED, unix(7)),
    /// but for those who wait already. Windows: nothing is left to be done.
    pub fn own(&mut self, options: &BindOptions) -> io::Result<()> {
        let file = self.file.as_mut().map_or(Ok(()), BoundPath::own);
        match options.attachments {
            true => socket::take_descriptors(&self.socket),
            false => socket::refuse_descriptors(&self.socket),
        }
        self.strangers = Strangers::at(&self.socket, self.transport);
        Role::listener(options).start(&self.socket).and(file)
    }
}

fn cant_be_passed() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "only a listener of this machine can be passed on, not one of TCP",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use mio::{Poll, Token};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;
    use std::time::Duration;

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    fn listening(endpoint: &Endpoint, poll: &Poll) -> Listener {
        let mut listener = Listener::bind(endpoint, &BindOptions::default()).unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        listener
    }

    /// A channel to it, over which it has passed itself.
    fn passed(listener: &mut Listener, poll: &Poll) -> (Channel, Option<Owned>) {
        let channel = Channel::connect(listener.endpoint(), SOON).unwrap();
        channel.expect_passed();
        let stream = listener.accept(poll.registry(), Token(0)).unwrap();
        assert_eq!(listener.pass(&stream, b"hello").unwrap(), 5);
        let (count, passed) = channel.recv_passed(&mut [0; 9], SOON).unwrap();
        assert_eq!(count, 5);
        (channel, passed)
    }

    fn take_over(listener: &mut Listener, poll: &Poll) -> io::Result<Listener> {
        let (channel, passed) = passed(listener, poll);
        Listener::take_over(listener.endpoint(), &BindOptions::default(), &channel, passed)
    }

    fn is_nobody(accepted: io::Result<Stream>) -> bool {
        accepted.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn one_that_was_handed_on_goes_on_with_those_who_wait_and_owns_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let poll = Poll::new().unwrap();
        let mut older = listening(&Endpoint::Unix(path.clone()), &poll);
        let mut newer = take_over(&mut older, &poll).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap();
        older.hand_on(poll.registry());
        assert!(is_nobody(older.accept(poll.registry(), Token(0))));
        older.deregister(poll.registry()).unwrap();
        drop(older);
        newer.own(&BindOptions::default()).unwrap();
        newer.register(poll.registry(), Token(1)).unwrap();
        newer.accept(poll.registry(), Token(1)).unwrap();
        let _later = UnixStream::connect(&path).unwrap();
        newer.accept(poll.registry(), Token(1)).unwrap();
        assert!(newer.can_be_lost() && !newer.renew(poll.registry(), Token(1)).unwrap());
        // And on to the next.
        let mut last = take_over(&mut newer, &poll).unwrap();
        newer.hand_on(poll.registry());
        newer.deregister(poll.registry()).unwrap();
        drop(newer);
        last.own(&BindOptions::default()).unwrap();
        assert!(path.exists());
        drop(last);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_was_not_handed_on_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let poll = Poll::new().unwrap();
        let mut older = listening(&Endpoint::Unix(path.clone()), &poll);
        drop(take_over(&mut older, &poll).unwrap());
        let _client = UnixStream::connect(&path).unwrap();
        older.accept(poll.registry(), Token(0)).unwrap();
        drop(older);
        assert!(!path.exists());
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn one_without_a_file_goes_the_same_way() {
        let poll = Poll::new().unwrap();
        let endpoint = Endpoint::Abstract(format!("handover-{}", std::process::id()).into());
        let mut older = listening(&endpoint, &poll);
        let mut newer = take_over(&mut older, &poll).unwrap();
        older.hand_on(poll.registry());
        older.deregister(poll.registry()).unwrap();
        drop(older);
        newer.own(&BindOptions::default()).unwrap();
        newer.register(poll.registry(), Token(1)).unwrap();
        let _client = Channel::connect(&endpoint, SOON).unwrap();
        newer.accept(poll.registry(), Token(1)).unwrap();
    }

    #[test]
    fn what_is_no_listener_of_the_endpoint_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (poll, options) = (Poll::new().unwrap(), BindOptions::default());
        let endpoint = Endpoint::Unix(path);
        let mut listener = listening(&endpoint, &poll);
        let (channel, _) = passed(&mut listener, &poll);
        let elsewhere = UnixListener::bind(folder.path().join("other")).unwrap();
        for (other, text) in [
            (None, "passed no socket"),
            (Some(Owned::from(UnixStream::pair().unwrap().0)), "not a listener"),
            (Some(elsewhere.into()), "passes a socket of"),
            (Some(std::net::TcpListener::bind("127.0.0.1:0").unwrap().into()), "passes a socket of"),
        ] {
            let error = Listener::take_over(&endpoint, &options, &channel, other).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn one_of_tcp_is_passed_to_nobody() {
        let poll = Poll::new().unwrap();
        let mut listener = listening(&"tcp:127.0.0.1:0".parse().unwrap(), &poll);
        let _channel = Channel::connect(listener.endpoint(), SOON).unwrap();
        let stream = loop {
            match listener.accept(poll.registry(), Token(0)) {
                Ok(stream) => break stream,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(listener.pass(&stream, b"x").unwrap_err().kind(), io::ErrorKind::Unsupported);
    }

    /// Whose links in other folders go along.
    #[test]
    fn local_goes_with_its_links() {
        use super::super::super::{lifecycle, local};
        use std::os::unix::fs::DirBuilderExt;

        let root = tempfile::tempdir().unwrap();
        for name in ["a", "run"] {
            std::fs::DirBuilder::new().mode(0o700).create(root.path().join(name)).unwrap();
        }
        let folders = |session| Folders::below_with(root.path(), session);
        let files =
            || ["a", "run", "tmp"].map(|name| std::fs::read_dir(root.path().join(name)).unwrap().count());
        let role = Role::Listener { backlog: 8, attachments: false };
        let (socket, older) =
            local::bind("app", &folders(Some("a")), role, Rights::Owner, lifecycle::LOCK_PATIENCE).unwrap();
        let location = |session| Location::Local { name: "app".into(), folders: folders(session) };
        let name = Address::Path(Path::new(&root.path().join("a/app.sock")).to_owned());
        let mut newer = BoundPath::take_over(location(None), role, Rights::Owner, &name).unwrap();
        newer.own().unwrap();
        std::mem::forget(older);
        assert_eq!(files(), [1, 1, 1]);
        drop(newer);
        assert_eq!(files(), [0, 0, 0]);
        drop(socket);
    }
}
