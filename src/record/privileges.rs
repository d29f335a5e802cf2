//! What the recorder may do once it records: no more than it still needs.
//!
//! Everything is set up with what the recorder was started with, root as a rule. Then it keeps
//!
//! - what attaching to new binaries needs: `CAP_BPF`, `CAP_PERFMON`, and `CAP_SYS_ADMIN` where this
//!   kernel demands it for uprobes, which is found out by trying;
//! - what looking into processes needs: `CAP_SYS_PTRACE`, `CAP_DAC_READ_SEARCH`, and
//!   `CAP_CHECKPOINT_RESTORE` for libraries whose name is gone;
//! - `CAP_KILL` while there is a command to pass signals to;
//! - what writing the trace needs. Under sudo files are made and reached as the invoking user
//!   (`setfsuid(2)`). Only where that user may not write to the directory does it keep
//!   `CAP_CHOWN`, `CAP_DAC_OVERRIDE` and `CAP_FOWNER`.
//!
//! Nothing it might execute could get more (`PR_SET_NO_NEW_PRIVS`). The launched command is forked
//! before and keeps its set-user-ID programs. Capabilities belong to threads: those that are
//! started later inherit, those from before limit themselves.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::owner::Owner;
use crate::capture::capability::Capabilities;

/// What the recording will do, as far as it decides what it needs.
#[derive(Clone, Copy, Debug)]
pub struct Needs<'a> {
    /// Whose files are written.
    pub owner: Option<&'a Owner>,
    /// Where.
    pub directory: &'a Path,
    /// Whether there is a command to pass signals to.
    pub signals_command: bool,
}

/// Gives up what is not needed, in the calling thread and those it starts from now on.
/// `uprobes_work` tries to attach one. Returns what was kept.
///
/// # Errors
/// When the kernel refuses.
pub fn drop(needs: &Needs<'_>, mut uprobes_work: impl FnMut() -> bool) -> io::Result<Capabilities> {
    let permitted = permitted()?;
    let mut kept = Capabilities::to_trace().and(Capabilities::to_look());
    kept = kept.and(Capabilities::CHECKPOINT_RESTORE);
    if needs.signals_command {
        kept = kept.and(Capabilities::KILL);
    }
    // Effective capabilities only, so that what turns out to be needed can be had back.
    set(kept.within(permitted), permitted)?;
    if !uprobes_work() {
        // It includes the other one.
        kept = kept.without(Capabilities::CHECKPOINT_RESTORE).and(Capabilities::SYS_ADMIN);
    }
    let change_user = Capabilities::SETUID.and(Capabilities::SETGID);
    if let Some(owner) = needs.owner {
        set(kept.and(change_user).within(permitted), permitted)?;
        reach_files_as(owner.uid, owner.gid);
        // That took effective capabilities about files away.
        set(kept.within(permitted), permitted)?;
    }
    if !is_writable(needs.directory) {
        if needs.owner.is_some() {
            // Back to root, whose user id the thread still has.
            reach_files_as(0, 0);
        }
        let files = Capabilities::CHOWN.and(Capabilities::DAC_OVERRIDE);
        kept = kept.and(files).and(Capabilities::FOWNER);
    }
    let kept = kept.within(permitted);
    set(kept, kept)?;
    no_new_privileges()?;
    Ok(kept)
}

/// What the user is to know about capabilities that are missing, but not needed to record at all.
#[must_use]
pub fn shortcoming() -> Option<String> {
    let missing = Capabilities::to_look().without(Capabilities::effective());
    (!missing.is_empty()).then(|| {
        format!("warning: without {missing}, programs of other users may not be looked into")
    })
}

/// Limits the calling thread to what looking into processes and binaries needs.
///
/// # Errors
/// When the kernel refuses.
pub fn only_look() -> io::Result<()> {
    let kept = Capabilities::to_look().and(Capabilities::CHECKPOINT_RESTORE).within(permitted()?);
    set(kept, kept)?;
    no_new_privileges()
}

/// Keeps the calling thread, and what it executes, from handing its capabilities on.
///
/// # Errors
/// When the kernel refuses.
pub fn hand_on_nothing() -> io::Result<()> {
    // SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "libc call")]
    let status =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    check(i64::from(status))
}

/// Header and data of capget(2) and capset(2), version 3: two times 32 bits per set.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION: u32 = 0x2008_0522;

fn permitted() -> io::Result<Capabilities> {
    let header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: the kernel reads one header and writes two data structs, which outlive the call.
    #[expect(unsafe_code, reason = "libc has no wrapper")]
    let status = unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) };
    check(status)?;
    Ok(Capabilities(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32))
}

