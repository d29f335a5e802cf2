//! A recorder that runs beside a workload, what CPU it used, and what its trace holds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use agentsight::event::Body;
use agentsight::trace::Reader;

/// How long a recorder may take to begin, and to take in what is left in the rings.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs until it is stopped.
pub(crate) struct Recorder {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    /// CPU it had used when it was ready.
    ready_ns: f64,
}

impl Recorder {
    /// Starts it and waits until it records.
    pub(crate) fn start(output: &Path, name: &str, cpu: &str, options: &[&str]) -> Self {
        let mut child = Command::new("taskset")
            .args(["-c", cpu, env!("CARGO_BIN_EXE_agentsight-rec"), "--force", "-c", name, "-o"])
            .arg(output)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the recorder is built");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        loop {
            let line = lines.next().expect("the recorder says that it records").expect("text");
            if line.contains("recording to") {
                break;
            }
        }
        let ready_ns = cpu_ns(child.id());
        Self { child, lines, ready_ns }
    }

    /// Waits until the recorder rests: what the workload left for it has been taken in.
    pub(crate) fn wait_for_end_of_clients(&mut self) {
        const LOOK: Duration = Duration::from_millis(50);
        let deadline = Instant::now() + PATIENCE;
        let mut before = cpu_ns(self.child.id());
        while Instant::now() < deadline {
            std::thread::sleep(LOOK);
            let now = cpu_ns(self.child.id());
            if now - before < LOOK.as_nanos() as f64 / 20.0 {
                return;
            }
            before = now;
        }
        panic!("the recorder does not come to rest");
    }

    /// Stops it; the CPU it used from its beginning to record to the end of its file.
    pub(crate) fn stop(mut self) -> f64 {
        let pid = self.child.id().cast_signed();
        let before = children_cpu_ns();
        // SAFETY: a signal to a child that has not been waited for.
        #[expect(unsafe_code, reason = "kill(2) has no safe binding in std")]
        unsafe {
            libc::kill(pid, libc::SIGINT);
        }
        let said: Vec<String> = self.lines.by_ref().map_while(Result::ok).collect();
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "the recorder failed: {said:?}");
        assert!(!said.iter().any(|line| line.contains("bug:")), "{said:?}");
        children_cpu_ns() - before - self.ready_ns
    }
}

/// CPU of all threads of a process, from `/proc/PID/task/TID/schedstat`.
fn cpu_ns(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(of).sum()
}

/// CPU of all children that have been waited for.
fn children_cpu_ns() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is writable, and zeroes are a valid rusage.
    #[expect(unsafe_code, reason = "getrusage(2) has no safe binding in std")]
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr());
        usage.assume_init()
    };
    let ns = |time: libc::timeval| time.tv_sec as f64 * 1e9 + time.tv_usec as f64 * 1e3;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

/// Every byte the client moved is in the trace.
pub(crate) fn assert_complete(trace: &Path, moved_bytes: u64, workload: &str) {
    let reader = Reader::open(trace).expect("a trace");
    let mut captured_bytes = 0;
    for event in reader.events(Some(&["tls_data"])) {
        match event.expect("readable").body {
            Body::Data(data) => captured_bytes += data.data.len() as u64,
            other => panic!("expected tls_data, found {}", other.kind()),
        }
    }
    assert_eq!(captured_bytes, moved_bytes, "{workload}: the trace is not complete");
}
