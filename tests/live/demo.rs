//! `scripts/demo.sh`, the heart of `make demo`, with the programs the tests were built with.

use std::path::Path;
use std::process::{Command, Stdio};

use super::host::{live, skip};
use super::recorder::Running;

#[test]
fn the_demo_records_and_reports() {
    live(|host| {
        let programs = Path::new(env!("CARGO_BIN_EXE_agentsight-rec")).parent().unwrap();
        if !programs.join("examples/mock-llm").exists() {
            return skip("the example mock-llm is not built; run all tests, or --examples");
        }
        let mut demo = Command::new("scripts/demo.sh");
        let demo = demo.arg(programs).current_dir(".");
        // The demo leaves its trace to the user.
        demo.env("TMPDIR", host.path(""));
        for variable in ["SUDO_UID", "SUDO_GID", "SUDO_USER"] {
            demo.env_remove(variable);
        }
        let ended = Running::start(demo.stdin(Stdio::null())).end().succeeded();
        assert!(!ended.stderr.contains("does not let the recorder work"), "{}", ended.stderr);
        assert!(ended.stdout.contains("model: Done: the command ran."), "{}", ended.stdout);
        assert!(ended.stdout.contains("mock-model-1"), "{}", ended.stdout);
    });
}
