//! Many clients of one pipe.

use std::time::Duration;

use sidewire::{Client, Connect, Endpoint};

use crate::again::{Again, part, say_ready_and_wait};
use crate::stage::{GREETING, Stage};
use crate::util::{Raw, client, fresh, start, store, unique, until, usual, watchdog};

const ECHO: u16 = 4;

/// Fifty processes, connected at the same time and each with a hundred requests.
#[test]
fn fifty_processes_at_once() {
    if let Some(endpoints) = part() {
        return ask_a_hundred_times(&endpoints[0]);
    }
    let _watchdog = watchdog(240);
    let server = store();
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("pipe"))]);
    let mut processes = Vec::new();
    for _ in 0..50 {
        processes.push(Again::start("crowds::fifty_processes_at_once", &bound));
    }
    processes.iter_mut().for_each(Again::wait_until_ready);
    assert_eq!(counters.connections(), 50);
    processes.iter_mut().for_each(Again::go);
    for process in processes {
        assert!(process.wait().success());
    }
    assert_eq!(counters.requests(), 50 * 101);
    assert_eq!(counters.accepted(), 50);
    running.stop().expect("the server ends well");
}

fn ask_a_hundred_times(endpoint: &Endpoint) {
    // All processes start at once, on few processors.
    let patience = Some(Duration::from_secs(120));
    let client = Connect::to(endpoint).expect("an endpoint").timeout(patience).open().expect("connect");
    let ask = |round: usize| {
        let text = format!("process {}, round {round}:", std::process::id()).repeat(1 + round % 20);
        assert_eq!(client.call(ECHO, &text).expect("call").payload(), text.as_bytes());
    };
    ask(0);
    say_ready_and_wait();
    (1..=100).for_each(ask);
}

#[test]
fn three_hundred_connections_stay_open() {
    let _watchdog = watchdog(120);
    let server = store();
    let counters = server.counters();
    let (running, bound) = start(server, [usual(&fresh("pipe"))]);
    let clients: Vec<Client> = (0..300).map(|_| client(&bound[0])).collect();
    for (number, client) in clients.iter().enumerate() {
        let text = format!("connection {number}");
        assert_eq!(client.call(ECHO, &text).expect("call").payload(), text.as_bytes());
    }
    assert_eq!(counters.connections(), 300);
    drop(clients);
    until("all have left", || counters.connections() == 0);
    running.stop().expect("the server ends well");
}

/// As seen by a server in another process.
#[test]
fn a_thousand_connect_and_leave() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = stage.serve(&[format!("pipe:{}", unique("leave"))], &[]);
    for _ in 0..1000 {
        drop(Raw::connect(&server.endpoints[0]));
    }
    let client = stage.client(&server.endpoints[0]);
    assert_eq!(client.call(1, b"").expect("call").payload(), GREETING);
}
