//! The trace against the truth.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};

use super::support::mock::truth::{Exchange, Truth};
use super::trace::Trace;

/// How far a time in the trace may be from the server's: both run on one machine and one clock,
/// but the server and the client take turns on its processors.
const TOLERANCE_MS: i64 = 150;

/// A part of what was served that a recording must hold, bytes and all.
pub struct Expected {
    /// Plaintext of each connection, seen from the client.
    connections: Vec<Served>,
    /// Its exchanges, in the order their requests ended.
    exchanges: Vec<Exchange>,
    /// Restricts tables that have a `pid` to the client.
    of_client: String,
}

/// What went over one connection.
struct Served {
    written: Vec<u8>,
    read: Vec<u8>,
    /// Where the heads of the requests stand in `written`.
    heads: Vec<Range<usize>>,
    /// Where in these the credentials stand that must not be recorded.
    hidden: Vec<Range<usize>>,
}

impl Served {
    /// Whether a recorded connection is this one: every byte of it, but for what is hidden, of
    /// which nothing may be left.
    fn is_recorded_by(&self, (written, read): &(Vec<u8>, Vec<u8>)) -> bool {
        if written.len() != self.written.len() || *read != self.read {
            return false;
        }
        let masked = |stream: &[u8]| {
            let mut masked = stream.to_vec();
            self.hidden.iter().for_each(|range| masked[range.clone()].fill(b'*'));
            masked
        };
        let replaced = |range: &Range<usize>| {
            let now = &written[range.clone()];
            now != &self.written[range.clone()]
                && now.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        };
        masked(written) == masked(&self.written) && self.hidden.iter().all(replaced)
    }
}

impl Expected {
    /// Everything that was served.
    pub fn all(truth: &Truth) -> Self {
        Self::after(truth, 0)
    }

    /// What was served from that exchange of every connection on: what a recording can hold that
    /// began between two exchanges.
    pub fn after(truth: &Truth, exchanges_before: usize) -> Self {
        Self::from(truth, |_| exchanges_before)
    }

    /// What was served from the exchange on that `first` names for each connection, by its id.
    pub fn from(truth: &Truth, first: impl Fn(usize) -> usize) -> Self {
        let of_client = "pid is not null".to_owned();
        let mut expected = Self { connections: Vec::new(), exchanges: Vec::new(), of_client };
        for connection in &truth.connections {
            assert_eq!(connection.received.kept.len() as u64, connection.received.bytes);
            let exchanges = connection.exchanges.get(first(connection.id)..).unwrap_or_default();
            let Some(start) = exchanges.first() else { continue };
            let written = &connection.received.kept[start.request_offset as usize..];
            let read = &connection.sent.kept[start.response_offset as usize..];
            let head = |exchange: &Exchange| {
                let from = (exchange.request_offset - start.request_offset) as usize;
                let length = memchr::memmem::find(&written[from..], b"\r\n\r\n").unwrap();
                from..from + length
            };
            expected.connections.push(Served {
                written: written.to_vec(),
                read: read.to_vec(),
                heads: exchanges.iter().map(head).collect(),
                hidden: Vec::new(),
            });
            expected.exchanges.extend(exchanges.iter().cloned());
        }
        expected.exchanges.sort_by_key(|exchange| exchange.request_end_ts);
        expected
    }

    /// The same, leaving out of the trace what other processes did: an agent recorded by its name
    /// may not be the only one on the host.
    pub fn by(mut self, pid: u32) -> Self {
        self.of_client = format!("pid = {pid}");
        self
    }

    /// The same, where the recording must hold something else, of the same length, in place of
    /// these credentials in the heads of requests. It must hold them everywhere else.
    pub fn hiding(mut self, secrets: &[&str]) -> Self {
        for connection in &mut self.connections {
            for head in &connection.heads {
                for secret in secrets {
                    let found = memchr::memmem::find_iter(
                        &connection.written[head.clone()],
                        secret.as_bytes(),
                    );
                    let places = found.map(|at| head.start + at..head.start + at + secret.len());
                    connection.hidden.extend(places);
                }
            }
        }
        let sent = self.connections.iter().any(|connection| !connection.hidden.is_empty());
        assert!(sent, "no credential was sent");
        self
    }

    fn calls(&self) -> Vec<&Exchange> {
        self.exchanges.iter().filter(|exchange| exchange.api.is_some()).collect()
    }

    /// Holds all of it against a trace: bytes, HTTP, tokens, times, and that nothing was lost.
    #[track_caller]
    pub fn check(&self, trace: &Trace) {
        nothing_lost(trace);
        self.check_plaintext(trace);
        self.check_http(trace);
        self.check_calls(trace);
        self.check_times(trace);
    }

