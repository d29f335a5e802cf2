//! From records to the events of selected processes: what [`super::provisional`] decides, done to the
//! decoder's counts and to the kernel's maps.

use std::mem::offset_of;

use libbpf_rs::{MapCore, MapFlags};

use super::provisional::Verdict;
use super::{Capture, connection_key, files, process_start};
use crate::capture::abi::{self, EventHeader, Wire};
use crate::capture::decode::Record;
use crate::event::{Body, Event};

impl Capture {
    /// One record to what it says, unless its process is not to be observed.
    pub(super) fn decode(&mut self, record: Record) -> Option<Event> {
        let (header, class) = (*record.header(), record.class());
        let is_idle = self.provisional.is_idle();
        let decides = matches!(
            record,
            Record::Fork(_) | Record::Exec { .. } | Record::Argv { .. } | Record::Exit(_)
        );
        if !is_idle && !decides && !self.provisional.admits(self.decoder.process_id(&header)) {
            self.pass_over(&record);
            return None;
        }
        let cgroup_id = match &record {
            Record::Exec { event, .. } => event.cgroup_id,
            _ => 0,
        };
        let before = self.decoder.decoded()[class];
        let mut event = self.decoder.push(record)?;
        if let Body::ProcessExec(image) = &mut event.body
            && cgroup_id != 0
        {
            image.cgroup = self.hierarchy.as_mut().and_then(|all| all.path_of(cgroup_id));
        }
        if is_idle {
            return Some(event);
        }
        match self.provisional.judge(&header, &mut event) {
            Verdict::Keep => return Some(event),
            Verdict::Adopt { matched } => {
                self.adopt(&header, &event, matched);
                return Some(event);
            }
            Verdict::Release => self.release(&header),
            Verdict::Drop => {}
        }
        self.decoder.unselect(class, before);
        None
    }

    /// Leaves out a record about what a process did that is not to be observed, and takes what it
    /// is about out of the kernel's maps, which nobody else would.
    fn pass_over(&mut self, record: &Record) {
        let pid = record.header().pid;
        let maps = &self.skel.maps;
        let connection = match record {
            Record::Data { event, .. } => Some(event.handle),
            Record::Channel(event) => Some(event.handle),
            Record::Path { event, .. } => {
                let _ = maps.file_uses.delete(&files::key_bytes(event.key));
                None
            }
            _ => None,
        };
        if let Some(handle) = connection {
            let _ = maps.connections.delete(&connection_key(handle, pid));
        }
        self.decoder.pass_over(record);
    }

    /// Makes the observation of a process final. What the kernel's map says of a later program of it
    /// stays: a record about that is on its way.
    fn adopt(&mut self, header: &EventHeader, event: &Event, matched: bool) {
        let tracked = &self.skel.maps.tracked;
        let key = header.pid.to_ne_bytes();
        match tracked.lookup(&key, MapFlags::ANY) {
            Ok(Some(mut value)) if image_boot_ns(&value) <= header.boot_ns => {
                let flags = if matched { abi::TRACKED_MATCHED } else { 0 };
                let at = offset_of!(abi::TrackedProcess, flags);
                value[at..at + 4].copy_from_slice(&flags.to_ne_bytes());
                let _ = tracked.update(&key, &value, MapFlags::EXIST);
            }
            Ok(Some(_)) | Err(_) => {}
            // Ended, or released by the decision about an earlier program in the moment in which
            // this one began.
            Ok(None) => {
                let start = process_start(header.pid).map(|start| self.anchor.process_start(start));
                if start.is_some() && start == event.process.map(|id| id.start_ts) {
                    let _ = self.track(header.pid, matched);
                }
            }
        }
    }

    /// Ends the observation of a process, unless it has begun another program since.
    fn release(&self, header: &EventHeader) {
        let tracked = &self.skel.maps.tracked;
        let key = header.pid.to_ne_bytes();
        let known = tracked.lookup(&key, MapFlags::ANY);
        if known.is_ok_and(|value| value.is_some_and(|v| image_boot_ns(&v) <= header.boot_ns)) {
            let _ = tracked.delete(&key);
        }
    }
}

/// When the program image began, of a value of the tracked map.
fn image_boot_ns(value: &[u8]) -> u64 {
    let mut at = &value[offset_of!(abi::TrackedProcess, image_boot_ns)..];
    u64::take(&mut at).unwrap_or(u64::MAX)
}
