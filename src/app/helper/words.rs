//! What a helper has said last: lines of both its streams, a few of them, in bounded memory.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

/// Lines that are kept.
const LINES: usize = 20;
/// Bytes of a line that are kept.
const LINE: usize = 512;

/// The last lines of a helper.
#[derive(Debug, Default)]
pub(in crate::app) struct LastWords(Mutex<VecDeque<Line>>);

/// The beginning of a line, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    bytes: Vec<u8>,
    /// Bytes that were not kept.
    missing: usize,
}

impl Line {
    /// As text that drives no terminal.
    pub(super) fn escaped(&self) -> String {
        let mut text = plain(&String::from_utf8_lossy(&self.bytes));
        if self.missing > 0 {
            let _ = write!(text, "… ({} bytes more)", self.missing);
        }
        text
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.missing = 0;
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.missing += bytes.len() - room;
    }

    /// Without what ends lines on Windows.
    fn trim(&mut self) {
        if self.missing == 0 && self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
    }
}

/// As text of one line that drives no terminal.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            // Whoever reads of a panic has seen enough of them.
            '"' | '\'' | '\\' => plain.push(letter),
            letter => plain.extend(letter.escape_debug()),
        }
    }
    plain
}

impl LastWords {
    /// All that there is, the oldest first, escaped.
    pub(in crate::app) fn escaped(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(Line::escaped).collect()
    }

    /// Keeps a line, in place of the oldest, whose memory comes back.
    fn push(&self, line: Line) -> Line {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            if lines.len() >= LINES { lines.pop_front().unwrap_or_default() } else { Line::default() };
        lines.push_back(line);
        free.clear();
        free
    }
}

/// Cuts what one stream says into lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// What has come of the next one.
    line: Line,
}

impl Lines {
    /// Takes what came. Each line that is complete is shown to `told`, and kept with the last words; empty ones are not.
    pub(super) fn take(&mut self, mut bytes: &[u8], words: &LastWords, told: &mut dyn FnMut(&Line)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.line.append(&bytes[..end]);
            self.end(words, told);
            bytes = &bytes[end + 1..];
        }
        self.line.append(bytes);
    }

    /// The stream has ended, or the line has: it is complete.
    pub(super) fn end(&mut self, words: &LastWords, told: &mut dyn FnMut(&Line)) {
        self.line.trim();
        if !self.line.is_empty() {
            told(&self.line);
            self.line = words.push(std::mem::take(&mut self.line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let (words, mut lines, mut told) = (LastWords::default(), Lines::default(), Vec::new());
        for piece in pieces {
            lines.take(piece, &words, &mut |line| told.push(line.escaped()));
        }
        lines.end(&words, &mut |line| told.push(line.escaped()));
        (words.escaped(), told)
    }

    #[test]
    fn lines_are_cut_where_they_end_and_not_where_they_come_in_pieces() {
        let (words, told) = taken(&[b"one\ntw", b"o", b"\r\n\n\r\nthr\xc3", b"\xa9e"]);
        assert_eq!(words, ["one", "two", "thrée"]);
        assert_eq!(told, words);
        assert_eq!(taken(&[]).0, [""; 0]);
    }

    #[test]
    fn the_last_twenty_are_kept() {
        let all: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        let (words, told) = taken(&all.as_bytes().chunks(7).collect::<Vec<_>>());
        assert_eq!((words.len(), told.len()), (20, 1000));
        assert_eq!((&*words[0], &*words[19]), ("line 980", "line 999"));
        assert_eq!(told[980..], words);
    }

    #[test]
    fn what_drives_a_terminal_is_escaped_and_quotes_are_not() {
        let (words, _) = taken(&["\u{1b}[2Jthread 'main' panicked: \"C:\\x\"\u{202e}\0\u{9b}\n".as_bytes()]);
        assert_eq!(words, ["\\u{1b}[2Jthread 'main' panicked: \"C:\\x\"\\u{202e}\\0\\u{9b}"]);
        let (words, _) = taken(&[b"\xff\xfe!\n"]);
        assert_eq!(words, ["\u{fffd}\u{fffd}!"]);
    }

    /// However long a line is, and how many there are.
    #[test]
    fn memory_is_bounded() {
        let (words, mut lines) = (LastWords::default(), Lines::default());
        let flood = vec![b'x'; 64 << 10];
        for _ in 0..1600 {
            lines.take(&flood, &words, &mut |_| panic!("no line has ended"));
        }
        assert!(lines.line.bytes.capacity() <= 2 * LINE, "{}", lines.line.bytes.capacity());
        for _ in 0..100 {
            lines.take(b"\n", &words, &mut |_| {});
            lines.take(&flood, &words, &mut |_| {});
        }
        let kept = words.0.lock().expect("no panic").iter().map(|line| line.bytes.capacity()).sum::<usize>();
        assert!(kept <= LINES * 2 * LINE, "{kept}");
        let text = words.escaped().pop().expect("a line");
        assert!(text.ends_with("xx… (65024 bytes more)"), "{text}");
    }
}
