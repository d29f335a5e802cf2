//! TLS functions that a file defines under their own names: shared libssl and libgnutls, node, and
//! whatever else was not stripped.
//!
//! Of each family the functions of its interface, but for those behind which something cheaper to
//! probe is known for certain (`inner.rs`).
//!
//! Fed by [`Image`].

use std::collections::BTreeSet;
use std::io;

use super::image::{Image, Symbol};
use super::inner::{self, Interface};
use super::{Library, Role, Site};

/// Most symbols taken; two copies of a library have some twenty.
const MAX_SYMBOLS: usize = 64;

/// The interface that OpenSSL, BoringSSL and their descendants share.
const OPENSSL: &[(&str, Role)] = &[
    ("SSL_read", Role::Read),
    ("SSL_read_ex", Role::ReadEx),
    ("SSL_write", Role::Write),
    ("SSL_write_ex", Role::WriteEx),
    ("SSL_write_ex2", Role::WriteEx2),
    ("SSL_free", Role::Free),
    // Kernel TLS sends from a file.
    ("SSL_sendfile", Role::WriteUnseen),
];

/// That of GnuTLS. `gnutls_record_send_range` and, without kernel TLS, `gnutls_record_send_file`
/// go through `gnutls_record_send`.
const GNUTLS: &[(&str, Role)] = &[
    ("gnutls_record_recv", Role::Read),
    ("gnutls_record_recv_seq", Role::Read),
    // Hands out a buffer of its own, in a form that is nobody's interface.
    ("gnutls_record_recv_packet", Role::ReadUnseen),
    (GNUTLS_SEND, Role::Write),
    (GNUTLS_SEND2, Role::Write),
    ("gnutls_deinit", Role::Free),
];
const GNUTLS_SEND: &str = "gnutls_record_send";
const GNUTLS_SEND2: &str = "gnutls_record_send2";

/// They show nothing of what is read, and stand beside what does.
const PEEKS: [&str; 2] = ["SSL_peek", "SSL_peek_ex"];

/// What a file defines by name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// [`Library::OpenSsl`] for everything with its interface, or [`Library::GnuTls`].
    pub(super) library: Library,
    /// Ordered by role and offset; at least one reads or writes.
    pub(super) sites: Vec<Site>,
}

/// The families of which the file defines a function that reads or writes.
pub(super) fn find(image: &Image) -> io::Result<Vec<Named>> {
    let families = [(Library::OpenSsl, OPENSSL), (Library::GnuTls, GNUTLS)];
    let wanted = |name: &[u8]| {
        let in_family = |&(_, interface): &(_, &[(&str, Role)])| {
            interface.iter().any(|(symbol, _)| symbol.as_bytes() == name)
        };
        families.iter().any(in_family) || PEEKS.iter().any(|peek| peek.as_bytes() == name)
    };
    let symbols = image.functions(MAX_SYMBOLS, wanted)?;
    let mut found = Vec::new();
    for (library, interface) in families {
        let role = |symbol: &Symbol| {
            interface.iter().find(|(name, _)| *name == symbol.name).map(|&(_, role)| role)
        };
        // Both symbol tables may have it; code elsewhere than in a segment cannot be probed.
        let functions: BTreeSet<(Role, &str, u64)> = symbols
            .iter()
            .filter(|symbol| image.code_file_offset(symbol.address).is_some())
            .filter_map(|symbol| Some((role(symbol)?, &*symbol.name, symbol.address)))
            .collect();
        if functions.iter().any(|(role, ..)| *role != Role::Free) {
            let peeks = symbols.iter().filter(|symbol| PEEKS.contains(&&*symbol.name));
            let peeks: Vec<u64> = peeks.map(|symbol| symbol.address).collect();
            let functions = cheapest(image, functions, &peeks)?;
            found.push(Named { library, sites: sites(image, functions)? });
        }
    }
    Ok(found)
}

