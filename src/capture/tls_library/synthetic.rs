//! ELF images built in memory for tests: fake libraries, assembled byte by byte, and files with symbol
//! tables. Only the shape is that of BoringSSL, OpenSSL or rustls: names, reasons, lines, calls,
//! loads and stores.

use std::collections::BTreeMap;

/// Addresses of code count from a different origin than file offsets, as linkers arrange it.
pub(super) const CODE_OFFSET: u64 = 0x2000;
const CODE_SKEW: u64 = 0x1000;
const FILE_NAME: &[u8] = b"/build/vendor/boringssl/ssl/ssl_lib.cc\0";
const FILE_NAME_OFFSET: u64 = 0x400;
/// Where strings stand that functions or tests ask for.
const TEXTS_OFFSET: u64 = 0x440;
const FRAME_INDEX_OFFSET: u64 = 0x600;
const FRAMES_OFFSET: u64 = 0xa00;

/// How the fake library was "compiled".
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Position-independent: `lea` from `rip` and load address 0.
    pub(super) pic: bool,
    /// Unwind table and no frame pointers, against frame pointers and no unwind table.
    pub(super) unwind: bool,
    /// Whether the compiler removed the argument of `ERR_put_error` that nobody reads.
    pub(super) unused_dropped: bool,
    /// Whether error paths share the call, so that only a jump follows the arguments.
    pub(super) shared_call: bool,
}

impl Style {
    pub(super) const PLAIN: Self =
        Self { pic: false, unwind: false, unused_dropped: false, shared_call: false };

    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..16).map(|bits| Self {
            pic: bits & 1 != 0,
            unwind: bits & 2 != 0,
            unused_dropped: bits & 4 != 0,
            shared_call: bits & 8 != 0,
        })
    }

    fn base(self) -> u64 {
        if self.pic { 0 } else { 0x20_0000 }
    }
}

