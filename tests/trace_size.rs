//! What a trace costs: re-sent history next to nothing, everything else hardly more than plain.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use agentsight::event::{Body, Direction};
use agentsight::trace::{self, Burst, Limits, Writer};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use session::{Connection, Random, interleaved, resend_history};
use trace_file::{closing, metadata, read, scratch, write};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

#[test]
fn history_that_is_sent_again_is_stored_once() {
    let (_directory, path) = scratch();
    let mut writer = Writer::create(File::create(&path).unwrap(), metadata()).unwrap();
    let mut burst = Burst::new();
    resend_history(60, 7, &mut |event| {
        burst.push(event, &mut |event| writer.push(event).unwrap());
    });
    burst.flush(&mut |event| writer.push(event).unwrap());
    let summary = writer.finish(closing()).unwrap();
    let ratio = summary.payload_bytes as f64 / summary.file_bytes as f64;
    assert!(
        ratio > 30.0,
        "{} bytes of payload are {ratio:.1} times the file",
        summary.payload_bytes
    );

    // Every call is still there with its own bytes, per stream.
    let mut sent: BTreeMap<Direction, Vec<u8>> = BTreeMap::new();
    resend_history(60, 7, &mut |event| {
        let Body::Data(tls) = event.body else { return };
        sent.entry(tls.direction).or_default().extend(tls.data);
    });
    for event in read(&path) {
        let Body::Data(tls) = event.body else { panic!("expected tls_data") };
        let from = tls.stream_offset as usize;
        let stored = &sent[&tls.direction][from..from + tls.data_bytes as usize];
        assert!(tls.data == stored, "stream {:?} differs at {from}", tls.direction);
    }
}

/// Writes traffic with default limits and says what became of it.
fn summary(traffic: impl FnOnce(&mut dyn FnMut(agentsight::event::Event))) -> trace::Summary {
    let (_directory, path) = scratch();
    let mut writer = Writer::create(File::create(&path).unwrap(), metadata()).unwrap();
    let mut burst = Burst::new();
    traffic(&mut |event| burst.push(event, &mut |event| writer.push(event).unwrap()));
    burst.flush(&mut |event| writer.push(event).unwrap());
    writer.finish(closing()).unwrap()
}

#[test]
fn two_hundred_turns_are_less_than_a_megabyte() {
    let summary = summary(|out| resend_history(200, 7, out));
    assert!(summary.payload_bytes > 150_000_000, "{} bytes of payload", summary.payload_bytes);
    assert!(summary.file_bytes < 1_000_000, "{} bytes", summary.file_bytes);
}

#[test]
fn sessions_side_by_side_are_each_stored_once() {
    let summary = summary(|out| interleaved(4, 100, out));
    let ratio = summary.payload_bytes as f64 / summary.file_bytes as f64;
    assert!(ratio > 120.0, "{ratio:.1} times smaller, {} row groups", summary.row_groups);
}

#[test]
fn text_seen_once_costs_hardly_more_than_a_plain_column() {
    let (_directory, path) = scratch();
    let mut random = Random::new(11);
    let pieces: Vec<_> = (0..256).map(|_| random.text(16 * 1024)).collect();
    let mut connection = Connection::new(1);
    let events: Vec<_> = pieces
        .iter()
        .map(|piece| connection.call(Direction::Write, piece.as_bytes(), 20_000))
        .collect();
    let trace_bytes = write(&path, &events, Limits::default()).file_bytes;
    let array: ArrayRef = Arc::new(StringArray::from_iter_values(&pieces));
    let batch = RecordBatch::try_from_iter([("data", array)]).unwrap();
    let zstd = parquet::basic::ZstdLevel::try_new(3).unwrap();
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::ZSTD(zstd))
        .set_dictionary_enabled(false)
        .build();
    let mut plain = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut plain, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let ratio = trace_bytes as f64 / plain.len() as f64;
    assert!(ratio < 1.05, "{trace_bytes} bytes, {ratio:.3} times a plain column");
}
