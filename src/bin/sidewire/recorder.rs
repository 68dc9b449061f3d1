//! `sidewire recorder`: what a server's flight recorder has kept.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use sidewire::recorder::{Record, RecordKind, RecordState, Recording};
use sidewire::{Endpoint, Layout};

use crate::output::{self, complain};

/// Shows what a server did last: while it runs, while it hangs, and when it has died
///
/// Each server of the library notes the last 1,024 things that it has handled (the headers of requests, never
/// their payloads; connections that come and go) in a file of its user's, which it removes when it ends in
/// order. This reads those files, and asks no server anything: so it shows servers that hang, or were killed,
/// on every kind of endpoint. Name the endpoint as `sidewire serve` prints it: tcp with the address and port
/// really bound.
///
/// For each server a line says who it is, and one what it is doing; then there is a line for each thing that
/// happened, the oldest first:
///   AT       seconds since the server began, to a millisecond, by the last time that its loop has read the clock
///   CONN     the connection, as the server's log has it
///   WHAT     request, notify, answer (to a request that was deferred), bytes, message, callback, closure,
///            opened, refused, closed, on_connect, on_disconnect
///   TYPE ID BYTES   of the frame; of a connection that was opened ID is the peer's process
///   RC       the result code; `runs` in place of it: its handler has not returned, `later`: it was deferred
///   QUEUED   how long it had waited for others of its connection
///   TOOK     how long its handler took, by the mean of at most 16 that ran in one go; `slow` behind it: it, or
///            one of these, has held up the loop
///
/// Exit status: 0 done
///              1 nothing was found
///              2 usage: a bad endpoint or argument
///              7 standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711
    #[arg(value_parser = crate::endpoint_parser(), required_unless_present_any = ["pid", "all"],
          conflicts_with_all = ["pid", "all"])]
    endpoint: Option<Endpoint>,
    /// The server's process: for helpers, which have no endpoint
    #[arg(long, value_name = "PID", conflicts_with = "all")]
    pid: Option<u32>,
    /// Those of all servers of this user
    #[arg(long)]
    all: bool,
    /// Print a JSON object for each server, in a line of its own
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let (found, whose) = match (&args.endpoint, args.pid) {
        (Some(endpoint), _) => (Recording::of_endpoint(endpoint), endpoint.to_string()),
        (None, Some(pid)) => (Recording::of_process(pid), format!("process {pid}")),
        (None, None) => (Recording::all(), "this user's servers".to_owned()),
    };
    if found.is_empty() {
        complain(&format!(
            "{whose}: no recording: none of this user's servers is there or has died there, or it keeps none"
        ));
        return ExitCode::FAILURE;
    }
    let text: String = match args.json {
        true => found.iter().map(|recording| format!("{}\n", object(recording))).collect(),
        false => found.iter().map(readable).collect::<Vec<_>>().join("\n"),
    };
    output::print(text.as_bytes()).status()
}

fn readable(recording: &Recording) -> String {
    let (program, pid, endpoints) = (recording.program(), recording.pid(), recording.endpoints().join(", "));
    let is_alive = if recording.is_alive() { "runs" } else { "has died" };
    let age = recording.started().elapsed().unwrap_or_default();
    let at = if endpoints.is_empty() { String::new() } else { format!(", at {endpoints}") };
    let mut text = format!("{program} (pid {pid}){at}: {is_alive}, began {} s ago\n", seconds(age));
    if let Some(doing) = recording.doing() {
        let _ = writeln!(text, "it {doing}");
    }
    let _ = writeln!(
        text,
        "{:>12} {:>6} {:<13} {:>6} {:>10} {:>8} {:>6} {:>9} {:>9}",
        "AT", "CONN", "WHAT", "TYPE", "ID", "BYTES", "RC", "QUEUED", "TOOK"
    );
    for record in recording.records() {
        let _ = writeln!(text, "{}", row(record).trim_end());
    }
    text
}

fn row(record: &Record) -> String {
    let or_nothing = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let is_frame = matches!(record.kind, RecordKind::Request | RecordKind::Notify);
    let has_bytes = is_frame || matches!(record.kind, RecordKind::Bytes | RecordKind::Message);
    let rc = match record.state {
        RecordState::Running => Some("runs".to_owned()),
        RecordState::Deferred => Some("later".to_owned()),
        _ => record.rc.map(|rc| rc.code().to_string()),
    };
    format!(
        "{:>12} {:>6} {:<13} {:>6} {:>10} {:>8} {:>6} {:>9} {:>9} {}",
        seconds(record.at),
        or_nothing(record.connection.map(|number| format!("#{number}"))),
        record.kind,
        or_nothing(record.msg_type.map(|msg_type| msg_type.to_string())),
        or_nothing(Some(record.id).filter(|id| *id != 0).map(|id| id.to_string())),
        or_nothing(has_bytes.then(|| record.length.to_string())),
        or_nothing(rc),
        or_nothing(is_frame.then(|| micros(record.queued))),
        or_nothing(record.took.map(micros)),
        if record.is_slow { "slow" } else { "" },
    )
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn micros(time: Duration) -> String {
    format!("{:.1}us", time.as_nanos() as f64 / 1000.0)
}

fn object(recording: &Recording) -> Value {
    let started = recording.started().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    json!({
        "pid": recording.pid(),
        "program": recording.program(),
        "endpoints": recording.endpoints(),
        "is_alive": recording.is_alive(),
        "started_unix_ns": started.as_nanos() as u64,
        "doing": recording.doing(),
        "records": recording.records().iter().map(record).collect::<Vec<_>>(),
    })
}

fn record(record: &Record) -> Value {
    let layout = record.layout.map(|layout| if layout == Layout::V1 { "v1" } else { "classic" });
    let state = match record.state {
        RecordState::Running => "running",
        RecordState::Deferred => "deferred",
        _ => "done",
    };
    json!({
        "number": record.number,
        "at_ns": record.at.as_nanos() as u64,
        "kind": record.kind.to_string(),
        "state": state,
        "layout": layout,
        "connection": record.connection,
        "type": record.msg_type,
        "id": record.id,
        "bytes": record.length,
        "rc": record.rc.map(sidewire::ResultCode::code),
        "queued_us": record.queued.as_micros() as u64,
        "took_ns": record.took.map(|took| took.as_nanos() as u64),
        "is_slow": record.is_slow,
    })
}
