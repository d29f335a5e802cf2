//! Traces made of traces: a cut and a merge keep every promise of the format, and cuts that meet
//! make the whole again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use agentsight::event::{Body, Direction, Event, Exit, Fork, Image, Loss, ProcessId};
use agentsight::time::{BootNanos, ClockAnchor, WallNanos};
use agentsight::trace::{
    ClockOffsetReason, Input, Limits, Metadata, Reader, Writer, clock_offsets, cut, merge,
};
use proptest::prelude::*;
use session::START;
use sha2::{Digest, Sha256};
use trace_file::{closing, metadata, one_of_each, scratch, tls, write};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

fn rows(path: &Path) -> Vec<(u64, Event)> {
    let reader = Reader::open(path).unwrap();
    let mut events = reader.events(None);
    std::iter::from_fn(|| events.next_numbered()).map(Result::unwrap).collect()
}

fn key(path: &Path, name: &str) -> Option<String> {
    Reader::open(path).unwrap().metadata().get(&format!("agentsight.{name}")).cloned()
}

fn make_cut(source: &Path, from: i64, to: i64, name: &str) -> std::path::PathBuf {
    let path = source.with_file_name(name);
    let reader = Reader::open(source).unwrap();
    cut(&reader, WallNanos(from)..WallNanos(to), std::fs::File::create(&path).unwrap()).unwrap();
    path
}

fn make_merge(sources: &[(&Path, i64)], name: &str) -> std::path::PathBuf {
    let path = sources[0].0.with_file_name(name);
    let input = |(source, clock_offset_ns): &(&Path, i64)| Input {
        trace: Reader::open(source).unwrap(),
        clock_offset_ns: *clock_offset_ns,
    };
    let inputs: Vec<Input> = sources.iter().map(input).collect();
    merge(&inputs, std::fs::File::create(&path).unwrap()).unwrap();
    path
}

fn process(pid: u32, ts: i64, body: Body) -> Event {
    let process = Some(ProcessId { pid, start_ts: WallNanos(START - 5) });
    Event { ts: WallNanos(START + ts), process, tid: None, comm: Some("agent".into()), body }
}

fn image(argv: &str, matched: bool) -> Image {
    Image { argv: vec![argv.to_owned()], matched, ..Image::default() }
}

/// A session with processes that come and go, and losses.
fn recording(turns: usize, seed: u64) -> Vec<Event> {
    let mut events = one_of_each();
    session::resend_history(turns, seed, &mut |event| events.push(event));
    let last = events.iter().map(|event| event.ts.0 - START).max().unwrap();
    for n in 0..20 {
        let at = last * i64::from(n) / 20;
        events.push(process(100 + n, at, Body::ProcessFork(Fork { ppid: 42, uid: 0 })));
        events.push(process(
            100 + n,
            at + 1,
            Body::ProcessExec(image(&format!("tool {n}"), false)),
        ));
        if n % 2 == 0 {
            events.push(process(100 + n, at + last / 7, Body::ProcessExit(Exit::default())));
        }
        let loss = Loss {
            first_ts: WallNanos(START + at - last / 50),
            event_class: "sample".into(),
            cause: "ring_full".into(),
            lost_events: 1,
            lost_bytes: 0,
            conn_id: None,
        };
        events.push(Event { process: None, ..process(0, at, Body::Loss(loss)) });
    }
    events.sort_by_key(|event| event.ts);
    events
}

/// SHA-256 of the payload of each stream.
fn streams(events: impl IntoIterator<Item = Event>) -> BTreeMap<(u64, Direction), String> {
    let mut hashes: BTreeMap<(u64, Direction), Sha256> = BTreeMap::new();
    for event in events {
        if let Body::Data(tls) = event.body {
            hashes.entry((tls.conn_id, tls.direction)).or_default().update(&tls.data);
        }
    }
    hashes.into_iter().map(|(stream, hash)| (stream, format!("{:x}", hash.finalize()))).collect()
}

