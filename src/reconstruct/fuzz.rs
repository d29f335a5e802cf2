//! What the fuzz targets in `fuzz/` run, as ordinary functions that unit tests run on seeds.
//!
//! Each takes any bytes and must not panic; most also hold a property that is worth more than
//! that: where the input was cut must not show.

use super::client_hello::{self, ClientHello};
use super::dns::DnsResponse;
use super::finding::Finding;
use super::http1::framing::{self, Framing};
use super::http1::reader::{Part, Reader};
use super::http2::hpack;
use super::protocol::Side;
use super::stream::{Content, Piece};
use super::stream_framing::{self, sse};
use super::{Options, Reconstructor, body, http2, llm, mcp, websocket};
use crate::event::{
    Body, Channel, ChannelType, Direction, Event, Exit, ProcessId, Role, Source, StreamData,
};
use crate::time::WallNanos;

/// Bytes as a script of events: joined, reordered, overlapping, lost, closed.
pub fn events(script: &[u8]) {
    let options = Options { keep_bodies: true, max_body_bytes: 1 << 16 };
    let mut reconstructor = Reconstructor::new(options);
    let (mut calls, mut exchanges) = (0, 0);
    let mut count = |finding: Finding| match finding {
        Finding::Exchange(_) => exchanges += 1,
        Finding::LlmCall(_) => calls += 1,
        _ => {}
    };
    let mut offsets = [0_u64; 4];
    let mut rest = script;
    let mut ts = 0;
    while let [op, length, after @ ..] = rest {
        ts += i64::from(*op & 1);
        let (data, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        reconstructor.push(&event(ts, *op, data, &mut offsets), &mut count);
    }
    reconstructor.finish(&mut count);
    assert!(calls <= exchanges, "a call without its exchange");
}

fn event(ts: i64, op: u8, data: &[u8], offsets: &mut [u64; 4]) -> Event {
    let conn_id = u64::from(op >> 1 & 1);
    let direction = if op & 4 == 0 { Direction::Read } else { Direction::Write };
    let offset = &mut offsets[usize::from(op >> 1 & 3)];
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
        3 if op & 24 == 16 => Body::ChannelOpen(channel(conn_id, op)),
        3 if op & 8 == 0 => Body::TlsClose { conn_id },
        3 => Body::ProcessExit(Exit::default()),
        _ => Body::Data(StreamData {
            source: if op & 32 == 0 { Source::Tls } else { Source::Socket },
            conn_id,
            direction,
            stream_offset,
            data_bytes,
            lost_bytes,
            data: data.to_vec(),
            library: String::new(),
            fd: None,
            call_ts: if op >> 6 == 2 { vec![WallNanos(ts); 2] } else { Vec::new() },
            call_bytes: if op >> 6 == 2 { vec![3, u64::MAX] } else { Vec::new() },
        }),
    };
    let process = Some(ProcessId { pid: 1, start_ts: WallNanos(0) });
    Event { ts: WallNanos(ts), process, tid: None, comm: None, body }
}

fn channel(conn_id: u64, op: u8) -> Channel {
    Channel {
        conn_id,
        channel_type: ChannelType::Tcp,
        role: if op & 32 == 0 { Role::Accept } else { Role::Inherited },
        fd: 0,
        local_addr: None,
        remote_addr: None,
        errno: 0,
    }
}

/// An HTTP/1 direction, whole and byte by byte; a zero byte in front of a byte is a new call.
pub fn http1(bytes: &[u8]) {
    for side in [Side::Request, Side::Response] {
        assert_eq!(http1_parts(side, bytes, usize::MAX), http1_parts(side, bytes, 1));
    }
}

