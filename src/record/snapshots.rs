//! Snapshots, written beside the recording while it goes on.
//!
//! The parts are opened by the writer, so that none can be dropped under a snapshot; a thread of its
//! own copies their row groups by bytes. A snapshot appears under its name when it is whole.

use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use super::names::Names;
use super::owner::Owner;
use super::publish::Partial;
use crate::trace::{self, Reader, Snapshot};

/// Snapshots written at one time; each reads and writes as much as is kept.
const MAX_RUNNING: usize = 2;
/// Numbers that are tried before giving up: as many snapshots of earlier recordings may be there.
const MAX_NUMBER: u32 = 1_000_000;

/// Takes snapshots of one recording.
#[derive(Debug)]
pub struct Snapshots {
    names: Names,
    owner: Option<Owner>,
    /// What the user is to know goes here.
    notes: Sender<String>,
    running: Vec<JoinHandle<()>>,
    /// The lowest number that may be free.
    next_number: u32,
}

impl Snapshots {
    /// None has been taken.
    #[must_use]
    pub fn new(names: Names, owner: Option<Owner>, notes: Sender<String>) -> Self {
        Self { names, owner, notes, running: Vec::new(), next_number: 1 }
    }

    /// Whether one more may be begun now.
    pub fn has_room(&mut self) -> bool {
        self.running.retain(|thread| !thread.is_finished());
        self.running.len() < MAX_RUNNING
    }

    /// Begins to write a snapshot of these parts; what came of it is told as a note.
    pub fn take(&mut self, parts: Vec<Reader>, about: Snapshot) {
        let number = (self.next_number..MAX_NUMBER)
            .find(|number| std::fs::symlink_metadata(self.names.snapshot(*number)).is_err());
        let Some(number) = number else {
            return self.note(&about, "there are a million snapshots already");
        };
        self.next_number = number + 1;
        let path = self.names.snapshot(number);
        let (owner, notes) = (self.owner.clone(), self.notes.clone());
        let reason = about.reason.clone();
        let work = move || {
            let note = match write(&path, owner.as_ref(), &parts, &about) {
                Ok(rows) => format!("snapshot ({reason}): {} with {rows} rows", path.display()),
                Err(error) => failed(&reason, &error),
            };
            // The session may have ended; it waits for this thread, not for the note.
            let _ = notes.send(note);
        };
        let thread = std::thread::Builder::new().name("trace-snapshot".into()).spawn(work);
        match thread {
            Ok(thread) => self.running.push(thread),
            Err(error) => {
                let _ = self.notes.send(format!("snapshot failed: {error}"));
            }
        }
    }

    /// Tells that a snapshot could not be begun.
    pub fn note(&self, about: &Snapshot, reason: &str) {
        let _ = self.notes.send(format!("snapshot ({}) failed: {reason}", about.reason));
    }

    /// Waits for those under way.
    pub fn wait(&mut self) {
        for thread in self.running.drain(..) {
            // A panic has been printed, and cost that snapshot only.
            let _ = thread.join();
        }
    }
}

fn write(
    path: &Path,
    owner: Option<&Owner>,
    parts: &[Reader],
    about: &Snapshot,
) -> Result<u64, trace::Error> {
    let io_error = |source: io::Error| trace::Error::Flush(source);
    let partial = Partial::begin(path, owner).map_err(io_error)?;
    let sink = BufWriter::with_capacity(1 << 18, partial.file());
    let summary = trace::assemble(parts, Some(about), sink)?;
    partial.publish(false).map_err(io_error)?;
    Ok(summary.rows)
}

fn failed(reason: &str, error: &trace::Error) -> String {
    let mut text = format!("snapshot ({reason}) failed: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
