//! `crypto/tls` of a Go program, stripped or not.
//!
//! Go's runtime needs to know every function, so that the table of them (`.gopclntab`) is in every
//! program: names, and where each function begins and the next one does.
//!
//! ```text
//!   header: magic 0 0 1 8 | functions | files | text | offsets of: names, …, functions
//!   functions: (entry, description) … (end)      entry counts from the text's beginning
//!   description: entry, name, …
//! ```
//!
//! Where a Go function returns is told by its instructions. Probes at returns replace return probes,
//! which Go's runtime does not bear (bpf/go.bpf.c). The entry is probed at the jump behind the test
//! of the stack's bounds: every call passes it, arguments and stack are still as at the entry, and
//! the kernel emulates it. That test is also the proof that the function follows the register
//! convention of Go 1.17, and that the text begins where it was thought to.
//!
//! Fed by [`Image`]; x86-64 only.

use std::io;

use memchr::memmem;

use super::image::{Image, u32_at, u64_at};
use super::x86::Instruction;
use super::{Role, Site};

/// The methods of `*tls.Conn` that are probed; those that fill or empty buffers first.
const METHODS: [(&str, Role); 3] = [
    ("crypto/tls.(*Conn).Read", Role::GoRead),
    ("crypto/tls.(*Conn).Write", Role::GoWrite),
    ("crypto/tls.(*Conn).Close", Role::GoClose),
];
/// Sections that hold the table; the second name is that of position-independent programs.
const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];
/// First four bytes of the table since Go 1.18 and since 1.20, which differ in nothing used here.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// The same of older releases: of 1.16 and 1.17, and of all before.
const OLD_MAGICS: [u32; 2] = [0xffff_fffa, 0xffff_fffb];
/// Bytes of the header before the offsets of the tables' parts.
const HEADER_BYTES: usize = 32;
/// Largest of the three methods; Write has 1,900 bytes.
const MAX_METHOD_BYTES: u64 = 64 << 10;
/// Most returns of a method; they have up to ten.
const MAX_RETURNS: usize = 64;
/// Most copies of a name followed; the linker makes one.
const MAX_COPIES: usize = 4;
/// Register that holds the goroutine, and where in it the lower bound of its stack is.
const R14: u8 = 14;
const STACK_GUARD: i32 = 0x10;

/// What came of looking for Go's TLS in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// No Go program, or one without TLS.
    Absent,
    /// One whose TLS cannot be probed, and why.
    Unresolved(String),
    /// What to probe.
    Found(Vec<Site>),
}

/// Looks for Go's function table and for TLS in it.
pub(super) fn find(image: &Image) -> io::Result<Go> {
    let mut table = None;
    for name in SECTIONS {
        table = table.or(image.section(name)?);
    }
    let Some((table_address, table)) = table else { return Ok(Go::Absent) };
    if memmem::find(&table, METHODS[0].0.as_bytes()).is_none() {
        return Ok(Go::Absent);
    }
    if !image.is_x86_64() {
        return Ok(Go::Unresolved("expected x86-64 code, found that of another machine".into()));
    }
    let Some(table) = Table::read(&table) else {
        let magic = u32_at(&table, 0);
        let reason = if OLD_MAGICS.contains(&magic) {
            "expected a program built by Go 1.18 or newer, found one of an older release".into()
        } else {
            format!("expected a function table as of Go 1.18 to 1.27, found magic {magic:#x}")
        };
        return Ok(Go::Unresolved(reason));
    };
    let mut methods = Vec::new();
    for (name, role) in METHODS {
        match table.function(name) {
            Ok(Some(range)) => methods.push((name, role, range)),
            Ok(None) => {}
            Err(reason) => return Ok(Go::Unresolved(reason)),
        }
    }
    if !methods.iter().any(|(_, role, _)| matches!(role, Role::GoRead | Role::GoWrite)) {
        // Their names are there because they were inlined or are written into a trace only.
        return Ok(Go::Absent);
    }
    placed(image, &table, table_address, &methods)
}

