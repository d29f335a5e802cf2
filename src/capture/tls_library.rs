//! Which functions of a binary file move TLS plaintext, and where they are in the file.
//!
//! Names first: those in its symbol tables (shared libssl and libgnutls, node and everything else that
//! keeps them; `named.rs`) and in the table that Go's runtime needs (`go.rs`). For stripped programs,
//! what the functions mean: BoringSSL inside (`boringssl.rs`; Bun: Claude Code, OpenCode), OpenSSL 3
//! inside (`openssl_static.rs`) and rustls (`rustls.rs`; both in Codex). There are no offset tables and no byte patterns of prologues: both die with the next
//! release of an agent. A file that shows marks of a TLS library whose functions cannot be told for
//! certain is reported as such; it never counts as plain. One file may hold several libraries.
//!
//! It is fed paths of files that traced processes map, so every byte of them is hostile: nothing
//! here panics on them, and work and memory are bounded (`image.rs`). It attaches nothing.

mod body;
mod boringssl;
mod functions;
mod go;
mod image;
mod inner;
mod libraries;
mod marks;
mod named;
mod openssl_static;
mod references;
mod rustls;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod x86;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use image::{Image, Kind};
use libraries::Holder;
use marks::Marks;
pub use rustls::RustlsPlace;

/// A family of TLS libraries that calls the same functions with the same arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Library {
    /// OpenSSL and what kept its interface, such as LibreSSL.
    OpenSsl,
    /// BoringSSL and what forked from it, such as AWS-LC.
    BoringSsl,
    /// rustls.
    Rustls,
    /// GnuTLS.
    GnuTls,
    /// Go's own `crypto/tls`.
    GoTls,
}

impl Library {
    /// The value of the `library` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::Rustls => "rustls",
            Self::GnuTls => "gnutls",
            Self::GoTls => "go",
        }
    }
}

/// What a function does, which decides how its arguments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Role {
    /// `int SSL_read(SSL *, void *buffer, int size)`: returns the bytes read. GnuTLS's functions
    /// return an `ssize_t` instead, of what fits into a record.
    Read,
    /// `int SSL_read_ex(SSL *, void *buffer, size_t size, size_t *read)`: returns 1 on success.
    ReadEx,
    /// `int SSL_write(SSL *, const void *buffer, int size)`: returns the bytes written.
    Write,
    /// `int SSL_write_ex(SSL *, const void *buffer, size_t size, size_t *written)`: returns 1 on
    /// success.
    WriteEx,
    /// `void SSL_free(SSL *)`: may or may not release the last reference.
    Free,
    /// OpenSSL's `ssl_read_internal`, with the arguments and the result of [`Self::ReadEx`].
    ReadInternal,
    /// OpenSSL's `ssl_write_internal` before 3.3, with those of [`Self::WriteEx`].
    WriteInternal,
    /// The same from 3.3 on: `(SSL *, const void *buffer, size_t size, uint64_t flags, size_t
    /// *written)`.
    WriteInternalFlags,
    /// rustls' `take_received_plaintext(&mut CommonState, Payload)`, or an inlined copy of it.
    RustlsRead(RustlsPlace),
    /// rustls' `buffer_plaintext(&mut CommonState, OutboundChunks, …)`: returns the bytes taken.
    RustlsWrite(RustlsPlace),
    /// `int SSL_write_ex2(SSL *, const void *buffer, size_t size, uint64_t flags, size_t *written)`:
    /// returns 1 on success.
    WriteEx2,
    /// `ssize_t gnutls_record_recv_packet(session, packet *)`: returns the bytes read, which are in
    /// no buffer whose place is known.
    ReadUnseen,
    /// `ssize_t SSL_sendfile(SSL *, …)`: returns the bytes written, which the process never had.
    WriteUnseen,
    /// An instruction with which [`Self::GoRead`] or [`Self::GoWrite`] returns; in front of them,
    /// because a return without its entry is ignored, but not the reverse.
    GoReturn,
    /// Entry of Go's `func (c *tls.Conn) Read(b []byte) (int, error)`.
    GoRead,
    /// Entry of Go's `func (c *tls.Conn) Write(b []byte) (int, error)`.
    GoWrite,
    /// Entry of Go's `func (c *tls.Conn) Close() error`.
    GoClose,
}

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct Site {
    /// What it does.
    pub role: Role,
    /// Its name in the library's interface, whether or not the file still has it.
    pub symbol: String,
    /// The instruction to probe, counted from the start of the file (not a virtual address): what
    /// `perf_event_open(2)` takes for a uprobe. Its first one, or one behind it at which nothing has
    /// changed yet, unless it was inlined; in Go, its returns as well.
    pub file_offset: u64,
}

