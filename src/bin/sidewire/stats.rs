//! `sidewire stats`: what a server has done, as its statistics say.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sidewire::Stats;

use crate::call::{self, seconds};
use crate::output::{self, complain};
use crate::store::STATISTICS;
use crate::target::{Target, target_parser};
use crate::whom::Whom;

/// Shows what a server has done: its connections, requests, bytes, and how long its handlers take
///
/// Asks for the store's statistics (type 5), which are one JSON object, and shows them for people.
/// Other servers that answer some type with such an object can be asked as well.
///
/// Exit status: 0 done
///              1 the server answered with a result code other than 0, or with something else than
///                a JSON object
///              2 usage: a bad endpoint or argument
///              3 nobody listens, the server can't be reached, or it or we refuse
///              4 timed out
///              5 protocol error: the server speaks something else, or another version
///              6 the server went away
///              7 standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711; 'exec:COMMAND' or
    /// 'ssh:HOST ENDPOINT'
    #[arg(value_parser = target_parser(), verbatim_doc_comment)]
    endpoint: Target,
    /// Print the JSON object as it came
    #[arg(long)]
    json: bool,
    /// The message type that is answered with statistics
    #[arg(long = "type", value_name = "TYPE", default_value_t = STATISTICS)]
    msg_type: u16,
    /// Seconds that all of it may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    whom: Whom,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let client = match args.whom.connect_to(&args.endpoint, args.timeout) {
        Ok(client) => client,
        Err(error) => return call::failed(&error, false),
    };
    let payload = match client.call(args.msg_type, b"") {
        Ok(response) => response.into_payload(),
        Err(error) => return call::failed(&error, true),
    };
    let Ok(Value::Object(members)) = serde_json::from_slice(&payload) else {
        complain(&format!("{}: type {} is not answered with a JSON object", args.endpoint, args.msg_type));
        return ExitCode::from(1);
    };
    let text = match args.json {
        true => format!("{}\n", Value::Object(members)),
        false => readable(&members),
    };
    output::print(text.as_bytes()).status()
}

/// A line for each member.
fn readable(members: &Map<String, Value>) -> String {
    let mut text = String::new();
    for (name, value) in members {
        let name = named(name);
        match value {
            Value::Array(rows) if rows.is_empty() => {}
            Value::Object(rows) if rows.is_empty() => {}
            Value::Array(rows) => {
                let rows = rows.iter().map(row).collect::<Vec<_>>().join("; ");
                let _ = writeln!(text, "{name:<22} {rows}");
            }
            Value::Object(rows) => {
                let rows = rows.iter().map(|(key, value)| format!("{}: {}", named(key), plain(value)));
                let _ = writeln!(text, "{name:<22} {}", rows.collect::<Vec<_>>().join(", "));
            }
            value => {
                let _ = writeln!(text, "{name:<22} {}", plain(value));
            }
        }
    }
    text
}

fn row(value: &Value) -> String {
    let Value::Object(members) = value else { return plain(value) };
    let members = members.iter().map(|(key, value)| format!("{} {}", named(key), plain(value)));
    members.collect::<Vec<_>>().join(" ")
}

fn named(name: &str) -> String {
    name.replace('_', " ").escape_debug().to_string()
}

/// Whoever made it may have put anything into it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        Value::Object(_) => row(value),
        other => other.to_string(),
    }
}

/// What the store says of itself.
pub(crate) fn statistics(stats: &Stats, uptime: Duration, value_bytes: usize) -> Value {
    let by_type = stats.requests.iter().map(|(msg_type, count)| (msg_type.to_string(), json!(count)));
    let failures = stats
        .failures
        .iter()
        .map(|((msg_type, rc), count)| json!({ "type": msg_type, "rc": rc.code(), "count": count }));
    let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
    let handling = &stats.handling;
    let ranges = handling.ranges().map(|(below, count)| json!({ "below_us": micros(below), "count": count }));
    let users = stats.users.iter().map(|usage| {
        json!({
            "who": usage.party.to_string(),
            "connections": usage.connections,
            "bytes": usage.buffered,
            "attachments": usage.attachments,
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_ms": uptime.as_millis() as u64,
        "value_bytes": value_bytes,
        "connections": stats.connections,
        "accepted": stats.accepted,
        "refused": stats.refused,
        "faulty": stats.faulty,
        "requests": stats.requests.values().sum::<u64>() + stats.unknown,
        "requests_by_type": by_type.collect::<Map<_, _>>(),
        "unknown": stats.unknown,
        "failed": stats.failed,
        "failures": failures.collect::<Vec<_>>(),
        "notifies": stats.notifies,
        "bytes_received": stats.bytes_received,
        "bytes_sent": stats.bytes_sent,
        "handling_us": {
            "count": handling.count(),
            "p50": micros(handling.quantile(0.5)),
            "p90": micros(handling.quantile(0.9)),
            "p99": micros(handling.quantile(0.99)),
            "longest": micros(handling.quantile(1.0)),
        },
        "handling_ranges": ranges.collect::<Vec<_>>(),
        "slow_handlers": stats.slow_handlers,
        "stalls": stats.stalls,
        "events": stats.events,
        "events_dropped": stats.events_dropped,
        "streams_stalled": stats.streams_stalled,
        "datagrams_dropped": stats.datagrams_dropped,
        "answers_to_nobody": stats.answers_to_nobody,
        "system_errors": stats.system_errors,
        "limits": stats.limits,
        "users": users.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_a_line_for_each_member() {
        let members = json!({ "a_b": 1, "by": { "4": 2, "5": 3 }, "none": {}, "rows": [{ "rc": -1, "count": 2 }], "t": "\u{7}" });
        let Value::Object(members) = members else { unreachable!("it is one") };
        let text = readable(&members);
        let lines: Vec<_> = text.lines().map(|line| line.split_once("  ").expect("columns")).collect();
        let lines: Vec<_> = lines.iter().map(|(name, value)| (*name, value.trim_start())).collect();
        let expected = [("a b", "1"), ("by", "4: 2, 5: 3"), ("rows", "count 2 rc -1"), ("t", "\\u{7}")];
        assert_eq!(lines, expected);
        let hostile =
            json!({ "\u{1b}[2J": 1, "a": { "\n": [{ "\u{9b}1m": ["\u{7f}", { "\u{202e}": 0 }] }] } });
        let Value::Object(members) = hostile else { unreachable!("it is one") };
        let text = readable(&members);
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.is_ascii()), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7f}'), "{text}");
    }
}
