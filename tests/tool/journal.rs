//! A server that writes down what it executes before it says so, and clients that write down what they were told: so
//! that it can be known of a process that was killed.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::time::{Duration, Instant};

use sidewire::{Client, Connect, Endpoint, Error, Responder, Server};

use crate::stage::Stage;
use crate::util::{Process, announce, usual};

/// Executes the number in its payload, and answers with it.
pub(crate) const EXECUTE: u16 = 1;
/// The same, and is never answered.
pub(crate) const HOLD: u16 = 2;
/// Answers with how many connections there are.
pub(crate) const CONNECTIONS: u16 = 3;

/// What to be, and where.
const ROLE: &str = "SIDEWIRE_TEST_ROLE";
const ENDPOINT: &str = "SIDEWIRE_TEST_ENDPOINT";
const JOURNAL: &str = "SIDEWIRE_TEST_JOURNAL";
/// The first of a client's numbers.
const FIRST: &str = "SIDEWIRE_TEST_FIRST";

/// So many numbers has each load for itself.
pub(crate) const NUMBERS: u64 = 1_000_000_000;
/// Calls of a window.
const WINDOW: usize = 32;

/// This test binary once more, with one test only, which plays this role.
fn program(stage: &Stage, role: &str, journal: &Path) -> Command {
    let own = std::env::current_exe().expect("the test binary");
    let mut command =
        stage.command(own, ["--exact", "journal::plays_its_role", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(JOURNAL, journal);
    command
}

/// A server that executes numbers.
pub(crate) struct Executing {
    pub(crate) process: Process,
    journal: PathBuf,
}

impl Executing {
    pub(crate) fn start(stage: &Stage) -> Executing {
        let journal = stage.path("executed");
        let endpoint = stage.unix("s");
        let process = Process::start(program(stage, "serve", &journal).env(ENDPOINT, endpoint), 1);
        Executing { process, journal }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.process.endpoints[0]
    }

    /// All that it has executed. None of it twice.
    pub(crate) fn executed(&self) -> HashSet<u64> {
        let all = numbers(&self.journal);
        let each: HashSet<u64> = all.iter().copied().collect();
        assert_eq!(each.len(), all.len(), "something was executed twice");
        each
    }
}

/// A process that has two connections, and asks over both as fast as it can.
pub(crate) struct Asking {
    pub(crate) process: Process,
    told: PathBuf,
}

impl Asking {
    /// It is under way, and was told something already.
    pub(crate) fn start(stage: &Stage, endpoint: &Endpoint, first: u64) -> Asking {
        let told = stage.path(&format!("told-{first}"));
        let mut command = program(stage, "ask", &told);
        let process =
            Process::start(command.env(ENDPOINT, endpoint.to_string()).env(FIRST, first.to_string()), 1);
        Asking { process, told }
    }

    /// The numbers that the server has told it.
    pub(crate) fn told(&self) -> Vec<u64> {
        numbers(&self.told)
    }
}

/// The whole lines of a journal: whoever is killed may leave half a line, whose number nobody was told.
fn numbers(journal: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(journal).expect("a journal");
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().expect("a number")).collect()
}

fn append_to(journal: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(journal).expect("a journal")
}

#[test]
fn plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let journal = PathBuf::from(std::env::var_os(JOURNAL).expect("a journal"));
    let endpoint = std::env::var(ENDPOINT).expect("an endpoint").parse().expect("an endpoint");
    match role.as_str() {
        "serve" => serve(&endpoint, append_to(&journal)),
        "ask" => ask(&endpoint, &journal),
        _ => panic!("no such role: {role}"),
    }
    exit(0);
}

struct State {
    journal: File,
    held: Vec<Responder>,
}

impl State {
    /// In one piece, and in the system's hands when this returns.
    fn note(&mut self, number: &[u8]) -> std::io::Result<()> {
        self.journal.write_all(&[number, b"\n"].concat())
    }
}

