//! Codex, the real agent, through both of its routes to a model: HTTP with server-sent events, and a
//! WebSocket.
//!
//! The agent comes from npm into a cache outside the checkout (`AGENTSIGHT_CACHE_DIR`), or is named
//! by `AGENTSIGHT_TEST_CODEX`. It runs with a home directory, a key and a network of its own. What it
//! sends holds its vendor's texts: nothing of it is kept.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::host::{Host, PATIENCE, live, skip};
use super::recorder::record;
use super::streams::{Recorded, Streams};
use super::support::codex;
use super::support::mock::answer::Answer;
use super::support::mock::responses::RESPONSES_PATH;
use super::support::mock::script::{Reply, Rule, Script, When};
use super::support::mock::truth::Truth;
use super::support::mock::{Options, Server};

/// The key that the agent has.
const KEY: &str = "sk-not-a-real-key-0123456789";
/// What the model says, so often that it takes several TLS records.
const ANSWER: &str = "Grüße aus der Attrappe: 你好, 🌍! ";
const REPEATS: usize = 2_000;

/// Installs the agent while there is a network, then runs the test where there is none.
fn live_with_agent(test: impl FnOnce(&Host, PathBuf) + Send) {
    match codex::installed() {
        Err(reason) => skip(&reason),
        Ok(program) => live(|host| test(host, program)),
    }
}

/// How the agent comes to trust the mock, which decides its TLS library for HTTP: it takes its own
/// OpenSSL, but rustls when it is given a certificate to trust. WebSockets always go through rustls.
#[derive(Clone, Copy)]
enum Trust {
    /// A directory of certificates as OpenSSL has them: it is not told of any.
    Directory,
    /// A file that it is told of.
    File,
}

/// A directory with the certificate in `ca` under the name by which OpenSSL finds it.
fn certificate_directory(host: &Host, ca: &Path) -> PathBuf {
    let mut openssl = Command::new("openssl");
    let output = openssl.args(["x509", "-noout", "-hash", "-in"]).arg(ca).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let hash = String::from_utf8(output.stdout).unwrap();
    let directory = host.path("certificates");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::copy(ca, directory.join(format!("{}.0", hash.trim()))).unwrap();
    directory
}

/// What the agent is told: one question to the model that the mock plays.
fn agent(host: &Host, program: PathBuf, server: &Server, trust: Trust, websocket: bool) -> Command {
    let home = host.path("home");
    std::fs::create_dir_all(home.join(".codex")).unwrap();
    let ca = host.path("ca.pem");
    server.write_ca(&ca).unwrap();
    let config = format!(
        "model = \"gpt-5\"\nmodel_provider = \"mock\"\n[model_providers.mock]\nname = \"mock\"\n\
         base_url = \"{}/v1\"\nenv_key = \"MOCK_KEY\"\nwire_api = \"responses\"\n\
         supports_websockets = {websocket}\nrequest_max_retries = 0\nstream_max_retries = 0\n",
        server.url()
    );
    std::fs::write(home.join(".codex/config.toml"), config).unwrap();
    let mut agent = Command::new(program);
    agent.args(["exec", "--skip-git-repo-check", "--sandbox", "read-only", "Say hello."]);
    agent
        .env("HOME", &home)
        .env("CODEX_HOME", home.join(".codex"))
        .env("MOCK_KEY", KEY)
        .env_remove("OPENAI_API_KEY")
        .env_remove("SSL_CERT_FILE")
        .env_remove("CODEX_CA_CERTIFICATE")
        .stdin(Stdio::null())
        .current_dir(&home);
    match trust {
        Trust::Directory => agent.env("SSL_CERT_DIR", certificate_directory(host, &ca)),
        Trust::File => agent.env("CODEX_CA_CERTIFICATE", &ca),
    };
    agent
}

fn answer() -> Answer {
    Answer { delta_chars: 700, ..Answer::text(&ANSWER.repeat(REPEATS)) }
}

/// Answers the model's path by POST, and everything else it is asked for with an empty document.
fn over_http() -> Vec<Rule> {
    let when = When { method: Some("POST".into()), ..When::path(RESPONSES_PATH) };
    vec![Rule::new(when, Reply::Answer(answer()))]
}

