//! Just enough x86-64 to read compiled functions: where each instruction ends, and the few operands
//! the resolver asks about (constants, relative targets, memory displacements).
//!
//! It is a length decoder after the opcode maps of the Intel SDM, volume 2, appendix A. It is fed
//! bytes of unknown files: every byte sequence gives an instruction or `None`, and nothing is read
//! beyond the slice. It does not model flags, timing or most semantics.

mod effects;
mod operands;

pub(super) use effects::Effect;

/// `rsp`, as a register number.
const RSP: u8 = 4;

/// A memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Base register, absent for absolute and `rip`-relative operands.
    pub(super) base: Option<u8>,
    /// Whether the displacement counts from the end of the instruction.
    pub(super) rip_relative: bool,
    /// Whether an index register is added, so that the place is not the displacement alone away
    /// from the base.
    pub(super) indexed: bool,
    /// Displacement in bytes.
    pub(super) displacement: i32,
}

/// The operand that the r/m half of a ModRM byte names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A register, 0-15.
    Register(u8),
    /// Memory.
    Memory(Memory),
}

/// One decoded instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instruction {
    /// Length in bytes, 1-15.
    pub(super) length: usize,
    /// Opcode map: 0 is one-byte, 1 is `0f`, 2 is `0f 38`, 3 is `0f 3a`; higher ones are EVEX only.
    map: u8,
    opcode: u8,
    /// Whether the operands are 64 bits wide.
    wide: bool,
    /// Whether a VEX or EVEX prefix was present.
    vector: bool,
    /// The register half of ModRM, or the register in the low bits of the opcode.
    register: u8,
    /// The extension bits of the ModRM byte (its `/digit`).
    digit: u8,
    place: Option<Place>,
    immediate: i64,
}

