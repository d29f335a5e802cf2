//! `find` on images built in memory, on damaged ones, and on real agents where they are installed.

use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::functions::Functions;
use super::image::Image;
use super::synthetic::{CODE_OFFSET, Function, Linked, Style, link, with_symbols};
use super::{Library, Outcome, Role, find};

pub(super) fn find_bytes(bytes: &[u8]) -> Outcome {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    find(file.path()).unwrap()
}

fn put_error(style: Style) -> Function {
    Function::new("ERR_put_error", style).end()
}

fn unrelated(style: Style) -> Function {
    Function::new("SSL_new", style).error(195, 300).error(226, 310).end()
}

fn read_impl(style: Style) -> Function {
    Function::new("ssl_read_impl", style).error(226, 842).test_span().error(215, 875).end()
}

fn peek(style: Style) -> Function {
    Function::new("SSL_peek", style).error(66, 917).call("ssl_read_impl").end()
}

fn read(style: Style) -> Function {
    Function::new("SSL_read", style).error(66, 917).call("ssl_read_impl").advance_span().end()
}

fn write_named(name: &'static str, style: Style) -> Function {
    let body = Function::new(name, style).error(66, 938).error(226, 943);
    body.error(111, 958).error(215, 964).end()
}

fn write(style: Style) -> Function {
    write_named("SSL_write", style)
}

fn assert_found(linked: &Linked, style: Style) {
    let Outcome::Found(found) = find_bytes(&linked.bytes) else {
        panic!("{style:?}: {:?}", find_bytes(&linked.bytes));
    };
    assert_eq!(found.library, Library::BoringSsl);
    let sites: Vec<_> = found.sites.iter().map(|s| (s.role, s.file_offset)).collect();
    let expected = [
        (Role::Read, linked.file_offset("SSL_read")),
        (Role::Write, linked.file_offset("SSL_write")),
    ];
    assert_eq!(sites, expected, "{style:?}");
}

fn assert_unresolved(functions: Vec<Function>, style: Style, reason: &str) {
    match find_bytes(&link(style, functions).bytes) {
        Outcome::Unresolved { library: Library::BoringSsl, reason: given, .. } => {
            assert!(given.contains(reason), "{style:?}: {given}");
        }
        other => panic!("{style:?}: {other:?}"),
    }
}

#[test]
fn stripped_boringssl_is_resolved_in_either_order_however_it_was_compiled() {
    for s in Style::all() {
        let functions = vec![unrelated(s), put_error(s), read_impl(s), read(s), write(s)];
        assert_found(&link(s, functions), s);
        let functions = vec![write(s), put_error(s), read(s), unrelated(s), read_impl(s)];
        assert_found(&link(s, functions), s);
    }
}

#[test]
fn the_function_that_consumes_is_read_where_peek_is_inlined_into_it() {
    for s in Style::all() {
        let functions = vec![put_error(s), peek(s), read_impl(s), read(s), write(s)];
        assert_found(&link(s, functions), s);
    }
}

#[test]
fn the_consuming_caller_of_peek_is_read_where_it_raises_nothing_itself() {
    for s in Style::all() {
        let read = Function::new("SSL_read", s).call("SSL_peek").advance_span().end();
        let other = Function::new("SSL_peek_user", s).call("SSL_peek").end();
        let functions = vec![put_error(s), read, write(s), other, read_impl(s), peek(s)];
        assert_found(&link(s, functions), s);
    }
}

#[test]
fn two_functions_of_the_same_meaning_leave_the_file_unresolved() {
    for s in Style::all() {
        let functions = vec![put_error(s), read_impl(s), read(s), write(s), write_named("copy", s)];
        assert_unresolved(functions, s, "expected one function SSL_write raising");
        let copy = Function::new("copy", s).error(66, 917).call("ssl_read_impl").advance_span();
        let functions = vec![put_error(s), read_impl(s), read(s), write(s), copy.end()];
        assert_unresolved(functions, s, "found 2 that do, of 2");
    }
}

