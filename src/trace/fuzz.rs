//! What the `trace_*` targets in `fuzz/` run, as ordinary functions that unit tests run on seeds.
//!
//! Each takes any bytes. None may panic outside of what the reader guards, hang, or take memory out
//! of proportion.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chunk::ChunkStore;
use super::decode::{Rows, reading_schema};
use super::draft::Draft;
use super::encode::Sheet;
use super::log::fuzz as parts;
use super::schema::{Column, KINDS};
use super::{
    ClosingMetadata, Keys, Limits, Metadata, Reader, Skipped, Writer, cells, footer, log_path,
    repair,
};
use crate::event::{
    Body, Channel, ChannelType, Confidence, Direction, Event, Exit, FileAccess, FileOp, Fork,
    Image, Loss, PathOperation, Probe, ProbeState, ProcessId, Role, Sample, Source, StreamData,
    TlsSocket,
};
use crate::time::WallNanos;

/// Any bytes as a file.
pub fn bytes(bytes: &[u8]) {
    #[cfg(fuzzing)]
    let_panics_unwind();
    let scratch = Scratch::new();
    std::fs::write(&scratch.0, bytes).expect("expected room for a temporary file");
    let _ = read(&scratch.0);
}

/// A script that changes a valid file: one byte says which, the others are [`changed`]'s.
pub fn file(script: &[u8]) {
    let [which, changes @ ..] = script else { return };
    bytes(&changed(&FILES[usize::from(*which) % FILES.len()], changes));
}

/// A script of what stands in a log beside a file of no rows: one byte says what of a valid log to
/// change or, if it is odd, that the rest of the script are records; and whether to go on from what
/// the log holds to what it makes of the file, which is a hundred times slower.
pub fn log(script: &[u8]) {
    let [which, script @ ..] = script else { return };
    #[cfg(fuzzing)]
    let_panics_unwind();
    let LogParts { main, base, records } = &*LOG;
    let log = match which % 4 {
        0 => parts::log(&[&changed(base, script), records]),
        2 => parts::log(&[base, &changed(records, script)]),
        _ => parts::log(&[base, script, records]),
    };
    if which & 8 == 0 {
        let replayed = super::log::replay(log.as_slice(), log.len() as u64);
        let Ok(replayed) = replayed.expect("expected memory to be readable") else { return };
        assert!(replayed.torn_bytes <= log.len() as u64);
        return;
    }
    let scratch = Scratch::new();
    std::fs::write(&scratch.0, main).expect("expected room for a temporary file");
    std::fs::write(log_path(&scratch.0), &log).expect("expected room for a temporary file");
    let Ok((events, skipped)) = read_pair(&scratch.0) else { return };
    // A repair changes nothing of what a reader sees.
    repair(&scratch.0).expect("expected a recording that can be read to be repaired");
    assert_eq!(read_pair(&scratch.0), Ok((events, skipped)));
    assert!(!log_path(&scratch.0).exists(), "the log is still there");
}

/// A copy of valid bytes with changes: a place (2 bytes, counted from the end if odd), a length, and
/// as many bytes to put there.
fn changed(valid: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    let mut rest = script;
    while let [high, low, length, after @ ..] = rest {
        let (new, after) = after.split_at(usize::from(length % 16).min(after.len()));
        rest = after;
        let place = usize::from(u16::from_be_bytes([*high, *low]) / 2) % bytes.len();
        let place = if low % 2 == 0 { place } else { bytes.len() - 1 - place };
        let length = new.len().min(bytes.len() - place);
        bytes[place..place + length].copy_from_slice(&new[..length]);
    }
    bytes
}

