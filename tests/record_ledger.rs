//! The sum at the end of a recording, through everything that stands between an event and the file:
//! it holds when nothing is missing, and what is missing is said and stored.

use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use agentsight::event::{Body, Event, Sample};
use agentsight::record::ledger::Observed;
use agentsight::record::names::Names;
use agentsight::record::pipeline::{Ended, Pipeline};
use agentsight::record::retention::{Retention, Rotation};
use agentsight::record::store::{Plan, Store};
use agentsight::record::trigger::Triggers;
use agentsight::redact::Redactor;
use agentsight::time::WallNanos;
use agentsight::trace::{ClosingMetadata, Limits, Metadata, Reader, Sync};

const SAMPLES: usize = 20_000;

fn sample(n: usize) -> Event {
    let body = Body::Sample(Sample { rss_bytes: n as u64 * 7919, ..Sample::default() });
    let ts = WallNanos(1_800_000_000_000_000_000 + n as i64);
    Event { ts, process: None, tid: None, comm: None, body }
}

/// Records samples of which `observed` were made.
fn record(directory: &Path, retention: Retention, observed: usize) -> Ended {
    let plan = Plan {
        names: Names::of(&directory.join("run.parquet")),
        retention,
        sync: Sync::None,
        owner: None,
        force: false,
        metadata: Metadata::default(),
        limits: Limits { group_bytes: 64 << 10, ..Limits::default() },
    };
    let (notes, _said) = channel();
    let store = Store::create(plan, notes).unwrap();
    let mut pipeline = Pipeline::new(store, Triggers::default(), Sync::None)
        .redacting(Some(Redactor::new([7; 32])));
    for batch in (0..SAMPLES).collect::<Vec<_>>().chunks(500) {
        pipeline.push(batch.iter().map(|n| sample(*n)).collect(), sample(batch[0]).ts);
        pipeline.flush_log();
    }
    let mut sum = Observed::default();
    (0..observed).for_each(|_| sum.count("sample"));
    pipeline.finish(ClosingMetadata::default(), Some(&sum))
}

fn key(path: &Path, name: &str) -> Option<String> {
    Reader::open(path).unwrap().metadata().get(&format!("agentsight.{name}")).cloned()
}

/// The newest file of a recording.
fn last_file(directory: &Path) -> PathBuf {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|e| e == "parquet")).max().unwrap()
}

#[test]
fn a_whole_recording_adds_up() {
    let directory = tempfile::tempdir().unwrap();
    let ended = record(directory.path(), Retention::Whole, SAMPLES);
    assert_eq!(ended.complaints, [] as [String; 0]);
    let file = last_file(directory.path());
    let ledger = key(&file, "ledger").unwrap();
    assert!(ledger.contains(&format!(r#""attempted_events":{SAMPLES},"#)), "{ledger}");
    assert!(ledger.contains(r#""balanced":true"#), "{ledger}");
    assert_eq!(key(&file, "bugs"), None);
}

#[test]
fn a_recording_adds_up_over_its_parts_even_when_some_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let rotation = Rotation { bytes: Some(100 << 10), age: None, keep: Some(2) };
    let ended = record(directory.path(), Retention::Rotate(rotation), SAMPLES);
    assert_eq!(ended.complaints, [] as [String; 0]);
    let file = last_file(directory.path());
    let rows = Reader::open(&file).unwrap().row_count();
    assert!(rows < SAMPLES as u64 / 2, "there were parts before the one with {rows} rows");
    let ledger = key(&file, "ledger").unwrap();
    assert!(ledger.contains(&format!(r#""written_events":{SAMPLES},"#)), "{ledger}");
}

#[test]
fn an_event_that_vanished_is_complained_about_and_the_trace_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let ended = record(directory.path(), Retention::Whole, SAMPLES + 1);
    assert_eq!(ended.complaints.len(), 1);
    let complaint = &ended.complaints[0];
    assert!(
        complaint.starts_with("bug: sample: 20001 events (0 bytes) were observed"),
        "{complaint}"
    );
    assert!(complaint.contains("20000 events (0 bytes) were written"), "{complaint}");
    assert!(complaint.ends_with("please report this line"), "{complaint}");
    let file = last_file(directory.path());
    assert_eq!(key(&file, "bugs"), Some(format!("[\"{complaint}\"]")));
    assert!(key(&file, "ledger").unwrap().contains(r#""balanced":false"#));
    assert!(ended.finished.unfinished.is_none(), "a bug of the sum is no reason to lose the trace");
}
