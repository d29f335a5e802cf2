//! Where a stripped Rust program hands plaintext to rustls and gets it back, found by what the code
//! does with memory.
//!
//! Two functions of `CommonState` see every byte of application data once, whatever is built on
//! top of rustls (as of 0.23):
//!
//! - `buffer_plaintext(&mut self, OutboundChunks, &mut ChunkVecBuffer) -> usize` takes what the
//!   program sends, or a part of it. It first takes a queued key update out of `self`, an
//!   `Option<Vec>`: load the field, store the value that stands for `None`. It needs its third
//!   argument later on, and asks a flag of `self` whether the handshake is over.
//! - `take_received_plaintext(&mut self, Payload)` gets what was received. It first resets the number
//!   of key updates that the peer may ask for to 32, a byte of `self`, then reads the three words of
//!   the payload. Small as it is, it is often inlined as well: then the payload and `self` are in
//!   other registers, and the place to probe is the reset.
//!
//! Registers, order and field offsets are read from the code, never assumed. Both fields lie close
//! together near the end of `CommonState`, which ties the two functions to each other. Fed by
//! [`Image`]; x86-64 only, and only functions that the unwind table knows.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use memchr::{memchr_iter, memmem};

use super::body::Body;
use super::functions::Functions;
use super::image::{Image, u32_at};
use super::x86::Instruction;

/// Key updates that a peer may ask for between two pieces of data (`TemperCounters`).
const KEY_UPDATES: u8 = 32;
/// The word that stands for `None` of an `Option<Vec>`: a capacity no vector can have.
const NO_VECTOR: u64 = 1 << 63;
/// Where the two fields can be; `CommonState` of 0.23 has 0x348 bytes.
const FIELD_OFFSETS: std::ops::Range<i32> = 0x100..0x1000;
/// Farthest apart of the fields that both functions show.
const FIELDS_REACH: i32 = 0x60;
/// Most candidates remembered of one kind; the largest program known has 40,000 of the commoner.
const MAX_CANDIDATES: usize = 1 << 20;
/// Instructions in which the payload is read, in front of the reset and behind it.
const PAYLOAD_REACH: (usize, usize) = (8, 12);
/// Instructions in which `buffer_plaintext` has shown what it is.
const PROLOGUE: usize = 40;
/// Instructions between loading an object and its first method's call.
const METHOD_REACH: usize = 10;
/// Where the first method of a trait object is in its table: behind drop, size and alignment.
const FIRST_METHOD: i32 = 24;

const RDX: u8 = 2;
const RSP: u8 = 4;
const RSI: u8 = 6;
const RDI: u8 = 7;

/// Where code has what a probe needs at a certain instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub struct RustlsPlace {
    /// The register that holds the address of `CommonState`, by its number in machine code.
    pub connection: u8,
    /// The register that `payload_offset` counts from.
    pub payload: u8,
    /// Where the payload is, in bytes from what `payload` holds.
    pub payload_offset: i16,
    /// Where `CommonState` has its encrypter, a trait object: the key in it tells connections
    /// apart, also when the object moves. Absent where the code does not tell.
    pub encrypter_offset: Option<u16>,
}

