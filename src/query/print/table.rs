//! A table for people: aligned columns, long values cut, numbers to the right, nothing that a
//! terminal would obey. Widths need all rows first, so rows are limited and the rest is counted.

use std::io::Write;

use arrow::datatypes::{DataType, SchemaRef};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::value::Value;
use super::{Batches, PrintError, Printed, names};
use crate::query::Error;

/// Rows that are shown at most; a person reads no more, and the widths of all must be held.
pub(super) const MOST_ROWS: usize = 10_000;

/// Characters of one value that are shown.
const MOST_CHARS: usize = 100;

pub(super) fn print(
    rows: Batches<'_>,
    schema: &SchemaRef,
    most_rows: usize,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    if names(schema) == ["plan_type", "plan"] {
        return print_plan(rows, out);
    }
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    // Never by the terminal's width: the same rows must give the same bytes.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(names(schema).into_iter().map(|name| Cell::new(visible(name.into()))));
    let mut printed = Printed::default();
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            printed.rows += 1;
            if printed.rows > most_rows as u64 {
                printed.hidden_rows += 1;
                continue;
            }
            let values = batch.columns().iter().map(|column| Value::of(column, row));
            let values = values.collect::<Result<Vec<_>, _>>().map_err(Error::from)?;
            let cells = values.into_iter().zip(schema.fields()).map(|(value, field)| {
                Cell::new(visible(value)).set_alignment(alignment(field.data_type()))
            });
            table.add_row(cells);
        }
    }
    writeln!(out, "{table}")?;
    Ok(printed)
}

/// The result of EXPLAIN: plans are trees over many lines, which a table cell would cut.
fn print_plan(rows: Batches<'_>, out: &mut dyn Write) -> Result<Printed, PrintError> {
    let mut printed = Printed::default();
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            printed.rows += 1;
            for column in batch.columns() {
                let text = Value::of(column, row).map_err(Error::from)?.into_text();
                // Literals of the query are in it, so the lines are as hostile as any value.
                for line in text.lines() {
                    writeln!(out, "{}", escape(line))?;
                }
            }
        }
    }
    Ok(printed)
}

fn alignment(data_type: &DataType) -> CellAlignment {
    if data_type.is_numeric() { CellAlignment::Right } else { CellAlignment::Left }
}

/// The value as one line of bounded length in which control characters are escaped.
fn visible(value: Value) -> String {
    let text = match value {
        // Cut before escaping: a body may be hundreds of megabytes.
        Value::Bytes(mut bytes) => {
            bytes.truncate(MOST_CHARS * 4 + 1);
            Value::Bytes(bytes).into_text()
        }
        value => value.into_text(),
    };
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => escape(&text[..end]) + "…",
        None => escape(&text),
    }
}

/// The text on one line, control characters made visible.
fn escape(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || is_bidi(c) => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// Characters that reorder the text around them (Unicode, UAX 9): what is shown would not be what
/// is there.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_terminal_obeys_gets_through() {
        assert_eq!(visible("\u{1b}[2Jx\r\n".into()), "\\u{1b}[2Jx\\r\\n");
        assert_eq!(visible("\u{9b}31m\u{202e}".into()), "\\u{9b}31m\\u{202e}");
        assert_eq!(visible(Value::Bytes(b"\x1b]0;\x07".to_vec())), "\\x1b]0;\\x07");
    }

    #[test]
    fn long_values_are_cut_and_marked() {
        let shown = visible(Value::Text("é".repeat(MOST_CHARS + 1)));
        assert_eq!(shown, "é".repeat(MOST_CHARS) + "…");
        assert_eq!(visible(Value::Text("é".repeat(MOST_CHARS))), "é".repeat(MOST_CHARS));
        let bytes = visible(Value::Bytes(vec![b'a'; 1 << 20]));
        assert_eq!(bytes, "a".repeat(MOST_CHARS) + "…");
    }
}
