//! Frame headers (RFC 9113 sections 4.1 and 6): nine bytes that say what follows, how long it is and
//! which stream it belongs to. Also what makes nine bytes a believable frame header, where nothing
//! else tells that one begins.

/// Bytes of a frame header.
pub(crate) const HEADER_BYTES: usize = 9;

/// What every client sends first (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Longest frame that is believed where only its look tells that it is one: what may be sent without
/// the other end having allowed more (RFC 9113 section 4.2).
const MAX_BELIEVED_BYTES: u32 = 16 << 10;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS: the last frame of a stream's direction.
pub(crate) const END_STREAM: u8 = 0x1;
/// Flag of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x1;
/// Flag of HEADERS, PUSH_PROMISE and CONTINUATION: the header block ends here.
pub(crate) const END_HEADERS: u8 = 0x4;
/// Flag of DATA, HEADERS and PUSH_PROMISE: a length and bytes of padding are around the content.
pub(crate) const PADDED: u8 = 0x8;
/// Flag of HEADERS: five bytes of priority come first.
pub(crate) const WITH_PRIORITY: u8 = 0x20;

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes of the payload that follows.
    pub(crate) length_bytes: u32,
    /// The frame type; unknown ones are skipped (RFC 9113 section 5.5).
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// The stream it belongs to; 0 is the connection.
    pub(crate) stream_id: u32,
}

impl Header {
    /// Reads a header; `None` if these are too few bytes.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEADER_BYTES>()?;
        Some(Self {
            length_bytes: u32::from_be_bytes([0, *a, *b, *c]),
            kind: *kind,
            flags: *flags,
            // Its first bit is reserved and ignored.
            stream_id: u32::from_be_bytes(*stream) & 0x7fff_ffff,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes in front of a header block: length of the padding, priority.
    pub(crate) fn prefix_bytes(&self) -> usize {
        usize::from(self.has(PADDED)) + if self.has(WITH_PRIORITY) { 5 } else { 0 }
    }

    /// Whether the protocol allows a frame of this type such a length and stream (RFC 9113 section 6).
    pub(crate) fn is_valid(&self) -> bool {
        let (length, on_stream) = (self.length_bytes, self.stream_id != 0);
        match self.kind {
            DATA | HEADERS | CONTINUATION => on_stream,
            PUSH_PROMISE => on_stream && length >= 4,
            PRIORITY => on_stream && length == 5,
            RST_STREAM => on_stream && length == 4,
            SETTINGS => !on_stream && length.is_multiple_of(6) && !(self.has(ACK) && length > 0),
            PING => !on_stream && length == 8,
            GOAWAY => !on_stream && length >= 8,
            WINDOW_UPDATE => length == 4,
            _ => true,
        }
    }

    /// Whether this is believed to be a frame header on its own account: valid, of a known type and a
    /// usual length, without flags that mean nothing.
    pub(crate) fn is_plausible(&self) -> bool {
        let defined = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | WITH_PRIORITY,
            SETTINGS | PING => ACK,
            PUSH_PROMISE => END_HEADERS | PADDED,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        let is_usual = match self.kind {
            DATA => self.flags != 0 || self.length_bytes > 0,
            HEADERS => self.length_bytes as usize > self.prefix_bytes(),
            SETTINGS => self.length_bytes <= 20 * 6,
            GOAWAY => self.length_bytes <= 1024,
            _ => true,
        };
        // Streams are numbered from 1 upwards: one that is used for long has some thousands. Those of
        // clients are odd, those that servers push even (RFC 9113 section 5.1.1), which is rare.
        let is_low = self.stream_id == 0 || (self.stream_id % 2 == 1 && self.stream_id < 1 << 24);
        self.is_valid()
            && is_usual
            && is_low
            && self.flags & !defined == 0
            && self.length_bytes <= MAX_BELIEVED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_from_nine_bytes() {
        let bytes = [0, 1, 2, HEADERS, END_HEADERS | PADDED, 0x80, 0, 0, 7, 99];
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.length_bytes, header.stream_id), (0x102, 7));
        assert!(header.has(PADDED) && !header.has(END_STREAM));
        assert_eq!(header.prefix_bytes(), 1);
        assert_eq!(Header::parse(&bytes[..8]), None);
    }

    #[test]
    fn lengths_and_streams_must_fit_the_type() {
        let is_valid = |kind, flags, length_bytes, stream_id| {
            Header { length_bytes, kind, flags, stream_id }.is_valid()
        };
        assert!(is_valid(DATA, 0, 0, 1) && !is_valid(DATA, 0, 0, 0));
        assert!(is_valid(SETTINGS, 0, 12, 0) && !is_valid(SETTINGS, 0, 13, 0));
        assert!(!is_valid(SETTINGS, ACK, 6, 0) && !is_valid(SETTINGS, 0, 6, 1));
        assert!(is_valid(PING, 0, 8, 0) && !is_valid(PING, 0, 9, 0));
        assert!(is_valid(RST_STREAM, 0, 4, 1) && !is_valid(RST_STREAM, 0, 4, 0));
        assert!(is_valid(WINDOW_UPDATE, 0, 4, 0) && is_valid(WINDOW_UPDATE, 0, 4, 3));
        assert!(is_valid(GOAWAY, 0, 8, 0) && !is_valid(GOAWAY, 0, 7, 0));
        assert!(is_valid(0xbe, 0xff, 77, 3), "unknown types may be anything");
    }

    #[test]
    fn text_and_other_binary_data_are_not_believed_to_be_frames() {
        for bytes in [
            &b"HTTP/1.1 200"[..],
            b"\0\0\0\0\0\0\0\0\0",
            b"\0\0\x05\x04\0\0\0\0\0",
            b"\0\0\x04\x08\x01\0\0\0\x01",
            b"\0\0\x08\x63\0\0\0\0\x01",
            b"\0\x80\x00\0\0\0\0\0\x01",
            b"\0\0\x10\0\x01\x55\0\0\x01",
        ] {
            assert!(!Header::parse(bytes).unwrap().is_plausible(), "{bytes:?}");
        }
        assert!(Header::parse(b"\0\0\x04\x08\0\0\0\0\x01").unwrap().is_plausible());
    }
}