impl RustlsPlace {
    /// Whether a probe finds what it needs in the first two arguments of a function.
    #[must_use]
    pub fn is_first_arguments(self) -> bool {
        (self.connection, self.payload, self.payload_offset) == (RDI, RSI, 0)
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Start of `buffer_plaintext`.
    pub(super) write: (u64, RustlsPlace),
    /// Every copy of `take_received_plaintext`: its start, or an instruction of an inlined one.
    pub(super) reads: Vec<(u64, RustlsPlace)>,
    /// Instructions of inlined copies that do not tell where they have the payload.
    pub(super) unread: Vec<u64>,
}

/// Finds the functions.
pub(super) fn resolve(image: &Image) -> io::Result<Result<Resolved, String>> {
    let candidates = Candidates::find(image)?;
    let functions = Functions::new(image, std::iter::empty())?;
    let search = Search { image, functions, candidates };
    search.run()
}

/// Addresses of bytes that may belong to the instructions looked for, with the field they name.
#[derive(Debug, Default)]
struct Candidates {
    /// `movb $32, field(register)`.
    resets: BTreeMap<u64, i32>,
    /// `movabs $NO_VECTOR`, shortly before a store to `field(register)`.
    takes: BTreeSet<(i32, u64)>,
}

impl Candidates {
    fn find(image: &Image) -> io::Result<Self> {
        let mut found = Self::default();
        let none = memmem::Finder::new(&NO_VECTOR.to_le_bytes()).into_owned();
        image.scan(true, 64, |address, code| {
            for at in memchr_iter(0xc6, code) {
                if let Some(field) = reset_field(&code[at..]) {
                    found.resets.insert(address + at as u64, field);
                }
            }
            for at in none.find_iter(code) {
                // REX.W, then the opcode with the register.
                let is_move = at >= 2 && code[at - 1] & 0xf8 == 0xb8 && code[at - 2] & 0xfe == 0x48;
                if is_move {
                    let fields = stored_fields(code.get(at + 8..).unwrap_or_default());
                    found.takes.extend(fields.map(|field| (field, address + at as u64)));
                }
            }
            found.resets.len().max(found.takes.len()) <= MAX_CANDIDATES
        })?;
        Ok(found)
    }
}

/// The field of `movb $32, field(register)` at the start of `code`, its REX prefix left out.
fn reset_field(code: &[u8]) -> Option<i32> {
    let modrm = *code.get(1)?;
    // Four bytes of displacement, /0; an SIB byte follows where the base is rsp or r12.
    let displacement = if modrm & 7 == RSP { 3 } else { 2 };
    let constant = code.get(displacement + 4)?;
    let field = u32_at(code, displacement) as i32;
    let is_reset = modrm & 0xf8 == 0x80 && *constant == KEY_UPDATES;
    (is_reset && FIELD_OFFSETS.contains(&field)).then_some(field)
}

/// Fields that the first bytes of `code` may store a register to.
fn stored_fields(code: &[u8]) -> impl Iterator<Item = i32> + '_ {
    (0..code.len().min(24)).filter_map(move |at| {
        let store = code.get(at..at + 6)?;
        let is_store = store[0] == 0x89 && store[1] & 0xc0 == 0x80 && store[1] & 7 != RSP;
        let field = u32_at(store, 2) as i32;
        (is_store && FIELD_OFFSETS.contains(&field)).then_some(field)
    })
}

struct Search<'a> {
    image: &'a Image,
    functions: Functions<'a>,
    candidates: Candidates,
}

/// One place where the counter is reset.
struct Reset {
    address: u64,
    /// Register, payload register and offset; `None` where the payload does not show.
    place: Option<RustlsPlace>,
}

