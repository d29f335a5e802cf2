//! Small C programs, compiled for the tests that run them.

use std::path::PathBuf;
use std::process::Command;

use super::host::Host;

/// Compiles `tests/live_host/programs/NAME.c` into the test's directory.
#[track_caller]
pub fn compile(host: &Host, name: &str) -> PathBuf {
    let program = host.path(name);
    let source = format!("tests/live_host/programs/{name}.c");
    let status = Command::new("clang")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .expect("clang built this crate's BPF programs");
    assert!(status.success());
    program
}
