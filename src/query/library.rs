//! The named queries: `queries/*.sql`, embedded when the program is built. Each file is a header
//! comment (question, parameters, columns, absence) and one statement; `queries/README.md` is the
//! rule book. Parameters are bound as values, never pasted into the text.

use std::collections::BTreeMap;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use datafusion::scalar::ScalarValue;

use super::error::{Error, nearest};
use crate::tables::UTC;

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../queries/", $name, ".sql")))),*]
    };
}

/// Name and text of every query, sorted by name; a test compares with the directory.
const FILES: &[(&str, &str)] = embedded![
    "cache_breaks_list",
    "connections_by_host",
    "connections_incomplete",
    "conversations_compactions",
    "conversations_list",
    "conversations_subagents",
    "dns_names",
    "events_by_kind",
    "files_by_process",
    "files_changed",
    "files_failed",
    "http_failed",
    "http_hosts",
    "limits_latest",
    "llm_calls_agents",
    "llm_calls_cache_hits",
    "llm_calls_context",
    "llm_calls_cost_by_model",
    "llm_calls_failed",
    "llm_calls_list",
    "llm_calls_most_expensive",
    "llm_calls_most_tokens",
    "llm_calls_other_model",
    "llm_calls_retries",
    "llm_calls_side",
    "llm_calls_slowest",
    "llm_calls_stop_reasons",
    "llm_calls_tokens_by_model",
    "losses_by_cause",
    "losses_gaps",
    "mcp_calls_by_server",
    "messages_instructions",
    "probes_by_state",
    "processes_by_cpu",
    "processes_by_peak_rss",
    "processes_list",
    "processes_outlived",
    "samples_during_calls",
    "stdio_text",
    "tool_calls_by_name",
    "tool_calls_failed",
    "tool_calls_files",
    "tool_calls_largest_results",
    "tool_calls_repeated",
    "tool_calls_slowest",
    "tool_calls_used_files",
    "trace_facts",
    "trace_summary",
    "turns_list",
    "turns_slowest",
];

/// A named query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Its name: that of the file, without `.sql`.
    pub name: &'static str,
    /// The question it answers.
    pub question: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// Name and description of every result column, in order.
    pub columns: Vec<(String, String)>,
    /// What NULL or an empty result means.
    pub absence: Vec<String>,
    /// The whole text, header included.
    pub sql: &'static str,
}

/// A parameter of a named query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// `$name` in the statement.
    pub name: String,
    /// What its value may be.
    pub kind: ParameterType,
    /// The value when none is given; absent when one must be given.
    pub default: Option<String>,
    /// What it does.
    pub description: String,
}

/// The type of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterType {
    /// Any text.
    Text,
    /// A signed 64-bit integer.
    Int,
    /// A finite number.
    Float,
    /// `true` or `false`.
    Bool,
    /// A point in time, RFC 3339.
    Ts,
}

/// All named queries, sorted by name.
#[must_use]
pub fn all() -> Vec<Query> {
    let parsed = |(name, text): &(&'static str, &'static str)| {
        parse(name, text).expect("a test parses every embedded query")
    };
    FILES.iter().map(parsed).collect()
}

/// The query of that name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<Query, Error> {
    let names = FILES.iter().map(|(name, _)| *name);
    all()
        .into_iter()
        .find(|query| query.name == name)
        .ok_or_else(|| Error::UnknownQuery { name: name.to_owned(), nearest: nearest(name, names) })
}

impl Query {
    /// The values of all parameters, from those given as text and the defaults.
    pub(super) fn bind(
        &self,
        given: &[(String, String)],
    ) -> Result<Vec<(String, ScalarValue)>, Error> {
        let known = || self.parameters.iter().map(|parameter| parameter.name.clone());
        let mut values: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in given {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                return Err(Error::UnknownParameter {
                    query: self.name.into(),
                    name: name.clone(),
                    known: known().collect(),
                });
            }
            values.insert(name, value);
        }
        let bound = |parameter: &Parameter| {
            let default = parameter.default.as_deref();
            let text = values.get(parameter.name.as_str()).copied().or(default);
            let text = text.ok_or_else(|| Error::MissingParameter {
                query: self.name.into(),
                name: parameter.name.clone(),
                description: parameter.description.clone(),
            })?;
            Ok((parameter.name.clone(), parameter.value(text)?))
        };
        self.parameters.iter().map(bound).collect()
    }
}

