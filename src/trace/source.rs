//! The bytes of a trace file, shared by cursors that read different places of it in turn.
//!
//! Of a recording that was not finished, the bytes are those of the main file as far as they count,
//! and behind them a tail in memory: what its log comes to. Whoever reads sees one file.
//!
//! Every read says where it begins: cursors of one file, also in several threads, do not move each
//! other's position.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// An open file of known size, or the beginning of one and what is to stand behind it.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Arc<Mutex<File>>,
    /// Bytes of the file that count.
    head_bytes: u64,
    tail: Bytes,
}

impl Source {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let head_bytes = file.metadata()?.len();
        Ok(Self::with_tail(file, head_bytes, Bytes::new()))
    }

    /// The first `head_bytes` of a file, which it must have, and `tail`.
    pub(crate) fn with_tail(file: File, head_bytes: u64, tail: Bytes) -> Self {
        Self { file: Arc::new(Mutex::new(file)), head_bytes, tail }
    }

    /// Reads from `start` on, up to the end.
    pub(crate) fn read_from(&self, start: u64) -> SourceRead {
        SourceRead { source: self.clone(), position: start }
    }

    /// Fills as much of `buffer` as there is from `start` on; at least one byte, if there is one.
    pub(crate) fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(before_tail) = self.head_bytes.checked_sub(start).filter(|bytes| *bytes > 0)
        else {
            let start = usize::try_from(start - self.head_bytes).unwrap_or(usize::MAX);
            let rest = self.tail.get(start..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            return Ok(count);
        };
        let count = usize::try_from(before_tail).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..count];
        // A panic while the lock was held cannot leave the file in a state that matters: every read
        // seeks first.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read(buffer)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.head_bytes + self.tail.len() as u64
    }
}

impl ChunkReader for Source {
    type T = BufReader<SourceRead>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(self.read_from(start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // The length may come from a hostile footer: believe it only as far as the file goes.
        let available = self.len().saturating_sub(start);
        if length as u64 > available {
            return Err(ParquetError::EOF(format!(
                "expected {length} bytes at offset {start}, found {available}"
            )));
        }
        let mut buffer = vec![0; length];
        self.read_from(start).read_exact(&mut buffer)?;
        Ok(buffer.into())
    }
}

/// A position in a [`Source`].
pub(crate) struct SourceRead {
    source: Source,
    position: u64,
}

impl Read for SourceRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}
