//! Where the bytes of a response are cut into separate writes.
//!
//! Every cut is a place at which a careless parser breaks: inside a character, inside a line,
//! between the two bytes of a line end, between the two line ends that finish an event.

/// How a run of bytes is cut; the pieces together are always the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// Not at all.
    #[default]
    Whole,
    /// After every so many bytes; 1 is byte by byte, 0 counts as 1.
    Every(usize),
    /// Before each continuation byte of a UTF-8 sequence.
    InsideUtf8,
    /// Between CR and LF and between the line ends that finish an event.
    InsideLineEnds,
}

impl Split {
    /// The pieces of `bytes`, in order, none empty.
    pub fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        let cut_before = |at: usize| match self {
            Self::Whole => false,
            Self::Every(bytes) => at.is_multiple_of(bytes.max(1)),
            Self::InsideUtf8 => bytes[at] & 0xC0 == 0x80,
            Self::InsideLineEnds => {
                matches!((bytes[at - 1], bytes[at]), (b'\r', b'\n') | (b'\n', b'\n' | b'\r'))
            }
        };
        let mut pieces = Vec::new();
        let mut start = 0;
        for at in (1..bytes.len()).filter(|at| cut_before(*at)) {
            pieces.push(&bytes[start..at]);
            start = at;
        }
        if start < bytes.len() {
            pieces.push(&bytes[start..]);
        }
        pieces
    }
}
