//! Several traces as one, in the order of time.
//!
//! Streams: what is kept in memory is one cursor per trace, the open row group, and the ids that are
//! needed to keep the format's promises:
//!
//! - `seq` stays as it is when all traces are parts of one recording, else rows are numbered anew;
//! - rows of one recording that several of the traces have are written once, and rows that only
//!   repeat what an earlier part said are left out;
//! - a `conn_id` that two recordings use is renamed in the later one, always to the same.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use serde_json::Value;

use super::carry::Carry;
use super::derived::{
    CUT_KEY, MERGED_KEY, MIDWAY_KEY, Origin, PART_KEY, RECORDING_ID_KEY, inherited, source_json,
    union,
};
use super::error::Error;
use super::events::Events;
use super::metadata::{Entry, Keys, STOP_REASON_KEY};
use super::reader::Reader;
use super::recover::RECOVERED_KEY;
use super::seq_set::{Scattered, SeqSet};
use super::writer::{Limits, Summary, Writer};
use crate::event::{Body, Event};
use crate::time::WallNanos;

/// Connections of all traces together; each takes some 50 bytes while they are merged.
const MAX_CONNECTIONS: usize = 1 << 21;

/// One of the traces to merge.
#[derive(Debug)]
pub struct Input {
    /// The trace.
    pub trace: Reader,
    /// Added to all its times ([`super::clock_offsets`]).
    pub clock_offset_ns: i64,
}

/// What came of merging.
#[derive(Debug)]
pub struct Merged {
    /// What was written.
    pub summary: Summary,
    /// Rows left out because another trace of the same recording has them.
    pub repeated_rows: u64,
    /// Connections renamed because another recording uses their id.
    pub renamed_connections: u64,
}

/// Writes the rows of all `inputs` to `sink`.
///
/// # Errors
/// When a trace is damaged beyond single rows, has more connections than can be kept apart, or
/// `sink` cannot be written.
pub fn merge<W: Write + Send>(inputs: &[Input], sink: W) -> Result<Merged, Error> {
    let recordings = Recordings::of(inputs);
    let names = connection_names(inputs, &recordings)?;
    let is_one = recordings.count == 1;
    let keys = merged_keys(inputs, &recordings);
    let mut writer = Writer::with_keys(sink, keys, Limits::default())?;
    let mut merging = Merging {
        cursors: Vec::new(),
        state: (0..recordings.count).map(|recording| recordings.state(recording)).collect(),
        repeated_rows: 0,
    };
    for (index, input) in inputs.iter().enumerate() {
        let mut cursor = Cursor {
            input,
            events: input.trace.events(None),
            recording: recordings.of_input[index],
            carried_left: recordings.origins[index].carried_rows,
            rows: 0,
            head: None,
        };
        cursor.advance()?;
        merging.cursors.push(cursor);
    }
    while let Some((index, seq, mut event)) = merging.next()? {
        let recording = recordings.of_input[index];
        for conn_id in conn_ids_mut(&mut event).into_iter().flatten() {
            if let Some(name) = names.get(&(recording, *conn_id)) {
                *conn_id = *name;
            }
        }
        if is_one { writer.push_numbered(event, seq)? } else { writer.push(event)? }
    }
    let sources = merging.cursors.iter().map(|cursor| {
        source_json(cursor.input.trace.metadata(), cursor.input.clock_offset_ns, cursor.rows)
    });
    let sources: Value = sources.collect();
    writer.set_text(MERGED_KEY, sources.to_string());
    Ok(Merged {
        summary: writer.complete()?,
        repeated_rows: merging.repeated_rows,
        renamed_connections: names.len() as u64,
    })
}

/// Which traces are of one recording.
struct Recordings {
    origins: Vec<Origin>,
    /// Number of the recording of each input.
    of_input: Vec<usize>,
    count: usize,
}

impl Recordings {
    fn of(inputs: &[Input]) -> Self {
        let origins: Vec<Origin> = inputs.iter().map(|input| input.trace.origin()).collect();
        let mut known: HashMap<&str, usize> = HashMap::new();
        let mut count = 0;
        let mut of_input = Vec::new();
        for origin in &origins {
            let id = match origin.recording_id.as_str() {
                // A trace that does not say is a recording of its own.
                "" => count,
                id => *known.entry(id).or_insert(count),
            };
            count = count.max(id + 1);
            of_input.push(id);
        }
        Self { origins, of_input, count }
    }

    fn state(&self, recording: usize) -> Option<State> {
        let inputs = self.of_input.iter().filter(|of| **of == recording).count();
        (inputs > 1).then(State::default)
    }
}

