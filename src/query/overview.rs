//! What `agentsight-query TRACE` shows when it is asked nothing: what kind of trace this is, how
//! complete it is and what is in it.
//!
//! It comes from the metadata and the statistics of row groups, so that it costs the same for a
//! recording of ten hours as for one of a minute. Of the rows it reads those of processes, if they
//! are few. What takes more is a named query or a report, and is named at the end.

mod recording;
mod sections;

use std::io::Write;

use super::Session;
use super::facts::Facts;
use super::print::{PrintError, print_table};
use super::traces::Named;

/// The named query whose rows are the overview in formats other than a table.
pub const FACTS: &str = "trace_facts";

/// Rows of a section that are shown.
const MOST_ROWS: usize = 40;

/// Writes what is known of each trace.
///
/// # Errors
/// When a trace cannot be read or the output not be written.
pub fn print(session: &Session, out: &mut dyn Write) -> Result<(), PrintError> {
    for (at, trace) in session.traces.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        print_trace(trace, out)?;
    }
    Ok(())
}

fn print_trace(trace: &Named, out: &mut dyn Write) -> Result<(), PrintError> {
    let facts = Facts::of(&trace.source);
    for (name, text) in recording::lines(trace, &facts)? {
        writeln!(out, "{name:<13} {text}")?;
    }
    for section in sections::all(trace, &facts)? {
        writeln!(out)?;
        if section.rows.num_rows() == 0 {
            writeln!(out, "{}: {}", section.title, section.none)?;
            continue;
        }
        writeln!(out, "{}", section.title)?;
        let schema = section.rows.schema();
        let mut batches = std::iter::once(Ok(section.rows));
        let hidden = print_table(&mut batches, &schema, MOST_ROWS, out)?.hidden_rows;
        if hidden > 0 {
            writeln!(out, "{hidden} more rows: --named {} shows all", section.query)?;
        }
    }
    writeln!(out)?;
    writeln!(
        out,
        "Calls to models, gaps in streams and CPU time are read from the rows: agentsight-report, or\n\
         --named llm_calls_list, losses_gaps, processes_by_cpu; --list shows all."
    )?;
    Ok(())
}
