//! The key-value metadata of a trace: what is said once about the whole recording.
//!
//! [`Metadata`] is known when the recording starts, [`ClosingMetadata`] when it ends, and
//! [`Totals`] is counted by the writer as rows pass. All become `agentsight.*` keys of the Parquet
//! footer; `docs/FORMAT.md` describes each. Reads no clock and no host: the recorder fills this in.

use std::collections::BTreeMap;

use parquet::file::metadata::KeyValue;
use serde_json::{Value, json};

use super::schema::{FORMAT_VERSION, MIN_READER_VERSION, columns_json};
use crate::event::{Body, Event};
use crate::time::{ClockAnchor, WallNanos};

/// What all keys of this program begin with.
pub const KEY_PREFIX: &str = "agentsight.";
pub(crate) const FORMAT_VERSION_KEY: &str = "agentsight.format_version";
pub(crate) const MIN_READER_VERSION_KEY: &str = "agentsight.min_reader_version";

/// What is known when a recording starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Version of the program that records.
    pub recorder_version: String,
    /// Unique to the recording, also among recordings of other hosts.
    pub recording_id: String,
    /// The recorder's own arguments, secrets already removed.
    pub command_line: Vec<String>,
    /// When the recording started.
    pub start_ts: WallNanos,
    /// Where it was made.
    pub host: Host,
    /// The anchor that converted all timestamps, and any taken before the first event.
    pub clock_anchors: Vec<ClockAnchor>,
    /// What was asked to be recorded, each as the option that asked for it (`-c claude`).
    pub filters: Vec<String>,
}

/// The machine of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Kernel release, such as `6.18.0`.
    pub kernel: String,
    /// Machine name, such as `x86_64`.
    pub arch: String,
    /// Number of CPUs online.
    pub cpus: u32,
    /// A pseudonym: equal for recordings of one host, not the host's name.
    pub hostname: String,
}

/// What is known when a recording ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosingMetadata {
    /// When the recording ended.
    pub stop_ts: WallNanos,
    /// Why: `signal`, `duration`, `command_exited`, ...
    pub stop_reason: String,
    /// Anchors taken since the start, in order.
    pub clock_anchors: Vec<ClockAnchor>,
}

/// Events and payload bytes of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Number of events.
    pub events: u64,
    /// Payload bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, events: u64, bytes: u64) {
        self.events = self.events.saturating_add(events);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// What the rows of a file add up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// By kind; bytes are `data_bytes`.
    pub kinds: BTreeMap<&'static str, Tally>,
    /// By event class and cause, summed over the `loss` rows.
    pub losses: BTreeMap<(String, String), Tally>,
}

impl Totals {
    /// Counts one event in.
    pub(crate) fn count(&mut self, event: &Event) {
        let bytes = match &event.body {
            Body::TlsData(tls) => tls.data_bytes,
            _ => 0,
        };
        self.kinds.entry(event.body.kind()).or_default().add(1, bytes);
        if let Body::Loss(loss) = &event.body {
            let key = (loss.event_class.clone(), loss.cause.clone());
            self.losses.entry(key).or_default().add(loss.lost_events, loss.lost_bytes);
        }
    }

    fn kinds_json(&self) -> Value {
        let entry = |(kind, tally): (&&str, &Tally)| {
            ((*kind).to_owned(), json!({"events": tally.events, "bytes": tally.bytes}))
        };
        Value::Object(self.kinds.iter().map(entry).collect())
    }

    fn losses_json(&self) -> Value {
        let entry = |((class, cause), tally): (&(String, String), &Tally)| {
            json!({
                "event_class": class,
                "cause": cause,
                "lost_events": tally.events,
                "lost_bytes": tally.bytes,
            })
        };
        self.losses.iter().map(entry).collect()
    }
}

/// The keys of a footer. `closing` is absent while the recording runs, and so are its keys then.
pub(crate) fn key_values(
    metadata: &Metadata,
    closing: Option<&ClosingMetadata>,
    totals: &Totals,
) -> Vec<KeyValue> {
    let later_anchors = closing.map_or(&[][..], |closing| &closing.clock_anchors);
    let anchors: Vec<_> = metadata.clock_anchors.iter().chain(later_anchors).collect();
    let mut keys = vec![
        (FORMAT_VERSION_KEY, FORMAT_VERSION.to_string()),
        (MIN_READER_VERSION_KEY, MIN_READER_VERSION.to_string()),
        ("agentsight.recorder_version", metadata.recorder_version.clone()),
        ("agentsight.recording_id", metadata.recording_id.clone()),
        ("agentsight.command_line", json!(metadata.command_line).to_string()),
        ("agentsight.start_ts", metadata.start_ts.0.to_string()),
        ("agentsight.host", host_json(&metadata.host).to_string()),
        ("agentsight.clock_anchors", anchors_json(&anchors).to_string()),
        ("agentsight.filters", json!(metadata.filters).to_string()),
        ("agentsight.kinds", totals.kinds_json().to_string()),
        ("agentsight.losses", totals.losses_json().to_string()),
        ("agentsight.redaction", "none".to_owned()),
        ("agentsight.columns", columns_json().to_string()),
    ];
    if let Some(closing) = closing {
        keys.push(("agentsight.stop_ts", closing.stop_ts.0.to_string()));
        keys.push(("agentsight.stop_reason", closing.stop_reason.clone()));
    }
    keys.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
}

fn host_json(host: &Host) -> Value {
    json!({
        "kernel": host.kernel,
        "arch": host.arch,
        "cpus": host.cpus,
        "hostname": host.hostname,
    })
}

fn anchors_json(anchors: &[&ClockAnchor]) -> Value {
    let anchor =
        |anchor: &&ClockAnchor| json!({"boot_ns": anchor.boot.0, "wall_ns": anchor.wall.0});
    anchors.iter().map(anchor).collect()
}
