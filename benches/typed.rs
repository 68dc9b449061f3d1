//! What a typed call costs more than an untyped one, in instructions, on both sides:
//! `cargo bench --features serde --bench typed`. Linux, with valgrind.
//!
//! Each side runs under callgrind while the other does not, with few calls and with many: what the difference
//! took, divided by the calls, is the cost of one.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sidewire::{Client, Server};

#[derive(Serialize, Deserialize)]
struct GetStatus {
    job: u32,
    is_verbose: bool,
}

#[derive(Serialize, Deserialize)]
struct Status {
    done: u64,
    total: u64,
    state: State,
    eta: Option<f32>,
}

#[derive(Serialize, Deserialize)]
enum State {
    Idle,
    Packing { file: u32 },
}

sidewire::messages! {
    1 => GetStatus -> Status;
}

/// The same bytes without types.
const UNTYPED: u16 = 2;
const REQUEST: [u8; 3] = [0xc8, 1, 1];
const REPLY: [u8; 11] = [0x90, 0x4e, 0xa0, 0x8d, 6, 1, 7, 0, 0, 0, 0];

const FEW: u32 = 2_000;
const MANY: u32 = 12_000;

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(),
        ["serve", endpoint] => serve(endpoint),
        ["call", endpoint, what, times] => call(endpoint, what, times.parse()?),
        _ => Err("serve ENDPOINT, or call ENDPOINT typed|untyped TIMES".into()),
    }
}

fn compare() -> Result<()> {
    let mut costs = Vec::new();
    for what in ["untyped", "typed"] {
        for side in [Side::Server, Side::Client] {
            let cost = f64::from(MANY - FEW).recip() * (spent(side, what, MANY)? - spent(side, what, FEW)?);
            println!("{what} call: {cost:.0} instructions of the {side:?}");
            costs.push(cost);
        }
    }
    if let [server, client, typed_server, typed_client] = costs[..] {
        println!(
            "ratio: {:.2} on the server, {:.2} on the client",
            typed_server / server,
            typed_client / client
        );
    }
    Ok(())
}

/// Who runs under callgrind.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Server,
    Client,
}

/// How many instructions one side took for so many calls.
fn spent(side: Side, what: &str, times: u32) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("callgrind.out");
    let endpoint = format!("unix:{}", folder.path().join("bench").display());
    let mut server = command((side == Side::Server).then_some(&*out)).args(["serve", &endpoint]).spawn()?;
    let mut line = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let mut client = command((side == Side::Client).then_some(&*out));
    let called = client.args(["call", &endpoint, what, &times.to_string()]).spawn()?.wait()?;
    drop(server.stdin.take());
    if !called.success() || !server.wait()?.success() {
        return Err(format!("{what} calls failed").into());
    }
    let counted = std::fs::read_to_string(&out)?;
    let total =
        counted.lines().find_map(|line| line.strip_prefix("totals: ").or(line.strip_prefix("summary: ")));
    Ok(total.ok_or("callgrind has no total")?.trim().parse()?)
}

/// This program, under callgrind if that is to count.
fn command(out: Option<&Path>) -> Command {
    let this = std::env::current_exe().unwrap_or_default();
    let mut command = match out {
        Some(out) => {
            let mut command = Command::new("valgrind");
            let out = format!("--callgrind-out-file={}", out.display());
            command.args(["--quiet", "--tool=callgrind", &out]).arg(this);
            command
        }
        None => Command::new(this),
    };
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// Until standard input ends.
fn serve(endpoint: &str) -> Result<()> {
    let mut server = Server::new(10_000u64);
    server.serve::<GetStatus>(|done, status| {
        let state = if status.is_verbose { State::Packing { file: 7 } } else { State::Idle };
        Ok(Status { done: *done, total: u64::from(status.job) * 500, state, eta: None })
    });
    server.on(UNTYPED, |_, request, reply| {
        std::hint::black_box(request.payload());
        reply.write(REPLY);
        Ok(())
    });
    let bound = server.listen(endpoint)?;
    let remote = server.remote()?;
    std::thread::spawn(move || {
        println!("listening {bound}");
        // However that ends.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        remote.stop()
    });
    Ok(server.run()?)
}

fn call(endpoint: &str, what: &str, times: u32) -> Result<()> {
    let client = Client::connect(endpoint)?;
    for _ in 0..times {
        if what == "typed" {
            let status = client.ask(&GetStatus { job: 200, is_verbose: true })?;
            std::hint::black_box(status.done);
        } else {
            std::hint::black_box(client.call(UNTYPED, REQUEST)?.payload());
        }
    }
    Ok(())
}