/// A TLS library found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct TlsLibrary {
    /// Which one.
    pub library: Library,
    /// Its version, such as `3.0.19`; absent where the file does not say, as BoringSSL and shared
    /// OpenSSL (which keeps it in libcrypto) never do.
    pub version: Option<String>,
    /// GNU build-id of the file in hexadecimal, where it has one.
    pub build_id: Option<String>,
    /// What to probe, ordered by role and offset: at least one function that reads or writes.
    pub sites: Vec<Site>,
    /// What else the file holds: other libraries, and parts that could not be told for certain.
    /// Never [`Outcome::Absent`].
    pub beside: Vec<Outcome>,
}

/// What came of looking into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// It holds a TLS library and these are its functions.
    Found(TlsLibrary),
    /// It shows no mark of a TLS library that is known, or is not an ELF file.
    Absent {
        /// GNU build-id in hexadecimal, where it has one.
        build_id: Option<String>,
    },
    /// It holds a TLS library whose functions could not be told for certain.
    Unresolved {
        /// Which one, after its marks.
        library: Library,
        /// What was expected and what was found, for a person to read.
        reason: String,
        /// GNU build-id in hexadecimal, where it has one.
        build_id: Option<String>,
    },
}

impl Outcome {
    /// All sites in it, those of libraries beside the first included.
    #[must_use]
    pub fn sites(&self) -> Vec<&Site> {
        let Self::Found(found) = self else { return Vec::new() };
        found.sites.iter().chain(found.beside.iter().flat_map(Self::sites)).collect()
    }

    /// GNU build-id of the file in hexadecimal, where it has one.
    #[must_use]
    pub fn build_id(&self) -> Option<&str> {
        match self {
            Self::Found(found) => found.build_id.as_deref(),
            Self::Absent { build_id } | Self::Unresolved { build_id, .. } => build_id.as_deref(),
        }
    }
}

/// Looks for TLS functions in the file at `path`.
///
/// # Errors
/// When the file cannot be opened or read. A damaged file, or one that is no ELF file, is not an
/// error but [`Outcome::Absent`].
pub fn find(path: &Path) -> io::Result<Outcome> {
    match open(path)? {
        Some(file) => find_in(file),
        None => Ok(Outcome::Absent { build_id: None }),
    }
}

/// Opens a file to look into it; `None` if it is none that could be.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    // A traced process may have put something else at the path since: opening a device may do
    // things, and opening a FIFO must not block.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(None);
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    Ok(file.metadata()?.is_file().then_some(file))
}

/// What tells one binary from another without reading all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// GNU build-id in hexadecimal, where it has one.
    pub build_id: Option<String>,
    /// Size of the file.
    pub size_bytes: u64,
    /// Its headers and pieces of its code from all over.
    pub sample: Vec<u8>,
}

/// The identity of an ELF file; `None` for other files.
///
/// # Errors
/// When it cannot be read.
pub fn identify(file: &File) -> io::Result<Option<Identity>> {
    let image = Image::open(file.try_clone()?)?;
    if image.kind() == Kind::NotElf {
        return Ok(None);
    }
    let (build_id, sample) = (image.build_id()?, image.sample()?);
    Ok(Some(Identity { build_id, size_bytes: file.metadata()?.len(), sample }))
}

/// Looks for TLS functions in an open file.
///
/// # Errors
/// When it cannot be read.
pub fn find_in(file: File) -> io::Result<Outcome> {
    let image = Image::open(file)?;
    let build_id = image.build_id()?;
    let machine = match image.kind() {
        Kind::NotElf => return Ok(Outcome::Absent { build_id }),
        Kind::Foreign => None,
        Kind::Elf64 { machine } => Some(machine),
    };
    let marks = Marks::find(&image)?;
    let holder = Holder { image: &image, machine, marks: &marks, build_id: build_id.as_deref() };
    Ok(holder.all()?.unwrap_or(Outcome::Absent { build_id }))
}