fn serve(endpoint: &Endpoint, journal: File) {
    let mut server = Server::builder(State { journal, held: Vec::new() }).types(8).build().expect("a server");
    server.on(EXECUTE, |state, request, reply| {
        state.note(request.payload())?;
        reply.write(request.payload());
        Ok(())
    });
    server.on(HOLD, |state, request, reply| {
        state.note(request.payload())?;
        state.held.push(reply.defer()?);
        Ok(())
    });
    let counters = server.counters();
    server.on(CONNECTIONS, move |_state, _request, reply| {
        reply.write(counters.connections().to_string());
        Ok(())
    });
    let bound = server.listen(usual(endpoint)).expect("listen");
    announce(&[bound]);
    server.run().expect("run");
}

fn ask(endpoint: &Endpoint, journal: &Path) {
    let first: u64 = std::env::var(FIRST).expect("a number").parse().expect("a number");
    let clients = [(); 2].map(|()| Connect::to(endpoint).expect("an endpoint").open().expect("connect"));
    let note = |number: u64| {
        append_to(journal).write_all(format!("{number}\n").as_bytes()).expect("a note");
    };
    note(execute(&clients[0], first + 2 * NUMBERS).expect("an answer"));
    announce(std::slice::from_ref(endpoint));
    std::thread::scope(|scope| {
        for (number, client) in (0..).zip(&clients) {
            scope.spawn(move || load(client, number, first, |_| true, note));
        }
    });
}

fn execute(client: &Client, number: u64) -> Result<u64, Error> {
    let answer = client.call(EXECUTE, number.to_string())?;
    assert_eq!(answer.payload(), number.to_string().as_bytes(), "another answer");
    Ok(number)
}

/// A call that was not answered: its number, why, and when that was known.
pub(crate) struct Failed {
    pub(crate) number: u64,
    pub(crate) error: Error,
    pub(crate) at: Instant,
}

/// Asks while it is told to, or until it fails: every other load one thing after the other, the rest with a window. Hands
/// on each number that was answered. What failed is at least one call, if anything did.
pub(crate) fn load(
    client: &Client,
    load: u64,
    first: u64,
    goes_on: impl Fn(u64) -> bool,
    answered: impl Fn(u64),
) -> Vec<Failed> {
    let numbers = (first + load * NUMBERS..).take_while(|number| goes_on(*number));
    match load % 2 {
        0 => one_by_one(client, numbers, answered),
        _ => in_windows(client, numbers, answered),
    }
}

fn one_by_one(
    client: &Client,
    mut numbers: impl Iterator<Item = u64>,
    answered: impl Fn(u64),
) -> Vec<Failed> {
    let failed = numbers.find_map(|number| match execute(client, number) {
        Ok(number) => {
            answered(number);
            None
        }
        Err(error) => Some(Failed { number, error, at: Instant::now() }),
    });
    failed.into_iter().collect()
}

fn in_windows(client: &Client, numbers: impl Iterator<Item = u64>, answered: impl Fn(u64)) -> Vec<Failed> {
    let (mut failed, mut under_way) = (Vec::new(), VecDeque::new());
    let mut fail = |number, error| failed.push(Failed { number, error, at: Instant::now() });
    for number in numbers {
        match client.start(EXECUTE, number.to_string()) {
            Ok(call) => under_way.push_back((number, call)),
            Err(error) => {
                fail(number, error);
                break;
            }
        }
        if under_way.len() == WINDOW {
            let (number, call) = under_way.pop_front().expect("a window");
            match call.wait() {
                Ok(answer) => {
                    assert_eq!(answer.payload(), number.to_string().as_bytes(), "another answer");
                    answered(number);
                }
                Err(error) => {
                    fail(number, error);
                    break;
                }
            }
        }
    }
    for (number, call) in under_way {
        match call.wait() {
            Ok(_) => answered(number),
            Err(error) => fail(number, error),
        }
    }
    failed
}

/// How many connections a server has, ours included.
pub(crate) fn connections(client: &Client) -> usize {
    let answer = client.call(CONNECTIONS, b"").expect("an answer");
    String::from_utf8_lossy(answer.payload()).parse().expect("a number")
}

/// What half, nine of ten and all of these were no longer than.
pub(crate) fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)];
    format!("half within {:?}, of 100 90 within {:?}, all within {:?}", at(50), at(90), at(100))
}
