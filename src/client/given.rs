//! Channels that are there already: no endpoint leads to them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sidewire_platform::{Channel, Endpoint, Owned};

use super::Connect;
use super::fate::Fate;
use crate::access::Access;
use crate::error::{Error, Kind, Result};

/// Where the channel comes from, and what may be spoken on it.
#[derive(Clone)]
pub(super) struct Given {
    take: Arc<dyn Fn() -> Result<Taken> + Send + Sync>,
    speaks: Speaks,
    source: Source,
}

/// A channel, and what will be known of the process that it leads to, if somebody of ours looks after that.
pub(super) struct Taken {
    pub(super) channel: Channel,
    pub(super) fate: Option<Arc<Fate>>,
}

/// How often there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Once,
    /// A program is started for each.
    Program,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Anything,
    /// Whoever is at the other end expects this.
    V1,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Given { speaks, source, .. } = self;
        f.debug_struct("Given").field("speaks", speaks).field("source", source).finish_non_exhaustive()
    }
}

impl Connect {
    /// Over a connection that the program has already: one end of a pair of sockets, a socket that it was handed. The
    /// server at the other end [serves](crate::Server::serve_stream) it, or has accepted it as any other.
    ///
    /// It can be opened once, by this or by what is [cloned](Clone) from it, and there is no
    /// [`reconnect`](Connect::reconnect). The policy holds as elsewhere: of a TCP connection the system doesn't tell whose
    /// it is, so it needs [`Access::Anyone`](crate::Access::Anyone).
    ///
    /// ```
    /// # #[cfg(unix)]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::os::unix::net::UnixStream;
    /// use sidewire::{Access, Connect, Server};
    ///
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let mut server = Server::new(());
    /// server.on(1, |(), _request, reply| Ok(reply.write("hello")));
    /// server.serve_stream(theirs, Access::SameUser)?;
    /// let running = server.spawn()?;
    /// let client = Connect::over(ours).open()?;
    /// assert_eq!(client.call(1, "")?.payload(), b"hello");
    /// # drop(client);
    /// # running.stop()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(not(unix))]
    /// # fn main() {}
    /// ```
    ///
    /// What it is, is looked at when it is [opened](Connect::open): something else than a connection is
    /// [`is_invalid_input`](Error::is_invalid_input), and the text says what it is.
    ///
    /// # Platform-specific behavior
    /// Unix: a stream socket, Unix or TCP: std's, or any `OwnedFd`. It becomes blocking and close-on-exec. Of a pair of
    /// sockets both ends belong to the process that made it, as far as the system tells ([`Client::peer`](super::Client::peer)).
    ///
    /// Windows: a TCP socket (`OwnedSocket`, or std's), or one end of a named pipe of bytes (`OwnedHandle`) that was
    /// opened with `FILE_FLAG_OVERLAPPED`. Of the server's end of a pipe nothing is known of the peer, so it needs
    /// [`Access::Anyone`](crate::Access::Anyone).
    pub fn over(stream: impl Into<Owned>) -> Connect {
        let stream = stream.into();
        let endpoint = Endpoint::Unnamed(stream.to_string());
        let (name, stream) = (endpoint.clone(), Mutex::new(Some(stream)));
        let take = move || {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            let used = || Kind::InvalidInput("this connection was used before".into());
            let stream = stream.ok_or_else(|| Error::new("connect to", &name, used()))?;
            let channel = Channel::from_owned(stream);
            let channel = channel.map_err(|error| Error::os("connect to", &name, error).not_executed())?;
            Ok(Taken { channel, fate: None })
        };
        Connect::given(
            endpoint,
            Given { take: Arc::new(take), speaks: Speaks::Anything, source: Source::Once },
        )
    }

    /// Over a channel that `take` gives, to somebody who expects v1.
    pub(crate) fn over_v1(
        endpoint: Endpoint,
        take: impl Fn() -> Result<Channel> + Send + Sync + 'static,
    ) -> Connect {
        let take = move || Ok(Taken { channel: take()?, fate: None });
        Connect::given(endpoint, Given { take: Arc::new(take), speaks: Speaks::V1, source: Source::Once })
    }

    /// Over channels to programs that `start` starts, one for each; and what will be known of their ends, which whoever
    /// looks after them is told if they are not needed any more.
    pub(crate) fn over_programs(
        endpoint: Endpoint,
        start: impl Fn() -> Result<(Channel, Arc<Fate>)> + Send + Sync + 'static,
    ) -> Connect {
        let take = move || start().map(|(channel, fate)| Taken { channel, fate: Some(fate) });
        Connect::given(endpoint, Given { take: Arc::new(take), speaks: Speaks::V1, source: Source::Program })
    }

    fn given(endpoint: Endpoint, given: Given) -> Connect {
        let mut connect = Connect::at(endpoint);
        connect.given = Some(given);
        connect
    }
}

impl Given {
    pub(super) fn take(&self) -> Result<Taken> {
        (self.take)()
    }

    /// Whether it leads to what we have started ourselves, and so to no stranger.
    pub(super) fn is_own_program(&self) -> bool {
        self.source == Source::Program
    }

    /// Why such a channel can't be used so, if it can't.
    pub(super) fn objection(&self, is_v1: bool, is_once: bool, access: &Access) -> Option<&'static str> {
        if self.source == Source::Once && !is_once {
            return Some("this connection can't be made anew");
        }
        if self.source == Source::Program && matches!(access, Access::Rules(_)) {
            return Some(
                "the server is the program that is started here, of which no rule of access says anything",
            );
        }
        match self.speaks {
            Speaks::V1 if !is_v1 => Some("nothing but the v1 layout is spoken here"),
            Speaks::V1 | Speaks::Anything => None,
        }
    }
}
