//! `sidewire stop`: who ends, who is left alone, and when it returns.

use std::env;
use std::time::Duration;

use sidewire::{Listen, Server, on_data};

use crate::getset::example;
use crate::stage::{Outcome, SIDEWIRE, Stage};
use crate::util::{PATIENCE, Process, announce, unique, watchdog};

/// What the server of this binary is to be, and where.
const KIND: &str = "SIDEWIRE_TEST_STOP_KIND";
const PLACE: &str = "SIDEWIRE_TEST_STOP_PLACE";

/// The server that other tests here start, in a process of its own.
#[test]
fn a_server() {
    let (Ok(kind), Ok(place)) = (env::var(KIND), env::var(PLACE)) else { return };
    let mut server = Server::builder(());
    if kind == "clings" {
        server = server.may_be_stopped();
    }
    let mut server = server.build().expect("a server");
    let says = |bytes: &'static [u8]| on_data(move |(), session, _| session.write(bytes));
    let listened = match &kind[..] {
        "old" => server.listen_raw(&place[..], says(&LACKING)),
        "stranger" => server.listen_raw(&place[..], says(b"220 hello\r\n")),
        "silent" => server.listen_raw(&place[..], says(b"")),
        "activated" => {
            server.listen(Listen::activated().expect("what the manager says").pop().expect("a socket"))
        }
        _ => server.listen(&place[..]),
    };
    announce(&[listened.expect("an endpoint")]);
    server.run().expect("it runs");
    // As one that does not get to its end.
    std::thread::sleep(Duration::from_secs(600));
}

/// What a server says that knows nothing of such hellos: required feature missing (-12).
static LACKING: [u8; 72] = {
    let mut hello = [0; 72];
    let head = [0xD1, 0x53, 0x57, 0xD1, 72, 0, 1, 1];
    let mut at = 0;
    while at < head.len() {
        hello[at] = head[at];
        at += 1;
    }
    hello[48] = 0xF4;
    (hello[49], hello[50], hello[51]) = (0xFF, 0xFF, 0xFF);
    hello
};

/// Has a command start that server.
fn as_server<'c>(
    command: &'c mut std::process::Command,
    kind: &str,
    place: &str,
) -> &'c mut std::process::Command {
    let exact = ["--exact", "stop::a_server", "--nocapture", "--test-threads=1"];
    command.args(exact).env(KIND, kind).env(PLACE, place)
}

fn start(stage: &Stage, kind: &str, place: &str) -> Process {
    let own = env::current_exe().expect("this binary");
    let mut command = stage.command(own, [""; 0]);
    Process::start(as_server(&mut command, kind, place), 1)
}

fn is_running(server: &mut Process) -> bool {
    server.child.try_wait().expect("look at a process").is_none()
}

/// Where a server of another process may be on this system.
fn place(stage: &Stage) -> String {
    stage.verified_streams().pop().expect("one of them")
}

fn stop(stage: &Stage, args: &[&str]) -> Outcome {
    stop_within(stage, "50", args)
}

/// With so many seconds for all of it.
fn stop_within(stage: &Stage, seconds: &str, args: &[&str]) -> Outcome {
    stage.run([&["stop", "--wait", seconds], args].concat())
}

#[test]
fn one_that_allows_it_is_asked_and_ends_in_order() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for endpoint in stage.verified_streams() {
        let mut server = stage.serve(&[&endpoint], &[]);
        let client = stage.client(&server.endpoints[0]);
        client.call(4, b"x").expect("a reply");
        let pid = server.child.id();
        let line = format!("{endpoint}: stopped (pid {pid}, asked)\n");
        let outcome = stop(&stage, &[&endpoint]).expect(0).prints(line);
        assert_eq!(outcome.stderr, "");
        assert!(!is_running(&mut server), "{endpoint}");
        assert_eq!(server.wait(PATIENCE).code(), Some(0), "it ended in order");
        client.call(4, b"x").expect_err("it has gone");
        stop(&stage, &[&endpoint]).expect(0).prints(format!("{endpoint}: nobody listens\n"));
    }
    assert!(stage.files().is_empty(), "{:?}", stage.files());
}

