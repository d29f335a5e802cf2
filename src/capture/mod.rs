//! A live host to events.

pub mod tls_library;
