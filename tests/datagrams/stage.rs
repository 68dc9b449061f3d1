//! What these tests have in common: endpoints, raw sockets, servers.

use std::io;
use std::time::Duration;

use sidewire::{Access, Address, Client, Connect, Endpoint, Listen, RawDatagrams, Running, Server};
use sidewire_platform::{DatagramChannel, datagram_schemes};

use crate::util::{Dialect, PATIENCE, unique, until, usual};

/// A fresh endpoint of this scheme, to listen on.
pub(crate) fn fresh(scheme: &str) -> Endpoint {
    let name = unique("dg");
    let text = match scheme {
        "udp" => "udp:127.0.0.1:0".to_owned(),
        "unixgram" => {
            format!("unixgram:{}", std::env::temp_dir().join(name).with_extension("sock").display())
        }
        scheme => format!("{scheme}:{name}"),
    };
    text.parse().expect("an endpoint")
}

/// One fresh endpoint for each kind of datagrams that this system has, and that answers can come on.
pub(crate) fn all() -> Vec<Endpoint> {
    datagram_schemes().iter().filter(|scheme| **scheme != "mailslot").map(|scheme| fresh(scheme)).collect()
}

/// The same without UDP, which may lose what is sent in one go.
pub(crate) fn all_lossless() -> Vec<Endpoint> {
    all().into_iter().filter(|endpoint| !is_udp(endpoint)).collect()
}

pub(crate) fn is_udp(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Udp { .. })
}

/// Most bytes of one datagram that the server sends.
pub(crate) fn largest(endpoint: &Endpoint) -> usize {
    if is_udp(endpoint) { 65_507 } else { 100_000 }
}

/// A client to be opened, with the access that its endpoint needs.
pub(crate) fn connect(endpoint: &Endpoint) -> Connect {
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    Connect::to(endpoint).expect("an endpoint").access(access)
}

/// A client that speaks this dialect.
pub(crate) fn client(dialect: Dialect, endpoint: &Endpoint) -> Client {
    speaks(dialect, connect(endpoint)).open().expect("connect")
}

pub(crate) fn speaks(dialect: Dialect, connect: Connect) -> Connect {
    match dialect {
        Dialect::V1 => connect,
        Dialect::Classic => connect.classic(),
        Dialect::Fixed => connect.classic_fixed(crate::util::FIXED),
    }
}

/// A client without frames.
pub(crate) fn messages(endpoint: &Endpoint) -> RawDatagrams {
    connect(endpoint).call_timeout(Some(PATIENCE)).open_messages().expect("connect")
}

/// The next message.
#[track_caller]
pub(crate) fn next(messages: &RawDatagrams) -> Vec<u8> {
    let mut buffer = vec![0; 128 << 10];
    let length = messages.receive(&mut buffer).expect("an answer");
    buffer.truncate(length);
    buffer
}

/// A server that sends every message back, and keeps the count of them.
pub(crate) fn echo(listen: impl IntoIterator<Item = Listen>) -> (Running<usize>, Vec<Endpoint>) {
    let mut server = Server::new(0);
    let bound = listen.into_iter().map(|listen| listen_echo(&mut server, listen)).collect();
    (server.spawn().expect("spawn"), bound)
}

pub(crate) fn listen_echo(server: &mut Server<usize>, listen: Listen) -> Endpoint {
    let bound = server.listen_messages(listen, |count, message, reply| {
        *count += 1;
        reply.send(message.bytes());
    });
    bound.expect("listen")
}

/// Runs `test` with an echo server on each of these endpoints.
pub(crate) fn with_echo(endpoints: Vec<Endpoint>, test: impl Fn(&Endpoint)) {
    let (running, bound) = echo(endpoints.iter().map(usual));
    for endpoint in &bound {
        eprintln!("on {endpoint}");
        test(endpoint);
    }
    running.stop().expect("the server ends well");
}

/// Runs `test` with the store, in every dialect on every kind of datagrams.
pub(crate) fn with_store(test: impl Fn(Dialect, &Endpoint)) {
    for dialect in Dialect::ALL {
        let listen = all().iter().map(|endpoint| dialect.listen(usual(endpoint))).collect::<Vec<_>>();
        let (running, bound) = crate::util::start(crate::util::store(), listen);
        for endpoint in &bound {
            eprintln!("{dialect:?} on {endpoint}");
            test(dialect, endpoint);
        }
        running.stop().expect("the server ends well");
    }
}

/// A raw client: bytes as they are, and a time limit on everything.
pub(crate) struct Socket(pub(crate) DatagramChannel);

