//! The rows: what is measured, of whom, and what it is to come to.

use crate::sides::{Client, Run, Server};

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) floor: Run,
    pub(crate) ours: Run,
    pub(crate) figures: Vec<Figure>,
}

/// One number of a row, by the name that it has in the clients' JSON.
pub(crate) struct Figure {
    pub(crate) key: &'static str,
    pub(crate) unit: &'static str,
    /// What the ratio is to be; empty: nothing is asked of it.
    pub(crate) goal: &'static str,
}

const P50: &str = "p50_us";
const P99: &str = "p99_us";
const RATE: &str = "requests_per_second";

fn figure(key: &'static str, goal: &'static str) -> Figure {
    let unit = match key {
        P50 => "µs p50",
        P99 => "µs p99",
        RATE => "requests/s",
        "mb_per_second" => "MB/s",
        "bytes_per_connection" => "bytes/connection",
        _ => "µs of server CPU",
    };
    Figure { key, unit, goal }
}

/// Sidewire's tool as the server, the same C client for both.
fn row(name: &str, what: &str, floor: &'static str, shape: &str, figures: Vec<Figure>) -> Row {
    let words = shape.split(' ').map(str::to_string).collect::<Vec<_>>();
    let run = |server| Run { server, client: Client::Floor, scheme: "unix", load: words.clone() };
    Row {
        name: name.into(),
        what: what.into(),
        floor: run(Server::Floor(floor)),
        ours: run(Server::Tool),
        figures,
    }
}

/// The same with Sidewire's own client for ours.
fn with_own_client(mut row: Row) -> Row {
    row.ours.client = Client::Own;
    row
}

fn with(mut row: Row, change: impl Fn(&mut Run)) -> Row {
    change(&mut row.floor);
    change(&mut row.ours);
    row
}

pub(crate) fn all() -> Vec<Row> {
    let cpu = || figure("server_cpu_us", "");
    let mut rows = vec![
        row(
            "sequential",
            "64 B, one after the other",
            "blocking",
            "sequential",
            vec![figure(P50, "≤ 1.02"), figure(P99, "≤ 1"), cpu()],
        ),
        with_own_client(row(
            "own-sequential",
            "the same with Sidewire's own client",
            "blocking",
            "sequential",
            vec![figure(P50, "≤ 1.05"), figure(P99, "")],
        )),
        row("window-64", "64 at a time", "batch", "window", vec![figure(RATE, "≥ .85"), cpu()]),
        row(
            "window-1000",
            "1,000 at a time",
            "batch",
            "window --window 1000 --requests 1000000",
            vec![figure(RATE, "≥ .60"), cpu()],
        ),
        with_own_client(row(
            "own-window-64",
            "64 at a time, own client: each reply matched and handed over",
            "batch",
            "window",
            vec![figure(RATE, "≥ .50")],
        )),
        row(
            "connections-64",
            "64 connections × 1",
            "batch",
            "connections",
            vec![figure(RATE, "≥ 1.00"), cpu()],
        ),
        row(
            "large",
            "1 MiB echo over the socket",
            "blocking",
            "large",
            vec![figure("mb_per_second", "≥ 1.00"), cpu()],
        ),
        with_own_client(row(
            "own-large",
            "1 MiB echo with Sidewire's own client",
            "blocking",
            "sequential --size 1048576 --requests 200",
            vec![figure("mb_per_second", "")],
        )),
        row(
            "paced",
            "1,000 requests/s",
            "blocking",
            "paced",
            vec![figure(P50, "≤ 1.1"), figure(P99, "≤ 1.2"), cpu()],
        ),
        row("idle", "10,000 idle connections", "batch", "idle", vec![figure("bytes_per_connection", "")]),
        row(
            "fan",
            "one event to 1,000 subscribers, each reading, × 1,000 raw writes",
            "fan",
            "fan --type 2",
            vec![figure(P50, "≤ 1.5"), cpu()],
        ),
        row(
            "opens",
            "connect, hello, one call, close",
            "batch",
            "opens",
            vec![figure(P50, ""), figure(P99, "")],
        ),
        deferred(),
        spinning(row("spinning", "64 B, both sides spinning", "spin", "sequential --spin", spun())),
        spinning(with_own_client(row(
            "spinning-own",
            "the same with Sidewire's own client",
            "spin",
            "sequential --spin",
            spun(),
        ))),
    ];
    for scheme in ["abstract", "tcp", "unixgram", "udp"] {
        let name = format!("{scheme}-sequential");
        let what = format!("64 B over {scheme}, one after the other");
        let made = row(&name, &what, "blocking", "sequential", vec![figure(P50, ""), figure(P99, "")]);
        rows.push(with(made, |run| run.scheme = scheme));
    }
    // From nothing to the largest payload, each eight times the one before.
    for (size, requests) in
        [(0, 20_000), (64, 20_000), (512, 20_000), (4096, 20_000), (32 << 10, 5_000), (256 << 10, 1_000)]
            .into_iter()
            .chain([(2 << 20, 100), (16 << 20, 10)])
    {
        let shape = format!("sequential --size {size} --requests {requests}");
        let what = format!("{size} bytes, one after the other");
        rows.push(row(&format!("size-{size}"), &what, "blocking", &shape, vec![figure(P50, "")]));
    }
    rows
}

/// Ours for a millisecond before it sleeps, C without end.
fn spinning(mut row: Row) -> Row {
    row.ours.server = Server::Looking;
    row
}

fn spun() -> Vec<Figure> {
    vec![figure(P50, "≤ 1.3"), figure(P99, "")]
}

/// Here the floor is Sidewire, answering at once.
fn deferred() -> Row {
    let shape = |msg_type| ["window", "--type", msg_type].map(str::to_string).to_vec();
    let run =
        |msg_type| Run { server: Server::Own, client: Client::Floor, scheme: "unix", load: shape(msg_type) };
    Row {
        name: "deferred".into(),
        what: "64 at a time answered by another thread, × answered at once".into(),
        floor: run("4"),
        ours: run("5"),
        figures: vec![figure(RATE, ""), figure("server_cpu_us", "")],
    }
}
