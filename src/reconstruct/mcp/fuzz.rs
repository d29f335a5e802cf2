//! What the fuzz target of this module runs.

use super::line::{Budget, Line, LineState, Lines};
use super::message;
use super::session::{Ended, Session, Way};
use crate::reconstruct::finding::PartialReason;
use crate::time::WallNanos;

/// Bytes as lines both ways, whole and byte by byte: a byte 0xff in front of a line sends it the other
/// way, 0xfe is a hole.
pub(crate) fn fuzz(bytes: &[u8]) {
    assert_eq!(calls(bytes, usize::MAX), calls(bytes, 1));
    let text = String::from_utf8_lossy(bytes);
    let mut out = Vec::new();
    message::of_text(WallNanos(0), &text, &mut out);
    let middle = bytes.len() / 2;
    let (head, tail) = bytes.split_at(middle);
    for state in [LineState::TooLong, LineState::Gap] {
        message::of_line(&Line { ts: WallNanos(0), head, tail, bytes: 9, state }, &mut out);
    }
}

fn calls(bytes: &[u8], piece_bytes: usize) -> Vec<Ended> {
    let mut budget = Budget::new(1 << 20);
    let mut lines = [Lines::new(), Lines::new()];
    let mut session = Session::new("stdio");
    let mut out = Vec::new();
    let mut messages = Vec::new();
    let mut side = 0;
    for part in bytes.split_inclusive(|byte| matches!(byte, 0xff | 0xfe)) {
        let (text, last) = match part.split_last() {
            Some((last @ (0xff | 0xfe), text)) => (text, Some(*last)),
            _ => (part, None),
        };
        let way = if side == 0 { Way::In } else { Way::Out };
        for piece in text.chunks(piece_bytes.min(text.len().max(1))) {
            lines[side].push(WallNanos(1), piece, &mut budget, &mut |line| {
                message::of_line(&line, &mut messages);
            });
        }
        for message in messages.drain(..) {
            session.message(way, message, &mut |ended| out.push(ended));
        }
        match last {
            Some(0xff) => side = 1 - side,
            Some(_) => lines[side].gap(WallNanos(1), 5, &mut budget),
            None => {}
        }
    }
    session.close(PartialReason::Closed, &mut |ended| out.push(ended));
    out
}
