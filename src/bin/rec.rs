//! `agentsight-rec`: records what agents on this host do into a trace file.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agentsight::cli;
use agentsight::record::launch::shell_status;
use agentsight::record::options::{
    Options, parse_duration, parse_interval, parse_ring_bytes, parse_sync,
};
use agentsight::record::{Recorded, record};
use agentsight::trace::Sync;
use clap::Parser;

const PROGRAM: &str = "agentsight-rec";

/// Records what AI coding agents do (TLS plaintext, processes, CPU and memory) into one Parquet file.
///
/// Needs root, for eBPF. A launched command runs as the user behind sudo, keeps its terminal, signals
/// and exit code, and is recorded from its first instruction.
#[derive(Parser)]
#[command(
    name = PROGRAM,
    version,
    after_help = "Examples:\n  \
        sudo agentsight-rec -o run.parquet -- claude -p \"hello\"\n  \
        sudo agentsight-rec -c claude -o run.parquet\n  \
        sudo agentsight-rec -p 1234 --duration 10m"
)]
struct Args {
    /// Record processes of this name and their descendants, running or yet to start: the name of the
    /// executable, of argv[0], or of the script an interpreter runs. May be repeated.
    #[arg(short = 'c', long = "comm", value_name = "NAME")]
    names: Vec<String>,

    /// Record this process and its descendants. May be repeated.
    #[arg(short = 'p', long = "pid", value_name = "PID")]
    pids: Vec<u32>,

    /// The trace file to write.
    #[arg(short, long, value_name = "FILE", default_value = "run.parquet")]
    output: PathBuf,

    /// Replace the trace file if it exists.
    #[arg(long)]
    force: bool,

    /// Store credentials as they are: in request heads (API keys, cookies) and program arguments.
    /// By default each is replaced by a hash that only tells equal ones from others.
    #[arg(long)]
    no_redact: bool,

    /// Time between two looks at /proc, from 100ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,

    /// Stop by itself after this time, such as 30s, 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,

    /// Size of the buffer between kernel and recorder: a power of two, such as 16M.
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = parse_ring_bytes)]
    ring: u32,

    /// What is to survive a power failure: none (the recording survives a killed recorder all the
    /// same), interval (all but the last second) or always (every batch of events).
    #[arg(long, value_name = "WHEN", default_value = "none", value_parser = parse_sync)]
    sync: Sync,

    /// A command to run and record.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl From<Args> for Options {
    fn from(args: Args) -> Self {
        Self {
            names: args.names,
            pids: args.pids,
            command: args.command,
            output: args.output,
            force: args.force,
            redact: !args.no_redact,
            interval: args.interval,
            duration: args.duration,
            ring_bytes: args.ring,
            sync: args.sync,
            command_line: std::env::args_os().collect(),
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::run(PROGRAM, || {
        if args.names.is_empty() && args.pids.is_empty() && args.command.is_empty() {
            let error = std::io::Error::other("nothing to record was named");
            let hint = "name a command after --, or processes with -c NAME or -p PID";
            return Err(cli::hinted(error, Some(hint.into())));
        }
        let options = Options::from(args);
        let recorded = record(&options, &mut say).map_err(|error| {
            let hint = error.hint();
            cli::hinted(error, hint)
        })?;
        say(&summary(&options, &recorded));
        if let Some(failure) = recorded.failure {
            say(&format!(
                "{} events with {} bytes of plaintext could not be written",
                recorded.dropped.events, recorded.dropped.bytes
            ));
            let hint = match recorded.finished {
                true => failure.hint().map(str::to_owned),
                false => {
                    Some(format!("make room, then: {PROGRAM} repair {}", options.output.display()))
                }
            };
            // A command's exit status is not the recorder's to change.
            if recorded.command.is_none() {
                return Err(cli::hinted(failure, hint));
            }
            say(&format!("{failure}{}", hint.map_or(String::new(), |hint| format!("; {hint}"))));
        }
        Ok(recorded.command.map_or(ExitCode::SUCCESS, |status| shell_status(status).into()))
    })
}

/// One line on standard error; standard output belongs to the recorded command.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{PROGRAM}: {line}");
}

fn summary(options: &Options, recorded: &Recorded) -> String {
    let summary = &recorded.summary;
    let lost = match recorded.lost {
        (0, 0) => "nothing lost".to_owned(),
        (events, bytes) => format!("LOST {events} events with {bytes} bytes of plaintext"),
    };
    format!(
        "{}: {} events, {} bytes of plaintext in a file of {} bytes, {lost}",
        options.output.display(),
        summary.rows,
        summary.payload_bytes,
        summary.file_bytes,
    )
}
