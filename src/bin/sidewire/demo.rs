//! `sidewire demo`: two processes talk over every endpoint that this system has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint, Listen, Peer};

use sidewire_platform::{datagram_schemes, stream_schemes};

use crate::offspring::{self, Offspring, Outcome, PATIENCE};
use crate::output::{self, Printed, complain};
use crate::serve;
use crate::store::{self, ECHO, GET, GREETING, SET, SET_AND_GET};

/// Shows it all at work: starts a helper process and talks to it over every endpoint
///
/// On each endpoint it does get, set, get, set-and-get, a request that must fail, and 10,000
/// echoes of 64 bytes, and prints a row of what came of it. Endpoints have random names, so that
/// demos may run side by side; sockets with a path lie in $TMPDIR if they fit there, else in /tmp.
///
/// Exit status: 0 everything was as it should be; also when whoever reads closes its end early
///              1 something was not: a row or standard error says what
///              2 usage: a bad argument
///              7 all was well, but standard output did not take all of the rows
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Echoes on each endpoint
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    echoes: u32,
}

#[derive(clap::Args)]
pub(crate) struct HelperArgs {
    #[arg(value_parser = crate::endpoint_parser())]
    endpoints: Vec<Endpoint>,
}

/// Bytes of one echo.
const ECHO_SIZE: usize = 64;
/// A type of the store's table without a handler, and what is answered to it.
const WITHOUT_HANDLER: (u16, i32) = (9, -2);

