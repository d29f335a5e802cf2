//! Secrets that were replaced once, to be found again where nothing around them says what they are.
//!
//! A program that prints a key it was given rarely says that it is one. So the values that were
//! replaced elsewhere are kept, in memory and bounded, and looked for byte by byte in what programs
//! tell each other. Only values that are unmistakable are kept: long, and not made of words where
//! their origin does not vouch for them.
//!
//! Wherever a value stands, one of the [`STRIDE`] groups of four bytes at its beginning lies at a
//! multiple of that many bytes in the text: only these places are looked at, and of most a bit says
//! that no value has such a group.

use std::collections::HashMap;

use super::mask::{Rule, Span, mark};
use super::names;

/// Shorter values may occur by chance.
const MIN_BYTES: usize = 12;
/// As much of a value at the end of a text is taken for its beginning.
const MIN_BEGINNING_BYTES: usize = 6;
/// Longer values are not kept; no key is that long.
const MAX_BYTES: usize = 4096;
/// Values kept. Beyond that, those not seen for longest are forgotten.
const MAX_VALUES: usize = 256;
/// How many are forgotten at a time, so that the groups are not collected anew for each.
const FORGOTTEN: usize = 64;
/// Different bytes that a value must hold at least.
const MIN_DIFFERENT: usize = 6;
/// Bytes of a group.
const GROUP_BYTES: usize = 4;
/// Groups in the bytes that every value has.
const STRIDE: usize = MIN_BYTES - GROUP_BYTES + 1;
/// Bits that say which groups there are, by their hash.
const FILTER_BITS: usize = 1 << 16;

type Group = [u8; GROUP_BYTES];

/// See the module.
#[derive(Default)]
pub(super) struct Known {
    values: Vec<Value>,
    groups: Groups,
    /// Counts what was learned, so that the oldest can be told.
    tick: u64,
}

struct Value {
    bytes: Vec<u8>,
    /// When it was learned or seen last.
    tick: u64,
}

/// The groups that the values begin with.
#[derive(Default)]
struct Groups {
    /// One bit per hash; empty as long as there are no values.
    filter: Vec<u64>,
    /// Which values have a group, and where in it.
    places: HashMap<Group, Vec<(usize, usize)>>,
}

impl Known {
    /// Takes note of a value that is being replaced; returns whether it was not known before and is
    /// now. Where its place has not `vouched` for it being a secret, its looks must.
    pub(super) fn learn(&mut self, rule: Rule, vouched: bool, value: &[u8]) -> bool {
        if !is_worth(rule, vouched, value) {
            return false;
        }
        self.tick += 1;
        if let Some(known) = self.values.iter_mut().find(|known| known.bytes == value) {
            known.tick = self.tick;
            return false;
        }
        if self.values.len() == MAX_VALUES {
            self.values.sort_by_key(|value| std::cmp::Reverse(value.tick));
            self.values.truncate(MAX_VALUES - FORGOTTEN);
            self.groups = Groups::default();
            for (index, value) in self.values.iter().enumerate() {
                self.groups.add(index, &value.bytes);
            }
        }
        self.groups.add(self.values.len(), value);
        self.values.push(Value { bytes: value.to_vec(), tick: self.tick });
        true
    }

    /// Marks every known value in `text`.
    pub(super) fn find(&self, text: &[u8], spans: &mut Vec<Span>) {
        if self.values.is_empty() {
            return;
        }
        for (number, piece) in text.chunks(STRIDE).enumerate() {
            let Some(group) = piece.first_chunk() else { return };
            if !self.groups.may_have(group) {
                continue;
            }
            let at = number * STRIDE;
            for (value, offset) in self.groups.places.get(group).into_iter().flatten() {
                let Some(start) = at.checked_sub(*offset) else { continue };
                let bytes = &self.values[*value].bytes;
                if text[start..].starts_with(bytes) {
                    mark(spans, start, start + bytes.len(), Rule::Known);
                }
            }
        }
    }

    /// Marks the end of `text` where a known value may begin there.
    pub(super) fn find_beginning(&self, text: &[u8], spans: &mut Vec<Span>) {
        for value in &self.values {
            let longest = (value.bytes.len() - 1).min(text.len());
            let begins = |length: &usize| text.ends_with(&value.bytes[..*length]);
            if let Some(length) = (MIN_BEGINNING_BYTES..=longest).rev().find(begins) {
                mark(spans, text.len() - length, text.len(), Rule::Known);
            }
        }
    }
}