/// The traces under way.
struct Merging<'a> {
    cursors: Vec<Cursor<'a>>,
    /// Per recording; absent where one trace has all of it.
    state: Vec<Option<State>>,
    repeated_rows: u64,
}

/// What was written of a recording that several traces are of.
#[derive(Default)]
struct State {
    seqs: SeqSet,
    carry: Carry,
}

impl State {
    /// Notes a row; false when it says nothing new.
    fn take(&mut self, seq: u64, event: &Event, is_carried: bool) -> Result<bool, Scattered> {
        if (is_carried && self.carry.knows(event)) || !self.seqs.insert(seq)? {
            return Ok(false);
        }
        self.carry.observe(seq, event);
        Ok(true)
    }
}

struct Cursor<'a> {
    input: &'a Input,
    events: Events,
    recording: usize,
    /// Rows to come that repeat what was known when the part began.
    carried_left: u64,
    rows: u64,
    /// The next row, on the common clock.
    head: Option<(u64, Event)>,
}

impl Cursor<'_> {
    fn advance(&mut self) -> Result<(), Error> {
        let next = self.events.next_numbered().transpose()?;
        self.head = next.map(|(seq, mut event)| {
            shift(&mut event, self.input.clock_offset_ns);
            (seq, event)
        });
        Ok(())
    }
}

impl Merging<'_> {
    /// The next row to write and the input that has it.
    fn next(&mut self) -> Result<Option<(usize, u64, Event)>, Error> {
        loop {
            let heads = self.cursors.iter().enumerate();
            let first =
                heads.filter_map(|(index, cursor)| Some((cursor.head.as_ref()?.1.ts, index))).min();
            let Some((_, index)) = first else { return Ok(None) };
            let cursor = &mut self.cursors[index];
            let Some((seq, event)) = cursor.head.take() else { return Ok(None) };
            cursor.advance()?;
            let is_carried = cursor.carried_left > 0;
            cursor.carried_left = cursor.carried_left.saturating_sub(1);
            let is_new = match &mut self.state[cursor.recording] {
                Some(state) => state.take(seq, &event, is_carried).map_err(|Scattered| {
                    let reason = "its row numbers are scattered too far to tell repeated rows";
                    Error::damaged(cursor.input.trace.path(), reason)
                })?,
                None => true,
            };
            if !is_new {
                self.repeated_rows += 1;
                continue;
            }
            cursor.rows += 1;
            return Ok(Some((index, seq, event)));
        }
    }
}

/// Moves all times of an event.
fn shift(event: &mut Event, by_ns: i64) {
    if by_ns == 0 {
        return;
    }
    let shifted = |ts: WallNanos| WallNanos(ts.0.saturating_add(by_ns));
    event.ts = shifted(event.ts);
    if let Some(process) = &mut event.process {
        process.start_ts = shifted(process.start_ts);
    }
    match &mut event.body {
        Body::Data(tls) => tls.call_ts.iter_mut().for_each(|ts| *ts = shifted(*ts)),
        Body::Loss(loss) => loss.first_ts = shifted(loss.first_ts),
        Body::FileAccess(access) => access.first_ts = shifted(access.first_ts),
        _ => {}
    }
}

/// Every connection that an event names.
fn conn_ids_mut(event: &mut Event) -> [Option<&mut u64>; 2] {
    match &mut event.body {
        Body::Data(data) => [Some(&mut data.conn_id), None],
        Body::TlsClose { conn_id } | Body::ChannelClose { conn_id, .. } => [Some(conn_id), None],
        Body::ChannelOpen(channel) => [Some(&mut channel.conn_id), None],
        Body::TlsSocket(link) => [Some(&mut link.conn_id), Some(&mut link.socket_conn_id)],
        Body::Loss(loss) => [loss.conn_id.as_mut(), None],
        _ => [None, None],
    }
}

/// New names for the connections whose ids an earlier recording has, by recording and id.
fn connection_names(
    inputs: &[Input],
    recordings: &Recordings,
) -> Result<HashMap<(usize, u64), u64>, Error> {
    let mut names = HashMap::new();
    if recordings.count < 2 {
        return Ok(names);
    }
    let mut owners: HashMap<u64, usize> = HashMap::new();
    let mut collisions: BTreeSet<(usize, u64)> = BTreeSet::new();
    for (input, &recording) in inputs.iter().zip(&recordings.of_input) {
        for batch in input.trace.batches(&["conn_id"])? {
            let batch = batch?;
            let Some(column) = batch.columns().first() else { continue };
            let Some(ids) = column.as_primitive_opt::<Int64Type>() else { continue };
            for id in ids.iter().flatten().map(i64::cast_unsigned) {
                if *owners.entry(id).or_insert(recording) != recording {
                    collisions.insert((recording, id));
                }
                if owners.len() + collisions.len() > MAX_CONNECTIONS {
                    let reason = format!("expected at most {MAX_CONNECTIONS} connections to merge");
                    return Err(Error::damaged(input.trace.path(), reason));
                }
            }
        }
    }
    let mut taken: HashSet<u64> = owners.into_keys().collect();
    for (recording, id) in collisions {
        // The same traces give the same names, and so does one more merge with a third.
        let origin = recordings.of_input.iter().position(|of| *of == recording);
        let recording_id = origin.map_or("", |input| &recordings.origins[input].recording_id);
        let mut name = xxhash_rust::xxh3::xxh3_64_with_seed(recording_id.as_bytes(), id);
        while !taken.insert(name) {
            name = name.wrapping_add(1);
        }
        names.insert((recording, id), name);
    }
    Ok(names)
}

