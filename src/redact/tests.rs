//! The whole redactor: conversations cut anywhere, gaps, bounds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{MAX_HOLD_NS, Redactor, Rule, Uncovered};
use crate::event::{Body, Direction, Event, Exit, Image, ProcessId, Source, StreamData};
use crate::time::WallNanos;

use Direction::{Read, Write};

/// Stands in every secret of a head, and, as it is, in every body.
const CANARY: &str = "cAnArY";

/// Makes events of one connection.
struct Wire {
    conn_id: u64,
    ts: i64,
    offsets: BTreeMap<Direction, u64>,
}

impl Wire {
    fn new(conn_id: u64) -> Self {
        Self { conn_id, ts: 1_000_000_000_000, offsets: BTreeMap::new() }
    }

    fn call(&mut self, direction: Direction, data: impl AsRef<[u8]>) -> Event {
        let data = data.as_ref().to_vec();
        let offset = self.offsets.entry(direction).or_default();
        let stream_offset = *offset;
        *offset += data.len() as u64;
        self.ts += 1_000;
        self.event(Body::Data(StreamData {
            source: Source::Tls,
            conn_id: self.conn_id,
            direction,
            stream_offset,
            data_bytes: data.len() as u64,
            lost_bytes: 0,
            data,
            library: "openssl".to_owned(),
            fd: None,
            call_ts: Vec::new(),
            call_bytes: Vec::new(),
        }))
    }

    /// The same through a pipe.
    fn print(&mut self, direction: Direction, data: impl AsRef<[u8]>) -> Event {
        let mut event = self.call(direction, data);
        if let Body::Data(data) = &mut event.body {
            data.source = Source::Stdio;
        }
        event
    }

    fn lose(&mut self, direction: Direction, bytes: u64) {
        *self.offsets.entry(direction).or_default() += bytes;
    }

    fn wait(&mut self, ns: i64) {
        self.ts += ns;
    }

    fn event(&self, body: Body) -> Event {
        let process = Some(ProcessId { pid: self.conn_id as u32, start_ts: WallNanos(1) });
        Event { ts: WallNanos(self.ts), process, tid: Some(1), comm: None, body }
    }
}

fn redactor() -> Redactor {
    Redactor::new([9; 32])
}

fn redacted(redactor: &mut Redactor, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut out = Vec::new();
    events.into_iter().for_each(|event| redactor.push(event, &mut |event| out.push(event)));
    redactor.flush(&mut |event| out.push(event));
    out
}

