//! Clients on TLS libraries other than a shared OpenSSL, and on packages that wrap it: each is
//! recorded to the byte.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::client::python;
use super::clients::records;
use super::compare::{Expected, nothing_lost, recorded_connections};
use super::host::{Host, live, skip, until};
use super::recorder::{Running, record};
use super::support::mock::Server;
use super::support::mock::script::{Reply, Rule, Script, When};
use super::trace::Trace;

/// Whether `program` can be started here.
fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn python_packages_are_recorded_to_the_byte() {
    for package in ["requests", "httpx"] {
        live(|host| {
            let probe = Server::start(Script::default()).unwrap();
            let task = super::client::Task::new(host, &probe);
            if task.packaged_python(host, package).is_none() {
                return skip(&format!("no Python with {package} (AGENTSIGHT_TEST_PYTHON)"));
            }
            records(host, |task| task.packaged_python(host, package).unwrap());
        });
    }
}

#[test]
fn libcurl_on_gnutls_is_recorded_to_the_byte() {
    live(|host| {
        let load = "import ctypes; ctypes.CDLL('libcurl-gnutls.so.4')";
        if !Command::new(python()).args(["-c", load]).output().unwrap().status.success() {
            return skip("there is no libcurl-gnutls");
        }
        records(host, |task| task.curl_gnutls(host));
    });
}

#[test]
fn wget_is_recorded_to_the_byte() {
    live(|host| {
        if !has("wget") {
            return skip("there is no wget");
        }
        records(host, |task| task.wget(host));
    });
}

#[test]
fn git_over_https_is_recorded_to_the_byte() {
    live(|host| {
        let document = |path: &str, body: &str| {
            let content_type = "text/plain".into();
            let reply = Reply::Document { status: 200, content_type, body: body.into() };
            Rule::new(When::path(path), reply)
        };
        // A repository as any web server has it: git asks for the list of its branches first.
        let commit = "83baae61804e65cc73a7201a7252750c76066a30";
        let server = Server::start(Script::of(vec![
            document("/r.git/info/refs", &format!("{commit}\trefs/heads/main\n")),
            document("/r.git/HEAD", "ref: refs/heads/main\n"),
        ]));
        let server = server.unwrap();
        let ca = host.path("ca.pem");
        server.write_ca(&ca).unwrap();
        let mut git = Command::new("git");
        git.args(["ls-remote", &format!("{}/r.git", server.url())]).stdin(Stdio::null());
        git.env("GIT_SSL_CAINFO", &ca).env("HOME", host.path("")).env("GIT_TERMINAL_PROMPT", "0");
        let output = host.path("run.parquet");
        let ended = record::<&str>(&output, &[], &mut git).succeeded();
        assert!(ended.stdout.contains(commit), "git said: {ended:?}");
        let trace = Trace::open(&output);
        Expected::all(&server.stop()).check(&trace);
        // It is a helper that git starts which speaks TLS.
        let helper = "select count(*) from processes where argv[1] like '%remote-https%'";
        assert!(trace.number(helper) >= 1, "{}", trace.summary());
    });
}

#[test]
fn grpc_in_python_is_recorded_to_the_byte() {
    live(|host| {
        let python = std::env::var_os("AGENTSIGHT_TEST_PYTHON").map_or_else(python, PathBuf::from);
        if !Command::new(&python).args(["-c", "import grpc"]).output().unwrap().status.success() {
            return skip("no Python with grpc (AGENTSIGHT_TEST_PYTHON)");
        }
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = host.write("certificate.pem", &key.cert.pem());
        let key = host.write("key.pem", &key.signing_key.serialize_pem());
        let service = host.write("service.py", include_str!("programs/grpc_service.py"));
        let mut service = Running::start(
            Command::new(&python).arg(service).arg(&certificate).arg(key).stdin(Stdio::null()),
        );
        service.says(" .\n");
        let said = service.stderr();
        let port = said.split(' ').nth(1).unwrap().to_owned();
        let client = host.write("client.py", include_str!("programs/grpc_client.py"));
        let output = host.path("run.parquet");
        let mut command = Command::new(&python);
        command.arg(client).arg(format!("localhost:{port}")).arg(certificate);
        record::<&str>(&output, &[], command.stdin(Stdio::null())).succeeded();
        // It tells of each connection when that has ended; the large one is the last.
        let large = |said: &str| said.lines().skip(1).any(|line| received_bytes(line) > 3_000_000);
        until("the last connection", || large(&service.stderr()));
        let said = service.stderr();
        let truth: Value = serde_json::from_str(
            said.lines().rfind(|line| received_bytes(line) > 3_000_000).unwrap(),
        )
        .unwrap();

        let trace = Trace::open(&output);
        nothing_lost(&trace);
        let recorded = recorded_connections(&trace, "library = 'boringssl'");
        let hash = |bytes: &[u8]| -> String {
            Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let hashes: Vec<_> = recorded.values().map(|(sent, got)| (hash(sent), hash(got))).collect();
        let served = |field: &str| truth[field].as_str().unwrap().to_owned();
        let last = (served("received"), served("sent"));
        assert!(hashes.contains(&last), "{last:?} of {said} is not in {}", trace.summary());
    });
}

/// Of a connection, as `grpc_service.py` tells it.
fn received_bytes(line: &str) -> u64 {
    let told: Value = serde_json::from_str(line).unwrap_or_default();
    told["received_bytes"].as_u64().unwrap_or_default()
}

/// The client, built with these linker flags, or why it cannot be.
fn go_client(host: &Host, flags: &str) -> Result<PathBuf, String> {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    let go = std::env::var_os("AGENTSIGHT_TEST_GO").unwrap_or_else(|| "go".into());
    let cache = CACHE.get_or_init(|| tempfile::tempdir().unwrap());
    let source = host.write("client.go", include_str!("programs/client.go"));
    let program = host.path("go-client");
    let mut build = Command::new(go);
    build.args(["build", "-ldflags", flags, "-o"]).arg(&program).arg(source);
    build.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("CGO_ENABLED", "0");
    build.env("GOFLAGS", "").env("GO111MODULE", "off").env("GOPATH", cache.path().join("path"));
    build.env("GOCACHE", cache.path().join("cache")).stdin(Stdio::null());
    let output = build.output().map_err(|error| format!("go cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(program);
    }
    Err(format!("go cannot build the client: {}", String::from_utf8_lossy(&output.stderr)))
}

fn records_go(flags: &str, api: &str) {
    live(|host| match go_client(host, flags) {
        Ok(program) => records(host, |task| task.go(&program, api)),
        Err(reason) => skip(&reason),
    });
}

#[test]
fn a_go_program_is_recorded_to_the_byte() {
    records_go("", "http");
}

#[test]
fn a_stripped_go_program_is_recorded_to_the_byte() {
    records_go("-s -w", "http");
}

#[test]
fn go_that_reads_into_a_stack_that_moves_is_recorded_to_the_byte() {
    records_go("-s -w", "tls");
}
