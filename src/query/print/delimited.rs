//! CSV and TSV: rows stream through, nothing is held.

use std::io::Write;

use arrow::datatypes::SchemaRef;

use super::value::Value;
use super::{Batches, PrintError, Printed, names};
use crate::query::Error;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// RFC 4180, lines ended by a line feed as every Unix tool does.
    Csv,
    /// Tab-separated with backslash escapes, so that a row is always one line.
    Tsv,
}

pub(super) fn print(
    rows: Batches<'_>,
    schema: &SchemaRef,
    dialect: Dialect,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    line(names(schema).into_iter().map(String::from), dialect, out)?;
    let mut printed = Printed::default();
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let values = batch.columns().iter().map(|column| Value::of(column, row));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
            line(values.into_iter().map(|value| field(value, dialect)), dialect, out)?;
        }
        printed.rows += batch.num_rows() as u64;
    }
    Ok(printed)
}

fn line(
    fields: impl Iterator<Item = String>,
    dialect: Dialect,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let separator = if dialect == Dialect::Csv { "," } else { "\t" };
    for (at, field) in fields.enumerate() {
        if at > 0 {
            out.write_all(separator.as_bytes())?;
        }
        out.write_all(field.as_bytes())?;
    }
    out.write_all(b"\n")
}

fn field(value: Value, dialect: Dialect) -> String {
    match (dialect, value) {
        // NULL is empty, so the empty text must not be: RFC 4180 leaves quoting free.
        (Dialect::Csv, Value::Text(text)) if text.is_empty() => "\"\"".into(),
        (Dialect::Csv, value) => csv_field(value.into_text()),
        (Dialect::Tsv, value) => tsv_field(&value.into_text()),
    }
}

/// RFC 4180, 2.6: quoted where it holds a comma, a quote or a line break.
fn csv_field(text: String) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn tsv_field(text: &str) -> String {
    let escape = |c: char| match c {
        '\t' => "\\t".to_owned(),
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\\' => "\\\\".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_quotes_what_would_break_it_and_tells_empty_from_null() {
        let csv = |value| field(value, Dialect::Csv);
        assert_eq!(csv(Value::Text("a,\"b\"\n".into())), "\"a,\"\"b\"\"\n\"");
        assert_eq!(csv(Value::Text(String::new())), "\"\"");
        assert_eq!(csv(Value::Null), "");
        assert_eq!(csv(Value::List(vec![Value::Text("x".into())])), "\"[\"\"x\"\"]\"");
    }

    #[test]
    fn a_tsv_row_is_one_line() {
        assert_eq!(tsv_field("a\tb\nc\\"), "a\\tb\\nc\\\\");
    }
}