#[test]
fn a_function_that_misses_one_trait_is_not_taken() {
    let s = Style::PLAIN;
    let rest = || vec![put_error(s), read_impl(s), write(s)];
    let with = |read: Function| rest().into_iter().chain([read.end()]).collect::<Vec<_>>();
    let read = || Function::new("SSL_read", s);
    let wrong_line = read().error(66, 940).call("ssl_read_impl").advance_span();
    assert_unresolved(with(wrong_line), s, "found 0 that do, of 0");
    let no_call = read().error(66, 917).advance_span();
    assert_unresolved(with(no_call), s, "found 0 that do, of 0");
    let only_peek = read().error(66, 917).call("ssl_read_impl");
    assert_unresolved(with(only_peek), s, "which calls SSL_peek and consumes");
    let other_span = read().error(66, 917).call("ssl_read_impl");
    let other_span = other_span.emit(&[0x48, 0x01, 0x58, 0x40, 0x48, 0x89, 0x48, 0x48]);
    assert_unresolved(with(other_span), s, "which calls SSL_peek and consumes");
    let no_bad_length = Function::new("SSL_write", s).error(66, 938).error(226, 943).end();
    let functions = vec![put_error(s), read_impl(s), super::tests::read(s), no_bad_length];
    assert_unresolved(functions, s, "found 0 among 3 functions with 5 references");
}

#[test]
fn code_behind_a_function_whose_start_does_not_show_is_not_counted_as_its() {
    for pic in [false, true] {
        let s = Style { pic, ..Style::PLAIN };
        // Nobody calls the frameless SSL_write, and nops fill the space in front of it: the search
        // for starts gives the function before, which must not be probed in its place.
        let mut before = Function::new("before", s).end();
        while !before.len().is_multiple_of(16) {
            before = before.emit(&[0x90]);
        }
        let write = Function::frameless("SSL_write", s).error(66, 938).error(226, 943);
        let write = write.error(111, 958).error(215, 964).end();
        let functions = vec![put_error(s), read_impl(s), read(s), before, write];
        assert_unresolved(functions, s, "expected one function SSL_write");
    }
}

#[test]
fn a_frameless_function_is_found_where_something_calls_it() {
    let s = Style::PLAIN;
    let write = Function::frameless("SSL_write", s).error(66, 938).error(226, 943);
    let write = write.error(111, 958).error(215, 964).end();
    let caller = Function::new("caller", s).call("SSL_write").end();
    let functions = vec![put_error(s), read_impl(s), read(s), write, caller];
    assert_found(&link(s, functions), s);
}

#[test]
fn every_address_of_a_function_is_known_to_be_its() {
    for s in Style::all() {
        let linked = link(s, vec![put_error(s), read_impl(s), peek(s), read(s), write(s)]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&linked.bytes).unwrap();
        let image = Image::open(file).unwrap();
        let functions = Functions::new(&image, std::iter::empty()).unwrap();
        for range in &linked.addresses {
            for address in [range.start, range.start + 1, range.end - 1] {
                let extent = functions.containing(address).unwrap().unwrap();
                assert_eq!((extent.range.start, extent.certain), (range.start, s.unwind));
                assert!(
                    extent.range.end >= range.end && (extent.range.end == range.end || !s.unwind)
                );
            }
        }
    }
}

#[test]
fn a_mark_without_references_is_unresolved() {
    let functions = vec![put_error(Style::PLAIN)];
    assert_unresolved(functions, Style::PLAIN, "never takes the address of ssl/ssl_lib.cc");
}

#[test]
fn functions_the_file_defines_are_found_by_name_and_imported_ones_are_not() {
    let names = [("SSL_read", 0x10, true), ("SSL_write_ex@@OPENSSL_3.0.0", 0x20, true)];
    for machine in [62, 183] {
        let Outcome::Found(found) = find_bytes(&with_symbols(machine, &names)) else { panic!() };
        assert_eq!(found.library, Library::OpenSsl);
        let sites: Vec<_> = found.sites.iter().map(|s| (s.role, s.file_offset)).collect();
        assert_eq!(sites, [(Role::Read, 0x1010), (Role::WriteEx, 0x1020)]);
    }
    let imported = with_symbols(62, &[("SSL_read", 0, false), ("SSL_write", 0, false)]);
    assert_eq!(find_bytes(&imported), Outcome::Absent { build_id: None });
    let outside = with_symbols(62, &[("SSL_read", 0x10_0000, true)]);
    assert_eq!(find_bytes(&outside), Outcome::Absent { build_id: None });
    let only_free = with_symbols(62, &[("SSL_free", 0x10, true)]);
    assert_eq!(find_bytes(&only_free), Outcome::Absent { build_id: None });
}

