//! A live host to events.

pub mod matching;
#[cfg(feature = "record")]
pub mod procfs;
#[cfg(feature = "record")]
pub mod scan;
pub mod tls_library;
