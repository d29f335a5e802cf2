//! What processes do to files, summed up by the kernel side, as events.
//!
//! The kernel side tells a file's path once per process and then only counts. Here the counts are
//! put to their paths again; what was reported before is taken off, so that the events of a file add
//! up to all that was done. Memory is bounded: a file beyond the bound has no path.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::io;
use crate::capture::abi::{self, FileUse, FileUseKey, PathEvent};
use crate::event::{Body, Event, FileAccess, OpenOperation, ProcessId};
use crate::time::{BootNanos, ClockAnchor, WallNanos};

/// Files remembered: as many as the kernel's map holds twice over.
const MAX_FILES: usize = 131_072;

/// What has been counted of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Counts {
    opens: u64,
    reads: u64,
    read_bytes: u64,
    writes: u64,
    written_bytes: u64,
}

/// A file as one process uses it.
#[derive(Debug)]
struct Known {
    process: ProcessId,
    comm: String,
    path: Option<String>,
    operation: OpenOperation,
    flags: Option<String>,
    errno: u32,
    reported: Counts,
    /// Until when it was reported.
    reported_ts: Option<WallNanos>,
}

/// All files of all observed processes.
#[derive(Debug)]
pub struct FileUses {
    anchor: ClockAnchor,
    files: BTreeMap<(u32, Key), Known>,
    processes: HashMap<u32, ProcessId>,
    ended: Vec<ProcessId>,
}

type Key = (u64, u64, u32);

fn split(key: FileUseKey) -> (u32, Key) {
    (key.pid, (key.file, key.device, key.inode_generation))
}

fn joined((pid, (file, device, inode_generation)): (u32, Key)) -> FileUseKey {
    FileUseKey { file, device, pid, inode_generation }
}

impl FileUses {
    /// Knows no file yet.
    #[must_use]
    pub fn new(anchor: ClockAnchor) -> Self {
        Self { anchor, files: BTreeMap::new(), processes: HashMap::new(), ended: Vec::new() }
    }

