//! The bytes of a trace file, shared by cursors that read different places of it in turn.
//!
//! Every read says where it begins: cursors of one file, also in several threads, do not move each
//! other's position.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// An open file of known size.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    file: Arc<Mutex<File>>,
    size_bytes: u64,
}

impl Source {
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let size_bytes = file.metadata()?.len();
        Ok(Self { file: Arc::new(Mutex::new(file)), size_bytes })
    }

    /// Fills as much of `buffer` as the file has from `start` on.
    pub(crate) fn read_at(&self, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // A panic while the lock was held cannot leave the file in a state that matters: every read
        // seeks first.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        file.read(buffer)
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.size_bytes
    }
}

impl ChunkReader for Source {
    type T = BufReader<SourceRead>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(SourceRead { source: self.clone(), position: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // The length may come from a hostile footer: believe it only as far as the file goes.
        let available = self.size_bytes.saturating_sub(start);
        if length as u64 > available {
            return Err(ParquetError::EOF(format!(
                "expected {length} bytes at offset {start}, found {available}"
            )));
        }
        let mut buffer = vec![0; length];
        SourceRead { source: self.clone(), position: start }.read_exact(&mut buffer)?;
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
