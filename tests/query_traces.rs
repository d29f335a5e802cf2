//! Questions about several traces, about recordings in parts, and about traces that are not whole.
#![cfg(feature = "analyze")]

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;
mod traces;

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use agentsight::event::{Direction, Event};
use agentsight::query::print::{Format, print};
use agentsight::query::{Options, Session, ShortfallKind, library};
use agentsight::trace::{Entry, Limits, Reader, Recording, Scan, Sync};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use traces::STORED;

const DEMO: &str = "fixtures/traces/demo.parquet";
const UNFINISHED: &str = "fixtures/traces/unfinished.parquet";

fn open(paths: &[&str]) -> Session {
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    Session::open(&paths, Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn csv(rows: agentsight::query::Rows<'_>) -> String {
    printed(rows, Format::Csv)
}

/// A row is a line, whatever text is in it.
fn tsv(rows: agentsight::query::Rows<'_>) -> String {
    printed(rows, Format::Tsv)
}

fn printed(rows: agentsight::query::Rows<'_>, format: Format) -> String {
    let mut text = Vec::new();
    print(rows, format, &mut text).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(text).unwrap()
}

fn answer(session: &Session, sql: &str) -> String {
    csv(session.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}")))
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let path = match program {
        "query" => env!("CARGO_BIN_EXE_agentsight-query"),
        _ => env!("CARGO_BIN_EXE_agentsight-report"),
    };
    Command::new(path).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn every_table_of_several_traces_says_first_which_trace_a_row_is_of() {
    let session = open(&[DEMO, UNFINISHED]);
    let tables = agentsight::tables::catalogue();
    for table in tables.iter().map(|table| table.name).filter(|name| *name != "docs") {
        let rows = session.sql(&format!("SELECT * FROM {table}")).unwrap();
        assert_eq!(rows.schema().field(0).name(), "trace", "{table}");
        let count = format!("SELECT count(*) AS n FROM {table}");
        let count = |session: &Session| -> u64 {
            answer(session, &count).lines().last().unwrap().parse().unwrap()
        };
        let alone = count(&open(&[DEMO])) + count(&open(&[UNFINISHED]));
        assert_eq!(count(&session), alone, "{table}");
    }
    let counted = "SELECT trace, count(*) AS n FROM events GROUP BY trace ORDER BY trace";
    assert_eq!(answer(&session, counted), "trace,n\ndemo.parquet,237\nunfinished.parquet,18\n");
    let joined = "SELECT count(*) AS n FROM llm_calls AS c \
                  JOIN http AS h ON h.trace = c.trace AND h.http_id = c.http_id";
    assert_eq!(answer(&session, joined), "n\n10\n");
    // A trace alone has no such column.
    assert!(open(&[DEMO]).sql("SELECT trace FROM events").is_err());
}

#[test]
fn the_documentation_of_several_traces_has_the_column_too() {
    let documented = "SELECT \"table\", \"column\" FROM docs ORDER BY 1, 2";
    let existing = "SELECT table_name AS \"table\", column_name AS \"column\" \
                    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2";
    let session = open(&[DEMO, UNFINISHED]);
    assert_eq!(answer(&session, documented), answer(&session, existing));
}

#[test]
fn filters_reach_the_files_and_choose_traces() {
    let filter = "FROM events WHERE kind = 'tls_data' AND data_bytes > 1000";
    for (paths, column) in [(&[DEMO][..], "pid"), (&[DEMO, UNFINISHED], "trace")] {
        let session = open(paths);
        let plan = answer(&session, &format!("EXPLAIN SELECT {column} {filter}"));
        assert!(plan.contains("pruning_predicate=kind_"), "{plan}");
        assert!(!plan.contains("FilterExec"), "{plan}");
    }
    let session = open(&[DEMO, UNFINISHED]);
    let plan = answer(&session, "EXPLAIN SELECT pid FROM events WHERE trace = 'demo.parquet'");
    assert!(!plan.contains("FilterExec"), "{plan}");
    for table in ["events", "llm_calls", "processes"] {
        let sql = format!("SELECT count(*) AS n FROM {table} WHERE trace LIKE 'unf%'");
        let alone = format!("SELECT count(*) AS n FROM {table}");
        assert_eq!(answer(&session, &sql), answer(&open(&[UNFINISHED]), &alone), "{table}");
    }
    assert_eq!(answer(&session, "SELECT pid FROM processes WHERE trace = 'other'"), "pid\n");
}

#[test]
fn a_trace_that_is_not_chosen_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.parquet");
    write_without_rows(&broken);
    let session = open(&[DEMO, broken.to_str().unwrap()]);
    let chosen = "SELECT count(*) AS n FROM http WHERE trace = 'demo.parquet'";
    assert_eq!(answer(&session, chosen), answer(&open(&[DEMO]), "SELECT count(*) AS n FROM http"));
    let all = session.sql("SELECT count(*) AS n FROM http").unwrap().collect_batches();
    assert!(all.unwrap_err().to_string().contains("is damaged"));
}

#[test]
fn a_named_query_is_asked_of_one_trace_after_the_other() {
    let paths: Vec<String> =
        STORED.iter().map(|stored| stored.path().to_str().unwrap().to_owned()).collect();
    let all = open(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    for query in library::all() {
        let mut expected = String::new();
        for (at, (stored, path)) in STORED.iter().zip(&paths).enumerate() {
            let alone = tsv(open(&[path]).named(query.name, &[]).unwrap());
            let (head, rows) = alone.split_once('\n').unwrap();
            if at == 0 {
                expected.push_str(&format!("trace\t{head}\n"));
            }
            for row in rows.lines() {
                expected.push_str(&format!("{}.parquet\t{row}\n", stored.name));
            }
        }
        assert_eq!(tsv(all.named(query.name, &[]).unwrap()), expected, "{}", query.name);
    }
}

#[test]
fn traces_of_the_same_name_are_told_apart_by_their_folders() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["a/run.parquet", "b/run.parquet"].map(|name| folder.path().join(name));
    for path in &paths {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(UNFINISHED, path).unwrap();
    }
    let session = open(&[paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]);
    let names = answer(&session, "SELECT DISTINCT trace FROM events ORDER BY trace");
    assert_eq!(names, "trace\na/run.parquet\nb/run.parquet\n");
}

/// Begins a recording with small row groups at `path`, locked as a recorder does.
fn begin(path: &Path) -> Recording {
    let create =
        |path: &Path| OpenOptions::new().read(true).write(true).create_new(true).open(path);
    let file = create(path).unwrap();
    file.try_lock().unwrap();
    let metadata = trace_file::metadata();
    let recording = Recording::create(file, path, &metadata, Sync::None, Box::new(create)).unwrap();
    recording.with_limits(Limits { group_bytes: 4_000, ..Limits::default() })
}

const PART: &str = "agentsight.part";

/// A part of one recording, which begins with `carried` of the part before it.
fn part(path: &Path, part: &str, first_seq: u64, carried: &[Event], events: Vec<Event>) -> u64 {
    let mut recording = begin(path);
    recording.set(Entry { key: PART, value: part.into() });
    if !carried.is_empty() {
        let kinds = format!(r#"{{"process_seen":{}}}"#, carried.len());
        recording.set(Entry { key: "agentsight.carried", value: kinds });
        carried.iter().for_each(|event| recording.push(event.clone()).unwrap());
        recording.close_row_group().unwrap();
    }
    recording.continue_seq(first_seq);
    events.into_iter().for_each(|event| recording.push(event).unwrap());
    let next_seq = recording.next_seq();
    assert!(recording.finish(trace_file::closing()).unfinished.is_none());
    next_seq
}

#[test]
fn parts_of_a_recording_are_one_trace_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tls = |at, direction, offset, data: &str| {
        trace_file::tls(at, 7, direction, offset, data.as_bytes())
    };
    // The head of the request ends in the second file.
    let (head, rest) = ("GET /straddles HTTP/1.1\r\nHost: h.exa", "mple\r\n\r\n");
    let seen = trace_file::one_of_each().into_iter().filter(|e| e.body.kind() == "process_seen");
    let seen: Vec<Event> = seen.collect();
    let first = vec![seen[0].clone(), tls(1, Direction::Write, 0, head)];
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let second = vec![
        tls(2, Direction::Write, head.len() as u64, rest),
        tls(3, Direction::Read, 0, response),
    ];
    let next_seq = part(&path("run.1.parquet"), "1", 0, &[], first);
    part(&path("run.2.parquet"), "2", next_seq, &seen, second);
    let names = [path("run.2.parquet"), path("run.1.parquet")];
    let names: Vec<&str> = names.iter().map(|name| name.to_str().unwrap()).collect();
    let session = open(&names);
    assert_eq!(
        answer(&session, "SELECT path, host, status, complete FROM http"),
        "path,host,status,complete\n/straddles,h.example,200,true\n"
    );
    // What the second file repeats of the first is there once.
    assert_eq!(
        answer(&session, "SELECT seq, kind FROM events"),
        "seq,kind\n0,process_seen\n1,tls_data\n2,tls_data\n3,tls_data\n"
    );
    assert_eq!(answer(&open(&names[..1]), "SELECT count(*) AS n FROM events"), "n\n3\n");
    assert_eq!(session.trace_names(), ["run.1.parquet"]);
    let info = "SELECT value FROM trace_info WHERE key IN ('agentsight.part', 'counted.events') \
                ORDER BY key";
    assert_eq!(answer(&session, info), "value\n\"1, 2\"\n4\n");
    let kinds = "SELECT value FROM trace_info WHERE key = 'agentsight.kinds'";
    assert!(
        answer(&session, kinds).contains("\"\"tls_data\"\":{\"\"events\"\":3"),
        "{}",
        answer(&session, kinds)
    );
    // With another trace beside them they are still one.
    let beside = open(&[names[0], DEMO, names[1]]);
    assert_eq!(beside.trace_names(), ["run.1.parquet", "demo.parquet"]);
    let overview = text(&run("query", &names).stdout);
    assert!(overview.contains("Events        4 in 3 row groups"), "{overview}");
    assert!(overview.contains("run.1.parquet and others: parts 1, 2 of a recording"), "{overview}");
    assert!(run("report", &names).status.success());
}

#[test]
fn a_part_that_is_not_there_is_missed_and_one_that_is_there_twice_is_not_mixed_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, number) in [("a", "1"), ("b", "3"), ("c", "3")] {
        part(&path(name), number, 0, &[], trace_file::one_of_each());
    }
    let paths = ["a", "b", "c"].map(|name| path(name).to_str().unwrap().to_owned());
    let shortfalls = open(&[&paths[0], &paths[1]]).shortfalls();
    let missing = shortfalls.iter().find(|it| it.kind == ShortfallKind::MissingPart(2));
    assert_eq!(
        missing.map(ToString::to_string).as_deref(),
        Some("'a' is incomplete: part 2 of the recording was not given")
    );
    assert_eq!(open(&[&paths[0], &paths[1], &paths[2]]).trace_names(), ["a", "b", "c"]);
}

