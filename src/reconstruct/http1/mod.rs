//! HTTP/1.0 and 1.1 messages of one direction (RFC 9112).
//!
//! Owns heads, body framing and the search for the next message after damage. Pairing requests
//! with responses belongs to [`super::connection`], content codings to [`super::body`]. Fed by
//! [`super::stream`].

mod chunked;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod reader;
