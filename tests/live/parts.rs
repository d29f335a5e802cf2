//! Long recordings: snapshots while it goes on, triggers, the flight recorder, numbered files, and
//! the jobs that make one trace of them again.

use std::path::Path;
use std::process::Command;

use super::client::{REQUESTS, Task, script};
use super::compare::Expected;
use super::host::{Host, PATIENCE, live, until};
use super::recorder::{Ended, Recording, Running, record, recorder};
use super::support::mock::Server;
use super::support::mock::truth::Truth;
use super::trace::Trace;

/// The recorder's program for another job than recording.
fn job<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-rec"));
    Running::start(command.args(arguments)).end()
}

fn first_call_done(truth: &Truth) -> bool {
    truth.llm_calls().first().is_some_and(|call| call.complete)
}

fn calls(trace: &Trace) -> i64 {
    trace.number("select count(*) from llm_calls where complete")
}

fn info(trace: &Trace, key: &str) -> String {
    let sql = format!("select value from trace_info where key = 'agentsight.{key}'");
    trace.value(&sql).as_str().unwrap().to_owned()
}

fn numbered(output: &Path, word: &str, number: u32) -> std::path::PathBuf {
    output.with_file_name(format!("run-{word}{number:04}.parquet"))
}

/// A python client that has sent its first request and waits, recorded with `arguments`.
fn half_way(host: &Host, arguments: &[&str], act: impl FnOnce(&mut Recording, &Path, &dyn Fn())) {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server).waiting(host);
    let output = host.path("run.parquet");
    let name = format!("agentsight-live-parts-{}.py", std::process::id());
    let mut options = vec!["-c", &name, "--interval", "100ms"];
    options.extend(arguments);
    let mut recording = Recording::start(&output, &options);
    let client = Running::start(&mut task.python(host, &name));
    assert!(server.wait_for(PATIENCE, first_call_done).is_ok(), "{}", client.stderr());
    let go_on = || task.release();
    act(&mut recording, &output, &go_on);
    client.end().succeeded();
    let truth = server.stop();
    assert_eq!(truth.llm_calls().len(), REQUESTS);
    let expected = Expected::all(&truth);
    let ring = arguments.contains(&"--ring");
    expected.check(&Trace::open(&recording.stop()));
    if ring {
        assert!(!output.with_file_name("run.parquet.ring").exists(), "the parts are gone");
    }
}

fn take_snapshot(recording: &mut Recording, output: &Path) -> Trace {
    recording.running().signal("USR1");
    recording.running().says("snapshot (SIGUSR1): ");
    Trace::open(&numbered(output, "snapshot-", 1))
}

#[test]
fn a_snapshot_holds_what_was_so_far_and_the_recording_goes_on() {
    for arguments in [&[][..], &["--ring", "10m"]] {
        live(|host| {
            half_way(host, arguments, |recording, output, go_on| {
                // The client may not have read yet all that the server has sent.
                let ring = output.with_file_name("run.parquet.ring").join("000001.parquet");
                let part = if arguments.is_empty() { output } else { ring.as_path() };
                until("the first call in the running recording", || calls(&Trace::open(part)) == 1);
                let snapshot = take_snapshot(recording, output);
                assert_eq!(calls(&snapshot), 1, "{}", snapshot.summary());
                assert_eq!(info(&snapshot, "stop_reason"), "snapshot");
                assert!(info(&snapshot, "snapshot").contains("SIGUSR1"));
                go_on();
            });
        });
    }
}

#[test]
fn a_killed_flight_recorder_leaves_what_repair_makes_a_trace_of() {
    live(|host| {
        let output = host.path("run.parquet");
        let script = "while [ ! -e enough ]; do sh -c 'exit 3'; echo turn >&2; sleep 0.05; done";
        let mut recorder = recorder(&output);
        recorder.args(["--ring", "4s", "--interval", "100ms", "--", "sh", "-c", script]);
        let mut running = Running::start(recorder.current_dir(host.path("")));
        let ring = host.path("run.parquet.ring");
        until("parts to be dropped", || {
            !ring.join("000001.parquet").exists() && ring.join("000006.parquet").exists()
        });
        running.says("turn");
        running.signal("KILL");
        // The command goes on without its recorder, until told otherwise.
        host.write("enough", "");
        let _ = running.end();
        assert!(!output.exists());
        let repaired = job(&["repair".as_ref(), output.as_os_str()]).succeeded();
        assert!(repaired.stderr.contains("rows"), "{}", repaired.stderr);
        assert!(!ring.exists());
        let trace = Trace::open(&output);
        let failed = trace.number("select count(*) from processes where exit_code = 3");
        assert!(failed > 5, "{failed}");
        assert_eq!(info(&trace, "stop_reason"), "killed");
        let shell = "select count(*) from processes where argv[1] = 'sh' and argv[3] like 'while%'";
        assert_eq!(trace.number(shell), 1, "the parts say who it was{}", trace.summary());
        let spans = "select (cast(max(ts) as bigint) - cast(min(ts) as bigint)) / 1000000000 \
                     from events";
        let span_s = trace.number(spans);
        assert!((3..=6).contains(&span_s), "{span_s} s of the last 4");
    });
}

