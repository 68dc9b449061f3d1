//! The flight recorder: what one that hangs tells, and what is left of one that died.

#[cfg(unix)]
use std::process::Command;
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use serde_json::Value;
use sidewire::{Endpoint, Server};

#[cfg(unix)]
use crate::stage::SIDEWIRE;
use crate::stage::{Stage, eventually};
use crate::util::{PATIENCE, Process, announce, unique, usual, watchdog};

/// Tells a server of these tests where to listen.
const ROLE: &str = "SIDEWIRE_RECORDER_ROLE";
const ECHO: u16 = 1;
/// Its handler does not return.
const HANG: u16 = 2;
/// Is answered by a thread.
const LATER: u16 = 3;

/// Nothing, unless it was started as a server.
#[test]
fn role() {
    let Ok(endpoint) = env::var(ROLE) else { return };
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    server.on(HANG, |(), _, _| {
        thread::sleep(Duration::from_secs(600));
        Ok(())
    });
    server.on(LATER, |(), _, reply| {
        let responder = reply.defer()?;
        thread::spawn(move || responder.reply("later"));
        Ok(())
    });
    let bound = server.listen(usual(&endpoint.parse().expect("an endpoint"))).expect("listen");
    announce(&[bound]);
    server.run().expect("nobody stops it");
}

fn serve(stage: &Stage, endpoint: &str) -> Process {
    let own = env::current_exe().expect("the test binary");
    let mut command = stage.command(own, ["--exact", "recorder::role", "--nocapture", "--test-threads=1"]);
    Process::start(command.env(ROLE, endpoint), 1)
}

/// What is recorded there, which has to be one server's.
#[track_caller]
fn recorded(stage: &Stage, endpoint: &str) -> Value {
    let outcome = stage.run(["recorder", endpoint, "--json"]).expect(0);
    let text = outcome.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

fn records(recording: &Value) -> &[Value] {
    recording["records"].as_array().expect("records")
}

/// Whether it is in the handler that does not return.
fn hangs(recording: &Value) -> bool {
    records(recording).last().is_some_and(|last| last["state"] == "running" && last["type"] == HANG)
}

/// Has it hang.
fn hang(stage: &Stage, endpoint: &Endpoint) {
    let client = stage.client(endpoint);
    for _ in 0..3 {
        assert_eq!(client.call(ECHO, "hello").expect("an answer").payload(), b"hello");
    }
    assert_eq!(client.call(LATER, "").expect("an answer").payload(), b"later");
    client.call(9, "").expect_err("it has no handler");
    let call = client.start(HANG, "123").expect("started");
    client.flush().expect("sent");
    eventually(PATIENCE, "it hangs", || hangs(&recorded(stage, &endpoint.to_string())));
    // Without waiting for an answer that never comes.
    drop(call);
}

fn kinds(recording: &Value) -> Vec<&str> {
    records(recording).iter().map(|record| record["kind"].as_str().expect("a kind")).collect()
}

/// On every kind of stream, since nothing is asked of it.
#[test]
fn one_that_hangs_is_read_and_one_that_was_killed() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.all_streams() {
        let mut server = serve(&stage, &endpoint);
        let bound = server.endpoints[0].clone();
        let endpoint = bound.to_string();
        hang(&stage, &bound);
        let pid = server.child.id();
        let alive = recorded(&stage, &endpoint);
        assert_eq!((&alive["pid"], &alive["is_alive"]), (&pid.into(), &true.into()), "{alive}");
        let doing = alive["doing"].as_str().expect("words");
        assert!(doing.starts_with("has been in the handler of type 2 (call "), "{doing}");

        server.child.kill().expect("it runs");
        server.wait(PATIENCE);
        let dead = recorded(&stage, &endpoint);
        assert!(hangs(&dead) && dead["is_alive"] == false, "{dead}");
        let doing = dead["doing"].as_str().expect("words");
        assert!(doing.starts_with("was in the handler of type 2 (call "), "{doing}");
        let expected = [
            "opened",
            "on_connect",
            "request",
            "request",
            "request",
            "request",
            "answer",
            "request",
            "request",
        ];
        assert_eq!(kinds(&dead), expected, "{dead}");
        let of = |index: usize| &records(&dead)[index];
        assert_eq!((&of(2)["type"], &of(2)["rc"], &of(2)["bytes"]), (&1.into(), &0.into(), &5.into()));
        assert!(of(2)["took_ns"].is_u64() && of(2)["layout"] == "v1", "{dead}");
        assert_eq!((&of(5)["state"], &of(6)["id"]), (&"deferred".into(), &of(5)["id"]));
        assert_eq!((&of(7)["rc"], &of(8)["bytes"]), (&(-2).into(), &3.into()));
        // Over a pipe it is known later.
        if cfg!(unix) && !endpoint.starts_with("tcp:") {
            assert_eq!(of(0)["id"], std::process::id());
        }

        let text = stage.run(["recorder", &endpoint]).expect(0).text();
        assert!(text.contains(&format!("(pid {pid}), at {endpoint}: has died")), "{text}");
        assert!(text.lines().last().is_some_and(|line| line.contains(" runs ")), "{text}");
        let by_pid = stage.run(["recorder", "--pid", &pid.to_string()]).expect(0).text();
        assert_eq!(by_pid.lines().count(), text.lines().count());
    }
}

