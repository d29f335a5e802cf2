//! The trace format as its users see it: what goes in comes out, in order, for every reader.

use std::collections::BTreeMap;

use agentsight::event::{
    Body, Channel, ChannelType, Confidence, Direction, Event, Exit, FileAccess, FileOp, Fork,
    Image, Loss, OpenOperation, PathOperation, Probe, ProbeState, ProcessId, Role, Sample, Source,
    StreamData, TlsSocket,
};
use agentsight::time::WallNanos;
use agentsight::trace::{Limits, Reader};
use arrow::array::StringArray;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use session::START;
use trace_file::{one_of_each, read, scratch, tls, write};

#[path = "support/readers.rs"]
mod readers;
#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

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
        cgroup in any::<Option<String>>(),
    ) -> Image {
        Image { ppid, uid, exe, argv, argv_lost_bytes, cwd, matched, cgroup }
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
    fn stream_data()(
        source in select(&[Source::Tls, Source::Socket, Source::Stdio, Source::TlsHello, Source::Dns]),
        fd in any::<Option<u32>>(), conn_id in any::<u64>(), write in any::<bool>(), stream_offset in quantity(),
        lost_bytes in 0..1_000_000_u64, data in payload(), library in ".{0,9}",
        calls in proptest::collection::vec((any::<i64>(), 1..1000_u64), 0..4),
    ) -> StreamData {
        let data_bytes = data.len() as u64 + lost_bytes;
        let (call_ts, mut call_bytes): (Vec<_>, Vec<_>) =
            calls.into_iter().map(|(ts, bytes)| (WallNanos(ts), bytes % (data_bytes / 4 + 1))).unzip();
        let before: u64 = call_bytes.iter().rev().skip(1).sum();
        if let Some(last) = call_bytes.last_mut() {
            *last = data_bytes - before;
        }
        let direction = if write { Direction::Write } else { Direction::Read };
        // Only plaintext of TLS comes through a library, whose descriptors are not known.
        let (library, fd) =
            if source == Source::Tls { (library, None) } else { (String::new(), fd) };
        StreamData {
            source, conn_id, direction, stream_offset, data_bytes, lost_bytes, data, library, fd,
            call_ts, call_bytes,
        }
    }
}

/// One of a few values.
fn select<T: Clone + std::fmt::Debug + 'static>(values: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(values)
}

prop_compose! {
    fn channel()(
        conn_id in any::<u64>(),
        channel_type in
            select(&[ChannelType::Tcp, ChannelType::Udp, ChannelType::Unix, ChannelType::Pipe]),
        role in select(&[Role::Inherited, Role::Connect, Role::Accept]), fd in any::<u32>(),
        local_addr in any::<Option<String>>(), remote_addr in any::<Option<String>>(),
        errno in any::<u32>(),
    ) -> Channel {
        Channel { conn_id, channel_type, role, fd, local_addr, remote_addr, errno }
    }
}

prop_compose! {
    fn tls_socket()(
        conn_id in any::<u64>(), socket_conn_id in any::<u64>(),
        confidence in select(&[Confidence::Certain, Confidence::Likely]),
    ) -> TlsSocket {
        TlsSocket { conn_id, socket_conn_id, confidence }
    }
}

prop_compose! {
    fn file_op()(
        operation in select(&[
            PathOperation::Rename, PathOperation::Unlink, PathOperation::Rmdir,
            PathOperation::Mkdir, PathOperation::Truncate, PathOperation::Link,
            PathOperation::Symlink,
        ]),
        path in any::<Option<String>>(), new_path in any::<Option<String>>(),
    ) -> FileOp {
        FileOp { operation, path, new_path }
    }
}

