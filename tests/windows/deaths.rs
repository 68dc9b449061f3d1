//! Processes that are killed.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Endpoint, Executed, Pending, Server};

use crate::again::{Again, command, part, say_ready_and_wait};
use crate::util::{
    Dialect, Process, all_streams, announce, client, connect, start, store, until, usual, watchdog,
};

const ECHO: u16 = 4;

/// A client that is killed in the middle of a frame, with a connection of each kind.
#[test]
fn a_client_in_mid_frame() {
    if let Some(endpoints) = part() {
        return send_half_frames(&endpoints);
    }
    let _watchdog = watchdog(120);
    let server = store();
    let counters = server.counters();
    let (running, bound) = start(server, all_streams().iter().map(usual));
    let mut process = Again::start("deaths::a_client_in_mid_frame", &bound);
    process.wait_until_ready();
    until("all are there", || counters.connections() == 2 * bound.len() as u64);
    process.kill();
    until("all have gone", || counters.connections() == 0);
    assert_eq!(counters.requests(), 0);
    for endpoint in &bound {
        assert_eq!(client(endpoint).call(ECHO, b"and you?").expect("call").payload(), b"and you?");
    }
    running.stop().expect("the server ends well");
}

fn send_half_frames(endpoints: &[Endpoint]) {
    let mut connections = Vec::new();
    for endpoint in endpoints {
        for dialect in [Dialect::V1, Dialect::Classic] {
            let raw = dialect.raw(endpoint);
            raw.send(&dialect.request(1, ECHO, &[7; 1000])[..600]);
            connections.push(raw);
        }
    }
    say_ready_and_wait();
    drop(connections);
}

/// Twenty clients of each kind of stream wait for a server that is killed, each with a call of its own and four
/// that were started. All of them hear of it.
#[test]
fn a_server_under_waiting_clients() {
    if part().is_some() {
        return serve_sleepily();
    }
    let _watchdog = watchdog(120);
    let name = "deaths::a_server_under_waiting_clients";
    let streams = all_streams();
    let mut server = Process::start(&mut command(name, &[]), streams.len());
    let endpoints = std::mem::take(&mut server.endpoints);
    let all_are_there = Barrier::new(20 * streams.len() + 1);
    let wait = |endpoint: &Endpoint| {
        let client = connect(endpoint).call_timeout(Some(Duration::from_secs(60))).open().expect("connect");
        let started = [(); 4].map(|()| client.start(1, b"").expect("start"));
        all_are_there.wait();
        let ends = [client.call(1, b"")].into_iter().chain(started.map(Pending::wait));
        for end in ends {
            let error = end.expect_err("nobody answers");
            let is_told = error.is_peer_gone() && error.executed() == Executed::Perhaps;
            assert!(is_told, "{endpoint}: {error}");
        }
        Instant::now()
    };
    let (killed, heard) = thread::scope(|scope| {
        let clients = endpoints.iter().flat_map(|endpoint| [endpoint; 20]);
        let clients: Vec<_> = clients.map(|endpoint| scope.spawn(move || wait(endpoint))).collect();
        all_are_there.wait();
        thread::sleep(Duration::from_millis(500));
        let killed = Instant::now();
        drop(server);
        let heard = clients.into_iter().map(|client| client.join().expect("a client")).collect::<Vec<_>>();
        (killed, heard)
    });
    for at in heard {
        // Nobody hears of it before it happens.
        assert!(at >= killed, "a call that waits");
    }
}

/// Who calls waits for longer than the test lasts.
fn serve_sleepily() {
    let mut server = Server::new(());
    server.on(1, |(), _request, _reply| {
        thread::sleep(Duration::from_secs(300));
        Ok(())
    });
    let listen = |endpoint| server.listen(usual(endpoint)).expect("listen");
    announce(&all_streams().iter().map(listen).collect::<Vec<_>>());
    server.run().expect("run");
}
