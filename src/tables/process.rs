//! Table `processes`: what the process events and samples say of each process together.

use std::borrow::Cow;

use super::column::{Cell, Column, NEVER, Table, int, ms, opt_text, text};
use crate::event::{Body, Confidence, Event, Exit, Image, ProcessId, Sample, container_id};
use crate::time::WallNanos;

/// All that is known of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessRow {
    /// Who it is.
    pub id: ProcessId,
    /// Its parent when first seen; 0 when unknown. Later parents are only reapers.
    pub ppid: u32,
    /// Real user id.
    uid: Option<u32>,
    /// Its name.
    comm: Option<String>,
    /// The program it executed last.
    image: Option<Image>,
    /// Arguments of those it executed before, the first [`MAX_EARLIER`] of them.
    earlier: Vec<Vec<String>>,
    /// Its parent when last seen; 0 when unknown.
    last_ppid: u32,
    /// How it ended, and when.
    pub exit: Option<(WallNanos, Exit)>,
    /// Its last sample, and when that was taken.
    last_sample: Option<(WallNanos, Sample)>,
    /// Highest resident memory among its samples.
    sampled_peak_rss_bytes: Option<u64>,
    execs: u64,
    samples: u64,
    matched: bool,
    /// Whether it made a call to a model.
    pub made_calls: bool,
    /// The tool call it was started by.
    pub tool: Option<StartedBy>,
    /// What it outlived, and when that ended.
    pub outlived: Option<(Outlived, WallNanos)>,
}

/// Executions of a process before its last of which the arguments are kept.
const MAX_EARLIER: usize = 4;

/// The tool call that a process was started by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartedBy {
    /// [`crate::reconstruct::finding::ToolCall::tool_call_id`].
    pub tool_call_id: String,
    /// [`crate::reconstruct::finding::ToolCall::call_id`].
    pub call_id: u64,
    /// How sure that is.
    pub confidence: Option<Confidence>,
}

/// What a process outlived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlived {
    /// The tool call that it was started by: it ran on after the result was sent.
    ToolCall,
    /// The agent that it descends from.
    Agent,
}

impl Outlived {
    /// The value of the `outlived` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ToolCall => "tool_call",
            Self::Agent => "agent",
        }
    }
}

impl ProcessRow {
    pub(super) fn new(id: ProcessId) -> Self {
        Self {
            id,
            ppid: 0,
            uid: None,
            comm: None,
            image: None,
            earlier: Vec::new(),
            last_ppid: 0,
            exit: None,
            last_sample: None,
            sampled_peak_rss_bytes: None,
            execs: 0,
            samples: 0,
            matched: false,
            made_calls: false,
            tool: None,
            outlived: None,
        }
    }

    /// Takes in an event about this process; kinds that say nothing of it are ignored.
    pub(super) fn push(&mut self, event: &Event) {
        match &event.body {
            Body::ProcessSeen(image) => self.image(event, image),
            Body::ProcessExec(image) => {
                self.execs += 1;
                self.image(event, image);
            }
            Body::ProcessFork(fork) => {
                self.parent(fork.ppid);
                self.uid = self.uid.or(Some(fork.uid));
                self.named(event);
            }
            Body::ProcessExit(exit) => {
                self.parent(exit.ppid);
                // The thread that ends last need not carry the name of the process.
                if self.comm.is_none() {
                    self.named(event);
                }
                self.exit = Some((event.ts, exit.clone()));
            }
            Body::Sample(sample) => {
                self.parent(sample.ppid);
                self.named(event);
                self.samples += 1;
                self.sampled_peak_rss_bytes =
                    self.sampled_peak_rss_bytes.max(Some(sample.rss_bytes));
                self.last_sample = Some((event.ts, sample.clone()));
            }
            _ => {}
        }
    }

    fn image(&mut self, event: &Event, image: &Image) {
        self.parent(image.ppid);
        self.named(event);
        self.uid = Some(image.uid);
        self.matched |= image.matched;
        let before = self.image.replace(image.clone());
        if let Some(before) = before.filter(|it| !it.argv.is_empty() && it.argv != image.argv)
            && self.earlier.len() < MAX_EARLIER
        {
            self.earlier.push(before.argv);
        }
    }

    fn parent(&mut self, ppid: u32) {
        if self.ppid == 0 {
            self.ppid = ppid;
        }
        if ppid != 0 {
            self.last_ppid = ppid;
        }
    }

    fn named(&mut self, event: &Event) {
        if event.comm.is_some() {
            self.comm.clone_from(&event.comm);
        }
    }

