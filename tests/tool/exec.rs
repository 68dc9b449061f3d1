//! Commands that talk to a program which they start, and `sidewire relay`, which is one.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::stage::{GREETING, SIDEWIRE, Stage, Started};
use crate::util::{unique, watchdog};

/// The endpoint of such a program.
fn relay(endpoint: &str) -> String {
    format!("exec:'{SIDEWIRE}' relay '{endpoint}'")
}

#[test]
fn every_command_of_a_client_talks_to_a_program() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let server = stage.serve(&[format!("local:{}", unique("exec"))], &[]);
    let program = relay(&server.endpoints[0].to_string());
    stage.run(["call", &program, "1", "--timeout", "60"]).expect(0).prints(GREETING);
    stage.run(["call", &program, "4", "x y", "--timeout", "60"]).expect(0).prints("x y");
    stage.run(["call", &program, "7", "3", "--stream", "--timeout", "60"]).expect(0).prints("1\n2\n3\n");
    stage.run(["call", &program, "4444", "--timeout", "60"]).expect(1);
    let ping = stage.run(["ping", &program, "-c", "1", "--timeout", "60"]).expect(0).text();
    assert!(ping.contains("pong from exec:"), "{ping}");
    let stats = stage.run(["stats", &program, "--timeout", "60"]).expect(0).text();
    assert!(stats.contains("connections"), "{stats}");
    stage.run(["describe", &program, "--timeout", "60"]).expect(1).mentions("does not describe itself");
    stage.run(["watch", &program, "99", "--timeout", "60"]).expect(1);
}

#[test]
fn what_can_t_be_is_told() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let nobody = format!("local:{}", unique("exec"));
    let gone = relay(&nobody);
    let outcome = stage.run(["call", &gone, "1", "--timeout", "60"]).expect(3).mentions("its last words:");
    let outcome = outcome.mentions(&format!("| sidewire: connect to {nobody}")).mentions("nobody listens");
    outcome.mentions(if cfg!(windows) { "exit code: 3" } else { "exit status: 3" });
    stage
        .run(["call", "exec:no-such-program-anywhere", "1"])
        .expect(3)
        .mentions("start exec:no-such-program");
    stage.run(["call", "exec:", "1"]).expect(2).mentions("names no program");
    stage.run(["call", "ssh:-oProxyCommand=x unix:/x", "1"]).expect(2).mentions("begins with '-'");
    stage.run(["call", &gone, "1", "--program", SIDEWIRE]).expect(2).mentions("rule");
    for command in ["serve", "stop", "relay", "recorder"] {
        stage.run([command, "exec:true"]).expect(2).mentions("starts a program");
    }
    stage.run(["relay", "udp:127.0.0.1:9"]).expect(2).mentions("datagrams");
    stage.run(["relay", &nobody]).expect(3).mentions("nobody listens");
}

/// What it says is read to the end, and then it answers.
///
/// PROTOCOL O5
#[test]
fn the_relay_hands_on_the_end_of_its_input() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("tcp:{}", listener.local_addr().expect("bound"));
    let said = vec![b'x'; 1 << 20];
    let relay = Started::new(&mut stage.sidewire(["relay", &endpoint]), &said);
    let (mut stream, _) = listener.accept().expect("it connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).expect("its end");
    assert!(heard == said, "{} bytes", heard.len());
    let answer = vec![b'y'; 1 << 20];
    stream.write_all(&answer).expect("it reads");
    drop(stream);
    relay.finish().expect(0).prints(answer);
}
