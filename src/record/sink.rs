//! The writing half of the recorder: a thread that joins bursts and encodes the trace.
//!
//! Encoding a row group takes hundreds of milliseconds, in which the rings must go on being
//! drained. Events therefore cross a bounded channel in batches. When the writer cannot keep up the
//! channel fills, draining stops, and what the rings cannot hold is counted by the kernel: memory
//! stays bounded and no loss is silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::ledger::Observed;
use super::pipeline::{Ended, Pipeline};
use crate::event::{Body, Event};
use crate::redact::MAX_HOLD_NS;
use crate::time::WallNanos;
use crate::trace::{self, Entry, MAX_BURST_AGE_NS};

/// Payload after which a batch is handed over. With [`QUEUED_BATCHES`], the one being filled and
/// the one being written, it bounds the events in memory outside the open row group to 10 MiB.
const BATCH_BYTES: usize = 1 << 20;
const QUEUED_BATCHES: usize = 8;

/// Batches that wait when the writer is told to hurry. Few: closing a row group without haste takes
/// long enough for the others to be filled and the rings to follow.
const HURRIED_BATCHES: usize = 2;

/// What one event without payload is taken to need.
const EVENT_BYTES: usize = size_of::<Event>() + 128;

/// How often the log is written. What happened before is safe from a killed recorder a second
/// later: joining calls and closing a row group may each hold it up for a part of the rest.
const LOG_INTERVAL: Duration = Duration::from_millis(400);

/// The longest that the writer waits with an event for those that follow.
const MAX_HELD_NS: i64 = MAX_BURST_AGE_NS + MAX_HOLD_NS;

enum Message {
    Events { batch: Vec<Event>, now: WallNanos },
    Set(Entry),
    Snapshot { reason: String, now: WallNanos },
    Finish(Box<(trace::ClosingMetadata, Option<Observed>)>),
}

/// Takes events and writes them behind the caller's back.
pub struct Sink {
    batch: Vec<Event>,
    batch_bytes: usize,
    queue: SyncSender<Message>,
    writer: JoinHandle<Ended>,
    /// Batches handed over that the writer has not yet taken.
    waiting: Arc<AtomicUsize>,
    /// Set by the writer when nothing more can be written.
    failed: Arc<AtomicBool>,
    /// Set by the writer when the trace has the size at which to stop.
    full: Arc<AtomicBool>,
    /// The last time anything was handed over.
    handed_over: WallNanos,
}

/// Nothing more can be written; [`Sink::finish`] tells why, and counts what comes until then.
#[derive(Debug)]
pub struct WriterFailed;

impl Sink {
    /// Begins to write through `pipeline`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(pipeline: Pipeline) -> Result<Self, trace::Error> {
        let (queue, messages) = sync_channel(QUEUED_BATCHES);
        let failed = Arc::new(AtomicBool::new(false));
        let full = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&failed), Arc::clone(&full), Arc::clone(&waiting));
        let writer = std::thread::Builder::new()
            .name("trace-writer".into())
            .spawn(move || write(pipeline, &messages, (&shared.0, &shared.1), &shared.2))
            .map_err(trace::Error::Flush)?;
        let handed_over = WallNanos(0);
        let batch = Vec::new();
        Ok(Self { batch, batch_bytes: 0, queue, writer, waiting, failed, full, handed_over })
    }

    /// Takes in one event; waits while the writer is behind by more than the queue holds.
    pub fn push(&mut self, event: Event) {
        let payload_bytes = match &event.body {
            Body::Data(tls) => tls.data.len(),
            Body::ProcessExec(image) | Body::ProcessSeen(image) => {
                image.argv.iter().map(String::len).sum()
            }
            _ => 0,
        };
        let ts = event.ts;
        self.batch_bytes += payload_bytes + EVENT_BYTES;
        self.batch.push(event);
        if self.batch_bytes >= BATCH_BYTES {
            // The caller learns of a failure when it hands over by itself.
            let _ = self.hand_over(ts);
        }
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        let _ = self.queue.send(Message::Set(entry));
    }

    /// Asks for a snapshot of everything handed over so far and what was taken in.
    pub fn snapshot(&mut self, reason: &str, now: WallNanos) {
        // The caller learns of a failure when it hands over by itself.
        let _ = self.hand_over(now);
        let _ = self.queue.send(Message::Snapshot { reason: reason.to_owned(), now });
    }

    /// Whether the trace has the size at which the recording is to stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// Hands over what was taken in, or, if that is nothing, the time, as long as the writer may
    /// hold events that wait for it; waits while the writer is behind.
    ///
    /// # Errors
    /// When nothing more can be written.
    pub fn hand_over(&mut self, now: WallNanos) -> Result<(), WriterFailed> {
        let waits = now.0.saturating_sub(self.handed_over.0) <= 2 * MAX_HELD_NS;
        if !self.batch.is_empty() || waits {
            if !self.batch.is_empty() {
                self.handed_over = now;
            }
            let batch = std::mem::take(&mut self.batch);
            self.batch_bytes = 0;
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.queue.send(Message::Events { batch, now }).map_err(|_| WriterFailed)?;
        }
        if self.failed.load(Ordering::Acquire) { Err(WriterFailed) } else { Ok(()) }
    }

    /// Writes what is left and the footer. `observed` is what was handed over in all, where that
    /// is known.
    #[must_use]
    pub fn finish(mut self, closing: trace::ClosingMetadata, observed: Option<Observed>) -> Ended {
        // A writer that has failed tells why when it is joined.
        let _ = self.hand_over(closing.stop_ts);
        let _ = self.queue.send(Message::Finish(Box::new((closing, observed))));
        match self.writer.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn write(
    mut pipeline: Pipeline,
    messages: &Receiver<Message>,
    (failed, full): (&AtomicBool, &AtomicBool),
    waiting: &AtomicUsize,
) -> Ended {
    let mut log_due = Instant::now() + LOG_INTERVAL;
    loop {
        let message = messages.recv_timeout(log_due.saturating_duration_since(Instant::now()));
        match message {
            Ok(Message::Events { batch, now }) => {
                let behind = waiting.fetch_sub(1, Ordering::Relaxed) - 1;
                pipeline.hurry(behind >= HURRIED_BATCHES);
                pipeline.push(batch, now);
            }
            Ok(Message::Set(entry)) => pipeline.set(entry),
            Ok(Message::Snapshot { reason, now }) => pipeline.snapshot(&reason, now),
            Ok(Message::Finish(end)) => return pipeline.finish(end.0, end.1.as_ref()),
            Err(RecvTimeoutError::Timeout) => {}
            // The session ended without a word: it failed, and says why itself. Keep what there is.
            Err(RecvTimeoutError::Disconnected) => {
                let closing = trace::ClosingMetadata {
                    stop_reason: "recorder_failed".into(),
                    ..trace::ClosingMetadata::default()
                };
                return pipeline.finish(closing, None);
            }
        }
        if Instant::now() >= log_due || pipeline.logs_every_batch() {
            pipeline.flush_log();
            log_due = Instant::now() + LOG_INTERVAL;
        }
        failed.store(pipeline.has_failed(), Ordering::Release);
        full.store(pipeline.is_full(), Ordering::Release);
    }
}
