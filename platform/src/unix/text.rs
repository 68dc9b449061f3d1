//! Texts of the system as bytes that another process of this system understands.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A text of the system, such as an argument or a path, as bytes that lose nothing of it.
///
/// # Platform-specific behavior
///
/// Unix: the bytes that it is. Windows: its UTF-16 code units, little-endian; they need not be valid UTF-16.
#[must_use]
pub fn encode_text(text: &OsStr) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// The text that [`encode_text`] made these bytes of. `None` if it did not.
#[must_use]
#[allow(clippy::unnecessary_wraps)] // Elsewhere not every row of bytes is a text.
pub fn decode_text(bytes: &[u8]) -> Option<OsString> {
    Some(OsString::from_vec(bytes.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        let odd = OsStr::from_bytes(b"caf\xe9 \xff\xfe \xf0\x9f\xa6\x80");
        assert_eq!(decode_text(&encode_text(odd)).as_deref(), Some(odd));
        assert_eq!(encode_text(OsStr::new("")), b"");
    }
}
