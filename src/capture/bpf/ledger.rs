//! Reading the kernel's loss counters, and turning them into `loss` events.

use libbpf_rs::{MapCore, MapFlags};

use super::Error;
use crate::capture::abi::{CLASS_KINDS, LOSS_CAUSES, LOSS_COUNT, LedgerEntry, Wire};
use crate::event::{Body, Event, Loss};
use crate::time::WallNanos;

/// What became of one class of events since the capture was loaded. For events and for bytes
/// alike, attempted equals submitted plus the sum of lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLedger {
    /// `kind` of the events.
    pub event_class: &'static str,
    /// The counters. Bytes are plaintext (`tls_data`) or arguments (`process_exec`).
    pub entry: LedgerEntry,
}

impl ClassLedger {
    /// Whether every event and every byte is accounted for. Only certain while nothing is running:
    /// the counters are not read at one instant.
    #[must_use]
    pub fn balances(&self) -> bool {
        let LedgerEntry {
            attempted_events,
            attempted_bytes,
            submitted_events,
            submitted_bytes,
            lost_events,
            lost_bytes,
        } = self.entry;
        attempted_events == submitted_events + lost_events.iter().sum::<u64>()
            && attempted_bytes == submitted_bytes + lost_bytes.iter().sum::<u64>()
    }
}

/// Sums the per-CPU counters of every class.
pub(super) fn read(map: &dyn MapCore) -> Result<Vec<ClassLedger>, Error> {
    let failed = |source| Error::Map { map: "ledger", source };
    let mut classes = Vec::with_capacity(CLASS_KINDS.len());
    for (class, event_class) in CLASS_KINDS.into_iter().enumerate() {
        let key = (class as u32).to_ne_bytes();
        let per_cpu = map.lookup_percpu(&key, MapFlags::ANY).map_err(failed)?.unwrap_or_default();
        let entries = per_cpu.iter().filter_map(|value| LedgerEntry::take(&mut value.as_slice()));
        classes.push(ClassLedger { event_class, entry: entries.fold(EMPTY, sum) });
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
        let old = before.get(index).map_or(EMPTY, |class| class.entry);
        for (cause, name) in LOSS_CAUSES.into_iter().enumerate() {
            let lost_events = class.entry.lost_events[cause].saturating_sub(old.lost_events[cause]);
            let lost_bytes = class.entry.lost_bytes[cause].saturating_sub(old.lost_bytes[cause]);
            if lost_events > 0 || lost_bytes > 0 {
                losses.push(loss(class.event_class, name, (lost_events, lost_bytes), first_ts, ts));
            }
        }
    }
    losses
}

/// One `loss` event about the recording itself.
pub(super) fn loss(
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
        std::array::from_fn(|cause| a[cause] + b[cause])
    };
    LedgerEntry {
        attempted_events: a.attempted_events + b.attempted_events,
        attempted_bytes: a.attempted_bytes + b.attempted_bytes,
        submitted_events: a.submitted_events + b.submitted_events,
        submitted_bytes: a.submitted_bytes + b.submitted_bytes,
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
        ClassLedger { event_class: "tls_data", entry }
    }

    #[test]
    fn a_byte_that_is_neither_submitted_nor_lost_unbalances_the_ledger() {
        assert!(class(2, 100).balances());
        let mut hole = class(2, 100);
        hole.entry.submitted_bytes -= 1;
        assert!(!hole.balances());
    }

    #[test]
    fn only_what_was_lost_since_the_last_reading_is_reported() {
        let (from, to) = (WallNanos(1), WallNanos(2));
        let events = new_losses(&[class(2, 100)], &[class(3, 150)], from, to);
        assert_eq!(events, [loss("tls_data", "ring_full", (1, 50), from, to)]);
        assert!(new_losses(&[class(3, 150)], &[class(3, 150)], from, to).is_empty());
    }
}
