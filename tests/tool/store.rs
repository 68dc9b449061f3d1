//! What `sidewire serve` hosts: a table of 16 types.

use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint, Failure, Layout, ResultCode};

use crate::stage::{GREETING, Stage};
use crate::util::{Raw, watchdog};

fn layouts(stage: &Stage, endpoint: &Endpoint) -> [Client; 2] {
    let here = stage.seen_from_here(endpoint);
    let connect = Connect::to(&here).expect("an endpoint").access(Access::Anyone);
    let clients = [connect.clone(), connect.classic()].map(|connect| connect.open().expect("connect"));
    assert_eq!(clients.each_ref().map(Client::layout), [Layout::V1, Layout::Classic]);
    clients
}

fn exchange(client: &Client, msg_type: u16, payload: &[u8]) -> (i32, Vec<u8>) {
    let response =
        client.request(msg_type).timeout(crate::util::PATIENCE).exchange(payload).expect("a reply");
    (response.result_code().code(), response.into_payload())
}

#[test]
fn it_answers_as_documented_on_every_endpoint_in_both_layouts() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_streams(), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        for client in layouts(&stage, endpoint) {
            let ask = |msg_type, payload: &[u8]| exchange(&client, msg_type, payload);
            assert_eq!(ask(1, b""), (0, GREETING.to_vec()), "{endpoint}");
            assert_eq!(ask(1, b"ignored"), (0, GREETING.to_vec()));
            assert_eq!(ask(2, b"one"), (0, Vec::new()));
            assert_eq!(ask(1, b""), (0, b"one".to_vec()));
            assert_eq!(ask(3, b"two\0\xff"), (0, b"one".to_vec()));
            assert_eq!(ask(3, b""), (0, b"two\0\xff".to_vec()));
            assert_eq!(ask(3, GREETING), (0, Vec::new()));
            assert_eq!(ask(4, b""), (0, Vec::new()));
            assert_eq!(ask(4, &[0x80; 1024]), (0, vec![0x80; 1024]));
        }
    }
}

#[test]
fn types_without_a_handler_and_types_beyond_the_table_are_told_apart() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    for client in layouts(&stage, &server.endpoints[0]) {
        for msg_type in [0].into_iter().chain(9..=15) {
            assert_eq!(exchange(&client, msg_type, b"x").0, -2, "type {msg_type}");
        }
        for msg_type in [16, 17, 255, 256, 32_768, 65_535] {
            assert_eq!(exchange(&client, msg_type, b"x").0, -1, "type {msg_type}");
        }
        assert_eq!(exchange(&client, 1, b""), (0, GREETING.to_vec()));
    }
}

#[test]
fn it_calls_back_who_asks_for_it() {
    const CALL_ME_BACK: u16 = 8;
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    for endpoint in &server.endpoints {
        let connect = Connect::to(stage.seen_from_here(endpoint)).expect("an endpoint");
        let connect = connect.on(700, |request, reply| {
            reply.write([request.payload(), b"? pong!"].concat());
            Ok(())
        });
        let connect = connect.on(65_535, |_, reply| {
            reply.set_result(12);
            reply.write(b"data");
            Ok(())
        });
        let client = connect.on(0, |_, _| Err(Failure::new(13, "a reason"))).open().expect("connect");
        let ask = |payload: &str| exchange(&client, CALL_ME_BACK, payload.as_bytes());
        assert_eq!(ask("700"), (0, b"ping? pong!".to_vec()));
        assert_eq!(ask("65535"), (12, b"data".to_vec()));
        assert_eq!(ask("0"), (13, b"a reason".to_vec()));
        assert_eq!(ask("1").0, -2);
        for malformed in ["", "65536", "-1", "+1", "seven", " 7", "7\0"] {
            assert_eq!(ask(malformed).0, -4, "{malformed:?}");
        }
        let [_, classic] = layouts(&stage, endpoint);
        assert_eq!(exchange(&classic, CALL_ME_BACK, b"700"), (-12, Vec::new()));
        // One that serves nothing says so itself.
        let other = stage.client(endpoint);
        assert_eq!(exchange(&other, CALL_ME_BACK, b"700").0, -2);
    }
    let server = stage.serve(&["udp:127.0.0.1:0".to_owned()], &["--access", "anyone"]);
    for client in layouts(&stage, &server.endpoints[0]) {
        assert_eq!(exchange(&client, CALL_ME_BACK, b"700").0, -12);
    }
}

#[test]
fn classic_types_beyond_a_u16_are_echoed_in_full() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let raw = Raw::connect(&stage.seen_from_here(&server.endpoints[0]));
    for msg_type in [-1, i32::MIN, i32::MAX, 65_536, 65_537] {
        raw.send_classic(msg_type, b"x");
        assert_eq!(raw.receive_classic(), (msg_type, -1, Vec::new()));
    }
    raw.send_classic(1, b"");
    assert_eq!(raw.receive_classic(), (1, 0, GREETING.to_vec()));
}

