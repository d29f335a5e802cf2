//! What can keep the capture from starting or working, and what to do about it.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::TlsFunction;

/// Why the kernel side could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process may not load BPF programs.
    #[error("not permitted to load BPF programs: missing {}", .missing.join(" and "))]
    NotPermitted {
        /// Capabilities that are needed and not effective.
        missing: Vec<&'static str>,
    },
    /// The kernel does not describe its own types.
    #[error("kernel has no type information: expected file {BTF_PATH}")]
    NoBtf,
    /// The kernel lacks what this program cannot do without.
    #[error("kernel {release} is too old: expected 5.8 or later")]
    KernelTooOld {
        /// `uname -r`.
        release: String,
    },
    /// Kernel lockdown forbids reading kernel memory.
    #[error("kernel lockdown in mode confidentiality forbids BPF programs to read memory")]
    LockedDown,
    /// The kernel refused although everything that is known to be needed is there.
    #[error("kernel {release} refused the BPF programs")]
    Refused {
        /// `uname -r`.
        release: String,
        /// What it said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A name that is too long for the kernel's map.
    #[error("program name {name:?} is too long: expected at most {limit} bytes, found {}", .name.len())]
    NameTooLong {
        /// The name.
        name: String,
        /// The most bytes that can be matched.
        limit: usize,
    },
    /// A size that the kernel does not take for a ring.
    #[error("ring of {bytes} bytes is not possible: expected a power of two of at least 4096")]
    RingSize {
        /// What was asked for.
        bytes: u32,
    },
    /// A probe could not be attached.
    #[error("attaching {function:?} at file offset {offset:#x} of {} failed", .path.display())]
    Attach {
        /// Binary.
        path: PathBuf,
        /// Function.
        function: TlsFunction,
        /// Where in the file.
        offset: u64,
        /// What the kernel said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A probe whose program would have to be told which registers to look at.
    #[error(
        "probing the inlined code at file offset {offset:#x} of {} needs attach cookies, which \
         came with kernel 5.15", .path.display()
    )]
    NoCookie {
        /// Binary.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
    },
    /// There is no such process.
    #[error("process {pid} does not exist")]
    NoProcess {
        /// Which.
        pid: u32,
    },
    /// Reading or writing a map failed.
    #[error("using BPF map {map} failed")]
    Map {
        /// Which.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: libbpf_rs::Error,
    },
    /// Waiting for or reading the rings failed.
    #[error("reading the rings failed")]
    Ring(#[source] io::Error),
}

impl Error {
    /// What the user can do, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotPermitted { .. } => Some("run as root, for example with sudo"),
            Self::NoBtf => {
                Some("use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as distributions since 2021")
            }
            Self::KernelTooOld { .. } | Self::NoCookie { .. } => Some("use a newer kernel"),
            Self::LockedDown => {
                Some("boot with lockdown=integrity or none, or with Secure Boot switched off")
            }
            Self::Refused { .. } => {
                Some("set AGENTSIGHT_BPF_LOG=1 to see the verifier's log, and report it")
            }
            Self::NameTooLong { .. } => Some("use -p PID or --cmdline instead"),
            Self::Map { map: "tracked", .. } => Some("observe fewer processes at a time"),
            _ => None,
        }
    }

    /// Finds the most telling reason for a failed load.
    pub(super) fn from_load(source: libbpf_rs::Error) -> Self {
        let release = kernel_release();
        if is_older_than(&release, (5, 8)) {
            return Self::KernelTooOld { release };
        }
        Self::Refused { release, source }
    }
}

/// Where the kernel describes its types.
const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Checks what can be known before anything is loaded.
pub(super) fn check_host() -> Result<(), Error> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    if !missing.is_empty() {
        return Err(Error::NotPermitted { missing });
    }
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Err(Error::LockedDown);
    }
    let release = kernel_release();
    if is_older_than(&release, (5, 8)) {
        return Err(Error::KernelTooOld { release });
    }
    if !fs::exists(BTF_PATH).unwrap_or(false) {
        return Err(Error::NoBtf);
    }
    Ok(())
}

/// Capabilities that loading and attaching need and `/proc/PID/status` does not show as effective.
/// A status that cannot be read leaves the verdict to the kernel.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    // include/uapi/linux/capability.h. CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON, but they do
    // not replace it: with both and without it, everything loads and attaches but uprobes, which
    // perf_event_open(2) refuses with EACCES (seen on 6.18).
    const NEEDED: [(u32, &str); 1] = [(21, "CAP_SYS_ADMIN")];
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let Some(effective) = effective else { return Vec::new() };
    NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect()
}

fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Whether a release such as `5.4.0-42-generic` is before `minimum`; an unreadable one is not.
fn is_older_than(release: &str, minimum: (u32, u32)) -> bool {
    let mut numbers =
        release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < minimum,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_capability_that_uprobes_need_will_do() {
        let status = |mask: &str| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{mask}\n");
        assert_eq!(missing_capabilities(&status("0000000000000000")), ["CAP_SYS_ADMIN"]);
        // CAP_BPF and CAP_PERFMON.
        assert_eq!(missing_capabilities(&status("000000c000000000")), ["CAP_SYS_ADMIN"]);
        assert!(missing_capabilities(&status("0000000000200000")).is_empty());
        assert!(missing_capabilities(&status("000001fffeffffff")).is_empty());
        assert!(missing_capabilities("no such line").is_empty());
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(is_older_than("5.4.0-42-generic", (5, 8)));
        assert!(is_older_than("4.19.0", (5, 8)));
        assert!(!is_older_than("5.10.0", (5, 8)));
        assert!(!is_older_than("6.18.44-x", (5, 8)));
        assert!(!is_older_than("", (5, 8)));
    }
}
