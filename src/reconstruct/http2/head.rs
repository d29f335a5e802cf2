//! Heads of HTTP/2 messages (RFC 9113 section 8.3): pseudo-header fields in place of a first line.

use crate::reconstruct::exchange::Builder;
use crate::reconstruct::finding::Header;
use crate::reconstruct::http1::head::{RequestHead, ResponseHead};
use crate::time::WallNanos;

/// The `http_version` of these messages.
const VERSION: &str = "2";

/// Gives an exchange its request head, as far as it is known.
pub(super) fn request(fields: Vec<Header>, ts: WallNanos, exchange: &mut Builder) {
    let (pseudo, headers) = split(fields);
    let find = |name| value(&pseudo, name).map(str::to_owned);
    let (authority, path) = (find(":authority"), find(":path"));
    match find(":method") {
        Some(method) => {
            let target = path.clone().or_else(|| authority.clone()).unwrap_or_default();
            let head = RequestHead { method, target, version: VERSION, headers };
            exchange.request_head_for(ts, authority, path, head);
        }
        None => exchange.request_fields(ts, authority, path, headers),
    }
}

/// The status among the fields of a response.
pub(super) fn status(fields: &[Header]) -> Option<u16> {
    value(fields, ":status")?.parse().ok()
}

/// Gives an exchange its response head, as far as it is known.
pub(super) fn response(
    fields: Vec<Header>,
    status: Option<u16>,
    ts: WallNanos,
    exchange: &mut Builder,
) {
    let (_, headers) = split(fields);
    match status {
        Some(status) => {
            exchange.response_head(ts, ResponseHead { status, version: VERSION, headers });
        }
        None => exchange.response_fields(ts, headers),
    }
}

/// Pseudo-header fields, and the others.
fn split(fields: Vec<Header>) -> (Vec<Header>, Vec<Header>) {
    fields.into_iter().partition(|(name, _)| name.starts_with(':'))
}

fn value<'a>(fields: &'a [Header], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
}
