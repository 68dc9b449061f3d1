//! `sidewire demo`: two processes talk over every endpoint that this system has.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint, Listen, Peer, Server};

use sidewire_platform::{datagram_schemes, stream_schemes};

use crate::store::{self, ECHO, GET, GREETING, SET, SET_AND_GET};
use crate::{complain, serve};

/// Shows it all at work: starts a helper process and talks to it over every endpoint
///
/// On each endpoint it does get, set, get, set-and-get, a request that must fail, and 10,000
/// echoes of 64 bytes, and prints a row of what came of it. Endpoints have random names, so that
/// demos may run side by side. Exit status: 0 if everything was as it should be, 1 otherwise.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Echoes on each endpoint
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    echoes: u32,
}

#[derive(clap::Args)]
pub(crate) struct HelperArgs {
    #[arg(value_parser = crate::endpoint)]
    endpoints: Vec<Endpoint>,
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// How long the helper may take to get ready, and to end.
const HELPER_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of one echo.
const ECHO_SIZE: usize = 64;
/// A type of the store's table without a handler, and what is answered to it.
const WITHOUT_HANDLER: (u16, i32) = (9, -2);

pub(crate) fn run(args: &Args) -> ExitCode {
    match run_all(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run_all(args: &Args) -> Outcome<bool> {
    let mut helper = Helper::start(&endpoints()?)?;
    say(&format!("helper process {} serves {} endpoints", helper.child.id(), helper.endpoints.len()));
    say("");
    say(Row::HEAD);
    let mut all_right = true;
    for endpoint in &helper.endpoints {
        let row = Row::of(endpoint, helper.child.id(), args.echoes);
        all_right &= row.is_right();
        say(&row.to_string());
    }
    say("");
    let status = helper.stop()?;
    if !status.success() {
        complain(&format!("the helper ended with {status}"));
        all_right = false;
    }
    say(if all_right { "all right" } else { "NOT all right: see the rows above" });
    Ok(all_right)
}

/// One of each kind of endpoint that this system has, under names that nobody else uses; but for
/// mailslots, which answer nothing.
fn endpoints() -> Outcome<Vec<String>> {
    let unique = format!("sidewire-demo-{:08x}", getrandom::u32()?);
    let make = |scheme: &&str| match *scheme {
        "tcp" | "udp" => format!("{scheme}:127.0.0.1:0"),
        // Other names than the socket of `local:` has, which may lie in the same folder.
        "unix" | "unixgram" => {
            let path = std::env::temp_dir().join(format!("{unique}-path.{scheme}"));
            format!("{scheme}:{}", path.display())
        }
        scheme => format!("{scheme}:{unique}"),
    };
    let schemes = stream_schemes().iter().chain(datagram_schemes());
    Ok(schemes.filter(|scheme| **scheme != "mailslot").map(make).collect())
}

/// The helper process: this program again, with another command.
struct Helper {
    child: Child,
    endpoints: Vec<Endpoint>,
}

impl Helper {
    fn start(endpoints: &[String]) -> Outcome<Helper> {
        let child = Command::new(std::env::current_exe()?)
            .arg("demo-helper")
            .args(endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut helper = Helper { child, endpoints: Vec::new() };
        let Some(stdout) = helper.child.stdout.take() else { return Err("the helper has no output".into()) };
        let (lines, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let until = Instant::now() + HELPER_PATIENCE;
        while helper.endpoints.len() < endpoints.len() {
            let line = ready
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .map_err(|_| "the helper did not get ready")?;
            if let Some(endpoint) = line.strip_prefix("listening ") {
                helper.endpoints.push(endpoint.parse()?);
            }
        }
        Ok(helper)
    }

    /// Closing its standard input tells it to end.
    fn stop(&mut self) -> Outcome<ExitStatus> {
        drop(self.child.stdin.take());
        let until = Instant::now() + HELPER_PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the helper did not end".into())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
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
    let mut server = store::server();
    serve::stop_on_signals(&mut server)?;
    for endpoint in &args.endpoints {
        let access = if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone };
        server.listen(Listen::from(endpoint).access(access))?;
    }
    stop_with_input(&mut server)?;
    serve::announce(&server);
    server.run()?;
    Ok(())
}

/// So that the helper never outlives the demo, however that ends.
fn stop_with_input<S>(server: &mut Server<S>) -> Outcome<()> {
    let remote = server.remote()?;
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        let _ = remote.stop();
    });
    Ok(())
}

/// One line of the table.
struct Row {
    endpoint: Endpoint,
    peer: String,
    /// What came of each step: nothing, or what was wrong.
    steps: [Result<(), String>; 6],
    median: Option<Duration>,
}

impl Row {
    const HEAD: &str = "endpoint                                              peer                      get  set  get  set+get  fail  echo  median round trip";

    fn of(endpoint: &Endpoint, helper: u32, echoes: u32) -> Row {
        let nothing = || Err("not tried".to_owned());
        let mut row = Row {
            endpoint: endpoint.clone(),
            peer: String::new(),
            steps: [nothing(), nothing(), nothing(), nothing(), nothing(), nothing()],
            median: None,
        };
        match connect(endpoint) {
            Ok(client) => row.fill(&client, helper, echoes),
            Err(error) => row.peer = error.to_string(),
        }
        row
    }

    fn fill(&mut self, client: &Client, helper: u32, echoes: u32) {
        self.peer = describe(client.peer());
        let text = format!("written over {}", self.endpoint);
        let get = |expected: &[u8]| expect(client, GET, b"", expected);
        self.steps = [
            get(GREETING).and(is_helper(client.peer(), helper)),
            expect(client, SET, text.as_bytes(), b""),
            get(text.as_bytes()),
            // Puts things back as the next endpoint expects them.
            expect(client, SET_AND_GET, GREETING, text.as_bytes()),
            expect_failure(client),
            echo(client, echoes).map(|median| self.median = Some(median)),
        ];
    }

    fn is_right(&self) -> bool {
        self.steps.iter().all(Result::is_ok)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mark = |step: &Result<(), String>| if step.is_ok() { "ok" } else { "BAD" };
        let [get, set, get_again, set_and_get, failure, echo] = self.steps.each_ref().map(mark);
        let endpoint = self.endpoint.to_string();
        write!(f, "{endpoint:<52}  {:<24}  {get:<3}  {set:<3}  {get_again:<3}  ", self.peer)?;
        write!(f, "{set_and_get:<7}  {failure:<4}  {echo:<4}  ")?;
        match self.median {
            Some(median) => write!(f, "{:.1} µs", median.as_secs_f64() * 1e6)?,
            None => write!(f, "-")?,
        }
        self.steps.iter().filter_map(|step| step.as_ref().err()).try_for_each(|why| write!(f, "\n    {why}"))
    }
}

fn connect(endpoint: &Endpoint) -> Result<Client, sidewire::Error> {
    let access = if endpoint.can_verify_server() { Access::SameUser } else { Access::Anyone };
    Connect::to(endpoint)?.access(access).open()
}

fn describe(peer: &Peer) -> String {
    let Some(credentials) = &peer.credentials else { return "not known".into() };
    let user = sidewire::user_name(&credentials.user).unwrap_or_else(|| credentials.user.to_string());
    match credentials.pid {
        Some(pid) => format!("{user}, pid {pid}"),
        None => user,
    }
}

fn is_helper(peer: &Peer, helper: u32) -> Result<(), String> {
    match peer.credentials.as_ref().and_then(|credentials| credentials.pid) {
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
        Err(error) if error.result_code().is_some_and(|got| got.0 == rc) => Ok(()),
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

/// Prints a line. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
