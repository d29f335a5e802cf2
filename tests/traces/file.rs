//! Events to a trace file.

use std::io::Write;

use agentsight::event::Event;
use agentsight::time::{BootNanos, ClockAnchor};
use agentsight::trace::{ClosingMetadata, Host, Metadata, Writer};

use super::at;

/// Writes a trace named `name` of the given length.
pub fn write(sink: impl Write + Send, name: &str, events: Vec<Event>, duration_ms: u64) {
    let metadata = Metadata {
        // Not the version of this program: a release must not rewrite the fixtures.
        recorder_version: "0.0.0-fixture".to_owned(),
        recording_id: format!("fixture-{name}"),
        command_line: ["agentsight-rec", "-c", "demo-agent"].map(str::to_owned).to_vec(),
        start_ts: at(0),
        host: Host {
            kernel: "6.1.0".to_owned(),
            arch: "x86_64".to_owned(),
            cpus: 4,
            hostname: "fixture".to_owned(),
            ..Host::default()
        },
        clock_anchors: vec![ClockAnchor::new(BootNanos(1_000_000_000_000), at(0))],
        filters: vec!["-c demo-agent".to_owned()],
        redaction: "none".to_owned(),
    };
    let closing = ClosingMetadata {
        stop_ts: at(duration_ms),
        stop_reason: "signal".to_owned(),
        clock_anchors: Vec::new(),
    };
    let mut writer = Writer::create(sink, metadata).unwrap();
    for event in events {
        writer.push(event).unwrap();
    }
    writer.finish(closing).unwrap();
}
