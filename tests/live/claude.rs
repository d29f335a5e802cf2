//! Claude Code, the real agent, through a tool call against the mock.
//!
//! Its TLS library is a stripped BoringSSL inside a Bun binary. The agent comes from npm into a
//! cache outside the checkout (`AGENTSIGHT_CACHE_DIR`) and runs with a home directory, a key and a
//! network of its own. What it sends holds its vendor's texts: nothing of it is kept.

use std::env::split_paths;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::client::{cache, python};
use super::compare::Expected;
use super::host::{Host, PATIENCE, live, skip};
use super::recorder::{Recording, Running, record, recorder};
use super::support::mock::Server;
use super::support::mock::coding::Coding;
use super::support::mock::script::{Delivery, Script};
use super::support::mock::split::Split;
use super::support::mock::truth::Truth;
use super::trace::Trace;

/// The version the resolver is known to work with; a newer one is tried by hand.
const VERSION: &str = "2.1.197";
/// The key that the agent has; nothing of it may be recorded.
const KEY: &str = "sk-ant-api03-not-a-real-key-0123456789";
/// Exit code of the scripted command.
const EXIT_CODE: i64 = 23;

/// Uses two seconds of processor and 200 MiB, writes down its own peak and fails on purpose.
const WORK: &str = r#"
import sys, time
data = b"x" * (200 << 20)
while time.process_time() < 2:
    sum(data[:65536])
with open("/proc/self/status") as status:
    peak = next(line for line in status if line.startswith("VmHWM"))
with open(sys.argv[1], "w") as file:
    file.write(peak.split()[1])
sys.exit(int(sys.argv[2]))
"#;

/// Path of the installed agent, or why there is none. Tests run side by side, npm must not.
pub fn installed_agent() -> Result<PathBuf, String> {
    static AGENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    AGENT.get_or_init(install).clone()
}

fn install() -> Result<PathBuf, String> {
    let prefix = cache()?.join("npm");
    let program = prefix.join("node_modules/.bin/claude");
    let manifest = prefix.join("node_modules/@anthropic-ai/claude-code/package.json");
    let installed = || {
        let manifest = std::fs::read_to_string(&manifest).unwrap_or_default();
        program.exists() && manifest.contains(&format!("\"version\": \"{VERSION}\""))
    };
    if !installed() {
        std::fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&prefix);
        npm.arg(format!("@anthropic-ai/claude-code@{VERSION}")).stdin(Stdio::null());
        let output = npm.output().map_err(|error| format!("npm: {error}"))?;
        if !output.status.success() || !installed() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.trim().lines().last().unwrap_or_default().to_owned();
            return Err(format!("npm could not install Claude Code {VERSION}: {last}"));
        }
    }
    Ok(program)
}

/// Installs the agent while there is a network, then runs the test where there is none.
fn live_with_agent(test: impl FnOnce(&Session) + Send) {
    match installed_agent() {
        Err(reason) => skip(&reason),
        Ok(program) => live(|host| test(&Session::new(host, program))),
    }
}

/// One run of the agent.
struct Session<'a> {
    host: &'a Host,
    program: PathBuf,
    server: Server,
    peak: PathBuf,
    gate: PathBuf,
    work: Vec<String>,
}

impl<'a> Session<'a> {
    /// A server that first has the agent wait for a gate, then do the work, then stop.
    fn new(host: &'a Host, program: PathBuf) -> Self {
        let (peak, gate) = (host.path("peak"), host.path("gate"));
        let script = host.write("work.py", WORK);
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let work = [text(&python()), text(&script), text(&peak), EXIT_CODE.to_string()];
        let wait = format!("while [ ! -e {} ]; do sleep 0.05; done", gate.display());
        let delivery = Delivery {
            coding: Some(Coding::Gzip),
            split: Split::InsideUtf8,
            first_byte_delay_ms: 150,
            event_delays_ms: vec![0, 0, 10],
            ..Delivery::default()
        };
        let script = Script::agent(&[&wait, &work.join(" ")], delivery);
        let server = Server::start(script).unwrap();
        server.write_ca(&host.path("ca.pem")).unwrap();
        std::fs::create_dir(host.path("home")).unwrap();
        Self { host, program, server, peak, gate, work: work.to_vec() }
    }

