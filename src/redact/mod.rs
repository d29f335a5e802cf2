//! Takes credentials out of events before anything of them is written down.
//!
//! A recording holds what an agent said to the world, and in every request head the key it said it
//! with. Nobody needs the key to understand the recording, and a file is copied easily. So a
//! [`Redactor`] stands between capture and the first buffer that can reach a disk: events in, the
//! same events out, in the same order per stream, with the same lengths. Credentials in the heads of
//! HTTP/1.x messages, in program arguments and in what programs tell each other through pipes are
//! replaced by as many bytes that say `redacted` and a keyed hash (`mask`); equal secrets stay equal,
//! and the key is never written.
//!
//! What it does not touch: bodies, byte for byte; heads of HTTP/2 (compressed), which it counts
//! ([`Redactor::uncovered`]). Reads no clock and no file: only event times decide.
//!
//! | file | job |
//! | --- | --- |
//! | `streams` | the events of all connections and pipes, and those that wait |
//! | `http1` | where heads are in a stream of bytes and gaps |
//! | `message`, `http2` | where a message ends; what is no HTTP/1 |
//! | `head`, `url`, `shapes`, `names` | which parts of a line are secret |
//! | `argv` | the same for program arguments |
//! | `text` | the same for anything that goes through a pipe |
//! | `known`, `patterns` | secrets seen before; many words in one pass |
//! | `mask` | what stands in place of a secret |

use std::collections::BTreeMap;

use crate::event::{Body, Event, Source};
use crate::time::WallNanos;

mod argv;
pub mod fuzz;
mod head;
mod http1;
mod http2;
mod known;
mod mask;
mod message;
mod names;
mod patterns;
mod shapes;
mod streams;
#[cfg(test)]
mod tests;
mod text;
mod url;

pub use mask::{Count, Rule};
pub use streams::Uncovered;

/// Version of the set of rules, stored with every recording. Higher means that more is found.
pub const RULES_VERSION: u32 = 2;

/// What is searched for credentials, as the metadata has it.
pub const COVERED: [&str; 3] = ["http1_heads", "program_arguments", "standard_streams"];

/// No event waits longer than this after its own time for the rest of a line.
pub const MAX_HOLD_NS: i64 = 250_000_000;

/// Replaces credentials in events; see the module.
pub struct Redactor {
    mask: mask::Mask,
    streams: streams::Streams,
}

impl Redactor {
    /// Replaces by hashes under `key`, which must be random, new for every recording, and written
    /// nowhere.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { mask: mask::Mask::new(&key), streams: streams::Streams::default() }
    }

    /// Takes the next event in the order of capture, and hands on all that are decided.
    pub fn push(&mut self, mut event: Event, out: &mut impl FnMut(Event)) {
        self.flush_older_than(WallNanos(event.ts.0.saturating_sub(MAX_HOLD_NS)), out);
        match &mut event.body {
            Body::Data(data) if data.source.is_plaintext() || data.source == Source::Stdio => {
                return self.streams.push(event, &mut self.mask, out);
            }
            Body::TlsClose { conn_id } | Body::ChannelClose { conn_id, .. } => {
                self.streams.end(*conn_id, &mut self.mask, out)
            }
            Body::ProcessExit(_) => self.streams.end_process(event.process, &mut self.mask, out),
            Body::ProcessSeen(image) | Body::ProcessExec(image) => {
                argv::redact(&mut image.argv, &mut self.mask);
            }
            _ => {}
        }
        out(event);
    }

    /// Replaces credentials in a command line.
    pub fn command_line(&mut self, arguments: &mut [String]) {
        argv::redact(arguments, &mut self.mask);
    }

    /// Lets go of every event older than `ts`. What is cut off from the rest of its line by this is
    /// replaced without a hash, and so is that rest.
    pub fn flush_older_than(&mut self, ts: WallNanos, out: &mut impl FnMut(Event)) {
        self.streams.flush_older_than(ts, &mut self.mask, out);
    }

    /// Lets go of every event.
    pub fn flush(&mut self, out: &mut impl FnMut(Event)) {
        self.streams.flush(&mut self.mask, out);
    }

    /// What was replaced so far, by rule.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<Rule, Count> {
        self.mask.counts()
    }

    /// Connections so far whose heads could not be searched.
    #[must_use]
    pub fn uncovered(&self) -> Uncovered {
        self.streams.uncovered()
    }
}
