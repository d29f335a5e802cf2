//! A recording of ten hours in a minute: how memory, row groups and the file grow.
//!
//! `cargo run --release --no-default-features --example trace_long -- HOURS FILE`
//!
//! Nine processes are sampled each second, and three times in ten hours an agent works through 200
//! turns. Everything goes the way of a recorder: joined, logged once per recorded second, closed by
//! size and age. Prints the resident memory at every half hour, and the file. Then, for example:
//!
//! ```text
//! duckdb -c ".timer on" -c "select count(*) from 'FILE'"
//! time agentsight-query FILE
//! ```

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::Instant;

use agentsight::event::{Body, Event, ProcessId, Sample};
use agentsight::time::WallNanos;
use agentsight::trace::{Burst, ClosingMetadata, CreateFile, Metadata, Recording, Sync};

#[path = "../tests/support/session.rs"]
mod session;
use session::{Random, START, resend_history};

const SECOND_NS: i64 = 1_000_000_000;
const SAMPLED_PROCESSES: u32 = 9;
const SESSION_TURNS: usize = 200;
/// Seconds from one session to the next.
const SESSION_EVERY_S: i64 = 12_000;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, hours, path] = arguments.as_slice() else { anyhow::bail!("expected: HOURS FILE") };
    let (seconds, path) = (hours.parse::<i64>()? * 3600, Path::new(path));
    let create: CreateFile = Box::new(|path| {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    });
    let metadata = Metadata { start_ts: WallNanos(START), ..Metadata::default() };
    let recording = Recording::create(File::create(path)?, path, &metadata, Sync::None, create)?;
    let started = Instant::now();
    let mut host = Host { recording, burst: Burst::new(), random: Random::new(3), second: 0 };
    println!("hours  resident KiB  log KiB");
    for session in 0..seconds / SESSION_EVERY_S {
        let begins_ns =
            (session + 1) * SESSION_EVERY_S * SECOND_NS - SESSION_EVERY_S * SECOND_NS / 2;
        host.idle_until(begins_ns / SECOND_NS, path)?;
        let mut done = Ok(());
        resend_history(SESSION_TURNS, 50 + session as u64, &mut |mut event| {
            if done.is_ok() {
                let at_ns = begins_ns + (event.ts.0 - START);
                event.ts = WallNanos(START + at_ns);
                done = host.idle_until(at_ns / SECOND_NS, path).and_then(|()| host.push(event));
            }
        });
        done?;
    }
    host.idle_until(seconds, path)?;
    let Host { mut recording, mut burst, .. } = host;
    let mut done = Ok(());
    burst.flush(&mut |event| done = recording.push(event));
    done?;
    let stop_ts = WallNanos(START + seconds * SECOND_NS);
    let finished = recording.finish(ClosingMetadata { stop_ts, ..ClosingMetadata::default() });
    if let Some(error) = finished.unfinished {
        return Err(error.into());
    }
    let summary = finished.summary;
    println!(
        "{} rows, {} row groups, {:.2} MB of payload, file {:.2} MB, peak {} KiB, {:.1} s",
        summary.rows,
        summary.row_groups,
        summary.payload_bytes as f64 / 1e6,
        summary.file_bytes as f64 / 1e6,
        status_kib("VmHWM:"),
        started.elapsed().as_secs_f64(),
    );
    Ok(())
}

struct Host {
    recording: Recording,
    burst: Burst,
    random: Random,
    /// Seconds recorded.
    second: i64,
}

impl Host {
    fn push(&mut self, event: Event) -> anyhow::Result<()> {
        let mut done = Ok(());
        self.burst.push(event, &mut |event| done = self.recording.push(event));
        Ok(done?)
    }

    /// Samples and logs until a second.
    fn idle_until(&mut self, second: i64, path: &Path) -> anyhow::Result<()> {
        while self.second < second {
            self.second += 1;
            for process in 0..SAMPLED_PROCESSES {
                let sample = self.sample(process);
                self.push(sample)?;
            }
            self.recording.flush_log()?;
            if self.second % 1800 == 0 {
                let log = agentsight::trace::log_path(path).metadata()?.len();
                let hours = self.second as f64 / 3600.0;
                println!("{hours:>5.1}  {:>12}  {:>7}", status_kib("VmRSS:"), log / 1024);
            }
        }
        Ok(())
    }

    fn sample(&mut self, process: u32) -> Event {
        let (second, random) = (self.second as u64, &mut self.random);
        let sample = Sample {
            ppid: 1,
            cpu_percent: Some(random.below(10_000) as f64 / 100.0),
            cpu_user_ns: second * 100_000_000 + random.below(50_000_000),
            cpu_system_ns: second * 20_000_000 + random.below(10_000_000),
            rss_bytes: (100 << 20) + random.below(1 << 14) * 4096,
            vsz_bytes: (1 << 30) + random.below(1 << 10) * 4096,
            threads: 12 + random.below(4) as u32,
            children: random.below(3) as u32,
            read_bytes: Some(second * 4096),
            written_bytes: Some(second * 512 * random.below(3)),
        };
        // The first is the recorder itself.
        let body = if process == 0 { Body::RecorderSample(sample) } else { Body::Sample(sample) };
        let start_ts = WallNanos(START - i64::from(process) * SECOND_NS);
        Event {
            ts: WallNanos(START + self.second * SECOND_NS + random.below(1_000_000) as i64),
            process: Some(ProcessId { pid: 1000 + process, start_ts }),
            tid: None,
            comm: Some(format!("process-{process}")),
            body,
        }
    }
}

fn status_kib(key: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
