//! Why a trace could not be read or written: one line each, and a hint what to do about it.
//!
//! Damage that costs only single rows is not here: the reader counts those rows and goes on
//! ([`super::Skipped`]).

use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;

use super::schema::READER_VERSION;

/// Why a trace could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or read at all.
    #[error("cannot read '{path}'")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It does not begin as a Parquet file does.
    #[error("'{path}' is not a Parquet file: expected it to begin with 'PAR1', found {found}")]
    NotParquet {
        /// The file.
        path: PathBuf,
        /// What it begins with.
        found: String,
    },
    /// It is Parquet, but nothing in it says that it is a trace.
    #[error("'{path}' is a Parquet file but not an agentsight trace: {missing}")]
    NotATrace {
        /// The file.
        path: PathBuf,
        /// What was looked for in vain.
        missing: String,
    },
    /// It begins as a Parquet file does but has no footer at its end.
    #[error("'{path}' is cut short: expected a Parquet footer at the end of its {bytes} bytes")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How much of it there is.
        bytes: u64,
    },
    /// It asks for a newer reader than this program is.
    #[error(
        "'{path}' needs a reader of format version {needs} or later, this program reads up to {has}",
        has = READER_VERSION
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Lowest reader version that can read it.
        needs: u32,
    },
    /// A column that every version of the format has is not there.
    #[error("'{path}' has no column '{column}', which every agentsight trace has")]
    ColumnMissing {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A column has another type than the format gives it.
    #[error("'{path}' column '{column}': expected {expected}, found {found}")]
    ColumnType {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The type that the format gives it.
        expected: String,
        /// The type in the file.
        found: String,
    },
    /// Its bytes contradict each other.
    #[error("'{path}' is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, on one line.
        reason: String,
    },
    /// The trace could not be written.
    #[error("cannot write the trace")]
    Write(#[from] ParquetError),
    /// The trace could not be written to the end.
    #[error("cannot write the trace")]
    Flush(#[source] std::io::Error),
    /// The log beside the trace could not be written.
    #[error("cannot write the log of the trace")]
    Log(#[source] std::io::Error),
    /// Neither the file nor the log beside it makes a trace.
    #[error("'{path}' was not finished, and its log is damaged: {reason}")]
    LogDamaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with the log.
        reason: String,
    },
    /// A file cannot have that many row groups.
    #[error("the trace has as many row groups as a Parquet file can have")]
    TooManyGroups,
    /// There is nothing to make a trace of.
    #[error("there are no parts of a recording to put together")]
    NoParts,
    /// It is still being recorded.
    #[error("'{path}' is still being recorded")]
    Live {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no memory for payload.
    #[error("cannot keep payload in memory")]
    Memory(#[source] std::io::Error),
}

impl Error {
    /// What the reader of the message can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Open { source, .. } => match source.kind() {
                std::io::ErrorKind::PermissionDenied => Some(
                    "traces are readable only by the user who recorded them; run as that user or copy the file",
                ),
                std::io::ErrorKind::NotFound => {
                    Some("check the path, or record one: agentsight-rec -o FILE")
                }
                _ => None,
            },
            Self::NotParquet { .. } | Self::NotATrace { .. } => {
                Some("expected a file written by agentsight-rec")
            }
            Self::Truncated { .. } => Some(
                "if its recorder was killed, the rest is in the .wal file beside the original: keep both together; else the copy is incomplete",
            ),
            Self::Newer { .. } => Some("install a newer agentsight"),
            Self::ColumnMissing { .. } | Self::ColumnType { .. } => {
                Some("another program may have rewritten the file; use the recorder's original")
            }
            Self::Damaged { .. } => Some("copy the file again, or check the disk it is on"),
            Self::Memory(_) => Some("free some memory, or raise the recorder's memory limit"),
            Self::TooManyGroups => Some("record into several files: --rotate-size"),
            Self::LogDamaged { .. } => Some("copy the file and its .wal again, together"),
            Self::NoParts => None,
            Self::Live { .. } => Some("wait for the recorder to finish, or stop it"),
            Self::Write(_) | Self::Flush(_) | Self::Log(_) => {
                Some("check the free space of the output's file system")
            }
        }
    }

    /// A [`Error::Damaged`] for whatever a library said, made one line of bounded length.
    pub(crate) fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        const LONGEST_REASON_CHARS: usize = 200;
        let reason = reason.to_string();
        let one_line = |c: char| if c.is_control() { ' ' } else { c };
        let reason = reason.chars().map(one_line).take(LONGEST_REASON_CHARS).collect();
        Self::Damaged { path: path.to_owned(), reason }
    }
}
