//! How a recording begins and ends, and that the recorded command does not notice it.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::host::{Host, live};
use super::recorder::{Ended, Recording, Running, record, recorder};
use super::trace::Trace;

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn record_shell(host: &Host, script: &str) -> (Ended, Trace) {
    let output = host.path("run.parquet");
    let ended = record::<&str>(&output, &[], &mut shell(script));
    (ended, Trace::open(&output))
}

#[test]
fn the_exit_code_of_the_command_is_the_recorders() {
    live(|host| {
        let (ended, trace) = record_shell(host, "exit 7");
        assert_eq!(ended.status.code(), Some(7), "{}", ended.stderr);
        let row = trace.row("select comm, argv, exit_code, signal from processes");
        assert_eq!(row["argv"], serde_json::json!(["sh", "-c", "exit 7"]));
        assert_eq!(row["exit_code"], 7);
        assert!(row["signal"].is_null());
    });
}

#[test]
fn a_command_ended_by_a_signal_is_reported_as_shells_do() {
    live(|host| {
        let (ended, trace) = record_shell(host, "kill -KILL $$");
        let reported = ended.status.code() == Some(128 + 9) || ended.status.signal() == Some(9);
        assert!(reported, "{}: {}", ended.status, ended.stderr);
        let row = trace.row("select exit_code, signal from processes");
        assert_eq!((&row["exit_code"], &row["signal"]), (&serde_json::Value::Null, &9.into()));
    });
}

#[test]
fn a_command_that_does_not_exist_is_an_error_and_not_an_empty_trace() {
    live(|host| {
        let output = host.path("run.parquet");
        let mut command = Command::new("no-such-program-anywhere");
        let ended = record::<&str>(&output, &[], &mut command);
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("no-such-program-anywhere"), "{}", ended.stderr);
        assert!(!output.exists(), "an output was left behind");
    });
}

#[test]
fn a_process_that_does_not_exist_is_an_error_that_says_how_to_wait_for_one() {
    live(|host| {
        let output = host.path("run.parquet");
        // Beyond PID_MAX_LIMIT of every kernel configuration.
        let mut recorder = recorder(&output);
        let ended = Running::start(recorder.args(["-p", "4194305"])).end();
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("there is no process 4194305"), "{}", ended.stderr);
        assert!(ended.stderr.contains("hint: to wait for a process"), "{}", ended.stderr);
        assert!(!output.exists(), "an output was left behind");
    });
}

#[test]
fn input_and_output_of_the_command_pass_through() {
    live(|host| {
        let mut cat = recorder(&host.path("run.parquet"));
        cat.args(["--", "cat"]).stdin(Stdio::piped());
        let mut running = Running::start(&mut cat);
        running.stdin().write_all("übertragen\n".as_bytes()).unwrap();
        let ended = running.end().succeeded();
        assert_eq!(ended.stdout, "übertragen\n");
    });
}

#[test]
fn a_signal_to_the_recorder_reaches_the_command_which_decides() {
    live(|host| {
        let output = host.path("run.parquet");
        let script = "trap 'exit 9' TERM; echo armed >&2; while :; do sleep 0.05; done";
        let mut running = Running::start(recorder(&output).args(["--", "sh", "-c", script]));
        running.says("armed");
        running.signal("TERM");
        let ended = running.end();
        assert_eq!(ended.status.code(), Some(9), "{}", ended.stderr);
        let trace = Trace::open(&output);
        let code = trace.value("select exit_code from processes where argv[1] = 'sh'");
        assert_eq!(code, 9);
    });
}

#[test]
fn the_recording_ends_with_the_last_descendant_and_not_with_the_command() {
    live(|host| {
        let (ended, trace) = record_shell(host, "(sleep 0.7; exit 4) & exit 3");
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        let codes = trace.rows("select exit_code from processes order by exit_code");
        let codes: Vec<_> = codes.iter().map(|row| row["exit_code"].as_i64().unwrap()).collect();
        assert_eq!(codes, [0, 3, 4], "sleep, the command, its orphan{}", trace.summary());
    });
}

