//! The limits that a server can be at: by what names they are counted, and told.

use std::fmt;

use sidewire_wire::ProtocolError;

/// Declares each limit once: by what name it is counted and told, and what that means where no field of
/// [`Limits`](crate::Limits) has it.
macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident = $name:literal,)*) => {
        /// What somebody had too much of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Limit {
            $($(#[$doc])* $limit,)*
        }

        impl Limit {
            pub(crate) const ALL: &[Limit] = &[$(Limit::$limit),*];

            /// Its key in [`Stats::limits`](crate::Stats::limits).
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Limit::$limit => $name,)*
                }
            }
        }
    };
}

limits! {
    // Of all connections, and of each listener.
    MaxBuffered = "max_buffered",
    MaxConnections = "max_connections",
    MaxConnectionsPerPeer = "max_connections_per_peer",
    FirstByteTimeout = "first_byte_timeout",
    // Of one connection.
    HelloTimeout = "hello_timeout",
    PartialFrameTimeout = "partial_frame_timeout",
    WriteStallTimeout = "write_stall_timeout",
    IdleTimeout = "idle_timeout",
    MaxPayload = "max_payload",
    MaxInFlight = "max_in_flight",
    MaxInFlightBytes = "max_in_flight_bytes",
    MaxAttachments = "max_attachments",
    StreamCredit = "stream_credit",
    OutboxSoft = "outbox_soft",
    OutboxHard = "outbox_hard",
    // Without a field.
    /// Of one user or address, what all others leave of it.
    ShareOfBuffered = "max_buffered share",
    /// Attachments under way on all connections of one user or address.
    ShareOfAttachments = "max_attachments share",
    /// Connections that have not proved yet that they know the token.
    Unproven = "unproven",
    /// The process has no more.
    Descriptors = "descriptors",
    /// Who has not taken the answer that says "no".
    Refusals = "refusals at a time",
    /// There is none.
    Memory = "memory",
    /// Answers that wait for receivers whose queues are full.
    QueuedDatagrams = "queued datagrams",
    /// Requests in datagrams that are to be answered later.
    DeferredDatagrams = "deferred datagrams",
    /// More than one read takes.
    DatagramSize = "datagram size",
    /// Requests that nobody waits for any more, and on which somebody still works.
    Unwanted = "unwanted requests",
    /// Attachments that wait to leave to one client, or to be taken by it.
    AttachmentsLeaving = "attachments leaving",
}

impl Limit {
    pub(crate) const COUNT: usize = Limit::ALL.len();

    /// The one that a connection was ended for, if it was for one.
    pub(crate) fn of(failure: &ProtocolError) -> Option<Limit> {
        let name = failure.limit()?;
        Limit::ALL.iter().copied().find(|limit| limit.name() == name)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever finds one in the log or in the statistics can look it up.
    #[test]
    fn each_is_a_field_or_is_documented() {
        let fields = format!("{:?}", crate::Limits::default());
        let documented = include_str!("../stats.rs");
        for (index, limit) in Limit::ALL.iter().enumerate() {
            let name = limit.name();
            assert_eq!(*limit as usize, index);
            assert!(
                fields.contains(&format!(" {name}: ")) || documented.contains(&format!("/// - `{name}`")),
                "{name}"
            );
            assert_eq!(Limit::ALL.iter().filter(|other| other.name() == name).count(), 1, "{name}");
        }
    }

    /// What the wire calls a limit is one of these.
    #[test]
    fn those_of_the_wire_are_among_them() {
        let source = include_str!("../../wire/src/error.rs");
        let of_wire = source.split("pub fn limit(").nth(1).and_then(|rest| rest.split("\n    }").next());
        let of_wire = of_wire.expect("it is there");
        let named: Vec<_> =
            of_wire.lines().filter_map(|line| line.split_once("=> \"")?.1.split('"').next()).collect();
        assert!(named.len() >= 15, "{named:?}");
        for name in named {
            assert!(Limit::ALL.iter().any(|limit| limit.name() == name), "{name}");
        }
        assert_eq!(Limit::of(&ProtocolError::STALLED), Some(Limit::WriteStallTimeout));
        assert_eq!(Limit::of(&ProtocolError::CutOff), None);
    }
}
