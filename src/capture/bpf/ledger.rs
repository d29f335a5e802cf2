//! The ledger of a capture: what the kernel observed, submitted and lost, and what became of the
//! submitted records in user space. Read from the kernel's counters; turned into `loss` events.

use libbpf_rs::{MapCore, MapFlags};

use super::Error;
use crate::capture::abi::{CLASS_COUNT, CLASS_KINDS, LOSS_CAUSES, LOSS_COUNT, LedgerEntry, Wire};
use crate::capture::decode::Decoded;
use crate::event::{Body, Event, Loss};
use crate::time::WallNanos;

/// The class of records of which not even the class is known.
const UNKNOWN_CLASS: &str = "unknown";
/// Cause of a loss: a record that is none.
const DECODE_ERROR: &str = "decode_error";
/// Cause of a loss: what a record refers to or continues was lost itself.
const UNUSABLE: &str = "unusable";

/// What became of one class of events since the capture was loaded. For events and for bytes
/// alike, attempted equals submitted plus the sum of lost; and submitted, when nothing is on its
/// way any more, equals what was decoded plus what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLedger {
    /// `kind` of the events.
    pub event_class: &'static str,
    /// The counters. Bytes are plaintext (`tls_data`) or arguments (`process_exec`).
    pub entry: LedgerEntry,
    /// What became of what was submitted.
    pub decoded: Decoded,
    /// Of what was submitted: what was no record.
    pub undecodable: Undecodable,
}

/// Records that could not be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undecodable {
    /// How many events they were to be.
    pub events: u64,
    /// Payload bytes, as far as the records tell.
    pub bytes: u64,
}

impl ClassLedger {
    /// Whether the kernel side accounts for every event and every byte. Only certain while nothing
    /// is running: the counters are not read at one instant.
    #[must_use]
    pub fn balances(&self) -> bool {
        let entry = &self.entry;
        entry.attempted_events == entry.submitted_events.wrapping_add(total(entry.lost_events))
            && entry.attempted_bytes == entry.submitted_bytes.wrapping_add(total(entry.lost_bytes))
    }

    /// Whether the kernel side balances and nothing is on its way from there any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let (decoded, undecodable) = (&self.decoded, &self.undecodable);
        let events = decoded.events
            + decoded.unusable_events
            + decoded.unselected_events
            + undecodable.events;
        let bytes =
            decoded.bytes + decoded.unusable_bytes + decoded.unselected_bytes + undecodable.bytes;
        self.balances()
            && self.entry.submitted_events == events
            && self.entry.submitted_bytes == bytes
    }

    /// Counts events that user space made of what the kernel side had summed up: they were
    /// observed, submitted and handed on at once.
    pub(super) fn add_made(&mut self, events: u64) {
        self.entry.attempted_events += events;
        self.entry.submitted_events += events;
        self.decoded.events += events;
    }

    /// Events and bytes lost so far, by cause.
    fn losses(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        let LedgerEntry { lost_events, lost_bytes, .. } = self.entry;
        let kernel = (0..LOSS_COUNT)
            .map(move |cause| (LOSS_CAUSES[cause], lost_events[cause], lost_bytes[cause]));
        let Undecodable { events, bytes } = self.undecodable;
        let Decoded { unusable_events, unusable_bytes, .. } = self.decoded;
        kernel.chain([(DECODE_ERROR, events, bytes), (UNUSABLE, unusable_events, unusable_bytes)])
    }
}

/// A connection that ends or a process that lies can drive single counters anywhere; sums wrap
/// alike on both sides of the balance.
fn total(causes: [u64; LOSS_COUNT]) -> u64 {
    causes.into_iter().fold(0, u64::wrapping_add)
}

/// Sums the per-CPU counters of every class, beside what user space knows.
pub(super) fn read(
    map: &dyn MapCore,
    decoded: &[Decoded; CLASS_COUNT],
    undecodable: &[Undecodable; CLASS_COUNT],
) -> Result<Vec<ClassLedger>, Error> {
    let failed = |source| Error::Map { map: "ledger", source };
    let mut classes = Vec::with_capacity(CLASS_KINDS.len());
    for (class, event_class) in CLASS_KINDS.into_iter().enumerate() {
        let key = (class as u32).to_ne_bytes();
        let per_cpu = map.lookup_percpu(&key, MapFlags::ANY).map_err(failed)?.unwrap_or_default();
        let entries = per_cpu.iter().filter_map(|value| LedgerEntry::take(&mut value.as_slice()));
        classes.push(ClassLedger {
            event_class,
            entry: entries.fold(EMPTY, sum),
            decoded: decoded[class],
            undecodable: undecodable[class],
        });
    }
    Ok(classes)
}

