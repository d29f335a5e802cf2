//! What every event passes on the writer thread: credentials are taken out, then it is joined with its
//! neighbours, looked at by the triggers, and recorded.

use super::ledger::Observed;
use super::redaction;
use super::store::Store;
use super::trigger::{Fired, Triggers};
use crate::event::Event;
use crate::redact::{MAX_HOLD_NS, Redactor};
use crate::time::WallNanos;
use crate::trace::{
    Burst, ClosingMetadata, Entry, Error, Finished, MAX_BURST_AGE_NS, Snapshot, Sync,
};

/// How a recording ended.
#[derive(Debug)]
pub struct Ended {
    /// What was written.
    pub finished: Finished,
    /// Events that are neither in the trace nor counted as lost: a line per class, to be reported
    /// as bugs.
    pub complaints: Vec<String>,
    /// What could not be redacted, if anything.
    pub warning: Option<String>,
}

/// The way from the session's events to the trace.
pub struct Pipeline {
    /// Absent when the user wants everything in the trace.
    redactor: Option<Redactor>,
    bursts: Burst,
    joined: Vec<Event>,
    triggers: Triggers,
    store: Store,
    logs_every_batch: bool,
    /// The first failure to write. Later events are only counted.
    failure: Option<Error>,
}

impl Pipeline {
    /// Ends in `store`, whose log is written as `sync` asks; snapshots are taken as `triggers` say.
    #[must_use]
    pub fn new(store: Store, triggers: Triggers, sync: Sync) -> Self {
        Self {
            redactor: None,
            bursts: Burst::new(),
            joined: Vec::new(),
            triggers,
            store,
            logs_every_batch: sync == Sync::Always,
            failure: None,
        }
    }

    /// The same, with credentials taken out by `redactor` before anything else sees an event.
    #[must_use]
    pub fn redacting(mut self, redactor: Option<Redactor>) -> Self {
        self.redactor = redactor;
        self
    }

    /// Takes in events that were observed until `now`.
    pub fn push(&mut self, batch: Vec<Event>, now: WallNanos) {
        let (bursts, joined) = (&mut self.bursts, &mut self.joined);
        let mut join = |event| bursts.push(event, &mut |event| joined.push(event));
        if let Some(redactor) = &mut self.redactor {
            batch.into_iter().for_each(|event| redactor.push(event, &mut join));
            redactor.flush_older_than(WallNanos(now.0.saturating_sub(MAX_HOLD_NS)), &mut join);
        } else {
            batch.into_iter().for_each(join);
        }
        let settled = WallNanos(now.0.saturating_sub(MAX_BURST_AGE_NS));
        self.bursts.flush_older_than(settled, &mut |event| self.joined.push(event));
        self.record();
    }

    /// Whether more comes than can be compressed in time; see [`crate::trace::Recording::hurry`].
    pub fn hurry(&mut self, is_hurried: bool) {
        self.store.hurry(is_hurried);
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        self.store.set(entry);
    }

    /// Writes down what was taken in, so that it survives the recorder.
    pub fn flush_log(&mut self) {
        let flushed = self.store.flush_log();
        self.note(flushed);
    }

    /// Whether the log is to be written after every batch.
    #[must_use]
    pub fn logs_every_batch(&self) -> bool {
        self.logs_every_batch
    }

    /// Takes a snapshot of everything up to now.
    pub fn snapshot(&mut self, reason: &str, now: WallNanos) {
        self.bursts.flush(&mut |event| self.joined.push(event));
        let fired = self.record_joined();
        let mut about = Snapshot { reason: reason.to_owned(), ts: now };
        for fired in fired {
            about.reason = format!("{}, {}", about.reason, fired.condition);
        }
        let taken = self.store.snapshot(about);
        self.note(taken);
    }

    /// Whether the trace has the size at which the recording is to stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.store.is_full()
    }

    /// Whether nothing more can be written.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Writes what is left and the footer. `observed` is what all events together were to be; it
    /// is absent where the session failed and does not know.
    #[must_use]
    pub fn finish(mut self, closing: ClosingMetadata, observed: Option<&Observed>) -> Ended {
        if let Some(redactor) = &mut self.redactor {
            let (bursts, joined) = (&mut self.bursts, &mut self.joined);
            redactor.flush(&mut |event| bursts.push(event, &mut |event| joined.push(event)));
            self.store.set(redaction::entry(redactor));
        }
        self.bursts.flush(&mut |event| self.joined.push(event));
        self.record();
        let mut complaints = Vec::new();
        if let Some(observed) = observed {
            let accounts = observed.accounts(&self.store.final_totals());
            // Of rows that were lost together with a row group nobody knows how many calls they held:
            // after a failure to write, what does not add up is no bug, and the failure is told.
            if self.failure.is_none() {
                complaints = observed.complaints(&accounts);
            }
            self.store.set(Entry::ledger(&accounts));
            if !complaints.is_empty() {
                self.store.set(Entry::bugs(&complaints));
            }
        }
        let mut finished = self.store.finish(closing);
        finished.failure = self.failure;
        let warning = self.redactor.as_ref().and_then(redaction::warning);
        Ended { finished, complaints, warning }
    }

    /// Records what was joined, and takes the snapshots that it gives reason for.
    fn record(&mut self) {
        let fired = self.record_joined();
        if let Some(Fired { condition, ts }) = fired.first() {
            let others = fired[1..].iter().map(|fired| fired.condition.as_str());
            let reasons: Vec<&str> = std::iter::once(condition.as_str()).chain(others).collect();
            self.snapshot(&reasons.join(", "), *ts);
        }
    }

    fn record_joined(&mut self) -> Vec<Fired> {
        let mut fired = Vec::new();
        for event in std::mem::take(&mut self.joined) {
            if !self.triggers.is_empty() {
                fired.extend(self.triggers.observe(&event));
            }
            let pushed = self.store.push(event);
            self.note(pushed);
        }
        fired
    }

    fn note(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.failure.get_or_insert(error);
        }
    }
}
