//! `agentsight-query` as its users see it: what it prints, on which stream, with which exit code.
//!
//! Goldens are in `fixtures/golden/cli_query`; `UPDATE_GOLDEN=1 cargo test --test cli_query` makes
//! them again.
#![cfg(feature = "analyze")]

#[path = "support/golden.rs"]
mod golden;
mod traces;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-query"));
    // Paths in goldens and messages are the same on every machine.
    command.current_dir(".");
    command
}

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).stdin(Stdio::null()).output().unwrap()
}

const DEMO: &str = "fixtures/traces/demo.parquet";

/// What a run that is done prints.
fn answer(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The error line, without the program's name, and the hint of a run that failed.
fn failure(arguments: &[&str]) -> (String, Option<String>) {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?} printed a result");
    let mut lines = stderr.lines();
    let error = lines.next().unwrap().strip_prefix("agentsight-query: error: ").unwrap();
    let hint = lines.next().map(|line| line.strip_prefix("hint: ").unwrap().to_owned());
    assert_eq!(lines.next(), None, "{arguments:?}: more than an error and a hint");
    (error.to_owned(), hint)
}

fn assert_fails(arguments: &[&str], error: &str, hint: &str) {
    let (found, found_hint) = failure(arguments);
    let found_hint = found_hint.unwrap_or_default();
    assert!(found.contains(error), "{arguments:?}: expected '{error}', found '{found}'");
    assert!(found_hint.contains(hint), "{arguments:?}: expected '{hint}', found '{found_hint}'");
}

/// Every type that results have, with values that would break a careless format.
const ALL_TYPES: &str = "
    SELECT ts, pid, cpu_percent, argv, matched, data, comm,
      CASE WHEN kind = 'process_exec' THEN X'ff001b' END AS bytes,
      CASE WHEN kind = 'process_exec' THEN '' ELSE 'a,\"b\"\té' || chr(27) || '[31m' END AS text,
      named_struct('list', make_array(1, NULL), 'when', ts) AS nested
    FROM events
    WHERE kind IN ('process_exec', 'sample') OR (kind = 'tls_data' AND conn_id = 1)
    ORDER BY seq LIMIT 6";

#[test]
fn every_format_prints_every_type_as_stored() {
    let mut differences = Vec::new();
    for format in ["table", "csv", "tsv", "json", "ndjson"] {
        let made = answer(&[DEMO, ALL_TYPES, "--format", format]);
        differences.extend(golden::difference(&format!("cli_query/types.{format}"), &made));
    }
    golden::assert_none(&differences);
}

#[test]
fn json_and_ndjson_are_json() {
    let array = answer(&[DEMO, ALL_TYPES, "--format", "json"]);
    let array: Vec<serde_json::Value> = serde_json::from_str(&array).unwrap();
    let lines = answer(&[DEMO, ALL_TYPES, "--format", "ndjson"]);
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(array, lines);
    assert_eq!(array.len(), 6);
    assert_eq!(answer(&[DEMO, "SELECT 1 AS x WHERE false", "--format", "json"]), "[]\n");
}

#[test]
fn a_trace_without_a_question_is_described() {
    let mut differences = Vec::new();
    for trace in ["demo", "empty", "unfinished"] {
        let made = answer(&[&format!("fixtures/traces/{trace}.parquet")]);
        differences.extend(golden::difference(&format!("cli_query/overview_{trace}.txt"), &made));
    }
    golden::assert_none(&differences);
    let facts = answer(&[DEMO, "--format", "csv"]);
    assert!(facts.contains("counted.complete,true\n"), "{facts}");
}

