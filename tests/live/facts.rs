//! What a trace says of itself: that its rows and losses add up to what was observed, and which
//! programs it is about.

use std::process::Command;

use serde_json::Value;

use super::client::{Task, script};
use super::host::{Host, live};
use super::recorder::record;
use super::support::mock::Server;
use super::trace::Trace;

/// The account of one class in the ledger of a trace, which must balance.
#[track_caller]
fn account(trace: &Trace, class: &str) -> Value {
    let ledger = trace.info("ledger");
    let accounts = ledger.as_array().unwrap();
    for account in accounts {
        assert_eq!(account["balanced"], true, "{account}");
        for what in ["events", "bytes"] {
            let amount = |stage: &str| account[format!("{stage}_{what}")].as_u64().unwrap();
            assert_eq!(amount("attempted"), amount("written") + amount("lost"), "{account}");
        }
    }
    let found = accounts.iter().find(|account| account["event_class"] == class);
    found.unwrap_or_else(|| panic!("no {class} in {ledger}")).clone()
}

fn session(host: &Host, buffer: &str) -> Trace {
    let server = Server::start(script()).unwrap();
    let task = Task::new(host, &server);
    let output = host.path("run.parquet");
    let mut client = task.python(host, "client.py");
    let ended =
        record(&output, &["--buffer", buffer, "--interval", "100ms"], &mut client).succeeded();
    assert!(!ended.stderr.contains("bug:"), "{}", ended.stderr);
    Trace::open(&output)
}

#[test]
fn what_is_in_a_trace_and_what_was_lost_are_what_was_observed() {
    live(|host| {
        // The parts of the large request do not fit into this buffer.
        let trace = session(host, "64K");
        let tls = account(&trace, "tls_data");
        assert!(tls["lost_events"].as_i64() > Some(0), "the ring did not overflow: {tls}");
        assert!(tls["lost_bytes"].as_i64() > Some(64 << 10), "{tls}");
        let lost = trace.row(
            "select sum(lost_events) as events, sum(lost_bytes) as bytes from events \
             where kind = 'loss' and event_class = 'tls_data'",
        );
        assert_eq!((&lost["events"], &lost["bytes"]), (&tls["lost_events"], &tls["lost_bytes"]));
        let written = trace.row(
            "select sum(coalesce(array_length(call_ts), 1)) as calls, \
             sum(data_bytes - lost_bytes) as bytes from events where kind = 'tls_data'",
        );
        assert_eq!(written["calls"], tls["written_events"]);
        assert_eq!(written["bytes"], tls["written_bytes"]);
        assert_eq!(
            trace.rows("select * from trace_info where key = 'agentsight.bugs'"),
            [] as [Value; 0]
        );
    });
}

#[test]
fn nothing_is_lost_where_there_is_room_and_every_class_is_accounted_for() {
    live(|host| {
        let trace = session(host, "16M");
        let tls = account(&trace, "tls_data");
        assert_eq!((&tls["lost_events"], &tls["lost_bytes"]), (&0.into(), &0.into()));
        for class in ["process_exec", "process_exit", "process_fork", "sample", "probe"] {
            assert!(account(&trace, class)["written_events"].as_i64() > Some(0), "{class}");
        }
        let exec = account(&trace, "process_exec");
        assert!(exec["written_bytes"].as_i64() > Some(0), "{exec}");
    });
}

#[test]
fn probes_are_summed_up_and_clocks_are_read_together() {
    live(|host| {
        let trace = session(host, "16M");
        let probes = trace.info("probes");
        let attached = probes["rows"]["attached"].as_i64().unwrap();
        let counted =
            "select count(*) from events where kind = 'probe' and probe_state = 'attached'";
        assert_eq!(attached, trace.number(counted));
        let binaries = probes["binaries"].as_array().unwrap();
        assert!(binaries.iter().any(|probe| probe["library"] == "openssl"), "{probes}");

        let anchors = trace.info("clock_anchors");
        let anchors = anchors.as_array().unwrap();
        assert!(anchors.len() >= 2, "{anchors:?}");
        for anchor in anchors {
            let (boot, monotonic) = (&anchor["boot_ns"], &anchor["monotonic_ns"]);
            // The kernel's boot-time clock never lags behind; reading both takes a moment.
            assert!(boot.as_u64().unwrap() + 1_000_000 > monotonic.as_u64().unwrap(), "{anchor}");
        }
        assert!(trace.info("host")["boot_id"].as_str().unwrap().starts_with("boot-"));
    });
}

#[test]
fn an_agent_that_an_interpreter_runs_is_described_by_its_package() {
    live(|host| {
        host.write("package.json", r#"{"name": "@maker/agent", "version": "1.2.3"}"#);
        let script = host.write("agent.sh", "sleep 0.3\n");
        let output = host.path("run.parquet");
        record(&output, &[] as &[&str], Command::new("sh").arg(&script)).succeeded();
        let binaries = Trace::open(&output).info("binaries");
        let agent = &binaries.as_array().unwrap()[0];
        assert_eq!(agent["script"], script.to_str().unwrap());
        assert_eq!(
            (&agent["package"], &agent["version"]),
            (&"@maker/agent".into(), &"1.2.3".into())
        );
        assert_eq!(agent["matched"], true);
        let size = std::fs::metadata(agent["path"].as_str().unwrap()).unwrap().len();
        assert_eq!(agent["size_bytes"].as_u64(), Some(size));
    });
}
