//! What a reply in parts may spend.

use crate::limits::MAX_CREDIT;

/// The credit that a part with so many bytes of payload spends: as many, but at least 1.
#[inline]
#[must_use]
pub fn part_cost(length: u32) -> u32 {
    length.max(1)
}

/// How a call's credit differs from what it began with, when `amount` is added to it: more than
/// [`MAX_CREDIT`] it never has.
pub(crate) fn credited(balance: i64, amount: u32, begun_with: u32) -> i64 {
    (balance + i64::from(amount)).min(i64::from(MAX_CREDIT) - i64::from(begun_with))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_has_more_than_the_most() {
        assert_eq!(credited(-7, 5, 100), -2);
        assert_eq!(credited(0, u32::MAX, 100), i64::from(MAX_CREDIT) - 100);
        assert_eq!(credited(0, 0, u32::MAX), i64::from(MAX_CREDIT) - i64::from(u32::MAX));
    }
}
