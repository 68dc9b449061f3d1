//! Child processes with a private channel. The child is this executable, in the role that a variable names.
#![cfg(unix)]

mod unix_util;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use sidewire_platform::{Channel, ChildProcess, ParentChannel, User, current_user};
use unix_util::*;

const ROLE: &str = "SIDEWIRE_TEST_ROLE";
const LONG: Option<Duration> = Some(Duration::from_secs(50));

/// A child of this executable in this role.
fn command(role: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(ROLE, role);
    command
}

fn spawn(role: &str) -> ChildProcess {
    ChildProcess::spawn(&mut command(role)).unwrap()
}

/// A child that has said on its channel that it is there.
fn ready(role: &str) -> (ChildProcess, Channel, Vec<u32>) {
    let child = spawn(role);
    let channel = child.channel(LONG).unwrap();
    let line = line(&channel);
    let pids = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
    (child, channel, pids)
}

/// One line of a child's.
fn line(channel: &Channel) -> String {
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        assert_ne!(channel.recv_append(&mut text, 1, LONG).unwrap(), 0, "the end after {text:?}");
    }
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// Whether a process runs; a zombie doesn't.
fn runs(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.contains(") Z ") && !stat.contains(") X "),
        Err(_) => false,
    }
}

fn gone(pids: &[u32]) {
    until("the end of all", || (!pids.iter().any(|&pid| runs(pid))).then_some(()));
}

fn status(child: &ChildProcess) -> process::ExitStatus {
    child.wait(LONG).unwrap().expect("it lives on")
}

/// Does nothing unless it was started as a child.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    match role.as_str() {
        "echo" => {
            let channel = parent().into_channel().unwrap();
            let mut buf = [0; 64];
            loop {
                match channel.recv(&mut buf, None).unwrap() {
                    0 => process::exit(7),
                    count => assert_eq!(channel.send(&buf[..count], None).unwrap(), count),
                }
            }
        }
        "facts" => facts(),
        "idle" => {
            let channel = parent().into_channel().unwrap();
            say(&channel, &[process::id()]);
            thread::sleep(Duration::from_secs(600));
        }
        // Busy, with a child of its own.
        "busy" | "leaves" => {
            let mut parent = parent();
            let quits = role == "leaves";
            parent
                .watch(Box::new(move || {
                    if quits {
                        process::exit(0)
                    }
                }))
                .unwrap();
            let channel = parent.into_channel().unwrap();
            say(&channel, &[process::id(), idler().spawn().unwrap().id()]);
            thread::sleep(Duration::from_secs(600));
        }
        // Ends and leaves a child.
        "litters" => {
            let channel = parent().into_channel().unwrap();
            say(&channel, &[process::id(), idler().spawn().unwrap().id()]);
        }
        "stubborn" => {
            let channel = parent().into_channel().unwrap();
            // SAFETY: takes numbers.
            unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
            say(&channel, &[process::id()]);
            thread::sleep(Duration::from_secs(600));
        }
        "prints" => {
            println!("to standard output");
            eprintln!("to standard error");
            assert_eq!(io::stdin().read(&mut [0]).unwrap(), 0);
        }
        "parent of busy" | "parent of leaves" => {
            let channel = parent().into_channel().unwrap();
            let (_child, _channel, pids) = ready(role.rsplit(' ').next().unwrap());
            say(&channel, &pids);
            thread::sleep(Duration::from_secs(600));
        }
        "hundred" => hundred(),
        _ => unreachable!("{role}"),
    }
    // Not the harness' end, which prints.
    process::exit(0);
}

fn parent() -> ParentChannel {
    ParentChannel::take().unwrap().expect("a channel")
}

fn say(channel: &Channel, pids: &[u32]) {
    let words: Vec<_> = pids.iter().map(u32::to_string).collect();
    let text = words.join(" ") + "\n";
    assert_eq!(channel.send(text.as_bytes(), None).unwrap(), text.len());
}

