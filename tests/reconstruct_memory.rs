//! Long messages go through bounded memory: requests and responses of 100 MB, in as many chunks as they
//! come in, over HTTP/1, HTTP/2 and WebSocket. A counting allocator tells what is kept.
#![allow(unsafe_code)] // An allocator is unsafe to implement; this one only counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use agentsight::event::{Body, Direction, Event, Source, StreamData};
use agentsight::reconstruct::finding::{Completeness, Exchange, Finding};
use agentsight::reconstruct::{Options, Reconstructor};
use agentsight::time::WallNanos;

struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static MOST_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls go to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST_BYTES.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of the trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of the trait.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Content of each message.
const MESSAGE_BYTES: usize = 100_000_000;

/// What may be held at a time; a call of a model keeps some values of its bodies, a connection some
/// MiB at most.
const MAX_HELD_BYTES: usize = 32 << 20;

struct Session {
    reconstructor: Reconstructor,
    offsets: [u64; 2],
    now: i64,
    exchanges: Vec<Exchange>,
    stream_events: u64,
}

impl Session {
    fn new() -> Self {
        Self {
            reconstructor: Reconstructor::new(Options::default()),
            offsets: [0; 2],
            now: 0,
            exchanges: Vec::new(),
            stream_events: 0,
        }
    }

    fn call(&mut self, direction: Direction, bytes: Vec<u8>) {
        self.now += 1_000_000;
        let offset = &mut self.offsets[usize::from(direction == Direction::Write)];
        let data = StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction,
            stream_offset: *offset,
            data_bytes: bytes.len() as u64,
            lost_bytes: 0,
            data: bytes,
            library: String::new(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        };
        *offset += data.data_bytes;
        let ts = WallNanos(self.now);
        let event = Event { ts, process: None, tid: None, comm: None, body: Body::Data(data) };
        let (exchanges, stream_events) = (&mut self.exchanges, &mut self.stream_events);
        self.reconstructor.push(&event, &mut |finding| match finding {
            Finding::Exchange(exchange) => exchanges.push(*exchange),
            Finding::StreamEvent(_) => *stream_events += 1,
            _ => {}
        });
    }

    fn text(&mut self, direction: Direction, text: &str) {
        self.call(direction, text.as_bytes().to_vec());
    }

    /// Sends content until it is [`MESSAGE_BYTES`], each piece wrapped.
    fn message(
        &mut self,
        direction: Direction,
        piece: &[u8],
        wrap: impl Fn(&[u8], bool) -> Vec<u8>,
    ) {
        let pieces = MESSAGE_BYTES / piece.len();
        for number in 1..=pieces {
            self.call(direction, wrap(piece, number == pieces));
        }
    }
}

/// Runs a session and tells the most that was held at a time beyond what was before.
fn most_held(run: impl FnOnce(&mut Session)) -> (Session, usize) {
    let mut session = Session::new();
    let before = HELD_BYTES.load(Ordering::Relaxed);
    MOST_BYTES.store(before, Ordering::Relaxed);
    run(&mut session);
    let most = MOST_BYTES.load(Ordering::Relaxed) - before;
    (session, most)
}

fn http1(session: &mut Session, content_type: &str, piece: &[u8]) {
    let chunk = |piece: &[u8], is_last: bool| {
        let end = if is_last { &b"\r\n0\r\n\r\n"[..] } else { b"\r\n" };
        [format!("{:x}\r\n", piece.len()).as_bytes(), piece, end].concat()
    };
    let head = "POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    session.text(Direction::Write, head);
    session.message(Direction::Write, piece, chunk);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    session.text(Direction::Read, &head);
    session.message(Direction::Read, piece, chunk);
}

fn http2(session: &mut Session, piece: &[u8]) {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    };
    session.text(Direction::Write, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    session.call(Direction::Write, frame(1, 4, b"\x83\x87\x84"));
    session.message(Direction::Write, piece, |piece, is_last| frame(0, u8::from(is_last), piece));
    session.call(Direction::Read, frame(1, 4, b"\x88"));
    session.message(Direction::Read, piece, |piece, is_last| frame(0, u8::from(is_last), piece));
}

fn websocket(session: &mut Session, piece: &[u8]) {
    session.text(Direction::Write, "GET /socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n");
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    session.text(Direction::Read, head);
    let is_first = std::cell::Cell::new(true);
    // One message of the client in many fragments; a message of the server each.
    session.message(Direction::Write, piece, |piece, is_last| {
        let first = u8::from(is_last) << 7 | u8::from(is_first.replace(false));
        let length = (piece.len() as u16).to_be_bytes();
        [&[first, 0x80 | 126], &length[..], &[0; 4], piece].concat()
    });
    session.message(Direction::Read, piece, |piece, _| {
        [&[0x81, 126], &(piece.len() as u16).to_be_bytes()[..], piece].concat()
    });
    session.text(Direction::Write, "\u{1}");
}

#[test]
fn messages_of_any_length_go_through_bounded_memory() {
    // One test, so that nothing else is counted.
    tiny_chunks();
    let piece = [&b"data: "[..], &[b'x'; 9992], b"\n\n"].concat();
    for content_type in ["text/event-stream", "application/x-ndjson", "text/plain"] {
        let (session, most) = most_held(|session| http1(session, content_type, &piece));
        let [exchange] = &session.exchanges[..] else { panic!("{:?}", session.exchanges) };
        assert_eq!(exchange.completeness, Completeness::Complete, "{content_type}");
        assert_eq!(exchange.request_body_bytes, MESSAGE_BYTES as u64);
        assert_eq!(exchange.response_body_bytes, MESSAGE_BYTES as u64);
        assert_eq!(session.stream_events, if content_type == "text/plain" { 0 } else { 10_000 });
        assert!(most < MAX_HELD_BYTES, "{content_type}: {most} bytes");
    }

    let (session, most) = most_held(|session| http2(session, &piece));
    let [exchange] = &session.exchanges[..] else { panic!("{:?}", session.exchanges) };
    assert_eq!(exchange.completeness, Completeness::Complete);
    assert_eq!(exchange.request_body_bytes, MESSAGE_BYTES as u64);
    assert_eq!(exchange.response_body_bytes, MESSAGE_BYTES as u64);
    assert!(most < MAX_HELD_BYTES, "HTTP/2: {most} bytes");

    let (mut session, most) = most_held(|session| websocket(session, &piece));
    assert_eq!(session.stream_events, 10_000);
    assert!(most < MAX_HELD_BYTES, "WebSocket: {most} bytes");
    let mut found = std::mem::take(&mut session.exchanges);
    session.reconstructor.finish(&mut |finding| {
        if let Finding::Exchange(exchange) = finding {
            found.push(*exchange);
        }
    });
    let sizes: Vec<_> =
        found.iter().map(|it| (it.request_body_bytes, it.response_body_bytes)).collect();
    assert_eq!(sizes, [(0, 0), (MESSAGE_BYTES as u64, MESSAGE_BYTES as u64)]);
}

/// As many chunks as there are: none is one too many.
fn tiny_chunks() {
    let mut session = Session::new();
    session.text(Direction::Write, "GET / HTTP/1.1\r\n\r\n");
    session.text(Direction::Read, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..100_000 {
        session.text(Direction::Read, "1\r\nx\r\n");
    }
    session.text(Direction::Read, "0\r\n\r\n");
    assert_eq!(session.exchanges[0].response_body_bytes, 100_000);
}
