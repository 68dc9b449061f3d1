//! `sidewire ping`: whether a server lives, and how long it takes to say so.

use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use sidewire::{Client, StopSignals};

use crate::call::{self, seconds};
use crate::output::{self, Printed, complain};
use crate::target::{Target, target_parser};
use crate::whom::Whom;

/// Asks a server for signs of life, and says how long each took
///
/// A ping goes through the server's loop and reaches no handler. The classic layout has none.
/// Ctrl-C ends it early, with the summary.
///
/// Exit status: 0 at least one ping was answered
///              1 none was
///              2 usage: a bad endpoint or argument
///              3 nobody listens, the server can't be reached, or it or we refuse
///              4 timed out while connecting
///              5 protocol error: the server speaks something else, or another version
///              7 standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711; 'exec:COMMAND' or
    /// 'ssh:HOST ENDPOINT'
    #[arg(value_parser = target_parser(), verbatim_doc_comment)]
    endpoint: Target,
    /// How many pings; 0 goes on without end
    #[arg(short, long, value_name = "N", default_value = "4")]
    count: u64,
    /// Seconds between two pings
    #[arg(short, long, value_name = "S", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Seconds that connecting, and each answer, may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Look for each answer for so many microseconds before sleeping; see serve --spin
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    spin: Option<u32>,
    #[command(flatten)]
    whom: Whom,
}

/// What has come of them.
#[derive(Default)]
struct Pings {
    sent: u64,
    times: Vec<f64>,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let spin = Duration::from_micros(args.spin.unwrap_or(0).into());
    let opened =
        args.whom.within(&args.endpoint, Some(args.timeout)).and_then(|connect| connect.spin(spin).open());
    let client = match opened {
        Ok(client) => client,
        Err(error) => return call::failed(&error, false),
    };
    let (sender, stop) = mpsc::channel::<()>();
    let interrupt = move || {
        let _ = sender.send(());
    };
    let _signals = StopSignals::watch(interrupt).inspect_err(|error| complain(error));
    let mut pings = Pings::default();
    let printed = ping_all(args, &client, &stop, &mut pings);
    let printed = match printed {
        Printed::Whole => output::print(summary(&args.endpoint, &pings).as_bytes()),
        other => other,
    };
    match (printed, pings.times.is_empty()) {
        (Printed::Lost, _) => ExitCode::from(7),
        (_, is_silent) => ExitCode::from(u8::from(is_silent)),
    }
}

/// Pings until the count is reached, a signal comes, or the connection is over.
fn ping_all(args: &Args, client: &Client, stop: &mpsc::Receiver<()>, pings: &mut Pings) -> Printed {
    let app = client.peer_app().map(|app| format!(", {app}")).unwrap_or_default();
    let mut printed = output::print(format!("PING {} ({}{app})\n", args.endpoint, client.peer()).as_bytes());
    while printed == Printed::Whole {
        pings.sent += 1;
        let sequence = pings.sent;
        match client.ping(args.timeout) {
            Ok(time) => {
                let time = time.as_secs_f64() * 1000.0;
                pings.times.push(time);
                let line = format!("pong from {}: seq={sequence} time={time:.3} ms\n", args.endpoint);
                printed = output::print(line.as_bytes());
            }
            Err(error) if error.is_timeout() => {
                let line = format!("no pong from {}: seq={sequence}\n", args.endpoint);
                printed = output::print(line.as_bytes());
            }
            Err(error) => {
                complain(&error);
                break;
            }
        }
        let is_last = pings.sent == args.count;
        if is_last || stop.recv_timeout(args.interval) != Err(mpsc::RecvTimeoutError::Timeout) {
            break;
        }
    }
    printed
}

fn summary(endpoint: &Target, pings: &Pings) -> String {
    let Pings { sent, times } = pings;
    let came = times.len();
    let lost = 100.0 - came as f64 * 100.0 / (*sent).max(1) as f64;
    let mut text =
        format!("--- {endpoint} ping statistics ---\n{sent} pings sent, {came} answered, {lost:.0}% lost\n");
    if let (Some(least), Some(most)) =
        (times.iter().copied().reduce(f64::min), times.iter().copied().reduce(f64::max))
    {
        let average = times.iter().sum::<f64>() / came as f64;
        text.push_str(&format!("time min/avg/max = {least:.3}/{average:.3}/{most:.3} ms\n"));
    }
    text
}
