//! `sidewire soak`: a server among clients of bad manners, for as long as one likes.

mod crowd;
mod datagram_manners;
mod invariants;
mod ledger;
mod manners;
mod pause;
mod probes;
mod report;
mod server;

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sidewire::{Endpoint, EndpointKind, StopSignals};
use sidewire_platform::{Channel, DatagramChannel};

use crate::call::seconds;
use crate::offspring::Outcome;
use crate::output::{self, Printed, complain};

use crowd::{Crowd, HOSTS, Tally};
use invariants::{Bounds, Course, Evidence, judge};
use ledger::Ledger;
use pause::Pause;
use probes::{Fault, Probe};
use report::Report;
use server::Server;
pub(crate) use server::{ServerArgs, run_server};

/// Tries a server for as long as you like: clients of every bad manner beside well-behaved ones
///
/// Starts a server of its own on ENDPOINT, the store of `serve` with its usual limits in a process of its own.
/// Clients of bad manners come to it, many in a second, and some stay: silent ones, those that send half a
/// hello, half a frame, garbage, lengths that are too large, floods of requests, pings and cancels, and that
/// break rules, that read nothing, leave at once, write byte by byte, or do not answer. Beside them probes do
/// what one should: they call, in one and in many parts, set and get, wait, ping, come and go. Each of their
/// answers is compared and timed. Over datagrams the crowd are sockets, with manners of their own: floods,
/// frames that are cut or lie, huge ones, receivers that never read or have gone. What UDP loses there is
/// asked once more, up to 8 times and for 3 s each, and counted. Over Unix datagrams what nobody reads takes
/// room from the answers of all: with many more clients than usual, answers come late, or not at all.
///
/// All along these have to hold:
///   server lives         it ends when it is asked to, with status 0, and not before
///   no panic             it tells of none
///   replies right        each answer that came to a probe is the right one, and some came
///   all served           no call and no connection of a probe failed
///   memory flat          after the warm-up it has allocated no more than 1.25 times as much as in it, and 16 MiB
///   resident flat        the same of the memory that it has from the system; under Wine, whose heap keeps much
///                        more than it has given out, 3 times as much, and 16 MiB
///   descriptors bounded  no more than 4 for each client that may be connected, and 64, over those at first;
///                        over datagrams nobody is connected. Wine counts none
///   all let go           30 s after the last client, at most 8 descriptors more than before the first, 4 MiB
///                        and 512 bytes for each client more allocated, and no connection but that which asks
///   latency p99          see --p99
///   latency longest      see --longest
///
/// The warm-up takes a quarter of the time, but 2 s to a minute; where the crowd takes longer to come, until it
/// is there, but half of the time at most. Every few seconds a line says how it goes, with how much is allocated
/// of how much; at the end a report says what came, what the server counted, and what held. Ctrl-C ends it early,
/// with the report. On Windows descriptors are handles.
///
/// Exit status: 0 all held
///              1 something did not, or the server could not be started
///              2 usage: a bad argument, or an endpoint that answers nothing or that this system lacks
///              7 all held, but standard output did not take all of it
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Where: local:NAME, unix:/PATH, abstract:NAME, pipe:NAME, tcp:127.0.0.1:0, unixgram:/PATH,
    /// abstractgram:NAME, udp:127.0.0.1:0
    #[arg(value_parser = crate::endpoint_parser(), verbatim_doc_comment)]
    endpoint: Endpoint,
    /// For how long; 0.1 are six seconds
    #[arg(long, value_name = "N", default_value = "1", value_parser = minutes)]
    minutes: Duration,
    /// Clients of bad manners that stay connected
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(4..=10_000))]
    clients: u32,
    /// Clients of bad manners that come in a second, at most
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Probes at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    probes: u32,
    /// Seconds that 99 of 100 answers to probes take at most; on a busy machine they wait for others, too
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    p99: Duration,
    /// Seconds that each answer to a probe takes at most
    #[arg(long, value_name = "S", default_value = "15", value_parser = seconds)]
    longest: Duration,
    /// Seconds between two lines that say how it goes
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    every: Duration,
}

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(500);
/// The warm-up is this part of all, within these bounds, and longer where the crowd takes longer to come: see [`WarmUp`].
const WARM_UP: (u32, Duration, Duration) = (4, Duration::from_secs(2), Duration::from_secs(60));
/// How long the server may take to let go of clients that have left.
const SETTLING: Duration = Duration::from_secs(30);

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().map_err(|_| "expected a number of minutes, as in 2.5".to_owned())?;
    seconds(&(minutes * 60.0).to_string())
        .map_err(|_| "expected more than 0 minutes, at most a year of them".into())
}

