//! How an endpoint is opened.

use std::time::Duration;

use sidewire_platform::{BindOptions, Endpoint};

use crate::access::Access;
use crate::error::Error;
use crate::limits::ListenerLimits;
use sidewire_wire::Classic;

/// An endpoint to listen on, with options. [`Server::listen`](super::Server::listen) also takes
/// a plain text where the defaults will do.
///
/// ```
/// use sidewire::{Access, Listen};
///
/// let listen = Listen::on("tcp:127.0.0.1:0")?.access(Access::Anyone).classic_max(4096);
/// # Ok::<(), sidewire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Listen {
    pub(super) endpoint: Endpoint,
    pub(super) access: Access,
    /// `None`: the default, which depends on the address.
    pub(super) classic: Option<Classic>,
    pub(super) bind: BindOptions,
    /// `None`: the server's.
    pub(super) limits: Option<ListenerLimits>,
}

impl Listen {
    /// This endpoint, for processes of the same user.
    ///
    /// # Errors
    /// If it is a text that is no endpoint.
    pub fn on<E>(endpoint: E) -> Result<Listen, Error>
    where
        E: TryInto<Endpoint>,
        Error: From<E::Error>,
    {
        Ok(endpoint.try_into()?.into())
    }

    /// Who may connect. Default [`Access::SameUser`].
    #[must_use]
    pub fn access(mut self, access: Access) -> Listen {
        self.access = access;
        self.bind.anyone = access == Access::Anyone;
        self
    }

    /// Limits of its own. Default: [`Limits::listener`](crate::Limits::listener) of the server.
    #[must_use]
    pub fn limits(mut self, limits: ListenerLimits) -> Listen {
        self.limits = Some(limits);
        self
    }

    /// Classic peers: most bytes of payload, either way. Default 1,024.
    #[must_use]
    pub fn classic_max(mut self, bytes: u32) -> Listen {
        self.classic = Some(Classic::Short(bytes.min(i32::MAX as u32)));
        self
    }

    /// Classic peers: every request and every reply is exactly `12 + bytes` long, zero-padded,
    /// for programs that send and read their whole struct.
    #[must_use]
    pub fn classic_fixed(mut self, bytes: u32) -> Listen {
        self.classic = Some(Classic::Fixed(bytes.min(i32::MAX as u32)));
        self
    }

    /// Classic peers are refused.
    #[must_use]
    pub fn without_classic(mut self) -> Listen {
        self.classic = Some(Classic::Refused);
        self
    }

    /// How many connections the system queues before they are accepted (listen(2)). Default:
    /// as many as it allows; Linux cuts it to `net.core.somaxconn`. Pipes have no such queue.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Listen {
        self.bind.backlog = connections;
        self
    }

    /// Whether small writes leave at once on TCP (TCP_NODELAY, tcp(7)). Default true.
    #[must_use]
    pub fn nodelay(mut self, at_once: bool) -> Listen {
        self.bind.nodelay = at_once;
        self
    }

    /// After how long a silence TCP asks whether the peer is still there (SO_KEEPALIVE, tcp(7)),
    /// in whole seconds. Default `None`: never.
    #[must_use]
    pub fn keep_alive(mut self, after: Option<Duration>) -> Listen {
        self.bind.keepalive = after;
        self
    }

    /// Bytes of the system's receive buffer for each socket (SO_RCVBUF, socket(7)). Default: the
    /// system's for streams, and what the largest datagrams need.
    ///
    /// # Platform-specific behavior
    /// Windows pipes have buffers of 64 KiB, whatever is said here.
    #[must_use]
    pub fn receive_buffer(mut self, bytes: u32) -> Listen {
        self.bind.recv_buffer = Some(bytes);
        self
    }

    /// Bytes of the system's send buffer for each socket (SO_SNDBUF, socket(7)). Default: as
    /// [`receive_buffer`](Listen::receive_buffer). Larger ones help large payloads.
    ///
    /// # Platform-specific behavior
    /// As [`receive_buffer`](Listen::receive_buffer).
    #[must_use]
    pub fn send_buffer(mut self, bytes: u32) -> Listen {
        self.bind.send_buffer = Some(bytes);
        self
    }

    /// Lets `tcp:` and `udp:` bind addresses that other machines can reach, as `0.0.0.0` (IPv4) and
    /// `[::]` (IPv6 and IPv4, on every system). By default only loopback addresses can be bound.
    /// Nothing on the wire is encrypted.
    ///
    /// The classic layout, whose byte order is this machine's, is refused there unless
    /// [`classic_max`](Listen::classic_max) or [`classic_fixed`](Listen::classic_fixed) asks for it.
    #[must_use]
    pub fn beyond_loopback(mut self) -> Listen {
        self.bind.beyond_loopback = true;
        self
    }

    /// How many instances of a named pipe wait for clients at any time. Default 4.
    ///
    /// # Platform-specific behavior
    /// Windows only; elsewhere there are no pipe instances and this changes nothing.
    #[must_use]
    pub fn pending_instances(mut self, instances: u32) -> Listen {
        self.bind.pending_instances = instances;
        self
    }

    /// Accepts clients of the same user whose integrity level is below the server's.
    ///
    /// # Platform-specific behavior
    /// Windows only; elsewhere there are no integrity levels and this changes nothing. The pipe gets a
    /// label of low integrity: processes down there can set up instances of it as well, so clients
    /// above must say [`Connect::lower_integrity`](crate::Connect::lower_integrity).
    #[must_use]
    pub fn lower_integrity(mut self) -> Listen {
        self.bind.lower_integrity = true;
        self
    }
}

/// What a server can listen on: a [`Listen`], or whatever names an [`Endpoint`], for which the usual options
/// will do.
pub trait IntoListen {
    /// The endpoint with its options.
    ///
    /// # Errors
    /// If it is a text that is no endpoint.
    fn into_listen(self) -> Result<Listen, Error>;
}

impl IntoListen for Listen {
    fn into_listen(self) -> Result<Listen, Error> {
        Ok(self)
    }
}

impl<E> IntoListen for E
where
    Endpoint: TryFrom<E>,
    Error: From<<Endpoint as TryFrom<E>>::Error>,
{
    fn into_listen(self) -> Result<Listen, Error> {
        Listen::on(self)
    }
}

impl From<Endpoint> for Listen {
    fn from(endpoint: Endpoint) -> Listen {
        Listen {
            endpoint,
            access: Access::default(),
            classic: None,
            bind: BindOptions::default(),
            limits: None,
        }
    }
}

impl From<&Endpoint> for Listen {
    fn from(endpoint: &Endpoint) -> Listen {
        endpoint.clone().into()
    }
}
