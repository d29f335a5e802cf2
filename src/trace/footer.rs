//! The Parquet footer of a trace, written by itself.
//!
//! A trace grows by row groups while it is recorded, and its footer is written again after each.
//! The Parquet library writes a footer only when it ends a file; here the description of every row
//! group is kept, so that a footer can be written at any time, also for row groups that were
//! written by another process.

use std::io::Write;
use std::sync::Arc;

use parquet::arrow::{ArrowSchemaConverter, encode_arrow_schema};
use parquet::basic::{ColumnOrder, Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaDataBuilder, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData, SortingColumn,
};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::schema::{Column, ColumnType, arrow_schema_of};
use super::thrift;

/// What begins and ends every Parquet file (Parquet format, "File format").
pub(crate) const MAGIC: &[u8; 4] = b"PAR1";

/// The footer's own end: its length and the magic.
pub(crate) const TRAILER_BYTES: u64 = 8;

/// Longest footer that is believed; one row group is described in some KiB.
pub(crate) const MAX_FOOTER_BYTES: u64 = 256 << 20;

/// Name of the root of the Parquet schema.
pub(crate) const SCHEMA_ROOT: &str = "agentsight_trace";

/// Row groups that one file may have: Parquet numbers them with 16 bits.
pub(crate) const MAX_GROUPS: usize = i16::MAX as usize;

/// A dictionary larger than any row group: the payload column never falls back to plain encoding.
const DICTIONARY_BYTES: usize = 1 << 30;

const ZSTD_LEVEL: i32 = 3;

/// Version of the Parquet format (`FileMetaData.version`), as the library writes it.
const PARQUET_VERSION: i32 = 1;

/// Key under which Arrow readers look for the types of the columns.
const ARROW_SCHEMA_KEY: &str = "ARROW:schema";

/// How the payload of a row group is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadStorage {
    /// Each distinct piece once, compressed.
    Dictionary,
    /// As it comes, compressed.
    Plain,
    /// As it comes: compressing takes most of the time of writing, which is not there when events
    /// come faster than that and would be lost.
    Uncompressed,
}

/// How each column is encoded.
pub(crate) fn properties(payload: PayloadStorage) -> Result<WriterProperties> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        // The writer closes groups itself, by its own accounting.
        .set_max_row_group_row_count(None)
        // Page-level statistics and indexes cost 8-20 % of a file of small values and made no
        // query faster: within a sorted group the chunk statistics already prune.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_sorting_columns(Some(sorting_columns()));
    for column in Column::ALL {
        let path = ColumnPath::new(column.parquet_path());
        properties = match column.description().column_type {
            ColumnType::BinaryList => {
                let repeats = payload == PayloadStorage::Dictionary;
                let properties = properties
                    .set_column_dictionary_enabled(path.clone(), repeats)
                    .set_column_dictionary_page_size_limit(path.clone(), DICTIONARY_BYTES)
                    .set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
                match payload {
                    PayloadStorage::Uncompressed => {
                        properties.set_column_compression(path, Compression::UNCOMPRESSED)
                    }
                    PayloadStorage::Dictionary | PayloadStorage::Plain => properties,
                }
            }
            ColumnType::Utf8List => {
                properties.set_column_statistics_enabled(path, EnabledStatistics::None)
            }
            // Distinct in nearly every row: a dictionary would only be in the way.
            ColumnType::Timestamp if *column == Column::Ts => {
                properties.set_column_dictionary_enabled(path, false)
            }
            // Delta encoding is for `seq` alone, although with times and offsets it would make a file
            // of small events 20 % smaller: fastparquet decodes differences of more than 28 bits
            // wrongly, and reads beyond the end of a page without values.
            ColumnType::Int64 if *column == Column::Seq => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    Ok(properties.build())
}

fn sorting_columns() -> Vec<SortingColumn> {
    let ascending = |column: Column| SortingColumn {
        column_idx: column as i32,
        descending: false,
        nulls_first: false,
    };
    [Column::Kind, Column::Ts, Column::Seq].map(ascending).into()
}

/// What a footer says of a row group whose bytes were moved by `by_bytes` within their file.
///
/// # Errors
/// When the positions do not fit the file format.
pub(crate) fn shifted(group: &RowGroupMetaData, by_bytes: i64) -> Result<RowGroupMetaData> {
    let moved = |offset: i64| {
        let moved = offset.checked_add(by_bytes).filter(|moved| *moved >= 0);
        moved.ok_or_else(|| ParquetError::General("position beyond the file".to_owned()))
    };
    let column = |column: &ColumnChunkMetaData| {
        let data = moved(column.data_page_offset())?;
        let dictionary = column.dictionary_page_offset().map(moved).transpose()?;
        let builder = column.clone().into_builder();
        builder.set_data_page_offset(data).set_dictionary_page_offset(dictionary).build()
    };
    let columns = group.columns().iter().map(column).collect::<Result<Vec<_>>>()?;
    let mut builder = group.clone().into_builder().set_column_metadata(columns);
    if let Some(offset) = group.file_offset() {
        builder = builder.set_file_offset(moved(offset)?);
    }
    builder.build()
}

/// Writes a footer: what goes behind row groups of these columns to make them a file.
///
/// # Errors
/// When `sink` cannot be written, or the groups are no groups of a trace.
pub(crate) fn write(
    columns: &[Column],
    groups: &[RowGroupMetaData],
    keys: Vec<KeyValue>,
    sink: impl Write,
) -> Result<()> {
    let arrow_schema = arrow_schema_of(columns.len());
    let schema = ArrowSchemaConverter::new().schema_root(SCHEMA_ROOT).convert(&arrow_schema)?;
    let schema = Arc::new(schema);
    let number = |(index, group): (usize, &RowGroupMetaData)| {
        let ordinal = i16::try_from(index)
            .map_err(|_| ParquetError::General(format!("more than {MAX_GROUPS} row groups")))?;
        group.clone().into_builder().set_ordinal(ordinal).build()
    };
    let groups = groups.iter().enumerate().map(number).collect::<Result<Vec<_>>>()?;
    let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
    let arrow = KeyValue::new(ARROW_SCHEMA_KEY.to_owned(), encode_arrow_schema(&arrow_schema));
    let keys = std::iter::once(arrow).chain(keys).collect();
    let orders = schema.columns().iter().map(|column| {
        let order = ColumnOrder::sort_order_for_type(
            column.logical_type_ref(),
            column.converted_type(),
            column.physical_type(),
        );
        ColumnOrder::TYPE_DEFINED_ORDER(order)
    });
    let file = FileMetaData::new(
        PARQUET_VERSION,
        rows,
        Some(concat!("agentsight version ", env!("CARGO_PKG_VERSION")).to_owned()),
        Some(keys),
        Arc::clone(&schema),
        Some(orders.collect()),
    );
    let footer = ParquetMetaDataBuilder::new(file).set_row_groups(groups).build();
    ParquetMetaDataWriter::new(sink, &footer).finish()
}

/// The row groups that a footer written by [`write()`] describes, without its trailer.
///
/// # Errors
/// When that is not what the bytes are.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<RowGroupMetaData>> {
    thrift::check_struct(bytes).map_err(|error| ParquetError::External(Box::new(error)))?;
    let footer = ParquetMetaDataReader::decode_metadata(bytes)?;
    Ok(footer.row_groups().to_vec())
}
