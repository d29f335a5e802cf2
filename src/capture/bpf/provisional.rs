//! Processes that are observed until user space has looked at their arguments.
//!
//! A regular expression cannot run in the kernel. Where a recording has some, the kernel side
//! observes every program from its exec on, provisionally, together with its children; here each
//! exec event is decided on as it is read. What is not selected is dropped, and its process taken
//! out of the kernel's map; what is selected is complete from the first instruction, with all that
//! it did until then. The price is a record per exec of the host (of the user, with `--uid`).
//!
//! Knows no map: it says what is to be done with one.

use std::collections::{HashMap, VecDeque};

use crate::capture::abi::{EventHeader, HEADER_PROVISIONAL};
use crate::capture::scope::{CommandLines, Users};
use crate::event::{Body, Event, ProcessId};
use crate::time::WallNanos;

/// Most processes that were chosen and are not known to have ended; as many as the kernel tracks.
const MAX_CHOSEN: usize = 16_384;

/// What is to become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It belongs to the recording.
    Keep,
    /// So does its process, which the kernel is to be told of: a match itself or not.
    Adopt { matched: bool },
    /// It does not.
    Drop,
    /// Nor does its process, which the kernel need not observe any longer.
    Release,
}

/// Decides.
#[derive(Debug, Default)]
pub(super) struct Provisional {
    command_lines: CommandLines,
    users: Users,
    /// Processes that were selected here, by pid, with their start: provisional records of theirs
    /// may still be on their way.
    chosen: HashMap<u32, WallNanos>,
    /// The latest processes that were not: records of what they did until they were released may
    /// be on their way for some milliseconds. By pid, with their start.
    rejected: HashMap<u32, WallNanos>,
    /// Pids of those, in the order in which they were rejected.
    rejections: VecDeque<u32>,
}

impl Provisional {
    pub(super) fn new(command_lines: CommandLines, users: Users) -> Self {
        Self { command_lines, users, ..Self::default() }
    }

    /// Whether there is nothing to decide, ever.
    pub(super) fn is_idle(&self) -> bool {
        self.command_lines.is_empty()
    }

    /// Whether what a process did, other than to start or end, belongs to the recording.
    pub(super) fn admits(&self, id: ProcessId) -> bool {
        self.rejected.get(&id.pid) != Some(&id.start_ts)
    }

    /// What is to become of an event with this header; events come in the order of time. Sets
    /// [`crate::event::Image::matched`] of what matches.
    pub(super) fn judge(&mut self, header: &EventHeader, event: &mut Event) -> Verdict {
        let Some(id) = event.process else { return Verdict::Keep };
        let provisional = header.flags & HEADER_PROVISIONAL != 0;
        let chosen = self.chosen.get(&id.pid) == Some(&id.start_ts);
        match &mut event.body {
            Body::ProcessExec(image) => {
                // What it was before says nothing of this program.
                self.rejected.remove(&id.pid);
                if image.matched {
                    return Verdict::Keep;
                }
                if self.command_lines.matches(&image.argv) && self.users.allow(image.uid) {
                    image.matched = true;
                    self.choose(id.pid, id.start_ts, provisional);
                    return Verdict::Adopt { matched: true };
                }
                match (provisional, chosen) {
                    (false, _) => Verdict::Keep,
                    (true, true) => Verdict::Adopt { matched: false },
                    (true, false) => self.reject(id),
                }
            }
            Body::ProcessFork(fork) if provisional => {
                // By pid alone: the parent was alive a moment ago.
                if self.chosen.contains_key(&fork.ppid) {
                    self.choose(id.pid, id.start_ts, true);
                    Verdict::Adopt { matched: false }
                } else {
                    self.reject(id)
                }
            }
            Body::ProcessExit(_) => {
                if chosen {
                    self.chosen.remove(&id.pid);
                }
                if chosen || !provisional { Verdict::Keep } else { Verdict::Drop }
            }
            _ if self.admits(id) => Verdict::Keep,
            _ => Verdict::Drop,
        }
    }

    fn reject(&mut self, id: ProcessId) -> Verdict {
        if self.rejections.len() >= MAX_CHOSEN
            && let Some(oldest) = self.rejections.pop_front()
        {
            self.rejected.remove(&oldest);
        }
        self.rejected.insert(id.pid, id.start_ts);
        self.rejections.push_back(id.pid);
        Verdict::Release
    }

