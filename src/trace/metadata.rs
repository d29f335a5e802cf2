//! The key-value metadata of a trace: what is said once about the whole recording.
//!
//! [`Metadata`] is known when the recording starts and makes the first [`Keys`]; an [`Entry`]
//! replaces one of them later, up to those of [`ClosingMetadata`]; [`Totals`] is counted by the
//! writer as rows pass. All become `agentsight.*` keys of the Parquet footer; `docs/FORMAT.md`
//! describes each. Reads no clock and no host: the recorder fills this in.

use parquet::file::metadata::KeyValue;
use serde_json::{Value, json};

use super::clocks;
use super::schema::{FORMAT_VERSION, MIN_READER_VERSION, columns_json};
use super::totals::{Tally, Totals};
use crate::time::{ClockAnchor, WallNanos};

/// What all keys of this program begin with.
pub const KEY_PREFIX: &str = "agentsight.";
pub(crate) const FORMAT_VERSION_KEY: &str = "agentsight.format_version";
pub(crate) const MIN_READER_VERSION_KEY: &str = "agentsight.min_reader_version";
pub(crate) const CLOCK_ANCHORS_KEY: &str = "agentsight.clock_anchors";
/// Absent while the recording runs.
pub(crate) const STOP_REASON_KEY: &str = "agentsight.stop_reason";

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
    /// What is removed from the payload before it is stored: `secrets`; empty when nothing is.
    pub redaction: String,
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
    /// A pseudonym of the time since the last boot: recordings that share it share the boot-time
    /// and the monotonic clock. Empty when unknown.
    pub boot_id: String,
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

/// A binary that an agent runs from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binary {
    /// Path of the executable, as its process sees it.
    pub path: String,
    /// Size of the file; absent when it could not be read.
    pub size_bytes: Option<u64>,
    /// GNU build-id in hexadecimal, where it has one.
    pub build_id: Option<String>,
    /// The script that it interprets, where it is an interpreter.
    pub script: Option<String>,
    /// Name of the package that the program belongs to, where one is known.
    pub package: Option<String>,
    /// Version of the program, where one is known.
    pub version: Option<String>,
    /// Whether it matched the recording's filters itself, rather than descending from a match.
    pub matched: bool,
}

/// What became of one class of events between the kernel and the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassAccount {
    /// The `kind` of the events.
    pub event_class: String,
    /// What was observed, by the side that observed it.
    pub attempted: Tally,
    /// What the file holds.
    pub written: Tally,
    /// What was lost, for all causes together.
    pub lost: Tally,
}

impl ClassAccount {
    /// Whether every event and every byte is accounted for.
    #[must_use]
    pub fn balances(&self) -> bool {
        let sum = |a: u64, b: u64| a.checked_add(b);
        sum(self.written.events, self.lost.events) == Some(self.attempted.events)
            && sum(self.written.bytes, self.lost.bytes) == Some(self.attempted.bytes)
    }
}

/// What was done to remove credentials, and where it could not be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// What was searched for credentials.
    pub covered: Vec<&'static str>,
    /// Version of the set of rules; higher finds more.
    pub rules_version: u32,
    /// Per rule, how many values it replaced and how many bytes these had.
    pub replaced: Vec<(&'static str, Tally)>,
    /// Connections that spoke HTTP/2, whose heads are compressed.
    pub http2_connections: u64,
    /// Connections in which no head was found.
    pub unrecognised_connections: u64,
}

/// One key of the metadata and its value, ready to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, beginning with [`KEY_PREFIX`].
    pub key: &'static str,
    /// Its value, in the form that `docs/FORMAT.md` gives it.
    pub value: String,
}

impl Entry {
    /// All anchors of the recording so far, in order; the first converted its timestamps.
    #[must_use]
    pub fn clock_anchors(anchors: &[ClockAnchor]) -> Self {
        Self { key: CLOCK_ANCHORS_KEY, value: clocks::json_of(anchors) }
    }

