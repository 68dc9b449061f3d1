//! `sidewire stop`: ends servers, and returns when their processes are gone.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::json;
use sidewire::{Endpoint, Error, Stopped, stop_server};
use sidewire_platform::ForeignProcess;

use crate::call::seconds;
use crate::output::{self, Printed, complain};

/// Ends servers, and returns when their processes are gone, so that their programs can be replaced
///
/// A server that allows it (sidewire serve does) is asked over its endpoint: it finishes what it has
/// accepted, says goodbye to its clients, and ends. Others get SIGTERM; on Windows, where there is no such
/// thing, the event that stands for it, if they wait for one (those with Server::stop_on_signals do, and are
/// reached from their own session). Nobody is killed: what does not end in time is still there. All are asked at
/// once, then all are waited for.
///
/// Only servers of your own user are ended; root, too, ends only its own (sudo -u USER sidewire stop
/// ends others'). The process is that which answers, not that which has opened the socket, as systemd
/// may have. One that does not answer, and whatever is no Sidewire server, gets no signal.
///
/// Prints a line for each endpoint:
///   ENDPOINT: stopped (pid 4711, asked)       it has ended, as it was asked to
///   ENDPOINT: stopped (pid 4711, SIGTERM)     it has ended; on Windows "stop event" stands there
///   ENDPOINT: nobody listens                  which is as good
///   ENDPOINT: left alone: REASON              of --all: no Sidewire server
///   ENDPOINT: not stopped: REASON             which names the process, if it is known
/// With --json a line is an object {"endpoint", "outcome"}; "outcome" is "stopped" (with "pid" and "by":
/// "asked" or "signal"), "absent", "left alone" or "not stopped" (with "reason").
///
/// A socket that a service manager holds starts its service, which is then stopped; the manager may start it
/// again. Stop it there (systemctl --user stop).
///
/// Exit status: 0 all are gone, or nobody listened
///              1 one is not
///              2 usage: a bad argument; an endpoint where nobody can tell which process serves (tcp, udp and
///                other datagrams)
///              7 standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Their endpoints: local:NAME, unix:/PATH, abstract:NAME, pipe:NAME
    #[arg(value_name = "ENDPOINT", value_parser = crate::endpoint_parser(), required_unless_present = "all")]
    endpoints: Vec<Endpoint>,
    /// All servers of this user at local: names, besides those that are named. The instances of
    /// single-instance apps are none
    #[arg(long, verbatim_doc_comment)]
    all: bool,
    /// Seconds that all of it may take
    #[arg(long, value_name = "S", default_value = "10", value_parser = seconds)]
    wait: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A server that is to end.
