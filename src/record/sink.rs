//! The writing half of the recorder: a thread that joins bursts and encodes the trace.
//!
//! Encoding a row group takes hundreds of milliseconds, in which the rings must go on being
//! drained. Events therefore cross a bounded channel in batches. When the writer cannot keep up the
//! channel fills, draining stops, and what the rings cannot hold is counted by the kernel: memory
//! stays bounded and no loss is silent.

use std::fs::File;
use std::io::BufWriter;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::event::{Body, Event};
use crate::time::WallNanos;
use crate::trace;
use crate::trace::{Burst, MAX_BURST_AGE_NS};

/// Payload after which a batch is handed over. With [`QUEUED_BATCHES`], the one being filled and
/// the one being written, it bounds the events in memory outside the open row group to 10 MiB.
const BATCH_BYTES: usize = 1 << 20;
const QUEUED_BATCHES: usize = 8;

/// What one event without payload is taken to need.
const EVENT_BYTES: usize = size_of::<Event>() + 128;

enum Message {
    Events { batch: Vec<Event>, now: WallNanos },
    Finish(Box<trace::ClosingMetadata>),
}

/// Takes events and writes them behind the caller's back.
pub struct Sink {
    batch: Vec<Event>,
    batch_bytes: usize,
    queue: Option<SyncSender<Message>>,
    writer: JoinHandle<Result<trace::Summary, trace::Error>>,
    /// The last time anything was handed over.
    handed_over: WallNanos,
    gone: bool,
}

/// The writer thread has ended early; [`Sink::finish`] tells why.
#[derive(Debug)]
pub struct WriterGone;

impl Sink {
    /// Begins a trace in `file`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn start(file: File, metadata: trace::Metadata) -> Result<Self, trace::Error> {
        let writer = trace::Writer::create(BufWriter::with_capacity(1 << 18, file), metadata)?;
        let (queue, messages) = sync_channel(QUEUED_BATCHES);
        let writer = std::thread::Builder::new()
            .name("trace-writer".into())
            .spawn(move || write(writer, &messages))
            .map_err(trace::Error::Flush)?;
        Ok(Self {
            batch: Vec::new(),
            batch_bytes: 0,
            queue: Some(queue),
            writer,
            handed_over: WallNanos(0),
            gone: false,
        })
    }

    /// Takes in one event; waits while the writer is behind by more than the queue holds.
    pub fn push(&mut self, event: Event) {
        let payload_bytes = match &event.body {
            Body::TlsData(tls) => tls.data.len(),
            Body::ProcessExec(image) | Body::ProcessSeen(image) => {
                image.argv.iter().map(String::len).sum()
            }
            _ => 0,
        };
        let ts = event.ts;
        self.batch_bytes += payload_bytes + EVENT_BYTES;
        self.batch.push(event);
        if self.batch_bytes >= BATCH_BYTES {
            self.gone |= self.hand_over(ts).is_err();
        }
    }

    /// Hands over what was taken in, or, if that is nothing, the time, as long as the writer may
    /// hold bursts that wait for it; waits while the writer is behind.
    ///
    /// # Errors
    /// When the writer has ended.
    pub fn hand_over(&mut self, now: WallNanos) -> Result<(), WriterGone> {
        if self.gone {
            return Err(WriterGone);
        }
        if !self.batch.is_empty() {
            self.handed_over = now;
        } else if now.0.saturating_sub(self.handed_over.0) > 2 * MAX_BURST_AGE_NS {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let queue = self.queue.as_ref().ok_or(WriterGone)?;
        queue.send(Message::Events { batch, now }).map_err(|_| WriterGone)
    }

    /// Writes what is left and the footer.
    ///
    /// # Errors
    /// When the trace could not be written, now or earlier.
    pub fn finish(
        mut self,
        closing: trace::ClosingMetadata,
    ) -> Result<trace::Summary, trace::Error> {
        let now = closing.stop_ts;
        // A writer that has ended tells why when it is joined.
        let _ = self.hand_over(now);
        if let Some(queue) = self.queue.take() {
            let _ = queue.send(Message::Finish(Box::new(closing)));
        }
        match self.writer.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn write(
    mut writer: trace::Writer<BufWriter<File>>,
    messages: &Receiver<Message>,
) -> Result<trace::Summary, trace::Error> {
    let mut bursts = Burst::new();
    let mut joined = Vec::new();
    for message in messages {
        match message {
            Message::Events { batch, now } => {
                for event in batch {
                    bursts.push(event, &mut |event| joined.push(event));
                }
                let settled = WallNanos(now.0.saturating_sub(MAX_BURST_AGE_NS));
                bursts.flush_older_than(settled, &mut |event| joined.push(event));
                for event in joined.drain(..) {
                    writer.push(event)?;
                }
            }
            Message::Finish(closing) => {
                bursts.flush(&mut |event| joined.push(event));
                for event in joined.drain(..) {
                    writer.push(event)?;
                }
                return writer.finish(*closing);
            }
        }
    }
    // The session ended without a word: it failed, and says why itself. Keep what there is.
    bursts.flush(&mut |event| joined.push(event));
    for event in joined.drain(..) {
        writer.push(event)?;
    }
    writer.finish(trace::ClosingMetadata {
        stop_reason: "recorder_failed".into(),
        ..trace::ClosingMetadata::default()
    })
}
