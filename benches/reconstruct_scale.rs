//! Whether reconstruction stays linear and small: `cargo bench --no-default-features --bench
//! reconstruct_scale [-- GB...]` (1, 3 and 10 GB unless told otherwise).
//!
//! The input is made on the fly and never stored: agents whose every request carries the whole
//! history again, four sessions side by side, each starting anew after 200 turns. Prints MB of
//! plaintext per second, and the largest memory use of the process up to there; the generator's own
//! share of the time is measured apart and left out.

use std::time::{Duration, Instant};

use agentsight::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use agentsight::reconstruct::finding::Finding;
use agentsight::reconstruct::{Options, Reconstructor};
use agentsight::time::WallNanos;

/// Bytes of one call of the TLS library when writing.
const CALL_BYTES: usize = 16 << 10;
/// Text added to a history by each turn.
const TURN_BYTES: usize = 8_000;
/// Turns of a session.
const TURNS: u64 = 200;
/// Sessions side by side.
const SESSIONS: u64 = 4;
/// Deltas of an answer.
const DELTAS: u64 = 60;

fn main() {
    let asked = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let mut sizes: Vec<f64> = asked.collect();
    if sizes.is_empty() {
        // `cargo test` runs benchmarks too, to see that they run.
        let is_bench = std::env::args().any(|argument| argument == "--bench");
        sizes = if is_bench { vec![1.0, 3.0, 10.0] } else { vec![0.02] };
    }
    for gigabytes in sizes {
        measure((gigabytes * 1e9) as u64);
    }
}

/// What came out.
#[derive(Default)]
struct Counts {
    exchanges: u64,
    stream_events: u64,
    calls: u64,
    blocks: u64,
}

fn measure(bytes: u64) {
    let mut reconstructor = Reconstructor::new(Options::default());
    let mut counts = Counts::default();
    let mut count = |finding: Finding| match finding {
        Finding::Exchange(_) => counts.exchanges += 1,
        Finding::StreamEvent(_) => counts.stream_events += 1,
        Finding::LlmCall(_) => counts.calls += 1,
        Finding::Block(_) => counts.blocks += 1,
        _ => {}
    };
    let mut busy = Duration::ZERO;
    let mut events = 0_u64;
    let mut sessions: Vec<Session> = (0..SESSIONS).map(Session::new).collect();
    let mut made = 0;
    let mut batch = Vec::new();
    while made < bytes {
        for session in &mut sessions {
            session.turn(&mut batch);
        }
        made += batch.iter().map(data_bytes).sum::<u64>();
        events += batch.len() as u64;
        let started = Instant::now();
        for event in &batch {
            reconstructor.push(event, &mut count);
        }
        busy += started.elapsed();
        batch.clear();
    }
    let started = Instant::now();
    reconstructor.finish(&mut count);
    busy += started.elapsed();
    let Counts { exchanges, stream_events, calls, blocks } = counts;
    eprintln!(
        "{:.1} GB in {events} events: {:.1} s, {:.0} MB/s, peak {} MiB; {exchanges} exchanges, \
         {stream_events} stream events, {calls} calls, {blocks} blocks",
        made as f64 / 1e9,
        busy.as_secs_f64(),
        made as f64 / 1e6 / busy.as_secs_f64(),
        peak_mib().map_or("?".to_owned(), |mib| mib.to_string()),
    );
}

/// The largest memory use of this process so far.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn data_bytes(event: &Event) -> u64 {
    match &event.body {
        Body::Data(data) => data.data.len() as u64,
        _ => 0,
    }
}

/// An agent that sends its history again with every turn, over one connection after another.
struct Session {
    number: u64,
    turn: u64,
    conn_id: u64,
    now: i64,
    history: String,
    /// Bytes so far, read and written.
    sent: [u64; 2],
    random: u64,
}

impl Session {
    fn new(number: u64) -> Self {
        Self {
            number,
            turn: 0,
            conn_id: number + 1,
            now: 1_800_000_000_000_000_000,
            history: String::new(),
            sent: [0; 2],
            random: number + 1,
        }
    }

