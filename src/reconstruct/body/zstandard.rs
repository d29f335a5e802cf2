//! The Zstandard coding (RFC 8878), any number of frames.

use zstd::stream::raw::{DParameter, InBuffer, Operation, OutBuffer};

use super::{Output, Stop};

/// Output produced per step.
const STEP_BYTES: usize = 16 << 10;

/// RFC 9659: a content coding needs no window above 8 MiB, and a decoder may refuse more.
const MAX_WINDOW_LOG: u32 = 23;

/// RFC 8878 section 3.1.1.2.
const BLOCK_HEADER_BYTES: usize = 3;

/// Decodes Zstandard frames.
pub(super) struct Decoder {
    raw: zstd::stream::raw::Decoder<'static>,
    /// Input the decoder asked for next: its next header or block; 0 between frames.
    wanted: usize,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Decoder {
    /// `None` when there is no memory for it.
    pub(super) fn new() -> Option<Self> {
        let mut raw = zstd::stream::raw::Decoder::new().ok()?;
        raw.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).ok()?;
        Some(Self { raw, wanted: 0 })
    }

    /// `input` is not empty.
    pub(super) fn decode(&mut self, input: &[u8], output: Output<'_>) -> Result<(), Stop> {
        let mut buffer = [0; STEP_BYTES];
        let mut left = input;
        loop {
            let (step, _) = left.split_at(left.len().min(self.step_bytes()));
            let mut source = InBuffer::around(step);
            let mut target = OutBuffer::around(&mut buffer[..]);
            let wanted = self.raw.run(&mut source, &mut target).map_err(|_| Stop::Corrupt)?;
            let (read, written) = (source.pos(), target.pos());
            self.wanted = wanted;
            left = &left[read..];
            if written > 0 {
                output(&buffer[..written])?;
            }
            // At the end of a frame all is out; asking further would begin the next frame.
            if left.is_empty() && (written < buffer.len() || wanted == 0) {
                return Ok(());
            }
            if read == 0 && written == 0 {
                return Err(Stop::Corrupt);
            }
        }
    }

    /// Input for one call. What is asked for with a block, or with the frame header, is the header
    /// of the block after it as well; that is left for a call of its own, because a call that meets
    /// a broken header forgets the output of the block before it, and findings must not depend on
    /// how the input was cut.
    fn step_bytes(&self) -> usize {
        match self.wanted {
            0 => 1,
            wanted @ 1..=BLOCK_HEADER_BYTES => wanted,
            wanted => wanted - BLOCK_HEADER_BYTES,
        }
    }

    pub(super) fn at_end(&self) -> bool {
        self.wanted == 0
    }
}