/// And with its clients' policy, whatever its own is.
#[test]
fn one_for_anyone_is_asked_as_well() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = place(&stage);
    let server = stage.serve(&[&endpoint], &["--access", "anyone"]);
    let outcome = stop(&stage, &[&endpoint, "--json"]).expect(0);
    let line: serde_json::Value = serde_json::from_slice(&outcome.stdout).expect("JSON");
    let pid = server.child.id();
    let expected =
        serde_json::json!({ "endpoint": endpoint, "outcome": "stopped", "pid": pid, "by": "asked" });
    assert_eq!(line, expected);
}

#[test]
fn its_program_can_be_replaced_then() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let program = stage.path("installed.exe");
    std::fs::copy(SIDEWIRE, &program).expect("copy the tool");
    let endpoint = place(&stage);
    for _ in 0..2 {
        let mut command = stage.command(&program, ["serve", &endpoint]);
        let server = Process::start(&mut command, 1);
        stop(&stage, &[&endpoint]).expect(0);
        // A program that runs can't be written to, nor removed on Windows.
        std::fs::OpenOptions::new().append(true).open(&program).expect("nobody runs it");
        std::fs::remove_file(&program).expect("remove it");
        std::fs::copy(SIDEWIRE, &program).expect("put another there");
        drop(server);
    }
}

/// Windows has no signal: there one that does not stop on signals stays, and it is said what can be done.
#[test]
fn one_that_does_not_allow_it_gets_a_signal() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    for kind in ["plain", "old"] {
        let endpoint = place(&stage);
        let mut server = start(&stage, kind, &endpoint);
        let pid = server.child.id();
        let outcome = stop(&stage, &[&endpoint]);
        if cfg!(unix) {
            outcome.expect(0).prints(format!("{endpoint}: stopped (pid {pid}, SIGTERM)\n"));
            assert_eq!(server.wait(PATIENCE).code(), None, "a signal has ended it");
        } else {
            let text = outcome.expect(1).text();
            let starts = format!("{endpoint}: not stopped: refused: it does not allow that");
            assert!(text.starts_with(&starts) && text.contains(&format!("pid {pid}")), "{text}");
            assert!(text.contains("may_be_stopped") && text.contains("stop_on_signals"), "{text}");
            assert!(is_running(&mut server));
        }
    }
}

/// As by Ctrl-C, though nobody has allowed it; on Windows by an event.
#[test]
fn one_that_stops_on_signals_ends_in_order() {
    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let by = if cfg!(windows) { "stop event" } else { "SIGTERM" };
    for endpoint in stage.verified_streams() {
        let mut server = Process::start(&mut stage.command(example("getset"), ["serve", &endpoint]), 1);
        let pid = server.child.id();
        let line = format!("{endpoint}: stopped (pid {pid}, {by})\n");
        stop(&stage, &[&endpoint]).expect(0).prints(line);
        assert!(!is_running(&mut server), "{endpoint}");
        assert_eq!(server.wait(PATIENCE).code(), Some(0), "it ended in order");
        stop(&stage, &[&endpoint]).expect(0).prints(format!("{endpoint}: nobody listens\n"));
    }
    assert!(stage.files().is_empty(), "{:?}", stage.files());
}

#[test]
fn one_that_does_not_end_is_named() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = place(&stage);
    let mut server = start(&stage, "clings", &endpoint);
    let text = stop_within(&stage, "8", &[&endpoint]).expect(1).text();
    let what =
        format!("timed out: its process, pid {}, was asked to stop and is still there", server.child.id());
    assert_eq!(text, format!("{endpoint}: not stopped: {what}\n"));
    assert!(is_running(&mut server));
}

