//! Who is compared. Each file has a server and a client of one of them, set up as its own documents say.

mod capnproto;
mod interprocess;
mod ipc_channel;
mod sidewire;
mod tarpc;
mod tokio;
mod tonic;
mod ttrpc;
mod zbus;

use std::io::Write;
use std::path::Path;

use crate::measure::{Measure, Outcome, Task};
use crate::raw::{self, Form};

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// On the command line.
    pub(crate) name: &'static str,
    /// In the table.
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) server: Server,
    pub(crate) client: Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What the machine gives: plain C.
    Floor,
    Sidewire,
    /// Bytes or frames, without dispatch.
    Bytes,
    /// What answers requests.
    Requests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// This program, and the crate whose version the table gives.
    Own(&'static str),
    /// The floor's, in this mode.
    Floor(&'static str),
    Redis,
    /// A file of c/, and the library that it is linked with.
    C(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// The peer's own.
    Own,
    /// The one that only counts bytes.
    Raw(Form),
}

impl Peer {
    /// What it can't be asked is a gap in the table.
    pub(crate) fn takes(&self, measure: Measure) -> bool {
        // One pair of processes is all that a channel knows.
        self.name != "ipc-channel" || !matches!(measure, Measure::Crowd | Measure::Idle)
    }
}

pub(crate) const PEERS: [Peer; 16] = [
    floor("c-blocking", "C, blocking read and write", "blocking", Form::Frames),
    floor("c-batch", "C, epoll, one write per batch", "batch", Form::Bytes),
    ours("sidewire-v1", "Sidewire v1, raw client", Client::Raw(Form::V1)),
    ours("sidewire-classic", "Sidewire classic, raw client", Client::Raw(Form::Classic)),
    ours("sidewire", "Sidewire v1, its own client", Client::Own),
    of_bytes("tokio", "Tokio, bytes only, raw client", Client::Raw(Form::Bytes)),
    of_bytes("interprocess", "interprocess, frames by hand", Client::Own),
    of_bytes("ipc-channel", "ipc-channel", Client::Own),
    of_requests("tarpc", "tarpc", Server::Own("tarpc")),
    of_requests("ttrpc", "ttrpc", Server::Own("ttrpc")),
    of_requests("capnp-rpc", "capnp-rpc", Server::Own("capnp-rpc")),
    of_requests("zbus", "zbus, peer to peer", Server::Own("zbus")),
    of_requests("tonic", "tonic, Unix socket", Server::Own("tonic")),
    Peer {
        name: "redis",
        title: "Redis, ECHO, raw client",
        kind: Kind::Requests,
        server: Server::Redis,
        client: Client::Raw(Form::Redis),
    },
    of_requests("zeromq", "ZeroMQ, DEALER and ROUTER", Server::C("zeromq.c", "-lzmq")),
    of_requests("nng", "nng, req and rep", Server::C("nng.c", "-lnng")),
];

const fn floor(name: &'static str, title: &'static str, mode: &'static str, form: Form) -> Peer {
    Peer { name, title, kind: Kind::Floor, server: Server::Floor(mode), client: Client::Raw(form) }
}

const fn ours(name: &'static str, title: &'static str, client: Client) -> Peer {
    Peer { name, title, kind: Kind::Sidewire, server: Server::Own("sidewire"), client }
}

const fn of_bytes(name: &'static str, title: &'static str, client: Client) -> Peer {
    Peer { name, title, kind: Kind::Bytes, server: Server::Own(name), client }
}

const fn of_requests(name: &'static str, title: &'static str, server: Server) -> Peer {
    Peer { name, title, kind: Kind::Requests, server, client: Client::Own }
}

/// Tells the parent that clients may come, and where, if that is not the path.
fn ready(place: &str) {
    println!("ready {place}");
    let _ = std::io::stdout().flush(); // a parent that has gone ends this soon enough
}

/// The server of this crate, until it is killed.
pub(crate) fn serve(of: &str, path: &Path) -> Outcome<()> {
    match of {
        "sidewire" => sidewire::serve(path),
        "tokio" => tokio::serve(path),
        "interprocess" => interprocess::serve(path),
        "ipc-channel" => ipc_channel::serve(),
        "tarpc" => tarpc::serve(path),
        "ttrpc" => ttrpc::serve(path),
        "capnp-rpc" => capnproto::serve(path),
        "zbus" => zbus::serve(path),
        "tonic" => tonic::serve(path),
        _ => Err(format!("no server: {of}").into()),
    }
}

/// One measurement, printed.
pub(crate) fn client(peer: &Peer, place: &str, task: Task) -> Outcome<()> {
    let path = Path::new(place);
    match (peer.client, peer.name) {
        (Client::Raw(form), _) => raw::run(form, path, task),
        (Client::Own, "sidewire") => sidewire::client(path, task),
        (Client::Own, "interprocess") => interprocess::client(path, task),
        (Client::Own, "ipc-channel") => ipc_channel::client(place, task),
        (Client::Own, "tarpc") => tarpc::client(path, task),
        (Client::Own, "ttrpc") => ttrpc::client(path, task),
        (Client::Own, "capnp-rpc") => capnproto::client(path, task),
        (Client::Own, "zbus") => zbus::client(path, task),
        (Client::Own, "tonic") => tonic::client(path, task),
        (Client::Own, name) => Err(format!("no client: {name}").into()),
    }
}
