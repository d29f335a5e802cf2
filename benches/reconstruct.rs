//! How fast reconstruction is: `cargo bench --no-default-features --bench reconstruct`.
//!
//! The input is generated: a session that sends its whole history again with every request, as
//! agents do, and reads a streamed answer each time. Events are as large as the recorder makes
//! them (16 KiB writes, one read per stream event). Prints MB per second of plaintext; there is
//! no target, compare runs on one machine.

use std::time::Instant;

use agentsight::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use agentsight::reconstruct::finding::Finding;
use agentsight::reconstruct::{Options, Reconstructor};
use agentsight::time::WallNanos;

/// Plaintext generated.
const SESSION_BYTES: usize = 100_000_000;
/// Bytes of one call of the TLS library when writing.
const CALL_BYTES: usize = 16 << 10;
/// Text added to the history by each turn.
const TURN_BYTES: usize = 40_000;

fn main() {
    let events = session();
    let bytes: usize = events.iter().map(data_bytes).sum();
    for keep_bodies in [false, true] {
        let mut best_ms = f64::INFINITY;
        let mut counts = (0, 0, 0);
        for _ in 0..3 {
            let started = Instant::now();
            counts = run(&events, keep_bodies);
            best_ms = best_ms.min(started.elapsed().as_secs_f64() * 1e3);
        }
        let mb_per_second = bytes as f64 / 1e3 / best_ms;
        let (exchanges, stream_events, calls) = counts;
        eprintln!(
            "keep_bodies={keep_bodies}: {bytes} bytes in {} events, {best_ms:.0} ms, \
             {mb_per_second:.0} MB/s; {exchanges} exchanges, {stream_events} stream events, \
             {calls} calls",
            events.len(),
        );
    }
}

fn data_bytes(event: &Event) -> usize {
    match &event.body {
        Body::Data(data) => data.data.len(),
        _ => 0,
    }
}

fn run(events: &[Event], keep_bodies: bool) -> (u64, u64, u64) {
    let mut counts = (0, 0, 0);
    let mut count = |finding: Finding| match finding {
        Finding::Exchange(_) => counts.0 += 1,
        Finding::StreamEvent(_) => counts.1 += 1,
        Finding::LlmCall(_) => counts.2 += 1,
        _ => {}
    };
    let mut reconstructor = Reconstructor::new(Options { keep_bodies, ..Options::default() });
    for event in events {
        reconstructor.push(event, &mut count);
    }
    reconstructor.finish(&mut count);
    counts
}

/// One connection over which history is sent until [`SESSION_BYTES`] went through.
fn session() -> Vec<Event> {
    let mut recording =
        Recording { events: Vec::new(), now: 1_800_000_000_000_000_000, sent: [0; 2] };
    let mut history = String::new();
    let mut turn = 0_u64;
    while recording.sent.iter().sum::<u64>() < SESSION_BYTES as u64 {
        turn += 1;
        history.push_str(&message(turn));
        let body = format!(r#"{{"messages":[{history}{{}}],"model":"model-a","stream":true}}"#);
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: api.anthropic.com\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        for call in [head.as_bytes(), body.as_bytes()].concat().chunks(CALL_BYTES) {
            recording.call(Direction::Write, call);
        }
        answer(&mut recording);
    }
    recording.events
}

fn message(turn: u64) -> String {
    // Words with quotes and line ends, escaped as JSON has them.
    let mut text = String::new();
    let mut state = turn;
    while text.len() < TURN_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(
            ["let ", "mut ", "fn ", "\\\"text\\\" ", "value_", "\\n    "]
                [(state >> 40) as usize % 6],
        );
        text.push_str(&(state >> 44).to_string());
        text.push(' ');
    }
    format!(r#"{{"role":"user","content":"{text}"}},"#)
}

fn answer(recording: &mut Recording) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n";
    recording.call(Direction::Read, head.as_bytes());
    let usage = r#"{"input_tokens":9,"output_tokens":1}"#;
    let start =
        format!(r#"{{"type":"message_start","message":{{"id":"m","model":"a","usage":{usage}}}}}"#);
    recording.event("message_start", &start);
    for number in 0..200 {
        let delta = format!(r#"{{"type":"text_delta","text":"word {number}"}}"#);
        let data = format!(r#"{{"type":"content_block_delta","index":0,"delta":{delta}}}"#);
        recording.event("content_block_delta", &data);
    }
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":200}}"#;
    recording.event("message_delta", end);
    recording.call(Direction::Read, b"0\r\n\r\n");
}

struct Recording {
    events: Vec<Event>,
    now: i64,
    /// Bytes so far, read and written.
    sent: [u64; 2],
}

impl Recording {
    fn event(&mut self, name: &str, data: &str) {
        let text = format!("event: {name}\ndata: {data}\n\n");
        self.call(Direction::Read, format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    }

    fn call(&mut self, direction: Direction, bytes: &[u8]) {
        self.now += 1_000_000;
        let sent = &mut self.sent[usize::from(direction == Direction::Write)];
        let data = StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction,
            stream_offset: *sent,
            data_bytes: bytes.len() as u64,
            lost_bytes: 0,
            data: bytes.to_vec(),
            library: "boringssl".to_owned(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        };
        *sent += bytes.len() as u64;
        self.events.push(Event {
            ts: WallNanos(self.now),
            process: Some(ProcessId { pid: 1, start_ts: WallNanos(1) }),
            tid: Some(1),
            comm: None,
            body: Body::Data(data),
        });
    }
}
