//! Instructions that refer to an address: those that take it, and direct calls to it.
//!
//! Code is searched for the bytes such an instruction must have, without decoding what stands before
//! it: who uses an answer has to check that an instruction begins there.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;

use memchr::{memchr_iter, memmem};

use super::image::{Image, u32_at};

/// Most references followed; real files have 24 to 67 to the file name of BoringSSL's errors.
pub(super) const MAX_REFERENCES: usize = 1024;
/// Most calls near the references remembered; real files have some thousands.
const MAX_CALLS: usize = 1 << 20;

/// Addresses of bytes inside the instructions that take the address of one of `strings`.
pub(super) fn references(image: &Image, strings: &[u64]) -> io::Result<BTreeSet<u64>> {
    let absolute: Vec<[u8; 4]> =
        strings.iter().filter_map(|&s| u32::try_from(s).ok()).map(u32::to_le_bytes).collect();
    let absolute: Vec<_> = absolute.iter().map(memmem::Finder::new).collect();
    let mut found = BTreeSet::new();
    image.scan(true, 16, |address, code| {
        for finder in &absolute {
            // mov $imm32, %r32
            let moves =
                finder.find_iter(code).filter(|&at| at > 0 && matches!(code[at - 1], 0xb8..=0xbf));
            found.extend(moves.map(|at| address + at as u64));
        }
        for at in memchr_iter(0x8d, code) {
            // lea disp32(%rip), %r64
            let Some(operand) = code.get(at + 1..at + 6) else { continue };
            if operand[0] & 0xc7 != 5 || at == 0 || code[at - 1] & 0xfb != 0x48 {
                continue;
            }
            let displacement = i64::from(u32_at(operand, 1) as i32);
            let end = address.wrapping_add(at as u64 + 6);
            if strings.contains(&end.wrapping_add_signed(displacement)) {
                found.insert(address + at as u64);
            }
        }
        found.len() <= MAX_REFERENCES
    })?;
    Ok(found)
}

/// Direct calls into `near`, as (address of the call, target). A byte that only looks like a call
/// hits `near` by chance about once in `2^32 / near.len()`.
pub(super) fn calls_into(image: &Image, near: &Range<u64>) -> io::Result<Vec<(u64, u64)>> {
    let mut calls = Vec::new();
    image.scan(true, 4, |address, code| {
        for at in memchr_iter(0xe8, code) {
            let Some(operand) = code.get(at + 1..at + 5) else { continue };
            let displacement = i64::from(u32_at(operand, 0) as i32);
            let end = address.wrapping_add(at as u64 + 5);
            let target = end.wrapping_add_signed(displacement);
            if near.contains(&target) {
                calls.push((address + at as u64, target));
            }
        }
        calls.len() <= MAX_CALLS
    })?;
    Ok(calls)
}
