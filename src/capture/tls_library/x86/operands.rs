//! What an instruction moves from where to where, for those that resolvers follow.
//!
//! Only moves that say it exactly: 64-bit loads, stores and copies, and constants stored to memory
//! or compared with it. Places that an index register takes part in are left out.

use super::{Instruction, Memory, Place};

impl Instruction {
    /// `mov` of 64 bits from memory: (register set, place read).
    pub(in super::super) fn loads(&self) -> Option<(u8, Memory)> {
        let is_load = self.map == 0 && self.opcode == 0x8b && self.wide;
        is_load.then(|| Some((self.register, self.plain_memory()?))).flatten()
    }

    /// `mov` of a 64-bit register to memory: (place written, register).
    pub(in super::super) fn stores(&self) -> Option<(Memory, u8)> {
        let is_store = self.map == 0 && self.opcode == 0x89 && self.wide;
        is_store.then(|| Some((self.plain_memory()?, self.register))).flatten()
    }

    /// `mov` of 64 bits between registers: (register set, register read).
    pub(in super::super) fn copies(&self) -> Option<(u8, u8)> {
        match (self.map, self.opcode, self.place) {
            (0, 0x89, Some(Place::Register(to))) if self.wide => Some((to, self.register)),
            (0, 0x8b, Some(Place::Register(from))) if self.wide => Some((self.register, from)),
            _ => None,
        }
    }

    /// `lea` of an address near a register: (register set, base and displacement).
    pub(in super::super) fn computes(&self) -> Option<(u8, Memory)> {
        let is_lea = self.map == 0 && self.opcode == 0x8d && self.wide;
        is_lea.then(|| Some((self.register, self.plain_memory()?))).flatten()
    }

    /// `movb $constant` to memory.
    pub(in super::super) fn stores_byte(&self) -> Option<(Memory, u8)> {
        let is_store = self.map == 0 && self.opcode == 0xc6 && self.digit == 0;
        // Fits: the immediate is one byte, sign-extended.
        is_store.then(|| Some((self.plain_memory()?, self.immediate as u8))).flatten()
    }

    /// `cmpb $constant` with memory.
    pub(in super::super) fn compares_byte(&self) -> Option<(Memory, u8)> {
        let compares = self.map == 0 && self.opcode == 0x80 && self.digit == 7;
        compares.then(|| Some((self.plain_memory()?, self.immediate as u8))).flatten()
    }

    /// `call *displacement(base)`: where the address called is read.
    pub(in super::super) fn calls_through(&self) -> Option<Memory> {
        let is_call = self.map == 0 && self.opcode == 0xff && self.digit == 2;
        is_call.then(|| self.plain_memory()).flatten()
    }

    /// Whether it may change a general register. Loads, copies and constants do; so does everything
    /// that is not known to leave it alone.
    pub(in super::super) fn may_set(&self, register: u8) -> bool {
        if self.vector {
            return false;
        }
        let to_place = self.place == Some(Place::Register(register));
        let named = self.register == register;
        match (self.map, self.opcode) {
            (0, 0x38..=0x3d) => false,
            // Arithmetic by opcode: to r/m, to the register, to the accumulator.
            (0, 0x00..=0x37) => match self.opcode & 7 {
                0 | 1 => to_place,
                2 | 3 => named,
                _ => register == 0,
            },
            // PUSH, short jumps, TEST, NOP.
            (0, 0x50..=0x57 | 0x68 | 0x6a | 0x70..=0x7f | 0x84 | 0x85 | 0x90 | 0xa8 | 0xa9) => {
                false
            }
            (0, 0x58..=0x5f | 0xb0..=0xbf | 0x63 | 0x69 | 0x6b | 0x8a | 0x8b | 0x8d) => named,
            (0, 0x80 | 0x81 | 0x83) => self.digit != 7 && to_place,
            (0, 0x86 | 0x87) => to_place || named,
            (0, 0x88 | 0x89 | 0xc0 | 0xc1 | 0xc6 | 0xc7 | 0xd0..=0xd3 | 0xfe) => to_place,
            (0, 0xf6 | 0xf7) => match self.digit {
                0 | 1 => false,
                2 | 3 => to_place,
                // MUL and DIV: rax and rdx.
                _ => matches!(register, 0 | 2),
            },
            (0, 0xff) if self.digit <= 1 => to_place,
            (0, 0xff) if self.digit == 6 => false,
            // Vector moves and arithmetic that no general register takes part in; NOP; jumps.
            (
                1,
                0x10..=0x17 | 0x1e | 0x1f | 0x28 | 0x29 | 0x54..=0x6d | 0x6f | 0x7f | 0x80..=0x8f,
            ) => false,
            (1, 0x90..=0x9f) => to_place,
            (1, 0x40..=0x4f | 0xaf | 0xb6 | 0xb7 | 0xbc..=0xbf) => named,
            _ => true,
        }
    }

