//! The events of a trace in order: one cursor per kind and row group, merged by time.
//!
//! Rows of a group are stored by kind. Reading them in time order with bounded memory takes one
//! cursor per kind, each over that kind's rows and columns only, so that no payload is touched when
//! none was asked for, and a k-way merge by time and sequence number.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, MutexGuard, PoisonError};

use arrow::array::AsArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::decode::Rows;
use super::error::Error;
use super::order::{Inversions, Numbered, Reorder, Stream};
use super::reader::{Shared, Skipped, next_batch};
use super::schema::{Column, KINDS};
use crate::event::{Event, Source};
use crate::time::WallNanos;

/// Rows of a cursor that are decoded at one time. Payload and text are views, so that this bounds
/// memory also where rows are large.
const CURSOR_ROWS: usize = 256;
/// Rows at one time where only positions are read.
const SCAN_ROWS: usize = 8192;

/// Iterator over the events of a trace; see [`super::Reader::events`].
pub struct Events {
    shared: Arc<Shared>,
    /// The kinds to return: those asked for and known.
    kinds: Vec<&'static str>,
    /// Whether every kind was asked for, so that unknown ones count as skipped.
    all: bool,
    /// Row groups not begun yet.
    groups: Range<usize>,
    group: Option<Group>,
    ready: VecDeque<Numbered>,
}

impl Events {
    pub(crate) fn new(shared: Arc<Shared>, kinds: Option<&[&str]>, groups: Range<usize>) -> Self {
        let known = KINDS.iter().map(|kind| kind.name);
        let is_wanted = |kind: &&str| kinds.is_none_or(|kinds| kinds.contains(kind));
        let groups = groups.start..groups.end.min(shared.group_count());
        let kinds_wanted = known.filter(is_wanted).collect();
        let all = kinds.is_none();
        Self { shared, kinds: kinds_wanted, all, groups, group: None, ready: VecDeque::new() }
    }

    /// Moves on until at least one event is ready or all are read.
    fn advance(&mut self) -> Result<(), Error> {
        while self.ready.is_empty() {
            if let Some(group) = &mut self.group {
                if !group.advance(&self.shared, &mut self.ready)? {
                    self.group = None;
                }
            } else if let Some(index) = self.groups.next() {
                self.group = Group::open(&self.shared, index, &self.kinds, self.all)?;
            } else {
                break;
            }
        }
        Ok(())
    }
}

