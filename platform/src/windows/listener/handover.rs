//! A listener that goes from one server to the next: under one name, both have instances for a moment.

use std::io;

use super::super::channel::Channel;
use super::super::names::{self, StreamAddress};
use super::super::owned::Owned;
use super::super::pipe::{self, Instance};
use super::super::poll::Registry;
use super::super::polled::PolledPipe;
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
            pipe::create(name, descriptor, Instance::Further).map(PolledPipe::alone)
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