impl Groups {
    fn add(&mut self, value: usize, bytes: &[u8]) {
        self.filter.resize(FILTER_BITS / 64, 0);
        for (offset, group) in bytes.windows(GROUP_BYTES).take(STRIDE).enumerate() {
            let Ok(group) = Group::try_from(group) else { continue };
            let bit = hash(&group);
            self.filter[bit / 64] |= 1 << (bit % 64);
            self.places.entry(group).or_default().push((value, offset));
        }
    }

    fn may_have(&self, group: &Group) -> bool {
        let bit = hash(group);
        self.filter[bit / 64] >> (bit % 64) & 1 == 1
    }
}

/// Spreads groups over the bits of the filter (multiplicative hashing).
fn hash(group: &Group) -> usize {
    const GOLDEN: u32 = 0x9e37_79b1;
    let product = u32::from_le_bytes(*group).wrapping_mul(GOLDEN);
    (product >> (32 - FILTER_BITS.trailing_zeros())) as usize
}

/// Marks every place behind `from` where a value stands.
pub(super) fn occurrences(text: &[u8], from: usize, value: &[u8], spans: &mut Vec<Span>) {
    for at in memchr::memmem::find_iter(&text[from..], value) {
        mark(spans, from + at, from + at + value.len(), Rule::Known);
    }
}

/// Whether a value can be told from other text by its bytes alone.
fn is_worth(rule: Rule, vouched: bool, value: &[u8]) -> bool {
    let known = match rule {
        Rule::Shape => true,
        Rule::Authorization | Rule::Header | Rule::UserInfo | Rule::Argument if vouched => true,
        Rule::PrivateKey | Rule::Known | Rule::Cut => false,
        // Cookies, parameters and what programs print hold settings and code as well.
        _ => names::is_opaque(value),
    };
    known
        && (MIN_BYTES..=MAX_BYTES).contains(&value.len())
        && value.iter().all(|byte| !byte.is_ascii_control() && *byte != b' ')
        && !names::is_plain(value)
        && !names::is_path(value)
        && has_variety(value)
}

fn has_variety(value: &[u8]) -> bool {
    let mut seen = [false; 256];
    value.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count() >= MIN_DIFFERENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(known: &Known, text: &str) -> Vec<String> {
        let mut spans = Vec::new();
        known.find(text.as_bytes(), &mut spans);
        spans.iter().map(|span| text[span.start..span.end].to_owned()).collect()
    }

    fn value(number: usize) -> String {
        format!("value-{number:04}-of-many")
    }

    #[test]
    fn values_are_found_again_however_many_there_are() {
        let mut known = Known::default();
        for number in 0..MAX_VALUES {
            assert!(known.learn(Rule::Header, true, value(number).as_bytes()));
            assert!(!known.learn(Rule::Header, true, value(number).as_bytes()));
            for look in [0, number / 2, number] {
                let text = format!("{}{}>", "<".repeat(number % 20), value(look));
                assert_eq!(found(&known, &text), [value(look)], "{number}");
            }
        }
        assert_eq!(found(&known, "value-0001-of-man and nothing else"), [""; 0]);
        let mut spans = Vec::new();
        known.find_beginning(b"it is value-00", &mut spans);
        assert!(spans.iter().all(|span| (span.start, span.end) == (6, 14)) && !spans.is_empty());
    }

    #[test]
    fn the_oldest_are_forgotten_and_no_others() {
        let mut known = Known::default();
        for number in 0..1000 {
            known.learn(Rule::Header, true, value(number).as_bytes());
            // Sent with every request.
            known.learn(Rule::Header, true, value(0).as_bytes());
            assert!(known.values.len() <= MAX_VALUES);
        }
        for (number, expected) in [(0, 1), (1, 0), (700, 0), (900, 1), (999, 1)] {
            assert_eq!(found(&known, &value(number)).len(), expected, "{number}");
        }
    }

    #[test]
    fn what_may_stand_anywhere_is_not_kept() {
        let mut known = Known::default();
        for (rule, value) in [
            (Rule::Header, "short"),
            (Rule::Header, "1234567890123456"),
            (Rule::Argument, "/run/secrets/token"),
            (Rule::Header, "************"),
            (Rule::Header, "two words of it"),
            (Rule::Cookie, "light-theme-with-contrast"),
            (Rule::Text, "getTheTokenFromSomewhere"),
            (Rule::Known, "0123456789abcdef"),
        ] {
            assert!(!known.learn(rule, true, value.as_bytes()), "{value}");
        }
        assert!(known.learn(Rule::Cookie, true, b"0123456789abcdef"));
        assert!(known.learn(Rule::Argument, true, b"correcthorsebattery"));
    }
}
