//! A key that both sides know, and prove to each other that they know before anything is executed.

use std::fmt;

/// Bytes of a proof, and of a key.
pub const PROOF_LEN: usize = 32;

/// Who proves that he knows the key is mixed in, so that nobody can send back what he was sent.
pub(crate) const SERVER: &[u8] = b"server";
pub(crate) const CLIENT: &[u8] = b"client";

/// What makes proofs of a key. The protocol says what they are of; how they are made is the owner's business, so
/// that who asks for no token needs no cryptography.
pub trait Token: fmt::Debug + Send + Sync {
    /// HMAC-SHA-256 (RFC 2104, FIPS 180-4) under the key, of these pieces, one behind the other.
    fn prove(&self, pieces: &[&[u8]]) -> [u8; PROOF_LEN];

    /// Whether both are the same, found in a time that does not depend on where they differ.
    fn is_same(&self, ours: &[u8; PROOF_LEN], theirs: &[u8; PROOF_LEN]) -> bool;
}
