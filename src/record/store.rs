//! Where the events of a recording are kept: one file, numbered files, or the parts of a ring.
//!
//! [`Parts`] decides, this does: it ends the open part and begins the next, which repeats what was
//! known ([`Carry`]) so that it explains itself, and removes parts that are surplus. At the end the
//! parts of a ring become one file. Belongs to the writer thread.

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Instant;

use super::names::Names;
use super::output::{Output, OutputError};
use super::owner::Owner;
use super::parts::{Parts, Verdict};
use super::retention::Retention;
use super::ring;
use super::snapshots::Snapshots;
use crate::event::Event;
use crate::time::WallNanos;
use crate::trace::{
    self, Carry, ClosingMetadata, Entry, Error, Finished, Limits, Metadata, Reader, Recording,
    Snapshot, Summary, Sync, Tally,
};

/// Parts of a rotation that a snapshot holds at most, the newest: all of them are open files.
const MAX_SNAPSHOT_PARTS: usize = 64;

/// `stop_reason` of a part that was followed by another.
const NEXT_PART: &str = "next_part";

/// What is to be kept, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The trace, and the names of what belongs to it.
    pub names: Names,
    /// How much of it.
    pub retention: Retention,
    /// What is to survive a power failure.
    pub sync: Sync,
    /// When row groups close.
    pub limits: Limits,
    /// To whom the files belong.
    pub owner: Option<Owner>,
    /// Whether existing files may be replaced.
    pub force: bool,
    /// What is known of the recording when it starts.
    pub metadata: Metadata,
}

/// Why a recording cannot be begun or go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// A trace cannot be written.
    #[error(transparent)]
    Trace(#[from] Error),
}

/// Keeps the events of a recording.
pub struct Store {
    plan: Plan,
    parts: Parts,
    started: Instant,
    /// The open part; absent when it could not be begun.
    open: Option<Recording>,
    open_path: PathBuf,
    /// What is known; absent where there is only one part.
    carry: Option<Carry>,
    next_seq: u64,
    /// The latest event.
    last_ts: WallNanos,
    /// Entries set since the start, for the parts to come.
    entries: Vec<Entry>,
    /// What all ended parts came to, carried rows left out.
    ended: Summary,
    /// What the open part began with, which is no event: carried rows, and what could not be carried.
    carried: trace::Totals,
    dropped: Tally,
    /// The trace has the size at which to stop.
    is_full: bool,
    snapshots: Snapshots,
    /// Asked for while there was no room for one more.
    waiting: Option<Snapshot>,
}

impl Store {
    /// Checks that there is room for the recording's files, without making any.
    ///
    /// # Errors
    /// When there are files that may not be replaced, or that cannot be made.
    pub fn check(names: &Names, retention: Retention, force: bool) -> Result<(), OutputError> {
        match retention {
            Retention::Whole | Retention::UpTo { .. } => {
                Output::check(names.trace(), force).map(drop)
            }
            Retention::Rotate(_) => {
                let earlier = rotated(names).map_err(|source| failed(names.trace(), source))?;
                match earlier.into_iter().next() {
                    Some(path) if !force => Err(OutputError::Exists(path)),
                    _ => Output::check(&names.rotated(1), force).map(drop),
                }
            }
            Retention::Ring(_) => {
                Output::check(names.trace(), force)?;
                ring::check(names, force)
            }
        }
    }

    /// Makes the files and begins the recording; what the user is to know goes to `notes`.
    ///
    /// # Errors
    /// When a file cannot be made or written.
    pub fn create(plan: Plan, notes: Sender<String>) -> Result<Self, StoreError> {
        let names = plan.names.clone();
        match plan.retention {
            Retention::Whole | Retention::UpTo { .. } => {}
            Retention::Rotate(_) => {
                Self::check(&names, plan.retention, plan.force)?;
                for path in rotated(&names).map_err(|source| failed(names.trace(), source))? {
                    remove(&path).map_err(|source| failed(&path, source))?;
                }
            }
            Retention::Ring(_) => ring::create(&names, plan.owner.as_ref(), plan.force)?,
        }
        let carry = match plan.retention {
            Retention::Whole | Retention::UpTo { .. } => None,
            Retention::Rotate(_) | Retention::Ring(_) => Some(Carry::default()),
        };
        let snapshots = Snapshots::new(names, plan.owner.clone(), notes);
        let mut store = Self {
            parts: Parts::new(plan.retention),
            started: Instant::now(),
            open: None,
            open_path: PathBuf::new(),
            carry,
            next_seq: 0,
            last_ts: plan.metadata.start_ts,
            entries: Vec::new(),
            ended: Summary::default(),
            carried: trace::Totals::default(),
            dropped: Tally::default(),
            is_full: false,
            snapshots,
            waiting: None,
            plan,
        };
        store.begin_part()?;
        Ok(store)
    }

