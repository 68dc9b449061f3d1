//! A server in a loop that is not its own.

#[cfg(feature = "tokio")]
use std::future::poll_fn;
use std::time::Duration;

use sidewire_platform::PollDescriptor;

use super::{Server, Threads};
use crate::error::{Error, Result};
use crate::loops;

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
        let _serving = loops::begin_serving(&self.served);
        let _turning = self.core.reactor()?.begin_turns();
        self.dispatch.manager.ready(self.endpoints.len());
        self.turn_once(timeout)
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

    /// Serves in a task of a Tokio runtime, as [`run`](Server::run) does in a thread of its own: handlers and the tasks of a
    /// runtime with one thread then hand things to each other without waking another thread. Handlers hold up that task's
    /// thread: others get theirs behind each [`turn`](Server::turn), which gives every connection its share, so 2 ms and one
    /// handler at most ([`turn_frames`](crate::Limits::turn_frames)). Dropped, it stops between two turns, and may be called again.
    ///
    /// ```
    /// use sidewire::Server;
    ///
    /// # let name = format!("local:run-async-{}", std::process::id());
    /// # let name = name.as_str();
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    /// # runtime.block_on(async {
    /// let mut server = Server::new(());
    /// server.on(1, |(), request, reply| {
    ///     reply.write(request.payload());
    ///     Ok(())
    /// });
    /// let bound = server.listen(name)?;
    /// let remote = server.remote()?;
    /// # if cfg!(unix) {
    /// let asking = tokio::spawn(async move {
    ///     let client = sidewire::tokio::Client::connect(bound).await?;
    ///     assert_eq!(client.call(1, "hello").await?.payload(), b"hello");
    ///     remote.stop()
    /// });
    /// server.run_async().await?;
    /// asking.await.expect("no panic")?;
    /// # }
    /// # Ok::<(), sidewire::Error>(())
    /// # }).expect("it serves");
    /// ```
    ///
    /// # Errors
    /// As [`run`](Server::run); if there is no Tokio runtime here, or the system has no descriptors left;
    /// [`is_unsupported`](Error::is_unsupported) where a loop has no descriptor.
    ///
    /// # Panics
    /// If the runtime was built without I/O, or without time.
    ///
    /// # Platform-specific behavior
    /// Windows: unsupported, before anything is served. There a server has a thread of its own: [`spawn`](Server::spawn).
    #[cfg(feature = "tokio")]
    pub async fn run_async(&mut self) -> Result<()> {
        let ready = self.core.reactor()?.for_tasks();
        let ready = ready.map_err(|error| Error::system("serve in a task", error))?;
        let failed = |error| Error::system("wait for the server's loop", error);
        while self.turn(Some(Duration::ZERO))? {
            let mut has_waited = false;
            let readable = poll_fn(|task| {
                let polled = ready.poll_ready(task);
                has_waited |= polled.is_pending();
                polled
            });
            match self.next_timeout() {
                Some(Duration::ZERO) => {}
                Some(timeout) => {
                    // Whether or not it came to something: the next turn sees.
                    ::tokio::time::timeout(timeout, readable).await.unwrap_or(Ok(())).map_err(failed)?;
                }
                None => readable.await.map_err(failed)?,
            }
            if !has_waited {
                // Others get their turn, too.
                ::tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}
