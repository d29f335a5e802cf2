//! What the host allows. Facts that explain a refusal come first, then what the kernel says when the
//! recorder's own programs are loaded and attached.

use super::{Check, State};
use crate::capture::bpf::{self, Capture};
use crate::capture::capability::Capabilities;
use crate::capture::cgroup::Hierarchy;

/// Rings of the trial: nothing is read from them.
const TRIAL_RING_BYTES: u32 = 64 << 10;
/// Since this kernel, memory of BPF maps is not counted against the limit of locked memory.
const NO_LOCKED_MEMORY: (u32, u32) = (5, 11);
/// What the maps and rings of a recording need at most, on kernels that count it.
const NEEDED_BYTES: u64 = 128 << 20;

/// All checks, in the order in which they explain each other.
pub(super) fn checks() -> Vec<Check> {
    let effective = Capabilities::effective();
    let mut checks = vec![
        to_trace(effective),
        to_look(effective),
        kernel(&bpf::kernel_release()),
        type_information(std::path::Path::new(bpf::BTF_PATH).exists()),
        lockdown(&std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default()),
        namespaces(bpf::in_initial_namespaces()),
        locked_memory(&bpf::kernel_release(), limit_bytes()),
    ];
    checks.extend(programs());
    checks.push(cgroups());
    checks
}

fn ok(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: State::Ok, required: true, found: found.into(), advice: None }
}

fn missing(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
    let advice = Some(advice.into());
    Check { name, state: State::Missing, required: true, found: found.into(), advice }
}

fn optional(check: Check) -> Check {
    Check { required: false, ..check }
}

fn to_trace(effective: Capabilities) -> Check {
    let missing_ones = Capabilities::to_trace().without(effective);
    if missing_ones.is_empty() {
        return ok("right to trace", Capabilities::to_trace().to_string());
    }
    let hint = bpf::Error::NotPermitted { missing: missing_ones }.hint();
    missing("right to trace", format!("no {missing_ones}"), hint.unwrap_or_default())
}

fn to_look(effective: Capabilities) -> Check {
    let missing_ones = Capabilities::to_look().without(effective);
    if missing_ones.is_empty() {
        return optional(ok("right to look", Capabilities::to_look().to_string()));
    }
    let found = format!("no {missing_ones}: programs of other users are not looked into");
    let hint = bpf::Error::NotPermitted { missing: missing_ones }.hint();
    Check {
        state: State::Limited,
        ..optional(missing("right to look", found, hint.unwrap_or_default()))
    }
}

fn kernel(release: &str) -> Check {
    if bpf::is_older_than(release, (5, 8)) {
        return missing(
            "kernel",
            format!("{release}, expected 5.8 or later"),
            "use a newer kernel",
        );
    }
    ok("kernel", release)
}

fn type_information(exists: bool) -> Check {
    if exists {
        return ok("type information", bpf::BTF_PATH);
    }
    let advice = bpf::Error::NoBtf.hint().unwrap_or_default();
    missing("type information", format!("no {}", bpf::BTF_PATH), advice)
}

/// The mode stands in brackets; no file, no lockdown.
fn lockdown(modes: &str) -> Check {
    let mode = modes.split(['[', ']']).nth(1).unwrap_or("none");
    if mode == "confidentiality" {
        let advice = bpf::Error::LockedDown.hint().unwrap_or_default();
        return missing("kernel lockdown", "confidentiality: memory may not be read", advice);
    }
    ok("kernel lockdown", mode)
}

fn namespaces(initial: Result<(), bpf::Error>) -> Check {
    match initial {
        Ok(()) => ok("namespaces", "those of the host"),
        Err(error) => missing("namespaces", error.to_string(), error.hint().unwrap_or_default()),
    }
}