    /// Takes away the files of a recording that came to nothing.
    pub fn discard(names: &Names, retention: Retention) {
        // What cannot be removed was not made, or is told by the failure that led here.
        let first = match retention {
            Retention::Rotate(_) => names.rotated(1),
            Retention::Whole | Retention::UpTo { .. } | Retention::Ring(_) => {
                names.trace().to_owned()
            }
        };
        let _ = remove(&first);
        if matches!(retention, Retention::Ring(_)) {
            let _ = ring::remove(&names.ring());
        }
    }

    /// What all rows of the recording add up to if it is finished now, those of parts that were
    /// removed included, carried rows not.
    #[must_use]
    pub fn final_totals(&self) -> trace::Totals {
        let mut totals = self.ended.totals.clone();
        if let Some(open) = &self.open {
            let mut of_open = open.final_totals();
            of_open.subtract(&self.carried);
            totals.merge(&of_open);
        }
        totals
    }

    /// Takes in one event.
    ///
    /// # Errors
    /// When it cannot be written; it is counted as dropped then.
    pub fn push(&mut self, event: Event) -> Result<(), Error> {
        let Some(open) = &mut self.open else {
            self.dropped.add(1, payload_bytes(&event));
            return Ok(());
        };
        self.last_ts = self.last_ts.max(event.ts);
        if let Some(carry) = &mut self.carry {
            carry.observe(open.next_seq(), &event);
        }
        open.push(event)?;
        self.turn()
    }

    /// Whether more comes than can be compressed in time; see [`Recording::hurry`].
    pub fn hurry(&mut self, is_hurried: bool) {
        if let Some(open) = &mut self.open {
            open.hurry(is_hurried);
        }
    }

    /// Sets an entry of the metadata, in this part and those to come.
    pub fn set(&mut self, entry: Entry) {
        self.entries.retain(|known| known.key != entry.key);
        self.entries.push(entry.clone());
        if let Some(open) = &mut self.open {
            open.set(entry);
        }
    }

