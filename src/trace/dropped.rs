//! What could not be written because the disk was full or failed, and how that is told.
//!
//! If the file can still be finished the losses become rows of it; if not, a short text in the log
//! keeps them until [`super::repair`] can write those rows.

use std::collections::BTreeMap;
use std::io;

use parquet::errors::ParquetError;
use serde_json::{Value, json};

use super::error::Error;
use super::metadata::ClosingMetadata;
use super::totals::Tally;
use crate::event::{Body, Event, Loss};
use crate::time::WallNanos;

/// Causes of the `loss` rows that come of this.
const DISK_FULL: &str = "disk_full";
const WRITE_FAILED: &str = "write_failed";

/// Event classes that are believed when read back.
const MOST_CLASSES: usize = 64;

/// What could not be written.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    by_kind: BTreeMap<String, Tally>,
    first_ts: Option<WallNanos>,
    /// Why, as the cause of a `loss`; absent as long as nothing failed.
    pub(crate) cause: Option<&'static str>,
}

impl Dropped {
    /// Counts an event that is not even tried.
    pub(crate) fn count(&mut self, event: &Event) {
        let (events, bytes) = match &event.body {
            // Calls that were joined are the events that were observed.
            Body::Data(tls) => (tls.call_ts.len().max(1) as u64, tls.data.len() as u64),
            _ => (1, 0),
        };
        self.first_ts.get_or_insert(event.ts);
        self.add([(event.body.kind(), Tally { events, bytes })]);
    }

    /// Counts rows that were taken in and then lost.
    pub(crate) fn add(&mut self, rows: impl IntoIterator<Item = (&'static str, Tally)>) {
        for (kind, tally) in rows {
            self.by_kind.entry(kind.to_owned()).or_default().add(tally.events, tally.bytes);
        }
    }

    /// Takes note of why writing failed first.
    pub(crate) fn note(&mut self, error: &Error) {
        self.cause.get_or_insert(if is_disk_full(error) { DISK_FULL } else { WRITE_FAILED });
    }

    /// Why writing failed, once more.
    pub(crate) fn io_error(&self) -> io::Error {
        match self.cause {
            Some(DISK_FULL) => io::ErrorKind::StorageFull.into(),
            _ => io::Error::other("a row group could not be written"),
        }
    }

    /// Everything together.
    pub(crate) fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        self.by_kind.values().for_each(|tally| sum.add(tally.events, tally.bytes));
        sum
    }

    /// The losses as rows, for a range that ends at `ts`.
    pub(crate) fn losses(&self, ts: WallNanos) -> Vec<Event> {
        let cause = self.cause.unwrap_or(WRITE_FAILED);
        let first_ts = self.first_ts.unwrap_or(ts).min(ts);
        self.by_kind.iter().map(|(kind, tally)| loss(kind, cause, *tally, first_ts, ts)).collect()
    }

    /// Why a recording ended and what was lost, as text for its log.
    pub(crate) fn end_text(&self, closing: &ClosingMetadata) -> String {
        let dropped = |(kind, tally): (&String, &Tally)| json!({"event_class": kind, "lost_events": tally.events, "lost_bytes": tally.bytes});
        json!({
            "stop_ts": closing.stop_ts.0,
            "stop_reason": closing.stop_reason,
            "cause": self.cause.unwrap_or(WRITE_FAILED),
            "first_ts": self.first_ts.unwrap_or(closing.stop_ts).0,
            "dropped": self.by_kind.iter().map(dropped).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

/// What [`Dropped::end_text`] says, read back.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct End {
    pub(crate) stop_ts: Option<WallNanos>,
    pub(crate) stop_reason: String,
    pub(crate) losses: Vec<Event>,
}

impl End {
    /// Reads the text of a log; what does not fit is left out.
    pub(crate) fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap_or_default();
        let ts = |key: &str| json.get(key).and_then(Value::as_i64).map(WallNanos);
        let word = |value: &Value, key: &str| {
            let word = value.get(key).and_then(Value::as_str).unwrap_or("unknown");
            word.chars().filter(|c| c.is_ascii_graphic()).take(64).collect::<String>()
        };
        let stop_ts = ts("stop_ts");
        let last_ts = stop_ts.unwrap_or_default();
        let first_ts = ts("first_ts").unwrap_or(last_ts);
        let cause = word(&json, "cause");
        let dropped = json.get("dropped").and_then(Value::as_array);
        let dropped = dropped.into_iter().flatten().take(MOST_CLASSES);
        let losses = dropped.map(|dropped| {
            let number = |key: &str| dropped.get(key).and_then(Value::as_u64).unwrap_or(0);
            let tally = Tally { events: number("lost_events"), bytes: number("lost_bytes") };
            loss(&word(dropped, "event_class"), &cause, tally, first_ts, last_ts)
        });
        Self { stop_ts, stop_reason: word(&json, "stop_reason"), losses: losses.collect() }
    }
}

fn loss(event_class: &str, cause: &str, lost: Tally, first_ts: WallNanos, ts: WallNanos) -> Event {
    let body = Body::Loss(Loss {
        first_ts,
        event_class: event_class.to_owned(),
        cause: cause.to_owned(),
        lost_events: lost.events,
        lost_bytes: lost.bytes,
        conn_id: None,
    });
    Event { ts, process: None, tid: None, comm: None, body }
}

/// Whether there was no room, for the file system or for this user.
fn is_disk_full(error: &Error) -> bool {
    let no_room = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    };
    match error {
        Error::Flush(error) | Error::Log(error) => no_room(error),
        Error::Write(ParquetError::External(source)) => {
            source.downcast_ref::<io::Error>().is_some_and(no_room)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_says_of_the_end_reads_back_as_losses() {
        let mut dropped = Dropped::default();
        dropped.note(&Error::Log(io::Error::from(io::ErrorKind::StorageFull)));
        dropped.add([("tls_data", Tally { events: 3, bytes: 70 })]);
        dropped.add([("sample", Tally { events: 1, bytes: 0 })]);
        let closing = ClosingMetadata {
            stop_ts: WallNanos(9),
            stop_reason: "disk_full".into(),
            ..ClosingMetadata::default()
        };
        let end = End::parse(&dropped.end_text(&closing));
        assert_eq!(end.stop_reason, "disk_full");
        assert_eq!(end.losses, dropped.losses(WallNanos(9)));
        assert_eq!(end.losses.len(), 2);
        assert_eq!(dropped.sum(), Tally { events: 4, bytes: 70 });
    }

    #[test]
    fn any_text_is_some_end() {
        for text in ["", "{", "[]", r#"{"dropped":[1,{"event_class":7}],"stop_ts":"x"}"#] {
            let _ = End::parse(text);
        }
    }
}
