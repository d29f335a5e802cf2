//! A program with reqwest and rustls inside, built as users build them and stripped.
//!
//! It is a crate of its own (`tests/clients/rustls`), built here into the cache outside the checkout
//! before there is no network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use agentsight::capture::bpf::{Capture, Options, TlsFunction};
use agentsight::capture::tls_library::{Outcome, Role, find};
use agentsight::event::{Body, Direction, Event, ProbeState, Source};

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
    let body = (0..LARGE_BYTES).map(|at| ((at / 5) ^ (at % 253)) as u8).collect();
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

/// Built for size, the functions are merged into their callers beyond recognition: nothing is
/// recorded, and that is said to the user and written into the trace.
#[test]
fn a_program_whose_functions_cannot_be_told_is_said_to_be_missed() {
    live_with_client("small", |host, program| {
        let server = server(host);
        let output = host.path("run.parquet");
        let ended = record(&output, &["--no-redact"], &mut client(host, &program, &server));
        let ended = ended.succeeded();
        let warned = ended.stderr.lines().any(|line| {
            line.contains("agentsight-test-client")
                && line.contains("its TLS plaintext is NOT recorded: rustls 0.23.")
        });
        assert!(warned, "{}", ended.stderr);
        let recorded = Recorded::open(&output);
        assert!(recorded.connections.is_empty());
        let name = program.to_str().unwrap();
        let probe = recorded.probes.iter().find(|probe| probe.path == name).unwrap();
        assert_eq!(probe.library.as_deref(), Some("rustls"));
        assert_eq!(probe.state, ProbeState::Unresolved);
    });
}

/// Without what kernels got after 5.8 the bytes are the same, but connections that follow each other
/// at one address are not told apart.
#[test]
fn the_path_for_old_kernels_gives_the_same_bytes() {
    live_with_client("release", |host, program| {
        let server = server(host);
        let name = program.file_name().unwrap().to_str().unwrap().to_owned();
        let options = Options { names: vec![name], force_compat: true, ..Options::default() };
        let mut capture = Capture::load(&options).unwrap();
        let Outcome::Found(found) = find(&program).unwrap() else { panic!("not resolved") };
        for site in &found.sites {
            let function = match site.role {
                Role::RustlsRead(place) => TlsFunction::RustlsRead(place),
                Role::RustlsWrite(place) => TlsFunction::RustlsWrite(place),
                other => panic!("{other:?} in rustls"),
            };
            capture.attach_tls(&program, site.file_offset, function, "rustls").unwrap();
        }
        let mut child = client(host, &program, &server).spawn().unwrap();
        let mut streams = BTreeMap::<(u64, Direction), Vec<u8>>::new();
        let mut take = |event: Event| {
            if let Body::Data(tls) = event.body
                && tls.source == Source::Tls
            {
                assert_eq!(tls.lost_bytes, 0);
                let stream = streams.entry((tls.conn_id, tls.direction)).or_default();
                assert_eq!(tls.stream_offset, stream.len() as u64, "a hole");
                stream.extend(tls.data);
            }
        };
        let status = loop {
            capture.drain(Duration::from_millis(10), &mut take).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
        };
        assert!(status.success());
        capture.detach(&mut take).unwrap();
        let truth = served(&server);
        let total = |direction| {
            let of = streams.iter().filter(|((_, found), _)| *found == direction);
            of.map(|(_, stream)| stream.len() as u64).sum::<u64>()
        };
        let sent = truth.connections.iter().map(|c| c.received.bytes).sum::<u64>();
        let received = truth.connections.iter().map(|c| c.sent.bytes).sum::<u64>();
        assert_eq!((total(Direction::Write), total(Direction::Read)), (sent, received));
        let by_hand =
            truth.connections.iter().filter(|c| c.received.kept.starts_with(b"POST /by-hand"));
        for connection in by_hand {
            let whole = &connection.received.kept;
            let held = streams.values().any(|stream| memchr::memmem::find(stream, whole).is_some());
            assert!(held, "what connection {} sent is not in one piece", connection.id);
        }
        let lost: u64 =
            capture.losses().unwrap().iter().flat_map(|class| class.entry.lost_events).sum();
        assert_eq!(lost, 0);
    });
}
