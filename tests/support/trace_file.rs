//! Trace files for tests: how to write one, read it back, and one event of every kind.

#![allow(dead_code, reason = "each program that includes it uses a part")]

use std::path::{Path, PathBuf};

use agentsight::event::{
    Body, Channel, ChannelType, Confidence, Direction, Event, Exit, FileAccess, FileOp, Fork,
    Image, Loss, OpenOperation, PathOperation, Probe, ProbeState, ProcessId, Role, Sample, Source,
    StreamData, TlsSocket,
};
use agentsight::time::{BootNanos, ClockAnchor, WallNanos};
use agentsight::trace::{self, ClosingMetadata, Host, Limits, Metadata, Reader, Writer};

use super::session::{Random, START};

pub(crate) fn metadata() -> Metadata {
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
            ..Host::default()
        },
        clock_anchors: vec![ClockAnchor::new(BootNanos(5), WallNanos(START))],
        filters: vec!["-c claude".to_owned()],
        redaction: "none".to_owned(),
    }
}

pub(crate) fn closing() -> ClosingMetadata {
    ClosingMetadata {
        stop_ts: WallNanos(START + 1),
        stop_reason: "signal".to_owned(),
        clock_anchors: Vec::new(),
    }
}

pub(crate) fn write(path: &Path, events: &[Event], limits: Limits) -> trace::Summary {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = Writer::with_limits(file, metadata(), limits).unwrap();
    events.iter().for_each(|event| writer.push(event.clone()).unwrap());
    writer.finish(closing()).unwrap()
}

pub(crate) fn read(path: &Path) -> Vec<Event> {
    let reader = Reader::open(path).unwrap();
    let events = reader.events(None).collect::<Result<_, _>>().unwrap();
    assert_eq!(reader.skipped(), trace::Skipped::default());
    events
}

pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    (directory, path)
}

pub(crate) fn tls(
    ts: i64,
    conn_id: u64,
    direction: Direction,
    stream_offset: u64,
    data: &[u8],
) -> Event {
    Event {
        ts: WallNanos(START + ts),
        process: Some(ProcessId { pid: 42, start_ts: WallNanos(START - 1_000_000_000) }),
        tid: Some(43),
        comm: Some("agent".to_owned()),
        body: Body::Data(StreamData {
            source: Source::Tls,
            conn_id,
            direction,
            stream_offset,
            data_bytes: data.len() as u64,
            lost_bytes: 0,
            data: data.to_vec(),
            library: "openssl".to_owned(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }),
    }
}

/// One event of every kind, and payload of several chunks.
pub(crate) fn one_of_each() -> Vec<Event> {
    let about = |ts: i64, body: Body| Event { body, ..tls(ts, 0, Direction::Read, 0, b"") };
    let image = Image {
        ppid: 1,
        exe: Some("/usr/bin/agent".to_owned()),
        argv: vec!["agent".to_owned(), "--print".to_owned(), String::new()],
        ..Image::default()
    };
    let text = Random::new(3).text(30_000);
    let mut events = vec![
        about(0, Body::ProcessSeen(image.clone())),
        about(1, Body::ProcessFork(Fork { ppid: 42, uid: 1000 })),
        about(2, Body::ProcessExec(image)),
        tls(3, 9, Direction::Write, 0, text.as_bytes()),
        about(4, Body::Sample(Sample { cpu_percent: Some(12.5), ..Sample::default() })),
        tls(5, 9, Direction::Read, 0, b"HTTP/1.1 200 OK\r\n\r\n"),
        about(6, Body::TlsClose { conn_id: 9 }),
        about(7, Body::ProcessExit(Exit { exit_code: Some(0), ..Exit::default() })),
        Event {
            process: None,
            tid: None,
            comm: None,
            ..about(
                8,
                Body::Loss(Loss {
                    first_ts: WallNanos(START),
                    event_class: "tls_data".to_owned(),
                    cause: "ring_full".to_owned(),
                    lost_events: 2,
                    lost_bytes: 99,
                    conn_id: None,
                }),
            )
        },
        about(
            9,
            Body::Probe(Probe {
                path: "/usr/bin/agent".to_owned(),
                library: Some("boringssl".to_owned()),
                state: ProbeState::Attached,
                detail: "SSL_read@0x10".to_owned(),
                build_id: None,
            }),
        ),
        about(10, Body::RecorderSample(Sample::default())),
    ];
    let bodies = channels_and_files();
    events.extend(bodies.into_iter().zip(11..).map(|(body, ts)| about(ts, body)));
    events
}

/// What is done with sockets, pipes and files, one of every kind.
fn channels_and_files() -> Vec<Body> {
    let channel = Channel {
        conn_id: 20,
        channel_type: ChannelType::Tcp,
        role: Role::Connect,
        fd: 7,
        local_addr: Some("127.0.0.1:40000".to_owned()),
        remote_addr: Some("127.0.0.1:443".to_owned()),
        errno: 0,
    };
    let data = |source, conn_id, direction, data: &[u8]| {
        Body::Data(StreamData {
            source,
            conn_id,
            direction,
            stream_offset: 0,
            data_bytes: data.len() as u64,
            lost_bytes: 0,
            data: data.to_vec(),
            library: String::new(),
            fd: Some(7),
            call_ts: vec![],
            call_bytes: vec![],
        })
    };
    vec![
        Body::ChannelOpen(channel),
        data(Source::TlsHello, 20, Direction::Write, &[22, 3, 1, 0, 1, 1]),
        Body::TlsSocket(TlsSocket {
            conn_id: 9,
            socket_conn_id: 20,
            confidence: Confidence::Certain,
        }),
        Body::ChannelClose { conn_id: 20, read_bytes: 900, written_bytes: 31_000 },
        data(Source::Socket, 21, Direction::Write, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"),
        data(Source::Stdio, 22, Direction::Read, b"{\"jsonrpc\":\"2.0\"}\n"),
        data(
            Source::Dns,
            23,
            Direction::Read,
            &[0, 1, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1],
        ),
        Body::FileOp(FileOp {
            operation: PathOperation::Rename,
            path: Some("/tmp/a".to_owned()),
            new_path: Some("/tmp/b".to_owned()),
        }),
        Body::FileAccess(FileAccess {
            path: Some("/tmp/a".to_owned()),
            operation: Some(OpenOperation::Create),
            flags: Some("O_WRONLY|O_CREAT".to_owned()),
            first_ts: WallNanos(START),
            open_count: 1,
            write_count: 2,
            written_bytes: 30,
            ..FileAccess::default()
        }),
    ]
}
