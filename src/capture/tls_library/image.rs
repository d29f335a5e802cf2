//! An ELF file as the resolvers need it: segments, symbols, build-id, and bytes by address.
//!
//! The file is read piecewise, not mapped: its owner may truncate it at any moment, and a mapping
//! would then end the recorder with SIGBUS. Every count and size comes from the file and is
//! therefore bounded here; a table that does not fit is treated as absent, never trusted. Only
//! segments that a process loads and cannot write are ever scanned, which leaves out the hundreds
//! of megabytes of script that single-file runtimes append.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::elf;

/// Bytes fetched at a time by [`Image::scan`]: large enough to amortise the system call, small
/// enough to stay in the cache for several searches.
const WINDOW_BYTES: usize = 1 << 20;
/// Most bytes of loadable segments that are scanned; the largest agent known has 110 MB of them.
const MAX_SCANNED_BYTES: u64 = 1 << 30;
/// Most bytes searched of a file whose headers are not understood.
const MAX_FOREIGN_BYTES: u64 = 64 << 20;
/// Largest symbol or string table that is read. Where debug builds of browsers exceed it in
/// `.symtab`, `.dynsym` still counts.
const MAX_TABLE_BYTES: u64 = 256 << 20;
/// Most symbol tables looked at; a linker writes two.
const MAX_SYMBOL_TABLES: usize = 4;
/// Largest note segment or section read.
const MAX_NOTE_BYTES: u64 = 64 << 10;
/// Most section headers looked at; more would not have a 16-bit index.
const MAX_SECTIONS: u64 = 0xffff;

/// Most executable segments that [`Image::sample`] takes pieces of; a linker writes one or two.
const MAX_SAMPLED_SEGMENTS: usize = 4;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;
const SYMBOL_BYTES: usize = 24;

/// What kind of file it is, before anything else is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not an ELF file, or damaged before its segments are known.
    NotElf,
    /// An ELF file that is 32-bit or big-endian.
    Foreign,
    /// A little-endian 64-bit ELF file for this `e_machine`.
    Elf64 {
        /// `EM_*`.
        machine: u16,
    },
}

/// A loadable segment, clipped to what the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) file_offset: u64,
    pub(super) bytes: u64,
    pub(super) executable: bool,
    pub(super) writable: bool,
}

impl Segment {
    fn contains(&self, address: u64) -> bool {
        address >= self.address && address - self.address < self.bytes
    }
}

/// A function symbol that the file defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) address: u64,
}

/// An open ELF file. Addresses are the file's own virtual addresses, before any relocation.
pub(super) struct Image {
    file: File,
    file_bytes: u64,
    kind: Kind,
    segments: Vec<Segment>,
    notes: Vec<(u64, u64)>,
    frame_index: Option<u64>,
    sections: Vec<Section>,
    /// Index of the section that holds the names of sections.
    section_names: usize,
}

#[derive(Clone, Copy)]
struct Section {
    /// Where its name is among the section names.
    name: u32,
    kind: u32,
    address: u64,
    link: u32,
    file_offset: u64,
    bytes: u64,
}

impl Image {
    /// Reads the headers of `file`. Damage is not an error: it leaves parts out.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let file_bytes = file.metadata()?.len();
        let mut image = Self {
            file,
            file_bytes,
            kind: Kind::NotElf,
            segments: Vec::new(),
            notes: Vec::new(),
            frame_index: None,
            sections: Vec::new(),
            section_names: 0,
        };
        let Some(header) = image.at_file_offset(0, HEADER_BYTES as u64)? else { return Ok(image) };
        if header[..4] != elf::ELFMAG {
            return Ok(image);
        }
        if header[4] != elf::ELFCLASS64 || header[5] != elf::ELFDATA2LSB {
            image.kind = Kind::Foreign;
            // Its tables are not read, but its text can be searched.
            let bytes = file_bytes.min(MAX_FOREIGN_BYTES);
            let (address, file_offset, executable, writable) = (0, 0, false, false);
            image.segments.push(Segment { address, file_offset, bytes, executable, writable });
            return Ok(image);
        }
        image.kind = Kind::Elf64 { machine: u16_at(&header, 18) };
        image.read_program_headers(&header)?;
        image.read_section_headers(&header)?;
        Ok(image)
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether its code is what `x86.rs` decodes.
    pub(super) fn is_x86_64(&self) -> bool {
        self.kind == (Kind::Elf64 { machine: elf::EM_X86_64 })
    }

    /// Address of `.eh_frame_hdr`, where the file has one.
    pub(super) fn frame_index(&self) -> Option<u64> {
        self.frame_index
    }

