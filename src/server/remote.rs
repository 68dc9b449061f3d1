//! Reaching a running server from other threads.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::peers::{Orders, PeerHandle};
use super::queue::Queue;
use crate::error::{Error, Kind, Result};
use crate::maker::Maker;
use crate::reactor::mailbox::{Letter, Mailbox};
use crate::reactor::{ConnectionId, PeerInfo, STOP_GRACE};

/// A handle to a server of a state of type `S`, which any thread may hold, and a handler of that server, too.
///
/// Nothing here waits for the server.
pub struct Remote<S> {
    mailbox: Arc<Mailbox>,
    errands: Arc<Errands<S>>,
    orders: Arc<Orders<S>>,
}

/// How long the loop may take to say who is connected.
const CENSUS_TIMEOUT: Duration = Duration::from_secs(5);

impl<S> Remote<S> {
    pub(super) fn new(mailbox: Arc<Mailbox>, errands: Arc<Errands<S>>, orders: Arc<Orders<S>>) -> Remote<S> {
        Remote { mailbox, errands, orders }
    }

    /// A handle to this connection, to ask its client something.
    #[must_use]
    pub fn peer(&self, connection: ConnectionId) -> PeerHandle<S> {
        PeerHandle::new(Arc::clone(&self.mailbox), Arc::clone(&self.orders), connection)
    }

    /// Who is connected now: each connection that handlers were told of, in the order in which they came.
    ///
    /// The server's loop is asked, and answers between two turns. That may take as long as a handler holds it, but
    /// is waited for no longer than 5 s.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) on the server's own thread, in a handler, which the loop
    /// would have to wait for: [`Server::peers`](super::Server::peers) is for between turns.
    /// [`is_timeout`](Error::is_timeout), [`is_stopped`](Error::is_stopped), and
    /// [`is_full`](Error::is_full) if 4,096 orders wait for the loop already.
    pub fn peers(&self) -> Result<Vec<PeerInfo>> {
        const OPERATION: &str = "ask the server who is connected";
        if self.mailbox.is_loops_thread() {
            let text = "the server's own thread asks, which would have to answer; ask from another thread";
            return Err(Error::invalid(OPERATION, text));
        }
        let (sender, answer) = mpsc::sync_channel(1);
        self.mailbox.post(Letter::Census(sender)).map_err(Error::unreached)?;
        answer.recv_timeout(CENSUS_TIMEOUT).map_err(|error| {
            let kind = match error {
                RecvTimeoutError::Timeout => Kind::TimedOut,
                RecvTimeoutError::Disconnected => Kind::Stopped,
            };
            Error::of_server(OPERATION, None, kind)
        })
    }

    /// Has the server run this with its state, between requests: so workers need no locks to get at it. They
    /// run in the order in which one thread asks for them. One that panics is logged, and the server goes on.
    ///
    /// ```
    /// # let name = format!("local:with-{}", std::process::id());
    /// # let name = name.as_str();
    /// use sidewire::Server;
    ///
    /// let mut server = Server::new(0u64);
    /// server.listen(name)?;
    /// let running = server.spawn()?;
    /// let remote = running.remote();
    /// let worker = std::thread::spawn(move || remote.with(|count| *count += 1));
    /// worker.join().expect("it does not panic")?;
    /// assert_eq!(running.stop()?, 1);
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// This does not wait: neither for its turn nor for room. What the server has not run when it ends is
    /// dropped.
    ///
    /// # Errors
    /// [`is_full`](Error::is_full) if 4,096 orders wait for the server already: try again a little later.
    /// [`is_stopped`](Error::is_stopped) if nobody will run it any more.
    pub fn with(&self, run: impl FnOnce(&mut S) + Send + 'static) -> Result<()> {
        let posted = self.errands.add(Box::new(run), || self.mailbox.post(Letter::Run));
        posted.map_err(Error::unreached)
    }

    /// Tells something to all who have subscribed to a [topic](super::Server::topic). Encoded once, however many
    /// they are. What one thread publishes comes in this order, and behind what it has had
    /// [run](Remote::with) before.
    ///
    /// This waits neither for the server nor for its clients: what becomes of an event for one that reads
    /// too slowly, its topic says. What is published right before the server stops may reach nobody.
    ///
    /// # Errors
    /// As [`with`](Remote::with), and if there is no memory for it. That nobody has subscribed is none.
    pub fn publish(&self, topic: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.mailbox.publish(topic, payload.as_ref()).map_err(Error::unreached)
    }

    /// The same, of an event that comes from elsewhere, and before which `missed` others were lost on the way: each
    /// subscriber gets these told as [dropped](crate::Event::dropped), besides what it has missed here.
    ///
    /// # Errors
    /// As [`publish`](Remote::publish).
    pub fn publish_behind(&self, missed: u32, topic: u16, payload: impl AsRef<[u8]>) -> Result<()> {
        self.mailbox.publish_behind(missed, topic, payload.as_ref()).map_err(Error::unreached)
    }

