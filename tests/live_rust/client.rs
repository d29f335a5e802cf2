//! A program with reqwest and rustls inside, built as users build them and stripped.
//!
//! It is a crate of its own (`tests/clients/rustls`), built here into the cache outside the checkout
//! before there is no network.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::host::{Host, PATIENCE, live, skip};
use super::recorder::record;
use super::streams::Recorded;
use super::support::mock::Server;
use super::support::mock::script::{Delivery, Reply, Rule, Script, When};
use super::support::mock::truth::Truth;

/// Bytes of the larger answers.
const LARGE_BYTES: usize = 700_001;

/// Builds the client under a profile of its manifest; its path, or why there is none.
fn built(profile: &str) -> Result<PathBuf, String> {
    // One cargo at a time has the directory anyway.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let cache = variable("AGENTSIGHT_CACHE_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("agentsight")))
        .or_else(|| Some(variable("HOME")?.join(".cache/agentsight")))
        .ok_or("there is no cache directory (AGENTSIGHT_CACHE_DIR, XDG_CACHE_HOME, HOME)")?;
    let target = cache.join("client-rustls");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--profile", profile, "--manifest-path"]);
    cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/rustls/Cargo.toml"));
    cargo.arg("--target-dir").arg(&target).stdin(Stdio::null());
    let output = cargo.output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default().to_owned();
        return Err(format!("the client could not be built: {last}"));
    }
    Ok(target.join(profile).join("agentsight-test-client"))
}

/// Builds the client while there is a network, then runs the test where there is none.
fn live_with_client(profile: &str, test: impl FnOnce(&Host, PathBuf) + Send) {
    match built(profile) {
        Err(reason) => skip(&reason),
        Ok(program) => live(|host| test(host, program)),
    }
}

fn server(host: &Host) -> Server {
    let body = (0..LARGE_BYTES).map(|at| (at / 5 ^ at % 253) as u8).collect();
    let reply =
        Reply::Document { status: 200, content_type: "application/octet-stream".into(), body };
    let delivery = Delivery { write_bytes: Some(40_009), ..Delivery::default() };
    let large = Rule::new(When::path("/large"), reply).delivered(delivery);
    let server = Server::start(Script::of(vec![large])).unwrap();
    server.write_ca(&host.path("ca.pem")).unwrap();
    server
}

fn client(host: &Host, program: &Path, server: &Server) -> Command {
    let mut client = Command::new(program);
    client.arg(server.url()).arg(host.path("ca.pem")).stdin(Stdio::null());
    client
}

#[track_caller]
fn served(server: &Server) -> Truth {
    let closed = |truth: &Truth| truth.connections.iter().all(|c| c.closed_ts.is_some());
    server.wait_for(PATIENCE, closed).unwrap_or_else(|_| panic!("a connection stays open"))
}

#[track_caller]
fn is_recorded_whole(host: &Host, program: &Path) {
    let server = server(host);
    let output = host.path("run.parquet");
    let mut client = client(host, program, &server);
    let ended = record(&output, &["--no-redact"], &mut client).succeeded();
    assert!(ended.stdout.contains("done"), "{ended:?}");
    let recorded = Recorded::open(&output);
    recorded.assert_equals(&served(&server));
    assert!(recorded.connections.values().all(|streams| streams.library == "rustls"));
    // Four by hand, and what reqwest opened.
    assert!(recorded.connections.len() >= 5, "{} connections", recorded.connections.len());
}

#[test]
fn a_stripped_program_with_reqwest_is_recorded_whole() {
    live_with_client("release", |host, program| is_recorded_whole(host, &program));
}

#[test]
fn a_program_built_to_be_small_is_recorded_whole() {
    live_with_client("small", |host, program| is_recorded_whole(host, &program));
}
