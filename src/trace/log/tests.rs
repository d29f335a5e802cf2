//! The log: written, read back, cut at every length, and damaged.

use proptest::prelude::*;

use super::*;
use crate::event::{Body, Direction, Event, Source, StreamData};
use crate::time::WallNanos;
use crate::trace::draft::Draft;
use crate::trace::metadata::{Entry, Keys, Metadata};
use crate::trace::writer::Limits;

fn event(ts: i64, data: &[u8]) -> Event {
    let tls = StreamData {
        source: Source::Tls,
        conn_id: u64::MAX,
        direction: Direction::Write,
        stream_offset: 0,
        data_bytes: data.len() as u64,
        lost_bytes: 0,
        data: data.to_vec(),
        library: "openssl".into(),
        fd: None,
        call_ts: vec![],
        call_bytes: vec![],
    };
    Event { ts: WallNanos(ts), process: None, tid: Some(1), comm: None, body: Body::Data(tls) }
}

fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .take(bytes)
        .collect()
}

/// A log of some events, appended in as many steps.
fn log_of(events: &[Event]) -> Vec<u8> {
    let mut draft = Draft::new(Keys::new(&Metadata::default()), Limits::default());
    let file = tempfile::tempfile().unwrap();
    let mut log = LogWriter::create(file.try_clone().unwrap(), &draft).unwrap();
    for event in events {
        draft.keep(event.clone()).unwrap();
        log.append(&draft.open, &[Entry::redaction("secrets")]).unwrap();
    }
    read_all(file)
}

fn read_all(mut file: std::fs::File) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn rows(log: &[u8]) -> Option<(Vec<Vec<u8>>, u64, Option<String>)> {
    let replayed = replay(log, log.len() as u64).unwrap().ok()?;
    let rows = replayed.draft.open.rows_from(0).map(|row| row.cells.to_vec()).collect();
    Some((rows, replayed.torn_bytes, replayed.damage))
}

#[test]
fn a_log_replays_to_the_same_rows_chunks_and_keys() {
    let events = [event(1, &noise(50_000)), event(2, b"short"), event(3, &noise(60_000))];
    let log = log_of(&events);
    let replayed = replay(log.as_slice(), log.len() as u64).unwrap().ok().unwrap();
    let mut draft = Draft::new(Keys::new(&Metadata::default()), Limits::default());
    events.iter().for_each(|event| draft.keep(event.clone()).unwrap());
    let cells = |draft: &Draft| -> Vec<Vec<u8>> {
        draft.open.rows_from(0).map(|row| row.cells.to_vec()).collect()
    };
    assert_eq!(cells(&replayed.draft), cells(&draft));
    let chunks = |draft: &Draft| -> Vec<Vec<u8>> {
        draft.open.chunks(0..1000).map(<[u8]>::to_vec).collect()
    };
    assert_eq!(chunks(&replayed.draft), chunks(&draft));
    assert_eq!(replayed.draft.open.accounted_bytes(), draft.open.accounted_bytes());
    assert_eq!(replayed.draft.open.list_values(), draft.open.list_values());
    assert_eq!((replayed.draft.next_seq, replayed.torn_bytes, replayed.damage), (3, 0, None));
    assert_eq!(replayed.draft.keys.get("agentsight.redaction"), Some("secrets"));
}

#[test]
fn every_truncation_costs_at_most_the_frame_it_is_in() {
    let events: Vec<Event> = (0..6).map(|n| event(n, &noise(20 * n as usize))).collect();
    let log = log_of(&events);
    let (all, ..) = rows(&log).unwrap();
    let mut most = 0;
    for length in 0..log.len() {
        let Some((found, torn_bytes, damage)) = rows(&log[..length]) else {
            assert_eq!(most, 0, "the base was there with fewer bytes");
            continue;
        };
        assert_eq!(found, all[..found.len()]);
        assert_eq!(damage, None);
        assert!(torn_bytes < length as u64);
        assert!(found.len() >= most && found.len() <= most + 1, "{} after {most}", found.len());
        most = found.len();
    }
    assert_eq!(most, events.len() - 1);
}

#[test]
fn a_flipped_bit_loses_the_rows_behind_it_and_no_other() {
    let events: Vec<Event> = (0..5).map(|n| event(n, &noise(300))).collect();
    let log = log_of(&events);
    let (all, ..) = rows(&log).unwrap();
    for at in HEADER_BYTES..log.len() {
        let mut damaged = log.clone();
        damaged[at] ^= 0x10;
        if let Some((found, torn_bytes, _)) = rows(&damaged) {
            assert!(found.len() < all.len() && torn_bytes > 0, "byte {at} was not missed");
            assert_eq!(found, all[..found.len()]);
        }
    }
}

#[test]
fn why_a_recording_ended_is_written_in_place() {
    let draft = Draft::new(Keys::new(&Metadata::default()), Limits::default());
    let file = tempfile::tempfile().unwrap();
    let mut log = LogWriter::create(file.try_clone().unwrap(), &draft).unwrap();
    let before = file.metadata().unwrap().len();
    log.end(&"ü".repeat(5000)).unwrap();
    assert_eq!(file.metadata().unwrap().len(), before);
    let log = read_all(file);
    let end = replay(log.as_slice(), before).unwrap().ok().unwrap().end.unwrap();
    assert!(end.len() > 4000 && end.chars().all(|c| c == 'ü'));
}

proptest! {
    #[test]
    fn any_bytes_behind_the_base_are_rows_or_torn(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let log = log_of(&[]);
        let whole = [log.as_slice(), &tail].concat();
        let (found, torn_bytes, _) = rows(&whole).unwrap();
        prop_assert_eq!((found.len(), torn_bytes), (0, tail.len() as u64));
    }

    #[test]
    fn any_bytes_are_a_log_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..6000)) {
        let _ = rows(&bytes);
    }
}