#[test]
fn stripped_code_of_another_machine_is_unresolved_and_says_so() {
    let s = Style { pic: true, ..Style::PLAIN };
    let mut linked = link(s, vec![put_error(s), read_impl(s), read(s), write(s)]);
    linked.bytes[18] = 183;
    let outcome = find_bytes(&linked.bytes);
    let Outcome::Unresolved { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("expected x86-64 code (machine 62), found machine 183"), "{reason}");
}

#[test]
fn a_32_bit_file_that_names_the_functions_is_unresolved() {
    let mut bytes = with_symbols(3, &[("SSL_write", 0x10, true)]);
    bytes[4] = 1;
    let outcome = find_bytes(&bytes);
    assert!(
        matches!(outcome, Outcome::Unresolved { library: Library::OpenSsl, .. }),
        "{outcome:?}"
    );
}

#[test]
fn other_libraries_are_recognised_by_their_marks() {
    let image = |text: &[u8]| {
        let mut bytes = with_symbols(62, &[]);
        bytes[0x1100..0x1100 + text.len()].copy_from_slice(text);
        find_bytes(&bytes)
    };
    let openssl = image(b"\0ssl_write_internal\0OpenSSL 3.6.4 1 Jan\0/rustls-0.23.46/src/conn.rs");
    let Outcome::Unresolved { library, reason, .. } = openssl else { panic!("{openssl:?}") };
    assert_eq!(library, Library::OpenSsl);
    assert!(reason.contains("OpenSSL 3.6.4") && reason.contains("rustls 0.23.46"), "{reason}");
    let rustls = image(b"\0registry/src/rustls-0.23.46/src/conn.rs");
    assert!(matches!(rustls, Outcome::Unresolved { library: Library::Rustls, .. }), "{rustls:?}");
    assert_eq!(image(b"\0/tokio-rustls-0.26.1/src"), Outcome::Absent { build_id: None });
}

#[test]
fn what_is_no_elf_file_is_absent() {
    for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\nexec true\n", &[0; 4096]] {
        assert_eq!(find_bytes(bytes), Outcome::Absent { build_id: None });
    }
    assert_eq!(find(Path::new("/dev/null")).unwrap(), Outcome::Absent { build_id: None });
    assert!(find(Path::new("/no/such/file")).is_err());
}

#[test]
fn every_truncation_is_survived() {
    let s = Style { unwind: true, pic: true, ..Style::PLAIN };
    let linked = link(s, vec![put_error(s), read_impl(s), read(s), write(s)]);
    let named = with_symbols(62, &[("SSL_read", 0x10, true)]);
    for bytes in [&linked.bytes, &named] {
        for length in (0..bytes.len()).step_by(37) {
            find_bytes(&bytes[..length]);
        }
    }
}

