//! Recordings that are not finished: everything logged is there, for every reader and for repair.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use agentsight::event::{Body, Direction, Event};
use agentsight::trace::{
    Completeness, CreateFile, Entry, Error, Limits, Reader, Recording, Sync, log_path, repair,
};
use session::{Random, resend_history};
use trace_file::{closing, metadata, one_of_each, scratch, tls};

#[path = "support/readers.rs"]
mod readers;
#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

fn create_file() -> CreateFile {
    Box::new(|path: &Path| OpenOptions::new().read(true).write(true).create_new(true).open(path))
}

fn locked(path: &Path) -> File {
    let file = create_file()(path).unwrap();
    file.try_lock().unwrap();
    file
}

fn begin(path: &Path, limits: Limits) -> Recording {
    let recording = Recording::create(locked(path), path, &metadata(), Sync::None, create_file());
    recording.unwrap().with_limits(limits)
}

/// Small row groups, so that a few events make several.
fn small_groups() -> Limits {
    Limits { group_bytes: 60_000, ..Limits::default() }
}

fn read(path: &Path) -> (Vec<Event>, Completeness) {
    let reader = Reader::open(path).unwrap();
    let events = reader.events(None).collect::<Result<_, _>>().unwrap();
    (events, reader.completeness().clone())
}

/// Payloads that fill several row groups, and what else there is in a trace.
fn many() -> Vec<Event> {
    let mut events = one_of_each();
    let mut random = Random::new(5);
    let mut offset = 100_000;
    for at in 0..40 {
        let text = random.text(5_000);
        events.push(tls(100 + at, 9, Direction::Write, offset, text.as_bytes()));
        offset += text.len() as u64;
    }
    events.extend(
        one_of_each().into_iter().map(|event| Event { ts: at(event.ts.0 + 1000), ..event }),
    );
    events
}

fn at(ts: i64) -> agentsight::time::WallNanos {
    agentsight::time::WallNanos(ts)
}

/// The same events in an order that does not depend on row groups.
fn sorted(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(|event| event.ts);
    events.iter().map(|event| format!("{event:?}")).collect()
}

fn copy(from: &Path, name: &str) -> PathBuf {
    let to = from.with_file_name(name);
    std::fs::copy(from, &to).unwrap();
    if log_path(from).exists() {
        std::fs::copy(log_path(from), log_path(&to)).unwrap();
    }
    to
}

#[test]
fn a_finished_recording_is_one_complete_file() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, small_groups());
    for event in many() {
        recording.push(event).unwrap();
        recording.flush_log().unwrap();
    }
    let finished = recording.finish(closing());
    assert!(finished.unfinished.is_none() && finished.dropped.events == 0);
    let (events, completeness) = read(&path);
    assert_eq!(completeness, Completeness::Complete);
    assert_eq!(sorted(events), sorted(many()));
    assert!(finished.summary.row_groups > 3, "{} row groups", finished.summary.row_groups);
    assert_eq!(finished.summary.file_bytes, path.metadata().unwrap().len());
    assert_eq!(finished.summary.rows, many().len() as u64);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the log is gone");
}

#[test]
fn everything_logged_is_there_while_the_recorder_runs_and_after_it_died() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, small_groups());
    let mut given = Vec::new();
    for event in many() {
        given.push(event.clone());
        recording.push(event).unwrap();
        recording.flush_log().unwrap();
        let (events, completeness) = read(&path);
        assert_eq!(sorted(events), sorted(given.clone()));
        let Completeness::Unfinished(recovery) = completeness else { panic!("{completeness:?}") };
        assert!(recovery.live && recovery.torn_bytes == 0 && recovery.log_damage.is_none());
    }
    assert!(matches!(repair(&path), Err(Error::Live { .. })));
    // As if killed: nothing is written any more, and the lock is gone.
    drop(recording);

    let (events, completeness) = read(&path);
    assert_eq!(sorted(events), sorted(many()));
    let Completeness::Unfinished(recovery) = completeness else { panic!("{completeness:?}") };
    assert!(!recovery.live && recovery.rows_from_log > 0);

    let repaired = repair(&path).unwrap();
    assert_eq!(repaired.recovery.rows_from_log, recovery.rows_from_log);
    assert_eq!(repaired.rows, many().len() as u64);
    let (events, completeness) = read(&path);
    assert_eq!((sorted(events), completeness), (sorted(many()), Completeness::Repaired));
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the log is gone");
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.metadata()["agentsight.stop_reason"], "killed");
    let kinds: u64 = reader.totals().unwrap().kinds.values().map(|kind| kind.events).sum();
    assert_eq!(kinds, many().len() as u64, "totals count every row once");
    // Once more changes nothing.
    let bytes = std::fs::read(&path).unwrap();
    repair(&path).unwrap();
    assert!(bytes == std::fs::read(&path).unwrap());
}

#[test]
fn the_main_file_alone_is_valid_up_to_the_last_closed_row_group() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, small_groups());
    many().into_iter().for_each(|event| recording.push(event).unwrap());
    recording.flush_log().unwrap();
    drop(recording);
    let (all, _) = read(&path);
    std::fs::remove_file(log_path(&path)).unwrap();
    let (events, completeness) = read(&path);
    assert_eq!(completeness, Completeness::Unfinished(agentsight::trace::Recovery::default()));
    assert!(events.len() < all.len() && events.len() > all.len() / 2);
    assert_eq!(sorted(events.clone()), sorted(all)[..events.len()]);

    let repaired = repair(&path).unwrap();
    assert_eq!(repaired.rows, events.len() as u64);
    assert_eq!(read(&path).1, Completeness::Repaired);
}