    /// Stops the server: it lets nobody in any more, removes its socket files, begins no new requests, says
    /// goodbye to its clients, and ends as soon as they have left, after half a second at most. What it has accepted
    /// is answered; requests that were [deferred](super::Reply::defer) have as long, and are then refused "shutting
    /// down" (-9). Its [`run`](super::Server::run) then returns.
    ///
    /// # Errors
    /// Only if the operating system can't wake the loop; it stops all the same when it next turns.
    pub fn stop(&self) -> Result<()> {
        self.stop_within(STOP_GRACE)
    }

    /// The same with another limit than half a second.
    ///
    /// # Errors
    /// As [`stop`](Remote::stop).
    ///
    /// # Platform-specific behavior
    /// A client of a Windows pipe that has not read its last bytes by then loses them.
    pub fn stop_within(&self, grace: Duration) -> Result<()> {
        self.mailbox.stop(grace).map_err(|error| Error::system("stop the server", error))
    }
}

impl<S> Clone for Remote<S> {
    fn clone(&self) -> Remote<S> {
        Remote::new(Arc::clone(&self.mailbox), Arc::clone(&self.errands), Arc::clone(&self.orders))
    }
}

impl<S> fmt::Debug for Remote<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("mailbox", &self.mailbox).finish_non_exhaustive()
    }
}

/// What is to be run with the state.
pub(super) type Errand<S> = Box<dyn FnOnce(&mut S) + Send>;
type Errands<S> = Queue<Errand<S>>;

/// A server on a thread of its own. Dropping it stops the server and waits for it; in a handler of
/// that very server it only stops it, and in a forked child of the process that started it, where there is
/// no such thread, it does nothing.
#[derive(Debug)]
#[must_use = "dropping it stops the server"]
pub struct Running<S> {
    remote: Remote<S>,
    thread: Option<JoinHandle<(Result<()>, S)>>,
    maker: Maker,
}

impl<S> Running<S> {
    pub(super) fn new(remote: Remote<S>, thread: JoinHandle<(Result<()>, S)>) -> Running<S> {
        Running { remote, thread: Some(thread), maker: Maker::here() }
    }

    /// A handle that can outlive this one.
    #[must_use]
    pub fn remote(&self) -> Remote<S> {
        self.remote.clone()
    }

    /// Stops the server, waits for its end, and gives its state back.
    ///
    /// A handler can't wait for its own server. There it is stopped too, once the handler has
    /// returned and its reply is out, but the result is an error, and the state is dropped at the
    /// server's end. [`Remote::stop`] is what handlers are better given.
    ///
    /// # Errors
    /// What ended the loop before, if that was not this call;
    /// [`is_invalid_input`](Error::is_invalid_input) in a handler of this server, and in a forked child.
    ///
    /// # Panics
    /// Goes on with a panic of the server's thread; a panic in a handler is none.
    pub fn stop(mut self) -> Result<S> {
        if !self.maker.is_here() {
            let text = "a forked child has no such server; the process that started it has";
            return Err(Error::invalid("stop the server", text));
        }
        self.remote.stop()?;
        let Some(thread) = self.thread.take() else { unreachable!("only taken here and in drop") };
        if is_this_thread(&thread) {
            let text = "a handler can't wait for the end of its own server, which has been told to stop; \
                        use Remote::stop there";
            return Err(Error::invalid("stop the server", text));
        }
        match thread.join() {
            Ok((result, state)) => result.map(|()| state),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if !self.maker.is_here() {
            // The system knows no thread by this handle here, or by now another one.
            return std::mem::forget(thread);
        }
        if let Err(error) = self.remote.stop() {
            return log::error!("{error}");
        }
        if is_this_thread(&thread) {
            return log::debug!("a server was stopped by one of its handlers");
        }
        match thread.join() {
            Ok((Err(error), _)) => log::error!("a server ended: {error}"),
            Ok((Ok(()), _)) => {}
            Err(_) => log::error!("a server's thread panicked"),
        }
    }
}

/// Whether the server's own thread asks: in a handler, or while it drops its handlers.
fn is_this_thread<T>(server: &JoinHandle<T>) -> bool {
    server.thread().id() == std::thread::current().id()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::mailbox::Letter;
    use crate::server::Server;

    /// It was left behind with its thread when its mailbox was full.
    #[test]
    fn a_server_that_is_dropped_ends_however_full_its_mailbox_is() {
        for has_to_give_back in [false, true] {
            let mut server = Server::new(7);
            let mailbox = server.remote().expect("a remote").mailbox;
            while mailbox.post(Letter::Ready(u16::MAX)).is_ok() {}
            let running = server.spawn().expect("spawn");
            match has_to_give_back {
                true => assert_eq!(running.stop().expect("the server ends well"), 7),
                false => drop(running),
            }
            assert_eq!(Arc::strong_count(&mailbox), 1, "its thread has gone");
        }
    }
}
