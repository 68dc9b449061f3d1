//! `sidewire call`: one request.

use std::ffi::OsString;
use std::io::Read;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sidewire::{Client, EndpointKind, Error, Parts, Response};

use crate::describe;
use crate::description::{Description, harmless};
use crate::output::{self, Patient, Printed, complain};
use crate::stream;
use crate::target::{Target, target_parser};
use crate::text::{escaped, hexadecimal};
use crate::whom::Whom;

/// Sends one request and prints the reply's bytes
///
/// TYPE may be a message's name if the server describes itself ('sidewire describe' shows what it says). Then
/// DATA is JSON, and so is what is printed. A message that does not travel as JSON goes by its number only.
///
/// Nothing is added to the reply. If the server answers with a result code other than 0, its name
/// and number go to standard error. With --notify the server answers nothing, and a mailslot never does;
/// the classic layout has no such requests.
///
/// With --stream a reply may come in parts, each of which is printed as a line, and so is the last word, if
/// it says anything. Control characters and backslashes in them are escaped as \n, \\ or \u{1b}, bytes that
/// are no UTF-8 as \xff. The next part may take as long as --timeout says.
///
/// Exit status: 0 done; also when whoever reads the reply closes its end early, as head does
///              1 the server answered with a result code other than 0
///              2 usage: a bad endpoint or argument; standard input can't be read, or is larger
///                than the server takes
///              3 nobody listens, the server can't be reached, or it or we refuse
///              4 timed out; a request that was on its way may have been executed
///              5 protocol error: the server speaks something else, or another version
///              6 the server went away during the call, which may have been executed
///              7 the call went well, but standard output did not take the whole reply
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The server's endpoint, for example local:sidewire or tcp:127.0.0.1:4711; 'exec:COMMAND' or
    /// 'ssh:HOST ENDPOINT'
    #[arg(value_parser = target_parser(), verbatim_doc_comment)]
    endpoint: Target,
    /// The message type, 0 to 65535; or a message's name, of a server that describes itself
    #[arg(value_name = "TYPE", value_parser = wanted)]
    wanted: Wanted,
    /// What to send; `-` sends standard input. To a message that is named: JSON, and without any an
    /// empty object, or null
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true, verbatim_doc_comment)]
    data: OsString,
    /// Seconds that all of it may take, reading standard input included; only whoever reads the
    /// reply may take longer. With --stream, until the request is out, and then for each part
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds, verbatim_doc_comment)]
    timeout: Duration,
    /// Speak the classic layout
    #[arg(long)]
    classic: bool,
    /// Speak the classic layout with frames that all have N bytes behind the header, padded with
    /// zeros, as 'serve --classic-fixed N' does
    #[arg(long, value_name = "N", conflicts_with = "classic", verbatim_doc_comment)]
    classic_fixed: Option<u32>,
    /// Send a request that wants no answer, and end when the system has taken it
    #[arg(long)]
    notify: bool,
    /// Take the reply in parts, and print a line for each as it comes
    #[arg(long, conflicts_with = "notify")]
    stream: bool,
    /// Print the reply's bytes as hexadecimal digits
    #[arg(long)]
    pub(crate) hex: bool,
    #[command(flatten)]
    whom: Whom,
}

/// What is to be called.
#[derive(Clone, Debug)]
enum Wanted {
    Type(u16),
    Name(String),
}

fn wanted(text: &str) -> Result<Wanted, String> {
    match text.parse() {
        Ok(msg_type) => Ok(Wanted::Type(msg_type)),
        Err(_) if text.starts_with(|first: char| first.is_alphabetic() || first == '_') => {
            Ok(Wanted::Name(text.into()))
        }
        Err(_) => Err("expected a number, 0 to 65535, or a message's name".into()),
    }
}

/// What is called, and what its payloads are.
#[derive(Clone, Copy)]
pub(crate) struct Called {
    msg_type: u16,
    pub(crate) form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nobody knows.
    Bytes,
    Json,
}

/// So that no clock overflows.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, as in 2.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err("expected more than 0 seconds, and at most a year of them".into()),
    }
}