impl Instruction {
    /// Decodes the instruction at the start of `bytes`; `None` if there is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor { bytes: bytes.get(..bytes.len().min(15))?, position: 0 };
        let prefixes = Prefixes::read(&mut cursor)?;
        let shape = shape(prefixes.map, prefixes.opcode, prefixes.vector);
        let mut instruction = Self {
            length: 0,
            map: prefixes.map,
            opcode: prefixes.opcode,
            wide: prefixes.wide,
            vector: prefixes.vector,
            register: (prefixes.opcode & 7) | prefixes.base_high,
            digit: 0,
            place: None,
            immediate: 0,
        };
        if shape == Shape::Invalid {
            return None;
        }
        if shape.has_modrm() {
            instruction.read_modrm(&mut cursor, &prefixes)?;
        }
        let immediate_bytes = match shape {
            // Group 3: only TEST, digits 0 and 1, carries an immediate.
            Shape::Group3 if instruction.digit > 1 => 0,
            Shape::Group3 if prefixes.opcode == 0xf6 => 1,
            Shape::Group3 => prefixes.immediate_z(),
            Shape::ModrmByte | Shape::Byte => 1,
            Shape::ModrmZ | Shape::Z => prefixes.immediate_z(),
            Shape::Relative => 4,
            Shape::Word => 2,
            Shape::Enter => 3,
            Shape::Full if prefixes.wide => 8,
            Shape::Full => prefixes.immediate_z(),
            Shape::Offset => 8,
            Shape::Plain | Shape::Modrm | Shape::Invalid => 0,
        };
        instruction.immediate = cursor.signed(immediate_bytes)?;
        instruction.length = cursor.position;
        Some(instruction)
    }

    fn read_modrm(&mut self, cursor: &mut Cursor<'_>, prefixes: &Prefixes) -> Option<()> {
        let modrm = cursor.byte()?;
        let (mode, low) = (modrm >> 6, modrm & 7);
        self.digit = (modrm >> 3) & 7;
        self.register = self.digit | prefixes.register_high;
        if mode == 3 {
            self.place = Some(Place::Register(low | prefixes.base_high));
            return Some(());
        }
        let mut base = Some(low | prefixes.base_high);
        let (mut rip_relative, mut indexed) = (false, false);
        let mut displacement_bytes = [0, 1, 4][usize::from(mode)];
        if low == RSP {
            let sib = cursor.byte()?;
            let sib_base = sib & 7;
            // Index 4 without REX.X is none.
            indexed = (sib >> 3) & 7 | prefixes.index_high != RSP;
            base = Some(sib_base | prefixes.base_high);
            if sib_base == 5 && mode == 0 {
                base = None;
                displacement_bytes = 4;
            }
        } else if low == 5 && mode == 0 {
            base = None;
            rip_relative = true;
            displacement_bytes = 4;
        }
        // Fits: at most four bytes were read.
        let displacement = cursor.signed(displacement_bytes)? as i32;
        self.place = Some(Place::Memory(Memory { base, rip_relative, indexed, displacement }));
        Some(())
    }

    /// The memory operand, if there is one.
    pub(super) fn memory(&self) -> Option<Memory> {
        match self.place {
            Some(Place::Memory(memory)) => Some(memory),
            _ => None,
        }
    }

    /// Where a direct `call rel32` at `address` goes.
    pub(super) fn call_target(&self, address: u64) -> Option<u64> {
        (self.map == 0 && self.opcode == 0xe8).then(|| self.relative_target(address))
    }

    /// Where an unconditional direct jump at `address` goes.
    pub(super) fn jump_target(&self, address: u64) -> Option<u64> {
        (self.map == 0 && matches!(self.opcode, 0xe9 | 0xeb)).then(|| self.relative_target(address))
    }

    /// Where a conditional direct jump at `address` goes when it is taken.
    pub(super) fn branch_target(&self, address: u64) -> Option<u64> {
        let short = self.map == 0 && matches!(self.opcode, 0x70..=0x7f | 0xe0..=0xe3);
        let near = self.map == 1 && !self.vector && matches!(self.opcode, 0x80..=0x8f);
        (short || near).then(|| self.relative_target(address))
    }

    fn relative_target(&self, address: u64) -> u64 {
        address.wrapping_add(self.length as u64).wrapping_add_signed(self.immediate)
    }

    /// Whether execution may not simply continue behind it, or returns there with registers lost.
    pub(super) fn ends_straight_line(&self, address: u64) -> bool {
        let other = match (self.map, self.opcode) {
            (0, 0xc2 | 0xc3 | 0xcc | 0xf4) | (1, 0x05 | 0x0b) => true,
            // Group 5: digits 2-5 are indirect calls and jumps.
            (0, 0xff) => (2..=5).contains(&self.digit),
            _ => false,
        };
        other
            || self.call_target(address).is_some()
            || self.jump_target(address).is_some()
            || self.branch_target(address).is_some()
    }

    /// Whether the next instruction may follow it: not behind returns, unconditional jumps and traps.
    pub(super) fn continues(&self) -> bool {
        match (self.map, self.opcode) {
            (0, 0xc2 | 0xc3 | 0xcc | 0xe9 | 0xeb | 0xf4) | (1, 0x0b) => false,
            (0, 0xff) => !matches!(self.digit, 4 | 5),
            _ => true,
        }
    }

    /// Whether it only fills space.
    pub(super) fn is_nop(&self) -> bool {
        matches!((self.map, self.opcode), (0, 0x90 | 0xcc) | (1, 0x1f))
    }

    /// The register this instruction at `address` sets to a value known from its bytes alone:
    /// `mov r, imm`, `lea r, [rip+d]`, `xor r, r`.
    pub(super) fn constant(&self, address: u64) -> Option<(u8, u64)> {
        if self.map != 0 {
            return None;
        }
        match (self.opcode, self.place) {
            (0xb8..=0xbf, _) if self.wide => Some((self.register, self.immediate as u64)),
            (0xb8..=0xbf, _) => Some((self.register, u64::from(self.immediate as u32))),
            (0xc7, Some(Place::Register(to))) if self.digit == 0 => {
                let value = self.immediate as u64;
                Some((to, if self.wide { value } else { value & 0xffff_ffff }))
            }
            (0x8d, Some(Place::Memory(memory))) if memory.rip_relative => {
                let end = address.wrapping_add(self.length as u64);
                Some((self.register, end.wrapping_add_signed(i64::from(memory.displacement))))
            }
            (0x31 | 0x33, Some(Place::Register(other))) if other == self.register => {
                Some((other, 0))
            }
            _ => None,
        }
    }

    /// The register a plain move or address computation overwrites with a value not known here.
    pub(super) fn overwrites(&self) -> Option<u8> {
        match (self.map, self.opcode, self.place) {
            (0, 0x89, Some(Place::Register(to))) => Some(to),
            (0, 0x63 | 0x8b | 0x8d, _) | (1, 0x40..=0x4f | 0xb6 | 0xb7 | 0xbe | 0xbf, _)
                if !self.vector =>
            {
                Some(self.register)
            }
            (0, 0x58..=0x5f, _) => Some(self.register),
            _ => None,
        }
    }

    /// The object fields this instruction writes, as displacements from a base register that is not
    /// the stack pointer: one for a 64-bit store, two adjacent ones for a 128-bit store.
    pub(super) fn stored_fields(&self) -> impl Iterator<Item = i32> + use<> {
        let memory = self.memory().filter(|m| m.base.is_some_and(|base| base != RSP));
        let words = match (self.map, self.opcode, self.digit) {
            // ADD, SUB and MOV of a register; ADD, SUB and MOV of an immediate.
            (0, 0x01 | 0x29 | 0x89, _) | (0, 0x81 | 0x83, 0 | 5) | (0, 0xc7, 0) if self.wide => 1,
            // MOVUPS, MOVAPS, MOVDQU, MOVDQA and their VEX forms.
            (1, 0x11 | 0x29 | 0x7f, _) => 2,
            _ => 0,
        };
        memory.into_iter().flat_map(move |m| {
            (0..words).filter_map(move |word| m.displacement.checked_add(8 * word))
        })
    }
}

