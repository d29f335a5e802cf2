//! Sets of Linux capabilities: which this process has, which recording needs.

use std::fmt;

/// A set of capabilities, by the numbers of include/uapi/linux/capability.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Give files away.
    pub const CHOWN: Self = Self::one(0);
    /// Write where file modes forbid it.
    pub const DAC_OVERRIDE: Self = Self::one(1);
    /// Read and search where file modes forbid it; open files by handle.
    pub const DAC_READ_SEARCH: Self = Self::one(2);
    /// Act on files as their owner.
    pub const FOWNER: Self = Self::one(3);
    /// Signal processes of other users.
    pub const KILL: Self = Self::one(5);
    /// Take on another group.
    pub const SETGID: Self = Self::one(6);
    /// Take on another user.
    pub const SETUID: Self = Self::one(7);
    /// Look into processes of other users.
    pub const SYS_PTRACE: Self = Self::one(19);
    /// Nearly everything.
    pub const SYS_ADMIN: Self = Self::one(21);
    /// Trace.
    pub const PERFMON: Self = Self::one(38);
    /// Load BPF programs.
    pub const BPF: Self = Self::one(39);
    /// Open the files that other processes have mapped (`/proc/PID/map_files`).
    pub const CHECKPOINT_RESTORE: Self = Self::one(40);

    /// Names of all that this program deals with.
    const NAMES: [(Self, &'static str); 10] = [
        (Self::BPF, "CAP_BPF"),
        (Self::PERFMON, "CAP_PERFMON"),
        (Self::SYS_PTRACE, "CAP_SYS_PTRACE"),
        (Self::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
        (Self::SYS_ADMIN, "CAP_SYS_ADMIN"),
        (Self::CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"),
        (Self::KILL, "CAP_KILL"),
        (Self::CHOWN, "CAP_CHOWN"),
        (Self::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
        (Self::FOWNER, "CAP_FOWNER"),
    ];

    const fn one(number: u32) -> Self {
        Self(1 << number)
    }

    /// What loading and attaching need. Whether uprobes need `SYS_ADMIN` on top depends on the
    /// kernel and is found out by trying.
    #[must_use]
    pub fn to_trace() -> Self {
        Self::BPF.and(Self::PERFMON)
    }

    /// What looking into processes and binaries of all users needs.
    #[must_use]
    pub fn to_look() -> Self {
        Self::SYS_PTRACE.and(Self::DAC_READ_SEARCH)
    }

    /// Those of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of this set that are in the other one as well.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of this set that are not in the other one.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        other.without(self).is_empty()
    }

    /// The effective capabilities of the calling thread. `SYS_ADMIN` brings what was split off it:
    /// `BPF`, `PERFMON` and `CHECKPOINT_RESTORE`. All, where that cannot be read: the kernel will
    /// say no.
    #[must_use]
    pub fn effective() -> Self {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self::in_status(&status).unwrap_or(Self(u64::MAX))
    }

    /// The effective capabilities in the text of `/proc/PID/status`.
    #[must_use]
    pub fn in_status(status: &str) -> Option<Self> {
        let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let effective = Self(u64::from_str_radix(hex.trim(), 16).ok()?);
        let split_off = Self::to_trace().and(Self::CHECKPOINT_RESTORE);
        let is_admin = effective.has(Self::SYS_ADMIN);
        Some(if is_admin { effective.and(split_off) } else { effective })
    }

    /// As `setcap(8)` takes them.
    #[must_use]
    pub fn for_setcap(self) -> String {
        self.names().map(str::to_lowercase).collect::<Vec<_>>().join(",")
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(one, _)| self.has(*one)).map(|(_, name)| name)
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_has_what_was_split_off() {
        let status = |mask: &str| format!("Name:\tx\nCapPrm:\t0\nCapEff:\t{mask}\n");
        let of = |mask: &str| Capabilities::in_status(&status(mask)).unwrap();
        assert!(of("0000000000000000").is_empty());
        assert_eq!(of("000000c000000000"), Capabilities::to_trace());
        assert!(of("0000000000200000").has(Capabilities::to_trace()));
        assert!(!of("0000000000200000").has(Capabilities::SYS_PTRACE));
        assert!(of("000001ffffffffff").has(Capabilities::to_look()));
        assert_eq!(Capabilities::in_status("no such line"), None);
    }

    #[test]
    fn sets_are_named() {
        let missing = Capabilities::to_trace().without(Capabilities::BPF);
        assert_eq!(missing.to_string(), "CAP_PERFMON");
        let all = Capabilities::to_trace().and(Capabilities::to_look());
        assert_eq!(
            all.to_string(),
            "CAP_BPF and CAP_PERFMON and CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
        );
        assert_eq!(all.within(Capabilities::to_trace()).for_setcap(), "cap_bpf,cap_perfmon");
    }
}
