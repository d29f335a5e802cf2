//! Table `files`: what each process did to each file, summed up.

use std::collections::HashMap;
use std::sync::Arc;

use super::column::{Cell, Column, NEVER, Table, int, opt_text, text};
use crate::event::{Body, Event, FileAccess, FileOp, OpenOperation, PathOperation, ProcessId};
use crate::time::WallNanos;

/// The kinds of events that [`Files`] is made of.
pub const FILE_KINDS: &[&str] = &["file_access", "file_op"];

/// Files that are kept apart; those of a session of hours with several package installations.
const MAX_FILES: usize = 1 << 18;

/// What a process did to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    process: Option<ProcessId>,
    comm: Option<String>,
    path: Option<Arc<str>>,
    opens: u64,
    failed_opens: u64,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
    operation: Option<OpenOperation>,
    flags: Option<String>,
    errno: Option<u32>,
    created: bool,
    truncated: bool,
    renamed_from: Option<Arc<str>>,
    renamed_to: Option<Arc<str>>,
    deleted_ts: Option<WallNanos>,
    first_ts: WallNanos,
    last_ts: WallNanos,
}

type Key = (Option<ProcessId>, Option<Arc<str>>);

/// All that processes did to files.
#[derive(Debug, Default)]
pub struct Files {
    rows: Vec<FileRow>,
    index: HashMap<Key, usize>,
    /// Each path once, as many processes use the same.
    paths: HashMap<Arc<str>, ()>,
}

impl Files {
    /// Takes in an event; kinds other than [`FILE_KINDS`] are ignored.
    pub fn push(&mut self, event: &Event) {
        match &event.body {
            Body::FileAccess(access) => {
                self.row(event, access.path.as_deref(), access.first_ts).access(access);
            }
            Body::FileOp(op) => self.operation(event, op),
            _ => {}
        }
    }

    /// The rows, by time.
    #[must_use]
    pub fn finish(self) -> Vec<FileRow> {
        let mut rows = self.rows;
        rows.sort_by(|a, b| {
            let key = |row: &FileRow| (row.first_ts, row.process);
            key(a).cmp(&key(b)).then_with(|| a.path.cmp(&b.path))
        });
        rows
    }

    fn operation(&mut self, event: &Event, op: &FileOp) {
        let (path, new_path) = (op.path.as_deref(), op.new_path.as_deref());
        let (old, new) = (path.map(|it| self.interned(it)), new_path.map(|it| self.interned(it)));
        match op.operation {
            PathOperation::Rename => {
                self.row(event, path, event.ts).renamed_to = new;
                let row = self.row(event, new_path, event.ts);
                (row.renamed_from, row.deleted_ts) = (old, None);
            }
            PathOperation::Unlink | PathOperation::Rmdir => {
                self.row(event, path, event.ts).deleted_ts = Some(event.ts);
            }
            PathOperation::Truncate => self.row(event, path, event.ts).truncated = true,
            PathOperation::Mkdir => self.row(event, path, event.ts).make(),
            PathOperation::Link | PathOperation::Symlink => {
                self.row(event, new_path, event.ts).make();
            }
        }
    }

    /// The row of a file, with this use of it noted. One more than are kept apart is counted among
    /// what the process did to paths that are not known.
    fn row(&mut self, event: &Event, path: Option<&str>, first_ts: WallNanos) -> &mut FileRow {
        let mut key = (event.process, path.map(|path| self.interned(path)));
        if self.rows.len() >= MAX_FILES && !self.index.contains_key(&key) {
            key.1 = None;
        }
        let rows = &mut self.rows;
        let at = *self.index.entry(key).or_insert_with_key(|(process, path)| {
            rows.push(FileRow::new(*process, path.clone(), first_ts));
            rows.len() - 1
        });
        let row = &mut rows[at];
        if event.comm.is_some() {
            row.comm.clone_from(&event.comm);
        }
        row.first_ts = row.first_ts.min(first_ts);
        row.last_ts = row.last_ts.max(event.ts);
        row
    }

    fn interned(&mut self, path: &str) -> Arc<str> {
        if let Some((known, ())) = self.paths.get_key_value(path) {
            return Arc::clone(known);
        }
        let new: Arc<str> = path.into();
        if self.paths.len() < MAX_FILES {
            self.paths.insert(Arc::clone(&new), ());
        }
        new
    }
}