#[test]
fn a_running_and_an_abandoned_recording_answer_and_say_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.parquet");
    let name = path.to_str().unwrap();
    let mut recording = begin(&path);
    // Without the loss among them: that is a shortfall of its own.
    let events: Vec<Event> =
        trace_file::one_of_each().into_iter().filter(|e| e.body.kind() != "loss").collect();
    let count = events.len();
    events.into_iter().for_each(|event| recording.push(event).unwrap());
    recording.flush_log().unwrap();

    let sql = "SELECT count(*) AS n FROM events";
    let live = run("query", &[name, sql, "--format", "csv", "--strict"]);
    let told = text(&live.stderr);
    assert_eq!(text(&live.stdout), format!("n\n{count}\n"), "{told}");
    assert!(
        told.starts_with(
            "agentsight-query: warning: 'run.parquet' is incomplete: it is still being recorded; \
             this is what was written so far"
        ),
        "{told}"
    );
    assert_eq!((live.status.code(), told.lines().count()), (Some(1), 1));
    let overview = text(&run("query", &[name]).stdout);
    assert!(
        overview.contains("Completeness  incomplete: it is still being recorded"),
        "{overview}"
    );
    assert!(overview.contains(", its last event ("), "{overview}");

    // The recorder is gone and its log is there.
    drop(recording);
    let dead = run("query", &[name, sql, "--format", "csv"]);
    assert_eq!(text(&dead.stdout), format!("n\n{count}\n"));
    let told = text(&dead.stderr);
    assert!(told.contains("is incomplete: the recorder did not finish"), "{told}");
    assert!(told.contains("came from its log"), "{told}");
    assert_eq!(dead.status.code(), Some(0));
    for arguments in [&[name, "--strict"][..], &[name]] {
        let report = run("report", arguments);
        assert_eq!(report.status.code(), Some(i32::from(arguments.len() > 1)));
        assert!(text(&report.stderr).contains("agentsight-report: warning: 'run.parquet'"));
        let body = text(&report.stdout);
        assert!(body.contains("not complete: the recorder did not finish"), "{body}");
        assert!(body.contains("agentsight-rec repair"), "{body}");
    }
    let info = "SELECT value FROM trace_info WHERE key = 'counted.completeness'";
    assert_eq!(answer(&open(&[name]), info), "value\nunfinished\n");
    for query in library::all() {
        csv(open(&[name]).named(query.name, &[]).unwrap());
    }

    assert!(agentsight::trace::repair(&path).is_ok());
    let repaired = run("query", &[name, sql, "--strict"]);
    assert_eq!(repaired.status.code(), Some(1));
    assert!(text(&repaired.stderr).contains("the file was repaired"));
}

