//! What a connection holds is bounded, whatever comes. What it finds is held by the transcripts
//! of `tests/reconstruct.rs`.

use super::*;
use crate::event::Source;
use crate::reconstruct::exchange::Caller;
use crate::reconstruct::finding::{Completeness, Exchange, Finding, PartialReason};
use crate::reconstruct::http1::{Held, MAX_OPEN_EXCHANGES, MAX_WAITING_BYTES, MAX_WAITING_PIECES};
use crate::reconstruct::llm::Blocks;

/// A connection and what came of it.
struct Fixture {
    connection: Connection,
    options: Options,
    next_http_id: u64,
    blocks: Blocks,
    found: Vec<Exchange>,
    offsets: [u64; 2],
    now: i64,
}

impl Fixture {
    fn new() -> Self {
        Self {
            connection: Connection::new(1, None, "https", Perspective::Client),
            options: Options::default(),
            next_http_id: 1,
            blocks: Blocks::default(),
            found: Vec::new(),
            offsets: [0; 2],
            now: 0,
        }
    }

    fn push(&mut self, direction: Direction, bytes: &[u8], lost_bytes: u64) {
        self.now += 1;
        let offset = &mut self.offsets[usize::from(direction == Direction::Write)];
        let data = StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction,
            stream_offset: *offset,
            data_bytes: bytes.len() as u64 + lost_bytes,
            lost_bytes,
            data: bytes.to_vec(),
            library: String::new(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        };
        *offset += data.data_bytes;
        let found = &mut self.found;
        let mut context = Context {
            options: &self.options,
            next_http_id: &mut self.next_http_id,
            findings: &mut Caller {
                blocks: &mut self.blocks,
                sink: &mut |finding| {
                    if let Finding::Exchange(exchange) = finding {
                        found.push(*exchange);
                    }
                },
            },
        };
        self.connection.push(WallNanos(self.now), &data, &mut context);
    }

    fn held(&self) -> Held {
        match &self.connection.protocol {
            Protocol::Http1(_, session) => session.held(),
            Protocol::Http2(_, session) => session.held(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn reads_without_a_request_wait_within_a_limit() {
    let mut fixture = Fixture::new();
    for _ in 0..64 {
        fixture.push(Direction::Read, &[b'x'; 64 << 10], 0);
        assert!(fixture.held().bytes <= MAX_WAITING_BYTES);
    }
    assert_eq!(fixture.held().pieces, 0, "nothing waits once the limit was passed");
    fixture.push(Direction::Write, b"GET / HTTP/1.1\r\n\r\n", 0);
    fixture.push(Direction::Read, b"HTTP/1.1 204 No Content\r\n\r\n", 0);
    let [late, whole] = &fixture.found[..] else { panic!("{:?}", fixture.found) };
    assert_eq!(late.completeness, Completeness::Partial(PartialReason::JoinedLate));
    assert_eq!(late.response_wire_bytes, 4 << 20);
    assert_eq!(whole.completeness, Completeness::Complete);
}

#[test]
fn many_tiny_reads_without_a_request_wait_within_a_limit() {
    let mut fixture = Fixture::new();
    for _ in 0..MAX_WAITING_PIECES * 2 {
        fixture.push(Direction::Read, b"", 1);
        assert!(fixture.held().pieces <= MAX_WAITING_PIECES);
    }
}

#[test]
fn requests_without_responses_are_given_up_beyond_a_limit() {
    let mut fixture = Fixture::new();
    for _ in 0..MAX_OPEN_EXCHANGES + 10 {
        fixture.push(Direction::Write, b"GET / HTTP/1.1\r\n\r\n", 0);
        assert!(fixture.held().exchanges <= MAX_OPEN_EXCHANGES);
    }
    assert_eq!(fixture.found.len(), 10);
    let no_response = Completeness::Partial(PartialReason::NoResponse);
    assert!(fixture.found.iter().all(|exchange| exchange.completeness == no_response));
}

#[test]
fn an_opaque_connection_holds_nothing() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"CONNECT a:443 HTTP/1.1\r\nUpgrade: x\r\n\r\n", 0);
    fixture.push(Direction::Write, &[b'x'; 1000], 0);
    assert_eq!(fixture.held(), Held { bytes: 1000, pieces: 1, exchanges: 1 });
    fixture.push(Direction::Read, b"HTTP/1.1 200 OK\r\n\r\n", 0);
    fixture.push(Direction::Read, &[b'x'; 1000], 0);
    fixture.push(Direction::Write, &[b'x'; 1000], 0);
    assert_eq!(fixture.held(), Held { bytes: 0, pieces: 0, exchanges: 0 });
    assert_eq!(fixture.found.len(), 1);
}

#[test]
fn what_follows_an_unanswered_upgrade_waits_within_a_limit() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 0);
    for _ in 0..64 {
        fixture.push(Direction::Write, &[b'x'; 64 << 10], 0);
        assert!(fixture.held().bytes <= MAX_WAITING_BYTES);
    }
}