/// It may be anybody.
#[test]
fn one_that_does_not_answer_is_left_alone() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = place(&stage);
    let mut server = start(&stage, "silent", &endpoint);
    let text = stop_within(&stage, "1", &[&endpoint]).expect(1).text();
    // On Unix this one ends the connection when nothing more is sent, and mostly in time.
    let is_silent = text.contains("does not answer") || cfg!(unix) && text.contains("without a hello");
    assert!(text.starts_with(&format!("{endpoint}: not stopped: ")) && is_silent, "{text}");
    assert!(is_running(&mut server));
}

/// Killed while it is being asked, for instance.
#[cfg(unix)]
#[test]
fn one_that_goes_just_then_is_nobody() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let path = stage.path("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("bind");
    let going = std::thread::spawn(move || {
        let accepted = listener.accept().expect("whoever asks");
        drop(listener);
        drop(accepted);
    });
    let endpoint = stage.unix("s");
    stop(&stage, &[&endpoint]).expect(0).prints(format!("{endpoint}: nobody listens\n"));
    going.join().expect("it has gone");
}

#[test]
fn what_is_no_sidewire_server_is_left_alone() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoint = place(&stage);
    let mut server = start(&stage, "stranger", &endpoint);
    let text = stop(&stage, &[&endpoint]).expect(1).text();
    assert!(
        text.contains("not Sidewire: its first bytes are '220 hello") && text.contains("left alone"),
        "{text}"
    );
    assert!(is_running(&mut server));
}

#[test]
fn where_nobody_can_tell_it_is_a_usage_error() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let server = stage.serve(&["tcp:127.0.0.1:0"], &["--access", "anyone"]);
    let tcp = server.endpoints[0].to_string();
    for endpoint in [&tcp[..], "udp:127.0.0.1:9"] {
        let text = stop(&stage, &[endpoint]).expect(2).text();
        let expected = format!("{endpoint}: not stopped: nobody tells which process serves there");
        assert!(text.starts_with(&expected), "{text}");
    }
    stage.run(["call", &tcp, "1", "--access", "anyone"]).expect(0);
    stop(&stage, &[]).expect(2).mentions("ENDPOINT");
    stop_within(&stage, "0", &["local:x"]).expect(2).mentions("more than 0 seconds");
    let absent = format!("local:{}", unique("absent"));
    let text = stop(&stage, &[&absent, &tcp]).expect(2).text();
    assert!(text.starts_with(&format!("{absent}: nobody listens\n{tcp}: not stopped: ")), "{text}");
}

/// All are asked before any is waited for, and each has its line.
#[test]
fn several_are_stopped_together() {
    let _watchdog = watchdog(60);
    let stage = Stage::new();
    let endpoints = [0; 3].map(|_| format!("local:{}", unique("many")));
    let mut servers = endpoints.each_ref().map(|endpoint| stage.serve(&[endpoint], &[]));
    let args = endpoints.each_ref().map(|endpoint| &endpoint[..]);
    let lines = servers.iter().zip(&args).map(|(server, endpoint)| {
        let pid = server.child.id();
        format!("{endpoint}: stopped (pid {pid}, asked)\n")
    });
    let lines: String = lines.collect();
    // Twice the same is once.
    stop(&stage, &[&args[..], &args[..1]].concat()).expect(0).prints(lines);
    for server in &mut servers {
        assert!(!is_running(server));
    }
}