    /// Writes down what was taken in, and does what is due by the clock.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn flush_log(&mut self) -> Result<(), Error> {
        if let Some(open) = &mut self.open {
            open.flush_log()?;
        }
        self.turn()?;
        if self.waiting.is_some()
            && self.snapshots.has_room()
            && let Some(about) = self.waiting.take()
        {
            self.snapshot(about)?;
        }
        Ok(())
    }

    /// Whether the trace has the size at which the recording is to stop.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Begins a snapshot of everything that is kept, the last event included. While others are
    /// being written it waits, and with it at most one: the next has what it would have had.
    ///
    /// # Errors
    /// When the open row group cannot be written.
    pub fn snapshot(&mut self, about: Snapshot) -> Result<(), Error> {
        if !self.snapshots.has_room() {
            match &mut self.waiting {
                Some(waiting) => {
                    waiting.reason = format!("{}, {}", waiting.reason, about.reason);
                    waiting.ts = about.ts;
                }
                None => self.waiting = Some(about),
            }
            return Ok(());
        }
        if let Some(open) = &mut self.open {
            open.close_row_group()?;
        }
        let kept: Vec<u32> = self.parts.kept().collect();
        let newest = kept.len().saturating_sub(MAX_SNAPSHOT_PARTS);
        let paths = kept[newest..].iter().map(|number| self.part_path(*number));
        let parts: Result<Vec<Reader>, Error> =
            paths.chain([self.open_path.clone()]).map(|path| Reader::open(&path)).collect();
        match parts {
            Ok(parts) => self.snapshots.take(parts, about),
            // The recording itself is none the worse.
            Err(error) => self.snapshots.note(&about, &error.to_string()),
        }
        Ok(())
    }

    /// Ends the recording; the parts of a ring become the trace.
    #[must_use]
    pub fn finish(mut self, closing: ClosingMetadata) -> Finished {
        if let Some(about) = self.waiting.take() {
            // There is no later one to stand in for it.
            self.snapshots.wait();
            let _ = self.snapshot(about);
        }
        let mut finished = match self.open.take() {
            Some(open) => open.finish(closing),
            None => Finished {
                summary: Summary::default(),
                dropped: Tally::default(),
                failure: None,
                unfinished: None,
            },
        };
        self.add(&mut finished);
        finished.dropped.add(self.dropped.events, self.dropped.bytes);
        finished.summary = self.ended;
        self.snapshots.wait();
        if matches!(self.plan.retention, Retention::Ring(_)) && finished.unfinished.is_none() {
            let force = self.plan.force;
            match ring::assemble(&self.plan.names, self.plan.owner.as_ref(), force) {
                Ok(summary) => {
                    finished.summary.row_groups = summary.row_groups;
                    finished.summary.file_bytes = summary.file_bytes;
                    finished.summary.rows = summary.rows;
                }
                Err(error) => finished.unfinished = Some(error),
            }
        }
        finished
    }

    /// Does what the policy says of the open part.
    fn turn(&mut self) -> Result<(), Error> {
        if self.plan.retention == Retention::Whole {
            // Asked for every event: the policy has nothing to say, so no clock is read for it.
            return Ok(());
        }
        let Some(open) = &self.open else { return Ok(()) };
        let bytes = open.expected_bytes();
        match self.parts.verdict(bytes, self.started.elapsed()) {
            Verdict::GoOn => {}
            Verdict::Stop => self.is_full = true,
            Verdict::Next => self.next_part()?,
        }
        let open_bytes = self.open.as_ref().map_or(0, Recording::expected_bytes);
        while let Some(number) = self.parts.surplus(open_bytes, self.started.elapsed()) {
            let path = self.part_path(number);
            remove(&path).map_err(Error::Flush)?;
        }
        Ok(())
    }

    fn next_part(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.next_seq = open.next_seq();
        let mut ended = open.finish(ClosingMetadata {
            stop_ts: self.last_ts,
            stop_reason: NEXT_PART.to_owned(),
            clock_anchors: Vec::new(),
        });
        let file_bytes = ended.summary.file_bytes;
        self.add(&mut ended);
        if let Some(error) = ended.unfinished {
            return Err(error);
        }
        self.parts.next(file_bytes, self.started.elapsed());
        self.begin_part().map_err(|error| match error {
            StoreError::Trace(error) => error,
            StoreError::Output(OutputError::Io { source, .. }) => Error::Flush(source),
            StoreError::Output(error) => Error::Flush(std::io::Error::other(error)),
        })
    }

    /// Adds what an ended part came to.
    fn add(&mut self, ended: &mut Finished) {
        let mut totals = ended.summary.totals.clone();
        totals.subtract(&self.carried);
        let carried = self.carried.kinds.values().fold(0, |sum, total| sum + total.events);
        self.ended.rows += ended.summary.rows.saturating_sub(carried);
        self.ended.row_groups += ended.summary.row_groups;
        self.ended.file_bytes += ended.summary.file_bytes;
        self.ended.payload_bytes += ended.summary.payload_bytes;
        self.ended.totals.merge(&totals);
        self.dropped.add(ended.dropped.events, ended.dropped.bytes);
        ended.dropped = Tally::default();
    }

    /// Begins the part that is open now.
    fn begin_part(&mut self) -> Result<(), StoreError> {
        let number = self.parts.open();
        self.open_path = self.part_path(number);
        let is_only = self.carry.is_none();
        // Earlier files of a rotation are gone by now, if they were to be replaced.
        let output = Output::check(&self.open_path, self.plan.force && is_only)?;
        let owner = self.plan.owner.as_ref();
        let file = output.create(owner)?;
        let (metadata, create) = (&self.plan.metadata, Output::create_beside(owner));
        let open = Recording::create(file, &self.open_path, metadata, self.plan.sync, create)
            .inspect_err(|_| output.discard())?;
        let mut open = open.with_limits(self.plan.limits);
        open.continue_seq(self.next_seq);
        self.carried = trace::Totals::default();
        if let Some(carry) = &self.carry {
            let rows = carry.rows(self.last_ts);
            for entry in trace::part_entries(number, &rows).into_iter().chain(self.entries.clone())
            {
                open.set(entry);
            }
            for (_, event) in rows {
                open.push(event)?;
            }
            // A row group of their own, so that they can be left out when parts are put together.
            open.close_row_group()?;
            for loss in carry.losses(self.last_ts) {
                open.push(loss)?;
            }
            self.carried = open.totals().clone();
        }
        self.open = Some(open);
        Ok(())
    }

    fn part_path(&self, number: u32) -> PathBuf {
        match self.plan.retention {
            Retention::Whole | Retention::UpTo { .. } => self.plan.names.trace().to_owned(),
            Retention::Rotate(_) => self.plan.names.rotated(number),
            Retention::Ring(_) => self.plan.names.ring_part(number),
        }
    }
}

/// The files of an earlier rotation.
fn rotated(names: &Names) -> std::io::Result<Vec<PathBuf>> {
    let directory = names.trace().parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(std::path::Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if names.number_of_rotated(&entry.file_name()).is_some() && entry.file_type()?.is_file() {
            found.push(names.trace().with_file_name(entry.file_name()));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes a part, which may be gone already: the user may tidy up.
pub(super) fn remove(path: &std::path::Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => trace::remove_logs(path),
    }
}

fn failed(path: &std::path::Path, source: std::io::Error) -> OutputError {
    OutputError::Io { path: path.to_owned(), source }
}

fn payload_bytes(event: &Event) -> u64 {
    match &event.body {
        crate::event::Body::Data(tls) => tls.data.len() as u64,
        _ => 0,
    }
}
