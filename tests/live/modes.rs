//! However a process comes under observation, what it says from then on is recorded whole.

use super::client::{REQUESTS, Task, script};
use super::compare::Expected;
use super::host::{Host, PATIENCE, live};
use super::recorder::{Recording, Running};
use super::support::mock::Server;
use super::support::mock::truth::Truth;
use super::trace::Trace;

/// A script name that no other process on the host has.
fn unique_name() -> String {
    format!("agentsight-live-{}.py", std::process::id())
}

fn first_call_done(truth: &Truth) -> bool {
    truth.llm_calls().first().is_some_and(|call| call.complete)
}

#[test]
fn a_name_given_before_the_client_starts_records_all_of_it() {
    live(|host| {
        let server = Server::start(script()).unwrap();
        let task = Task::new(host, &server);
        let name = unique_name();
        let output = host.path("run.parquet");
        let recording = Recording::start(&output, &["-c", &name, "--interval", "100ms"]);
        Running::start(&mut task.python(host, &name)).end().succeeded();
        let trace = Trace::open(&recording.stop());
        let truth = server.stop();
        assert_eq!(truth.llm_calls().len(), REQUESTS);
        Expected::all(&truth).check(&trace);
    });
}

/// Records a client that has sent its first request already.
fn joins_late(host: &Host, arguments: impl FnOnce(&str, u32) -> [String; 2]) {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server).waiting(host);
    let name = unique_name();
    let client = Running::start(&mut task.python(host, &name));
    assert!(server.wait_for(PATIENCE, first_call_done).is_ok(), "{}", client.stderr());

    let output = host.path("run.parquet");
    let recording = Recording::start(&output, &arguments(&name, client.pid()));
    task.release();
    let pid = client.pid();
    client.end().succeeded();
    let trace = Trace::open(&recording.stop());
    let truth = server.stop();
    assert_eq!(truth.llm_calls().len(), REQUESTS);
    Expected::after(&truth, 1).check(&trace);
    let seen = trace.number(&format!("select count(*) from processes where pid = {pid}"));
    assert_eq!(seen, 1, "{}", trace.summary());
}

#[test]
fn a_name_given_while_the_client_runs_records_the_rest() {
    live(|host| joins_late(host, |name, _| ["-c".into(), name.into()]));
}

#[test]
fn a_process_given_by_its_id_is_recorded_from_then_on() {
    live(|host| joins_late(host, |_, pid| ["-p".into(), pid.to_string()]));
}

#[test]
fn a_client_started_by_a_recorded_shell_is_recorded_too() {
    live(|host| {
        let server = Server::start(script()).unwrap();
        let task = Task::new(host, &server);
        let python = task.python(host, "client.py");
        let words: Vec<_> = std::iter::once(python.get_program())
            .chain(python.get_args())
            .map(|word| format!("'{}'", word.to_str().unwrap()))
            .collect();
        let mut shell = std::process::Command::new("sh");
        // Two levels, and a shell that lives on to report the client's exit code.
        shell.args(["-c", &format!("sh -c \"{}; exit \\$?\"; exit $?", words.join(" "))]);
        let output = host.path("run.parquet");
        super::recorder::record::<&str>(&output, &[], &mut shell).succeeded();
        let trace = Trace::open(&output);
        Expected::all(&server.stop()).check(&trace);
        let depth = trace.number(
            "select count(*) from processes child \
             join processes parent on child.ppid = parent.pid \
             join processes root on parent.ppid = root.pid where child.exit_code = 0",
        );
        assert_eq!(depth, 1, "{}", trace.summary());
    });
}