fn set(effective: Capabilities, permitted: Capabilities) -> io::Result<()> {
    let header = Header { version: VERSION, pid: 0 };
    let half = |set: Capabilities, high: bool| (set.0 >> if high { 32 } else { 0 }) as u32;
    let data = [false, true].map(|high| Data {
        effective: half(effective, high),
        permitted: half(permitted, high),
        inheritable: 0,
    });
    // SAFETY: the kernel reads one header and two data structs, which outlive the call.
    #[expect(unsafe_code, reason = "libc has no wrapper")]
    let status = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    check(status)
}

/// Makes the thread reach and make files as this user. Neither call tells whether it worked; what
/// can be reached is asked afterwards.
fn reach_files_as(uid: u32, gid: u32) {
    // SAFETY: both take numbers and concern the calling thread alone.
    #[expect(unsafe_code, reason = "libc calls")]
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
}

/// Whether the thread may make files there.
fn is_writable(directory: &Path) -> bool {
    let Ok(path) = CString::new(directory.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends with NUL and outlives the call.
    #[expect(unsafe_code, reason = "libc call")]
    let status = unsafe {
        libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS)
    };
    status == 0
}

fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers only.
    #[expect(unsafe_code, reason = "libc call")]
    let status = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    check(i64::from(status))
}

fn check(status: i64) -> io::Result<()> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own: what is given up is gone for good.
    fn alone<T: Send>(test: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(test).join().unwrap())
    }

    fn status(name: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    }

    #[test]
    fn a_thread_keeps_no_more_than_it_needs_and_can_get_nothing_back() {
        let directory = tempfile::tempdir().unwrap();
        alone(|| {
            let before = permitted().unwrap();
            let needs = Needs { owner: None, directory: directory.path(), signals_command: false };
            let kept = drop(&needs, || true).unwrap();
            let allowed = Capabilities::to_trace()
                .and(Capabilities::to_look())
                .and(Capabilities::CHECKPOINT_RESTORE);
            assert_eq!(kept, allowed.within(before));
            assert_eq!(permitted().unwrap(), kept);
            assert_eq!(status("CapEff:"), format!("{:016x}", kept.0));
            assert_eq!(status("NoNewPrivs:"), "1");
            if before != kept {
                assert!(set(before, before).is_err());
            }
        });
        assert_eq!(status("NoNewPrivs:"), "0", "other threads are as they were");
    }

    #[test]
    fn what_the_kernel_demands_and_a_command_are_provided_for() {
        let directory = tempfile::tempdir().unwrap();
        alone(|| {
            let before = permitted().unwrap();
            let needs = Needs { owner: None, directory: directory.path(), signals_command: true };
            let kept = drop(&needs, || false).unwrap();
            let more = Capabilities::SYS_ADMIN.and(Capabilities::KILL);
            assert_eq!(more.within(kept), more.within(before));
        });
    }

    #[test]
    fn files_are_the_owners_where_the_owner_may_write() {
        let root = permitted().unwrap().has(Capabilities::CHOWN.and(Capabilities::DAC_OVERRIDE));
        if !root {
            return;
        }
        let owner = Owner {
            uid: 64_321,
            gid: 64_322,
            name: "user".into(),
            home: "/".into(),
            groups: vec![64_322],
        };
        let writes = |mode: u32, uid: u32| {
            use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
            let directory = tempfile::tempdir().unwrap();
            std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(mode)).unwrap();
            chown(directory.path(), Some(uid), None).unwrap();
            alone(|| {
                let needs = Needs {
                    owner: Some(&owner),
                    directory: directory.path(),
                    signals_command: false,
                };
                let kept = drop(&needs, || true).unwrap();
                let file = std::fs::File::create(directory.path().join("file")).unwrap();
                owner.take(&file).unwrap();
                let metadata = file.metadata().unwrap();
                assert_eq!((metadata.uid(), metadata.gid()), (owner.uid, owner.gid));
                kept
            })
        };
        assert!(!writes(0o700, owner.uid).has(Capabilities::DAC_OVERRIDE), "its own directory");
        assert!(!writes(0o777, 0).has(Capabilities::CHOWN), "everybody's directory");
        assert!(writes(0o755, 0).has(Capabilities::CHOWN), "root's directory");
    }

    #[test]
    fn a_thread_that_looks_into_binaries_does_nothing_else() {
        alone(|| {
            only_look().unwrap();
            let allowed = Capabilities::to_look().and(Capabilities::CHECKPOINT_RESTORE);
            assert!(allowed.has(permitted().unwrap()));
        });
    }
}
