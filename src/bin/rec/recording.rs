//! The recording itself: options to [`Options`], what came of it to words and an exit code.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use agentsight::capture::bpf::WatchIo;
use agentsight::cli;
use agentsight::record::launch::shell_status;
use agentsight::record::options::Options;
use agentsight::record::retention::{Asked, Retention, RingSpan, parse_ring};
use agentsight::record::selectors::Selectors;
use agentsight::record::trigger::Condition;
use agentsight::record::values::{
    parse_buffer_bytes, parse_duration, parse_interval, parse_size, parse_sync,
};
use agentsight::record::{Recorded, record};
use agentsight::trace::Sync;

use super::{PROGRAM, say};

#[derive(clap::Args)]
pub(crate) struct RecordArgs {
    /// Record processes of this name and their descendants, running or yet to start: the name of the
    /// executable, of argv[0], or of the script an interpreter runs. May be repeated.
    #[arg(short = 'c', long = "comm", value_name = "NAME")]
    names: Vec<String>,

    /// Record this process and its descendants. May be repeated.
    #[arg(short = 'p', long = "pid", value_name = "PID")]
    pids: Vec<u32>,

    /// Record processes whose command line matches, running or yet to start, and their descendants.
    /// The arguments are joined by spaces, argv[0] first. May be repeated.
    #[arg(long = "cmdline", value_name = "REGEX")]
    command_lines: Vec<String>,

    /// Record the processes of this cgroup (v2) and of those below it: a directory, or a path as in
    /// /proc/PID/cgroup. May be repeated.
    #[arg(long = "cgroup", value_name = "PATH")]
    cgroups: Vec<PathBuf>,

    /// Record the processes of this container (docker, podman, containerd, CRI-O), given by the
    /// beginning of its id. May be repeated.
    #[arg(long = "container", value_name = "ID")]
    containers: Vec<String>,

    /// Of what the options above select, record only processes of this user (real user id when the
    /// program starts), with all descendants; without them, all processes of this user. May be
    /// repeated.
    #[arg(long = "uid", value_name = "USER|UID")]
    users: Vec<String>,

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

    /// Stop by itself when the trace has this size, such as 500MB; a launched command goes on.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,

    /// Begin another file (FILE-0001, FILE-0002, ...) when one has this size.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    rotate_size: Option<u64>,

    /// Begin another file when one is this old.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    rotate_time: Option<Duration>,

    /// Of the numbered files keep this many, the newest.
    #[arg(long, value_name = "N")]
    keep: Option<u32>,

    /// Flight recorder: keep only the last part of the recording, at least a time such as 10m or at
    /// most a size such as 500MB.
    #[arg(long, value_name = "TIME|SIZE", value_parser = parse_ring)]
    ring: Option<RingSpan>,

    /// Take a snapshot when this happens, as on SIGUSR1: exit-code!=0, signal, http-status>=500,
    /// rss>2GB, cpu>90% or text=REGEX (over plaintext). May be repeated.
    #[arg(long, value_name = "CONDITION")]
    snapshot_on: Vec<Condition>,

    /// Size of the buffer between kernel and recorder: a power of two, such as 32M.
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = parse_buffer_bytes)]
    buffer: u32,

    /// Do not record which files are used.
    #[arg(long)]
    no_files: bool,

    /// Do not record sockets and pipes: no addresses, no HTTP in plain text, no standard streams.
    #[arg(long, conflicts_with_all = ["stdio_max_bytes", "stdio_all_fds", "stdio_uid"])]
    no_network: bool,

    /// Do not record what goes through pipes and socket pairs.
    #[arg(long, conflicts_with_all = ["stdio_max_bytes", "stdio_all_fds", "stdio_uid"])]
    no_stdio: bool,

    /// Of one read or write through a pipe or socket pair record at most this much.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    stdio_max_bytes: Option<u64>,

    /// Record pipes and socket pairs at any file descriptor, not only standard input, output and
    /// error.
    #[arg(long)]
    stdio_all_fds: bool,

    /// Record pipes and socket pairs only of processes of this user id.
    #[arg(long, value_name = "UID")]
    stdio_uid: Option<u32>,

    /// What is to survive a power failure: none (the recording survives a killed recorder all the
    /// same), interval (all but the last second) or always (every batch of events).
    #[arg(long, value_name = "WHEN", default_value = "none", value_parser = parse_sync)]
    sync: Sync,

    /// A command to run and record.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl RecordArgs {
    fn options(self) -> anyhow::Result<Options> {
        let selectors = Selectors {
            names: self.names,
            pids: self.pids,
            command_lines: self.command_lines,
            cgroups: self.cgroups,
            containers: self.containers,
            users: self.users,
        };
        if selectors.is_empty() && self.command.is_empty() {
            let error = std::io::Error::other("nothing to record was named");
            let hint = "name a command after --, or processes with -c, -p, --cmdline, --cgroup, \
                        --container or --uid";
            return Err(cli::hinted(error, Some(hint.into())));
        }
        let asked = Asked {
            max_bytes: self.max_size,
            rotate_bytes: self.rotate_size,
            rotate_age: self.rotate_time,
            keep: self.keep,
            ring: self.ring,
        };
        let retention = asked.retention().map_err(|error| {
            let hint = error.hint().to_owned();
            cli::hinted(error, Some(hint))
        })?;
        Ok(Options {
            selectors,
            command: self.command,
            output: self.output,
            force: self.force,
            redact: !self.no_redact,
            interval: self.interval,
            duration: self.duration,
            retention,
            snapshot_on: self.snapshot_on,
            buffer_bytes: self.buffer,
            io: WatchIo {
                files: !self.no_files,
                channels: !self.no_network,
                stdio: !self.no_stdio && !self.no_network,
                stdio_all_descriptors: self.stdio_all_fds,
                stdio_max_bytes: self.stdio_max_bytes,
                stdio_uid: self.stdio_uid,
            },
            sync: self.sync,
            command_line: std::env::args_os().collect(),
        })
    }
}

/// Records, and ends as the command did.
pub(crate) fn run(args: RecordArgs) -> anyhow::Result<ExitCode> {
    let options = args.options()?;
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
}

fn summary(options: &Options, recorded: &Recorded) -> String {
    let summary = &recorded.summary;
    let lost = match recorded.lost {
        (0, 0) => "nothing lost".to_owned(),
        (events, bytes) => format!("LOST {events} events with {bytes} bytes of plaintext"),
    };
    let place = match options.retention {
        Retention::Rotate(_) => "files",
        Retention::Whole | Retention::UpTo { .. } | Retention::Ring(_) => "a file",
    };
    format!(
        "{}: {} events, {} bytes of plaintext in {place} of {} bytes, {lost}",
        options.output.display(),
        summary.rows,
        summary.payload_bytes,
        summary.file_bytes,
    )
}
