//! A fixed reading of a trace: what was recorded, what it cost, and how far it can be trusted.
//!
//! Every figure comes from a named query (`queries/*.sql`); this module asks them, and arranges and
//! words the answers. It holds no SQL. Nothing in a report depends on the time, the terminal or the
//! machine it is made on: the same trace gives the same bytes.

mod activity;
mod cache;
mod calls;
mod conversations;
mod costs;
mod document;
mod files;
mod json;
mod losses;
mod markdown;
mod network;
mod overview;
mod processes;
mod rows;
mod text;
mod tokens;
mod tools;

use self::document::Document;
use self::rows::Rows;
use crate::query::ShortfallKind;
use crate::{human, query};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns for a terminal.
    Text,
    /// To paste into an issue.
    Markdown,
    /// For programs: every row, raw values.
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A query had no answer.
    #[error(transparent)]
    Query(#[from] query::Error),
    /// Several traces were given that are not parts of one recording.
    #[error("expected one trace, found {0}")]
    TraceCount(usize),
    /// A query had an answer of an unexpected shape.
    #[error("query '{query}'")]
    Rows {
        /// The named query.
        query: &'static str,
        /// What was unexpected.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Query(error) => error.hint(),
            Self::TraceCount(_) => Some(
                "report them one by one; agentsight-query answers questions about several".into(),
            ),
            Self::Rows { .. } => None,
        }
    }
}

/// Longest name of a trace in a title.
const FILE_NAME_CHARS: usize = 80;

/// The answers to all queries of the report.
pub struct Report {
    /// Its name without its folder, which says more of the machine than of the trace.
    trace: String,
    recording: Recording,
    summary: Rows,
    agents: Rows,
    models: Rows,
    costs: Rows,
    calls: Rows,
    conversations: Rows,
    turns: Rows,
    tools: Rows,
    repeated: Rows,
    cache_breaks: Rows,
    processes: Rows,
    activity: Rows,
    files_by_process: Rows,
    files_changed: Rows,
    files_failed: Rows,
    hosts: Rows,
    incomplete: Rows,
    losses: Rows,
    gaps: Rows,
    probes: Rows,
}

/// What the trace's metadata says of the recording.
#[derive(Debug, Default)]
struct Recording {
    recorder_version: Option<String>,
    kernel: Option<String>,
    stop_reason: Option<String>,
    /// When it started, or the first event where the metadata does not say.
    start_ns: Option<i64>,
    /// When it stopped, or the last event where the recorder did not finish.
    end_ns: Option<i64>,
    first_event_ns: Option<i64>,
    /// Why it is not all that was recorded, but for losses, which queries tell of.
    shortfalls: Vec<ShortfallKind>,
}

impl Recording {
    fn new(info: &Rows, summary: &Rows, shortfalls: Vec<ShortfallKind>) -> Self {
        let value = |key: &str| {
            let row = info.iter().find(|row| row.text("key") == Some(key));
            row.and_then(|row| row.text("value")).filter(|value| !value.is_empty())
        };
        let ns = |column| summary.first().and_then(|row| row.ts(column));
        let host: Option<serde_json::Value> =
            value("agentsight.host").and_then(|text| serde_json::from_str(text).ok());
        Self {
            recorder_version: value("agentsight.recorder_version").map(str::to_owned),
            kernel: host
                .and_then(|host| host["kernel"].as_str().map(str::to_owned))
                .filter(|kernel| !kernel.is_empty()),
            stop_reason: value("agentsight.stop_reason").map(str::to_owned),
            start_ns: ns("started_ts").or(ns("first_ts")),
            end_ns: ns("stopped_ts").or(ns("last_ts")),
            first_event_ns: ns("first_ts"),
            shortfalls,
        }
    }

    /// Whether the recorder finished the file.
    fn is_finished(&self) -> bool {
        !self.shortfalls.iter().any(|kind| matches!(kind, ShortfallKind::Unfinished(_)))
    }