    /// The name a person would call it by: that of its executable file, else of the process.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let exe = self.image.as_ref().and_then(|image| image.exe.as_deref());
        exe.and_then(|exe| exe.rsplit('/').find(|part| !part.is_empty())).or(self.comm.as_deref())
    }

    /// User and kernel CPU time: at the end of the process, else at its last sample.
    fn cpu_ns(&self) -> Option<(u64, u64)> {
        let exit = self.exit.as_ref().map(|(_, exit)| (exit.cpu_user_ns, exit.cpu_system_ns));
        let sample = self.last_sample.as_ref();
        exit.or_else(|| sample.map(|(_, sample)| (sample.cpu_user_ns, sample.cpu_system_ns)))
    }

    fn cpu_ms(&self) -> Option<f64> {
        self.cpu_ns().map(|(user, system)| ms(user.saturating_add(system)))
    }

    /// How long it is known to have run on.
    fn outlived_ms(&self) -> Option<f64> {
        let (_, since) = self.outlived?;
        let exit = self.exit.as_ref().map(|(ts, _)| *ts);
        let until = exit.or(self.last_sample.as_ref().map(|(ts, _)| *ts))?;
        Some(until.ms_since(since)).filter(|ms| *ms >= 0.0)
    }

    fn avg_cpu_percent(&self) -> Option<f64> {
        let exit = self.exit.as_ref().map(|(ts, _)| *ts);
        let until = exit.or(self.last_sample.as_ref().map(|(ts, _)| *ts))?;
        let lived_ms = until.ms_since(self.id.start_ts);
        self.cpu_ms().filter(|_| lived_ms > 0.0).map(|cpu_ms| cpu_ms / lived_ms * 100.0)
    }

    /// The arguments of the programs it executed, the last first.
    pub(super) fn commands(&self) -> impl Iterator<Item = &[String]> {
        self.argv().into_iter().chain(self.earlier.iter().map(Vec::as_slice))
    }

    /// Whether it matched the filters or made a call to a model.
    pub(super) fn is_agent(&self) -> bool {
        self.matched || self.made_calls
    }

    /// Whether its parent ended before it, so that it got another one.
    fn is_orphan(&self) -> Option<bool> {
        (self.ppid != 0).then_some(self.last_ppid != self.ppid)
    }

    pub(super) fn peak_rss_bytes(&self) -> Option<u64> {
        self.exit.as_ref().map(|(_, exit)| exit.peak_rss_bytes).max(self.sampled_peak_rss_bytes)
    }

    fn at_exit<T>(&self, value: fn(&Exit) -> T) -> Option<T> {
        self.exit.as_ref().map(|(_, exit)| value(exit))
    }

    fn at_last_sample(&self, value: fn(&Sample) -> Option<u64>) -> Option<u64> {
        self.last_sample.as_ref().and_then(|(_, sample)| value(sample))
    }

    pub(super) fn read_bytes(&self) -> Option<u64> {
        self.at_exit(|exit| exit.read_bytes).or(self.at_last_sample(|sample| sample.read_bytes))
    }

    pub(super) fn written_bytes(&self) -> Option<u64> {
        self.at_exit(|exit| exit.written_bytes)
            .or(self.at_last_sample(|sample| sample.written_bytes))
    }

    fn container_id(&self) -> Option<Cow<'_, str>> {
        container_id(self.image.as_ref()?.cgroup.as_deref()?).map(Cow::Borrowed)
    }

    fn argv(&self) -> Option<&[String]> {
        self.image.as_ref().map(|image| image.argv.as_slice()).filter(|argv| !argv.is_empty())
    }
}

const NO_TOOL: &str = "no tool call is known to have started it";
const NO_CPU: &str = "it neither ended nor was sampled";
const NO_IMAGE: &str = "it ran no program of its own (forked without exec), or it was unreadable";
const RUNNING: &str = "it had not ended when the recording did";

/// The columns that need the tool calls.
pub const TOOL_COLUMNS: &[&str] =
    &["tool_call_id", "tool_of_call_id", "tool_confidence", "outlived", "outlived_ms"];