    fn plain_memory(&self) -> Option<Memory> {
        self.memory().filter(|memory| !memory.indexed && !memory.rip_relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Instruction {
        Instruction::decode(bytes).unwrap()
    }

    fn at(base: u8, displacement: i32) -> Memory {
        Memory { base: Some(base), rip_relative: false, indexed: false, displacement }
    }

    #[test]
    fn loads_stores_and_copies_name_both_sides() {
        assert_eq!(decode(&[0x49, 0x8b, 0x6f, 0x08]).loads(), Some((5, at(15, 8))));
        assert_eq!(decode(&[0x48, 0x89, 0x87, 8, 3, 0, 0]).stores(), Some((at(7, 0x308), 0)));
        assert_eq!(decode(&[0x49, 0x89, 0xd6]).copies(), Some((14, 2)));
        assert_eq!(decode(&[0x4c, 0x8b, 0xf2]).copies(), Some((14, 2)));
        assert_eq!(decode(&[0x48, 0x8d, 0x4c, 0x24, 0x10]).computes(), Some((1, at(4, 0x10))));
        // 32 bits, an index, or relative to the instruction: not what is asked for.
        assert_eq!(decode(&[0x8b, 0x47, 0x08]).loads(), None);
        assert_eq!(decode(&[0x4c, 0x89, 0x3c, 0xc1]).stores(), None);
        assert_eq!(decode(&[0x4a, 0x8b, 0x04, 0x20]).loads(), None);
        assert_eq!(decode(&[0x48, 0x8b, 0x05, 1, 0, 0, 0]).loads(), None);
    }

    #[test]
    fn bytes_stored_and_compared_are_told_with_their_place() {
        let reset = decode(&[0xc6, 0x87, 0x2e, 3, 0, 0, 0x20]);
        assert_eq!(reset.stores_byte(), Some((at(7, 0x32e), 0x20)));
        let behind_sib = decode(&[0x41, 0xc6, 0x84, 0x24, 0x2e, 3, 0, 0, 0x20]);
        assert_eq!(behind_sib.stores_byte(), Some((at(12, 0x32e), 0x20)));
        let ready = decode(&[0x80, 0xbf, 0x36, 3, 0, 0, 1]);
        assert_eq!(ready.compares_byte(), Some((at(7, 0x336), 1)));
        assert_eq!(decode(&[0xff, 0x50, 0x18]).calls_through(), Some(at(0, 0x18)));
    }

    #[test]
    fn registers_are_known_to_survive_what_leaves_them_alone() {
        // push %r15; cmp %rax,%rbp; jno; movups; test %rbx,%rbx
        for bytes in [
            &[0x41, 0x57][..],
            &[0x48, 0x39, 0xc5],
            &[0x71, 0x10],
            &[0x0f, 0x10, 0x03],
            &[0x48, 0x85, 0xdb],
        ] {
            assert!((0..16).all(|register| !decode(bytes).may_set(register)), "{bytes:02x?}");
        }
        assert!(decode(&[0x48, 0xf7, 0xd8]).may_set(0), "neg %rax");
        assert!(decode(&[0x48, 0x83, 0xc0, 0xfe]).may_set(0), "add $-2,%rax");
        assert!(!decode(&[0x48, 0x83, 0xc0, 0xfe]).may_set(3), "add $-2,%rax");
        assert!(decode(&[0x5b]).may_set(3), "pop %rbx");
    }
}