    /// The binaries of agents seen so far.
    #[must_use]
    pub fn binaries(binaries: &[Binary]) -> Self {
        let binary = |binary: &Binary| {
            json!({
                "path": binary.path,
                "size_bytes": binary.size_bytes,
                "build_id": binary.build_id,
                "script": binary.script,
                "package": binary.package,
                "version": binary.version,
                "matched": binary.matched,
            })
        };
        let binaries: Value = binaries.iter().map(binary).collect();
        Self { key: "agentsight.binaries", value: binaries.to_string() }
    }

    /// What became of every class of events; only certain when nothing runs any more.
    #[must_use]
    pub fn ledger(accounts: &[ClassAccount]) -> Self {
        let account = |account: &ClassAccount| {
            json!({
                "event_class": account.event_class,
                "attempted_events": account.attempted.events,
                "attempted_bytes": account.attempted.bytes,
                "written_events": account.written.events,
                "written_bytes": account.written.bytes,
                "lost_events": account.lost.events,
                "lost_bytes": account.lost.bytes,
                "balanced": account.balances(),
            })
        };
        let accounts: Value = accounts.iter().map(account).collect();
        Self { key: "agentsight.ledger", value: accounts.to_string() }
    }

    /// What does not add up in this trace: the lines in which the recorder complained of itself.
    #[must_use]
    pub fn bugs(lines: &[String]) -> Self {
        Self { key: "agentsight.bugs", value: json!(lines).to_string() }
    }

    /// What was removed from the payload.
    #[must_use]
    pub fn redaction(value: impl Into<String>) -> Self {
        Self { key: "agentsight.redaction", value: value.into() }
    }

    /// What the redaction of credentials has done.
    #[must_use]
    pub fn redacted(redacted: &Redacted) -> Self {
        let count = |(rule, tally): &(&'static str, Tally)| {
            ((*rule).to_owned(), json!({"values": tally.events, "bytes": tally.bytes}))
        };
        let value = json!({
            "rules_version": redacted.rules_version,
            "covered": redacted.covered,
            "replaced": Value::Object(redacted.replaced.iter().map(count).collect()),
            "http2_connections": redacted.http2_connections,
            "unrecognised_connections": redacted.unrecognised_connections,
        });
        Self { key: "agentsight.redacted", value: value.to_string() }
    }

    /// When the recording ended.
    #[must_use]
    pub fn stop_ts(at: WallNanos) -> Self {
        Self { key: "agentsight.stop_ts", value: at.0.to_string() }
    }

    /// Why the recording ended.
    #[must_use]
    pub fn stop_reason(reason: impl Into<String>) -> Self {
        Self { key: STOP_REASON_KEY, value: reason.into() }
    }
}

impl ClosingMetadata {
    /// What is to be set when a recording ends that began with these clock anchors.
    #[must_use]
    pub fn entries(&self, start: &[ClockAnchor]) -> Vec<Entry> {
        let all: Vec<ClockAnchor> = start.iter().chain(&self.clock_anchors).copied().collect();
        // Without later ones, what is there already stays: more may have been set on the way.
        let anchors = (!self.clock_anchors.is_empty()).then(|| Entry::clock_anchors(&all));
        let stop = [Entry::stop_ts(self.stop_ts), Entry::stop_reason(self.stop_reason.clone())];
        anchors.into_iter().chain(stop).collect()
    }
}

/// The metadata of a trace but for its [`Totals`]: values by key, in the order in which the keys
/// first came.
///
/// Keys are text of any origin here: what another version wrote is kept as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pairs: Vec<(String, String)>,
}

impl Keys {
    /// What is known when a recording starts.
    #[must_use]
    pub fn new(metadata: &Metadata) -> Self {
        let mut keys = Self::default();
        let entries = [
            (FORMAT_VERSION_KEY, FORMAT_VERSION.to_string()),
            (MIN_READER_VERSION_KEY, MIN_READER_VERSION.to_string()),
            ("agentsight.recorder_version", metadata.recorder_version.clone()),
            ("agentsight.recording_id", metadata.recording_id.clone()),
            ("agentsight.command_line", json!(metadata.command_line).to_string()),
            ("agentsight.start_ts", metadata.start_ts.0.to_string()),
            ("agentsight.host", host_json(&metadata.host).to_string()),
            ("agentsight.filters", json!(metadata.filters).to_string()),
            ("agentsight.columns", columns_json().to_string()),
        ];
        entries.into_iter().for_each(|(key, value)| keys.set(Entry { key, value }));
        keys.set(Entry::clock_anchors(&metadata.clock_anchors));
        keys.set(Entry::redaction(match &*metadata.redaction {
            "" => "none",
            level => level,
        }));
        keys
    }

