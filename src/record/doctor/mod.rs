//! What this host allows, and what a program would show: every fact that decides whether a recording
//! is complete, with the reason and what to do about it.
//!
//! Kernel features are probed as the recorder uses them: by loading and attaching its own programs.
//! Programs are looked into as the recorder would. Nothing is recorded and nothing stays attached.

mod host;
mod program;
mod text;

use std::path::PathBuf;

use super::selectors::SelectorError;
use crate::capture::clock;
use crate::capture::procfs::ProcFs;

pub use program::{Function, Inspected, RunningProgram};

/// What is asked about, besides the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// A program: a file, or a name to be found as a shell does.
    pub program: Option<PathBuf>,
    /// Agents by name, running or installed.
    pub names: Vec<String>,
    /// Processes.
    pub pids: Vec<u32>,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// There, but not all of what it is good for.
    Limited,
    /// Not there.
    Missing,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

/// One thing that recording relies on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// Whether nothing can be recorded without it.
    pub required: bool,
    /// What was found, and what follows from it.
    pub found: String,
    /// What to do about it, where something is to be done.
    pub advice: Option<String>,
}

/// What can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything.
    Complete,
    /// Not everything: something that was asked about, or a part of the host's processes.
    Incomplete,
    /// Nothing.
    Nothing,
}

impl Verdict {
    /// The exit code: 0, 1 or 2.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Incomplete => 1,
            Self::Nothing => 2,
        }
    }
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The host.
    pub checks: Vec<Check>,
    /// Shared TLS libraries of this system, which programs load.
    pub libraries: Vec<Inspected>,
    /// Programs that were asked about.
    pub programs: Vec<Inspected>,
    /// Processes that were asked about.
    pub processes: Vec<RunningProgram>,
    /// What was asked about and not found.
    pub not_found: Vec<String>,
}

impl Report {
    /// What can be recorded.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.checks.iter().any(|check| check.required && check.state == State::Missing) {
            return Verdict::Nothing;
        }
        let host = self.checks.iter().all(|check| check.state == State::Ok);
        let of_processes = self.processes.iter().flat_map(|process| &process.files);
        let mut inspected = self.programs.iter().chain(&self.libraries).chain(of_processes);
        if host && self.not_found.is_empty() && !inspected.any(Inspected::is_unresolved) {
            Verdict::Complete
        } else {
            Verdict::Incomplete
        }
    }

    /// The report for a person to read.
    #[must_use]
    pub fn text(&self) -> String {
        text::render(self)
    }
}

/// Looks at the host and at what is asked about.
///
/// # Errors
/// When a process that is asked about does not exist.
pub fn examine(subject: &Subject) -> Result<Report, SelectorError> {
    let proc = ProcFs::new(clock::anchor());
    let mut report = Report { checks: host::checks(), ..Report::default() };
    program::inspect(subject, &proc, &mut report)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(state: State, required: bool) -> Check {
        Check { name: "x", state, required, found: String::new(), advice: None }
    }

    #[test]
    fn the_verdict_is_that_of_the_worst_finding() {
        let verdict =
            |checks: &[Check]| Report { checks: checks.to_vec(), ..Report::default() }.verdict();
        assert_eq!(verdict(&[check(State::Ok, true)]), Verdict::Complete);
        assert_eq!(verdict(&[check(State::Missing, false)]), Verdict::Incomplete);
        assert_eq!(verdict(&[check(State::Limited, true)]), Verdict::Incomplete);
        let worst = [check(State::Missing, false), check(State::Missing, true)];
        assert_eq!(verdict(&worst).exit_code(), 2);
        let not_found = Report { not_found: vec!["claude".into()], ..Report::default() };
        assert_eq!(not_found.verdict().exit_code(), 1);
    }
}
