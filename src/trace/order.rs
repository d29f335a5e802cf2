//! Puts the payload of each stream into offset order within a row group.
//!
//! Rows are stored by time. Where several threads use one connection, times and offsets may
//! disagree by a little; the order of a stream is its offsets'. A first look at the positions alone
//! finds such streams (normally none); their events are then held until those before them have
//! passed. Knows no file: positions and events in, events out.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::MAX_EVENT_BYTES;
use crate::event::{Body, Direction, Event};

/// An event and the number of its row.
pub(crate) type Numbered = (u64, Event);

/// One direction of one connection.
pub(crate) type Stream = (u64, Direction);

/// Finds streams whose stored order is not their offset order.
#[derive(Debug, Default)]
pub(crate) struct Inversions {
    newest: HashMap<Stream, u64>,
    inverted: HashSet<Stream>,
}

impl Inversions {
    /// Takes in the next stored position.
    pub(crate) fn look(&mut self, stream: Stream, offset: u64) {
        let newest = self.newest.entry(stream).or_insert(offset);
        if offset < *newest {
            self.inverted.insert(stream);
        }
        *newest = offset.max(*newest);
    }

    /// The streams to reorder.
    pub(crate) fn streams(self) -> HashSet<Stream> {
        self.inverted
    }
}

/// Restores the order of the streams it was told of; all other events pass straight through.
#[derive(Debug, Default)]
pub(crate) struct Reorder {
    /// Per stream, the offsets still to come, in order.
    expected: HashMap<Stream, VecDeque<u64>>,
    held: HashMap<Stream, BTreeMap<(u64, usize), Numbered>>,
    held_bytes: usize,
    held_count: usize,
}

impl Reorder {
    /// Restores the order of streams with these stored offsets.
    pub(crate) fn new(mut offsets: HashMap<Stream, Vec<u64>>) -> Self {
        offsets.values_mut().for_each(|offsets| offsets.sort_unstable());
        let expected = offsets.into_iter().map(|(stream, offsets)| (stream, offsets.into()));
        Self { expected: expected.collect(), ..Self::default() }
    }

    /// Takes in the next stored event and hands on those whose turn it is.
    pub(crate) fn push(&mut self, event: Numbered, out: &mut VecDeque<Numbered>) {
        let Some((stream, offset)) = position(&event.1) else { return out.push_back(event) };
        let Some(expected) = self.expected.get_mut(&stream) else { return out.push_back(event) };
        if expected.front() != Some(&offset) {
            self.held_bytes += payload_bytes(&event.1);
            self.held_count += 1;
            self.held.entry(stream).or_default().insert((offset, self.held_count), event);
            // Only a file that is damaged or made to harm holds back this much.
            if self.held_bytes > MAX_EVENT_BYTES {
                self.finish(out);
            }
            return;
        }
        expected.pop_front();
        out.push_back(event);
        let Some(held) = self.held.get_mut(&stream) else { return };
        while let Some(next) = held.first_entry() {
            if expected.front() != Some(&next.key().0) {
                break;
            }
            expected.pop_front();
            let event = next.remove();
            self.held_bytes -= payload_bytes(&event.1);
            out.push_back(event);
        }
    }

    /// Hands on what is still held, by stream and offset: an event before it was damaged. No stream
    /// is reordered after this.
    pub(crate) fn finish(&mut self, out: &mut VecDeque<Numbered>) {
        let mut held: Vec<_> = self.held.drain().collect();
        held.sort_unstable_by_key(|(stream, _)| *stream);
        out.extend(held.into_iter().flat_map(|(_, events)| events.into_values()));
        self.expected.clear();
        self.held_bytes = 0;
    }
}

fn position(event: &Event) -> Option<(Stream, u64)> {
    match &event.body {
        Body::Data(tls) => Some(((tls.conn_id, tls.direction), tls.stream_offset)),
        _ => None,
    }
}

fn payload_bytes(event: &Event) -> usize {
    match &event.body {
        Body::Data(tls) => tls.data.len(),
        _ => 0,
    }
}