pub(crate) fn run(args: &Args) -> ExitCode {
    let mut screen = Screen { has_lost: false };
    match run_all(args, &mut screen) {
        Ok(true) if screen.has_lost => ExitCode::from(7),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Where the rows go.
struct Screen {
    /// Whether standard output has refused any.
    has_lost: bool,
}

impl Screen {
    /// Prints a line. That it could not be printed is said once, and no reason to stop.
    fn say(&mut self, line: &str) {
        if !self.has_lost {
            self.has_lost = output::print(format!("{line}\n").as_bytes()) == Printed::Lost;
        }
    }
}

fn run_all(args: &Args, screen: &mut Screen) -> Outcome<bool> {
    let (mut helper, places) = start_helper(endpoints()?)?;
    let (process, count) = (helper.child().id(), places.iter().filter(|place| place.is_ok()).count());
    screen.say(&format!("helper process {process} serves {count} endpoints"));
    screen.say("");
    screen.say(Row::HEAD);
    let mut all_right = true;
    for place in &places {
        let row = Row::of(place, process, args.echoes);
        all_right &= row.is_right();
        screen.say(&row.to_string());
    }
    screen.say("");
    let status = helper.stop()?;
    if !status.success() {
        complain(&format!("the helper ended with {status}"));
        all_right = false;
    }
    screen.say(if all_right { "all right" } else { "NOT all right: see the rows above" });
    Ok(all_right)
}

/// One of each kind of endpoint that this system has, under names that nobody else uses; but for
/// mailslots, which answer nothing.
fn endpoints() -> Outcome<Vec<Result<Endpoint, NotServed>>> {
    let unique = format!("sidewire-demo-{:08x}", getrandom::u32()?);
    let make = |scheme: &str| match scheme {
        "tcp" | "udp" => Ok(format!("{scheme}:127.0.0.1:0").parse()?),
        // Other names than the socket of `local:` has, which may lie in the same folder.
        "unix" | "unixgram" => in_some_folder(scheme, &format!("{unique}-path.{scheme}")),
        scheme => Ok(format!("{scheme}:{unique}").parse()?),
    };
    let place = |scheme: &&str| {
        let failed =
            |why: Box<dyn std::error::Error>| NotServed { name: format!("{scheme}:"), why: why.to_string() };
        make(scheme).map_err(failed)
    };
    let schemes = stream_schemes().iter().chain(datagram_schemes());
    Ok(schemes.filter(|scheme| **scheme != "mailslot").map(place).collect())
}

/// A socket's path must be short, and UTF-8 to be shown: `$TMPDIR` if it will do, else /tmp.
fn in_some_folder(scheme: &str, name: &str) -> Outcome<Endpoint> {
    let folders = [std::env::temp_dir(), PathBuf::from("/tmp")];
    let mut why = Vec::new();
    for folder in &folders {
        match endpoint_in(folder, scheme, name) {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => why.push(format!("{}: {error}", folder.display().to_string().escape_debug())),
        }
    }
    Err(why.join("; ").into())
}

fn endpoint_in(folder: &Path, scheme: &str, name: &str) -> Outcome<Endpoint> {
    let path = folder.join(name);
    let text = path.to_str().ok_or("not UTF-8")?;
    if text.contains(char::is_control) {
        return Err("a line could not show it".into());
    }
    let endpoint = format!("{scheme}:{text}").parse()?;
    // That a socket can be put there shows only when something is.
    std::fs::File::create_new(&path)?;
    std::fs::remove_file(&path)?;
    Ok(endpoint)
}

/// An endpoint that is not served, and why.
struct NotServed {
    name: String,
    why: String,
}

/// Starts the helper with what it is to serve; returns it with what it serves, as really bound.
fn start_helper(
    mut places: Vec<Result<Endpoint, NotServed>>,
) -> Outcome<(Offspring, Vec<Result<Endpoint, NotServed>>)> {
    let asked = places.iter().filter_map(|place| place.as_ref().ok()).map(Endpoint::to_string);
    let helper = Offspring::start("demo-helper", asked)?;
    let until = Instant::now() + PATIENCE;
    for place in places.iter_mut().filter(|place| place.is_ok()) {
        let line = helper.line(until)?;
        let Ok(asked) = place else { continue };
        *place = match line.strip_prefix("listening ") {
            Some(bound) => Ok(bound.parse()?),
            None => Err(NotServed { name: asked.to_string(), why: line }),
        };
    }
    Ok((helper, places))
}

/// What the helper process runs: the store, until standard input ends.
pub(crate) fn run_helper(args: &HelperArgs) -> ExitCode {
    match help(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("helper: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn help(args: &HelperArgs) -> Outcome<()> {
    let mut server = store::server()?;
    server.stop_on_signals()?;
    let mut lines = String::new();
    for endpoint in &args.endpoints {
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        match server.listen(Listen::from(endpoint).access(access)) {
            Ok(bound) => lines += &format!("listening {bound}\n"),
            Err(error) => lines += &format!("{error}\n"),
        }
    }
    offspring::stop_with_input(&mut server, || ())?;
    serve::announce(lines);
    server.run()?;
    Ok(())
}

/// One line of the table.
struct Row {
    name: String,
    /// What was done there, or why nothing could be.
    trial: Result<Trial, String>,
}

struct Trial {
    peer: String,
    /// What came of each step: nothing, or what was wrong.
    steps: [Result<(), String>; 6],
    median: Option<Duration>,
}

impl Row {
    const HEAD: &str = "endpoint                                              peer                      get  set  get  set+get  fail  echo  median round trip";

    fn of(place: &Result<Endpoint, NotServed>, helper: u32, echoes: u32) -> Row {
        match place {
            Ok(endpoint) => {
                let client = connect(endpoint).map_err(|error| error.to_string());
                let trial = client.map(|client| Trial::new(endpoint, &client, helper, echoes));
                Row { name: endpoint.to_string(), trial }
            }
            Err(NotServed { name, why }) => Row { name: name.clone(), trial: Err(why.clone()) },
        }
    }

    fn is_right(&self) -> bool {
        self.trial.as_ref().is_ok_and(|trial| trial.steps.iter().all(Result::is_ok))
    }
}

impl Trial {
    fn new(endpoint: &Endpoint, client: &Client, helper: u32, echoes: u32) -> Trial {
        let text = format!("written over {endpoint}");
        let get = |expected: &[u8]| expect(client, GET, b"", expected);
        let mut median = None;
        let steps = [
            get(GREETING).and(is_helper(&client.peer(), helper)),
            expect(client, SET, text.as_bytes(), b""),
            get(text.as_bytes()),
            // Puts things back as the next endpoint expects them.
            expect(client, SET_AND_GET, GREETING, text.as_bytes()),
            expect_failure(client),
            echo(client, echoes).map(|time| median = Some(time)),
        ];
        Trial { peer: describe(&client.peer()), steps, median }
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Row { name, trial } = self;
        let Trial { peer, steps, median } = match trial {
            Ok(trial) => trial,
            Err(why) => return write!(f, "{name:<52}  NOT SHOWN: {why}"),
        };
        let mark = |step: &Result<(), String>| if step.is_ok() { "ok" } else { "BAD" };
        let [get, set, get_again, set_and_get, failure, echo] = steps.each_ref().map(mark);
        write!(f, "{name:<52}  {peer:<24}  {get:<3}  {set:<3}  {get_again:<3}  ")?;
        write!(f, "{set_and_get:<7}  {failure:<4}  {echo:<4}  ")?;
        match median {
            Some(median) => write!(f, "{:.1} µs", median.as_secs_f64() * 1e6)?,
            None => write!(f, "-")?,
        }
        steps.iter().filter_map(|step| step.as_ref().err()).try_for_each(|why| write!(f, "\n    {why}"))
    }
}

fn connect(endpoint: &Endpoint) -> Result<Client, sidewire::Error> {
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    Connect::to(endpoint)?.access(access).open()
}

fn describe(peer: &Peer) -> String {
    let Some(credentials) = peer.credentials() else { return "not known".into() };
    let user = sidewire::user_name(credentials.user()).unwrap_or_else(|| credentials.user().to_string());
    match credentials.pid() {
        Some(pid) => format!("{user}, pid {pid}"),
        None => user,
    }
}

fn is_helper(peer: &Peer, helper: u32) -> Result<(), String> {
    match peer.credentials().and_then(sidewire::Credentials::pid) {
        Some(pid) if pid != helper => Err(format!("the peer is process {pid}, not the helper {helper}")),
        _ => Ok(()),
    }
}

fn expect(client: &Client, msg_type: u16, payload: &[u8], expected: &[u8]) -> Result<(), String> {
    let response = client.call(msg_type, payload).map_err(|error| error.to_string())?;
    match response.payload() == expected {
        true => Ok(()),
        false => Err(format!(
            "type {msg_type}: got '{}', expected '{}'",
            response.payload().escape_ascii(),
            expected.escape_ascii()
        )),
    }
}

fn expect_failure(client: &Client) -> Result<(), String> {
    let (msg_type, rc) = WITHOUT_HANDLER;
    match client.call(msg_type, b"") {
        Err(error) if error.result_code().is_some_and(|got| got.code() == rc) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err(format!("type {msg_type} was answered, though it has no handler")),
    }
}

/// Median round trip of so many echoes, one after the other.
fn echo(client: &Client, count: u32) -> Result<Duration, String> {
    let mut times = Vec::with_capacity(count as usize);
    let mut payload = [0x2e; ECHO_SIZE];
    for number in 0..count {
        payload[..4].copy_from_slice(&number.to_le_bytes());
        let start = Instant::now();
        let response = client.call(ECHO, payload).map_err(|error| format!("echo {number}: {error}"))?;
        times.push(start.elapsed());
        if response.payload() != payload {
            return Err(format!("echo {number} came back changed"));
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