/// Elevated processes, and so all under Wine, have one folder for all, where tests don't look.
fn is_elsewhere(what: &str) -> bool {
    let is_elevated = sidewire_platform::current_integrity().is_some_and(|level| level > 0x2000);
    if is_elevated {
        println!("skipped: {what}: this process is elevated, so recordings are in the system's folder");
    }
    is_elevated
}

#[test]
fn only_who_ends_in_order_removes_it() {
    let _watchdog = watchdog(60);
    if is_elsewhere("only_who_ends_in_order_removes_it") {
        return;
    }
    let stage = Stage::new();
    let endpoint = stage.verified_streams().swap_remove(0);
    let mut server = stage.serve(&[&endpoint], &[]);
    let [path] = &stage.recordings()[..] else { panic!("one recording: {:?}", stage.recordings()) };
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o7777,
        0o600
    );
    // Bounded, whatever happens.
    assert!(fs::metadata(path).expect("it is there").len() < 140_000);
    let call = |_| drop(stage.run(["call", &endpoint, "4", "x"]).expect(0));
    (0..3).for_each(call);
    server.child.kill().expect("it runs");
    server.wait(PATIENCE);
    assert_eq!(stage.recordings().len(), 1);
    stage.run(["recorder", &endpoint]).expect(0);
    // The next one there finds nobody to tell of it.
    let mut server = stage.serve(&[&endpoint], &[]);
    let recording = recorded(&stage, &endpoint);
    assert_eq!((&recording["pid"], records(&recording).len()), (&server.child.id().into(), 0));
    stage.run(["stop", &endpoint]).expect(0);
    server.wait(PATIENCE);
    assert!(stage.recordings().is_empty(), "{:?}", stage.recordings());
    stage.run(["recorder", &endpoint]).expect(1).mentions("no recording");
}

#[test]
fn who_wants_none_has_none() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.verified_streams().swap_remove(0);
    let _server = stage.serve(&[&endpoint], &["--no-recorder"]);
    stage.run(["call", &endpoint, "4", "x"]).expect(0);
    assert!(stage.recordings().is_empty());
    stage.run(["recorder", &endpoint]).expect(1);
    stage.run(["recorder", "nonsense"]).expect(2);
    stage.run(["recorder"]).expect(2);
    stage.run(["recorder", "--pid", "1", &endpoint]).expect(2);
}

/// A dead server's, in so many copies.
fn dead_ones(stage: &Stage, count: usize) {
    let mut server = stage.serve(&[format!("local:{}", unique("dead"))], &[]);
    server.child.kill().expect("it runs");
    server.wait(PATIENCE);
    let path = stage.recordings().swap_remove(0);
    for number in 1..count {
        fs::copy(&path, path.with_file_name(format!("copy-{number}.recorder"))).expect("a copy");
    }
}

#[test]
fn what_others_have_left_is_bounded() {
    let _watchdog = watchdog(60);
    if is_elsewhere("what_others_have_left_is_bounded") {
        return;
    }
    let stage = Stage::new();
    dead_ones(&stage, 20);
    // One that nobody has touched for two days, and that did nothing since.
    let old = stage.recordings().into_iter().find(|path| path.ends_with("copy-19.recorder")).expect("a copy");
    let mut bytes = fs::read(&old).expect("it is there");
    let at = bytes.windows(8).position(|bytes| bytes == b"started ").expect("when it began") + 8;
    bytes[at..at + 19].copy_from_slice(b"1000000000000000000");
    fs::write(&old, &bytes).expect("written");
    let file = fs::File::options().write(true).open(&old).expect("it is there");
    file.set_modified(SystemTime::now() - Duration::from_secs(2 * 24 * 3600)).expect("made older");
    drop(file);
    // What is none stays, whatever its name.
    let other = old.with_file_name("other.recorder");
    fs::write(&other, "not a recording").expect("written");
    let _server = stage.serve(&[format!("local:{}", unique("next"))], &[]);
    assert!(!old.exists() && other.exists());
    assert_eq!(stage.recordings().len(), 16 + 2, "16 dead ones, what is none, and the new server's");
}

