//! Measures the trace writer: size against raw and plain Parquet, speed, and resident memory.
//!
//! `cargo run --release --no-default-features --example trace_figures -- resent TURNS FILE` or
//! `... interleaved TURNS FILE` (four sessions at once) or `... unique MIB FILE` (text seen once) or `... noise MIB FILE` (does not compress) or
//! `... events COUNT FILE` (small reads). One case per process, because memory is its high-water
//! mark. Linux.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use agentsight::event::{Body, Direction, Event};
use agentsight::trace::{Burst, ClosingMetadata, Limits, Metadata, Writer};
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

#[path = "../tests/support/session.rs"]
mod session;
use session::{Connection, Random, interleaved, resend_history};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, case, amount, path] = arguments.as_slice() else {
        anyhow::bail!("expected: resent|interleaved|unique|noise|events AMOUNT FILE");
    };
    let (amount, path) = (amount.parse()?, Path::new(path));
    // What making the traffic takes is not the writer's.
    traffic(case, amount, &mut |event| drop(event));
    let before = resident_kib("VmHWM");
    let started = Instant::now();
    let mut writer =
        Writer::with_limits(File::create(path)?, Metadata::default(), limits_from_environment())?;
    let mut failed = Ok(());
    let (mut burst, mut generating_ns) = (Burst::new(), 0);
    let mut last = Instant::now();
    traffic(case, amount, &mut |event| {
        generating_ns += last.elapsed().as_nanos();
        burst.push(event, &mut |event| {
            if failed.is_ok() {
                failed = writer.push(event);
            }
        });
        last = Instant::now();
    });
    burst.flush(&mut |event| {
        if failed.is_ok() {
            failed = writer.push(event);
        }
    });
    failed?;
    let summary = writer.finish(ClosingMetadata::default())?;
    let writing = started.elapsed().as_secs_f64() - generating_ns as f64 / 1e9;
    let peak = resident_kib("VmHWM");
    let raw = summary.payload_bytes;
    println!("rows {}  row groups {}", summary.rows, summary.row_groups);
    println!(
        "raw {raw} B  file {} B  ratio {:.1}",
        summary.file_bytes,
        raw as f64 / summary.file_bytes as f64
    );
    println!("writing {:.2} s, {:.0} MB/s", writing, raw as f64 / 1e6 / writing);
    println!("resident: before {before} KiB, peak {peak} KiB, writer {} KiB", peak - before);
    let plain = plain_bytes(case, amount, &path.with_extension("plain.parquet"))?;
    println!(
        "plain zstd column {plain} B, file / plain = {:.3}",
        summary.file_bytes as f64 / plain as f64
    );
    Ok(())
}

fn limits_from_environment() -> Limits {
    let mib = std::env::var("GROUP_MIB").ok().and_then(|mib| mib.parse::<usize>().ok());
    let default = Limits::default();
    Limits { group_bytes: mib.map_or(default.group_bytes, |mib| mib << 20), ..default }
}

fn traffic(case: &str, amount: usize, out: &mut impl FnMut(Event)) {
    let mut random = Random::new(7);
    let mut connection = Connection::new(1);
    match case {
        "resent" => resend_history(amount, 7, out),
        "interleaved" => interleaved(4, amount, out),
        "events" => {
            for _ in 0..amount {
                let event = format!("data: {{\"text\":{:?}}}\n\n", random.text(40));
                out(connection.call(Direction::Read, event.as_bytes(), 1_000_000));
            }
        }
        _ => {
            for _ in 0..amount * 64 {
                let piece = match case {
                    "unique" => random.text(16 * 1024).into_bytes(),
                    _ => random.bytes(16 * 1024),
                };
                out(connection.call(Direction::Write, &piece, 20_000));
            }
        }
    }
}

/// The same payload, one value per call, in one plain zstd-3 column.
fn plain_bytes(case: &str, amount: usize, path: &Path) -> anyhow::Result<u64> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_dictionary_enabled(false)
        .build();
    let mut writer: Option<ArrowWriter<File>> = None;
    let (mut values, mut bytes) = (Vec::new(), 0);
    let mut flush = |values: &mut Vec<Vec<u8>>| -> anyhow::Result<()> {
        let array: ArrayRef = Arc::new(BinaryArray::from_iter_values(values.drain(..)));
        let batch = RecordBatch::try_from_iter([("data", array)])?;
        if writer.is_none() {
            let file = File::create(path)?;
            writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties.clone()))?);
        }
        if let Some(writer) = &mut writer {
            writer.write(&batch)?;
        }
        Ok(())
    };
    let mut failed = Ok(());
    traffic(case, amount, &mut |event| {
        if let Body::Data(tls) = event.body {
            bytes += tls.data.len();
            values.push(tls.data);
        }
        if bytes > 4 << 20 && failed.is_ok() {
            failed = flush(&mut values);
            bytes = 0;
        }
    });
    failed?;
    flush(&mut values)?;
    if let Some(writer) = writer {
        writer.close()?;
    }
    let size = std::fs::metadata(path)?.len();
    std::fs::remove_file(path)?;
    Ok(size)
}

fn resident_kib(key: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
