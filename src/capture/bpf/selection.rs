//! From records to the events of selected processes: what [`super::provisional`] decides, done to the
//! decoder's counts and to the kernel's maps.

use libbpf_rs::MapCore;

use super::provisional::Verdict;
use super::{Capture, connection_key, files};
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
}
