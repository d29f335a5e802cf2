//! The stored traces are what `tests/traces` writes: `UPDATE_GOLDEN=1 cargo test --test fixtures`
//! writes them again after a change there or in the format.
//!
//! Events are compared, not bytes: another version of a compressor may pack them differently.

mod traces;

use std::fs;

use agentsight::event::Event;
use agentsight::time::WallNanos;
use agentsight::trace::Reader;
use traces::{STORED, Stored};

/// Small enough to live in the repository.
const MAX_FILE_BYTES: u64 = 64 << 10;

fn written(stored: &Stored) -> Vec<u8> {
    let mut file = Vec::new();
    traces::file::write(&mut file, stored.name, (stored.events)(), stored.duration_ms);
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

/// Writes a session of `AGENTSIGHT_CALLS` calls to `AGENTSIGHT_TRACE`, to measure on.
#[test]
#[ignore = "makes a file to measure with; asserts nothing"]
fn write_a_long_session() {
    let setting = |name| std::env::var(name).unwrap_or_else(|_| panic!("set {name}"));
    let calls: u64 = setting("AGENTSIGHT_CALLS").parse().unwrap();
    let sink = fs::File::create(setting("AGENTSIGHT_TRACE")).unwrap();
    traces::file::write(sink, "long", traces::long_session(calls), 1_000 + calls * 1_500);
}

/// Writes a recording of ten hours in which nine processes are sampled each second to
/// `AGENTSIGHT_TRACE`, to measure on.
#[test]
#[ignore = "makes a file to measure with; asserts nothing"]
fn write_ten_hours() {
    let sink = fs::File::create(std::env::var("AGENTSIGHT_TRACE").unwrap()).unwrap();
    traces::file::write(sink, "ten_hours", traces::ten_hours(), 36_000_000);
}

#[test]
fn a_generator_tells_the_same_events_each_time() {
    for stored in &STORED {
        assert_eq!((stored.events)(), (stored.events)());
        let times: Vec<WallNanos> = (stored.events)().iter().map(|event| event.ts).collect();
        assert!(times.is_sorted(), "{}", stored.name);
    }
}
