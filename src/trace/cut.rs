//! A time range of a trace as a trace of its own.
//!
//! Streams: what is kept in memory is the processes and probes known at the start of the range
//! ([`Carry`]) and the open row group. Rows keep their `seq`, carried ones that of the row they repeat,
//! so that cuts of one recording can be merged again.

use std::io::Write;
use std::ops::Range;

use serde_json::json;

use super::carry::Carry;
use super::derived::{
    CARRIED_KEY, CUT_KEY, MIDWAY_KEY, Origin, RECORDING_ID_KEY, carried_json, inherited,
};
use super::error::Error;
use super::metadata::Entry;
use super::reader::Reader;
use super::writer::{Limits, Summary, Writer};
use crate::event::{Body, Event};
use crate::time::WallNanos;

/// The kinds that say what is known at a moment.
const STATE_KINDS: [&str; 5] =
    ["process_seen", "process_fork", "process_exec", "process_exit", "probe"];

/// Writes the rows of `source` with times in `range` to `sink`.
///
/// # Errors
/// When `source` is damaged beyond single rows or `sink` cannot be written.
pub fn cut<W: Write + Send>(
    source: &Reader,
    range: Range<WallNanos>,
    sink: W,
) -> Result<Summary, Error> {
    let origin = Origin::of(source.metadata());
    let known = known_before(source, &origin, range.start)?;
    let mut keys = inherited(source.metadata());
    let recording_id = source.metadata().get(RECORDING_ID_KEY);
    let about = json!({
        "from": range.start.0.to_string(),
        "to": range.end.0.to_string(),
        "recording_id": recording_id,
        "not_carried": known.left_out,
    });
    keys.set_text(CUT_KEY, about.to_string());
    if origin.is_midway || known.omits_rows {
        keys.set_text(MIDWAY_KEY, "true".to_owned());
    }
    if !known.rows.is_empty() {
        let kinds = known.rows.iter().map(|(_, event)| event.body.kind());
        keys.set_text(CARRIED_KEY, carried_json(kinds));
    }
    keys.set(Entry::stop_reason("cut"));

    let mut writer = Writer::with_keys(sink, keys, Limits::default())?;
    for (seq, event) in known.rows {
        writer.push_numbered(event, seq)?;
    }
    // Carried rows are a row group of their own, so that they can be left out as one.
    writer.close_row_group()?;
    let mut events = source.events(None);
    let mut carried = origin.carried_rows;
    while let Some(next) = events.next_numbered() {
        let (seq, event) = next?;
        if carried > 0 && is_state(&event) {
            carried -= 1;
            continue;
        }
        if is_within(&event, &range) {
            writer.push_numbered(event, seq)?;
        }
    }
    writer.complete()
}

/// What is known at the start of a range.
struct Known {
    rows: Vec<(u64, Event)>,
    /// Processes and binaries that there are too many of.
    left_out: u64,
    /// Whether the source has rows from before.
    omits_rows: bool,
}

fn known_before(source: &Reader, origin: &Origin, start: WallNanos) -> Result<Known, Error> {
    let mut carry = Carry::default();
    let mut first_ts = None;
    let mut carried = origin.carried_rows;
    let mut omits_rows = false;
    let mut events = source.events(Some(&STATE_KINDS));
    while let Some(next) = events.next_numbered() {
        let (seq, event) = next?;
        first_ts.get_or_insert(event.ts);
        let is_carried = carried > 0;
        carried = carried.saturating_sub(1);
        if is_carried || event.ts < start {
            omits_rows |= !is_carried;
            carry.observe(seq, &event);
        }
    }
    if !omits_rows {
        omits_rows = source.time_range().is_some_and(|range| *range.start() < start);
    }
    // A range that begins before the file does not move what was known at its begin.
    let ts = first_ts.map_or(start, |first| start.max(first));
    Ok(Known { rows: carry.rows(ts), left_out: carry.left_out(), omits_rows })
}

fn is_state(event: &Event) -> bool {
    STATE_KINDS.contains(&event.body.kind())
}

/// Whether an event belongs to the range: a loss if the time in which it happened touches it, every
/// other event by its time alone, so that cuts that meet have every row once. Joined calls are one
/// row and stay together, up to 100 ms beyond the range.
fn is_within(event: &Event, range: &Range<WallNanos>) -> bool {
    match &event.body {
        Body::Loss(loss) => loss.first_ts < range.end && event.ts >= range.start,
        _ => range.contains(&event.ts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Loss;

    fn range(from: i64, to: i64) -> Range<WallNanos> {
        WallNanos(from)..WallNanos(to)
    }

    #[test]
    fn a_loss_is_kept_when_its_time_touches_the_range() {
        let loss = |first: i64, last: i64| {
            let body = Body::Loss(Loss {
                first_ts: WallNanos(first),
                event_class: "tls_data".into(),
                cause: "ring_full".into(),
                lost_events: 1,
                lost_bytes: 1,
                conn_id: None,
            });
            let event = Event { ts: WallNanos(last), process: None, tid: None, comm: None, body };
            is_within(&event, &range(10, 20))
        };
        assert!(loss(5, 10) && loss(19, 30) && loss(0, 99) && loss(12, 13));
        assert!(!loss(5, 9) && !loss(20, 30));
    }
}
