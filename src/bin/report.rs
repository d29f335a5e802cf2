//! `agentsight-report`: a fixed reading of a trace.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agentsight::cli::{self, Hint};
use agentsight::query::{Options, Session};
use agentsight::report::{Format, Report};
use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

/// Report what a trace holds: agents, tokens, API calls, processes, CPU and memory during calls
/// and between them, and what was lost.
#[derive(Parser)]
#[command(name = "agentsight-report", version, max_term_width = 100)]
struct Args {
    /// The trace, as written by agentsight-rec
    trace: PathBuf,

    /// How to print the report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// Aligned columns
    Text,
    /// To paste into an issue
    Markdown,
    /// For programs: every row, raw values
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Text => Self::Text,
            FormatArg::Markdown => Self::Markdown,
            FormatArg::Json => Self::Json,
        }
    }
}

fn main() -> ExitCode {
    cli::run("agentsight-report", || {
        report(&Args::parse())?;
        Ok(ExitCode::SUCCESS)
    })
}

fn report(args: &Args) -> Result<()> {
    if let Some(output) = &args.output {
        // Before the work, so that nobody waits in vain. It is checked again when it is opened.
        check_output(output, args)?;
    }
    let session =
        Session::open(std::slice::from_ref(&args.trace), Options::default()).map_err(|error| {
            let hint = error.hint();
            cli::hinted(error, hint)
        })?;
    let report = Report::read(&session, &args.trace).map_err(|error| {
        let hint = error.hint();
        cli::hinted(error, hint)
    })?;
    let text = report.print(args.format.into());
    match &args.output {
        Some(output) => write_file(output, args.force, text.as_bytes()),
        None => write_stdout(text.as_bytes()),
    }
}

fn check_output(output: &Path, args: &Args) -> Result<()> {
    if same_file(output, &args.trace) {
        bail!("the output '{}' is the trace itself", output.display());
    }
    if !args.force && output.exists() {
        return Err(exists(output));
    }
    Ok(())
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

fn exists(output: &Path) -> anyhow::Error {
    let error = anyhow::anyhow!("'{}' exists already", output.display());
    error.context(Hint("--force overwrites it".to_owned()))
}

fn write_file(output: &Path, force: bool, text: &[u8]) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    if !force {
        options.create_new(true);
    }
    let opened = options.open(output);
    if matches!(&opened, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) {
        return Err(exists(output));
    }
    let write = |mut file: File| file.write_all(text);
    opened.and_then(write).with_context(|| format!("cannot write '{}'", output.display()))
}

fn write_stdout(text: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).context("cannot write standard output")
}
