//! What the tables of connections, files and standard streams say of the stored trace that is about
//! them, and of connections made here.
//!
//! `UPDATE_GOLDEN=1 cargo test --test query_io` stores the tables anew.
#![cfg(feature = "analyze")]

#[path = "support/golden.rs"]
mod golden;
mod traces;

use std::fs::File;

use agentsight::event::{
    Body, Channel, ChannelType, Confidence, Direction, Event, ProcessId, Role, Source, StreamData,
    TlsSocket,
};
use agentsight::query::print::{Format, print};
use agentsight::query::{Options, Session};
use agentsight::time::WallNanos;
use agentsight::trace::{ClosingMetadata, Metadata, Writer};
use traces::STORED;

fn csv(session: &Session, sql: &str) -> String {
    let rows = session.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut text = Vec::new();
    print(rows, Format::Csv, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn local() -> Session {
    let stored = STORED.iter().find(|stored| stored.name == "local").unwrap();
    Session::open(&[stored.path()], Options::default()).unwrap()
}

#[test]
fn the_tables_of_the_stored_trace_are_those_that_are_stored() {
    let session = local();
    let whole = |table: &str| format!("SELECT * FROM {table}");
    let tables = [
        ("connections", whole("connections")),
        ("files", whole("files")),
        ("file_ops", whole("file_ops")),
        ("dns_answers", whole("dns_answers")),
        (
            "stdio_chunks",
            "SELECT pid, fd, direction, stream_offset, body_text(data) AS data, channel_type, \
             local_addr, remote_addr, peer_pid, peer_fd FROM stdio_chunks"
                .to_owned(),
        ),
        (
            "http",
            "SELECT http_id, conn_id, pid, role, scheme, host, path, status, complete, \
             completeness_reason, remote_addr, confidence FROM http"
                .to_owned(),
        ),
        (
            "tls_chunks",
            "SELECT conn_id, direction, data_bytes, remote_addr, confidence FROM tls_chunks"
                .to_owned(),
        ),
    ];
    let mut differences = Vec::new();
    for (name, sql) in tables {
        let made = csv(&session, &sql);
        differences.extend(golden::difference(&format!("tables/{name}.csv"), &made));
    }
    golden::assert_none(&differences);
}

#[test]
fn a_call_seen_from_both_ends_is_two_exchanges_and_one_call() {
    let session = local();
    let exchanges = "SELECT role, count(*) AS exchanges FROM http \
                     WHERE path = '/v1/chat/completions' GROUP BY role ORDER BY role";
    assert_eq!(csv(&session, exchanges), "role,exchanges\nclient,2\nserver,2\n");
    let calls = "SELECT c.pid, c.host, c.remote_addr, c.confidence, c.output_tokens, k.peer_conn_id \
                 FROM llm_calls AS c JOIN connections AS k ON k.conn_id = c.conn_id";
    let call = "4100,127.0.0.1:11434,127.0.0.1:11434,certain,9,1002\n";
    assert_eq!(
        csv(&session, calls),
        format!("pid,host,remote_addr,confidence,output_tokens,peer_conn_id\n{call}{call}")
    );
    let agents = "SELECT pid FROM processes WHERE is_agent ORDER BY pid";
    // The model server matched the recording's filters; it made no call.
    assert_eq!(csv(&session, agents), "pid\n4100\n4200\n");
}

#[test]
fn bodies_are_the_same_whether_asked_for_or_not() {
    let session = local();
    let sizes = "SELECT http_id, role, remote_addr, response_body_bytes AS bytes FROM http \
                 WHERE complete ORDER BY http_id";
    let bodies = "SELECT http_id, role, remote_addr, character_length(body_text(response_body)) AS bytes FROM http \
                  WHERE complete ORDER BY http_id";
    assert_eq!(csv(&session, sizes), csv(&session, bodies));
}

const AGENT: ProcessId = ProcessId { pid: 7, start_ts: WallNanos(0) };
const KIB: u64 = 1 << 10;

fn event(ts: i64, body: Body) -> Event {
    Event { ts: WallNanos(ts), process: Some(AGENT), tid: Some(7), comm: None, body }
}

fn data(ts: i64, source: Source, conn_id: u64, direction: Direction, bytes: &[u8]) -> Event {
    let data = StreamData {
        source,
        conn_id,
        direction,
        stream_offset: 0,
        data_bytes: bytes.len() as u64,
        lost_bytes: 0,
        data: bytes.to_vec(),
        library: if source == Source::Tls { "openssl".into() } else { String::new() },
        fd: None,
        call_ts: vec![],
        call_bytes: vec![],
    };
    event(ts, Body::Data(data))
}

/// A TLS connection by socket: opened, with a ClientHello, closed after `wire_bytes` were read.
fn tls_socket(conn_id: u64, wire_bytes: u64) -> [Event; 3] {
    let channel = Channel {
        conn_id,
        channel_type: ChannelType::Tcp,
        role: Role::Connect,
        fd: 4,
        local_addr: Some(format!("192.0.2.1:{conn_id}")),
        remote_addr: Some("192.0.2.2:443".into()),
        errno: 0,
    };
    let close = Body::ChannelClose { conn_id, read_bytes: wire_bytes, written_bytes: 0 };
    let hello = [22, 3, 1, 0, 1, 1];
    [
        event(1, Body::ChannelOpen(channel)),
        data(2, Source::TlsHello, conn_id, Direction::Write, &hello),
        event(9, close),
    ]
}

fn linked(conn_id: u64, socket_conn_id: u64) -> Event {
    let confidence = Confidence::Certain;
    event(3, Body::TlsSocket(TlsSocket { conn_id, socket_conn_id, confidence }))
}

/// Columns of `connections` over a trace with these events.
fn connections(mut events: Vec<Event>, columns: &str) -> String {
    events.sort_by_key(|event| event.ts);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.parquet");
    let mut writer = Writer::create(File::create(&path).unwrap(), Metadata::default()).unwrap();
    events.iter().for_each(|event| writer.push(event.clone()).unwrap());
    writer.finish(ClosingMetadata::default()).unwrap();
    let session = Session::open(&[path], Options::default()).unwrap();
    let text = csv(&session, &format!("SELECT {columns} FROM connections ORDER BY conn_id"));
    text.split_once('\n').unwrap().1.to_owned()
}

const ESTIMATE: &str = "conn_id, plaintext_read_bytes, missing_bytes, complete";

#[test]
fn plaintext_is_held_against_the_bytes_on_the_wire() {
    let plaintext = vec![7; 100 << 10];
    let of_wire = |wire_bytes| {
        let mut events = tls_socket(50, wire_bytes).to_vec();
        events.push(data(4, Source::Tls, 1, Direction::Read, &plaintext));
        events.push(linked(1, 50));
        connections(events, ESTIMATE)
    };
    // Records and a handshake take some room, but not that much.
    assert_eq!(of_wire(104 * KIB), "50,102400,0,true\n");
    assert_eq!(of_wire(110 * KIB), "50,102400,0,true\n");
    let explained = 102_400 + 40 * 101 + 16_384;
    assert_eq!(of_wire(200 * KIB), format!("50,102400,{},false\n", 200 * KIB - explained));
}

#[test]
fn no_plaintext_is_none_only_where_it_could_not_be_another_connections() {
    let mut events = [tls_socket(50, 100 * KIB), tls_socket(51, 3 * KIB)].concat();
    // Nothing went through a TLS library: both have none, of the small one nothing more is known.
    assert_eq!(connections(events.clone(), ESTIMATE), "50,0,86016,false\n51,0,0,\n");
    // There is plaintext that may be either's.
    events.push(data(4, Source::Tls, 1, Direction::Read, b"some"));
    assert_eq!(connections(events.clone(), ESTIMATE), "1,4,0,\n50,,,\n51,,,\n");
    // It is the second's.
    events.push(linked(1, 51));
    assert_eq!(connections(events, ESTIMATE), "50,0,86016,false\n51,4,0,true\n");
}

#[test]
fn tls_connections_that_share_a_socket_have_a_row_each() {
    let mut events = tls_socket(50, 9 * KIB).to_vec();
    for (ts, conn_id) in [(4, 1), (5, 2)] {
        events.push(data(ts, Source::Tls, conn_id, Direction::Read, b"text"));
        events.push(linked(conn_id, 50));
    }
    let columns = "conn_id, tls_conn_id, remote_addr, read_bytes, plaintext_read_bytes";
    assert_eq!(connections(events, columns), "2,2,192.0.2.2:443,,4\n50,1,192.0.2.2:443,9216,4\n");
}
