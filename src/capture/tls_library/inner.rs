//! The functions inside OpenSSL that `SSL_read` and `SSL_write` are thin covers of.
//!
//! A probe costs ten times as much on an instruction that the kernel cannot carry out itself, and
//! compilers begin `SSL_read` with one (`sub $0x18,%rsp`). The function it calls first begins with
//! `push` in most builds, and every variant goes through it:
//!
//! ```text
//!   SSL_read(s, buf, int n)                 ─┐
//!   SSL_read_ex(s, buf, n, size_t *done)    ─┴▶ ssl_read_internal(s, buf, n, size_t *done)
//!   SSL_write(s, buf, int n)                ─┐
//!   SSL_write_ex(s, buf, n, size_t *done)   ─┼▶ ssl_write_internal(s, buf, n, [flags,] size_t *done)
//!   SSL_write_ex2(s, buf, n, flags, *done)  ─┘                               since 3.3
//! ```
//!
//! It has no name in a stripped file. It is taken only where the plain function and the `_ex` one
//! lead to the same place and what they put into the argument registers on the way shows the
//! signature, `SSL_peek` leads elsewhere, and it begins with an instruction that is cheap. Otherwise
//! (inlined in node's build, `sub` at its beginning in 3.6 of some distributions) the functions of
//! the interface are probed: that is always right, only dearer.
//!
//! Fed by [`Image`]; x86-64 only.

use std::collections::BTreeMap;
use std::io;

use super::Role;
use super::image::Image;
use super::x86::{Effect, Instruction};

/// Most bytes read of a cover; the longest seen has 40 up to its call.
const COVER_BYTES: u64 = 128;
/// Bytes that show how a function begins.
const BEGINNING_BYTES: u64 = 32;
/// Their names in OpenSSL's source.
pub(super) const READ: &str = "ssl_read_internal";
pub(super) const WRITE: &str = "ssl_write_internal";
const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

const RDX: u8 = 2;
const RCX: u8 = 1;
const RSP: u8 = 4;
const RSI: u8 = 6;
const RDI: u8 = 7;
const R8: u8 = 8;

/// Where the entry probe of a function goes, as a distance from its first byte, and whether it is
/// cheap there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// 4 behind an `endbr64` in front of a cheap instruction, else 0: nothing has moved there yet,
    /// neither arguments nor the return address.
    pub(super) skip: u64,
    /// Whether the kernel emulates the instruction there.
    pub(super) cheap: bool,
}

/// Looks at the beginning of the function at `address`.
pub(super) fn beginning(image: &Image, address: u64) -> io::Result<Beginning> {
    if !image.is_x86_64() {
        return Ok(Beginning { skip: 0, cheap: false });
    }
    Ok(beginning_of(&image.at_address(address, BEGINNING_BYTES)?))
}

fn beginning_of(code: &[u8]) -> Beginning {
    let cheap = |code: &[u8]| Instruction::decode(code).is_some_and(|first| first.is_emulated());
    match code.strip_prefix(ENDBR64) {
        Some(rest) if cheap(rest) => Beginning { skip: ENDBR64.len() as u64, cheap: true },
        _ => Beginning { skip: 0, cheap: cheap(code) },
    }
}

/// An inner function and how to read its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inner {
    /// [`Role::ReadInternal`], [`Role::WriteInternal`] or [`Role::WriteInternalFlags`].
    pub(super) role: Role,
    /// Its name in OpenSSL's source.
    pub(super) symbol: &'static str,
    /// Its first byte.
    pub(super) address: u64,
}

/// The interface's functions of one library, by role; a role that occurs twice is two libraries.
pub(super) type Interface = BTreeMap<Role, u64>;

/// The function behind those that read, if it is certain and cheaper than they are.
pub(super) fn reader(image: &Image, named: &Interface, peeks: &[u64]) -> io::Result<Option<Inner>> {
    let (Some(&plain), Some(&ex)) = (named.get(&Role::Read), named.get(&Role::ReadEx)) else {
        return Ok(None);
    };
    let (Some(plain), Some(ex)) = (Lead::of(image, plain)?, Lead::of(image, ex)?) else {
        return Ok(None);
    };
    let agree = plain.calls
        && plain.target == ex.target
        && plain.passes(&[Value::Frame])
        && ex.passes(&[Value::Argument(3)]);
    if !agree {
        return Ok(None);
    }
    for &peek in peeks {
        if Lead::of(image, peek)?.is_some_and(|peek| peek.target == plain.target) {
            return Ok(None);
        }
    }
    cheap(image, Inner { role: Role::ReadInternal, symbol: READ, address: plain.target })
}

