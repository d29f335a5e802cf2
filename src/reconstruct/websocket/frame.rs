//! Frame headers (RFC 6455 section 5.2).

pub(super) const CONTINUATION: u8 = 0;
pub(super) const TEXT: u8 = 1;
pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// Longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL_BYTES: u64 = 125;

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The last frame of its message.
    pub(super) is_final: bool,
    /// The first reserved bit: the message is compressed (RFC 7692 section 6).
    pub(super) is_compressed: bool,
    pub(super) opcode: u8,
    /// What the payload is masked with; the server does not mask.
    pub(super) mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub(super) length_bytes: u64,
    /// Bytes of the header itself.
    pub(super) header_bytes: usize,
}

/// What bytes are that should be a frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Header(Header),
    /// Too few to tell.
    Short,
    /// They break the protocol.
    Invalid,
}

impl Header {
    pub(super) fn is_control(&self) -> bool {
        self.opcode >= CLOSE
    }
}

/// Reads a header. `is_masked`: the sender is the client; `may_compress`: that was agreed on.
pub(super) fn parse(bytes: &[u8], is_masked: bool, may_compress: bool) -> Parsed {
    let Some(&first) = bytes.first() else { return Parsed::Short };
    let (is_final, is_compressed, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
    let is_control = opcode >= CLOSE;
    let is_known = matches!(opcode, CONTINUATION..=BINARY | CLOSE..=PONG);
    let compresses_rightly = may_compress && matches!(opcode, TEXT | BINARY);
    if !is_known
        || first & 0x30 != 0
        || (is_control && !is_final)
        || (is_compressed && !compresses_rightly)
    {
        return Parsed::Invalid;
    }
    let Some(&second) = bytes.get(1) else { return Parsed::Short };
    if (second & 0x80 != 0) != is_masked {
        return Parsed::Invalid;
    }
    let (length_bytes, mask_at) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (u64::from(u16::from_be_bytes([length[0], length[1]])), 4),
            None => return Parsed::Short,
        },
        127 => match bytes.get(2..).and_then(<[u8]>::first_chunk) {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Parsed::Short,
        },
        short => (u64::from(short), 2),
    };
    // Section 5.2: the shortest way to write a length is the only one, and the highest bit is not used.
    let is_shortest = match mask_at {
        4 => length_bytes >= 126,
        10 => (0x1_0000..1 << 63).contains(&length_bytes),
        _ => true,
    };
    if !is_shortest || (is_control && length_bytes > MAX_CONTROL_BYTES) {
        return Parsed::Invalid;
    }
    let mask = match bytes.get(mask_at..).and_then(<[u8]>::first_chunk) {
        _ if !is_masked => None,
        Some(mask) => Some(*mask),
        None => return Parsed::Short,
    };
    let header_bytes = mask_at + if is_masked { 4 } else { 0 };
    Parsed::Header(Header { is_final, is_compressed, opcode, mask, length_bytes, header_bytes })
}

/// Takes the mask off bytes that lie at this place of a payload (section 5.3).
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4], at: u64) {
    let mut turned = mask;
    turned.rotate_left((at % 4) as usize);
    for (byte, mask) in bytes.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: &[u8], is_masked: bool) -> Header {
        match parse(bytes, is_masked, true) {
            Parsed::Header(header) => header,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_three_lengths_are_read() {
        assert_eq!(header(&[0x81, 5], false).length_bytes, 5);
        assert_eq!(header(&[0x02, 126, 1, 0], false).length_bytes, 256);
        let long = header(&[0xc1, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9], true);
        assert_eq!((long.length_bytes, long.header_bytes), (0x1_0000, 14));
        assert!(long.is_compressed && long.mask == Some([9; 4]));
    }

    #[test]
    fn a_part_of_a_header_is_too_short() {
        let whole = [0x81, 0xfe, 1, 0, 1, 2, 3, 4];
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end], true, false), Parsed::Short, "{end}");
        }
    }

    #[test]
    fn breaks_of_the_protocol_are_refused() {
        for (bytes, is_masked) in [
            (&[0x83, 0][..], false),
            (&[0xa1, 0], false),
            (&[0x09, 0], false),
            (&[0xc0, 0], false),
            (&[0xc9, 0], false),
            (&[0x89, 126, 0, 126], false),
            (&[0x81, 126, 0, 125], false),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], false),
            (&[0x81, 127, 128, 0, 0, 0, 0, 0, 0, 0], false),
            (&[0x81, 0x80], false),
            (&[0x81, 0], true),
        ] {
            assert_eq!(parse(bytes, is_masked, true), Parsed::Invalid, "{bytes:?}");
        }
        assert_eq!(
            parse(&[0xc1, 0], false, false),
            Parsed::Invalid,
            "compression was not agreed on"
        );
    }

    #[test]
    fn the_mask_goes_on_from_any_place() {
        let mut text = *b"\x01\x03\x01\x07\x01";
        let (first, rest) = text.split_at_mut(3);
        unmask(first, [1, 2, 3, 4], 0);
        unmask(rest, [1, 2, 3, 4], 3);
        assert_eq!(text, [0, 1, 2, 3, 0]);
    }
}
