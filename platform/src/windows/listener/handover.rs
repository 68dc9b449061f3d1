//! A listener that goes from one server to the next: under one name, both have instances for a moment.

use std::io;

use mio::Registry;

use super::super::channel::Channel;
use super::super::names::{self, StreamAddress};
use super::super::owned::Owned;
use super::super::pipe::{self, Instance};
use super::super::stream::Stream;
use super::{Listener, PipeListener, Source};
use crate::{BindOptions, Endpoint};

impl Listener {
    /// Sends a peer these bytes, together with what makes a [`Listener::take_over`] of them there. Says how many it
    /// has sent; those that are left are to be written as any others. What this listener does goes on.
    ///
    /// # Errors
    ///
    /// `Unsupported`: over TCP.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: another process of the same user can have instances under one name, so that nothing has to go along,
    /// and no byte is sent. Unix: see there.
    pub fn pass(&self, stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
        let _ = (stream, bytes);
        match self.source {
            Source::Pipe(_) => Ok(0),
            Source::Tcp(..) => Err(cant_be_passed()),
        }
    }

    /// From here on this is the listener of whoever has [taken it over](Listener::take_over): who comes is his. Those who
    /// are ours alone are still there for [`Listener::accept`], up to `WouldBlock`; then drop it.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: those are ours who have connected to an instance of ours. One who does so in this very moment sees the
    /// end.
    pub fn hand_on(&mut self, registry: &Registry) {
        self.withdraw(registry);
    }

    /// What the server at the other end of a channel has [passed](Listener::pass) there: a listener on the endpoint
    /// that the channel leads to. It is the other's as well, until [`Listener::own`]: as long as that was not called, a
    /// drop leaves everything as it is.
    ///
    /// # Errors
    ///
    /// `Unsupported`: TCP. What the system says, for example that the pipe may have no more instances.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: further instances of the pipe, to which clients connect from here on. Who may is what the server before
    /// has said, until nothing is left of it.
    pub fn take_over(
        endpoint: &Endpoint,
        options: &BindOptions,
        channel: &Channel,
        passed: Option<Owned>,
    ) -> io::Result<Listener> {
        let _ = (channel, passed);
        let StreamAddress::Pipe(name) = names::stream_address(endpoint)? else {
            return Err(cant_be_passed());
        };
        let further = PipeListener::begin(name, options, |name, descriptor| {
            pipe::create(name, descriptor, Instance::Further).map(pipe::into_mio)
        })?;
        Ok(Listener { endpoint: endpoint.clone(), source: Source::Pipe(further) })
    }

    /// From here on it is ours alone: the other [has handed it on](Listener::hand_on).
    ///
    /// # Errors
    ///
    /// None on Windows.
    pub fn own(&mut self, options: &BindOptions) -> io::Result<()> {
        let _ = options;
        Ok(())
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
    use mio::{Events, Poll, Token};
    use std::time::Duration;

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    fn accepted(listener: &mut Listener, poll: &mut Poll) -> Stream {
        loop {
            match listener.accept(poll.registry(), Token(0)) {
                Ok(stream) => return stream,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            poll.poll(&mut Events::with_capacity(8), SOON).unwrap();
        }
    }

    #[test]
    fn whoever_comes_behind_the_handover_comes_to_the_newer_one() {
        let endpoint = Endpoint::Pipe(format!("sidewire-handover-{}", std::process::id()));
        let (mut poll, options) = (Poll::new().unwrap(), BindOptions::default());
        let mut older = Listener::bind(&endpoint, &options).unwrap();
        older.register(poll.registry(), Token(0)).unwrap();
        let channel = Channel::connect(&endpoint, SOON).unwrap();
        let mut asks = accepted(&mut older, &mut poll);
        assert_eq!(older.pass(&asks, b"hello").unwrap(), 0);
        // One that is not taken in the end.
        drop(Listener::take_over(&endpoint, &options, &channel, None).unwrap());
        let mut newer = Listener::take_over(&endpoint, &options, &channel, None).unwrap();
        older.hand_on(poll.registry());
        newer.own(&options).unwrap();
        newer.register(poll.registry(), Token(0)).unwrap();
        for _ in 0..options.pending_instances + 1 {
            let _client = Channel::connect(&endpoint, SOON).unwrap();
            accepted(&mut newer, &mut poll).deregister(poll.registry()).unwrap();
            let nobody = older.accept(poll.registry(), Token(0)).unwrap_err();
            assert_eq!(nobody.kind(), io::ErrorKind::WouldBlock);
        }
        asks.deregister(poll.registry()).unwrap();
        older.deregister(poll.registry()).unwrap();
        drop((older, asks, channel));
        let _client = Channel::connect(&endpoint, SOON).unwrap();
        accepted(&mut newer, &mut poll).deregister(poll.registry()).unwrap();
        newer.deregister(poll.registry()).unwrap();
    }

    #[test]
    fn one_of_tcp_is_passed_to_nobody() {
        let (mut poll, options) = (Poll::new().unwrap(), BindOptions::default());
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap(), &options).unwrap();
        listener.register(poll.registry(), Token(0)).unwrap();
        let channel = Channel::connect(listener.endpoint(), SOON).unwrap();
        let mut stream = accepted(&mut listener, &mut poll);
        assert_eq!(listener.pass(&stream, b"x").unwrap_err().kind(), io::ErrorKind::Unsupported);
        let taken = Listener::take_over(listener.endpoint(), &options, &channel, None);
        assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::Unsupported);
        stream.deregister(poll.registry()).unwrap();
        listener.deregister(poll.registry()).unwrap();
    }
}
