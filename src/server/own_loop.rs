//! A server in a loop that is not its own.

use std::io;
use std::time::Duration;

use sidewire_platform::PollDescriptor;

use super::{Dispatch, Server, Threads};
use crate::error::{Error, Result};
use crate::loops;
use crate::reactor::Reactor;

/// In a loop of the program's own.
///
/// Where other loops can watch a descriptor, as on Unix, the server runs in them without a thread: they wait until
/// its [`poll_descriptor`](Server::poll_descriptor) is readable, or for as long as
/// [`next_timeout`](Server::next_timeout) says, and then have it [`turn`](Server::turn) without waiting. The examples
/// `poll_loop` and `calloop` do that. On Windows, whose user interfaces wait for messages, a server has a thread of its
/// own: [`spawn`](Server::spawn), and [`Remote`](super::Remote) to get at its state.
impl<S, T: Threads> Server<S, T> {
    /// Waits for something to happen, for at most `timeout` (`None`: as long as it takes), and
    /// handles it: for programs that have a loop of their own. May return early, with nothing
    /// handled, when a signal interrupts it. With no time at all it never waits. Returns `false` once the server
    /// was stopped through its [`Remote`](super::Remote), or has ended with [its parent](Server::serve_parent).
    ///
    /// One turn does not do all there is: nobody gets more than his share of it. The rest is for the next one,
    /// which [`next_timeout`](Server::next_timeout) then says is due.
    ///
    /// # Errors
    /// If the system's poll itself fails. What goes wrong with single connections ends those only.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.core.reactor()?.mailbox().wakes_poll();
        self.one_turn(|reactor, dispatch| reactor.turn(timeout, dispatch))
    }

    /// One turn, and what belongs to turning at all.
    pub(super) fn one_turn(
        &mut self,
        turn: impl FnOnce(&mut Reactor, &mut Dispatch<S, T>) -> io::Result<bool>,
    ) -> Result<bool> {
        let _serving = loops::begin_serving(&self.served);
        let _turning = self.core.reactor()?.begin_turns();
        self.dispatch.manager.ready(self.endpoints.len());
        self.take_turn(turn)
    }

    /// After how long the next [`turn`](Server::turn) is due, even if the [descriptor](Server::poll_descriptor) tells
    /// nothing before: at once, if the last one has left something to do; otherwise when the next time limit
    /// passes. `None`: then nothing is due.
    ///
    /// Ask behind each turn, and when an endpoint was opened or a stream handed over. Loops that count in whole milliseconds round up.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.core.reactor.as_ref()?.next_timeout()
    }

    /// What other loops watch in place of all that the server waits for: readable (level-triggered) when there is
    /// something for a [`turn`](Server::turn) to handle, also what other threads ask of it through its
    /// [`Remote`](super::Remote). It is a descriptor of its own, so it may be kept anywhere; nothing but watching it
    /// is of use. Take it out of the loop before the server is dropped.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sidewire::Server;
    ///
    /// # fn main() -> Result<(), sidewire::Error> {
    /// # let name = format!("local:own-loop-{}", std::process::id());
    /// # let name = name.as_str();
    /// let mut server = Server::new(());
    /// server.listen(name)?;
    /// # #[cfg(unix)]
    /// # {
    /// let descriptor = server.poll_descriptor()?;
    /// # let mut rounds = 0;
    /// loop {
    ///     wait_until_readable(&descriptor, server.next_timeout());
    ///     if !server.turn(Some(Duration::ZERO))? {
    ///         break;
    ///     }
    /// #   rounds += 1;
    /// #   if rounds == 2 {
    /// #       server.remote()?.stop()?;
    /// #   }
    /// }
    /// # }
    /// # Ok(())
    /// # }
    /// # #[cfg(unix)]
    /// # fn wait_until_readable(_: &impl std::os::fd::AsFd, _: Option<Duration>) {}
    /// ```
    ///
    /// # Errors
    /// If the system has no descriptors left; [`is_unsupported`](Error::is_unsupported) where there is no such
    /// thing.
    ///
    /// # Platform-specific behavior
    /// Unix: the descriptor implements `AsFd` and `AsRawFd`, and becomes an `OwnedFd`. Windows: there is none.
    pub fn poll_descriptor(&mut self) -> Result<PollDescriptor> {
        let descriptor = self.core.reactor()?.descriptor();
        descriptor.map_err(|error| Error::system("get a descriptor of the server's loop", error))
    }
}