impl Parameter {
    fn value(&self, text: &str) -> Result<ScalarValue, Error> {
        self.kind.value(text).ok_or_else(|| Error::ParameterValue {
            name: self.name.clone(),
            expected: self.kind.describe(),
            found: text.to_owned(),
        })
    }
}

impl ParameterType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "text" => Self::Text,
            "int" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            "ts" => Self::Ts,
            _ => return None,
        })
    }

    /// The name of the type as `queries/*.sql` and messages write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Ts => "ts",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "an integer",
            Self::Float => "a number",
            Self::Bool => "true or false",
            Self::Ts => "a time such as 2026-01-31T12:00:00Z",
        }
    }

    /// The typed value of a text; `NULL` is a value of every type.
    fn value(self, text: &str) -> Option<ScalarValue> {
        let utc = || Some(UTC.into());
        let absent = text == "NULL";
        Some(match self {
            Self::Text => ScalarValue::Utf8((!absent).then(|| text.to_owned())),
            Self::Int if absent => ScalarValue::Int64(None),
            Self::Int => ScalarValue::Int64(Some(text.parse().ok()?)),
            Self::Float if absent => ScalarValue::Float64(None),
            Self::Float => {
                let number: f64 = text.parse().ok()?;
                ScalarValue::Float64(Some(number.is_finite().then_some(number)?))
            }
            Self::Bool if absent => ScalarValue::Boolean(None),
            Self::Bool => ScalarValue::Boolean(Some(text.parse().ok()?)),
            Self::Ts if absent => ScalarValue::TimestampNanosecond(None, utc()),
            Self::Ts => {
                let nanos = string_to_timestamp_nanos(text).ok()?;
                ScalarValue::TimestampNanosecond(Some(nanos), utc())
            }
        })
    }
}

/// The sections of a header, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Question,
    Parameters,
    Columns,
    Absence,
}

/// Takes a file apart; the error says which line of the header breaks which rule.
fn parse(name: &'static str, text: &'static str) -> Result<Query, String> {
    let mut query = Query {
        name,
        question: String::new(),
        parameters: Vec::new(),
        columns: Vec::new(),
        absence: Vec::new(),
        sql: text,
    };
    let mut question = Vec::new();
    for (section, entry) in entries(text)? {
        match section {
            Section::Question => question.push(entry),
            Section::Parameters => query.parameters.push(parameter(&entry)?),
            Section::Columns => {
                let (name, description) = entry
                    .split_once(": ")
                    .ok_or(format!("expected 'name: text', found '{entry}'"))?;
                query.columns.push((name.to_owned(), description.to_owned()));
            }
            Section::Absence => query.absence.push(entry),
        }
    }
    query.question = question.join(" ");
    if !query.question.ends_with('?') {
        return Err(format!("expected a question, found '{}'", query.question));
    }
    if query.columns.is_empty() {
        return Err("expected a section 'Columns:'".into());
    }
    Ok(query)
}

/// The entries of a header with the section each is in, continuation lines joined.
fn entries(text: &str) -> Result<Vec<(Section, String)>, String> {
    let mut entries: Vec<(Section, String)> = Vec::new();
    let mut section = Section::Question;
    for line in text.lines().map_while(|line| line.strip_prefix("--")) {
        let next = match line.trim() {
            "" => continue,
            "Parameters:" => Section::Parameters,
            "Columns:" => Section::Columns,
            "Absence:" => Section::Absence,
            entry => {
                match (section, line.strip_prefix("   "), entries.last_mut()) {
                    (Section::Question, _, _) => entries.push((section, entry.into())),
                    (_, Some(deeper), Some((of, last)))
                        if deeper.starts_with(' ') && *of == section =>
                    {
                        last.push(' ');
                        last.push_str(entry);
                    }
                    // Prose may run over lines without being indented deeper.
                    (Section::Absence, Some(_), Some((Section::Absence, last))) => {
                        last.push(' ');
                        last.push_str(entry);
                    }
                    (_, Some(_), _) => entries.push((section, entry.into())),
                    (_, None, _) => return Err(format!("expected two spaces before '{entry}'")),
                }
                continue;
            }
        };
        if next <= section {
            return Err(format!("section '{}' is out of order", line.trim()));
        }
        section = next;
    }
    Ok(entries)
}