/// Rows as the open group and the log hold them, each with its length before it; and the events that
/// come of them.
pub fn rows(script: &[u8]) {
    let mut chunks = ChunkStore::new();
    for chunk in [&b""[..], b"one", b"another chunk"] {
        chunks.intern(chunk).expect("expected memory for a chunk");
    }
    let mut rest = script;
    while let [length, after @ ..] = rest {
        let (row, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let Some(event) = event(row, &chunks) else { continue };
        // An event that could be read can be written, and is then the same.
        let mut again = ChunkStore::new();
        let ids: Vec<_> = match &event.body {
            Body::Data(tls) => again.intern_all(&tls.data).expect("expected memory for a chunk"),
            _ => Vec::new(),
        };
        let mut row = Vec::new();
        cells::write(&event, 0, &ids, &mut row);
        let back = self::event(&row, &again);
        assert_eq!(format!("{back:?}"), format!("{:?}", Some(event)));
    }
}

/// The event of one row, if it is one.
fn event(row: &[u8], chunks: &ChunkStore) -> Option<Event> {
    let mut sheet = Sheet::new(Column::ALL);
    sheet.push(row, chunks).ok()?;
    let batch = sheet.finish().ok()?;
    let schema = reading_schema(&batch.schema()).expect("expected the schema of a trace");
    let columns = batch.columns().iter().zip(schema.fields());
    let viewed = columns.map(|(array, field)| arrow::compute::cast(array, field.data_type()));
    let viewed = viewed.collect::<Result<_, _>>().expect("expected values to have views");
    let batch = arrow::array::RecordBatch::try_new(schema.into(), viewed).ok()?;
    let rows = Rows::new(&batch);
    rows.position(0).ok()?;
    let kind = batch.column(Column::Kind as usize);
    let kind = arrow::array::AsArray::as_string_view(kind.as_ref()).value(0);
    let event = rows.event(kind, 0).ok()?;
    assert_eq!(event.is_some(), KINDS.iter().any(|known| known.name == kind));
    event
}

/// Reads all there is of a file, or up to its first error.
fn read(path: &Path) -> Result<(usize, String), String> {
    let reader = Reader::open(path).map_err(|error| error.to_string())?;
    let mut events = 0;
    for event in reader.events(None) {
        event.map_err(|error| error.to_string())?;
        events += 1;
    }
    let batches = reader.batches(&["ts", "kind"]).map_err(|error| error.to_string())?;
    for batch in batches {
        batch.map_err(|error| error.to_string())?;
    }
    let about = (reader.metadata(), reader.row_count(), reader.unknown_columns(), reader.skipped());
    Ok((events, format!("{about:?}")))
}

/// All events of a recording, as text, and what was passed over.
fn read_pair(path: &Path) -> Result<(Vec<String>, Skipped), String> {
    let reader = Reader::open(path).map_err(|error| error.to_string())?;
    let events = reader.events(None).map(|event| event.map(|event| format!("{event:?}")));
    let events = events.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    Ok((events, reader.skipped()))
}

/// libFuzzer's hook ends the program at any panic; those of the Parquet library may be caught. One
/// that is not ends the program all the same.
#[cfg(fuzzing)]
fn let_panics_unwind() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
}

/// The path of a file of its own that is gone in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("agentsight-fuzz-{}-{number}.parquet", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on them.
        let _ = std::fs::remove_file(log_path(&self.0));
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Valid files: of every kind in one group, and of several groups.
static FILES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let one_group = Limits::default();
    vec![written(one_group), written(Limits { group_bytes: 1500, ..one_group })]
});

fn written(limits: Limits) -> Vec<u8> {
    let mut file = Vec::new();
    let metadata = Metadata::default();
    let mut writer = Writer::with_limits(&mut file, metadata, limits).expect("expected a writer");
    for event in one_of_each() {
        writer.push(event).expect("expected memory to take what is written");
    }
    writer.finish(ClosingMetadata::default()).expect("expected memory to take what is written");
    file
}

/// The parts of a recording whose events are all in its log.
struct LogParts {
    main: Vec<u8>,
    base: Vec<u8>,
    records: Vec<u8>,
}

static LOG: LazyLock<LogParts> = LazyLock::new(|| {
    let mut draft = Draft::new(Keys::new(&Metadata::default()), Limits::default());
    let mut main = footer::MAGIC.to_vec();
    draft.write_footer(&[], &mut main).expect("expected memory to take what is written");
    let base = parts::base(&draft);
    one_of_each().into_iter().for_each(|event| draft.keep(event).expect("expected memory"));
    LogParts { main, base, records: parts::records(&draft) }
});

