//! The recorder as a user starts it, and programs to be recorded beside it.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::host::{PATIENCE, until};

/// A program under way; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it said.
    pub stderr: String,
}

impl Ended {
    /// The same, after a check that it exited with 0; a recorder must not have complained of itself.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(!self.stderr.contains("bug:"), "{}", self.stderr);
        assert!(self.status.success(), "{} with:\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

impl Running {
    /// Starts a program, its input empty unless `command` says otherwise.
    pub fn start(command: &mut Command) -> Self {
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut stdout = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let stderr = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&stderr);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut text = shared.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self { child, stdout: Some(stdout), stderr, reader: Some(reader) }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its end of a piped standard input.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until it has said `words`.
    #[track_caller]
    pub fn says(&mut self, words: &str) {
        until(&format!("{words:?} in what it says"), || {
            if self.stderr().contains(words) {
                return true;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                // The reader may still be behind.
                let _ = self.reader.take().map(JoinHandle::join);
                let said = self.stderr();
                assert!(said.contains(words), "{status} without saying {words:?}:\n{said}");
            }
            false
        });
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        // The shell's own kill: there need be no program of that name.
        let kill = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let mut status = None;
        let deadline = std::time::Instant::now() + PATIENCE;
        while status.is_none() {
            assert!(
                std::time::Instant::now() < deadline,
                "process {} did not end in {PATIENCE:?}; it said:\n{}",
                self.pid(),
                self.stderr()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
            status = self.child.try_wait().unwrap();
        }
        let stdout = self.stdout.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        let _ = self.reader.take().map(JoinHandle::join);
        Ended { status: status.unwrap(), stdout, stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The recorder's command line, to be completed.
pub fn recorder(output: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-rec"));
    command.arg("-o").arg(output).stdin(Stdio::null());
    // Who runs the tests must not change what they see.
    for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
        command.env_remove(variable);
    }
    command
}

/// A recorder at work beside the programs it records.
pub struct Recording {
    running: Running,
    output: PathBuf,
}

impl Recording {
    /// Starts the recorder with these arguments and waits until its probes are in place.
    #[track_caller]
    pub fn start<A: AsRef<OsStr>>(output: &Path, arguments: &[A]) -> Self {
        Self::start_as(recorder(output).args(arguments), output)
    }

    /// The same for a command line of [`recorder`].
    #[track_caller]
    pub fn start_as(recorder: &mut Command, output: &Path) -> Self {
        let mut running = Running::start(recorder);
        running.says("agentsight-rec: recording to ");
        Self { running, output: output.to_owned() }
    }

    /// The recorder itself.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.running.end()
    }

    /// Waits until it has been killed.
    #[track_caller]
    pub fn died(self) {
        let ended = self.running.end();
        assert_eq!(ended.status.signal(), Some(libc::SIGKILL), "{}", ended.stderr);
    }

    /// Stops it as Ctrl-C does and returns the trace.
    #[track_caller]
    pub fn stop(self) -> PathBuf {
        self.stop_by("INT")
    }

    /// Stops it by a signal and returns the trace.
    #[track_caller]
    pub fn stop_by(self, signal: &str) -> PathBuf {
        self.running.signal(signal);
        self.running.end().succeeded();
        self.output
    }
}

/// Runs a command under the recorder to the end of both.
#[track_caller]
pub fn record<A: AsRef<OsStr>>(output: &Path, arguments: &[A], command: &mut Command) -> Ended {
    let mut recorder = recorder(output);
    recorder.args(arguments).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => recorder.env(name, value),
            None => recorder.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        recorder.current_dir(directory);
    }
    Running::start(&mut recorder).end()
}
