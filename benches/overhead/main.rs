//! What recording costs those who are recorded and those who are not.
//!
//! `sudo cargo bench --no-default-features --features record --bench overhead [-- PAIRS]`. Every
//! workload runs in turn without and with a recorder (ABBA), client on the first CPU, server and
//! recorder on the second. Printed are medians of the ratios of a pair: wall time and CPU of the
//! client, and CPU of client and recorder together, down to the last byte of its file; and whether
//! the trace holds every byte. A figure without that would mean nothing: dropping is cheap.
//!
//! Needs root and a C compiler. Asserts nothing but completeness.

#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod recorder;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use recorder::Recorder;

/// Pairs of runs for each workload, unless the command line says otherwise.
const PAIRS: usize = 15;
const CLIENT_CPU: &str = "0";
const SERVER_CPU: &str = "1";

/// Workloads of a TLS client that is recorded.
const RECORDED: &[(&str, &str)] = &[
    ("burst", "5 times 9,000 events of 110 bytes at full speed"),
    ("bulk", "5 downloads of 64 MiB: 4 MiB of text again and again"),
    ("unique", "download of 64 MiB of text in which nothing comes again, --buffer 64M"),
    ("resent", "5 times 100 turns, each re-sending all before it: 41 MB"),
    ("call", "one call of 4 MiB"),
    ("streams", "16 streams, an event per 0.5 ms"),
];

/// Workloads of programs that nobody asked for, while another one is recorded.
const UNTRACKED: &[(&str, &str)] = &[
    ("burst", "TLS: 5 times 9,000 events of 110 bytes"),
    ("bulk", "TLS: 5 downloads of 64 MiB"),
    ("exec", "1,500 programs started"),
    ("files", "10,000 files opened, written, read, closed"),
];

/// What a workload said of itself.
#[derive(Clone, Copy, Debug)]
struct Figures {
    wall_ns: f64,
    cpu_ns: f64,
    moved_bytes: u64,
}