struct Prefixes {
    map: u8,
    opcode: u8,
    wide: bool,
    operand_16: bool,
    vector: bool,
    /// 8 where REX.R (or its VEX form) extends the register half of ModRM, else 0.
    register_high: u8,
    /// 8 where REX.X extends the index register, else 0.
    index_high: u8,
    /// 8 where REX.B extends the base, r/m or opcode register, else 0.
    base_high: u8,
}

impl Prefixes {
    fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        let mut prefixes = Self {
            map: 0,
            opcode: 0,
            wide: false,
            operand_16: false,
            vector: false,
            register_high: 0,
            index_high: 0,
            base_high: 0,
        };
        let mut byte = cursor.byte()?;
        while matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3) {
            prefixes.operand_16 |= byte == 0x66;
            byte = cursor.byte()?;
        }
        match byte {
            0xc4 | 0xc5 | 0x62 => return prefixes.read_vector(byte, cursor),
            0x40..=0x4f => {
                prefixes.wide = byte & 8 != 0;
                prefixes.register_high = (byte & 4) << 1;
                prefixes.index_high = (byte & 2) << 2;
                prefixes.base_high = (byte & 1) << 3;
                byte = cursor.byte()?;
            }
            _ => {}
        }
        if byte == 0x0f {
            byte = cursor.byte()?;
            prefixes.map = match byte {
                0x38 => 2,
                0x3a => 3,
                _ => 1,
            };
            if prefixes.map > 1 {
                byte = cursor.byte()?;
            }
        }
        prefixes.opcode = byte;
        Some(prefixes)
    }

    /// VEX (two and three bytes) and EVEX prefixes; their high register bits are stored inverted.
    fn read_vector(mut self, first: u8, cursor: &mut Cursor<'_>) -> Option<Self> {
        self.vector = true;
        let payload = cursor.byte()?;
        self.register_high = (!payload & 0x80) >> 4;
        match first {
            0xc5 => self.map = 1,
            0xc4 => {
                self.map = payload & 0x1f;
                self.index_high = (!payload & 0x40) >> 3;
                self.base_high = (!payload & 0x20) >> 2;
                self.wide = cursor.byte()? & 0x80 != 0;
            }
            _ => {
                self.map = payload & 7;
                self.index_high = (!payload & 0x40) >> 3;
                self.base_high = (!payload & 0x20) >> 2;
                self.wide = cursor.byte()? & 0x80 != 0;
                cursor.byte()?;
            }
        }
        // Map 0 does not exist behind these prefixes.
        if self.map == 0 {
            return None;
        }
        self.opcode = cursor.byte()?;
        Some(self)
    }

    /// Size of an immediate that follows the operand size but never exceeds four bytes.
    fn immediate_z(&self) -> usize {
        if self.operand_16 && !self.wide { 2 } else { 4 }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.position)?;
        self.position += 1;
        Some(byte)
    }

    /// A little-endian number of `count` (0-8) bytes, sign-extended.
    fn signed(&mut self, count: usize) -> Option<i64> {
        let bytes = self.bytes.get(self.position..self.position + count)?;
        self.position += count;
        let mut value = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 }; 8];
        value[..count].copy_from_slice(bytes);
        Some(i64::from_le_bytes(value))
    }
}

