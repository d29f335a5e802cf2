//! Whether this process may attach uprobes, found out by attaching one to itself.
//!
//! Kernels differ in what they demand: some let `CAP_PERFMON` do, some want `CAP_SYS_ADMIN`. The
//! probe sits on a function that nobody calls and is taken away at once.

use std::io::{self, BufRead, BufReader};

use libbpf_rs::{ErrorKind, ProgramMut, UprobeOpts};

use super::{ALL_PROCESSES, Error};
use crate::capture::capability::Capabilities;

/// Where this process's own program is.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Attaches a program for functions to a function of this process, and detaches it.
pub(super) fn try_uprobe(program: &ProgramMut<'_>) -> Result<(), Error> {
    let Ok(offset) = own_offset(nobody_calls_this as *const () as u64) else {
        // Nothing is known then, and the first real probe will tell.
        return Ok(());
    };
    let attached = program.attach_uprobe_with_opts(
        ALL_PROCESSES,
        OWN_PROGRAM,
        offset as usize,
        UprobeOpts::default(),
    );
    match attached {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let missing = Capabilities::SYS_ADMIN.without(Capabilities::effective());
            if missing.is_empty() {
                return Err(Error::from_load(error));
            }
            Err(Error::NoUprobes { missing })
        }
        Err(error) => Err(Error::from_load(error)),
    }
}

/// The place of the probe.
#[inline(never)]
extern "C" fn nobody_calls_this() {
    std::hint::black_box(());
}

/// The position in the program's file of an address of this process's code.
fn own_offset(address: u64) -> io::Result<u64> {
    for line in BufReader::new(std::fs::File::open("/proc/self/maps")?).lines() {
        let line = line?;
        // proc_pid_maps(5): range, permissions, offset.
        let mut fields = line.split(' ');
        let range = fields.next().and_then(|range| range.split_once('-'));
        let offset = fields.nth(1).and_then(|offset| u64::from_str_radix(offset, 16).ok());
        let (Some((start, end)), Some(offset)) = (range, offset) else { continue };
        let hex = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        let (start, end) = (hex(start), hex(end));
        if (start..end).contains(&address) {
            return Ok(address - start + offset);
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_function_is_where_its_code_is_in_the_file() {
        let address = nobody_calls_this as *const () as u64;
        let offset = own_offset(address).unwrap();
        let file = std::fs::read(OWN_PROGRAM).unwrap();
        // SAFETY: the function's first byte is mapped and readable.
        #[expect(unsafe_code, reason = "reads this process's own code")]
        let first = unsafe { std::ptr::read(address as *const u8) };
        assert_eq!(file[offset as usize], first);
        assert!(own_offset(8).is_err());
    }
}
