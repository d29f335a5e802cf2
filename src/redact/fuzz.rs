//! What the fuzz target `redact` in `fuzz/` runs, as an ordinary function that unit tests run on
//! seeds.

use std::collections::HashMap;

use super::Redactor;
use crate::event::{Body, Direction, Event, Exit, Image, ProcessId, Source, StreamData};
use crate::time::WallNanos;

/// Bytes as a script of events: calls cut, lost, reordered and paused at will, connections, pipes and
/// processes that end, arguments. Whatever comes, every event comes out again, in order, with its
/// lengths; what is in a body of announced length comes out as it was; and in a pipe it does not
/// matter how it is cut.
pub fn events(script: &[u8]) {
    let mut redactor = Redactor::new([7; 32]);
    let (mut given, mut taken) = (Streams::default(), Streams::default());
    let mut offsets = [0_u64; 8];
    let (mut ts, mut rest) = (0, script);
    while let [op, length, after @ ..] = rest {
        ts += if op & 1 == 0 { 0 } else { i64::from(*length) * 2_000_000 };
        let (data, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let event = event(ts, *op, data, &mut offsets);
        given.add(&event);
        redactor.push(event, &mut |event| taken.add(&event));
    }
    redactor.flush(&mut |event| taken.add(&event));
    assert_eq!(given.shapes, taken.shapes);
    let bytes: u64 = redactor.counts().values().map(|count| count.bytes).sum();
    // What is let go before its line is complete may be counted, but never twice.
    assert!(bytes <= given.payload_bytes, "{bytes} of {} bytes replaced", given.payload_bytes);
    bodies(script);
    text(script);
}

/// What of an event must not change: time, offset, captured bytes, lost bytes.
type Shape = (WallNanos, u64, usize, u64);

/// The shapes of events by stream, in order.
#[derive(Default)]
struct Streams {
    shapes: HashMap<(u64, u8), Vec<Shape>>,
    payload_bytes: u64,
}

impl Streams {
    fn add(&mut self, event: &Event) {
        let (key, shape, bytes) = match &event.body {
            Body::Data(tls) => (
                (tls.conn_id, tls.direction as u8),
                (event.ts, tls.stream_offset, tls.data.len(), tls.lost_bytes),
                tls.data.len(),
            ),
            Body::ProcessExec(image) => {
                let bytes = image.argv.iter().map(String::len).sum();
                ((0, 8), (event.ts, 0, bytes, 0), bytes)
            }
            Body::TlsClose { conn_id } => ((*conn_id, 9), (event.ts, 0, 0, 0), 0),
            _ => ((0, 10), (event.ts, 0, 0, 0), 0),
        };
        self.shapes.entry(key).or_default().push(shape);
        self.payload_bytes += bytes as u64;
    }
}

fn event(ts: i64, op: u8, data: &[u8], offsets: &mut [u64; 8]) -> Event {
    let source = if op >> 6 == 2 { Source::Stdio } else { Source::Tls };
    let stream = (op >> 1 & 3) + if source == Source::Stdio { 4 } else { 0 };
    let conn_id = u64::from(stream & 5);
    let direction = if op & 4 == 0 { Direction::Read } else { Direction::Write };
    let offset = &mut offsets[usize::from(stream)];
    let stream_offset = match op >> 3 & 7 {
        0 => offset.saturating_sub(3),
        1 => offset.saturating_add(5),
        2 => u64::MAX - 7,
        _ => *offset,
    };
    let lost_bytes = if op >> 3 & 7 == 3 { 9 } else { 0 };
    let data_bytes = data.len() as u64 + lost_bytes;
    *offset = stream_offset.saturating_add(data_bytes).min(1 << 40);
    let body = match op >> 6 {
        3 if op & 24 == 0 => Body::TlsClose { conn_id },
        3 if op & 24 == 8 => Body::ProcessExit(Exit::default()),
        3 if op & 24 == 16 => {
            let text = String::from_utf8_lossy(data);
            let argv = text.split('\0').map(str::to_owned).collect();
            Body::ProcessExec(Image { argv, ..Image::default() })
        }
        _ => Body::Data(StreamData {
            source,
            conn_id,
            direction,
            stream_offset,
            data_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: String::new(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }),
    };
    let process = Some(ProcessId { pid: 1, start_ts: WallNanos(0) });
    Event { ts: WallNanos(ts), process, tid: None, comm: None, body }
}

/// The script as the bodies of two requests, one of known length and one in a chunk, between heads:
/// the bodies stay as they are, and the key in the head behind them does not.
fn bodies(script: &[u8]) {
    const KEY: &str = "key-of-the-fuzz-target";
    let head = |framing: &str| {
        format!("POST /v1 HTTP/1.1\r\nx-api-key: {KEY}\r\n{framing}\r\n\r\n").into_bytes()
    };
    let length = format!("content-length: {}", script.len());
    let chunk = format!("{:x}\r\n", script.len().max(1));
    let content = if script.is_empty() { &b"-"[..] } else { script };
    let parts: [(&[u8], bool); 7] = [
        (&head(&length), false),
        (script, true),
        (&head("transfer-encoding: chunked"), false),
        (chunk.as_bytes(), true),
        (content, true),
        (b"\r\n0\r\n\r\n", true),
        (&head(&length), false),
    ];
    let stream: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.iter().copied()).collect();
    let lengths = script.iter().map(|byte| usize::from(*byte) + 1).chain(std::iter::repeat(999));
    let redacted = through(&stream, 0b0010_0100, lengths);
    assert_eq!(redacted.len(), stream.len());
    let mut at = 0;
    for (bytes, is_body) in parts {
        let now = &redacted[at..at + bytes.len()];
        at += bytes.len();
        match is_body {
            true => assert!(now == bytes, "a body has changed"),
            false => assert!(memchr::memmem::find(now, KEY.as_bytes()).is_none(), "a key is left"),
        }
    }
}

/// What becomes of a stream of the kind that `op` says, in calls of these lengths.
fn through(stream: &[u8], op: u8, mut lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut redactor = Redactor::new([7; 32]);
    let mut redacted = Vec::new();
    let mut take = |event: Event| match event.body {
        Body::Data(tls) => redacted.extend_from_slice(&tls.data),
        _ => unreachable!("only calls were given"),
    };
    let mut rest = stream;
    while !rest.is_empty() {
        let length = lengths.next().unwrap_or(1).min(rest.len());
        let (data, after) = rest.split_at(length);
        let mut offsets = [(stream.len() - rest.len()) as u64; 8];
        redactor.push(event(0, op, data, &mut offsets), &mut take);
        rest = after;
    }
    redactor.flush(&mut take);
    redacted
}

/// The script as what a program prints, between lines with a key: it comes out the same however it is
/// cut, as long as it was, and without the key.
fn text(script: &[u8]) {
    const KEY: &str = "K3y-0f-the-fuzz-t4rget";
    const OP: u8 = 0b1010_0100;
    // More calls than this in one line would not be waited for.
    const MAX_CALLS: usize = 1000;
    let line = format!("\nX_API_KEY={KEY}\n{{\"password\": \"{KEY}\"}}\n");
    let stream = [line.as_bytes(), script, line.as_bytes()].concat();
    let whole = through(&stream, OP, std::iter::repeat(usize::MAX));
    let lengths = script.iter().take(MAX_CALLS).map(|byte| usize::from(*byte) + 1);
    let cut = through(&stream, OP, lengths.chain(std::iter::repeat(usize::MAX)));
    assert!(whole == cut, "cuts show");
    assert_eq!(whole.len(), stream.len());
    assert!(memchr::memmem::find(&whole, KEY.as_bytes()).is_none(), "a key is left");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEEDS: &[&[u8]] = &[
        b"",
        b"\x24\x38POST /v1?key=abc HTTP/1.1\r\nAuthorization: Bearer sk-ant\x24\x20-api03-0123456789\r\n\
          Content-Length: 2\r\n\r\n{}",
        b"\x20\x40HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        b"\x3c\x20GET / HTTP/1.1\r\nCookie: a=secret\x24\x10more\r\nHost: x\r\n\r\n",
        b"\x24\x18PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x20\x0f\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64",
        b"\x24\x10ont: b\r\nCookie: a\x25\xff=b; c=d\r\n folded\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n",
        b"\xd0\x40curl\0-H\0Authorization: Bearer abc\0-u\0a:b\0https://a:b@c/?key=d\0--token\0x",
        b"\xa4\x30A=b\nAPI_KEY=sk-ant-\xa4\x60api03-0123456789\0{\\\"token\\\": \\\"0a1b2c3d4e5f6789\\\"}\
          \x84\x30-----BEGIN PRIVATE KEY-----\nMIIEvgIBADANBgkqhkiG\xa5\xff9w0BAQEFAASCBKgwggSk\n",
        b"\xa4\x50curl -u me:pass https://u:p@h/?key=abcd#x\rCookie: a=bcde; c=d\n\xbc\x30password: 'hunter2",
        b"\x20\x30HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x24\x08GET / HT\xc0\x00\xc8\x00",
    ];

    #[test]
    fn seeds_hold_at_every_length() {
        for seed in SEEDS {
            for end in 0..=seed.len() {
                events(&seed[..end]);
            }
        }
    }

    proptest! {
        #[test]
        fn changed_and_spliced_seeds_hold(
            one in 0..SEEDS.len(), other in 0..SEEDS.len(),
            at in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let (one, other) = (SEEDS[one], SEEDS[other]);
            let mut bytes = [&one[..at.index(one.len() + 1)], other].concat();
            for (at, value) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            events(&bytes);
        }

        #[test]
        fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            events(&bytes);
        }
    }
}
