//! Turns the kernel's loss counters, which only ever grow, into loss events with a time range.

use std::collections::BTreeMap;

use crate::event::{Body, Event, Loss};
use crate::time::WallNanos;

/// A loss counter at one moment: totals since the recording began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// The `kind` of the events that were lost.
    pub event_class: &'static str,
    /// Why.
    pub cause: &'static str,
    /// How many events.
    pub lost_events: u64,
    /// How many payload bytes.
    pub lost_bytes: u64,
}

/// What has been reported so far.
#[derive(Debug)]
pub struct Ledger {
    read_ts: WallNanos,
    reported: BTreeMap<(&'static str, &'static str), (u64, u64)>,
}

impl Ledger {
    /// Begins with nothing lost.
    #[must_use]
    pub fn new(now: WallNanos) -> Self {
        Self { read_ts: now, reported: BTreeMap::new() }
    }

    /// The losses since the last reading, as events.
    pub fn read(&mut self, now: WallNanos, counters: &[Counter]) -> Vec<Event> {
        let first_ts = std::mem::replace(&mut self.read_ts, now);
        let mut losses = Vec::new();
        for counter in counters {
            let before = self.reported.entry((counter.event_class, counter.cause)).or_default();
            let lost_events = counter.lost_events.saturating_sub(before.0);
            let lost_bytes = counter.lost_bytes.saturating_sub(before.1);
            if lost_events == 0 && lost_bytes == 0 {
                continue;
            }
            *before = (counter.lost_events, counter.lost_bytes);
            let loss = Loss {
                first_ts,
                event_class: counter.event_class.into(),
                cause: counter.cause.into(),
                lost_events,
                lost_bytes,
                conn_id: None,
            };
            let body = Body::Loss(loss);
            losses.push(Event { ts: now, process: None, tid: None, comm: None, body });
        }
        losses
    }

    /// Events and payload bytes lost so far, all causes together.
    #[must_use]
    pub fn total(&self) -> (u64, u64) {
        self.reported.values().fold((0, 0), |sum, lost| (sum.0 + lost.0, sum.1 + lost.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(lost_events: u64, lost_bytes: u64) -> Counter {
        Counter { event_class: "tls_data", cause: "ring_full", lost_events, lost_bytes }
    }

    #[test]
    fn each_loss_is_told_once_with_the_range_in_which_it_fell() {
        let mut ledger = Ledger::new(WallNanos(10));
        assert!(ledger.read(WallNanos(20), &[counter(0, 0)]).is_empty());

        let told = ledger.read(WallNanos(30), &[counter(2, 100)]);
        let [Event { ts, body: Body::Loss(loss), .. }] = &told[..] else { panic!("{told:?}") };
        assert_eq!((*ts, loss.first_ts), (WallNanos(30), WallNanos(20)));
        assert_eq!((loss.lost_events, loss.lost_bytes), (2, 100));

        assert!(ledger.read(WallNanos(40), &[counter(2, 100)]).is_empty());
        assert_eq!(ledger.read(WallNanos(50), &[counter(3, 100)]).len(), 1);
        assert_eq!(ledger.total(), (3, 100));
    }
}
