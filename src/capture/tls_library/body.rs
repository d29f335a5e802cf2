//! What one compiled function does, as far as it takes to recognise it: the errors it raises, what it
//! calls and which fields of objects it stores to.
//!
//! Error calls are read by meaning: the constants that a straight line of code puts into argument
//! registers around the address of the source file's name. Which register holds the name says which
//! argument it is, so neither registers nor the order of instructions have to be known beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::functions::{Extent, MAX_FUNCTION_BYTES};
use super::image::Image;
use super::x86::Instruction;

/// `ERR_LIB_SSL` of BoringSSL's `err.h`.
const LIBRARY_SSL: u64 = 16;
/// System V argument registers in order: `rdi rsi rdx rcx r8 r9`.
const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];
/// Most instructions between an argument of an error call and the file name.
const ARGUMENT_REACH: usize = 8;

/// The arguments of one error call, as far as they are constants beside the file name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ErrorCall {
    pub(super) reason: Option<u64>,
    pub(super) line: Option<u64>,
}

/// What is known of a function once its code is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// Address of its first byte.
    pub(super) start: u64,
    /// Its error calls, in order of address; one whose arguments cannot be read is in it as well.
    pub(super) errors: Vec<ErrorCall>,
    /// Targets of its direct calls.
    calls: BTreeSet<u64>,
    /// Displacements at which it stores to objects.
    stored: BTreeSet<i32>,
    /// Displacements at which it reads or writes memory.
    touched: BTreeSet<i32>,
}

impl Traits {
    /// Reads the function at `extent`. `references` are addresses inside it at which an instruction
    /// is likely to load the address of one of `file_names`.
    pub(super) fn read(
        image: &Image,
        extent: &Extent,
        references: &[u64],
        file_names: &[u64],
    ) -> io::Result<Self> {
        let body = Body::decode(image, extent)?;
        let instructions = || body.instructions.iter();
        Ok(Self {
            start: extent.range.start,
            errors: references.iter().filter_map(|&r| body.error_call(r, file_names)).collect(),
            calls: instructions().filter_map(|&(a, i)| i.call_target(a)).collect(),
            stored: instructions().flat_map(|(_, i)| i.stored_fields()).collect(),
            touched: instructions().filter_map(|(_, i)| Some(i.memory()?.displacement)).collect(),
        })
    }

    pub(super) fn reasons(&self) -> BTreeSet<u64> {
        self.errors.iter().filter_map(|error| error.reason).collect()
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = u64> + '_ {
        self.errors.iter().filter_map(|error| error.line)
    }

    pub(super) fn calls(&self, target: u64) -> bool {
        self.calls.contains(&target)
    }

    /// Whether it stores both words of a span in an object whose length word `tester` refers to.
    pub(super) fn advances_span_tested_by(&self, tester: &Self) -> bool {
        self.stored.iter().any(|&data| {
            let length = data.saturating_add(8);
            // Negative displacements are variables in a frame.
            data > 0 && self.stored.contains(&length) && tester.touched.contains(&length)
        })
    }
}

/// A decoded function.
pub(super) struct Body {
    /// Its instructions with their addresses, in order.
    pub(super) instructions: Vec<(u64, Instruction)>,
}

impl Body {
    /// Decodes the function at `extent`, as far as its bytes are instructions.
    pub(super) fn decode(image: &Image, extent: &Extent) -> io::Result<Self> {
        let Range { start, end } = extent.range;
        let code = image.at_address(start, (end - start).min(MAX_FUNCTION_BYTES))?;
        let (mut at, mut instructions) = (0, Vec::new());
        while let Some(instruction) = code.get(at..).and_then(Instruction::decode) {
            instructions.push((start + at as u64, instruction));
            at += instruction.length;
        }
        let mut body = Self { instructions };
        if !extent.certain {
            body.cut_at_unreachable_code();
        }
        Ok(body)
    }

    /// Drops what no path from the start reaches: it belongs to another function. (A jump table
    /// would be cut as well; the functions looked for have none.)
    fn cut_at_unreachable_code(&mut self) {
        let targets: BTreeSet<u64> = self
            .instructions
            .iter()
            .filter_map(|&(a, i)| i.jump_target(a).or_else(|| i.branch_target(a)))
            .collect();
        let mut falls_through = true;
        let foreign = self.instructions.iter().position(|&(address, instruction)| {
            let reachable = falls_through || targets.contains(&address);
            falls_through = reachable && instruction.continues();
            !reachable && !instruction.is_nop()
        });
        self.instructions.truncate(foreign.unwrap_or(self.instructions.len()));
    }

    /// Index of the instruction that the byte at `address` belongs to.
    pub(super) fn index_of(&self, address: u64) -> Option<usize> {
        let index = self.instructions.partition_point(|&(start, _)| start <= address);
        let index = index.checked_sub(1)?;
        let (start, instruction) = self.instructions[index];
        (address - start < instruction.length as u64).then_some(index)
    }

    /// The constant that the instruction around `reference` puts into a register.
    pub(super) fn constant_at(&self, reference: u64) -> Option<u64> {
        let (address, instruction) = self.instructions[self.index_of(reference)?];
        instruction.constant(address).map(|(_, value)| value)
    }

    /// The error call whose file name the instruction around `reference` loads; `None` where no
    /// instruction of this function does.
    fn error_call(&self, reference: u64, file_names: &[u64]) -> Option<ErrorCall> {
        let index = self.index_of(reference)?;
        let (address, instruction) = self.instructions[index];
        let (register, value) = instruction.constant(address)?;
        if !file_names.contains(&value) {
            return None;
        }
        let known = self.constants_around(index);
        let argument = |position: usize| known.get(ARGUMENTS.get(position)?).copied().flatten();
        let position = ARGUMENTS.iter().position(|&argument| argument == register);
        // The compiler may have dropped the unused argument, but not reordered the others: the
        // reason is the one before the file name, the line the one behind it, the library first.
        Some(match position {
            Some(file @ 2..) if argument(0).is_none_or(|library| library == LIBRARY_SSL) => {
                ErrorCall { reason: argument(file - 1), line: argument(file + 1) }
            }
            _ => ErrorCall::default(),
        })
    }

    /// What the registers hold when the straight line of code around `index` ends, where that line
    /// tells: `None` for a register it sets to something unknown.
    fn constants_around(&self, index: usize) -> BTreeMap<u8, Option<u64>> {
        let mut known = BTreeMap::new();
        for &(address, instruction) in self.instructions[..index].iter().rev().take(ARGUMENT_REACH)
        {
            if instruction.ends_straight_line(address) {
                break;
            }
            if let Some((register, value)) = effect(&instruction, address) {
                // Walking backwards: what was seen first is set last.
                known.entry(register).or_insert(value);
            }
        }
        for &(address, instruction) in self.instructions[index + 1..].iter().take(ARGUMENT_REACH) {
            if instruction.ends_straight_line(address) {
                break;
            }
            if let Some((register, value)) = effect(&instruction, address) {
                known.insert(register, value);
            }
        }
        known
    }
}

fn effect(instruction: &Instruction, address: u64) -> Option<(u8, Option<u64>)> {
    let constant = instruction.constant(address).map(|(register, value)| (register, Some(value)));
    constant.or_else(|| instruction.overwrites().map(|register| (register, None)))
}
