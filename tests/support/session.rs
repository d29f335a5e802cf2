//! A made-up agent session, as large as wanted: every turn sends the whole history again.
//!
//! Shaped like the traffic of a coding agent without any of its text: a request head whose length
//! differs from turn to turn, a JSON body of all earlier messages written in 16 KiB calls, and a
//! response read as many small server-sent events. The same seed always gives the same events.

#![allow(dead_code, reason = "each program that includes it uses a part")]

use agentsight::event::{Body, Direction, Event, ProcessId, Source, StreamData};
use agentsight::time::WallNanos;

/// When the first event happens.
pub(crate) const START: i64 = 1_800_000_000_000_000_000;

/// A pseudo-random generator (xorshift64*), so that no dependency decides the bytes.
pub(crate) struct Random(u64);

impl Random {
    /// Any seed but 0 gives its own sequence.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// About `bytes` of words and phrases. zstd 3 makes it 3.9 times smaller; a megabyte of request
    /// body that holds prose or code it makes 3.3 to 5 times smaller.
    pub(crate) fn text(&mut self, bytes: usize) -> String {
        let mut text = String::with_capacity(bytes + 128);
        while text.len() < bytes {
            match self.below(16) {
                0 | 1 => Self::new(self.bits()).word(&mut text),
                // Turns of phrase, names in full, lines that every file has.
                2 | 3 => {
                    let mut phrase = Self::new(self.below(500) + 10_000);
                    (0..6).for_each(|_| Self::new(phrase.below(1500) + 1).word(&mut text));
                }
                _ => Self::new(self.below(1500) + 1).word(&mut text),
            }
        }
        text
    }

    fn word(&mut self, text: &mut String) {
        const SYLLABLES: [&str; 24] = [
            "ra", "to", "mi", "ker", "nel", "fs", "lo", "ad", "ex", "ec", "pa", "ge", "é", "bo",
            "st", "re", "am", "in", "ode", "vi", "ew", "qu", "_", "un",
        ];
        for _ in 0..self.below(4) + 1 {
            text.push_str(SYLLABLES[self.below(SYLLABLES.len() as u64) as usize]);
        }
        text.push(if self.below(12) == 0 { '\n' } else { ' ' });
    }

    /// Bytes that do not compress.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.bits().to_le_bytes()).take(count).collect()
    }
}

/// The traffic of one connection.
pub(crate) struct Connection {
    conn_id: u64,
    ts: i64,
    written: u64,
    read: u64,
}

impl Connection {
    /// A connection whose first event happens at [`START`].
    pub(crate) fn new(conn_id: u64) -> Self {
        Self { conn_id, ts: START, written: 0, read: 0 }
    }

    /// One call of the TLS library, some microseconds after the last.
    pub(crate) fn call(&mut self, direction: Direction, data: &[u8], pause_ns: i64) -> Event {
        self.ts += pause_ns;
        let offset = match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.written,
        };
        let stream_offset = *offset;
        *offset += data.len() as u64;
        Event {
            ts: WallNanos(self.ts),
            process: Some(ProcessId { pid: 4242, start_ts: WallNanos(START - 1_000_000_000) }),
            tid: Some(4243),
            comm: Some("agent".to_owned()),
            body: Body::Data(StreamData {
                source: Source::Tls,
                conn_id: self.conn_id,
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
}

/// Sends a session of `turns` requests, single calls in the order of capture, to `out`.
pub(crate) fn resend_history(turns: usize, seed: u64, out: &mut (impl FnMut(Event) + ?Sized)) {
    let mut random = Random::new(seed);
    let mut connection = Connection::new(seed);
    let mut messages = format!("{:?}", random.text(40_000));
    for turn in 0..turns {
        messages.push_str(&format!(",{{\"turn\":{turn},\"content\":{:?}}}", random.text(7_000)));
        let body = format!("{{\"messages\":[{messages}]}}");
        let request = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: example.com\r\nx-request: {}\r\ncontent-length: {}\r\n\r\n{body}",
            "x".repeat(random.below(40) as usize),
            body.len(),
        );
        for piece in request.as_bytes().chunks(16 * 1024) {
            out(connection.call(Direction::Write, piece, 20_000));
        }
        let mut pause_ns = 1_500_000_000;
        for _ in 0..50 {
            let event = format!("event: delta\r\ndata: {{\"text\":{:?}}}\r\n\r\n", random.text(30));
            out(connection.call(Direction::Read, event.as_bytes(), pause_ns));
            pause_ns = 30_000_000;
        }
    }
}

/// Several different sessions of `turns` requests each, turn by turn in turns, as agents that work
/// side by side.
pub(crate) fn interleaved(sessions: u64, turns: usize, out: &mut dyn FnMut(Event)) {
    let mut queues: Vec<std::collections::VecDeque<Event>> = (0..sessions)
        .map(|session| {
            let mut events = std::collections::VecDeque::new();
            resend_history(turns, 100 + session, &mut |event| events.push_back(event));
            events
        })
        .collect();
    while let Some(queue) = queues
        .iter_mut()
        .filter(|queue| !queue.is_empty())
        .min_by_key(|queue| queue.front().map(|event| event.ts))
    {
        queue.pop_front().into_iter().for_each(&mut *out);
    }
}
