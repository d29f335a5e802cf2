//! Codex, the real agent, from npm in a cache outside the checkout (`AGENTSIGHT_CACHE_DIR`), or named
//! by `AGENTSIGHT_TEST_CODEX`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The version that is installed where none is named.
const VERSION: &str = "0.169.0";
/// Where a package has the program.
const PROGRAM: &str = "vendor/x86_64-unknown-linux-musl/bin/codex";
/// Path of the installed agent, or why there is none. Tests run side by side, npm must not.
pub fn installed() -> Result<PathBuf, String> {
    static AGENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    AGENT.get_or_init(install).clone()
}

fn install() -> Result<PathBuf, String> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(program) = variable("AGENTSIGHT_TEST_CODEX") {
        return Ok(program);
    }
    if !cfg!(target_arch = "x86_64") {
        return Err("the functions in Codex are only looked for in x86-64 code".into());
    }
    let cache = variable("AGENTSIGHT_CACHE_DIR")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("agentsight")))
        .or_else(|| Some(variable("HOME")?.join(".cache/agentsight")))
        .ok_or("there is no cache directory (AGENTSIGHT_CACHE_DIR, XDG_CACHE_HOME, HOME)")?;
    let prefix = cache.join(format!("npm-codex-{VERSION}"));
    // As `npm pack` leaves it and as `npm install` does.
    let places = [
        prefix.join("package").join(PROGRAM),
        prefix.join("node_modules/@openai/codex-linux-x64").join(PROGRAM),
    ];
    let installed = || places.iter().find(|program| program.exists()).cloned();
    if let Some(program) = installed() {
        return Ok(program);
    }
    std::fs::create_dir_all(&prefix).map_err(|error| error.to_string())?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&prefix);
    npm.arg(format!("@openai/codex@{VERSION}")).stdin(Stdio::null());
    let output = npm.output().map_err(|error| format!("npm: {error}"))?;
    installed().ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default().to_owned();
        format!("npm could not install Codex {VERSION}: {last}")
    })
}
