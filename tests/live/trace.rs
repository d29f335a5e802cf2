//! A trace as a user sees it: through `agentsight-query`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A finished trace.
pub struct Trace {
    path: PathBuf,
}

impl Trace {
    /// The trace in a file.
    pub fn open(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The rows of a query, each a JSON object.
    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let mut query = Command::new(env!("CARGO_BIN_EXE_agentsight-query"));
        let output = query.arg(&self.path).arg(sql).args(["--format", "json"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}\n{}: {said}", output.status);
        let rows: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{sql}\nprinted no JSON: {error}"));
        rows.as_array().unwrap_or_else(|| panic!("{sql}\nprinted no array: {rows}")).clone()
    }

    /// The only row of a query.
    #[track_caller]
    pub fn row(&self, sql: &str) -> Value {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}\ngave {rows:?}");
        rows.into_iter().next().unwrap()
    }

    /// The only value of a query.
    #[track_caller]
    pub fn value(&self, sql: &str) -> Value {
        let row = self.row(sql);
        let columns = row.as_object().unwrap();
        assert_eq!(columns.len(), 1, "{sql}\ngave {row}");
        columns.values().next().unwrap().clone()
    }

    /// The only value of a query, a whole number.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let value = self.value(sql);
        value.as_i64().unwrap_or_else(|| panic!("{sql}\ngave {value}, not a whole number"))
    }

    /// A value of the metadata that is JSON.
    #[track_caller]
    pub fn info(&self, name: &str) -> Value {
        let text =
            self.value(&format!("select value from trace_info where key = 'agentsight.{name}'"));
        let text = text.as_str().unwrap_or_else(|| panic!("{name} is {text}"));
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{name} is no JSON: {error}"))
    }

    /// Everything worth knowing when a test fails.
    pub fn summary(&self) -> String {
        let mut summary = String::new();
        for sql in [
            "select kind, count(*) as events from events group by kind order by kind",
            "select distinct path, library, probe_state, detail from events where kind = 'probe'",
            "select pid, comm, argv, exit_code, signal from processes order by start_ts, pid",
            "select conn_id, direction, count(*) as chunks, sum(data_bytes) as bytes, \
             sum(lost_bytes) as lost from tls_chunks group by conn_id, direction order by conn_id",
            "select * from losses",
        ] {
            let mut query = Command::new(env!("CARGO_BIN_EXE_agentsight-query"));
            let output = query.arg(&self.path).arg(sql).output().unwrap();
            summary.push_str(&format!(
                "\n{sql}\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        summary
    }
}
