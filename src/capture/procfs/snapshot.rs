//! One look at all processes: who is whose child, and who matches.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::{ProcFs, read_argv};
use crate::capture::scope::{Candidate, Scope, Users};
use crate::event::ProcessId;

/// Most bytes of a `stat` line: 52 numbers and a name of at most 64 bytes.
const MAX_STAT_BYTES: u64 = 4096;

/// All live processes at one moment, as far as a scan that takes milliseconds is a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    processes: BTreeMap<u32, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    id: ProcessId,
    ppid: u32,
    comm: String,
}

impl ProcFs {
    /// Scans all processes. Empty when `/proc` cannot be listed.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        self.snapshot_of(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
    }

    /// Looks at these processes only; those that are gone are left out.
    #[must_use]
    pub fn snapshot_of(&self, pids: impl IntoIterator<Item = u32>) -> Snapshot {
        let entries = pids.into_iter().filter_map(|pid| Some((pid, self.entry(pid)?)));
        Snapshot { processes: entries.collect() }
    }

    /// Reads `stat` alone and only three of its fields: this runs for every process of the host.
    fn entry(&self, pid: u32) -> Option<Entry> {
        let file = std::fs::File::open(self.directory(pid).join("stat")).ok()?;
        let mut line = Vec::with_capacity(512);
        file.take(MAX_STAT_BYTES).read_to_end(&mut line).ok()?;
        // The name may hold spaces and parentheses, but nothing behind it does.
        let (open, close) = (memchr::memchr(b'(', &line)?, memchr::memrchr(b')', &line)?);
        let comm = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(&line[close + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        // Fields 3, 4, 20 and 22 of proc_pid_stat(5).
        let (state, ppid) = (fields.next()?, fields.next()?.parse().ok()?);
        let threads: u32 = fields.nth(15)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        let dead = matches!(state, "Z" | "X" | "x") && threads <= 1;
        (!dead).then(|| Entry { id: self.identity(pid, start_ticks), ppid, comm })
    }

    /// The processes of `snapshot` that are selected, by pid. Of those that end meanwhile, and of
    /// those whose user is not known where users count, nothing is selected.
    #[must_use]
    pub fn selected_processes(&self, snapshot: &Snapshot, scope: &Scope) -> Vec<ProcessId> {
        let selected = |entry: &&Entry| {
            let uid = match &scope.users {
                Users::Any => 0,
                users => match self.real_uid(entry.id.pid).filter(|uid| users.allow(*uid)) {
                    Some(uid) => uid,
                    None => return false,
                },
            };
            let cgroup = (!scope.cgroups.is_empty()).then(|| self.cgroup(entry.id.pid)).flatten();
            let directory = self.directory(entry.id.pid);
            let exe = std::fs::read_link(directory.join("exe")).ok();
            let exe = exe.as_deref().map(super::without_deleted_mark);
            let argv = std::fs::File::open(directory.join("cmdline")).and_then(read_argv);
            let argv = argv.map_or_else(|_| Vec::new(), |(argv, _)| argv);
            scope.selects(&Candidate {
                uid,
                exe: exe.as_deref(),
                argv: &argv,
                leader_comm: &entry.comm,
                cgroup: cgroup.as_deref(),
            })
        };
        if !scope.selects_programs() {
            return Vec::new();
        }
        snapshot.processes.values().filter(selected).map(|entry| entry.id).collect()
    }
}

impl Snapshot {
    /// The live processes, by pid.
    pub fn processes(&self) -> impl Iterator<Item = ProcessId> + '_ {
        self.processes.values().map(|entry| entry.id)
    }

    /// Whether this very process, not only its pid, was alive.
    #[must_use]
    pub fn contains(&self, id: &ProcessId) -> bool {
        self.processes.get(&id.pid).is_some_and(|entry| entry.id == *id)
    }

    /// How many live children each process has in this snapshot; those with none are left out.
    #[must_use]
    pub fn child_counts(&self) -> BTreeMap<u32, u32> {
        let mut counts = BTreeMap::new();
        for entry in self.processes.values() {
            *counts.entry(entry.ppid).or_insert(0) += 1;
        }
        counts
    }

    /// The processes below `roots`, parents before their children; the roots themselves are left
    /// out unless one is below another.
    #[must_use]
    pub fn descendants(&self, roots: &[u32]) -> Vec<ProcessId> {
        let mut children: BTreeMap<u32, Vec<ProcessId>> = BTreeMap::new();
        for entry in self.processes.values() {
            children.entry(entry.ppid).or_default().push(entry.id);
        }
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        let mut parents: Vec<u32> = roots.to_vec();
        // A pid that was reused during the scan may seem to be its own ancestor: visit each once.
        while !parents.is_empty() {
            let below: Vec<ProcessId> =
                parents.iter().filter_map(|pid| children.remove(pid)).flatten().collect();
            let new = below.into_iter().filter(|id| seen.insert(id.pid));
            let from = found.len();
            found.extend(new);
            parents = found[from..].iter().map(|id| id.pid).collect();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ANCHOR, FakeProcess};
    use super::*;
    use crate::capture::cgroup::Cgroup;
    use crate::capture::matching::Matcher;

    fn pids(ids: impl IntoIterator<Item = ProcessId>) -> Vec<u32> {
        ids.into_iter().map(|id| id.pid).collect()
    }

    #[test]
    fn descendants_are_found_over_generations_and_cycles() {
        let root = tempfile::tempdir().unwrap();
        for (pid, ppid) in [(1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (30, 31), (31, 30)] {
            FakeProcess::new(pid, ppid, "a (b) c").write(root.path());
        }
        std::fs::create_dir(root.path().join("self")).unwrap();
        std::fs::create_dir(root.path().join("99")).unwrap();
        let snapshot = ProcFs::at(root.path(), ANCHOR).snapshot();
        assert_eq!(pids(snapshot.processes()), [1, 10, 11, 12, 20, 30, 31]);
        assert_eq!(pids(snapshot.descendants(&[10])), [11, 12]);
        assert_eq!(pids(snapshot.descendants(&[1])), [10, 20, 11, 12]);
        assert_eq!(pids(snapshot.descendants(&[30])), [31, 30]);
        assert_eq!(snapshot.descendants(&[12, 777]), []);
        assert_eq!(snapshot.child_counts()[&1], 2);
    }

    #[test]
    fn zombies_are_nobodys_live_children() {
        let root = tempfile::tempdir().unwrap();
        FakeProcess::new(1, 0, "init").write(root.path());
        FakeProcess { state: 'Z', threads: 1, ..FakeProcess::new(2, 1, "gone") }.write(root.path());
        // Its leader ended, other threads go on.
        FakeProcess { state: 'Z', threads: 4, ..FakeProcess::new(3, 1, "on") }.write(root.path());
        let snapshot = ProcFs::at(root.path(), ANCHOR).snapshot();
        assert_eq!(pids(snapshot.processes()), [1, 3]);
        assert_eq!(snapshot.child_counts()[&1], 1);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let root = tempfile::tempdir().unwrap();
        FakeProcess::new(5, 1, "a").write(root.path());
        let proc = ProcFs::at(root.path(), ANCHOR);
        let before = proc.snapshot().processes().next().unwrap();
        FakeProcess { start_ticks: 999, ..FakeProcess::new(5, 1, "a") }.write(root.path());
        assert!(!proc.snapshot().contains(&before));
    }

    #[test]
    fn processes_match_by_program_script_and_leader_name() {
        let root = tempfile::tempdir().unwrap();
        let fake = |pid, comm| FakeProcess::new(pid, 1, comm);
        fake(2, "x").with_program(root.path(), "/opt/claude (deleted)", b"x\0");
        fake(3, "node").with_program(root.path(), "/bin/node", b"node\0/usr/bin/claude\0");
        fake(4, "claude").write(root.path());
        fake(5, "vi").with_program(root.path(), "/bin/vi", b"vi\0claude\0");
        let proc = ProcFs::at(root.path(), ANCHOR);
        let selected = |scope: &Scope| pids(proc.selected_processes(&proc.snapshot(), scope));
        let named = |name| Scope { names: Matcher::new([name]), ..Scope::default() };
        assert_eq!(selected(&named("claude")), [2, 3, 4]);
        assert_eq!(selected(&named("")), [] as [u32; 0]);

        for (pid, uid, cgroup) in [(2, 7, "/a/b"), (3, 8, "/a"), (5, 7, "/")] {
            let directory = proc.directory(pid);
            std::fs::write(directory.join("status"), format!("Name:\tx\nUid:\t{uid}\t0\t0\t0\n"))
                .unwrap();
            std::fs::write(directory.join("cgroup"), format!("1:cpu:/x\n0::{cgroup}\n")).unwrap();
        }
        let cgroups = vec![Cgroup { id: 1, path: "/a".into() }];
        let in_cgroup = Scope { cgroups, ..Scope::default() };
        assert_eq!(selected(&in_cgroup), [2, 3]);
        assert_eq!(selected(&Scope { users: Users::Only(vec![7]), ..in_cgroup.clone() }), [2]);
        let of_user = Scope { users: Users::All(vec![7]), ..Scope::default() };
        assert_eq!(selected(&of_user), [2, 5], "4 has no user that is known");
    }

    #[test]
    fn this_process_is_in_the_real_proc() {
        let snapshot = ProcFs::new(ANCHOR).snapshot();
        assert!(snapshot.processes().any(|id| id.pid == std::process::id()));
        let parent = std::os::unix::process::parent_id();
        assert!(pids(snapshot.descendants(&[parent])).contains(&std::process::id()));
    }
}