/// One event of every kind.
fn one_of_each() -> Vec<Event> {
    let stream = |source, direction, stream_offset, data: &[u8]| {
        let is_tls = source == Source::Tls;
        Body::Data(StreamData {
            source,
            conn_id: if is_tls { 9 } else { 10 },
            direction,
            stream_offset,
            data_bytes: data.len() as u64 + 2,
            lost_bytes: 2,
            data: data.to_vec(),
            library: if is_tls { "openssl" } else { "" }.to_owned(),
            fd: (!is_tls).then_some(3),
            call_ts: vec![WallNanos(5), WallNanos(6)],
            call_bytes: vec![1, data.len() as u64 + 1],
        })
    };
    let tls =
        |direction, stream_offset, data: &[u8]| stream(Source::Tls, direction, stream_offset, data);
    let channel = Channel {
        conn_id: 10,
        channel_type: ChannelType::Tcp,
        role: Role::Connect,
        fd: 3,
        local_addr: None,
        remote_addr: Some("[::1]:443".to_owned()),
        errno: 0,
    };
    let socket = TlsSocket { conn_id: 9, socket_conn_id: 10, confidence: Confidence::Likely };
    let rename = FileOp {
        operation: PathOperation::Rename,
        path: Some("/a".to_owned()),
        new_path: Some("/b".to_owned()),
    };
    let access = FileAccess {
        path: Some("/a".to_owned()),
        flags: Some("O_RDWR".to_owned()),
        open_count: 1,
        ..FileAccess::default()
    };
    let image = || Image { argv: vec!["agent".to_owned(), String::new()], ..Image::default() };
    let sample = || Sample { cpu_percent: Some(12.5), ..Sample::default() };
    let payload: Vec<u8> = (0..5000_u32).map(|at| (at / 7 + at / 100) as u8).collect();
    let bodies = [
        Body::ProcessSeen(image()),
        Body::ProcessFork(Fork { ppid: 42, uid: 1000 }),
        Body::ProcessExec(Image { exe: Some("/bin/agent".to_owned()), ..image() }),
        tls(Direction::Write, 10, &payload),
        tls(Direction::Write, 0, b"before"),
        tls(Direction::Read, 0, b"HTTP/1.1 200 OK\r\n\r\n"),
        Body::TlsClose { conn_id: 9 },
        Body::Sample(sample()),
        Body::RecorderSample(sample()),
        Body::ProcessExit(Exit { exit_code: Some(0), ..Exit::default() }),
        Body::Loss(Loss {
            first_ts: WallNanos(1),
            event_class: "tls_data".to_owned(),
            cause: "ring_full".to_owned(),
            lost_events: 2,
            lost_bytes: 99,
            conn_id: Some(9),
        }),
        Body::Probe(Probe {
            path: "/bin/agent".to_owned(),
            library: Some("boringssl".to_owned()),
            state: ProbeState::Attached,
            detail: "SSL_read@0x10".to_owned(),
            build_id: None,
        }),
        Body::ChannelOpen(channel),
        stream(Source::Socket, Direction::Write, 0, b"GET / HTTP/1.1\r\n\r\n"),
        stream(Source::Stdio, Direction::Read, 0, b"text"),
        stream(Source::TlsHello, Direction::Write, 40, &[22, 3, 1]),
        stream(Source::Dns, Direction::Read, 0, &[0; 12]),
        Body::TlsSocket(socket),
        Body::FileOp(rename),
        Body::FileAccess(access),
        Body::ChannelClose { conn_id: 10, read_bytes: 5, written_bytes: 60 },
    ];
    let event = |(at, body)| Event {
        ts: WallNanos(at as i64),
        process: Some(ProcessId { pid: 42, start_ts: WallNanos(0) }),
        tid: Some(43),
        comm: Some("agent".to_owned()),
        body,
    };
    bodies.into_iter().enumerate().map(event).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seeds_read_as_they_are() {
        for file in FILES.iter() {
            let scratch = Scratch::new();
            std::fs::write(&scratch.0, file).unwrap();
            let (events, about) = read(&scratch.0).unwrap();
            assert_eq!(events, one_of_each().len(), "{about}");
            bytes(&file[..file.len() / 2]);
        }
        assert!(FILES[1].len() > FILES[0].len());
    }

    #[test]
    fn the_log_that_is_changed_is_whole() {
        let LogParts { main, base, records } = &*LOG;
        let scratch = Scratch::new();
        std::fs::write(&scratch.0, main).unwrap();
        std::fs::write(log_path(&scratch.0), parts::log(&[base, records])).unwrap();
        assert_eq!(read_pair(&scratch.0).unwrap().0.len(), one_of_each().len());
        (0..16).for_each(|which| log(&[which]));
    }

    #[test]
    fn every_event_survives_as_a_row() {
        let mut script = Vec::new();
        for event in one_of_each() {
            let mut row = Vec::new();
            cells::write(&event, 0, &[], &mut row);
            script.push(row.len() as u8);
            script.extend(row);
        }
        rows(&script);
    }

    proptest! {
        #[test]
        fn changed_rows_hold(
            which in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut row = Vec::new();
            let events = one_of_each();
            cells::write(&events[which.index(events.len())], 0, &[], &mut row);
            for (at, value) in changes {
                let at = at.index(row.len());
                row[at] = value;
            }
            rows(&[&[row.len() as u8][..], &row].concat());
        }

        #[test]
        fn changed_files_hold(script in prop::collection::vec(any::<u8>(), 0..40)) {
            file(&script);
        }

        #[test]
        fn changed_logs_hold(script in prop::collection::vec(any::<u8>(), 0..40)) {
            log(&script);
        }
    }
}