/// What follows the opcode byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Invalid,
    Plain,
    Modrm,
    ModrmByte,
    ModrmZ,
    Group3,
    /// One byte: an immediate or a short relative target.
    Byte,
    /// An immediate of the operand size, at most four bytes.
    Z,
    /// A relative target of four bytes.
    Relative,
    Word,
    Enter,
    /// An immediate of the full operand size.
    Full,
    /// An absolute address.
    Offset,
}

impl Shape {
    fn has_modrm(self) -> bool {
        matches!(self, Self::Modrm | Self::ModrmByte | Self::ModrmZ | Self::Group3)
    }
}

fn shape(map: u8, opcode: u8, vector: bool) -> Shape {
    match map {
        0 => one_byte_shape(opcode),
        1 => two_byte_shape(opcode, vector),
        2 | 5 | 6 => Shape::Modrm,
        3 => Shape::ModrmByte,
        _ => Shape::Invalid,
    }
}

fn one_byte_shape(opcode: u8) -> Shape {
    match opcode {
        0x00..=0x3f => match opcode & 7 {
            0..=3 => Shape::Modrm,
            4 => Shape::Byte,
            5 => Shape::Z,
            _ => Shape::Invalid,
        },
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => Shape::Modrm,
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => Shape::ModrmByte,
        0x69 | 0x81 | 0xc7 => Shape::ModrmZ,
        0xf6 | 0xf7 => Shape::Group3,
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe0..=0xe7 | 0xeb => Shape::Byte,
        0x68 | 0xa9 => Shape::Z,
        0xe8 | 0xe9 => Shape::Relative,
        0xb8..=0xbf => Shape::Full,
        0xa0..=0xa3 => Shape::Offset,
        0xc2 | 0xca => Shape::Word,
        0xc8 => Shape::Enter,
        0x60..=0x62 | 0x82 | 0x9a | 0xc4 | 0xc5 | 0xce | 0xd4..=0xd6 | 0xea => Shape::Invalid,
        _ => Shape::Plain,
    }
}

