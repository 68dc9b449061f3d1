//! Clients that come and go leave nothing behind.

use std::thread::sleep;
use std::time::Duration;

use sidewire::Limits;

use crate::util::{all_streams, alone, until, watchdog};
use crate::witness::{BOTH, Play, Stage};

#[test]
fn a_hundred_clients_leave_no_descriptor_behind() {
    let _watchdog = watchdog(120);
    alone("descriptors::a_hundred_clients_leave_no_descriptor_behind", || {
        for (carry, endpoint) in
            BOTH.into_iter().flat_map(|carry| all_streams().into_iter().map(move |to| (carry, to)))
        {
            let greet = Play { opened: |session| session.write("hello \n"), ..Play::echo(carry) };
            let stage = Stage::new(&endpoint, Limits::default(), carry, greet);
            come_and_go(&stage); // Makes what is only made once.
            stage.notes.ends(3);
            sleep(Duration::from_millis(100));
            let before = own_descriptors();
            (0..100).for_each(|_| come_and_go(&stage));
            stage.notes.ends(303);
            until("all descriptors are given back", || own_descriptors() == before);
            stage.end();
            assert!(own_descriptors() < before, "the server's own are given back");
        }
    });
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