/// What the system calls the server under activation has only called listen(2) for it.
#[cfg(target_os = "linux")]
#[test]
fn a_manager_that_has_opened_the_socket_survives() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

    let _watchdog = watchdog(120);
    let stage = Stage::new();
    let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
    let own = env::current_exe().expect("this binary");
    for is_frozen in [false, true] {
        let path = stage.path(&unique("s"));
        let socket = OwnedFd::from(UnixListener::bind(&path).expect("bind"));
        let endpoint = sidewire::Endpoint::Unix(path).to_string();
        let mut command =
            stage.command("sh", ["-c".as_ref(), script.as_ref(), "sh".as_ref(), own.as_os_str()]);
        // We are the manager: a signal to us would end this test.
        let command = as_server(&mut command, "activated", "").stdin(socket.try_clone().expect("a copy"));
        let mut server = Process::start_with_input(command, 1);
        let pid = server.child.id();
        if is_frozen {
            crate::stage::freeze(pid);
            let text = stop_within(&stage, "1", &[&endpoint]).expect(1).text();
            let manager = format!("opened by pid {}, and nobody was signalled", std::process::id());
            assert!(text.contains("does not answer") && text.contains(&manager), "{text}");
            assert!(is_running(&mut server));
        } else {
            stop(&stage, &[&endpoint])
                .expect(0)
                .prints(format!("{endpoint}: stopped (pid {pid}, SIGTERM)\n"));
            assert_eq!(server.wait(PATIENCE).code(), None);
        }
    }
}

/// In a mount namespace, where only this test's servers are.
#[cfg(target_os = "linux")]
#[test]
fn all_are_those_of_this_user_and_nothing_else() {
    let _watchdog = watchdog(120);
    let has = std::process::Command::new("unshare")
        .args(["-m", "true"])
        .status()
        .is_ok_and(|status| status.success());
    if !has {
        return println!("no right to make namespaces: this test does nothing");
    }
    let stage = Stage::new();
    // The folders that all programs of the user look into are empty in there, and closed to others.
    let script = "mount -t tmpfs -o mode=0700 x /run && mount -t tmpfs x /tmp || exit 9; \
                  mkdir -p /tmp/t && chmod 700 /tmp/t && export XDG_RUNTIME_DIR=/tmp/t TMPDIR=/tmp/t; \
                  for name in one two.instance; do \"$0\" serve local:$name >/tmp/t/$name & done; \
                  \"$0\" serve local:stale >/tmp/t/stale & stale=$!; \
                  SIDEWIRE_TEST_STOP_PLACE=local:plain SIDEWIRE_TEST_STOP_KIND=plain \
                      \"$@\" >/tmp/t/plain & \
                  SIDEWIRE_TEST_STOP_PLACE=local:stranger SIDEWIRE_TEST_STOP_KIND=stranger \
                      \"$@\" >/tmp/t/stranger & stranger=$!; \
                  for name in one two.instance stale plain stranger; do \
                      until grep -q ^listening /tmp/t/$name; do sleep 0.05; done; done; \
                  kill -9 $stale; wait $stale; \
                  \"$0\" stop --all --wait 50; echo status $?; \
                  \"$0\" stop --all --wait 50; echo status $?; \
                  kill -0 $stranger && echo the stranger lives; kill $stranger; \
                  \"$0\" stop local:two.instance --wait 50; echo status $?";
    let own = env::current_exe().expect("this binary");
    let mut command = stage.command("unshare", ["-m", "sh", "-c", script, SIDEWIRE]);
    command.arg(own).args(["--exact", "stop::a_server", "--nocapture", "--test-threads=1"]);
    let outcome = crate::stage::Started::new(&mut command, b"").finish();
    let text = outcome.text();
    let lines: Vec<_> = text.lines().map(|line| line.split(" (pid").next().unwrap_or(line)).collect();
    let stranger = lines.iter().find(|line| line.starts_with("local:stranger: left alone: "));
    let stranger = *stranger.unwrap_or_else(|| panic!("{outcome}"));
    let expected = [
        "local:one: stopped",
        "local:plain: stopped",
        stranger,
        "status 0",
        stranger,
        "status 0",
        "the stranger lives",
        "local:two.instance: stopped",
        "status 0",
    ];
    assert_eq!(lines, expected, "{outcome}");
    crate::stage::eventually(PATIENCE, "nothing is left", || stage.files().is_empty());
}
