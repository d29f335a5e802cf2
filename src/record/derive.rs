//! Traces made of other traces, as files: `agentsight-rec cut` and `agentsight-rec merge`.
//!
//! The work is [`trace::cut`] and [`trace::merge`]; here are the paths. The result appears under its
//! name when it is whole, private, and never in the place of another file unless asked.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::moment::Moment;
use super::output::{Output, OutputError};
use super::owner::Owner;
use super::publish::Partial;
use crate::time::WallNanos;
use crate::trace::{self, ClockOffset, Input, Reader, Skipped, Summary};

/// Why no trace could be made.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// A trace cannot be read, or the result not be written.
    #[error(transparent)]
    Trace(#[from] trace::Error),
    /// The output cannot be made.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The invoking user is unknown.
    #[error("the invoking user is not known")]
    Owner(#[source] io::Error),
    /// There is nothing to cut from.
    #[error("'{0}' has no rows, or does not say of what times")]
    NoRows(PathBuf),
    /// The range is empty or beside the trace.
    #[error("expected a range within {first} to {last}, found {from} to {to} (ns since 1970)")]
    EmptyRange {
        /// Start of the range.
        from: i64,
        /// End of the range.
        to: i64,
        /// First event of the trace.
        first: i64,
        /// Last event of the trace.
        last: i64,
    },
    /// An offset was given for a file that is not merged.
    #[error("--offset names '{0}', which is none of the files to merge")]
    OffsetOfNone(PathBuf),
}

impl DeriveError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Trace(error) => error.hint().map(str::to_owned),
            Self::Output(error) => Some(error.hint().into()),
            Self::EmptyRange { .. } => {
                Some("--from +2m counts from the first event, --to -10s from the last".into())
            }
            Self::OffsetOfNone(_) => Some("name the file as it is named among the files".into()),
            Self::NoRows(_) | Self::Owner(_) => None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Derived {
    /// What was written.
    pub summary: Summary,
    /// Rows of the sources that are not in the result, because this program does not know them.
    pub skipped: Vec<(PathBuf, Skipped)>,
    /// Columns of the sources that this program does not know, as text.
    pub unknown_columns: Vec<(PathBuf, String)>,
    /// How far the times of each source were moved; for a merge.
    pub offsets: Vec<(PathBuf, ClockOffset)>,
    /// Rows that several sources had; for a merge.
    pub repeated_rows: u64,
    /// Connections that got another id; for a merge.
    pub renamed_connections: u64,
}

/// Writes a range of a trace to `output`; an end left out is that of the trace.
///
/// # Errors
/// When the trace cannot be read, the range is empty, or the output cannot be made.
pub fn cut(
    source: &Path,
    (from, to): (Option<Moment>, Option<Moment>),
    output: &Path,
    force: bool,
) -> Result<Derived, DeriveError> {
    let target = Target::check(output, force)?;
    let reader = Reader::open(source)?;
    let span = reader.time_range().ok_or_else(|| DeriveError::NoRows(source.to_owned()))?;
    let after_last = WallNanos(span.end().0.saturating_add(1));
    let start = from.map_or(*span.start(), |from| from.resolve(&span));
    let end = to.map_or(after_last, |to| to.resolve(&span));
    if start >= end || start > *span.end() || end <= *span.start() {
        let (first, last) = (span.start().0, span.end().0);
        return Err(DeriveError::EmptyRange { from: start.0, to: end.0, first, last });
    }
    let partial = target.begin()?;
    let summary = trace::cut(&reader, start..end, BufWriter::new(partial.file()))?;
    target.publish(partial)?;
    Ok(Derived {
        summary,
        skipped: vec![(source.to_owned(), reader.skipped())],
        unknown_columns: unknown_columns([&reader]),
        offsets: Vec::new(),
        repeated_rows: 0,
        renamed_connections: 0,
    })
}

/// Writes the rows of all `sources` to `output`, their clocks moved by `offsets_ns` or so that they
/// agree.
///
/// # Errors
/// When a trace cannot be read or the output cannot be made.
pub fn merge(
    sources: &[PathBuf],
    offsets_ns: &[(PathBuf, i64)],
    output: &Path,
    force: bool,
) -> Result<Derived, DeriveError> {
    let target = Target::check(output, force)?;
    if let Some((path, _)) = offsets_ns.iter().find(|(path, _)| !sources.contains(path)) {
        return Err(DeriveError::OffsetOfNone(path.clone()));
    }
    let readers =
        sources.iter().map(|source| Reader::open(source)).collect::<Result<Vec<_>, _>>()?;
    let asked = |source: &PathBuf| {
        offsets_ns.iter().find(|(path, _)| path == source).map(|(_, offset_ns)| *offset_ns)
    };
    let asked: Vec<Option<i64>> = sources.iter().map(asked).collect();
    let offsets = trace::clock_offsets(&readers.iter().collect::<Vec<_>>(), &asked);
    let inputs = readers.into_iter().zip(&offsets);
    let inputs: Vec<Input> =
        inputs.map(|(trace, offset)| Input { trace, clock_offset_ns: offset.ns }).collect();
    let partial = target.begin()?;
    let merged = trace::merge(&inputs, BufWriter::new(partial.file()))?;
    target.publish(partial)?;
    let skipped = inputs.iter().map(|input| input.trace.skipped());
    Ok(Derived {
        summary: merged.summary,
        skipped: sources.iter().cloned().zip(skipped).collect(),
        unknown_columns: unknown_columns(inputs.iter().map(|input| &input.trace)),
        offsets: sources.iter().cloned().zip(offsets).collect(),
        repeated_rows: merged.repeated_rows,
        renamed_connections: merged.renamed_connections,
    })
}

fn unknown_columns<'a>(traces: impl IntoIterator<Item = &'a Reader>) -> Vec<(PathBuf, String)> {
    let columns = |trace: &Reader| (trace.path().to_owned(), trace.unknown_columns().join(", "));
    traces.into_iter().map(columns).filter(|(_, columns)| !columns.is_empty()).collect()
}

/// Where the result goes.
struct Target {
    path: PathBuf,
    force: bool,
    owner: Option<Owner>,
}

impl Target {
    fn check(path: &Path, force: bool) -> Result<Self, DeriveError> {
        Output::check(path, force)?;
        let owner = Owner::from_sudo(|name| std::env::var_os(name)).map_err(DeriveError::Owner)?;
        Ok(Self { path: path.to_owned(), force, owner })
    }

    fn begin(&self) -> Result<Partial, DeriveError> {
        Partial::begin(&self.path, self.owner.as_ref()).map_err(|source| self.failed(source))
    }

    fn publish(&self, partial: Partial) -> Result<(), DeriveError> {
        partial.publish(self.force).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> DeriveError {
        let path = self.path.clone();
        DeriveError::Output(match source.kind() {
            io::ErrorKind::AlreadyExists => OutputError::Exists(path),
            _ => OutputError::Io { path, source },
        })
    }
}