#[test]
fn no_control_character_of_a_trace_reaches_the_terminal_through_a_table() {
    let sql = "SELECT chr(27) || '[2J' AS a, X'1b5d303b' AS b, chr(155) || chr(8238) AS c";
    let table = answer(&[DEMO, sql]);
    assert!(table.chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
    assert!(!table.contains('\u{202e}'), "{table:?}");
}

#[test]
fn named_queries_take_parameters_as_values() {
    let all = answer(&[DEMO, "--named", "llm_calls_list", "--format", "csv"]);
    assert_eq!(all.lines().count(), 9);
    let list = answer(&["--list"]);
    assert!(list.contains("llm_calls_list: "), "{list}");
    assert_fails(
        &[DEMO, "--named", "llm_calls_lits"],
        "no named query 'llm_calls_lits'",
        "did you mean 'llm_calls_list'?",
    );
    let wrong = [DEMO, "--named", "processes_list", "--param", "failed_only=perhaps"];
    assert_fails(&wrong, "expected true or false, found 'perhaps'", "");
    let unknown = [DEMO, "--named", "processes_list", "--param", "x=1"];
    assert_fails(&unknown, "has no parameter 'x'", "it takes commands_only, failed_only");
    let injected = [DEMO, "--named", "processes_list", "--param", "failed_only=true OR 1=1"];
    assert_fails(&injected, "expected true or false", "");
}

#[test]
fn sql_comes_from_an_argument_a_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("question.sql");
    fs::write(&file, "-- a comment\nSELECT count(*) AS n FROM llm_calls\n").unwrap();
    let expected = "n\n8\n";
    assert_eq!(answer(&[DEMO, "-f", file.to_str().unwrap(), "--format", "csv"]), expected);
    let sql = "SELECT count(*) AS n FROM llm_calls";
    assert_eq!(answer(&[DEMO, sql, "--format", "csv"]), expected);
    let mut child = command()
        .args([DEMO, "-f", "-", "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, expected.as_bytes());
}

#[test]
fn a_trace_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a b.parquet", "run[1]*?.parquet", "50%23#.parquet", "no ending", "é.parquet"] {
        let path = folder.path().join(name);
        fs::copy(DEMO, &path).unwrap();
        let path = path.to_str().unwrap();
        let rows = answer(&[path, "SELECT count(*) AS n FROM events", "--format", "csv"]);
        assert_eq!(rows, "n\n237\n", "{name}");
        assert!(answer(&[path]).starts_with("Trace  "), "{name}");
    }
}

#[test]
fn mistakes_in_sql_are_named_with_what_is_nearest() {
    let nearest = |sql, error, hint| assert_fails(&[DEMO, sql], error, hint);
    nearest("SELECT * FROM llm_call", "no table 'llm_call'", "did you mean 'llm_calls'?");
    nearest(
        "SELECT * FROM nothing_like_it",
        "no table 'nothing_like_it'",
        "the tables are events,",
    );
    nearest("SELECT modell FROM llm_calls", "no column 'modell'", "did you mean 'model'?");
    nearest("SELECT l.cuase FROM losses AS l", "no column 'l.cuase'", "did you mean 'cause'?");
    nearest("SELECT xyz FROM losses", "no column 'xyz'", "the columns are first_ts, last_ts,");
    nearest("SELEC 1", "SQL syntax: expected: an SQL statement, found: SELEC at Line: 1", "");
    nearest("SELECT 'open", "SQL syntax: ", "");
    nearest("SELECT 1; SELECT 2", "expected one SQL statement, found 2", "one by one");
    nearest("  ", "expected one SQL statement, found 0", "");
    nearest("SELECT no_such_function(1)", "invalid function 'no_such_function'", "");
    nearest("SELECT 1/0", "divide by zero", "");
    nearest("SELECT $x", "no value for the parameter in this SQL: $x", "--named");
    nearest("SELECT body_text(1)", "body_text expects BINARY or BINARY[], found Int64", "");
}

#[test]
fn a_trace_is_only_read_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let copy = format!("COPY events TO '{}'", out.display());
    for (sql, name) in [
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "CREATE EXTERNAL TABLE"),
        ("DROP TABLE events", "DROP TABLE"),
        ("INSERT INTO events SELECT * FROM events", "INSERT INTO"),
        ("DELETE FROM events", "DELETE FROM"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
        (copy.as_str(), "COPY"),
        (&format!("EXPLAIN ANALYZE {copy}"), "COPY"),
    ] {
        assert_fails(
            &[DEMO, sql],
            &format!("{name} is refused: a trace is only ever read"),
            "SELECT",
        );
    }
    assert!(!out.exists());
    assert_fails(
        &[DEMO, "SELECT * FROM '/etc/passwd'"],
        "no table '/etc/passwd'",
        "the tables are",
    );
    assert_fails(&[DEMO, "SELECT * FROM read_csv('/etc/passwd')"], "read_csv", "");
}

#[test]
fn sql_that_nests_too_deep_is_refused_and_not_a_crash() {
    let sum = |terms: usize| format!("SELECT 1{} AS x", "+1".repeat(terms));
    assert_eq!(answer(&[DEMO, &sum(900), "--format", "csv"]), "x\n901\n");
    assert_fails(&[DEMO, &sum(5_000)], "the SQL is too large: expected at most 1000 levels", "");
    let union = format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000));
    assert_fails(&[DEMO, &union], "the SQL is too large: expected at most 256 SELECTs", "");
    let parentheses = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert_fails(&[DEMO, &parentheses], "SQL syntax: recursion limit exceeded", "");
}

