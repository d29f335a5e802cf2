//! Rows of the open row group to Arrow record batches.
//!
//! Knows the types of columns and nothing of events: it appends each cell to its column's builder
//! and null to the builders of all columns a row does not set.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int32Builder,
    Int64Builder, ListBuilder, RecordBatch, StringBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;

use super::cells::{Malformed, RowReader};
use super::chunk::ChunkStore;
use super::schema::{Column, ColumnType, arrow_schema_of};

/// A batch being filled.
pub(crate) struct Sheet {
    /// Indexed by [`Column`].
    builders: Vec<Builder>,
    rows: usize,
}

impl Sheet {
    /// An empty batch of these columns, the first of [`Column::ALL`].
    pub(crate) fn new(columns: &[Column]) -> Self {
        let builder = |column: &Column| Builder::new(column.description().column_type);
        Self { builders: columns.iter().map(builder).collect(), rows: 0 }
    }

    /// Appends a row written by [`super::cells::write`] with chunk ids of `chunks`. After an error
    /// the sheet is not to be used.
    pub(crate) fn push(&mut self, row: &[u8], chunks: &ChunkStore) -> Result<(), Malformed> {
        let mut cells = RowReader::new(row);
        while let Some(column) = cells.column()? {
            let builder = self.builders.get_mut(column as usize).ok_or(Malformed)?;
            if builder.len() > self.rows {
                return Err(Malformed);
            }
            builder.append(&mut cells, chunks)?;
        }
        self.rows += 1;
        for builder in &mut self.builders {
            if builder.len() < self.rows {
                builder.append_null();
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<RecordBatch, ArrowError> {
        let schema = arrow_schema_of(self.builders.len());
        let arrays = self.builders.into_iter().map(Builder::finish).collect();
        RecordBatch::try_new(schema, arrays)
    }
}

/// The builder of one column.
enum Builder {
    Timestamp(TimestampNanosecondBuilder),
    Int64(Int64Builder),
    Int32(Int32Builder),
    Float64(Float64Builder),
    Boolean(BooleanBuilder),
    Utf8(StringBuilder),
    Utf8List(ListBuilder<StringBuilder>),
    TimestampList(ListBuilder<TimestampNanosecondBuilder>),
    Int64List(ListBuilder<Int64Builder>),
    BinaryList(ListBuilder<BinaryBuilder>),
}

/// Applies one expression to whatever builder it is.
macro_rules! each_builder {
    ($builder:expr, $b:ident => $body:expr) => {
        match $builder {
            Builder::Timestamp($b) => $body,
            Builder::Int64($b) => $body,
            Builder::Int32($b) => $body,
            Builder::Float64($b) => $body,
            Builder::Boolean($b) => $body,
            Builder::Utf8($b) => $body,
            Builder::Utf8List($b) => $body,
            Builder::TimestampList($b) => $body,
            Builder::Int64List($b) => $body,
            Builder::BinaryList($b) => $body,
        }
    };
}

impl Builder {
    fn new(column_type: ColumnType) -> Self {
        let timestamps =
            || TimestampNanosecondBuilder::new().with_data_type(ColumnType::Timestamp.arrow());
        // A list builder must be told its element's field, or it names and types it its own way.
        let element = || match column_type.arrow() {
            DataType::List(field) => field,
            other => Arc::new(Field::new("", other, false)),
        };
        match column_type {
            ColumnType::Timestamp => Self::Timestamp(timestamps()),
            ColumnType::Int64 => Self::Int64(Int64Builder::new()),
            ColumnType::Int32 => Self::Int32(Int32Builder::new()),
            ColumnType::Float64 => Self::Float64(Float64Builder::new()),
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::Utf8 => Self::Utf8(StringBuilder::new()),
            ColumnType::Utf8List => {
                Self::Utf8List(ListBuilder::new(StringBuilder::new()).with_field(element()))
            }
            ColumnType::TimestampList => {
                Self::TimestampList(ListBuilder::new(timestamps()).with_field(element()))
            }
            ColumnType::Int64List => {
                Self::Int64List(ListBuilder::new(Int64Builder::new()).with_field(element()))
            }
            ColumnType::BinaryList => {
                Self::BinaryList(ListBuilder::new(BinaryBuilder::new()).with_field(element()))
            }
        }
    }

    fn append(&mut self, cells: &mut RowReader, chunks: &ChunkStore) -> Result<(), Malformed> {
        match self {
            Self::Timestamp(builder) => builder.append_value(cells.integer()?),
            Self::Int64(builder) => builder.append_value(cells.integer()?),
            Self::Int32(builder) => {
                builder.append_value(i32::try_from(cells.integer()?).map_err(|_| Malformed)?);
            }
            Self::Float64(builder) => builder.append_value(cells.double()?),
            Self::Boolean(builder) => builder.append_value(cells.boolean()?),
            Self::Utf8(builder) => builder.append_value(cells.text()?),
            Self::Utf8List(list) => {
                for _ in 0..cells.list_length()? {
                    list.values().append_value(cells.text()?);
                }
                list.append(true);
            }
            Self::TimestampList(list) => {
                for _ in 0..cells.list_length()? {
                    list.values().append_value(cells.integer()?);
                }
                list.append(true);
            }
            Self::Int64List(list) => {
                for _ in 0..cells.list_length()? {
                    list.values().append_value(cells.integer()?);
                }
                list.append(true);
            }
            Self::BinaryList(list) => {
                for _ in 0..cells.list_length()? {
                    let chunk = chunks.get(cells.chunk_id()?).ok_or(Malformed)?;
                    list.values().append_value(chunk);
                }
                list.append(true);
            }
        }
        Ok(())
    }

    fn len(&self) -> usize {
        each_builder!(self, builder => builder.len())
    }

    fn append_null(&mut self) {
        each_builder!(self, builder => builder.append_null());
    }

    fn finish(mut self) -> ArrayRef {
        each_builder!(&mut self, builder => Arc::new(builder.finish()))
    }
}