/// Sites of the methods, for the one beginning of the text at which all of them make sense.
fn placed(
    image: &Image,
    table: &Table<'_>,
    table_address: u64,
    methods: &[(&str, Role, (u32, u32))],
) -> io::Result<Go> {
    let mut found: Option<Vec<Site>> = None;
    let mut failure = None;
    for text in text_candidates(image, table, table_address)? {
        let mut sites = Vec::new();
        for &(name, role, (entry, end)) in methods {
            let address = text.saturating_add(u64::from(entry));
            let bytes = u64::from(end.saturating_sub(entry));
            match Method::read(image, address, bytes)? {
                Ok(method) => method.add_sites(image, name, role, &mut sites),
                Err(reason) => {
                    failure.get_or_insert(format!("{name} is not as expected: {reason}"));
                    sites.clear();
                    break;
                }
            }
        }
        if sites.is_empty() {
            continue;
        }
        sites.sort();
        if found.as_ref().is_some_and(|found| *found != sites) {
            return Ok(Go::Unresolved("expected one beginning of the text, found two".into()));
        }
        found = Some(sites);
    }
    let unknown = || "it is not known where the text of the program begins".to_owned();
    Ok(found.map_or_else(|| Go::Unresolved(failure.unwrap_or_else(unknown)), Go::Found))
}

/// Where the text that the table counts from may begin: what the table says (no longer since 1.26,
/// and only if it is not relocated), the section, the symbol, and the runtime's own description of
/// the program, which matters where a C linker put other code in front.
fn text_candidates(image: &Image, table: &Table<'_>, table_address: u64) -> io::Result<Vec<u64>> {
    let mut candidates = vec![table.text];
    candidates.extend(image.section(b".text")?.map(|(address, _)| address));
    let symbols = image.functions(1, |name| name == b"runtime.text")?;
    candidates.extend(symbols.into_iter().map(|symbol| symbol.address));
    candidates.extend(described_text(image, table_address)?);
    candidates.retain(|&text| image.code_file_offset(text).is_some());
    candidates.sort_unstable();
    candidates.dedup();
    Ok(candidates)
}

/// The `text` field of a module description: it begins with the address of the table.
fn described_text(image: &Image, table_address: u64) -> io::Result<Vec<u64>> {
    /// Behind the address, six slices, one pointer and the bounds of the code.
    const TEXT_OFFSET: usize = 176;
    /// A description is found once; chance finds are refused by what they lead to.
    const MAX_FOUND: usize = 4;
    let mut found = Vec::new();
    for name in [".go.module", ".data", ".noptrdata", ".data.rel.ro"] {
        let Some((_, bytes)) = image.section(name.as_bytes())? else { continue };
        let wanted = table_address.to_le_bytes();
        let places = memmem::find_iter(&bytes, &wanted);
        let texts = places.filter(|at| bytes.len() - at >= TEXT_OFFSET + 8);
        found.extend(texts.take(MAX_FOUND).map(|at| u64_at(&bytes, at + TEXT_OFFSET)));
    }
    Ok(found)
}

/// The function table, its header checked.
struct Table<'a> {
    functions: usize,
    text: u64,
    names: &'a [u8],
    /// Pairs of 32-bit numbers, and the descriptions that the second ones lead to.
    entries: &'a [u8],
}

