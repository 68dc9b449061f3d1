//! Names of Unix sockets, which are bytes, as texts: plain where that is clear, else in quotes.

use std::fmt;

/// The bytes of a path or an abstract name.
pub(super) struct Name<'a>(pub(super) &'a [u8]);

/// `/run/app.sock`, or `"/tmp/\xff"`.
impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if is_plain(text) => f.write_str(text),
            _ => write_quoted(self.0, f),
        }
    }
}

/// A name that never holds control characters where it is valid; where it is not, they are escaped.
pub(super) struct Plain<'a>(pub(super) &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().flat_map(escaped).try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

/// A character, or its escape if it drives terminals.
pub(super) fn escaped(c: char) -> impl Iterator<Item = char> {
    let (plain, escape) = if is_visible(c) { (Some(c), None) } else { (None, Some(c.escape_default())) };
    plain.into_iter().chain(escape.into_iter().flatten())
}

/// Whether a name can stand there without quotes, and is read as the same.
fn is_plain(text: &str) -> bool {
    text.chars().all(is_visible) && text.trim() == text && !text.starts_with('"') && !text.starts_with("//")
}

pub(super) fn is_visible(c: char) -> bool {
    // The standard library escapes what can't be seen, marks that have no letter to stand on, and these three.
    matches!(c, ' '..='~') || format!("a{c}").escape_debug().count() == 2
}

fn write_quoted(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let write_bytes = |bytes: &[u8], f: &mut fmt::Formatter<'_>| {
        bytes.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))
    };
    f.write_str("\"")?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if is_visible(c) => write!(f, "{c}")?,
                c => write_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), f)?,
            }
        }
        write_bytes(chunk.invalid(), f)?;
    }
    f.write_str("\"")
}

/// The bytes that a text in quotes stands for; the first quote is there.
pub(super) fn unquote(text: &[u8]) -> Result<Vec<u8>, String> {
    let inner = text.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(mut rest) = inner else { return Err("the quotes do not end, or something follows".into()) };
    let mut name = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (byte, after) {
            (b'"', _) => return Err(r#"a quote within quotes is written \""#.into()),
            (b'\\', [byte @ (b'"' | b'\\'), after @ ..]) => (*byte, after),
            (b'\\', [b'x', high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => return Err(r"behind \x stand two hexadecimal digits".into()),
            },
            (b'\\', _) => return Err(r#"within quotes there are \xNN, \" and \\"#.into()),
            (byte, after) => (byte, after),
        };
        name.push(byte);
        rest = after;
    }
    Ok(name)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_or_quoted_and_come_back() {
        for (name, text) in [
            (&b"/run/app.sock"[..], "/run/app.sock"),
            (b"/run/a b", "/run/a b"),
            ("/tmp/grüße".as_bytes(), "/tmp/grüße"),
            (br"/run/a\x2db\", r"/run/a\x2db\"),
            (br#"/run/'a"b"#, r#"/run/'a"b"#),
            (b"/tmp/\xff", r#""/tmp/\xff""#),
            (b"/tmp/\xc3\xa4\xff\\", r#""/tmp/ä\xff\\""#),
            (b"/a\nb", r#""/a\x0ab""#),
            (b"/a ", r#""/a ""#),
            (b"//a", r#""//a""#),
            (b"\"x\"", r#""\"x\"""#),
            ("a\u{202e}b".as_bytes(), r#""a\xe2\x80\xaeb""#),
            (b"a\0", r#""a\x00""#),
            (b"", ""),
        ] {
            assert_eq!(Name(name).to_string(), text);
            if text.starts_with('"') {
                assert_eq!(unquote(text.as_bytes()).as_deref(), Ok(name), "{text}");
            }
        }
    }

    #[test]
    fn bad_quotes_say_why() {
        for (text, word) in [
            (r#"""#, "do not end"),
            (r#""a"#, "do not end"),
            (r#""a"b"#, "something follows"),
            (r#""a"b""#, "within quotes"),
            (r#""\n""#, "there are"),
            (r#""\""#, "there are"),
            (r#""\x4""#, "there are"),
            (r#""\xg0""#, "two hexadecimal"),
        ] {
            let why = unquote(text.as_bytes()).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }
}
