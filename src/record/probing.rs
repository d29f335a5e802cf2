//! Decides which binaries to look into for TLS functions, and when.
//!
//! Looking takes up to a third of a second for a large agent, so a thread does it while the session
//! goes on draining. A process is looked at when it starts a program and a few times more while it
//! loads libraries; libraries of the system and the programs named on the command line are looked at
//! before anything runs, so that nothing is missed of those.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::binaries::{self, Binaries};
use super::privileges;
use crate::capture::bpf::{Capture, TlsFunction};
use crate::capture::known::Known;
use crate::capture::procfs::ProcFs;
use crate::capture::scan::{FileVersion, TlsFinder, system_tls_libraries, worth_examining};
use crate::capture::tls_library::{Library, Outcome, Role, Site, TlsLibrary};
use crate::event::{Image, Probe, ProbeState, ProcessId};
use crate::time::ClockAnchor;
use crate::trace::{Binary, Entry};

/// When a process is looked at after it started a program: interpreters load their TLS library when a
/// script first asks for it, most of them within a second, and use it soon after.
const LOOKS_MS: [u64; 24] = [
    0, 20, 40, 60, 80, 100, 130, 160, 200, 240, 280, 320, 360, 400, 440, 480, 520, 560, 600, 700,
    800, 1000, 1400, 2000,
];
/// And from then on, for what is loaded late.
const LATER_LOOKS: Duration = Duration::from_secs(5);
/// The look after which a process without a TLS library is worth a word.
const SETTLED: usize = LOOKS_MS.len() - 1;

/// One look at one process, or at files that no process has mapped yet.
enum Request {
    Files(Vec<PathBuf>),
    Process(Subject),
}

/// A process to look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Subject {
    id: ProcessId,
    comm: String,
    matched: bool,
    look: usize,
}

/// What came of looking into one file.
#[derive(Debug)]
pub struct Report {
    /// The process it was found through; absent for what was looked at ahead.
    pub process: Option<ProcessId>,
    /// That process's name.
    pub comm: Option<String>,
    /// The file's path as its process sees it.
    path: String,
    /// The file itself, so that its probes do not depend on the process being there still.
    file: Option<File>,
    outcome: Outcome,
}

/// The answer to one request.
#[derive(Debug, Default)]
struct Answer {
    reports: Vec<Report>,
    /// The program of the process, where it is one to describe.
    binary: Option<Binary>,
}

/// Looks into binaries behind the session's back.
pub struct Probing {
    requests: Sender<Request>,
    answers: Receiver<Answer>,
    due: BinaryHeap<Reverse<(Instant, Subject)>>,
    binaries: Binaries,
}

impl Probing {
    /// Starts with nothing to look at, and with what former recordings found.
    #[must_use]
    pub fn start(anchor: ClockAnchor, known: Option<Known>) -> Self {
        let (requests, to_do) = channel();
        let (done, answers) = channel();
        let mut examiner = Examiner::new(ProcFs::new(anchor), known);
        std::thread::Builder::new()
            .name("tls-finder".into())
            .spawn(move || {
                // It reads what strangers wrote. Where the kernel refuses it goes on as it is.
                let _ = privileges::only_look();
                for request in to_do {
                    if done.send(examiner.answer(request)).is_err() {
                        return;
                    }
                }
            })
            .expect("the system allows one more thread at the start of a recording");
        Self { requests, answers, due: BinaryHeap::new(), binaries: Binaries::default() }
    }

    /// Looks at the TLS libraries of this system and at `programs` at once, and waits for it.
    #[must_use]
    pub fn look_ahead(&mut self, programs: Vec<PathBuf>) -> Vec<Report> {
        let mut files = programs;
        files.extend(system_tls_libraries());
        self.ask(Request::Files(files));
        let answer = self.answers.recv().unwrap_or_default();
        self.learn(answer)
    }

