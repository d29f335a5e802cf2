//! A recording in parts: rotation, the ring of a flight recorder, snapshots, and what is left of
//! each when the recorder is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use agentsight::event::{Body, Direction, Event, Exit, Image, ProcessId};
use agentsight::record::names::Names;
use agentsight::record::output::OutputError;
use agentsight::record::retention::{Retention, RingSpan, Rotation};
use agentsight::record::ring;
use agentsight::record::store::{Plan, Store, StoreError};
use agentsight::time::WallNanos;
use agentsight::trace::{
    ClosingMetadata, Completeness, Finished, Input, Metadata, Reader, Snapshot, Sync, Tally, merge,
};
use session::{Connection, START};
use sha2::{Digest, Sha256};
use trace_file::{metadata, one_of_each};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

const MIB: u64 = 1 << 20;

struct Place {
    directory: tempfile::TempDir,
    names: Names,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::of(&directory.path().join("run.parquet"));
        Self { directory, names }
    }

    fn plan(&self, retention: Retention) -> Plan {
        Plan {
            names: self.names.clone(),
            retention,
            sync: Sync::None,
            limits: agentsight::trace::Limits::default(),
            owner: None,
            force: false,
            metadata: Metadata { recording_id: "of-this-test".into(), ..metadata() },
        }
    }

    fn begin(&self, retention: Retention) -> (Store, Receiver<String>) {
        let (notes, said) = channel();
        (Store::create(self.plan(retention), notes).unwrap(), said)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn finish(store: Store) -> Finished {
    let finished = store.finish(ClosingMetadata {
        stop_ts: WallNanos(START + 1),
        stop_reason: "SIGINT".into(),
        clock_anchors: Vec::new(),
    });
    assert!(finished.unfinished.is_none() && finished.failure.is_none(), "{finished:?}");
    assert_eq!(finished.dropped, Tally::default());
    finished
}

/// Processes, then payload that is sent once, in pieces of 64 KiB.
fn unique_session(mib: u64) -> Vec<Event> {
    let mut events = one_of_each();
    let agent = ProcessId { pid: 4242, start_ts: WallNanos(START - 1_000_000_000) };
    let image = Image { argv: vec!["agent".into()], matched: true, ..Image::default() };
    let process = Some(agent);
    let body = Body::ProcessExec(image);
    events.push(Event { ts: WallNanos(START), process, tid: None, comm: None, body });
    let mut connection = Connection::new(77);
    let mut random = session::Random::new(3);
    for _ in 0..mib * 16 {
        events.push(connection.call(Direction::Write, &random.bytes(64 << 10), 1_000_000));
    }
    events
}

fn rows(path: &Path) -> Vec<(u64, Event)> {
    let reader = Reader::open(path).unwrap();
    let mut events = reader.events(None);
    std::iter::from_fn(|| events.next_numbered()).map(Result::unwrap).collect()
}

fn key(path: &Path, name: &str) -> Option<String> {
    Reader::open(path).unwrap().metadata().get(&format!("agentsight.{name}")).cloned()
}

/// SHA-256 of the payload of the long stream, and where it begins and ends.
fn stream(rows: &[(u64, Event)]) -> (String, u64, u64) {
    let (mut hash, mut first, mut next) = (Sha256::new(), None, 0);
    for (_, event) in rows {
        let Body::Data(tls) = &event.body else { continue };
        if tls.conn_id == 77 {
            let expected = *first.get_or_insert(tls.stream_offset);
            assert!(next == tls.stream_offset || expected == tls.stream_offset, "no hole");
            next = tls.stream_offset + tls.data_bytes;
            hash.update(&tls.data);
        }
    }
    (format!("{:x}", hash.finalize()), first.unwrap(), next)
}

fn unique(rows: &[(u64, Event)]) {
    let seqs: BTreeSet<u64> = rows.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs.len(), rows.len(), "seq is unique");
}

