//! Fake functions of rustls: their shape in other registers, orders and offsets, and lookalikes.

use proptest::prelude::*;

use crate::capture::tls_library::synthetic::{Function, Linked, Style, link_with};
use crate::capture::tls_library::tests::find_bytes;
use crate::capture::tls_library::{Library, Outcome, Role, RustlsPlace};

const STYLE: Style = Style { pic: true, unwind: true, ..Style::PLAIN };
const VERSION: &str = "/cargo/registry/src/rustls-0.23.46/src/conn.rs";

/// `movabs $0x8000000000000000, %rax`
const NONE_IN_RAX: &[u8] = &[0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80];
/// `mov 0x308(%rdi), %r15`
const LOAD_UPDATE: &[u8] = &[0x4c, 0x8b, 0xbf, 0x08, 3, 0, 0];
/// `mov %rax, 0x308(%rdi)`
const STORE_NONE: &[u8] = &[0x48, 0x89, 0x87, 0x08, 3, 0, 0];
/// `cmpb $1, 0x336(%rdi)`
const ASK_FLAG: &[u8] = &[0x80, 0xbf, 0x36, 3, 0, 0, 1];
/// `mov %rdx, %r14; mov %rsi, %rbx`
const KEEP_BOTH: &[u8] = &[0x49, 0x89, 0xd6, 0x48, 0x89, 0xf3];
/// `movb $32, 0x32e(%rdi)`
const RESET: &[u8] = &[0xc6, 0x87, 0x2e, 3, 0, 0, 0x20];
/// `mov (%rsi), %r12; mov 8(%rsi), %r14; mov 0x10(%rsi), %rbx`
const READ_PAYLOAD: &[u8] = &[0x4c, 0x8b, 0x26, 0x4c, 0x8b, 0x76, 8, 0x48, 0x8b, 0x5e, 0x10];

fn buffer_plaintext(name: &'static str) -> Function {
    let taken = Function::new(name, STYLE).emit(KEEP_BOTH).emit(LOAD_UPDATE).emit(NONE_IN_RAX);
    taken.emit(STORE_NONE).emit(ASK_FLAG).call("send_plain").end()
}

/// `mov 0x10(%rbx), %rsi; mov 0x18(%rbx), %rax; lea 8(%rsp), %rdi; call *0x18(%rax)`
fn send_plain() -> Function {
    let loaded =
        Function::new("send_plain", STYLE).emit(&[0x48, 0x8b, 0x73, 0x10, 0x48, 0x8b, 0x43, 0x18]);
    loaded.emit(&[0x48, 0x8d, 0x7c, 0x24, 8, 0xff, 0x50, 0x18]).end()
}

/// Like `buffer_plaintext`, but its third argument is none of its business.
fn queue_message() -> Function {
    let taken = Function::new("queue_message", STYLE).emit(&[0x48, 0x89, 0xf3]);
    taken.emit(LOAD_UPDATE).emit(NONE_IN_RAX).emit(STORE_NONE).emit(ASK_FLAG).end()
}

fn take_received() -> Function {
    Function::new("take_received", STYLE).emit(RESET).emit(READ_PAYLOAD).end()
}

/// An inlined copy, elsewhere in a function: `mov (%rdx), %r13; movb $32, 0x32e(%r13);
/// mov 8(%r15), %r12; mov 0x10(%r15), %rdi; mov 0x18(%r15), %rbp`.
fn inlined() -> Function {
    let before = Function::new("handle", STYLE).emit(&[0x49, 0x89, 0xcf, 0x4c, 0x8b, 0x2a]);
    let reset = before.emit(&[0x41, 0xc6, 0x85, 0x2e, 3, 0, 0, 0x20]);
    reset.emit(&[0x4d, 0x8b, 0x67, 8, 0x49, 0x8b, 0x7f, 0x10, 0x49, 0x8b, 0x6f, 0x18]).end()
}

/// Instructions of [`inlined`] in front of the reset: what every function here begins with, a copy
/// and a load.
const BEFORE_RESET: u64 = 3 + 3 + 3;

fn linked(functions: Vec<Function>) -> Linked {
    link_with(STYLE, functions, &[VERSION])
}

fn place(connection: u8, payload: u8, payload_offset: i16) -> RustlsPlace {
    RustlsPlace { connection, payload, payload_offset, encrypter_offset: Some(0x10) }
}

fn found(linked: &Linked) -> (Vec<(Role, u64)>, Vec<Outcome>) {
    let outcome = find_bytes(&linked.bytes);
    let Outcome::Found(found) = outcome else { panic!("{outcome:?}") };
    assert_eq!((found.library, found.version.as_deref()), (Library::Rustls, Some("0.23.46")));
    (found.sites.iter().map(|site| (site.role, site.file_offset)).collect(), found.beside)
}