#[test]
fn counts_and_sizes_the_file_cannot_hold_are_not_believed() {
    let huge = u64::MAX.to_le_bytes();
    // Header fields: table offsets, entry counts; then the first program header's fields.
    for at in (16..64).step_by(2).chain((64..176).step_by(8)) {
        for width in [2, 8] {
            let s = Style::PLAIN;
            let linked = link(s, vec![put_error(s), read_impl(s), read(s), write(s)]);
            for mut bytes in [linked.bytes, with_symbols(62, &[("SSL_read", 0x10, true)])] {
                bytes[at..at + width].copy_from_slice(&huge[..width]);
                find_bytes(&bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_give_an_outcome_inside_the_file(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
        headers_only: bool,
        bits in 0usize..16,
        named: bool,
    ) {
        let s = Style::all().nth(bits).unwrap();
        let mut bytes = if named {
            with_symbols(62, &[("SSL_read", 0x10, true), ("SSL_write", 0x20, true)])
        } else {
            link(s, vec![put_error(s), peek(s), read_impl(s), read(s), write(s)]).bytes
        };
        let reach = if headers_only { 256 } else { bytes.len() };
        for (at, value) in damage {
            bytes[at.index(reach)] = value;
        }
        if let Outcome::Found(found) = find_bytes(&bytes) {
            for site in found.sites {
                prop_assert!(site.file_offset < bytes.len() as u64);
            }
        }
    }
}

/// Releases whose functions were checked by disassembly: build-id, SSL_read, SSL_write.
const KNOWN: &[(&str, u64, u64)] = &[
    // Claude Code 2.1.197, 2.1.220, 2.1.250, 2.1.280, 2.1.300, 2.1.328.
    ("2ba9a4dca997a53147167d7f967fdc840325054c", 0x320_d010, 0x320_d3a0),
    ("788318c9115981678ca1a25f40cdb3b39df71403", 0x2f7_6b40, 0x2f7_6ed0),
    ("77182fdf9abdf4942c072f3f73059aacd7a33d73", 0x236_2980, 0x236_2d70),
    ("d797cbc29a0c952d321cdfde8d374ff689b834b9", 0x230_80d0, 0x230_84c0),
    ("e8f68a0473d0cd6287466a52f53c5d64f7cf0a69", 0x241_06c0, 0x241_0ab0),
    ("d72a729b5627657c0649e49ae9d771fec0783039", 0x311_d810, 0x311_d660),
    // OpenCode 1.18.33.
    ("c30f169b1bef81fa57467cd091ba53aab5235468", 0x367_f3f0, 0x367_f780),
    // grpcio 1.85.1, cp311, manylinux x86_64.
    ("ef05a41595e5bfc3d89578f4cda83e4242d5078a", 0xbb_60c0, 0xbb_42e0),
];

#[test]
fn installed_agents_are_resolved() {
    const VARIABLE: &str = "AGENTSIGHT_TEST_NPM_DIR";
    let Some(directory) = std::env::var_os(VARIABLE) else {
        eprintln!("SKIPPED: set {VARIABLE} to a directory with installed agents to run this test");
        return;
    };
    let agents = agents_below(Path::new(&directory), 8);
    assert!(!agents.is_empty(), "{VARIABLE} holds no agent");
    for path in agents {
        let started = std::time::Instant::now();
        let outcome = find(&path).unwrap();
        eprintln!("{} in {:?}: {outcome:x?}", path.display(), started.elapsed());
        let Outcome::Found(found) = outcome else { panic!("{}: {outcome:?}", path.display()) };
        let offsets: Vec<_> = found.sites.iter().map(|s| (s.role, s.file_offset)).collect();
        let id = found.build_id.unwrap_or_default();
        match KNOWN.iter().find(|known| known.0 == id) {
            Some(&(_, read, write)) => {
                assert_eq!(offsets, [(Role::Read, read), (Role::Write, write)], "{id}");
            }
            None => eprintln!("build-id {id} is not among those checked by disassembly"),
        }
    }
}

/// Programs that carry a stripped BoringSSL, by file name.
fn agents_below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        let name = name.to_string_lossy();
        if metadata.is_dir() && depth > 0 {
            found.extend(agents_below(&path, depth - 1));
        } else if metadata.is_file()
            && metadata.len() > 10 << 20
            && (matches!(&*name, "claude" | "opencode") || name.starts_with("cygrpc."))
        {
            found.push(path);
        }
    }
    found
}

#[test]
fn offsets_are_in_the_file_and_not_in_memory() {
    // The synthetic images load code elsewhere than at its file offset, or this proves nothing.
    let s = Style::PLAIN;
    let linked = link(s, vec![put_error(s), read_impl(s), read(s), write(s)]);
    assert!(linked.file_offset("ERR_put_error") == CODE_OFFSET);
    let Outcome::Found(found) = find_bytes(&linked.bytes) else { panic!() };
    for site in found.sites {
        let start = &linked.bytes[site.file_offset as usize..];
        assert!(start.starts_with(&[0x55, 0x48, 0x89, 0xe5]), "{site:?}");
    }
}