#[test]
fn strict_asks_about_losses_too_and_is_content_with_a_whole_trace() {
    let strict = |trace: &str| run("query", &[trace, "SELECT 1 AS x", "--strict"]);
    let lost = strict(DEMO);
    let told = text(&lost.stderr);
    assert_eq!((lost.status.code(), text(&lost.stdout).is_empty()), (Some(1), false));
    assert!(told.contains("'demo.parquet' is incomplete: 5 events and 136 bytes"), "{told}");
    let whole = strict("fixtures/traces/empty.parquet");
    assert_eq!((whole.status.code(), text(&whole.stderr)), (Some(0), String::new()));
    assert_eq!(run("report", &[DEMO, "--strict"]).status.code(), Some(1));
    assert_eq!(
        run("report", &["fixtures/traces/empty.parquet", "--strict"]).status.code(),
        Some(0)
    );
    assert_eq!(run("report", &[DEMO, UNFINISHED]).status.code(), Some(2));
}

/// The rows of the demo as a newer recorder might have written them: another kind, another column.
fn write_newer(path: &Path) {
    let reader = Reader::open(Path::new(DEMO)).unwrap();
    let schema = agentsight::trace::schema::arrow_schema();
    let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let batch = reader.batches(&names).unwrap().next().unwrap().unwrap();
    let newer = |kind: &ArrayRef| -> ArrayRef {
        let kinds = kind.as_string::<i32>().iter().flatten();
        let kinds = kinds.map(|kind| if kind == "recorder_sample" { "telepathy" } else { kind });
        Arc::new(StringArray::from_iter_values(kinds))
    };
    let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let array = if field.name() == "kind" { newer(array) } else { Arc::clone(array) };
        columns.push((field.name().clone(), array, field.is_nullable()));
    }
    let thoughts = Arc::new(Int64Array::from_iter_values(0..batch.num_rows() as i64));
    columns.push(("from_the_future".into(), thoughts, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let keys = reader.metadata().iter().map(|(key, value)| {
        KeyValue::new(key.clone(), value.replace("\"recorder_sample\":{", "\"telepathy\":{"))
    });
    let properties =
        WriterProperties::builder().set_key_value_metadata(Some(keys.collect())).build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn what_a_newer_recorder_wrote_is_passed_over_and_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.parquet");
    write_newer(&path);
    let path = path.to_str().unwrap();
    let answer = run("query", &[path, "SELECT count(*) AS n FROM llm_calls", "--format", "csv"]);
    assert_eq!(text(&answer.stdout), "n\n8\n");
    assert_eq!(
        text(&answer.stderr),
        "agentsight-query: warning: 'newer.parquet' is incomplete: 36 events of kinds that this \
         version does not know (telepathy) are passed over, a newer agentsight reads them\n\
         agentsight-query: warning: 'newer.parquet': columns that this version does not know \
         (from_the_future) are passed over, a newer agentsight reads them\n"
    );
    let overview = text(&run("query", &[path]).stdout);
    let line = "Passed over   36 events of unknown kinds (telepathy); 1 unknown column \
                (from_the_future)";
    assert!(overview.contains(line), "{overview}");
    let report = text(&run("report", &[path]).stdout);
    assert!(report.contains("36 events of kinds that this version does not know"), "{report}");
    for query in library::all() {
        csv(open(&[path]).named(query.name, &[]).unwrap());
    }
}

/// A trace of which only the footer is as it was: all pages are zeros.
fn write_without_rows(path: &Path) {
    let mut bytes = fs::read(DEMO).unwrap();
    let length: [u8; 4] = bytes[bytes.len() - 8..bytes.len() - 4].try_into().unwrap();
    let footer = bytes.len() - 8 - u32::from_le_bytes(length) as usize;
    bytes[4..footer].fill(0);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_trace_is_described_without_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.parquet");
    write_without_rows(&path);
    let whole = text(&run("query", &[DEMO]).stdout);
    let described = text(&run("query", &[path.to_str().unwrap()]).stdout);
    let (whole, _) = whole.split_once("\nProcesses\n").unwrap();
    let (footer_only, processes) = described.split_once("\nProcesses: ").unwrap();
    assert_eq!(footer_only, whole);
    assert!(processes.contains("is damaged"), "{processes}");
}

#[test]
fn damage_in_the_pages_is_an_error_of_that_file_for_every_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.parquet");
    write_without_rows(&path);
    let session = open(&[path.to_str().unwrap()]);
    for field in Scan::known_columns().fields() {
        let sql = format!("SELECT {} FROM events WHERE pid > 0", field.name());
        let read = session.sql(&sql).and_then(agentsight::query::Rows::collect_batches);
        assert!(read.is_err(), "{sql}");
    }
}
