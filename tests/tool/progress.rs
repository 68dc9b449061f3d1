//! The example `progress`.

use crate::getset::example;
use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, watchdog};

const SOURCE: &str = include_str!("../../examples/progress.rs");

fn render(stage: &Stage, args: &[&str]) -> Outcome {
    Started::new(&mut stage.command(example("progress"), [&["render"], args].concat()), b"").finish()
}

#[test]
fn it_is_short() {
    assert!(SOURCE.lines().count() < 100);
}

#[test]
fn progress_comes_as_it_is_made_until_it_is_enough() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.verified_streams().remove(0);
    let server = Process::start(&mut stage.command(example("progress"), ["serve", &endpoint]), 1);
    let endpoint = server.endpoints[0].to_string();
    let all = "page 1 of 3\npage 2 of 3\npage 3 of 3\ndone: 3 pages\n";
    render(&stage, &["3", "9", &endpoint]).expect(0).prints(all);
    // It would take a year.
    render(&stage, &["1000000000", "2", &endpoint])
        .expect(0)
        .prints("page 1 of 1000000000\npage 2 of 1000000000\nthat is enough\n");
    render(&stage, &["many", "1", &endpoint]).expect(1).prints("").mentions("malformed (-4)");
}
