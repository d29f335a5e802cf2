//! `ssl_read_internal` and `ssl_write_internal` of a stripped, statically linked OpenSSL 3, found by
//! the names that they raise errors under.
//!
//! OpenSSL 3 hands `__func__` to every error it raises, so the name of a function is a string whose
//! address only that function takes, stripped or not:
//!
//! ```text
//!   "ssl_write_internal" ◀── lea ── a function (after the unwind table) ◀── call ── SSL_write, …
//! ```
//!
//! Both are the one way to the record layer for `SSL_read`, `SSL_write`, their `_ex` forms and
//! whatever the compiler inlined those into, so each byte passes once. They store how much moved at
//! a pointer that is their last argument: the fourth, or for writing the fifth since OpenSSL 3.3 put
//! `flags` before it. The version says which; that `SSL_read` and its kind hand over a place on their
//! stack, or the pointer they were given themselves, in exactly that argument is the proof that
//! these are the functions.
//!
//! Fed by [`Image`]; x86-64 only.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use memchr::memchr2_iter;

use super::body::Body;
use super::functions::Functions;
use super::image::{Image, u32_at};
use super::references::{MAX_REFERENCES, references};
use super::x86::Instruction;

/// How far from a function its callers are looked for: they come from the same source file.
const CALLER_REACH_BYTES: u64 = 1 << 20;
/// Most callers looked at; `SSL_read` and its kind are six.
const MAX_CALLERS: usize = 256;
/// Instructions between the set-up of an argument and the call.
const ARGUMENT_REACH: usize = 16;
/// `rcx`, the fourth argument.
const FOURTH: u8 = 1;
/// `r8`, the fifth argument.
const FIFTH: u8 = 8;
/// `rsp`, and `rbp` where it is a frame pointer.
const STACK: [u8; 2] = [4, 5];
/// `endbr64`, which the kernel single-steps; what follows it is mostly a `push`, which it emulates.
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// Where to probe, and how to read the arguments there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Address in `ssl_read_internal` at which its arguments are in place.
    pub(super) read: u64,
    /// The same for `ssl_write_internal`.
    pub(super) write: u64,
    /// Whether the latter takes `flags` before the pointer to the count.
    pub(super) write_takes_flags: bool,
}

/// Finds the functions, given the addresses of their names and the version the file states.
pub(super) fn resolve(
    image: &Image,
    read_names: &[u64],
    write_names: &[u64],
    version: Option<&str>,
) -> io::Result<Result<Resolved, String>> {
    let names: Vec<u64> = read_names.iter().chain(write_names).copied().collect();
    let references = references(image, &names)?;
    if references.len() > MAX_REFERENCES {
        return Ok(Err(format!(
            "expected at most {MAX_REFERENCES} references to the names of its functions, found more"
        )));
    }
    let functions = Functions::new(image, std::iter::empty())?;
    let mut naming = BTreeMap::<u64, BTreeSet<u64>>::new();
    for &reference in &references {
        let Some(extent) = functions.containing(reference)?.filter(|extent| extent.certain) else {
            continue;
        };
        let body = Body::decode(image, &extent)?;
        if let Some(name) = body.constant_at(reference) {
            naming.entry(name).or_default().insert(extent.range.start);
        }
    }
    let search = Search { image, functions, naming };
    search.run(read_names, write_names, version)
}

struct Search<'a> {
    image: &'a Image,
    functions: Functions<'a>,
    /// Starts of the functions that take the address of each name.
    naming: BTreeMap<u64, BTreeSet<u64>>,
}

/// What the callers of a function hand over as its fourth and fifth argument.
#[derive(Clone, Copy, Debug, Default)]
struct Callers {
    calls: usize,
    /// Calls with a pointer to a count in the fourth argument.
    fourth: usize,
    /// The same for the fifth.
    fifth: usize,
}

