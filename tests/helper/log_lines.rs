//! What a helper prints, in its parent's log.

use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};
use sidewire::Helper;

use crate::child::{ECHO, EXIT, PRINT, own};
use crate::util::{PATIENCE, alone, watchdog};

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "sidewire::helper"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().expect("no panic").push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Each under the helper's name; of a flood only some, and how many were left out.
#[test]
fn what_a_helper_prints_goes_to_the_log() {
    let _watchdog = watchdog(120);
    alone("log_lines::what_a_helper_prints_goes_to_the_log", || {
        log::set_logger(&LINES).expect("the only one");
        log::set_max_level(LevelFilter::Info);
        let helper = Helper::builder(own("serves")).name("talks").spawn().expect("a helper");
        helper.call(PRINT, "to \u{1b}[1mwhom\u{1b}[0m").expect("an answer");
        helper.call(EXIT, "1").expect_err("it exits");
        let lines = std::mem::take(&mut *LINES.0.lock().expect("no panic"));
        let line = "INFO talks: to \\u{1b}[1mwhom\\u{1b}[0m";
        assert!(lines.iter().any(|logged| logged == line), "{lines:#?}");

        // A name may be a file's, which others choose.
        let helper = Helper::builder(own("serves")).name("a\nWARN b\u{1b}[2J").spawn().expect("a helper");
        helper.call(PRINT, "hello").expect("an answer");
        helper.call(EXIT, "1").expect_err("it exits");
        let lines = std::mem::take(&mut *LINES.0.lock().expect("no panic"));
        let line = "INFO a\\nWARN b\\u{1b}[2J: hello";
        assert!(lines.iter().any(|logged| logged == line), "{lines:#?}");

        let floods = Helper::builder(own("floods")).name("babbles").ready_within(PATIENCE);
        let helper = floods.spawn().expect("a helper");
        helper.call(ECHO, "").expect("an answer");
        helper.call(EXIT, "1").expect_err("it exits");
        let lines = std::mem::take(&mut *LINES.0.lock().expect("no panic"));
        let (told, left_out): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with("INFO "));
        assert!(told.len() < 50_000, "{} of 1,250,000", told.len());
        assert!(left_out.iter().any(|line| line.ends_with(" lines were left out here")), "{left_out:?}");
    });
}
