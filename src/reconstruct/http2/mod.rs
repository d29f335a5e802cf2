//! HTTP/2 connections (RFC 9113).
//!
//! ```text
//!             ┌ frame::Header ─┐
//!  pieces ─▶ reader          hpack ─▶ Parts ─▶ session ─▶ exchange::Builder, one per stream
//! ```
//!
//! Owns frames, header compression and streams. What a stream carries goes the way of any exchange.
//! Fed by [`super::connection`].

pub(crate) mod frame;
mod head;
pub(crate) mod hpack;
pub(crate) mod reader;
mod session;

pub(crate) use self::session::Session;
