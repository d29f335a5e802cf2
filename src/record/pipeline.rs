//! What every event passes on the writer thread: it is joined with its neighbours, then recorded.

use super::ledger::Observed;
use crate::event::Event;
use crate::time::WallNanos;
use crate::trace::{
    Burst, ClosingMetadata, Entry, Error, Finished, MAX_BURST_AGE_NS, Recording, Sync,
};

/// How a recording ended.
#[derive(Debug)]
pub struct Ended {
    /// What was written.
    pub finished: Finished,
    /// Events that are neither in the trace nor counted as lost: a line per class, to be reported
    /// as bugs.
    pub complaints: Vec<String>,
}

/// The way from the session's events to the trace.
pub struct Pipeline {
    bursts: Burst,
    joined: Vec<Event>,
    recording: Recording,
    logs_every_batch: bool,
    /// The first failure to write. Later events are only counted.
    failure: Option<Error>,
}

impl Pipeline {
    /// Ends in this recording, whose log is written as `sync` asks.
    #[must_use]
    pub fn new(recording: Recording, sync: Sync) -> Self {
        Self {
            bursts: Burst::new(),
            joined: Vec::new(),
            recording,
            logs_every_batch: sync == Sync::Always,
            failure: None,
        }
    }

    /// Takes in events that were observed until `now`.
    pub fn push(&mut self, batch: Vec<Event>, now: WallNanos) {
        for event in batch {
            self.bursts.push(event, &mut |event| self.joined.push(event));
        }
        let settled = WallNanos(now.0.saturating_sub(MAX_BURST_AGE_NS));
        self.bursts.flush_older_than(settled, &mut |event| self.joined.push(event));
        self.record();
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        self.recording.set(entry);
    }

    /// Writes down what was taken in, so that it survives the recorder.
    pub fn flush_log(&mut self) {
        let flushed = self.recording.flush_log();
        self.note(flushed);
    }

    /// Whether the log is to be written after every batch.
    #[must_use]
    pub fn logs_every_batch(&self) -> bool {
        self.logs_every_batch
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
        self.bursts.flush(&mut |event| self.joined.push(event));
        self.record();
        let mut complaints = Vec::new();
        if let Some(observed) = observed {
            let accounts = observed.accounts(&self.recording.final_totals());
            complaints = observed.complaints(&accounts);
            self.recording.set(Entry::ledger(&accounts));
            if !complaints.is_empty() {
                self.recording.set(Entry::bugs(&complaints));
            }
        }
        let mut finished = self.recording.finish(closing);
        finished.failure = self.failure;
        Ended { finished, complaints }
    }

    fn record(&mut self) {
        for event in std::mem::take(&mut self.joined) {
            let pushed = self.recording.push(event);
            self.note(pushed);
        }
    }

    fn note(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.failure.get_or_insert(error);
        }
    }
}
