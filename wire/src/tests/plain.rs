//! Streams without frames.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::settings;
use crate::connection::Input;
use crate::error::ProtocolError;
use crate::limits::ConnectionLimits;
use crate::plain::{Cut, Plain};

fn lines(max: usize) -> Plain {
    Plain::new(settings(|_| {}), Cut::Lines { max }, Instant::now())
}

/// Feeds bytes as a loop does, in turns of `budget`.
fn feed(plain: &mut Plain, bytes: &[u8], budget: usize) -> Vec<String> {
    let mut got = Vec::new();
    let mut each = |_: &mut Plain, piece: &[u8]| got.push(String::from_utf8_lossy(piece).into_owned());
    plain.receive(bytes, &Cell::new(budget), &mut each);
    while plain.has_backlog() {
        plain.receive(&[], &Cell::new(budget), &mut each);
    }
    got
}

proptest! {
    #[test]
    fn cuts_change_no_line(
        text in "[ab\r\n]{0,60}", pieces in vec(1..9usize, 1..5), budget in 1..4usize,
    ) {
        let mut expected: Vec<&str> = text.split('\n').collect();
        let last = expected.pop().filter(|rest| !rest.is_empty());
        expected.extend(last);
        let expected: Vec<&str> = expected.iter().map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();

        let (mut plain, mut got, mut rest) = (lines(100), Vec::new(), text.as_bytes());
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            got.extend(feed(&mut plain, now, budget));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        plain.end_of_input(&mut |_, piece| got.push(String::from_utf8_lossy(piece).into_owned()));
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn lines_have_a_length() {
    for fine in ["abc\n", "abc\r\n", "abc\r", "abc"] {
        let mut plain = lines(3);
        feed(&mut plain, fine.as_bytes(), 9);
        assert!(plain.flow().failure().is_none(), "{fine:?}");
    }
    for long in ["abcd\n", "abcd", "abcd\r", "abc\rd", "x\nabcd\r\n"] {
        let mut plain = lines(3);
        let got = feed(&mut plain, long.as_bytes(), 9);
        assert_eq!(got.len(), usize::from(long.starts_with('x')));
        assert_eq!(
            plain.flow().failure(),
            Some(&ProtocolError::TooLarge { length: 4 + u32::from(long == "abc\rd"), limit: 3 })
        );
        assert!(feed(&mut plain, b"on\n", 9).is_empty());
    }
    assert_eq!(feed(&mut lines(usize::MAX), b"any\n", 9), ["any"]);
}

/// Also where it lies behind so many others that the turn is over before it is looked at.
#[test]
fn an_unfinished_line_has_a_length_too() {
    for (budget, length) in [(1, 3), (1, 4), (1, 150_000), (9, 3)] {
        let mut plain = lines(3);
        let text = [b"x\n", &vec![b'y'; length][..]].concat();
        let mut got = feed(&mut plain, &text, budget);
        assert_eq!(plain.flow().failure().is_some(), length > 3, "before the end");
        plain.end_of_input(&mut |_, piece| got.push(String::from_utf8_lossy(piece).into_owned()));
        assert_eq!(got.len(), if length > 3 { 1 } else { 2 }, "{length}");
        let error = (length > 3).then_some(ProtocolError::TooLarge { length: length as u32, limit: 3 });
        assert_eq!(plain.flow().failure(), error.as_ref());
    }
}

#[test]
fn a_stream_with_unread_input_is_not_idle() {
    let limit = Duration::from_secs(5);
    let limits = settings(|settings| settings.limits.idle_timeout = Some(limit));
    let start = Instant::now();
    let mut plain = Plain::new(limits, Cut::Raw, start);
    assert!(!plain.handle_timeout(start + limit, Input::Waiting));
    assert!(plain.handle_timeout(start + limit, Input::Quiet));
    assert_eq!(plain.flow().linger_deadline(), Some(start + limit + ConnectionLimits::default().linger));
    assert!(!plain.handle_timeout(start + limit * 2, Input::Quiet), "once");
}

#[test]
fn a_stash_gives_its_memory_back() {
    let mut plain = lines(100);
    plain.receive(&b"line\n".repeat(10_000), &Cell::new(1), &mut |_, _| {});
    plain.receive(&[], &Cell::new(9_998), &mut |_, _| {});
    assert!(plain.has_backlog() && plain.flow().buffered() < 4096, "{}", plain.flow().buffered());
    plain.receive(&[], &Cell::new(1), &mut |_, _| {});
    assert_eq!(plain.flow().buffered(), 0);
}

#[test]
fn reading_pauses_at_the_soft_mark_and_a_flood_ends_at_the_hard_one() {
    for soft in [0, 10] {
        let limits = settings(|settings| {
            settings.limits.outbox_soft = soft;
            settings.limits.outbox_hard = 20;
        });
        let mut plain = Plain::new(limits, Cut::Lines { max: 9 }, Instant::now());
        let now = Instant::now();
        let answer = |plain: &mut Plain, line: &[u8]| plain.write(&line.repeat(8));
        plain.receive(b"a\nb\nccc\n", &Cell::new(9), &mut { answer });
        assert!(plain.is_paused() && !plain.has_backlog());
        while plain.has_unsent() {
            plain.mark_sent(8, now);
        }
        plain.receive(&[], &Cell::new(9), &mut { answer });
        let waiting = if soft == 0 { 8 } else { 24 };
        plain.receive(&[], &Cell::new(9), &mut { answer });
        assert_eq!(plain.flow().failure().is_some(), waiting > 20);
        assert_eq!(plain.flow().is_hopeless(), waiting > 20);
    }
}

#[test]
fn idle_and_stalled_streams_end_once() {
    let limits = settings(|settings| settings.limits.idle_timeout = Some(Duration::from_secs(5)));
    let start = Instant::now();
    let mut plain = Plain::new(limits, Cut::Raw, start);
    plain.write(b"nobody reads this");
    plain.mark_sent(0, start);
    let idle = start + Duration::from_secs(5);
    assert_eq!(plain.next_deadline(), Some(idle));
    plain.handle_timeout(idle - Duration::from_millis(1), Input::Quiet);
    assert!(plain.flow().failure().is_none());
    plain.handle_timeout(idle, Input::Quiet);
    assert_eq!(plain.flow().failure(), Some(&ProtocolError::TimedOut("sign of life")));
    // What waits still has its time, and then that is over too.
    let stall = start + ConnectionLimits::default().write_stall_timeout;
    assert_eq!((plain.next_deadline(), plain.output_is_done()), (Some(stall), false));
    plain.handle_timeout(stall, Input::Quiet);
    assert!(plain.flow().is_hopeless());
}

#[test]
fn limits_beyond_the_clock_are_none() {
    let limits = settings(|settings| {
        settings.limits.idle_timeout = Some(Duration::MAX);
        settings.limits.write_stall_timeout = Duration::MAX;
    });
    let mut plain = Plain::new(limits, Cut::Raw, Instant::now());
    plain.write(b"x");
    plain.mark_sent(0, Instant::now());
    assert_eq!(plain.next_deadline(), None);
}
