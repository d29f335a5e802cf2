//! `SSL_read` and `SSL_write` of a stripped, statically linked BoringSSL, found by what they mean.
//!
//! BoringSSL reports errors as `ERR_put_error(library, unused, reason, file, line)`. The reasons are
//! ABI-stable numbers of its `ssl.h`, the file is a string whose address can be found, and the lines
//! grow in source order. Which reasons a function raises therefore names it, whatever the compiler,
//! the register allocation, the order of functions, position independence or prologue:
//!
//! ```text
//!   "…ssl/ssl_lib.cc" ◀── instructions that take its address ──▶ functions they belong to
//!                              └─ neighbouring constants: reason, line
//!   ssl_read_impl   raises {215, 226}, neither 66 nor 111
//!   SSL_read/peek   raises 66 once, in a line behind ssl_read_impl and before SSL_write; calls it
//!   SSL_write       raises {66, 111, 215, 226}
//! ```
//!
//! `SSL_peek` looks like `SSL_read` with it inlined, but only `SSL_read` consumes: it stores both
//! words of the span `pending_app_data`, whose length `ssl_read_impl` tests. Where any step leaves
//! other than one function, nothing is resolved: a probe on the wrong function is worse than none.
//!
//! Fed by [`Image`]; x86-64 only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use memchr::{memchr_iter, memmem};

use super::functions::{Extent, Functions, MAX_FUNCTION_BYTES};
use super::image::{Image, u32_at};
use super::x86::Instruction;