fn sorted(mut rows: Vec<(u64, Event)>) -> Vec<(u64, Event)> {
    rows.sort_by_key(|(seq, _)| *seq);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn cuts_that_meet_make_the_whole_again(
        seed in 1..1000_u64, at in proptest::collection::vec(0..100_u32, 1..4),
        group_bytes in 20_000..2_000_000_usize,
    ) {
        let (_directory, path) = scratch();
        let events = recording(2, seed);
        write(&path, &events, Limits { group_bytes, ..Limits::default() });
        let whole = Reader::open(&path).unwrap();
        let span = whole.time_range().unwrap();
        let (first, last) = (span.start().0, span.end().0);
        let mut ends: Vec<i64> =
            at.iter().map(|at| first + (last - first) / 100 * i64::from(*at)).collect();
        ends.extend([first, last + 1]);
        ends.sort_unstable();
        ends.dedup();
        let cuts: Vec<_> = ends
            .windows(2)
            .enumerate()
            .map(|(n, pair)| make_cut(&path, pair[0], pair[1], &format!("cut{n}.parquet")))
            .collect();
        let sources: Vec<(&Path, i64)> = cuts.iter().map(|cut| (cut.as_path(), 0)).collect();
        let merged = make_merge(&sources, "merged.parquet");
        prop_assert_eq!(sorted(rows(&merged)), sorted(rows(&path)));
        prop_assert_eq!(key(&merged, "recording_id"), key(&path, "recording_id"));
        prop_assert_eq!(key(&merged, "kinds"), key(&path, "kinds"));
        prop_assert_eq!(key(&merged, "losses"), key(&path, "losses"));
        prop_assert_eq!(key(&merged, "midway"), None);
        // The order of the files does not matter, but for where the metadata comes from.
        let backwards: Vec<(&Path, i64)> = sources.iter().rev().copied().collect();
        let merged = make_merge(&backwards, "backwards.parquet");
        prop_assert_eq!(sorted(rows(&merged)), sorted(rows(&path)));
    }
}

#[test]
fn a_cut_explains_itself_and_says_what_it_is() {
    let (_directory, path) = scratch();
    write(&path, &recording(3, 7), Limits { group_bytes: 100_000, ..Limits::default() });
    let span = Reader::open(&path).unwrap().time_range().unwrap();
    let middle = (span.start().0 + span.end().0) / 2;
    let part = make_cut(&path, middle, span.end().0, "cut.parquet");

    let all = rows(&path);
    let kept = rows(&part);
    let seqs: BTreeSet<u64> = kept.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs.len(), kept.len(), "seq is unique");
    let carried = key(&part, "carried").unwrap();
    let carried: BTreeMap<String, usize> = serde_json::from_str(&carried).unwrap();
    assert!(carried["process_seen"] > 2 && carried["probe"] == 1, "{carried:?}");
    let carried_rows = carried.values().sum();
    assert!(kept[..carried_rows].iter().all(|(_, event)| event.ts.0 == middle));

    // Every process that has a row is explained by one.
    let mut explained = BTreeSet::new();
    for (_, event) in &kept {
        let id = event.process;
        match &event.body {
            Body::ProcessSeen(_) | Body::ProcessFork(_) | Body::ProcessExec(_) => {
                explained.insert(id);
            }
            // The session of the generator is of a process that nothing speaks of.
            Body::ProcessExit(_) => assert!(explained.contains(&id), "{event:?}"),
            _ => {}
        }
    }
    // Who was alive: the odd ones live on, the even ones for a seventh of the time.
    let seen: Vec<u32> = kept[..carried_rows]
        .iter()
        .filter(|(_, event)| event.body.kind() == "process_seen")
        .map(|(_, event)| event.process.unwrap().pid)
        .collect();
    assert!(seen.contains(&101) && !seen.contains(&102) && !seen.contains(&119), "{seen:?}");

    let rest: Vec<_> = kept[carried_rows..].to_vec();
    let belongs = |event: &Event| match &event.body {
        Body::Loss(loss) => event.ts.0 >= middle && loss.first_ts.0 < span.end().0,
        _ => (middle..span.end().0).contains(&event.ts.0),
    };
    let expected = all.into_iter().filter(|(_, event)| belongs(event)).collect();
    assert_eq!(sorted(rest), sorted(expected));

    let about: serde_json::Value = serde_json::from_str(&key(&part, "cut").unwrap()).unwrap();
    assert_eq!(about["from"], middle.to_string());
    assert_eq!(about["recording_id"].as_str(), key(&path, "recording_id").as_deref());
    assert_eq!(key(&part, "stop_reason").as_deref(), Some("cut"));
    assert_eq!(key(&part, "stop_ts"), key(&path, "stop_ts"));
    assert_eq!(key(&part, "midway").as_deref(), Some("true"));
    // A cut of the cut begins with its own carried rows, once.
    let again = make_cut(&part, middle, span.end().0, "again.parquet");
    assert_eq!(sorted(rows(&again)), sorted(rows(&part)));
    assert_eq!(key(&again, "carried"), key(&part, "carried"));
}

