//! Query results as text: a table for people, CSV, TSV, JSON and NDJSON for programs.
//!
//! The same rows always give the same bytes. Times are RFC 3339 with all nine digits; NULL is empty
//! in tables, CSV and TSV, and `null` in JSON. What comes out of a trace is hostile: a table
//! cuts long values and escapes control characters, JSON escapes them too, and CSV and TSV go to a
//! terminal through [`crate::cli::Output`].

mod delimited;
mod json;
mod table;
mod value;

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::{Error, Rows};

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns with a head, for people; long values are cut.
    #[default]
    Table,
    /// RFC 4180: comma-separated, a head line, quotes where needed.
    Csv,
    /// Tab-separated, a head line; tab, line feed, carriage return and backslash are escaped.
    Tsv,
    /// One JSON array of objects.
    Json,
    /// One JSON object per line.
    Ndjson,
}

/// Why a result could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// The query failed on the way.
    #[error(transparent)]
    Query(#[from] Error),
    /// The output could not be written.
    #[error("cannot write the result")]
    Write(#[from] io::Error),
}

/// What was printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// Rows of the result.
    pub rows: u64,
    /// Rows that a table does not show because there are too many.
    pub hidden_rows: u64,
}

/// Writes all rows.
///
/// # Errors
/// When the query fails on the way or the output cannot be written.
pub fn print(
    mut rows: Rows<'_>,
    format: Format,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    let schema = rows.schema();
    print_batches(&mut rows, &schema, format, out)
}

/// Batches of one schema as they come, the first error ending them.
type Batches<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, Error>>;

/// Writes all rows of batches that have this schema.
///
/// # Errors
/// As [`print()`].
pub fn print_batches(
    rows: Batches<'_>,
    schema: &SchemaRef,
    format: Format,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    match format {
        Format::Table => table::print(rows, schema, table::MOST_ROWS, out),
        Format::Csv => delimited::print(rows, schema, delimited::Dialect::Csv, out),
        Format::Tsv => delimited::print(rows, schema, delimited::Dialect::Tsv, out),
        Format::Json => json::print(rows, schema, json::Layout::Array, out),
        Format::Ndjson => json::print(rows, schema, json::Layout::Lines, out),
    }
}

/// Writes the first rows of batches as a table and counts the others.
///
/// # Errors
/// As [`print()`].
pub fn print_table(
    rows: Batches<'_>,
    schema: &SchemaRef,
    most_rows: usize,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    table::print(rows, schema, most_rows, out)
}

/// The names of the columns, in order.
fn names(schema: &SchemaRef) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}