/// `functions`, with those replaced that have something cheaper behind them.
fn cheapest<'a>(
    image: &Image,
    mut functions: BTreeSet<(Role, &'a str, u64)>,
    peeks: &[u64],
) -> io::Result<BTreeSet<(Role, &'a str, u64)>> {
    if !image.is_x86_64() {
        return Ok(functions);
    }
    if let Some(&send) = functions.iter().find(|(_, name, _)| *name == GNUTLS_SEND)
        && functions.iter().any(|(_, name, _)| *name == GNUTLS_SEND2)
        && inner::hands_over(image, send.2)?
    {
        functions.remove(&send);
        return Ok(functions);
    }
    let interface: Interface =
        functions.iter().map(|&(role, _, address)| (role, address)).collect();
    if interface.len() < functions.len() {
        return Ok(functions);
    }
    let readers: &[Role] = &[Role::Read, Role::ReadEx];
    let writers: &[Role] = &[Role::Write, Role::WriteEx, Role::WriteEx2];
    let found = [
        (readers, inner::reader(image, &interface, peeks)?),
        (writers, inner::writer(image, &interface)?),
    ];
    for (covers, inner) in found {
        let Some(inner) = inner else { continue };
        let mut gains = false;
        for (_, address) in interface.iter().filter(|(role, _)| covers.contains(role)) {
            gains |= !inner::beginning(image, *address)?.cheap;
        }
        if gains {
            functions.retain(|(role, ..)| !covers.contains(role));
            functions.insert((inner.role, inner.symbol, inner.address));
        }
    }
    Ok(functions)
}

