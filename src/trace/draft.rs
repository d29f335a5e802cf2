//! A trace that is being written: its closed row groups, the open one, and what a footer says.
//!
//! Knows no file: whoever owns one ([`super::Writer`], [`super::Recording`], recovery) gives the
//! sink, and decides what stands in it before. That makes the end of a killed recording the same
//! code as a normal end.

use std::io::{self, Write};

use parquet::file::metadata::RowGroupMetaData;

use super::error::Error;
use super::footer::{self, MAGIC, MAX_GROUPS};
use super::group::OpenGroup;
use super::metadata::{Entry, Keys, key_values};
use super::schema::Column;
use super::totals::Totals;
use super::writer::{Limits, Summary};
use super::{MAX_EVENT_BYTES, MAX_GROUP_LIST_VALUES};
use crate::event::{Body, Event};

/// A trace that is being written.
pub(crate) struct Draft {
    /// The columns of the file, the first of [`Column::ALL`].
    pub(crate) columns: &'static [Column],
    pub(crate) groups: Vec<RowGroupMetaData>,
    /// Bytes of the file before the next row group: the magic and all closed groups.
    pub(crate) base_bytes: u64,
    pub(crate) keys: Keys,
    /// What the rows add up to, those of the open group included.
    pub(crate) totals: Totals,
    /// Captured payload bytes, before they were stored once.
    pub(crate) payload_bytes: u64,
    pub(crate) next_seq: u64,
    pub(crate) open: OpenGroup,
    pub(crate) limits: Limits,
    /// Whether row groups are to be written as fast as can be, not as small.
    pub(crate) is_hurried: bool,
}

impl Draft {
    /// A trace without rows.
    pub(crate) fn new(keys: Keys, limits: Limits) -> Self {
        Self {
            columns: Column::ALL,
            groups: Vec::new(),
            base_bytes: MAGIC.len() as u64,
            keys,
            totals: Totals::default(),
            payload_bytes: 0,
            next_seq: 0,
            open: OpenGroup::new(),
            limits,
            is_hurried: false,
        }
    }

    /// Adds the row of an event to the open group.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub(crate) fn keep(&mut self, mut event: Event) -> Result<(), Error> {
        bound_payload(&mut event);
        self.totals.count(&event);
        if let Body::Data(tls) = &event.body {
            self.payload_bytes += tls.data.len() as u64;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.open.keep(&event, seq).map_err(Error::Memory)
    }

    /// Whether the open group is to be closed now.
    pub(crate) fn is_full(&self) -> bool {
        self.open.accounted_bytes() >= self.limits.group_bytes
            || self.open.list_values() >= MAX_GROUP_LIST_VALUES / 2
            || self.open.age_ns() >= self.limits.group_age_ns
    }

    /// Writes the open rows as a row group to `sink`, where [`Draft::base_bytes`] stand before it.
    /// Nothing happens if there are none. After an error the rows are gone, and nothing else has
    /// changed.
    ///
    /// # Errors
    /// When `sink` cannot be written, or the file has as many groups as one can.
    pub(crate) fn write_group(&mut self, sink: &mut (impl Write + Send)) -> Result<(), Error> {
        if self.open.len() == 0 {
            return Ok(());
        }
        if self.groups.len() >= MAX_GROUPS {
            return Err(Error::TooManyGroups);
        }
        let open = std::mem::replace(&mut self.open, OpenGroup::new());
        let mut sink = Counting { sink, bytes: 0 };
        let group = open.write(self.columns, &mut sink, self.base_bytes, self.is_hurried)?;
        self.base_bytes += sink.bytes;
        self.groups.push(group);
        Ok(())
    }

    /// Writes a footer for the closed groups to `sink`: what makes them a whole file. `closing` is
    /// what is known only at the end.
    ///
    /// # Errors
    /// When `sink` cannot be written.
    pub(crate) fn write_footer(&self, closing: &[Entry], sink: impl Write) -> Result<(), Error> {
        let mut keys = self.keys.clone();
        for entry in closing {
            keys.set(entry.clone());
        }
        let keys = key_values(&keys, &self.totals);
        Ok(footer::write(self.columns, &self.groups, keys, sink)?)
    }

    /// What was written, once it is in a file of `file_bytes`.
    pub(crate) fn summary(self, file_bytes: u64) -> Summary {
        Summary {
            rows: self.groups.iter().map(|group| group.num_rows().unsigned_abs()).sum(),
            row_groups: self.groups.len(),
            file_bytes,
            payload_bytes: self.payload_bytes,
            totals: self.totals,
        }
    }
}

/// Cuts a payload that no reader would accept down to the size that readers do, and says so in
/// `lost_bytes`. No TLS library moves that much in one call; a joined event stays far below it.
fn bound_payload(event: &mut Event) {
    if let Body::Data(tls) = &mut event.body
        && tls.data.len() > MAX_EVENT_BYTES
    {
        tls.lost_bytes += (tls.data.len() - MAX_EVENT_BYTES) as u64;
        tls.data.truncate(MAX_EVENT_BYTES);
    }
}

/// Counts what passes.
pub(crate) struct Counting<W> {
    pub(crate) sink: W,
    pub(crate) bytes: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.sink.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