    /// Learns what a file is called from the record that tells it.
    pub(super) fn announce(
        &mut self,
        event: &PathEvent,
        process: ProcessId,
        comm: &str,
        path: Option<String>,
    ) {
        let key = split(event.key);
        self.processes.insert(event.key.pid, process);
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&key) {
            return;
        }
        let (operation, flags) = io::opened(event);
        let known = Known {
            process,
            comm: comm.to_owned(),
            path,
            operation,
            flags,
            errno: event.error.into(),
            reported: Counts::default(),
            reported_ts: None,
        };
        match self.files.entry(key) {
            // The counts of one that is told of again go on, unless another process has the pid.
            Entry::Occupied(mut old) if old.get().process == process => {
                let old = old.get_mut();
                let (reported, reported_ts) = (old.reported, old.reported_ts);
                *old = Known { reported, reported_ts, ..known };
            }
            Entry::Occupied(mut old) => {
                old.insert(known);
            }
            Entry::Vacant(free) => {
                free.insert(known);
            }
        }
    }

    pub(super) fn end(&mut self, process: ProcessId) {
        self.ended.push(process);
    }

    /// Keys of what processes have used that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<FileUseKey> {
        let ended = std::mem::take(&mut self.ended);
        let mut keys = Vec::new();
        for process in ended {
            if self.processes.get(&process.pid) == Some(&process) {
                self.processes.remove(&process.pid);
            }
            let first = (process.pid, (0, 0, 0));
            let last = (process.pid, (u64::MAX, u64::MAX, u32::MAX));
            let of_process = self.files.range(first..=last);
            keys.extend(
                of_process
                    .filter(|(_, known)| known.process == process)
                    .map(|(key, _)| joined(*key)),
            );
        }
        keys
    }

    /// What was done to a file since this was last asked; `None` if nothing was.
    pub fn access(&mut self, key: FileUseKey, file_use: &FileUse) -> Option<Event> {
        let counts = Counts {
            opens: file_use.opens,
            reads: file_use.reads,
            read_bytes: file_use.read_bytes,
            writes: file_use.writes,
            written_bytes: file_use.written_bytes,
        };
        let wall = |boot_ns| self.anchor.wall(BootNanos(boot_ns));
        let (first_ts, ts) = (wall(file_use.first_boot_ns), wall(file_use.last_boot_ns));
        let mut access = FileAccess { first_ts, ..FileAccess::default() };
        if key.device >= abi::DEVICE_FAILED {
            access.errno = u32::try_from(key.device - abi::DEVICE_FAILED).unwrap_or_default();
        }
        let mut before = Counts::default();
        let mut comm = None;
        let process = match self.files.get_mut(&split(key)) {
            Some(known) => {
                access.path.clone_from(&known.path);
                access.operation = Some(known.operation);
                access.flags.clone_from(&known.flags);
                access.errno = known.errno;
                comm = Some(known.comm.clone());
                before = std::mem::replace(&mut known.reported, counts);
                access.first_ts = known.reported_ts.replace(ts).unwrap_or(first_ts);
                Some(known.process)
            }
            // Its announcement was lost.
            None => self.processes.get(&key.pid).copied(),
        };
        // What nobody knows was observed only until it was clear that it is not to be.
        if before == counts || process.is_none() {
            return None;
        }
        access.open_count = counts.opens.saturating_sub(before.opens);
        access.read_count = counts.reads.saturating_sub(before.reads);
        access.read_bytes = counts.read_bytes.saturating_sub(before.read_bytes);
        access.write_count = counts.writes.saturating_sub(before.writes);
        access.written_bytes = counts.written_bytes.saturating_sub(before.written_bytes);
        Some(Event { ts, process, tid: None, comm, body: Body::FileAccess(access) })
    }

    /// Whether a file is known, so that its counts may stay where they are.
    #[must_use]
    pub fn knows(&self, key: FileUseKey) -> bool {
        self.files.contains_key(&split(key))
    }

    /// Forgets a file that the kernel side has forgotten.
    pub fn forget(&mut self, key: FileUseKey) {
        self.files.remove(&split(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(start: i64) -> ProcessId {
        ProcessId { pid: 7, start_ts: WallNanos(start) }
    }

    fn key(file: u64) -> FileUseKey {
        FileUseKey { file, device: 3, pid: 7, inode_generation: 1 }
    }

    fn used(opens: u64, read_bytes: u64, last_boot_ns: u64) -> FileUse {
        FileUse {
            first_boot_ns: 10,
            last_boot_ns,
            opens,
            reads: opens,
            read_bytes,
            writes: 0,
            written_bytes: 0,
        }
    }

    fn announced(uses: &mut FileUses, file: u64, start: i64, path: &str) {
        let header = crate::capture::abi::EventHeader {
            kind: abi::EVENT_PATH,
            pid: 7,
            tid: 7,
            flags: 0,
            boot_ns: 10,
            process_start_boot_ns: 1,
            comm: [0; abi::EVENT_COMM_BYTES],
        };
        let event = PathEvent {
            header,
            key: key(file),
            flags: 0,
            operation: abi::PATH_OPEN,
            error: 0,
            path_bytes: 0,
            base_bytes: 0,
            new_path_bytes: 0,
            new_base_bytes: 0,
        };
        uses.announce(&event, process(start), "agent", Some(path.to_owned()));
    }

    fn uses() -> FileUses {
        FileUses::new(ClockAnchor::new(BootNanos(0), WallNanos(0)))
    }

    fn access(event: Option<Event>) -> FileAccess {
        match event.expect("something was done").body {
            Body::FileAccess(access) => access,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_of_a_file_add_up_to_what_was_counted() {
        let mut uses = uses();
        announced(&mut uses, 1, 1, "/a");
        let first = access(uses.access(key(1), &used(2, 100, 20)));
        assert_eq!(
            (first.open_count, first.read_bytes, first.path.as_deref()),
            (2, 100, Some("/a"))
        );
        assert_eq!(first.first_ts, WallNanos(10));
        assert_eq!(uses.access(key(1), &used(2, 100, 20)), None);
        let second = access(uses.access(key(1), &used(3, 150, 40)));
        assert_eq!((second.open_count, second.read_bytes), (1, 50));
        assert_eq!(second.first_ts, WallNanos(20));
    }

    #[test]
    fn a_file_whose_announcement_was_lost_has_no_path_but_counts() {
        let mut uses = uses();
        announced(&mut uses, 1, 1, "/a");
        let event = uses.access(key(2), &used(1, 5, 20)).unwrap();
        assert_eq!(event.process, Some(process(1)));
        assert_eq!(access(Some(event)).path, None);
        assert!(!uses.knows(key(2)));
        let failed = FileUseKey { device: abi::DEVICE_FAILED + 2, ..key(9) };
        assert_eq!(access(uses.access(failed, &used(1, 0, 20))).errno, 2);
    }

    #[test]
    fn a_process_that_ended_is_settled_and_its_pid_may_come_again() {
        let mut uses = uses();
        announced(&mut uses, 1, 1, "/a");
        let _ = uses.access(key(1), &used(5, 5, 20));
        uses.end(process(1));
        assert_eq!(uses.take_ended(), [key(1)]);
        assert!(uses.take_ended().is_empty());
        announced(&mut uses, 1, 2, "/b");
        assert_eq!(access(uses.access(key(1), &used(1, 1, 30))).open_count, 1);
        uses.forget(key(1));
        assert!(!uses.knows(key(1)));
    }
}