    /// Events of kinds that only a newer program knows.
    fn unknown_events(&self) -> u64 {
        let unknown = self.shortfalls.iter().filter_map(|kind| match kind {
            ShortfallKind::UnknownKinds(kinds) => Some(kinds.values()),
            _ => None,
        });
        unknown.flatten().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// An instant as the time since the recording started.
    fn position(&self, ns: Option<i64>) -> String {
        match (ns, self.start_ns) {
            (Some(ns), Some(start)) => human::position(ns.saturating_sub(start)),
            _ => human::UNKNOWN.to_owned(),
        }
    }
}

impl Report {
    /// Asks the queries of `session`, which holds one trace.
    ///
    /// # Errors
    /// When it holds several, or the trace cannot be read.
    pub fn read(session: &query::Session) -> Result<Self, Error> {
        let names = session.trace_names();
        let [trace] = names.as_slice() else {
            return Err(Error::TraceCount(names.len()));
        };
        let ask = |name| ask(session, name);
        let summary = ask("trace_summary")?;
        let info = ask("trace_facts")?;
        let mut report = Self {
            trace: (*trace).to_owned(),
            recording: Recording::default(),
            summary,
            agents: ask("llm_calls_agents")?,
            models: ask("llm_calls_tokens_by_model")?,
            costs: ask("llm_calls_cost_by_model")?,
            calls: ask("llm_calls_list")?,
            conversations: ask("conversations_list")?,
            turns: ask("turns_list")?,
            tools: ask("tool_calls_by_name")?,
            repeated: ask("tool_calls_repeated")?,
            cache_breaks: ask("cache_breaks_list")?,
            processes: ask("processes_by_cpu")?,
            activity: ask("samples_during_calls")?,
            files_by_process: ask("files_by_process")?,
            files_changed: ask("files_changed")?,
            files_failed: ask("files_failed")?,
            hosts: ask("connections_by_host")?,
            incomplete: ask("connections_incomplete")?,
            losses: ask("losses_by_cause")?,
            gaps: ask("losses_gaps")?,
            probes: ask("probes_by_state")?,
        };
        // Last, because damaged rows are known once they were read.
        let told = session.shortfalls().into_iter().map(|shortfall| shortfall.kind);
        let told = told.filter(ShortfallKind::is_warning).collect();
        report.recording = Recording::new(&info, &report.summary, told);
        Ok(report)
    }

    /// The report in one of its formats, ending in a line break.
    #[must_use]
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Text => text::print(&self.document()),
            Format::Markdown => markdown::print(&self.document()),
            Format::Json => json::print(self),
        }
    }

    fn document(&self) -> Document {
        let sections = [
            Some(overview::section(self)),
            Some(tokens::section(self)),
            Some(costs::section(self)),
            conversations::section(self),
            tools::section(self),
            cache::section(self),
            Some(calls::section(self)),
            Some(processes::section(self)),
            Some(activity::section(self)),
            Some(files::section(self)),
            Some(network::section(self)),
            Some(losses::section(self)),
        ];
        Document {
            title: format!("agentsight report: {}", self.file_name()),
            sections: sections.into_iter().flatten().collect(),
        }
    }

    fn file_name(&self) -> String {
        human::printable(&self.trace, FILE_NAME_CHARS)
    }

    /// Whether anything went through a TLS library that is observed.
    fn has_plaintext(&self) -> bool {
        let bytes = self.summary.first().and_then(|row| row.count("plaintext_bytes"));
        bytes.is_some_and(|bytes| bytes > 0)
    }

    fn call_count(&self) -> usize {
        self.calls.len()
    }

    /// The command that prints all rows of a named query.
    fn query_command(&self, query: &str) -> String {
        let trace = human::command_line(&[self.file_name()], FILE_NAME_CHARS);
        format!("agentsight-query {trace} --named {query}")
    }
}

/// All rows of a named query without parameters.
fn ask(session: &query::Session, name: &'static str) -> Result<Rows, Error> {
    let batches = session.named(name, &[])?.collect_batches()?;
    Rows::new(&batches).map_err(|source| Error::Rows { query: name, source: source.into() })
}
