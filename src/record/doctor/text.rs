//! The report for a person to read. Names, paths and reasons are a stranger's: control characters
//! in them are shown, not obeyed.

use std::fmt::Write;

use super::{Inspected, Report, RunningProgram, Verdict};

/// What is recorded of every process, whatever its TLS.
const ALWAYS: &str = "processes with arguments and exit codes, files, sockets, CPU and memory";

pub(super) fn render(report: &Report) -> String {
    let mut text = String::from("host\n");
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for check in &report.checks {
        let state = check.state.as_str();
        let found = plain(&check.found);
        let _ = writeln!(text, "  {state:<8} {:<width$}  {found}", check.name);
        if let Some(advice) = &check.advice {
            let _ = writeln!(text, "  {:<8} {:<width$}  -> {}", "", "", plain(advice));
        }
    }
    section(&mut text, "shared TLS libraries", &report.libraries);
    section(&mut text, "programs", &report.programs);
    for RunningProgram { pid, comm, uid, files } in &report.processes {
        let _ = writeln!(text, "process {pid} ({}, user {uid})", plain(comm));
        files.iter().for_each(|file| inspected(&mut text, file));
        if files.iter().all(|file| file.library.is_none()) {
            text.push_str(
                "  it has no TLS library loaded; one that it loads later is probed then\n",
            );
        }
    }
    for missing in &report.not_found {
        let _ = writeln!(text, "not found: {}", plain(missing));
    }
    text.push_str(match report.verdict() {
        Verdict::Complete => "verdict: everything can be recorded\n",
        Verdict::Incomplete => "verdict: a recording would be incomplete\n",
        Verdict::Nothing => "verdict: nothing can be recorded\n",
    });
    text
}

fn section(text: &mut String, title: &str, files: &[Inspected]) {
    if !files.is_empty() {
        let _ = writeln!(text, "{title}");
        files.iter().for_each(|file| inspected(text, file));
    }
}

fn inspected(text: &mut String, file: &Inspected) {
    let mut about = Vec::new();
    if let Some(version) = &file.version {
        let package = file.package.as_deref().unwrap_or("version");
        about.push(format!("{package} {version}"));
    }
    about.extend(file.size_bytes.map(|bytes| format!("{bytes} bytes")));
    about.extend(file.build_id.as_ref().map(|id| format!("build-id {id}")));
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    let _ = writeln!(text, "  {}{}", plain(&file.path), plain(&about));
    let version = file.library_version.as_deref().map_or(String::new(), |v| format!(" {v}"));
    match (&file.library, &file.unresolved) {
        (Some(library), Some(reason)) => {
            let _ = writeln!(text, "    missing  {library}{version}: {}", plain(reason));
            let _ = writeln!(text, "             still recorded: {ALWAYS}");
        }
        (Some(library), None) => {
            let functions = file.functions.iter();
            let sites = functions.map(|f| format!("{}@{:#x}", f.name, f.file_offset));
            let sites = sites.collect::<Vec<_>>().join(", ");
            let _ = writeln!(text, "    ok       {library}{version}: {}", plain(&sites));
        }
        (None, _) => {
            text.push_str(
                "    ok       no TLS library in it; shared ones that it loads are probed\n",
            );
        }
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Check, Function, State};
    use super::*;

    fn file(path: &str) -> Inspected {
        Inspected {
            path: path.into(),
            size_bytes: Some(10),
            package: None,
            version: None,
            build_id: None,
            library: None,
            library_version: None,
            functions: Vec::new(),
            unresolved: None,
        }
    }

    #[test]
    fn the_report_says_what_is_there_what_is_not_and_what_to_do() {
        let report = Report {
            checks: vec![
                Check {
                    name: "kernel",
                    state: State::Ok,
                    required: true,
                    found: "6.18".into(),
                    advice: None,
                },
                Check {
                    name: "cgroup v2",
                    state: State::Limited,
                    required: false,
                    found: "none is mounted".into(),
                    advice: Some("mount it".into()),
                },
            ],
            programs: vec![
                Inspected {
                    package: Some("agent".into()),
                    version: Some("1.2".into()),
                    build_id: Some("0a0b".into()),
                    library: Some("boringssl".into()),
                    functions: vec![
                        Function { name: "SSL_read".into(), file_offset: 16 },
                        Function { name: "SSL_write".into(), file_offset: 255 },
                    ],
                    ..file("/opt/agent")
                },
                Inspected {
                    library: Some("rustls".into()),
                    unresolved: Some("expected one answer, found 2".into()),
                    ..file("/opt/\u{1b}[31mother")
                },
            ],
            processes: vec![RunningProgram {
                pid: 7,
                comm: "x".into(),
                uid: 0,
                files: vec![file("/bin/x")],
            }],
            not_found: vec!["y neither runs nor is on the search path".into()],
            ..Report::default()
        };
        let expected = "\
host
  ok       kernel     6.18
  limited  cgroup v2  none is mounted
                      -> mount it
programs
  /opt/agent (agent 1.2, 10 bytes, build-id 0a0b)
    ok       boringssl: SSL_read@0x10, SSL_write@0xff
  /opt/\u{fffd}[31mother (10 bytes)
    missing  rustls: expected one answer, found 2
             still recorded: processes with arguments and exit codes, files, sockets, CPU and memory
process 7 (x, user 0)
  /bin/x (10 bytes)
    ok       no TLS library in it; shared ones that it loads are probed
  it has no TLS library loaded; one that it loads later is probed then
not found: y neither runs nor is on the search path
verdict: a recording would be incomplete
";
        assert_eq!(render(&report), expected);
    }
}
