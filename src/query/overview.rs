//! What `agentsight-query TRACE` shows when it is asked nothing: what kind of trace this is, how
//! complete it is and what is in it. Each section is a named query.

use std::io::Write;

use super::Session;
use super::print::{PrintError, print_table};

/// Title and named query of each section.
const SECTIONS: &[(&str, &str)] = &[
    ("Trace", "trace_facts"),
    ("Events", "events_by_kind"),
    ("Processes", "processes_list"),
    ("Agents", "llm_calls_agents"),
    ("Probes", "probes_by_state"),
    ("Losses", "losses_by_cause"),
    ("Gaps", "losses_gaps"),
];

/// Rows of a section that are shown.
const MOST_ROWS: usize = 40;

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
        let hidden =
            print_table(&mut batches.into_iter().map(Ok), &schema, MOST_ROWS, out)?.hidden_rows;
        if hidden > 0 {
            writeln!(out, "{hidden} more rows: --named {query} shows all")?;
        }
    }
    Ok(())
}