fn write_as(path: &Path, events: &[Event], about: Metadata) {
    let mut writer = Writer::create(std::fs::File::create(path).unwrap(), about).unwrap();
    events.iter().for_each(|event| writer.push(event.clone()).unwrap());
    writer.finish(closing()).unwrap();
}

#[test]
fn recordings_with_the_same_connections_stay_apart() {
    let (_directory, a) = scratch();
    let (b, c) = (a.with_file_name("b.parquet"), a.with_file_name("c.parquet"));
    for (path, id, seed) in [(&a, "a", 5), (&b, "b", 5), (&c, "c", 6)] {
        write_as(path, &recording(2, seed), Metadata { recording_id: id.into(), ..metadata() });
    }
    let merged = make_merge(&[(&a, 0), (&b, 1_000), (&c, 0)], "merged.parquet");
    let found = rows(&merged);
    let total: usize = [&a, &b, &c].iter().map(|path| rows(path).len()).sum();
    assert_eq!(found.len(), total);
    let seqs: BTreeSet<u64> = found.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, (0..total as u64).collect(), "numbered anew, from 0");

    let merged_streams = streams(found.into_iter().map(|(_, event)| event));
    let mut expected: Vec<String> = Vec::new();
    for path in [&a, &b, &c] {
        expected.extend(streams(rows(path).into_iter().map(|(_, event)| event)).into_values());
    }
    let mut hashes: Vec<String> = merged_streams.values().cloned().collect();
    hashes.sort();
    expected.sort();
    assert_eq!(hashes, expected, "every stream is whole and alone");
    let kept = streams(rows(&a).into_iter().map(|(_, event)| event));
    assert!(kept.iter().all(|(stream, hash)| merged_streams.get(stream) == Some(hash)));

    let sources: serde_json::Value =
        serde_json::from_str(&key(&merged, "merged").unwrap()).unwrap();
    assert_eq!(sources[1]["recording_id"], "b");
    assert_eq!(sources[1]["clock_offset_ns"], 1_000);
    assert_eq!(sources[2]["rows"], rows(&c).len());
    assert_eq!(key(&merged, "stop_reason").as_deref(), Some("merged"));
    // The same inputs make the same file.
    let again = make_merge(&[(&a, 0), (&b, 1_000), (&c, 0)], "again.parquet");
    assert!(std::fs::read(&merged).unwrap() == std::fs::read(&again).unwrap());
}

#[test]
fn an_offset_moves_every_time_of_a_trace() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let other = path.with_file_name("other.parquet");
    write_as(&other, &[], Metadata { recording_id: "other".into(), ..metadata() });
    let merged = make_merge(&[(&other, 0), (&path, 5_000_000_000)], "merged.parquet");
    let moved: Vec<i64> = rows(&merged).iter().map(|(_, event)| event.ts.0).collect();
    let before: Vec<i64> =
        rows(&path).iter().map(|(_, event)| event.ts.0 + 5_000_000_000).collect();
    assert_eq!(moved, before);
    let started = |path: &Path| rows(path)[0].1.process.unwrap().start_ts.0;
    assert_eq!(started(&merged), started(&path) + 5_000_000_000);
}

