//! What the pages of a column would unfold to, by their headers alone.
//!
//! A few bytes of zstd make gigabytes, and the Parquet library allocates what a page header claims.
//! Before any page of a row group is read, [`check_group`] walks the headers of its columns and sums
//! up what they claim; nothing is decompressed. Headers are the only claims that count: the library
//! refuses a page that unfolds to more than its header says.

use std::io::Read;

use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;

use super::schema::Column;
use super::thrift::{FALSE, Malformed, STRUCT, TRUE, Walk};

/// Most memory that the pages of the payload column of one row group may claim. A recorder closes a
/// group at 10 MiB of distinct payload, which one last event may exceed by 64 MiB.
const MAX_PAYLOAD_BYTES: u64 = 256 * 1024 * 1024;

/// Most memory that the pages of all other columns of one row group may claim together. The rows of
/// a group account for 10 MiB, and no value takes eight times as much in a page as in a row.
const MAX_GROUP_BYTES: u64 = 128 * 1024 * 1024;

/// Most pages of one column of one row group. Pages hold up to 1 MiB or 20 000 rows.
const MAX_PAGES: u64 = 1 << 16;

/// Longest page header. One without statistics, as a recorder writes, has about 30 bytes.
const MAX_HEADER_BYTES: u64 = 64 * 1024;
/// Read at first for a header.
const HEADER_GUESS_BYTES: u64 = 256;

/// What the pages of one column of one row group claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Claims {
    /// Values in all data pages, nulls and empty lists included.
    values: u64,
    /// Sizes of all pages and dictionaries, the larger of compressed and uncompressed.
    bytes: u64,
}

/// Refuses a row group whose pages would unfold without bound.
///
/// # Errors
/// When they would, when headers cannot be read or contradict the footer, or when a column is
/// compressed in a way that traces are not.
///
/// # Panics
/// When a column claims a negative place or length.
pub(crate) fn check_group(
    source: &impl ChunkReader,
    index: usize,
    group: &RowGroupMetaData,
) -> Result<(), ParquetError> {
    let (mut payload_bytes, mut other_bytes) = (0_u64, 0_u64);
    for chunk in group.columns() {
        let path = chunk.column_path();
        let claims = survey(source, chunk).map_err(|error| {
            ParquetError::General(format!("column '{path}' of row group {index}: {error}"))
        })?;
        let is_payload = path.parts().first().is_some_and(|root| root == Column::Data.name());
        let sum = if is_payload { &mut payload_bytes } else { &mut other_bytes };
        *sum = sum.saturating_add(claims.bytes);
    }
    for (bytes, most) in [(payload_bytes, MAX_PAYLOAD_BYTES), (other_bytes, MAX_GROUP_BYTES)] {
        if bytes > most {
            return Err(damaged(&format!(
                "row group {index}: expected pages of at most {most} bytes, found {bytes}"
            )));
        }
    }
    Ok(())
}

/// Sums up the page headers of a column.
fn survey(source: &impl ChunkReader, chunk: &ColumnChunkMetaData) -> Result<Claims, ParquetError> {
    // Decoders of the others do not all stop at the size that the header claims.
    if !matches!(chunk.compression(), Compression::UNCOMPRESSED | Compression::ZSTD(_)) {
        let reason = format!("expected zstd compression, found {}", chunk.compression());
        return Err(ParquetError::General(reason));
    }
    let (mut position, mut rest) = chunk.byte_range();
    let mut claims = Claims::default();
    let mut pages = 0;
    while rest > 0 {
        pages += 1;
        if pages > MAX_PAGES {
            return Err(damaged("expected pages of many rows, found too many pages"));
        }
        let (header, header_bytes) = read_header(source, position, rest)?;
        let taken = header_bytes + header.compressed_bytes;
        if taken > rest {
            return Err(damaged("expected a page within its column chunk, found a longer one"));
        }
        position = position.saturating_add(taken);
        rest -= taken;
        claims.values = claims.values.saturating_add(header.values);
        let page_bytes = header.uncompressed_bytes.max(header.compressed_bytes);
        claims.bytes = claims.bytes.saturating_add(page_bytes);
    }
    Ok(claims)
}

/// What is needed of a page header (Parquet format, `PageHeader` of `parquet.thrift`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct PageHeader {
    compressed_bytes: u64,
    uncompressed_bytes: u64,
    /// Values of a data page; 0 for a dictionary.
    values: u64,
}

fn damaged(reason: &str) -> ParquetError {
    ParquetError::General(reason.to_owned())
}

/// The header at `position` and its length.
fn read_header(
    source: &impl ChunkReader,
    position: u64,
    rest: u64,
) -> Result<(PageHeader, u64), ParquetError> {
    let mut bytes = Vec::new();
    for guess in [HEADER_GUESS_BYTES, MAX_HEADER_BYTES] {
        bytes.clear();
        source.get_read(position)?.take(guess.min(rest)).read_to_end(&mut bytes)?;
        let mut walk = Walk::new(&bytes);
        match parse(&mut walk) {
            Ok(header) => return Ok((header, (bytes.len() - walk.rest_bytes()) as u64)),
            Err(Malformed::Short) => {}
            Err(Malformed::Wrong) => break,
        }
    }
    Err(damaged("expected a page header, found something else"))
}

const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;
const DATA_PAGE_V2: i32 = 3;

