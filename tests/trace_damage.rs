//! Files that are not as they should be: cut, changed, of another program, of a newer one. Each is
//! refused with its own message or costs only the rows that are wrong; nothing panics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use agentsight::trace::{self, Limits, Reader};
use arrow::array::{
    ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, TimestampNanosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use session::Random;
use trace_file::{one_of_each, scratch, write};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

/// A Parquet file of these columns and keys.
fn foreign(path: &Path, columns: Vec<(&str, ArrayRef)>, keys: &[(&str, &str)]) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let keys = keys.iter().map(|(key, value)| KeyValue::new(key.to_string(), value.to_string()));
    let properties =
        WriterProperties::builder().set_key_value_metadata(Some(keys.collect())).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

const VERSION_1: &[(&str, &str)] =
    &[("agentsight.format_version", "1"), ("agentsight.min_reader_version", "1")];

fn open_error(path: &Path) -> trace::Error {
    let error = Reader::open(path).expect_err("expected the file to be refused");
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

fn integers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

#[test]
fn each_wrong_file_is_told_apart_and_has_a_hint() {
    let (directory, path) = scratch();
    let missing = open_error(&directory.path().join("missing.parquet"));
    assert!(matches!(missing, trace::Error::Open { .. }), "{missing}");
    assert!(matches!(open_error(directory.path()), trace::Error::Open { .. }));

    std::fs::write(&path, b"").unwrap();
    assert!(matches!(open_error(&path), trace::Error::NotParquet { .. }));
    std::fs::write(&path, b"\x7fELF\x02").unwrap();
    let elf = open_error(&path);
    assert!(elf.to_string().ends_with(r"found '\x7fELF'"), "{elf}");

    foreign(&path, vec![("x", integers([1]))], &[]);
    assert!(matches!(open_error(&path), trace::Error::NotATrace { .. }));
    foreign(&path, vec![("x", integers([1]))], VERSION_1);
    let incomplete = open_error(&path);
    assert!(matches!(incomplete, trace::Error::ColumnMissing { column: "ts", .. }), "{incomplete}");
    foreign(&path, vec![("ts", integers([1]))], VERSION_1);
    let mistyped = open_error(&path);
    assert!(mistyped.to_string().contains("column 'ts': expected Timestamp(ns"), "{mistyped}");

    let newer = [("agentsight.format_version", "9"), ("agentsight.min_reader_version", "7")];
    foreign(&path, vec![("x", integers([1]))], &newer);
    let newer = open_error(&path);
    assert!(newer.to_string().contains("version 7 or later"), "{newer}");
    assert_eq!(newer.hint(), Some("install a newer agentsight"));
    foreign(&path, vec![("x", integers([1]))], &[("agentsight.format_version", "one")]);
    assert!(matches!(open_error(&path), trace::Error::Damaged { .. }));

    write(&path, &one_of_each(), Limits::default());
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let short = open_error(&path);
    assert!(matches!(short, trace::Error::Truncated { .. }), "{short}");
    assert!(short.hint().is_some());
}

/// The rows of a written trace with its columns changed by `change`, written as a newer or hostile
/// recorder might.
fn rewritten(path: &Path, change: impl Fn(&str, &ArrayRef) -> ArrayRef, extra: &[&str]) {
    let reader = Reader::open(path).unwrap();
    let schema = trace::schema::arrow_schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let batch = reader.batches(&names).unwrap().next().unwrap().unwrap();
    let mut columns: Vec<(String, ArrayRef, bool)> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| {
            (field.name().clone(), change(field.name(), array), field.is_nullable())
        })
        .collect();
    for name in extra {
        columns.push((name.to_string(), integers(0..batch.num_rows() as i64), true));
    }
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let keys =
        VERSION_1.iter().map(|(key, value)| KeyValue::new(key.to_string(), value.to_string()));
    let properties =
        WriterProperties::builder().set_key_value_metadata(Some(keys.collect())).build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn unknown_kinds_and_columns_are_passed_over_and_counted() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let renamed = |name: &str, array: &ArrayRef| -> ArrayRef {
        if name != "kind" {
            return Arc::clone(array);
        }
        let kinds = array.as_any().downcast_ref::<StringArray>().unwrap();
        let newer = |kind| if kind == "sample" { "telepathy" } else { kind };
        Arc::new(kinds.iter().map(|kind| kind.map(newer)).collect::<StringArray>())
    };
    rewritten(&path, renamed, &["from_the_future"]);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.unknown_columns(), ["from_the_future"]);
    let events: Vec<_> = reader.events(None).map(Result::unwrap).collect();
    assert_eq!(events.len(), one_of_each().len() - 1);
    assert_eq!(reader.skipped().unknown_kinds, BTreeMap::from([("telepathy".to_owned(), 1)]));
    assert_eq!(reader.skipped().damaged_rows, 0);
}