/// The losses of `now` that `before`, an earlier reading, does not have.
pub(super) fn new_losses(
    before: &[ClassLedger],
    now: &[ClassLedger],
    first_ts: WallNanos,
    ts: WallNanos,
) -> Vec<Event> {
    let mut losses = Vec::new();
    for (index, class) in now.iter().enumerate() {
        let old: Vec<_> = before.get(index).map_or_else(Vec::new, |class| class.losses().collect());
        for (at, (cause, events, bytes)) in class.losses().enumerate() {
            let (_, old_events, old_bytes) = old.get(at).copied().unwrap_or_default();
            let lost_events = events.saturating_sub(old_events);
            let lost_bytes = bytes.saturating_sub(old_bytes);
            if lost_events > 0 || lost_bytes > 0 {
                losses.push(loss(
                    class.event_class,
                    cause,
                    (lost_events, lost_bytes),
                    first_ts,
                    ts,
                ));
            }
        }
    }
    losses
}

/// The loss of records whose class could not be told.
pub(super) fn unknown_loss(records: u64, first_ts: WallNanos, ts: WallNanos) -> Event {
    loss(UNKNOWN_CLASS, DECODE_ERROR, (records, 0), first_ts, ts)
}

/// One `loss` event about the recording itself.
fn loss(
    event_class: &str,
    cause: &str,
    (lost_events, lost_bytes): (u64, u64),
    first_ts: WallNanos,
    ts: WallNanos,
) -> Event {
    Event {
        ts,
        process: None,
        tid: None,
        comm: None,
        body: Body::Loss(Loss {
            first_ts,
            event_class: event_class.to_owned(),
            cause: cause.to_owned(),
            lost_events,
            lost_bytes,
            conn_id: None,
        }),
    }
}

const EMPTY: LedgerEntry = LedgerEntry {
    attempted_events: 0,
    attempted_bytes: 0,
    submitted_events: 0,
    submitted_bytes: 0,
    lost_events: [0; LOSS_COUNT],
    lost_bytes: [0; LOSS_COUNT],
};

fn sum(a: LedgerEntry, b: LedgerEntry) -> LedgerEntry {
    let columns = |a: [u64; LOSS_COUNT], b: [u64; LOSS_COUNT]| {
        std::array::from_fn(|cause| a[cause].wrapping_add(b[cause]))
    };
    LedgerEntry {
        attempted_events: a.attempted_events.wrapping_add(b.attempted_events),
        attempted_bytes: a.attempted_bytes.wrapping_add(b.attempted_bytes),
        submitted_events: a.submitted_events.wrapping_add(b.submitted_events),
        submitted_bytes: a.submitted_bytes.wrapping_add(b.submitted_bytes),
        lost_events: columns(a.lost_events, b.lost_events),
        lost_bytes: columns(a.lost_bytes, b.lost_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(lost_events: u64, lost_bytes: u64) -> ClassLedger {
        let mut entry = LedgerEntry {
            attempted_events: 10,
            attempted_bytes: 1000,
            submitted_events: 10 - lost_events,
            submitted_bytes: 1000 - lost_bytes,
            ..EMPTY
        };
        entry.lost_events[0] = lost_events;
        entry.lost_bytes[0] = lost_bytes;
        let (events, bytes) = (entry.submitted_events, entry.submitted_bytes);
        ClassLedger {
            event_class: "tls_data",
            entry,
            decoded: Decoded { events, bytes, ..Decoded::default() },
            undecodable: Undecodable::default(),
        }
    }

    #[test]
    fn a_byte_that_is_neither_submitted_nor_lost_unbalances_the_ledger() {
        assert!(class(2, 100).balances());
        let mut hole = class(2, 100);
        hole.entry.submitted_bytes -= 1;
        assert!(!hole.balances());
    }

    #[test]
    fn a_record_that_is_still_on_its_way_keeps_the_ledger_open() {
        let mut class = class(2, 100);
        assert!(class.is_settled());
        class.decoded.events -= 1;
        assert!(class.balances() && !class.is_settled());
        class.undecodable.events += 1;
        assert!(class.is_settled());
        class.decoded.bytes -= 30;
        class.decoded.unusable_bytes += 30;
        assert!(class.is_settled());
    }

    #[test]
    fn counters_driven_to_their_end_wrap_on_both_sides() {
        let mut class = class(0, 0);
        let half = class.entry;
        class.entry.attempted_bytes = u64::MAX - 10;
        class.entry.lost_bytes[2] = u64::MAX - 10 - class.entry.submitted_bytes;
        class.entry = sum(class.entry, half);
        assert!(class.balances(), "{class:?}");
    }

    #[test]
    fn only_what_was_lost_since_the_last_reading_is_reported() {
        let (from, to) = (WallNanos(1), WallNanos(2));
        let events = new_losses(&[class(2, 100)], &[class(3, 150)], from, to);
        assert_eq!(events, [loss("tls_data", "ring_full", (1, 50), from, to)]);
        assert!(new_losses(&[class(3, 150)], &[class(3, 150)], from, to).is_empty());
        let mut damaged = class(3, 150);
        damaged.undecodable = Undecodable { events: 2, bytes: 7 };
        damaged.decoded.unusable_bytes = 9;
        let user = new_losses(&[class(3, 150)], &[damaged], from, to);
        let expected = [("decode_error", (2, 7)), ("unusable", (0, 9))];
        assert_eq!(user, expected.map(|(cause, lost)| loss("tls_data", cause, lost, from, to)));
    }
}
