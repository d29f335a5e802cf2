//! The trace format as its users see it: what goes in comes out, in order, small, and nothing a
//! file may hold makes the reader panic.

use std::path::{Path, PathBuf};

use agentsight::event::{
    Body, Direction, Event, Exit, Fork, Image, Loss, Probe, ProbeState, ProcessId, Sample, TlsData,
};
use agentsight::time::{BootNanos, ClockAnchor, WallNanos};
use agentsight::trace::{self, ClosingMetadata, Host, Limits, Metadata, Reader, Writer};
use proptest::prelude::*;

const START: i64 = 1_800_000_000_000_000_000;

fn metadata() -> Metadata {
    Metadata {
        recorder_version: "0.0.0-test".to_owned(),
        recording_id: "00000000-0000-0000-0000-000000000000".to_owned(),
        command_line: vec!["agentsight-rec".to_owned(), "-c".to_owned(), "claude".to_owned()],
        start_ts: WallNanos(START),
        host: Host {
            kernel: "6.1.0".to_owned(),
            arch: "x86_64".to_owned(),
            cpus: 2,
            hostname: "host-1".to_owned(),
        },
        clock_anchors: vec![ClockAnchor { boot: BootNanos(5), wall: WallNanos(START) }],
        filters: vec!["-c claude".to_owned()],
    }
}

fn closing() -> ClosingMetadata {
    ClosingMetadata {
        stop_ts: WallNanos(START + 1),
        stop_reason: "signal".to_owned(),
        clock_anchors: Vec::new(),
    }
}

fn write(path: &Path, events: &[Event], limits: Limits) -> trace::Summary {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = Writer::with_limits(file, metadata(), limits).unwrap();
    events.iter().for_each(|event| writer.push(event.clone()).unwrap());
    writer.finish(closing()).unwrap()
}

fn read(path: &Path) -> Vec<Event> {
    let reader = Reader::open(path).unwrap();
    let events = reader.events(None).collect::<Result<_, _>>().unwrap();
    assert_eq!(reader.skipped(), trace::Skipped::default());
    events
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    (directory, path)
}

/// A size or counter as the format can hold it.
fn quantity() -> impl Strategy<Value = u64> {
    prop_oneof![0..1_000_000_u64, Just(i64::MAX as u64), 0..=i64::MAX as u64]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        // Large enough for several chunks, and repeating across events.
        (0..4_u8, 0..60_000_usize).prop_map(|(seed, size)| {
            (0..size).map(|at| (at / 7) as u8 ^ (at / 1000) as u8 ^ seed).collect()
        }),
    ]
}

prop_compose! {
    fn image()(
        ppid in any::<u32>(), uid in any::<u32>(), exe in any::<Option<String>>(),
        argv in proptest::collection::vec(".*", 0..4), argv_lost_bytes in quantity(),
        cwd in any::<Option<String>>(), matched in any::<bool>(),
    ) -> Image {
        Image { ppid, uid, exe, argv, argv_lost_bytes, cwd, matched }
    }
}

prop_compose! {
    fn sample()(
        ppid in any::<u32>(), cpu_percent in proptest::option::of(0.0..10_000.0_f64),
        sizes in proptest::array::uniform4(quantity()), threads in any::<u32>(),
        children in any::<u32>(), read_bytes in proptest::option::of(quantity()),
        written_bytes in proptest::option::of(quantity()),
    ) -> Sample {
        let [cpu_user_ns, cpu_system_ns, rss_bytes, vsz_bytes] = sizes;
        Sample {
            ppid, cpu_percent, cpu_user_ns, cpu_system_ns, rss_bytes, vsz_bytes, threads, children,
            read_bytes, written_bytes,
        }
    }
}

prop_compose! {
    fn exit()(
        ppid in any::<u32>(), exit_code in any::<Option<i32>>(), signal in any::<Option<i32>>(),
        sizes in proptest::array::uniform5(quantity()),
    ) -> Exit {
        let [cpu_user_ns, cpu_system_ns, peak_rss_bytes, read_bytes, written_bytes] = sizes;
        Exit {
            ppid, exit_code, signal, cpu_user_ns, cpu_system_ns, peak_rss_bytes, read_bytes,
            written_bytes,
        }
    }
}