fn parse(walk: &mut Walk<'_>) -> Result<PageHeader, Malformed> {
    let (mut page_type, mut uncompressed, mut compressed) = (None, None, None);
    let mut values = [None; 3];
    walk.fields(|walk, number, found| {
        match number {
            1 => page_type = Some(walk.i32(found)?),
            2 => uncompressed = Some(walk.i32(found)?),
            3 => compressed = Some(walk.i32(found)?),
            4 => drop(walk.i32(found)?),
            5 => values[0] = Some(value_count(walk, found, 4)?),
            7 => values[1] = Some(value_count(walk, found, 2)?),
            8 => values[2] = Some(value_count(walk, found, 6)?),
            // The library passes over an index page differently when it looks and when it reads.
            6 => return Err(Malformed::Wrong),
            _ => walk.skip(found)?,
        }
        Ok(())
    })?;
    // A negative size, or a page without the header of its type, is nothing to the library either.
    let size = |size: Option<i32>| size.and_then(|size| u64::try_from(size).ok());
    let values = match page_type {
        Some(DATA_PAGE) => values[0],
        Some(DICTIONARY_PAGE) => values[1].map(|_| 0),
        Some(DATA_PAGE_V2) => values[2],
        _ => None,
    };
    match (size(compressed), size(uncompressed), size(values)) {
        (Some(compressed_bytes), Some(uncompressed_bytes), Some(values)) => {
            Ok(PageHeader { compressed_bytes, uncompressed_bytes, values })
        }
        _ => Err(Malformed::Wrong),
    }
}

/// The first field of a data or dictionary page header, whose fields up to `last_i32` are integers.
fn value_count(walk: &mut Walk<'_>, found: u8, last_i32: i16) -> Result<i32, Malformed> {
    if found != STRUCT {
        return Err(Malformed::Wrong);
    }
    let mut count = None;
    walk.fields(|walk, number, found| {
        match number {
            1 => count = Some(walk.i32(found)?),
            2.. if number <= last_i32 => drop(walk.i32(found)?),
            // Whether a dictionary is sorted, whether a page is compressed.
            3 | 7 if matches!(found, TRUE | FALSE) => {}
            // Statistics.
            5 | 8 if found == STRUCT => walk.skip(found)?,
            3 | 5 | 7 | 8 => return Err(Malformed::Wrong),
            _ => walk.skip(found)?,
        }
        Ok(())
    })?;
    count.ok_or(Malformed::Wrong)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::basic::ZstdLevel;
    use parquet::column::page::PageReader;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::{WriterProperties, WriterVersion};
    use parquet::file::serialized_reader::SerializedPageReader;
    use proptest::prelude::*;

    use super::*;

    /// A file of one text column, which repeats itself, and one of numbers.
    fn file(rows: usize, version: WriterVersion, compression: Compression) -> Bytes {
        let text = StringArray::from_iter_values((0..rows).map(|row| "text ".repeat(row % 50)));
        let numbers = Int64Array::from_iter((0..rows).map(|row| (row % 3 > 0).then_some(7)));
        let columns = [("text", Arc::new(text) as ArrayRef), ("numbers", Arc::new(numbers))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(compression)
            .set_data_page_row_count_limit(1000)
            .set_write_batch_size(500)
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        file.into()
    }

    fn zstd() -> Compression {
        Compression::ZSTD(ZstdLevel::try_new(3).unwrap())
    }

    fn columns(file: &Bytes) -> Vec<ColumnChunkMetaData> {
        let footer = ParquetMetaDataReader::new().parse_and_finish(file).unwrap();
        footer.row_group(0).columns().to_vec()
    }

    #[test]
    fn claims_are_those_of_the_footer() {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for compression in [Compression::UNCOMPRESSED, zstd()] {
                for chunk in columns(&file(5000, version, compression)) {
                    let claims = survey(&file(5000, version, compression), &chunk).unwrap();
                    assert_eq!(claims.values, 5000);
                    // The footer counts headers too: a dictionary and five pages have six.
                    let footer_bytes = chunk.uncompressed_size() as u64;
                    assert!(claims.bytes <= footer_bytes + 64, "{claims:?} {footer_bytes}");
                    assert!(claims.bytes + 6 * 100 >= footer_bytes, "{claims:?} {footer_bytes}");
                }
            }
        }
    }

    #[test]
    fn a_compression_that_traces_do_not_use_is_refused() {
        let file = file(10, WriterVersion::PARQUET_1_0, zstd());
        let chunk = columns(&file).remove(0);
        let other = chunk.into_builder().set_compression(Compression::SNAPPY).build().unwrap();
        let error = survey(&file, &other).unwrap_err();
        assert!(error.to_string().contains("expected zstd compression"), "{error}");
    }

    proptest! {
        /// What the survey accepts, the library reads in the same way.
        #[test]
        fn accepted_headers_mean_the_same_to_the_library(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            version in prop::sample::select(vec![WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0]),
        ) {
            let file = file(3, version, Compression::UNCOMPRESSED);
            for chunk in columns(&file) {
                let (start, length) = chunk.byte_range();
                let (start, length) = (start as usize, length as usize);
                let mut changed = file.to_vec();
                for (at, value) in &changes {
                    changed[start + at.index(length)] = *value;
                }
                let changed = Bytes::from(changed);
                let Ok(claims) = survey(&changed, &chunk) else { continue };
                let walked = walked_by_library(&changed, &chunk);
                // An encoding or page type that the library does not know it refuses itself.
                prop_assert!(walked.is_none_or(|values| values == claims.values), "{walked:?} {claims:?}");
            }
        }
    }

    /// The values of all pages; `None` when the library refuses a header.
    fn walked_by_library(file: &Bytes, chunk: &ColumnChunkMetaData) -> Option<u64> {
        let mut pages = SerializedPageReader::new(Arc::new(file.clone()), chunk, 2, None).unwrap();
        let mut values = 0;
        while let Some(page) = pages.peek_next_page().ok()? {
            values += page.num_levels.unwrap_or(0) as u64;
            pages.skip_next_page().ok()?;
        }
        Some(values)
    }
}