impl<'a> Table<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES + 40)?;
        if !MAGICS.contains(&u32_at(header, 0)) || header[4..8] != [0, 0, 1, 8] {
            return None;
        }
        let part = |index: usize| {
            let offset = usize::try_from(u64_at(header, HEADER_BYTES + 8 * index)).ok()?;
            bytes.get(offset..)
        };
        let (names, after_names, entries) = (part(0)?, part(1)?, part(4)?);
        let names = names.get(..names.len().checked_sub(after_names.len())?)?;
        let functions = usize::try_from(u64_at(header, 8)).ok()?;
        let whole = functions.checked_mul(8)?.checked_add(4)?;
        (entries.len() >= whole).then_some(Self {
            functions,
            text: u64_at(header, 24),
            names,
            entries,
        })
    }

    /// Beginning and end of the function of this name, counted from the text's beginning; `None`
    /// if there is none.
    fn function(&self, name: &str) -> Result<Option<(u32, u32)>, String> {
        let terminated = format!("\0{name}\0");
        let places = memmem::find_iter(self.names, terminated.as_bytes());
        let places: Vec<usize> = places.take(MAX_COPIES).map(|at| at + 1).collect();
        let mut found = None;
        for index in 0..self.functions {
            let entry = u32_at(self.entries, index * 8);
            let description = u32_at(self.entries, index * 8 + 4) as usize;
            // What lies outside reads as zero, which is no name.
            let name_at = u32_at(self.entries, description.saturating_add(4)) as usize;
            if !places.contains(&name_at) {
                continue;
            }
            if found.is_some() {
                return Err(format!("expected one function {name}, found several"));
            }
            found = Some((entry, u32_at(self.entries, index * 8 + 8)));
        }
        Ok(found)
    }
}

/// Where a method is entered and left.
#[derive(Debug, PartialEq, Eq)]
struct Method {
    /// Address of the jump behind the test of the stack's bounds.
    entered: u64,
    /// Addresses of its returns.
    returns: Vec<u64>,
}

impl Method {
    fn read(image: &Image, address: u64, bytes: u64) -> io::Result<Result<Self, String>> {
        if bytes == 0 || bytes > MAX_METHOD_BYTES {
            return Ok(Err(format!("its length is {bytes}")));
        }
        let code = image.at_address(address, bytes)?;
        if image.code_file_offset(address).is_none() || code.len() as u64 != bytes {
            return Ok(Err("it is not in the program's code".into()));
        }
        Ok(Self::decode(&code, address))
    }

    fn decode(code: &[u8], address: u64) -> Result<Self, String> {
        let mut at = 0;
        let mut instructions = Vec::new();
        // Functions are padded with INT3, which the last instruction may end in as well.
        let end = code.iter().rposition(|&byte| byte != 0xcc).map_or(0, |last| last + 1);
        while at < end {
            let instruction = code.get(at..).and_then(Instruction::decode);
            let Some(instruction) = instruction else {
                return Err(format!("no instruction can be read at {:#x}", address + at as u64));
            };
            instructions.push((address + at as u64, instruction));
            at += instruction.length;
        }
        let compares = |index: usize| {
            let found: Option<&(u64, Instruction)> = instructions.get(index);
            found.is_some_and(|(_, instruction)| instruction.compares_with(R14, STACK_GUARD))
        };
        // Large frames are tested by an address below the stack pointer, computed first.
        let test = (0..2).find(|&index| compares(index)).ok_or(
            "it does not begin with the test of the stack's bounds that Go 1.17 introduced",
        )?;
        let jump = instructions.get(test + 1);
        let grows = jump.and_then(|&(at, jump)| jump.branch_target(at));
        let (Some(&(entered, _)), Some(grows)) = (jump, grows) else {
            return Err("no jump follows the test of the stack's bounds".into());
        };
        // There the stack is made larger and the function begins anew.
        let anew = instructions
            .iter()
            .any(|&(at, jump)| at > grows && jump.jump_target(at) == Some(address));
        if !anew {
            return Err("it does not begin anew after its stack was made larger".into());
        }
        let returns = instructions.iter().filter(|(_, instruction)| instruction.is_return());
        let returns: Vec<u64> = returns.map(|&(at, _)| at).collect();
        match returns.len() {
            1..=MAX_RETURNS => Ok(Self { entered, returns }),
            count => Err(format!("expected 1 to {MAX_RETURNS} returns, found {count}")),
        }
    }

