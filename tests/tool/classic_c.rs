//! A C program as people write it for the classic layout.

use std::path::PathBuf;
use std::process::Command;

use sidewire::Endpoint;

use crate::stage::{GREETING, Outcome, Stage, Started, source};
use crate::util::{Process, unique, watchdog};

/// Builds it in the test's folder.
fn build(stage: &Stage) -> PathBuf {
    let program = stage.path("classic_client");
    let mut command = Command::new("cc");
    command.args(["-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o"]);
    command.arg(&program).arg(source("classic_client.c"));
    assert_eq!(Started::new(&mut command, b"").finish().expect(0).stderr, "");
    program
}

/// As the C program is told where to go.
fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => path.display().to_string(),
        Endpoint::Abstract(name) => format!("@{}", name.escape_ascii()),
        Endpoint::Tcp { port, .. } => port.to_string(),
        other => panic!("the C program knows no {other}"),
    }
}

/// On every kind of endpoint that C programs use: get, set, set-and-get, and what is answered to
/// what can't be.
fn converse(stage: &Stage, program: &PathBuf, how: &str, server: &Process) {
    let greeting = std::str::from_utf8(GREETING).expect("text");
    let longest = "x".repeat(1024);
    for endpoint in &server.endpoints {
        let ask = |msg_type: &str, text: &str| -> Outcome {
            let args = [how, msg_type, text, &place(endpoint)];
            Started::new(&mut stage.command(program, args), b"").finish().expect(0)
        };
        ask("1", "").prints(format!("1 0 {greeting}\n"));
        ask("2", "good day").prints("2 0 \n");
        ask("1", "").prints("1 0 good day\n");
        ask("3", &longest).prints("3 0 good day\n");
        ask("3", greeting).prints(format!("3 0 {longest}\n"));
        ask("9", "x").prints("9 -2 \n");
        ask("16", "x").prints("16 -1 \n");
        ask("-7", "").prints("-7 -1 \n");
        ask("65537", "").prints("65537 -1 \n");
    }
    assert_eq!(server.endpoints.len(), if cfg!(target_os = "linux") { 3 } else { 2 });
}

fn endpoints(stage: &Stage) -> Vec<String> {
    let mut endpoints = vec![stage.unix("c.sock"), "tcp:127.0.0.1:0".to_owned()];
    if cfg!(target_os = "linux") {
        endpoints.push(format!("abstract:{}", unique("c")));
    }
    endpoints
}

#[test]
fn it_talks_in_short_structs() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let program = build(&stage);
    let server = stage.serve(&endpoints(&stage), &["--access", "anyone"]);
    converse(&stage, &program, "short", &server);
}

#[test]
fn it_talks_in_whole_structs() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let program = build(&stage);
    let server = stage.serve(&endpoints(&stage), &["--access", "anyone", "--classic-fixed", "1024"]);
    converse(&stage, &program, "whole", &server);
}

/// Two names of which one is the other with a NUL behind it are two names.
/// PROTOCOL A2
#[cfg(target_os = "linux")] // Elsewhere there are no abstract names.
#[test]
fn abstract_names_are_their_exact_bytes() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let program = build(&stage);
    let name = unique("c");
    let _server = stage.serve(&[format!("abstract:{name}")], &[]);
    let ask = |name: &str| {
        let args = ["short", "1", "", &format!("@{name}")];
        Started::new(&mut stage.command(&program, args), b"").finish()
    };
    ask(&name).expect(0).prints([b"1 0 ", GREETING, b"\n"].concat());
    ask(&name[..name.len() - 1]).expect(3);
    ask(&format!("{name}x")).expect(3);
    let listed = std::fs::read_to_string("/proc/net/unix").expect("/proc");
    assert!(listed.lines().any(|line| line.ends_with(&format!(" @{name}"))), "no padding: {listed}");
}
