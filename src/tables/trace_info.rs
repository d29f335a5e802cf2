//! Tables about the trace itself: `trace_info` (its metadata and what was counted in it) and
//! `docs` (this catalogue, for SQL).

use arrow::temporal_conversions::timestamp_ns_to_datetime;

use super::column::{Cell, Column, NEVER, Table, text};
use crate::time::WallNanos;

/// A time as text: RFC 3339, UTC, all nine digits.
#[must_use]
pub fn rfc3339(ts: WallNanos) -> String {
    match timestamp_ns_to_datetime(ts.0) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
        // Every i64 of nanoseconds is a date; should that change, the number is still true.
        None => ts.0.to_string(),
    }
}

/// A fact about the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRow {
    /// What it is about.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// One row per fact about the trace.
pub const TRACE_INFO: Table<InfoRow> = Table {
    name: "trace_info",
    description: "One row per fact about the trace, ordered by key: the metadata of the file (keys \
                  agentsight.*) and what a look at its rows counts (keys counted.*). \
                  counted.completeness is complete, repaired (completed from its log), unfinished \
                  (the recorder did not finish) or recording (it still runs); counted.complete is \
                  true for the first alone. Of unfinished ones counted.rows_from_log, \
                  counted.torn_bytes and counted.log_damage say what the log beside the file gave.",
    columns: &[
        Column::new("key", Cell::Text(|x| text(&x.key)), "Name of the fact.", NEVER),
        Column::new(
            "value",
            Cell::Text(|x| text(&x.value)),
            "Its value, as text; keys ending in _ts hold RFC 3339 times.",
            NEVER,
        ),
    ],
};

/// A column of a table, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocRow {
    /// The table.
    pub table: String,
    /// The column.
    pub column: String,
    /// Its SQL type.
    pub data_type: String,
    /// Its unit; empty where the type says it all.
    pub unit: String,
    /// What it means.
    pub description: String,
    /// What NULL means; empty when it is never NULL.
    pub null: String,
}

/// One row per column of every table.
pub const DOCS: Table<DocRow> = Table {
    name: "docs",
    description: "One row per column of every table: this documentation. \"table\" and \
                  \"column\" are words of SQL and need double quotes.",
    columns: &[
        Column::new("table", Cell::Text(|x| text(&x.table)), "Name of the table.", NEVER),
        Column::new("column", Cell::Text(|x| text(&x.column)), "Name of the column.", NEVER),
        Column::new("type", Cell::Text(|x| text(&x.data_type)), "SQL type.", NEVER),
        Column::new(
            "unit",
            Cell::Text(|x| text(&x.unit).filter(|unit| !unit.is_empty())),
            "Unit of its numbers.",
            "it has none",
        ),
        Column::new("description", Cell::Text(|x| text(&x.description)), "What it means.", NEVER),
        Column::new(
            "null_means",
            Cell::Text(|x| text(&x.null).filter(|null| !null.is_empty())),
            "What NULL in that column means.",
            "the column is never NULL",
        ),
    ],
};