fn sites(image: &Image, functions: BTreeSet<(Role, &str, u64)>) -> io::Result<Vec<Site>> {
    let mut sites = Vec::new();
    for (role, symbol, address) in functions {
        let address = address.saturating_add(inner::beginning(image, address)?.skip);
        if let Some(file_offset) = image.code_file_offset(address) {
            sites.push(Site { role, symbol: symbol.to_owned(), file_offset });
        }
    }
    sites.sort();
    sites.dedup();
    Ok(sites)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::capture::tls_library::synthetic::with_symbols;

    /// `sub $8,%rsp` and a call: hands every argument on.
    const COVER: &[u8] = &[0x48, 0x83, 0xec, 0x08, 0xe8];
    /// Passes `int` arguments and a place in the frame for the count.
    const PLAIN: &[u8] =
        &[0x48, 0x83, 0xec, 0x18, 0x48, 0x63, 0xd2, 0x48, 0x89, 0xe1, 0x85, 0xd2, 0xe8];
    /// The same with flags: none, or the caller's.
    const PLAIN_FLAGS: &[u8] =
        &[0x48, 0x83, 0xec, 0x18, 0x48, 0x63, 0xd2, 0x31, 0xc9, 0x49, 0x89, 0xe0, 0xe8];
    const NO_FLAGS: &[u8] = &[0x49, 0x89, 0xc8, 0x31, 0xc9, 0xe9];
    const PUSH: &[u8] = &[0x41, 0x56];
    const SUB: &[u8] = &[0x48, 0x83, 0xec, 0x58];

    const READ_INNER: u64 = 0x400;
    const WRITE_INNER: u64 = 0x500;
    const OTHER: u64 = 0x600;

    /// A libssl of these functions: name, address, code and where its last four bytes lead.
    type Parts<'a> = Vec<(&'a str, u64, &'a [u8], u64)>;

    fn library() -> Parts<'static> {
        vec![
            ("SSL_read", 0x100, PLAIN, READ_INNER),
            ("SSL_read_ex", 0x140, COVER, READ_INNER),
            ("SSL_peek", 0x180, PLAIN, OTHER),
            ("SSL_write", 0x1c0, PLAIN, WRITE_INNER),
            ("SSL_write_ex", 0x200, COVER, WRITE_INNER),
            ("SSL_free", 0x240, PUSH, 0),
        ]
    }

    fn probed(parts: &Parts<'_>, inner: &[(u64, &[u8])]) -> Vec<(Role, String, u64)> {
        let symbols: Vec<_> = parts.iter().map(|&(name, at, ..)| (name, at, true)).collect();
        let mut bytes = with_symbols(62, &symbols);
        let mut put = |at: u64, code: &[u8]| {
            bytes[0x1000 + at as usize..][..code.len()].copy_from_slice(code);
        };
        for &(_, at, code, target) in parts {
            let end = at + code.len() as u64 + 4;
            put(at, &[code, &(target.wrapping_sub(end) as u32).to_le_bytes()].concat());
        }
        inner.iter().for_each(|&(at, code)| put(at, code));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let named = find(&Image::open(file).unwrap()).unwrap().remove(0);
        named.sites.into_iter().map(|s| (s.role, s.symbol, s.file_offset - 0x1000)).collect()
    }

    const CHEAP: &[(u64, &[u8])] = &[(READ_INNER, PUSH), (WRITE_INNER, PUSH), (OTHER, PUSH)];

    #[test]
    fn the_functions_that_plain_and_extended_ones_share_are_probed_instead_of_them() {
        let expected = [
            (Role::Free, "SSL_free".to_owned(), 0x240),
            (Role::ReadInternal, "ssl_read_internal".to_owned(), READ_INNER),
            (Role::WriteInternal, "ssl_write_internal".to_owned(), WRITE_INNER),
        ];
        assert_eq!(probed(&library(), CHEAP), expected);
    }

    #[test]
    fn with_flags_the_count_is_where_the_fifth_argument_says() {
        let mut parts = library();
        parts[3].2 = PLAIN_FLAGS;
        parts[4] = ("SSL_write_ex", 0x200, NO_FLAGS, 0x280);
        parts.push(("SSL_write_ex2", 0x280, COVER, WRITE_INNER));
        let probed = probed(&parts, CHEAP);
        let write = (Role::WriteInternalFlags, "ssl_write_internal".to_owned(), WRITE_INNER);
        assert!(probed.contains(&write) && probed.len() == 3, "{probed:?}");
    }

    #[test]
    fn where_anything_is_not_certain_the_interface_is_probed() {
        let covers = |parts: &Parts<'_>, inner: &[(u64, &[u8])], names: &[&str]| {
            let probed = probed(parts, inner);
            let found: Vec<&str> = probed.iter().map(|(_, name, _)| &**name).collect();
            for name in names {
                assert!(found.contains(name), "{name} is not in {found:?}");
            }
        };
        let readers = ["SSL_read", "SSL_read_ex"];
        let writers = ["SSL_write", "SSL_write_ex"];
        let changed = |index: usize, part| {
            let mut parts = library();
            parts[index] = part;
            parts
        };
        covers(&changed(1, ("SSL_read_ex", 0x140, COVER, OTHER)), CHEAP, &readers);
        covers(&changed(1, ("SSL_read_ex", 0x140, PLAIN, READ_INNER)), CHEAP, &readers);
        covers(&changed(2, ("SSL_peek", 0x180, PLAIN, READ_INNER)), CHEAP, &readers);
        covers(&changed(3, ("SSL_write", 0x1c0, PLAIN_FLAGS, WRITE_INNER)), CHEAP, &writers);
        covers(&changed(4, ("SSL_write_ex2", 0x200, COVER, WRITE_INNER)), CHEAP, &["SSL_write"]);
        covers(&changed(2, ("SSL_read", 0x180, PLAIN, OTHER)), CHEAP, &["SSL_read", "SSL_read_ex"]);
        covers(&library(), &[(READ_INNER, SUB), (WRITE_INNER, PUSH)], &readers);
        let named_otherwise = changed(5, ("ssl_read_internal", OTHER, PUSH, 0));
        covers(&named_otherwise, CHEAP, &readers);
        // What is cheap already is left as it is.
        let framed: Vec<u8> = [&[0x55][..], PLAIN].concat();
        let mut parts = library();
        parts[0].2 = &framed;
        parts[1].2 = &[0x55, 0xe8];
        covers(&parts, CHEAP, &readers);
    }

    #[test]
    fn a_send_that_only_hands_over_is_not_probed_twice() {
        let hands_over: &[u8] = &[0x45, 0x31, 0xc0, 0x31, 0xc9, 0xe9];
        let parts = vec![
            ("gnutls_record_send", 0x100, hands_over, OTHER),
            ("gnutls_record_send2", 0x140, PUSH, 0),
            ("gnutls_record_recv", 0x180, SUB, 0),
        ];
        let names = |parts| -> Vec<String> {
            probed(&parts, CHEAP).into_iter().map(|(_, name, _)| name).collect()
        };
        assert_eq!(names(parts.clone()), ["gnutls_record_recv", "gnutls_record_send2"]);
        let mut does_more = parts;
        does_more[0].2 = COVER;
        assert_eq!(names(does_more).len(), 3);
    }
}
