//! Which functions of a binary file move TLS plaintext, and where they are in the file.
//!
//! Names first: those in its symbol tables (shared libssl, node and everything else that keeps
//! them). For stripped programs, what the functions mean: BoringSSL inside (`boringssl.rs`; Bun:
//! Claude Code, OpenCode), OpenSSL 3 inside (`openssl_static.rs`) and rustls (`rustls.rs`; both in
//! Codex). There are no offset tables and no byte patterns of prologues: both die with the next
//! release of an agent. A file that shows marks of a TLS library whose functions cannot be told for
//! certain is reported as such; it never counts as plain. One file may hold several libraries.
//!
//! It is fed paths of files that traced processes map, so every byte of them is hostile: nothing
//! here panics on them, and work and memory are bounded (`image.rs`). It attaches nothing.

mod body;
mod boringssl;
mod functions;
mod image;
mod marks;
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

use object::elf;

use image::{Image, Kind};
use marks::Marks;
pub use rustls::RustlsPlace;

/// Most sites taken from symbol tables; two copies of a library have ten.
const MAX_SITES: usize = 32;
/// Why nothing is looked for in a file of another layout.
const NOT_64_BIT: &str = "expected a 64-bit little-endian ELF file, found another class or order";

/// A family of TLS libraries that calls the same functions with the same arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Library {
    /// OpenSSL and what kept its interface, such as LibreSSL.
    OpenSsl,
    /// BoringSSL and what forked from it, such as AWS-LC.
    BoringSsl,
    /// rustls.
    Rustls,
}

impl Library {
    /// The value of the `library` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "openssl",
            Self::BoringSsl => "boringssl",
            Self::Rustls => "rustls",
        }
    }
}

/// What a function does, which decides how its arguments are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// `int SSL_read(SSL *, void *buffer, int size)`: returns the bytes read.
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
}

impl Role {
    /// Every role of a function in a library's C interface: what is looked for by name.
    pub const ALL: [Self; 5] = [Self::Read, Self::ReadEx, Self::Write, Self::WriteEx, Self::Free];

    /// The name of the function in its library.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Read => "SSL_read",
            Self::ReadEx => "SSL_read_ex",
            Self::Write => "SSL_write",
            Self::WriteEx => "SSL_write_ex",
            Self::Free => "SSL_free",
            Self::ReadInternal => "ssl_read_internal",
            Self::WriteInternal | Self::WriteInternalFlags => "ssl_write_internal",
            Self::RustlsRead(_) => "take_received_plaintext",
            Self::RustlsWrite(_) => "buffer_plaintext",
        }
    }
}

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// What it does.
    pub role: Role,
    /// Its name in the library's interface, whether or not the file still has it.
    pub symbol: String,
    /// The instruction to probe, its first one unless it was inlined, counted from the start of the
    /// file (not a virtual address): what `perf_event_open(2)` takes for a uprobe.
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
    /// What else the file holds: other libraries, and parts that could not be told for certain.
    /// Never [`Outcome::Absent`].
    pub beside: Vec<Outcome>,
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
    let marks = Marks::find(&image)?;
    let holder = Holder { image: &image, machine, marks: &marks, build_id: build_id.as_deref() };
    let mut outcomes = holder.c_library()?.into_iter().collect::<Vec<_>>();
    outcomes.extend(holder.rustls()?);
    Ok(joined(outcomes).unwrap_or(Outcome::Absent { build_id }))
}

/// One outcome of several: what was found first, the rest beside it.
fn joined(mut outcomes: Vec<Outcome>) -> Option<Outcome> {
    let found = outcomes.iter().position(|outcome| matches!(outcome, Outcome::Found(_)));
    if let Some(found) = found
        && let Outcome::Found(mut library) = outcomes.remove(found)
    {
        library.beside.extend(outcomes);
        return Some(Outcome::Found(library));
    }
    outcomes.into_iter().reduce(|first, next| match (first, next) {
        (
            Outcome::Unresolved { library, reason, build_id },
            Outcome::Unresolved { library: other, reason: another, .. },
        ) => {
            let reason = format!("{reason}; beside it {}: {another}", other.as_str());
            Outcome::Unresolved { library, reason, build_id }
        }
        (first, _) => first,
    })
}

/// A file and what is known of it before its functions are.
struct Holder<'a> {
    image: &'a Image,
    machine: Option<u16>,
    marks: &'a Marks,
    build_id: Option<&'a str>,
}