    /// Every connection was recorded whole, and no other.
    #[track_caller]
    pub fn check_plaintext(&self, trace: &Trace) {
        let recorded: Vec<_> = recorded_connections(trace, &self.of_client).into_values().collect();
        let mut left = recorded.clone();
        let missing = self.connections.iter().filter(|served| {
            let found = left.iter().position(|recorded| served.is_recorded_by(recorded));
            found.map(|index| left.swap_remove(index)).is_none()
        });
        if missing.count() > 0 || !left.is_empty() {
            let differences = differences(&self.connections, &recorded);
            panic!("plaintext differs:\n{differences}{}", trace.summary());
        }
    }

    /// The HTTP exchanges are those the server saw.
    #[track_caller]
    pub fn check_http(&self, trace: &Trace) {
        let rows = trace.rows(&format!(
            "select method, path, status, request_wire_bytes, response_wire_bytes, \
             request_body_bytes, response_body_bytes, complete, lost_bytes \
             from http where {} order by request_end_ts, http_id",
            self.of_client
        ));
        let row = |exchange: &Exchange| {
            json!({
                "method": exchange.method,
                "path": exchange.target,
                "status": exchange.known_status(),
                "request_wire_bytes": exchange.request_wire_bytes,
                "response_wire_bytes": exchange.response_wire_bytes,
                "request_body_bytes": exchange.request_body_bytes,
                "response_body_bytes": exchange.response_body_bytes,
                "complete": exchange.complete,
                "lost_bytes": 0,
            })
        };
        assert_rows(&rows, &self.exchanges.iter().map(row).collect::<Vec<_>>(), trace);
    }

    /// The calls of models have the tokens that the server sent.
    #[track_caller]
    pub fn check_calls(&self, trace: &Trace) {
        let rows = self.recorded_calls(trace);
        let served: Vec<Value> = self.calls().into_iter().map(call_row).collect();
        assert_rows(&rows, &served, trace);
    }

    /// The same for clients that do not read every answer to its end: the body of a refusal is
    /// nothing to those that try again, nor is what follows an error or the last event of a stream.
    /// Then the connection is closed, and what was not read is not in the recording.
    #[track_caller]
    pub fn check_counts(&self, trace: &Trace) {
        let mut rows = self.recorded_calls(trace);
        let reasons = trace.rows(&format!(
            "select completeness_reason from llm_calls where {} order by request_end_ts, call_id",
            self.of_client
        ));
        let calls = self.calls();
        for ((row, reason), call) in rows.iter_mut().zip(&reasons).zip(&calls) {
            let may_leave = call.streamed || call.error_type.is_some();
            let left = row["complete"] == false && reason["completeness_reason"] == "closed";
            if may_leave && left && call.complete {
                row["complete"] = true.into();
                if call.status >= 400 && row["error_type"].is_null() {
                    row["error_type"] = json!(call.error_type);
                }
            }
        }
        let served: Vec<Value> = calls.into_iter().map(call_row).collect();
        assert_rows(&rows, &served, trace);
    }

    #[track_caller]
    fn recorded_calls(&self, trace: &Trace) -> Vec<Value> {
        trace.rows(&format!(
            "select api, transport, status, request_model, model, stop_reason, input_tokens, \
             cache_read_tokens, cache_creation_tokens, output_tokens, reasoning_tokens, \
             usage_state, error_type, complete \
             from llm_calls where {} order by request_end_ts, call_id",
            self.of_client
        ))
    }

    /// The times of the calls are the server's, within the tolerance.
    #[track_caller]
    pub fn check_times(&self, trace: &Trace) {
        let rows = trace.rows(&format!(
            "select cast(request_end_ts as bigint) as request_end, \
             cast(first_byte_ts as bigint) as first_byte, \
             cast(first_token_ts as bigint) as first_token, cast(end_ts as bigint) as end \
             from llm_calls where {} order by request_end_ts, call_id",
            self.of_client
        ));
        for (row, call) in rows.iter().zip(self.calls()) {
            let times = [
                ("request_end", Some(call.request_end_ts)),
                ("first_byte", call.first_byte_ts),
                ("first_token", call.first_token_ts),
                ("end", call.end_ts),
            ];
            // What the server did not come to has no time; documents have no first token.
            for (name, served) in times {
                let Some(served) = served else { continue };
                let recorded = row[name].as_i64().unwrap_or_else(|| panic!("no {name} in {row}"));
                assert_close(recorded, served, &format!("{name} of {row}"));
            }
        }
        self.check_event_times(trace);
    }