/// The bytes of one direction.
fn stream(events: &[Event], direction: Direction) -> Vec<u8> {
    let of_direction = |event: &Event| match &event.body {
        Body::Data(tls) if tls.direction == direction => tls.data.clone(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of_direction).collect()
}

fn text(events: &[Event], direction: Direction) -> String {
    String::from_utf8(stream(events, direction)).unwrap()
}

/// What becomes of calls in one direction.
fn through(direction: Direction, calls: &[&str]) -> String {
    let mut wire = Wire::new(1);
    let events: Vec<_> = calls.iter().map(|data| wire.call(direction, data)).collect();
    text(&redacted(&mut redactor(), events), direction)
}

/// A part of a stream and whether it is to stay as it is.
type Part = (String, bool);

/// Requests and responses of every kind of framing. Bodies hold what heads must not.
fn conversation() -> (Vec<Part>, Vec<Part>) {
    let head = |text: &str| (text.replace("KEY", &format!("sk-ant-api03-{CANARY}")), false);
    let body = |text: &str| (text.to_owned(), true);
    let document = format!(
        "{{\"authorization\": \"Bearer {CANARY}\"}}\r\nx-api-key: {CANARY}\r\n\r\nGET /?key={CANARY} HTTP/1.1\r\n"
    );
    let chunked =
        format!("{:x};ext=1\r\n{document}\r\n5\r\n{}\r\n0\r\n", document.len(), &CANARY[..5]);
    let length = document.len();
    let requests = vec![
        head(&format!(
            "POST /v1/messages?beta=true&key=KEY HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer KEY\r\nX-Api-Key:KEY\r\nContent-Length: {length}\r\nCookie: a=KEY; b=\"KEY\"\r\n\r\n"
        )),
        body(&document),
        head("\r\nGET /next HTTP/1.1\r\nx-goog-api-key: KEY\r\n  KEY\r\n\tKEY\r\n\r\n"),
        head(
            "POST /chunks HTTP/1.1\nTransfer-Encoding: gzip, chunked\nX-Amz-Security-Token : KEY\n\n",
        ),
        body(&chunked),
        head("X-Trailing-Signature: KEY\r\n\r\n"),
        head("HEAD /head HTTP/1.1\r\nProxy-Authorization: Basic KEY\r\n\r\n"),
        head("GET /not HTTP/1.1\r\napi-key: KEY\r\nUser-Agent: x KEY y\r\n\r\n"),
        head(
            "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: realtime, openai-insecure-api-key.KEY\r\n\r\n",
        ),
        body(&format!("\u{1}\u{5}{CANARY}\r\nnot a head: {CANARY}\r\n")),
    ];
    let responses = vec![
        head("HTTP/1.1 100 Continue\r\n\r\n"),
        head(&format!(
            "HTTP/1.1 200 OK\r\nSet-Cookie: a=KEY; Path=/; HttpOnly\r\nContent-Length: {length}\r\nLocation: https://u:KEY@h/?code=KEY\r\n\r\n"
        )),
        body(&document),
        head("HTTP/1.1 204 No Content\r\nSet-Cookie: a=KEY\r\nContent-Length: 99\r\n\r\n"),
        head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-auth-token: KEY\r\n\r\n"),
        body(&chunked),
        head("\r\n"),
        head("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nSet-Cookie: a=KEY\r\n\r\n"),
        head("HTTP/1.1 304 Not Modified\r\nSet-Cookie: a=KEY\r\n\r\n"),
        head("HTTP/1.1 101 Switching Protocols\r\nSet-Cookie: a=KEY\r\n\r\n"),
        body(&format!("\u{1}\u{5}{CANARY}\r\nnot a head: {CANARY}\r\n")),
    ];
    (requests, responses)
}

fn joined(parts: &[Part]) -> String {
    parts.iter().map(|(text, _)| text.as_str()).collect()
}

/// Cuts a stream into calls at these places.
fn cut(wire: &mut Wire, direction: Direction, stream: &str, cuts: &[usize]) -> Vec<Event> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    ends.push(stream.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter()
        .map(|end| {
            let event = wire.call(direction, &stream.as_bytes()[start..end]);
            start = end;
            event
        })
        .collect()
}

#[track_caller]
fn check_parts(parts: &[Part], redacted: &str) {
    assert_eq!(redacted.len(), joined(parts).len());
    let mut at = 0;
    for (part, stays) in parts {
        let now = &redacted[at..at + part.len()];
        at += part.len();
        match stays {
            true => assert_eq!(now, part),
            false => assert!(!now.contains(CANARY), "{now}"),
        }
    }
}

#[test]
fn every_head_of_a_conversation_is_redacted_and_no_body_is_touched() {
    let (requests, responses) = conversation();
    let mut wire = Wire::new(1);
    // Whole streams at once: everything is pipelined.
    let calls = [wire.call(Write, joined(&requests)), wire.call(Read, joined(&responses))];
    let mut redactor = redactor();
    let out = redacted(&mut redactor, calls);
    check_parts(&requests, &text(&out, Write));
    check_parts(&responses, &text(&out, Read));
    assert_eq!(redactor.counts().get(&Rule::Cut), None);
    assert_eq!(redactor.uncovered(), Uncovered::default());
    // Equal keys have equal hashes, whatever header they stand in.
    let written = text(&out, Write);
    let line = |name: &str| written.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    assert_eq!(line("Authorization: Bearer "), line("X-Api-Key:"));
    assert!(line("X-Api-Key:").starts_with("redacted-") || line("X-Api-Key:").len() < 17);
}

proptest! {
    #[test]
    fn where_calls_are_cut_does_not_show(
        writes in prop::collection::vec(any::<usize>(), 0..60),
        reads in prop::collection::vec(any::<usize>(), 0..60),
    ) {
        let (requests, responses) = conversation();
        let (requests, responses) = (joined(&requests), joined(&responses));
        let run = |writes: &[usize], reads: &[usize]| {
            let mut wire = Wire::new(1);
            let mut events = cut(&mut wire, Write, &requests, writes);
            events.extend(cut(&mut wire, Read, &responses, reads));
            let mut redactor = redactor();
            let out = redacted(&mut redactor, events.clone());
            // The same calls come out, in order.
            let calls = |events: &[Event], direction: Direction| -> Vec<_> {
                let call = |event: &Event| match &event.body {
                    Body::Data(tls) if tls.direction == direction => {
                        Some((event.ts, tls.stream_offset, tls.data.len()))
                    }
                    _ => None,
                };
                events.iter().filter_map(call).collect()
            };
            for direction in [Read, Write] {
                assert_eq!(calls(&events, direction), calls(&out, direction));
            }
            (stream(&out, Write), stream(&out, Read), redactor.counts().clone())
        };
        prop_assert_eq!(run(&writes, &reads), run(&[], &[]));
    }
}

#[test]
fn every_single_cut_and_single_bytes_give_the_same() {
    let (requests, _) = conversation();
    let requests = joined(&requests);
    let run = |cuts: &[usize]| {
        let mut wire = Wire::new(1);
        let events = cut(&mut wire, Write, &requests, cuts);
        stream(&redacted(&mut redactor(), events), Write)
    };
    let whole = run(&[]);
    for at in 0..requests.len() {
        assert_eq!(run(&[at]), whole, "cut at {at}");
    }
    let everywhere: Vec<usize> = (0..requests.len()).collect();
    assert_eq!(run(&everywhere), whole);
}

#[test]
fn nothing_waits_that_is_decided() {
    let mut wire = Wire::new(1);
    let mut redactor = redactor();
    let mut out = Vec::new();
    let head = "POST / HTTP/1.1\r\nAuthorization: Bearer abc\r\ncontent-length: 4\r\n\r\n";
    for (call, passes) in [
        (head, true),
        ("ab", true),
        ("cd", true),
        ("GET /a", false),
        ("b HTTP/1.1\r\nHost: h\r\n", false),
        ("Cookie: a=", false),
        ("b\r\n\r\n", true),
    ] {
        redactor.push(wire.call(Write, call), &mut |event| out.push(event));
        let waiting = stream(&out, Write).len() < wire.offsets[&Write] as usize;
        assert_eq!(waiting, !passes, "{call:?}");
    }
}

#[test]
fn what_waits_too_long_is_let_go_without_its_secret() {
    for cut in 1..62 {
        let mut wire = Wire::new(1);
        let request = format!(
            "GET /?key={CANARY} HTTP/1.1\r\nX-Api-Key: {CANARY}\r\n x{CANARY}\r\nx: y\r\n\r\n"
        );
        let (first, second) = request.split_at(cut);
        let mut redactor = redactor();
        let mut out = Vec::new();
        redactor.push(wire.call(Write, first), &mut |event| out.push(event));
        wire.wait(MAX_HOLD_NS + 1_000);
        redactor.push(wire.call(Read, ""), &mut |event| out.push(event));
        assert_eq!(stream(&out, Write).len(), cut, "nothing waits longer");
        redactor.push(wire.call(Write, second), &mut |event| out.push(event));
        redactor.flush(&mut |event| out.push(event));
        let written = text(&out, Write);
        assert_eq!(written.len(), request.len());
        // A part too short to know.
        let known = written.match_indices("cAn").chain(written.match_indices("ArY")).next();
        assert_eq!(known, None, "cut at {cut}: {written}");
        assert!(written.starts_with("GET ") && written.ends_with("\r\n\r\n"), "{written}");
    }
}

#[test]
fn the_end_of_a_connection_or_process_lets_go_first() {
    let close = |wire: &Wire| wire.event(Body::TlsClose { conn_id: wire.conn_id });
    let exit = |wire: &Wire| wire.event(Body::ProcessExit(Exit::default()));
    for end in [close, exit] {
        let mut wire = Wire::new(1);
        let events = [
            wire.call(Write, format!("GET / HTTP/1.1\r\nx-api-key: {CANARY}")),
            wire.call(Read, "HTTP/1.1 2"),
            end(&wire),
        ];
        let mut redactor = redactor();
        let mut out = Vec::new();
        events.into_iter().for_each(|event| redactor.push(event, &mut |event| out.push(event)));
        assert_eq!(out.len(), 3);
        assert!(!matches!(out[2].body, Body::Data(_)));
        assert!(!text(&out, Write).contains(CANARY));
        assert_eq!(redactor.counts()[&Rule::Cut].values, 1);
    }
}

#[test]
fn lines_without_end_are_bounded_and_still_redacted() {
    let mut wire = Wire::new(1);
    let value = format!("{CANARY};").repeat(20_000);
    let request = format!(
        "GET / HTTP/1.1\r\nCookie: a={value}\r\n\r\nGET /next?token={CANARY} HTTP/1.1\r\n\r\n"
    );
    let events = request.as_bytes().chunks(1000).map(|piece| wire.call(Write, piece));
    let written = text(&redacted(&mut redactor(), events.collect::<Vec<_>>()), Write);
    assert_eq!(written.len(), request.len());
    assert!(!written.contains(CANARY));
    assert!(written.contains("\r\n\r\nGET /next?token="));
}

#[test]
fn many_connections_hold_little() {
    let mut redactor = redactor();
    let (mut pushed, mut taken) = (0_u64, 0_u64);
    for conn_id in 0..20_000 {
        let mut wire = Wire::new(conn_id);
        let head = format!("GET / HTTP/1.1\r\nx-api-key: {}", "k".repeat(1000));
        pushed += 1;
        redactor.push(wire.call(Write, head), &mut |_| taken += 1);
        assert!(pushed - taken <= 4096, "{} events are held", pushed - taken);
    }
    redactor.flush(&mut |_| taken += 1);
    assert_eq!(pushed, taken);
}

#[test]
fn a_connection_that_was_forgotten_is_still_searched() {
    let mut redactor = redactor();
    let mut wire = Wire::new(1);
    let mut out = Vec::new();
    let first = wire.call(Write, "GET / HTTP/1.1\r\n\r\n");
    redactor.push(first, &mut |event| out.push(event));
    for conn_id in 2..20_000 {
        redactor.push(Wire::new(conn_id).call(Write, "x"), &mut |_| {});
    }
    let second = format!("GET /?key={CANARY} HTTP/1.1\r\nx-api-key: {CANARY}\r\n\r\n");
    redactor.push(wire.call(Write, second), &mut |event| out.push(event));
    assert!(!text(&out, Write).contains(CANARY));
    assert_eq!(out.len(), 2);
}

#[test]
fn a_gap_in_a_body_costs_no_head() {
    let mut wire = Wire::new(1);
    let head = "POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n";
    let mut events = vec![wire.call(Write, format!("{head}{}", "b".repeat(30)))];
    wire.lose(Write, 50);
    let rest = "x-api-key: stays\r\nbb";
    let next = format!("{rest}GET / HTTP/1.1\r\nx-api-key: {CANARY}\r\n\r\n");
    events.push(wire.call(Write, &next));
    events.push(wire.call(Write, format!("GET /?key={CANARY} HTTP/1.1\r\n\r\n")));
    let written = text(&redacted(&mut redactor(), events), Write);
    assert!(written.contains(rest), "{written}");
    assert!(!written.contains(CANARY), "{written}");
}

#[test]
fn a_gap_in_a_head_hides_the_rest_of_it() {
    let rest = |lost: u64, before: &str, after: &str| {
        let mut wire = Wire::new(1);
        let mut events = vec![wire.call(Write, format!("POST / HTTP/1.1\r\n{before}"))];
        wire.lose(Write, lost);
        events.push(wire.call(Write, after));
        let out = redacted(&mut redactor(), events);
        text(&out, Write)["POST / HTTP/1.1\r\n".len()..].to_owned()
    };
    let after = format!("{CANARY}\r\nCookie: a={CANARY}\r\n\r\n{{\"body\": \"{CANARY}\"}}");
    let written = rest(7, "Authorization: Bearer sk-", &after);
    assert!(!written.split("\r\n\r\n").next().unwrap().contains(CANARY), "{written}");
    assert!(written.ends_with(&format!("{{\"body\": \"{CANARY}\"}}")), "{written}");
    // The last field of the head.
    let written = rest(7, "Authorization: Bearer sk-", &format!("{CANARY}\r\n\r\n"));
    assert!(!written.contains(CANARY), "{written}");
    // The gap swallowed the rest of the head: this is the body.
    let body = format!("{{\"text\": \"{CANARY}\"}}");
    assert!(rest(70, "Authorization: Bearer sk-", &body).ends_with(&body));
    let lines = format!("data: {CANARY}\r\n\r\ndata: {CANARY}\r\n\r\n");
    assert!(rest(70, "Accept: x", &lines).ends_with(&lines));
    // And this is a new message.
    let next = format!("GET /?key={CANARY} HTTP/1.1\r\n\r\n");
    assert!(!rest(70, "Authorization: Bearer sk-", &next).contains(CANARY));
}

#[test]
fn lost_bytes_at_the_end_of_a_call_are_a_gap() {
    let mut wire = Wire::new(1);
    let head = format!("POST / HTTP/1.1\r\ncontent-length: 10\r\nx-api-key: {CANARY}");
    let mut lossy = wire.call(Write, head);
    if let Body::Data(tls) = &mut lossy.body {
        tls.lost_bytes = 5;
        tls.data_bytes += 5;
    }
    wire.lose(Write, 5);
    let events = [lossy, wire.call(Write, format!("{CANARY}\r\nhost: h\r\n\r\n"))];
    let written = text(&redacted(&mut redactor(), events), Write);
    assert!(!written.contains(CANARY), "{written}");
    assert!(written.ends_with("\r\nhost: h\r\n\r\n"), "{written}");
}

#[test]
fn a_recording_that_begins_in_the_middle_finds_the_next_head() {
    let key = format!("x-api-key: {CANARY}\r\n");
    // In a head, in the value of a secret.
    let written = through(Write, &[&format!("{CANARY}\r\n{key}\r\n{{}}")]);
    assert!(!written.contains(CANARY), "{written}");
    // In a body: what is left of it stays.
    let body = format!("...{CANARY}\", \"x\": 1}}\n{key}");
    let written = through(Write, &[&body, &format!("POST / HTTP/1.1\r\n{key}\r\n")]);
    assert!(written.starts_with(&body), "{written}");
    assert!(!written[body.len()..].contains(CANARY), "{written}");
    // A response whose request was not seen may have been to HEAD.
    let response =
        format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\nset-cookie: a={CANARY}\r\n\r\n");
    let written = through(Read, &[&response, &response, "body"]);
    assert!(!written.contains(CANARY), "{written}");
}

#[test]
fn a_body_that_is_not_what_its_head_said_is_searched_for_the_next_head() {
    for framing in ["Transfer-Encoding: chunked", "Content-Length: 5, 6", "Transfer-Encoding: gzip"]
    {
        let head = format!("POST / HTTP/1.1\r\n{framing}\r\n\r\n");
        let next = format!("POST / HTTP/1.1\r\nx-api-key: {CANARY}\r\n\r\n");
        let written = through(Write, &[&head, "no such thing", &next]);
        assert!(!written.contains(CANARY), "{framing}: {written}");
        let written = through(Write, &[&head, &format!("no such thing\r\n{next}")]);
        assert!(!written.contains(CANARY), "{framing}: {written}");
    }
}

#[test]
fn bodies_until_the_close_are_never_searched() {
    let mut wire = Wire::new(1);
    let body = format!("HTTP/1.1 200 OK\r\nset-cookie: a={CANARY}\r\n\r\n");
    let events = [
        wire.call(Write, "GET / HTTP/1.1\r\n\r\n"),
        wire.call(Read, "HTTP/1.1 200 OK\r\n\r\n"),
        wire.call(Read, &body),
        wire.call(Read, &body),
    ];
    let read = text(&redacted(&mut redactor(), events), Read);
    assert!(read.ends_with(&body.repeat(2)), "{read}");
}

#[test]
fn connections_without_searchable_heads_are_counted() {
    let mut redactor = redactor();
    let mut preface = Wire::new(1);
    let mut frames = Wire::new(2);
    let mut other = Wire::new(3);
    let mut http1 = Wire::new(4);
    let events = [
        preface.call(Write, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        preface.call(Write, format!("GET / HTTP/1.1\r\nx-api-key: {CANARY}\r\n\r\n")),
        frames.call(Read, [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0]),
        other.call(Write, "\0\0\0\x08\x04\u{d2}\x16\x2f"),
        http1.call(Write, "GET / HTTP/1.1\r\n\r\n"),
    ];
    let out = redacted(&mut redactor, events);
    assert_eq!(redactor.uncovered(), Uncovered { http2: 2, unrecognised: 1 });
    // Nobody can read HTTP/2 as text, so nothing of it is touched.
    assert!(text(&out, Write).contains(CANARY));
    redactor.push(preface.event(Body::TlsClose { conn_id: 1 }), &mut |_| {});
    assert_eq!(redactor.uncovered(), Uncovered { http2: 2, unrecognised: 1 });
}

#[test]
fn arguments_of_programs_are_redacted_in_both_kinds_of_rows() {
    let argv = || vec!["curl".to_owned(), "-H".to_owned(), format!("x-api-key: {CANARY}")];
    let image = || Image { argv: argv(), ..Image::default() };
    let wire = Wire::new(1);
    let events = [wire.event(Body::ProcessSeen(image())), wire.event(Body::ProcessExec(image()))];
    let mut redactor = redactor();
    for event in redacted(&mut redactor, events) {
        let (Body::ProcessSeen(image) | Body::ProcessExec(image)) = event.body else {
            panic!("expected an image")
        };
        assert_eq!(image.argv[..2], argv()[..2]);
        assert_eq!(image.argv[2].len(), argv()[2].len());
        assert!(image.argv[2].starts_with("x-api-key: ") && !image.argv[2].contains(CANARY));
    }
    let mut own = argv();
    redactor.command_line(&mut own);
    assert!(!own[2].contains(CANARY));
    assert_eq!(redactor.counts()[&Rule::Header].values, 3);
}

#[test]
fn what_programs_tell_each_other_is_searched_wherever_it_is_cut() {
    let text = format!("A=b\nMY_API_KEY={CANARY}\n{{\"text\":\"X_TOKEN={CANARY}\\n\"}}\nplain\n");
    let mut whole = None;
    for cut in 0..text.len() {
        let (one, other) = text.split_at(cut);
        let mut wire = Wire::new(1);
        let events = [wire.print(Write, one), wire.print(Read, "x\n"), wire.print(Write, other)];
        let mut redactor = redactor();
        let out = redacted(&mut redactor, events);
        let written = self::text(&out, Write);
        assert!(!written.contains(CANARY) && written.ends_with("\nplain\n"), "{written}");
        assert_eq!(&written, whole.get_or_insert_with(|| written.clone()));
        assert_eq!(redactor.counts()[&Rule::Text].values, 2);
        assert_eq!(redactor.uncovered(), Uncovered::default());
    }
}

#[test]
fn a_line_in_a_pipe_is_not_waited_for_too_long() {
    let mut wire = Wire::new(1);
    let mut redactor = redactor();
    let mut out = Vec::new();
    let prompt = wire.print(Write, "Continue? [y/n] ");
    redactor.push(prompt.clone(), &mut |event| out.push(event));
    assert!(out.is_empty());
    wire.wait(MAX_HOLD_NS + 1_000);
    redactor.push(wire.print(Read, "y\n"), &mut |event| out.push(event));
    assert_eq!(out[0], prompt);
    assert_eq!(out.len(), 2);
}

#[test]
fn secrets_of_heads_and_arguments_are_found_in_what_programs_print() {
    let (key, token) = ("Abcdefghijklmnopq", "qponmlkjihgfedcbA");
    let mut wire = Wire::new(1);
    let mut pipe = Wire::new(2);
    let image = Image { argv: vec![format!("--token={token}")], ..Image::default() };
    let printed = format!("one {key} and {token}!\n");
    let events = [
        pipe.print(Write, &printed),
        wire.event(Body::ProcessExec(image)),
        wire.call(Write, format!("GET / HTTP/1.1\r\nx-api-key: {key}\r\n\r\n")),
        pipe.print(Write, &printed),
    ];
    let mut redactor = redactor();
    let out = redacted(&mut redactor, events);
    let of_pipe = |event: &&Event| matches!(&event.body, Body::Data(data) if data.conn_id == 2);
    let lines: Vec<String> =
        out.iter().filter(of_pipe).map(|event| text(std::slice::from_ref(event), Write)).collect();
    assert_eq!(lines[0], printed, "nothing was known yet");
    assert!(!lines[1].contains(key) && !lines[1].contains(token), "{}", lines[1]);
    let head =
        out.iter().find(|event| matches!(&event.body, Body::Data(data) if data.conn_id == 1));
    let head = text(std::slice::from_ref(head.unwrap()), Write);
    let hash = head.split("x-api-key: ").nth(1).unwrap().trim_end();
    assert!(lines[1].starts_with(&format!("one {hash} and ")), "{}", lines[1]);
    assert_eq!(redactor.counts()[&Rule::Known].values, 2);
}
