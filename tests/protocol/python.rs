//! `tests/conversations/replay.py`, which knows the files and nothing of our code, plays them all.

use std::process::Command;
use std::thread;

use sidewire::Endpoint;

use crate::replay::serve;
use crate::util::{Conversation, Process, conversations, fresh, watchdog};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations/replay.py");

/// The tool, where it was built.
const SIDEWIRE: Option<&str> = option_env!("CARGO_BIN_EXE_sidewire");

#[test]
fn it_plays_every_conversation() {
    let _watchdog = watchdog(90);
    if Command::new("python3").arg("--version").output().is_err() {
        return eprintln!("there is no Python here: not tried");
    }
    let conversations = conversations();
    let mut played = 0;
    thread::scope(|scope| {
        for scheme in ["unix", "tcp", "udp"] {
            for conversation in conversations.iter().filter(|conversation| conversation.is_for(scheme)) {
                scope.spawn(move || play(conversation, &fresh(scheme)));
                played += 1;
            }
        }
    });
    assert!(played >= conversations.len(), "{played} of {}", conversations.len());
}

/// With the tool, or with a server of our own for what the tool has no options for.
fn play(conversation: &Conversation, endpoint: &Endpoint) {
    let Some((options, sidewire)) = options(conversation).zip(SIDEWIRE) else {
        let (_running, bound) = serve(conversation, endpoint);
        return replay(conversation, &bound, None);
    };
    let mut command = Command::new(sidewire);
    command.arg("serve").arg(endpoint.to_string()).args(options);
    if !endpoint.has_credentials() {
        command.args(["--access", "anyone"]);
    }
    let process = Process::start(&mut command, 1);
    replay(conversation, &process.endpoints[0], Some(process.child.id()));
}

fn replay(conversation: &Conversation, bound: &Endpoint, pid: Option<u32>) {
    let mut python = Command::new("python3");
    python.args(["-I", "-S", SCRIPT]).arg(bound.to_string()).arg(&conversation.path);
    let output = python.args(pid.map(|pid| pid.to_string())).output().expect("run Python");
    assert!(output.status.success(), "{} over {bound}: {output:?}", conversation.name);
}

/// What `sidewire serve` needs to be as the conversation wants it, if there are options for that.
fn options(conversation: &Conversation) -> Option<Vec<String>> {
    let option = |(key, value): &(String, String)| match &key[..] {
        "only" => Some(Vec::new()),
        "classic_max" => Some(vec!["--classic-max".into(), value.clone()]),
        "classic_fixed" => Some(vec!["--classic-fixed".into(), value.clone()]),
        _ => None,
    };
    let options: Option<Vec<_>> = conversation.settings.iter().map(option).collect();
    options.map(|options| options.concat())
}
