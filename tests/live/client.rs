//! The clients that are recorded: what they ask, and the programs that ask it.
//!
//! Every client sends the same three requests, over one kept connection where it can, so that all
//! of them are held to the same truth whatever TLS library they use.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::host::Host;
use super::support::mock::Server;
use super::support::mock::answer::{Answer, Block};
use super::support::mock::coding::Coding;
use super::support::mock::script::{
    ANTHROPIC_PATH, Delivery, OPENAI_PATH, Reply, Rule, Script, When,
};
use super::support::mock::split::Split;

/// Requests every client sends.
pub const REQUESTS: usize = 3;

/// Answers them: two paced streams cut at awkward places, one compressed, and a document.
pub fn script() -> Script {
    let answer = Reply::Answer(Answer {
        blocks: vec![
            Block::Thinking("Überlegen … 思考".into()),
            Block::Text("Größe: 10 µm — 完成 🌍".repeat(20)),
            Block::ToolUse { name: "Bash".into(), input: json!({"command": "echo 'ñ'"}) },
        ],
        ..Answer::default()
    });
    let paced = Delivery {
        first_byte_delay_ms: 80,
        event_delays_ms: vec![5, 0, 0, 25],
        split: Split::InsideUtf8,
        ..Delivery::default()
    };
    let packed = Delivery {
        coding: Some(Coding::Gzip),
        crlf: true,
        split: Split::InsideLineEnds,
        ..paced.clone()
    };
    let bytewise =
        Delivery { write_bytes: Some(100), split: Split::Every(7), ..Delivery::default() };
    Script::of(vec![
        Rule::new(When::path(ANTHROPIC_PATH), answer.clone()).times(1).delivered(paced),
        Rule::new(When::path(OPENAI_PATH), answer.clone()).delivered(packed),
        Rule::new(When::path(ANTHROPIC_PATH), answer).delivered(bytewise),
    ])
}

/// What a client needs to know, as files: its requests, the authority, where to wait.
pub struct Task {
    /// Base URL.
    pub url: String,
    /// Certificate of the authority.
    pub ca: PathBuf,
    /// Lines of JSON: path and body of each request.
    pub requests: PathBuf,
    /// The second request waits for this file, if it is given.
    pub trigger: Option<PathBuf>,
}

impl Task {
    /// The three requests to `server`.
    pub fn new(host: &Host, server: &Server) -> Self {
        let ca = host.path("ca.pem");
        server.write_ca(&ca).unwrap();
        // Larger than a TLS record, and not ASCII.
        let history = "Prüfung — 検査 🌍 ".repeat(12_000);
        let requests = [
            json!({"path": ANTHROPIC_PATH, "body": {
                "model": "claude-mock-1", "stream": true, "max_tokens": 100,
                "messages": [{"role": "user", "content": "first"}],
            }}),
            json!({"path": OPENAI_PATH, "body": {
                "model": "gpt-mock-1", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": "second"}],
            }}),
            json!({"path": ANTHROPIC_PATH, "body": {
                "model": "claude-mock-2", "max_tokens": 100,
                "messages": [{"role": "user", "content": history}],
            }}),
        ];
        assert_eq!(requests.len(), REQUESTS);
        let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
        let requests = host.write("requests.jsonl", &lines);
        Self { url: server.url(), ca, requests, trigger: None }
    }

    /// The same, the second request waiting for a file.
    pub fn waiting(mut self, host: &Host) -> Self {
        self.trigger = Some(host.path("go"));
        self
    }

    /// Lets the second request go.
    pub fn release(&self) {
        std::fs::write(self.trigger.as_ref().unwrap(), "").unwrap();
    }

    fn arguments(&self, command: &mut Command) {
        command.arg(&self.url).arg(&self.ca).arg(&self.requests);
        command.args(&self.trigger).stdin(Stdio::null());
    }

    /// Python, synchronous sockets: `SSL_read_ex` and `SSL_write_ex` on a file descriptor.
    pub fn python(&self, host: &Host, name: &str) -> Command {
        let script = host.write(name, include_str!("programs/client.py"));
        let mut command = Command::new(python());
        command.arg(script);
        self.arguments(&mut command);
        command
    }

    /// The same program, which takes failures as they come and connects anew after each.
    pub fn hardened_python(&self, host: &Host) -> Command {
        let mut command = self.python(host, "client.py");
        command.env("CLIENT_GOES_ON", "1");
        command
    }