#[test]
fn a_response_nobody_asked_for_breaks_the_protocol() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"GET / HTTP/1.1\r\n\r\n", 0);
    fixture.push(Direction::Read, b"HTTP/1.1 204 No Content\r\n\r\n", 0);
    fixture.push(Direction::Read, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 0);
    fixture.push(Direction::Write, b"GET / HTTP/1.1\r\n\r\n", 0);
    fixture.push(Direction::Read, b"HTTP/1.1 204 No Content\r\n\r\n", 0);
    let outcome = |exchange: &Exchange| (exchange.status, exchange.completeness);
    let malformed = Completeness::Partial(PartialReason::Malformed);
    assert_eq!(
        fixture.found.iter().map(outcome).collect::<Vec<_>>(),
        [
            (Some(204), Completeness::Complete),
            (Some(408), malformed),
            (Some(204), Completeness::Complete),
        ]
    );
}

/// A HEADERS frame that holds a whole block.
fn headers(stream_id: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    let length = (block.len() as u32).to_be_bytes();
    [&length[1..], &[1, 4 | flags], &stream_id.to_be_bytes(), block].concat()
}

#[test]
fn streams_of_http2_that_never_end_are_given_up_beyond_a_limit() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0);
    for number in 0..MAX_OPEN_EXCHANGES as u32 + 10 {
        fixture.push(Direction::Write, &headers(number * 2 + 1, 1, b"\x82\x87\x84"), 0);
        assert!(fixture.held().exchanges <= MAX_OPEN_EXCHANGES);
    }
    assert_eq!(fixture.found.len(), 10);
    fixture.push(Direction::Read, &headers(21, 1, b"\x89"), 0);
    assert_eq!((fixture.found.len(), fixture.found[10].status), (11, Some(204)));
}

#[test]
fn answers_of_http2_without_a_request_wait_within_a_limit() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0);
    for number in 0..2 * MAX_WAITING_PIECES as u32 {
        fixture.push(Direction::Read, &headers(number * 2 + 1, 0, b"\x88"), 0);
        let held = fixture.held();
        assert!(held.pieces <= MAX_WAITING_PIECES + 512 && held.exchanges <= MAX_OPEN_EXCHANGES);
    }
    // A gap in what the client says, over and over, between streams far from each other.
    for number in 0..2000_u32 {
        fixture.push(Direction::Write, b"", 9);
        let id = (1 << 16) + number * 64 + 1;
        fixture.push(Direction::Write, &headers(id, 1, b"\x82\x87\x84"), 0);
        assert!(fixture.held().pieces <= MAX_WAITING_PIECES + 512);
    }
    let malformed = Completeness::Partial(PartialReason::Malformed);
    assert!(fixture.found.iter().any(|exchange| exchange.completeness == malformed));
}

#[test]
fn what_is_ahead_over_websocket_waits_within_a_limit() {
    let mut fixture = Fixture::new();
    fixture.push(Direction::Write, b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", 0);
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    fixture.push(Direction::Read, head, 0);
    // Bytes of the client are missing, so that what comes after them waits.
    fixture.offsets[1] += 100;
    fixture.push(Direction::Write, b"\x81\x82\0\0\0\0{}", 0);
    for _ in 0..64 {
        fixture.push(Direction::Read, &[b'x'; 64 << 10], 0);
        assert!(fixture.connection.ahead.bytes <= MAX_WAITING_BYTES + (64 << 10));
    }
    assert_eq!(fixture.connection.ahead.bytes, 0, "the bytes are given up");
}
