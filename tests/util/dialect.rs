//! The three ways to talk to a server under one roof, so that one test covers them all.

use std::thread;

use sidewire::{Client, Connect, Counters, Endpoint, Limits, Listen, Server};

use super::{PATIENCE, Raw, all_streams, classic, frame, start, store_with, usual, usual_access};

/// A layout, and for the classic one how its frames are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V1,
    Classic,
    /// Classic with frames of 12 + [`FIXED`] bytes.
    Fixed,
}

/// Payload bytes of every frame of [`Dialect::Fixed`].
pub(crate) const FIXED: u32 = 512;

/// A reply in any layout; classic ones have the id 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub id: u32,
    pub msg_type: i32,
    pub rc: i32,
    pub payload: Vec<u8>,
}

impl Dialect {
    pub(crate) const ALL: [Dialect; 3] = [Dialect::V1, Dialect::Classic, Dialect::Fixed];

    /// A listener that understands it.
    pub(crate) fn listen(self, listen: Listen) -> Listen {
        if self == Dialect::Fixed { listen.classic_fixed(FIXED) } else { listen }
    }

    /// A client that speaks it.
    pub(crate) fn connect(self, endpoint: &Endpoint) -> Connect {
        let connect = connect(endpoint);
        match self {
            Dialect::V1 => connect,
            Dialect::Classic => connect.classic(),
            Dialect::Fixed => connect.classic_fixed(FIXED),
        }
    }

    /// One that waits for as long as a busy machine may take.
    pub(crate) fn client(self, endpoint: &Endpoint) -> Client {
        self.connect(endpoint).timeout(PATIENCE).call_timeout(PATIENCE).open().expect("connect")
    }

    /// A raw connection that is ready for requests.
    pub(crate) fn raw(self, endpoint: &Endpoint) -> Raw {
        let raw = Raw::connect(endpoint);
        if self == Dialect::V1 {
            raw.shake_hands();
        }
        raw
    }

    /// The bytes of a request. `id` is v1's alone.
    pub(crate) fn request(self, id: u32, msg_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = match self {
            Dialect::V1 => frame(1, msg_type, id, 0, payload),
            Dialect::Classic | Dialect::Fixed => classic(i32::from(msg_type), 0, payload),
        };
        if self == Dialect::Fixed {
            bytes.resize(12 + FIXED as usize, 0);
        }
        bytes
    }

    /// Takes one reply, and checks what is the same in all of them.
    pub(crate) fn receive(self, raw: &Raw) -> Reply {
        match self {
            Dialect::V1 => {
                let frame = raw.receive_frame();
                assert_eq!(frame.kind, 2, "{frame:?} is no reply");
                Reply { id: frame.id, msg_type: frame.msg_type.into(), rc: frame.rc, payload: frame.payload }
            }
            Dialect::Classic => {
                let (msg_type, rc, payload) = raw.receive_classic();
                Reply { id: 0, msg_type, rc, payload }
            }
            Dialect::Fixed => receive_fixed(raw),
        }
    }

    pub(crate) fn call(self, raw: &Raw, id: u32, msg_type: u16, payload: &[u8]) -> Reply {
        raw.send(&self.request(id, msg_type, payload));
        self.receive(raw)
    }

    /// What a good reply to [`request`](Dialect::request) looks like.
    pub(crate) fn good(self, id: u32, msg_type: u16, payload: &[u8]) -> Reply {
        let id = if self == Dialect::V1 { id } else { 0 };
        Reply { id, msg_type: msg_type.into(), rc: 0, payload: payload.to_vec() }
    }
}

/// A classic reply that has to be exactly 12 + [`FIXED`] bytes, zero-padded.
fn receive_fixed(raw: &Raw) -> Reply {
    let bytes = raw.receive(12 + FIXED as usize);
    let number = |at: usize| i32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let (payload, padding) = bytes[12..].split_at(number(8) as usize);
    assert!(padding.iter().all(|byte| *byte == 0), "padded with something: {padding:x?}");
    Reply { id: 0, msg_type: number(0), rc: number(4), payload: payload.to_vec() }
}

/// A client to be opened, with the usual access; also to a server for anyone where both are elevated.
pub(crate) fn connect(endpoint: &Endpoint) -> Connect {
    Connect::to(endpoint).expect("an endpoint").lower_integrity().access(usual_access(endpoint))
}

/// A v1 client.
pub(crate) fn client(endpoint: &Endpoint) -> Client {
    Dialect::V1.client(endpoint)
}

/// Serves one endpoint of each kind of stream, and runs `test` with one after the other. Returns
/// the server's state once it has stopped, which it does without complaint.
pub(crate) fn on_every_stream<S: Send + 'static>(
    server: Server<S>,
    options: impl Fn(Listen) -> Listen,
    test: impl Fn(&Endpoint),
) -> S {
    let listen = all_streams().iter().map(|endpoint| options(usual(endpoint))).collect::<Vec<_>>();
    let (running, bound) = start(server, listen);
    for endpoint in &bound {
        eprintln!("on {endpoint}");
        test(endpoint);
    }
    running.stop().expect("the server ends well")
}

/// Runs `test` against a [`store`](super::store) in every dialect on every kind of stream.
pub(crate) fn in_every_dialect(limits: &Limits, test: impl Fn(Dialect, &Endpoint)) {
    for dialect in Dialect::ALL {
        eprintln!("in {dialect:?}");
        on_every_stream(
            store_with(limits.clone()),
            |listen| dialect.listen(listen),
            |endpoint| test(dialect, endpoint),
        );
    }
}

/// Runs `test` in every dialect with a fresh endpoint of each kind of stream, all at the same
/// time: for tests that mostly sleep.
pub(crate) fn everywhere(test: impl Fn(Dialect, &Endpoint) + Sync) {
    let test = &test;
    thread::scope(|scope| {
        for dialect in Dialect::ALL {
            for endpoint in all_streams() {
                let thread = thread::Builder::new().name(format!("{dialect:?} on {endpoint}"));
                thread.spawn_scoped(scope, move || test(dialect, &endpoint)).expect("a thread");
            }
        }
    });
}

/// The same, each with a server that `make` makes.
pub(crate) fn everywhere_with<S: Send + 'static>(
    make: impl Fn() -> Server<S> + Sync,
    test: impl Fn(Dialect, &Endpoint, &Counters) + Sync,
) {
    everywhere(|dialect, endpoint| {
        let server = make();
        let counters = server.counters();
        let (running, bound) = start(server, [dialect.listen(usual(endpoint))]);
        test(dialect, &bound[0], &counters);
        running.stop().expect("the server ends well");
    });
}
