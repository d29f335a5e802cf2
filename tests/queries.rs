//! Every named query on every stored trace, and the rules of `queries/README.md`.
//!
//! A query without a golden fails: `UPDATE_GOLDEN=1 cargo test --test queries` makes it, and the
//! result is reviewed as part of the change.
#![cfg(feature = "analyze")]

#[path = "support/golden.rs"]
mod golden;
mod traces;

use std::collections::BTreeSet;
use std::fs;

use agentsight::query::print::{Format, print};
use agentsight::query::{Options, Session, library};
use agentsight::trace::Reader;
use agentsight::trace::schema::FORMAT_VERSION;
use traces::STORED;

fn open(stored: &traces::Stored) -> Session {
    Session::open(&[stored.path()], Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn result(session: &Session, query: &str) -> String {
    let rows = session.named(query, &[]).unwrap_or_else(|error| panic!("{query}: {error}"));
    let mut text = Vec::new();
    print(rows, Format::Csv, &mut text).unwrap_or_else(|error| panic!("{query}: {error}"));
    String::from_utf8(text).unwrap()
}

#[test]
fn every_query_gives_what_is_stored_for_every_trace() {
    let sessions: Vec<_> = STORED.iter().map(|stored| (stored.name, open(stored))).collect();
    let mut differences = Vec::new();
    for query in library::all() {
        let mut made = String::new();
        for (name, session) in &sessions {
            made.push_str(&format!("== {name}\n{}", result(session, query.name)));
        }
        differences.extend(golden::difference(&format!("queries/{}.csv", query.name), &made));
    }
    golden::assert_none(&differences);
}

/// A file that is stored for good: a format that could once be written stays readable.
#[test]
fn every_query_runs_on_a_stored_trace_of_every_format_version() {
    let mut versions = BTreeSet::new();
    for entry in fs::read_dir(STORED[0].path().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let reader = Reader::open(&path).unwrap_or_else(|error| panic!("{error}"));
        let version: u32 = reader.metadata()["agentsight.format_version"].parse().unwrap();
        versions.insert(version);
        let session = Session::open(&[path], Options::default()).unwrap();
        for query in library::all() {
            assert!(!result(&session, query.name).is_empty(), "{}", query.name);
        }
    }
    let written: BTreeSet<u32> = (1..=FORMAT_VERSION).collect();
    assert_eq!(versions, written, "fixtures/traces lacks a trace of a format version");
}

#[test]
fn every_query_gives_the_columns_that_its_header_describes() {
    let session = open(&STORED[0]);
    for query in library::all() {
        let rows = session.named(query.name, &[]).unwrap();
        let schema = rows.schema();
        let given: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
        let described: Vec<&String> = query.columns.iter().map(|(name, _)| name).collect();
        assert_eq!(given, described, "{}", query.name);
    }
}

#[test]
fn the_same_query_gives_the_same_bytes() {
    for query in library::all() {
        let (one, other) = (open(&STORED[0]), open(&STORED[0]));
        assert_eq!(result(&one, query.name), result(&other, query.name), "{}", query.name);
    }
}

#[test]
fn no_golden_is_left_of_a_query_that_is_gone() {
    let known: BTreeSet<String> =
        library::all().iter().map(|query| format!("{}.csv", query.name)).collect();
    for entry in fs::read_dir(golden::path("queries")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "fixtures/golden/queries/{name} has no query");
    }
}

/// Words that are SQL's and never a name here.
const KEYWORDS: &[&str] = &[
    "select",
    "from",
    "where",
    "group",
    "order",
    "by",
    "with",
    "as",
    "join",
    "left",
    "cross",
    "on",
    "and",
    "or",
    "not",
    "is",
    "null",
    "in",
    "case",
    "when",
    "then",
    "else",
    "end",
    "cast",
    "over",
    "partition",
    "rows",
    "between",
    "unbounded",
    "preceding",
    "current",
    "row",
    "desc",
    "nulls",
    "last",
    "first",
    "distinct",
    "union",
    "all",
    "having",
    "limit",
    "exists",
    "true",
    "false",
    "bigint",
    "double",
    "timestamp",
    "window",
    "try_cast",
    "zone",
];

/// The statement with comments and quoted text taken out.
fn bare(sql: &str) -> String {
    let lines = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
    let code = lines.collect::<Vec<_>>().join("\n");
    // Every other piece between single quotes is text.
    code.split('\'').step_by(2).collect::<Vec<_>>().join("''")
}

fn faults(name: &str, sql: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("queries/{name}.sql: {what}"));
    for (index, line) in sql.lines().enumerate() {
        if line.chars().count() > 80 {
            fault(format!("line {} has more than 80 columns", index + 1));
        }
        if line.ends_with(' ') || line.contains('\t') {
            fault(format!("line {} ends in a space or has a tab", index + 1));
        }
    }
    let code = bare(sql);
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    for word in code.split(|c| !is_word(c)).filter(|word| KEYWORDS.contains(word)) {
        fault(format!("keyword '{word}' is not in upper case"));
    }
    if code.contains(';') {
        fault("there is a ';'".to_owned());
    }
    if code.contains("SELECT *") || code.contains("SELECT\n  *") {
        fault("columns are not listed".to_owned());
    }
    let outermost = |clause: &str| code.lines().any(|line| line.starts_with(clause));
    if !outermost("ORDER BY") {
        fault("the result has no order".to_owned());
    }
    if !(outermost("SELECT") || outermost("WITH")) {
        fault("there is no statement".to_owned());
    }
    let mut parts = name.split('_').filter(|part| !part.is_empty());
    if parts.next().is_none() || parts.next().is_none() {
        fault("the name is not <subject>_<question>".to_owned());
    }
    faults
}

#[test]
fn queries_keep_the_rules() {
    let faults: Vec<String> =
        library::all().iter().flat_map(|query| faults(query.name, query.sql)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_rules_find_what_they_are_for() {
    let good = "-- a 'b\nSELECT a -- select\nFROM t\nWHERE c = 'from; *'\nORDER BY a";
    assert_eq!(faults("a_b", good), Vec::<String>::new());
    let cases = [
        ("SELECT a from t\nORDER BY a", "keyword 'from'"),
        ("SELECT * FROM t\nORDER BY a", "columns are not listed"),
        ("SELECT a FROM t", "no order"),
        ("SELECT a FROM t\nORDER BY a;", "';'"),
        ("SELECT a FROM t\nORDER BY a ", "ends in a space"),
    ];
    for (sql, what) in cases {
        let found = faults("a_b", sql);
        assert!(found.len() == 1 && found[0].contains(what), "{sql}: {found:?}");
    }
    assert_eq!(faults("single", good).len(), 1);
}
