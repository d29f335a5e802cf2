//! The truth of a server as the events that a recording of its clients would hold.

use agentsight::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use agentsight::time::WallNanos;

use super::support::mock::truth::{Connection, Plaintext, Truth};

/// The process that all clients are.
pub const CLIENT: ProcessId = ProcessId { pid: 4242, start_ts: WallNanos(1) };

/// The events of every connection, in the order of their times.
pub fn of(truth: &Truth) -> Vec<Event> {
    let mut events = Vec::new();
    for connection in &truth.connections {
        let conn_id = connection.id as u64 + 1;
        stream(conn_id, Direction::Write, &connection.received, &mut events);
        stream(conn_id, Direction::Read, &connection.sent, &mut events);
        events.extend(close(conn_id, connection));
    }
    // Stable: what has one time stays in the order of its stream.
    events.sort_by_key(|event| event.ts);
    events
}

/// Each call of the server's TLS library as one of the client's.
fn stream(conn_id: u64, direction: Direction, plaintext: &Plaintext, events: &mut Vec<Event>) {
    let mut start = 0;
    for (end, ts) in &plaintext.calls {
        let data = plaintext.kept[start..*end].to_vec();
        events.push(event(
            *ts,
            Body::Data(StreamData {
                source: Source::Tls,
                conn_id,
                direction,
                stream_offset: start as u64,
                data_bytes: data.len() as u64,
                lost_bytes: 0,
                data,
                library: "openssl".into(),
                fd: None,
                call_ts: Vec::new(),
                call_bytes: Vec::new(),
            }),
        ));
        start = *end;
    }
    assert_eq!(start, plaintext.kept.len(), "the plaintext is kept whole");
}

fn close(conn_id: u64, connection: &Connection) -> Option<Event> {
    connection.closed_ts.map(|ts| event(ts, Body::TlsClose { conn_id }))
}

fn event(ts: i64, body: Body) -> Event {
    let comm = Some("client".to_owned());
    Event { ts: WallNanos(ts), process: Some(CLIENT), tid: Some(4242), comm, body }
}
