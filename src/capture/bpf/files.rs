//! Takes what the kernel side has summed up of files out of its map.

use libbpf_rs::{MapCore, MapFlags};

use super::Capture;
use crate::capture::abi::{self, FileUse, FileUseKey, Wire};
use crate::capture::clock;
use crate::event::Event;

/// A file that was not used for this long leaves the kernel's map. It is told of again when it is
/// used again.
const IDLE_NS: u64 = 30_000_000_000;
/// Entries that are asked for at a time.
const BATCH: u32 = 4096;

/// Which files are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flush {
    /// Those of processes that have ended; they leave the map.
    Ended,
    /// All; idle ones leave the map.
    Everything,
}

impl Capture {
    /// Reports what was done to files since the last report. To be called every few seconds, so
    /// that little is missing should the recorder end unexpectedly; files of processes that end are
    /// reported by [`Capture::drain`]. Returns how many events that were.
    pub fn report_files(&mut self, sink: &mut dyn FnMut(Event)) -> usize {
        self.flush_files(Flush::Everything, sink)
    }

    pub(super) fn flush_files(&mut self, which: Flush, sink: &mut dyn FnMut(Event)) -> usize {
        let mut count = 0;
        for key in self.decoder.files().take_ended() {
            let bytes = key_bytes(key);
            let map = &self.skel.maps.file_uses;
            let value = map.lookup(&bytes, MapFlags::ANY).ok().flatten();
            let _ = map.delete(&bytes);
            count += self.report_file(key, value.as_deref(), sink);
            self.decoder.files().forget(key);
        }
        if which == Flush::Everything {
            count += self.report_all_files(sink);
            // No close(2) tells of the descriptors of processes that have ended. A key begins with
            // the pid.
            self.remove_untracked(&self.skel.maps.descriptors, 0);
        }
        self.made[abi::CLASS_FILE_ACCESS] += count as u64;
        count
    }

    fn report_all_files(&mut self, sink: &mut dyn FnMut(Event)) -> usize {
        let mut count = 0;
        let now_ns = clock::boot_now().0;
        let entries: Vec<_> = self
            .skel
            .maps
            .file_uses
            .lookup_batch(BATCH, MapFlags::ANY, MapFlags::ANY)
            .map(Iterator::collect)
            .unwrap_or_default();
        for (key, value) in entries {
            let Some(file) = FileUseKey::take(&mut key.as_slice()) else { continue };
            if !self.provisional.is_idle() && !self.decoder.files().knows(file) {
                // Of a process that was not selected, as far as anybody can tell.
                let _ = self.skel.maps.file_uses.delete(&key);
                continue;
            }
            count += self.report_file(file, Some(&value), sink);
            let idle = FileUse::take(&mut value.as_slice())
                .is_some_and(|used| used.last_boot_ns.saturating_add(IDLE_NS) < now_ns);
            // What nobody knows cannot be told from what is counted again next time.
            if idle || !self.decoder.files().knows(file) {
                let _ = self.skel.maps.file_uses.delete(&key);
                self.decoder.files().forget(file);
            }
        }
        count
    }

    fn report_file(
        &mut self,
        key: FileUseKey,
        value: Option<&[u8]>,
        sink: &mut dyn FnMut(Event),
    ) -> usize {
        let used = value.and_then(|mut value| FileUse::take(&mut value));
        let Some(used) = used else { return 0 };
        let Some(event) = self.decoder.files().access(key, &used) else { return 0 };
        sink(event);
        1
    }
}

/// Layout of [`FileUseKey`].
pub(super) fn key_bytes(key: FileUseKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FileUseKey::BYTES);
    bytes.extend_from_slice(&key.file.to_ne_bytes());
    bytes.extend_from_slice(&key.device.to_ne_bytes());
    bytes.extend_from_slice(&key.pid.to_ne_bytes());
    bytes.extend_from_slice(&key.inode_generation.to_ne_bytes());
    bytes
}
