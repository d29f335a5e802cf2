//! Record what an AI coding agent does, and answer questions about the recording.
//!
//! Two one-way flows meet only in the trace file:
//!
//! ```text
//!  kernel              recorder (root)           file              anyone, no root, any OS
//!  bpf/*.bpf.c ─ring─▶ capture ─Event─▶ record ─▶ run.parquet ─▶ trace ─Event─▶ reconstruct ─Finding─▶ tables ─▶ query ─▶ report
//!  /proc ────────────▶ capture                    (trace writes and reads)
//! ```
//!
//! Who may know what, held by `tests/tidy.rs` (`docs/ARCHITECTURE.md` has the whole table):
//!
//! - [`capture`] never knows Parquet or HTTP; only `capture/bpf.rs` names libbpf.
//! - [`reconstruct`] is sans-IO: bytes and gaps in, findings out. No file, clock, Arrow or async.
//! - [`redact`] is sans-IO too: events in, the same events without credentials out.
//! - [`record`] and [`tables`] join the two halves to [`trace`], the file format.
//! - `query` is the only place that knows DataFusion.

pub mod capture;
pub mod cli;
pub mod event;
pub mod price;
pub mod reconstruct;
#[cfg(feature = "record")]
pub mod record;
pub mod redact;
pub mod time;
pub mod trace;

#[cfg(feature = "analyze")]
mod human;
#[cfg(feature = "analyze")]
pub mod query;
#[cfg(feature = "analyze")]
pub mod report;
pub mod tables;