struct Target {
    endpoint: Endpoint,
    /// Whether it was asked for by name.
    is_named: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let targets = match targets(args) {
        Ok(targets) => targets,
        Err(error) => {
            complain(&format!("--all: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let ending: Vec<_> = targets.into_iter().map(|target| Ending::begin(target, args.wait)).collect();
    let mut status = 0;
    for Ending { target, thread } in ending {
        let outcome = match thread.map(thread::JoinHandle::join) {
            Ok(Ok(result)) => Outcome::of(&target, result),
            Ok(Err(_)) => Some(Outcome::not_stopped("this program has a fault")),
            Err(error) => Some(Outcome::not_stopped(&format!("no thread to ask it on: {error}"))),
        };
        let Some(outcome) = outcome else { continue };
        status = status.max(outcome.status());
        let line = if args.json { outcome.json(&target.endpoint) } else { outcome.text(&target.endpoint) };
        // That nobody reads is no reason not to stop the others.
        if output::print(line.as_bytes()) == Printed::Lost {
            status = 7;
        }
    }
    ExitCode::from(status)
}

/// Those that are named, then all others there are.
fn targets(args: &Args) -> io::Result<Vec<Target>> {
    let mut targets: Vec<Target> = Vec::new();
    let others = if args.all { sidewire_platform::local_endpoints()? } else { Vec::new() };
    let named = args.endpoints.iter().cloned().map(|endpoint| Target { endpoint, is_named: true });
    for target in named.chain(others.into_iter().map(|endpoint| Target { endpoint, is_named: false })) {
        if targets.iter().all(|other| other.endpoint != target.endpoint) {
            targets.push(target);
        }
    }
    Ok(targets)
}

/// One that is being stopped.
struct Ending {
    target: Target,
    /// Or why there is none.
    thread: io::Result<thread::JoinHandle<Result<Stopped, Error>>>,
}

impl Ending {
    fn begin(target: Target, wait: Duration) -> Ending {
        let endpoint = target.endpoint.clone();
        let thread = thread::Builder::new().spawn(move || stop_server(endpoint, wait));
        Ending { target, thread }
    }
}

/// What is printed of one.
#[derive(Debug)]
enum Outcome {
    Stopped { pid: u32, by_signal: bool },
    Absent,
    LeftAlone(String),
    NotStopped { reason: String, is_usage: bool },
}

impl Outcome {
    /// `None`: nobody has asked for it, and nobody is there.
    fn of(target: &Target, result: Result<Stopped, Error>) -> Option<Outcome> {
        let reason = |error: &Error| {
            let (text, prefix) = (error.to_string(), format!("{} {}: ", error.operation(), target.endpoint));
            text.strip_prefix(&prefix).map(str::to_owned).unwrap_or(text)
        };
        Some(match result {
            Ok(Stopped::Asked { pid }) => Outcome::Stopped { pid, by_signal: false },
            Ok(Stopped::Signalled { pid }) => Outcome::Stopped { pid, by_signal: true },
            Ok(_) if target.is_named => Outcome::Absent,
            Ok(_) => return None,
            Err(error) if error.is_protocol() && !target.is_named => Outcome::LeftAlone(reason(&error)),
            Err(error) => {
                let is_usage = error.is_invalid_input() || error.is_unsupported();
                Outcome::NotStopped { reason: reason(&error), is_usage }
            }
        })
    }

    fn not_stopped(reason: &str) -> Outcome {
        Outcome::NotStopped { reason: reason.to_owned(), is_usage: false }
    }

    fn status(&self) -> u8 {
        match self {
            Outcome::Stopped { .. } | Outcome::Absent | Outcome::LeftAlone(_) => 0,
            Outcome::NotStopped { is_usage, .. } => 1 + u8::from(*is_usage),
        }
    }

    fn text(&self, endpoint: &Endpoint) -> String {
        match self {
            Outcome::Stopped { pid, by_signal } => {
                let by = if *by_signal { ForeignProcess::REQUEST } else { "asked" };
                format!("{endpoint}: stopped (pid {pid}, {by})\n")
            }
            Outcome::Absent => format!("{endpoint}: nobody listens\n"),
            Outcome::LeftAlone(reason) => format!("{endpoint}: left alone: {reason}\n"),
            Outcome::NotStopped { reason, .. } => format!("{endpoint}: not stopped: {reason}\n"),
        }
    }

    fn json(&self, endpoint: &Endpoint) -> String {
        let endpoint = endpoint.to_string();
        let object = match self {
            Outcome::Stopped { pid, by_signal } => {
                let by = if *by_signal { "signal" } else { "asked" };
                json!({ "endpoint": endpoint, "outcome": "stopped", "pid": pid, "by": by })
            }
            Outcome::Absent => json!({ "endpoint": endpoint, "outcome": "absent" }),
            Outcome::LeftAlone(reason) => {
                json!({ "endpoint": endpoint, "outcome": "left alone", "reason": reason })
            }
            Outcome::NotStopped { reason, .. } => {
                json!({ "endpoint": endpoint, "outcome": "not stopped", "reason": reason })
            }
        };
        format!("{object}\n")
    }
}
