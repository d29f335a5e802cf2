//! The processes under observation that are alive, as the events tell.

use std::collections::HashMap;

use crate::event::{Body, Event, ProcessId};

/// A live process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveProcess {
    /// Its identity.
    pub id: ProcessId,
    /// Whether it matched the filters itself.
    pub matched: bool,
    /// The last name it was seen with.
    pub comm: String,
    /// Whether `/proc` did not show it when last looked at.
    missing: bool,
}

/// All of them, by pid.
#[derive(Debug, Default)]
pub struct Live(HashMap<u32, LiveProcess>);

impl Live {
    /// Learns from an event.
    pub fn observe(&mut self, event: &Event) {
        let Some(id) = event.process else { return };
        let matched = match &event.body {
            Body::ProcessSeen(image) | Body::ProcessExec(image) => image.matched,
            Body::ProcessFork(_) => false,
            Body::ProcessExit(_) => {
                self.0.remove(&id.pid);
                return;
            }
            _ => return,
        };
        let comm = event.comm.clone().unwrap_or_default();
        let known = self.0.entry(id.pid).or_insert_with(|| LiveProcess {
            id,
            matched,
            comm: comm.clone(),
            missing: false,
        });
        if known.id != id {
            // Its exit was lost, and the pid is somebody else's now.
            *known = LiveProcess { id, matched, comm, missing: false };
        } else {
            known.matched |= matched;
            if !comm.is_empty() {
                known.comm = comm;
            }
        }
    }

    /// Notes that `/proc` does not show a process. The second time it is forgotten, whatever became
    /// of its exit event; at first that event, and those of children it made just before, may still
    /// be on their way.
    pub fn missing(&mut self, pid: u32) {
        if self.0.get_mut(&pid).is_some_and(|process| std::mem::replace(&mut process.missing, true))
        {
            self.0.remove(&pid);
        }
    }

    /// Their pids, ascending.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.0.keys().copied().collect();
        pids.sort_unstable();
        pids
    }

    /// Whether none is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this process is one of them.
    #[must_use]
    pub fn get(&self, pid: u32) -> Option<&LiveProcess> {
        self.0.get(&pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Fork, Image};
    use crate::time::WallNanos;

    fn event(pid: u32, start: i64, comm: &str, body: Body) -> Event {
        let process = Some(ProcessId { pid, start_ts: WallNanos(start) });
        Event { ts: WallNanos(0), process, tid: None, comm: Some(comm.into()), body }
    }

    #[test]
    fn a_tree_lives_until_its_last_process_exits() {
        let mut live = Live::default();
        let exec = Image { matched: true, ..Image::default() };
        live.observe(&event(10, 1, "agent", Body::ProcessExec(exec)));
        live.observe(&event(11, 2, "agent", Body::ProcessFork(Fork { ppid: 10, uid: 0 })));
        live.observe(&event(11, 2, "sh", Body::ProcessExec(Image::default())));
        assert_eq!(live.pids(), [10, 11]);
        assert!(live.get(10).unwrap().matched);
        assert_eq!(live.get(11).map(|p| (p.matched, &p.comm[..])), Some((false, "sh")));

        live.observe(&event(10, 1, "agent", Body::ProcessExit(Exit::default())));
        live.missing(11);
        assert!(!live.is_empty(), "its exit may still be on its way");
        live.missing(11);
        assert!(live.is_empty());
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut live = Live::default();
        let exec = Image { matched: true, ..Image::default() };
        live.observe(&event(10, 1, "agent", Body::ProcessExec(exec)));
        live.observe(&event(10, 9, "other", Body::ProcessFork(Fork { ppid: 1, uid: 0 })));
        assert!(!live.get(10).unwrap().matched);
    }
}
