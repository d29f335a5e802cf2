//! Whether this host can record, and a safe place on it to do so.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything that must happen may take; generous, as hosts of tests are slow and shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Recordings share the host's processes and processors.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a live test has to itself.
pub struct Host {
    directory: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Host {
    /// A path in a directory that is removed after the test and that every user may use.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file into that directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Runs `test` where nothing but loopback is on the network, or says why it does not.
pub fn live(test: impl FnOnce(&Host) + Send) {
    if let Some(reason) = obstacle() {
        return skip(&reason);
    }
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::Builder::new().prefix("agentsight-live-").tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let host = Host { directory, _alone: alone };
    // A namespace belongs to a thread and is inherited by the threads and processes it starts;
    // a thread of its own keeps the test harness where it was.
    let isolated = || {
        enter_network_namespace();
        test(&host);
    };
    let name = std::thread::current().name().unwrap_or("live").to_owned();
    let outcome = std::thread::scope(|scope| {
        std::thread::Builder::new().name(name).spawn_scoped(scope, isolated).unwrap().join()
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Says on the terminal, past the harness that hides the output of passing tests, that the running
/// test did not take place.
pub fn skip(reason: &str) {
    let name = std::thread::current().name().unwrap_or("live").to_owned();
    if std::env::var_os("AGENTSIGHT_REQUIRE_LIVE").is_some_and(|value| value != "0") {
        panic!("{name} was to run, but: {reason}");
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}

/// Waits for `condition`, looking again and again.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What keeps this host from recording, judged without the recorder: were the recorder asked, its
/// own faults would pass for the host's.
fn obstacle() -> Option<String> {
    /// Bits of `capability.h`.
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_BPF: u64 = 1 << 39;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let uid = field("Uid:").and_then(|ids| ids.split_whitespace().nth(1)).unwrap_or("?");
    if uid != "0" {
        return Some("recording needs root; run as root for the live tests".into());
    }
    let effective = field("CapEff:").map(str::trim).unwrap_or_default();
    let capabilities = u64::from_str_radix(effective, 16).unwrap_or(0);
    if capabilities & CAP_SYS_ADMIN == 0 {
        let bpf = if capabilities & CAP_BPF == 0 { "" } else { " (CAP_BPF is there)" };
        return Some(format!("this root lacks CAP_SYS_ADMIN{bpf}, as in most containers"));
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Some("the kernel is locked down for confidentiality, which forbids eBPF".into());
    }
    None
}

fn enter_network_namespace() {
    // SAFETY: unshare takes flags only and changes this thread alone.
    #[expect(unsafe_code, reason = "libc call")]
    let status = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(status, 0, "unshare: {}", std::io::Error::last_os_error());
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success(), "loopback cannot be brought up");
}
