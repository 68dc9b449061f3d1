//! Rounds of all candidates in turn, and the table.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sidewire::{Access, Client, Connect, Endpoint, Listen, Server};

const ECHO: u16 = 4;
const HEADER: usize = 16;
const MEBIBYTE: usize = 1 << 20;
/// Each candidate's turns; the table shows the medians of them.
const ROUNDS: usize = 5;

/// What is asked in one row.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    payload: usize,
    window: usize,
    count: usize,
}

const LOADS: [Load; 3] = [
    Load { name: "sequential, 64 B", payload: 64, window: 1, count: 5_000 },
    Load { name: "window 16, 64 B", payload: 64, window: 16, count: 1_000 },
    Load { name: "1 MiB", payload: MEBIBYTE, window: 1, count: 40 },
];

/// Who answers, and who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    /// A server in C that waits as named, and a client in C.
    Floor(&'static str),
    /// Sidewire's server, with a client in C.
    Server,
    /// Sidewire's server and client.
    Both,
}

const PIPE: [Pair; 4] = [Pair::Floor("events"), Pair::Floor("port"), Pair::Server, Pair::Both];
const TCP: [Pair; 3] = [Pair::Floor("blocking"), Pair::Server, Pair::Both];

/// Microseconds of one window: the median, the 99th percentile, the mean.
type Times = [f64; 3];

pub(crate) fn run() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["serve", endpoint] => serve(endpoint),
        ["ask", endpoint, payload, window, count] => {
            let [payload, window, count] =
                [payload, window, count].map(|number| number.parse().expect("a number"));
            ask(endpoint, payload, window, count);
        }
        _ => compare(),
    }
}

fn compare() {
    println!(
        "| medium | load | server / client | p50 µs | p99 µs | per second | × floor (p50, per second) |"
    );
    println!("|---|---|---|---:|---:|---:|---|");
    for (medium, pairs) in [("pipe", &PIPE[..]), ("tcp", &TCP[..])] {
        for load in LOADS {
            let mut all = vec![Vec::new(); pairs.len()];
            for _ in 0..ROUNDS {
                for (pair, times) in pairs.iter().zip(&mut all) {
                    times.push(measure(medium, *pair, load));
                }
            }
            let all: Vec<Times> = all.into_iter().map(medians).collect();
            for (pair, times) in pairs.iter().zip(&all) {
                print_row(medium, load, *pair, *times, all[0]);
            }
        }
    }
}

fn print_row(medium: &str, load: Load, pair: Pair, [p50, p99, mean]: Times, floor: Times) {
    let who = match pair {
        Pair::Floor(how) => format!("C, {how} / C"),
        Pair::Server => "Sidewire / C".into(),
        Pair::Both => "Sidewire / Sidewire".into(),
    };
    let rate = |mean: f64| 1e6 * load.window as f64 / mean;
    let (slower, faster) = (p50 / floor[0], rate(mean) / rate(floor[2]));
    let (name, rate) = (load.name, rate(mean));
    println!("| {medium} | {name} | {who} | {p50:.1} | {p99:.1} | {rate:.0} | {slower:.2}, {faster:.2} |");
}

fn medians(mut rounds: Vec<Times>) -> Times {
    std::array::from_fn(|column| {
        rounds.sort_by(|one, other| one[column].total_cmp(&other[column]));
        rounds[rounds.len() / 2][column]
    })
}

/// One turn of one pair, in processes of their own.
fn measure(medium: &str, pair: Pair, load: Load) -> Times {
    let own = std::env::current_exe().expect("our own path");
    let name = format!("sidewire-bench-{}-{}", std::process::id(), unique());
    // The floor's messages are as long as Sidewire's frames.
    let frame = (load.payload + HEADER).to_string();
    let (endpoint, place) = match medium {
        "pipe" => (format!("pipe:{name}"), format!(r"\\.\pipe\{name}")),
        _ => ("tcp:127.0.0.1:0".to_owned(), "0".to_owned()),
    };
    let mut server = match pair {
        Pair::Floor(how) => Process::new(&floor(), &["serve", how, &place, &frame]),
        Pair::Server | Pair::Both => Process::new(&own, &["serve", &endpoint]),
    };
    let reached = server.ready();
    let place = if medium == "pipe" { place } else { reached.clone() };
    let (window, count) = (load.window.to_string(), load.count.to_string());
    let layout = if let Pair::Floor(_) = pair { "raw" } else { "v1" };
    let mut client = match pair {
        Pair::Both => {
            let endpoint = if medium == "pipe" { endpoint } else { format!("tcp:127.0.0.1:{reached}") };
            Process::new(&own, &["ask", &endpoint, &load.payload.to_string(), &window, &count])
        }
        _ => Process::new(&floor(), &["ask", medium, layout, &place, &frame, &window, &count]),
    };
    let line = client.line();
    let times: Vec<f64> = line.split_whitespace().map(|number| number.parse().expect("a number")).collect();
    times.try_into().expect("three numbers")
}

/// A process that is ended when this is dropped.
struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn new(program: &PathBuf, args: &[&str]) -> Process {
        let mut child = Command::new(program).args(args).stdout(Stdio::piped()).spawn().expect("a process");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Process { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let mut bounded = (&mut self.output).take(4_096);
        bounded.read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "the process said {line:?} and ended");
        line
    }

    /// Where it listens.
    fn ready(&mut self) -> String {
        let line = self.line();
        line.trim().strip_prefix("ready ").expect("the word that it is ready").to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The one that has ended already can't be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unique() -> u128 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos())
}

/// The C program, where `ci/windows` puts it: beside the profile's folder.
fn floor() -> PathBuf {
    let own = std::env::current_exe().expect("our own path");
    own.ancestors().nth(3).expect("the target's folder").join("c").join("floor.exe")
}

fn serve(endpoint: &str) {
    let mut server = Server::new(());
    server.on(ECHO, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let access = access(&endpoint);
    match server.listen(Listen::from(endpoint).access(access)).expect("a listener") {
        Endpoint::Tcp { port, .. } => println!("ready {port}"),
        other => println!("ready {other}"),
    }
    server.run().expect("a loop that ends well");
}

fn access(endpoint: &Endpoint) -> Access {
    if endpoint.has_credentials() { Access::SameUser } else { Access::Anyone }
}

fn ask(endpoint: &str, payload: usize, window: usize, count: usize) {
    let endpoint: Endpoint = endpoint.parse().expect("an endpoint");
    let access = access(&endpoint);
    let client: Client = Connect::to(&endpoint).expect("an address").access(access).open().expect("a client");
    let payload = vec![7; payload];
    let round = || match window {
        1 => drop(client.call(ECHO, &payload).expect("a reply")),
        _ => {
            let started: Vec<_> =
                (0..window).map(|_| client.request(ECHO).start(&payload).expect("a request")).collect();
            for pending in started {
                pending.wait().expect("a reply");
            }
        }
    };
    (0..count / 10).for_each(|_| round());
    let mut took: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            round();
            began.elapsed()
        })
        .collect();
    let mean = took.iter().sum::<Duration>().as_secs_f64() * 1e6 / count as f64;
    took.sort();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!("{:.2} {:.2} {mean:.2}", micros(took[count / 2]), micros(took[count * 99 / 100]));
}
