//! How a table is declared: each column once, with its name, type, unit, description and the
//! function that takes its value from a row. The SQL schema, the documentation and the Arrow
//! arrays all come from that one place, so that they cannot disagree.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListBuilder, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use crate::time::WallNanos;

/// Time zone of every timestamp column.
pub const UTC: &str = "UTC";

/// Takes the value of a column from a row of type `R`; the variant decides the column's type.
///
/// `None` is NULL: unknown or not applicable, never zero.
pub enum Cell<R> {
    /// UTF-8 text.
    Text(for<'r> fn(&'r R) -> Option<Cow<'r, str>>),
    /// Signed 64-bit integer.
    Int(fn(&R) -> Option<i64>),
    /// Double-precision number.
    Float(fn(&R) -> Option<f64>),
    /// True or false.
    Bool(fn(&R) -> Option<bool>),
    /// Nanoseconds, UTC.
    Ts(fn(&R) -> Option<WallNanos>),
    /// Bytes.
    Binary(for<'r> fn(&'r R) -> Option<&'r [u8]>),
    /// List of UTF-8 texts.
    TextList(for<'r> fn(&'r R) -> Option<&'r [String]>),
}

/// One column of a table whose rows are made from `R`.
pub struct Column<R> {
    /// Name in SQL.
    pub name: &'static str,
    /// Unit of numbers; empty where the type says it all.
    pub unit: &'static str,
    /// What it means, one sentence.
    pub description: &'static str,
    /// What NULL means; empty when it is never NULL.
    pub null: &'static str,
    /// Where its value comes from.
    pub cell: Cell<R>,
}

/// Never NULL.
pub(crate) const NEVER: &str = "";

impl<R> Column<R> {
    /// Declares a column that has no unit.
    pub(crate) const fn new(
        name: &'static str,
        cell: Cell<R>,
        description: &'static str,
        null: &'static str,
    ) -> Self {
        Self { name, unit: "", description, null, cell }
    }

    /// Declares a column of numbers in a unit.
    pub(crate) const fn measured(
        name: &'static str,
        unit: &'static str,
        cell: Cell<R>,
        description: &'static str,
        null: &'static str,
    ) -> Self {
        Self { name, unit, description, null, cell }
    }

    /// Declares a column of a table that is printed only and in no catalogue.
    #[cfg(feature = "analyze")]
    pub(crate) const fn plain(name: &'static str, cell: Cell<R>) -> Self {
        Self { name, unit: "", description: "", null: "it is not known", cell }
    }

    /// The Arrow type.
    #[must_use]
    pub fn data_type(&self) -> DataType {
        match self.cell {
            Cell::Text(_) => DataType::Utf8,
            Cell::Int(_) => DataType::Int64,
            Cell::Float(_) => DataType::Float64,
            Cell::Bool(_) => DataType::Boolean,
            Cell::Ts(_) => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Cell::Binary(_) => DataType::Binary,
            Cell::TextList(_) => {
                DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))
            }
        }
    }

    fn field(&self) -> Field {
        Field::new(self.name, self.data_type(), !self.null.is_empty())
    }

    fn array(&self, rows: &[R]) -> ArrayRef {
        match self.cell {
            Cell::Text(value) => Arc::new(rows.iter().map(value).collect::<StringArray>()),
            Cell::Int(value) => Arc::new(rows.iter().map(value).collect::<Int64Array>()),
            Cell::Float(value) => Arc::new(rows.iter().map(value).collect::<Float64Array>()),
            Cell::Bool(value) => Arc::new(rows.iter().map(value).collect::<BooleanArray>()),
            Cell::Ts(value) => {
                let nanos = rows.iter().map(|row| value(row).map(|ts| ts.0));
                Arc::new(nanos.collect::<TimestampNanosecondArray>().with_timezone(UTC))
            }
            Cell::Binary(value) => Arc::new(rows.iter().map(value).collect::<BinaryArray>()),
            Cell::TextList(value) => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for row in rows {
                    lists.append_option(value(row).map(|texts| texts.iter().map(Some)));
                }
                Arc::new(lists.finish())
            }
        }
    }
}

/// A derived table: its documentation and how its columns come out of rows of type `R`.
pub struct Table<R: 'static> {
    /// Name in SQL.
    pub name: &'static str,
    /// What one row is, one sentence.
    pub description: &'static str,
    /// The columns in order.
    pub columns: &'static [Column<R>],
}

impl<R> Table<R> {
    /// The Arrow schema.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    /// Position of a column.
    ///
    /// # Panics
    /// When there is no column of that name: names are written beside the declaration.
    #[must_use]
    pub fn index(&self, name: &str) -> usize {
        let index = self.columns.iter().position(|column| column.name == name);
        index.expect("column names come from the declaration of the table")
    }

    /// Makes the columns `projection` (positions in [`Table::columns`]) of the rows.
    ///
    /// # Errors
    /// When a text column outgrows 2 GiB: hand over fewer rows at a time.
    pub fn batch(&self, rows: &[R], projection: &[usize]) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<_> = projection.iter().map(|&index| &self.columns[index]).collect();
        let schema = Schema::new(columns.iter().map(|column| column.field()).collect::<Vec<_>>());
        let arrays = columns.iter().map(|column| column.array(rows)).collect();
        // The row count is given because no column at all may be asked for (`count(*)`).
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)
    }
}

/// An unsigned count as SQL holds it; beyond `i64::MAX` it stays there.
pub(crate) fn int(value: impl TryInto<i64>) -> Option<i64> {
    Some(value.try_into().unwrap_or(i64::MAX))
}

/// A connection as the trace file holds it: all 64 bits count, so it may be negative.
pub(crate) fn conn_id(conn_id: u64) -> Option<i64> {
    Some(conn_id.cast_signed())
}

/// A text that is always there.
pub(crate) fn text(value: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(value))
}

/// A text that may be absent.
pub(crate) fn opt_text(value: &Option<String>) -> Option<Cow<'_, str>> {
    value.as_deref().map(Cow::Borrowed)
}

/// Nanoseconds as milliseconds.
pub(crate) fn ms(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};

    struct Row(Option<i64>, Vec<String>);

    const TABLE: Table<Row> = Table {
        name: "t",
        description: "",
        columns: &[
            Column::measured("number", "bytes", Cell::Int(|row| row.0), "", "unknown"),
            Column::new("words", Cell::TextList(|row| Some(&row.1)), "", NEVER),
        ],
    };

    #[test]
    fn a_batch_holds_only_the_columns_asked_for_in_the_order_asked_for() {
        let rows = [Row(Some(1), vec!["a".into(), "b".into()]), Row(None, vec![])];
        let batch = TABLE.batch(&rows, &[1, 0]).unwrap();
        assert_eq!(batch.schema().field(0).name(), "words");
        assert_eq!(batch.column(0).as_list::<i32>().value_length(0), 2);
        assert_eq!(batch.column(0).as_list::<i32>().value_length(1), 0);
        assert!(batch.column(1).is_null(1));
    }

    #[test]
    fn rows_can_be_counted_without_any_column() {
        let batch = TABLE.batch(&[Row(None, vec![])], &[]).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 0));
    }

    #[test]
    fn counts_beyond_the_type_saturate() {
        assert_eq!(int(u64::MAX), Some(i64::MAX));
        assert_eq!(int(7_u32), Some(7));
    }
}
