//! What is measured, and the numbers that all clients share.

use std::time::{Duration, Instant};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Bytes of a small payload, and of a large one.
pub(crate) const SMALL: usize = 64;
pub(crate) const LARGE: usize = 1 << 20;
/// Requests that are under way at once on one connection.
pub(crate) const WINDOW: usize = 64;
/// Connections that have one request under way each.
pub(crate) const CROWD: usize = 64;
/// Connections that do nothing, while the server's memory is looked at.
pub(crate) const IDLE: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// One request after the other: p50 and p99 in µs.
    Sequential,
    /// `WINDOW` requests under way on one connection: requests/s.
    Window,
    /// `CROWD` connections with one request each: requests/s.
    Crowd,
    /// Large payloads, one after the other: MB/s, counted one way.
    Large,
    /// What the server keeps for a connection that has had one request answered: KiB.
    Idle,
}

impl Measure {
    pub(crate) const ALL: [Measure; 5] =
        [Measure::Sequential, Measure::Window, Measure::Crowd, Measure::Large, Measure::Idle];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::Sequential => "sequential",
            Measure::Window => "window",
            Measure::Crowd => "crowd",
            Measure::Large => "large",
            Measure::Idle => "idle",
        }
    }

    pub(crate) fn parse(name: &str) -> Outcome<Measure> {
        let found = Measure::ALL.into_iter().find(|measure| measure.name() == name);
        found.ok_or_else(|| format!("no measure: {name}").into())
    }

    /// Bytes of its requests' payload.
    pub(crate) fn payload(self) -> usize {
        if self == Measure::Large { LARGE } else { SMALL }
    }
}

/// A client's part in one measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    pub(crate) measure: Measure,
    /// How long to count, after a quarter of it to get warm.
    pub(crate) time: Duration,
}

impl Task {
    pub(crate) fn warm_up(&self) -> Duration {
        self.time / 4
    }
}

/// Times of single requests.
pub(crate) struct Laps {
    laps: Vec<u64>,
    last: Instant,
}

impl Laps {
    pub(crate) fn begin() -> Laps {
        Laps { laps: Vec::with_capacity(1 << 20), last: Instant::now() }
    }

    /// One more is answered.
    pub(crate) fn lap(&mut self) {
        let now = Instant::now();
        self.laps.push((now - self.last).as_nanos() as u64);
        self.last = now;
    }

    /// "p50 p99", in µs.
    pub(crate) fn report(mut self) {
        self.laps.sort_unstable();
        let at = |share: f64| self.laps[((self.laps.len() - 1) as f64 * share) as usize] as f64 / 1e3;
        println!("{:.3} {:.3}", at(0.5), at(0.99));
    }
}

/// So many requests in this time.
pub(crate) fn report_rate(measure: Measure, requests: u64, took: Duration) {
    let rate = requests as f64 / took.as_secs_f64();
    match measure {
        Measure::Large => println!("{:.1}", rate * LARGE as f64 / 1e6),
        _ => println!("{rate:.0}"),
    }
}

/// Tells the parent how far this is, and waits until it has looked.
pub(crate) fn pause(at: &str) -> Outcome<()> {
    println!("{at}");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}
