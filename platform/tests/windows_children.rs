//! Child processes with a private channel. The child is this executable, in the role that a variable names.
#![cfg(windows)]

mod windows_support;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::mem::ManuallyDrop;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, ptr, thread};

use sidewire_platform::{Channel, ChildProcess, Endpoint, ParentChannel, StopSignals, current_user};
use windows_support::*;
use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation, WAIT_TIMEOUT};
use windows_sys::Win32::System::Console::GetConsoleWindow;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetProcessHandleCount, OpenProcess, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE,
    TerminateProcess, WaitForSingleObject,
};

const ROLE: &str = "SIDEWIRE_TEST_ROLE";
const DETAIL: &str = "SIDEWIRE_TEST_DETAIL";
/// STATUS_CONTROL_C_EXIT.
const INTERRUPTED: Option<i32> = Some(0xC000_013A_u32.cast_signed());

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
    let channel = child.channel(Some(LONG)).unwrap();
    let pids = line(&channel).split(' ').map(|pid| pid.parse().unwrap()).collect();
    (child, channel, pids)
}

/// One line of a child's.
fn line(channel: &Channel) -> String {
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        assert_ne!(channel.recv_append(&mut text, 1, Some(LONG)).unwrap(), 0, "the end after {text:?}");
    }
    String::from_utf8(text).unwrap().trim_end().to_owned()
}

/// A process, for as long as it is looked at: its number is nobody else's then.
struct Process(OwnedHandle);

impl Process {
    fn open(pid: u32) -> Process {
        // SAFETY: takes numbers.
        let handle = unsafe { OpenProcess(PROCESS_SYNCHRONIZE | PROCESS_TERMINATE, 0, pid) };
        assert!(!handle.is_null(), "process {pid}: {}", io::Error::last_os_error());
        // SAFETY: the call succeeded, so the handle is open and nobody else owns it.
        Process(unsafe { OwnedHandle::from_raw_handle(handle) })
    }

    fn runs(&self) -> bool {
        // SAFETY: the handle is open as long as `self`.
        unsafe { WaitForSingleObject(self.0.as_raw_handle(), 0) == WAIT_TIMEOUT }
    }

    fn kill(&self) {
        // SAFETY: the handle is open as long as `self`.
        assert_ne!(unsafe { TerminateProcess(self.0.as_raw_handle(), 3) }, 0);
    }
}

fn open(pids: &[u32]) -> Vec<Process> {
    pids.iter().map(|&pid| Process::open(pid)).collect()
}

fn gone(processes: &[Process]) {
    until("the end of all", || (!processes.iter().any(Process::runs)).then_some(()));
}

fn status(child: &ChildProcess) -> ExitStatus {
    child.wait(Some(LONG)).unwrap().expect("it lives on")
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
            sleep();
        }
        // Busy, with a child of its own. It hears of its parent.
        "busy" => {
            let mut parent = parent();
            parent.watch(Box::new(|| {})).unwrap();
            assert_eq!(parent.watch(Box::new(|| {})).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            let channel = parent.into_channel().unwrap();
            say(&channel, &[process::id(), idler()]);
            sleep();
        }
        "stops in order" => {
            let mut parent = parent();
            parent.watch(Box::new(|| {})).unwrap();
            let _signals = StopSignals::watch(|| process::exit(9)).unwrap();
            say(&parent.into_channel().unwrap(), &[process::id()]);
            sleep();
        }
        // Ends and leaves a child.
        "litters" => say(&parent().into_channel().unwrap(), &[process::id(), idler()]),
        // Ends at once behind what it has said.
        "says and ends" => say(&parent().into_channel().unwrap(), &[process::id()]),
        "prints" => {
            println!("to standard output");
            eprintln!("to standard error");
            assert_eq!(io::stdin().read(&mut [0]).unwrap(), 0);
        }
        "plain" => sleep(),
        "shows itself" => show(),
        "handle" => handle(),
        "late" => {
            println!("{}", env::var("SIDEWIRE_CHANNEL").unwrap());
            let file = PathBuf::from(env::var(DETAIL).unwrap());
            until("the other to be thrown out", || file.exists().then_some(()));
            say(&parent().into_channel().unwrap(), &[process::id()]);
            sleep();
        }
        "parent of busy" => {
            let channel = parent().into_channel().unwrap();
            let (_child, _channel, pids) = ready("busy");
            say(&channel, &pids);
            sleep();
        }
        "parent outside of all jobs" => {
            let (child, _channel, pids) = ready("busy");
            println!("pids: {} {} {}", process::id(), pids[0], pids[1]);
            std::mem::forget(child);
            sleep();
        }
        "many" => many(),
        _ => unreachable!("{role}"),
    }
    // Not the harness' end, which prints.
    process::exit(0);
}

