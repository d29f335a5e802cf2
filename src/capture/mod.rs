//! A live host to events.
//!
//! Records come from the kernel programs in `bpf/` as bytes ([`abi`]), are decoded without
//! trusting them ([`decode`]), put into time order ([`order`]) and handed out as
//! [`crate::event::Event`]s. Only [`bpf`] knows libbpf; everything else builds and is tested
//! without it.

pub mod abi;
#[cfg(feature = "record")]
pub mod bpf;
pub mod decode;
pub mod order;
