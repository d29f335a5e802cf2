//! Every TLS client is recorded to the byte, launched by the recorder.

use std::process::Command;

use super::client::{REQUESTS, Task, script};
use super::compare::Expected;
use super::host::{Host, live, skip};
use super::recorder::record;
use super::support::mock::Server;
use super::trace::Trace;

/// Records the command that `client` makes for a task and checks all of it.
fn records(host: &Host, client: impl FnOnce(&Task) -> Command) {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server);
    let output = host.path("run.parquet");
    record(&output, &["--interval", "100ms"], &mut client(&task)).succeeded();
    let truth = server.stop();
    let served = truth.connections.iter().filter(|c| !c.exchanges.is_empty()).count();
    assert_eq!((served, truth.llm_calls().len()), (1, REQUESTS), "the client did its task");
    Expected::all(&truth).check(&Trace::open(&output));
}

#[test]
fn python_is_recorded_to_the_byte() {
    live(|host| records(host, |task| task.python(host, "client.py")));
}

#[test]
fn node_https_is_recorded_to_the_byte() {
    live(|host| records(host, |task| task.node(host, "https")));
}

#[test]
fn node_fetch_is_recorded_to_the_byte() {
    live(|host| records(host, |task| task.node(host, "fetch")));
}

#[test]
fn curl_is_recorded_to_the_byte() {
    live(|host| {
        let version = Command::new("curl").arg("--version").output().unwrap();
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let first = version.lines().next().unwrap_or_default();
        if !first.contains(" OpenSSL/") {
            return skip(&format!("this curl does not use OpenSSL: {first}"));
        }
        records(host, |task| task.curl(host));
    });
}
