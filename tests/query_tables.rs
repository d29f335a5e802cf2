//! What the tables say of traces made here event by event, where the stored traces do not reach.
#![cfg(feature = "analyze")]

use std::fs::File;

use agentsight::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use agentsight::query::print::{Format, print};
use agentsight::query::{Options, Session};
use agentsight::time::WallNanos;
use agentsight::trace::{ClosingMetadata, Metadata, Writer};

/// A session over a trace with these events; the folder lives as long as the trace is needed.
fn session(events: &[Event]) -> (tempfile::TempDir, Session) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.parquet");
    let mut writer = Writer::create(File::create(&path).unwrap(), Metadata::default()).unwrap();
    events.iter().for_each(|event| writer.push(event.clone()).unwrap());
    writer.finish(ClosingMetadata::default()).unwrap();
    let session = Session::open(&[path], Options::default()).unwrap();
    (folder, session)
}

fn csv(session: &Session, sql: &str) -> String {
    let rows = session.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut text = Vec::new();
    print(rows, Format::Csv, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

const AGENT: ProcessId = ProcessId { pid: 7, start_ts: WallNanos(0) };

fn tls(ts: i64, conn_id: u64, direction: Direction, stream_offset: u64, data: &[u8]) -> Event {
    let body = Body::Data(StreamData {
        source: Source::Tls,
        conn_id,
        direction,
        stream_offset,
        data_bytes: data.len() as u64,
        lost_bytes: 0,
        data: data.to_vec(),
        library: "openssl".into(),
        fd: None,
        call_ts: vec![],
        call_bytes: vec![],
    });
    Event { ts: WallNanos(ts), process: Some(AGENT), tid: Some(7), comm: None, body }
}

#[test]
fn joined_calls_are_rows_of_their_own() {
    let mut event = tls(5, 1, Direction::Write, 10, b"abcdefg");
    if let Body::Data(tls) = &mut event.body {
        tls.call_ts = vec![WallNanos(5), WallNanos(8)];
        tls.call_bytes = vec![3, 4];
    }
    let (_folder, session) = session(&[event]);
    let sql = "SELECT ts, stream_offset, data_bytes, lost_bytes, body_text(data) AS data \
               FROM tls_chunks ORDER BY stream_offset";
    assert_eq!(
        csv(&session, sql),
        "ts,stream_offset,data_bytes,lost_bytes,data\n\
         1970-01-01T00:00:00.000000005Z,10,3,0,abc\n\
         1970-01-01T00:00:00.000000008Z,13,4,0,defg\n"
    );
    assert_eq!(csv(&session, "SELECT body_text(data) AS d FROM events"), "d\nabcdefg\n");
    assert_eq!(csv(&session, "SELECT count(*) AS n FROM tls_chunks"), "n\n2\n");
}

#[test]
fn a_connection_has_the_same_id_in_every_table() {
    let conn_id = u64::MAX - 1;
    let request = b"GET /a HTTP/1.1\r\nHost: h.example\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (_folder, session) = session(&[
        tls(1, conn_id, Direction::Write, 0, request),
        tls(2, conn_id, Direction::Read, 0, response),
    ]);
    let joined = "SELECT DISTINCT h.conn_id, h.status FROM http AS h \
                  JOIN events AS e ON e.conn_id = h.conn_id \
                  JOIN tls_chunks AS c ON c.conn_id = h.conn_id";
    assert_eq!(csv(&session, joined), "conn_id,status\n-2,200\n");
}

#[test]
fn bodies_and_headers_are_easy_to_take_apart() {
    let request = b"POST /v1 HTTP/1.1\r\nHost: h.example\r\nX-A: 1\r\nx-a: 2\r\n\
                    Content-Length: 13\r\n\r\n{\"model\":\"m\"}";
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfeA";
    let (_folder, session) = session(&[
        tls(1_000_000, 1, Direction::Write, 0, request),
        tls(3_500_000, 1, Direction::Read, 0, response),
    ]);
    let sql = "SELECT request_headers->>'x-a' AS a, \
               json_get_str(body_text(request_body), 'model') AS model, \
               body_text(response_body) AS text, response_body AS bytes, duration_ms FROM http";
    assert_eq!(
        csv(&session, sql),
        "a,model,text,bytes,duration_ms\n\"1, 2\",m,\u{fffd}\u{fffd}A,\\xff\\xfeA,2.5\n"
    );
    // The same row when bodies are not asked for, and without any column.
    assert_eq!(csv(&session, "SELECT response_body_bytes AS n FROM http"), "n\n3\n");
    assert_eq!(csv(&session, "SELECT count(*) AS n FROM http WHERE status = 200"), "n\n1\n");
}

#[test]
fn a_hole_in_a_stream_is_a_loss_with_its_place() {
    let (_folder, session) =
        session(&[tls(1, 1, Direction::Read, 0, b"abc"), tls(9, 1, Direction::Read, 10, b"def")]);
    let sql = "SELECT cause, lost_events, lost_bytes, direction, stream_offset FROM losses";
    assert_eq!(
        csv(&session, sql),
        "cause,lost_events,lost_bytes,direction,stream_offset\ngap,,7,read,3\n"
    );
}

#[test]
fn the_documentation_in_sql_is_that_of_the_tables() {
    let (_folder, session) = session(&[]);
    let documented = "SELECT \"table\", \"column\" FROM docs ORDER BY 1, 2";
    let existing = "SELECT table_name AS \"table\", column_name AS \"column\" \
                    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2";
    assert_eq!(csv(&session, documented), csv(&session, existing));
}

#[test]
fn an_unfinished_query_can_be_dropped() {
    let events: Vec<_> = (0..5000_u64)
        .map(|at| tls(at as i64, at, Direction::Write, 0, b"some payload that goes on"))
        .collect();
    let (_folder, session) = session(&events);
    let mut rows = session.sql("SELECT * FROM tls_chunks").unwrap();
    assert!(rows.next().unwrap().unwrap().num_rows() > 0);
    drop(rows);
    assert_eq!(csv(&session, "SELECT pid FROM tls_chunks LIMIT 1"), "pid\n7\n");
}