impl Socket {
    pub(crate) fn connect(endpoint: &Endpoint) -> Socket {
        Socket::try_connect(endpoint).unwrap_or_else(|error| panic!("{endpoint}: {error}"))
    }

    pub(crate) fn try_connect(endpoint: &Endpoint) -> io::Result<Socket> {
        DatagramChannel::connect(endpoint).map(Socket)
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.try_send(bytes).expect("send");
    }

    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.send(bytes, Some(PATIENCE))
    }

    /// The next datagram, whole.
    #[track_caller]
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 512 << 10];
        let received = self.0.receive(&mut buffer, Some(PATIENCE)).expect("a datagram");
        assert!(!received.truncated, "{received:?}");
        buffer.truncate(received.length);
        buffer
    }

    /// What comes back to this datagram.
    #[track_caller]
    pub(crate) fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.receive()
    }

    /// Nothing is there, at this moment.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        match self.0.receive(&mut [0; 64], Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            other => panic!("something comes: {other:?}"),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.0.local_address().expect("an address")
    }
}

/// The bytes of a v1 datagram.
pub(crate) fn v1(kind: u8, flags: u8, msg_type: u16, id: u32, rc: i32, payload: &[u8]) -> Vec<u8> {
    let mut frame = crate::util::frame(kind, msg_type, id, rc, payload);
    frame[5] = flags;
    [&[0xD1, 0x53, 0x57, 0xD1, 1, 0, 0, 0][..], &frame].concat()
}

/// A v1 call.
pub(crate) fn v1_call(msg_type: u16, id: u32, payload: &[u8]) -> Vec<u8> {
    v1(1, 0, msg_type, id, 0, payload)
}

/// A reply, in the layout of the datagram that it is. Classic ones have id 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub id: u32,
    pub msg_type: i32,
    pub rc: i32,
    pub flags: u8,
    pub payload: Vec<u8>,
}

/// Reads a datagram that has to be a whole reply.
#[track_caller]
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let word = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let classic = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    if bytes.starts_with(&[0xD1, 0x53, 0x57, 0xD1]) {
        assert_eq!(bytes[4..8], [1, 0, 0, 0]);
        assert_eq!(bytes[12], 2, "no reply: {bytes:x?}");
        assert_eq!(word(8) as usize, bytes.len() - 24);
        let msg_type = i32::from(u16::from_le_bytes([bytes[14], bytes[15]]));
        let payload = bytes[24..].to_vec();
        return Answer { id: word(16) as u32, msg_type, rc: word(20), flags: bytes[13], payload };
    }
    let length = classic(8) as usize;
    let (payload, padding) = bytes[12..].split_at(length);
    assert!(padding.iter().all(|byte| *byte == 0), "padded with something: {padding:x?}");
    Answer { id: 0, msg_type: classic(0), rc: classic(4), flags: 0, payload: payload.to_vec() }
}

pub(crate) fn is_datagrams(endpoint: &Endpoint) -> bool {
    endpoint.kind() == sidewire::EndpointKind::Datagram
}

/// A Unix sender of the plain kind: it has a name, but is not connected, so that the system stops
/// its peers when it does not read.
#[cfg(target_os = "linux")]
pub(crate) struct Unconnected {
    socket: std::os::unix::net::UnixDatagram,
    server: std::os::unix::net::SocketAddr,
}

#[cfg(target_os = "linux")]
impl Unconnected {
    pub(crate) fn new(endpoint: &Endpoint) -> Unconnected {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr, UnixDatagram};

        let server = match endpoint {
            Endpoint::UnixGram(path) => SocketAddr::from_pathname(path),
            Endpoint::AbstractGram(name) => SocketAddr::from_abstract_name(name),
            other => panic!("{other} is no Unix socket"),
        };
        let own = SocketAddr::from_abstract_name(unique("sender")).expect("a name");
        let socket = UnixDatagram::bind_addr(&own).expect("bind");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Unconnected { socket, server: server.expect("an address") }
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.socket.send_to_addr(bytes, &self.server).expect("send");
    }

    #[track_caller]
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 128 << 10];
        let length = self.socket.recv(&mut buffer).expect("a datagram");
        buffer.truncate(length);
        buffer
    }

    /// Nothing is there, at this moment.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        self.socket.set_nonblocking(true).expect("non-blocking");
        assert_eq!(self.socket.recv(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        self.socket.set_nonblocking(false).expect("blocking");
    }
}

/// Waits until a server has printed so many lines, and takes them.
#[track_caller]
pub(crate) fn lines(server: &crate::program::Server, count: usize) -> Vec<String> {
    until("enough lines are printed", || server.lines().len() >= count);
    let lines = server.take_lines();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}
