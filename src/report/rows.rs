//! The result of a named query as plain values, taken by column name.
//!
//! The only file of the report that knows Arrow. A column that a query lacks, or that has another
//! type than the report expects of it, is a bug of ours and is reported as such.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampNanosecondType, UInt64Type,
};

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Nanoseconds since 1970, UTC.
    Ts(i64),
    List(Vec<String>),
}

/// All rows of one query.
#[derive(Debug, Default)]
pub(super) struct Rows {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// A query did not give what the report expects of it.
#[derive(Debug, thiserror::Error)]
#[error("column '{column}' of the query's result has type {found}, which the report does not know")]
pub(super) struct UnknownType {
    column: String,
    found: String,
}

impl Rows {
    /// Copies the values out of a query's result.
    pub(super) fn new(batches: &[RecordBatch]) -> Result<Self, UnknownType> {
        let mut all = Self::default();
        for batch in batches {
            let schema = batch.schema();
            all.columns = schema.fields().iter().map(|field| field.name().clone()).collect();
            let mut columns = Vec::with_capacity(batch.num_columns());
            for (name, array) in all.columns.iter().zip(batch.columns()) {
                let unknown =
                    || UnknownType { column: name.clone(), found: array.data_type().to_string() };
                let values: Option<Vec<Value>> =
                    (0..array.len()).map(|row| value(array.as_ref(), row)).collect();
                columns.push(values.ok_or_else(unknown)?.into_iter());
            }
            for _ in 0..batch.num_rows() {
                // Each column has as many values as the batch has rows.
                all.rows.push(columns.iter_mut().filter_map(Iterator::next).collect());
            }
        }
        Ok(all)
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|values| Row { columns: &self.columns, values })
    }

    /// The row of a query that always gives one.
    pub(super) fn first(&self) -> Option<Row<'_>> {
        self.iter().next()
    }
}

/// `None` when the type is not one that the tables use.
fn value(array: &dyn Array, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return Some(Value::Null);
    }
    Some(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt64 => {
            let number = array.as_primitive::<UInt64Type>().value(row);
            Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
        }
        DataType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Utf8View => Value::Text(array.as_string_view().value(row).to_owned()),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            Value::Ts(array.as_primitive::<TimestampNanosecondType>().value(row))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let text = |index| match value(items.as_ref(), index)? {
                Value::Text(text) => Some(text),
                Value::Null => Some(String::new()),
                _ => None,
            };
            Value::List((0..items.len()).map(text).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// One row; every getter gives `None` for NULL.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    columns: &'a [String],
    values: &'a [Value],
}

impl<'a> Row<'a> {
    /// Columns and values in order.
    pub(super) fn fields(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.columns.iter().map(String::as_str).zip(self.values)
    }

    fn get(self, column: &str) -> &'a Value {
        let found = self.columns.iter().position(|name| name == column);
        debug_assert!(found.is_some(), "the query has no column '{column}'");
        found.map_or(&Value::Null, |index| &self.values[index])
    }

    pub(super) fn text(self, column: &str) -> Option<&'a str> {
        match self.get(column) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn list(self, column: &str) -> &'a [String] {
        match self.get(column) {
            Value::List(list) => list,
            _ => &[],
        }
    }

    pub(super) fn is(self, column: &str) -> bool {
        matches!(self.get(column), Value::Bool(true))
    }

    pub(super) fn int(self, column: &str) -> Option<i64> {
        match self.get(column) {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    /// A count or size; a negative one is not known.
    pub(super) fn count(self, column: &str) -> Option<u64> {
        self.int(column).and_then(|number| u64::try_from(number).ok())
    }

    pub(super) fn float(self, column: &str) -> Option<f64> {
        match self.get(column) {
            Value::Float(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// Nanoseconds since 1970.
    pub(super) fn ts(self, column: &str) -> Option<i64> {
        match self.get(column) {
            Value::Ts(ns) => Some(*ns),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, ListBuilder, StringArray, StringBuilder,
        TimestampNanosecondArray, UInt8Array,
    };

    use super::*;

    #[test]
    fn every_type_of_the_tables_is_taken_and_null_stays_unknown() {
        let mut lists = ListBuilder::new(StringBuilder::new());
        lists.append_value([Some("a"), Some("b")]);
        lists.append_null();
        let columns: [(&str, ArrayRef); 6] = [
            ("t", Arc::new(StringArray::from(vec![Some("x"), None]))),
            ("i", Arc::new(Int64Array::from(vec![Some(-3), None]))),
            ("f", Arc::new(Float64Array::from(vec![Some(0.5), None]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true), None]))),
            (
                "ts",
                Arc::new(TimestampNanosecondArray::from(vec![Some(9), None]).with_timezone("UTC")),
            ),
            ("l", Arc::new(lists.finish())),
        ];
        let rows = Rows::new(&[RecordBatch::try_from_iter(columns).unwrap()]).unwrap();
        let (first, second) = (rows.first().unwrap(), rows.iter().nth(1).unwrap());
        assert_eq!(
            (first.text("t"), first.int("i"), first.float("f")),
            (Some("x"), Some(-3), Some(0.5))
        );
        assert_eq!((first.count("i"), first.is("b"), first.ts("ts")), (None, true, Some(9)));
        assert_eq!(first.list("l"), ["a", "b"]);
        assert!(second.fields().all(|(_, value)| *value == Value::Null));
    }

    #[test]
    fn a_type_that_no_table_uses_is_refused_by_name() {
        let column: ArrayRef = Arc::new(UInt8Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("odd", column)]).unwrap();
        let error = Rows::new(&[batch]).unwrap_err().to_string();
        assert!(error.starts_with("column 'odd'") && error.contains("UInt8"), "{error}");
    }
}
