//! Why a query has no answer: each a line that says what was found, and a hint what to do.

use std::path::PathBuf;

use datafusion::common::{DataFusionError, SchemaError};
use datafusion::parquet::errors::ParquetError;

use crate::trace;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trace could not be opened or read.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// No trace was given.
    #[error("expected a trace, found none")]
    NoTrace,
    /// A trace was given more than once.
    #[error("'{0}' is given twice")]
    SameTrace(PathBuf),
    /// A table that is not there.
    #[error("no table '{name}'")]
    UnknownTable {
        /// As written in the query.
        name: String,
        /// The most similar table.
        nearest: Option<String>,
    },
    /// A column that is not there.
    #[error("no column '{name}'")]
    UnknownColumn {
        /// As written in the query.
        name: String,
        /// The most similar column.
        nearest: Option<String>,
        /// The columns there are.
        known: Vec<String>,
    },
    /// The text is not SQL.
    #[error("SQL syntax: {0}")]
    Syntax(String),
    /// The statement would change something.
    #[error("{0} is refused: a trace is only ever read")]
    NotReadOnly(String),
    /// The statement is larger than any that is planned.
    #[error("the SQL is too large: {0}")]
    TooLarge(String),
    /// No or several statements.
    #[error("expected one SQL statement, found {0}")]
    StatementCount(usize),
    /// A named query that is not there.
    #[error("no named query '{name}'")]
    UnknownQuery {
        /// As given.
        name: String,
        /// The most similar one.
        nearest: Option<String>,
    },
    /// A parameter that the query does not have.
    #[error("query '{query}' has no parameter '{name}'")]
    UnknownParameter {
        /// The query.
        query: String,
        /// As given.
        name: String,
        /// The parameters it has.
        known: Vec<String>,
    },
    /// A parameter that has no default was not given.
    #[error("query '{query}' needs the parameter '{name}' ({description})")]
    MissingParameter {
        /// The query.
        query: String,
        /// The parameter.
        name: String,
        /// What it is.
        description: String,
    },
    /// A value that is not of the parameter's type.
    #[error("parameter '{name}': expected {expected}, found '{found}'")]
    ParameterValue {
        /// The parameter.
        name: String,
        /// Its type.
        expected: &'static str,
        /// As given.
        found: String,
    },
    /// A statement with parameters was run without values for them.
    #[error("no value for the parameter in this SQL: {0}")]
    Placeholder(String),
    /// More memory was needed than allowed.
    #[error("out of memory: {0}")]
    Memory(String),
    /// Anything else that DataFusion said.
    #[error("{message}")]
    Query {
        /// What it said, on one line.
        message: String,
        /// What it suggested.
        hint: Option<String>,
    },
}

/// Columns are listed in a hint when there are at most this many.
const LISTED: usize = 24;

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Trace(error) => error.hint().map(String::from),
            Self::NoTrace => Some(
                "give the path of a trace file; SQL is one argument with white space in it".into(),
            ),
            Self::SameTrace(_) => Some("give each file once, also under other paths to it".into()),
            Self::UnknownTable { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean '{nearest}'? {}", tables_hint()),
                None => tables_hint(),
            }),
            Self::UnknownColumn { nearest, known, .. } => columns_hint(nearest.as_deref(), known),
            Self::NotReadOnly(_) => Some(
                "use SELECT, WITH, VALUES, EXPLAIN, DESCRIBE or SHOW; -o FILE writes a result"
                    .into(),
            ),
            Self::TooLarge(_) => Some("split it, or join with VALUES instead of OR".into()),
            Self::StatementCount(_) => Some("run the statements one by one".into()),
            Self::UnknownQuery { nearest, .. } => Some(match nearest {
                Some(nearest) => format!("did you mean '{nearest}'? --list shows all"),
                None => "--list shows all".into(),
            }),
            Self::UnknownParameter { known, .. } if known.is_empty() => {
                Some("it takes no parameters".into())
            }
            Self::UnknownParameter { known, .. } => Some(format!("it takes {}", known.join(", "))),
            Self::MissingParameter { name, .. } => Some(format!("add --param {name}=VALUE")),
            Self::Placeholder(_) => Some("parameters are for --named queries".into()),
            Self::Memory(_) => Some("raise --memory-limit, or select fewer rows or columns".into()),
            Self::Query { hint, .. } => hint.clone(),
            Self::Syntax(_) => Some(
                "one statement of DataFusion's SQL is expected; the table docs describes every \
                 column"
                    .into(),
            ),
            Self::ParameterValue { .. } => None,
        }
    }
}

fn tables_hint() -> String {
    let tables = crate::tables::catalogue();
    let names: Vec<_> = tables.iter().map(|table| table.name).collect();
    format!("the tables are {}", names.join(", "))
}

