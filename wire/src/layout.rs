//! The two layouts of frames, and how a side treats the older one.

/// Which of the two layouts a peer speaks; see `docs/protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layout {
    /// 12-byte header in the machine's byte order, no handshake, replies in order.
    Classic,
    /// 16-byte header, little-endian, with hello, call ids and pipelining.
    V1,
}

/// How a side treats the classic layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Classic {
    /// Frames are 12 + length bytes; the payload, either way, has at most so many.
    Short(u32),
    /// Every frame, either way, is exactly 12 + N bytes, zero-padded.
    Fixed(u32),
    /// Classic peers are refused.
    Refused,
}

impl Default for Classic {
    fn default() -> Self {
        Classic::Short(1024)
    }
}
