//! What `agentsight-query TRACE` shows when it is asked nothing: what kind of trace this is, how
//! complete it is and what is in it. Each section is a named query.

use std::io::Write;

use arrow::array::RecordBatch;

use super::Session;
use super::print::{Format, PrintError, print_batches};

/// Title and named query of each section.
const SECTIONS: &[(&str, &str)] = &[
    ("Trace", "trace_facts"),
    ("Events", "trace_kinds"),
    ("Processes", "trace_processes"),
    ("Agents", "trace_agents"),
    ("Probes", "trace_probes"),
    ("Losses", "trace_losses"),
];

/// The named query whose rows are the overview in formats other than a table.
pub const FACTS: &str = "trace_facts";

/// Writes the overview.
///
/// # Errors
/// When the trace cannot be read or the output not be written.
pub fn print(session: &Session, out: &mut dyn Write) -> Result<(), PrintError> {
    for (at, (title, query)) in SECTIONS.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let rows = session.named(query, &[])?;
        let schema = rows.schema();
        let batches = rows.collect_batches()?;
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            writeln!(out, "{title}: none")?;
            continue;
        }
        writeln!(out, "{title}")?;
        let hidden = show(batches, &schema, out)?;
        if hidden > 0 {
            writeln!(out, "{hidden} more: --named {query} --format csv shows all")?;
        }
    }
    Ok(())
}

fn show(
    batches: Vec<RecordBatch>,
    schema: &arrow::datatypes::SchemaRef,
    out: &mut dyn Write,
) -> Result<u64, PrintError> {
    let mut batches = batches.into_iter().map(Ok);
    Ok(print_batches(&mut batches, schema, Format::Table, out)?.hidden_rows)
}