    /// Has a process that runs a new program looked at, now and again.
    pub fn look_into(&mut self, id: ProcessId, comm: &str, image: &Image, now: Instant) {
        let matched = image.matched;
        if matched && let Some(binary) = binaries::of_image(image) {
            // In case that it is gone when its files are looked at.
            self.binaries.add(binary);
        }
        let subject = Subject { id, comm: comm.to_owned(), matched, look: 0 };
        self.due.push(Reverse((now, subject)));
    }

    /// The binaries of agents seen so far, if there is something new about them.
    pub fn binaries(&mut self) -> Option<Entry> {
        self.binaries.take_entry()
    }

    fn learn(&mut self, answer: Answer) -> Vec<Report> {
        if let Some(binary) = answer.binary {
            self.binaries.add(binary);
        }
        answer.reports
    }

    /// Looks at once at what [`Self::look_into`] was asked for, and waits for it: what runs already
    /// is probed before the recording is said to have begun. To be called before [`Self::reports`].
    #[must_use]
    pub fn catch_up(&mut self, now: Instant) -> Vec<Report> {
        let asked = self.ask_due(now, |_| true);
        let answers: Vec<Answer> = (0..asked).filter_map(|_| self.answers.recv().ok()).collect();
        answers.into_iter().flat_map(|answer| self.learn(answer)).collect()
    }

    /// Begins the looks that are due, of processes for which `alive` holds, and returns what came
    /// of earlier ones.
    pub fn reports(&mut self, now: Instant, alive: impl Fn(ProcessId) -> bool) -> Vec<Report> {
        self.ask_due(now, alive);
        let answers: Vec<Answer> = self.answers.try_iter().collect();
        answers.into_iter().flat_map(|answer| self.learn(answer)).collect()
    }

    /// Begins the looks that are due; returns how many, each of which will be answered once.
    fn ask_due(&mut self, now: Instant, alive: impl Fn(ProcessId) -> bool) -> usize {
        let mut asked = 0;
        while self.due.peek().is_some_and(|Reverse((due, _))| *due <= now) {
            let Some(Reverse((due, subject))) = self.due.pop() else { break };
            // The first look is for everyone: the exit may be known already when the program's
            // start is handled, but its file is still there to be probed for the next run.
            if subject.look > 0 && !alive(subject.id) {
                continue;
            }
            let next = subject.look + 1;
            let wait = match (LOOKS_MS.get(next), LOOKS_MS.get(subject.look)) {
                (Some(next), Some(this)) => Duration::from_millis(next - this),
                _ => LATER_LOOKS,
            };
            self.due.push(Reverse((due + wait, Subject { look: next, ..subject.clone() })));
            self.ask(Request::Process(subject));
            asked += 1;
        }
        asked
    }

    fn ask(&mut self, request: Request) {
        // The thread ends only with this struct.
        let _ = self.requests.send(request);
    }
}

/// The thread's side: what has been looked into and reported.
struct Examiner {
    proc: ProcFs,
    finder: TlsFinder,
    reported: HashSet<FileVersion>,
}

impl Examiner {
    fn new(proc: ProcFs, known: Option<Known>) -> Self {
        Self { proc, finder: TlsFinder::with(known), reported: HashSet::new() }
    }

    fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Files(paths) => {
                let report = |path: &PathBuf| {
                    let found = self.examine(&path.to_string_lossy(), path, None)?;
                    found.filter(|report| !matches!(report.outcome, Outcome::Absent { .. }))
                };
                Answer { reports: paths.iter().filter_map(report).collect(), binary: None }
            }
            Request::Process(subject) => self.look_at(&subject),
        }
    }

    /// New findings in the files a process has mapped.
    fn look_at(&mut self, subject: &Subject) -> Answer {
        let Some((id, _, image)) = self.proc.image(subject.id.pid) else {
            return Answer::default();
        };
        if id != subject.id {
            return Answer::default();
        }
        let exe = image.exe.as_deref();
        let mut reports = Vec::new();
        let mut has_library = false;
        // A process that an agent started is worth a description if it brings its own TLS library.
        let mut to_describe = subject.matched && subject.look == 0;
        for file in self.proc.mapped_files(id.pid) {
            if !worth_examining(&file, exe) {
                continue;
            }
            let is_exe = exe == Some(&*file.path);
            // Its executable is reached directly, even if it was replaced or unlinked since.
            let reach = if is_exe { self.proc.exe(id.pid) } else { file.tracer_path.clone() };
            let Some(examined) = self.examine(&file.path, &reach, Some(subject)) else { continue };
            match examined {
                Some(report) => {
                    let absent = matches!(report.outcome, Outcome::Absent { .. });
                    has_library |= !absent;
                    to_describe |= is_exe && !absent;
                    // Most programs hold no TLS library; that is only news of one asked for.
                    if !absent {
                        reports.push(report);
                    }
                }
                None => has_library |= self.has_library(&reach),
            }
        }
        let binary = if to_describe { self.describe(subject, &image) } else { None };
        if subject.matched && subject.look == SETTLED && !has_library {
            reports.push(Report {
                process: Some(id),
                comm: Some(subject.comm.clone()),
                path: image.exe.unwrap_or_default(),
                file: None,
                outcome: Outcome::Absent { build_id: None },
            });
        }
        Answer { reports, binary }
    }

    fn describe(&mut self, subject: &Subject, image: &Image) -> Option<Binary> {
        let image = Image { matched: subject.matched, ..image.clone() };
        // Remembered from looking for TLS functions in it.
        let examined = self.finder.examine(&self.proc.exe(subject.id.pid)).ok();
        let build_id = examined.and_then(|e| e.outcome.build_id().map(str::to_owned));
        binaries::describe(&self.proc.directory(subject.id.pid), &image, build_id)
    }

    /// What is in a file; the inner `None` if that was reported already, the outer one if the file
    /// cannot be read (it or its process is gone).
    fn examine(
        &mut self,
        path: &str,
        reach: &Path,
        subject: Option<&Subject>,
    ) -> Option<Option<Report>> {
        // Without waiting: a name may lead to a pipe by now.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(reach).ok()?;
        let examined = self.finder.examine(&open_path(&file)).ok()?;
        if !self.reported.insert(examined.version) {
            return Some(None);
        }
        Some(Some(Report {
            process: subject.map(|subject| subject.id),
            comm: subject.map(|subject| subject.comm.clone()),
            path: path.to_owned(),
            file: Some(file),
            outcome: examined.outcome,
        }))
    }

    fn has_library(&mut self, reach: &Path) -> bool {
        self.finder
            .examine(reach)
            .is_ok_and(|examined| !matches!(examined.outcome, Outcome::Absent { .. }))
    }
}

impl Report {
    /// Attaches what was found; a row for the trace for every library, and a warning with each whose
    /// plaintext will be missed.
    pub fn attach(&self, capture: &mut Capture) -> Vec<(Probe, Option<String>)> {
        let mut rows = Vec::new();
        self.attach_outcome(&self.outcome, false, capture, &mut rows);
        rows
    }

