//! `sidewire watch`: what it prints, how it ends and with what status. And the example `events`.

use sidewire::Endpoint;

use crate::getset::example;
#[cfg(unix)]
use crate::stage::signal;
use crate::stage::{Stage, Started};
use crate::util::{Process, until, watchdog};

const SET: u16 = 2;
const STATISTICS: u16 = 5;

/// Sets values until one of them has been published to somebody. Returns how many.
fn set_until_told(stage: &Stage, endpoint: &Endpoint) -> usize {
    let client = stage.client(endpoint);
    let told = || {
        let statistics = client.call(STATISTICS, "").expect("statistics").into_payload();
        let statistics: serde_json::Value = serde_json::from_slice(&statistics).expect("JSON");
        statistics["events"].as_u64().expect("a number")
    };
    let before = told();
    let mut count = 0;
    until("somebody watches", || {
        client.call(SET, "first").expect("set");
        count += 1;
        told() > before
    });
    count
}

#[test]
fn it_prints_a_line_for_each_event() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&stage.all_streams(), &["--access", "anyone"]);
    for endpoint in &server.endpoints {
        let seen = stage.seen_from_here(endpoint).to_string();
        for (options, expected) in [
            (&[][..], ["1 1 0 first\n", "1 2 0 tea\\n\\u{1b}[2J\\\\ 'n \"caf\u{e9}\"\\xff\n", "1 3 0 \n"]),
            (
                &["--json"],
                [
                    "{\"dropped\":0,\"payload\":\"first\",\"sequence\":1,\"type\":1}\n",
                    "{\"dropped\":0,\"payload_hex\":\"7465610a1b5b324a5c20276e2022636166c3a922ff\",\"sequence\":2,\"type\":1}\n",
                    "{\"dropped\":0,\"payload\":\"\",\"sequence\":3,\"type\":1}\n",
                ],
            ),
        ] {
            let args = [&["watch", &seen, "1", "-c", "3", "--access", "anyone"], options].concat();
            let watching = Started::new(&mut stage.sidewire(args), b"");
            set_until_told(&stage, endpoint);
            let client = stage.client(endpoint);
            client.call(SET, b"tea\n\x1b[2J\\ 'n \"caf\xC3\xA9\"\xff").expect("set");
            client.call(SET, "").expect("set");
            watching.finish().expect(0).prints(expected.concat());
        }
    }
}

#[cfg(unix)]
#[test]
fn signals_end_it_in_order() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&[stage.unix("store")], &[]);
    let endpoint = &server.endpoints[0];
    for name in ["INT", "TERM", "HUP"] {
        let watching = Started::new(&mut stage.sidewire(["watch", &endpoint.to_string(), "1"]), b"");
        set_until_told(&stage, endpoint);
        signal(name, watching.id());
        let outcome = watching.finish().expect(0).prints("1 1 0 first\n");
        assert_eq!(outcome.stderr, "");
    }
}

#[test]
fn its_status_says_why_it_ended() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let mut server = stage.serve(&["tcp:127.0.0.1:0", "udp:127.0.0.1:0"], &["--access", "anyone"]);
    let endpoint = server.endpoints[0].clone();
    let watch = |endpoint: &Endpoint, topic: &str| stage.sidewire(["watch", &endpoint.to_string(), topic]);
    stage.run(["watch", &endpoint.to_string(), "1", "2"]).expect(1).mentions("type 2 is no topic");
    stage.run(["watch", &endpoint.to_string(), "16"]).expect(1).mentions("type 16");
    stage.run(["watch", &server.endpoints[1].to_string(), "1"]).expect(2).mentions("no events");
    stage.run(["watch", &endpoint.to_string()]).expect(2);
    stage.run(["watch", "local:nobody-is-here", "1"]).expect(3);
    let watching = Started::new(&mut watch(&endpoint, "1"), b"");
    set_until_told(&stage, &endpoint);
    server.child.kill().expect("kill");
    watching.finish().expect(6).prints("1 1 0 first\n");
}

/// Two real processes.
#[test]
fn the_example_tells_whoever_watches() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let program = example("events");
        let mut server = Process::start(&mut stage.command(&program, ["serve", &endpoint]), 1);
        let endpoint = server.endpoints[0].to_string();
        let outcome =
            Started::new(&mut stage.command(&program, ["watch", "3", &endpoint]), b"").finish().expect(0);
        let text = outcome.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (index, line) in lines.iter().enumerate() {
            assert!(
                line.starts_with(&format!("{}: ", index + 1)) && line.ends_with("(0 missed before)"),
                "{text}"
            );
        }
        #[cfg(unix)]
        {
            signal("TERM", server.child.id());
            assert_eq!(server.wait(std::time::Duration::from_secs(30)).code(), Some(0));
        }
        server.child.kill().or_else(|_| server.child.wait().map(|_| ())).expect("its end");
    }
    assert!(include_str!("../../examples/events.rs").lines().count() < 100);
}
