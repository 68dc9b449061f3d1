//! Handlers that hold the loop.

use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use sidewire::{Limits, Server};

use crate::util::{all_streams, client, start, until, usual, watchdog};

/// What was logged of handlers that hold the loop.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collector;

impl log::Log for Collector {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if self.enabled(record.metadata()) && line.contains("held the loop") {
            lines().push(line);
        }
    }

    fn flush(&self) {}
}

fn lines() -> std::sync::MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).expect("the only one");
        log::set_max_level(log::LevelFilter::Warn);
    });
}

/// The log names the type of a handler that holds the loop, also where many requests come at once.
#[test]
fn a_slow_handler_is_logged_with_its_type() {
    let _watchdog = watchdog(60);
    collect();
    for endpoint in all_streams() {
        let mut limits = Limits::default();
        limits.slow_handler = Duration::from_millis(50);
        let mut server = Server::builder(()).limits(limits).build().expect("a server");
        server.on(1, |(), _, _| Ok(()));
        server.on(71, |(), _, _| {
            thread::sleep(Duration::from_millis(80));
            Ok(())
        });
        let counters = server.counters();
        let (running, bound) = start(server, [usual(&endpoint)]);
        let named = |kind: &str| {
            let begin = format!("{}: the handler of type {kind}", bound[0]);
            lines().iter().filter(|line| line.starts_with(&begin)).count()
        };
        let client = client(&bound[0]);
        client.call(71, b"").expect("call");
        until("it is logged", || named("71 held the loop for ") >= 1);
        let calls: Vec<_> = (0..20).map(|_| client.start(1, b"")).collect();
        let slow = client.start(71, b"").expect("start");
        let more: Vec<_> = (0..20).map(|_| client.start(1, b"")).collect();
        for call in calls.into_iter().chain([Ok(slow)]).chain(more) {
            call.expect("start").wait().expect("an answer");
        }
        // On a busy machine quick ones may be slow, too.
        until("it is counted", || counters.stats().slow_handlers >= 2);
        let seen = lines().iter().filter(|line| line.contains("type 71")).count();
        assert!(seen >= 2, "{:?}", lines());
        lines().clear();
        drop(client);
        running.stop().expect("the server ends well");
    }
}