/// The parts as text, neighbouring content joined.
fn http1_parts(side: Side, bytes: &[u8], piece_bytes: usize) -> String {
    let mut reader = Reader::new(side);
    let (mut parts, mut in_body) = (String::new(), false);
    for (call, call_bytes) in bytes.split(|byte| *byte == 0).enumerate() {
        for piece in call_bytes.chunks(piece_bytes.min(call_bytes.len().max(1))) {
            let ts = WallNanos(call as i64);
            let mut input = reader.input(Piece { ts, content: Content::Data(piece) });
            while let Some(part) = reader.next(&mut input, call % 2 == 0) {
                let framing = match &part {
                    Part::RequestHead(head) => Some(framing::request(head)),
                    Part::ResponseHead(head) => Some(framing::response(head, None)),
                    _ => None,
                };
                if let Some(framing) = framing {
                    reader.frame(framing);
                    if framing == Framing::Tunnel {
                        reader.tunnel();
                    }
                }
                match part {
                    Part::Body(content) if in_body => {
                        parts.push_str(&content.escape_ascii().to_string())
                    }
                    Part::Body(content) => {
                        parts.push_str(&format!("\nbody {}", content.escape_ascii()))
                    }
                    // How much is skipped at a time depends on the pieces.
                    Part::Skipped(_) => continue,
                    // Who reads it leaves the rest to another reader; it is said until then.
                    Part::Http2 { preface } => return format!("{parts}\nhttp2 {preface}"),
                    ref other => parts.push_str(&format!("\n{other:?}")),
                }
                in_body = parts.rfind('\n').is_some_and(|at| parts[at..].starts_with("\nbody "));
            }
        }
    }
    parts
}

/// A body: the first byte chooses the codings, the second where the rest is cut.
pub fn content_coding(bytes: &[u8]) {
    let [choice, cut, wire @ ..] = bytes else { return };
    let names = ["gzip", "deflate", "br", "zstd", "identity", "unknown"];
    let name = |number: u8| names[usize::from(number) % names.len()].to_owned();
    let codings = match choice >> 6 {
        0 => vec![name(*choice)],
        _ => vec![name(*choice), name(choice >> 3)],
    };
    let (first, second) = wire.split_at(usize::from(*cut).min(wire.len()));
    let max_bytes = 1 << 16;
    let mut content = body::Body::new(&codings, true, max_bytes);
    let mut handed_on = 0;
    for piece in [first, second] {
        content.push(piece, &mut |decoded| handed_on += decoded.len() as u64);
    }
    assert_eq!(content.wire_bytes(), wire.len() as u64);
    assert_eq!(content.decoded_bytes(), handed_on);
    assert!(content.take_kept().is_some_and(|kept| kept.len() as u64 <= max_bytes));
}

/// An event stream, whole and byte by byte.
pub fn event_stream(bytes: &[u8]) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut parser = sse::Parser::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.push(piece, &mut |event| {
                out.push((event.event.map(str::to_owned), event.data.into_owned()));
            });
        }
        out
    };
    assert_eq!(read(&mut [bytes].into_iter()), read(&mut bytes.chunks(1)));
}

/// Bodies that are divided in other ways, whole and byte by byte, and with a gap: the first byte says
/// how, the second where.
pub fn framings(bytes: &[u8]) {
    let [choice, at, body @ ..] = bytes else { return };
    let types = [
        "application/x-ndjson",
        "application/json",
        "application/vnd.amazon.eventstream",
        "application/grpc",
        "text/event-stream",
    ];
    let content_type = types[usize::from(*choice) % types.len()];
    let (first, second) = body.split_at(usize::from(*at).min(body.len()));
    let read = |piece_bytes: usize, gap: bool| {
        let path = Some("/m:streamGenerateContent");
        let framing = stream_framing::Framing::for_response(content_type, path);
        let mut framing = framing.expect("every type is one of a stream");
        let mut out = Vec::new();
        let mut sink = |item: stream_framing::StreamItem<'_>| {
            out.push((item.event.map(str::to_owned), item.data.into_owned()));
        };
        for (half, is_second) in [(first, false), (second, true)] {
            if gap && is_second {
                framing.gap(Some(3));
            }
            half.chunks(piece_bytes).for_each(|piece| framing.push(piece, &mut sink));
        }
        framing.finish(&mut sink);
        out
    };
    assert_eq!(read(usize::MAX, false), read(1, false));
    assert_eq!(read(usize::MAX, true), read(1, true));
}

/// Header blocks, each with its length in front, from the beginning of a connection and joined late.
pub fn hpack(bytes: &[u8]) {
    for is_late in [false, true] {
        let mut decoder = hpack::Decoder::default();
        if is_late {
            decoder.lose(super::finding::PartialReason::JoinedLate);
        }
        let mut rest = bytes;
        while let [length, after @ ..] = rest {
            let (block, after) = after.split_at(usize::from(*length).min(after.len()));
            rest = after;
            let fields = decoder.decode(block);
            let unknown = fields.headers.iter().any(|(name, _)| name == hpack::UNKNOWN);
            assert!(!unknown || fields.unknown.is_some() || block.contains(&b'?'));
        }
    }
}

