//! Which row numbers of a recording have been seen, in memory for their ranges only.
//!
//! Rows come nearly in the order of their numbers, so ranges grow together. Knows no file.

use std::collections::BTreeMap;

/// Ranges that are kept apart; rows of a recording need a handful, those of a file that is made to
/// harm as many as it has rows.
const MAX_RANGES: usize = 1 << 20;

/// A set of row numbers.
#[derive(Debug, Default)]
pub(crate) struct SeqSet {
    /// First and last of each range; ranges do not touch.
    ranges: BTreeMap<u64, u64>,
}

/// There are more ranges than are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scattered;

impl SeqSet {
    /// Adds a number; false when it was there.
    pub(crate) fn insert(&mut self, seq: u64) -> Result<bool, Scattered> {
        let before = self.ranges.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| seq <= last) {
            return Ok(false);
        }
        let joins_before = before.filter(|(_, last)| last.checked_add(1) == Some(seq));
        let joins_after = seq.checked_add(1).and_then(|next| self.ranges.remove(&next));
        let first = joins_before.map_or(seq, |(first, _)| first);
        let last = joins_after.unwrap_or(seq);
        if joins_before.is_none() && self.ranges.len() >= MAX_RANGES {
            return Err(Scattered);
        }
        self.ranges.insert(first, last);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0..60_u64, 0..200)) {
            let mut set = SeqSet::default();
            let mut expected = HashSet::new();
            for number in numbers {
                prop_assert_eq!(set.insert(number), Ok(expected.insert(number)));
            }
            let apart = set.ranges.iter().zip(set.ranges.iter().skip(1));
            for ((_, last), (next, _)) in apart {
                prop_assert!(last + 1 < *next);
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut set = SeqSet::default();
        assert_eq!(set.insert(u64::MAX), Ok(true));
        assert_eq!(set.insert(u64::MAX - 1), Ok(true));
        assert_eq!(set.insert(u64::MAX), Ok(false));
        assert_eq!(set.ranges.len(), 1);
    }
}
