//! `sidewire-bridge bench`: what a bridge costs, beside bare NATS in the same run.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::Client as Nats;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sidewire::tokio::Client;
use sidewire::{Connect, Server};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Result;

/// Measures round trips and throughput through two bridges, and beside it of bare NATS
///
/// A server that answers with what it was asked, `serve`, `connect`, and a client in processes on this machine, and the same
/// 64 bytes over two connections of the NATS client alone. They take turns, so that what else this machine does
/// meets both. It prints the medians of the rounds, and the bridge's share.
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
    let (bare, bridged) = result?;
    let [bare, bridged] = [bare, bridged].map(median);
    println!("              p50        window {WINDOW}");
    for (name, round) in [("bare NATS", bare), ("bridges", bridged)] {
        println!("{name:<10} {:>7.1} us  {:>8.0} calls/s", micros(round.p50), round.rate);
    }
    println!(
        "{:<10} {:>7.2} x   {:>8.2} x",
        "share",
        micros(bridged.p50) / micros(bare.p50),
        bridged.rate / bare.rate
    );
    Ok(())
}

async fn measure(args: &Args, folder: &Path) -> Result<(Vec<Round>, Vec<Round>)> {
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
    let client = Connect::to(far.as_str()).map_err(failed)?.open_async().await.map_err(failed)?;
    let nats = Bare::start(&args.nats).await?;
    let (mut bare, mut bridged) = (Vec::new(), Vec::new());
    // The first round of each only warms up.
    for round in 0..=args.rounds {
        let (one, other) = (nats.round(args.calls).await?, through(&client, args.calls).await?);
        if round > 0 {
            bare.push(one);
            bridged.push(other);
        }
    }
    drop(client);
    running.stop().map_err(failed)?;
    Ok((bare, bridged))
}

/// This program again, which is killed when the child is dropped.
async fn bridge(arguments: &[&str], nats: &str, line: &str) -> Result<Child> {
    let program = std::env::current_exe().map_err(|error| format!("bench: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments).args(["--nats", nats, "--app", APP]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("bench: {error}"))?;
    let Some(output) = child.stdout.take() else { return Err("bench: a process without output".into()) };
    let said = BufReader::new(output).lines().next_line().await;
    match said {
        Ok(Some(said)) if said.starts_with(line) => Ok(child),
        _ => Err(format!("bench: sidewire-bridge {} did not begin", arguments.join(" "))),
    }
}

async fn through(client: &Client, calls: u32) -> Result<Round> {
    let call = || async { client.call(1, PAYLOAD).await.map(drop).map_err(|error| error.to_string()) };
    round(calls, call).await
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
    took.sort_unstable();
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
    Ok(Round { p50: took[took.len() / 2], rate: f64::from(all) / began.elapsed().as_secs_f64() })
}

fn median(mut rounds: Vec<Round>) -> Round {
    let middle = rounds.len() / 2;
    rounds.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let rate = rounds[middle].rate;
    rounds.sort_by_key(|round| round.p50);
    Round { p50: rounds[middle].p50, rate }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
