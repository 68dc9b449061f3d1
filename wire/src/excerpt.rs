//! Texts of others in log lines.

use std::fmt;

/// A text that somebody else chose: bounded, and without what would drive a terminal.
pub struct Excerpt<'a>(&'a str);

impl<'a> Excerpt<'a> {
    /// The beginning of `text`, at most 200 bytes of it.
    #[must_use]
    pub fn new(text: &'a str) -> Excerpt<'a> {
        Excerpt(text)
    }
}

/// Bytes that are shown.
const SHOWN: usize = 200;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.floor_char_boundary(SHOWN)];
        shown.escape_debug().fmt(f)?;
        if shown.len() < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_short_and_drives_no_terminal() {
        assert_eq!(Excerpt::new("plain 'text'").to_string(), "plain \\'text\\'");
        let long = format!("\u{1b}[2J\n{}", "é".repeat(1000));
        let shown = Excerpt::new(&long).to_string();
        assert!(!shown.contains(char::is_control) && shown.len() < 300 && shown.ends_with('…'), "{shown}");
    }
}
