//! What other programs see in a trace. Runs where `AGENTSIGHT_TEST_PYTHON` names a Python that has
//! them (`pip install duckdb pyarrow polars fastparquet`); says so elsewhere.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use agentsight::event::{Body, Event};
use sha2::{Digest, Sha256};

/// DuckDB, pyarrow, polars and fastparquet find these events in the file, which are in the order of
/// their sequence numbers: counts by kind, all times, all payload, the first arguments.
pub(crate) fn assert_all_read(path: &Path, events: &[Event]) {
    let Some(python) = std::env::var_os("AGENTSIGHT_TEST_PYTHON") else {
        eprintln!("skipped: AGENTSIGHT_TEST_PYTHON is not set");
        return;
    };
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut payload = Sha256::new();
    let mut argv = None;
    for event in events {
        *kinds.entry(event.body.kind()).or_default() += 1;
        match &event.body {
            Body::Data(tls) => payload.update(&tls.data),
            Body::ProcessSeen(image) | Body::ProcessExec(image) => {
                argv.get_or_insert(&image.argv);
            }
            _ => {}
        }
    }
    let sha256: String = payload.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let ts_sum: i128 = events.iter().map(|event| i128::from(event.ts.0)).sum();

    let script = "tests/support/read_everywhere.py";
    let output = Command::new(python).arg(script).arg(path).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 4, "{stdout}{stderr}");
    for line in stdout.lines() {
        let found: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(found["kinds"], serde_json::json!(kinds), "{line}");
        assert_eq!(found["sha256"], sha256, "{line}");
        assert_eq!(found["ts_sum"], ts_sum.to_string(), "{line}");
        assert_eq!(found["argv"], serde_json::json!(argv), "{line}");
    }
}
