//! What the binaries share: how a run ends and where its result goes.
//!
//! An error is one line on standard error with the whole chain of causes, followed by a hint where
//! one is known, and exit code 2. A reader that closed our output ends the run quietly. Only
//! [`Output`] writes to standard output, only `--prices` files are read here.

mod output;
mod prices;
mod terminal;

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::trace;

pub use output::Output;
pub use prices::prices;

/// Exit code of a run that did what was asked on data that is not complete, where that was asked
/// about (`--strict`).
pub const EXIT_INCOMPLETE: u8 = 1;

/// Exit code of a run that failed.
pub const EXIT_FAILED: u8 = 2;

/// What to do about an error, in one line; travels in the error chain
/// (`error.context(Hint(...))`, [`hinted`]) and is printed on a line of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Attaches a hint, where there is one, to an error.
pub fn hinted<E>(error: E, hint: Option<String>) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    let error = anyhow::Error::new(error);
    match hint {
        Some(hint) => error.context(Hint(hint)),
        None => error,
    }
}

/// Runs the program and turns its result into messages and an exit code.
///
/// `program` is the name that messages start with.
pub fn run(program: &str, main: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    match main() {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed too; then there is nobody left to tell.
            let _ = io::stderr().write_all(render(program, &error).as_bytes());
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Says something on standard error that does not end the run.
pub fn warn(program: &str, message: &str) {
    let line = format!("{program}: warning: {}\n", one_line(message));
    // Standard error may be closed; then there is nobody to warn.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Whether the reader of our output went away, which is its right (`agentsight-query ... | head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// `program: error: outer: inner`, then `hint: ...` when the chain holds one.
fn render(program: &str, error: &anyhow::Error) -> String {
    let hint = hint(error);
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = one_line(&cause.to_string());
        // Libraries often repeat their source in their own message; say it once.
        let repeated = causes.last().is_some_and(|outer| outer.ends_with(&text));
        if !repeated && hint.as_ref() != Some(&text) {
            causes.push(text);
        }
    }
    let mut message = format!("{program}: error: {}\n", causes.join(": "));
    if let Some(hint) = hint {
        message.push_str(&format!("hint: {hint}\n"));
    }
    message
}

/// The outermost hint: one attached with [`Hint`], else the one a trace error knows.
fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(hint) = error.downcast_ref::<Hint>() {
        return Some(one_line(&hint.0));
    }
    let trace = error.chain().find_map(|cause| cause.downcast_ref::<trace::Error>());
    trace.and_then(trace::Error::hint).map(String::from)
}

/// The text on one line, without the control characters a file name or a trace may smuggle in.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(['\n', '\r']).map(str::trim).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        for c in word.chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_chain_is_one_line_and_its_hint_another() {
        let error = hinted(io::Error::other("disk\non fire"), Some("use water".into()))
            .context("cannot write out.csv");
        assert_eq!(
            render("agentsight-query", &error),
            "agentsight-query: error: cannot write out.csv: disk on fire\nhint: use water\n"
        );
    }

    #[test]
    fn a_trace_error_brings_its_own_hint() {
        let error = trace::Error::Newer { path: "run.parquet".into(), needs: 9 };
        let message = render("p", &anyhow::Error::new(error).context("cannot convert"));
        assert!(message.starts_with("p: error: cannot convert: 'run.parquet' needs a reader"));
        assert!(message.ends_with("\nhint: install a newer agentsight\n"), "{message}");
    }

    #[test]
    fn terminal_escapes_in_names_are_made_visible() {
        let error = anyhow::anyhow!("\u{1b}[2Jrun.parquet: no such file");
        assert_eq!(render("p", &error), "p: error: \\u{1b}[2Jrun.parquet: no such file\n");
    }

    #[test]
    fn a_cause_that_its_parent_already_quotes_is_said_once() {
        let error = anyhow::anyhow!("no such file").context("run.parquet: no such file");
        assert_eq!(render("p", &error), "p: error: run.parquet: no such file\n");
    }

    #[test]
    fn a_closed_pipe_is_success_and_any_other_error_is_not() {
        let closed = || -> anyhow::Result<ExitCode> {
            Err(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot print")
        };
        assert_eq!(format!("{:?}", run("p", closed)), format!("{:?}", ExitCode::SUCCESS));
        let failed = || -> anyhow::Result<ExitCode> { anyhow::bail!("no") };
        assert_eq!(format!("{:?}", run("p", failed)), format!("{:?}", ExitCode::from(2)));
    }
}