#[test]
fn clocks_of_one_boot_agree_whatever_was_done_to_the_wall_clock() {
    let (_directory, a) = scratch();
    let (b, c) = (a.with_file_name("b.parquet"), a.with_file_name("c.parquet"));
    for (path, id, boot, step) in [(&a, "a", "x", 0), (&b, "b", "x", 7_000), (&c, "c", "y", 9_000)]
    {
        let mut about = Metadata { recording_id: id.into(), ..metadata() };
        about.host.boot_id = boot.into();
        about.clock_anchors = vec![ClockAnchor::new(BootNanos(50), WallNanos(START + 50 + step))];
        write_as(path, &one_of_each(), about);
    }
    let readers = [&a, &b, &c].map(|path| Reader::open(path).unwrap());
    let offsets = clock_offsets(&readers.iter().collect::<Vec<_>>(), &[None, None, None]);
    let found: Vec<_> = offsets.iter().map(|offset| (offset.ns, offset.reason)).collect();
    assert_eq!(
        found,
        [
            (0, ClockOffsetReason::Reference),
            (-7_000, ClockOffsetReason::SameBoot),
            (0, ClockOffsetReason::WallClock),
        ]
    );
    let asked = clock_offsets(&readers.iter().collect::<Vec<_>>(), &[Some(3), None, Some(-4)]);
    assert_eq!(asked.iter().map(|offset| offset.ns).collect::<Vec<_>>(), [3, -6_997, -4]);
}

/// DuckDB, pyarrow, polars and fastparquet read what was cut and merged. Runs where
/// `AGENTSIGHT_TEST_PYTHON` names a Python that has them.
#[test]
fn every_parquet_reader_reads_cuts_and_merges() {
    let Some(python) = std::env::var_os("AGENTSIGHT_TEST_PYTHON") else {
        eprintln!("skipped: AGENTSIGHT_TEST_PYTHON is not set");
        return;
    };
    let (_directory, a) = scratch();
    let b = a.with_file_name("b.parquet");
    write(&a, &recording(4, 5), Limits { group_bytes: 300_000, ..Limits::default() });
    write_as(&b, &recording(2, 5), Metadata { recording_id: "b".into(), ..metadata() });
    let middle = START + 1_000_000_000;
    let part = make_cut(&a, middle, i64::MAX, "cut.parquet");
    let merged = make_merge(&[(&a, 0), (&b, 0)], "merged.parquet");
    for path in [part, merged] {
        let rows = rows(&path);
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        rows.iter().for_each(|(_, event)| *kinds.entry(event.body.kind()).or_default() += 1);
        let ts_sum: i128 = rows.iter().map(|(_, event)| i128::from(event.ts.0)).sum();
        let script = "tests/support/read_everywhere.py";
        let output = std::process::Command::new(&python).arg(script).arg(&path).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", output.status);
        let stdout = String::from_utf8(output.stdout).unwrap();
        let found: Vec<serde_json::Value> =
            stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.len(), 4, "{stdout}{stderr}");
        for reader in &found {
            assert_eq!(reader["kinds"], serde_json::json!(kinds), "{reader}");
            assert_eq!(reader["ts_sum"], ts_sum.to_string(), "{reader}");
            assert_eq!(reader["sha256"], found[0]["sha256"], "{reader}");
        }
    }
}

#[test]
fn a_trace_of_one_connection_keeps_its_id_beside_another() {
    let (_directory, a) = scratch();
    let b = a.with_file_name("b.parquet");
    let one = |conn_id, text: &[u8]| [tls(1, conn_id, Direction::Write, 0, text)];
    write_as(&a, &one(9, b"a"), Metadata { recording_id: "a".into(), ..metadata() });
    write_as(&b, &one(10, b"b"), Metadata { recording_id: "b".into(), ..metadata() });
    let merged = make_merge(&[(&a, 0), (&b, 0)], "merged.parquet");
    let ids: Vec<u64> = streams(rows(&merged).into_iter().map(|(_, event)| event))
        .into_keys()
        .map(|s| s.0)
        .collect();
    assert_eq!(ids, [9, 10]);
}
