//! `sidewire-bridge bench`: what a bridge costs, beside bare NATS in the same run.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::Client as Nats;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sidewire::tokio::Client;
use sidewire::{Connect, Server};

use crate::Result;

/// Measures round trips and throughput through two bridges, and beside it of bare NATS
///
/// A server that answers with what it was asked, `serve`, `connect`, and a client in processes on this machine, once with
/// tasks of a runtime and once with a thread; the same 64 bytes over two connections of the NATS client alone, with tasks;
/// and tasks at the server's own socket. They take turns, so that what else this machine does meets all of them. It prints
/// the medians of the rounds, the bridges' shares of bare NATS, and what that share would be by a model in which bridges
/// themselves cost nothing: a call over them is one over NATS and two over a socket, and their times add up. That is no
/// bound: with processors to spare throughput can be more.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// A broker on this machine
    #[arg(long, value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    nats: String,
    /// Round trips in a round, one after the other
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..))]
    calls: u32,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

const PAYLOAD: [u8; 64] = [b'x'; 64];
const WINDOW: usize = 64;
/// Calls in a window, for each one of those one after the other.
const MORE: u32 = 4;
const APP: &str = "sidewire-bench";

/// What one round says: the median of the round trips, and calls in a second with 64 at a time.
#[derive(Clone, Copy)]
struct Round {
    p50: Duration,
    rate: f64,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| format!("bench: {error}");
    let folder = std::env::temp_dir().join(format!("sidewire-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|error| failed(&error))?;
    let result = measure(&args, &folder).await;
    let _ = std::fs::remove_dir_all(&folder);
    let rounds = result?;
    println!("              p50        window {WINDOW}");
    for (which, name) in ["socket", "bare NATS", "tasks", "a thread"].into_iter().enumerate() {
        let [p50, rate] = medians(&rounds, |round| [micros(round[which].p50), round[which].rate]);
        println!("{name:<10} {p50:>7.1} us  {rate:>8.0} calls/s");
    }
    // Of each round, since what else the machine does is another thing in the next.
    for (which, name) in [(TASKS, "share"), (THREAD, "  thread's")] {
        let [p50, rate] = medians(&rounds, |round| {
            [micros(round[which].p50) / micros(round[BARE].p50), round[which].rate / round[BARE].rate]
        });
        println!("{name:<10} {p50:>7.2} x   {rate:>8.2} x");
    }
    let [p50, rate] = medians(&rounds, |[socket, bare, ..]| {
        [1.0 + 2.0 * micros(socket.p50) / micros(bare.p50), 1.0 / (1.0 + 2.0 * bare.rate / socket.rate)]
    });
    println!("{:<10} {p50:>7.2} x   {rate:>8.2} x", "model");
    Ok(())
}

/// What a round measures: at the server's own socket, over bare NATS, over bridges with tasks, and with a thread.
const BARE: usize = 1;
const TASKS: usize = 2;
const THREAD: usize = 3;

async fn measure(args: &Args, folder: &Path) -> Result<Vec<[Round; 4]>> {
    let endpoint = |name: &str| format!("unix:{}", folder.join(name).display());
    let mut server = Server::new(());
    server.on(1, |(), request, reply| {
        reply.write(request.payload());
        Ok(())
    });
    let failed = |error: sidewire::Error| error.to_string();
    server.listen(endpoint("near").as_str()).map_err(failed)?;
    let running = server.spawn().map_err(failed)?;
    let (near, far) = (endpoint("near"), endpoint("far"));
    let _serve = bridge(&["serve", &near, "--types", "1", "--shared"], &args.nats, "serving ").await?;
    let _connect = bridge(&["connect", &far], &args.nats, "listening ").await?;
    let connect = async |endpoint: &str| {
        let opened = Connect::to(endpoint).map_err(failed)?.open_async().await;
        opened.map_err(failed)
    };
    let (at_socket, at_bridge) = (connect(&near).await?, connect(&far).await?);
    let nats = Bare::start(&args.nats).await?;
    let mut rounds = Vec::new();
    // The first one only warms up.
    for round in 0..=args.rounds {
        let (socket, bare) = (through(&at_socket, args.calls).await?, nats.round(args.calls).await?);
        let (tasks, thread) = (through(&at_bridge, args.calls).await?, with_thread(&far, args.calls).await?);
        if round > 0 {
            rounds.push([socket, bare, tasks, thread]);
        }
    }
    drop((at_socket, at_bridge));
    running.stop().map_err(failed)?;
    Ok(rounds)
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// This program again, once it says so.
async fn bridge(arguments: &[&str], nats: &str, line: &'static str) -> Result<Killed> {
    let program = std::env::current_exe().map_err(|error| format!("bench: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).args(["--nats", nats, "--app", APP]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Killed(command.spawn().map_err(|error| format!("bench: {error}"))?);
    let Some(output) = child.0.stdout.take() else { return Err("bench: a process without output".into()) };
    let said = tokio::task::spawn_blocking(move || BufReader::new(output).lines().next()).await;
    match said {
        Ok(Some(Ok(said))) if said.starts_with(line) => Ok(child),
        _ => Err(format!("bench: sidewire-bridge {} did not begin", arguments.join(" "))),
    }
}

async fn through(client: &Client, calls: u32) -> Result<Round> {
    let call = || async { client.call(1, PAYLOAD).await.map(drop).map_err(|error| error.to_string()) };
    round(calls, call).await
}

/// The client of threads, with one.
async fn with_thread(endpoint: &str, calls: u32) -> Result<Round> {
    let endpoint = endpoint.to_owned();
    let failed = |error: sidewire::Error| error.to_string();
    let measured = tokio::task::spawn_blocking(move || {
        let client = sidewire::Client::connect(endpoint.as_str()).map_err(failed)?;
        let mut took = Vec::with_capacity(calls as usize);
        for _ in 0..calls {
            let began = Instant::now();
            client.call(1, PAYLOAD).map_err(failed)?;
            took.push(began.elapsed());
        }
        let (began, all, mut open) = (Instant::now(), calls * MORE, VecDeque::with_capacity(WINDOW));
        for _ in 0..all {
            if open.len() >= WINDOW
                && let Some(first) = open.pop_front()
            {
                sidewire::Pending::wait(first).map_err(failed)?;
            }
            open.push_back(client.start(1, PAYLOAD).map_err(failed)?);
        }
        open.into_iter().try_for_each(|call| call.wait().map(drop)).map_err(failed)?;
        Ok(Round::of(took, all, began))
    });
    measured.await.map_err(|error| format!("bench: {error}"))?
}

/// A requester and a responder, each with a connection of its own.
struct Bare {
    client: Nats,
}

impl Bare {
    async fn start(url: &str) -> Result<Bare> {
        let connect =
            || async { async_nats::connect(url).await.map_err(|error| format!("connect to {url}: {error}")) };
        let (client, responder) = (connect().await?, connect().await?);
        let subscribed = responder.subscribe("sw-bench-bare").await;
        let mut requests = subscribed.map_err(|error| format!("bench: {error}"))?;
        responder.flush().await.map_err(|error| format!("bench: {error}"))?;
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                if let Some(reply) = request.reply {
                    let _ = responder.publish(reply, request.payload).await;
                }
            }
        });
        Ok(Bare { client })
    }

    async fn round(&self, calls: u32) -> Result<Round> {
        let call = || async {
            let answer = self.client.request("sw-bench-bare", Bytes::from_static(&PAYLOAD)).await;
            answer.map(drop).map_err(|error| error.to_string())
        };
        round(calls, call).await
    }
}

async fn round<F: Future<Output = Result<()>>>(calls: u32, call: impl Fn() -> F) -> Result<Round> {
    let mut took = Vec::with_capacity(calls as usize);
    for _ in 0..calls {
        let began = Instant::now();
        call().await?;
        took.push(began.elapsed());
    }
    let (began, all) = (Instant::now(), calls * MORE);
    let mut open = FuturesUnordered::new();
    for _ in 0..all {
        if open.len() >= WINDOW
            && let Some(done) = open.next().await
        {
            done?;
        }
        open.push(call());
    }
    while let Some(done) = open.next().await {
        done?;
    }
    Ok(Round::of(took, all, began))
}

impl Round {
    /// Of those that took so long one after the other, and so many that have begun then and were 64 at a time.
    fn of(mut took: Vec<Duration>, all: u32, began: Instant) -> Round {
        let rate = f64::from(all) / began.elapsed().as_secs_f64();
        took.sort_unstable();
        Round { p50: took[took.len() / 2], rate }
    }
}

/// Of two figures of each round.
fn medians(rounds: &[[Round; 4]], figures: impl Fn(&[Round; 4]) -> [f64; 2]) -> [f64; 2] {
    let all: Vec<[f64; 2]> = rounds.iter().map(figures).collect();
    [0, 1].map(|which| {
        let mut sorted: Vec<f64> = all.iter().map(|figures| figures[which]).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    })
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