#[test]
fn entries_of_the_metadata_survive_in_the_log() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, Limits::default());
    recording.push(one_of_each().remove(0)).unwrap();
    recording.set(Entry::redaction("none yet"));
    recording.set(Entry::redaction("secrets"));
    recording.flush_log().unwrap();
    drop(recording);
    assert_eq!(Reader::open(&path).unwrap().metadata()["agentsight.redaction"], "secrets");
    repair(&path).unwrap();
    assert_eq!(Reader::open(&path).unwrap().metadata()["agentsight.redaction"], "secrets");
}

#[test]
fn a_deleted_log_is_made_again_and_costs_nothing() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, Limits::default());
    let events = many();
    for (at, event) in events.iter().enumerate() {
        recording.push(event.clone()).unwrap();
        if at % 10 == 3 {
            std::fs::remove_file(log_path(&path)).unwrap();
        }
        recording.flush_log().unwrap();
    }
    drop(recording);
    assert_eq!(sorted(read(&path).0), sorted(events));
}

#[test]
fn a_log_of_another_or_no_recording_is_told_and_not_believed() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, Limits::default());
    many().into_iter().for_each(|event| recording.push(event).unwrap());
    recording.close_row_group().unwrap();
    drop(recording);
    for wrong in [b"".as_slice(), b"not a log", &[0; 5000]] {
        std::fs::write(log_path(&path), wrong).unwrap();
        let (events, completeness) = read(&path);
        assert_eq!(sorted(events), sorted(many()));
        let Completeness::Unfinished(recovery) = completeness else { panic!("{completeness:?}") };
        assert!(recovery.log_damage.is_some(), "{recovery:?}");
    }
    let repaired = repair(&path).unwrap();
    assert_eq!(repaired.rows, many().len() as u64);
}

#[test]
fn a_log_without_its_file_is_a_clear_error() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, Limits::default());
    recording.push(one_of_each().remove(0)).unwrap();
    recording.flush_log().unwrap();
    drop(recording);
    std::fs::remove_file(&path).unwrap();
    let error = Reader::open(&path).unwrap_err();
    assert!(
        matches!(&error, Error::Open { source, .. } if source.kind() == io::ErrorKind::NotFound)
    );
    assert!(repair(&path).is_err());
}

#[test]
fn a_file_that_was_cut_is_not_read_with_its_log() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, small_groups());
    many().into_iter().for_each(|event| recording.push(event).unwrap());
    recording.flush_log().unwrap();
    drop(recording);
    let cut = copy(&path, "cut.parquet");
    let bytes = path.metadata().unwrap().len();
    File::options().write(true).open(&cut).unwrap().set_len(bytes / 2).unwrap();
    let error = Reader::open(&cut).unwrap_err();
    assert!(matches!(error, Error::LogDamaged { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn large_bursts_are_stored_once_in_the_log_as_in_the_file() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, Limits::default());
    let mut payload_bytes = 0;
    resend_history(20, 3, &mut |event| {
        if let Body::Data(tls) = &event.body {
            payload_bytes += tls.data_bytes;
        }
        recording.push(event).unwrap();
    });
    recording.flush_log().unwrap();
    let log_bytes = log_path(&path).metadata().unwrap().len();
    assert!(log_bytes * 4 < payload_bytes, "{log_bytes} of {payload_bytes}");
}

#[test]
fn every_parquet_reader_opens_live_repaired_and_finished_files() {
    let (_directory, path) = scratch();
    let mut recording = begin(&path, small_groups());
    let events = many();
    for event in &events {
        recording.push(event.clone()).unwrap();
        recording.flush_log().unwrap();
    }
    // The main file of a live recording: whole up to the last closed row group.
    let main = path.with_file_name("main.parquet");
    std::fs::copy(&path, &main).unwrap();
    let closed = read(&main).0.len();
    assert!(closed > 0 && closed < events.len(), "{closed} of {} events", events.len());
    readers::assert_all_read(&path, &events[..closed]);
    let killed = copy(&path, "killed.parquet");
    assert!(recording.finish(closing()).unfinished.is_none());
    readers::assert_all_read(&path, &events);
    repair(&killed).unwrap();
    readers::assert_all_read(&killed, &events);
}

#[test]
fn a_recording_in_a_hurry_is_larger_and_says_the_same() {
    let (_scratch, path) = scratch();
    let write = |name: &str, is_hurried: bool| {
        let path = path.with_file_name(name);
        let mut recording = begin(&path, small_groups());
        recording.hurry(is_hurried);
        many().into_iter().for_each(|event| recording.push(event).unwrap());
        assert!(recording.finish(closing()).unfinished.is_none());
        (std::fs::metadata(&path).unwrap().len(), sorted(read(&path).0))
    };
    let (rested_bytes, rested) = write("rested.parquet", false);
    let (hurried_bytes, hurried) = write("hurried.parquet", true);
    assert_eq!(hurried, rested);
    assert!(hurried_bytes > rested_bytes * 3 / 2, "{hurried_bytes} and {rested_bytes} bytes");
}