/// One row per process.
pub const PROCESSES: Table<ProcessRow> = Table {
    name: "processes",
    description: "One row per traced process, ordered by start_ts and pid.",
    columns: &[
        Column::new("pid", Cell::Int(|x| int(x.id.pid)), "Process id.", NEVER),
        Column::new(
            "start_ts",
            Cell::Ts(|x| Some(x.id.start_ts)),
            "When it was created, floored to a clock tick (10 ms); with pid it names the process.",
            NEVER,
        ),
        Column::new(
            "end_ts",
            Cell::Ts(|x| x.exit.as_ref().map(|(ts, _)| *ts)),
            "When it ended.",
            RUNNING,
        ),
        Column::new(
            "ppid",
            Cell::Int(|x| Some(i64::from(x.ppid)).filter(|ppid| *ppid != 0)),
            "Parent process id when first seen.",
            "the parent is not known",
        ),
        Column::new("uid", Cell::Int(|x| x.uid.map(i64::from)), "Real user id.", "it is not known"),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Last known name.",
            "it is not known",
        ),
        Column::new(
            "exe",
            Cell::Text(|x| x.image.as_ref().and_then(|image| opt_text(&image.exe))),
            "Absolute path of the program executed last.",
            NO_IMAGE,
        ),
        Column::new(
            "argv",
            Cell::TextList(ProcessRow::argv),
            "Its arguments, argv[0] first; array_to_string(argv, ' ') joins them.",
            NO_IMAGE,
        ),
        Column::new(
            "cwd",
            Cell::Text(|x| x.image.as_ref().and_then(|image| opt_text(&image.cwd))),
            "Working directory when it executed that program.",
            NO_IMAGE,
        ),
        Column::new(
            "container_id",
            Cell::Text(ProcessRow::container_id),
            "The container it ran in when it executed that program: 64 hexadecimal digits, of its \
             cgroup's name.",
            "it ran in none, it ran no program of its own, or its cgroup is not known",
        ),
        Column::new(
            "exit_code",
            Cell::Int(|x| x.at_exit(|exit| exit.exit_code).flatten().map(i64::from)),
            "Exit status, 0 to 255.",
            "a signal ended it, or it had not ended",
        ),
        Column::new(
            "signal",
            Cell::Int(|x| x.at_exit(|exit| exit.signal).flatten().map(i64::from)),
            "Number of the signal that ended it.",
            "it exited by itself, or it had not ended",
        ),
        Column::measured(
            "cpu_ms",
            "ms",
            Cell::Float(ProcessRow::cpu_ms),
            "CPU time over its life, all threads, children not included: at its end, else at its \
             last sample.",
            NO_CPU,
        ),
        Column::measured(
            "cpu_user_ms",
            "ms",
            Cell::Float(|x| x.cpu_ns().map(|(user, _)| ms(user))),
            "The part of cpu_ms in user mode.",
            NO_CPU,
        ),
        Column::measured(
            "cpu_system_ms",
            "ms",
            Cell::Float(|x| x.cpu_ns().map(|(_, system)| ms(system))),
            "The part of cpu_ms in kernel mode.",
            NO_CPU,
        ),
        Column::measured(
            "avg_cpu_percent",
            "percent",
            Cell::Float(ProcessRow::avg_cpu_percent),
            "cpu_ms over its life so far, 100 = one core.",
            NO_CPU,
        ),
        Column::measured(
            "peak_rss_bytes",
            "bytes",
            Cell::Int(|x| x.peak_rss_bytes().and_then(int)),
            "Highest resident memory: the kernel's figure at its end (of the program executed \
             last) or its highest sample, whichever is higher.",
            NO_CPU,
        ),
        Column::measured(
            "read_bytes",
            "bytes",
            Cell::Int(|x| x.read_bytes().and_then(int)),
            "Bytes fetched from storage: at its end, else at its last sample.",
            "it neither ended nor could its I/O be sampled",
        ),
        Column::measured(
            "written_bytes",
            "bytes",
            Cell::Int(|x| x.written_bytes().and_then(int)),
            "Bytes sent to storage: at its end, else at its last sample.",
            "it neither ended nor could its I/O be sampled",
        ),
        Column::new(
            "execs",
            Cell::Int(|x| int(x.execs)),
            "Programs it executed while observed.",
            NEVER,
        ),
        Column::new(
            "samples",
            Cell::Int(|x| int(x.samples)),
            "Rows it has in table samples.",
            NEVER,
        ),
        Column::new(
            "matched",
            Cell::Bool(|x| Some(x.matched)),
            "Whether it matched the recording's filters itself, rather than descending from a \
             match.",
            NEVER,
        ),
        Column::new(
            "is_agent",
            Cell::Bool(|x| Some(x.is_agent())),
            "Whether it matched the filters or made a call to a model.",
            NEVER,
        ),
        Column::new(
            "tool_call_id",
            Cell::Text(|x| x.tool.as_ref().and_then(|tool| text(&tool.tool_call_id))),
            "Tool call that started it or an ancestor of it, in table tool_calls.",
            NO_TOOL,
        ),
        Column::new(
            "tool_of_call_id",
            Cell::Int(|x| x.tool.as_ref().and_then(|tool| int(tool.call_id))),
            "call_id of that tool call: the call whose response asked for it.",
            NO_TOOL,
        ),
        Column::new(
            "tool_confidence",
            Cell::Text(|x| x.tool.as_ref()?.confidence.and_then(|it| text(it.as_str()))),
            "How sure that is: certain (what was asked for stands in its arguments or input, and in no \
             other's) or likely.",
            NO_TOOL,
        ),
        Column::new(
            "outlived",
            Cell::Text(|x| x.outlived.and_then(|(what, _)| text(what.as_str()))),
            "What it ran on after: agent (the agent it descends from had ended) or tool_call (the \
             result of the tool call that started it had been sent).",
            "it outlived neither, or that is not known",
        ),
        Column::measured(
            "outlived_ms",
            "ms",
            Cell::Float(ProcessRow::outlived_ms),
            "For how long: to its end, else to its last sample.",
            "it outlived neither, or it neither ended nor was sampled afterwards",
        ),
        Column::new(
            "orphaned",
            Cell::Bool(ProcessRow::is_orphan),
            "Whether its parent ended before it: its parent when last seen was another.",
            "the parent is not known",
        ),
    ],
};