    /// `partly`: something else in the file is recorded, or will be tried.
    fn attach_outcome(
        &self,
        outcome: &Outcome,
        partly: bool,
        capture: &mut Capture,
        rows: &mut Vec<(Probe, Option<String>)>,
    ) {
        let build_id = outcome.build_id().map(str::to_owned);
        let (library, state, detail) = match outcome {
            Outcome::Found(found) => {
                let file = self.file.as_ref().expect("what was found was found in a file");
                let (state, detail) = attach_sites(capture, &open_path(file), found);
                (Some(found.library), state, detail)
            }
            Outcome::Unresolved { library, reason, .. } => {
                (Some(*library), ProbeState::Unresolved, reason.clone())
            }
            Outcome::Absent { .. } => {
                let detail = "no known TLS library in it or in what it has loaded".to_owned();
                (None, ProbeState::Absent, detail)
            }
        };
        let warning = self.warning(library, state, &detail, partly);
        let name = library.map(|library| library.as_str().to_owned());
        // One row per library: a part of it that was not found is told of in the row of the rest.
        let of_same = |row: &&mut (Probe, _)| partly && row.0.library == name;
        match rows.iter_mut().find(of_same) {
            Some((probe, told)) => {
                probe.detail = format!("{}; {detail}", probe.detail);
                *told = told.take().or(warning);
            }
            None => {
                let path = self.path.clone();
                rows.push((Probe { path, library: name, state, detail, build_id }, warning));
            }
        }
        if let Outcome::Found(found) = outcome {
            for beside in &found.beside {
                self.attach_outcome(beside, true, capture, rows);
            }
        }
    }

    fn warning(
        &self,
        library: Option<Library>,
        state: ProbeState,
        detail: &str,
        partly: bool,
    ) -> Option<String> {
        let who = match (&self.comm, self.process) {
            (Some(comm), Some(id)) => format!("{} (pid {}, {})", comm, id.pid, self.path),
            _ => self.path.clone(),
        };
        match (state, library) {
            (ProbeState::Attached, _) => None,
            (ProbeState::Absent, _) => Some(format!(
                "warning: {who}: {detail}; what it sends over TLS itself is not recorded"
            )),
            (ProbeState::Unresolved | ProbeState::Failed, Some(library)) if partly => {
                Some(format!(
                    "warning: {who}: not all of its TLS plaintext through {} is recorded: {detail}",
                    library.as_str()
                ))
            }
            (ProbeState::Unresolved | ProbeState::Failed, _) => {
                Some(format!("warning: {who}: its TLS plaintext is NOT recorded: {detail}"))
            }
        }
    }
}

/// Attaches all sites of a library; the outcome and a text that names the sites or the failure.
fn attach_sites(capture: &mut Capture, reach: &Path, found: &TlsLibrary) -> (ProbeState, String) {
    let mut names = Vec::new();
    for site in &found.sites {
        let function = function_of(site);
        let library = found.library.as_str();
        if let Err(error) = capture.attach_tls(reach, site.file_offset, function, library) {
            return (ProbeState::Failed, chain(&error));
        }
        names.push(format!("{}@{:#x}", site.symbol, site.file_offset));
    }
    let version = found.version.as_ref().map_or_else(String::new, |v| format!("version {v}: "));
    (ProbeState::Attached, format!("{version}{}", names.join(", ")))
}