    fn choose(&mut self, pid: u32, start_ts: WallNanos, provisional: bool) {
        if !provisional {
            return;
        }
        if self.chosen.len() >= MAX_CHOSEN {
            // Exits that were lost. Those who live are adopted by now: their records are final.
            self.chosen.clear();
        }
        self.chosen.insert(pid, start_ts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Fork, Image, Sample};

    fn header(provisional: bool) -> EventHeader {
        EventHeader {
            kind: 0,
            pid: 0,
            tid: 0,
            flags: if provisional { HEADER_PROVISIONAL } else { 0 },
            boot_ns: 0,
            process_start_boot_ns: 0,
            comm: [0; 16],
        }
    }

    fn event(pid: u32, body: Body) -> Event {
        let process = Some(ProcessId { pid, start_ts: WallNanos(i64::from(pid)) });
        Event { ts: WallNanos(0), process, tid: None, comm: None, body }
    }

    fn exec(pid: u32, argument: &str, uid: u32) -> Event {
        let argv = vec!["node".to_owned(), argument.to_owned()];
        event(pid, Body::ProcessExec(Image { argv, uid, ..Image::default() }))
    }

    fn fork(pid: u32, ppid: u32) -> Event {
        event(pid, Body::ProcessFork(Fork { ppid, uid: 0 }))
    }

    fn any(pid: u32) -> Event {
        event(pid, Body::Sample(Sample::default()))
    }

    fn provisional() -> Provisional {
        Provisional::new(CommandLines::new(&["^node agent"]).unwrap(), Users::Only(vec![5]))
    }

    #[test]
    fn what_matches_is_kept_with_all_that_it_did_before_it_was_decided() {
        let mut provisional = provisional();
        let mut judge = |mut event: Event| (provisional.judge(&header(true), &mut event), event);
        let (verdict, kept) = judge(exec(1, "agent.js", 5));
        assert_eq!(verdict, Verdict::Adopt { matched: true });
        assert!(matches!(kept.body, Body::ProcessExec(image) if image.matched));
        assert_eq!(judge(any(1)).0, Verdict::Keep);
        assert_eq!(judge(fork(2, 1)).0, Verdict::Adopt { matched: false });
        assert_eq!(judge(exec(2, "child.js", 5)).0, Verdict::Adopt { matched: false });
        assert_eq!(judge(event(2, Body::ProcessExit(Exit::default()))).0, Verdict::Keep);
    }

    #[test]
    fn what_does_not_match_leaves_nothing_and_is_released_with_its_children() {
        let mut provisional = provisional();
        let mut judge = |mut event: Event| provisional.judge(&header(true), &mut event);
        assert_eq!(judge(exec(1, "server.js", 5)), Verdict::Release);
        assert_eq!(judge(fork(2, 1)), Verdict::Release);
        assert_eq!(judge(any(2)), Verdict::Drop);
        assert_eq!(judge(event(1, Body::ProcessExit(Exit::default()))), Verdict::Drop);
        assert_eq!(judge(exec(3, "agent.js", 6)), Verdict::Release, "another user's");
        assert_eq!(judge(any(3)), Verdict::Drop);
        assert_eq!(judge(exec(3, "agent.js", 5)), Verdict::Adopt { matched: true });
        assert_eq!(judge(any(3)), Verdict::Keep, "another program");
    }

    #[test]
    fn what_the_kernel_has_selected_stays() {
        let mut provisional = provisional();
        let mut judge = |mut event: Event| provisional.judge(&header(false), &mut event);
        assert_eq!(judge(exec(1, "server.js", 5)), Verdict::Keep);
        assert_eq!(judge(fork(2, 1)), Verdict::Keep);
        assert_eq!(judge(exec(2, "agent.js", 5)), Verdict::Adopt { matched: true });
        assert_eq!(judge(any(7)), Verdict::Keep);
        assert!(provisional.chosen.is_empty(), "its records are final");
    }

    #[test]
    fn memory_is_bounded_when_exits_are_lost() {
        let mut provisional = provisional();
        for pid in 0..3 * MAX_CHOSEN as u32 {
            let mut event = exec(pid, "agent.js", 5 + pid % 2);
            provisional.judge(&header(true), &mut event);
        }
        assert!(provisional.chosen.len() <= MAX_CHOSEN);
        assert!(provisional.rejected.len() <= MAX_CHOSEN);
    }
}
