//! Table `samples`: what `/proc` said of a process, and which call to a model was running then.

use super::column::{Cell, Column, NEVER, Table, int, ms, opt_text};
use crate::event::{ProcessId, Sample};
use crate::time::WallNanos;

/// One look at a process.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRow {
    /// When it was taken.
    pub ts: WallNanos,
    /// Of which process.
    pub process: ProcessId,
    /// The name of the process.
    pub comm: Option<String>,
    /// What it said.
    pub sample: Sample,
    /// The call running at that moment in the process or one of its ancestors.
    pub call_id: Option<u64>,
}

const NO_IO: &str = "/proc/PID/io was not readable";

/// One row per process and sampling tick.
pub const SAMPLES: Table<SampleRow> = Table {
    name: "samples",
    description: "One row per traced process and sampling tick, ordered by time. Counters are over \
                  the life of the process, all threads. The recorder's own samples are in events \
                  (recorder_sample).",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When the sample was taken.", NEVER),
        Column::new("pid", Cell::Int(|x| int(x.process.pid)), "Process id.", NEVER),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| Some(x.process.start_ts)),
            "When the process was created; with pid it names the process.",
            NEVER,
        ),
        Column::new(
            "ppid",
            Cell::Int(|x| Some(i64::from(x.sample.ppid)).filter(|ppid| *ppid != 0)),
            "Parent process id at that moment.",
            "the parent is not known",
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Name of the process at that moment.",
            "it is not known",
        ),
        Column::measured(
            "cpu_percent",
            "percent",
            Cell::Float(|x| x.sample.cpu_percent),
            "CPU used since the previous sample of the same process, 100 = one core.",
            "it is the first sample of the process",
        ),
        Column::measured(
            "cpu_user_ms",
            "ms",
            Cell::Float(|x| Some(ms(x.sample.cpu_user_ns))),
            "CPU time in user mode so far.",
            NEVER,
        ),
        Column::measured(
            "cpu_system_ms",
            "ms",
            Cell::Float(|x| Some(ms(x.sample.cpu_system_ns))),
            "CPU time in kernel mode so far.",
            NEVER,
        ),
        Column::measured(
            "rss_bytes",
            "bytes",
            Cell::Int(|x| int(x.sample.rss_bytes)),
            "Resident memory.",
            NEVER,
        ),
        Column::measured(
            "vsz_bytes",
            "bytes",
            Cell::Int(|x| int(x.sample.vsz_bytes)),
            "Virtual memory.",
            NEVER,
        ),
        Column::new("threads", Cell::Int(|x| int(x.sample.threads)), "Number of threads.", NEVER),
        Column::new(
            "children",
            Cell::Int(|x| int(x.sample.children)),
            "Number of live child processes.",
            NEVER,
        ),
        Column::measured(
            "read_bytes",
            "bytes",
            Cell::Int(|x| x.sample.read_bytes.and_then(int)),
            "Bytes fetched from storage so far.",
            NO_IO,
        ),
        Column::measured(
            "written_bytes",
            "bytes",
            Cell::Int(|x| x.sample.written_bytes.and_then(int)),
            "Bytes sent to storage so far.",
            NO_IO,
        ),
        Column::new(
            "call_id",
            Cell::Int(|x| x.call_id.and_then(int)),
            "Call to a model running at that moment, made by this process or one of its \
             ancestors; of several the one that started first. A call runs from start_ts to end_ts, \
             one still open when the recording ended to the end, any other without end_ts to \
             its last known moment.",
            "no call was running: the time between calls",
        ),
    ],
};
