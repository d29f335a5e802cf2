//! A trace that survives its recorder: the main file, and the log of what is not in it yet.
//!
//! Nothing that was logged is lost when the process is killed. Row groups are appended to the main
//! file, each over the footer behind the last one, which the log makes unnecessary in between:
//!
//! ```text
//! cut off the footer ─▶ row group ─▶ footer ─▶ new log, renamed over the old one
//! ```
//!
//! Wherever that stops, the old log or the new one fits the main file: bytes before the open row
//! group never change. [`super::recover`] is the other half.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::draft::{Counting, Draft};
use super::dropped::Dropped;
use super::error::Error;
use super::footer::MAGIC;
use super::group::OpenRow;
use super::log::{LogWriter, log_path, next_log_path};
use super::metadata::{ClosingMetadata, Entry, Keys, Metadata};
use super::totals::{Tally, Totals};
use super::writer::{Limits, Summary};
use crate::event::Event;
use crate::time::{ClockAnchor, WallNanos};

/// What is made to survive a power failure, beside what survives a killed recorder anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Nothing before the end of the recording.
    #[default]
    None,
    /// The log whenever [`Recording::flush_log`] is called, and row groups when they are closed.
    Interval,
    /// As `Interval`; the caller calls it for every batch of events.
    Always,
}

/// Room that has to be left on the file system to close a row group without logging its rows
/// first: a group of data that does not compress, and its footer, several times over.
const AMPLE_ROOM_BYTES: u64 = 64 << 20;

/// Makes a private file at a path where there is none.
pub type CreateFile = Box<dyn FnMut(&Path) -> io::Result<File> + Send>;

/// A trace being recorded.
pub struct Recording {
    file: File,
    path: PathBuf,
    draft: Draft,
    /// The log that belongs to what is in the main file; absent if making it failed, and then the
    /// main file is whole by itself.
    log: Option<LogWriter>,
    create: CreateFile,
    sync: Sync,
    anchors: Vec<ClockAnchor>,
    /// Entries that are not in the log yet.
    entries: Vec<Entry>,
    /// Bytes of the main file with its footer.
    file_bytes: u64,
    state: State,
    dropped: Dropped,
}

/// Whether the disk still takes what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing,
    /// Writing failed; all rows are still in memory.
    Failed,
    /// Writing a row group failed and took its rows with it: those in the log are all there is.
    FailedWithoutRows,
}

/// How a recording ended.
#[derive(Debug)]
pub struct Finished {
    /// What is in the file, or, if it could not be finished, was to be.
    pub summary: Summary,
    /// Events and payload bytes that could not be written.
    pub dropped: Tally,
    /// Why writing failed on the way, for whoever keeps that; see [`Recording::push`].
    pub failure: Option<Error>,
    /// Why the file could not be finished. What was logged is safe: every reader takes the file and
    /// its log together, and [`super::repair`] makes them one.
    pub unfinished: Option<Error>,
}

impl Recording {
    /// Begins a recording in `file`, which is empty and at `path`; `create` makes the logs.
    ///
    /// # Errors
    /// When the file or its log cannot be written.
    pub fn create(
        file: File,
        path: &Path,
        metadata: &Metadata,
        sync: Sync,
        create: CreateFile,
    ) -> Result<Self, Error> {
        let mut recording = Self {
            file,
            path: path.to_owned(),
            draft: Draft::new(Keys::new(metadata), Limits::default()),
            log: None,
            create,
            sync,
            anchors: metadata.clock_anchors.clone(),
            entries: Vec::new(),
            file_bytes: 0,
            state: State::Writing,
            dropped: Dropped::default(),
        };
        recording.file.write_all(MAGIC).map_err(Error::Flush)?;
        recording.write_group_and_footer(&[])?;
        recording.replace_log()?;
        Ok(recording)
    }

