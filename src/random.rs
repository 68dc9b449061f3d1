//! Random numbers.

/// 16 random bytes that tell one instance or connection from another. A system that has no
/// randomness to give gets zeros and a line in its log: nothing secret hangs on these but tokens, which are not used with
/// zeros.
pub(crate) fn random_id() -> [u8; 16] {
    let mut bytes = [0; 16];
    if let Err(error) = getrandom::fill(&mut bytes) {
        log::warn!("the system has no random numbers: {error}");
    }
    bytes
}

/// One of all numbers, for a pause that is not to be everybody's.
pub(crate) fn random_number() -> u32 {
    let [a, b, c, d, ..] = random_id();
    u32::from_le_bytes([a, b, c, d])
}
