//! Programs and processes: what they are, which TLS library they use, and where its functions are.

use std::path::{Path, PathBuf};

use super::{Report, Subject};
use crate::capture::matching::Matcher;
use crate::capture::package::{self, Package};
use crate::capture::procfs::ProcFs;
use crate::capture::scan::{TlsFinder, system_tls_libraries, worth_examining};
use crate::capture::scope::Scope;
use crate::capture::tls_library::Outcome;
use crate::record::search;
use crate::record::selectors::SelectorError;

/// A function that a recording would probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name in the library's interface.
    pub name: String,
    /// Where in the file.
    pub file_offset: u64,
}

/// A file that was looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its path, as its process sees it.
    pub path: String,
    /// Size.
    pub size_bytes: Option<u64>,
    /// Name of the package it belongs to.
    pub package: Option<String>,
    /// Version of that package.
    pub version: Option<String>,
    /// GNU build-id.
    pub build_id: Option<String>,
    /// TLS library in it.
    pub library: Option<String>,
    /// Version of that.
    pub library_version: Option<String>,
    /// Its functions; empty where there is no library or they could not be told.
    pub functions: Vec<Function>,
    /// Why its plaintext would not be recorded, where there is a library and that is so.
    pub unresolved: Option<String>,
}

/// A process and the files with TLS libraries that it has mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningProgram {
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its user.
    pub uid: u32,
    /// Its executable, and what else may hold a TLS library.
    pub files: Vec<Inspected>,
}

impl Inspected {
    /// Whether it holds a TLS library that would not be recorded.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.unresolved.is_some()
    }

    fn new(path: String, reach: &Path, package: Option<Package>, outcome: Outcome) -> Self {
        let Package { name, version } = package.unwrap_or_default();
        let build_id = outcome.build_id().map(str::to_owned);
        let mut inspected = Self {
            path,
            size_bytes: std::fs::metadata(reach).ok().map(|file| file.len()),
            package: name,
            version,
            build_id,
            library: None,
            library_version: None,
            functions: Vec::new(),
            unresolved: None,
        };
        match outcome {
            Outcome::Found(found) => {
                inspected.library = Some(found.library.as_str().to_owned());
                inspected.library_version = found.version;
                let function = |site: crate::capture::tls_library::Site| Function {
                    name: site.symbol,
                    file_offset: site.file_offset,
                };
                inspected.functions = found.sites.into_iter().map(function).collect();
            }
            Outcome::Unresolved { library, reason, .. } => {
                inspected.library = Some(library.as_str().to_owned());
                inspected.unresolved = Some(reason);
            }
            Outcome::Absent { .. } => {}
        }
        inspected
    }
}

/// Adds to the report what is asked about.
pub(super) fn inspect(
    subject: &Subject,
    proc: &ProcFs,
    report: &mut Report,
) -> Result<(), SelectorError> {
    let mut finder = TlsFinder::new();
    let search_path = search::search_path(std::env::var_os("PATH"), None);
    for path in system_tls_libraries() {
        report.libraries.extend(inspect_file(&mut finder, &path));
    }
    if let Some(program) = &subject.program {
        let files = search::executables(program.as_os_str(), &search_path);
        if files.is_empty() {
            report.not_found.push(format!("no program {}", program.display()));
        }
        add_programs(&mut finder, files, report);
    }
    for &pid in &subject.pids {
        let process = inspect_process(&mut finder, proc, pid);
        report.processes.push(process.ok_or(SelectorError::NoProcess(pid))?);
    }
    for name in &subject.names {
        let scope = Scope { names: Matcher::new([name]), ..Scope::default() };
        let running = proc.selected_processes(&proc.snapshot(), &scope);
        let own = std::process::id();
        let pids = running.iter().map(|id| id.pid).filter(|pid| *pid != own);
        let processes: Vec<_> =
            pids.filter_map(|pid| inspect_process(&mut finder, proc, pid)).collect();
        let files = search::executables(name.as_ref(), &search_path);
        if processes.is_empty() && files.is_empty() {
            report.not_found.push(format!("{name} neither runs nor is on the search path"));
        }
        report.processes.extend(processes);
        add_programs(&mut finder, files, report);
    }
    Ok(())
}

fn add_programs(finder: &mut TlsFinder, files: Vec<PathBuf>, report: &mut Report) {
    for file in files {
        let known = report.programs.iter().any(|known| Path::new(&known.path) == file);
        if !known {
            report.programs.extend(inspect_file(finder, &file));
        }
    }
}

/// A file of this mount namespace; `None` when it cannot be read.
fn inspect_file(finder: &mut TlsFinder, path: &Path) -> Option<Inspected> {
    let outcome = finder.examine(path).ok()?.outcome;
    let package = package::find(Path::new("/proc/self"), path);
    Some(Inspected::new(path.display().to_string(), path, package, outcome))
}

/// A process with what it has mapped; `None` when it is gone.
fn inspect_process(finder: &mut TlsFinder, proc: &ProcFs, pid: u32) -> Option<RunningProgram> {
    let (_, comm, image) = proc.image(pid)?;
    let exe = image.exe.as_deref();
    let mut files = Vec::new();
    for file in proc.mapped_files(pid) {
        if !worth_examining(&file, exe) {
            continue;
        }
        let is_exe = exe == Some(&*file.path);
        let reach = if is_exe { proc.exe(pid) } else { file.tracer_path.clone() };
        let Ok(examined) = finder.examine(&reach) else { continue };
        let package = package::find(&proc.directory(pid), Path::new(&file.path));
        files.push(Inspected::new(file.path, &reach, package, examined.outcome));
    }
    Some(RunningProgram { pid, comm, uid: image.uid, files })
}

#[cfg(test)]
mod tests {
    use super::super::examine;
    use super::*;

    #[test]
    fn this_process_and_its_program_are_described() {
        let own = std::env::current_exe().unwrap();
        let pid = std::process::id();
        let subject = Subject {
            program: Some(own.clone()),
            names: vec!["no-such-agent".into()],
            pids: vec![pid],
        };
        let report = examine(&subject).unwrap();
        let own = std::fs::canonicalize(own).unwrap().display().to_string();
        assert_eq!(report.programs.len(), 1);
        assert_eq!(report.programs[0].path, own);
        assert!(report.programs[0].size_bytes.is_some());
        assert_eq!((report.processes[0].pid, &*report.processes[0].files[0].path), (pid, &*own));
        assert_eq!(report.not_found, ["no-such-agent neither runs nor is on the search path"]);
        assert_eq!(report.libraries.len(), system_tls_libraries().len());
        assert!(report.libraries.iter().all(|library| !library.functions.is_empty()));
    }

    #[test]
    fn a_process_that_does_not_exist_is_an_error() {
        let subject = Subject { pids: vec![u32::MAX], ..Subject::default() };
        assert!(matches!(examine(&subject), Err(SelectorError::NoProcess(u32::MAX))));
    }
}
