//! Every client there is against every server there is, over the same files of calls: one table, pair by pair.

mod calls;
mod players;
mod store;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sidewire::{Access, Client, Endpoint, Listen};

use crate::util::{Process, fresh, start, watchdog};
use crate::{c, node};

/// How long a program may take for all files, in seconds.
const LIMIT: &str = "300";

/// Who plays all files, and says how many were right, or what came in place of the rest.
type Player = Box<dyn Fn(&Endpoint, &[PathBuf]) -> Result<usize, String>>;

/// Over our own client.
fn ours<L: players::Library>(endpoint: &Endpoint, files: &[PathBuf]) -> Result<usize, String> {
    files.iter().try_for_each(|file| players::play::<L>(endpoint, file)).map(|()| files.len())
}

/// A program, `COMMAND ENDPOINT FILE...`.
fn program(command: Vec<PathBuf>) -> Player {
    Box::new(move |endpoint, files| {
        let mut playing = Command::new("timeout");
        playing.arg(LIMIT).args(&command).arg(endpoint.to_string()).args(files).stdin(Stdio::null());
        if !endpoint.has_credentials() {
            playing.env("SIDEWIRE_ACCESS", "anyone");
        }
        let output = playing.output().map_err(|error| error.to_string())?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let right = stdout.lines().filter(|line| line.ends_with(": ok")).count();
        match output.status.success() && right == files.len() {
            true => Ok(right),
            false => Err(format!("{}: {stdout}{}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    })
}

/// Each with its name; those in other languages if they are there.
fn clients(folder: &Path) -> Vec<(&'static str, Player)> {
    let mut clients: Vec<(&str, Player)> = vec![("Rust, threads", Box::new(ours::<Client>))];
    #[cfg(feature = "tokio")]
    clients.push(("Rust, tasks", Box::new(ours::<players::Tasks>)));
    clients.push(("C", program(vec![c::build(folder, "bindings/c/tests/play.c")])));
    let others: [(_, &str, &str, &[&str]); 3] = [
        ("Python", "python3", "bindings/python/tests/play.py", &[]),
        ("Python, asyncio", "python3", "bindings/python/tests/play.py", &["--asyncio"]),
        ("Node", "node", "bindings/node/test/play.js", &[]),
    ];
    for (name, interpreter, script, options) in others {
        if let Some(why) = objection(interpreter) {
            eprintln!("{name}: skipped: {why}");
            continue;
        }
        let script = c::root().join(script);
        let command =
            [PathBuf::from(interpreter), script].into_iter().chain(options.iter().map(PathBuf::from));
        clients.push((name, program(command.collect())));
    }
    clients
}

/// Why what it runs is left out, if so.
fn objection(interpreter: &str) -> Option<String> {
    match interpreter {
        "node" => node::objection(),
        _ => {
            let started = Command::new(interpreter).arg("--version").output();
            started.err().map(|error| format!("{interpreter} can't be started ({error})"))
        }
    }
}

/// Servers, each with where it is found, as long as they are kept.
struct Servers {
    places: Vec<(&'static str, Endpoint)>,
    _programs: [Process; 2],
    _ours: sidewire::Running<Vec<u8>>,
}

fn servers(folder: &Path) -> Servers {
    let endpoints = |name: &str| {
        [format!("unix:{}", folder.join(name).with_extension("sock").display()), "tcp:127.0.0.1:0".to_owned()]
    };
    let mut tool = Command::new(env!("CARGO_BIN_EXE_sidewire"));
    let tool = Process::start(tool.args(["serve", "--access", "anyone"]).args(endpoints("tool")), 2);
    let in_c = c::build(folder, "bindings/c/tests/store.c");
    let in_c = Process::start(Command::new(in_c).args(endpoints("c")), 2);
    let listen = [fresh("unix"), fresh("tcp")].map(|endpoint| Listen::from(endpoint).access(Access::Anyone));
    let (ours, bound) = start(store::server(), listen);
    let named = |name, endpoints: &[Endpoint]| endpoints.iter().map(move |at| (name, at.clone())).collect();
    let places: [Vec<_>; 3] =
        [named("sidewire serve", &tool.endpoints), named("Rust", &bound), named("C", &in_c.endpoints)];
    Servers { places: places.concat(), _programs: [tool, in_c], _ours: ours }
}

#[test]
fn every_client_understands_every_server() {
    let _watchdog = watchdog(900);
    let folder = tempfile::tempdir().expect("a folder");
    let files = calls::files();
    let (servers, clients) = (servers(folder.path()), clients(folder.path()));
    let mut table = format!("{:<17}", "client \\ server");
    for (name, endpoint) in &servers.places {
        let scheme = endpoint.to_string();
        let _ = write!(table, "{name} {:<8}", scheme.split(':').next().unwrap_or_default());
    }
    let mut wrong = String::new();
    for (name, play) in &clients {
        let _ = write!(table, "\n{name:<17}");
        for (server, endpoint) in &servers.places {
            let (told, width) = match play(endpoint, &files) {
                Ok(right) => (format!("{right} right"), server.len() + 9),
                Err(what) => {
                    let _ = write!(wrong, "\n{name} with {server}, {endpoint}: {what}");
                    ("wrong".to_owned(), server.len() + 9)
                }
            };
            let _ = write!(table, "{told:<width$}");
        }
    }
    println!("{table}\n{} files for each pair", files.len());
    assert!(wrong.is_empty(), "{table}{wrong}");
}
