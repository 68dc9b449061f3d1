//! Programs that a client starts and that know nothing of our code: a shell script, Python.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sidewire::{Client, Connect, Executed, Reconnect, Reconnected};

use crate::util::{alone, until, watchdog};

const ECHO: u16 = 1;
/// Ends the script.
const EXIT: u16 = 2;
const BABBLE: u16 = 3;
/// More than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/library/programs").join(name)
}

fn patient(connect: Connect) -> Connect {
    connect.timeout(PATIENCE).call_timeout(PATIENCE)
}

fn shell() -> Connect {
    patient(Connect::to_command(format!("exec:sh '{}'", script("echo.sh").display())).expect("a command"))
}

fn pid(client: &Client) -> u32 {
    client.peer().credentials().and_then(|known| known.pid()).expect("our child")
}

/// Also if it is a zombie.
fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// PROTOCOL O1, O3
#[test]
fn a_shell_script_answers() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let end = folder.path().join("goodbye");
    let text = format!("exec:sh '{}' '{}'", script("echo.sh").display(), end.display());
    let client = patient(Connect::to_command(&text).expect("a command")).open().expect("its hello");
    for payload in [&b"hello"[..], b"", b"\0\\%s\n\xff\x80 '\"", &[7; 300]] {
        assert_eq!(client.call(ECHO, payload).expect("an echo").payload(), payload);
    }
    client.ping(PATIENCE).expect("a pong");
    assert!(client.endpoint().to_string().starts_with("exec:sh "), "{}", client.endpoint());
    let pid = pid(&client);
    assert_ne!(pid, std::process::id());
    assert!(!end.exists());
    drop(client);
    assert!(end.exists(), "it was told, and waited for");
    assert!(!is_there(pid), "not even a zombie is left");
}

#[test]
fn a_python_script_answers() {
    let _watchdog = watchdog(60);
    let mut command = Command::new("python3");
    command.arg(script("upper.py"));
    let client = patient(Connect::command(command)).open().expect("its hello");
    let large = vec![b'x'; 300_000];
    assert_eq!(client.call(9, &large).expect("an answer").into_payload(), large.to_ascii_uppercase());
    std::thread::scope(|scope| {
        for number in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..20 {
                    let payload = format!("thread {number} round {round}");
                    let answer = client.call(number, &payload).expect("an answer").into_payload();
                    assert_eq!(answer, payload.to_ascii_uppercase().as_bytes());
                }
            });
        }
    });
    client.close();
    let error = client.call(1, "").expect_err("it is closed");
    assert!(error.is_closed(), "{error}");
}

