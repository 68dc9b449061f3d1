//! Clients that connect anew to servers in other processes, which are killed and started again; and the example
//! `reconnect`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use sidewire::{Connect, Endpoint, Executed, Reconnect, Reconnected};

use crate::getset::example;
use crate::stage::{Outcome, Stage, Started};
use crate::util::{Process, until, usual_access, watchdog};

const SOURCE: &str = include_str!("../../examples/reconnect.rs");
const ECHO: u16 = 4;
const SLEEP: u16 = 6;
const PATIENCE: Duration = Duration::from_secs(20);

fn connect(stage: &Stage, endpoint: &Endpoint) -> Connect {
    let connect = Connect::to(stage.seen_from_here(endpoint)).expect("an endpoint").lower_integrity();
    connect.access(usual_access(endpoint))
}

/// The number of the file, where there is one. A second name for it keeps the number from the next file.
#[cfg(unix)]
fn file(stage: &Stage, endpoint: &Endpoint) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    let Endpoint::Unix(path) = stage.seen_from_here(endpoint) else { return None };
    std::fs::hard_link(&path, stage.path(&crate::util::unique("kept"))).expect("a second name");
    Some(std::fs::metadata(path).expect("the socket's file").ino())
}

/// What was sent and not answered is reported, what is safe goes to the next server, what had not been sent as well.
#[test]
fn a_server_that_is_killed_and_started_again_is_found() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let access = if endpoint.starts_with("tcp:") { &["--access", "anyone"][..] } else { &[] };
        let first = stage.serve(&[&endpoint], access);
        let bound = first.endpoints[0].clone();
        let (told, reconnected) = mpsc::channel::<Reconnected>();
        let reconnect = Reconnect::new()
            .pauses(Duration::from_millis(10), Duration::from_millis(100))
            .attempts(10_000)
            .on_reconnected(move |it| told.send(it.clone()).expect("the test waits"));
        let client = connect(&stage, &bound).reconnect(reconnect).open().expect("connect");
        #[cfg(unix)]
        let before = file(&stage, &bound);
        let second = thread::scope(|scope| {
            let lost = scope.spawn(|| client.call(SLEEP, "60000"));
            let safe = scope.spawn(|| client.request(SLEEP).idempotent().send("700"));
            thread::sleep(Duration::from_millis(300));
            assert!(!lost.is_finished() && !safe.is_finished());
            drop(first); // Killed.
            let error = lost.join().expect("a thread").expect_err("its server was killed");
            assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
            let second = stage.serve(&[&bound.to_string()], access);
            let reply = safe.join().expect("a thread").expect("the second has answered");
            assert_eq!(reply.payload(), b"700");
            second
        });
        #[cfg(unix)]
        if let (Some(before), Some(after)) = (before, file(&stage, &bound)) {
            assert_ne!(before, after, "it is another file");
        }
        let told = reconnected.try_recv().expect("it was told");
        assert!(told.is_restarted() && told.reason().is_peer_gone(), "{told:?}");
        assert_eq!(client.call(ECHO, b"x").expect("a reply").payload(), b"x");
        assert!(reconnected.try_recv().is_err(), "once");
        // One that nobody asks meanwhile.
        drop(second);
        let _third = stage.serve(&[&bound.to_string()], access);
        assert_eq!(client.call(ECHO, b"y").expect("a reply").payload(), b"y");
    }
}

fn command(stage: &Stage, args: &[&str]) -> Command {
    stage.command(example("reconnect"), args)
}

fn run(stage: &Stage, args: &[&str]) -> Outcome {
    Started::new(&mut command(stage, args), b"").finish()
}

#[test]
fn the_example_is_short_and_says_what_is_wrong() {
    let _watchdog = watchdog(60);
    assert!(SOURCE.lines().count() < 100);
    let stage = Stage::new();
    run(&stage, &["ask", "3", "nonsense"]).expect(1).prints("").mentions("nonsense");
    run(&stage, &["ask", "x", "local:x"]).expect(1).prints("").mentions("COUNT is no number");
    for args in [&[][..], &["ask"], &["serve", "local:x", "y"]] {
        run(&stage, args).expect(2).prints("").mentions("usage: reconnect");
    }
}

#[test]
fn the_example_goes_on_with_the_next_server() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.all_streams().remove(0);
    let first = Process::start(&mut command(&stage, &["serve", &endpoint]), 1);
    let bound = first.endpoints[0].to_string();
    let mut asking = command(&stage, &["ask", "100000", &bound]);
    let mut client = asking.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start it");
    let (line, lines) = mpsc::channel();
    let stdout = client.stdout.take().expect("its output");
    let reader = thread::spawn(move || {
        let _ = BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|text| line.send(text));
    });
    let answered_by = |server: &Process| {
        let who = format!("process {}: ", server.child.id());
        until("it answers", || lines.recv_timeout(PATIENCE).expect("a line").starts_with(&who));
    };
    answered_by(&first);
    drop(first);
    let second = Process::start(&mut command(&stage, &["serve", &bound]), 1);
    answered_by(&second);
    client.kill().expect("kill it");
    client.wait().expect("its end");
    reader.join().expect("no panic");
}