fn sleep() {
    thread::sleep(Duration::from_secs(600));
}

fn parent() -> ParentChannel {
    ParentChannel::take().unwrap().expect("a channel")
}

fn say(channel: &Channel, pids: &[u32]) {
    let words: Vec<_> = pids.iter().map(u32::to_string).collect();
    let text = words.join(" ") + "\n";
    assert_eq!(channel.send(text.as_bytes(), None).unwrap(), text.len());
}

/// A child that knows nothing of any of this.
fn idler() -> u32 {
    command("plain").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().id()
}

#[test]
fn a_child_and_its_parent_talk() {
    let _watchdog = Watchdog::new();
    let child = spawn("echo");
    assert_eq!(child.wait(Some(Duration::ZERO)).unwrap(), None);
    let channel = child.channel(Some(LONG)).unwrap();
    assert_eq!(child.channel(Some(LONG)).unwrap_err().kind(), io::ErrorKind::NotFound);
    let credentials = channel.peer().credentials().unwrap();
    assert_eq!((credentials.pid(), credentials.user()), (Some(child.id()), &current_user().unwrap()));
    ask(&channel, b"hello");
    ask(&channel, b"again");
    drop(channel);
    assert_eq!(status(&child).code(), Some(7));
    assert_eq!(status(&child).code(), Some(7), "asked again");
    child.kill().unwrap();
    child.terminate().unwrap();
}

#[test]
fn what_a_child_knows() {
    let _watchdog = Watchdog::new();
    let mut child = ChildProcess::spawn(command("facts").env(DETAIL, process::id().to_string())).unwrap();
    let channel = child.channel(Some(LONG)).unwrap();
    let mut text = String::new();
    child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    assert!(status(&child).success(), "{text}");
    drop(channel);
}