    fn output(&self) -> PathBuf {
        self.host.path("run.parquet")
    }

    fn open_gate(&self) {
        std::fs::write(&self.gate, "").unwrap();
    }

    fn agent(&self) -> Command {
        let mut agent = Command::new(&self.program);
        agent.args(["-p", "Do the scripted work.", "--allowedTools", "Bash"]);
        agent
            .env("HOME", self.host.path("home"))
            .env("ANTHROPIC_BASE_URL", self.server.url())
            .env("ANTHROPIC_API_KEY", KEY)
            .env("NODE_EXTRA_CA_CERTS", self.host.path("ca.pem"))
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_TELEMETRY", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("CLAUDE_CONFIG_DIR")
            .stdin(Stdio::null())
            .current_dir(self.host.path("home"));
        agent
    }

    /// The command the model asked for, as the kernel saw it.
    #[track_caller]
    fn check_work(&self, trace: &Trace) {
        let row = trace.row(&format!(
            "select argv, exit_code, signal, peak_rss_bytes, cpu_ms from processes \
             where argv[2] = '{}'",
            self.work[1]
        ));
        assert_eq!(row["argv"], serde_json::json!(self.work));
        assert_eq!(row["exit_code"], EXIT_CODE);
        let own_kib: f64 = std::fs::read_to_string(&self.peak).unwrap().parse().unwrap();
        let recorded = row["peak_rss_bytes"].as_f64().unwrap();
        let ratio = recorded / (own_kib * 1024.0);
        assert!((0.95..=1.05).contains(&ratio), "peak {recorded} against {own_kib} KiB");
        assert!(row["cpu_ms"].as_f64().unwrap() >= 1_900.0, "{row}");
    }

    /// The agent's own program, as the trace describes it without having run it.
    #[track_caller]
    fn check_binary(&self, trace: &Trace) {
        let program = std::fs::canonicalize(&self.program).unwrap();
        let binaries = trace.info("binaries");
        let agent =
            binaries.as_array().unwrap().iter().find(|b| b["path"] == program.to_str().unwrap());
        let agent = agent.unwrap_or_else(|| panic!("no {program:?} in {binaries}"));
        assert_eq!(agent["version"], VERSION);
        assert_eq!(agent["package"], "@anthropic-ai/claude-code");
        assert_eq!(agent["size_bytes"], std::fs::metadata(&program).unwrap().len());
        assert!(agent["build_id"].as_str().is_some_and(|id| id.len() >= 16), "{agent}");
        assert_eq!(agent["matched"], true);
    }

    /// Checks the session's course and returns what was served.
    #[track_caller]
    fn served(&self, agent_said: &str) -> Truth {
        assert!(agent_said.contains("Done: the command ran."), "the agent said: {agent_said}");
        let closed = |truth: &Truth| truth.connections.iter().all(|c| c.closed_ts.is_some());
        let truth = self.server.wait_for(PATIENCE, closed).unwrap();
        let unscripted: Vec<_> = truth.llm_calls().into_iter().filter(|c| !c.scripted).collect();
        assert!(unscripted.is_empty(), "{unscripted:?}");
        truth
    }
}

/// Whether the agent has been told to wait at the gate.
fn at_the_gate(truth: &Truth) -> bool {
    truth.llm_calls().iter().any(|call| call.stop_reason.as_deref() == Some("tool_use"))
}