prop_compose! {
    fn file_access()(
        path in any::<Option<String>>(),
        operation in proptest::option::of(select(&[
            OpenOperation::Open, OpenOperation::Create, OpenOperation::OpenDirectory,
            OpenOperation::Inherited,
        ])),
        flags in any::<Option<String>>(), first_ts in any::<i64>(),
        counts in proptest::array::uniform5(quantity()), errno in any::<u32>(),
    ) -> FileAccess {
        let [open_count, read_count, read_bytes, write_count, written_bytes] = counts;
        let first_ts = WallNanos(first_ts);
        FileAccess {
            path, operation, flags, first_ts, open_count, read_count, read_bytes, write_count,
            written_bytes, errno,
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
        stream_data().prop_map(Body::Data),
        channel().prop_map(Body::ChannelOpen),
        (any::<u64>(), quantity(), quantity()).prop_map(|(conn_id, read_bytes, written_bytes)| {
            Body::ChannelClose { conn_id, read_bytes, written_bytes }
        }),
        tls_socket().prop_map(Body::TlsSocket),
        file_op().prop_map(Body::FileOp),
        file_access().prop_map(Body::FileAccess),
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
            if let Body::Data(tls) = &mut event.body {
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

#[test]
fn metadata_says_what_was_recorded_and_what_was_lost() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let reader = Reader::open(&path).unwrap();
    let value = |key: &str| reader.metadata()[&format!("agentsight.{key}")].clone();
    assert_eq!(value("format_version"), "1");
    assert_eq!(value("min_reader_version"), "1");
    assert_eq!(value("start_ts"), START.to_string());
    assert_eq!(value("stop_reason"), "signal");
    assert_eq!(value("command_line"), r#"["agentsight-rec","-c","claude"]"#);
    assert_eq!(
        value("losses"),
        r#"[{"event_class":"tls_data","cause":"ring_full","lost_events":2,"lost_bytes":99}]"#
    );
    assert!(value("kinds").contains(r#""tls_close":{"events":1,"bytes":0}"#), "{}", value("kinds"));
    assert_eq!(
        value("clock_anchors"),
        format!(r#"[{{"boot_ns":5,"wall_ns":{START},"monotonic_ns":5}}]"#)
    );
    assert!(value("columns").contains(r#""name":"stream_offset""#));
    assert_eq!(reader.row_count(), one_of_each().len() as u64);
}

#[test]
fn only_the_kinds_asked_for_are_read() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let reader = Reader::open(&path).unwrap();
    let kinds = |kinds: Option<&[&str]>| -> Vec<&'static str> {
        reader.events(kinds).map(|event| event.unwrap().body.kind()).collect()
    };
    assert_eq!(kinds(Some(&["sample", "process_exit"])), ["sample", "process_exit"]);
    assert_eq!(kinds(Some(&["never_heard_of"])), Vec::<&str>::new());
    assert_eq!(kinds(None).len(), one_of_each().len());
}

#[test]
fn rows_are_sorted_by_kind_then_time_and_the_footer_says_so() {
    let (_directory, path) = scratch();
    let mut events = one_of_each();
    events.reverse();
    write(&path, &events, Limits::default());
    let file = std::fs::File::open(&path).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let sorting = builder.metadata().row_group(0).sorting_columns().unwrap().clone();
    let name = |index: i32| builder.schema().field(index as usize).name().clone();
    let names: Vec<_> = sorting.iter().map(|column| name(column.column_idx)).collect();
    assert_eq!(names, ["kind", "ts", "seq"]);
    let batches = Reader::open(&path).unwrap().batches(&["kind"]).unwrap();
    let mut kinds = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        assert_eq!(batch.num_columns(), 1);
        let column = batch.column(0).as_any().downcast_ref::<StringArray>().unwrap().clone();
        kinds.extend(column.iter().flatten().map(str::to_owned));
    }
    assert!(kinds.is_sorted() && kinds.len() == one_of_each().len(), "{kinds:?}");
}

#[test]
fn a_stream_is_read_in_offset_order_even_where_times_disagree() {
    let (_directory, path) = scratch();
    let events = [
        tls(10, 1, Direction::Write, 4, b"two "),
        tls(11, 1, Direction::Write, 0, b"one "),
        tls(12, 2, Direction::Write, 0, b"elsewhere"),
        tls(13, 1, Direction::Write, 12, b"four"),
        tls(14, 1, Direction::Write, 8, b"tri "),
    ];
    write(&path, &events, Limits::default());
    let mut streams: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for event in read(&path) {
        let Body::Data(tls) = event.body else { panic!("expected tls_data") };
        let stream = streams.entry(tls.conn_id).or_default();
        assert_eq!(stream.len() as u64, tls.stream_offset);
        stream.extend(tls.data);
    }
    assert_eq!(streams[&1], b"one two tri four");
    assert_eq!(streams[&2], b"elsewhere");
}

#[test]
fn a_group_closes_by_age() {
    let (_directory, path) = scratch();
    let limits = Limits { group_age_ns: 100, ..Limits::default() };
    let events: Vec<_> = (0..10).map(|n| tls(n * 40, 1, Direction::Read, n as u64, b"x")).collect();
    assert_eq!(write(&path, &events, limits).row_groups, 3);
    assert_eq!(read(&path), events);
}

/// Compares with a file of the repository, or rewrites it where `UPDATE_GOLDEN` is set.
fn assert_golden(path: &str, actual: &str) {
    let path = std::path::Path::new(".").join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{} differs from this, UPDATE_GOLDEN=1 rewrites it:\n{actual}",
        path.display()
    );
}

#[test]
fn the_schema_in_the_file_is_the_one_of_format_1() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let file = std::fs::File::open(&path).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut schema = Vec::new();
    parquet::schema::printer::print_schema(&mut schema, builder.parquet_schema().root_schema());
    assert_golden("fixtures/schema_v1.txt", &String::from_utf8(schema).unwrap());
}

#[test]
fn the_specification_lists_every_kind_and_column() {
    let path = std::path::Path::new(".").join("docs/FORMAT.md");
    let mut text = std::fs::read_to_string(path).unwrap();
    for (name, table) in [
        ("kinds", agentsight::trace::schema::kinds_markdown()),
        ("columns", agentsight::trace::schema::columns_markdown()),
    ] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- /{name} -->"));
        let from =
            text.find(&begin).expect("expected the marker of a generated table") + begin.len();
        let to = from + text[from..].find(&end).expect("expected the end of a generated table");
        text.replace_range(from..to, &table);
    }
    assert_golden("docs/FORMAT.md", &text);
}

/// DuckDB, pyarrow, polars and fastparquet read the same rows and bytes.
#[test]
fn every_parquet_reader_sees_the_same_rows_and_bytes() {
    let (_directory, path) = scratch();
    let mut events = one_of_each();
    session::resend_history(20, 5, &mut |event| events.push(event));
    // Several groups, one of them with no payload.
    events.extend(one_of_each().into_iter().filter(|event| !matches!(event.body, Body::Data(_))));
    let limits = Limits { group_bytes: 300_000, ..Limits::default() };
    assert!(write(&path, &events, limits).row_groups > 2);
    readers::assert_all_read(&path, &events);
}

#[test]
fn the_same_events_give_the_same_file() {
    let (_directory, path) = scratch();
    let file = |path| {
        write(path, &one_of_each(), Limits { group_bytes: 5000, ..Limits::default() });
        std::fs::read(path).unwrap()
    };
    assert!(file(&path) == file(&path));
}
