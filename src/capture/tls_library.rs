//! Which functions of a binary file move TLS plaintext, and where they are in the file.
//!
//! Two ways, in this order: the names in its symbol tables (shared libssl and libgnutls, node and
//! everything else that keeps them; `named.rs`), and for stripped programs with BoringSSL inside (Bun: Claude Code, OpenCode)
//! what the functions mean (`boringssl.rs`). There are no offset tables and no byte patterns of
//! prologues: both die with the next release of an agent. A file that shows marks of a TLS library
//! whose functions cannot be told for certain is reported as such; it never counts as plain.
//!
//! It is fed paths of files that traced processes map, so every byte of them is hostile: nothing
//! here panics on them, and work and memory are bounded (`image.rs`). It attaches nothing.

mod body;
mod boringssl;
mod functions;
mod go;
mod image;
mod inner;
mod marks;
mod named;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
mod x86;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use object::elf;

use go::Go;
use image::{Image, Kind};
use marks::Marks;
use named::Named;

/// Why nothing is looked for in a file of another layout.
const NOT_64_BIT: &str = "expected a 64-bit little-endian ELF file, found another class or order";

/// A family of TLS libraries that calls the same functions with the same arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Library {
    /// OpenSSL and what kept its interface, such as LibreSSL.
    OpenSsl,
    /// BoringSSL and what forked from it, such as AWS-LC.
    BoringSsl,
    /// rustls; only ever [`Outcome::Unresolved`].
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
pub struct Site {
    /// What it does.
    pub role: Role,
    /// Its name in the library's interface, whether or not the file still has it.
    pub symbol: String,
    /// Where to probe it, counted from the start of the file (not a virtual address): what
    /// `perf_event_open(2)` takes for a uprobe. Where it is entered, its first byte or one behind it
    /// at which nothing has changed yet; in Go, the returns as well.
    pub file_offset: u64,
}

/// A TLS library found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// What came of looking into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    // A traced process may have put something else at the path since: opening a device may do
    // things, and opening a FIFO must not block.
    if !std::fs::metadata(path)?.is_file() {
        return Ok(Outcome::Absent { build_id: None });
    }
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Outcome::Absent { build_id: None });
    }
    find_in(file)
}

fn find_in(file: File) -> io::Result<Outcome> {
    let image = Image::open(file)?;
    let build_id = image.build_id()?;
    let machine = match image.kind() {
        Kind::NotElf => return Ok(Outcome::Absent { build_id }),
        Kind::Foreign => None,
        Kind::Elf64 { machine } => Some(machine),
    };
    let named = named::find(&image)?;
    let marks = Marks::find(&image)?;
    if let Some(Named { library, sites }) = named {
        let (library, version) = match library {
            Library::OpenSsl if marks.boringssl_files.is_empty() => {
                (library, marks.openssl_version)
            }
            Library::OpenSsl => (Library::BoringSsl, None),
            other => (other, None),
        };
        return Ok(Outcome::Found(TlsLibrary { library, version, build_id, sites }));
    }
    match go::find(&image)? {
        Go::Absent => {}
        Go::Found(sites) => {
            let library = Library::GoTls;
            return Ok(Outcome::Found(TlsLibrary { library, version: None, build_id, sites }));
        }
        Go::Unresolved(reason) => {
            return Ok(Outcome::Unresolved { library: Library::GoTls, reason, build_id });
        }
    }
    if !marks.boringssl_files.is_empty() {
        return stripped_boringssl(&image, machine, &marks, build_id);
    }
    Ok(match unresolvable(machine, &marks) {
        Some((library, reason)) => Outcome::Unresolved { library, reason, build_id },
        None => Outcome::Absent { build_id },
    })
}

/// The library that the marks show and nothing here can resolve, and why.
fn unresolvable(machine: Option<u16>, marks: &Marks) -> Option<(Library, String)> {
    if machine.is_none() && marks.names_ssl_write {
        return Some((Library::OpenSsl, NOT_64_BIT.to_owned()));
    }
    let rustls = marks.rustls_version.as_ref().map(|version| format!("rustls {version}"));
    if marks.openssl_functions {
        let version = marks.openssl_version.as_deref().unwrap_or("of unknown version");
        let beside = rustls.map_or_else(String::new, |rustls| format!(", beside {rustls}"));
        let reason =
            format!("OpenSSL {version} is linked in without the names of its functions{beside}");
        return Some((Library::OpenSsl, reason));
    }
    let rustls = rustls?;
    Some((Library::Rustls, format!("{rustls} is linked in, whose functions are not looked for")))
}

fn stripped_boringssl(
    image: &Image,
    machine: Option<u16>,
    marks: &Marks,
    build_id: Option<String>,
) -> io::Result<Outcome> {
    let library = Library::BoringSsl;
    let resolution = match machine {
        Some(elf::EM_X86_64) => boringssl::resolve(image, &marks.boringssl_files)?,
        Some(machine) => Err(format!(
            "its functions have no names, and without them expected x86-64 code (machine {}), \
             found machine {machine}",
            elf::EM_X86_64
        )),
        None => Err(NOT_64_BIT.to_owned()),
    };
    let resolved = match resolution {
        Ok(resolved) => resolved,
        Err(reason) => return Ok(Outcome::Unresolved { library, reason, build_id }),
    };
    let site = |role, symbol: &str, address| {
        let file_offset = image.code_file_offset(address)?;
        Some(Site { role, symbol: symbol.to_owned(), file_offset })
    };
    let sites = [
        site(Role::Read, "SSL_read", resolved.read),
        site(Role::Write, "SSL_write", resolved.write),
    ];
    Ok(match sites.into_iter().collect() {
        Some(sites) => Outcome::Found(TlsLibrary { library, version: None, build_id, sites }),
        None => {
            let reason = "its functions lie outside the executable segments".to_owned();
            Outcome::Unresolved { library, reason, build_id }
        }
    })
}