/// Whoever has written it.
#[test]
fn a_file_that_says_anything_does_no_harm() {
    let _watchdog = watchdog(60);
    if is_elsewhere("a_file_that_says_anything_does_no_harm") {
        return;
    }
    let stage = Stage::new();
    dead_ones(&stage, 2);
    let copy = stage.recordings().into_iter().find(|path| path.ends_with("copy-1.recorder")).expect("a copy");
    // Those of one process are looked for by their names.
    let path = copy.with_file_name("copy-7-1.recorder");
    fs::rename(&copy, &path).expect("renamed");
    let whole = fs::read(&path).expect("it is there");
    let text = b"pid 7\nstarted 18446744073709551615\nprogram \x1b[2J\nendpoint \x07\xff\n";
    for round in 0..20_u8 {
        let mut bytes = whole.clone();
        bytes[21..21 + text.len()].copy_from_slice(text);
        let mut random = vec![0; bytes.len() - 4096];
        getrandom::fill(&mut random).expect("randomness");
        bytes[4096..].copy_from_slice(&random);
        // So that many of them are taken for records.
        for (place, record) in bytes[4096..].chunks_exact_mut(64).enumerate() {
            record[..8].copy_from_slice(&(64 * (place as u64 + 2048)).to_ne_bytes());
            let code = u32::from(round % 14) | u32::from(record[33]) << 8;
            record[32..36].copy_from_slice(&code.to_ne_bytes());
        }
        fs::write(&path, &bytes).expect("written");
        let outcome = stage.run(["recorder", "--pid", "7"]).expect(0);
        assert!(outcome.text().chars().all(|letter| letter == '\n' || !letter.is_control()), "{outcome}");
        stage.run(["recorder", "--pid", "7", "--json"]).expect(0);
        bytes[21..4096].fill(round);
        fs::write(&path, &bytes).expect("written");
        stage.run(["recorder", "--all"]).expect(0);
    }
    for length in [0, 20, 4096, 5000] {
        fs::write(&path, &whole[..length]).expect("written");
        stage.run(["recorder", "--all"]).expect(0);
    }
}

/// It does not answer, nor does anybody ask it.
#[cfg(target_os = "linux")]
#[test]
fn one_that_is_stopped_is_read() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    for endpoint in stage.all_datagrams().into_iter().chain([format!("local:{}", unique("stopped"))]) {
        let server = stage.serve(&[endpoint], &["--access", "anyone"]);
        let endpoint = server.endpoints[0].to_string();
        stage.run(["call", &endpoint, "4", "hello"]).expect(0);
        crate::stage::freeze(server.child.id());
        let recording = recorded(&stage, &endpoint);
        assert_eq!(recording["is_alive"], true);
        let doing = recording["doing"].as_str().expect("words");
        assert!(
            doing.starts_with("was last in the handler of type 4 (call ") && doing.contains(", rc 0, "),
            "{doing}"
        );
    }
}

/// No room for the file: files can't be that long.
#[cfg(unix)]
#[test]
fn one_that_gets_no_file_serves_all_the_same() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = stage.unix("s");
    let script = "ulimit -f 8 && exec \"$0\" \"$@\"";
    let mut command = stage.command("/bin/sh", ["-c", script, SIDEWIRE, "serve", &endpoint]);
    let _server = Process::start(&mut command, 1);
    stage.run(["call", &endpoint, "4", "hello"]).expect(0).prints("hello");
    assert!(stage.recordings().is_empty());
    // Nor in a folder in which nothing can be created, where even the socket's owner is told of none.
    let mut command = Command::new(SIDEWIRE);
    command.args(["recorder", &endpoint]).env("XDG_RUNTIME_DIR", "/dev/null");
    assert_eq!(command.status().expect("it runs").code(), Some(1));
}