fn columns_hint(nearest: Option<&str>, known: &[String]) -> Option<String> {
    let list = (!known.is_empty() && known.len() <= LISTED)
        .then(|| format!("the columns are {}", known.join(", ")));
    match (nearest.map(|nearest| format!("did you mean '{nearest}'?")), list) {
        (Some(nearest), Some(list)) => Some(format!("{nearest} {list}")),
        (Some(nearest), None) => Some(format!("{nearest} the table docs describes every column")),
        (None, Some(list)) => Some(list),
        (None, None) => Some("the table docs describes every column".into()),
    }
}

/// The most similar of `known` to `name`, if any is similar at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    // Below this a suggestion is noise; Jaro-Winkler favours a common beginning, as typos do.
    const SIMILAR: f64 = 0.75;
    let name = name.to_lowercase();
    let score = |candidate: &&str| strsim::jaro_winkler(&name, &candidate.to_lowercase());
    let best = known.into_iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) >= SIMILAR).then(|| best.to_owned())
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
                Self::from(*inner)
            }
            // What the table providers of this crate send through DataFusion.
            DataFusionError::External(inner) => match inner.downcast::<trace::Error>() {
                Ok(error) => Self::Trace(*error),
                Err(other) => query_error(&other.to_string()),
            },
            // What their Parquet files send through the Parquet library.
            DataFusionError::ParquetError(error) => match *error {
                ParquetError::External(inner) => match inner.downcast::<trace::Error>() {
                    Ok(error) => Self::Trace(*error),
                    Err(other) => query_error(&other.to_string()),
                },
                other => query_error(&other.to_string()),
            },
            DataFusionError::SQL(error, _) => Self::Syntax(sql_message(&error.to_string())),
            DataFusionError::Plan(message)
            | DataFusionError::Execution(message)
            | DataFusionError::NotImplemented(message)
            | DataFusionError::Configuration(message) => query_error(&message),
            other => match other.find_root() {
                DataFusionError::ResourcesExhausted(message) => memory_error(message),
                DataFusionError::SchemaError(error, _) => schema_error(error),
                root => query_error(&root.strip_backtrace()),
            },
        }
    }
}

fn schema_error(error: &SchemaError) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return query_error(&error.to_string());
    };
    let known: Vec<String> = valid_fields.iter().map(|field| field.name.clone()).collect();
    Error::UnknownColumn {
        name: field.flat_name(),
        nearest: nearest(&field.name, known.iter().map(String::as_str)),
        known,
    }
}

/// The parser's own words without the name of its error type.
fn sql_message(message: &str) -> String {
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    lower_case(message.lines().next().unwrap_or_default())
}

/// Prefixes by which DataFusion and Arrow say what kind of error it is; the message says it better.
const PREFIXES: &[&str] = &[
    "Error during planning: ",
    "Execution error: ",
    "Arrow error: ",
    "External error: ",
    "Cast error: ",
    "This feature is not implemented: ",
];

/// Another error of the query: the first line of what DataFusion says, in the manner of ours, and
/// the suggestion below it as the hint. Candidates, diagnostics and backtraces follow; they are
/// left out.
fn query_error(message: &str) -> Error {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut first = lines.next().unwrap_or("the query failed");
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| first.strip_prefix(prefix)) {
        first = rest;
    }
    let hint = lines.next().and_then(|line| line.strip_prefix("Did you mean "));
    let hint = hint.map(|suggestion| format!("did you mean {suggestion}"));
    Error::Query { message: lower_case(first.trim_end_matches('.')), hint }
}

/// With a small first letter, unless the first word is an abbreviation.
fn lower_case(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_ascii_uppercase() && second.is_lowercase() => {
            format!("{}{}", first.to_ascii_lowercase(), &text[1..])
        }
        _ => text.to_owned(),
    }
}

/// Who wanted how much more, without the list of all who have some.
fn memory_error(message: &str) -> Error {
    let message = message.split(" with top memory consumers").next().unwrap_or(message);
    match query_error(message) {
        Error::Query { message, .. } => Error::Memory(message),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lose_their_layers_and_keep_the_suggestion() {
        let error =
            query_error("Error during planning: Invalid function 'fo'.\nDid you mean 'foo'?");
        assert_eq!(error.to_string(), "invalid function 'fo'");
        assert_eq!(error.hint().as_deref(), Some("did you mean 'foo'?"));
        assert_eq!(
            query_error("Arrow error: Divide by zero error").to_string(),
            "divide by zero error"
        );
        assert_eq!(query_error("\n").to_string(), "the query failed");
    }

    #[test]
    fn the_nearest_name_is_near_or_none() {
        let known = ["llm_calls", "events", "http"];
        assert_eq!(nearest("llm_call", known).as_deref(), Some("llm_calls"));
        assert_eq!(nearest("Event", known).as_deref(), Some("events"));
        assert_eq!(nearest("zzz", known), None);
    }
}
