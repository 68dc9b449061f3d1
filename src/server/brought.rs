//! Streams that the program has already: no listener has accepted them.

use std::sync::Arc;
use std::time::Duration;

use sidewire_platform::{Endpoint, Owned, Stream};

use super::open::Plan;
use super::{Listen, Server, Threads};
use crate::access::Access;
use crate::error::{Error, Kind, Result};
use crate::limits::PerPeer;
use crate::reactor::{Carries, Greets};

/// What logs call streams of the program's own.
const OWN: &str = "stream";

impl<S, T: Threads> Server<S, T> {
    /// Serves a connection that the program has already: one end of a pair of sockets, a socket that it was handed or
    /// has accepted itself. It is one like those of a listener, with the server's own
    /// [limits](crate::Limits::listener) for listeners; whoever is at the other end says hello, or speaks the classic layout.
    /// It is let in when the loop next turns. [`Connect::over`](crate::Connect::over) is the client's side.
    ///
    /// A connection of TCP, where the system can't tell users apart, needs [`Access::Anyone`]. That it ends
    /// is no end of the server.
    ///
    /// # Errors
    /// [`is_invalid_input`](Error::is_invalid_input) if it is something else than a connection; the text says what.
    /// That the server has stopped.
    ///
    /// # Platform-specific behavior
    /// Unix: a stream socket, Unix or TCP: std's, or any `OwnedFd`. It becomes non-blocking and close-on-exec.
    /// Of a pair of sockets both ends belong to the process that made it, as far as the system tells.
    ///
    /// Windows: a TCP socket (`OwnedSocket`, or std's), or one end of a named pipe of bytes (`OwnedHandle`) that was
    /// opened with `FILE_FLAG_OVERLAPPED` and is in no completion port yet.
    pub fn serve_stream(&mut self, stream: impl Into<Owned>, access: Access) -> Result<()> {
        let stream = stream.into();
        let name = Endpoint::Unnamed(stream.to_string());
        let os = |error| Error::os("serve", &name, error);
        let stream = Stream::from_owned(stream).map_err(os)?;
        if access.needs_credentials() && stream.peer().is_ok_and(|peer| peer.address().is_some()) {
            let text = "nobody vouches for who is there; say Access::Anyone if that may be anyone";
            return Err(Error::new("serve", &name, Kind::InvalidInput(text.into())));
        }
        let listen = Listen::from(Endpoint::Unnamed(OWN.into())).access(access);
        let plan = Plan::new(&listen, Carries::Frames, self)?;
        let counters = self.counters();
        let reactor = self.core.reactor()?;
        reactor.bring(stream, &listen.access, || plan.site(&listen.endpoint, counters)).map_err(os)?;
        self.keep_recording(None)
    }

    /// Serves the process that has started this one. Its hello goes out when the loop first turns.
    pub(crate) fn bring_parent(&mut self, stream: Stream, parent: Endpoint) -> Result<()> {
        let listen = Listen::from(parent).access(Access::Anyone).without_classic();
        let mut site = Plan::new(&listen, Carries::Frames, self)?.site(&listen.endpoint, self.counters());
        site.greets = Greets::We;
        site.per_peer = PerPeer::All;
        let settings = Arc::make_mut(&mut site.settings);
        // It may be silent for as long as it likes.
        settings.first_byte = None;
        settings.limits.idle_timeout = None;
        let brought = self.core.reactor()?.bring_parent(stream, site);
        brought.map_err(|error| Error::os("serve", &listen.endpoint, error))?;
        self.keep_recording(None)
    }

    /// What has the server stop within this time.
    pub(crate) fn stopper(&mut self, grace: Duration) -> Result<impl FnOnce() + Send + 'static> {
        let mailbox = self.core.reactor()?.mailbox();
        Ok(move || {
            if let Err(error) = mailbox.stop(grace) {
                log::error!("stop the server: {error}");
            }
        })
    }
}
