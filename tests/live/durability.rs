//! Whatever ends a recording, what was recorded before is there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentsight::event::{Body, Direction};
use agentsight::trace::{Completeness, Reader, Totals, log_path, repair};

use super::client::python;
use super::host::{Host, live, until};
use super::recorder::{Recording, Running, recorder};

/// Recorders killed by default; the figure in the project's claims comes from
/// `AGENTSIGHT_KILLS=200`.
const KILLS: u64 = 12;

/// A program that writes numbered records through TLS, and notes when it has.
struct Load {
    /// Stops when dropped.
    _running: Running,
    marks: PathBuf,
}

impl Load {
    fn command(host: &Host, record_bytes: usize, pause_ms: u32) -> (Command, PathBuf) {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = host.write("certificate.pem", &pair.cert.pem());
        let key = host.write("key.pem", &pair.signing_key.serialize_pem());
        let marks = host.path("marks");
        let mut command = Command::new(python());
        command.arg(Self::script(host)).arg(certificate).arg(key).arg(&marks);
        command.args([record_bytes.to_string(), pause_ms.to_string()]);
        (command, marks)
    }

    /// The script under a name of its own, to match it by.
    fn script(host: &Host) -> PathBuf {
        host.write(&Self::name(), include_str!("programs/load.py"))
    }

    fn name() -> String {
        format!("agentsight-load-{}.py", std::process::id())
    }

    /// Starts it and waits for its first record.
    fn start(host: &Host, record_bytes: usize, pause_ms: u32) -> Self {
        let (mut command, marks) = Self::command(host, record_bytes, pause_ms);
        let load = Self { _running: Running::start(&mut command), marks };
        until("the first record", || !load.marks().is_empty());
        load
    }

    /// Number and time in nanoseconds of each record written so far.
    fn marks(&self) -> Vec<(u64, u64)> {
        marks(&self.marks)
    }

    fn written(&self) -> u64 {
        self.marks().last().map_or(0, |(number, _)| *number)
    }
}