impl FileRow {
    pub(super) fn process(&self) -> Option<ProcessId> {
        self.process
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// First and last use.
    pub(super) fn span(&self) -> (WallNanos, WallNanos) {
        (self.first_ts, self.last_ts)
    }

    fn new(process: Option<ProcessId>, path: Option<Arc<str>>, first_ts: WallNanos) -> Self {
        Self {
            process,
            comm: None,
            path,
            opens: 0,
            failed_opens: 0,
            reads: 0,
            read_bytes: 0,
            writes: 0,
            written_bytes: 0,
            operation: None,
            flags: None,
            errno: None,
            created: false,
            truncated: false,
            renamed_from: None,
            renamed_to: None,
            deleted_ts: None,
            first_ts,
            last_ts: first_ts,
        }
    }

    fn access(&mut self, access: &FileAccess) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        if access.errno == 0 {
            add(&mut self.opens, access.open_count);
            self.operation = self.operation.or(access.operation);
        } else {
            add(&mut self.failed_opens, access.open_count);
            self.errno = Some(access.errno);
        }
        add(&mut self.reads, access.read_count);
        add(&mut self.read_bytes, access.read_bytes);
        add(&mut self.writes, access.write_count);
        add(&mut self.written_bytes, access.written_bytes);
        if self.flags.is_none() {
            self.flags.clone_from(&access.flags);
        }
        if access.errno == 0 && access.operation == Some(OpenOperation::Create) {
            self.created = true;
            // What was removed before is there again.
            let is_new = access.open_count > 0;
            self.deleted_ts =
                self.deleted_ts.filter(|deleted| !is_new || *deleted > access.first_ts);
        }
    }

    /// Something was made at the path.
    fn make(&mut self) {
        (self.created, self.deleted_ts) = (true, None);
    }
}

const NONE: &str = "the process did no such thing";

