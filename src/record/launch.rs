//! Starts the command to record, held before its first instruction until the probes are in place.
//!
//! `std::process::Command` does the hard parts (closing descriptors, resetting signals, reporting a
//! failed `execve` to the parent). It returns only after `execve`, so it runs in a thread of its
//! own; the forked child sends its pid from a `pre_exec` hook and waits there for permission.
//! The command keeps the terminal, the process group and the environment, and runs as the
//! invoking user.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread::JoinHandle;

use super::owner::Owner;
use super::privileges::hand_on_nothing;
use super::search::search_path;

/// Why the command could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{command} cannot be started")]
pub struct LaunchError {
    command: String,
    #[source]
    source: io::Error,
}

/// A command that has been forked but not yet executed.
pub struct Held {
    name: String,
    pid: u32,
    release: PipeWriter,
    spawning: JoinHandle<io::Result<Child>>,
}

impl Held {
    /// Forks the command and stops it before `execve`.
    ///
    /// # Errors
    /// When the system cannot make a process.
    pub fn start(command: &[OsString], owner: Option<&Owner>) -> Result<Self, LaunchError> {
        let name = command.first().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let failed = |source| LaunchError { command: name.clone(), source };
        let (mut pid_reader, pid_writer) = io::pipe().map_err(failed)?;
        let (release_reader, release) = io::pipe().map_err(failed)?;
        let mut process = build(command, owner, pid_writer, release_reader, release.as_raw_fd());
        let spawning = std::thread::Builder::new()
            .name("launch".into())
            .spawn(move || {
                let spawned = process.spawn();
                // Closes this side's pipe ends, so that a failed fork ends the parent's wait.
                drop(process);
                spawned
            })
            .map_err(failed)?;
        let mut pid = [0; 4];
        if let Err(source) = pid_reader.read_exact(&mut pid) {
            let source = match spawning.join() {
                Ok(Err(spawn_error)) => spawn_error,
                _ => source,
            };
            return Err(failed(source));
        }
        Ok(Self { name, pid: u32::from_ne_bytes(pid), release, spawning })
    }

    /// Its process id, valid from now on.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it execute.
    ///
    /// # Errors
    /// When the program cannot be executed; the process is gone then.
    pub fn release(self) -> Result<Launched, LaunchError> {
        let Self { name, mut release, spawning, .. } = self;
        let child = release
            .write_all(&[1])
            .and_then(|()| spawning.join().unwrap_or_else(|_| Err(io::Error::other("lost"))))
            .map_err(|source| LaunchError { command: name, source })?;
        Ok(Launched { child })
    }
}

/// A command that runs.
pub struct Launched {
    child: Child,
}

impl Launched {
    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its exit status.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid fits pid_t");
        // SAFETY: kill takes plain numbers; the pid is our own unreaped child.
        #[expect(unsafe_code, reason = "libc call")]
        let _ = unsafe { libc::kill(pid, signal) };
    }
}

/// The exit status a shell would show: the code, or 128 plus the signal.
#[must_use]
pub fn shell_status(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    u8::try_from(code.unwrap_or(1)).unwrap_or(1)
}

fn build(
    command: &[OsString],
    owner: Option<&Owner>,
    mut pid_writer: PipeWriter,
    mut release_reader: PipeReader,
    release_writer: i32,
) -> Command {
    let (program, arguments) = command.split_first().expect("clap gives at least the program");
    let mut process = Command::new(program);
    process.args(arguments);
    if let Some(owner) = owner {
        process
            .env("HOME", &owner.home)
            .env("USER", &owner.name)
            .env("LOGNAME", &owner.name)
            .env("PATH", search_path(std::env::var_os("PATH"), Some(owner)))
            .env_remove("MAIL");
        for sudo in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND"] {
            process.env_remove(sudo);
        }
    }
    let identity = owner.map(|owner| (owner.uid, owner.gid, owner.groups.clone()));
    let before_exec = move || {
        // The inherited write end would keep the read below waiting if the recorder died.
        // SAFETY: closes this process's copy of a descriptor nothing else here uses.
        #[expect(unsafe_code, reason = "libc call")]
        unsafe {
            libc::close(release_writer)
        };
        if let Some((uid, gid, groups)) = &identity {
            become_user(*uid, *gid, groups)?;
        }
        // For a recorder that was given capabilities instead of being started by root.
        hand_on_nothing()?;
        pid_writer.write_all(&std::process::id().to_ne_bytes())?;
        release_reader.read_exact(&mut [0])
    };
    // SAFETY: between fork and exec the hook only makes system calls on memory prepared before
    // the fork: no allocation, no locks.
    #[expect(unsafe_code, reason = "code between fork and exec")]
    unsafe {
        process.pre_exec(before_exec)
    };
    process
}

/// Gives up root for good, groups first while that is still allowed.
fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let check = |status: libc::c_int| match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: the pointer and length are those of one slice; the other calls take numbers.
    #[expect(unsafe_code, reason = "libc calls")]
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &[&str]) -> Vec<OsString> {
        command.iter().map(OsString::from).collect()
    }

    fn wait(mut launched: Launched) -> ExitStatus {
        launched.wait().unwrap()
    }

    #[test]
    fn nothing_runs_before_the_release() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let script = format!("touch {}; exit 7", mark.display());
        let held = Held::start(&words(&["sh", "-c", &script]), None).unwrap();
        let exe = std::fs::read_link(format!("/proc/{}/exe", held.pid())).unwrap();
        assert_eq!(exe, std::env::current_exe().unwrap(), "still our image");
        assert!(!mark.exists());

        assert_eq!(shell_status(wait(held.release().unwrap())), 7);
        assert!(mark.exists());
    }

    #[test]
    fn a_missing_program_is_reported_with_its_name() {
        let held = Held::start(&words(&["no-such-program-anywhere"]), None).unwrap();
        let Err(error) = held.release() else { panic!("it cannot have started") };
        assert_eq!(error.to_string(), "no-such-program-anywhere cannot be started");
        let cause = std::error::Error::source(&error).unwrap().downcast_ref::<io::Error>();
        assert_eq!(cause.map(io::Error::kind), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn a_signal_reaches_it_and_shows_in_the_status() {
        let held = Held::start(&words(&["sleep", "1000"]), None).unwrap();
        let launched = held.release().unwrap();
        launched.signal(libc::SIGTERM);
        assert_eq!(shell_status(wait(launched)), 128 + 15);
    }

    #[test]
    fn an_abandoned_command_never_runs() {
        let directory = tempfile::tempdir().unwrap();
        let mark = directory.path().join("mark");
        let held = Held::start(&words(&["touch", mark.to_str().unwrap()]), None).unwrap();
        let Held { release, spawning, .. } = held;
        drop(release);
        assert!(spawning.join().unwrap().is_err());
        assert!(!mark.exists());
    }
}
