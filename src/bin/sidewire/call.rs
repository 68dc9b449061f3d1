//! `sidewire call`: one request.

use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sidewire::{Access, Connect, Endpoint, EndpointKind, Error, Response};

use crate::{Who, complain};

/// Sends one request and prints the reply's bytes
///
/// Nothing is added to the reply. If the server answers with a result code other than 0, its name
/// and number go to standard error. A mailslot takes requests and answers none.
///
/// Exit status: 0 done, 1 the server answered with a result code other than 0, 2 usage (a bad
/// endpoint included), 3 nobody listens or we are refused, 4 timed out, 5 protocol error.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711
    #[arg(value_parser = crate::endpoint)]
    endpoint: Endpoint,
    /// The message type, 0 to 65535
    #[arg(value_name = "TYPE")]
    msg_type: u16,
    /// What to send; `-` sends standard input
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    data: String,
    /// Seconds that all of it may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    timeout: Duration,
    /// Speak the classic layout
    #[arg(long)]
    classic: bool,
    /// Print the reply's bytes as hexadecimal digits
    #[arg(long)]
    hex: bool,
    /// Whose server it may be [default: same-user; anyone for tcp and others where nobody can tell]
    #[arg(long, value_name = "WHO")]
    access: Option<Who>,
}

/// So that no clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, as in 2.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err("expected more than 0 seconds, and at most a year of them".into()),
    }
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let data = match &*args.data {
        "-" => match read_input() {
            Ok(data) => data,
            Err(error) => {
                complain(&format!("standard input: {error}"));
                return ExitCode::from(2);
            }
        },
        text => text.as_bytes().to_vec(),
    };
    if let (Some(Who::SameUser), false) = (args.access, args.endpoint.can_verify_server()) {
        let endpoint = &args.endpoint;
        complain(&format!(
            "{endpoint}: nobody vouches for who serves there; add '--access anyone' if that may be anyone"
        ));
        return ExitCode::from(2);
    }
    let response = match exchange(args, &data) {
        Ok(Some(response)) => response,
        Ok(None) => return ExitCode::SUCCESS,
        Err((error, is_open)) => {
            complain(&error);
            return ExitCode::from(status(&error, is_open));
        }
    };
    let rc = response.result_code();
    // Where there is no handshake, a server that does not let us in says so here.
    if response.may_be_refusal() {
        complain(&format!("call {} (type {}): refused: {rc}", args.endpoint, args.msg_type));
        return ExitCode::from(3);
    }
    if response.is_explanation() {
        complain(&format!("{rc}: {}", String::from_utf8_lossy(response.payload()).escape_debug()));
    } else {
        if !rc.is_ok() {
            complain(&rc);
        }
        if let Err(error) = print(response.payload(), args.hex) {
            complain(&format!("standard output: {error}"));
            return ExitCode::from(2);
        }
    }
    if rc.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Connects and calls. An error says whether the connection was open by then.
///
/// `None`: it was sent to where no answer comes from.
fn exchange(args: &Args, data: &[u8]) -> Result<Option<Response>, (Error, bool)> {
    let until = Instant::now() + args.timeout;
    let by_scheme = if args.endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    let connect = Connect::to(&args.endpoint)
        .map_err(|error| (error, false))?
        .access(args.access.map_or(by_scheme, Access::from))
        .timeout(Some(args.timeout));
    let connect = if args.classic { connect.classic() } else { connect };
    let client = connect.open().map_err(|error| (error, false))?;
    if args.endpoint.kind() == EndpointKind::OneWay {
        return client.notify(args.msg_type, data).map(|()| None).map_err(|error| (error, true));
    }
    let left = until.saturating_duration_since(Instant::now());
    client.exchange(args.msg_type, data, Some(left)).map(Some).map_err(|error| (error, true))
}

fn status(error: &Error, is_open: bool) -> u8 {
    if error.is_timeout() {
        4
    } else if error.is_invalid_input() || error.is_unsupported() {
        2
    } else if error.is_not_listening() || error.is_refused() || !is_open && !error.is_protocol() {
        3
    } else {
        5
    }
}

fn read_input() -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    std::io::stdin().lock().read_to_end(&mut data)?;
    Ok(data)
}

fn print(bytes: &[u8], hex: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if hex {
        bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
        if out.is_terminal() {
            writeln!(out)?;
        }
    } else {
        out.write_all(bytes)?;
    }
    out.flush()
}