fn marks(path: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mark = |line: &str| {
        let (number, ts) = line.split_once(' ')?;
        Some((number.parse().ok()?, ts.parse().ok()?))
    };
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(mark).collect()
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// The numbers of the records that a trace holds, as they were written.
fn recorded(path: &Path) -> BTreeSet<u64> {
    let mut stream: Vec<u8> = Vec::new();
    let mut numbers = BTreeSet::new();
    for event in Reader::open(path).unwrap().events(Some(&["tls_data"])) {
        let Body::Data(tls) = event.unwrap().body else { unreachable!("only tls_data was asked") };
        if tls.direction == Direction::Write {
            stream.extend_from_slice(&tls.data);
        }
    }
    let mut rest = stream.as_slice();
    while let Some(at) = rest.windows(7).position(|bytes| bytes == b"record ") {
        rest = &rest[at + 7..];
        let digits = rest.get(..12).and_then(|digits| std::str::from_utf8(digits).ok());
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers
}

fn unfinished(path: &Path) -> agentsight::trace::Recovery {
    match Reader::open(path).unwrap().completeness() {
        Completeness::Unfinished(recovery) => recovery.clone(),
        other => panic!("expected an unfinished recording, found {other:?}"),
    }
}

#[test]
fn a_killed_recorder_loses_less_than_the_last_second() {
    live(|host| {
        let kills = std::env::var("AGENTSIGHT_KILLS").map_or(KILLS, |n| n.parse().unwrap());
        // Some 6 MB of unique data a second: a row group closes every second or two, and an
        // unoptimised recorder on a busy machine still keeps up.
        let load = Load::start(host, 16 * 1024, 2);
        let mut random = 0x9E37_79B9_7F4A_7C15_u64 ^ u64::from(std::process::id());
        eprintln!("seed {random}");
        let (mut checked, mut groups) = (0, 0);
        for kill in 0..kills {
            let output = host.path(&format!("{kill}.parquet"));
            let begun_after = load.written();
            let mut recording = Recording::start(&output, &["-c", &Load::name()]);
            let first = load.written() + 1;
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            let lives = Duration::from_micros(1_200_000 + (random >> 33) % 1_500_000);
            let end = Instant::now() + lives;
            until("the moment to kill the recorder", || Instant::now() >= end);
            recording.running().signal("KILL");
            let killed_ns = now_ns();
            recording.died();

            let wanted: BTreeSet<u64> = load
                .marks()
                .into_iter()
                .filter(|(number, ts)| *number >= first && ts + 1_000_000_000 < killed_ns)
                .map(|(number, _)| number)
                .collect();
            let found = recorded(&output);
            let missing: Vec<_> = wanted.difference(&found).collect();
            assert!(missing.is_empty(), "kill {kill} after {lives:?}: missing {missing:?}");
            assert!(found.iter().all(|number| *number > begun_after));
            checked += wanted.len();
            let _ = unfinished(&output);
            let before: Vec<_> =
                Reader::open(&output).unwrap().events(None).map(Result::unwrap).collect();

            let repaired = repair(&output).unwrap();
            let reader = Reader::open(&output).unwrap();
            assert_eq!(*reader.completeness(), Completeness::Repaired);
            let after: Vec<_> = reader.events(None).map(Result::unwrap).collect();
            assert!(before == after, "kill {kill}: the repaired file has other rows");
            assert_eq!(repaired.rows, after.len() as u64);
            assert!(!log_path(&output).exists());
            groups += parquet_row_groups(&output);
            std::fs::remove_file(&output).unwrap();
        }
        eprintln!("{kills} kills: {checked} records checked, {groups} row groups");
        assert!(checked as u64 > kills * 20, "only {checked} records were checked");
        assert!(groups as u64 > kills, "no recording closed a row group before its end");
    });
}

fn parquet_row_groups(path: &Path) -> usize {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    let file = std::fs::File::open(path).unwrap();
    SerializedFileReader::new(file).unwrap().metadata().num_row_groups()
}

/// A file system of its own, as large as wanted.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(host: &Host, options: &str) -> Self {
        let path = host.path("disk");
        std::fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "agentsight-test"]).arg(&path);
        assert!(mount.status().unwrap().success(), "a tmpfs cannot be mounted");
        Self { path }
    }

    fn grow(&self, options: &str) {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{options}")]).arg(&self.path);
        assert!(mount.status().unwrap().success(), "the tmpfs cannot be remounted");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

fn totals(path: &Path) -> Totals {
    Reader::open(path).unwrap().totals().unwrap()
}

#[test]
fn a_full_disk_ends_the_recording_and_costs_only_what_came_after() {
    live(|host| {
        let disk = SmallDisk::mount(host, "size=6m");
        let output = disk.path.join("run.parquet");
        let load = Load::start(host, 16 * 1024, 2);
        let mut recorder = recorder(&output);
        let recording = Recording::start_as(recorder.args(["-c", &Load::name()]), &output);
        let first = load.written() + 1;
        let ended = recording.end();
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("could not be written"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
        drop(load);

        // Everything there is reads at once, without a gap, and says what is missing.
        let found = recorded(&output);
        assert!(found.len() > 50 && found.range(first..).next().is_some(), "{found:?}");
        let numbers: Vec<u64> = found.iter().copied().collect();
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
        let finished = *Reader::open(&output).unwrap().completeness() == Completeness::Complete;
        if !finished {
            assert_eq!(unfinished(&output).stop_reason.as_deref(), Some("disk_full"));
            assert!(ended.stderr.contains("repair"), "{}", ended.stderr);
            disk.grow("size=64m");
            repair(&output).unwrap();
        }
        assert_eq!(recorded(&output), found);
        let reader = Reader::open(&output).unwrap();
        assert_eq!(reader.metadata()["agentsight.stop_reason"], "disk_full");
        let lost: u64 = totals(&output)
            .losses
            .iter()
            .filter(|((_, cause), _)| cause == "disk_full")
            .map(|(_, lost)| lost.events)
            .sum();
        let said = format!("agentsight-rec: {lost} events with ");
        assert!(lost > 0 && ended.stderr.contains(&said), "{lost} lost\n{}", ended.stderr);
    });
}

#[test]
fn a_command_goes_on_with_its_exit_code_when_the_disk_is_full() {
    live(|host| {
        let disk = SmallDisk::mount(host, "size=3m");
        let output = disk.path.join("run.parquet");
        let (load, marks_path) = Load::command(host, 16 * 1024, 1);
        let words: Vec<_> = std::iter::once(load.get_program())
            .chain(load.get_args())
            .map(|word| word.to_str().unwrap())
            .collect();
        // The load is stopped once the recorder has given up, and then the command has its say.
        let go_on = host.path("go-on");
        let script = format!(
            "{} & load=$!; while [ ! -e {} ]; do sleep 0.05; done; kill $load; wait; exit 21",
            words.join(" "),
            go_on.display(),
        );
        let mut command = recorder(&output);
        let mut running = Running::start(command.args(["--", "sh", "-c", &script]));
        running.says("the recording has ended; the command goes on");
        std::fs::write(&go_on, "").unwrap();
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(21), "{}", ended.stderr);
        assert!(!marks(&marks_path).is_empty());
        assert!(!recorded(&output).is_empty(), "{}", ended.stderr);
    });
}

#[test]
fn a_place_that_cannot_be_written_is_refused_at_once() {
    live(|host| {
        for (options, fill) in [("ro,size=1m", 0), ("size=64k", 1 << 20)] {
            let disk = SmallDisk::mount(host, options);
            if fill > 0 {
                // Fails when it is full, which is what it is for.
                let _ = std::fs::write(disk.path.join("filler"), vec![1; fill]);
            }
            let output = disk.path.join("run.parquet");
            let mut command = recorder(&output);
            let ended = Running::start(command.args(["--", "sh", "-c", "exit 0"])).end();
            assert_eq!(ended.status.code(), Some(2), "{options}: {}", ended.stderr);
            assert!(ended.stderr.contains("hint: "), "{options}: {}", ended.stderr);
            assert!(!output.exists() && !log_path(&output).exists(), "{options}: left behind");
            drop(disk);
            std::fs::remove_dir(host.path("disk")).unwrap();
        }
    });
}

#[test]
fn a_log_deleted_under_the_recorder_is_made_again() {
    live(|host| {
        let output = host.path("run.parquet");
        let load = Load::start(host, 2000, 5);
        let mut recording = Recording::start(&output, &["-c", &Load::name()]);
        let first = load.written() + 1;
        until("records in the log", || recorded(&output).range(first..).count() > 5);
        std::fs::remove_file(log_path(&output)).unwrap();
        until("another log", || log_path(&output).exists());
        let last = load.written();
        until("records after it", || recorded(&output).contains(&last));
        recording.running().signal("KILL");
        recording.died();
        assert!(recorded(&output).is_superset(&(first..=last).collect()));
    });
}

#[test]
fn a_file_has_one_recorder_also_by_force() {
    live(|host| {
        let output = host.path("run.parquet");
        let first = Recording::start(&output, &["-c", "agentsight-nobody"]);
        for arguments in [&["--force"][..], &[]] {
            let mut second = recorder(&output);
            let ended = Running::start(second.args(arguments).args(["-c", "nobody"])).end();
            assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
            assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
        }
        assert!(unfinished(&output).live);
        let output = first.stop();
        assert_eq!(*Reader::open(&output).unwrap().completeness(), Completeness::Complete);
    });
}

#[test]
fn a_closed_terminal_ends_the_recording_whole() {
    live(|host| {
        let output = host.path("run.parquet");
        // The recorder leads a session of its own on a terminal that then goes away.
        let terminal = "import os, pty, sys\n\
            pid, terminal = pty.fork()\n\
            if pid == 0: os.execv(sys.argv[1], sys.argv[1:])\n\
            said = b''\n\
            while b'recording to' not in said: said += os.read(terminal, 1000)\n\
            os.close(terminal)\n\
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
        let recorder = recorder(&output);
        let mut command = Command::new(python());
        command.args(["-c", terminal]).arg(recorder.get_program()).args(recorder.get_args());
        let ended = Running::start(command.args(["-c", "agentsight-nobody"])).end();
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        let reader = Reader::open(&output).unwrap();
        assert_eq!(*reader.completeness(), Completeness::Complete);
        assert_eq!(reader.metadata()["agentsight.stop_reason"], "SIGHUP");
    });
}