#[test]
fn files_of_a_rotation_stand_alone_and_are_the_recording_together() {
    let place = Place::new();
    let rotation = Rotation { bytes: Some(2 * MIB), age: None, keep: None };
    let (mut store, _) = place.begin(Retention::Rotate(rotation));
    let events = unique_session(9);
    events.iter().for_each(|event| store.push(event.clone()).unwrap());
    let finished = finish(store);
    assert_eq!(finished.summary.rows, events.len() as u64, "carried rows are no events");
    let payload: u64 = finished.summary.totals.kinds["tls_data"].bytes;
    assert!(payload >= 9 * MIB);

    let files = place.files();
    assert!(files.len() >= 4, "{files:?}");
    let paths: Vec<PathBuf> = files.iter().map(|file| place.directory.path().join(file)).collect();
    let mut all = Vec::new();
    for (number, path) in (1..).zip(&paths) {
        assert_eq!(*path, place.names.rotated(number));
        assert!(path.metadata().unwrap().len() < 3 * MIB);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let reader = Reader::open(path).unwrap();
        assert_eq!(*reader.completeness(), Completeness::Complete);
        let origin = reader.origin();
        assert_eq!((origin.part, origin.is_midway), (Some(number), number > 1));
        assert_eq!(origin.recording_id, "of-this-test");
        let part = rows(path);
        let about = part.iter().find_map(|(_, event)| match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => {
                (event.process?.pid == 4242).then_some(image)
            }
            _ => None,
        });
        assert!(about.is_some_and(|image| image.matched && image.argv == ["agent"]), "{path:?}");
        all.extend(part);
    }
    unique(&all);

    let inputs: Vec<Input> = paths
        .iter()
        .map(|path| Input { trace: Reader::open(path).unwrap(), clock_offset_ns: 0 })
        .collect();
    let path = place.directory.path().join("merged.parquet");
    merge(&inputs, std::fs::File::create(&path).unwrap()).unwrap();
    let merged = rows(&path);
    assert_eq!(merged.len(), events.len());
    unique(&merged);
    let given: Vec<(u64, Event)> = (0..).zip(events.iter().cloned()).collect();
    assert_eq!(stream(&merged), stream(&given));
    assert_eq!(key(&path, "midway"), None, "nothing is missing");
    assert_eq!(key(&path, "stop_reason").as_deref(), Some("SIGINT"));
}

#[test]
fn a_rotation_keeps_the_newest_files_only() {
    let place = Place::new();
    let rotation = Rotation { bytes: Some(MIB), age: None, keep: Some(2) };
    let (mut store, _) = place.begin(Retention::Rotate(rotation));
    for event in unique_session(6) {
        store.push(event).unwrap();
        assert!(place.files().iter().filter(|file| file.ends_with(".parquet")).count() <= 2);
    }
    finish(store);
    let files = place.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(!files.contains(&"run-0001.parquet".to_owned()), "{files:?}");
}

#[test]
fn files_of_an_earlier_rotation_are_kept_unless_forced() {
    let place = Place::new();
    let rotation = Retention::Rotate(Rotation { bytes: Some(MIB), age: None, keep: None });
    std::fs::write(place.names.rotated(7), "precious").unwrap();
    let (notes, _said) = channel();
    let refused = Store::create(place.plan(rotation), notes.clone()).err().unwrap();
    assert!(
        matches!(&refused, StoreError::Output(OutputError::Exists(path)) if *path == place.names.rotated(7))
    );
    let plan = Plan { force: true, ..place.plan(rotation) };
    finish(Store::create(plan, notes).unwrap());
    assert_eq!(place.files(), ["run-0001.parquet"]);
}