impl Holder<'_> {
    /// OpenSSL or BoringSSL, by name or by meaning.
    fn c_library(&self) -> io::Result<Option<Outcome>> {
        let (image, marks) = (self.image, self.marks);
        let boringssl = !marks.boringssl_files.is_empty();
        let sites = named_sites(image)?;
        if sites.iter().any(|site| site.role != Role::Free) {
            let (library, version) = if boringssl {
                (Library::BoringSsl, None)
            } else {
                (Library::OpenSsl, marks.openssl_version.clone())
            };
            return Ok(Some(self.found(library, version, sites)));
        }
        if boringssl {
            let resolution = match self.code() {
                Ok(()) => boringssl::resolve(image, &marks.boringssl_files)?,
                Err(reason) => Err(reason),
            };
            let functions =
                resolution.map(|found| vec![(Role::Read, found.read), (Role::Write, found.write)]);
            return Ok(Some(self.outcome(Library::BoringSsl, None, functions)));
        }
        if self.machine.is_none() && marks.names_ssl_write {
            return Ok(Some(self.unresolved(Library::OpenSsl, NOT_64_BIT.to_owned())));
        }
        if marks.openssl_write_names.is_empty() {
            return Ok(None);
        }
        let version = marks.openssl_version.as_deref();
        let resolution = match self.code() {
            Ok(()) => openssl_static::resolve(
                image,
                &marks.openssl_read_names,
                &marks.openssl_write_names,
                version,
            )?,
            Err(reason) => Err(reason),
        };
        let functions = resolution.map_err(|reason| {
            let version = version.unwrap_or("of unknown version");
            format!("OpenSSL {version} is linked in without the names of its functions: {reason}")
        });
        let functions = functions.map(|found| {
            let write = if found.write_takes_flags {
                Role::WriteInternalFlags
            } else {
                Role::WriteInternal
            };
            vec![(Role::ReadInternal, found.read), (write, found.write)]
        });
        Ok(Some(self.outcome(Library::OpenSsl, marks.openssl_version.clone(), functions)))
    }

    /// rustls and, apart, its inlined functions that cannot be probed.
    fn rustls(&self) -> io::Result<Vec<Outcome>> {
        let Some(version) = self.marks.rustls_version.clone() else { return Ok(Vec::new()) };
        let resolution = match self.code() {
            Ok(()) => rustls::resolve(self.image)?,
            Err(reason) => Err(reason),
        };
        let resolved = match resolution {
            Ok(resolved) => resolved,
            Err(reason) => {
                let reason = format!("rustls {version} is linked in: {reason}");
                return Ok(vec![self.unresolved(Library::Rustls, reason)]);
            }
        };
        let (write, place) = resolved.write;
        let mut functions = vec![(Role::RustlsWrite(place), write)];
        let reads = resolved.reads.into_iter();
        functions.extend(reads.map(|(address, place)| (Role::RustlsRead(place), address)));
        let mut outcomes =
            vec![self.outcome(Library::Rustls, Some(version.clone()), Ok(functions))];
        if !resolved.unread.is_empty() {
            let addresses: Vec<_> =
                resolved.unread.iter().map(|address| format!("{address:#x}")).collect();
            let reason = format!(
                "rustls {version} has take_received_plaintext inlined where it does not show which \
                 registers hold the data, at address {}: what is received there is missed",
                addresses.join(", ")
            );
            outcomes.push(self.unresolved(Library::Rustls, reason));
        }
        Ok(outcomes)
    }

    /// Whether the code can be read, or why not.
    fn code(&self) -> Result<(), String> {
        match self.machine {
            Some(elf::EM_X86_64) => Ok(()),
            Some(machine) => Err(format!(
                "its functions have no names, and without them expected x86-64 code (machine {}), \
                 found machine {machine}",
                elf::EM_X86_64
            )),
            None => Err(NOT_64_BIT.to_owned()),
        }
    }

    fn outcome(
        &self,
        library: Library,
        version: Option<String>,
        functions: Result<Vec<(Role, u64)>, String>,
    ) -> Outcome {
        let functions = match functions {
            Ok(functions) => functions,
            Err(reason) => return self.unresolved(library, reason),
        };
        let site = |(role, address): (Role, u64)| {
            let file_offset = self.image.code_file_offset(address)?;
            Some(Site { role, symbol: role.symbol().to_owned(), file_offset })
        };
        match functions.into_iter().map(site).collect::<Option<Vec<Site>>>() {
            Some(mut sites) => {
                sites.sort();
                self.found(library, version, sites)
            }
            None => {
                let reason = "its functions lie outside the executable segments".to_owned();
                self.unresolved(library, reason)
            }
        }
    }

    fn found(&self, library: Library, version: Option<String>, sites: Vec<Site>) -> Outcome {
        let build_id = self.build_id.map(str::to_owned);
        Outcome::Found(TlsLibrary { library, version, build_id, sites, beside: Vec::new() })
    }

    fn unresolved(&self, library: Library, reason: String) -> Outcome {
        Outcome::Unresolved { library, reason, build_id: self.build_id.map(str::to_owned) }
    }
}

/// The functions the file defines under their own names.
fn named_sites(image: &Image) -> io::Result<Vec<Site>> {
    let role = |name: &[u8]| Role::ALL.into_iter().find(|role| role.symbol().as_bytes() == name);
    let symbols = image.functions(MAX_SITES, |name| role(name).is_some())?;
    let mut sites: Vec<Site> = symbols
        .into_iter()
        .filter_map(|symbol| {
            let role = role(symbol.name.as_bytes())?;
            let file_offset = image.code_file_offset(symbol.address)?;
            Some(Site { role, symbol: symbol.name, file_offset })
        })
        .collect();
    sites.sort();
    sites.dedup();
    Ok(sites)
}