/// A path of this process to a file it has open; stays good when the name it was opened by is gone.
fn open_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn function_of(site: &Site) -> TlsFunction {
    match site.role {
        Role::Read => TlsFunction::Read,
        Role::ReadEx => TlsFunction::ReadEx,
        Role::Write => TlsFunction::Write,
        Role::WriteEx => TlsFunction::WriteEx,
        Role::Free => TlsFunction::Free,
        Role::WriteEx2 => TlsFunction::WriteEx2,
        Role::ReadUnseen => TlsFunction::ReadUnseen,
        Role::WriteUnseen => TlsFunction::WriteUnseen,
        Role::GoRead => TlsFunction::GoRead,
        Role::GoWrite => TlsFunction::GoWrite,
        Role::GoReturn => TlsFunction::GoReturn,
        Role::GoClose => TlsFunction::GoClose,
        Role::ReadInternal => TlsFunction::ReadEx,
        Role::WriteInternal => TlsFunction::WriteEx,
        Role::WriteInternalFlags => TlsFunction::WriteEx2,
        Role::RustlsRead(place) => TlsFunction::RustlsRead(place),
        Role::RustlsWrite(place) => TlsFunction::RustlsWrite(place),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{BootNanos, WallNanos};

    fn matched() -> Image {
        Image { matched: true, ..Image::default() }
    }

    fn probing() -> (Probing, ProcessId) {
        let anchor = ClockAnchor::new(BootNanos(0), WallNanos(0));
        let (id, _, _) = ProcFs::new(anchor).image(std::process::id()).unwrap();
        (Probing::start(anchor, None), id)
    }

    #[test]
    fn a_matched_process_without_tls_is_told_of_once_it_has_settled() {
        let (mut probing, id) = probing();
        let now = Instant::now();
        probing.look_into(id, "tests", &matched(), now);
        // This test program maps no libssl; whether it has marks of rustls depends on what the
        // linker kept, and both are worth a word.
        for ms in LOOKS_MS {
            let _ = probing.reports(now + Duration::from_millis(ms), |_| true);
        }
        let mut reports = Vec::new();
        while reports.is_empty() {
            let answer = probing.answers.recv_timeout(Duration::from_secs(60)).unwrap();
            reports = probing.learn(answer);
        }
        assert_eq!(reports[0].process, Some(id));
        assert!(!matches!(reports[0].outcome, Outcome::Found(_)));
        let own = std::env::current_exe().unwrap();
        let size = std::fs::metadata(&own).unwrap().len();
        let binaries = probing.binaries().unwrap().value;
        assert!(binaries.contains(own.to_str().unwrap()), "{binaries}");
        assert!(binaries.contains(&format!("\"size_bytes\":{size}")), "{binaries}");
        assert!(binaries.contains("\"matched\":true"), "{binaries}");
    }

    #[test]
    fn the_dead_are_looked_at_once_and_strangers_with_their_pid_never() {
        let (mut probing, id) = probing();
        let now = Instant::now();
        let other = ProcessId { start_ts: WallNanos(id.start_ts.0 + 1), ..id };
        probing.look_into(other, "tests", &matched(), now);
        for ms in LOOKS_MS {
            let _ = probing.reports(now + Duration::from_millis(ms), |_| false);
        }
        assert!(probing.due.is_empty(), "a dead process is not looked at again");
    }

    #[test]
    fn a_file_stays_within_reach_when_its_name_is_gone() {
        let (_, id) = probing();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::copy("/bin/sh", &path).unwrap();
        let anchor = ClockAnchor::new(BootNanos(0), WallNanos(0));
        let subject = Subject { id, comm: "tests".into(), matched: false, look: 0 };
        let mut examiner = Examiner::new(ProcFs::new(anchor), None);
        let report = examiner.examine("/program", &path, Some(&subject)).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let size = std::fs::metadata(open_path(report.file.as_ref().unwrap())).unwrap().len();
        assert_eq!(size, std::fs::metadata("/bin/sh").unwrap().len());
    }

    #[test]
    fn what_runs_already_is_answered_for_at_once() {
        let (mut probing, id) = probing();
        let now = Instant::now();
        probing.look_into(id, "tests", &matched(), now);
        probing.look_into(ProcessId { pid: 0, ..id }, "tests", &matched(), now);
        let _ = probing.catch_up(now);
        assert!(probing.answers.try_recv().is_err(), "no answer is outstanding");
        assert_eq!(probing.due.len(), 2, "later looks follow");
    }

    #[test]
    fn libraries_of_the_system_are_found_ahead() {
        let (mut probing, _) = probing();
        let programs = vec![PathBuf::from("/bin/sh"), PathBuf::from("/no/such/file")];
        let reports = probing.look_ahead(programs);
        assert!(reports.iter().all(|report| !matches!(report.outcome, Outcome::Absent { .. })));
        let of_system = |report: &&Report| {
            let name = report.path.rsplit('/').next().unwrap_or_default();
            name.starts_with("libssl") || name.starts_with("libgnutls")
        };
        assert_eq!(reports.iter().filter(of_system).count(), system_tls_libraries().len());
    }
}
