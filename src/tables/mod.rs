//! Findings and events to SQL tables: the catalogue of all tables with their documentation, and
//! the rows of the derived ones as Arrow batches.
//!
//! Fed by [`crate::trace`] and [`crate::reconstruct`]; knows no DataFusion and prints nothing.
//! Each derived table is declared once ([`Table`]); the catalogue, `docs/TABLES.md`, the SQL table
//! `docs` and the arrays all follow from the declaration.

pub mod activity;
mod cache_break;
mod channel;
mod chunk;
mod column;
mod connection;
mod conversation;
mod dns_answer;
mod estimate;
mod file;
mod file_op;
mod gap;
mod http;
mod limit;
mod llm_call;
mod loss;
mod mcp_call;
mod message;
mod process;
mod sample;
mod spent;
mod stdio_chunk;
mod tls_chunk;
mod tool_call;
mod tool_run;
mod trace_info;
mod traffic;
mod turn;

use arrow::datatypes::{DataType, TimeUnit};

pub use cache_break::{CACHE_BREAKS, CacheBreakRow};
pub use channel::{CHANNEL_KINDS, Channels, Peer, Totals, UsedChannel};
pub use chunk::Chunk;
pub use column::{Cell, Column, Table, UTC};
pub use connection::{CONNECTIONS, ConnectionRow, HostSource};
pub use conversation::{CONVERSATIONS, ConversationRow};
pub use dns_answer::{DNS_ANSWERS, DnsRow};
pub use estimate::{Estimate, Estimates};
pub use file::{FILE_KINDS, FILES, FileRow, Files};
pub use file_op::{FILE_OPS, FileOpRow};
pub use gap::{GAPS, GapRow, gap_rows};
pub use http::{HTTP, HttpRow, STREAM_EVENTS};
pub use limit::LIMITS;
pub use llm_call::{CallRow, LLM_CALLS, needs_prices};
pub use loss::{Gaps, LOSSES, LossRow, PROBES, ProbeRow, sort_losses};
pub use mcp_call::{MCP_CALLS, McpRow, mcp_rows};
pub use message::{MESSAGES, MessageRow};
pub use process::{Outlived, PROCESSES, ProcessRow, StartedBy, TOOL_COLUMNS};
pub use sample::{SAMPLES, SampleRow};
pub use spent::{Spent, SpentBy};
pub use stdio_chunk::{STDIO_CHUNKS, StdioChunk};
pub use tls_chunk::{TLS_CHUNKS, TlsChunk};
pub use tool_call::{TOOL_CALLS, ToolCallRow};
pub use tool_run::{Inputs, ToolRun, ToolRuns, tool_runs};
pub use trace_info::{DOCS, DocRow, InfoRow, TRACE_INFO, rfc3339};
pub use traffic::{TRAFFIC_KINDS, Traffic};
pub use turn::{TURNS, TurnRow};

use crate::trace::schema;

/// Name of the table that is the trace file itself.
pub const EVENTS: &str = "events";

const EVENTS_DESCRIPTION: &str = "One row per raw event: the trace file itself, all its columns. \
     kind says which columns are set (docs/FORMAT.md). Everything else here is derived from it.";

/// A table as the catalogue describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDoc {
    /// Name in SQL.
    pub name: &'static str,
    /// What one row is.
    pub description: &'static str,
    /// Its columns in order.
    pub columns: Vec<DocRow>,
}

/// All tables, the raw one first.
#[must_use]
pub fn catalogue() -> Vec<TableDoc> {
    vec![
        events_doc(),
        doc(&TLS_CHUNKS),
        doc(&STDIO_CHUNKS),
        doc(&PROCESSES),
        doc(&SAMPLES),
        doc(&FILES),
        doc(&FILE_OPS),
        doc(&CONNECTIONS),
        doc(&DNS_ANSWERS),
        doc(&HTTP),
        doc(&STREAM_EVENTS),
        doc(&LLM_CALLS),
        doc(&LIMITS),
        doc(&MESSAGES),
        doc(&TOOL_CALLS),
        doc(&TURNS),
        doc(&CONVERSATIONS),
        doc(&CACHE_BREAKS),
        doc(&MCP_CALLS),
        doc(&LOSSES),
        doc(&GAPS),
        doc(&PROBES),
        doc(&TRACE_INFO),
        doc(&DOCS),
    ]
}

/// The rows of [`DOCS`], in the order of the catalogue.
#[must_use]
pub fn documentation(has_trace_column: bool) -> Vec<DocRow> {
    let mut rows = Vec::new();
    for table in catalogue() {
        if has_trace_column && table.name != DOCS.name {
            rows.push(DocRow {
                table: table.name.into(),
                column: "trace".into(),
                data_type: sql_type(&DataType::Utf8),
                unit: String::new(),
                description: TRACE_DESCRIPTION.into(),
                null: String::new(),
            });
        }
        rows.extend(table.columns);
    }
    rows
}

const TRACE_DESCRIPTION: &str = "Which trace the row is of: its file name, or as much of the path \
     as tells it from the others. Ids (call_id, http_id, conn_id, conversation_id, seq) \
     and pids are unique in one \
     trace only.";

fn doc<R>(table: &Table<R>) -> TableDoc {
    let column = |column: &Column<R>| DocRow {
        table: table.name.into(),
        column: column.name.into(),
        data_type: sql_type(&column.data_type()),
        unit: column.unit.into(),
        description: column.description.into(),
        null: column.null.into(),
    };
    let columns = table.columns.iter().map(column).collect();
    TableDoc { name: table.name, description: table.description, columns }
}

