//! A server that leaves when nobody needs it.

use std::time::Duration;

use super::{Server, Threads};
use crate::error::Result;

impl<S, T: Threads> Server<S, T> {
    /// Has this server leave when no client was connected for so long: it stops as by [`Remote::stop`](super::Remote::stop), and
    /// [`run`](Server::run) returns. For servers that are started when somebody needs them, by
    /// [`Client::connect_or_start`](crate::Client::connect_or_start).
    ///
    /// Time counts from when the last client has gone; at first from when the server begins to run, and then it waits
    /// for 5 s at least, since it was started for somebody. [`Duration::ZERO`] therefore means: as soon as the last
    /// client has gone. A client is a connection that was let in, whatever it carries; datagrams count by the moment at
    /// which they come. What the server does for nobody holds it not.
    ///
    /// **Nobody falls into the gap.** The server first takes the lock under which such servers are started, and stays
    /// as long as a starter has it. Then nobody finds its endpoints any more, and those who have just found them
    /// are told to try again ("shutting down", -9), which `connect_or_start` and [`Reconnect`](crate::Reconnect) do.
    /// The lock is kept until this server is dropped, so the next one is started when this one's state has gone: what
    /// that does last, such as closing a file that one process may have open, is done by then. (A server that is
    /// [spawned](Server::spawn) gives its state back, so there it is kept until its thread ends.)
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use sidewire::Server;
    /// let mut server = Server::new(());
    /// server.exit_when_idle(Duration::from_secs(60))?;
    /// server.listen("local:com.example.app")?;
    /// server.run()?; // returns a minute after the last client has gone
    /// # Ok::<(), sidewire::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the system has no descriptors left for a loop.
    pub fn exit_when_idle(&mut self, after: Duration) -> Result<()> {
        self.core.reactor()?.leave_when_idle(after);
        Ok(())
    }
}
