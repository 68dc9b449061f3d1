//! What clients cost: nothing when they have gone, and no more than the limits say while they are there.

use sidewire::{Limits, Server, Session};

use crate::util::{Raw, all_streams, alone, usual, watchdog};
use crate::witness::{BOTH, Play, Stage, stuff};

#[test]
fn a_hundred_clients_leave_no_descriptor_behind() {
    let _watchdog = watchdog(120);
    alone("costs::a_hundred_clients_leave_no_descriptor_behind", || {
        for (carry, endpoint) in
            BOTH.into_iter().flat_map(|carry| all_streams().into_iter().map(move |to| (carry, to)))
        {
            let greet = Play { opened: |session| session.write("hello \n"), ..Play::echo(carry) };
            let stage = Stage::new(&endpoint, Limits::default(), carry, greet);
            come_and_go(&stage); // Makes what is only made once.
            let before = with_one_client(&stage, 3);
            (0..100).for_each(|_| come_and_go(&stage));
            assert_eq!(with_one_client(&stage, 304), before, "not all descriptors are given back");
            stage.end();
            assert!(own_descriptors() < before - 2, "the server's own are given back");
        }
    });
}

/// Descriptors while one client is there and `gone` others have gone: it is let in behind them.
fn with_one_client(stage: &Stage, gone: usize) -> usize {
    stage.notes.ends(gone);
    let client = stage.connect();
    assert_eq!(client.receive(7), b"hello \n");
    let descriptors = own_descriptors();
    drop(client);
    stage.notes.ends(gone + 1);
    descriptors
}

/// In order, without having read anything, and in the middle of a word.
fn come_and_go(stage: &Stage) {
    let client = stage.connect();
    assert_eq!(client.receive(7), b"hello \n");
    client.send(b"good day\n");
    assert_eq!(client.receive(9), b"good day\n");
    client.0.shutdown_write().expect("half-close");
    client.expect_end();

    stage.connect().send(b"not read\n");

    let client = stage.connect();
    assert_eq!(client.receive(7), b"hello \n");
    client.send(b"not wh");
}

fn own_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// Twenty clients that send as much as they can and read nothing.
#[test]
fn clients_that_do_not_read_cost_what_the_limits_say() {
    let _watchdog = watchdog(120);
    alone("costs::clients_that_do_not_read_cost_what_the_limits_say", || {
        const CLIENTS: usize = 20;
        for endpoint in all_streams() {
            let mut server = Server::new(());
            let echo = |(): &mut (), session: &mut Session<'_>, bytes: &[u8]| session.write(bytes);
            let bound = server.listen_raw(usual(&endpoint), sidewire::on_data(echo)).expect("listen");
            let running = server.spawn().expect("spawn");
            let before = own_memory();
            let clients: Vec<Raw> = (0..CLIENTS).map(|_| Raw::connect(&bound)).collect();
            clients.iter().for_each(stuff);
            let each = own_memory().saturating_sub(before) / CLIENTS;
            // An outbox of 1 MiB and what one read adds to it, in a buffer that grows by doubling.
            assert!(each < 3 << 20, "{each} bytes for each client on {bound}");
            drop(clients);
            running.stop().expect("the server ends well");
        }
    });
}

/// Bytes of this process that are in memory now.
fn own_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib << 10
}
