//! `sidewire call --stream`, and the store's type 7.

use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, unique, watchdog};

struct Scene {
    stage: Stage,
    server: Process,
}

impl Scene {
    fn new() -> Scene {
        let stage = Stage::new();
        let server = stage.serve(&[format!("local:{}", unique("stream"))], &[]);
        Scene { stage, server }
    }

    fn call(&self, args: &[&str]) -> Outcome {
        let endpoint = self.server.endpoints[0].to_string();
        Started::new(&mut self.stage.sidewire([&["call", &endpoint], args].concat()), b"").finish()
    }
}

#[test]
fn a_part_is_a_line() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    scene.call(&["7", "3", "--stream"]).expect(0).prints("1\n2\n3\n");
    scene.call(&["7", "0", "--stream"]).expect(0).prints("");
    scene
        .call(&["7", "12", "--stream", "--hex"])
        .expect(0)
        .prints("31\n32\n33\n34\n35\n36\n37\n38\n39\n3130\n3131\n3132\n");
    let many: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    scene.call(&["7", "20000", "--stream"]).expect(0).prints(many.as_str());
    // Who takes no parts gets the final reply, which is empty.
    scene.call(&["7", "20000"]).expect(0).prints("");
    // What has none is one line, in which nothing drives a terminal.
    scene.call(&["4", "one\ntwo\\\u{1b}", "--stream"]).expect(0).prints("one\\ntwo\\\\\\u{1b}\n");
}

#[test]
fn what_goes_wrong_is_an_exit_status() {
    let _watchdog = watchdog(60);
    let scene = Scene::new();
    scene.call(&["7", "x", "--stream"]).expect(1).prints("").mentions("malformed (-4)");
    scene.call(&["9", "--stream"]).expect(1).prints("").mentions("no handler (-2)");
    scene.call(&["7", "3", "--stream", "--classic"]).expect(1).mentions("required feature missing (-12)");
    scene.call(&["7", "3", "--stream", "--notify"]).expect(2).mentions("cannot be used with");
    scene.call(&["6", "60000", "--stream", "--timeout", "0.2"]).expect(4).mentions("timed out");
}

#[test]
fn over_datagrams_there_are_no_parts() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&["udp:127.0.0.1:0".to_owned()], &["--access", "anyone"]);
    let endpoint = server.endpoints[0].to_string();
    let call = |args: &[&str]| {
        let all = [&["call", &endpoint, "--access", "anyone"], args].concat();
        Started::new(&mut stage.sidewire(all), b"").finish()
    };
    call(&["7", "3"]).expect(1).mentions("required feature missing (-12)");
    call(&["7", "3", "--stream"]).expect(2).mentions("over datagrams");
}