#[test]
fn statistics_are_json_that_counts() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let client = stage.client(&server.endpoints[0]);
    let look = || -> serde_json::Value {
        serde_json::from_slice(&exchange(&client, 5, b"").1).expect("statistics are JSON")
    };
    let before = look();
    assert_eq!(before["pid"], server.child.id());
    assert_eq!(before["connections"], 1);
    assert_eq!(before["value_bytes"], GREETING.len());
    exchange(&client, 9, b"");
    exchange(&client, 2, b"four");
    let after = look();
    let grown =
        |name: &str| after[name].as_u64().expect("a number") - before[name].as_u64().expect("a number");
    assert_eq!((grown("requests"), grown("failed"), grown("accepted")), (3, 1, 0), "{before} {after}");
    assert_eq!(after["value_bytes"], 4);
}

/// Every value that was ever set comes back once: from the next set-and-get, or it is the last.
#[test]
fn set_and_get_is_atomic() {
    const THREADS: u32 = 8;
    const EACH: u32 = 200;
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let swap = |thread: u32| {
        let client = stage.client(&server.endpoints[0]);
        let one = |number| exchange(&client, 3, format!("{thread}.{number}").as_bytes()).1;
        (0..EACH).map(one).collect::<Vec<_>>()
    };
    let mut seen: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || swap(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread")).collect()
    });
    seen.push(exchange(&stage.client(&server.endpoints[0]), 1, b"").1);
    let names = (0..THREADS).flat_map(|thread| (0..EACH).map(move |number| format!("{thread}.{number}")));
    let mut expected: Vec<Vec<u8>> = names.map(String::into_bytes).chain([GREETING.to_vec()]).collect();
    seen.sort();
    expected.sort();
    assert!(seen == expected, "values were lost or returned twice");
}

/// A value that a classic client has no room for is not lost to a set-and-get that fails.
#[test]
fn a_set_and_get_that_cannot_be_answered_changes_nothing() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let [v1, classic] = layouts(&stage, &server.endpoints[0]);
    let large = vec![b'x'; 2000];
    assert_eq!(exchange(&v1, 2, &large).0, 0);
    assert_eq!(exchange(&classic, 1, b""), (-3, Vec::new()));
    assert_eq!(exchange(&classic, 3, b"small"), (-3, Vec::new()));
    assert_eq!(exchange(&v1, 1, b""), (0, large));
}

const SLEEP: u16 = 6;

#[test]
fn it_sleeps_for_whoever_asks_and_holds_up_nobody() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_streams(), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        for client in layouts(&stage, endpoint) {
            let ask = |payload: &[u8]| exchange(&client, SLEEP, payload);
            assert_eq!(ask(b"0"), (0, b"0".to_vec()), "{endpoint}");
            assert_eq!(ask(b"00020"), (0, b"20".to_vec()));
            for malformed in [&b""[..], b"soon", b"-1", b"1.5", b"99999999999999999999", b"\xff"] {
                assert_eq!(ask(malformed).0, -4, "{malformed:?}");
            }
        }
        let [client, _] = layouts(&stage, endpoint);
        let begun = Instant::now();
        let call = |milliseconds: &str| client.start(SLEEP, milliseconds).expect("start");
        let calls = [call("300"), call("100"), call("60000"), call("200")];
        // Others of the same connection are answered meanwhile, and who does not want to wait need not.
        assert_eq!(exchange(&client, 1, b"").0, 0);
        assert!(begun.elapsed() < Duration::from_secs(50), "{:?}", begun.elapsed());
        let [long, short, mut longest, medium] = calls;
        longest.cancel();
        for (call, expected) in [(short, "100"), (medium, "200"), (long, "300")] {
            assert_eq!(call.wait().expect("a reply").into_payload(), expected.as_bytes());
        }
        let error = longest.wait().expect_err("it was cancelled");
        assert_eq!(error.result_code().map(ResultCode::code), Some(-8), "{error}");
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

/// However many sleep, they cost no thread each.
#[cfg(target_os = "linux")]
#[test]
fn sleepers_have_one_thread_together() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.verified_streams(), &[]);
    let threads =
        || std::fs::read_dir(format!("/proc/{}/task", server.child.id())).expect("its threads").count();
    let before = threads();
    let client = stage.client(&server.endpoints[0]);
    let calls: Vec<_> = (0..200).map(|_| client.start(SLEEP, "60000").expect("start")).collect();
    assert_eq!(exchange(&client, SLEEP, b"1"), (0, b"1".to_vec()));
    assert!(threads() <= before + 1, "{before} threads became {}", threads());
    drop(calls);
    assert_eq!(exchange(&client, SLEEP, b"1"), (0, b"1".to_vec()));
}
