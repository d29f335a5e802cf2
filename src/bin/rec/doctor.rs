//! `agentsight-rec doctor`: what this host allows and what a program would show.

use std::path::PathBuf;
use std::process::ExitCode;

use agentsight::cli::{self, Output};
use agentsight::record::doctor::{self, Check, Inspected, Report, Subject};
use clap::ValueEnum;
use serde_json::{Value, json};

/// Say what this host and a program allow to be recorded, and if not, why not and what to do.
///
/// Exits with 0 if everything can be recorded, with 1 if a recording would be incomplete, with 2 if
/// nothing can be recorded.
#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// A program: a file, or a name on the search path.
    #[arg(value_name = "BINARY")]
    program: Option<PathBuf>,

    /// An agent by name, as for a recording: running processes and what is installed. May be
    /// repeated.
    #[arg(short = 'c', long = "comm", value_name = "NAME")]
    names: Vec<String>,

    /// A running process. May be repeated.
    #[arg(short = 'p', long = "pid", value_name = "PID")]
    pids: Vec<u32>,

    /// How to say it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let DoctorArgs { program, names, pids, format } = args;
    let report = doctor::examine(&Subject { program, names, pids }).map_err(|error| {
        let hint = error.hint().map(str::to_owned);
        cli::hinted(error, hint)
    })?;
    let text = match format {
        Format::Text => report.text(),
        Format::Json => format!("{:#}\n", json_of(&report)),
    };
    Output::new(None, false, &[])?.write(|out| Ok(out.write_all(text.as_bytes())?))?;
    Ok(report.verdict().exit_code().into())
}

fn json_of(report: &Report) -> Value {
    let files = |files: &[Inspected]| files.iter().map(file).collect::<Value>();
    let processes = report.processes.iter().map(|process| {
        json!({
            "pid": process.pid,
            "comm": process.comm,
            "uid": process.uid,
            "files": files(&process.files),
        })
    });
    json!({
        "verdict": report.verdict().exit_code(),
        "host": report.checks.iter().map(check).collect::<Value>(),
        "libraries": files(&report.libraries),
        "programs": files(&report.programs),
        "processes": processes.collect::<Value>(),
        "not_found": report.not_found,
    })
}

fn check(check: &Check) -> Value {
    json!({
        "name": check.name,
        "state": check.state.as_str(),
        "required": check.required,
        "found": check.found,
        "advice": check.advice,
    })
}

fn file(file: &Inspected) -> Value {
    let functions = file.functions.iter();
    let functions = functions.map(|f| json!({ "name": f.name, "file_offset": f.file_offset }));
    json!({
        "path": file.path,
        "size_bytes": file.size_bytes,
        "package": file.package,
        "version": file.version,
        "build_id": file.build_id,
        "library": file.library,
        "library_version": file.library_version,
        "functions": functions.collect::<Value>(),
        "unresolved": file.unresolved,
    })
}