fn on_upgrade(reply: Reply) -> Rule {
    Rule::new(When { method: Some("GET".into()), ..When::path(RESPONSES_PATH) }, reply)
}

/// Records one session and compares; returns what was recorded.
#[track_caller]
fn recorded(
    host: &Host,
    program: PathBuf,
    rules: Vec<Rule>,
    trust: Trust,
    websocket: bool,
) -> Recorded {
    recorded_from(host, program, Server::start(Script::of(rules)).unwrap(), trust, websocket)
}

/// The same for any server.
#[track_caller]
fn recorded_from(
    host: &Host,
    program: PathBuf,
    server: Server,
    trust: Trust,
    websocket: bool,
) -> Recorded {
    let output = host.path("run.parquet");
    let mut agent = agent(host, program, &server, trust, websocket);
    let ended = record(&output, &["--no-redact"], &mut agent);
    let closed = |truth: &Truth| {
        !truth.connections.is_empty()
            && truth.connections.iter().all(|connection| connection.closed_ts.is_some())
    };
    let truth = server.wait_for(PATIENCE, closed).unwrap_or_else(|truth| {
        panic!("{} connections, not all closed; the agent: {ended:?}", truth.connections.len())
    });
    assert!(ended.stdout.contains("Grüße"), "the agent did not get its answer: {ended:?}");
    let recorded = Recorded::open(&output);
    recorded.assert_equals(&truth);
    recorded
}

/// The connection whose first response begins like this.
#[track_caller]
fn answered(recorded: &Recorded, status: &str) -> Streams {
    let begins = |streams: &&Streams| streams.read.starts_with(status.as_bytes());
    let found = recorded.connections.values().find(begins);
    found.unwrap_or_else(|| panic!("no connection was answered with {status}")).clone()
}

fn http_is_recorded_whole(trust: Trust, library: &str) {
    live_with_agent(|host, program| {
        let recorded = recorded(host, program, over_http(), trust, false);
        let carrier = answered(&recorded, "HTTP/1.1 200");
        assert_eq!(carrier.library, library);
        assert!(carrier.read.len() > ANSWER.len() * REPEATS, "{} bytes", carrier.read.len());
    });
}

#[test]
fn codex_over_http_through_openssl_is_recorded_whole() {
    http_is_recorded_whole(Trust::Directory, "openssl");
}

#[test]
fn codex_over_http_through_rustls_is_recorded_whole() {
    http_is_recorded_whole(Trust::File, "rustls");
}

#[test]
fn codex_whose_websocket_is_refused_is_recorded_whole() {
    live_with_agent(|host, program| {
        let reply =
            Reply::Document { status: 426, content_type: "text/plain".into(), body: Vec::new() };
        let mut rules = over_http();
        rules.push(on_upgrade(reply));
        let recorded = recorded(host, program, rules, Trust::Directory, true);
        assert_eq!(answered(&recorded, "HTTP/1.1 426").library, "rustls");
        assert_eq!(answered(&recorded, "HTTP/1.1 200").library, "openssl");
    });
}

#[test]
fn codex_over_a_websocket_is_recorded_whole() {
    live_with_agent(|host, program| {
        let rules = vec![on_upgrade(Reply::WebSocket(answer()))];
        let recorded = recorded(host, program, rules, Trust::File, true);
        let upgraded = answered(&recorded, "HTTP/1.1 101");
        assert_eq!(upgraded.library, "rustls");
        assert!(upgraded.read.len() > ANSWER.len() * REPEATS, "{} bytes", upgraded.read.len());
    });
}

/// TLS 1.2 has a state of its own in rustls, with a call of its own for what arrives.
#[test]
fn codex_over_tls_1_2_is_recorded_whole() {
    live_with_agent(|host, program| {
        let options = Options { keep_plaintext: true, tls12_only: true, ..Options::default() };
        let rules = vec![on_upgrade(Reply::WebSocket(answer()))];
        let server = Server::start_with(Script::of(rules), options).unwrap();
        let recorded = recorded_from(host, program, server, Trust::File, true);
        let upgraded = answered(&recorded, "HTTP/1.1 101");
        assert_eq!(upgraded.library, "rustls");
        assert!(upgraded.read.len() > ANSWER.len() * REPEATS, "{} bytes", upgraded.read.len());
    });
}
