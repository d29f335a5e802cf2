//! Table `file_ops`: renames, deletions and the like, one by one.

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::event::{Body, Event, FileOp, ProcessId};
use crate::time::WallNanos;

/// Something that a process did to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOpRow {
    ts: WallNanos,
    process: Option<ProcessId>,
    tid: Option<u32>,
    comm: Option<String>,
    op: FileOp,
}

impl FileOpRow {
    /// The row of a `file_op` event; `None` for other kinds.
    #[must_use]
    pub fn from_event(event: Event) -> Option<Self> {
        let Event { ts, process, tid, comm, body: Body::FileOp(op) } = event else {
            return None;
        };
        Some(Self { ts, process, tid, comm, op })
    }

    /// Size of the row in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        size_of::<Self>() + text(&self.op.path) + text(&self.op.new_path)
    }
}

/// One row per operation.
pub const FILE_OPS: Table<FileOpRow> = Table {
    name: "file_ops",
    description: "One row for each time a process renamed, removed, made, truncated or linked a \
                  path, in time order. Only what succeeded.",
    columns: &[
        Column::new("ts", Cell::Ts(|x| Some(x.ts)), "When it was done.", NEVER),
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process that did it.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "tid",
            Cell::Int(|x| x.tid.map(i64::from)),
            "Thread that did it.",
            "the thread is not known",
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Name of that thread.",
            "the name is not known",
        ),
        Column::new(
            "operation",
            Cell::Text(|x| text(x.op.operation.as_str())),
            "rename, unlink, rmdir, mkdir, truncate, link or symlink.",
            NEVER,
        ),
        Column::new(
            "path",
            Cell::Text(|x| opt_text(&x.op.path)),
            "The path, made absolute as it is written; of a symlink its target, as it was given.",
            "it could not be read",
        ),
        Column::new(
            "new_path",
            Cell::Text(|x| opt_text(&x.op.new_path)),
            "The second path of rename, link and symlink.",
            "there is none, or it could not be read",
        ),
    ],
};
