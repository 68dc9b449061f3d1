//! `sidewire watch`: what a server publishes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sidewire::{Client, Error, Event, StopSignals};

use crate::call::{self, seconds};
use crate::output::{self, Printed, complain};
use crate::target::{Target, target_parser};
use crate::text::{escaped, hexadecimal};
use crate::whom::Whom;

/// Subscribes to message types of a server and prints their events, a line each
///
/// A line is TYPE SEQUENCE DROPPED PAYLOAD, with one space in between: the topic, the event's number within
/// the subscription, from 1, how many events of the topic were dropped since the one before, because
/// they came faster than they were read, and what it tells. Control characters in the payload, and
/// backslashes, are escaped as \n, \\ or \u{1b}; bytes that are no UTF-8 as \xff.
///
/// With --json a line is an object {"type", "sequence", "dropped", "payload"}; a payload that is no
/// UTF-8 is "payload_hex" instead.
///
/// It goes on until Ctrl-C, SIGTERM or SIGHUP, which end it in order: it says goodbye.
///
/// Exit status: 0 ended by a signal, after so many events, or since whoever reads them has had enough
///              1 the server has no such topic
///              2 usage: a bad endpoint or argument; an endpoint without events
///              3 nobody listens, the server can't be reached, or it or we refuse
///              4 timed out while connecting or subscribing
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
    /// The message types to subscribe to, 0 to 65535
    #[arg(value_name = "TYPE", required = true)]
    topics: Vec<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// End after so many events; 0 goes on without end
    #[arg(short, long, value_name = "N", default_value = "0")]
    count: u64,
    /// Seconds that connecting, and each subscription, may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    #[command(flatten)]
    whom: Whom,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let client = match args.whom.connect_to(&args.endpoint, args.timeout) {
        Ok(client) => Arc::new(client),
        Err(error) => return call::failed(&error, false),
    };
    let watched = Arc::clone(&client);
    // What waits then ends, and says so.
    let _signals = StopSignals::watch(move || watched.close()).inspect_err(|error| complain(error));
    match watch(args, &client) {
        Ok(printed) => printed.status(),
        Err(error) if error.is_closed() => ExitCode::SUCCESS,
        Err(error) => call::failed(&error, true),
    }
}

/// Prints events until there are enough of them, nobody reads them, or the connection is over.
fn watch(args: &Args, client: &Client) -> Result<Printed, Error> {
    let Some((first, others)) = args.topics.split_first() else { return Ok(Printed::Whole) };
    let mut events = client.subscribe(*first)?;
    others.iter().try_for_each(|topic| events.add(*topic))?;
    let mut seen = 0;
    for event in events {
        let event = event?;
        let line = if args.json { json(&event) } else { text(&event) };
        let printed = output::print(line.as_bytes());
        seen += 1;
        if printed != Printed::Whole || seen == args.count {
            return Ok(printed);
        }
    }
    Ok(Printed::Whole)
}

fn text(event: &Event) -> String {
    let (topic, sequence, dropped) = (event.topic(), event.sequence(), event.dropped());
    format!("{topic} {sequence} {dropped} {}\n", escaped(event.payload()))
}

fn json(event: &Event) -> String {
    let mut object = serde_json::json!({
        "type": event.topic(),
        "sequence": event.sequence(),
        "dropped": event.dropped(),
    });
    match std::str::from_utf8(event.payload()) {
        Ok(payload) => object["payload"] = payload.into(),
        Err(_) => object["payload_hex"] = hexadecimal(event.payload()).into(),
    }
    format!("{object}\n")
}