#[test]
fn one_that_ends_in_a_call_is_told_of_with_its_status_and_last_words() {
    let _watchdog = watchdog(60);
    let client = shell().open().expect("its hello");
    let error = client.call(EXIT, "x").expect_err("it ends");
    assert!(error.is_peer_gone() && error.executed() == Executed::Perhaps, "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(7), "{error}");
    assert_eq!(error.last_words(), ["type 2 is too much"]);
    let text = error.to_string();
    assert!(text.contains("exec:sh ") && text.contains("exit status: 7"), "{text}");
}

/// Nobody waits longer than he said for how it ends.
#[test]
fn one_that_closes_its_output_and_lives_on_costs_a_call_no_more_than_its_limit() {
    let _watchdog = watchdog(60);
    let mut command = Command::new("sh");
    // The first shell alone stays, without its streams; what is begun with & would read nothing from 0.
    let leaves = "exec 3<&0; sh \"$1\" <&3 3<&- & exec >&- <&- 3<&-; wait; exec sleep 600";
    command.args(["-c", leaves, "sh"]).arg(script("echo.sh"));
    let client = patient(Connect::command(command)).open().expect("its hello");
    assert_eq!(client.call(ECHO, "x").expect("an echo").payload(), b"x");
    let begun = Instant::now();
    let error = client.request(EXIT).timeout(Duration::from_secs(1)).send("").expect_err("it ends");
    let took = begun.elapsed();
    assert!(error.is_peer_gone() || error.is_timeout(), "{error}");
    // It has 3 s to end, and another one when it was asked to.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn one_that_breaks_the_protocol_is_told_so() {
    let _watchdog = watchdog(60);
    let client = shell().open().expect("its hello");
    let error = client.call(BABBLE, "").expect_err("no frame");
    assert!(error.is_protocol() && error.last_words() == ["now I babble"], "{error}");
    let pid = pid(&client);
    drop(client);
    assert!(!is_there(pid));
}

/// PROTOCOL O4
#[test]
fn one_that_ends_before_its_hello_is_told_of_likewise() {
    let _watchdog = watchdog(60);
    let command = "exec:sh -c 'echo \"not today\" >&2; exit 5'";
    let error = patient(Connect::to_command(command).expect("a command")).open().expect_err("it ends");
    assert!(error.is_peer_gone(), "{error}");
    assert_eq!(error.exit_status().and_then(|status| status.code()), Some(5), "{error}");
    assert_eq!(error.last_words(), ["not today"]);
    // What is no hello is told as what it is.
    let command = "exec:sh -c 'echo why >&2; echo Welcome; cat >/dev/null'";
    let error = patient(Connect::to_command(command).expect("a command")).open().expect_err("no hello");
    assert!(error.is_protocol() && error.last_words() == ["why"], "{error}");
}

#[test]
fn it_is_started_anew_for_each_connection() {
    let _watchdog = watchdog(60);
    let restarted = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&restarted);
    let reconnect = Reconnect::new().on_reconnected(move |reconnected: &Reconnected| {
        assert!(reconnected.reason().is_peer_gone(), "{}", reconnected.reason());
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    let client = shell().reconnect(reconnect).open().expect("its hello");
    let first = pid(&client);
    client.call(EXIT, "").expect_err("it ends");
    assert_eq!(client.call(ECHO, "again").expect("another one").payload(), b"again");
    let second = pid(&client);
    assert_ne!(first, second);
    assert_eq!(restarted.load(std::sync::atomic::Ordering::Relaxed), 1);
    drop(client);
    assert!(!is_there(first) && !is_there(second));
}

/// PROTOCOL O3
#[test]
fn one_that_says_nothing_is_ended() {
    let _watchdog = watchdog(60);
    let folder = tempfile::tempdir().expect("a folder");
    let note = folder.path().join("pid");
    // A busy machine may take longer to start a shell.
    for limit in [1, 10, 60] {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$1\"; exec sleep 600", "sh"]).arg(&note);
        let connect = Connect::command(command).timeout(Duration::from_secs(limit));
        let error = connect.open().expect_err("no hello");
        assert!(error.is_timeout() && error.is_hung(), "{error}");
        let pid = std::fs::read_to_string(&note).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            return assert!(!is_there(pid));
        }
    }
    panic!("it was never started");
}

/// PROTOCOL O3
#[test]
fn one_that_hears_nothing_is_killed_in_the_end() {
    let _watchdog = watchdog(60);
    let mut command = Command::new("sh");
    let stubborn = "trap '' TERM HUP; sh \"$1\"; while :; do sleep 600; done";
    command.args(["-c", stubborn, "sh"]).arg(script("echo.sh"));
    let client = patient(Connect::command(command)).open().expect("its hello");
    let (pid, since) = (pid(&client), Instant::now());
    drop(client);
    assert!(!is_there(pid), "after {:?}", since.elapsed());
    assert!(since.elapsed() >= Duration::from_secs(3), "it had time to end by itself");
}

/// Neither by the client nor by what it starts.
#[test]
fn no_descriptors_are_left_or_inherited() {
    let _watchdog = watchdog(60);
    alone("exec_scripts::no_descriptors_are_left_or_inherited", || {
        let own = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
        let standing = shell().open().expect("its hello");
        let before = own();
        for _ in 0..5 {
            let client = shell().open().expect("its hello");
            client.call(ECHO, "x").expect("an echo");
            drop(client);
            shell().open().expect("its hello").call(EXIT, "").expect_err("it ends");
        }
        // The threads that looked after them close the last.
        until("all are closed", || own() == before);
        // What this process was started with is theirs, too.
        let listing = "for each in /proc/$$/fd/*; do echo ${each##*/}; done >&2";
        let usual = Command::new("sh").args(["-c", listing]).stdin(Stdio::null()).output().expect("a shell");
        let usual = String::from_utf8_lossy(&usual.stderr).into_owned();
        let mut command = Command::new("sh");
        command.args(["-c", listing]);
        let error = patient(Connect::command(command)).open().expect_err("no hello");
        assert_eq!(error.last_words(), usual.lines().collect::<Vec<_>>());
        drop(standing);
    });
}