/// `ERR_LIB_SSL` of BoringSSL's `err.h`.
const LIBRARY_SSL: u64 = 16;
/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED` of `err.h`: the connection speaks QUIC.
const SHOULD_NOT_HAVE_BEEN_CALLED: u64 = 66;
/// `SSL_R_BAD_LENGTH` of `ssl.h`: a negative length.
const BAD_LENGTH: u64 = 111;
/// `SSL_R_SSL_HANDSHAKE_FAILURE` of `ssl.h`.
const HANDSHAKE_FAILURE: u64 = 215;
/// `SSL_R_UNINITIALIZED` of `ssl.h`: neither client nor server yet.
const UNINITIALIZED: u64 = 226;

/// System V argument registers in order: `rdi rsi rdx rcx r8 r9`.
const ARGUMENTS: [u8; 6] = [7, 6, 2, 1, 8, 9];
/// Most instructions between an argument of an error call and the file name.
const ARGUMENT_REACH: usize = 8;
/// Most references followed; real files have 24 to 67.
const MAX_REFERENCES: usize = 1024;
/// Most calls near the references remembered; real files have some thousands.
const MAX_CALLS: usize = 1 << 20;

/// Addresses of the two functions, or why there is no certain answer.
pub(super) type Resolution = Result<Resolved, String>;

/// Addresses of the functions found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) read: u64,
    pub(super) write: u64,
}

/// Finds the functions, given the addresses of the file name strings.
pub(super) fn resolve(image: &Image, file_names: &[u64]) -> io::Result<Resolution> {
    let references = references(image, file_names)?;
    let (Some(first), Some(last)) = (references.first(), references.last()) else {
        return Ok(Err("its code never takes the address of ssl/ssl_lib.cc".to_owned()));
    };
    if references.len() > MAX_REFERENCES {
        return Ok(Err(format!(
            "expected at most {MAX_REFERENCES} references to ssl/ssl_lib.cc, found more"
        )));
    }
    let near = first.saturating_sub(MAX_FUNCTION_BYTES)..last.saturating_add(MAX_FUNCTION_BYTES);
    let calls = calls_into(image, &near)?;
    let functions = Functions::new(image, calls.iter().map(|&(_, target)| target))?;
    let bodies = bodies(image, &functions, &references, file_names)?;
    let search = Search { image, functions, bodies, calls, references: references.len() };
    search.run()
}

/// Addresses of bytes inside the instructions that take the address of one of `strings`.
fn references(image: &Image, strings: &[u64]) -> io::Result<BTreeSet<u64>> {
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
fn calls_into(image: &Image, near: &Range<u64>) -> io::Result<Vec<(u64, u64)>> {
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

/// The arguments of one error call, as far as they are constants beside the file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ErrorCall {
    reason: Option<u64>,
    line: Option<u64>,
}

/// A decoded function.
struct Body {
    start: u64,
    instructions: Vec<(u64, Instruction)>,
    errors: Vec<ErrorCall>,
}

impl Body {
    fn decode(image: &Image, extent: &Extent) -> io::Result<Self> {
        let Range { start, end } = extent.range;
        let code = image.at_address(start, (end - start).min(MAX_FUNCTION_BYTES))?;
        let (mut at, mut instructions) = (0, Vec::new());
        while let Some(instruction) = code.get(at..).and_then(Instruction::decode) {
            instructions.push((start + at as u64, instruction));
            at += instruction.length;
        }
        let mut body = Self { start, instructions, errors: Vec::new() };
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

    /// The error call whose file name the instruction around `reference` loads.
    fn error_call(&self, reference: u64, file_names: &[u64]) -> Option<ErrorCall> {
        let index = self.instructions.partition_point(|&(address, _)| address <= reference);
        let index = index.checked_sub(1)?;
        let (address, instruction) = self.instructions[index];
        if reference - address >= instruction.length as u64 {
            return None;
        }
        let (register, value) = instruction.constant(address)?;
        if !file_names.contains(&value) {
            return None;
        }
        let position = ARGUMENTS.iter().position(|&argument| argument == register)?;
        let known = self.constants_around(index);
        let argument = |position: usize| known.get(ARGUMENTS.get(position)?).copied().flatten();
        // The compiler may have dropped the unused argument, but not reordered the others: the
        // reason is the one before the file name, the line the one behind it.
        (position > 0 && argument(0).is_none_or(|library| library == LIBRARY_SSL || position == 1))
            .then(|| ErrorCall { reason: argument(position - 1), line: argument(position + 1) })
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
        let (mut next, mut jumped) = (index + 1, false);
        for _ in 0..2 * ARGUMENT_REACH {
            let Some(&(address, instruction)) = self.instructions.get(next) else { break };
            if let Some(target) = instruction.jump_target(address).filter(|_| !jumped) {
                // Compilers share the end of several error paths.
                let Ok(at) = self.instructions.binary_search_by_key(&target, |&(a, _)| a) else {
                    break;
                };
                (next, jumped) = (at, true);
                continue;
            }
            if instruction.ends_straight_line(address) {
                break;
            }
            if let Some((register, value)) = effect(&instruction, address) {
                known.insert(register, value);
            }
            next += 1;
        }
        known
    }

    fn reasons(&self) -> BTreeSet<u64> {
        self.errors.iter().filter_map(|error| error.reason).collect()
    }

    fn lines(&self) -> impl Iterator<Item = u64> + '_ {
        self.errors.iter().filter_map(|error| error.line)
    }

    fn calls(&self, target: u64) -> bool {
        self.instructions.iter().any(|&(address, i)| i.call_target(address) == Some(target))
    }

    /// Whether it stores both words of a span in an object whose length word `tester` refers to.
    fn advances_span_tested_by(&self, tester: &Self) -> bool {
        let stored: BTreeSet<i32> =
            self.instructions.iter().flat_map(|(_, i)| i.stored_fields()).collect();
        let memory = tester.instructions.iter().filter_map(|(_, i)| i.memory());
        let tested: BTreeSet<i32> = memory.map(|m| m.displacement).collect();
        stored.iter().any(|&data| {
            let length = data.saturating_add(8);
            // Negative displacements are variables in a frame.
            data > 0 && stored.contains(&length) && tested.contains(&length)
        })
    }
}

fn effect(instruction: &Instruction, address: u64) -> Option<(u8, Option<u64>)> {
    let constant = instruction.constant(address).map(|(register, value)| (register, Some(value)));
    constant.or_else(|| instruction.overwrites().map(|register| (register, None)))
}

/// The functions that hold the references, by start address, with the error calls they make.
fn bodies(
    image: &Image,
    functions: &Functions<'_>,
    references: &BTreeSet<u64>,
    file_names: &[u64],
) -> io::Result<Vec<Body>> {
    let mut bodies = BTreeMap::new();
    for &reference in references {
        let Some(extent) = functions.containing(reference)? else { continue };
        let body = match bodies.entry(extent.range.start) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Body::decode(image, &extent)?)
            }
        };
        body.errors.extend(body.error_call(reference, file_names));
    }
    Ok(bodies.into_values().collect())
}

struct Search<'a> {
    image: &'a Image,
    functions: Functions<'a>,
    bodies: Vec<Body>,
    calls: Vec<(u64, u64)>,
    references: usize,
}

impl Search<'_> {
    fn run(&self) -> io::Result<Resolution> {
        let all = [SHOULD_NOT_HAVE_BEEN_CALLED, BAD_LENGTH, HANDSHAKE_FAILURE, UNINITIALIZED];
        let write = self.only("SSL_write raising the errors 66, 111, 215 and 226", |body| {
            let reasons = body.reasons();
            all.iter().all(|reason| reasons.contains(reason))
        });
        let read_impl = self.only("ssl_read_impl raising 215 and 226 but not 66, 111", |body| {
            let reasons = body.reasons();
            all.map(|reason| reasons.contains(&reason)) == [false, false, true, true]
        });
        let (write, read_impl) = match (write, read_impl) {
            (Ok(write), Ok(read_impl)) => (write, read_impl),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        Ok(self.read(write, read_impl)?.map(|read| Resolved { read, write: write.start }))
    }

    /// `SSL_read`, told from `SSL_peek`.
    fn read(&self, write: &Body, read_impl: &Body) -> io::Result<Result<u64, String>> {
        let (Some(after), Some(before)) = (read_impl.lines().max(), write.lines().min()) else {
            return Ok(Err("the line numbers of its error calls are not constants".to_owned()));
        };
        let candidates: Vec<&Body> = self
            .bodies
            .iter()
            .filter(|body| match body.errors[..] {
                [ErrorCall { reason: Some(SHOULD_NOT_HAVE_BEEN_CALLED), line: Some(line) }] => {
                    (after + 1..before).contains(&line) && body.calls(read_impl.start)
                }
                _ => false,
            })
            .collect();
        let consuming: Vec<u64> = candidates
            .iter()
            .filter(|body| body.advances_span_tested_by(read_impl))
            .map(|body| body.start)
            .collect();
        match (&candidates[..], &consuming[..]) {
            // The other candidates have SSL_peek's line: they are it, inlined here as well.
            (_, &[read])
                if candidates.iter().map(|c| c.lines().max()).is_sorted_by(|a, b| a == b) =>
            {
                Ok(Ok(read))
            }
            (&[peek], &[]) => self.consuming_caller(peek, read_impl),
            _ => Ok(Err(format!(
                "expected one SSL_read, which raises error 66 in a line between {after} and \
                 {before}, calls ssl_read_impl and consumes what it returns; found {} that do, of \
                 {} that raise it there",
                consuming.len(),
                candidates.len()
            ))),
        }
    }

    /// `SSL_read` where it calls `SSL_peek` instead of having it inlined.
    fn consuming_caller(&self, peek: &Body, tester: &Body) -> io::Result<Result<u64, String>> {
        let mut consuming = BTreeSet::new();
        for &(site, _) in self.calls.iter().filter(|&&(_, target)| target == peek.start) {
            let Some(extent) = self.functions.containing(site)? else { continue };
            let body = Body::decode(self.image, &extent)?;
            if body.calls(peek.start) && body.advances_span_tested_by(tester) {
                consuming.insert(body.start);
            }
        }
        let mut starts = consuming.iter();
        Ok(match (starts.next(), starts.next()) {
            (Some(&read), None) => Ok(read),
            _ => Err(format!(
                "expected one SSL_read, which calls SSL_peek and consumes what it copied; found {}",
                consuming.len()
            )),
        })
    }

    fn only(&self, what: &str, is_it: impl Fn(&Body) -> bool) -> Result<&Body, String> {
        let mut matching = self.bodies.iter().filter(|body| is_it(body));
        match (matching.next(), matching.next()) {
            (Some(body), None) => Ok(body),
            (first, _) => {
                let found = usize::from(first.is_some()) * 2 + matching.count();
                Err(format!(
                    "expected one function {what}, found {found} among {} functions with {} \
                     references to ssl/ssl_lib.cc",
                    self.bodies.len(),
                    self.references
                ))
            }
        }
    }
}