/// What knows nothing of any of this.
fn idler() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_child_and_its_parent_talk() {
    watched(|| {
        let child = spawn("echo");
        assert_eq!(child.wait(Some(Duration::ZERO)).unwrap(), None);
        let channel = child.channel(LONG).unwrap();
        assert_eq!(child.channel(LONG).unwrap_err().kind(), io::ErrorKind::NotFound);
        let credentials = channel.peer().credentials().unwrap();
        assert_eq!((credentials.pid(), credentials.user()), (Some(child.id()), &current_user().unwrap()));
        for text in [&b"hello"[..], b"again"] {
            channel.send(text, LONG).unwrap();
            let mut back = Vec::new();
            while back.len() < text.len() {
                assert_ne!(channel.recv_append(&mut back, 64, LONG).unwrap(), 0);
            }
            assert_eq!(back, text);
        }
        // Its end is the end of what the child waits for, and the other way round.
        channel.shutdown_write().unwrap();
        assert_eq!(channel.recv(&mut [0; 8], LONG).unwrap(), 0);
        assert_eq!(status(&child).code(), Some(7));
        assert_eq!(status(&child).code(), Some(7), "asked again");
        child.kill().unwrap();
        child.terminate().unwrap();
    });
}

/// The other side of what the child says of itself.
#[test]
fn what_a_child_knows() {
    watched(|| {
        let mut child = spawn("facts");
        let mut text = String::new();
        child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
        assert!(status(&child).success(), "{text}");
    });
}

fn facts() {
    let parent = parent();
    assert_eq!(ParentChannel::take().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    // SAFETY: takes nothing.
    let (mine, group) = unsafe { (libc::getppid().cast_unsigned(), libc::getpgrp()) };
    assert_eq!(parent.parent(), mine);
    assert_eq!(group.cast_unsigned(), process::id());
    let stream = parent.into_stream().unwrap();
    let peer = stream.peer().unwrap();
    assert_eq!(peer.credentials().unwrap().pid(), Some(mine));
    assert!(matches!(peer.credentials().unwrap().user(), User::Uid(_)));
    // The variable stays, but a grandchild is not taken in by it, even if the number is in use.
    let number: i32 = env::var("SIDEWIRE_CHANNEL").unwrap().split(':').nth(1).unwrap().parse().unwrap();
    let script = format!("exec {number}</dev/null; exec \"$0\" --exact variable_of_another --nocapture");
    let grandchild = Command::new("sh")
        .args(["-c", &script])
        .arg(env::current_exe().unwrap())
        .env(ROLE, "grandchild")
        .output()
        .unwrap();
    assert!(grandchild.status.success(), "{grandchild:?}");
}

/// Does nothing unless `facts` has started it.
#[test]
fn variable_of_another() {
    if env::var(ROLE).is_ok_and(|role| role == "grandchild") {
        assert!(ParentChannel::take().unwrap().is_none());
        assert!(ParentChannel::take().unwrap().is_none());
    }
}

#[test]
fn what_it_prints_can_be_read() {
    watched(|| {
        let mut child = spawn("prints");
        let (out, error) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
        assert!(child.take_stdout().is_none() && child.take_stderr().is_none());
        assert!(lines(out).iter().any(|line| line.contains("to standard output")));
        assert_eq!(lines(error), ["to standard error"]);
        assert!(status(&child).success());
    });
}

fn lines(file: File) -> Vec<String> {
    BufReader::new(file).lines().map(Result::unwrap).collect()
}

#[test]
fn a_program_that_is_not_there() {
    let error = ChildProcess::spawn(&mut Command::new("/no/such/program")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// A command that is used again hands over new descriptors, not what has the old numbers now.
#[test]
#[cfg(target_os = "linux")]
fn a_command_can_be_used_again() {
    watched(|| {
        let usual = usual();
        let mut command = command("idle");
        let mut children = Vec::new();
        for _ in 0..3 {
            let child = ChildProcess::spawn(&mut command).unwrap();
            let channel = child.channel(LONG).unwrap();
            line(&channel);
            let own = beyond(&usual, &descriptors(child.id()));
            // Standard output, standard error and the channel; it has let go of the pipe.
            let kinds: Vec<_> = own.iter().map(|(_, target)| target.split(':').next().unwrap()).collect();
            assert_eq!(kinds, ["pipe", "pipe", "socket"], "{own:?}");
            children.push((child, channel));
        }
    });
}

/// What the descriptors of a process are, by number.
fn descriptors(pid: u32) -> Vec<(u32, String)> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let numbers = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap());
    let target = |number: u32| fs::read_link(Path::new(&folder).join(number.to_string())).ok();
    let mut all: Vec<_> =
        numbers.filter_map(|number| Some((number, target(number)?.display().to_string()))).collect();
    all.sort();
    all
}

/// What any child of this process has: who started the tests may have left us something, too.
fn usual() -> Vec<(u32, String)> {
    let mut child = idler().spawn().unwrap();
    let usual = descriptors(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    usual
}

fn beyond(usual: &[(u32, String)], all: &[(u32, String)]) -> Vec<(u32, String)> {
    all.iter().filter(|one| !usual.contains(one)).cloned().collect()
}

/// While children are started, other code starts others: these get nothing of it.
#[test]
#[cfg(target_os = "linux")]
fn others_inherit_nothing() {
    watched(|| {
        let usual = usual();
        let mut others = Vec::new();
        thread::scope(|scope| {
            let starter = scope.spawn(|| {
                let children: Vec<_> = (0..20).map(|_| ready("idle")).collect();
                drop(children);
            });
            while !starter.is_finished() || others.len() < 5 {
                others.push(idler().spawn().unwrap());
                thread::sleep(Duration::from_millis(5));
            }
        });
        let found: Vec<_> = others.iter().map(|other| descriptors(other.id())).collect();
        for mut other in others {
            other.kill().unwrap();
            other.wait().unwrap();
        }
        assert!(found.iter().all(|found| beyond(&usual, found).is_empty()), "{found:?}, usually {usual:?}");
    });
}

#[test]
fn one_that_is_stopped_or_deaf_ends() {
    watched(|| {
        let (child, _channel, pids) = ready("idle");
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::kill(pids[0].cast_signed(), libc::SIGSTOP) }, 0);
        until("a stopped child", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pids[0])).ok();
            stat.is_none_or(|stat| stat.contains(") T ")).then_some(())
        });
        assert_eq!(child.wait(Some(Duration::from_millis(20))).unwrap(), None, "a stop is no end");
        child.terminate().unwrap();
        assert_eq!(status(&child).signal(), Some(libc::SIGTERM));

        let (child, _channel, _) = ready("stubborn");
        child.terminate().unwrap();
        assert_eq!(child.wait(Some(Duration::from_millis(100))).unwrap(), None);
        thread::scope(|scope| {
            let waiting = spawn_to_wait(scope, || status(&child));
            child.kill().unwrap();
            assert_eq!(waiting.join().unwrap().signal(), Some(libc::SIGKILL));
        });
    });
}

