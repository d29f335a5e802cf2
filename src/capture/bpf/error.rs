//! What can keep the capture from starting or working, and what to do about it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::TlsFunction;
use crate::capture::capability::Capabilities;

/// Why the kernel side could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This process may not load BPF programs.
    #[error("not permitted to load BPF programs: missing {missing}")]
    NotPermitted {
        /// Capabilities that are needed and not effective.
        missing: Capabilities,
    },
    /// This process may load BPF programs, but not attach them to functions of programs.
    #[error("this kernel does not permit uprobes without {missing}")]
    NoUprobes {
        /// Capabilities that make the difference.
        missing: Capabilities,
    },
    /// The capabilities of this process are those of a user namespace.
    #[error("not permitted to load BPF programs: root in a user namespace is not root on the host")]
    UserNamespace,
    /// Process ids here are not those that the kernel reports.
    #[error("this is a container with process ids of its own, which are not those of the kernel")]
    PidNamespace,
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
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotPermitted { missing } | Self::NoUprobes { missing } => {
                return Some(permission_hint(*missing));
            }
            Self::UserNamespace => Some("run it on the host, as root or with capabilities"),
            Self::PidNamespace => {
                Some("run it on the host, or start the container with --pid=host --privileged")
            }
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
        };
        hint.map(str::to_owned)
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
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Checks what can be known before anything is loaded.
pub(super) fn check_host() -> Result<(), Error> {
    let missing = Capabilities::to_trace().without(Capabilities::effective());
    if !missing.is_empty() {
        return Err(Error::NotPermitted { missing });
    }
    in_initial_namespaces()?;
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

/// Inode numbers of the initial namespaces, the same on every kernel (include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether users and process ids here are those of the host. Without `/proc` nothing can be told,
/// and the kernel will.
pub fn in_initial_namespaces() -> Result<(), Error> {
    if namespace("user").is_some_and(|user| user != INITIAL_USER_NAMESPACE) {
        return Err(Error::UserNamespace);
    }
    if namespace("pid").is_some_and(|pid| pid != INITIAL_PID_NAMESPACE) {
        return Err(Error::PidNamespace);
    }
    Ok(())
}

/// Inode number of a namespace of this process.
fn namespace(kind: &str) -> Option<u64> {
    fs::metadata(format!("/proc/self/ns/{kind}")).ok().map(|file| file.ino())
}

/// Both ways to get what is missing; where capabilities are given one by one, all are named that
/// recording needs here.
fn permission_hint(missing: Capabilities) -> String {
    let all = Capabilities::to_trace().and(Capabilities::to_look()).and(missing);
    let program = std::env::current_exe().unwrap_or_else(|_| "agentsight-rec".into());
    format!(
        "run it with sudo, or give the program what it needs: sudo setcap {}+ep {}",
        all.for_setcap(),
        program.display()
    )
}

/// `uname -r`.
pub fn kernel_release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}

/// Whether a release such as `5.4.0-42-generic` is before `minimum`; an unreadable one is not.
pub fn is_older_than(release: &str, minimum: (u32, u32)) -> bool {
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
    fn what_is_missing_is_named_with_the_command_that_gives_it() {
        let error = Error::NoUprobes { missing: Capabilities::SYS_ADMIN };
        assert!(error.to_string().ends_with("without CAP_SYS_ADMIN"), "{error}");
        let hint = error.hint().unwrap();
        let expected =
            "setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_sys_admin+ep";
        assert!(hint.contains(expected), "{hint}");
        let error = Error::NotPermitted { missing: Capabilities::to_trace() };
        assert!(error.to_string().ends_with("missing CAP_BPF and CAP_PERFMON"), "{error}");
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
