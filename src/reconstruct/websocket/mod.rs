//! WebSocket connections (RFC 6455), compressed (RFC 7692) or not.
//!
//! ```text
//!  pieces ─▶ reader (frame, inflate) ─▶ Parts ─▶ session ─▶ exchange::Builder, one per request message
//! ```
//!
//! Begins where an HTTP/1 exchange ended with 101. What a message means to a model API, and where an
//! answer ends, is known by [`super::llm::websocket`]. Fed by [`super::connection`].

mod frame;
mod inflate;
mod reader;
mod session;

pub(crate) use self::session::Session;

#[cfg(any(test, fuzzing))]
pub(crate) use self::reader::{Part, Reader};

/// A reader of one direction; `takeover` where compression was agreed on.
#[cfg(any(test, fuzzing))]
pub(crate) fn reader(
    side: super::protocol::Side,
    takeover: Option<bool>,
    max_bytes: u64,
) -> Reader {
    Reader::new(side, takeover.map(|takeover| inflate::Inflater::new(takeover, max_bytes)))
}
