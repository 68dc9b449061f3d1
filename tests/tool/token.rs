//! Tokens, between the tool and programs that know the protocol's text.

#[cfg(unix)]
use std::io::{BufRead, BufReader, Read};
#[cfg(unix)]
use std::process::Stdio;

#[cfg(unix)]
use sidewire::Endpoint;

use crate::stage::Stage;
#[cfg(unix)]
use crate::stage::{Started, source};
use crate::util::watchdog;

#[test]
fn both_commands_prove_it_to_each_other() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let file = stage.folder().join("app.token").display().to_string();
    let server = stage.serve(&["tcp:127.0.0.1:0"], &["--token-file", &file]);
    let endpoint = server.endpoints[0].to_string();
    let outcome = stage.run(["call", &endpoint, "4", "hello", "--token-file", &file]).expect(0);
    assert_eq!(outcome.text(), "hello");
    stage.run(["ping", &endpoint, "--count", "1", "--token-file", &file]).expect(0);
    stage.run(["call", &endpoint, "4", "hello"]).expect(5).mentions("asks for a token");
    let other = stage.folder().join("other.token").display().to_string();
    std::fs::write(&other, [7; 32]).expect("a file");
    #[cfg(unix)]
    stage
        .run(["call", &endpoint, "4", "hello", "--token-file", &other])
        .expect(2)
        .mentions("others may read or write it");
    stage
        .run(["serve", "udp:127.0.0.1:0", "--token-file", &file])
        .expect(2)
        .mentions("a token goes with frames");
    stage.run(["serve", "tcp:127.0.0.1:0"]).expect(2).mentions("--token-file FILE");
}

/// PROTOCOL W1, W2, W3
#[cfg(unix)]
#[test]
fn python_proves_it_as_a_client_and_as_a_server() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let file = stage.folder().join("app.token").display().to_string();
    let script = source("token_peer.py").display().to_string();
    let server = stage.serve(&["tcp:127.0.0.1:0"], &["--token-file", &file]);
    let Endpoint::Tcp { port, .. } = server.endpoints[0] else { panic!("{:?}", server.endpoints) };
    let port = port.to_string();
    let mut python = stage.command("python3", [&script[..], "client", &port, &file]);
    assert_eq!(Started::new(&mut python, b"").finish().expect(0).text(), "ok\n");

    let mut python = stage.command("python3", [&script[..], "server", &file]);
    let mut python = python.stdout(Stdio::piped()).spawn().expect("python3");
    let mut said = BufReader::new(python.stdout.take().expect("a pipe"));
    let mut port = String::new();
    said.read_line(&mut port).expect("its port");
    let endpoint = format!("tcp:127.0.0.1:{}", port.trim());
    let outcome = stage.run(["call", &endpoint, "4", "hello", "--token-file", &file]).expect(0);
    assert_eq!(outcome.text(), "hello");
    let mut rest = String::new();
    said.read_to_string(&mut rest).expect("its last word");
    assert_eq!((rest.as_str(), python.wait().expect("its end").success()), ("ok\n", true));
}
