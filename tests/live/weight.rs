//! What the recorder weighs: memory under load, and what its binary carries.

use std::io::Read;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

use super::client::python;
use super::compare::nothing_lost;
use super::host::{live, until};
use super::recorder::{Recording, Running};
use super::support::mock::Server;
use super::support::mock::script::Script;
use super::trace::Trace;

/// What the recorder may keep resident beside its rings.
const MAX_RESIDENT_BYTES: u64 = 64 << 20;
/// Requests of the load and the size of the last; each re-sends what went before, as agents do.
const LOAD_REQUESTS: usize = 120;
const LOAD_STEP_BYTES: usize = 8 << 10;

/// A conversation that grows with every request, as fast as one client can.
const LOAD: &str = r#"
import http.client, json, ssl, sys
host, port, ca, requests, step = sys.argv[1], *map(str, sys.argv[2:])
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(host, int(port), context=context)
history, sent = "", 0
for turn in range(int(requests)):
    history += f"turn {turn} ".ljust(int(step), "é")
    body = json.dumps({"model": "m", "stream": True, "messages": [history]}, ensure_ascii=False)
    connection.request("POST", "/v1/messages", body.encode())
    connection.getresponse().read()
connection.close()
"#;

#[test]
fn memory_stays_bounded_while_a_growing_conversation_is_recorded_without_loss() {
    live(|host| {
        let server = Server::start(Script::chat()).unwrap();
        server.write_ca(&host.path("ca.pem")).unwrap();
        let name = format!("agentsight-load-{}.py", std::process::id());
        let script = host.write(&name, LOAD);
        let output = host.path("run.parquet");
        let mut recording = Recording::start(&output, &["-c", &name]);
        let recorder = recording.running().pid();

        let mut load = Command::new(python());
        load.arg(script).args(["localhost", &server.port().to_string()]).arg(host.path("ca.pem"));
        load.args([LOAD_REQUESTS.to_string(), LOAD_STEP_BYTES.to_string()]);
        Running::start(&mut load).end().succeeded();

        let resident = status_bytes(recorder, "VmHWM:");
        let rings = ring_bytes(recorder);
        let trace = Trace::open(&recording.stop());
        let truth = server.stop();
        let served: u64 = truth.connections.iter().map(|c| c.received.bytes + c.sent.bytes).sum();
        assert!(served > 50 << 20, "the load was only {served} bytes");
        nothing_lost(&trace);
        let recorded = trace.number("select sum(data_bytes) from tls_chunks");
        assert_eq!(recorded, i64::try_from(served).unwrap(), "{}", trace.summary());
        assert_eq!(trace.number("select count(*) from llm_calls"), LOAD_REQUESTS as i64);
        let most = MAX_RESIDENT_BYTES + rings;
        assert!(resident <= most, "{resident} bytes resident, rings of {rings} bytes");
        eprintln!("resident at most {resident} bytes, rings {rings} bytes, load {served} bytes");
    });
}

/// A field of `/proc/PID/status`, in bytes.
fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Size of the BPF ring buffers a process holds (`/proc/PID/fdinfo`).
fn ring_bytes(pid: u32) -> u64 {
    const BPF_MAP_TYPE_RINGBUF: &str = "27";
    let directory = format!("/proc/{pid}/fdinfo");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: &Path| -> Option<u64> {
        let info = std::fs::read_to_string(path).ok()?;
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        (field("map_type:")? == BPF_MAP_TYPE_RINGBUF).then_some(())?;
        field("max_entries:")?.parse().ok()
    };
    let sizes: u64 = files.filter_map(|path| size(&path)).sum();
    assert!(sizes > 0, "the recorder has no ring buffer");
    // A ring is mapped twice in a row, so that records never wrap; its pages count in both.
    2 * sizes
}

#[test]
fn an_idle_recording_costs_next_to_no_processor_time() {
    live(|host| {
        let output = host.path("run.parquet");
        let mut recording = Recording::start(&output, &["-c", "agentsight-nobody"]);
        let pid = recording.running().pid();
        let started = std::time::Instant::now();
        let before = cpu_ticks(pid);
        until("three idle seconds", || started.elapsed().as_secs() >= 3);
        // Ticks of 10 ms: 5 % of a core over three seconds.
        let used = cpu_ticks(pid) - before;
        assert!(used <= 15, "{used} ticks");
        recording.stop();
    });
}

/// User and system time of a process in clock ticks (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Where a DataFusion symbol or text stands in a binary; debug information, which the linker keeps
/// for code it has thrown away, does not count.
fn datafusion_in(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    let file = object::File::parse(&bytes[..]).unwrap();
    let symbol = file.symbols().find_map(|symbol| {
        let name = symbol.name().unwrap_or_default();
        (symbol.is_definition() && name.contains("datafusion")).then(|| name.to_owned())
    });
    let section = || {
        file.sections().find_map(|section| {
            let kept = !matches!(section.kind(), SectionKind::Other | SectionKind::Metadata);
            let data = section.data().unwrap_or_default();
            let loaded = kept && !section.name().unwrap_or_default().starts_with(".debug");
            let found = loaded && memchr::memmem::find(data, b"datafusion").is_some();
            found.then(|| format!("text in section {}", section.name().unwrap_or_default()))
        })
    };
    symbol.or_else(section)
}

#[test]
fn the_recorder_links_no_datafusion() {
    let recorder = Path::new(env!("CARGO_BIN_EXE_agentsight-rec"));
    let query = Path::new(env!("CARGO_BIN_EXE_agentsight-query"));
    assert!(datafusion_in(query).is_some(), "the search finds what is there");
    assert_eq!(datafusion_in(recorder), None);
    let libraries = Command::new("ldd").arg(recorder).output().unwrap();
    assert!(!String::from_utf8_lossy(&libraries.stdout).contains("datafusion"));
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    assert!(size(recorder) * 2 < size(query), "{} and {} bytes", size(recorder), size(query));
}