/// The workload program, its server and a place for files.
struct Bench {
    directory: tempfile::TempDir,
    program: PathBuf,
    server: Child,
    port: String,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bench {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = directory.path().join("agentsight-workload");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/overhead/workload.c");
        let built = Command::new("clang")
            .args(["-O2", "-o"])
            .arg(&program)
            .args([source, "-lpthread", "-ldl"])
            .status();
        assert!(built.expect("clang built the BPF programs").success());
        // The server has another name, so that it is never recorded.
        let server = directory.path().join("server");
        std::fs::copy(&program, &server).expect("writable");
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let (certificate_path, key_path) =
            (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
        std::fs::write(&certificate_path, key.cert.pem()).expect("writable");
        std::fs::write(&key_path, key.signing_key.serialize_pem()).expect("writable");
        let mut server = pinned(SERVER_CPU, &server)
            .arg("server")
            .args([&certificate_path, &key_path])
            .stdout(Stdio::piped())
            .spawn()
            .expect("just built");
        let mut port = String::new();
        BufReader::new(server.stdout.take().expect("piped"))
            .read_line(&mut port)
            .expect("the server says its port");
        let port = port.trim().to_owned();
        Self { directory, program, server, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs one workload under the name of `program`.
    fn run(&self, program: &Path, workload: &str) -> Figures {
        let files = self.path("files");
        std::fs::create_dir_all(&files).expect("writable");
        let mut client = pinned(CLIENT_CPU, program);
        client.arg(workload);
        match workload {
            "exec" | "files" => client.arg(&files),
            _ => client.arg(&self.port),
        };
        let output = client.stderr(Stdio::inherit()).output().expect("just built");
        assert!(output.status.success(), "{workload} failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> =
            text.split_whitespace().map(|word| word.parse().expect("four numbers")).collect();
        let [wall_ns, cpu_ns, read_bytes, written_bytes] = numbers[..] else {
            panic!("expected four numbers, found {text}");
        };
        Figures {
            wall_ns: wall_ns as f64,
            cpu_ns: cpu_ns as f64,
            moved_bytes: read_bytes + written_bytes,
        }
    }
}

fn pinned(cpu: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", cpu]).arg(program);
    command
}

/// Ratios of one pair of runs.
#[derive(Clone, Copy, Debug)]
struct Ratios {
    wall: f64,
    cpu: f64,
    cpu_with_recorder: f64,
}

/// With a recorder that looks for the client.
fn recorded_pair(bench: &Bench, workload: &str, recorder_first: bool) -> Ratios {
    let alone = || bench.run(&bench.program, workload);
    let with_recorder = || {
        let output = bench.path("run.parquet");
        // Faster than anyone writes: the ring has to hold it.
        let options: &[&str] = if workload == "unique" { &["--buffer", "64M"] } else { &[] };
        let mut recorder = Recorder::start(&output, "agentsight-workload", SERVER_CPU, options);
        let figures = bench.run(&bench.program, workload);
        recorder.wait_for_end_of_clients();
        let cpu_ns = recorder.stop();
        recorder::assert_complete(&output, figures.moved_bytes, workload);
        (figures, cpu_ns)
    };
    let (off, (on, recorder_ns)) = if recorder_first {
        let on = with_recorder();
        (alone(), on)
    } else {
        (alone(), with_recorder())
    };
    Ratios {
        wall: on.wall_ns / off.wall_ns,
        cpu: on.cpu_ns / off.cpu_ns,
        cpu_with_recorder: (on.cpu_ns + recorder_ns) / off.cpu_ns,
    }
}

/// With a recorder that looks for something else: a program that sleeps, so that every hook is in
/// place, or nothing that is there.
fn untracked_pair(
    bench: &Bench,
    workload: &str,
    recorder_first: bool,
    something_runs: bool,
) -> Ratios {
    let other = bench.path("agentsight-bystander");
    if !other.exists() {
        std::fs::copy("/bin/sleep", &other).expect("writable");
    }
    let alone = || bench.run(&bench.program, workload);
    let with_recorder = || {
        let mut sleeper = something_runs
            .then(|| Command::new(&other).arg("600").spawn().expect("sleep is there"));
        let recorder =
            Recorder::start(&bench.path("other.parquet"), "agentsight-bystander", SERVER_CPU, &[]);
        let figures = bench.run(&bench.program, workload);
        recorder.stop();
        if let Some(sleeper) = &mut sleeper {
            let _ = sleeper.kill();
            let _ = sleeper.wait();
        }
        figures
    };
    let (off, on) = if recorder_first {
        let on = with_recorder();
        (alone(), on)
    } else {
        (alone(), with_recorder())
    };
    let cpu = on.cpu_ns / off.cpu_ns;
    Ratios { wall: on.wall_ns / off.wall_ns, cpu, cpu_with_recorder: cpu }
}

/// Median, and the quartiles around it.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part).round() as usize];
    format!("{:.3} ({:.3}..{:.3})", at(0.5), at(0.25), at(0.75))
}

fn report(what: &str, description: &str, ratios: &[Ratios]) {
    let of = |pick: fn(&Ratios) -> f64| spread(ratios.iter().map(pick).collect());
    println!(
        "{what:<10} {:<24} {:<24} {:<24} {description}",
        of(|ratios| ratios.wall),
        of(|ratios| ratios.cpu),
        of(|ratios| ratios.cpu_with_recorder),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // Run as one of the tests, unoptimised: figures would mean nothing.
        return;
    }
    let pairs = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(PAIRS);
    let wanted = |group: &str| {
        let groups = ["recorded", "untracked", "idle"];
        let chosen: Vec<_> = arguments.iter().filter(|a| groups.contains(&a.as_str())).collect();
        chosen.is_empty() || chosen.iter().any(|choice| *choice == group)
    };
    let bench = Bench::start();
    let head = |title: &str| {
        println!("\n{title}: medians (quartiles) of {pairs} ratios to no recorder");
        println!("{:<10} {:<24} {:<24} {:<24}", "", "wall", "CPU", "CPU with recorder");
    };
    if wanted("recorded") {
        head("recorded, every byte kept");
        for (workload, description) in RECORDED {
            let pair = |index| recorded_pair(&bench, workload, index % 2 == 1);
            report(workload, description, &(0..pairs).map(pair).collect::<Vec<_>>());
        }
    }
    for (group, title, something_runs) in [
        ("untracked", "not asked for, while another program is recorded", true),
        ("idle", "not asked for, while the recorder waits for a program", false),
    ] {
        if !wanted(group) {
            continue;
        }
        head(title);
        for (workload, description) in UNTRACKED {
            let pair = |index| untracked_pair(&bench, workload, index % 2 == 1, something_runs);
            report(workload, description, &(0..pairs).map(pair).collect::<Vec<_>>());
        }
    }
}
