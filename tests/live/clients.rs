//! Every TLS client is recorded to the byte, launched by the recorder.

use std::process::Command;

use serde_json::json;

use super::client::{REQUESTS, Task, script};
use super::compare::Expected;
use super::host::{Host, live, skip};
use super::recorder::record;
use super::support::mock::Server;
use super::support::mock::answer::Answer;
use super::support::mock::script::{ANTHROPIC_PATH, Delivery, Failure, Reply, Rule, Script, When};
use super::trace::Trace;

/// Records the command that `client` makes for a task and checks all of it.
pub fn records(host: &Host, client: impl FnOnce(&Task) -> Command) {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server);
    let output = host.path("run.parquet");
    record(&output, &["--interval", "100ms"], &mut client(&task)).succeeded();
    let truth = server.stop();
    assert_eq!(truth.llm_calls().len(), REQUESTS, "the client did its task");
    Expected::all(&truth).check(&Trace::open(&output));
}

#[test]
fn python_is_recorded_to_the_byte() {
    live(|host| records(host, |task| task.python(host, "client.py")));
}

/// A refusal with a retry, a stream that ends in an error and one that is cut off.
fn failing_script() -> Script {
    let refusal = Reply::Failure(Failure {
        status: 429,
        error_type: "rate_limit_error".into(),
        message: "slow down".into(),
        retry_after_s: Some(1),
    });
    let answer = Answer::text("Das wird nichts … 完成 🌍");
    let error = Reply::Answer(Answer { error_after_events: Some(4), ..answer.clone() });
    let cut = Delivery { cut_after_events: Some(4), ..Delivery::default() };
    let rule = |reply| Rule::new(When::path(ANTHROPIC_PATH), reply).times(1);
    Script::of(vec![
        rule(refusal),
        rule(error),
        rule(Reply::Answer(answer.clone())).delivered(cut),
        rule(Reply::Answer(answer)),
    ])
}

#[test]
fn failures_are_recorded_as_they_happened_and_cost_nothing_else() {
    live(|host| {
        let server = Server::start(failing_script()).unwrap();
        let task = Task::new(host, &server);
        let messages = [json!({"role": "user", "content": "Geht das?"})];
        let body = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": messages});
        let request = json!({"path": ANTHROPIC_PATH, "body": body});
        std::fs::write(&task.requests, format!("{request}\n").repeat(4)).unwrap();
        let output = host.path("run.parquet");
        record::<&str>(&output, &[], &mut task.hardened_python(host)).succeeded();
        let truth = server.stop();
        let complete: Vec<bool> = truth.llm_calls().iter().map(|call| call.complete).collect();
        assert_eq!(complete, [true, true, false, true]);
        let trace = Trace::open(&output);
        Expected::all(&truth).check(&trace);
        let cut = trace.value("select completeness_reason from http where not complete");
        assert_eq!(cut, "closed");
    });
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