#[test]
fn numbered_files_each_stand_alone_and_merge_into_the_recording() {
    live(|host| {
        let output = host.path("run.parquet");
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sh -c 'exit 4'; sleep 0.4; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let arguments = ["--rotate-time", "1s", "--interval", "100ms"];
        let ended = record(&output, &arguments, &mut command).succeeded();
        assert!(!output.exists(), "{}", ended.stderr);
        let files: Vec<_> = (1..)
            .map(|number| numbered(&output, "", number))
            .take_while(|path| path.exists())
            .collect();
        assert!(files.len() >= 3, "{files:?}");
        // The last may have begun when the shell had ended.
        for file in &files[..files.len() - 1] {
            let shells = Trace::open(file).number(
                "select count(*) from processes where argv[1] = 'sh' and argv[3] like 'for%'",
            );
            assert_eq!(shells, 1, "{}", file.display());
        }
        let merged = host.path("merged.parquet");
        let mut arguments = vec!["merge".into(), "-o".into(), merged.clone()];
        arguments.extend(files);
        job(&arguments).succeeded();
        let trace = Trace::open(&merged);
        let failed = "select count(*) from processes where exit_code = 4";
        assert_eq!(trace.number(failed), 9, "{}", trace.summary());
        let unique = "select count(*) - count(distinct seq) from events";
        assert_eq!(trace.number(unique), 0);

        // And a range of it, by the command line.
        let part = host.path("part.parquet");
        let range = ["--from", "+1s", "--to", "-1s"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-rec"));
        let command = command.arg("cut").arg(&merged).args(range).arg("-o").arg(&part);
        Running::start(command).end().succeeded();
        let within = Trace::open(&part).number(failed);
        assert!((2..=6).contains(&within), "{within}");
        let refused = Running::start(command).end();
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    });
}

#[test]
fn a_failing_process_triggers_a_snapshot_that_shows_it() {
    live(|host| {
        let output = host.path("run.parquet");
        let snapshot = numbered(&output, "snapshot-", 1);
        let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", snapshot.display());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("sh -c 'exit 0'; sh -c 'exit 41'; {wait}; exit 0")]);
        let arguments = ["--snapshot-on", "exit-code=41", "--snapshot-on", "rss>100GB"];
        let ended = record(&output, &arguments, &mut command).succeeded();
        assert!(ended.stderr.contains("snapshot (exit-code=41)"), "{}", ended.stderr);
        let trace = Trace::open(&snapshot);
        assert_eq!(trace.number("select count(*) from processes where exit_code = 41"), 1);
        assert!(!numbered(&output, "snapshot-", 2).exists(), "{}", ended.stderr);
    });
}

#[test]
fn words_of_an_answer_trigger_a_snapshot_with_the_request_before_it() {
    live(|host| {
        let arguments = ["--ring", "10m", "--snapshot-on", "text=event: message_st.p"];
        half_way(host, &arguments, |recording, output, go_on| {
            recording.running().says("snapshot (text=");
            let snapshot = Trace::open(&numbered(output, "snapshot-", 1));
            let requests = "select count(*) from llm_calls where request_model = 'claude-mock-1'";
            assert_eq!(snapshot.number(requests), 1, "{}", snapshot.summary());
            go_on();
        });
    });
}

#[test]
fn a_trace_of_the_asked_size_ends_and_the_command_goes_on() {
    live(|host| {
        let output = host.path("run.parquet");
        let script = "i=0; while [ ! -e go ]; do sh -c true; done; echo went on; exit 6";
        let mut recorder = recorder(&output);
        recorder.args([
            "--max-size",
            "128KB",
            "--interval",
            "100ms",
            "--no-files",
            "--",
            "sh",
            "-c",
            script,
        ]);
        let mut running = Running::start(recorder.current_dir(host.path("")));
        running.says("the recording has ended; the command goes on");
        host.write("go", "");
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(6), "{}", ended.stderr);
        assert_eq!(ended.stdout, "went on\n");
        let trace = Trace::open(&output);
        assert_eq!(info(&trace, "stop_reason"), "max_size");
        assert!(output.metadata().unwrap().len() <= 160 << 10);
    });
}

#[test]
fn options_that_contradict_each_other_are_refused_with_a_hint() {
    for (arguments, words) in [
        (&["--ring", "10M"][..], "10min"),
        (&["--ring", "10m", "--rotate-size", "1MB"], "exclude each other"),
        (&["--keep", "3"], "--rotate-size"),
        (&["--snapshot-on", "load>3"], "cpu>90%"),
        (&["--max-size", "500"], "unit"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-rec"));
        let ended = Running::start(command.args(arguments).args(["--", "true"])).end();
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}
