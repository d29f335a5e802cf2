//! Reads the transcripts of `fixtures/transcripts` (notation: the README there) and turns them
//! into events, cut in several ways.

mod bytes;
mod deflate;
mod http2;
mod websocket;

use std::collections::HashMap;
use std::ops::Range;

use agentsight::event::{
    Body, Channel, ChannelType, Direction, Event, Exit, ProcessId, Role, Source, StreamData,
};
use agentsight::time::WallNanos;

/// The time at which every transcript begins.
pub(crate) const START: WallNanos = WallNanos(1_800_000_000_000_000_000);

/// What a transcript says happened, in order.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The connection is a socket that speaks plain text.
    Socket {
        conn_id: u64,
        role: Role,
        ts: WallNanos,
    },
    /// The connection is a pipe or socket pair between programs.
    Stdio {
        channel: Channel,
        process: ProcessId,
        ts: WallNanos,
    },
    Call {
        conn_id: u64,
        direction: Direction,
        ts: WallNanos,
        bytes: Vec<u8>,
        lost: u64,
    },
    /// Bytes of which no event tells.
    Unseen {
        conn_id: u64,
        direction: Direction,
        bytes: u64,
    },
    Close {
        conn_id: u64,
        ts: WallNanos,
    },
    Exit {
        process: ProcessId,
        ts: WallNanos,
    },
}

/// What becomes of a call whose content is written out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Seen,
    /// No event tells of it.
    Lost,
    /// It was before the recording began.
    Before,
}

/// How calls become events.
#[derive(Clone, Copy)]
pub(crate) enum Cut<'a> {
    /// Calls that follow each other in one direction are one event.
    Joined,
    /// A call is an event.
    Calls,
    /// A byte is an event.
    Bytes,
    /// Calls are cut where the function says, given a running byte number.
    Where(&'a dyn Fn(usize) -> bool),
}

pub(crate) fn process() -> ProcessId {
    process_of(42)
}

fn process_of(pid: u32) -> ProcessId {
    ProcessId { pid, start_ts: WallNanos(START.0 - 1_000_000_000) }
}

/// Parses a transcript; panics with the line number where it is wrong.
pub(crate) fn parse(text: &str) -> Vec<Step> {
    let mut encoders: HashMap<(u64, Direction), bytes::Encoder> = HashMap::new();
    let mut steps = Vec::new();
    let mut now = START;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let wrong = |what: &str| -> ! { panic!("line {}: {what}: {line}", number + 1) };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split(' ');
        let verb = words.next().unwrap_or_default();
        let (mut conn_id, mut elapsed_ms, mut lost, mut unseen) = (1, 1.0, 0, 0);
        let (mut role, mut pid, mut fd, mut addresses) = (None, 42, None, Vec::new());
        let mut fate = Fate::Seen;
        for word in words {
            match word.split_at(1) {
                _ if verb == "stdio" && word.starts_with("fd=") => {
                    fd = word[3..].parse().ok();
                }
                _ if verb == "stdio" && word.contains(':') => addresses.push(word.to_owned()),
                ("%", number) => pid = number.parse().unwrap(),
                _ if verb == "socket" && Role::from_name(word).is_some() => {
                    role = Role::from_name(word);
                }
                _ if word == "before" => fate = Fate::Before,
                _ if word == "lost" => fate = Fate::Lost,
                ("@", number) => conn_id = number.parse().unwrap(),
                ("+", ms) => elapsed_ms = ms.parse().unwrap(),
                ("!", bytes) => lost = bytes.parse().unwrap(),
                ("?", bytes) => unseen = bytes.parse().unwrap(),
                _ => wrong("unknown word"),
            }
        }
        now = WallNanos(now.0 + (elapsed_ms * 1e6) as i64);
        let direction = match verb {
            ">>>" => Direction::Write,
            "<<<" => Direction::Read,
            "socket" => {
                let role = role.unwrap_or_else(|| wrong("expected connect, accept or inherited"));
                steps.push(Step::Socket { conn_id, role, ts: now });
                continue;
            }
            "close" => {
                steps.push(Step::Close { conn_id, ts: now });
                continue;
            }
            "stdio" => {
                let fd = fd.unwrap_or_else(|| wrong("expected fd=NUMBER"));
                let Some(local) = addresses.first() else { wrong("expected an address") };
                let (local_addr, remote_addr) = (local.clone(), addresses.last().cloned());
                let is_pipe = local.starts_with("pipe");
                let channel = Channel {
                    conn_id,
                    channel_type: if is_pipe { ChannelType::Pipe } else { ChannelType::Unix },
                    role: Role::Inherited,
                    fd,
                    local_addr: Some(local_addr),
                    remote_addr,
                    errno: 0,
                };
                steps.push(Step::Stdio { channel, process: process_of(pid), ts: now });
                continue;
            }
            "exit" => {
                steps.push(Step::Exit { process: process_of(pid), ts: now });
                continue;
            }
            _ => wrong("expected >>>, <<<, socket, stdio, close or exit"),
        };
        if unseen > 0 {
            steps.push(Step::Unseen { conn_id, direction, bytes: unseen });
            continue;
        }
        let mut content = Vec::new();
        let is_content = |line: &str| {
            !line.is_empty()
                && !["#", ">>>", "<<<", "socket", "stdio", "close", "exit"]
                    .iter()
                    .any(|s| line.starts_with(s))
        };
        while let Some((_, line)) = lines.next_if(|(_, line)| is_content(line)) {
            content.push(line);
        }
        let is_accepted = steps.iter().any(|step| {
            matches!(step, Step::Socket { conn_id: of, role: Role::Accept, .. } if *of == conn_id)
        });
        let is_client = (direction == Direction::Write) != is_accepted;
        let encoder = encoders.entry((conn_id, direction)).or_default();
        let bytes = encoder.call(&content, is_client);
        match fate {
            Fate::Seen => steps.push(Step::Call { conn_id, direction, ts: now, bytes, lost }),
            Fate::Lost => {
                steps.push(Step::Unseen { conn_id, direction, bytes: bytes.len() as u64 });
            }
            Fate::Before => {}
        }
    }
    steps
}