enum Target {
    Function(&'static str),
    FileName,
    Text(&'static str),
}

/// One function being assembled.
pub(super) struct Function {
    name: &'static str,
    style: Style,
    code: Vec<u8>,
    fixups: Vec<(usize, Target)>,
    framed: bool,
}

impl Function {
    pub(super) fn new(name: &'static str, style: Style) -> Self {
        let mut function =
            Self { name, style, code: Vec::new(), fixups: Vec::new(), framed: !style.unwind };
        if !style.unwind {
            function.code.extend([0x55, 0x48, 0x89, 0xe5]);
        }
        function.emit(&[0x41, 0x57, 0x53])
    }

    /// A function that does not begin with a frame although the library is compiled with frames.
    pub(super) fn frameless(name: &'static str, style: Style) -> Self {
        let mut function = Self::new(name, style);
        function.code = vec![0x41, 0x57, 0x53];
        function.framed = false;
        function
    }

    /// A function of nothing yet, not even what it begins with.
    pub(super) fn bare(name: &'static str, style: Style) -> Self {
        Self { name, style, code: Vec::new(), fixups: Vec::new(), framed: false }
    }

    pub(super) fn len(&self) -> usize {
        self.code.len()
    }

    pub(super) fn emit(mut self, code: &[u8]) -> Self {
        self.code.extend(code);
        self
    }

    fn fixup(mut self, target: Target) -> Self {
        self.fixups.push((self.code.len(), target));
        self.emit(&[0; 4])
    }

    pub(super) fn call(self, name: &'static str) -> Self {
        self.emit(&[0xe8]).fixup(Target::Function(name))
    }

    pub(super) fn jump(self, name: &'static str) -> Self {
        self.emit(&[0xe9]).fixup(Target::Function(name))
    }

    /// `lea text(%rip), %rdx`
    pub(super) fn takes(self, text: &'static str) -> Self {
        self.emit(&[0x48, 0x8d, 0x15]).fixup(Target::Text(text))
    }

    /// `if (…) { ERR_put_error(16, 0, reason, file, line); return -1; }`
    pub(super) fn error(self, reason: u32, line: u32) -> Self {
        let shared = self.style.shared_call;
        let dropped = self.style.unused_dropped;
        // rdi, then reason, file and line in rsi/rdx/rcx or rdx/rcx/r8.
        let (reason_move, file_register): (&[u8], u8) =
            if dropped { (&[0xbe], 2) } else { (&[0xba], 1) };
        let line_move: &[u8] = if dropped { &[0xb9] } else { &[0x41, 0xb8] };
        let start = self.code.len();
        let mut function = self.emit(&[0x74, 0]).emit(&[0xbf]).emit(&16u32.to_le_bytes());
        if !dropped {
            function = function.emit(&[0x31, 0xf6]);
        }
        function = function.emit(line_move).emit(&line.to_le_bytes());
        function = if function.style.pic {
            function.emit(&[0x48, 0x8d, 0x05 | file_register << 3])
        } else {
            function.emit(&[0xb8 | file_register])
        };
        function = function.fixup(Target::FileName).emit(reason_move).emit(&reason.to_le_bytes());
        if shared {
            // jmp over an int3 to the call.
            function = function.emit(&[0xeb, 0x01, 0xcc]);
        }
        let mut function = function.call("ERR_put_error");
        // The branch in front skips the whole path.
        let skipped = function.code.len() - start - 2;
        function.code[start + 1] = u8::try_from(skipped).unwrap();
        function
    }

    /// `cmpq $0x0, 0x88(%rcx)`: is the span empty?
    pub(super) fn test_span(self) -> Self {
        self.emit(&[0x48, 0x83, 0xb9, 0x88, 0, 0, 0, 0])
    }

    /// `add %rbx, 0x80(%rax); mov %rcx, 0x88(%rax)`: consume from the span.
    pub(super) fn advance_span(self) -> Self {
        self.emit(&[0x48, 0x01, 0x98, 0x80, 0, 0, 0]).emit(&[0x48, 0x89, 0x88, 0x88, 0, 0, 0])
    }

    /// The end of the function.
    pub(super) fn end(self) -> Self {
        let framed = self.framed;
        let function = self.emit(&[0x5b, 0x41, 0x5f]);
        if framed { function.emit(&[0x5d, 0xc3]) } else { function.emit(&[0xc3]) }
    }
}

/// A linked image and where its functions are.
pub(super) struct Linked {
    pub(super) bytes: Vec<u8>,
    /// Where the functions are in memory.
    pub(super) addresses: Vec<std::ops::Range<u64>>,
    file_offsets: BTreeMap<&'static str, u64>,
}

impl Linked {
    pub(super) fn file_offset(&self, name: &str) -> u64 {
        self.file_offsets[name]
    }
}

/// Lays the functions out in the order given, resolves their references and wraps them in ELF.
pub(super) fn link(style: Style, functions: Vec<Function>) -> Linked {
    link_with(style, functions, &[])
}

/// The same with some strings that no function takes.
pub(super) fn link_with(style: Style, functions: Vec<Function>, texts: &[&'static str]) -> Linked {
    let fixups = || functions.iter().flat_map(|function| &function.fixups);
    let mut wanted: Vec<&'static str> = texts.to_vec();
    for (_, target) in fixups() {
        if let Target::Text(text) = target
            && !wanted.contains(text)
        {
            wanted.push(text);
        }
    }
    let is_boringssl = wanted.is_empty();
    // Every string stands between two zero bytes.
    let (mut strings, mut places) = (vec![0], BTreeMap::new());
    for text in wanted {
        places.insert(text, TEXTS_OFFSET + strings.len() as u64);
        strings.extend(text.as_bytes());
        strings.push(0);
    }
    assert!(TEXTS_OFFSET + strings.len() as u64 <= FRAME_INDEX_OFFSET, "no room for the strings");
    let base = style.base();
    let code_address = base + CODE_OFFSET + CODE_SKEW;
    let (mut code, mut ranges) = (Vec::new(), BTreeMap::new());
    for function in &functions {
        // Unwind tables make alignment irrelevant; leave it out to prove so.
        while !style.unwind && code.len() % 16 != 0 {
            code.push(0xcc);
        }
        let start = code.len();
        code.extend(&function.code);
        assert!(ranges.insert(function.name, start..code.len()).is_none(), "{}", function.name);
    }
    for function in &functions {
        let start = ranges[function.name].start;
        for (at, target) in &function.fixups {
            let at = start + at;
            let target = match target {
                Target::Function(name) => code_address + ranges[name].start as u64,
                Target::FileName => base + FILE_NAME_OFFSET,
                Target::Text(text) => base + places[text],
            };
            let absolute = code[at - 1] & 0xf8 == 0xb8;
            let next = code_address + at as u64 + 4;
            let value = if absolute { target } else { target.wrapping_sub(next) } as u32;
            code[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
    }
    let mut bytes = vec![0; CODE_OFFSET as usize];
    if is_boringssl {
        put(&mut bytes, FILE_NAME_OFFSET, FILE_NAME);
    }
    put(&mut bytes, TEXTS_OFFSET, &strings);
    let mut headers = vec![
        program_header(1, 4, 0, base, CODE_OFFSET),
        program_header(1, 5, CODE_OFFSET, code_address, code.len() as u64),
    ];
    if style.unwind {
        put_unwind_table(&mut bytes, base, code_address, ranges.values());
        headers.push(program_header(
            0x6474_e550,
            4,
            FRAME_INDEX_OFFSET,
            base + FRAME_INDEX_OFFSET,
            12,
        ));
    }
    put(&mut bytes, 0, &file_header(if style.pic { 3 } else { 2 }, headers.len()));
    put(&mut bytes, 64, &headers.concat());
    bytes.extend(&code);
    let file_offsets =
        ranges.iter().map(|(&name, range)| (name, CODE_OFFSET + range.start as u64)).collect();
    let address = |at: usize| code_address + at as u64;
    let addresses = ranges.values().map(|r| address(r.start)..address(r.end)).collect();
    Linked { bytes, addresses, file_offsets }
}

/// A file with one executable segment and a dynamic symbol table: `(name, value, defined)`.
pub(super) fn with_symbols(machine: u16, symbols: &[(&str, u64, bool)]) -> Vec<u8> {
    let (address, code_bytes) = (0x40_0000, 0x1000);
    let mut bytes = vec![0; 0x1000 + code_bytes];
    put(&mut bytes, 0, &file_header(3, 1));
    put(&mut bytes, 18, &machine.to_le_bytes());
    put(&mut bytes, 64, &program_header(1, 5, 0x1000, address, code_bytes as u64));
    let (mut names, mut table) = (vec![0], vec![0; 24]);
    for &(name, value, defined) in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        // A global function.
        table.extend([0x12, 0]);
        table.extend(u16::from(defined).to_le_bytes());
        // Undefined functions have an address as well where a program takes theirs.
        table.extend((address + value).to_le_bytes());
        table.extend(8u64.to_le_bytes());
        names.extend(name.as_bytes());
        names.push(0);
    }
    let names_offset = bytes.len() as u64;
    bytes.extend(&names);
    let table_offset = bytes.len() as u64;
    bytes.extend(&table);
    let sections_offset = bytes.len() as u64;
    bytes.extend([0; 64]);
    bytes.extend(section_header(11, table_offset, table.len() as u64, 2));
    bytes.extend(section_header(3, names_offset, names.len() as u64, 0));
    put(&mut bytes, 40, &sections_offset.to_le_bytes());
    put(&mut bytes, 60, &3u16.to_le_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: u64, what: &[u8]) {
    bytes[at as usize..][..what.len()].copy_from_slice(what);
}

fn file_header(kind: u16, program_headers: usize) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    header.extend(kind.to_le_bytes());
    header.extend(62u16.to_le_bytes());
    header.extend(1u32.to_le_bytes());
    header.extend(0u64.to_le_bytes());
    header.extend(64u64.to_le_bytes());
    header.extend([0; 12]);
    header.extend(64u16.to_le_bytes());
    header.extend(56u16.to_le_bytes());
    header.extend((program_headers as u16).to_le_bytes());
    header.extend(64u16.to_le_bytes());
    header.extend([0; 4]);
    header
}

fn program_header(kind: u32, flags: u32, offset: u64, address: u64, bytes: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend(flags.to_le_bytes());
    for value in [offset, address, address, bytes, bytes, 0x1000] {
        header.extend(value.to_le_bytes());
    }
    header
}

fn section_header(kind: u32, offset: u64, bytes: u64, link: u32) -> Vec<u8> {
    let mut header = 0u32.to_le_bytes().to_vec();
    header.extend(kind.to_le_bytes());
    for value in [0, 0, offset, bytes] {
        header.extend(value.to_le_bytes());
    }
    header.extend(link.to_le_bytes());
    header.extend([0; 20]);
    header
}

/// `.eh_frame_hdr` and `.eh_frame` with one common entry (`zR`, `pcrel sdata4`).
fn put_unwind_table<'a>(
    bytes: &mut [u8],
    base: u64,
    code_address: u64,
    ranges: impl Iterator<Item = &'a std::ops::Range<usize>>,
) {
    let common = [16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0];
    let mut frames = common.to_vec();
    let mut index = Vec::new();
    let relative = |to: u64, from: u64| (to.wrapping_sub(from) as u32).to_le_bytes();
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by_key(|range| range.start);
    for range in ranges {
        let (start, at) = (code_address + range.start as u64, frames.len() as u64);
        let here = base + FRAMES_OFFSET + at;
        index.extend(relative(start, base + FRAME_INDEX_OFFSET));
        index.extend(relative(here, base + FRAME_INDEX_OFFSET));
        frames.extend(20u32.to_le_bytes());
        frames.extend((at as u32 + 4).to_le_bytes());
        frames.extend(relative(start, here + 8));
        frames.extend((range.len() as u32).to_le_bytes());
        frames.extend([0; 8]);
    }
    let mut header = vec![1, 0x1b, 3, 0x3b, 0, 0, 0, 0];
    header.extend((index.len() as u32 / 8).to_le_bytes());
    header.extend(index);
    put(bytes, FRAME_INDEX_OFFSET, &header);
    put(bytes, FRAMES_OFFSET, &frames);
}