#[test]
fn claude_code_launched_by_the_recorder_is_recorded_whole() {
    live_with_agent(|session| {
        session.open_gate();
        let arguments = ["--interval", "100ms"];
        let ended = record(&session.output(), &arguments, &mut session.agent()).succeeded();
        let trace = Trace::open(&session.output());
        session.check_work(&trace);
        session.check_binary(&trace);
        Expected::all(&session.served(&ended.stdout)).hiding(&[KEY]).check(&trace);
        let row = trace.row(
            "select count(*) as samples, max(samples.rss_bytes) as rss_bytes \
             from samples join processes on samples.pid = processes.pid \
             where processes.exit_code = 23 and processes.argv[3] is not null",
        );
        assert!(row["samples"].as_i64().unwrap() >= 10, "{row}");
        assert!(row["rss_bytes"].as_i64().unwrap() > 200 << 20, "{row}");
    });
}

#[test]
fn claude_code_started_after_the_recorder_is_recorded_whole() {
    live_with_agent(|session| {
        session.open_gate();
        // Where users have their agents: the recorder probes them before they run.
        let bin = session.program.parent().unwrap().to_owned();
        let search = std::env::var_os("PATH").unwrap_or_default();
        let search = std::env::join_paths(std::iter::once(bin).chain(split_paths(&search)));
        let mut recorder = recorder(&session.output());
        let recorder = recorder.args(["-c", "claude"]).env("PATH", search.unwrap());
        let recording = Recording::start_as(recorder, &session.output());
        let agent = Running::start(&mut session.agent());
        let pid = agent.pid();
        let ended = agent.end().succeeded();
        let trace = Trace::open(&recording.stop());
        session.check_work(&trace);
        Expected::all(&session.served(&ended.stdout)).by(pid).hiding(&[KEY]).check(&trace);
    });
}

#[test]
fn claude_code_that_runs_already_is_recorded_from_then_on() {
    live_with_agent(|session| {
        let agent = Running::start(&mut session.agent());
        let waiting = session.server.wait_for(PATIENCE, at_the_gate);
        let waiting = waiting.unwrap_or_else(|_| panic!("no tool call: {}", agent.stderr()));
        let recording = Recording::start(&session.output(), &["-c", "claude"]);
        session.open_gate();
        let pid = agent.pid();
        let ended = agent.end().succeeded();
        let trace = Trace::open(&recording.stop());
        session.check_work(&trace);
        // What each connection had seen before the recording began is not in it.
        let before = |id: usize| waiting.connections.get(id).map_or(0, |c| c.exchanges.len());
        let served = session.served(&ended.stdout);
        Expected::from(&served, before).by(pid).hiding(&[KEY]).check(&trace);
    });
}

#[test]
fn no_credential_of_claude_code_is_in_the_recording() {
    live_with_agent(|session| {
        session.open_gate();
        let secrets = ["sk-ant-oat01-cAnArY-0123456789abcdef", "cAnArY-custom-0123456789"];
        let custom = format!("x-custom-api-key: {0}\ncookie: a={0}", secrets[1]);
        let mut agent = session.agent();
        // Both at once: which of them it sends is the agent's choice.
        agent.env("ANTHROPIC_AUTH_TOKEN", secrets[0]).env("ANTHROPIC_CUSTOM_HEADERS", custom);
        let output = session.output();
        let ended = record(&output, &["--interval", "100ms"], &mut agent).succeeded();
        let served = session.served(&ended.stdout);
        let sent: Vec<u8> =
            served.connections.iter().flat_map(|c| c.received.kept.clone()).collect();
        for secret in secrets {
            let found = memchr::memmem::find(&sent, secret.as_bytes());
            assert!(found.is_some(), "the agent did not send {secret}");
        }
        let forbidden = [secrets[0], secrets[1], KEY];
        super::redaction::nothing_in_file(&output, &forbidden);
        super::redaction::nothing_in_values(&output, &forbidden);
        Expected::all(&served).hiding(&forbidden).check(&Trace::open(&output));
    });
}
