//! `agentsight-rec repair`: completes a recording whose recorder was killed.

use std::path::PathBuf;
use std::process::ExitCode;

use agentsight::cli;
use agentsight::record::{owner::Owner, ring};
use agentsight::trace::{self, Error, Recovery};
use anyhow::Context;

use super::say;

/// Complete a recording whose recorder was killed.
///
/// Takes what is in the log beside the file (or, of a flight recorder, in the directory beside it)
/// into the file, as the recorder would have done at its end.
#[derive(clap::Args)]
pub(crate) struct RepairArgs {
    /// The trace file, as it was named with -o.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Replace the trace file if a flight recorder's parts are to become it and it exists.
    #[arg(long)]
    force: bool,
}

/// Repairs and says what was recovered and what was lost.
pub(crate) fn run(args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let hinted = |error: Error| {
        let hint = error.hint().map(str::to_owned);
        cli::hinted(error, hint)
    };
    let owner = Owner::from_sudo(|name| std::env::var_os(name))
        .context("the invoking user is not known")?;
    let ring = ring::repair(&args.file, owner.as_ref(), args.force).map_err(hinted)?;
    let (recovery, rows, losses) = match ring {
        Some((recovery, summary)) => (recovery, summary.rows, summary.totals.losses),
        None => {
            let repaired = trace::repair(&args.file).map_err(hinted)?;
            (repaired.recovery, repaired.rows, repaired.totals.losses)
        }
    };
    say(&format!("{}: {rows} rows, {}", args.file.display(), from_log(&recovery)));
    if let Some(damage) = &recovery.log_damage {
        say(&format!("the log is damaged, what comes after that is lost: {damage}"));
    }
    for ((class, cause), lost) in losses {
        say(&format!("lost: {} {class} events, {} bytes ({cause})", lost.events, lost.bytes));
    }
    Ok(ExitCode::SUCCESS)
}

fn from_log(recovery: &Recovery) -> String {
    match (recovery.rows_from_log, recovery.torn_bytes) {
        (0, 0) => "nothing had to be recovered from a log".to_owned(),
        (rows, 0) => format!("{rows} of them recovered from the log"),
        (rows, torn) => {
            format!(
                "{rows} of them recovered from the log, whose last {torn} bytes are no whole frame"
            )
        }
    }
}
