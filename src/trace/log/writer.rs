//! Writes a log: its base when it begins, then whatever the open row group has gained.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

use super::frame::Framer;
use super::records::{self, Record};
use super::{HEADER_BYTES, LOG_VERSION, MAGIC, SLOT_AT, base};
use crate::trace::draft::Draft;
use crate::trace::error::Error;
use crate::trace::group::OpenGroup;
use crate::trace::metadata::Entry;

/// Raw bytes after which a frame ends, so that appending takes little memory. A record is never
/// split.
const FRAME_BYTES: usize = 256 * 1024;

/// The log of an open row group.
pub(crate) struct LogWriter {
    file: File,
    framer: Framer,
    /// Bytes of the header and all frames.
    whole_bytes: u64,
    /// Rows and chunks of the open group that are in the log.
    rows: usize,
    chunks: usize,
}

impl LogWriter {
    /// Begins a log in an empty file, for a draft whose open group is empty.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn create(mut file: File, draft: &Draft) -> Result<Self, Error> {
        let base = base::write(draft)?;
        let mut framer = Framer::new().map_err(Error::Log)?;
        let mut start = vec![0; HEADER_BYTES];
        start[..8].copy_from_slice(MAGIC);
        start[8..12].copy_from_slice(&LOG_VERSION.to_le_bytes());
        start.extend_from_slice(framer.frame(&base).map_err(Error::Log)?);
        file.write_all(&start).map_err(Error::Log)?;
        Ok(Self { file, framer, whole_bytes: start.len() as u64, rows: 0, chunks: 0 })
    }

    /// Appends what `open` has gained since the last time, and `entries`. After an error the log
    /// holds what it held before, or some of the new rows too.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn append(&mut self, open: &OpenGroup, entries: &[Entry]) -> io::Result<()> {
        let mut raw = Vec::new();
        for entry in entries {
            records::write(Record::Entry(entry.key, &entry.value), &mut raw);
        }
        // Each row right behind its chunks: however far this comes, whole rows are there.
        let (mut rows, mut chunks) = (self.rows, self.chunks);
        for row in open.rows_from(rows) {
            for chunk in open.chunks(chunks..row.chunks) {
                records::write(Record::Chunk(chunk), &mut raw);
                chunks += 1;
                if raw.len() >= FRAME_BYTES {
                    self.append_frame(&mut raw)?;
                    (self.rows, self.chunks) = (rows, chunks);
                }
            }
            records::write(Record::Row(row.cells), &mut raw);
            rows += 1;
            if raw.len() >= FRAME_BYTES {
                self.append_frame(&mut raw)?;
                (self.rows, self.chunks) = (rows, chunks);
            }
        }
        if !raw.is_empty() {
            self.append_frame(&mut raw)?;
        }
        (self.rows, self.chunks) = (rows, chunks);
        Ok(())
    }

    /// Rows of the open group that are in the log.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Makes everything appended survive a power failure.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Whether a reader can still find it: somebody may have deleted the file.
    ///
    /// # Errors
    /// When the system does not say.
    pub(crate) fn is_deleted(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.file.metadata()?.nlink() == 0)
    }

    /// Writes down why the recording ended, in place: this works on a full disk. Text that does not
    /// fit is cut.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn end(&mut self, why: &str) -> io::Result<()> {
        let room = HEADER_BYTES - SLOT_AT - 8;
        let why = &why.as_bytes()[..why.floor_char_boundary(room)];
        let mut slot = (why.len() as u32).to_le_bytes().to_vec();
        slot.extend_from_slice(&crc32fast::hash(why).to_le_bytes());
        slot.extend_from_slice(why);
        self.file.seek(SeekFrom::Start(SLOT_AT as u64))?;
        self.file.write_all(&slot)
    }

    fn append_frame(&mut self, raw: &mut Vec<u8>) -> io::Result<()> {
        let frame = self.framer.frame(raw)?;
        let frame_bytes = frame.len() as u64;
        if let Err(error) = self.file.write_all(frame) {
            // Half a frame would hide what may be appended later.
            self.file.set_len(self.whole_bytes)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.whole_bytes += frame_bytes;
        raw.clear();
        Ok(())
    }
}
