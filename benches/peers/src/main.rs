//! Sidewire beside others, in one run on one machine.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- [OPTION]...
//!
//!     --quick           one round of short measurements, for a look: less than a minute
//!     --free            client and server wherever the system puts them (otherwise: on one processor)
//!     --only NAME,...   these rows, and the floors
//!     --rounds N        each figure is the median of so many, with all the others in between (5)
//!     --markdown FILE   the table, there too
//!     --svg FILE        a picture of it
//!
//! Linux. `cc` and `taskset` are needed; Redis, ZeroMQ and nng take part where they are installed (Debian:
//! redis-server, libzmq3-dev, libnng-dev).

mod blocking;
#[allow(clippy::all)]
#[rustfmt::skip]
#[path = "peers/echo_capnp.rs"]
mod echo_capnp;
mod measure;
mod peers;
mod picture;
mod processes;
mod raw;
mod table;
mod tasks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use measure::{Measure, Outcome, Task};
use peers::{Kind, PEERS, Peer};
use processes::{Bench, Placement};
use table::{Row, Table};

const USAGE: &str =
    "usage: sidewire-peers [--quick] [--free] [--only NAME,...] [--rounds N] [--markdown FILE] [--svg FILE]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidewire-peers {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Outcome<()> {
    match arguments {
        // What it starts itself as.
        ["server", of, path] => peers::serve(of, Path::new(path)),
        ["client", name, place, measure, seconds] => {
            let peer = PEERS.iter().find(|peer| peer.name == *name).ok_or("no such peer")?;
            let time = Duration::from_secs_f64(seconds.parse()?);
            peers::client(peer, place, Task { measure: Measure::parse(measure)?, time })
        }
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        options => compare(&Options::parse(options)?),
    }
}

struct Options {
    placement: Placement,
    rounds: usize,
    time: Duration,
    only: Option<Vec<String>>,
    markdown: Option<PathBuf>,
    svg: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: &[&str]) -> Outcome<Options> {
        let (placement, time) = (Placement::OneCore, Duration::from_millis(400));
        let mut options = Options { placement, rounds: 5, time, only: None, markdown: None, svg: None };
        loop {
            arguments = match arguments {
                [] => return Ok(options),
                ["--quick", rest @ ..] => {
                    (options.rounds, options.time) = (1, Duration::from_millis(200));
                    rest
                }
                ["--free", rest @ ..] => {
                    options.placement = Placement::Free;
                    rest
                }
                ["--rounds", count, rest @ ..] => {
                    options.rounds = count.parse::<usize>()?.max(1);
                    rest
                }
                ["--only", names, rest @ ..] => {
                    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
                    if let Some(name) = names.iter().find(|name| PEERS.iter().all(|peer| peer.name != **name))
                    {
                        let known: Vec<_> = PEERS.iter().map(|peer| peer.name).collect();
                        return Err(format!("no row {name}; there are {}", known.join(", ")).into());
                    }
                    options.only = Some(names);
                    rest
                }
                ["--markdown", file, rest @ ..] => {
                    options.markdown = Some(file.into());
                    rest
                }
                ["--svg", file, rest @ ..] => {
                    options.svg = Some(file.into());
                    rest
                }
                _ => return Err(USAGE.into()),
            };
        }
    }

    fn wants(&self, peer: &Peer) -> bool {
        let named = self.only.as_ref().is_none_or(|names| names.iter().any(|name| name == peer.name));
        named || peer.kind == Kind::Floor
    }
}

fn compare(options: &Options) -> Outcome<()> {
    let bench = Bench::new()?;
    let mut rows = Vec::new();
    let (mut absent, mut failed) = (Vec::new(), Vec::new());
    for peer in PEERS.iter().filter(|peer| options.wants(peer)) {
        match bench.prepare(peer) {
            Ok(version) => rows.push(Row::new(peer, version)),
            Err(error) if peer.kind == Kind::Floor => return Err(error),
            Err(error) => absent.push(format!("{}: {error}", peer.title)),
        }
    }
    for measure in Measure::ALL {
        // Memory is the same each time.
        let rounds = if measure == Measure::Idle { 1 } else { options.rounds };
        for round in 1..=rounds {
            eprintln!("{}, round {round} of {rounds}", measure.name());
            for row in rows.iter_mut().filter(|row| row.peer.takes(measure)) {
                let task = Task { measure, time: options.time };
                match bench.measure(row.peer, task, options.placement) {
                    Ok(figures) => row.add(measure, figures),
                    Err(error) => failed.push(format!("{}, {}: {error}", row.peer.name, measure.name())),
                }
            }
        }
    }
    let table = Table::new(rows, absent, options.placement);
    let text = table.markdown();
    print!("{text}");
    if let Some(file) = &options.markdown {
        table::replace(file, &text)?;
    }
    if let Some(file) = &options.svg {
        picture::draw(&table, file)?;
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}