pub(crate) fn run(args: Args) -> ExitCode {
    if let Some(objection) = args.whom.objection(&args.endpoint) {
        complain(&objection);
        return ExitCode::from(2);
    }
    let args = Arc::new(args);
    match converse_in_time(&args) {
        Ok(Came::Response(called, response)) => ExitCode::from(show(&args, called, &response)),
        Ok(Came::Parts(called, mut parts, _client)) => {
            ExitCode::from(stream::show(&args, called, &mut parts))
        }
        Ok(Came::Nothing) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.text);
            ExitCode::from(failure.status)
        }
    }
}

/// Why there is no response.
struct Failure {
    status: u8,
    text: String,
}

impl Failure {
    fn new(status: u8, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }
}

/// What came of it.
type Outcome = Result<Came, Failure>;

enum Came {
    /// Where no answer comes from.
    Nothing,
    Response(Called, Response),
    /// They are still to come.
    Parts(Called, Parts, Client),
}

/// How a conversation is getting on.
enum News {
    /// What it does now.
    Is(&'static str),
    Done(Outcome),
}

/// The library keeps its own time limits, and says more about them: it goes first.
const GRACE: Duration = Duration::from_millis(100);

/// Converses on a thread of its own, since neither reading standard input nor looking up a host's
/// name has a time limit.
fn converse_in_time(args: &Arc<Args>) -> Outcome {
    let deadline = Instant::now() + args.timeout;
    let (sender, news) = mpsc::channel();
    let on_thread = Arc::clone(args);
    let thread = thread::Builder::new().name("call".into()).spawn(move || {
        let outcome = converse(&on_thread, deadline, &|what| drop(sender.send(News::Is(what))));
        let _ = sender.send(News::Done(outcome));
    });
    thread.map_err(|error| Failure::new(3, format!("start a thread: {error}")))?;
    let mut doing = "starting";
    loop {
        let left = (deadline + GRACE).saturating_duration_since(Instant::now());
        match news.recv_timeout(left) {
            Ok(News::Is(what)) => doing = what,
            Ok(News::Done(outcome)) => return outcome,
            Err(_) => return Err(Failure::new(4, format!("call {}: timed out {doing}", args.endpoint))),
        }
    }
}

/// Reads, connects and calls.
fn converse(args: &Args, deadline: Instant, now: &dyn Fn(&'static str)) -> Outcome {
    let mut data = args.data.as_encoded_bytes().to_vec();
    let mut has_more = false;
    if args.data == "-" {
        now("reading standard input");
        data.clear();
        has_more = read_input(&mut data, USUAL_MOST)?;
    }
    let left = || Some(deadline.saturating_duration_since(Instant::now()));
    now("connecting");
    let client =
        connect(args, left()).map_err(|error| Failure::new(status(&error, false), error.to_string()))?;
    if has_more {
        let most = client.request_limit().unwrap_or(USUAL_MOST);
        now("reading standard input");
        if data.len() > most || read_input(&mut data, most)? {
            let text = format!("standard input: more than {most} bytes, which is what the server takes");
            return Err(Failure::new(2, text));
        }
    }
    now("waiting for the server");
    let called = match &args.wanted {
        Wanted::Type(msg_type) => Called { msg_type: *msg_type, form: Form::Bytes },
        Wanted::Name(name) => look_up(args, name, &client, left().unwrap_or_default(), &mut data)?,
    };
    let request = client.request(called.msg_type).timeout(left());
    let result = if args.stream {
        // The client goes along, since its end would be theirs.
        request.timeout(args.timeout).stream(&data).map(|parts| Came::Parts(called, parts, client))
    } else if args.endpoint.kind() == EndpointKind::OneWay || args.notify {
        request.notify(&data).map(|()| Came::Nothing)
    } else {
        request.exchange(&data).map(|response| Came::Response(called, response))
    };
    result.map_err(|error| Failure::new(status(&error, true), error.to_string()))
}

/// What is called like this, by what the server says of itself. The data is to be JSON.
fn look_up(
    args: &Args,
    name: &str,
    client: &Client,
    timeout: Duration,
    data: &mut Vec<u8>,
) -> Result<Called, Failure> {
    let endpoint = &args.endpoint;
    let description = Description::ask(client, timeout).map_err(|why| {
        let (status, text) = describe::failed(endpoint, why);
        Failure::new(status, format!("look up {name}: {text}"))
    })?;
    let Some(message) = description.message(name) else {
        let names = description.names();
        return Err(Failure::new(2, format!("{endpoint}: there is no message {name}; there are: {names}")));
    };
    let msg_type = message.number;
    if message.encoding != "json" {
        let encoding = escaped(message.encoding.as_bytes());
        let text = format!(
            "{endpoint}: {name} does not travel as JSON but as {encoding}, which this tool can't write or read; call \
             it by its number, {msg_type}, with the bytes"
        );
        return Err(Failure::new(2, text));
    }
    if data.is_empty() {
        *data = message.nothing(&description).into();
    } else if let Err(error) = serde_json::from_slice::<Value>(data) {
        return Err(Failure::new(2, format!("what is to be sent to {name} is no JSON: {error}")));
    }
    Ok(Called { msg_type, form: Form::Json })
}

/// What a server takes that has not been told otherwise: `Limits::max_payload`. Servers say so only once
/// we are connected, and nobody should wait for us to read.
const USUAL_MOST: usize = 16 << 20;

/// Appends until there are more than `most` bytes (`true`), or the input has ended.
fn read_input(data: &mut Vec<u8>, most: usize) -> Result<bool, Failure> {
    if !sidewire_platform::has_standard_input() {
        return Err(Failure::new(2, "standard input: it is closed"));
    }
    let room = (most + 1).saturating_sub(data.len()) as u64;
    let read = Patient::new(std::io::stdin().lock()).take(room).read_to_end(data);
    read.map_err(|error| Failure::new(2, format!("standard input: {error}")))?;
    Ok(data.len() > most)
}

fn connect(args: &Args, timeout: Option<Duration>) -> Result<Client, Error> {
    let connect = args.whom.within(&args.endpoint, timeout)?;
    match args.classic_fixed {
        Some(bytes) => connect.classic_fixed(bytes).open(),
        None if args.classic => connect.classic().open(),
        None => connect.open(),
    }
}

/// Says why one of the other commands has failed. `is_open`: the connection was there.
pub(crate) fn failed(error: &Error, is_open: bool) -> ExitCode {
    complain(error);
    ExitCode::from(status(error, is_open))
}

/// The exit status. `is_open`: the connection was there.
pub(crate) fn status(error: &Error, is_open: bool) -> u8 {
    if error.result_code().is_some() {
        1
    } else if error.is_timeout() {
        4
    } else if error.is_invalid_input() || error.is_unsupported() {
        2
    } else if error.is_protocol() {
        5
    } else if error.is_not_listening() || error.is_refused() || !is_open {
        3
    } else {
        // The connection is broken, by the server's end or by the system's failure.
        6
    }
}

/// Prints a response. Returns the exit status.
fn show(args: &Args, called: Called, response: &Response) -> u8 {
    let rc = response.result_code();
    // Where there is no handshake, a server that does not let us in says so here.
    if response.may_be_refusal() {
        complain(&format!("call {} (type {}): refused: {rc}", args.endpoint, called.msg_type));
        return 3;
    }
    if response.is_explanation() {
        complain(&format!("{rc}: {}", String::from_utf8_lossy(response.payload()).escape_debug()));
        return u8::from(!rc.is_ok());
    }
    if !rc.is_ok() {
        complain(&rc);
    }
    let printed = match args.hex {
        true => {
            let end = if output::is_terminal() { "\n" } else { "" };
            output::print((hexadecimal(response.payload()) + end).as_bytes())
        }
        false if called.form == Form::Json => output::print(json(response.payload()).as_bytes()),
        false => output::print(response.payload()),
    };
    match (rc.is_ok(), printed) {
        (false, _) => 1,
        (true, Printed::Lost) => 7,
        (true, Printed::Whole | Printed::ReaderLeft) => 0,
    }
}

/// A line, whatever it really is.
pub(crate) fn json(payload: &[u8]) -> String {
    let text = match std::str::from_utf8(payload) {
        Ok(text) => harmless(text.trim_end()),
        Err(_) => escaped(payload),
    };
    if text.is_empty() { text } else { text + "\n" }
}
