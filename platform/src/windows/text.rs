//! Texts of the system as bytes that another process of this system understands.

use std::ffi::{OsStr, OsString};
use std::os::windows::ffi::{OsStrExt, OsStringExt};

/// A text of the system, such as an argument or a path, as bytes that lose nothing of it: its UTF-16 code
/// units, little-endian. They need not be valid UTF-16.
#[must_use]
pub fn encode_text(text: &OsStr) -> Vec<u8> {
    text.encode_wide().flat_map(u16::to_le_bytes).collect()
}

/// The text that [`encode_text`] made these bytes of. `None` if it did not.
#[must_use]
pub fn decode_text(bytes: &[u8]) -> Option<OsString> {
    let (units, rest) = bytes.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|unit| u16::from_le_bytes(*unit)).collect();
    rest.is_empty().then(|| OsString::from_wide(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost() {
        // A surrogate without its partner is a file name on Windows, too.
        let odd = OsString::from_wide(&[0x63, 0xe9, 0xd83e, 0xdd80, 0xd800, 0x20]);
        assert_eq!(decode_text(&encode_text(&odd)), Some(odd));
        assert_eq!(encode_text(OsStr::new("a\u{e9}")), [0x61, 0, 0xe9, 0]);
        assert_eq!(decode_text(b"abc"), None);
    }
}
