//! The report of every stored trace in every format, and what must hold of any report.
//!
//! `UPDATE_GOLDEN=1 cargo test --test report` stores the reports anew.
#![cfg(feature = "analyze")]

#[path = "support/golden.rs"]
mod golden;
mod traces;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use agentsight::event::Event;
use agentsight::query::{Options, Session};
use agentsight::report::{Format, Report};
use serde_json::Value;
use traces::STORED;

const FORMATS: [(Format, &str); 3] =
    [(Format::Text, "txt"), (Format::Markdown, "md"), (Format::Json, "json")];

fn report(path: &Path) -> Report {
    let session = Session::open(&[path.to_owned()], Options::default()).unwrap();
    Report::read(&session).unwrap()
}

/// The report of a trace that is not stored.
fn report_of(events: Vec<Event>, duration_ms: u64) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.parquet");
    traces::file::write(fs::File::create(&path).unwrap(), "made", events, duration_ms);
    report(&path)
}

fn json(report: &Report) -> Value {
    serde_json::from_str(&report.print(Format::Json)).unwrap()
}

#[test]
fn every_stored_trace_has_the_report_that_is_stored() {
    let mut differences = Vec::new();
    for stored in &STORED {
        let report = report(&stored.path());
        for (format, extension) in FORMATS {
            let name = format!("report/{}.{extension}", stored.name);
            differences.extend(golden::difference(&name, &report.print(format)));
        }
    }
    golden::assert_none(&differences);
}

#[test]
fn no_line_of_text_is_wider_than_120_columns() {
    for stored in &STORED {
        for line in report(&stored.path()).print(Format::Text).lines() {
            assert!(line.chars().count() <= 120, "{}: {line}", stored.name);
            assert_eq!(line, line.trim_end(), "{}", stored.name);
        }
    }
}

#[test]
fn the_figures_are_those_that_were_served() {
    let report = json(&report(&STORED[0].path()));
    let summary = &report["summary"];
    // The sums of the usage objects in tests/traces/demo.rs; of the cut call those of its start.
    assert_eq!(summary["calls"], 8);
    assert_eq!(summary["output_tokens"], 7 + 187 + 60 + 642 + 1 + 223 + 58);
    assert_eq!(summary["cache_read_tokens"], 1_024 + 12_840 + 14_751 + 14_751 + 15_139);
    assert_eq!((&summary["partial_calls"], &summary["unreported_calls"]), (&1.into(), &1.into()));
    // Loads of the processes in the same file.
    let cpu_ms = |pid: u64| {
        let processes = report["processes"].as_array().unwrap();
        processes.iter().find(|row| row["pid"] == pid).unwrap()["cpu_ms"].as_f64().unwrap()
    };
    assert_eq!(cpu_ms(4112).round(), (2_400.0_f64 * 0.98 + 3_700.0 * 0.99).round());
    assert_eq!(cpu_ms(4131).round(), (90.0_f64 * 0.7).round());
}

#[test]
fn time_during_and_between_calls_adds_up() {
    let report = json(&report(&STORED[0].path()));
    let rows = report["during_calls"].as_array().unwrap();
    let sum = |column: &str, is_wanted: &dyn Fn(&Value) -> bool| -> f64 {
        rows.iter().filter(|row| is_wanted(row)).map(|row| row[column].as_f64().unwrap()).sum()
    };
    let is_total = |row: &Value| row["pid"].is_null();
    assert!((sum("wall_percent", &is_total) - 100.0).abs() < 1e-6);
    // The last sample of a process is at 34 s, the first event at 5 ms.
    assert!((sum("wall_ms", &is_total) - 33_995.0).abs() < 1e-6);
    for during_calls in [true, false] {
        let of_state = |row: &Value| row["during_calls"] == during_calls;
        let total = sum("cpu_ms", &|row| of_state(row) && is_total(row));
        let each = sum("cpu_ms", &|row| of_state(row) && !is_total(row));
        assert!((total - each).abs() < 1e-3, "{total} is not {each}");
    }
}