#[test]
fn a_ring_stays_within_its_size_and_becomes_one_file() {
    let place = Place::new();
    let ring = Retention::Ring(RingSpan::Bytes(8 * MIB));
    let (mut store, _) = place.begin(ring);
    assert_eq!(
        place.names.ring().metadata().unwrap().permissions().mode() & 0o777,
        0o700,
        "nobody else looks in"
    );
    let events = unique_session(14);
    for (index, event) in events.iter().enumerate() {
        store.push(event.clone()).unwrap();
        if index % 20 == 0 {
            store.flush_log().unwrap();
            let files = std::fs::read_dir(place.names.ring()).unwrap();
            let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
            assert!(bytes <= 8 * MIB, "{bytes}");
        }
    }
    let finished = finish(store);
    assert_eq!(place.files(), ["run.parquet"], "the parts are gone");
    let path = place.names.trace();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(finished.summary.file_bytes, path.metadata().unwrap().len());
    let kept = rows(path);
    assert_eq!(finished.summary.rows, kept.len() as u64);
    unique(&kept);
    let (_, first, next) = stream(&kept);
    assert_eq!(next, 14 * MIB, "up to the end");
    assert!((5 * MIB..=8 * MIB).contains(&(next - first)), "{first}..{next}");
    let seen = kept.iter().filter(|(_, event)| event.body.kind() == "process_seen").count();
    assert_eq!(seen, 1, "what was known is said once: the other process has exited");
    assert_eq!(key(path, "midway").as_deref(), Some("true"));
    assert_eq!(key(path, "stop_reason").as_deref(), Some("SIGINT"));
    let parts: BTreeMap<String, u32> = serde_json::from_str(&key(path, "parts").unwrap()).unwrap();
    assert!(parts["first"] > 3 && parts["last"] > parts["first"] + 4, "{parts:?}");
    let totals = Reader::open(path).unwrap().totals().unwrap();
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    kept.iter().for_each(|(_, event)| *kinds.entry(event.body.kind().into()).or_default() += 1);
    let counted: BTreeMap<String, u64> =
        totals.kinds.into_iter().map(|(kind, total)| (kind, total.events)).collect();
    assert_eq!(counted, kinds);
}

fn about(reason: &str) -> Snapshot {
    Snapshot { reason: reason.into(), ts: WallNanos(START + 5) }
}

fn said(notes: &Receiver<String>) -> String {
    notes.recv_timeout(Duration::from_secs(60)).unwrap()
}