/// One row per process and path.
pub const FILES: Table<FileRow> = Table {
    name: "files",
    description: "One row per process and path that it opened, could not open, renamed, removed or \
                  made; ordered by first_ts. Memory-mapped files count as opened only; what went \
                  through io_uring does not count.",
    columns: &[
        Column::new(
            "pid",
            Cell::Int(|x| x.process.and_then(|process| int(process.pid))),
            "Process.",
            "the process is not known",
        ),
        Column::new(
            "process_start_ts",
            Cell::Ts(|x| x.process.map(|process| process.start_ts)),
            "When that process was created; with pid it names the process.",
            "the process is not known",
        ),
        Column::new(
            "comm",
            Cell::Text(|x| opt_text(&x.comm)),
            "Last known name of the thread that used it.",
            "the name is not known",
        ),
        Column::new(
            "path",
            Cell::Text(|x| x.path.as_deref().and_then(text)),
            "Absolute path: of what was opened as the kernel resolved it, else as it was asked for.",
            "it was lost or could not be read, or there are more files than the 262144 that are \
             kept apart: the row sums up all such files of the process",
        ),
        Column::new(
            "opens",
            Cell::Int(|x| int(x.opens)),
            "How often the process opened it; 0 also where it was open before.",
            NEVER,
        ),
        Column::new("reads", Cell::Int(|x| int(x.reads)), "Calls that read some of it.", NEVER),
        Column::measured(
            "read_bytes",
            "bytes",
            Cell::Int(|x| int(x.read_bytes)),
            "Bytes read.",
            NEVER,
        ),
        Column::new("writes", Cell::Int(|x| int(x.writes)), "Calls that wrote to it.", NEVER),
        Column::measured(
            "written_bytes",
            "bytes",
            Cell::Int(|x| int(x.written_bytes)),
            "Bytes written.",
            NEVER,
        ),
        Column::new(
            "failed_opens",
            Cell::Int(|x| int(x.failed_opens)),
            "How often it could not be opened.",
            NEVER,
        ),
        Column::new(
            "errno",
            Cell::Int(|x| x.errno.map(i64::from)),
            "Why, the last time: 2 is ENOENT (there is no such file), 13 EACCES (not allowed).",
            "no open failed",
        ),
        Column::new(
            "operation",
            Cell::Text(|x| x.operation.and_then(|it| text(it.as_str()))),
            "How the process first came to use it: open, create, open_directory, or inherited for \
             one that was open already.",
            "it was not opened, or that was lost",
        ),
        Column::new(
            "flags",
            Cell::Text(|x| opt_text(&x.flags)),
            "Flags of its first open(2) by name, joined by |.",
            "it was not opened, or before the recording",
        ),
        Column::new(
            "created",
            Cell::Bool(|x| Some(x.created)),
            "Whether the process made it: by opening, or as a directory or link.",
            NEVER,
        ),
        Column::new(
            "truncated",
            Cell::Bool(|x| Some(x.truncated)),
            "Whether the process truncated it by truncate(2) or ftruncate(2); for open(2) see flags.",
            NEVER,
        ),
        Column::new(
            "renamed_from",
            Cell::Text(|x| x.renamed_from.as_deref().and_then(text)),
            "Path that the process renamed to this one, the last time.",
            NONE,
        ),
        Column::new(
            "renamed_to",
            Cell::Text(|x| x.renamed_to.as_deref().and_then(text)),
            "Path that the process gave it instead, the last time.",
            NONE,
        ),
        Column::new(
            "deleted_ts",
            Cell::Ts(|x| x.deleted_ts),
            "When the process removed it, if it did not make it again.",
            NONE,
        ),
        Column::new("first_ts", Cell::Ts(|x| Some(x.first_ts)), "First use.", NEVER),
        Column::new("last_ts", Cell::Ts(|x| Some(x.last_ts)), "Last use.", NEVER),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    fn event(ts: i64, pid: u32, body: Body) -> Event {
        let process = Some(ProcessId { pid, start_ts: WallNanos(0) });
        Event { ts: WallNanos(ts), process, tid: None, comm: Some("agent".into()), body }
    }

    fn access(ts: i64, pid: u32, path: &str, access: FileAccess) -> Event {
        let first_ts = WallNanos(ts - 1);
        let operation = access.operation.or(Some(OpenOperation::Open));
        let access = FileAccess { path: Some(path.into()), first_ts, operation, ..access };
        event(ts, pid, Body::FileAccess(access))
    }

    fn op(ts: i64, operation: PathOperation, path: &str, new_path: Option<&str>) -> Event {
        let new_path = new_path.map(str::to_owned);
        event(ts, 1, Body::FileOp(FileOp { operation, path: Some(path.into()), new_path }))
    }

    fn rows(events: &[Event]) -> Vec<FileRow> {
        let mut files = Files::default();
        events.iter().for_each(|event| files.push(event));
        files.finish()
    }

    #[test]
    fn accesses_of_a_process_and_path_add_up() {
        let read = |count| FileAccess { open_count: 1, read_count: count, ..FileAccess::default() };
        let failed = FileAccess { open_count: 3, errno: 13, ..FileAccess::default() };
        let rows = rows(&[
            access(10, 1, "/a", read(2)),
            access(20, 1, "/a", read(5)),
            access(30, 2, "/a", read(1)),
            access(40, 1, "/a", failed),
        ]);
        let seen: Vec<_> = rows
            .iter()
            .map(|row| {
                (row.process.unwrap().pid, row.opens, row.reads, row.failed_opens, row.errno)
            })
            .collect();
        assert_eq!(seen, [(1, 2, 7, 3, Some(13)), (2, 1, 1, 0, None)]);
        assert_eq!((rows[0].first_ts, rows[0].last_ts), (WallNanos(9), WallNanos(40)));
    }

    #[test]
    fn a_file_written_beside_and_renamed_over_shows_at_both_paths() {
        let made = FileAccess {
            operation: Some(OpenOperation::Create),
            open_count: 1,
            written_bytes: 9,
            ..FileAccess::default()
        };
        let rows = rows(&[
            access(5, 1, "/a.tmp", made),
            op(7, PathOperation::Rename, "/a.tmp", Some("/a")),
        ]);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].renamed_to.as_deref(), Some("/a"));
        assert!(rows[0].created && !rows[1].created);
        assert_eq!(rows[1].renamed_from.as_deref(), Some("/a.tmp"));
        assert_eq!((rows[1].path.as_deref(), rows[1].opens), (Some("/a"), 0));
    }

    #[test]
    fn what_is_made_again_is_not_deleted() {
        let made = |open_count| FileAccess {
            operation: Some(OpenOperation::Create),
            open_count,
            ..FileAccess::default()
        };
        let unlink = |ts| op(ts, PathOperation::Unlink, "/a", None);
        let deleted = |events: &[Event]| rows(events)[0].deleted_ts.map(|ts| ts.0);
        assert_eq!(deleted(&[access(3, 1, "/a", made(1)), unlink(5)]), Some(5));
        assert_eq!(deleted(&[unlink(5), access(9, 1, "/a", made(1))]), None);
        // The file that was removed is still written to.
        assert_eq!(deleted(&[unlink(5), access(9, 1, "/a", made(0))]), Some(5));
        assert_eq!(deleted(&[unlink(5), op(6, PathOperation::Mkdir, "/a", None)]), None);
    }

    #[test]
    fn more_files_than_are_kept_apart_are_summed_up_by_process() {
        let mut files = Files::default();
        let once = || FileAccess { open_count: 1, ..FileAccess::default() };
        for number in 0..MAX_FILES + 3 {
            files.push(&access(1, 1, &format!("/{number}"), once()));
        }
        files.push(&access(1, 1, "/0", once()));
        let rows = files.finish();
        assert_eq!(rows.len(), MAX_FILES + 1);
        let documented = FILES.columns[FILES.index("path")].null;
        assert!(documented.contains(&MAX_FILES.to_string()), "{documented}");
        let rest: Vec<_> = rows.iter().filter(|row| row.path.is_none()).collect();
        assert_eq!((rest.len(), rest[0].opens), (1, 3));
        assert_eq!(rows.iter().map(|row| row.opens).sum::<u64>(), MAX_FILES as u64 + 4);
    }
}
