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

use super::body::{ErrorCall, Traits};
use super::functions::{Functions, MAX_FUNCTION_BYTES};
use super::image::Image;
use super::references::{MAX_REFERENCES, calls_into, references};

/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED` of `err.h`: the connection speaks QUIC.
const SHOULD_NOT_HAVE_BEEN_CALLED: u64 = 66;
/// `SSL_R_BAD_LENGTH` of `ssl.h`: a negative length.
const BAD_LENGTH: u64 = 111;
/// `SSL_R_SSL_HANDSHAKE_FAILURE` of `ssl.h`.
const HANDSHAKE_FAILURE: u64 = 215;
/// `SSL_R_UNINITIALIZED` of `ssl.h`: neither client nor server yet.
const UNINITIALIZED: u64 = 226;

/// Most callers of one function read; `SSL_peek` has a handful.
const MAX_CALLERS: usize = 64;

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
    let referring = referring_functions(image, &functions, &references, file_names)?;
    let search = Search { image, functions, referring, calls, references: references.len() };
    search.run()
}

/// The functions that hold the references, in order of address.
fn referring_functions(
    image: &Image,
    functions: &Functions<'_>,
    references: &BTreeSet<u64>,
    file_names: &[u64],
) -> io::Result<Vec<Traits>> {
    let mut grouped = BTreeMap::new();
    for &reference in references {
        if let Some(extent) = functions.containing(reference)? {
            let start = extent.range.start;
            grouped.entry(start).or_insert_with(|| (extent, Vec::new())).1.push(reference);
        }
    }
    let read =
        |(extent, references): (_, Vec<u64>)| Traits::read(image, &extent, &references, file_names);
    grouped.into_values().map(read).collect()
}

struct Search<'a> {
    image: &'a Image,
    functions: Functions<'a>,
    referring: Vec<Traits>,
    calls: Vec<(u64, u64)>,
    references: usize,
}

impl Search<'_> {
    fn run(&self) -> io::Result<Resolution> {
        let all = [SHOULD_NOT_HAVE_BEEN_CALLED, BAD_LENGTH, HANDSHAKE_FAILURE, UNINITIALIZED];
        let write = self.only("SSL_write raising the errors 66, 111, 215 and 226", |function| {
            let reasons = function.reasons();
            all.iter().all(|reason| reasons.contains(reason))
        });
        let read_impl =
            self.only("ssl_read_impl raising 215 and 226 but not 66, 111", |function| {
                let reasons = function.reasons();
                all.map(|reason| reasons.contains(&reason)) == [false, false, true, true]
            });
        let (write, read_impl) = match (write, read_impl) {
            (Ok(write), Ok(read_impl)) => (write, read_impl),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        Ok(self.read(write, read_impl)?.map(|read| Resolved { read, write: write.start }))
    }

    /// `SSL_read`, told from `SSL_peek`.
    fn read(&self, write: &Traits, read_impl: &Traits) -> io::Result<Result<u64, String>> {
        let (Some(after), Some(before)) = (read_impl.lines().max(), write.lines().min()) else {
            return Ok(Err("the line numbers of its error calls are not constants".to_owned()));
        };
        let candidates: Vec<&Traits> = self
            .referring
            .iter()
            .filter(|function| match function.errors[..] {
                [ErrorCall { reason: Some(SHOULD_NOT_HAVE_BEEN_CALLED), line: Some(line) }] => {
                    (after + 1..before).contains(&line) && function.calls(read_impl.start)
                }
                _ => false,
            })
            .collect();
        let consuming: Vec<u64> = candidates
            .iter()
            .filter(|function| function.advances_span_tested_by(read_impl))
            .map(|function| function.start)
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
    fn consuming_caller(&self, peek: &Traits, tester: &Traits) -> io::Result<Result<u64, String>> {
        let mut consuming = BTreeSet::new();
        let callers = self.calls.iter().filter(|&&(_, target)| target == peek.start);
        for &(site, _) in callers.take(MAX_CALLERS) {
            let Some(extent) = self.functions.containing(site)? else { continue };
            let caller = Traits::read(self.image, &extent, &[], &[])?;
            if caller.calls(peek.start) && caller.advances_span_tested_by(tester) {
                consuming.insert(caller.start);
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

    fn only(&self, what: &str, is_it: impl Fn(&Traits) -> bool) -> Result<&Traits, String> {
        let mut matching = self.referring.iter().filter(|function| is_it(function));
        match (matching.next(), matching.next()) {
            (Some(function), None) => Ok(function),
            (first, _) => {
                let found = usize::from(first.is_some()) * 2 + matching.count();
                Err(format!(
                    "expected one function {what}, found {found} among {} functions with {} \
                     references to ssl/ssl_lib.cc",
                    self.referring.len(),
                    self.references
                ))
            }
        }
    }
}