#[test]
fn memory_is_limited_where_asked() {
    let sql = "SELECT * FROM events ORDER BY ts";
    assert_fails(&[DEMO, sql, "--memory-limit", "10K"], "out of memory: ", "--memory-limit");
    let output = run(&[DEMO, sql, "--memory-limit", "1G", "--format", "csv"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(run(&[DEMO, sql, "--memory-limit", "much"]).status.code(), Some(2));
}

/// A Parquet file that any other program may have written.
fn other_parquet(path: &Path) {
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(vec![1]))])
            .unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn files_that_are_no_trace_are_named_with_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let question = "SELECT 1";
    let refused = |path: &str, error: &str, hint: &str| {
        assert_fails(&[path, question], error, hint);
        assert_fails(&[path], error, hint);
        assert!(failure(&[path, question]).0.contains(path), "{path} is not named");
    };

    refused(&place("missing.parquet"), "No such file", "check the path");
    refused(folder.path().to_str().unwrap(), "Is a directory", "");
    let text = place("text.parquet");
    fs::write(&text, "ts,kind\n1,sample\n").unwrap();
    refused(&text, "is not a Parquet file", "agentsight-rec");
    let empty = place("empty.parquet");
    fs::write(&empty, "").unwrap();
    refused(&empty, "is not a Parquet file", "agentsight-rec");
    let other = place("other.parquet");
    other_parquet(Path::new(&other));
    refused(&other, "not an agentsight trace", "agentsight-rec");
    let whole = fs::read(PathBuf::from(".").join(DEMO)).unwrap();
    let cut = place("cut.parquet");
    for bytes in [5, whole.len() / 2, whole.len() - 1] {
        fs::write(&cut, &whole[..bytes]).unwrap();
        refused(&cut, "is cut short", "the copy is incomplete");
    }
}

#[test]
fn traces_and_sql_are_not_mistaken_for_each_other() {
    assert_fails(&["SELECT 1"], "expected a trace, found none", "give the path");
    assert_fails(&[], "expected a trace, found none", "give the path");
    let missing = ["my run.parquet"];
    assert_fails(&missing, "cannot read 'my run.parquet'", "check the path");
    assert_fails(&["run.parquet", "SELECT 1"], "cannot read 'run.parquet'", "check the path");
    assert_fails(
        &[DEMO, DEMO, "SELECT 1"],
        "'fixtures/traces/demo.parquet' is given twice",
        "once",
    );
    assert_fails(&[DEMO, "events"], "cannot read 'events'", "SQL is one argument with white space");
}

#[test]
fn an_output_file_appears_whole_and_replaces_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.csv");
    let out_text = out.to_str().unwrap();
    let write = |sql: &'static str, more: &[&'static str]| {
        let mut arguments = vec![DEMO, sql, "--format", "csv", "-o", out_text];
        arguments.extend(more);
        run(&arguments)
    };
    assert_eq!(write("SELECT 1 AS x", &[]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), "x\n1\n");
    assert_fails(&[DEMO, "SELECT 2 AS x", "-o", out_text], "exists already", "--force");
    let failed = write("SELECT 1/0", &["--force"]);
    assert_eq!(failed.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&out).unwrap(), "x\n1\n");
    assert_eq!(write("SELECT 2 AS x", &["--force"]).status.code(), Some(0));
    assert_eq!(fs::read_to_string(&out).unwrap(), "x\n2\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a partial file was left");
    let nowhere = folder.path().join("missing/out.csv");
    assert_fails(&[DEMO, "SELECT 1", "-o", nowhere.to_str().unwrap()], "cannot write", "");
    let trace = folder.path().join("run.parquet");
    fs::copy(DEMO, &trace).unwrap();
    let trace = trace.to_str().unwrap();
    assert_fails(&[trace, "SELECT 1", "-o", trace, "--force"], "is the trace itself", "another");
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    // Far more than a pipe holds.
    let sql = "SELECT a.kind, b.detail, c.key FROM events AS a CROSS JOIN events AS b \
               CROSS JOIN trace_info AS c";
    let mut child = command()
        .args([DEMO, sql, "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "kind,detail,key\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn the_same_question_gives_the_same_bytes() {
    for sql in [
        "SHOW TABLES",
        "SELECT comm, avg(rss_bytes), sum(cpu_percent) FROM samples GROUP BY comm",
        "SELECT * FROM http",
        "SELECT h.host, count(*) FROM http AS h JOIN stream_events AS s USING (http_id) GROUP BY 1",
    ] {
        let once = answer(&[DEMO, sql, "--format", "json"]);
        assert_eq!(once, answer(&[DEMO, sql, "--format", "json"]), "{sql}");
    }
}
