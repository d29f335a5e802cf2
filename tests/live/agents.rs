//! Agents and runtimes from npm whose TLS is inside their program: each is recorded to the byte.
//!
//! `make test-agents` installs them into the cache, which takes gigabytes and minutes; any other run
//! of the tests uses those that are there and says which are not. They run with a home directory, a
//! key and a network of their own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::client::{Task, cache};
use super::clients::records;
use super::compare::{Expected, nothing_lost};
use super::host::{Host, live, skip};
use super::recorder::record;
use super::support::mock::Server;
use super::support::mock::answer::Answer;
use super::support::mock::coding::Coding;
use super::support::mock::script::{ANTHROPIC_PATH, Delivery, Reply, Rule, Script, When};
use super::trace::Trace;

/// The key that agents have; nothing of it may be recorded.
pub const KEY: &str = "not-a-real-key-0123456789abcdef";

/// A program of a package from npm, or why it is not there.
pub fn program(package: &str, version: &str, name: &str) -> Result<PathBuf, String> {
    let prefix = cache()?.join(format!("npm-{name}-{version}"));
    let program = prefix.join("node_modules/.bin").join(name);
    if program.exists() {
        return Ok(program);
    }
    if std::env::var_os("AGENTSIGHT_TEST_AGENTS").is_none_or(|value| value == "0") {
        return Err(format!("{package}@{version} is not installed; `make test-agents` does it"));
    }
    std::fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&prefix);
    npm.arg(format!("{package}@{version}")).stdin(Stdio::null());
    let output = npm.output().map_err(|error| format!("npm: {error}"))?;
    if program.exists() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim().lines().last().unwrap_or_default().to_owned();
    Err(format!("npm could not install {package}@{version}: {last}"))
}

/// Installs while there is a network, then runs the test where there is none.
fn live_with(package: &str, version: &str, name: &str, test: impl FnOnce(&Host, PathBuf) + Send) {
    match program(package, version, name) {
        Err(reason) => skip(&reason),
        Ok(program) => live(|host| test(host, program)),
    }
}

fn records_bun(version: &str) {
    live_with("bun", version, "bun", |host, program| {
        records(host, |task: &Task| task.bun(host, &program));
    });
}

#[test]
fn bun_1_1_is_recorded_to_the_byte() {
    records_bun("1.1.45");
}

#[test]
fn bun_1_2_is_recorded_to_the_byte() {
    records_bun("1.2.23");
}

#[test]
fn bun_1_3_is_recorded_to_the_byte() {
    records_bun("1.3.14");
}

#[test]
fn bun_1_4_is_recorded_to_the_byte() {
    records_bun("1.4.5");
}

/// Gemini CLI with a key, told `prompt`; `home` is to be its home directory.
pub fn gemini_cli(host: &Host, program: &Path, url: &str, prompt: &str) -> Command {
    let settings = json!({"security": {"auth": {"selectedType": "gemini-api-key"}}});
    std::fs::create_dir_all(host.path("home/.gemini")).unwrap();
    host.write("home/.gemini/settings.json", &settings.to_string());
    let mut agent = Command::new(program);
    agent.args(["-p", prompt, "-m", "gemini-2.5-flash", "--skip-trust", "--yolo"]);
    agent.env("GEMINI_API_KEY", KEY).env("GOOGLE_GEMINI_BASE_URL", url);
    agent
}

/// OpenCode with a model of Anthropic, told `prompt`.
pub fn opencode(program: &Path, url: &str, prompt: &str) -> Command {
    let model = "claude-sonnet-4-5";
    let config = json!({
        "model": format!("anthropic/{model}"),
        "small_model": format!("anthropic/{model}"),
        "share": "disabled",
        "autoupdate": false,
        "permission": {"bash": "allow"},
        "provider": {"anthropic": {
            "options": {"baseURL": format!("{url}/v1"), "apiKey": KEY},
            "models": {model: {"name": "Model"}},
        }},
    });
    let mut agent = Command::new(program);
    agent.args(["run", prompt]);
    agent.env("OPENCODE_CONFIG_CONTENT", config.to_string());
    agent.env("OPENCODE_DISABLE_MODELS_FETCH", "1").env("OPENCODE_DISABLE_LSP_DOWNLOAD", "1");
    agent
}

/// Gives an agent a home, a key to trust and nothing of the user's.
pub fn at_home(host: &Host, agent: &mut Command) {
    let home = host.path("home");
    std::fs::create_dir_all(&home).unwrap();
    agent.env("HOME", &home).current_dir(&home).stdin(Stdio::null());
    agent.env("NODE_EXTRA_CA_CERTS", host.path("ca.pem"));
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
        agent.env_remove(variable);
    }
}

/// Runs an agent against a server and holds its plaintext against what the server saw.
fn records_agent(host: &Host, script: Script, agent: impl FnOnce(&str) -> Command, says: &str) {
    let server = Server::start(script).unwrap();
    server.write_ca(&host.path("ca.pem")).unwrap();
    let mut agent = agent(&server.url());
    at_home(host, &mut agent);
    let output = host.path("run.parquet");
    let ended = record(&output, &["--interval", "100ms"], &mut agent);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains(says), "the agent said: {said}");
    let trace = Trace::open(&output);
    nothing_lost(&trace);
    Expected::all(&server.stop()).hiding(&[KEY]).check_plaintext(&trace);
}

#[test]
fn gemini_cli_is_recorded_to_the_byte() {
    live_with("@google/gemini-cli", "0.61.0", "gemini", |host, program| {
        let chunk = json!({
            "candidates": [{
                "content": {"role": "model", "parts": [{"text": "Done: nothing to do. ✓"}]},
                "finishReason": "STOP",
                "index": 0,
            }],
            "usageMetadata": {
                "promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15,
            },
        });
        let reply = Reply::Document {
            status: 200,
            content_type: "text/event-stream".into(),
            body: format!("data: {chunk}\r\n\r\n").into_bytes(),
        };
        let script = Script::of(vec![Rule::new(When::default(), reply)]);
        let agent = |url: &str| gemini_cli(host, &program, url, "Say that you are done.");
        records_agent(host, script, agent, "Done: nothing to do.");
    });
}

#[test]
fn opencode_is_recorded_to_the_byte() {
    live_with("opencode-ai", "1.18.33", "opencode", |host, program| {
        let answer = Reply::Answer(Answer::text("Done: nothing to do. ✓"));
        let script = Script::of(vec![
            Rule::new(When::path(ANTHROPIC_PATH), answer)
                .delivered(Delivery { coding: Some(Coding::Gzip), ..Delivery::default() }),
        ]);
        let agent = |url: &str| opencode(&program, url, "Say that you are done.");
        records_agent(host, script, agent, "Done: nothing to do.");
    });
}
