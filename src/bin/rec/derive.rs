//! `agentsight-rec cut` and `agentsight-rec merge`: traces made of other traces.

use std::path::PathBuf;
use std::process::ExitCode;

use agentsight::cli;
use agentsight::record::derive::{self, DeriveError, Derived};
use agentsight::record::moment::Moment;
use agentsight::record::values::parse_duration;
use agentsight::trace::ClockOffsetReason;

use super::say;

/// Write a time range of a trace as a trace of its own.
///
/// Begins with rows that say which processes were alive and what was probed, so that the range
/// explains itself.
#[derive(clap::Args)]
pub(crate) struct CutArgs {
    /// The trace.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Start of the range: +2m (after the first event), -10s (before the last), 14:03:00 (UTC) or
    /// 2026-11-20T14:03:00Z.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<Moment>,

    /// End of the range, which is not part of it.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<Moment>,

    /// The trace file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Replace the file to write if it exists.
    #[arg(long)]
    force: bool,
}

/// Write several traces as one, in the order of time.
///
/// Files of one recording become the recording again. Recordings of one boot of one host are aligned
/// by their clocks; others are taken at their wall clock.
#[derive(clap::Args)]
pub(crate) struct MergeArgs {
    /// The traces.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    files: Vec<PathBuf>,

    /// Move all times of a trace, as in b.parquet=+1.5s. May be repeated.
    #[arg(long, value_name = "FILE=TIME", value_parser = parse_offset)]
    offset: Vec<(PathBuf, i64)>,

    /// The trace file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// Replace the file to write if it exists.
    #[arg(long)]
    force: bool,
}

/// Reads `FILE=+1.5s` or `FILE=-200ms`.
fn parse_offset(text: &str) -> Result<(PathBuf, i64), String> {
    let expected = || format!("expected FILE=+1.5s or FILE=-200ms, found {text:?}");
    let (file, offset) = text.rsplit_once('=').ok_or_else(expected)?;
    let (sign, length) = match offset.as_bytes().first() {
        Some(b'+') => (1, &offset[1..]),
        Some(b'-') => (-1, &offset[1..]),
        _ => return Err(expected()),
    };
    let length_ns = i64::try_from(parse_duration(length)?.as_nanos()).map_err(|_| expected())?;
    Ok((file.into(), sign * length_ns))
}

pub(crate) fn cut(args: &CutArgs) -> anyhow::Result<ExitCode> {
    let range = (args.from, args.to);
    let derived = derive::cut(&args.file, range, &args.output, args.force).map_err(hinted)?;
    tell(&args.output, &derived);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn merge(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let derived = derive::merge(&args.files, &args.offset, &args.output, args.force);
    let derived = derived.map_err(hinted)?;
    for (path, offset) in &derived.offsets {
        let reason = match offset.reason {
            ClockOffsetReason::Reference => continue,
            ClockOffsetReason::SameBoot => "same boot, aligned by the boot-time clock",
            ClockOffsetReason::WallClock => "another boot or host, its wall clock is trusted",
            ClockOffsetReason::Asked => "as asked for",
        };
        say(&format!("{}: moved by {} ns ({reason})", path.display(), offset.ns));
    }
    tell(&args.output, &derived);
    if derived.repeated_rows > 0 {
        say(&format!("{} rows were in several of the files", derived.repeated_rows));
    }
    if derived.renamed_connections > 0 {
        say(&format!("{} connections got another conn_id", derived.renamed_connections));
    }
    Ok(ExitCode::SUCCESS)
}

fn hinted(error: DeriveError) -> anyhow::Error {
    let hint = error.hint();
    cli::hinted(error, hint)
}

/// Says what was written and what was not.
fn tell(output: &std::path::Path, derived: &Derived) {
    let summary = &derived.summary;
    say(&format!("{}: {} rows, {} bytes", output.display(), summary.rows, summary.file_bytes));
    for (path, skipped) in &derived.skipped {
        for (kind, rows) in &skipped.unknown_kinds {
            let kind = kind.escape_debug();
            say(&format!("{}: {rows} rows of the unknown kind '{kind}' left out", path.display()));
        }
        if skipped.damaged_rows > 0 {
            say(&format!("{}: {} damaged rows left out", path.display(), skipped.damaged_rows));
        }
    }
    for (path, columns) in &derived.unknown_columns {
        let columns = columns.escape_debug();
        say(&format!("{}: unknown columns left out: {columns}", path.display()));
    }
}