impl Events {
    /// The next event with the number of its row, `seq`.
    pub fn next_numbered(&mut self) -> Option<Result<(u64, Event), Error>> {
        if let Err(error) = self.advance() {
            self.group = None;
            self.groups = 0..0;
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Iterator for Events {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_numbered().map(|next| next.map(|(_, event)| event))
    }
}

/// A row group being read.
struct Group {
    cursors: Vec<Cursor>,
    reorder: Reorder,
}

impl Group {
    /// `None` when the group has no rows of these kinds.
    fn open(
        shared: &Arc<Shared>,
        index: usize,
        kinds: &[&'static str],
        all: bool,
    ) -> Result<Option<Self>, Error> {
        let footer = shared.group(index)?;
        if !all && !kinds.iter().any(|kind| shared.may_hold(footer, kind)) {
            return Ok(None);
        }
        let mut ranges = kind_ranges(shared, index, all)?;
        ranges.retain(|kind, _| kinds.contains(kind));
        let of_streams = ranges.iter().filter(|(kind, _)| Source::from_kind(kind).is_some());
        let stream_rows: Vec<_> = of_streams.flat_map(|(_, rows)| rows.iter().cloned()).collect();
        let reorder = Reorder::new(inverted_offsets(shared, index, stream_rows)?);
        let mut cursors = Vec::new();
        for kind in kinds {
            let Some(rows) = ranges.remove(kind) else { continue };
            let mut cursor = Cursor::open(shared, index, kind, rows)?;
            cursor.advance(shared)?;
            cursors.push(cursor);
        }
        Ok((!cursors.is_empty()).then_some(Self { cursors, reorder }))
    }

    /// Reads the next event of the group; false when there are no more.
    fn advance(&mut self, shared: &Shared, out: &mut VecDeque<Numbered>) -> Result<bool, Error> {
        let position = |cursor: &&mut Cursor| cursor.head.as_ref().map(|(at, _)| *at);
        let live = self.cursors.iter_mut().filter(|cursor| cursor.head.is_some());
        let Some(first) = live.min_by_key(position) else {
            self.reorder.finish(out);
            return Ok(false);
        };
        if let Some(((_, seq), event)) = first.head.take() {
            self.reorder.push((seq, event), out);
        }
        first.advance(shared)?;
        Ok(true)
    }
}

/// The rows of one kind in a row group.
///
/// Other rows are read and passed over rather than skipped by a row selection: skipping in a list
/// column, the Parquet library loops for ever where a page has fewer repetition levels than it
/// says. What is passed over is null in the columns read, so it costs little.
struct Cursor {
    kind: &'static str,
    reader: ParquetRecordBatchReader,
    /// Where in the group the rows of the kind are, those not read yet.
    rows: VecDeque<Range<usize>>,
    /// The current batch, and its first row's place in the group.
    batch: Option<(Rows, usize)>,
    /// Place in the group of the next row to look at.
    next: usize,
    /// The next event; `None` at the end.
    head: Option<((WallNanos, u64), Event)>,
}

impl Cursor {
    fn open(
        shared: &Shared,
        group: usize,
        kind: &'static str,
        rows: VecDeque<Range<usize>>,
    ) -> Result<Self, Error> {
        let wanted = |column: Column| column.description().is_set_by(kind);
        let reader = shared.cursor(group, wanted, CURSOR_ROWS)?;
        Ok(Self { kind, reader, rows, batch: None, next: 0, head: None })
    }

    /// Fills `head` with the next row that is an event, counting those that are not.
    fn advance(&mut self, shared: &Shared) -> Result<(), Error> {
        let kind = self.kind;
        while let Some(range) = self.rows.front() {
            self.next = self.next.max(range.start);
            if self.next >= range.end {
                self.rows.pop_front();
                continue;
            }
            let Some((rows, row)) = self.row(shared)? else { break };
            let event = rows.position(row).and_then(|at| Ok((at, rows.event(kind, row)?)));
            self.next += 1;
            match event {
                Ok((at, Some(event))) => {
                    self.head = Some((at, event));
                    break;
                }
                Ok((_, None)) => lock_skipped(shared).count_unknown(kind, 1),
                Err(damage) => lock_skipped(shared).count_damaged(&damage),
            }
        }
        Ok(())
    }

    /// The batch with the row at `next`, and the row's place in it; `None` if the group ends first.
    fn row(&mut self, shared: &Shared) -> Result<Option<(&Rows, usize)>, Error> {
        let mut start = 0;
        if let Some((rows, first)) = &self.batch {
            start = first + rows.len();
        }
        while self.batch.is_none() || self.next >= start {
            let Some(batch) = next_batch(&shared.path, &mut self.reader)? else {
                return Ok(None);
            };
            let rows = Rows::new(&batch);
            let first = start;
            start += rows.len();
            self.batch = Some((rows, first));
        }
        Ok(self.batch.as_ref().map(|(rows, first)| (rows, self.next - first)))
    }
}

/// Which rows of a group have which known kind. Unknown kinds count as skipped if `count_unknown`.
fn kind_ranges(
    shared: &Shared,
    group: usize,
    count_unknown: bool,
) -> Result<HashMap<&'static str, VecDeque<Range<usize>>>, Error> {
    let mut ranges: HashMap<&'static str, VecDeque<Range<usize>>> = HashMap::new();
    let mut reader = shared.cursor(group, |column| column == Column::Kind, SCAN_ROWS)?;
    let mut row = 0;
    while let Some(batch) = next_batch(&shared.path, &mut reader)? {
        let Some(kinds) = batch.column(0).as_string_view_opt() else {
            return Err(Error::damaged(&shared.path, "column 'kind' is not text"));
        };
        for kind in kinds.iter() {
            let kind = kind.unwrap_or_default();
            match KINDS.iter().find(|known| known.name == kind) {
                Some(known) => {
                    let rows = ranges.entry(known.name).or_default();
                    match rows.back_mut() {
                        Some(last) if last.end == row => last.end += 1,
                        _ => rows.push_back(row..row + 1),
                    }
                }
                None if count_unknown => lock_skipped(shared).count_unknown(kind, 1),
                None => {}
            }
            row += 1;
        }
    }
    Ok(ranges)
}

/// The stored offsets of those streams whose stored order is not their offset order, among the rows
/// of a group that have offsets and are read.
fn inverted_offsets(
    shared: &Shared,
    group: usize,
    mut rows: Vec<Range<usize>>,
) -> Result<HashMap<Stream, Vec<u64>>, Error> {
    if rows.is_empty() {
        return Ok(HashMap::new());
    }
    rows.sort_unstable_by_key(|range| range.start);
    let mut inversions = Inversions::default();
    stream_positions(shared, group, &rows, |stream, offset| inversions.look(stream, offset))?;
    let inverted: HashSet<Stream> = inversions.streams();
    let mut offsets: HashMap<Stream, Vec<u64>> = HashMap::new();
    if !inverted.is_empty() {
        stream_positions(shared, group, &rows, |stream, offset| {
            if inverted.contains(&stream) {
                offsets.entry(stream).or_default().push(offset);
            }
        })?;
    }
    Ok(offsets)
}

/// Tells `look` the stream and offset of each of these rows, which are in order.
fn stream_positions(
    shared: &Shared,
    group: usize,
    wanted_rows: &[Range<usize>],
    mut look: impl FnMut(Stream, u64),
) -> Result<(), Error> {
    let wanted = |column: Column| {
        matches!(column, Column::ConnId | Column::Direction | Column::StreamOffset)
    };
    let mut reader = shared.cursor(group, wanted, SCAN_ROWS)?;
    let mut wanted_rows = wanted_rows.iter().peekable();
    let mut first = 0;
    while let Some(batch) = next_batch(&shared.path, &mut reader)? {
        let rows = Rows::new(&batch);
        for row in 0..rows.len() {
            while wanted_rows.next_if(|range| range.end <= first + row).is_some() {}
            if wanted_rows.peek().is_none_or(|range| !range.contains(&(first + row))) {
                continue;
            }
            if let Ok((conn_id, direction, offset)) = rows.stream_position(row) {
                look((conn_id, direction), offset);
            }
        }
        first += rows.len();
    }
    Ok(())
}

fn lock_skipped(shared: &Shared) -> MutexGuard<'_, Skipped> {
    shared.skipped.lock().unwrap_or_else(PoisonError::into_inner)
}