impl Search<'_> {
    fn run(
        &self,
        read_names: &[u64],
        write_names: &[u64],
        version: Option<&str>,
    ) -> io::Result<Result<Resolved, String>> {
        let (read, read_callers) = match self.called(read_names, "ssl_read_internal")? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        let (write, write_callers) = match self.called(write_names, "ssl_write_internal")? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        if read_callers.fourth == 0 || read_callers.fifth > 0 {
            return Ok(Err(unexpected("ssl_read_internal", "fourth", &read_callers)));
        }
        let takes_flags = write_callers.fifth > 0;
        let expected = version.and_then(takes_flags_since);
        if takes_flags == (write_callers.fourth > 0)
            || expected.is_some_and(|expected| expected != takes_flags)
        {
            let argument = match expected {
                Some(true) => "fifth",
                Some(false) => "fourth",
                None => "fourth or the fifth",
            };
            return Ok(Err(unexpected("ssl_write_internal", argument, &write_callers)));
        }
        Ok(Ok(Resolved {
            read: self.behind_marker(read)?,
            write: self.behind_marker(write)?,
            write_takes_flags: takes_flags,
        }))
    }

    /// The one function that takes the address of one of `names` and is called; parts that a
    /// compiler split off for errors are not.
    fn called(&self, names: &[u64], what: &str) -> io::Result<Result<(u64, Callers), String>> {
        let starts: BTreeSet<u64> =
            names.iter().filter_map(|name| self.naming.get(name)).flatten().copied().collect();
        let mut called = Vec::new();
        for &start in &starts {
            let callers = self.callers(start)?;
            if callers.calls > 0 {
                called.push((start, callers));
            }
        }
        Ok(match called[..] {
            [found] => Ok(found),
            _ => Err(format!(
                "expected one function that raises errors as {what} and is called, found {} among \
                 {} that take the address of the name",
                called.len(),
                starts.len()
            )),
        })
    }

    /// What the callers of `function` hand over, and what those hand over that it is only passed on
    /// from.
    fn callers(&self, function: u64) -> io::Result<Callers> {
        let mut callers = Callers::default();
        let mut forwarding = BTreeSet::new();
        self.count_callers(function, &mut callers, &mut forwarding)?;
        for forwarder in forwarding {
            self.count_callers(forwarder, &mut callers, &mut BTreeSet::new())?;
        }
        Ok(callers)
    }

    fn count_callers(
        &self,
        function: u64,
        callers: &mut Callers,
        forwarding: &mut BTreeSet<u64>,
    ) -> io::Result<()> {
        let (from, code) = self.image.code_around(function, CALLER_REACH_BYTES, 16)?;
        let mut sites = Vec::new();
        for at in memchr2_iter(0xe8, 0xe9, &code) {
            let Some(operand) = code.get(at + 1..at + 5) else { continue };
            let end = from.wrapping_add(at as u64 + 5);
            if end.wrapping_add_signed(i64::from(u32_at(operand, 0) as i32)) == function {
                sites.push(from + at as u64);
            }
        }
        for &site in sites.iter().take(MAX_CALLERS) {
            let Some(extent) = self.functions.containing(site)?.filter(|extent| extent.certain)
            else {
                continue;
            };
            let body = Body::decode(self.image, &extent)?;
            let Ok(index) = body.instructions.binary_search_by_key(&site, |&(address, _)| address)
            else {
                continue;
            };
            let argument = |register| handed_over(&body.instructions[..index], register);
            let (fourth, fifth) = (argument(FOURTH), argument(FIFTH));
            callers.calls += 1;
            callers.fourth += usize::from(fourth == Argument::Pointer);
            callers.fifth += usize::from(fifth == Argument::Pointer);
            if (fourth, fifth) == (Argument::AsGiven, Argument::AsGiven) {
                forwarding.insert(extent.range.start);
            }
        }
        Ok(())
    }

    /// The address behind the marker that a function may begin with: nothing has happened there.
    fn behind_marker(&self, start: u64) -> io::Result<u64> {
        let code = self.image.at_address(start, ENDBR64.len() as u64)?;
        Ok(if code == ENDBR64 { start + ENDBR64.len() as u64 } else { start })
    }
}

/// What a call hands over in one argument register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    /// An address on the caller's stack, or its own fourth argument as the fifth.
    Pointer,
    /// What the caller was given in it.
    AsGiven,
    /// Anything else.
    Other,
}

/// What the code at the end of `before` leaves in `register`, conditional jumps not taken; `before`
/// begins where the function does.
fn handed_over(before: &[(u64, Instruction)], register: u8) -> Argument {
    if before.len() > ARGUMENT_REACH {
        return handed_over(&before[before.len() - ARGUMENT_REACH..], register).unless_given();
    }
    for (address, instruction) in before.iter().rev() {
        let branches = instruction.branch_target(*address).is_some();
        if !branches && instruction.ends_straight_line(*address) {
            return Argument::Other;
        }
        let pointer = if let Some((to, from)) = instruction.copies()
            && to == register
        {
            from == STACK[0] || (register, from) == (FIFTH, FOURTH)
        } else if let Some((to, memory)) = instruction.computes()
            && to == register
        {
            memory.base.is_some_and(|base| STACK.contains(&base))
        } else if instruction.may_set(register) {
            false
        } else {
            continue;
        };
        return if pointer { Argument::Pointer } else { Argument::Other };
    }
    Argument::AsGiven
}

impl Argument {
    /// For code that does not begin with the function.
    fn unless_given(self) -> Self {
        if self == Self::AsGiven { Self::Other } else { self }
    }
}

/// Whether `ssl_write_internal` of an OpenSSL release takes `flags`; `None` if that is not known.
fn takes_flags_since(version: &str) -> Option<bool> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    (major == 3).then_some(minor >= 3)
}

fn unexpected(function: &str, argument: &str, callers: &Callers) -> String {
    format!(
        "expected callers of {function} to hand over a pointer to a count as its {argument} \
         argument, found {} that do so as the fourth and {} as the fifth, of {} calls",
        callers.fourth, callers.fifth, callers.calls
    )
}

#[cfg(test)]
mod tests;