#[test]
fn rows_that_contradict_the_format_cost_only_themselves() {
    let whole = one_of_each();
    for (column, value, kept) in [
        ("data_bytes", -1, 14),
        ("data_bytes", 12, 14),
        ("lost_bytes", i64::MAX, 13),
        ("pid", -5, 1),
        ("pid", 1 << 32, 1),
        ("threads", 1 << 40, 18),
        ("seq", -1, 0),
    ] {
        let (_directory, path) = scratch();
        write(&path, &whole, Limits::default());
        let damage = |name: &str, array: &ArrayRef| -> ArrayRef {
            if name != column {
                return Arc::clone(array);
            }
            let values = array.as_any().downcast_ref::<Int64Array>().unwrap();
            Arc::new(values.iter().map(|old| old.map(|_| value)).collect::<Int64Array>())
        };
        rewritten(&path, damage, &[]);
        let reader = Reader::open(&path).unwrap();
        let events: Vec<_> = reader.events(None).map(Result::unwrap).collect();
        let skipped = reader.skipped();
        // A loss row with an absurd count is still a row.
        let kept = if column == "lost_bytes" { kept + 1 } else { kept };
        assert_eq!(events.len(), kept, "{column} = {value}: {skipped:?}");
        assert_eq!(skipped.damaged_rows as usize, whole.len() - kept);
        let said = skipped.first_damage.unwrap();
        assert!(said.contains("expected"), "{said}");
    }
}

/// Opens the file and reads it to the end, or to its first error.
fn read_any(path: &Path) -> Result<usize, trace::Error> {
    let reader = Reader::open(path)?;
    let mut events = 0;
    for event in reader.events(None) {
        event?;
        events += 1;
    }
    Ok(events)
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let whole = file.metadata().unwrap().len();
    assert_eq!(read_any(&path).unwrap(), one_of_each().len());
    for length in (0..whole).rev() {
        file.set_len(length).unwrap();
        assert!(read_any(&path).is_err(), "cut to {length} of {whole} bytes");
    }
}

#[test]
fn a_file_with_any_byte_changed_never_panics() {
    let (_directory, path) = scratch();
    write(&path, &one_of_each(), Limits::default());
    let whole = std::fs::read(&path).unwrap();
    let mut random = Random::new(99);
    for round in 0..2000 {
        let mut damaged = whole.clone();
        for _ in 0..=round % 4 {
            let at = random.below(whole.len() as u64) as usize;
            damaged[at] ^= 1 << random.below(8);
        }
        std::fs::write(&path, &damaged).unwrap();
        // Whatever it says is right, as long as it says something.
        let _ = read_any(&path);
    }
}

#[test]
fn a_small_file_that_unfolds_without_bound_is_refused() {
    // One row whose list repeats one empty argument 4 million times: some bytes in the file.
    let (_directory, path) = scratch();
    let count = (1 << 22) + 1;
    let argv = trace::schema::arrow_schema().field_with_name("argv").unwrap().clone();
    let DataType::List(element) = argv.data_type() else { panic!("expected a list") };
    let values = Arc::new(StringArray::from_iter_values(std::iter::repeat_n("", count)));
    let list =
        ListArray::new(Arc::clone(element), OffsetBuffer::from_lengths([count]), values, None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampNanosecondArray::from(vec![1]).with_timezone("UTC"))),
        ("seq", integers([0])),
        ("kind", Arc::new(StringArray::from(vec!["process_exec"]))),
        ("argv", Arc::new(list)),
    ];
    foreign(&path, columns, VERSION_1);
    assert!(std::fs::metadata(&path).unwrap().len() < 100_000);
    let error = read_any(&path).expect_err("expected the list to be refused");
    assert!(error.to_string().contains("column 'argv' of row group 0"), "{error}");
}