    /// Sets one key, in place of its earlier value if it has one.
    pub fn set(&mut self, entry: Entry) {
        self.set_text(entry.key, entry.value);
    }

    /// Sets one key that was read from somewhere. How many and how large is for the caller to bound.
    pub fn set_text(&mut self, key: &str, value: String) {
        match self.pairs.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((key.to_owned(), value)),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All keys with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// The keys of a footer: those of `keys`, then the totals, which take the place of any old ones.
pub(crate) fn key_values(keys: &Keys, totals: &Totals) -> Vec<KeyValue> {
    let totals = totals.entries();
    let stays = |key: &str| totals.iter().all(|total| total.key != key);
    let pair = |(key, value): (&str, &str)| KeyValue::new(key.to_owned(), value.to_owned());
    let keys = keys.iter().filter(|(key, _)| stays(key)).map(pair);
    keys.chain(totals.iter().map(|entry| pair((entry.key, &entry.value)))).collect()
}

fn host_json(host: &Host) -> Value {
    json!({
        "kernel": host.kernel,
        "arch": host.arch,
        "cpus": host.cpus,
        "hostname": host.hostname,
        "boot_id": (!host.boot_id.is_empty()).then_some(&host.boot_id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_entry_replaces_the_earlier_one_in_its_place() {
        let mut keys = Keys::new(&Metadata::default());
        let before: Vec<String> = keys.iter().map(|(key, _)| key.to_owned()).collect();
        keys.set(Entry::redaction("secrets"));
        assert_eq!(keys.get("agentsight.redaction"), Some("secrets"));
        assert_eq!(keys.iter().map(|(key, _)| key).collect::<Vec<_>>(), before);
        keys.set_text("agentsight.from_the_future", "1".into());
        assert_eq!(keys.iter().last(), Some(("agentsight.from_the_future", "1")));
    }

    #[test]
    fn the_end_adds_its_anchors_and_otherwise_leaves_those_that_were_set() {
        let anchor = |boot| ClockAnchor::new(crate::time::BootNanos(boot), WallNanos(7));
        let set = |closing: &ClosingMetadata| {
            let mut keys = Keys::default();
            keys.set(Entry::clock_anchors(&[anchor(1), anchor(2)]));
            closing.entries(&[anchor(1)]).into_iter().for_each(|entry| keys.set(entry));
            keys.get(CLOCK_ANCHORS_KEY).unwrap().to_owned()
        };
        let closing = ClosingMetadata::default();
        assert_eq!(set(&closing), Entry::clock_anchors(&[anchor(1), anchor(2)]).value);
        let closing = ClosingMetadata { clock_anchors: vec![anchor(3)], ..closing };
        assert_eq!(set(&closing), Entry::clock_anchors(&[anchor(1), anchor(3)]).value);
    }

    #[test]
    fn totals_are_in_a_footer_once() {
        let mut keys = Keys::new(&Metadata::default());
        keys.set_text("agentsight.kinds", "of another file".into());
        let footer = key_values(&keys, &Totals::default());
        let kinds: Vec<_> = footer.iter().filter(|pair| pair.key == "agentsight.kinds").collect();
        assert_eq!(kinds.len(), 1);
        assert_eq!(kinds[0].value.as_deref(), Some("{}"));
    }

    #[test]
    fn an_account_that_cannot_be_added_up_does_not_balance() {
        let tally = |events, bytes| Tally { events, bytes };
        let mut account = ClassAccount {
            event_class: "tls_data".into(),
            attempted: tally(10, 1000),
            written: tally(8, 700),
            lost: tally(2, 300),
        };
        assert!(account.balances());
        account.written.bytes += 1;
        assert!(!account.balances());
        account.written.bytes = u64::MAX;
        assert!(!account.balances());
    }
}