#[test]
fn nothing_is_left_of_a_child_that_has_ended_or_was_dropped() {
    watched(|| {
        let (child, channel, pids) = ready("litters");
        assert_eq!(channel.recv(&mut [0; 1], LONG).unwrap(), 0);
        assert!(status(&child).success());
        gone(&pids);

        let (child, _channel, pids) = ready("busy");
        drop(child);
        // Waited for already: not even a zombie is left of the child.
        assert!(!Path::new(&format!("/proc/{}", pids[0])).exists());
        gone(&pids);
    });
}

/// The parent is killed while its child is busy and has a child itself; or while that ends in order.
/// PROTOCOL I8
#[test]
#[cfg(target_os = "linux")]
fn nothing_outlives_the_parent() {
    watched(|| {
        for role in ["parent of busy", "parent of leaves"] {
            let (child, _channel, pids) = ready(role);
            assert_eq!(pids.len(), 2);
            assert!(pids.iter().all(|&pid| runs(pid)), "{role}");
            let began = Instant::now();
            // Only the parent, not its group.
            // SAFETY: takes numbers.
            assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) }, 0);
            gone(&pids);
            println!("{role}: all gone after {:?}", began.elapsed());
        }
    });
}

/// In a process of its own, where nobody else opens anything.
#[test]
#[cfg(target_os = "linux")]
fn a_hundred_leave_nothing() {
    watched(|| {
        let mut child = spawn("hundred");
        let mut text = String::new();
        child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
        assert!(status(&child).success(), "{text}");
    });
}

fn hundred() {
    let place = Place::new();
    let tidy = || (descriptors(process::id()).len(), place.files(), children());
    let before = tidy();
    for round in 0..100 {
        let child = spawn(if round % 2 == 0 { "prints" } else { "echo" });
        match round % 4 {
            0 => assert!(status(&child).success()),
            1 => drop(child.channel(LONG).unwrap()),
            2 => child.kill().unwrap(),
            _ => {}
        }
    }
    assert_eq!(tidy(), before);
}

/// The children of this process, zombies included.
fn children() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let lists =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}