    /// The calls of one request and its answer.
    fn turn(&mut self, events: &mut Vec<Event>) {
        if self.turn == TURNS {
            events.push(self.event(Body::TlsClose { conn_id: self.conn_id }));
            let conn_id = self.conn_id + SESSIONS;
            let (now, random) = (self.now, self.random);
            *self = Self { conn_id, now, random, ..Self::new(self.number) };
        }
        self.turn += 1;
        self.add("user");
        let body = format!(
            r#"{{"model":"model-a","stream":true,"max_tokens":9000,"messages":[{}]}}"#,
            self.history
        );
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: api.anthropic.com\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        for call in [head.as_bytes(), body.as_bytes()].concat().chunks(CALL_BYTES) {
            self.call(Direction::Write, call, events);
        }
        self.answer(events);
        self.add("assistant");
    }

    /// Adds a message to the history.
    fn add(&mut self, role: &str) {
        let mut text = String::with_capacity(TURN_BYTES / 2 + 32);
        while text.len() < TURN_BYTES / 2 {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            const WORDS: [&str; 6] = ["let ", "mut ", "fn ", "\\\"text\\\" ", "value_", "\\n    "];
            text.push_str(WORDS[(self.random >> 40) as usize % 6]);
            text.push_str(&(self.random >> 44).to_string());
            text.push(' ');
        }
        let comma = if self.history.is_empty() { "" } else { "," };
        let content = format!(r#"[{{"type":"text","text":"{text}"}}]"#);
        self.history.push_str(&format!(r#"{comma}{{"role":"{role}","content":{content}}}"#));
    }

    fn answer(&mut self, events: &mut Vec<Event>) {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        self.call(Direction::Read, head.as_bytes(), events);
        let usage = r#"{"input_tokens":9,"cache_read_input_tokens":90000,"output_tokens":1}"#;
        let id = format!("msg_{}_{}", self.conn_id, self.turn);
        let message = format!(r#"{{"id":"{id}","model":"model-a","usage":{usage}}}"#);
        self.stream_event("message_start", &format!(r#""message":{message}"#), events);
        let block = r#""index":0,"content_block":{"type":"text","text":""}"#;
        self.stream_event("content_block_start", block, events);
        for number in 0..DELTAS {
            let delta = format!(r#"{{"type":"text_delta","text":"word {number} of the answer "}}"#);
            let data = format!(r#""index":0,"delta":{delta}"#);
            self.stream_event("content_block_delta", &data, events);
        }
        self.stream_event("content_block_stop", r#""index":0"#, events);
        let end = r#""delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":200}"#;
        self.stream_event("message_delta", end, events);
        self.call(Direction::Read, b"0\r\n\r\n", events);
    }

    fn stream_event(&mut self, name: &str, fields: &str, events: &mut Vec<Event>) {
        let text = format!("event: {name}\ndata: {{\"type\":\"{name}\",{fields}}}\n\n");
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.call(Direction::Read, chunk.as_bytes(), events);
    }

    fn call(&mut self, direction: Direction, bytes: &[u8], events: &mut Vec<Event>) {
        self.now += 1_000_000;
        let sent = &mut self.sent[usize::from(direction == Direction::Write)];
        let stream_offset = *sent;
        *sent += bytes.len() as u64;
        let body = Body::Data(StreamData {
            source: Source::Tls,
            conn_id: self.conn_id,
            direction,
            stream_offset,
            data_bytes: bytes.len() as u64,
            lost_bytes: 0,
            data: bytes.to_vec(),
            library: "boringssl".to_owned(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        });
        events.push(self.event(body));
    }

    fn event(&self, body: Body) -> Event {
        let pid = 100 + self.number as u32;
        Event {
            ts: WallNanos(self.now),
            process: Some(ProcessId { pid, start_ts: WallNanos(1) }),
            tid: Some(pid),
            comm: None,
            body,
        }
    }
}
