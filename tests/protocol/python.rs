//! `tests/conversations/replay.py`, which knows the files and nothing of our code, plays them all.

use std::process::Command;
use std::thread;

use sidewire::Endpoint;

use crate::replay::serve;
use crate::tool;
use crate::util::{Conversation, conversations, fresh, watchdog};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conversations/replay.py");

#[test]
fn it_plays_every_conversation() {
    let _watchdog = watchdog(240);
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
    match tool::options(conversation).and_then(|options| tool::serve(endpoint, options)) {
        Some(process) => replay(conversation, &process.endpoints[0], Some(process.child.id())),
        None if conversation.setting("tool").is_some() => eprintln!("the tool was not built: not tried"),
        None => {
            let (_running, bound) = serve(conversation, endpoint);
            replay(conversation, &bound, None);
        }
    }
}

fn replay(conversation: &Conversation, bound: &Endpoint, pid: Option<u32>) {
    let mut python = Command::new("python3");
    python.args(["-I", "-S", SCRIPT]).arg(bound.to_string()).arg(&conversation.path);
    let output = python.args(pid.map(|pid| pid.to_string())).output().expect("run Python");
    assert!(output.status.success(), "{} over {bound}: {output:?}", conversation.name);
}
