//! How fast and how small the trace file is: `cargo bench --no-default-features --bench trace`.
//!
//! Each case goes through the ways a recording takes: joined and written as a finished file; with the
//! log beside it, written four times a second of recorded time; read back; and, killed at the end,
//! its log replayed. Beside it the same payload as one plain zstd column of the same level, one value
//! per call. MB are of payload, 10^6 bytes, per second of this thread's processor time, the best of
//! three; there is no threshold. Names of cases as arguments run only those. Linux.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentsight::event::{Body, Direction, Event};
use agentsight::trace::{
    Burst, ClosingMetadata, CreateFile, Metadata, Reader, Recording, Summary, Sync, Writer,
};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

#[path = "../tests/support/session.rs"]
mod session;
use session::{Connection, Random, interleaved, resend_history};

/// How often a recorder writes the log, in recorded time.
const LOG_INTERVAL_NS: i64 = 250_000_000;

type Case = (&'static str, fn() -> Vec<Event>);

const CASES: &[Case] = &[
    ("200 turns", || collected(|out| resend_history(200, 7, out))),
    ("4 x 100 turns", || collected(|out| interleaved(4, 100, out))),
    ("unique text", || calls(6400, |random| random.text(16 * 1024).into_bytes())),
    ("noise", || calls(6400, |random| random.bytes(16 * 1024))),
    ("small reads", || {
        calls(200_000, |random| format!("data: {{\"text\":{:?}}}\n\n", random.text(40)).into())
    }),
];

fn collected(traffic: impl FnOnce(&mut dyn FnMut(Event))) -> Vec<Event> {
    let mut events = Vec::new();
    traffic(&mut |event| events.push(event));
    events
}

fn calls(count: usize, data: impl Fn(&mut Random) -> Vec<u8>) -> Vec<Event> {
    let (mut random, mut connection) = (Random::new(7), Connection::new(1));
    let large = data(&mut random).len() >= 4096;
    let (direction, pause_ns) =
        if large { (Direction::Write, 20_000) } else { (Direction::Read, 1_000_000) };
    (0..count).map(|_| connection.call(direction, &data(&mut random), pause_ns)).collect()
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        // Run as one of the tests, unoptimised: figures would mean nothing.
        return;
    }
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    println!(
        "{:<14} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "case", "payload", "file", "payload", "file", "write", "plain", "log too", "read", "replay"
    );
    println!(
        "{:<14} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "", "MB", "MB", "/ file", "/ plain", "MB/s", "MB/s", "MB/s", "MB/s", "MB/s"
    );
    for (name, events) in CASES {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            run(name, &events());
        }
    }
}

fn run(name: &str, events: &[Event]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    let payload = |event: &Event| match &event.body {
        Body::Data(tls) => tls.data.len(),
        _ => 0,
    };
    let payload_mb = events.iter().map(payload).sum::<usize>() as f64 / 1e6;
    let best = |run: &mut dyn FnMut() -> Duration| {
        (0..3).map(|_| run()).min().unwrap_or_default().as_secs_f64()
    };
    let mut file_mb = 0.0;
    let write = best(&mut || {
        let events = events.to_vec();
        let started = cpu_time();
        file_mb = written(&path, events).file_bytes as f64 / 1e6;
        cpu_time() - started
    });
    let read = best(&mut || {
        let started = cpu_time();
        for event in Reader::open(&path).unwrap().events(None) {
            black_box(event.unwrap());
        }
        cpu_time() - started
    });
    let mut plain_mb = 0.0;
    let plain = best(&mut || {
        let events = events.to_vec();
        let started = cpu_time();
        plain_mb = plain_bytes(events, &directory.path().join("plain.parquet")) as f64 / 1e6;
        cpu_time() - started
    });
    let logged = best(&mut || {
        let events = events.to_vec();
        let started = cpu_time();
        let finished = recorded(&path, events).finish(ClosingMetadata::default());
        assert!(finished.unfinished.is_none());
        cpu_time() - started
    });
    let mut replayed_mb = 0.0;
    let replay = best(&mut || {
        drop(recorded(&path, events.to_vec()));
        let started = cpu_time();
        black_box(Reader::open(&path).unwrap());
        let took = cpu_time() - started;
        let closed_mb = main_file_payload_mb(&path);
        replayed_mb = payload_mb - closed_mb;
        took
    });
    println!(
        "{name:<14} {payload_mb:>8.1} {file_mb:>8.3} {:>7.1} {:>7.3} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8}",
        payload_mb / file_mb,
        file_mb / plain_mb,
        payload_mb / write,
        payload_mb / plain,
        payload_mb / logged,
        payload_mb / read,
        // Where the last group had just been closed there is nothing to replay.
        if replayed_mb > 1.0 { format!("{:.0}", replayed_mb / replay) } else { "-".to_owned() },
    );
}

/// Processor time of this thread: what else runs on the machine does not show in it.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn written(path: &Path, events: Vec<Event>) -> Summary {
    let mut writer = Writer::create(File::create(path).unwrap(), Metadata::default()).unwrap();
    let mut burst = Burst::new();
    for event in events {
        burst.push(event, &mut |event| writer.push(event).unwrap());
    }
    burst.flush(&mut |event| writer.push(event).unwrap());
    writer.finish(ClosingMetadata::default()).unwrap()
}

/// A recording that has taken in all events and logged them.
fn recorded(path: &Path, events: Vec<Event>) -> Recording {
    let create: CreateFile = Box::new(|path: &Path| {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    });
    let file = File::create(path).unwrap();
    let metadata = Metadata::default();
    let mut recording = Recording::create(file, path, &metadata, Sync::None, create).unwrap();
    let mut burst = Burst::new();
    let mut log_due = i64::MIN;
    for event in events {
        let ts = event.ts.0;
        burst.push(event, &mut |event| recording.push(event).unwrap());
        if ts >= log_due {
            recording.flush_log().unwrap();
            log_due = ts + LOG_INTERVAL_NS;
        }
    }
    burst.flush(&mut |event| recording.push(event).unwrap());
    recording.flush_log().unwrap();
    recording
}

/// Payload in the closed row groups of an unfinished recording.
fn main_file_payload_mb(path: &Path) -> f64 {
    let log = agentsight::trace::log_path(path);
    std::fs::remove_file(log).unwrap();
    let kinds = Reader::open(path).unwrap().totals().unwrap().kinds;
    kinds.values().map(|kind| kind.bytes).sum::<u64>() as f64 / 1e6
}

/// The same payload, one value per call, in one plain zstd column; its size.
fn plain_bytes(events: Vec<Event>, path: &Path) -> u64 {
    const BATCH_BYTES: usize = 4 << 20;
    let level = ZstdLevel::try_new(3).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_dictionary_enabled(false)
        .build();
    let (mut values, mut bytes) = (Vec::new(), 0);
    let batch = |values: &mut Vec<Vec<u8>>| {
        let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(values.drain(..)));
        RecordBatch::try_from_iter([("data", array)]).unwrap()
    };
    let schema = batch(&mut Vec::new()).schema();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, schema, Some(properties)).unwrap();
    for event in events {
        let Body::Data(tls) = event.body else { continue };
        bytes += tls.data.len();
        values.push(tls.data);
        if bytes >= BATCH_BYTES {
            writer.write(&batch(&mut values)).unwrap();
            bytes = 0;
        }
    }
    writer.write(&batch(&mut values)).unwrap();
    writer.close().unwrap();
    std::fs::metadata(path).unwrap().len()
}