/// Of another thread that has panicked, too.
fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn run(args: &Args) -> ExitCode {
    if args.endpoint.kind() == EndpointKind::OneWay {
        complain(&format!("{}: nothing comes back there, so there are no answers to look at", args.endpoint));
        return ExitCode::from(2);
    }
    let mut schemes = sidewire_platform::stream_schemes().iter().chain(sidewire_platform::datagram_schemes());
    if !schemes.any(|scheme| *scheme == args.endpoint.scheme()) {
        complain(&format!("{}: this system has no such endpoint", args.endpoint));
        return ExitCode::from(2);
    }
    if let Err(error) = sidewire_platform::raise_descriptor_limit() {
        log::info!("the limit of open descriptors stays as it is: {error}");
    }
    match Soak::new(args).and_then(Soak::run) {
        Ok((true, printed)) => printed.status(),
        Ok((false, _)) => ExitCode::FAILURE,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One run.
struct Soak<'a> {
    args: &'a Args,
    server: Server,
    begun: Instant,
    /// Where the rest writes what it sees.
    ledger: Mutex<Ledger>,
    tally: Tally,
    course: Course,
    printed: Printed,
    pause: Arc<Pause>,
    _signals: StopSignals,
}

impl<'a> Soak<'a> {
    fn new(args: &'a Args) -> Outcome<Soak<'a>> {
        let pause = Arc::new(Pause::default());
        let stop = Arc::clone(&pause);
        let _signals = StopSignals::watch(move || stop.end())?;
        let server = Server::start(&args.endpoint)?;
        let tally = if is_stream(args) { Tally::of::<Channel>() } else { Tally::of::<DatagramChannel>() };
        let course = Course { own_connections: is_stream(args).into(), ..Course::default() };
        let ledger = Mutex::default();
        Ok(Soak {
            args,
            server,
            begun: Instant::now(),
            ledger,
            tally,
            course,
            printed: Printed::Whole,
            pause,
            _signals,
        })
    }

    /// Whether all held, and whether all of that was printed.
    fn run(mut self) -> Outcome<(bool, Printed)> {
        self.say(&format!("server process {} at {}\n", self.server.pid(), self.server.endpoint));
        self.look_before()?;
        self.begun = Instant::now();
        let outcome = self.try_it();
        let took = self.begun.elapsed();
        let mut end = outcome?;
        if end.is_none() {
            self.look_after();
        }
        let statistics = self.server.statistics().ok();
        let (wrong, panics) = self.server.stop();
        end = end.or(wrong);
        let ledger = locked(&self.ledger);
        let evidence = Evidence {
            answered: ledger.answered(),
            wrong: ledger.wrong,
            failed: ledger.failed,
            p99: ledger.quantile(0.99),
            longest: ledger.longest(),
            course: self.course,
            end,
            panics,
        };
        let (tally, course, statistics) = (&self.tally, &self.course, statistics.as_ref());
        let verdicts = judge(&evidence, &bounds(self.args));
        let report = Report { took, ledger: &ledger, tally, course, statistics, verdicts: &verdicts };
        let printed = match self.printed {
            Printed::Whole => output::print(report.text().as_bytes()),
            other => other,
        };
        Ok((verdicts.iter().all(|verdict| verdict.holds), printed))
    }

    /// What it has when it has done everything once, and nobody is there.
    fn look_before(&mut self) -> Outcome<()> {
        let probe =
            Probe { endpoint: &self.server.endpoint, patience: self.patience(), ledger: &self.ledger };
        probe.do_all_once().map_err(|fault| match fault {
            Fault::Wrong(text) => text,
            Fault::Failed(error) => error.to_string(),
        })?;
        let until = Instant::now() + SETTLING;
        while self.server.connections()? > self.course.own_connections && Instant::now() < until {
            thread::sleep(LOOK / 10);
        }
        self.course.before = self.server.usage()?;
        self.course.saw(self.course.before, true);
        Ok(())
    }

    /// Lets them all come, and looks on until the time is over, somebody stops it, or the server has ended.
    fn try_it(&mut self) -> Outcome<Option<String>> {
        let over = Pause::default();
        let (endpoint, patience) = (self.server.endpoint.clone(), self.patience());
        let ledger = std::mem::take(&mut self.ledger);
        let tally = std::mem::take(&mut self.tally);
        let Args { clients, rate, probes, .. } = *self.args;
        let outcome = thread::scope(|scope| {
            let probe = Probe { endpoint: &endpoint, patience, ledger: &ledger };
            let crowd =
                Crowd { endpoint: &endpoint, most: clients as usize, rate, tally: &tally, ledger: &ledger };
            let started = probes::start(scope, probes as usize, probe, &over);
            let started = started.and_then(|()| match is_stream(self.args) {
                true => crowd.start::<Channel>(scope, &over),
                false => crowd.start::<DatagramChannel>(scope, &over),
            });
            let outcome = match started {
                Ok(()) => self.look_on(&ledger, &tally),
                Err(error) => Err(format!("start a thread: {error}").into()),
            };
            over.end();
            outcome
        });
        (self.ledger, self.tally) = (ledger, tally);
        outcome
    }

    fn look_on(&mut self, ledger: &Mutex<Ledger>, tally: &Tally) -> Outcome<Option<String>> {
        let mut warm_up = WarmUp::of(self.args);
        let mut next = self.args.every;
        loop {
            let at = self.begun.elapsed();
            let left = self.args.minutes.saturating_sub(at);
            if left.is_zero() || self.pause.wait(left.min(LOOK)) {
                return Ok(None);
            }
            if let Some(status) = self.server.end() {
                return Ok(Some(format!("it ended by itself: {status}")));
            }
            let usage = match self.server.usage() {
                Ok(usage) => usage,
                // It may have ended just now, which says more.
                Err(error) => {
                    thread::sleep(LOOK);
                    let end = self.server.end().map(|status| format!("it ended by itself: {status}"));
                    return end.map(Some).ok_or(error);
                }
            };
            let open = tally.open.load(Ordering::Relaxed);
            self.course.saw(usage, warm_up.goes_on(self.begun.elapsed(), open));
            if self.begun.elapsed() >= next {
                next = self.begun.elapsed() + self.args.every;
                let line = report::progress(self.begun.elapsed(), &locked(ledger), tally, usage);
                self.say(&line);
            }
        }
    }

    /// When all have gone.
    fn look_after(&mut self) {
        let until = Instant::now() + SETTLING;
        loop {
            self.course.after = self.server.usage().ok();
            self.course.connections_after = self.server.connections().ok();
            if self.course.has_settled(bounds(self.args).clients) || Instant::now() > until {
                return;
            }
            thread::sleep(LOOK / 5);
        }
    }

    /// A probe waits longer than its answer may take, so that it is known how long it took.
    fn patience(&self) -> Duration {
        2 * self.args.longest + Duration::from_secs(10)
    }

    /// That nobody reads it is no reason to stop.
    fn say(&mut self, text: &str) {
        if self.printed == Printed::Whole {
            self.printed = output::print(text.as_bytes());
        }
    }
}

/// While clients still become more, so does what the server holds for them.
struct WarmUp {
    least: Duration,
    most: Duration,
    /// All that may stay, but for those whose place is just being taken by others.
    clients: u64,
    has_come: bool,
}

impl WarmUp {
    fn of(args: &Args) -> WarmUp {
        let least = (args.minutes / WARM_UP.0).clamp(WARM_UP.1, WARM_UP.2);
        let clients = u64::from(args.clients).saturating_sub(HOSTS as u64);
        WarmUp { least, most: least.max(args.minutes / 2), clients, has_come: false }
    }

    /// After so long, with so many clients there.
    fn goes_on(&mut self, at: Duration, open: u64) -> bool {
        self.has_come |= open >= self.clients;
        at < self.least || (!self.has_come && at < self.most)
    }
}

fn bounds(args: &Args) -> Bounds {
    let Args { p99, longest, clients, probes, .. } = *args;
    // Those that stay, one more that each thread brings, and two of a probe that changes its connection.
    let connected = u64::from(clients) + 2 * HOSTS as u64 + 2 * u64::from(probes) + 1;
    let clients = if is_stream(args) { connected } else { 0 };
    Bounds { p99, longest, clients, is_wine: sidewire_platform::is_wine() }
}

fn is_stream(args: &Args) -> bool {
    args.endpoint.kind() == EndpointKind::Stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_waits_for_the_crowd_but_not_for_ever() {
        let second = Duration::from_secs;
        let begun = || WarmUp { least: second(60), most: second(150), clients: 252, has_come: false };
        let mut comes_early = begun();
        assert!(comes_early.goes_on(second(59), 252));
        assert!(!comes_early.goes_on(second(60), 251));
        let mut comes_late = begun();
        assert!(comes_late.goes_on(second(149), 251));
        assert!(!comes_late.goes_on(second(149), 252));
        assert!(!begun().goes_on(second(150), 0));
    }
}
