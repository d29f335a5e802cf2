//! `agentsight-rec`: records what agents on this host do into a trace file, repairs, cuts and merges
//! such files, and says what this host allows.

use std::io::Write;
use std::process::ExitCode;

use agentsight::cli;
use clap::{Parser, Subcommand};

#[path = "rec/derive.rs"]
mod derive;
#[path = "rec/doctor.rs"]
mod doctor;
#[path = "rec/recording.rs"]
mod recording;
#[path = "rec/repair.rs"]
mod repair;

const PROGRAM: &str = "agentsight-rec";

/// Records what AI coding agents do (TLS plaintext, processes, CPU and memory) into one Parquet file.
///
/// Needs root or capabilities, for eBPF. A launched command runs as the user behind sudo, keeps its
/// terminal, signals and exit code, and is recorded from its first instruction. SIGUSR1 takes a snapshot while the
/// recording goes on.
#[derive(Parser)]
#[command(
    name = PROGRAM,
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
        sudo agentsight-rec -o run.parquet -- claude -p \"hello\"\n  \
        sudo agentsight-rec -c claude -o run.parquet\n  \
        sudo agentsight-rec -p 1234 --duration 10m\n  \
        sudo agentsight-rec -c claude --ring 10m --snapshot-on 'http-status>=500'\n  \
        sudo agentsight-rec doctor -c claude\n  \
        agentsight-rec cut run.parquet --from +2m --to -10s -o part.parquet"
)]
struct Args {
    #[command(subcommand)]
    subcommand: Option<Job>,
    #[command(flatten)]
    recording: recording::RecordArgs,
}

#[derive(Subcommand)]
enum Job {
    Repair(repair::RepairArgs),
    Cut(derive::CutArgs),
    Merge(derive::MergeArgs),
    Doctor(doctor::DoctorArgs),
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(PROGRAM, || match args.subcommand {
        Some(Job::Repair(args)) => repair::run(&args),
        Some(Job::Cut(args)) => derive::cut(&args),
        Some(Job::Merge(args)) => derive::merge(&args),
        Some(Job::Doctor(args)) => doctor::run(args),
        None => recording::run(args.recording),
    })
}

/// One line on standard error; standard output belongs to the recorded command.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{PROGRAM}: {line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_command_that_is_named_like_a_job_is_still_a_command() {
        let args = Args::parse_from(["agentsight-rec", "--", "cut", "-d", ":"]);
        assert!(args.subcommand.is_none());
        let args = Args::parse_from(["agentsight-rec", "cut", "a", "--to", "-10s", "-o", "b"]);
        assert!(matches!(args.subcommand, Some(Job::Cut(_))));
    }
}
