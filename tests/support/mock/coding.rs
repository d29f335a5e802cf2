//! Content codings, both ways: what a response is packed by, piece by piece, and what a request was.

use std::io::{self, Read as _, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

/// A content coding (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coding {
    /// None.
    #[default]
    Identity,
    /// `gzip`.
    Gzip,
    /// `deflate`: a zlib stream.
    Deflate,
    /// `br`.
    Br,
    /// `zstd`.
    Zstd,
}

impl Coding {
    /// All that pack, the best first.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Br, Self::Gzip, Self::Deflate];

    /// Its name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Br => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The coding of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Identity, Self::Gzip, Self::Deflate, Self::Br, Self::Zstd];
        all.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }
}

/// Packs a body, flushed after every piece so that each piece can be unpacked as it arrives.
pub enum Encoder {
    /// Passes on.
    Identity,
    /// gzip.
    Gzip(GzEncoder<Vec<u8>>),
    /// zlib.
    Deflate(ZlibEncoder<Vec<u8>>),
    /// Brotli.
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    /// Zstandard.
    Zstd(zstd::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// One that has packed nothing yet.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::default())),
            Coding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), Compression::default())),
            Coding::Br => {
                Self::Br(Box::new(brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20)))
            }
            Coding::Zstd => Self::Zstd(zstd::Encoder::new(Vec::new(), 3)?),
        })
    }

    /// What is sent for `piece`.
    pub fn pack(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        fn through<W: Write>(
            writer: &mut W,
            piece: &[u8],
            buffer: fn(&mut W) -> &mut Vec<u8>,
        ) -> io::Result<Vec<u8>> {
            writer.write_all(piece)?;
            writer.flush()?;
            Ok(std::mem::take(buffer(writer)))
        }
        match self {
            Self::Identity => Ok(piece.to_vec()),
            Self::Gzip(encoder) => through(encoder, piece, |encoder| encoder.get_mut()),
            Self::Deflate(encoder) => through(encoder, piece, |encoder| encoder.get_mut()),
            Self::Br(encoder) => through(&mut **encoder, piece, |encoder| encoder.get_mut()),
            Self::Zstd(encoder) => through(encoder, piece, |encoder| encoder.get_mut()),
        }
    }

    /// What is sent at the end.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Identity => Ok(Vec::new()),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Br(encoder) => Ok(encoder.into_inner()),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// Undoes the coding of a request body, which may unpack to `limit` bytes.
pub fn unpack(body: Vec<u8>, coding: Option<&str>, limit: usize) -> io::Result<Vec<u8>> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(name) = coding.map(str::trim).filter(|name| !name.is_empty()) else { return Ok(body) };
    let coding =
        Coding::named(name).ok_or_else(|| broken("request content coding is not supported"))?;
    let packed = &body[..];
    let source: Box<dyn io::Read + '_> = match coding {
        Coding::Identity => return Ok(body),
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        Coding::Deflate => Box::new(flate2::read::ZlibDecoder::new(packed)),
        Coding::Br => Box::new(brotli::Decompressor::new(packed, 4096)),
        Coding::Zstd => Box::new(zstd::Decoder::new(packed)?),
    };
    let mut unpacked = Vec::new();
    source.take(limit as u64 + 1).read_to_end(&mut unpacked)?;
    match unpacked.len() > limit {
        true => Err(broken("request body is too long")),
        false => Ok(unpacked),
    }
}
