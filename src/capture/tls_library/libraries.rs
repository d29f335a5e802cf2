//! Every TLS library that one file holds, each by the way that fits it, as one outcome.

use std::io;

use object::elf;

use super::go::{self, Go};
use super::image::Image;
use super::marks::Marks;
use super::named::{self, Named};
use super::{Library, Outcome, Role, Site, TlsLibrary};
use super::{boringssl, inner, openssl_static, rustls};

/// Why nothing is looked for in a file of another layout.
const NOT_64_BIT: &str = "expected a 64-bit little-endian ELF file, found another class or order";

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
pub(super) struct Holder<'a> {
    pub(super) image: &'a Image,
    /// `EM_*`; absent where the file is not 64-bit and little-endian.
    pub(super) machine: Option<u16>,
    pub(super) marks: &'a Marks,
    pub(super) build_id: Option<&'a str>,
}

impl Holder<'_> {
    /// All of them; `None` if there is no mark of any.
    pub(super) fn all(&self) -> io::Result<Option<Outcome>> {
        let named = named::find(self.image)?;
        let has_openssl = named.iter().any(|named| named.library == Library::OpenSsl);
        let mut outcomes: Vec<Outcome> = named.into_iter().map(|named| self.named(named)).collect();
        if !has_openssl {
            outcomes.extend(self.stripped()?);
        }
        outcomes.extend(self.rustls()?);
        outcomes.extend(self.go()?);
        Ok(joined(outcomes))
    }

    /// A library that the file names.
    fn named(&self, Named { library, sites }: Named) -> Outcome {
        match library {
            Library::OpenSsl if !self.marks.boringssl_files.is_empty() => {
                self.found(Library::BoringSsl, None, sites)
            }
            Library::OpenSsl => self.found(library, self.marks.openssl_version.clone(), sites),
            other => self.found(other, None, sites),
        }
    }

    fn go(&self) -> io::Result<Option<Outcome>> {
        Ok(match go::find(self.image)? {
            Go::Absent => None,
            Go::Found(sites) => Some(self.found(Library::GoTls, None, sites)),
            Go::Unresolved(reason) => Some(self.unresolved(Library::GoTls, reason)),
        })
    }

    /// OpenSSL or BoringSSL without names, by meaning.
    fn stripped(&self) -> io::Result<Option<Outcome>> {
        let (image, marks) = (self.image, self.marks);
        if !marks.boringssl_files.is_empty() {
            let resolution = match self.code() {
                Ok(()) => boringssl::resolve(image, &marks.boringssl_files)?,
                Err(reason) => Err(reason),
            };
            let functions = resolution.map(|found| {
                vec![(Role::Read, "SSL_read", found.read), (Role::Write, "SSL_write", found.write)]
            });
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
            vec![(Role::ReadInternal, inner::READ, found.read), (write, inner::WRITE, found.write)]
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
        let mut functions = vec![(Role::RustlsWrite(place), "buffer_plaintext", write)];
        let reads = resolved.reads.into_iter();
        functions.extend(
            reads.map(|(address, place)| {
                (Role::RustlsRead(place), "take_received_plaintext", address)
            }),
        );
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
        functions: Result<Vec<(Role, &str, u64)>, String>,
    ) -> Outcome {
        let functions = match functions {
            Ok(functions) => functions,
            Err(reason) => return self.unresolved(library, reason),
        };
        let site = |(role, symbol, address): (Role, &str, u64)| {
            let file_offset = self.image.code_file_offset(address)?;
            Some(Site { role, symbol: symbol.to_owned(), file_offset })
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
