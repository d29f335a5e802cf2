//! The Huffman code of HPACK (RFC 7541 section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length are consecutive numbers in the order of their symbols,
//! and go on from those of the length before. So the lengths alone define it.

/// Length in bits of the code of each byte, then of EOS.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 16
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 32
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 48
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 64
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 80
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 96
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 112
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 128
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 144
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 160
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 176
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 192
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 208
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 224
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 240
    30,
];

const MIN_BITS: usize = 5;
const MAX_BITS: usize = 30;
const EOS: u16 = 256;

/// The code, by length.
struct Code {
    /// The first code of each length, aligned to the left of 32 bits; all codes shorter than a length
    /// are below it. One more than the last, so that every length has an upper limit.
    first: [u64; MAX_BITS + 2],
    /// Where the symbols of each length begin in `symbols`.
    start: [u16; MAX_BITS + 2],
    /// All symbols, by length and value.
    symbols: [u16; 257],
}

static CODE: Code = code();

const fn code() -> Code {
    let mut code =
        Code { first: [0; MAX_BITS + 2], start: [0; MAX_BITS + 2], symbols: [0; LENGTHS.len()] };
    let (mut next, mut count, mut bits) = (0_u64, 0, 0);
    while bits <= MAX_BITS {
        code.first[bits] = next;
        code.start[bits] = count;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == bits {
                code.symbols[count as usize] = symbol as u16;
                count += 1;
                next += 1 << (32 - bits);
            }
            symbol += 1;
        }
        bits += 1;
    }
    code.first[bits] = next;
    code.start[bits] = count;
    code
}

/// Decodes a string. `None` if it contains EOS, or does not end in at most seven bits of EOS, both of
/// which section 5.2 forbids.
pub(super) fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(encoded.len() * 8 / MIN_BITS);
    // The next bits, aligned to the left of 64, and how many of them there are.
    let (mut window, mut held_bits) = (0_u64, 0_usize);
    let mut rest = encoded;
    loop {
        while held_bits <= 64 - 8
            && let [byte, after @ ..] = rest
        {
            window |= u64::from(*byte) << (64 - 8 - held_bits);
            held_bits += 8;
            rest = after;
        }
        // Padding is made of ones, and so is the beginning of every code that is not in use.
        let head = window >> 32;
        let mut bits = MIN_BITS;
        while bits < MAX_BITS && head >= CODE.first[bits + 1] {
            bits += 1;
        }
        if bits > held_bits {
            let is_padding = held_bits < 8
                && window.checked_shr(64 - held_bits as u32).unwrap_or(0) == (1 << held_bits) - 1;
            return is_padding.then_some(decoded);
        }
        let at = (head - CODE.first[bits]) >> (32 - bits);
        let symbol = CODE.symbols[CODE.start[bits] as usize + at as usize];
        if symbol == EOS {
            return None;
        }
        decoded.push(symbol as u8);
        window <<= bits;
        held_bits -= bits;
    }
}

/// Encodes a string.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut window, mut bits) = (Vec::new(), 0_u64, 0);
    for byte in text {
        let length = LENGTHS[usize::from(*byte)] as usize;
        let place = CODE.symbols.iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
        let at = place as u64 - u64::from(CODE.start[length]);
        let code = (CODE.first[length] >> (32 - length)) + at;
        window = window << length | code;
        bits += length;
        while bits >= 8 {
            bits -= 8;
            out.push((window >> bits) as u8);
        }
    }
    if bits > 0 {
        out.push((window << (8 - bits)) as u8 | (0xff >> bits) as u8);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_code_is_complete_and_its_ends_are_those_of_the_appendix() {
        assert_eq!(CODE.first[MAX_BITS + 1], 1 << 32, "every bit string begins with a code");
        let code_of = |symbol: usize| {
            let bits = usize::from(LENGTHS[symbol]);
            let place = CODE.symbols.iter().position(|of| usize::from(*of) == symbol).unwrap();
            (CODE.first[bits] >> (32 - bits)) + place as u64 - u64::from(CODE.start[bits])
        };
        assert_eq!(code_of(usize::from(b'0')), 0);
        assert_eq!(code_of(0), 0x1ff8);
        assert_eq!(code_of(128), 0xfffe6);
        assert_eq!(code_of(249), 0xfff_fffe);
        assert_eq!(code_of(256), 0x3fff_ffff);
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        let encoded = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&encoded).unwrap(), b"www.example.com");
        assert_eq!(encode(b"www.example.com"), encoded);
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn wrong_endings_are_refused() {
        assert_eq!(decode(&[0xff; 4]), None, "EOS");
        assert_eq!(
            decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf, 0xff]),
            None,
            "eight bits of padding"
        );
        assert_eq!(decode(&[0b0000_0000]), None, "padding of zeros");
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(text in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }

        #[test]
        fn any_bytes_have_an_outcome(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(text) = decode(&bytes) {
                prop_assert_eq!(encode(&text), bytes);
            }
        }
    }
}