#[track_caller]
fn assert_unresolved(functions: Vec<Function>, reason: &str) {
    match find_bytes(&linked(functions).bytes) {
        Outcome::Unresolved { library: Library::Rustls, reason: given, .. } => {
            assert!(given.contains(reason), "{given}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_functions_and_an_inlined_copy_are_found_in_either_order() {
    let functions = || {
        vec![queue_message(), buffer_plaintext("writer"), send_plain(), inlined(), take_received()]
    };
    for functions in [functions(), functions().into_iter().rev().collect()] {
        let linked = linked(functions);
        let (mut sites, beside) = found(&linked);
        sites.sort();
        let mut expected = vec![
            (Role::RustlsRead(place(7, 6, 0)), linked.file_offset("take_received")),
            (Role::RustlsRead(place(13, 15, 8)), linked.file_offset("handle") + BEFORE_RESET),
            (Role::RustlsWrite(place(7, 6, 0)), linked.file_offset("writer")),
        ];
        expected.sort();
        assert_eq!(sites, expected);
        assert!(beside.is_empty(), "{beside:?}");
    }
}

#[test]
fn a_copy_whose_payload_does_not_show_is_told_of() {
    // The reset, and then a call that may do anything.
    let hidden = Function::new("hidden", STYLE).emit(&[0xc6, 0x83, 0x2e, 3, 0, 0, 0x20]);
    let hidden = hidden.call("send_plain").end();
    let functions = vec![buffer_plaintext("writer"), send_plain(), take_received(), hidden];
    let (sites, beside) = found(&linked(functions));
    assert_eq!(sites.len(), 2);
    let [Outcome::Unresolved { library: Library::Rustls, reason, .. }] = &beside[..] else {
        panic!("{beside:?}")
    };
    assert!(reason.contains("does not show which registers hold the data"), "{reason}");
}

#[test]
fn words_read_through_a_register_that_has_changed_are_no_payload() {
    // `pop %rsi` between the second and the third word.
    let changed = [0x4c, 0x8b, 0x26, 0x4c, 0x8b, 0x76, 8, 0x5e, 0x48, 0x8b, 0x5e, 0x10];
    let reader = Function::new("take_received", STYLE).emit(RESET).emit(&changed).end();
    let functions = vec![buffer_plaintext("writer"), send_plain(), reader];
    assert_unresolved(functions, "found 0 and 0 for the latter");
    // Four words in a row: which three of them?
    let four = [READ_PAYLOAD, &[0x48, 0x8b, 0x6e, 0x18]].concat();
    let reader = Function::new("take_received", STYLE).emit(RESET).emit(&four).end();
    let functions = vec![buffer_plaintext("writer"), send_plain(), reader];
    assert_unresolved(functions, "found 0 and 0 for the latter");
}

#[test]
fn two_writers_or_none_leave_it_unresolved() {
    let two =
        vec![buffer_plaintext("writer"), buffer_plaintext("other"), send_plain(), take_received()];
    assert_unresolved(two, "found 2 and 1 for the latter");
    assert_unresolved(vec![queue_message(), take_received()], "found 0 and 1 for the latter");
    let far =
        Function::new("writer", STYLE).emit(KEEP_BOTH).emit(&[0x4c, 0x8b, 0xbf, 0x08, 5, 0, 0]);
    let far = far.emit(NONE_IN_RAX).emit(&[0x48, 0x89, 0x87, 0x08, 5, 0, 0]).emit(ASK_FLAG).end();
    assert_unresolved(vec![far, take_received()], "found 0 and 1 for the latter");
}

#[test]
fn an_encrypter_that_does_not_show_is_left_out() {
    let other = Function::new("send_plain", STYLE).end();
    let (sites, _) = found(&linked(vec![buffer_plaintext("writer"), other, take_received()]));
    let (Role::RustlsWrite(place) | Role::RustlsRead(place)) = sites[0].0 else {
        panic!("{sites:?}")
    };
    assert_eq!(place.encrypter_offset, None);
}

#[test]
fn a_file_with_openssl_and_rustls_has_sites_of_both() {
    let internal = |name: &'static str| Function::frameless(name, STYLE).takes(name).end();
    // `mov %rsp, %rcx`; `mov %rsp, %r8`.
    let read = Function::new("SSL_read", STYLE).emit(&[0x48, 0x89, 0xe1]).call("ssl_read_internal");
    let write =
        Function::new("SSL_write", STYLE).emit(&[0x49, 0x89, 0xe0]).call("ssl_write_internal");
    let functions = vec![
        internal("ssl_read_internal"),
        read.end(),
        internal("ssl_write_internal"),
        write.end(),
        buffer_plaintext("writer"),
        send_plain(),
        take_received(),
    ];
    let linked = link_with(STYLE, functions, &[VERSION, "OpenSSL 3.6.4 1 Jan"]);
    let Outcome::Found(found) = find_bytes(&linked.bytes) else { panic!() };
    assert_eq!((found.library, found.sites.len()), (Library::OpenSsl, 2));
    let [Outcome::Found(beside)] = &found.beside[..] else { panic!("{:?}", found.beside) };
    assert_eq!((beside.library, beside.sites.len()), (Library::Rustls, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_give_an_outcome_inside_the_file(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        code_only: bool,
    ) {
        let functions =
            vec![queue_message(), buffer_plaintext("writer"), send_plain(), inlined(), take_received()];
        let mut bytes = linked(functions).bytes;
        let from = if code_only { 0x2000 } else { 0 };
        let reach = bytes.len() - from;
        for (at, value) in damage {
            bytes[from + at.index(reach)] = value;
        }
        if let Outcome::Found(found) = find_bytes(&bytes) {
            for site in found.sites {
                prop_assert!(site.file_offset < bytes.len() as u64);
            }
        }
    }
}
