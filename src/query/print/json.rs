//! JSON: an array of objects, or one object per line. Rows stream through, nothing is held.

use std::io::Write;

use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value as Json};

use super::value::Value;
use super::{Batches, PrintError, Printed, names};
use crate::query::Error;

/// How the objects are strung together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One array, an object per line.
    Array,
    /// Objects only, one per line.
    Lines,
}

pub(super) fn print(
    rows: Batches<'_>,
    schema: &SchemaRef,
    layout: Layout,
    out: &mut dyn Write,
) -> Result<Printed, PrintError> {
    let keys = unique(&names(schema));
    let mut printed = Printed::default();
    if layout == Layout::Array {
        out.write_all(b"[")?;
    }
    for batch in rows {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let mut object = Map::new();
            for (key, column) in keys.iter().zip(batch.columns()) {
                let value = Value::of(column, row).map_err(Error::from)?;
                object.insert(key.clone(), value.into_json());
            }
            if layout == Layout::Array {
                out.write_all(if printed.rows == 0 { b"\n" } else { b",\n" })?;
            }
            // DEL and C1 controls are legal in JSON; a terminal obeys them all the same.
            out.write_all(escape_controls(&Json::Object(object).to_string()).as_bytes())?;
            if layout == Layout::Lines {
                out.write_all(b"\n")?;
            }
            printed.rows += 1;
        }
    }
    if layout == Layout::Array {
        out.write_all(if printed.rows == 0 { b"]\n" } else { b"\n]\n" })?;
    }
    Ok(printed)
}

/// Escapes what JSON need not escape and a terminal takes for a command.
fn escape_controls(json: &str) -> String {
    let escape = |c: char| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    };
    if json.contains(|c| ('\u{7f}'..='\u{9f}').contains(&c)) {
        json.chars().map(escape).collect()
    } else {
        json.to_owned()
    }
}

/// Column names as keys: a repeated name gets its position, since a key may occur but once.
fn unique(names: &[&str]) -> Vec<String> {
    let key = |(at, name): (usize, &&str)| {
        if names[..at].contains(name) { format!("{name}:{}", at + 1) } else { (*name).to_owned() }
    };
    names.iter().enumerate().map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_that_json_lets_through_are_escaped() {
        assert_eq!(escape_controls("\"a\u{9b}2Jé\u{7f}\""), "\"a\\u009b2Jé\\u007f\"");
    }

    #[test]
    fn repeated_names_stay_apart() {
        assert_eq!(unique(&["a", "b", "a"]), ["a", "b", "a:3"]);
    }
}