fn locked_memory(release: &str, limit_bytes: Option<u64>) -> Check {
    let limit = limit_bytes.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    if !bpf::is_older_than(release, NO_LOCKED_MEMORY) {
        return optional(ok("locked memory", format!("{limit}, which this kernel does not count")));
    }
    match limit_bytes {
        Some(bytes) if bytes < NEEDED_BYTES => {
            let found = format!("{limit}, and this kernel counts the maps against it");
            optional(missing("locked memory", found, "ulimit -l unlimited"))
        }
        _ => optional(ok("locked memory", limit)),
    }
}

/// `RLIMIT_MEMLOCK` of this process; `None` where there is no limit.
fn limit_bytes() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Loads and attaches what a recording uses.
fn programs() -> Vec<Check> {
    const PROCESSES: &str = "process hooks";
    const FUNCTIONS: &str = "function probes";
    const SYSTEM_CALLS: &str = "system calls";
    let loaded = Capture::load(&bpf::Options {
        payload_ring_bytes: TRIAL_RING_BYTES,
        control_ring_bytes: TRIAL_RING_BYTES,
        io_ring_bytes: TRIAL_RING_BYTES,
        ..bpf::Options::default()
    });
    let mut capture = match loaded {
        Ok(capture) => capture,
        Err(error @ bpf::Error::NoUprobes { .. }) => {
            let advice = error.hint().unwrap_or_default();
            return vec![
                ok(PROCESSES, "the programs load"),
                missing(FUNCTIONS, error.to_string(), advice),
            ];
        }
        Err(error) => {
            let found = chain(&error);
            return vec![missing(PROCESSES, found, error.hint().unwrap_or_default())];
        }
    };
    let (exact, cookie) = (capture.stats().exact_size, capture.stats().attach_cookie);
    vec![
        ok(PROCESSES, "fork, exec and exit by BTF tracepoints, into ring buffers"),
        ok(FUNCTIONS, "a function of this program could be probed"),
        match capture.watch_io(true) {
            Ok(()) => ok(SYSTEM_CALLS, "files, sockets and pipes by one BTF tracepoint"),
            Err(error) => Check {
                state: State::Limited,
                ..missing(SYSTEM_CALLS, chain(&error), "record with --no-files --no-network")
            },
        },
        // Both have a fallback that records the same.
        optional(ok(
            "record sizes",
            if exact { "exact" } else { "rounded up: a larger --buffer holds as much" },
        )),
        optional(ok(
            "probe cookies",
            if cookie { "there" } else { "not there: rows name no TLS library" },
        )),
    ]
}

fn cgroups() -> Check {
    match Hierarchy::find() {
        Ok(hierarchy) => optional(ok("cgroup v2", hierarchy.mount_point().display().to_string())),
        Err(error) => {
            let found = format!("{error}: --cgroup and --container find nothing");
            let advice = error.hint().unwrap_or_default();
            Check { state: State::Limited, ..optional(missing("cgroup v2", found, advice)) }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_comes_with_what_to_do() {
        let none = Capabilities::default();
        for check in [
            to_trace(none),
            to_look(none),
            kernel("5.4.0-42-generic"),
            type_information(false),
            lockdown("none integrity [confidentiality]\n"),
            namespaces(Err(bpf::Error::PidNamespace)),
            locked_memory("5.8.0", Some(64 << 10)),
        ] {
            assert_ne!(check.state, State::Ok, "{check:?}");
            assert!(check.advice.as_ref().is_some_and(|advice| !advice.is_empty()), "{check:?}");
        }
    }

    #[test]
    fn what_is_there_is_said_as_it_is() {
        assert_eq!(to_trace(Capabilities::to_trace()).found, "CAP_BPF and CAP_PERFMON");
        assert_eq!(kernel("6.18.44").state, State::Ok);
        assert_eq!(lockdown("none [integrity] confidentiality\n").found, "integrity");
        assert_eq!(lockdown("").found, "none");
        assert_eq!(locked_memory("6.1", Some(8 << 20)).state, State::Ok);
        assert_eq!(locked_memory("5.8", None).found, "unlimited");
    }
}