impl Search<'_> {
    fn run(&self) -> io::Result<Result<Resolved, String>> {
        let mut resets = BTreeMap::<i32, Vec<Reset>>::new();
        for (&address, &field) in &self.candidates.resets {
            if let Some(reset) = self.reset(address, field)? {
                resets.entry(field).or_default().push(reset);
            }
        }
        resets.retain(|_, resets| resets.iter().any(|reset| reset.place.is_some()));
        let mut found = Vec::new();
        for (&field, resets) in &resets {
            for (write, body) in self.writers(field)? {
                found.push((write, body, resets));
            }
        }
        let (write, body, resets) = match &found[..] {
            [(write, body, resets)] => (*write, body, *resets),
            _ => {
                return Ok(Err(format!(
                    "expected one function that does what buffer_plaintext does and fits one that \
                     does what take_received_plaintext does, found {} and {} for the latter",
                    found.len(),
                    resets.values().map(Vec::len).sum::<usize>()
                )));
            }
        };
        let encrypter_offset = self.encrypter_offset(body)?;
        let place = |place| RustlsPlace { encrypter_offset, ..place };
        let first_arguments =
            RustlsPlace { connection: RDI, payload: RSI, payload_offset: 0, encrypter_offset };
        let read = |reset: &Reset| Some((reset.address, place(reset.place?)));
        let unread = resets.iter().filter(|reset| reset.place.is_none());
        Ok(Ok(Resolved {
            write: (write, first_arguments),
            reads: resets.iter().filter_map(read).collect(),
            unread: unread.map(|reset| reset.address).collect(),
        }))
    }

    fn body_around(&self, address: u64) -> io::Result<Option<(u64, Body)>> {
        let extent = self.functions.containing(address)?.filter(|extent| extent.certain);
        let Some(extent) = extent else { return Ok(None) };
        Ok(Some((extent.range.start, Body::decode(self.image, &extent)?)))
    }

    /// What the code around a candidate for the reset does; `None` if there is no reset.
    fn reset(&self, candidate: u64, field: i32) -> io::Result<Option<Reset>> {
        let Some((start, body)) = self.body_around(candidate)? else { return Ok(None) };
        let Some(index) = body.index_of(candidate) else { return Ok(None) };
        let (address, instruction) = body.instructions[index];
        let Some((memory, KEY_UPDATES)) = instruction.stores_byte() else { return Ok(None) };
        let Some(connection) = memory.base.filter(|&base| base != RSP) else { return Ok(None) };
        if memory.displacement != field {
            return Ok(None);
        }
        let Some((payload, payload_offset)) = payload_at(&body.instructions, index, connection)
        else {
            return Ok(Some(Reset { address, place: None }));
        };
        let place = RustlsPlace { connection, payload, payload_offset, encrypter_offset: None };
        // At the start of a function a probe is cheaper, and the arguments are in the same registers.
        let leading = &body.instructions[..index];
        let from_start = place.is_first_arguments()
            && leading.iter().all(|(address, instruction)| {
                !instruction.ends_straight_line(*address)
                    && !instruction.may_set(RDI)
                    && !instruction.may_set(RSI)
            });
        Ok(Some(Reset { address: if from_start { start } else { address }, place: Some(place) }))
    }

    /// The functions that do what `buffer_plaintext` does with a field close to `near`.
    fn writers(&self, near: i32) -> io::Result<Vec<(u64, Body)>> {
        let fields = near - FIELDS_REACH..near + FIELDS_REACH;
        let (from, to) = ((fields.start, 0), (fields.end, 0));
        let mut found = BTreeMap::new();
        for &(field, candidate) in self.candidates.takes.range(from..to) {
            let Some((start, body)) = self.body_around(candidate)? else { continue };
            if takes_and_keeps_arguments(&body, field) && asks_flag(&body, near) {
                found.insert(start, body);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Where `CommonState` keeps its encrypter: the trait object whose first method is called in
    /// `writer` or in a function it calls, with a place for the result in front of the object.
    fn encrypter_offset(&self, writer: &Body) -> io::Result<Option<u16>> {
        let mut offsets = first_methods(writer);
        let targets: BTreeSet<u64> = writer
            .instructions
            .iter()
            .filter_map(|&(a, i)| i.call_target(a).or_else(|| i.jump_target(a)))
            .collect();
        for target in targets {
            if let Some((start, body)) = self.body_around(target)?
                && start == target
            {
                offsets.extend(first_methods(&body));
            }
        }
        let mut offsets = offsets.into_iter();
        Ok(offsets.next().filter(|_| offsets.next().is_none()))
    }
}

/// The register and offset at which the three words of a payload are read around the reset at
/// `index`, where exactly one place shows.
fn payload_at(
    instructions: &[(u64, Instruction)],
    index: usize,
    connection: u8,
) -> Option<(u8, i16)> {
    let (_, reset) = instructions[index];
    debug_assert!(reset.stores_byte().is_some());
    let mut read = BTreeSet::new();
    // Registers that hold at the load what they hold at the reset.
    let mut steady = [true; 16];
    let behind = instructions[index + 1..].iter().take(PAYLOAD_REACH.1);
    for (address, instruction) in behind {
        note_load(instruction, &steady, &mut read);
        if instruction.ends_straight_line(*address) {
            break;
        }
        forget_changed(instruction, &mut steady);
    }
    steady = [true; 16];
    let before = instructions[..index].iter().rev().take(PAYLOAD_REACH.0);
    for (address, instruction) in before {
        if instruction.ends_straight_line(*address) {
            break;
        }
        // The load itself may change its base.
        forget_changed(instruction, &mut steady);
        note_load(instruction, &steady, &mut read);
    }
    let is_payload = |&&(base, offset): &&(u8, i32)| {
        base != connection
            && read.contains(&(base, offset + 8))
            && read.contains(&(base, offset + 16))
    };
    let mut payloads = read.iter().filter(is_payload);
    let &(base, offset) = payloads.next()?;
    let offset = i16::try_from(offset).ok()?;
    payloads.next().is_none().then_some((base, offset))
}

fn note_load(instruction: &Instruction, steady: &[bool; 16], read: &mut BTreeSet<(u8, i32)>) {
    if let Some((_, memory)) = instruction.loads()
        && let Some(base) = memory.base
        && steady[usize::from(base)]
    {
        read.insert((base, memory.displacement));
    }
}

fn forget_changed(instruction: &Instruction, steady: &mut [bool; 16]) {
    for register in 0..16 {
        steady[usize::from(register)] &= !instruction.may_set(register);
    }
}

/// Whether a function begins by keeping its second and third argument for later and by taking an
/// `Option<Vec>` out of `field` of its first.
fn takes_and_keeps_arguments(body: &Body, field: i32) -> bool {
    // Which argument a register holds, by the register it came in.
    let mut argument: [Option<u8>; 16] = [None; 16];
    for register in [RDX, RSI, RDI] {
        argument[usize::from(register)] = Some(register);
    }
    let mut none: [bool; 16] = [false; 16];
    let (mut kept, mut loaded, mut stored) = (BTreeSet::new(), false, false);
    for (address, instruction) in body.instructions.iter().take(PROLOGUE) {
        let holds = |register: u8| argument[usize::from(register)];
        let of_first = |base: Option<u8>| base.is_some_and(|base| holds(base) == Some(RDI));
        if let Some((to, from)) = instruction.copies() {
            let copied = holds(from);
            kept.extend(copied);
            argument[usize::from(to)] = copied;
            none[usize::from(to)] = none[usize::from(from)];
            continue;
        }
        if let Some((memory, from)) = instruction.stores() {
            if memory.base == Some(RSP) {
                kept.extend(holds(from));
            }
            stored |= loaded
                && none[usize::from(from)]
                && of_first(memory.base)
                && memory.displacement == field;
        }
        if let Some((_, memory)) = instruction.loads() {
            loaded |= of_first(memory.base) && memory.displacement == field;
        }
        if stored {
            return [RDX, RSI].iter().all(|register| kept.contains(register));
        }
        if instruction.ends_straight_line(*address) {
            return false;
        }
        for register in 0..16 {
            if instruction.may_set(register) {
                argument[usize::from(register)] = None;
                none[usize::from(register)] = false;
            }
        }
        if let Some((to, NO_VECTOR)) = instruction.constant(*address) {
            none[usize::from(to)] = true;
        }
    }
    false
}

/// Whether a function compares a byte close to the field `near`, but not it, with 1.
fn asks_flag(body: &Body, near: i32) -> bool {
    body.instructions.iter().any(|(_, instruction)| {
        instruction.compares_byte().is_some_and(|(memory, constant)| {
            let apart = (memory.displacement - near).abs();
            constant == 1 && (1..FIELDS_REACH).contains(&apart)
        })
    })
}

/// Where the objects are whose first method a function calls: pairs of words at an offset from a
/// register, object and method table, the object handed over as the second argument.
fn first_methods(body: &Body) -> BTreeSet<u16> {
    let mut found = BTreeSet::new();
    for (index, (_, instruction)) in body.instructions.iter().enumerate() {
        let Some(method) = instruction.calls_through() else { continue };
        if method.displacement != FIRST_METHOD {
            continue;
        }
        let (mut object, mut table) = (None, None);
        let (mut object_set, mut table_set) = (false, false);
        for (address, earlier) in body.instructions[..index].iter().rev().take(METHOD_REACH) {
            if earlier.ends_straight_line(*address) {
                break;
            }
            if let Some((to, place)) = earlier.loads() {
                if to == RSI && !object_set {
                    object = Some(place);
                }
                if Some(to) == method.base && !table_set {
                    table = Some(place);
                }
            }
            object_set |= earlier.may_set(RSI);
            table_set |= method.base.is_some_and(|base| earlier.may_set(base));
        }
        if let (Some(object), Some(table)) = (object, table)
            && object.base == table.base
            && object.base.is_some_and(|base| base != RSP)
            && object.displacement.checked_add(8) == Some(table.displacement)
        {
            found.extend(u16::try_from(object.displacement).ok());
        }
    }
    found
}

#[cfg(test)]
mod tests;
