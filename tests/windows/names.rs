//! The name of a pipe is free when its server has ended, whatever its clients do.

use sidewire::{Endpoint, Limits, Listen, Server};

use crate::util::{Raw, classic, fresh, until, watchdog};

/// Answers with more than a pipe holds.
const MUCH: u16 = 1;

fn listen(endpoint: &Endpoint, limits: Limits) -> Server<()> {
    let mut server = Server::builder(()).types(16).limits(limits).build().expect("a server");
    server.on(MUCH, |(), _request, reply| {
        reply.write(vec![7; 1 << 20]);
        Ok(())
    });
    server.listen(Listen::from(endpoint).classic_max(2 << 20)).expect("the name is free");
    server
}

/// The client neither reads nor closes: a write is under way when the server ends.
#[test]
fn stop_frees_it_with_a_write_under_way() {
    let _watchdog = watchdog(60);
    for scheme in ["local", "pipe"] {
        let endpoint = fresh(scheme);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let running = listen(&endpoint, Limits::default()).spawn().expect("spawn");
            let raw = Raw::connect(&endpoint);
            raw.send(&classic(MUCH.into(), 0, b""));
            raw.receive(1);
            clients.push(raw);
            running.stop().expect("the server ends well");
        }
    }
}

/// The same of a client whose connection was given up because it holds too much memory.
#[test]
fn shedding_memory_ends_a_write_under_way() {
    let _watchdog = watchdog(60);
    let endpoint = fresh("pipe");
    let mut limits = Limits::default();
    limits.max_buffered = 3 << 19;
    limits.listener.connection.max_payload = 1 << 20;
    limits.listener.connection.outbox_hard = 3 << 19;
    let server = listen(&endpoint, limits);
    let counters = server.counters();
    let running = server.spawn().expect("spawn");
    let raw = Raw::connect(&endpoint);
    raw.send(&classic(MUCH.into(), 0, b""));
    let modest = Raw::connect(&endpoint);
    modest.send(&classic(MUCH.into(), 0, &[0; 1 << 20])[..700_000]);
    until("it is given up", || counters.accepted() == 2 && counters.connections() == 1);
    // What it has not read is thrown away: else it would go on holding what is under way.
    assert!(raw.receive_to_end_or_reset().len() < 1 << 16);
    running.stop().expect("the server ends well");
    listen(&endpoint, Limits::default());
}
