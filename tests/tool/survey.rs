//! The example `survey`: a server, who answers, and who asks, each a process.

use std::process::Command;

use crate::getset::example;
use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, until, watchdog};

const SOURCE: &str = include_str!("../../examples/survey.rs");

fn command(stage: &Stage, args: &[&str]) -> Command {
    stage.command(example("survey"), args)
}

fn run(stage: &Stage, args: &[&str]) -> Outcome {
    Started::new(&mut command(stage, args), b"").finish()
}

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 100);
}

#[test]
fn who_asks_has_everybody_asked() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.all_streams().remove(0);
    let server = Process::start(&mut command(&stage, &["serve", &endpoint]), 1);
    let endpoint = server.endpoints[0].to_string();
    run(&stage, &["ask", "Anybody?", &endpoint]).expect(0).prints("");
    let [yes, no] = ["yes", "no"].map(|text| {
        let answering = Started::new(&mut command(&stage, &["answer", text, &endpoint]), b"");
        let (before, all) = if text == "yes" { ("", "yes\n") } else { ("yes\n", "no\nyes\n") };
        until("it has joined", || match run(&stage, &["ask", "Well?", &endpoint]).expect(0).stdout {
            said if said == all.as_bytes() => true,
            said => {
                assert_eq!(said, before.as_bytes());
                false
            }
        });
        answering
    });
    drop(no); // Killed.
    run(&stage, &["ask", "And now?", &endpoint]).expect(0).prints("yes\n");
    drop((yes, server));
}

#[test]
fn it_says_what_is_wrong() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    run(&stage, &["ask", "x", "nonsense"]).expect(1).prints("").mentions("nonsense");
    for args in [&[][..], &["ask"], &["serve", "local:x", "y"]] {
        run(&stage, args).expect(2).prints("").mentions("usage: survey");
    }
}
