//! A server and a client of a peer, each a process of its own.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{IDLE, Measure, Outcome, Task};
use crate::peers::{Client, Peer, Server};

/// Where processes may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Client and server on one processor: repeatable.
    OneCore,
    /// Wherever the system puts them.
    Free,
}

/// What a measurement takes at most, or it has hung.
const HANGS: Duration = Duration::from_secs(60);

/// Where programs and sockets are.
#[derive(Debug)]
pub(crate) struct Bench {
    own: PathBuf,
    /// Of the programs in C.
    programs: PathBuf,
    /// Of the sockets; removed at the end.
    sockets: PathBuf,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

impl Bench {
    pub(crate) fn new() -> Outcome<Bench> {
        let own = std::env::current_exe()?;
        let programs = own.with_file_name("peers-c");
        // Short: the name of a socket has 107 bytes at most.
        let sockets = std::env::temp_dir().join(format!("peers-{}", std::process::id()));
        std::fs::create_dir_all(&programs)?;
        std::fs::create_dir(&sockets)?;
        Ok(Bench { own, programs, sockets })
    }

    /// Builds what this peer needs, and gives its version; an error says what is not installed.
    pub(crate) fn prepare(&self, peer: &Peer) -> Outcome<String> {
        match peer.server {
            Server::Own(name) => Ok(locked(name).ok_or("not in Cargo.lock")?.to_owned()),
            Server::Floor(_) => {
                let folder = sources().join("../floor");
                self.compile("floor", &[folder.join("server.c"), folder.join("floor.c")], &["-pthread"])?;
                Ok(String::new())
            }
            Server::C(file, library) => {
                self.compile(file, &[sources().join("c").join(file)], &[library])?;
                Ok(output(Command::new(self.programs.join(file)).arg("version"))?.trim().to_owned())
            }
            Server::Redis => {
                let text = output(Command::new("redis-server").arg("--version"))?;
                let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
                Ok(version.unwrap_or_default().to_owned())
            }
        }
    }

    fn compile(&self, program: &str, files: &[PathBuf], libraries: &[&str]) -> Outcome<()> {
        let program = self.programs.join(program);
        output(Command::new("cc").arg("-O2").arg("-o").arg(program).args(files).args(libraries)).map(drop)
    }

    /// One figure of one peer; of sequential requests p50 and p99.
    pub(crate) fn measure(&self, peer: &Peer, task: Task, placement: Placement) -> Outcome<Vec<f64>> {
        let path = self.sockets.join(format!("{}.sock", peer.name));
        let _ = std::fs::remove_file(&path); // of the server before
        let (server, place) = self.serve(peer, &path, placement)?;
        let mut client = self.client(peer, &place, task, placement)?;
        if task.measure != Measure::Idle {
            return figures(&client.line()?);
        }
        client.expect("one")?;
        let before = server.memory()?;
        client.go_on()?;
        client.expect("all")?;
        let after = server.memory()?;
        client.go_on()?;
        Ok(vec![after.saturating_sub(before) as f64 / IDLE as f64])
    }

    /// A server that is ready, and where it is.
    fn serve(&self, peer: &Peer, path: &Path, placement: Placement) -> Outcome<(Running, String)> {
        let mut command = match peer.server {
            Server::Own(name) => with(placed(&self.own, placement), &["server", name]),
            Server::Floor(mode) => with(placed(&self.programs.join("floor"), placement), &[mode]),
            Server::C(file, _) => with(placed(&self.programs.join(file), placement), &["server"]),
            Server::Redis => {
                let options = [
                    "--port",
                    "0",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--maxclients",
                    "4096",
                    "--unixsocket",
                ];
                with(placed(Path::new("redis-server"), placement), &options)
            }
        };
        match peer.server {
            Server::Floor(_) => command.arg(format!("unix:{}", path.display())),
            _ => command.arg(path),
        };
        let mut server = Running::start(&mut command)?;
        if peer.server == Server::Redis {
            let began = Instant::now();
            while UnixStream::connect(path).is_err() {
                if began.elapsed() > HANGS {
                    return Err("does not listen".into());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            return Ok((server, path.display().to_string()));
        }
        let line = server.line()?;
        let place = line.strip_prefix("ready").unwrap_or_default().trim();
        let place = if place.is_empty() { path.display().to_string() } else { place.to_owned() };
        Ok((server, place))
    }

    fn client(&self, peer: &Peer, place: &str, task: Task, placement: Placement) -> Outcome<Running> {
        let seconds = task.time.as_secs_f64().to_string();
        let (measure, seconds) = (task.measure.name(), seconds.as_str());
        let mut command = match (peer.client, peer.server) {
            (Client::Own, Server::C(file, _)) => {
                with(placed(&self.programs.join(file), placement), &["client", place, measure, seconds])
            }
            _ => with(placed(&self.own, placement), &["client", peer.name, place, measure, seconds]),
        };
        Running::start(&mut command)
    }
}

/// A process, ended when dropped.
struct Running {
    child: Child,
    /// Closed, it lets a client go on.
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Outcome<Running> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = (input.ok_or("no input")?, BufReader::new(output.ok_or("no output")?));
        Ok(Running { child, input, output })
    }

    /// What it prints next.
    fn line(&mut self) -> Outcome<String> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};

        let limit = Timespec { tv_sec: HANGS.as_secs().try_into()?, tv_nsec: 0 };
        let mut line = String::new();
        let printed = poll(&mut [PollFd::new(self.output.get_ref(), PollFlags::IN)], Some(&limit))?;
        if printed == 0 {
            return Err("hangs".into());
        }
        match self.output.read_line(&mut line)? {
            0 => Err("ended before its time".into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    fn expect(&mut self, wanted: &str) -> Outcome<()> {
        let line = self.line()?;
        if line == wanted { Ok(()) } else { Err(format!("printed {line}").into()) }
    }

    fn go_on(&mut self) -> Outcome<()> {
        use std::io::Write;
        Ok(self.input.write_all(b"\n")?)
    }

    /// KiB that it has of its own: no files, nothing shared.
    fn memory(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// taskset becomes the program, so that its process is the program's.
fn placed(program: &Path, placement: Placement) -> Command {
    match placement {
        Placement::Free => Command::new(program),
        Placement::OneCore => {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        }
    }
}

fn with(mut command: Command, arguments: &[&str]) -> Command {
    command.args(arguments);
    command
}

fn figures(line: &str) -> Outcome<Vec<f64>> {
    Ok(line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}

/// What a command prints; its failure is an error of one line.
fn output(command: &mut Command) -> Outcome<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut text = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut text)?;
    }
    let done = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&done.stderr);
    let first = complaint
        .lines()
        .find(|line| line.contains("error") || line.contains("cannot"))
        .unwrap_or(&complaint);
    if done.status.success() { Ok(text) } else { Err(format!("{program}: {first}").into()) }
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The version in Cargo.lock.
fn locked(package: &str) -> Option<&'static str> {
    let named = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != named);
    lines.nth(1)?.strip_prefix("version = \"")?.strip_suffix('"')
}
