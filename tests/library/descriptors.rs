//! Descriptors: none is left behind, and a process that has run out of them goes on.
//!
//! Linux only: counting takes `/proc`, and Windows has no such limit.

use std::thread::sleep;
use std::time::Duration;

use sidewire::{Counters, Endpoint, ResultCode};

use crate::util::{
    Dialect, Process, Raw, all_streams, alone, announce, client, hello, serve_alone, start, store, until,
    usual, watchdog,
};

const ECHO: u16 = 4;

#[test]
fn clients_that_come_and_go_leave_none_behind() {
    let _watchdog = watchdog(60);
    alone("descriptors::clients_that_come_and_go_leave_none_behind", || {
        for endpoint in all_streams() {
            let server = store();
            let counters = server.counters();
            let (running, bound) = start(server, [usual(&endpoint)]);
            come_and_go(&bound[0], Dialect::V1); // Makes what is only made once.
            let before = with_one_client(&bound[0], &counters);
            for dialect in [Dialect::V1, Dialect::Classic] {
                (0..100).for_each(|_| come_and_go(&bound[0], dialect));
            }
            assert_eq!(with_one_client(&bound[0], &counters), before, "not all are given back on {endpoint}");
            running.stop().expect("the server ends well");
            assert!(own_descriptors() < before - 2, "the server's own are given back");
        }
    });
}

/// Descriptors while one client is there and all others have gone: it is let in behind them.
fn with_one_client(endpoint: &Endpoint, counters: &Counters) -> usize {
    until("they have left", || counters.connections() == 0);
    let raw = Dialect::V1.raw(endpoint);
    let descriptors = own_descriptors();
    drop(raw);
    until("it has left", || counters.connections() == 0);
    descriptors
}

/// In order, without a word, and in the middle of a frame with a reply unread.
fn come_and_go(endpoint: &Endpoint, dialect: Dialect) {
    dialect.client(endpoint).call(ECHO, b"hello").expect("call");
    drop(Raw::connect(endpoint));
    let raw = dialect.raw(endpoint);
    raw.send(&dialect.request(1, ECHO, b"not read"));
    raw.send(&dialect.request(2, ECHO, b"not whole")[..5]);
}

fn own_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

/// With 60 descriptors, and 120 peers that want one.
#[test]
fn a_server_without_descriptors_rests_and_goes_on_when_there_are_some() {
    let _watchdog = watchdog(60);
    let name = "descriptors::a_server_without_descriptors_rests_and_goes_on_when_there_are_some";
    let server = serve_alone(name, 60, all_streams().len(), || {
        let mut server = store();
        let listen = all_streams();
        let bound = listen.iter().map(|endpoint| server.listen(usual(endpoint)).expect("listen"));
        announce(&bound.collect::<Vec<_>>());
        server.run().expect("run");
    });
    let (first, last) = (client(&server.endpoints[0]), client(&server.endpoints[3]));
    let peers: Vec<Raw> =
        server.endpoints.iter().flat_map(|endpoint| (0..30).map(|_| ask(endpoint))).collect();
    // One of those that there is no room for is told so, with the descriptor kept for this case.
    let mut statuses = vec![None; peers.len()];
    let look = |statuses: &mut [Option<ResultCode>]| {
        let unknown = statuses.iter_mut().zip(&peers).filter(|(status, _)| status.is_none());
        unknown.for_each(|(status, raw)| *status = status_so_far(raw));
        let count = |which| statuses.iter().filter(|status| **status == Some(which)).count();
        (count(ResultCode::OK), count(ResultCode::BUSY))
    };
    until("as many as can be are let in", || matches!(look(&mut statuses), (20.., 1..)));
    expect_rest(&server);
    let (welcome, busy) = look(&mut statuses);
    assert!(welcome < 58, "{welcome} of {} were let in", peers.len());
    assert!(welcome + busy < peers.len(), "{welcome} let in, {busy} told that there is no room");
    assert!(first.call(ECHO, b"x").is_ok() && last.call(ECHO, b"x").is_ok(), "others are still served");

    drop(peers);
    for endpoint in &server.endpoints {
        let client = client(endpoint);
        assert_eq!(client.call(ECHO, b"room again").expect("call").payload(), b"room again");
    }
    assert!(first.call(ECHO, b"x").is_ok() && last.call(ECHO, b"x").is_ok());
}

fn ask(endpoint: &Endpoint) -> Raw {
    let raw = Raw::connect(endpoint);
    raw.send(&hello(1, 1));
    raw
}

/// What the server's hello says, if it is there.
fn status_so_far(raw: &Raw) -> Option<ResultCode> {
    let mut bytes = [0; 1024];
    let count = raw.0.recv(&mut bytes, Some(Duration::ZERO)).ok()?;
    let status = bytes[..count].get(48..52)?;
    Some(ResultCode::new(i32::from_le_bytes(status.try_into().expect("four bytes"))))
}

/// While peers wait that can't be let in, the server sleeps.
fn expect_rest(server: &Process) {
    let before = cpu_time(server);
    sleep(Duration::from_secs(1));
    let used = cpu_time(server) - before;
    assert!(used < Duration::from_millis(100), "{used:?} of work in a second of waiting");
}

/// User and system time, from /proc (proc(5)); its ticks are 10 ms on every Linux that matters.
fn cpu_time(process: &Process) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).expect("/proc");
    let behind_the_name = &stat[stat.rfind(')').expect("a name") + 2..];
    let ticks = behind_the_name.split(' ').skip(11).take(2).map(|field| field.parse::<u32>().expect("ticks"));
    Duration::from_millis(10) * ticks.sum()
}