/// The metadata of the merged trace but for its sources.
fn merged_keys(inputs: &[Input], recordings: &Recordings) -> Keys {
    let is_one = recordings.count == 1;
    let stop =
        |index: &usize| (recordings.origins[*index].part, recordings.origins[*index].stop_ts);
    let last = (0..inputs.len()).max_by_key(stop).unwrap_or(0);
    // The last part of a recording knows most of it; of several recordings the first speaks.
    let base = if is_one { last } else { 0 };
    let mut base = inputs[base].trace.metadata().clone();
    let is_midway = (0..recordings.count).any(|recording| {
        let of_it = (0..inputs.len()).filter(|index| recordings.of_input[*index] == recording);
        let start = |index: &usize| {
            let first = inputs[*index].trace.time_range().map(|range| range.start().0);
            first.map(|ts| ts.saturating_add(inputs[*index].clock_offset_ns))
        };
        of_it.min_by_key(start).is_some_and(|first| recordings.origins[first].is_midway)
    });
    for key in [PART_KEY, CUT_KEY, MIDWAY_KEY] {
        base.remove(key);
    }
    if !is_one {
        // What was counted in one of them is not true of all; each has its own in the sources.
        base.remove("agentsight.redacted");
    }
    let mut keys = inherited(&base);
    if is_midway {
        keys.set_text(MIDWAY_KEY, "true".to_owned());
    }
    for name in ["filters", "binaries", "bugs"] {
        unite(&mut keys, inputs, &format!("agentsight.{name}"));
    }
    let moved = |index: usize, ts: Option<WallNanos>| {
        ts.map(|ts| ts.0.saturating_add(inputs[index].clock_offset_ns))
    };
    let origins = recordings.origins.iter().enumerate();
    let starts = origins.clone().filter_map(|(index, origin)| moved(index, origin.start_ts));
    let stops = origins.filter_map(|(index, origin)| moved(index, origin.stop_ts));
    if let Some(start_ts) = starts.min() {
        keys.set_text("agentsight.start_ts", start_ts.to_string());
    }
    if let Some(stop_ts) = stops.max() {
        keys.set(Entry::stop_ts(WallNanos(stop_ts)));
    }
    if !is_one {
        let mut ids = xxhash_rust::xxh3::Xxh3::new();
        for origin in &recordings.origins {
            ids.update(origin.recording_id.as_bytes());
            ids.update(&[0]);
        }
        keys.set_text(RECORDING_ID_KEY, format!("merged-{:032x}", ids.digest128()));
    }
    if !is_one || keys.get(STOP_REASON_KEY).is_none() {
        keys.set(Entry::stop_reason("merged"));
    }
    let recovered = |input: &Input| input.trace.metadata().get(RECOVERED_KEY).cloned();
    if let Some(recovered) = inputs.iter().find_map(recovered) {
        // Something may be missing in one of them, and so in all.
        keys.set_text(RECOVERED_KEY, recovered);
    }
    let redaction = |input: &Input| input.trace.metadata().get("agentsight.redaction").cloned();
    let redactions: BTreeSet<String> = inputs.iter().filter_map(redaction).collect();
    if redactions.len() > 1 {
        // No more may be claimed than holds for all.
        let weakest = if redactions.contains("none") { "none" } else { "mixed" };
        keys.set(Entry::redaction(weakest));
    }
    keys
}

/// Makes the list of one key the union of all.
fn unite(keys: &mut Keys, inputs: &[Input], key: &str) {
    let lists = inputs.iter().filter_map(|input| input.trace.metadata().get(key));
    let mut lists = lists.map(String::as_str);
    let Some(first) = lists.next() else { return };
    let all = lists.try_fold(first.to_owned(), |all, list| union(&all, list));
    if let Some(all) = all {
        keys.set_text(key, all);
    }
}
