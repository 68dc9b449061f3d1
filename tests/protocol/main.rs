//! The reference of the protocol, `docs/protocol`, held to what the server does: its conversations are played against a real
//! server byte for byte, its tables are compared with the code's numbers, its programs are run, and
//! each of its rules has a test. And its page, `PROTOCOL.md`, whose clients are run.

#[path = "../util/mod.rs"]
mod util;

mod files;
mod links;
mod numbers;
mod page;
mod programs;
#[cfg(unix)] // There is no Python under Wine, and none on Windows that knows Unix sockets.
mod python;
mod replay;
mod rules;
mod tables;
mod tool;

/// The page from which a client can be written.
const PAGE: &str = include_str!("../../PROTOCOL.md");

/// The reference: its files, in the order of the index.
const DOCUMENT: &str = concat!(
    include_str!("../../docs/protocol/README.md"),
    include_str!("../../docs/protocol/connecting.md"),
    include_str!("../../docs/protocol/classic.md"),
    include_str!("../../docs/protocol/v1.md"),
    include_str!("../../docs/protocol/ends-and-limits.md"),
    include_str!("../../docs/protocol/datagrams.md"),
    include_str!("../../docs/protocol/store.md"),
    include_str!("../../docs/protocol/clients.md"),
    include_str!("../../docs/protocol/conversations.md"),
);
