//! The trace file: its schema, writer and reader.
//!
//! The only code that the recording and the analysing half of the program share, and the only
//! place that knows the file format (`docs/FORMAT.md`). Events in, one Parquet file out, and back:
//!
//! ```text
//! Event ─▶ Burst ─▶ Writer ─▶ run.parquet ─▶ Reader ─▶ Event
//!         joins     chunk, encode            decode, merge by time
//! ```
//!
//! It knows nothing of how events were captured or what their payload means.

mod arena;
mod assembler;
mod assembly;
mod burst;
mod carry;
mod cells;
mod chunk;
mod clock_offset;
mod clocks;
mod cut;
mod decode;
mod derived;
mod draft;
mod dropped;
mod encode;
mod error;
mod events;
mod footer;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod group;
mod levels;
mod log;
mod merge;
mod metadata;
mod order;
mod pages;
mod reader;
#[cfg(unix)]
mod recording;
mod recover;
mod scan;
pub mod schema;
mod seq_set;
mod source;
mod thrift;
mod totals;
mod writer;

pub use assembler::Assembler;
pub use assembly::{Snapshot, assemble, part_entries};
pub use burst::{Burst, MAX_BURST_AGE_NS};
pub use carry::Carry;
pub use clock_offset::{ClockOffset, Reason as ClockOffsetReason, clock_offsets};
pub use clocks::ClockFacts;
pub use cut::cut;
pub use derived::Origin;
pub use error::Error;
pub use events::Events;
pub use log::{log_path, remove_logs};
pub use merge::{Input, Merged, merge};
pub use metadata::{
    Binary, ClassAccount, ClosingMetadata, Entry, Host, KEY_PREFIX, Keys, Metadata, Redacted,
};
pub use reader::{Batches, Reader, Skipped};
#[cfg(unix)]
pub use recording::{CreateFile, Finished, Recording, Sync};
pub use recover::{Completeness, Recovery, Repaired, repair};
pub use scan::Scan;
pub use totals::{KindTotal, MalformedTotals, ProbeSummary, Tally, Totals};
pub use writer::{Limits, Summary, Writer};

/// Most payload that one row may carry. Joined calls end at 1 MiB and a single call of a TLS
/// library moves less than this; a row that claims more is damage or an attack.
pub const MAX_EVENT_BYTES: usize = 64 * 1024 * 1024;

/// Most values that the lists of one column and row group may hold together: a list is decoded at
/// once, and a few bytes of a file can claim any number of values. The writer closes a group at
/// half of it; 2^21 chunks are some 8 GiB of re-sent payload.
const MAX_GROUP_LIST_VALUES: usize = 1 << 22;
