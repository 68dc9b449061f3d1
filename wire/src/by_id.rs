//! What is kept by the ids of our own calls.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// We give these ids out one after the other, and a peer adds none: no hash has to withstand anybody, and a
/// multiplication spreads them.
pub(crate) type ById<V> = HashMap<u32, V, BuildHasherDefault<IdHasher>>;

#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

/// 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for IdHasher {
    #[inline]
    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(SPREAD);
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(8) ^ u64::from(*byte)).wrapping_mul(SPREAD);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