/// The function behind those that write, if it is certain and cheaper than they are.
pub(super) fn writer(image: &Image, named: &Interface) -> io::Result<Option<Inner>> {
    let (Some(&plain), Some(&ex)) = (named.get(&Role::Write), named.get(&Role::WriteEx)) else {
        return Ok(None);
    };
    let (Some(plain), Some(ex)) = (Lead::of(image, plain)?, Lead::of(image, ex)?) else {
        return Ok(None);
    };
    let role = match named.get(&Role::WriteEx2) {
        // Until 3.2: no flags.
        None => {
            let agree = plain.target == ex.target
                && plain.passes(&[Value::Frame])
                && ex.passes(&[Value::Argument(3)]);
            agree.then_some(Role::WriteInternal)
        }
        // Since 3.3 SSL_write_ex is SSL_write_ex2 without flags, often by a jump through the
        // procedure linkage table, whose end is not followed.
        Some(&ex2) => {
            let ex2 = Lead::of(image, ex2)?;
            let agree = ex2.is_some_and(|ex2| {
                plain.target == ex2.target
                    && ex2.passes(&[Value::Argument(3), Value::Argument(4)])
                    && plain.passes(&[ZERO, Value::Frame])
                    && ex.passes(&[ZERO, Value::Argument(3)])
            });
            agree.then_some(Role::WriteInternalFlags)
        }
    };
    match role.filter(|_| plain.calls) {
        Some(role) => cheap(image, Inner { role, symbol: WRITE, address: plain.target }),
        None => Ok(None),
    }
}

/// Whether `function` only jumps to another one with its first three arguments as they are.
pub(super) fn hands_over(image: &Image, function: u64) -> io::Result<bool> {
    Ok(Lead::of(image, function)?.is_some_and(|lead| !lead.calls && lead.passes(&[])))
}

/// `inner`, if it begins with a cheap instruction and what the file may call it is no other name.
fn cheap(image: &Image, inner: Inner) -> io::Result<Option<Inner>> {
    let named = image.functions(4, |name| name == inner.symbol.as_bytes())?;
    let contradicted = !named.is_empty() && named.iter().all(|s| s.address != inner.address);
    let cheap = image.code_file_offset(inner.address).is_some()
        && beginning(image, inner.address)?.cheap
        && !contradicted;
    Ok(cheap.then_some(inner))
}

/// What is in a register, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// What the caller passed, by position.
    Argument(u8),
    /// A place in the frame of this function.
    Frame,
    Constant(u64),
    Unknown,
}

const ZERO: Value = Value::Constant(0);

/// Where a function goes first, by the path on which no conditional jump is taken, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lead {
    target: u64,
    /// Whether it is called; else the function jumps there and is done.
    calls: bool,
    registers: [Value; 16],
}

impl Lead {
    /// `None` where something on the way is not understood.
    fn of(image: &Image, function: u64) -> io::Result<Option<Self>> {
        Ok(Self::decode(&image.at_address(function, COVER_BYTES)?, function))
    }

    fn decode(code: &[u8], function: u64) -> Option<Self> {
        let mut registers = [Value::Unknown; 16];
        for (position, register) in [RDI, RSI, RDX, RCX, R8].into_iter().enumerate() {
            registers[usize::from(register)] = Value::Argument(position as u8);
        }
        registers[usize::from(RSP)] = Value::Frame;
        let mut at = 0;
        loop {
            let instruction = Instruction::decode(code.get(at..)?)?;
            let address = function.wrapping_add(at as u64);
            let called = instruction.call_target(address);
            if let Some(target) = called.or_else(|| instruction.jump_target(address)) {
                return Some(Self { target, calls: called.is_some(), registers });
            }
            let holds = |register: u8| registers[usize::from(register)];
            let change = match instruction.effect(address)? {
                Effect::Nothing => None,
                Effect::Copies { to, from } => Some((to, holds(from))),
                Effect::Offsets { to, from } if holds(from) == Value::Frame => {
                    Some((to, Value::Frame))
                }
                Effect::Offsets { to, .. } | Effect::Clobbers { to } => Some((to, Value::Unknown)),
                Effect::Sets { to, value } => Some((to, Value::Constant(value))),
            };
            if let Some((to, value)) = change {
                registers[usize::from(to)] = value;
            }
            at += instruction.length;
        }
    }