    /// node: OpenSSL on memory BIOs, by `https` or by `fetch`.
    pub fn node(&self, host: &Host, api: &str) -> Command {
        let script = host.write("client.mjs", include_str!("programs/client.mjs"));
        let mut command = Command::new("node");
        command.arg(script).env("NODE_EXTRA_CA_CERTS", &self.ca).env("CLIENT_API", api);
        self.arguments(&mut command);
        command
    }

    /// Python with a package of its own HTTP client: the interpreter has it or this is `None`.
    pub fn packaged_python(&self, host: &Host, package: &str) -> Option<Command> {
        let program = std::env::var_os("AGENTSIGHT_TEST_PYTHON").map_or_else(python, PathBuf::from);
        let import = format!("import {package}");
        if !Command::new(&program).args(["-c", &import]).output().ok()?.status.success() {
            return None;
        }
        let mut command = Command::new(program);
        command.arg(host.write("client.py", include_str!("programs/client.py")));
        command.env("CLIENT_API", package);
        self.arguments(&mut command);
        Some(command)
    }

    /// Bun, by `fetch`: BoringSSL inside a stripped program.
    pub fn bun(&self, host: &Host, program: &Path) -> Command {
        let script = host.write("client.mjs", include_str!("programs/client.mjs"));
        let mut command = Command::new(program);
        command.arg(script).env("CLIENT_API", "fetch").env("HOME", host.path(""));
        self.arguments(&mut command);
        command
    }

    /// A program of Go, by `net/http` or by `crypto/tls` itself.
    pub fn go(&self, program: &Path, api: &str) -> Command {
        let mut command = Command::new(program);
        command.env("CLIENT_API", api);
        self.arguments(&mut command);
        command
    }

    /// libcurl on top of GnuTLS.
    pub fn curl_gnutls(&self, host: &Host) -> Command {
        let mut command = Command::new(python());
        command.arg(host.write("curl.py", include_str!("programs/curl_gnutls.py")));
        self.arguments(&mut command);
        command
    }

    /// wget: a process and a connection per request, below a shell.
    pub fn wget(&self, host: &Host) -> Command {
        let mut script = String::from("set -e\n");
        for (index, (path, body)) in self.bodies(host).into_iter().enumerate() {
            if index == 1
                && let Some(trigger) = &self.trigger
            {
                script += &format!("while ! [ -e {} ]; do sleep 0.01; done\n", trigger.display());
            }
            script += &format!(
                "wget -q -O /dev/null --ca-certificate={} --header='content-type: application/json' \
                 --post-file={} {}{path}\n",
                self.ca.display(),
                body.display(),
                self.url
            );
        }
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::null());
        command
    }

    /// Path and file of the body of each request.
    fn bodies(&self, host: &Host) -> Vec<(String, PathBuf)> {
        let requests = std::fs::read_to_string(&self.requests).unwrap();
        let lines = requests.lines().enumerate();
        let body = |(index, line): (usize, &str)| {
            let request: serde_json::Value = serde_json::from_str(line).unwrap();
            let body = host.write(&format!("body{index}"), &request["body"].to_string());
            (request["path"].as_str().unwrap().to_owned(), body)
        };
        lines.map(body).collect()
    }

    /// curl: one process, all requests over one connection.
    pub fn curl(&self, host: &Host) -> Command {
        let mut command = Command::new("curl");
        for (index, (path, body)) in self.bodies(host).into_iter().enumerate() {
            if index > 0 {
                command.arg("--next");
            }
            command.args(["-sS", "--fail", "--http1.1", "--compressed", "-o", "/dev/null"]);
            command.args(["-H", "content-type: application/json"]).arg("--cacert").arg(&self.ca);
            command.arg("--data-binary").arg(format!("@{}", body.display()));
            command.arg(format!("{}{path}", self.url));
        }
        command.stdin(Stdio::null());
        command
    }
}

/// Where programs to record are kept from one run of the tests to the next.
pub fn cache() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    variable("AGENTSIGHT_CACHE_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("agentsight")))
        .or_else(|| Some(variable("HOME")?.join(".cache/agentsight")))
        .ok_or_else(|| {
            "there is no cache directory (AGENTSIGHT_CACHE_DIR, XDG_CACHE_HOME, HOME)".to_owned()
        })
}

/// The python3 that a user gets, by the path of the program itself rather than of a shim.
pub fn python() -> PathBuf {
    let print = "import sys; print(sys.executable)";
    let output = Command::new("python3").args(["-c", print]).output().unwrap();
    assert!(output.status.success(), "python3 does not work");
    String::from_utf8(output.stdout).unwrap().trim().into()
}
