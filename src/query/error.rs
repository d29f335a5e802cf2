//! Why a query has no answer: each a line that says what was found, and a hint what to do.

use std::path::PathBuf;

use datafusion::common::{DataFusionError, SchemaError};

use crate::trace;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trace could not be opened or read.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// Other than one trace was given.
    #[error("expected one trace, found {0}")]
    TraceCount(usize),
    /// A path that DataFusion cannot address.
    #[error("cannot address '{0}' as a file")]
    Path(PathBuf),
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
    #[error("{0}")]
    Query(String),
}

/// Columns are listed in a hint when there are at most this many.
const LISTED: usize = 24;

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Trace(error) => error.hint().map(String::from),
            Self::TraceCount(0) => Some("give the path of a trace file".into()),
            Self::TraceCount(_) => {
                Some("query one trace at a time; SQL is one argument with white space in it".into())
            }
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
            Self::Path(_) | Self::Syntax(_) | Self::ParameterValue { .. } | Self::Query(_) => None,
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
                Err(other) => Self::Query(first_line(&other.to_string())),
            },
            DataFusionError::SchemaError(error, _) => schema_error(&error),
            DataFusionError::SQL(error, _) => Self::Syntax(sql_message(&error.to_string())),
            DataFusionError::ResourcesExhausted(message) => Self::Memory(first_line(&message)),
            DataFusionError::Plan(message)
            | DataFusionError::Execution(message)
            | DataFusionError::NotImplemented(message)
            | DataFusionError::Configuration(message) => Self::Query(first_line(&message)),
            other => match other.find_root() {
                DataFusionError::ResourcesExhausted(message) => Self::Memory(first_line(message)),
                DataFusionError::SchemaError(error, _) => schema_error(error),
                root => Self::Query(first_line(&root.strip_backtrace())),
            },
        }
    }
}

fn schema_error(error: &SchemaError) -> Error {
    let SchemaError::FieldNotFound { field, valid_fields } = error else {
        return Error::Query(first_line(&error.to_string()));
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
    first_line(message)
}

/// The first line, and a suggestion below it; DataFusion appends candidates, diagnostics and
/// backtraces too.
fn first_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    match lines.next().filter(|line| line.starts_with("Did you mean")) {
        Some(suggestion) => format!("{} {suggestion}", first.trim_end_matches('.')),
        None => first.to_owned(),
    }
}
