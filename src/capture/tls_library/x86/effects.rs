//! What the instructions that begin functions and set up calls do to registers, and what a probe on
//! an instruction costs.

use super::{Instruction, Place, RSP};

/// What an instruction does to the general registers, the stack pointer apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Effect {
    /// None of them changes.
    Nothing,
    /// One gets the value of another, possibly cut to 32 bits and extended again.
    Copies {
        /// The register that changes.
        to: u8,
        /// The one that it is a copy of.
        from: u8,
    },
    /// One gets an address that is a constant away from what another holds.
    Offsets {
        /// The register that changes.
        to: u8,
        /// The one that the address counts from.
        from: u8,
    },
    /// One gets a value that the bytes of the instruction tell.
    Sets {
        /// The register that changes.
        to: u8,
        /// Its new value.
        value: u64,
    },
    /// One gets a value that is not known here.
    Clobbers {
        /// The register that changes.
        to: u8,
    },
}

impl Instruction {
    /// What it does to registers, if it is one of the instructions that begin functions and set up
    /// calls; `None` for all others, which may do anything. Where control goes is not its subject.
    pub(in super::super) fn effect(&self, address: u64) -> Option<Effect> {
        if self.vector {
            return None;
        }
        let set = |to: u8| if to == RSP { Effect::Nothing } else { Effect::Clobbers { to } };
        if let Some((to, value)) = self.constant(address) {
            return Some(Effect::Sets { to, value });
        }
        Some(match (self.map, self.opcode, self.place) {
            // PUSH, conditional jumps and NOP; TEST and CMP in their forms.
            (0, 0x50..=0x57 | 0x70..=0x7f | 0x38..=0x3d | 0x84 | 0x85, _) => Effect::Nothing,
            (0, 0x90, _) if self.register == 0 => Effect::Nothing,
            (0, 0x80 | 0x81 | 0x83, _) if self.digit == 7 => Effect::Nothing,
            (0, 0xf6 | 0xf7, _) if self.digit <= 1 => Effect::Nothing,
            // Near conditional jumps, ENDBR64 and the long NOP.
            (1, 0x80..=0x8f | 0x1e | 0x1f, _) => Effect::Nothing,
            // MOV and arithmetic with an immediate, to memory.
            (0, 0x80 | 0x81 | 0x83 | 0x88 | 0x89 | 0xc6 | 0xc7, Some(Place::Memory(_))) => {
                Effect::Nothing
            }
            // Arithmetic with an immediate and XOR, to a register.
            (0, 0x31 | 0x81 | 0x83, Some(Place::Register(to))) => set(to),
            (0, 0x33, _) => set(self.register),
            // MOV and MOVSXD.
            (0, 0x89, Some(Place::Register(to))) => Effect::Copies { to, from: self.register },
            (0, 0x63 | 0x8b, Some(Place::Register(from))) => {
                Effect::Copies { to: self.register, from }
            }
            (0, 0x63 | 0x8b, Some(Place::Memory(_))) => set(self.register),
            (0, 0x8d, Some(Place::Memory(memory))) => match memory.base {
                Some(from) if !memory.indexed => Effect::Offsets { to: self.register, from },
                _ => set(self.register),
            },
            _ => return None,
        })
    }

    /// Whether the kernel carries it out itself when a probe stands on it (`arch/x86/kernel/
    /// uprobes.c`), instead of having the processor step over a copy of it, which takes about ten
    /// times as long: PUSH of a register, NOP, direct jumps and calls.
    pub(in super::super) fn is_emulated(&self) -> bool {
        let one_byte = self.map == 0 && !self.vector;
        let push = one_byte && matches!(self.opcode, 0x50..=0x57) && self.length <= 2;
        let jump = one_byte && matches!(self.opcode, 0x70..=0x7f | 0xe8 | 0xe9 | 0xeb);
        let near_jump = self.map == 1 && !self.vector && matches!(self.opcode, 0x80..=0x8f);
        push || jump || near_jump || (one_byte && self.opcode == 0x90 && self.length == 1)
    }

    /// Whether it is a near return.
    pub(in super::super) fn is_return(&self) -> bool {
        self.map == 0 && matches!(self.opcode, 0xc2 | 0xc3)
    }

    /// Whether it compares a register with the memory at `displacement` from the register `base`.
    pub(in super::super) fn compares_with(&self, base: u8, displacement: i32) -> bool {
        let compares = self.map == 0 && matches!(self.opcode, 0x39 | 0x3b) && self.wide;
        compares
            && self.memory().is_some_and(|m| (m.base, m.displacement) == (Some(base), displacement))
    }
}
