//! A live host to events.
//!
//! Records come from the kernel programs in `bpf/` as bytes ([`abi`]), are decoded without
//! trusting them ([`decode`]), put into time order ([`order`]) and handed out as
//! [`crate::event::Event`]s. What to observe is found in `/proc`, the cgroup hierarchy and in
//! binaries: `scope`, [`matching`], `cgroup`, `procfs`, `scan` and [`tls_library`]. Only [`bpf`] knows libbpf; decoding, matching and the
//! search for TLS functions build and are tested without it.

pub mod abi;
#[cfg(feature = "record")]
pub mod bpf;
#[cfg(feature = "record")]
pub mod capability;
#[cfg(feature = "record")]
pub mod cgroup;
#[cfg(feature = "record")]
pub mod clock;
pub mod decode;
#[cfg(feature = "record")]
pub mod known;
pub mod matching;
pub mod order;
#[cfg(feature = "record")]
pub mod package;
#[cfg(feature = "record")]
pub mod procfs;
#[cfg(feature = "record")]
pub mod scan;
#[cfg(feature = "record")]
pub mod scope;
pub mod tls_library;