/// The events of a transcript.
pub(crate) fn events(steps: &[Step], cut: Cut<'_>) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut offsets = std::collections::HashMap::new();
    let mut number = 0;
    let mut must_split = false;
    let mut channels = std::collections::HashMap::new();
    for step in steps {
        match step {
            Step::Socket { conn_id, role, ts } => {
                channels.insert(*conn_id, (Source::Socket, process(), None));
                events.push(event(*ts, Body::ChannelOpen(channel(*conn_id, *role))));
            }
            Step::Stdio { channel, process, ts } => {
                channels.insert(channel.conn_id, (Source::Stdio, *process, Some(channel.fd)));
                events.push(event_of(*process, *ts, Body::ChannelOpen(channel.clone())));
            }
            Step::Close { conn_id, ts } => {
                let conn_id = *conn_id;
                let (body, of) = match channels.get(&conn_id) {
                    Some((_, of, _)) => {
                        (Body::ChannelClose { conn_id, read_bytes: 0, written_bytes: 0 }, *of)
                    }
                    None => (Body::TlsClose { conn_id }, process()),
                };
                events.push(event_of(of, *ts, body));
            }
            Step::Exit { process, ts } => {
                events.push(event_of(*process, *ts, Body::ProcessExit(Exit::default())));
            }
            Step::Unseen { conn_id, direction, bytes } => {
                *offsets.entry((*conn_id, *direction)).or_default() += bytes;
                must_split = true;
            }
            Step::Call { conn_id, direction, ts, bytes, lost } => {
                let offset: &mut u64 = offsets.entry((*conn_id, *direction)).or_default();
                let joined = match (cut, events.last_mut()) {
                    (Cut::Joined, Some(last)) if !std::mem::take(&mut must_split) => {
                        join(last, *conn_id, *direction, *ts, bytes, *lost)
                    }
                    _ => false,
                };
                if !joined {
                    for range in cuts(bytes.len(), cut, &mut number) {
                        let is_last = range.end == bytes.len();
                        let (source, of, fd) = channels.get(conn_id).copied().unwrap_or((
                            Source::Tls,
                            process(),
                            None,
                        ));
                        let part = StreamData {
                            source,
                            conn_id: *conn_id,
                            direction: *direction,
                            stream_offset: *offset + range.start as u64,
                            data_bytes: range.len() as u64 + if is_last { *lost } else { 0 },
                            lost_bytes: if is_last { *lost } else { 0 },
                            data: bytes[range].to_vec(),
                            library: "openssl".to_owned(),
                            fd,
                            call_ts: Vec::new(),
                            call_bytes: Vec::new(),
                        };
                        events.push(event_of(of, *ts, Body::Data(part)));
                    }
                }
                *offset += bytes.len() as u64 + lost;
            }
        }
    }
    events
}

fn channel(conn_id: u64, role: Role) -> Channel {
    Channel {
        conn_id,
        channel_type: ChannelType::Tcp,
        role,
        fd: 7,
        local_addr: Some("127.0.0.1:40000".to_owned()),
        remote_addr: Some("127.0.0.1:11434".to_owned()),
        errno: 0,
    }
}

fn event(ts: WallNanos, body: Body) -> Event {
    event_of(process(), ts, body)
}

fn event_of(process: ProcessId, ts: WallNanos, body: Body) -> Event {
    let comm = Some("agent".to_owned());
    Event { ts, process: Some(process), tid: Some(process.pid), comm, body }
}

/// Adds a call to the event before it, if that is of the same stream and nothing of it is lost.
fn join(
    last: &mut Event,
    conn_id: u64,
    direction: Direction,
    ts: WallNanos,
    bytes: &[u8],
    lost: u64,
) -> bool {
    let first_ts = last.ts;
    let Body::Data(data) = &mut last.body else { return false };
    if data.conn_id != conn_id || data.direction != direction || data.lost_bytes > 0 {
        return false;
    }
    if data.call_ts.is_empty() {
        data.call_ts.push(first_ts);
        data.call_bytes.push(data.data_bytes);
    }
    data.call_ts.push(ts);
    data.call_bytes.push(bytes.len() as u64 + lost);
    data.data.extend_from_slice(bytes);
    data.data_bytes += bytes.len() as u64 + lost;
    data.lost_bytes = lost;
    true
}

fn cuts(length: usize, cut: Cut<'_>, number: &mut usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for at in 1..length {
        *number += 1;
        let here = match cut {
            Cut::Joined | Cut::Calls => false,
            Cut::Bytes => true,
            Cut::Where(decide) => decide(*number),
        };
        if here {
            ranges.push(start..at);
            start = at;
        }
    }
    ranges.push(start..length);
    ranges
}