prop_compose! {
    fn tls_data()(
        conn_id in any::<u64>(), write in any::<bool>(), stream_offset in quantity(),
        lost_bytes in 0..1_000_000_u64, data in payload(), library in ".{0,9}",
        calls in proptest::collection::vec((any::<i64>(), 1..1000_u64), 0..4),
    ) -> TlsData {
        let data_bytes = data.len() as u64 + lost_bytes;
        let (call_ts, mut call_bytes): (Vec<_>, Vec<_>) =
            calls.into_iter().map(|(ts, bytes)| (WallNanos(ts), bytes % (data_bytes / 4 + 1))).unzip();
        let before: u64 = call_bytes.iter().rev().skip(1).sum();
        if let Some(last) = call_bytes.last_mut() {
            *last = data_bytes - before;
        }
        let direction = if write { Direction::Write } else { Direction::Read };
        TlsData {
            conn_id, direction, stream_offset, data_bytes, lost_bytes, data, library, call_ts,
            call_bytes,
        }
    }
}

fn body() -> impl Strategy<Value = Body> {
    let loss = (any::<i64>(), ".{0,9}", ".{0,9}", quantity(), quantity(), any::<Option<u64>>())
        .prop_map(|(first_ts, event_class, cause, lost_events, lost_bytes, conn_id)| Loss {
            first_ts: WallNanos(first_ts),
            event_class,
            cause,
            lost_events,
            lost_bytes,
            conn_id,
        });
    let state = proptest::sample::select(vec![
        ProbeState::Attached,
        ProbeState::Absent,
        ProbeState::Unresolved,
        ProbeState::Failed,
    ]);
    let probe = (".*", any::<Option<String>>(), state, ".*", any::<Option<String>>()).prop_map(
        |(path, library, state, detail, build_id)| Probe { path, library, state, detail, build_id },
    );
    prop_oneof![
        image().prop_map(Body::ProcessSeen),
        image().prop_map(Body::ProcessExec),
        (any::<u32>(), any::<u32>()).prop_map(|(ppid, uid)| Body::ProcessFork(Fork { ppid, uid })),
        exit().prop_map(Body::ProcessExit),
        tls_data().prop_map(Body::TlsData),
        any::<u64>().prop_map(|conn_id| Body::TlsClose { conn_id }),
        sample().prop_map(Body::Sample),
        sample().prop_map(Body::RecorderSample),
        loss.prop_map(Body::Loss),
        probe.prop_map(Body::Probe),
    ]
}

prop_compose! {
    fn event()(
        ts in prop_oneof![i64::MIN / 4..i64::MAX / 4, 0..5_i64],
        process in proptest::option::of((any::<u32>(), any::<i64>())),
        tid in any::<Option<u32>>(), comm in any::<Option<String>>(), body in body(),
    ) -> Event {
        let process = process.map(|(pid, start)| ProcessId { pid, start_ts: WallNanos(start) });
        Event { ts: WallNanos(ts), process, tid, comm, body }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_events_come_back_as_they_went_in(
        mut events in proptest::collection::vec(event(), 0..40), group_bytes in 1..200_000_usize
    ) {
        // One connection each, so that only time decides the order.
        for (index, event) in events.iter_mut().enumerate() {
            if let Body::TlsData(tls) = &mut event.body {
                tls.conn_id = tls.conn_id & !0xFF | index as u64;
            }
        }
        let (_directory, path) = scratch();
        let one_group = Limits { group_bytes: usize::MAX, group_age_ns: i64::MAX };
        let summary = write(&path, &events, one_group);
        prop_assert_eq!(summary.rows, events.len() as u64);
        prop_assert!(summary.row_groups <= 1);
        let mut sorted = events.clone();
        sorted.sort_by_key(|event| event.ts);
        prop_assert_eq!(read(&path), sorted);

        // Over several groups each group is sorted by itself; together they are the same events.
        write(&path, &events, Limits { group_bytes, group_age_ns: i64::MAX });
        let mut back = read(&path);
        back.sort_by_key(|event| (event.ts, format!("{event:?}")));
        events.sort_by_key(|event| (event.ts, format!("{event:?}")));
        prop_assert_eq!(back, events);
    }
}
