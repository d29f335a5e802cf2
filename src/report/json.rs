//! A report for programs: every row of every query, nothing cut and nothing rounded for reading.
//!
//! Keys are the columns of the queries, so each has its unit in its name and its meaning in the
//! header of `queries/NAME.sql`. [`REPORT_VERSION`] rises when a key loses its meaning or goes away;
//! new keys may come at any time.

use serde_json::{Map, Number, Value as Json, json};

use super::Report;
use super::rows::{Row, Rows, Value};
use crate::human::timestamp;

/// Version of the shape of this output.
pub(super) const REPORT_VERSION: u32 = 1;

/// The report as one JSON object, with a line break at its end.
pub(super) fn print(report: &Report) -> String {
    let recording = &report.recording;
    let document = json!({
        "report_version": REPORT_VERSION,
        "trace": report.file_name(),
        "recording": {
            "recorder_version": recording.recorder_version,
            "kernel": recording.kernel,
            "start_ts": recording.start_ns.map(timestamp),
            "end_ts": recording.end_ns.map(timestamp),
            "stop_reason": recording.stop_reason,
            "is_finished": recording.is_finished(),
            "unknown_events": recording.unknown_events(),
            "shortfalls": recording.shortfalls.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "summary": report.summary.first().map_or(Json::Null, object),
        "agents": array(&report.agents),
        "models": array(&report.models),
        "costs": array(&report.costs),
        "calls": array(&report.calls),
        "conversations": array(&report.conversations),
        "turns": array(&report.turns),
        "tools": array(&report.tools),
        "tool_calls_repeated": array(&report.repeated),
        "cache_breaks": array(&report.cache_breaks),
        "processes": array(&report.processes),
        "during_calls": array(&report.activity),
        "files_by_process": array(&report.files_by_process),
        "files_changed": array(&report.files_changed),
        "files_failed": array(&report.files_failed),
        "connections_by_host": array(&report.hosts),
        "connections_incomplete": array(&report.incomplete),
        "losses": array(&report.losses),
        "gaps": array(&report.gaps),
        "probes": array(&report.probes),
    });
    format!("{document:#}\n")
}

fn array(rows: &Rows) -> Json {
    rows.iter().map(object).collect()
}

fn object(row: Row<'_>) -> Json {
    let fields = row.fields().map(|(name, value)| (name.to_owned(), json_value(value)));
    Json::Object(fields.collect::<Map<_, _>>())
}

fn json_value(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(is_true) => Json::Bool(*is_true),
        Value::Int(number) => Json::from(*number),
        Value::Float(number) => Number::from_f64(rounded(*number)).map_or(Json::Null, Json::Number),
        Value::Text(text) => Json::String(text.clone()),
        Value::Ts(ns) => Json::String(timestamp(*ns)),
        Value::List(items) => Json::from(items.clone()),
    }
}

/// To six places, which is nanoseconds in milliseconds. Beyond that, sums of floating-point numbers
/// depend on the order in which the query engine happens to add.
fn rounded(number: f64) -> f64 {
    const PLACES: f64 = 1e6;
    let scaled = number * PLACES;
    // From 2^53 on there are no places left to round.
    if scaled.abs() < 9_007_199_254_740_992.0 { scaled.round() / PLACES } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_sum_does_not_show() {
        let one = [0.1, 0.2, 0.3].iter().sum::<f64>();
        let other = [0.3, 0.2, 0.1].iter().sum::<f64>();
        assert_ne!(one, other);
        assert_eq!(rounded(one), rounded(other));
        assert_eq!(rounded(1e300), 1e300);
    }

    #[test]
    fn what_json_has_no_number_for_is_null() {
        assert_eq!(json_value(&Value::Float(f64::NAN)), Json::Null);
        assert_eq!(json_value(&Value::Ts(0)), json!("1970-01-01T00:00:00.000000000Z"));
    }
}
