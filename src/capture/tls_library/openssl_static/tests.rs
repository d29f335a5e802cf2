//! The functions of a fake OpenSSL, compiled with and without what the search leans on.

use super::takes_flags_since;
use crate::capture::tls_library::synthetic::{Function, Linked, Style, link_with};
use crate::capture::tls_library::tests::find_bytes;
use crate::capture::tls_library::{Library, Outcome, Role};

const STYLE: Style = Style { pic: true, unwind: true, ..Style::PLAIN };
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

fn internal(name: &'static str) -> Function {
    Function::frameless(name, STYLE).takes(name).call("ERR_set_debug").end()
}

/// `lea 8(%rsp), %rcx; test %edx, %edx; js …` and the call.
fn ssl_read() -> Function {
    let body = Function::new("SSL_read", STYLE).emit(&[0x48, 0x8d, 0x4c, 0x24, 0x08]);
    body.emit(&[0x85, 0xd2, 0x78, 0x00]).call("ssl_read_internal").end()
}

/// `lea 8(%rsp), %rcx` and the call.
fn ssl_write_without_flags() -> Function {
    let body = Function::new("SSL_write", STYLE).emit(&[0x48, 0x8d, 0x4c, 0x24, 0x08]);
    body.call("ssl_write_internal").end()
}

/// `mov %rcx, %r8; xor %ecx, %ecx` and the call, as `SSL_write_ex` has it.
fn ssl_write_with_flags() -> Function {
    let body = Function::new("SSL_write_ex", STYLE).emit(&[0x49, 0x89, 0xc8, 0x31, 0xc9]);
    body.call("ssl_write_internal").end()
}

fn library(version: &'static str, writer: Function) -> Linked {
    linked(version, vec![internal("ssl_write_internal"), writer])
}

fn linked(version: &'static str, writers: Vec<Function>) -> Linked {
    let mut functions = vec![
        Function::new("ERR_set_debug", STYLE).end(),
        internal("ssl_read_internal"),
        ssl_read(),
    ];
    functions.extend(writers);
    link_with(STYLE, functions, &[version])
}

#[track_caller]
fn assert_found(linked: &Linked, version: &str, write: Role) {
    let outcome = find_bytes(&linked.bytes);
    let Outcome::Found(found) = outcome else { panic!("{outcome:?}") };
    assert_eq!((found.library, found.version.as_deref()), (Library::OpenSsl, Some(version)));
    let sites: Vec<_> = found.sites.iter().map(|site| (site.role, site.file_offset)).collect();
    let expected = [
        (Role::ReadInternal, linked.file_offset("ssl_read_internal")),
        (write, linked.file_offset("ssl_write_internal")),
    ];
    assert_eq!(sites, expected);
    assert!(found.beside.is_empty());
}

#[track_caller]
fn assert_unresolved(linked: &Linked, reason: &str) {
    match find_bytes(&linked.bytes) {
        Outcome::Unresolved { library: Library::OpenSsl, reason: given, .. } => {
            assert!(given.contains(reason), "{given}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_functions_are_found_with_and_without_flags() {
    assert_found(
        &library("OpenSSL 3.0.19 27 Jan", ssl_write_without_flags()),
        "3.0.19",
        Role::WriteInternal,
    );
    assert_found(
        &library("OpenSSL 3.6.4 1 Jan", ssl_write_with_flags()),
        "3.6.4",
        Role::WriteInternalFlags,
    );
}

#[test]
fn a_marker_at_the_start_is_stepped_over() {
    let marked =
        Function::bare("ssl_write_internal", STYLE).emit(ENDBR64).emit(&[0x41, 0x57, 0x53]);
    let marked = marked.takes("ssl_write_internal").call("ERR_set_debug").end();
    let linked = linked("OpenSSL 3.6.4 1 Jan", vec![marked, ssl_write_with_flags()]);
    let Outcome::Found(found) = find_bytes(&linked.bytes) else { panic!() };
    assert_eq!(found.sites[1].file_offset, linked.file_offset("ssl_write_internal") + 4);
}

#[test]
fn a_version_that_callers_contradict_leaves_it_unresolved() {
    let linked = library("OpenSSL 3.2.0 1 Jan", ssl_write_with_flags());
    assert_unresolved(&linked, "as its fourth argument, found 0 that do so as the fourth and 1");
    let linked = library("OpenSSL 3.3.0 1 Jan", ssl_write_without_flags());
    assert_unresolved(&linked, "as its fifth argument, found 1 that do so as the fourth and 0");
    let both =
        vec![internal("ssl_write_internal"), ssl_write_with_flags(), ssl_write_without_flags()];
    assert_unresolved(&self::linked("OpenSSL 3.3.0 1 Jan", both), "as its fifth argument");
}

#[test]
fn callers_decide_where_the_version_does_not() {
    let linked = library("OpenSSL 4.0.0 1 Jan", ssl_write_with_flags());
    assert_found(&linked, "4.0.0", Role::WriteInternalFlags);
    let neither = Function::new("SSL_write", STYLE).call("ssl_write_internal").end();
    assert_unresolved(&library("OpenSSL 4.0.0 1 Jan", neither), "its fourth or the fifth argument");
}

#[test]
fn a_function_that_only_passes_its_arguments_on_is_looked_behind() {
    // As where SSL_write_ex2 is the only caller, and SSL_write_ex jumps to it.
    let forwarder = Function::bare("SSL_write_ex2", STYLE).emit(&[0x48, 0x83, 0xec, 0x08]);
    let forwarder = forwarder.call("ssl_write_internal").end();
    let jumper = Function::bare("SSL_write_ex", STYLE).emit(&[0x49, 0x89, 0xc8, 0x31, 0xc9]);
    let writers = vec![internal("ssl_write_internal"), forwarder, jumper.jump("SSL_write_ex2")];
    assert_found(&linked("OpenSSL 3.5.1 1 Jul", writers), "3.5.1", Role::WriteInternalFlags);
}

#[test]
fn a_part_split_off_for_errors_is_not_the_function() {
    // It takes the name as well, but nobody calls it.
    let cold =
        Function::bare("cold", STYLE).takes("ssl_write_internal").call("ERR_set_debug").end();
    let writers = vec![cold, internal("ssl_write_internal"), ssl_write_with_flags()];
    assert_found(&linked("OpenSSL 3.6.4 1 Jan", writers), "3.6.4", Role::WriteInternalFlags);
}

#[test]
fn without_one_function_that_is_called_nothing_is_resolved() {
    let alone = vec![internal("ssl_write_internal")];
    assert_unresolved(&linked("OpenSSL 3.6.4 1 Jan", alone), "found 0 among 1 that take");
    let copy = Function::frameless("copy", STYLE).takes("ssl_write_internal").end();
    let caller = Function::new("caller", STYLE).call("copy").end();
    let two = vec![internal("ssl_write_internal"), ssl_write_with_flags(), copy, caller];
    assert_unresolved(&linked("OpenSSL 3.6.4 1 Jan", two), "found 2 among 2 that take");
}

#[test]
fn the_version_tells_the_arguments_where_it_is_known() {
    assert_eq!(takes_flags_since("3.0.19"), Some(false));
    assert_eq!(takes_flags_since("3.2.1"), Some(false));
    assert_eq!(takes_flags_since("3.3.0"), Some(true));
    assert_eq!(takes_flags_since("3.6.4"), Some(true));
    assert_eq!(takes_flags_since("4.0.0"), None);
    assert_eq!(takes_flags_since("x"), None);
}