/// Pieces of a stream: a zero length is a gap, and every piece is a call.
fn pieces(script: &[u8]) -> Vec<(WallNanos, Content<'_>)> {
    let mut pieces = Vec::new();
    let (mut rest, mut ts) = (script, 0);
    while let [length, after @ ..] = rest {
        ts += 1;
        let content = match (*length, after) {
            (0, [lost, after @ ..]) => {
                rest = after;
                Content::Gap(u64::from(*lost) + 1)
            }
            _ => {
                let (data, after) = after.split_at(usize::from(*length).min(after.len()));
                rest = after;
                Content::Data(data)
            }
        };
        pieces.push((WallNanos(ts), content));
    }
    pieces.retain(|(_, content)| *content != Content::Data(&[]));
    pieces
}

/// Hands pieces on, whole or byte by byte.
fn cut(script: &[u8], bytewise: bool, take: &mut dyn FnMut(Piece<'_>)) {
    for (ts, content) in pieces(script) {
        match content {
            Content::Data(bytes) if bytewise => {
                bytes.chunks(1).for_each(|byte| take(Piece { ts, content: Content::Data(byte) }));
            }
            content => take(Piece { ts, content }),
        }
    }
}

/// A direction of HTTP/2: a script of pieces and gaps; the first byte says where it begins.
pub fn http2(bytes: &[u8]) {
    let [start, script @ ..] = bytes else { return };
    let read = |bytewise: bool| {
        let mut reader = match start % 3 {
            0 => http2::reader::Reader::with_preface(),
            1 => http2::reader::Reader::from_start(),
            _ => http2::reader::Reader::joined_late(),
        };
        let (mut parts, mut content) = (String::new(), None);
        let mut note = |ts: WallNanos, part: http2::reader::Part<'_>| match part {
            http2::reader::Part::Data { stream_id, bytes } if content == Some((ts, stream_id)) => {
                parts.push_str(&bytes.escape_ascii().to_string());
            }
            http2::reader::Part::Data { stream_id, bytes } => {
                content = Some((ts, stream_id));
                parts.push_str(&format!("\n{ts:?} {stream_id} {}", bytes.escape_ascii()));
            }
            other => {
                content = None;
                parts.push_str(&format!("\n{ts:?} {other:?}"));
            }
        };
        cut(script, bytewise, &mut |piece| reader.push(piece, &mut note));
        reader.finish(&mut note);
        parts
    };
    assert_eq!(read(false), read(true));
}

/// A direction of WebSocket: a script of pieces and gaps; the first byte says whose it is, and what was
/// agreed on.
pub fn websocket(bytes: &[u8]) {
    let [choice, script @ ..] = bytes else { return };
    let side = if choice & 1 == 0 { Side::Request } else { Side::Response };
    let read = |bytewise: bool| {
        let mut reader =
            websocket::reader(side, (choice & 2 != 0).then_some(choice & 4 != 0), 1 << 16);
        let (mut parts, mut content) = (String::new(), None);
        let mut note = |ts: WallNanos, part: websocket::Part<'_>| match part {
            websocket::Part::Content(bytes) if bytes.is_empty() => {}
            websocket::Part::Content(bytes) if content == Some(ts) => {
                parts.push_str(&bytes.escape_ascii().to_string());
            }
            websocket::Part::Content(bytes) => {
                content = Some(ts);
                parts.push_str(&format!("\n{ts:?} {}", bytes.escape_ascii()));
            }
            other => {
                content = None;
                parts.push_str(&format!("\n{ts:?} {other:?}"));
            }
        };
        cut(script, bytewise, &mut |piece| reader.push(piece, &mut note));
        parts
    };
    assert_eq!(read(false), read(true));
}

/// A request and a response body of a model API, and the same bytes as stream events.
pub fn model_api(bytes: &[u8]) {
    llm::fuzz(bytes);
}

/// Lines of JSON-RPC as an agent and a server of its tools say them.
pub fn mcp_messages(bytes: &[u8]) {
    mcp::fuzz(bytes);
}

