//! Payloads as text, and texts as numbers.

use std::fmt::Write as _;
use std::str::FromStr;

/// The peer's words must not drive anybody's terminal, nor look like several lines.
pub(crate) fn escaped(payload: &[u8]) -> String {
    let mut text = String::with_capacity(payload.len());
    for chunk in payload.utf8_chunks() {
        // Quotes mean nothing here.
        text += &chunk.valid().escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"");
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('?')
}

/// The number that a payload of the store's is: decimal digits and nothing else.
pub(crate) fn decimal<N: FromStr>(payload: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(payload).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_one_line_that_drives_nothing() {
        for (payload, expected) in [
            (&b"caf\xC3\xA9 \"tea\" 'n"[..], "caf\u{e9} \"tea\" 'n"),
            (b"a\nb\r\tc\0", "a\\nb\\r\\tc\\0"),
            (b"C:\\n'", "C:\\\\n'"),
            (b"\x1b[2J\x7f", "\\u{1b}[2J\\u{7f}"),
            (b"\xE2\x80\xAE\xff\xfe", "\\u{202e}\\xff\\xfe"),
            (b"", ""),
        ] {
            assert_eq!(escaped(payload), expected);
        }
        assert_eq!(hexadecimal(b"\x00\xa9z"), "00a97a");
    }

    #[test]
    fn only_decimal_text_is_a_number() {
        for (payload, expected) in [("0", 0), ("250", 250), ("007", 7)] {
            assert_eq!(decimal(payload.as_bytes()), Some(expected));
        }
        for payload in ["", " 1", "1 ", "+1", "-1", "1.5", "0x10", "x", "99999999999999999999", "\u{661}"] {
            assert_eq!(decimal::<u64>(payload.as_bytes()), None, "{payload:?}");
        }
        assert_eq!((decimal::<u64>(&[0xFF]), decimal::<u16>(b"65536")), (None, None));
    }
}
