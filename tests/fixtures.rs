//! The stored traces are what `tests/traces` writes: `UPDATE_GOLDEN=1 cargo test --test fixtures`
//! writes them again after a change there or in the format.
//!
//! Events are compared, not bytes: another version of a compressor may pack them differently.

mod traces;

use std::fs;

use agentsight::event::Event;
use agentsight::time::{BootNanos, ClockAnchor, WallNanos};
use agentsight::trace::{ClosingMetadata, Host, Metadata, Reader, Writer};
use traces::{STORED, Stored};

/// Small enough to live in the repository.
const MAX_FILE_BYTES: u64 = 64 << 10;

fn metadata(stored: &Stored) -> (Metadata, ClosingMetadata) {
    let anchor = ClockAnchor { boot: BootNanos(1_000_000_000_000), wall: traces::at(0) };
    let start = Metadata {
        // Not the version of this program: a release must not rewrite the fixtures.
        recorder_version: "0.0.0-fixture".to_owned(),
        recording_id: format!("fixture-{}", stored.name),
        command_line: vec!["agentsight-rec".to_owned(), "-c".to_owned(), "demo-agent".to_owned()],
        start_ts: traces::at(0),
        host: Host {
            kernel: "6.1.0".to_owned(),
            arch: "x86_64".to_owned(),
            cpus: 4,
            hostname: "fixture".to_owned(),
        },
        clock_anchors: vec![anchor],
        filters: vec!["-c demo-agent".to_owned()],
    };
    let end = ClosingMetadata {
        stop_ts: traces::at(stored.duration_ms),
        stop_reason: "signal".to_owned(),
        clock_anchors: Vec::new(),
    };
    (start, end)
}

fn written(stored: &Stored) -> Vec<u8> {
    let (start, end) = metadata(stored);
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, start).unwrap();
    for event in (stored.events)() {
        writer.push(event).unwrap();
    }
    writer.finish(end).unwrap();
    file
}

fn in_time_order(mut events: Vec<Event>) -> Vec<Event> {
    // The reader merges by time and sequence; the generator tells events of one instant in order.
    events.sort_by_key(|event| event.ts);
    events
}

#[test]
fn stored_traces_are_what_their_generator_writes() {
    for stored in &STORED {
        let path = stored.path();
        let file = written(stored);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file).unwrap();
        }
        let reader = Reader::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let events: Vec<Event> = reader.events(None).map(Result::unwrap).collect();
        assert_eq!(in_time_order(events), (stored.events)(), "{}", stored.name);
        assert!(
            fs::metadata(&path).unwrap().len() < MAX_FILE_BYTES,
            "{} is too large",
            stored.name
        );
    }
    for entry in fs::read_dir(STORED[0].path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let is_known = STORED.iter().any(|stored| stored.path() == path);
        assert!(is_known, "{} has no generator", path.display());
    }
}

#[test]
fn a_generator_tells_the_same_events_each_time() {
    for stored in &STORED {
        assert_eq!((stored.events)(), (stored.events)());
        let times: Vec<WallNanos> = (stored.events)().iter().map(|event| event.ts).collect();
        assert!(times.is_sorted(), "{}", stored.name);
    }
}