#[test]
fn a_snapshot_has_everything_so_far_while_the_recording_goes_on() {
    for retention in [
        Retention::Whole,
        Retention::Ring(RingSpan::Bytes(8 * MIB)),
        Retention::Rotate(Rotation { bytes: Some(MIB), age: None, keep: None }),
    ] {
        let place = Place::new();
        let (mut store, notes) = place.begin(retention);
        let events = unique_session(6);
        let (before, after) = events.split_at(events.len() / 2);
        before.iter().for_each(|event| store.push(event.clone()).unwrap());
        store.snapshot(about("exit-code!=0")).unwrap();
        after.iter().for_each(|event| store.push(event.clone()).unwrap());
        let note = said(&notes);
        assert!(note.contains("exit-code!=0") && note.contains("run-snapshot-0001"), "{note}");

        let path = place.names.snapshot(1);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let reader = Reader::open(&path).unwrap();
        assert_eq!(*reader.completeness(), Completeness::Complete);
        let found = rows(&path);
        unique(&found);
        let sorted = |mut events: Vec<Event>| {
            events.sort_by_key(|event| (event.ts, format!("{event:?}").len()));
            events
        };
        let events_found: Vec<Event> = found.iter().map(|(_, event)| event.clone()).collect();
        assert!(sorted(events_found) == sorted(before.to_vec()), "{retention:?}");
        assert_eq!(
            key(&path, "snapshot").unwrap(),
            format!(r#"{{"reason":"exit-code!=0","ts":"{}"}}"#, START + 5)
        );
        assert_eq!(key(&path, "stop_reason").as_deref(), Some("snapshot"));

        finish(store);
        if matches!(retention, Retention::Whole) {
            assert_eq!(rows(place.names.trace()).len(), events.len());
            assert_eq!(key(place.names.trace(), "snapshot"), None);
        }
    }
}

#[test]
fn snapshots_asked_for_at_once_are_few_and_the_last_one_has_it_all() {
    let place = Place::new();
    let (mut store, notes) = place.begin(Retention::Whole);
    let events = unique_session(1);
    for event in &events {
        store.push(event.clone()).unwrap();
        store.snapshot(about("SIGUSR1")).unwrap();
    }
    finish(store);
    let told: Vec<String> = notes.try_iter().collect();
    assert!(!told.is_empty() && told.iter().all(|note| note.starts_with("snapshot (")), "{told:?}");
    let most = (1..).take_while(|number| place.names.snapshot(*number).exists()).last().unwrap();
    assert_eq!(rows(&place.names.snapshot(most)).len(), events.len());
    assert!(!place.files().iter().any(|file| file.ends_with(".partial")));
}

#[test]
fn a_killed_flight_recorder_is_repaired_from_its_parts_and_its_log() {
    let place = Place::new();
    let (mut store, _) = place.begin(Retention::Ring(RingSpan::Bytes(8 * MIB)));
    let events = unique_session(11);
    events.iter().for_each(|event| store.push(event.clone()).unwrap());
    store.flush_log().unwrap();
    assert!(
        matches!(ring::repair(place.names.trace(), None, false), Err(error) if error.to_string().contains("still being recorded"))
    );
    // Nothing is finished: as far as the disk knows, it was killed.
    drop(store);
    assert_eq!(place.files(), ["run.parquet.ring"]);
    let (_, summary) = ring::repair(place.names.trace(), None, false).unwrap().unwrap();
    assert_eq!(place.files(), ["run.parquet"]);
    let kept = rows(place.names.trace());
    assert_eq!(summary.rows, kept.len() as u64);
    unique(&kept);
    assert_eq!(stream(&kept).2, 11 * MIB, "up to the last event");
    assert_eq!(key(place.names.trace(), "stop_reason").as_deref(), Some("killed"));
    let reader = Reader::open(place.names.trace()).unwrap();
    assert_eq!(*reader.completeness(), Completeness::Repaired);
    assert!(ring::repair(place.names.trace(), None, false).unwrap().is_none());
}

#[test]
fn an_unfinished_ring_is_not_written_over() {
    let place = Place::new();
    let ring = Retention::Ring(RingSpan::Time(Duration::from_secs(60)));
    let (mut store, _) = place.begin(ring);
    one_of_each().into_iter().for_each(|event| store.push(event).unwrap());
    let busy = Store::check(&place.names, ring, true).unwrap_err();
    assert!(matches!(busy, OutputError::Busy(_)), "{busy}");
    drop(store);
    let unfinished = Store::check(&place.names, ring, false).unwrap_err();
    assert!(unfinished.hint().contains("repair"), "{unfinished}");
    let (notes, _said) = channel();
    let plan = Plan { force: true, ..place.plan(ring) };
    finish(Store::create(plan, notes).unwrap());
    assert_eq!(rows(place.names.trace()).len(), 0);
}

#[test]
fn a_bounded_trace_says_when_it_is_full() {
    let place = Place::new();
    let (mut store, _) = place.begin(Retention::UpTo { bytes: 2 * MIB });
    let mut events = unique_session(6).into_iter();
    let pushed = events.by_ref().take_while(|event| {
        store.push(event.clone()).unwrap();
        !store.is_full()
    });
    let pushed = pushed.count();
    finish(store);
    let bytes = place.names.trace().metadata().unwrap().len();
    assert!((MIB..=2 * MIB + MIB / 4).contains(&bytes), "{bytes} after {pushed} events");
}

#[test]
fn a_part_knows_who_lives_and_not_who_died() {
    let place = Place::new();
    let rotation = Rotation { bytes: Some(MIB), age: None, keep: None };
    let (mut store, _) = place.begin(Retention::Rotate(rotation));
    let gone = ProcessId { pid: 9, start_ts: WallNanos(START) };
    let event =
        |body| Event { ts: WallNanos(START), process: Some(gone), tid: None, comm: None, body };
    store.push(event(Body::ProcessExec(Image::default()))).unwrap();
    store.push(event(Body::ProcessExit(Exit::default()))).unwrap();
    unique_session(3).into_iter().for_each(|event| store.push(event).unwrap());
    finish(store);
    let pids: BTreeSet<u32> = rows(&place.names.rotated(2))
        .iter()
        .filter(|(_, event)| event.body.kind() == "process_seen")
        .map(|(_, event)| event.process.unwrap().pid)
        .collect();
    assert_eq!(pids, [4242].into());
}