    /// The same with other limits of row groups; before the first event.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.draft.limits = limits;
        self
    }

    /// Whether more is to be written than can be compressed in time: row groups that close from now
    /// on are written as fast as can be. What is told apart in a file by that is only its size.
    pub fn hurry(&mut self, is_hurried: bool) {
        self.draft.is_hurried = is_hurried;
    }

    /// Takes in one event, and closes the row group if that makes it full. It is in the log after
    /// the next [`Recording::flush_log`].
    ///
    /// # Errors
    /// When the disk is full or fails. From then on events are only counted, as dropped.
    pub fn push(&mut self, event: Event) -> Result<(), Error> {
        if self.state != State::Writing {
            self.dropped.count(&event);
            return Ok(());
        }
        let kept = self.draft.keep(event);
        self.noting_failure(|recording| {
            kept?;
            if recording.draft.is_full() { recording.close() } else { Ok(()) }
        })
    }

    /// Sets an entry of the metadata, replacing what it was.
    pub fn set(&mut self, entry: Entry) {
        self.entries.retain(|pending| pending.key != entry.key);
        self.entries.push(entry.clone());
        self.draft.keys.set(entry);
    }

    /// Writes everything taken in to the log. To be called at least once a second.
    ///
    /// # Errors
    /// When the disk is full or fails; see [`Recording::push`].
    pub fn flush_log(&mut self) -> Result<(), Error> {
        self.noting_failure(|recording| {
            let Some(log) = &mut recording.log else { return Ok(()) };
            if log.is_deleted().map_err(Error::Log)? {
                // What it held is still in memory: make it a row group, and begin another log.
                recording.log = None;
                recording.close()?;
                return if recording.log.is_none() { recording.replace_log() } else { Ok(()) };
            }
            log.append(&recording.draft.open, &recording.entries).map_err(Error::Log)?;
            recording.entries.clear();
            if recording.sync == Sync::None { Ok(()) } else { log.sync().map_err(Error::Log) }
        })
    }

    /// Writes the open rows as a row group now. Nothing happens if there are none.
    ///
    /// # Errors
    /// When the disk is full or fails; see [`Recording::push`].
    pub fn close_row_group(&mut self) -> Result<(), Error> {
        self.noting_failure(Self::close)
    }

    /// About how large the file will be if it is finished now: what is written, and what the open
    /// rows take in memory, which is more than they will take on disk.
    #[must_use]
    pub fn expected_bytes(&self) -> u64 {
        self.file_bytes + self.draft.open.accounted_bytes() as u64
    }

    /// What the rows so far add up to.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.draft.totals
    }

    /// What the rows will add up to if the recording is finished now: what could not be written is
    /// then a loss.
    #[must_use]
    pub fn final_totals(&self) -> Totals {
        let mut totals = self.draft.totals.clone();
        self.dropped.losses(WallNanos::default()).iter().for_each(|loss| totals.count(loss));
        totals
    }

    /// The sequence number that the next event will get.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.draft.next_seq
    }

    /// Goes on with the sequence numbers of another part of the same recording.
    pub fn continue_seq(&mut self, next_seq: u64) {
        self.draft.next_seq = self.draft.next_seq.max(next_seq);
    }

    /// Ends the recording: writes what is open and the footer, and removes the log. Where that
    /// cannot be done everything stays that is there, the log included, and the log says why.
    pub fn finish(mut self, mut closing: ClosingMetadata) -> Finished {
        if let Some(cause) = self.dropped.cause {
            closing.stop_reason = cause.to_owned();
        }
        let ended = match self.state {
            State::FailedWithoutRows => Err(Error::Flush(self.dropped.io_error())),
            State::Writing | State::Failed => self.write_end(&closing),
        };
        let mut unfinished = None;
        if let Err(error) = ended {
            if let Some(log) = &mut self.log {
                let end = self.dropped.end_text(&closing);
                // What fails here fails on a disk that took nothing else either.
                let _ = log.end(&end).and_then(|()| log.sync());
            }
            unfinished = Some(error);
        }
        let dropped = self.dropped.sum();
        let summary = self.draft.summary(self.file_bytes);
        Finished { summary, dropped, failure: None, unfinished }
    }

    /// Writes the last row group, the final footer, and takes the log away.
    fn write_end(&mut self, closing: &ClosingMetadata) -> Result<(), Error> {
        let at_risk = self.rows_not_logged();
        for loss in self.dropped.losses(closing.stop_ts) {
            self.draft.keep(loss)?;
        }
        if let Err(error) = self.write_group_and_footer(&closing.entries(&self.anchors)) {
            self.dropped.note(&error);
            if self.log.is_some() {
                self.dropped.add(at_risk);
            } else {
                // The file was whole without the log, and can be again.
                self.write_group_and_footer(&[])?;
            }
            return Err(error);
        }
        // A log may only go when the file is sure to stay.
        self.file.sync_all().map_err(Error::Flush)?;
        match std::fs::remove_file(log_path(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Log(error)),
            _ => Ok(()),
        }
    }

    /// Closes the open group, if it has rows.
    fn close(&mut self) -> Result<(), Error> {
        if self.draft.open.len() == 0 {
            return Ok(());
        }
        if self.room_bytes().is_some_and(|room| room < AMPLE_ROOM_BYTES)
            && let Some(log) = &mut self.log
        {
            // The group may not fit, and then the log is all there is. If that does not fit either,
            // the group still may.
            let _ = log.append(&self.draft.open, &self.entries);
        }
        let at_risk = self.rows_not_logged();
        if let Err(error) = self.write_group_and_footer(&[]) {
            self.dropped.add(at_risk);
            self.state = State::FailedWithoutRows;
            return Err(error);
        }
        if self.sync != Sync::None {
            self.file.sync_data().map_err(Error::Flush)?;
        }
        self.replace_log()
    }

    /// Writes the open rows, if any, and a footer, in place of the footer that is there. After an
    /// error the file ends where it did before them, without a footer.
    fn write_group_and_footer(&mut self, closing: &[Entry]) -> Result<(), Error> {
        let (base_bytes, groups) = (self.draft.base_bytes, self.draft.groups.len());
        let mut write = || -> Result<u64, Error> {
            // First, so that the file never ends with a footer that is not its own.
            self.file.set_len(base_bytes).map_err(Error::Flush)?;
            self.file.seek(SeekFrom::Start(base_bytes)).map_err(Error::Flush)?;
            let mut sink = BufWriter::with_capacity(1 << 18, &self.file);
            self.draft.write_group(&mut sink)?;
            let mut sink = Counting { sink, bytes: 0 };
            self.draft.write_footer(closing, &mut sink)?;
            sink.flush().map_err(Error::Flush)?;
            Ok(self.draft.base_bytes + sink.bytes)
        };
        let written = write();
        match written {
            Ok(file_bytes) => {
                self.file_bytes = file_bytes;
                Ok(())
            }
            Err(error) => {
                // Gives back what room it took; the log needs some to say why.
                let _ = self.file.set_len(base_bytes);
                self.draft.base_bytes = base_bytes;
                self.draft.groups.truncate(groups);
                Err(error)
            }
        }
    }

    /// Begins the log of a new open group in the place of the old one.
    fn replace_log(&mut self) -> Result<(), Error> {
        self.log = None;
        let next = next_log_path(&self.path);
        match std::fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::Log(error)),
            _ => {}
        }
        let file = (self.create)(&next).map_err(Error::Log)?;
        let log = LogWriter::create(file, &self.draft)?;
        if self.sync != Sync::None {
            log.sync().map_err(Error::Log)?;
        }
        std::fs::rename(&next, log_path(&self.path)).map_err(Error::Log)?;
        self.entries.clear();
        self.log = Some(log);
        Ok(())
    }

    /// Does some writing; after a failure nothing more is written but the end.
    fn noting_failure(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.state != State::Writing {
            return Ok(());
        }
        let done = work(self);
        if let Err(error) = &done {
            self.dropped.note(error);
            if self.state == State::Writing {
                self.state = State::Failed;
            }
        }
        done
    }

    /// The rows of the open group that would be lost if the process were killed now.
    fn rows_not_logged(&self) -> Vec<(&'static str, Tally)> {
        let logged = self.log.as_ref().map_or(0, LogWriter::rows);
        let tally =
            |row: OpenRow<'_>| (row.kind, Tally { events: 1, bytes: row.payload_bytes as u64 });
        self.draft.open.rows_from(logged).map(tally).collect()
    }

    /// Room on the file system; absent when it does not say.
    fn room_bytes(&self) -> Option<u64> {
        let system = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(system.f_bavail.saturating_mul(system.f_frsize))
    }
}