#[test]
fn the_process_tree_has_arguments_times_and_parents() {
    live(|host| {
        let script = "sleep 0.2; sh -c 'exit 5' 'zwölf – 十二'; true";
        let (_, trace) = record_shell(host, script);
        let row = trace.row(
            "select child.argv, child.exit_code, child.cwd, child.exe, \
             parent.exit_code as parent_exit_code, \
             cast(child.end_ts as bigint) - cast(child.start_ts as bigint) as age_ns \
             from processes child join processes parent on child.ppid = parent.pid \
             where child.exit_code = 5",
        );
        assert_eq!(row["argv"], serde_json::json!(["sh", "-c", "exit 5", "zwölf – 十二"]));
        assert_eq!(row["parent_exit_code"], 0);
        assert_eq!(row["cwd"], std::env::current_dir().unwrap().to_str().unwrap());
        assert!(Path::new(row["exe"].as_str().unwrap()).is_absolute(), "{row}");
        // A start time is floored to a clock tick of 10 ms.
        let age_ns = row["age_ns"].as_i64().unwrap();
        assert!((0..10_000_000_000).contains(&age_ns), "{row}");
        let sleep = trace.row(
            "select cast(end_ts as bigint) - cast(start_ts as bigint) as age_ns \
             from processes where argv[1] = 'sleep'",
        );
        let slept_ns = sleep["age_ns"].as_i64().unwrap();
        assert!((200_000_000..1_000_000_000).contains(&slept_ns), "{sleep}");
    });
}

#[test]
fn samples_show_a_busy_process_as_one_core() {
    live(|host| {
        let python = super::client::python();
        let script = "import time\nwhile time.process_time() < 1.5: pass";
        let output = host.path("run.parquet");
        let mut busy = Command::new(python);
        record(&output, &["--interval", "100ms"], busy.args(["-c", script])).succeeded();
        let trace = Trace::open(&output);
        let row = trace.row(
            "select count(*) as samples, max(cpu_percent) as most, \
             max(rss_bytes) as rss_bytes, max(threads) as threads from samples",
        );
        assert!(row["samples"].as_i64().unwrap() >= 10, "{row}");
        let most = row["most"].as_f64().unwrap();
        assert!((60.0..=125.0).contains(&most), "{row}");
        assert!(row["rss_bytes"].as_i64().unwrap() > 4 << 20, "{row}");
        assert_eq!(row["threads"], 1);
        let cpu_ms = trace.value("select cpu_ms from processes").as_f64().unwrap();
        assert!((1_450.0..2_500.0).contains(&cpu_ms), "{cpu_ms}");
    });
}

#[test]
fn the_command_and_the_trace_belong_to_the_user_behind_sudo() {
    live(|host| {
        const NOBODY: u32 = 65534;
        let output = host.path("run.parquet");
        let mut sudo = recorder(&output);
        sudo.args(["--", "sh", "-c", "id -u; id -g; cat /proc/self/status | grep CapEff"]);
        for name in ["SUDO_UID", "SUDO_GID"] {
            sudo.env(name, NOBODY.to_string());
        }
        let ended = Running::start(&mut sudo).end().succeeded();
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(lines[..2], ["65534", "65534"]);
        assert!(lines[2].trim_end().ends_with("0000000000000000"), "{}", lines[2]);
        let file = std::fs::metadata(&output).unwrap();
        assert_eq!((file.uid(), file.gid(), file.mode() & 0o777), (NOBODY, NOBODY, 0o600));
        let uids = Trace::open(&output).rows("select distinct uid from events where uid > 0");
        assert_eq!(uids.len(), 1, "{uids:?}");
    });
}

#[test]
fn each_stop_signal_leaves_a_complete_trace() {
    for signal in ["INT", "TERM"] {
        live(|host| {
            let output = host.path("run.parquet");
            let recording = Recording::start(&output, &["-c", "agentsight-nobody"]);
            let trace = Trace::open(&recording.stop_by(signal));
            assert!(trace.number("select count(*) from trace_info") > 0);
            assert_eq!(trace.number("select count(*) from processes"), 0);
        });
    }
}

#[test]
fn a_duration_ends_a_recording_of_nobody_which_says_that_it_waits() {
    live(|host| {
        let output = host.path("run.parquet");
        let mut command = recorder(&output);
        command.args(["-c", "agentsight-nobody", "--duration", "500ms"]);
        let ended = Running::start(&mut command).end().succeeded();
        assert!(ended.stderr.contains("agentsight-nobody"), "{}", ended.stderr);
        assert!(Trace::open(&output).number("select count(*) from trace_info") > 0);
    });
}

#[test]
fn an_existing_output_is_kept_unless_told_otherwise() {
    live(|host| {
        let output = host.write("run.parquet", "precious");
        let refused = record::<&str>(&output, &[], &mut shell("exit 0"));
        assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "precious");
        record(&output, &["--force"], &mut shell("exit 0")).succeeded();
        assert_eq!(Trace::open(&output).number("select count(*) from processes"), 1);
    });
}