fn facts() {
    let parent = parent();
    assert_eq!(ParentChannel::take().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(env::var("SIDEWIRE_CHANNEL"), Err(env::VarError::NotPresent));
    let started_by: u32 = env::var(DETAIL).unwrap().parse().unwrap();
    assert_eq!(parent.parent(), started_by);
    let stream = parent.into_stream().unwrap();
    let peer = stream.peer().unwrap();
    let credentials = peer.credentials().unwrap();
    assert_eq!((credentials.pid(), credentials.user()), (Some(started_by), &current_user().unwrap()));
    // SAFETY: takes nothing.
    assert!(unsafe { GetConsoleWindow() }.is_null(), "a window");
}

#[test]
fn what_it_prints_can_be_read() {
    let _watchdog = Watchdog::new();
    let mut child = spawn("prints");
    let (out, error) = (child.take_stdout().unwrap(), child.take_stderr().unwrap());
    assert!(child.take_stdout().is_none() && child.take_stderr().is_none());
    assert!(lines(out).iter().any(|line| line.contains("to standard output")));
    assert_eq!(lines(error), ["to standard error"]);
    assert!(status(&child).success());
}

fn lines(file: File) -> Vec<String> {
    BufReader::new(file).lines().map(Result::unwrap).collect()
}

/// Arguments, environment and folder arrive as they were said.
#[test]
fn what_it_is_started_with() {
    let _watchdog = Watchdog::new();
    let odd = [r"a b\", r#"c"d"#, "", r"\\x\ y\\", "ü😀"];
    let folder = env::temp_dir();
    let mut command = command("shows itself");
    command.args(odd).current_dir(&folder).env("Sidewire_Odd", "=x y=").env_remove("TEMP");
    let mut child = ChildProcess::spawn(&mut command).unwrap();
    let shown = lines(child.take_stdout().unwrap());
    let expected = [
        format!("{:?}", [&["--exact", "child", "--nocapture"], odd.as_slice()].concat()),
        "Ok(\"=x y=\") Err(NotPresent) true".to_owned(),
        format!("{:?}", folder.canonicalize().unwrap()),
    ];
    for line in expected {
        assert!(shown.contains(&line), "{line} in {shown:?}");
    }
    let error = ChildProcess::spawn(&mut Command::new(r"C:\no\such\program.exe")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let error = ChildProcess::spawn(&mut Command::new("x.cmd")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

fn show() {
    println!();
    println!("{:?}", env::args().skip(1).collect::<Vec<_>>());
    println!("{:?} {:?} {}", env::var("SIDEWIRE_ODD"), env::var("TEMP"), env::var("PATH").is_ok());
    println!("{:?}", env::current_dir().unwrap().canonicalize().unwrap());
}

/// Not even what is inheritable.
#[test]
fn a_child_gets_no_other_handle() {
    let _watchdog = Watchdog::new();
    let path = env::temp_dir().join(format!("sidewire-test-{:016x}", random()));
    fs::write(&path, "secret").unwrap();
    let file = File::open(&path).unwrap();
    // SAFETY: the handle is open.
    let ok = unsafe { SetHandleInformation(file.as_raw_handle(), HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT) };
    assert_ne!(ok, 0);
    let mut with_handle = command("handle");
    with_handle.env(DETAIL, file.as_raw_handle().addr().to_string());
    // One that inherits everything, to see that the test sees anything.
    assert_eq!(with_handle.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code(), Some(5));
    let child = ChildProcess::spawn(&mut with_handle).unwrap();
    assert_eq!(status(&child).code(), Some(0));
    drop(file);
    fs::remove_file(&path).unwrap();
}

/// Whether the file with this number can be read here.
fn handle() {
    let value = env::var(DETAIL).unwrap().parse().unwrap();
    // SAFETY: nobody closes it here, be it ours or not; a number that is no handle is an error.
    let file = ManuallyDrop::new(unsafe { File::from_raw_handle(ptr::without_provenance_mut(value)) });
    let mut text = [0; 6];
    let found = (&*file).read(&mut text).is_ok() && text == *b"secret";
    process::exit(if found { 5 } else { 0 });
}

#[test]
fn strangers_are_thrown_out_and_the_child_is_waited_for() {
    let _watchdog = Watchdog::new();
    let path = env::temp_dir().join(format!("sidewire-test-{:016x}", random()));
    let mut child = ChildProcess::spawn(command("late").env(DETAIL, &path)).unwrap();
    let mut out = BufReader::new(child.take_stdout().unwrap()).lines().map(Result::unwrap);
    let name = out.find_map(|line| line.find("pipe:").map(|at| line[at + 5..].trim().to_owned())).unwrap();
    let error = child.channel(Some(Duration::from_millis(50))).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    thread::scope(|scope| {
        let accepted = scope.spawn(|| child.channel(Some(LONG)).unwrap());
        let endpoint = Endpoint::Pipe(format!("sidewire-child-{name}"));
        let stranger = Channel::connect(&endpoint, Some(LONG)).unwrap();
        assert_eq!(stranger.recv(&mut [0; 8], Some(LONG)).unwrap(), 0, "thrown out");
        drop(stranger);
        File::create(&path).unwrap();
        let channel = accepted.join().unwrap();
        assert_eq!(line(&channel), child.id().to_string());
        assert_eq!(channel.peer().credentials().unwrap().pid(), Some(child.id()));
    });
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_child_that_ends_first() {
    let _watchdog = Watchdog::new();
    let child = spawn("prints");
    let error = child.channel(Some(LONG)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{error}");
    // What one has said that is over already can be read.
    let child = spawn("says and ends");
    status(&child);
    let channel = child.channel(Some(LONG)).unwrap();
    assert_eq!(line(&channel), child.id().to_string());
    assert_eq!(channel.recv(&mut [0; 8], Some(LONG)).unwrap(), 0);
}

#[test]
fn one_that_is_asked_to_end() {
    let _watchdog = Watchdog::new();
    // In order, by its signals.
    let (child, _channel, _) = ready("stops in order");
    child.terminate().unwrap();
    assert_eq!(status(&child).code(), Some(9));
    // At once, since nobody else there listens; with what it has started.
    let (child, _channel, pids) = ready("busy");
    let processes = open(&pids);
    child.terminate().unwrap();
    assert_eq!(status(&child).code(), INTERRUPTED);
    gone(&processes);
    // Not at all, until it is killed.
    let (child, _channel, _) = ready("idle");
    child.terminate().unwrap();
    assert_eq!(child.wait(Some(Duration::from_millis(100))).unwrap(), None);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| status(&child));
        child.kill().unwrap();
        assert_eq!(waiting.join().unwrap().code(), Some(1));
    });
}

#[test]
fn nothing_is_left_of_a_child_that_has_ended_or_was_dropped() {
    let _watchdog = Watchdog::new();
    let (child, _channel, pids) = ready("litters");
    let grandchild = open(&pids[1..]);
    assert!(status(&child).success());
    gone(&grandchild);
    let (child, _channel, pids) = ready("busy");
    let processes = open(&pids);
    drop(child);
    gone(&processes);
}

/// The parent is killed while its child is busy and has a child itself. Once it is in a job, once in none.
#[test]
fn nothing_outlives_the_parent() {
    let _watchdog = Watchdog::new();
    let (child, _channel, pids) = ready("parent of busy");
    let processes = open(&pids);
    assert!(processes.iter().all(Process::runs));
    Process::open(child.id()).kill();
    gone(&processes);

    let mut parent = command("parent outside of all jobs").stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(parent.stdout.take().unwrap());
    let pids =
        out.lines().find_map(|line| line.unwrap().split_once("pids: ").map(|(_, pids)| pids.to_owned()));
    let pids: Vec<u32> = pids.unwrap().split(' ').map(|pid| pid.trim().parse().unwrap()).collect();
    let processes = open(&pids);
    assert!(processes.iter().all(Process::runs));
    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(&processes);
}

/// In a process of its own, where nobody else opens anything.
#[test]
fn many_leave_nothing() {
    let _watchdog = Watchdog::new();
    let mut child = spawn("many");
    let mut text = String::new();
    child.take_stderr().unwrap().read_to_string(&mut text).unwrap();
    assert!(status(&child).success(), "{text}");
}

/// How often `many_leave_nothing` starts a child.
const MANY: usize = 100;

fn many() {
    let round = |round: usize| {
        let child = spawn(if round.is_multiple_of(2) { "prints" } else { "echo" });
        match round % 4 {
            0 => assert!(status(&child).success()),
            1 => drop(child.channel(Some(LONG)).unwrap()),
            2 => child.kill().unwrap(),
            _ => {}
        }
    };
    // What is made once and kept.
    (0..4).for_each(round);
    let before = handles();
    (0..MANY).for_each(round);
    // The system may take its time to close what was in use.
    until("the handles of before", || (handles() <= before).then_some(()));
}

fn handles() -> u32 {
    let mut count = 0;
    // SAFETY: GetCurrentProcess is a constant; `count` lives on this stack until the call returns.
    assert_ne!(unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) }, 0);
    count
}