    /// Whether the first three arguments are handed on and followed by `rest`.
    fn passes(&self, rest: &[Value]) -> bool {
        let given = [RDI, RSI, RDX, RCX, R8].map(|register| self.registers[usize::from(register)]);
        let handed_on = given[..3] == [0, 1, 2].map(Value::Argument);
        handed_on && given[3..].starts_with(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As compilers write them; the call is `e8` with a target behind the function.
    const PLAIN: &[u8] = &[
        0x48, 0x83, 0xec, 0x18, // sub $0x18,%rsp
        0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0, // mov %fs:0x28,%rax
        0x48, 0x89, 0x44, 0x24, 0x08, // mov %rax,0x8(%rsp)
        0x31, 0xc0, // xor %eax,%eax
        0x85, 0xd2, // test %edx,%edx
        0x78, 0x2f, // js
        0x48, 0x89, 0xe1, // mov %rsp,%rcx
        0x48, 0x63, 0xd2, // movslq %edx,%rdx
        0xe8, 0x00, 0x01, 0, 0,
    ];
    const FLAGGED: &[u8] = &[
        0xf3, 0x0f, 0x1e, 0xfa, // endbr64
        0x48, 0x83, 0xec, 0x18, // sub $0x18,%rsp
        0x85, 0xd2, // test %edx,%edx
        0x78, 0x2f, // js
        0x31, 0xc9, // xor %ecx,%ecx
        0x89, 0xd2, // mov %edx,%edx
        0x4c, 0x8d, 0x44, 0x24, 0x08, // lea 0x8(%rsp),%r8
        0xe8, 0x00, 0x01, 0, 0,
    ];
    const COVER: &[u8] = &[0x48, 0x83, 0xec, 0x08, 0xe8, 0x00, 0x01, 0, 0];
    const JUMP: &[u8] = &[0x49, 0x89, 0xc8, 0x31, 0xc9, 0xe9, 0x10, 0, 0, 0];

    #[test]
    fn what_a_cover_passes_on_is_read_from_its_code() {
        let plain = Lead::decode(PLAIN, 0x1000).unwrap();
        assert!(plain.calls && plain.passes(&[Value::Frame]));
        assert_eq!(plain.target, 0x1000 + PLAIN.len() as u64 + 0x100);
        let flagged = Lead::decode(FLAGGED, 0x1000).unwrap();
        assert!(flagged.passes(&[ZERO, Value::Frame]) && !flagged.passes(&[Value::Frame]));
        let cover = Lead::decode(COVER, 0x1000).unwrap();
        assert!(cover.passes(&[Value::Argument(3), Value::Argument(4)]));
        let jump = Lead::decode(JUMP, 0x1000).unwrap();
        assert!(!jump.calls && jump.passes(&[ZERO, Value::Argument(3)]));
    }

    #[test]
    fn a_cover_that_does_something_else_on_the_way_is_not_followed() {
        // A loaded buffer pointer, a loaded handle, an unknown instruction, a return.
        let load = [&[0x48, 0x8b, 0x77, 0x10], COVER].concat();
        assert!(!Lead::decode(&load, 0).unwrap().passes(&[Value::Argument(3)]));
        let handle = [&[0x48, 0x8b, 0x3f], COVER].concat();
        assert!(!Lead::decode(&handle, 0).unwrap().passes(&[Value::Argument(3)]));
        assert_eq!(Lead::decode(&[&[0x0f, 0xa2], COVER].concat(), 0), None);
        assert_eq!(Lead::decode(&[&[0xc3], COVER].concat(), 0), None);
        for length in 0..PLAIN.len() {
            assert_eq!(Lead::decode(&PLAIN[..length], 0), None);
        }
    }

    #[test]
    fn probes_go_behind_endbr64_only_where_that_makes_them_cheap() {
        let at = |code: &[u8]| beginning_of(code);
        let beginning = |skip, cheap| Beginning { skip, cheap };
        assert_eq!(at(&[0x41, 0x56, 0x90]), beginning(0, true));
        assert_eq!(at(&[0x55, 0x48, 0x89, 0xe5]), beginning(0, true));
        assert_eq!(at(&[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x56]), beginning(4, true));
        assert_eq!(at(&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x83, 0xec, 0x58]), beginning(0, false));
        assert_eq!(at(&[0x48, 0x83, 0xec, 0x18]), beginning(0, false));
        assert_eq!(at(&[]), beginning(0, false));
    }
}
