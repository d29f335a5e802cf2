//! Recognises HTTP/2 where its preface was not seen, by its frames (RFC 9113 section 4.1).
//!
//! Heads of HTTP/2 are compressed; nothing here can find secrets in them. This only serves to say so.

/// Bytes of a frame header.
const HEADER_BYTES: usize = 9;
/// Longest frame accepted: what browsers and servers allow each other at most.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// Whether `data` is a sequence of plausible frames, of which the last may be cut.
pub(super) fn is_frames(data: &[u8]) -> bool {
    let mut rest = data;
    let mut frames = 0;
    while let Some((header, after)) = rest.split_at_checked(HEADER_BYTES) {
        let length =
            usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        if length > MAX_FRAME_BYTES || !is_plausible(header[3], length, stream) {
            return false;
        }
        frames += 1;
        rest = &after[length.min(after.len())..];
    }
    frames > 0
}

/// Whether a frame of this type may have this length and stream (RFC 9113 section 6).
fn is_plausible(kind: u8, length: usize, stream: u32) -> bool {
    let on_stream = (1..1 << 31).contains(&stream);
    match kind {
        // DATA, HEADERS, PUSH_PROMISE, CONTINUATION.
        0 => on_stream,
        1 | 5 | 9 => on_stream && length > 0,
        // PRIORITY, RST_STREAM.
        2 => on_stream && length == 5,
        3 => on_stream && length == 4,
        // SETTINGS, PING, GOAWAY.
        4 => stream == 0 && length.is_multiple_of(6) && length <= 120,
        6 => stream == 0 && length == 8,
        7 => stream == 0 && length >= 8,
        // WINDOW_UPDATE.
        8 => stream < 1 << 31 && length == 4,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognised_and_other_protocols_are_not() {
        let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100];
        assert!(is_frames(&settings));
        let headers = [0, 1, 0, 1, 4, 0, 0, 0, 13, 0x82, 0x86];
        assert!(is_frames(&[&settings[..], &headers].concat()));
        for other in [
            &b""[..],
            b"GET / HTTP/1.1\r\n\r\n",
            b"{\"model\": \"m\"}",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
            &[0, 0, 5, 4, 0, 0, 0, 0, 0],
        ] {
            assert!(!is_frames(other), "{other:?}");
        }
    }
}
