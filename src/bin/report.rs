//! `agentsight-report`: a fixed reading of a trace.

use std::path::PathBuf;
use std::process::ExitCode;

use agentsight::cli::{self, Output};
use agentsight::query::{Options, Session, Shortfalls};
use agentsight::report::{Format, Report};
use clap::{Parser, ValueEnum};

const PROGRAM: &str = "agentsight-report";

/// Report what a trace holds: agents, tokens, API calls, processes, CPU and memory during calls
/// and between them, and what was lost.
#[derive(Parser)]
#[command(name = PROGRAM, version, max_term_width = 100)]
struct Args {
    /// The trace, as written by agentsight-rec; of a recording in parts, all of them
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,

    /// How to print the report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = FormatArg::Text)]
    format: FormatArg,

    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Overwrite the output file if it exists
    #[arg(long, requires = "output")]
    force: bool,

    /// Compute costs with the prices in this JSON file, and with the built-in ones for what it has
    /// none of; docs/PRICES.md describes it
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// Exit with code 1 when the trace is incomplete: the recorder did not finish, events were
    /// lost, or rows could not be read
    #[arg(long)]
    strict: bool,
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
    cli::run(PROGRAM, || report(&Args::parse()))
}

fn report(args: &Args) -> anyhow::Result<ExitCode> {
    let output = Output::new(args.output.as_deref(), args.force, &args.traces)?;
    let options = Options { prices: cli::prices(args.prices.as_deref())?, ..Options::default() };
    let session = Session::open(&args.traces, options).map_err(|error| {
        let hint = error.hint();
        cli::hinted(error, hint)
    })?;
    let mut shortfalls = Shortfalls::default();
    let mut say = |at_end| {
        let new = shortfalls.look(&session, args.strict && at_end);
        new.iter().for_each(|line| cli::warn(PROGRAM, line));
    };
    say(false);
    let report = Report::read(&session).map_err(|error| {
        let hint = error.hint();
        cli::hinted(error, hint)
    })?;
    let text = report.print(args.format.into());
    output.write(|out| Ok(out.write_all(text.as_bytes())?))?;
    say(true);
    if args.strict && shortfalls.is_incomplete() {
        return Ok(ExitCode::from(cli::EXIT_INCOMPLETE));
    }
    Ok(ExitCode::SUCCESS)
}