/// `name type = default: description`, the default being optional.
fn parameter(entry: &str) -> Result<Parameter, String> {
    let broken = || format!("expected 'name type = default: text', found '{entry}'");
    let (declaration, description) = entry.split_once(": ").ok_or_else(broken)?;
    let (typed, default) = match declaration.split_once(" = ") {
        Some((typed, default)) => (typed, Some(default.to_owned())),
        None => (declaration, None),
    };
    let (name, kind) = typed.split_once(' ').ok_or_else(broken)?;
    let kind = ParameterType::parse(kind).ok_or_else(broken)?;
    let parameter =
        Parameter { name: name.to_owned(), kind, default, description: description.to_owned() };
    if let Some(default) = &parameter.default {
        parameter.value(default).map_err(|error| error.to_string())?;
    }
    Ok(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "-- Which calls were slow,\n-- and why?\n--\n-- Parameters:\n\
        --   min_ms float = 0: at least this long,\n--     milliseconds\n--   model text: which\n\
        -- Columns:\n--   call_id: number\n-- Absence:\n--   nothing\n--   is missing\nSELECT 1";

    #[test]
    fn the_embedded_list_is_the_directory() {
        let directory = "queries";
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".sql").map(String::from))
            .collect();
        files.sort();
        let embedded: Vec<_> = FILES.iter().map(|(name, _)| *name).collect();
        assert_eq!(embedded, files, "add the file to FILES in src/query/library.rs");
    }

    #[test]
    fn every_embedded_query_follows_the_rules() {
        for (name, text) in FILES {
            parse(name, text).unwrap_or_else(|error| panic!("queries/{name}.sql: {error}"));
            assert!(!text.trim_end().ends_with(';'), "queries/{name}.sql ends with ';'");
            assert!(text.lines().all(|line| line.len() <= 100), "queries/{name}.sql: long line");
            assert!(text.contains("ORDER BY"), "queries/{name}.sql: no ORDER BY");
        }
    }

    #[test]
    fn a_header_is_taken_apart() {
        let query = parse("q", HEADER).unwrap();
        assert_eq!(query.question, "Which calls were slow, and why?");
        assert_eq!(query.parameters[0].description, "at least this long, milliseconds");
        assert_eq!(query.parameters[0].default.as_deref(), Some("0"));
        assert_eq!(query.parameters[1].default, None);
        assert_eq!(query.columns, [("call_id".to_owned(), "number".to_owned())]);
        assert_eq!(query.absence, ["nothing is missing"]);
    }

    #[test]
    fn broken_headers_are_refused_with_the_rule() {
        for (text, rule) in [
            ("-- no question\n-- Columns:\n--   a: b\n", "expected a question"),
            ("-- What?\nSELECT 1", "'Columns:'"),
            ("-- What?\n-- Columns:\n--   a: b\n-- Parameters:\n", "out of order"),
            ("-- What?\n-- Parameters:\n--   a number: b\n", "name type = default"),
            ("-- What?\n-- Parameters:\n--   a int = x: b\n", "expected an integer"),
            ("-- What?\n-- Columns:\n-- a: b\n", "two spaces"),
        ] {
            let error = parse("q", text).unwrap_err();
            assert!(error.contains(rule), "{error}");
        }
    }

    fn bind(given: &[(&str, &str)]) -> Result<Vec<(String, ScalarValue)>, Error> {
        let given: Vec<_> = given.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        parse("q", HEADER).unwrap().bind(&given)
    }

    #[test]
    fn values_are_typed_and_defaults_fill_in() {
        let bound = bind(&[("model", "x'; DROP TABLE events")]).unwrap();
        assert_eq!(bound[0].1, ScalarValue::Float64(Some(0.0)));
        assert_eq!(bound[1].1, ScalarValue::Utf8(Some("x'; DROP TABLE events".into())));
    }

    #[test]
    fn wrong_parameters_are_named() {
        assert!(matches!(bind(&[]), Err(Error::MissingParameter { name, .. }) if name == "model"));
        let unknown = bind(&[("model", "x"), ("nmae", "y")]);
        assert!(matches!(unknown, Err(Error::UnknownParameter { name, .. }) if name == "nmae"));
        for bad in ["ten", "inf", "NaN", ""] {
            let wrong = bind(&[("model", "x"), ("min_ms", bad)]);
            assert!(matches!(wrong, Err(Error::ParameterValue { .. })), "{bad}");
        }
    }

    #[test]
    fn points_in_time_keep_their_nanoseconds() {
        let value = ParameterType::Ts.value("2026-01-31T12:00:00.123456789Z").unwrap();
        let nanos = 1_769_860_800_123_456_789;
        assert_eq!(value, ScalarValue::TimestampNanosecond(Some(nanos), Some(UTC.into())));
        assert_eq!(ParameterType::Ts.value("yesterday"), None);
    }
}
