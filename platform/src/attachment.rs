//! What frames can carry besides their bytes.

use super::os::Attachment;

/// What came along with bytes.
#[derive(Debug)]
#[allow(clippy::exhaustive_enums, reason = "whoever reads has to know which it was")]
pub enum Carried {
    /// Nothing.
    Nothing,
    /// These; at most [`MAX_ATTACHMENTS`].
    These(Vec<Attachment>),
    /// More than that, or some that could not be opened, for want of descriptors. All are closed.
    Cut,
}

/// Most attachments that go or come with one piece of a stream.
pub const MAX_ATTACHMENTS: usize = 16;
