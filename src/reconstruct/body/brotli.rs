//! The Brotli coding (RFC 7932).

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{Output, Stop};

/// Output produced per step.
const STEP_BYTES: usize = 16 << 10;

/// Decodes one Brotli stream; what follows it is ignored.
pub(super) struct Decoder {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        let alloc = StandardAlloc::default;
        // Strict: windows up to 16 MiB as in the RFC, not the 1 GiB of the large-window variant.
        Self { state: BrotliState::new_strict(alloc(), alloc(), alloc()), ended: false }
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Decoder").field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Decoder {
    pub(super) fn decode(&mut self, input: &[u8], output: Output<'_>) -> Result<(), Stop> {
        let mut buffer = [0; STEP_BYTES];
        let (mut available_in, mut input_offset) = (input.len(), 0);
        while !self.ended {
            let (mut available_out, mut written, mut total_out) = (buffer.len(), 0, 0);
            let result = BrotliDecompressStream(
                &mut available_in,
                &mut input_offset,
                input,
                &mut available_out,
                &mut written,
                &mut buffer,
                &mut total_out,
                &mut self.state,
            );
            if written > 0 {
                output(&buffer[..written])?;
            }
            match result {
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => break,
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::ResultFailure => return Err(Stop::Corrupt),
            }
        }
        Ok(())
    }

    pub(super) fn at_end(&self) -> bool {
        self.ended
    }
}