fn events_doc() -> TableDoc {
    let column = |column: &schema::Column| {
        let about = column.description();
        let null = match about.kinds {
            _ if about.required => String::new(),
            schema::ALL_KINDS => "it is not known".into(),
            kinds => format!("it is not known, or kind is not {}", kinds.join(", ")),
        };
        DocRow {
            table: EVENTS.into(),
            column: about.name.into(),
            data_type: sql_type(&about.column_type.arrow()),
            // The type says the unit of a timestamp.
            unit: if is_timestamp(about) { "" } else { about.unit }.into(),
            description: about.text.into(),
            null,
        }
    };
    let columns = schema::Column::ALL.iter().map(column).collect();
    TableDoc { name: EVENTS, description: EVENTS_DESCRIPTION, columns }
}

fn is_timestamp(about: &schema::Description) -> bool {
    use schema::ColumnType::{Timestamp, TimestampList};
    matches!(about.column_type, Timestamp | TimestampList)
}

/// The SQL name of the types that occur in the catalogue.
fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) => format!("TIMESTAMP(ns, {zone})"),
        DataType::Int64 => "BIGINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Utf8 => "TEXT".into(),
        DataType::Binary => "BINARY".into(),
        DataType::List(element) => format!("{}[]", sql_type(element.data_type())),
        other => other.to_string().to_uppercase(),
    }
}

/// The catalogue as `docs/TABLES.md`.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(PREFACE);
    let tables = catalogue();
    for table in &tables {
        page.push_str(&format!("- [{0}](#{0})\n", table.name));
    }
    for table in &tables {
        page.push_str(&format!("\n## {}\n\n{}\n\n", table.name, table.description));
        page.push_str("| column | type | unit | meaning | NULL means |\n|---|---|---|---|---|\n");
        for column in &table.columns {
            let cells = [&column.unit, &column.description, &column.null].map(|text| escape(text));
            page.push_str(&format!(
                "| `{}` | {} | {} |\n",
                column.column,
                column.data_type,
                cells.join(" | ")
            ));
        }
    }
    page
}

const PREFACE: &str = "\
# Tables

<!-- Generated from src/tables; rewrite with UPDATE_GOLDEN=1 cargo test tables:: -->

What `agentsight-query` and `agentsight-report` see. The same text is in SQL:
`SELECT * FROM docs WHERE \"table\" = 'llm_calls'`.

- Timestamps are nanoseconds, UTC, and named `*_ts`; durations `*_ms`, sizes `*_bytes`, tokens
  `*_tokens`. Unknown is NULL, never 0.
- A process is `(pid, start_ts)`: pids are reused. Other tables name it `pid, process_start_ts`.
- JSON columns are text: `data->>'type'`, `json_get_int(data, 'index')`, `json_length(data)`, ...
- `body_text(x)` gives bytes (BINARY or BINARY[]) as text; what is not UTF-8 becomes U+FFFD.
- Bodies are reconstructed only when a query names `request_body` or `response_body`.

## Several traces

`agentsight-query A.parquet B.parquet \"SELECT ...\"` puts the rows of all traces into the same tables.
Each, but for `docs`, then has one more column, the first: `trace`, the file name, or as much of the
path as tells it from the others.

- Ids (`call_id`, `http_id`, `conn_id`, `conversation_id`, `seq`) and pids are unique in one trace only: join and group by
  `trace` too, as in `JOIN http AS h ON h.trace = c.trace AND h.http_id = c.http_id`.
- A condition on `trace` alone keeps the other traces from being read.
- A named query (`--named`) is asked of one trace after the other and its rows get the same column in
  front, so that no join or sum mixes traces. Its order holds within each trace.
- The files that a rotating recorder wrote (`agentsight.part` 1, 2, 3, ... of one
  `agentsight.recording_id`) are one trace when they are given together, in the order of their parts,
  so that what goes over from one file to the next is whole.

## Tables

";

/// Text inside a Markdown table cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_table_and_column_is_described_once() {
        let tables = catalogue();
        let names: BTreeSet<_> = tables.iter().map(|table| table.name).collect();
        assert_eq!(names.len(), tables.len());
        for table in &tables {
            assert!(table.description.ends_with('.'), "{}", table.name);
            let columns: BTreeSet<_> = table.columns.iter().map(|row| &row.column).collect();
            assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
            for row in &table.columns {
                assert!(row.description.ends_with('.'), "{}.{}", row.table, row.column);
                assert!(!row.description.contains("  "), "{}.{}", row.table, row.column);
            }
        }
    }

    #[test]
    fn names_say_the_unit_and_type() {
        for row in catalogue().iter().flat_map(|table| &table.columns) {
            let at = format!("{}.{}", row.table, row.column);
            let is_ts = row.data_type.starts_with("TIMESTAMP");
            assert_eq!(is_ts, row.column == "ts" || row.column.ends_with("_ts"), "{at}");
            for unit in ["ms", "bytes", "tokens", "percent"] {
                let named = row.column == unit || row.column.ends_with(&format!("_{unit}"));
                let offset = row.column == "stream_offset";
                assert_eq!(named, row.unit == unit && !offset, "{at}");
            }
        }
    }

    #[test]
    fn the_documentation_page_is_up_to_date() {
        let path = "docs/TABLES.md";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == markdown(), "docs/TABLES.md is stale: rerun with UPDATE_GOLDEN=1");
    }
}