    fn read_program_headers(&mut self, header: &[u8]) -> io::Result<()> {
        if usize::from(u16_at(header, 54)) != PROGRAM_HEADER_BYTES {
            return Ok(());
        }
        let bytes = u64::from(u16_at(header, 56)) * PROGRAM_HEADER_BYTES as u64;
        let Some(table) = self.at_file_offset(u64_at(header, 32), bytes)? else { return Ok(()) };
        let mut budget = MAX_SCANNED_BYTES;
        for entry in table.chunks_exact(PROGRAM_HEADER_BYTES) {
            let (flags, file_offset) = (u32_at(entry, 4), u64_at(entry, 8));
            let (address, size) = (u64_at(entry, 16), u64_at(entry, 32));
            match u32_at(entry, 0) {
                elf::PT_LOAD => {
                    let held = self.file_bytes.saturating_sub(file_offset);
                    let writable = flags & elf::PF_W != 0;
                    let bytes = size.min(held).min(u64::MAX - address);
                    let bytes = if writable { bytes } else { bytes.min(budget) };
                    budget -= if writable { 0 } else { bytes };
                    let executable = flags & elf::PF_X != 0;
                    let segment = Segment { address, file_offset, bytes, executable, writable };
                    if bytes > 0 {
                        self.segments.push(segment);
                    }
                }
                elf::PT_NOTE => self.notes.push((file_offset, size)),
                elf::PT_GNU_EH_FRAME => self.frame_index = Some(address),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_section_headers(&mut self, header: &[u8]) -> io::Result<()> {
        let (table_offset, entry_bytes) = (u64_at(header, 40), u16_at(header, 58));
        let mut count = u64::from(u16_at(header, 60));
        if table_offset == 0 || usize::from(entry_bytes) != SECTION_HEADER_BYTES {
            return Ok(());
        }
        if count == 0 {
            // The real number is in the size field of section 0 when it exceeds 16 bits.
            let first = self.at_file_offset(table_offset, SECTION_HEADER_BYTES as u64)?;
            count = first.map_or(0, |first| u64_at(&first, 32));
        }
        let bytes = count.min(MAX_SECTIONS) * SECTION_HEADER_BYTES as u64;
        let Some(table) = self.at_file_offset(table_offset, bytes)? else { return Ok(()) };
        let section = |entry: &[u8]| Section {
            name: u32_at(entry, 0),
            kind: u32_at(entry, 4),
            address: u64_at(entry, 16),
            link: u32_at(entry, 40),
            file_offset: u64_at(entry, 24),
            bytes: u64_at(entry, 32),
        };
        self.sections = table.chunks_exact(SECTION_HEADER_BYTES).map(section).collect();
        self.section_names = usize::from(u16_at(header, 62));
        let notes = self.sections.iter().filter(|s| s.kind == elf::SHT_NOTE);
        self.notes.extend(notes.map(|s| (s.file_offset, s.bytes)));
        Ok(())
    }

    /// Bytes at a file offset; `None` where the file does not hold all of them.
    fn at_file_offset(&self, offset: u64, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let held = offset.checked_add(bytes).is_some_and(|end| end <= self.file_bytes);
        if !held || bytes > MAX_TABLE_BYTES {
            return Ok(None);
        }
        // Fits: bounded by MAX_TABLE_BYTES.
        let mut buffer = vec![0; bytes as usize];
        match self.file.read_exact_at(&mut buffer, offset) {
            Ok(()) => Ok(Some(buffer)),
            // Truncated since it was opened.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where the byte at `address` is in the file, if an executable segment holds it.
    pub(super) fn code_file_offset(&self, address: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|s| s.executable && s.contains(address))?;
        segment.file_offset.checked_add(address - segment.address)
    }

    /// Up to `bytes` bytes of a loaded, unwritable segment from `address` on; fewer at its end,
    /// none outside of any.
    pub(super) fn at_address(&self, address: u64, bytes: u64) -> io::Result<Vec<u8>> {
        self.bytes_of(|segment| !segment.writable, address, bytes)
    }

    /// The same for any loaded segment, as it is before relocation: some linkers put tables that
    /// nobody writes among data.
    pub(super) fn initial_bytes(&self, address: u64, bytes: u64) -> io::Result<Vec<u8>> {
        self.bytes_of(|_| true, address, bytes)
    }

    fn bytes_of(
        &self,
        wanted: impl Fn(&Segment) -> bool,
        address: u64,
        bytes: u64,
    ) -> io::Result<Vec<u8>> {
        let holding = |segment: &&Segment| wanted(segment) && segment.contains(address);
        let Some(segment) = self.segments.iter().find(holding) else { return Ok(Vec::new()) };
        let inside = address - segment.address;
        let bytes = bytes.min(segment.bytes - inside);
        Ok(self.at_file_offset(segment.file_offset + inside, bytes)?.unwrap_or_default())
    }

    /// The bytes around `address` in its executable segment, at most `reach` (rounded up to
    /// `alignment`, a power of two) in front of it and as many behind, with the address of the
    /// first one, which is aligned unless the segment is not.
    pub(super) fn code_around(
        &self,
        address: u64,
        reach: u64,
        alignment: u64,
    ) -> io::Result<(u64, Vec<u8>)> {
        let holding = |s: &&Segment| s.executable && s.contains(address);
        let first = self.segments.iter().find(holding).map_or(address, |s| s.address);
        let from = first.max(address.saturating_sub(reach) & !(alignment - 1));
        Ok((from, self.at_address(from, (address - from).saturating_add(reach))?))
    }

    /// Shows every unwritable loaded segment (only executable ones if `code_only`) to `look`, in
    /// windows that overlap by `overlap` bytes, until `look` returns `false`. A pattern not longer
    /// than `overlap` is whole in at least one window; it may be seen twice.
    pub(super) fn scan(
        &self,
        code_only: bool,
        overlap: usize,
        look: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        self.scan_where(|segment| segment.executable || !code_only, overlap, look)
    }

    /// The same for the segments without code: where most linkers put constants, and small beside the
    /// others in large programs.
    pub(super) fn scan_constants(
        &self,
        overlap: usize,
        look: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        self.scan_where(|segment| !segment.executable, overlap, look)
    }

    fn scan_where(
        &self,
        wanted: impl Fn(&Segment) -> bool,
        overlap: usize,
        mut look: impl FnMut(u64, &[u8]) -> bool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; WINDOW_BYTES];
        let wanted = |s: &&Segment| !s.writable && wanted(s);
        for segment in self.segments.iter().filter(wanted) {
            let mut inside = 0;
            loop {
                let left = usize::try_from(segment.bytes - inside).unwrap_or(usize::MAX);
                let window = &mut buffer[..left.min(WINDOW_BYTES)];
                match self.file.read_exact_at(window, segment.file_offset + inside) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                }
                if !look(segment.address + inside, window) {
                    return Ok(());
                }
                if left <= WINDOW_BYTES {
                    break;
                }
                inside += (WINDOW_BYTES - overlap) as u64;
            }
        }
        Ok(())
    }

    /// The headers and pieces of the executable segments, evenly spread: enough to tell builds apart
    /// that claim the same build-id, and quick to read.
    pub(super) fn sample(&self) -> io::Result<Vec<u8>> {
        const PIECES: u64 = 32;
        const PIECE_BYTES: u64 = 4096;
        let mut sample = Vec::new();
        let mut add = |offset: u64, bytes: u64| -> io::Result<()> {
            let bytes = bytes.min(self.file_bytes.saturating_sub(offset));
            sample.extend(self.at_file_offset(offset, bytes)?.unwrap_or_default());
            Ok(())
        };
        add(0, PIECE_BYTES)?;
        let code = self.segments.iter().filter(|segment| segment.executable);
        for segment in code.take(MAX_SAMPLED_SEGMENTS) {
            for piece in 0..PIECES {
                let inside = segment.bytes / PIECES * piece;
                add(segment.file_offset.saturating_add(inside), PIECE_BYTES)?;
            }
        }
        Ok(sample)
    }

    /// Where the section of this name is in memory, and its bytes as the file has them, before any
    /// relocation. `None` where there is none or the file does not hold it.
    pub(super) fn section(&self, name: &[u8]) -> io::Result<Option<(u64, Vec<u8>)>> {
        let Some(names) = self.sections.get(self.section_names) else { return Ok(None) };
        let Some(names) = self.at_file_offset(names.file_offset, names.bytes)? else {
            return Ok(None);
        };
        let is_it = |section: &&Section| {
            let rest = names.get(section.name as usize..).unwrap_or_default();
            section.kind != elf::SHT_NOBITS
                && rest.strip_prefix(name).is_some_and(|rest| rest.first() == Some(&0))
        };
        let Some(section) = self.sections.iter().find(is_it) else { return Ok(None) };
        let bytes = self.at_file_offset(section.file_offset, section.bytes)?;
        Ok(bytes.map(|bytes| (section.address, bytes)))
    }

    /// The defined function symbols of `.dynsym` and `.symtab` whose name passes `wanted`, at most
    /// `limit`. Version suffixes (`name@@VERSION`) are cut off first.
    pub(super) fn functions(
        &self,
        limit: usize,
        wanted: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<Symbol>> {
        let is_table = |s: &&Section| matches!(s.kind, elf::SHT_DYNSYM | elf::SHT_SYMTAB);
        let mut found = Vec::new();
        for table in self.sections.iter().filter(is_table).take(MAX_SYMBOL_TABLES) {
            let Some(names) = self.sections.get(table.link as usize) else { continue };
            let Some(names) = self.at_file_offset(names.file_offset, names.bytes)? else {
                continue;
            };
            let Some(symbols) = self.at_file_offset(table.file_offset, table.bytes)? else {
                continue;
            };
            for entry in symbols.chunks_exact(SYMBOL_BYTES) {
                let defined = u16_at(entry, 6) != elf::SHN_UNDEF;
                let name = defined.then(|| names.get(u32_at(entry, 0) as usize..)).flatten();
                let Some(name) = name.map(symbol_name).filter(|name| wanted(name)) else {
                    continue;
                };
                let address = u64_at(entry, 8);
                if entry[4] & 0xf == elf::STT_FUNC && found.len() < limit {
                    let name = String::from_utf8_lossy(name).into_owned();
                    found.push(Symbol { name, address });
                }
            }
        }
        Ok(found)
    }

    /// The GNU build-id in hexadecimal.
    pub(super) fn build_id(&self) -> io::Result<Option<String>> {
        for &(offset, bytes) in self.notes.iter().take(64) {
            let notes = self.at_file_offset(offset, bytes.min(MAX_NOTE_BYTES))?;
            if let Some(id) = notes.as_deref().and_then(build_id_in_notes) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}

/// The name at the start of a string table's tail. 64 bytes are enough for every name looked for.
fn symbol_name(names: &[u8]) -> &[u8] {
    let names = &names[..names.len().min(64)];
    let end = names.iter().position(|&b| b == 0 || b == b'@').unwrap_or(names.len());
    &names[..end]
}

fn build_id_in_notes(mut notes: &[u8]) -> Option<String> {
    while notes.len() >= 12 {
        let (name_bytes, id_bytes) = (u32_at(notes, 0) as usize, u32_at(notes, 4) as usize);
        let kind = u32_at(notes, 8);
        let id_start = 12 + name_bytes.checked_next_multiple_of(4)?;
        let id_end = id_start.checked_add(id_bytes)?;
        let (name, id) = (notes.get(12..12 + name_bytes)?, notes.get(id_start..id_end)?);
        // A linker writes 16 or 20 bytes; what is longer is not an identifier.
        if kind == elf::NT_GNU_BUILD_ID && name == b"GNU\0" && (1..=64).contains(&id.len()) {
            return Some(id.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        notes = notes.get(id_end.checked_next_multiple_of(4)?..)?;
    }
    None
}

/// A little-endian number; 0 beyond the end, which no caller reaches with a whole table entry.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

/// As [`u16_at`].
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// As [`u16_at`].
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let mut notes = vec![4, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0];
        notes.extend(b"GNU\0\x01\x02\0\0");
        notes.extend([4, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0]);
        notes.extend(b"GNU\0\xab\x0c\xde");
        assert_eq!(build_id_in_notes(&notes).as_deref(), Some("ab0cde"));
        for length in 0..notes.len() {
            assert_eq!(build_id_in_notes(&notes[..length]), None);
        }
    }

    #[test]
    fn a_scan_shows_patterns_across_its_windows_whole_and_leaves_writable_data_out() {
        use std::io::Write;
        const NEEDLE: &[u8] = b"needle";
        let mut bytes = vec![0; 3 * WINDOW_BYTES];
        for at in [WINDOW_BYTES - 2, 2 * WINDOW_BYTES + 100, 3 * WINDOW_BYTES - NEEDLE.len()] {
            bytes[at..at + NEEDLE.len()].copy_from_slice(NEEDLE);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let mut image = Image::open(file).unwrap();
        let half = 2 * WINDOW_BYTES as u64;
        let segment = |file_offset, bytes, writable| Segment {
            address: 0x1000 + file_offset,
            file_offset,
            bytes,
            executable: false,
            writable,
        };
        image.segments = vec![segment(0, half, false), segment(half, half / 2, true)];
        let mut found = Vec::new();
        let look = |address: u64, window: &[u8]| {
            found.extend(memchr::memmem::find_iter(window, NEEDLE).map(|at| address + at as u64));
            true
        };
        image.scan(false, NEEDLE.len(), look).unwrap();
        assert_eq!(found, [0x1000 + WINDOW_BYTES as u64 - 2]);
        image.scan(true, NEEDLE.len(), |_, _| panic!("nothing is executable")).unwrap();
    }

    #[test]
    fn a_note_with_impossible_sizes_ends_the_search() {
        assert_eq!(build_id_in_notes(&[0xff; 64]), None);
    }

    #[test]
    fn a_symbol_name_ends_at_its_version() {
        assert_eq!(symbol_name(b"SSL_read@@OPENSSL_3.0.0\0"), b"SSL_read");
        assert_eq!(symbol_name(b"SSL_read\0SSL_write\0"), b"SSL_read");
        assert_eq!(symbol_name(b""), b"");
    }
}