fn two_byte_shape(opcode: u8, vector: bool) -> Shape {
    match opcode {
        0x77 => Shape::Plain,
        0x70..=0x73 | 0xc2 | 0xc4..=0xc6 => Shape::ModrmByte,
        _ if vector => Shape::Modrm,
        0x0f | 0xa4 | 0xac | 0xba => Shape::ModrmByte,
        0x80..=0x8f => Shape::Relative,
        0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {
            Shape::Plain
        }
        0x04 | 0x0a | 0x0c | 0x24..=0x27 | 0x39 | 0x3b..=0x3f => Shape::Invalid,
        _ => Shape::Modrm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Instructions with their lengths as a disassembler prints them.
    const LENGTHS: &[&[u8]] = &[
        &[0x55],
        &[0x48, 0x89, 0xe5],
        &[0x41, 0x57],
        &[0x48, 0x83, 0xec, 0x18],
        &[0x48, 0x83, 0xbf, 0x98, 0, 0, 0, 0],
        &[0xc7, 0x80, 0xc4, 0, 0, 0, 0, 0, 0, 0],
        &[0x48, 0xc7, 0x45, 0xc8, 0, 0, 0, 0],
        &[0xc6, 0x45, 0xd7, 0],
        &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
        &[0x66, 0x83, 0x78, 0x5a, 0],
        &[0x49, 0x89, 0x84, 0x24, 0xb8, 0, 0, 0],
        &[0xff, 0x15, 0x64, 0x22, 0xe5, 0x01],
        &[0x41, 0xbc, 4, 0, 0, 0],
        &[0x49, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0x66, 0xb8, 1, 2],
        &[0xf6, 0x81, 0xdd, 0, 0, 0, 8],
        &[0xf6, 0xd8],
        &[0xf7, 0xc1, 1, 0, 0, 0],
        &[0x0f, 0x84, 0x8a, 0, 0, 0],
        &[0x48, 0x0f, 0x42, 0xd9],
        &[0xc5, 0xf8, 0x77],
        &[0xc5, 0xfe, 0x6f, 0x06],
        &[0xc4, 0xe3, 0x7d, 0x39, 0xc1, 1],
        &[0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x46, 1],
        &[0x66, 0x0f, 0x3a, 0x0f, 0xc1, 8],
        &[0xf3, 0x0f, 0x7f, 0x80, 0x80, 0, 0, 0],
        &[0xf3, 0x0f, 0x1e, 0xfa],
        &[0x8b, 0x04, 0x25, 1, 2, 3, 4],
        &[0xc8, 1, 2, 3],
    ];

    #[test]
    fn instructions_have_the_length_a_disassembler_gives_them() {
        for bytes in LENGTHS {
            let mut padded = bytes.to_vec();
            padded.extend([0x90; 15]);
            let length = Instruction::decode(&padded).map(|i| i.length);
            assert_eq!(length, Some(bytes.len()), "{bytes:02x?}");
            assert!(Instruction::decode(&bytes[..bytes.len() - 1]).is_none(), "{bytes:02x?}");
        }
    }

    #[test]
    fn constants_are_read_from_moves_addresses_and_self_xor() {
        let constant = |bytes: &[u8]| Instruction::decode(bytes).and_then(|i| i.constant(0x1000));
        assert_eq!(constant(&[0xba, 0x6a, 0x46, 0x29, 0]), Some((2, 0x29_466a)));
        assert_eq!(constant(&[0x41, 0xb8, 0xff, 0xff, 0xff, 0xff]), Some((8, 0xffff_ffff)));
        assert_eq!(constant(&[0x48, 0x8d, 0x0d, 0x10, 0, 0, 0]), Some((1, 0x1017)));
        assert_eq!(constant(&[0x31, 0xf6]), Some((6, 0)));
        assert_eq!(constant(&[0x31, 0xfe]), None);
    }

    #[test]
    fn relative_targets_count_from_the_end_of_the_instruction() {
        let call = Instruction::decode(&[0xe8, 0xfb, 0xff, 0xff, 0xff]).unwrap();
        assert_eq!(call.call_target(0x2000), Some(0x2000));
        let jump = Instruction::decode(&[0xeb, 0x10]).unwrap();
        assert_eq!(jump.jump_target(0x2000), Some(0x2012));
        assert!(jump.ends_straight_line(0x2000));
    }

    #[test]
    fn stores_to_objects_are_told_from_stores_to_the_stack() {
        let stored = |bytes: &[u8]| -> Vec<i32> {
            Instruction::decode(bytes).unwrap().stored_fields().collect()
        };
        assert_eq!(stored(&[0x48, 0x01, 0x98, 0x80, 0, 0, 0]), [0x80]);
        assert_eq!(stored(&[0x48, 0x89, 0x88, 0x88, 0, 0, 0]), [0x88]);
        assert_eq!(stored(&[0x0f, 0x11, 0x80, 0x80, 0, 0, 0]), [0x80, 0x88]);
        assert_eq!(stored(&[0x48, 0x89, 0x44, 0x24, 0x08]), [] as [i32; 0]);
        assert_eq!(stored(&[0x48, 0x8b, 0x88, 0x88, 0, 0, 0]), [] as [i32; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_decode_within_the_slice_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..20), address: u64,
        ) {
            if let Some(instruction) = Instruction::decode(&bytes) {
                prop_assert!((1..=15.min(bytes.len())).contains(&instruction.length));
                let _ = (instruction.constant(address), instruction.call_target(address));
                let _ = (instruction.ends_straight_line(address), instruction.overwrites());
                prop_assert!(instruction.stored_fields().count() <= 2);
            }
        }
    }
}
