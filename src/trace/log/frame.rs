//! Frames: the unit that a log gains or loses whole.

use std::io::{self, Read};

use super::{FRAME_HEADER_BYTES, FRAME_MAGIC, MAX_FRAME_BYTES};

/// Fast rather than small: the log is gone when the recording ends.
const ZSTD_LEVEL: i32 = 1;

/// Makes frames; keeps what it needs for that.
pub(super) struct Framer {
    compressor: zstd::bulk::Compressor<'static>,
    next_number: u32,
    frame: Vec<u8>,
}

impl Framer {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL)?,
            next_number: 0,
            frame: Vec::new(),
        })
    }

    /// The next frame of a log.
    ///
    /// # Errors
    /// When there is more in it than a reader believes.
    pub(super) fn frame(&mut self, raw: &[u8]) -> io::Result<&[u8]> {
        if raw.len() > MAX_FRAME_BYTES {
            let error = format!("expected at most {MAX_FRAME_BYTES} bytes, found {}", raw.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        self.frame.clear();
        self.frame.resize(FRAME_HEADER_BYTES + zstd::zstd_safe::compress_bound(raw.len()), 0);
        let stored =
            self.compressor.compress_to_buffer(raw, &mut self.frame[FRAME_HEADER_BYTES..])?;
        self.frame.truncate(FRAME_HEADER_BYTES + stored);
        self.frame[..4].copy_from_slice(FRAME_MAGIC);
        let numbers = [self.next_number, raw.len() as u32, stored as u32];
        for (field, number) in self.frame[4..16].chunks_exact_mut(4).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let crc = checksum(&self.frame[4..16], &self.frame[FRAME_HEADER_BYTES..]);
        self.frame[16..20].copy_from_slice(&crc.to_le_bytes());
        self.next_number += 1;
        Ok(&self.frame)
    }
}

fn checksum(header: &[u8], stored: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(stored);
    crc.finalize()
}

/// Reads frames one after the other, as far as they are whole.
pub(super) struct Frames<R> {
    source: R,
    next_number: u32,
    /// Bytes of all whole frames so far.
    pub(super) whole_bytes: u64,
}

impl<R: Read> Frames<R> {
    /// Reads from where the first frame begins.
    pub(super) fn new(source: R) -> Self {
        Self { source, next_number: 0, whole_bytes: 0 }
    }

    /// What is in the next frame; `None` where no whole frame follows.
    ///
    /// # Errors
    /// When the source cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut header = [0; FRAME_HEADER_BYTES];
        if !read_whole(&mut self.source, &mut header)? || header[..4] != *FRAME_MAGIC {
            return Ok(None);
        }
        let number = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (raw_bytes, stored_bytes) = (number(8) as usize, number(12) as usize);
        if number(4) != self.next_number
            || raw_bytes > MAX_FRAME_BYTES
            || stored_bytes > zstd::zstd_safe::compress_bound(raw_bytes)
        {
            return Ok(None);
        }
        // Grows with what is there, not with what was claimed.
        let mut stored = Vec::new();
        (&mut self.source).take(stored_bytes as u64).read_to_end(&mut stored)?;
        if stored.len() < stored_bytes || checksum(&header[4..16], &stored) != number(16) {
            return Ok(None);
        }
        let Ok(raw) = zstd::bulk::decompress(&stored, raw_bytes) else { return Ok(None) };
        if raw.len() != raw_bytes {
            return Ok(None);
        }
        self.next_number += 1;
        self.whole_bytes += (FRAME_HEADER_BYTES + stored_bytes) as u64;
        Ok(Some(raw))
    }
}

/// Fills `buffer`; `false` if the source ends before.
pub(super) fn read_whole(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match source.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