/// Messages that name hosts: a TLS ClientHello, whole and as one of a made-up hello's extensions, and
/// a DNS message.
pub fn host_names(bytes: &[u8]) {
    let is_plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_graphic());
    let name = &bytes[..bytes.len().min(300)];
    let made = client_hello::made(&[client_hello::made_server_name(name)], 200);
    for wire in [bytes, &made] {
        let Some(hello) = ClientHello::parse(wire) else { continue };
        assert!(hello.server_name.iter().chain(&hello.alpn).all(is_plain));
    }
    let Some(response) = DnsResponse::parse(bytes) else { return };
    assert!(response.question.iter().all(is_plain));
    assert!(response.answers.iter().all(|answer| is_plain(&answer.name)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEEDS: &[&[u8]] = &[
        b"",
        b"\x04\x40POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 2\r\n\r\n{}\
          \x01\x30HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
        b"GET / HTTP/1.1\r\n\r\n\0HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab\0HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP\0HTTP/1.1 2\0 X\0HTTP/1.1 404 X\r\n\r\n",
        b"rubbish\0POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST\0GET / HTTP/1.1\r\n\r\n",
        b"\x00\x05\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\x01\x02\x00\xfd\xffhi",
        b"\xef\xbb\xbfevent: a\r\ndata: 1\rdata: 2\n\n: note\ndata\n\n",
        b"\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x0301234567890123456789012345678901\x00\x00\x00\x00\x00\x00",
        b"\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\
          \x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x01",
        b"\x00\x18PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x0d\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x41\
          \x0d\0\0\x04\0\x09\0\0\0\x01\x01ab\0\0\x04\x09\0\0\0\0\0\x01\0\0\0",
        b"\x02\x13\0\0\x05\0\x01\0\0\0\x03hello\0\0\x04\x08\0\0\0\0\0\0\x04\x0d\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08",
        b"\x05\x82\x86\x41\x01a\x03\x40\x01n\x02\xbe\x3f",
        b"\x01\x09\x01\x03{\"a\x80\x02\":1\0\x02\x04\x81\x02{}\x81",
        b"\x07\x08\xc1\x06\x4a\x4c\x04\0\x88\0\x04\xc1\x03\xff\xff\xff",
        b"\x06\x08\x81\x82\x01\x02\x03\x04zz\0\x05\x06\x81\x80\x01\x02\x03\x04",
        b"\x00\x05{\"a\":1}\n{\"b\"\n",
        b"PRI * HTTP/2.0\r\n\0\xc7",
        b"\x01\x08[{\"a\":1},\r\n{\"b\":[2]}]",
        br#"{"model":"m","messages":[],"usage":{"input_tokens":1},"error":{"type":"x"}}"#,
        b"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\"}}\n\
          \xff{\"result\":{\"serverInfo\":{\"name\":\"s\"}},\"jsonrpc\":\"2.0\",\"id\":0}\n\
          \xff[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}]\n\
          \xff{\"result\":{\"a\":[\xfe\"jsonrpc\":\"2.0\",\"id\":1}\n",
        br#"{"model":"m","system":"s","messages":[{"role":"user","content":[{"type":"text","text":"a"},
          {"type":"tool_use","id":"t","input":{}}]}],"tools":[{"name":"n"}],"content":[{"type":"x"}]}"#,
        br#"{"type":"response.completed","input":[{"type":"message","content":"a"}],"response":{"id":"r",
          "output":[{"type":"reasoning"},{"type":"function_call"}],"usage":{"input_tokens":1}}}"#,
        br#"{"request":{"contents":[{"parts":[{"text":"a"}]}]},"candidates":[{"content":{"parts":[
          {"functionCall":{}},{"text":"b"}]},"finishReason":"STOP"}],"usageMetadata":{}}"#,
        br#"{"contentBlockIndex":1,"delta":{"text":"a","toolUse":{"input":"{"}},"bytes":"e30=","usage":{},
          "toolConfig":{"tools":[{}]},"message":{"content":"c","tool_calls":[{}]},"done":true}"#,
    ];

    fn run(bytes: &[u8]) {
        events(bytes);
        http1(bytes);
        content_coding(bytes);
        event_stream(bytes);
        framings(bytes);
        hpack(bytes);
        http2(bytes);
        websocket(bytes);
        model_api(bytes);
        mcp_messages(bytes);
        host_names(bytes);
    }

    #[test]
    fn seeds_hold_at_every_length() {
        for seed in SEEDS {
            for end in 0..=seed.len() {
                run(&seed[..end]);
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
            run(&bytes);
        }

        #[test]
        fn any_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            run(&bytes);
        }
    }
}