    fn add_sites(&self, image: &Image, name: &str, role: Role, sites: &mut Vec<Site>) {
        let returns = if role == Role::GoClose { &[][..] } else { &self.returns[..] };
        let entry = (role, name.to_owned(), self.entered);
        let returns = returns.iter().map(|&at| (Role::GoReturn, "return".to_owned(), at));
        for (role, symbol, address) in std::iter::once(entry).chain(returns) {
            // The whole method is in one segment of code.
            if let Some(file_offset) = image.code_file_offset(address) {
                sites.push(Site { role, symbol, file_offset });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const BASE: u64 = 0x40_0000;
    const TEXT: usize = 0x200;
    const TABLE: usize = 0x1000;

    /// A method as Go compiles it: bounds test, two returns, growth of the stack, padding.
    fn method(large_frame: bool, guard_register: u8) -> Vec<u8> {
        let mut code = Vec::new();
        if large_frame {
            code.extend([0x4c, 0x8d, 0x64, 0x24, 0x98]);
        }
        let compared = if large_frame { 0x4d } else { 0x49 };
        code.extend([compared, 0x3b, 0x60 | guard_register, 0x10]);
        // The jump goes over: push, pop, ret, pop, ret.
        code.extend([0x76, 5, 0x55, 0x5d, 0xc3, 0x5d, 0xc3]);
        code.extend([0x48, 0x89, 0x44, 0x24, 0x08]);
        let back = -(code.len() as i32 + 5);
        code.push(0xe9);
        code.extend(back.to_le_bytes());
        code.resize(code.len().next_multiple_of(32), 0xcc);
        code
    }

    /// A program with these functions. `text` is what its table says of where the text begins.
    fn program(magic: u32, text: u64, functions: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0; TABLE];
        let (mut names, mut entries, mut descriptions) = (vec![0], Vec::new(), Vec::new());
        let table_bytes = functions.len() * 8 + 4;
        let mut at = TEXT;
        for (name, code) in functions {
            bytes[at..at + code.len()].copy_from_slice(code);
            let entry = (at - TEXT) as u32;
            entries.extend(entry.to_le_bytes());
            entries.extend(((table_bytes + descriptions.len()) as u32).to_le_bytes());
            descriptions.extend(entry.to_le_bytes());
            descriptions.extend((names.len() as u32).to_le_bytes());
            names.extend(name.bytes().chain([0]));
            at += code.len();
        }
        entries.extend(((at - TEXT) as u32).to_le_bytes());
        let names_at = HEADER_BYTES + 40;
        let after = names_at + names.len();
        let mut table = magic.to_le_bytes().to_vec();
        table.extend([0, 0, 1, 8]);
        let header = [functions.len() as u64, 0, text, names_at as u64, after as u64];
        let offsets = [after as u64, after as u64, after as u64];
        table.extend(header.iter().chain(&offsets).flat_map(|word| word.to_le_bytes()));
        table.extend([names, entries, descriptions].concat());
        bytes.extend(&table);
        elf(bytes, at - TEXT, table.len())
    }

    /// One loaded segment, sections for code and table.
    fn elf(mut bytes: Vec<u8>, text_bytes: usize, table_bytes: usize) -> Vec<u8> {
        let names = b"\0.text\0.gopclntab\0.shstrtab\0";
        let names_at = bytes.len();
        bytes.extend(names);
        let sections_at = bytes.len();
        let section = |name: u32, kind: u32, at: usize, size: usize| {
            let mut header = [name.to_le_bytes(), kind.to_le_bytes()].concat();
            for word in [0, BASE + at as u64, at as u64, size as u64, 0, 0, 0] {
                header.extend(word.to_le_bytes());
            }
            header
        };
        bytes.extend([0; 64]);
        bytes.extend(section(1, 1, TEXT, text_bytes));
        bytes.extend(section(7, 1, TABLE, table_bytes));
        bytes.extend(section(18, 3, names_at, names.len()));
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(0, b"\x7fELF\x02\x01\x01");
        put(18, &62u16.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(40, &(sections_at as u64).to_le_bytes());
        for (at, value) in [(54, 56u16), (56, 1), (58, 64), (60, 4), (62, 3)] {
            put(at, &value.to_le_bytes());
        }
        put(64, &1u32.to_le_bytes());
        put(68, &5u32.to_le_bytes());
        put(80, &BASE.to_le_bytes());
        put(96, &(sections_at as u64).to_le_bytes());
        bytes
    }

    fn look(bytes: &[u8]) -> Go {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        find(&Image::open(file).unwrap()).unwrap()
    }

    fn methods() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("runtime.text", vec![0xcc; 32]),
            (METHODS[1].0, method(true, 6)),
            (METHODS[0].0, method(false, 6)),
            (METHODS[2].0, method(false, 6)),
        ]
    }

    #[test]
    fn methods_are_entered_behind_the_bounds_test_and_left_at_each_return() {
        for (magic, text) in [(MAGICS[0], BASE + TEXT as u64), (MAGICS[1], 0)] {
            let Go::Found(sites) = look(&program(magic, text, &methods())) else { panic!() };
            let found: Vec<_> = sites.iter().map(|s| (s.role, s.file_offset - 0x200)).collect();
            let expected = [
                (Role::GoReturn, 32 + 13),
                (Role::GoReturn, 32 + 15),
                (Role::GoReturn, 64 + 8),
                (Role::GoReturn, 64 + 10),
                (Role::GoRead, 64 + 4),
                (Role::GoWrite, 32 + 9),
                (Role::GoClose, 96 + 4),
            ];
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_not_as_go_compiles_it_is_not_probed() {
        let unresolved = |bytes: &[u8], words: &str| match look(bytes) {
            Go::Unresolved(reason) => assert!(reason.contains(words), "{reason}"),
            other => panic!("{other:?}"),
        };
        let with = |index: usize, code: Vec<u8>| {
            let mut functions = methods();
            functions[index].1 = code;
            program(MAGICS[1], 0, &functions)
        };
        // Bounds in memory that another register leads to: as before register arguments.
        unresolved(&with(2, method(false, 5)), "test of the stack's bounds");
        let mut no_return = method(false, 6);
        no_return[8] = 0x90;
        no_return[10] = 0x90;
        unresolved(&with(2, no_return), "1 to 64 returns, found 0");
        let mut no_code = method(false, 6);
        no_code[6] = 0x06;
        unresolved(&with(2, no_code), "no instruction can be read");
        unresolved(&program(OLD_MAGICS[0], 0, &methods()), "built by Go 1.18 or newer");
        unresolved(&program(7, 0, &methods()), "magic 0x7");
        let mut twice = methods();
        twice.push((METHODS[0].0, method(false, 6)));
        unresolved(&program(MAGICS[1], 0, &twice), "found several");
    }

    #[test]
    fn a_program_without_tls_is_absent() {
        let bytes = program(MAGICS[1], 0, &[("main.main", method(false, 6))]);
        assert_eq!(look(&bytes), Go::Absent);
        assert_eq!(look(b"\x7fELF"), Go::Absent);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn damaged_programs_give_sites_inside_the_file_or_none(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30),
            in_table: bool,
            length in any::<prop::sample::Index>(),
            cut: bool,
        ) {
            let mut bytes = program(MAGICS[1], 0, &methods());
            let from = if in_table { TABLE } else { 0 };
            for (at, value) in damage {
                let at = from + at.index(bytes.len() - from);
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(length.index(bytes.len()));
            }
            if let Go::Found(sites) = look(&bytes) {
                prop_assert!(sites.iter().all(|site| site.file_offset < bytes.len() as u64));
            }
        }
    }
}