    /// Every event of every stream is there, at its time.
    #[track_caller]
    fn check_event_times(&self, trace: &Trace) {
        let rows = trace.rows(&format!(
            "select cast(stream_events.ts as bigint) as ts from stream_events \
             join (select * from http where {}) as asked on stream_events.http_id = asked.http_id \
             order by asked.request_end_ts, asked.http_id, stream_events.seq",
            self.of_client
        ));
        let served: Vec<i64> = self.exchanges.iter().flat_map(|e| e.event_ts.clone()).collect();
        assert_eq!(rows.len(), served.len(), "stream events{}", trace.summary());
        for (index, (row, served)) in rows.iter().zip(served).enumerate() {
            assert_close(row["ts"].as_i64().unwrap(), served, &format!("stream event {index}"));
        }
    }
}

/// A call as table `llm_calls` is to have it.
fn call_row(call: &Exchange) -> Value {
    let usage = call.usage.as_ref();
    json!({
        "api": call.api,
        "transport": transport(call),
        "status": call.known_status(),
        "request_model": call.request_model,
        "model": call.model,
        "stop_reason": call.stop_reason,
        "input_tokens": usage.map(|usage| usage.input_tokens),
        "cache_read_tokens": usage.and_then(|usage| usage.cache_read_tokens),
        "cache_creation_tokens": usage.and_then(|usage| usage.cache_creation_tokens),
        "output_tokens": usage.map(|usage| usage.output_tokens),
        "reasoning_tokens": usage.and_then(|usage| usage.reasoning_tokens),
        "usage_state": call.usage_state(),
        "error_type": call.error_type,
        "complete": call.complete,
    })
}

/// The value of column `transport`.
fn transport(call: &Exchange) -> &'static str {
    match call.method.as_str() {
        "WS" => "websocket",
        _ if call.streamed => "sse",
        _ => "http",
    }
}

/// The recorder lost nothing.
#[track_caller]
pub fn nothing_lost(trace: &Trace) {
    let lost = trace.rows("select event_class, cause, lost_events, lost_bytes from losses");
    assert!(lost.is_empty(), "lost: {lost:?}{}", trace.summary());
}

/// Plaintext `(written, read)` of every connection of a trace, its chunks checked to join.
#[track_caller]
pub fn recorded_connections(
    trace: &Trace,
    of_client: &str,
) -> BTreeMap<String, (Vec<u8>, Vec<u8>)> {
    let rows = trace.rows(&format!(
        "select cast(conn_id as varchar) as conn_id, direction, stream_offset, data_bytes, \
         lost_bytes, encode(data, 'hex') as data from tls_chunks \
         where {of_client} order by conn_id, direction, stream_offset",
    ));
    let mut connections = BTreeMap::<String, (Vec<u8>, Vec<u8>)>::new();
    for row in rows {
        let connection = connections.entry(row["conn_id"].as_str().unwrap().into()).or_default();
        let stream = match row["direction"].as_str() {
            Some("write") => &mut connection.0,
            Some("read") => &mut connection.1,
            other => panic!("direction is {other:?}"),
        };
        assert_eq!(row["stream_offset"].as_u64(), Some(stream.len() as u64), "chunks do not join");
        assert_eq!(row["lost_bytes"].as_u64(), Some(0), "bytes were lost");
        let before = stream.len();
        stream.extend(from_hex(row["data"].as_str().unwrap()));
        assert_eq!(row["data_bytes"].as_u64(), Some((stream.len() - before) as u64));
    }
    connections
}

/// What differs between connections served and recorded, for a person.
fn differences(served: &[Served], recorded: &[(Vec<u8>, Vec<u8>)]) -> String {
    let shared = |a: &[u8], b: &[u8]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let mut report = String::new();
    for Served { written, read, .. } in served {
        let closest = recorded.iter().max_by_key(|(w, r)| shared(w, written) + shared(r, read));
        let Some((w, r)) = closest else {
            report.push_str("nothing was recorded\n");
            continue;
        };
        report.push_str(&format!(
            "written: served {}, recorded {}, equal for {}; read: served {}, recorded {}, equal for {}\n",
            written.len(), w.len(), shared(w, written), read.len(), r.len(), shared(r, read),
        ));
    }
    report.push_str(&format!("{} connections served, {} recorded\n", served.len(), recorded.len()));
    report
}

#[track_caller]
fn assert_close(recorded: i64, served: i64, what: &str) {
    let off_ms = (recorded - served) / 1_000_000;
    assert!(off_ms.abs() <= TOLERANCE_MS, "{what} is {off_ms} ms off");
}

#[track_caller]
fn assert_rows(recorded: &[Value], served: &[Value], trace: &Trace) {
    if recorded != served {
        let lines =
            |rows: &[Value]| rows.iter().map(|row| format!("  {row}\n")).collect::<String>();
        panic!("served:\n{}recorded:\n{}{}", lines(served), lines(recorded), trace.summary());
    }
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