#[test]
fn a_long_session_is_cut_in_text_and_whole_in_json() {
    let report = report_of(traces::long_session(450), 700_000);
    let text = report.print(Format::Text);
    assert!(text.contains("250 more calls are not shown"), "{text}");
    assert!(text.contains("agentsight-query made.parquet --named llm_calls_list"), "{text}");
    assert!(text.contains("431 more that used less CPU time are not shown"), "{text}");
    assert!(text.lines().count() < 340, "{}", text.lines().count());
    let json = json(&report);
    assert_eq!(json["calls"].as_array().unwrap().len(), 450);
    assert_eq!(json["processes"].as_array().unwrap().len(), 451);
}

#[test]
fn nothing_in_a_trace_reaches_the_terminal_or_the_page_as_more_than_text() {
    let report = report_of(traces::hostile_session(), 4_000);
    let (text, page) = (report.print(Format::Text), report.print(Format::Markdown));
    for printed in [&text, &page] {
        let is_obeyed = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        assert!(!printed.contains(is_obeyed), "{printed}");
        assert!(printed.len() < 20_000, "{} bytes", printed.len());
    }
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    assert!(!page.contains("<img") && !page.contains("http://"), "{page}");
    assert_eq!(json(&report)["calls"].as_array().unwrap().len(), 1);
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_agentsight-report")).args(arguments).output().unwrap()
}

fn failure(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_program_prints_what_the_library_does() {
    let path = STORED[0].path();
    for (format, name) in [("text", "txt"), ("markdown", "md"), ("json", "json")] {
        let output = run(&[path.to_str().unwrap(), "--format", format]);
        assert!(output.status.success() && output.stderr.is_empty());
        let stored = fs::read(golden::path(&format!("report/demo.{name}"))).unwrap();
        assert!(output.stdout == stored, "{format}");
    }
}

#[test]
fn an_output_file_is_overwritten_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (trace, out) = (folder.path().join("t.parquet"), folder.path().join("report.md"));
    fs::copy(STORED[0].path(), &trace).unwrap();
    let (trace, out) = (trace.to_str().unwrap(), out.to_str().unwrap());
    assert!(run(&[trace, "-o", out]).status.success());
    fs::write(out, "mine").unwrap();
    let message = failure(&[trace, "-o", out]);
    assert!(message.contains("exists") && message.contains("hint: add --force"), "{message}");
    assert_eq!(fs::read_to_string(out).unwrap(), "mine");
    assert!(run(&[trace, "-o", out, "--force"]).status.success());
    assert!(fs::read_to_string(out).unwrap().starts_with("agentsight report"));
    let before = fs::read(trace).unwrap();
    let message = failure(&[trace, "-o", trace, "--force"]);
    assert!(message.contains("the trace itself"), "{message}");
    assert_eq!(fs::read(trace).unwrap(), before);
}

#[test]
fn a_wrong_input_is_one_line_and_a_hint_and_leaves_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.txt");
    let (missing, text) = (folder.path().join("missing"), folder.path().join("text"));
    fs::write(&text, "not a trace").unwrap();
    let cut = folder.path().join("cut");
    fs::write(&cut, &fs::read(STORED[0].path()).unwrap()[..9_000]).unwrap();
    for (input, what) in
        [(&missing, "cannot read"), (&text, "is not a Parquet file"), (&cut, "is cut short")]
    {
        let message = failure(&[input.to_str().unwrap(), "-o", out.to_str().unwrap()]);
        let lines: Vec<&str> = message.lines().collect();
        assert!(lines[0].starts_with("agentsight-report: error: "), "{message}");
        assert!(lines[0].contains(what), "{message}");
        assert!(lines.len() == 2 && lines[1].starts_with("hint: "), "{message}");
        assert!(!out.exists());
    }
}
