//! `mock-llm`: the tests' mock LLM server, by hand and for `make demo`.
//!
//! Listens on loopback over TLS until it is told to stop (SIGINT, SIGTERM, or its standard input
//! closing if `--until-eof`), answers by a script and writes down the truth of what it served.
#![allow(clippy::print_stdout, reason = "the address is this program's output")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use support::mock::script::{NAMES, Script};
use support::mock::{Options, Server, script_file};

/// A mock LLM server over TLS on loopback.
///
/// Prints `listening on https://localhost:PORT` once it takes connections.
#[derive(Parser)]
#[command(name = "mock-llm")]
struct Args {
    /// Built-in script (`chat`, `demo`) or a JSON file
    #[arg(long, value_name = "NAME|FILE", default_value = "chat")]
    script: String,
    /// TCP port on 127.0.0.1; 0 lets the kernel choose
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Write the certificate that clients have to trust here
    #[arg(long, value_name = "FILE")]
    ca_out: PathBuf,
    /// Write what was served here, one line of JSON per exchange and connection
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Stop when standard input ends
    #[arg(long)]
    until_eof: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mock-llm: error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut options = Options { port: args.port, ..Options::default() };
    if let Some(path) = &args.truth {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        options.truth_lines = Some(Box::new(file));
    }
    let server = Server::start_with(script(&args.script)?, options).context("cannot listen")?;
    let ca = &args.ca_out;
    server.write_ca(ca).with_context(|| format!("cannot write {}", ca.display()))?;
    println!("listening on {}", server.url());
    io::stdout().flush()?;
    if args.until_eof {
        io::copy(&mut io::stdin().take(u64::MAX), &mut io::sink())?;
        let served = server.stop();
        eprintln!("mock-llm: served {} model requests", served.llm_calls().len());
        return Ok(());
    }
    // Signals end the process; every line of the truth has been flushed by then.
    loop {
        std::thread::park();
    }
}

/// A built-in script, or the one in a file of that name.
fn script(name: &str) -> Result<Script> {
    if let Some(script) = Script::named(name) {
        return Ok(script);
    }
    let text = std::fs::read_to_string(Path::new(name)).with_context(|| {
        format!("script {name} is neither built in ({}) nor readable", NAMES.join(", "))
    })?;
    script_file::parse(&text).map_err(|error| anyhow!("script {name}: {error}"))
}