/// A trace of one process whose name is a few megabytes of one letter, many times over.
fn bomb(path: &Path, column: &str, value_bytes: usize, values: usize, compression: Compression) {
    let rows = values;
    let text = "a".repeat(value_bytes);
    let times = vec![1; rows];
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))),
        ("seq", integers(0..rows as i64)),
        ("kind", Arc::new(StringArray::from(vec!["process_exec"; rows]))),
        (column, Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&text, rows)))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let keys =
        VERSION_1.iter().map(|(key, value)| KeyValue::new(key.to_string(), value.to_string()));
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(keys.collect()))
        .set_compression(compression)
        .set_dictionary_enabled(false)
        .set_data_page_size_limit(usize::MAX)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Most memory this process has had, bytes.
#[cfg(target_os = "linux")]
fn peak_resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Reads a file in another process and says how much memory that took at most.
#[cfg(target_os = "linux")]
fn read_apart(path: &Path) -> (String, u64) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reader", "--ignored", "--nocapture"])
        .env(READER_PATH, path)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find_map(|line| line.split_once(READER_SAYS)).unwrap().1;
    let (peak, result) = line.split_once(' ').unwrap();
    (result.to_owned(), peak.parse().unwrap())
}

const READER_PATH: &str = "AGENTSIGHT_READER_PATH";
const READER_SAYS: &str = "read with ";

/// Not a test by itself: reads a file in a process of its own.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "the other tests start it"]
fn reader() {
    let Some(path) = std::env::var_os(READER_PATH) else { return };
    let result = read_any(Path::new(&path)).map_err(|error| error.to_string());
    #[allow(clippy::print_stdout, reason = "the parent test reads it")]
    {
        println!("{READER_SAYS}{} {result:?}", peak_resident_bytes());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn pages_that_unfold_to_gigabytes_are_refused_before_they_do() {
    const MIB: usize = 1024 * 1024;
    let (_directory, path) = scratch();
    let zstd = Compression::ZSTD(ZstdLevel::try_new(3).unwrap());
    bomb(&path, "comm", MIB, 2, zstd);
    let (result, usual_bytes) = read_apart(&path);
    assert!(result.starts_with("Ok"), "{result}");

    // One page of 600 MiB that takes 60 KB in the file.
    bomb(&path, "comm", 100 * MIB, 6, zstd);
    assert!(path.metadata().unwrap().len() < 200_000);
    let (result, peak_bytes) = read_apart(&path);
    assert!(result.contains("row group 0: expected pages of at most"), "{result}");
    let most = usual_bytes + 16 * MIB as u64;
    assert!(peak_bytes < most, "{peak_bytes} bytes resident, {usual_bytes} for a usual file");

    // Also in a column that no event needs.
    bomb(&path, "from_the_future", 100 * MIB, 6, zstd);
    let (result, peak_bytes) = read_apart(&path);
    assert!(result.contains("row group 0: expected pages of at most"), "{result}");
    assert!(peak_bytes < most, "{peak_bytes} bytes resident, {usual_bytes} for a usual file");
}

#[test]
fn a_footer_that_claims_endless_lists_is_refused_at_once() {
    let (_directory, path) = scratch();
    // Field 15 of the footer, which no version has: lists of 2^31 - 1 booleans, which the Parquet
    // library would count through. A thousand of them would take it an hour.
    let mut footer = vec![0xF9_u8];
    for _ in 0..1000 {
        footer.extend([0xF1, 0xFF, 0xFF, 0xFF, 0xFF, 0x07, 0x19]);
    }
    footer.extend([0x01, 0x00]);
    let mut file = b"PAR1".to_vec();
    file.extend(&footer);
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    std::fs::write(&path, file).unwrap();
    assert!(matches!(open_error(&path), trace::Error::Damaged { .. }));
}
