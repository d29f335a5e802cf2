//! A small deflate encoder (RFC 1951) whose output depends on nothing but its input: what a compressor
//! makes of a text depends on its version and build, and the goldens hold sizes.

/// One block without compression (section 3.2.4).
pub(super) fn stored(data: &[u8], last: bool) -> Vec<u8> {
    let bytes = u16::try_from(data.len()).expect("transcripts are small");
    let head = [&[u8::from(last)][..], &bytes.to_le_bytes(), &(!bytes).to_le_bytes()].concat();
    [&head, data].concat()
}

/// A block with the fixed Huffman codes (section 3.2.6), then an empty one as a flush leaves it,
/// without its last four bytes (RFC 7692 section 7.2.1). What was said in `history` is referred to.
pub(super) fn message(history: &[u8], data: &[u8]) -> Vec<u8> {
    let window = [history, data].concat();
    let mut bits = Bits::default();
    bits.number(0, 1);
    bits.number(1, 2);
    let mut at = history.len();
    while at < window.len() {
        match longest_match(&window, at) {
            Some((distance, length)) => {
                bits.length(length);
                bits.distance(distance);
                at += length;
            }
            None => {
                bits.symbol(u32::from(window[at]));
                at += 1;
            }
        }
    }
    bits.symbol(256);
    bits.number(0, 3);
    bits.bytes
}

/// The nearest of the longest earlier runs that repeat here, from three to ten bytes.
fn longest_match(window: &[u8], at: usize) -> Option<(usize, usize)> {
    let length_at = |from: usize| {
        window[from..].iter().zip(&window[at..]).take(10).take_while(|(a, b)| a == b).count()
    };
    let (length, from) = (0..at).map(|from| (length_at(from), from)).max()?;
    (length >= 3).then_some((at - from, length))
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn bit(&mut self, bit: bool) {
        if self.used.is_multiple_of(8) {
            self.bytes.push(0);
        }
        let last = self.bytes.len() - 1;
        self.bytes[last] |= u8::from(bit) << (self.used % 8);
        self.used += 1;
    }

    /// A number, its lowest bit first.
    fn number(&mut self, value: u32, bits: usize) {
        (0..bits).for_each(|bit| self.bit(value >> bit & 1 == 1));
    }

    /// A Huffman code, its highest bit first.
    fn code(&mut self, code: u32, bits: usize) {
        (0..bits).rev().for_each(|bit| self.bit(code >> bit & 1 == 1));
    }

    /// A literal, a length or the end of the block.
    fn symbol(&mut self, symbol: u32) {
        match symbol {
            0..144 => self.code(0x30 + symbol, 8),
            144..256 => self.code(0x190 + symbol - 144, 9),
            256..280 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// Lengths up to ten have symbols of their own.
    fn length(&mut self, length: usize) {
        self.symbol(257 + length as u32 - 3);
    }

    fn distance(&mut self, distance: usize) {
        // Symbols 0 to 3 are the distances 1 to 4; then two of a size, with one more bit each time.
        let distance = distance as u32 - 1;
        let extra = (32 - distance.leading_zeros()).saturating_sub(2);
        let symbol = extra * 2 + (distance >> extra);
        self.code(symbol, 5);
        self.number(distance & ((1 << extra) - 1), extra as usize);
    }
}
