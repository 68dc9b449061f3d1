//! How a process is asked to end: each scene in a process of its own, this test binary once more.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use sidewire_platform::StopSignals;

/// Tells a test's second run from its first.
const MARK: &str = "SIDEWIRE_SIGNALS_SCENE";
/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until then a signal is the same request as the one before.
const THE_SAME: Duration = Duration::from_millis(200);
/// And from here on it is another.
const ANOTHER: Duration = Duration::from_millis(400);

/// A scene under way, and its lines.
struct Scene {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// Those that were waited for, and all before.
    seen: Vec<String>,
}

impl Scene {
    /// Runs `play` in a process of its own, where this returns `None` and is over; `shell` is run by
    /// the shell that starts it.
    fn start(test: &str, shell: &str, play: impl FnOnce()) -> Option<Scene> {
        if std::env::var_os(MARK).is_some() {
            play();
            return None;
        }
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("{shell}\nexec \"$0\" \"$@\"")).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(MARK, "1");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut scene = Scene { child, lines, seen: Vec::new() };
        scene.wait_for("ready");
        Some(scene)
    }

    fn wait_for(&mut self, word: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line says '{word}'"));
            let is_it = line.contains(word);
            self.seen.push(line);
            if is_it {
                return;
            }
        }
    }

    fn expect_silence(&self) {
        assert_eq!(self.lines.recv_timeout(ANOTHER), Err(mpsc::RecvTimeoutError::Timeout));
    }

    fn kill(&self, signal: &str) {
        kill(signal, &self.child.id().to_string());
    }

    /// The signal that ended it.
    fn wait(mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.signal();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Twice, one right behind the other. Says whether a busy machine has left them together.
fn kill_twice(signal: &str, process: &str) -> bool {
    let since = Instant::now();
    let script = "kill -$0 $1; kill -$0 $1";
    assert!(Command::new("/bin/sh").args(["-c", script, signal, process]).status().unwrap().success());
    since.elapsed() < THE_SAME
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([format!("-{signal}"), process.into()]).status().unwrap().success());
}

/// A line of its own, since the test harness has begun one.
fn say(word: &str) {
    std::io::stdout().write_all(format!("\n{word}\n").as_bytes()).unwrap();
}

/// Until it is ended from outside.
fn stay() -> ! {
    say("ready");
    thread::sleep(PATIENCE * 2);
    std::process::exit(3);
}

fn watch() -> StopSignals {
    StopSignals::watch(|| say("told")).unwrap()
}

fn told_by_the_first_and_ended_by_the_second(test: &str, first: &str, second: &str, number: i32) {
    for _ in 0..20 {
        let play = || {
            let _signals = watch();
            stay();
        };
        let Some(mut scene) = Scene::start(test, "", play) else { return };
        // The same request, as timeout(1) and closing terminals send it.
        if kill_twice(first, &scene.child.id().to_string()) {
            scene.wait_for("told");
            scene.expect_silence();
            scene.kill(second);
            return assert_eq!(scene.wait(), Some(number));
        }
    }
    panic!("this machine is too busy to send two signals at once");
}

#[test]
fn sigint_is_told_and_a_second_ends() {
    told_by_the_first_and_ended_by_the_second("sigint_is_told_and_a_second_ends", "INT", "INT", libc::SIGINT);
}

#[test]
fn sigterm_is_told_and_a_sigint_ends() {
    told_by_the_first_and_ended_by_the_second(
        "sigterm_is_told_and_a_sigint_ends",
        "TERM",
        "INT",
        libc::SIGINT,
    );
}

#[test]
fn sighup_is_told_and_a_sigterm_ends() {
    told_by_the_first_and_ended_by_the_second(
        "sighup_is_told_and_a_sigterm_ends",
        "HUP",
        "TERM",
        libc::SIGTERM,
    );
}

#[test]
fn what_is_ignored_stays_ignored() {
    let play = || {
        let _signals = watch();
        stay();
    };
    let Some(mut scene) = Scene::start("what_is_ignored_stays_ignored", "trap '' HUP INT", play) else {
        return;
    };
    scene.kill("HUP");
    scene.kill("INT");
    scene.expect_silence();
    scene.kill("TERM");
    scene.wait_for("told");
    scene.kill("HUP");
    scene.expect_silence();
}

#[test]
fn dropping_leaves_signals_to_the_system() {
    let play = || {
        let (first, second) = (watch(), watch());
        drop(first);
        drop(second);
        stay();
    };
    let Some(scene) = Scene::start("dropping_leaves_signals_to_the_system", "", play) else { return };
    scene.kill("TERM");
    assert_eq!(scene.wait(), Some(libc::SIGTERM));
}

/// Everybody is told, whatever others do; and one that comes later takes over again.
#[test]
fn several_are_told() {
    let play = || {
        drop(watch());
        let _first = StopSignals::watch(|| panic!("as it happens")).unwrap();
        let _second = watch();
        stay();
    };
    let Some(mut scene) = Scene::start("several_are_told", "", play) else { return };
    scene.kill("TERM");
    scene.wait_for("told");
}

#[test]
fn somebody_elses_handler_is_left_alone() {
    extern "C" fn other(_signal: libc::c_int) {
        let text = b"\nother\n";
        // SAFETY: the text outlives the call.
        unsafe { libc::write(1, text.as_ptr().cast(), text.len()) };
    }
    let play = || {
        // SAFETY: the handler makes one call, which signal handlers may make.
        unsafe { libc::signal(libc::SIGTERM, other as *const () as libc::sighandler_t) };
        let error = StopSignals::watch(|| say("told")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        stay();
    };
    let Some(mut scene) = Scene::start("somebody_elses_handler_is_left_alone", "", play) else { return };
    scene.kill("TERM");
    scene.wait_for("other");
    scene.kill("INT");
    assert_eq!(scene.wait(), Some(libc::SIGINT));
}

/// A forked process ends at a signal, and its parent does not hear of it.
#[test]
fn a_forked_process_is_not_its_parent() {
    let play = || {
        let _signals = watch();
        // SAFETY: the new process makes no other call than this one.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            loop {
                // SAFETY: takes nothing, touches nothing.
                unsafe { libc::pause() };
            }
        }
        thread::spawn(move || {
            let mut status = 0;
            // SAFETY: the status outlives the call.
            unsafe { libc::waitpid(forked, &raw mut status, 0) };
            say(&format!("ended by {}", libc::WTERMSIG(status)));
        });
        say(&format!("forked {forked}"));
        stay();
    };
    let Some(mut scene) = Scene::start("a_forked_process_is_not_its_parent", "", play) else { return };
    let forked = scene.seen.iter().find_map(|line| line.strip_prefix("forked ")).unwrap().to_owned();
    kill("TERM", &forked);
    scene.wait_for("ended by 15");
    scene.expect_silence();
}
