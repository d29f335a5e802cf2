//! HTTP/1.0 and 1.1 connections (RFC 9112).
//!
//! Owns heads, body framing, the search for the next message after damage, and which response
//! answers which request. Content codings belong to [`super::body`]. Fed by [`super::connection`].

mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod reader;
mod session;

#[cfg(test)]
pub(crate) use self::session::Held;
pub(crate) use self::session::{
    MAX_OPEN_EXCHANGES, MAX_WAITING_BYTES, MAX_WAITING_PIECES, Session,
};
