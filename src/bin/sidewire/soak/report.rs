//! What is printed: a line now and then, and at the end all of it.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;

use super::crowd::Tally;
use super::invariants::{Course, Usage, Verdict, mib, ms};
use super::ledger::Ledger;

/// How it goes at a moment.
pub(super) fn progress(at: Duration, ledger: &Ledger, tally: &Tally, usage: Usage) -> String {
    format!(
        "{:>6.0} s  {} answers, {} wrong, {} failed{}  {} bad clients, {} open  {} of {}  {} descriptors  p99 {}  longest {}\n",
        at.as_secs_f64(),
        ledger.answered(),
        ledger.wrong,
        ledger.failed,
        lost(ledger),
        tally.total(),
        tally.open.load(Ordering::Relaxed),
        mib(usage.allocated),
        mib(usage.resident),
        usage.descriptors,
        ms(ledger.quantile(0.99)),
        ms(ledger.longest()),
    )
}

/// If any were.
fn lost(ledger: &Ledger) -> String {
    if ledger.lost == 0 { String::new() } else { format!(", {} lost and asked again", ledger.lost) }
}

/// What came of it.
pub(super) struct Report<'a> {
    pub(super) took: Duration,
    pub(super) ledger: &'a Ledger,
    pub(super) tally: &'a Tally,
    pub(super) course: &'a Course,
    /// The server's, when all clients had gone.
    pub(super) statistics: Option<&'a Value>,
    pub(super) verdicts: &'a [Verdict],
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let Report { took, ledger, tally, .. } = self;
        let mut text = format!("\n{:.0} s, of which\n", took.as_secs_f64());
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "  {name:<20} {value}");
        };
        let (answered, wrong, failed, lost) = (ledger.answered(), ledger.wrong, ledger.failed, lost(ledger));
        line("answers", format!("{answered}, wrong {wrong}, failed {failed}{lost}"));
        let [half, most] = [0.5, 0.99].map(|share| ms(ledger.quantile(share)));
        line("latency", format!("p50 {half}, p99 {most}, longest {}", ms(ledger.longest())));
        self.show_course(&mut line);
        line(
            "bad clients",
            format!("{}, {} kept out", tally.total(), tally.kept_out.load(Ordering::Relaxed)),
        );
        for (name, came) in &tally.came {
            line(&format!("  {name}"), came.load(Ordering::Relaxed).to_string());
        }
        self.show_statistics(&mut line);
        for wrong in &ledger.texts {
            let _ = writeln!(text, "  not right: {wrong}");
        }
        text.push('\n');
        for Verdict { name, holds, text: why } in self.verdicts {
            let _ = writeln!(text, "{} {name:<20} {why}", if *holds { "held  " } else { "BROKEN" });
        }
        let all = self.verdicts.iter().all(|verdict| verdict.holds);
        text.push_str(if all { "\nall held\n" } else { "\nNOT all held\n" });
        text
    }

    fn show_course(&self, line: &mut impl FnMut(&str, String)) {
        let Course { before, warm, most, last, after, .. } = self.course;
        let row = |of: fn(&Usage) -> String| {
            let known = |usage: &Option<Usage>| usage.as_ref().map_or("not known".into(), of);
            format!(
                "before {}, at most {} warming up and {} later, last {}, without clients {}",
                of(before),
                known(warm),
                of(most),
                of(last),
                known(after)
            )
        };
        line("allocated", row(|usage| mib(usage.allocated)));
        line("resident", row(|usage| mib(usage.resident)));
        line("descriptors", row(|usage| usage.descriptors.to_string()));
    }

    /// What the server counted of all that.
    fn show_statistics(&self, line: &mut impl FnMut(&str, String)) {
        let Some(statistics) = self.statistics else {
            return line("server's count", "not known".into());
        };
        let counts =
            ["accepted", "refused", "faulty", "requests", "failed", "stalls", "events"].iter().chain(&[
                "events_dropped",
                "streams_stalled",
                "datagrams_dropped",
                "answers_to_nobody",
                "slow_handlers",
            ]);
        let counts = counts.map(|name| format!("{} {}", name.replace('_', " "), statistics[*name]));
        line("server's count", counts.collect::<Vec<_>>().join(", "));
        for failure in statistics["failures"].as_array().into_iter().flatten() {
            line(&format!("  type {}, rc {}", failure["type"], failure["rc"]), failure["count"].to_string());
        }
    }
}
