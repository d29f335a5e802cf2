//! A live host to a trace file: the recording session.
//!
//! Joins [`crate::capture`] to [`crate::trace`] and decides what neither can: on whose behalf to
//! record, when to start and stop, which binaries to look into, what to tell the user. It never
//! looks into payload.

use std::io;

use crate::capture::bpf;
use crate::trace;

pub mod anchors;
pub mod binaries;
pub mod derive;
pub mod doctor;
pub mod host;
pub mod intake;
pub mod launch;
pub mod ledger;
pub mod live;
pub mod moment;
pub mod names;
pub mod options;
pub mod output;
pub mod owner;
pub mod parts;
pub mod pipeline;
pub mod privileges;
pub mod probing;
pub mod publish;
pub mod redaction;
pub mod retention;
pub mod ring;
pub mod search;
pub mod selectors;
pub mod selfcheck;
pub mod session;
pub mod signals;
pub mod sink;
pub mod snapshots;
pub mod store;
pub mod trigger;
pub mod values;

pub use session::{Recorded, record};

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel side could not be set up.
    #[error(transparent)]
    Capture(#[from] bpf::Error),
    /// The output file cannot be made.
    #[error(transparent)]
    Output(#[from] output::OutputError),
    /// The trace cannot be written.
    #[error("the trace cannot be written")]
    Trace(#[from] trace::Error),
    /// The command cannot be started.
    #[error(transparent)]
    Launch(#[from] launch::LaunchError),
    /// There is no such program to launch.
    #[error("{0}: no such program")]
    NoProgram(String),
    /// What is to be recorded does not exist.
    #[error(transparent)]
    Selector(#[from] selectors::SelectorError),
    /// The invoking user is unknown.
    #[error("the invoking user is not known")]
    Owner(#[source] io::Error),
    /// Privileges that are not needed cannot be given up.
    #[error("privileges that are not needed cannot be given up")]
    Privileges(#[source] io::Error),
    /// Signal handlers cannot be set.
    #[error("signal handlers cannot be set")]
    Signals(#[source] io::Error),
    /// Facts about the host cannot be read.
    #[error("facts about this host cannot be read")]
    Host(#[source] io::Error),
    /// The launched command cannot be waited for.
    #[error("the command cannot be waited for")]
    Command(#[source] io::Error),
}

impl Error {
    /// What the user can do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Capture(error) => error.hint(),
            Self::Output(error) => Some(error.hint().into()),
            Self::Trace(error) => error.hint().map(str::to_owned),
            Self::NoProgram(_) => {
                Some("give its full path; sudo may have replaced PATH".to_owned())
            }
            Self::Selector(error) => error.hint().map(str::to_owned),
            Self::Launch(_) | Self::Owner(_) | Self::Privileges(_) | Self::Signals(_) => None,
            Self::Host(_) | Self::Command(_) => None,
        }
    }
}
