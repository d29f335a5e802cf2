//! A recording from start to end: the one loop that everything else hangs on.
//!
//! Order matters at the start. Process hooks come first, so that no fork is missed; then what runs
//! already is looked up; then the file is made; only then is a launched command let go. All that can
//! be refused is refused before the output file is touched.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::Error;
use super::anchors::Anchors;
use super::host;
use super::intake::Intake;
use super::launch::{Held, Launched};
use super::names::Names;
use super::options::Options;
use super::owner::Owner;
use super::pipeline::{Ended, Pipeline};
use super::privileges::{self, Needs};
use super::probing::{Probing, Report};
use super::redaction;
use super::search;
use super::signals::{Request, Requests};
use super::sink::Sink;
use super::store::{Plan, Store, StoreError};
use super::trigger::Triggers;
use crate::capture::bpf::{self, Capture};
use crate::capture::clock;
use crate::capture::known::Known;
use crate::capture::package;
use crate::capture::procfs::{ProcFs, Sampler};
use crate::capture::scope::Scope;
use crate::event::{Body, Fork};
use crate::trace::{self, Entry};

/// How long one wait for records may take; it bounds how late a signal or a sample is noticed.
const POLL: Duration = Duration::from_millis(10);
/// The same while nothing is observed; a program that is selected ends the wait.
const IDLE_POLL: Duration = Duration::from_millis(100);
/// How often the recorder looks at itself while nothing else is there to be sampled.
const IDLE_SAMPLES: Duration = Duration::from_secs(1);
/// How often the loss counters are read, and so how finely a loss is placed in time.
const LEDGER_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is told what was done to files; a killed recorder does not tell the last of it.
const FILES_INTERVAL: Duration = Duration::from_secs(5);
/// How long files, sockets and pipes are watched after the last observed process has ended: programs
/// that come one after the other are to be seen from their first instruction on.
const IO_GRACE: Duration = Duration::from_secs(30);
/// How often the clocks are read again, to see whether one was set or the machine suspended.
const ANCHOR_INTERVAL: Duration = Duration::from_secs(60);

/// What came of a recording.
#[derive(Debug)]
pub struct Recorded {
    /// What was written.
    pub summary: trace::Summary,
    /// How the launched command ended, if there was one.
    pub command: Option<ExitStatus>,
    /// Events and payload bytes that were lost on the way to the writer.
    pub lost: (u64, u64),
    /// Events and payload bytes that could not be written.
    pub dropped: trace::Tally,
    /// Why writing failed, if it did.
    pub failure: Option<trace::Error>,
    /// Whether the trace was finished; if not, its log is beside it.
    pub finished: bool,
}

/// Records until told to stop, or until everything to record has ended.
///
/// Progress and warnings go to `say`, one line each.
///
/// # Errors
/// When recording cannot begin, or the trace cannot be written.
pub fn record(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Recorded, Error> {
    let Place { owner, names, path, scope } = check(options)?;
    let signals = Requests::install().map_err(Error::Signals)?;
    let selectors = &options.selectors;
    privileges::shortcoming().iter().for_each(|line| say(line));
    let mut session = Session::load(options, scope)?;

    let programs =
        selectors.names.iter().map(OsString::from).chain(options.command.first().cloned());
    let files = programs.flat_map(|program| search::executables(&program, &path)).collect();
    session.probe_ahead(files, say);
    session.find_running(&selectors.pids)?;
    session.probe_running(say);

    let held = match &options.command[..] {
        [] => None,
        command => Some(Held::start(command, owner.as_ref())?),
    };
    if let Some(held) = &held {
        session.track_command(held.pid())?;
    }
    session.watch_io(say);
    session.open(&names, owner.as_ref(), options)?;

    if !options.redact {
        say(redaction::OFF);
    }
    say(&format!("recording to {}", names.trace().display()));
    if session.scope.selects_programs() && session.intake.live.is_empty() && held.is_none() {
        let what = match &selectors.names[..] {
            [] => "process is selected".to_owned(),
            names => format!("process named {}", names.join(" or ")),
        };
        say(&format!("no {what} yet: waiting for one"));
    }
    let launched = match held.map(Held::release).transpose() {
        Ok(launched) => launched,
        Err(error) => {
            // Ending the trace takes its log away.
            if let Some(sink) = session.intake.sink.take() {
                let _ = sink.finish(trace::ClosingMetadata::default(), None);
            }
            Store::discard(&names, options.retention);
            return Err(error.into());
        }
    };
    session.run(options, launched, signals, say)
}

/// On whose behalf, to where, and with which search path.
struct Place {
    owner: Option<Owner>,
    names: Names,
    path: OsString,
    scope: Scope,
}

/// Refuses what can be refused before anything is set up.
fn check(options: &Options) -> Result<Place, Error> {
    let owner = Owner::from_sudo(|name| std::env::var_os(name)).map_err(Error::Owner)?;
    let names = Names::of(&options.output);
    Store::check(&names, options.retention, options.force)?;
    let scope = options.selectors.scope(&ProcFs::new(clock::anchor()))?;
    let path = search::search_path(std::env::var_os("PATH"), owner.as_ref());
    if let Some(program) = options.command.first()
        && search::executables(program, &path).is_empty()
    {
        return Err(Error::NoProgram(program.to_string_lossy().into_owned()));
    }
    Ok(Place { owner, names, path, scope })
}

/// The filters as the options that asked for them.
fn filters(options: &Options) -> Vec<String> {
    let command = options.command.first().map(|name| format!("-- {}", name.to_string_lossy()));
    options.selectors.filters().into_iter().chain(command).collect()
}

/// Why a recording ends.
enum End {
    Signal(&'static str),
    Duration,
    MaxSize,
    ProcessesExited,
    WriterFailed,
}

impl End {
    fn reason(&self) -> &'static str {
        match self {
            Self::Signal(name) => name,
            Self::Duration => "duration",
            Self::MaxSize => "max_size",
            Self::ProcessesExited => "processes_exited",
            Self::WriterFailed => "writer_failed",
        }
    }
}

struct Session {
    capture: Capture,
    sampler: Sampler,
    proc: ProcFs,
    anchors: Anchors,
    intake: Intake,
    scope: Scope,
    /// What the writer wants the user to know.
    said: Option<Receiver<String>>,
    /// Until when files, sockets and pipes are watched.
    io_until: Option<Instant>,
    /// Whether the kernel has refused to have them watched.
    io_refused: bool,
}

impl Session {
    /// Loads the kernel side: from here on, programs that are selected are followed.
    fn load(options: &Options, scope: Scope) -> Result<Self, Error> {
        let capture = Capture::load(&bpf::Options {
            names: scope.names.matching_names(),
            cgroups: scope.cgroups.iter().map(|cgroup| cgroup.id).collect(),
            command_lines: scope.command_lines.clone(),
            users: scope.users.clone(),
            payload_ring_bytes: options.buffer_bytes,
            io: options.io,
            ..bpf::Options::default()
        })?;
        let anchor = capture.clock_anchor();
        Ok(Self {
            capture,
            sampler: Sampler::new(anchor),
            proc: ProcFs::new(anchor),
            anchors: Anchors::new(anchor),
            intake: Intake::new(
                Probing::start(anchor, Known::of_user(|name| std::env::var_os(name))),
                anchor,
            ),
            scope,
            said: None,
            io_until: None,
            io_refused: false,
        })
    }

    /// Makes the output file and begins the trace in it.
    fn open(
        &mut self,
        names: &Names,
        owner: Option<&Owner>,
        options: &Options,
    ) -> Result<(), Error> {
        let anchor = self.capture.clock_anchor();
        let mut metadata =
            host::metadata(anchor, &options.command_line, filters(options)).map_err(Error::Host)?;
        let redactor = redaction::start(options.redact, &mut metadata).map_err(Error::Host)?;
        let plan = Plan {
            names: names.clone(),
            retention: options.retention,
            sync: options.sync,
            limits: trace::Limits::default(),
            owner: owner.cloned(),
            force: options.force,
            metadata,
        };
        let (notes, said) = channel();
        let store = Store::create(plan, notes).map_err(|error| match error {
            StoreError::Output(error) => Error::Output(error),
            StoreError::Trace(error) => {
                Store::discard(names, options.retention);
                Error::Trace(error)
            }
        })?;
        let triggers = Triggers::new(options.snapshot_on.clone());
        // The file is made and the command forked: from here on nothing takes more than this. The
        // writer's thread, started below, inherits it.
        let directory = names.trace().parent().filter(|path| !path.as_os_str().is_empty());
        let needs = Needs {
            owner,
            directory: directory.unwrap_or_else(|| Path::new(".")),
            signals_command: !options.command.is_empty(),
        };
        privileges::drop(&needs, || self.capture.may_attach()).map_err(Error::Privileges)?;
        let pipeline = Pipeline::new(store, triggers, options.sync).redacting(redactor);
        self.intake.sink = Some(Sink::start(pipeline)?);
        self.said = Some(said);
        Ok(())
    }

    /// Probes what is likely to be used before any process maps it.
    fn probe_ahead(&mut self, programs: Vec<std::path::PathBuf>, say: &mut dyn FnMut(&str)) {
        let reports = self.intake.probing.look_ahead(programs);
        self.attach(reports, say);
    }

    /// Probes what runs already, so that nothing it says from now on is missed.
    fn probe_running(&mut self, say: &mut dyn FnMut(&str)) {
        let reports = self.intake.probing.catch_up(Instant::now());
        self.attach(reports, say);
    }

    /// Takes what runs already under observation, with all descendants.
    fn find_running(&mut self, pids: &[u32]) -> Result<(), Error> {
        let own = std::process::id();
        let snapshot = self.proc.snapshot();
        let selected = self.proc.selected_processes(&snapshot, &self.scope);
        let mut roots: Vec<u32> = selected.iter().map(|id| id.pid).chain(pids.to_vec()).collect();
        roots.retain(|pid| *pid != own);
        for &pid in &roots {
            self.track(pid, true)?;
        }
        // A process made since by an untracked one is in no snapshot, one made by a tracked one is
        // seen by the kernel side: look again until nothing new turns up.
        let mut known: Vec<u32> = roots.clone();
        loop {
            let descendants = self.proc.snapshot().descendants(&roots);
            let new: Vec<u32> = descendants
                .iter()
                .map(|id| id.pid)
                .filter(|pid| *pid != own && !known.contains(pid))
                .collect();
            if new.is_empty() {
                return Ok(());
            }
            for &pid in &new {
                self.track(pid, false)?;
            }
            known.extend(new);
        }
    }

    fn track(&mut self, pid: u32, matched: bool) -> Result<(), Error> {
        match self.capture.track(pid, matched) {
            // Gone in the meantime.
            Err(bpf::Error::NoProcess { .. }) => return Ok(()),
            other => other?,
        }
        if let Some((id, comm, mut image)) = self.proc.image(pid) {
            image.matched = matched;
            self.intake.take_now(Some(id), Some(comm), Body::ProcessSeen(image));
        }
        Ok(())
    }

    /// Takes the held command under observation; the kernel has not seen its fork as tracked.
    fn track_command(&mut self, pid: u32) -> Result<(), Error> {
        self.capture.track(pid, true)?;
        if let Some((id, comm, image)) = self.proc.image(pid) {
            let body = Body::ProcessFork(Fork { ppid: image.ppid, uid: image.uid });
            self.intake.take_now(Some(id), Some(comm), body);
        }
        Ok(())
    }

    fn run(
        mut self,
        options: &Options,
        mut launched: Option<Launched>,
        mut signals: Requests,
        say: &mut dyn FnMut(&str),
    ) -> Result<Recorded, Error> {
        let started = Instant::now();
        let mut sample_due = started;
        let mut ledger_due = started + LEDGER_INTERVAL;
        let mut anchor_due = started + ANCHOR_INTERVAL;
        let mut files_due = started + FILES_INTERVAL;
        let mut status = None;
        let mut forwarded = false;
        let end = loop {
            let was_idle = self.intake.live.is_empty();
            self.drain(if was_idle { IDLE_POLL } else { POLL })?;
            self.watch_io(say);
            let reports = self.intake.reports(Instant::now());
            self.attach(reports, say);
            let now = Instant::now();
            let is_idle = self.intake.live.is_empty();
            if now >= sample_due || (was_idle && !is_idle) {
                self.sample();
                // Not from `now`: ticks stay evenly spaced; but none is made up for.
                let at_least = if is_idle { IDLE_SAMPLES } else { Duration::ZERO };
                sample_due = (sample_due + options.interval.max(at_least)).max(now);
            }
            if now >= ledger_due {
                self.read_ledger()?;
                self.check_plaintext(say);
                ledger_due = now + LEDGER_INTERVAL;
            }
            if now >= files_due {
                self.capture.report_files(&mut |event| self.intake.take(event));
                files_due = now + FILES_INTERVAL;
            }
            if now >= anchor_due {
                if self.anchors.take(clock::anchor()) {
                    self.set(Entry::clock_anchors(self.anchors.as_slice()));
                }
                anchor_due = now + ANCHOR_INTERVAL;
            }
            if let Some(binaries) = self.intake.probing.binaries() {
                self.set(binaries);
            }
            if self.hand_over().is_err() {
                break End::WriterFailed;
            }
            if let Some(launched) = launched.as_mut()
                && status.is_none()
            {
                status = launched.ended().map_err(Error::Command)?;
            }
            self.tell(say);
            let mut stop = None;
            for request in signals.arrived() {
                match request {
                    Request::Stop(signal) => stop = Some(signal),
                    Request::Snapshot => self.snapshot("SIGUSR1"),
                }
            }
            if let Some(signal) = stop {
                match launched.as_ref().filter(|_| status.is_none() && !forwarded) {
                    // The command decides what a signal means; a second one is for the recorder.
                    Some(launched) => {
                        forwarded = true;
                        if !signal.from_terminal {
                            launched.signal(signal.signal);
                        }
                    }
                    None => break End::Signal(signal.name()),
                }
            }
            if self.intake.sink.as_ref().is_some_and(Sink::is_full) {
                break End::MaxSize;
            }
            if options.duration.is_some_and(|duration| started.elapsed() >= duration) {
                break End::Duration;
            }
            let may_begin_later = self.scope.selects_programs() && launched.is_none();
            let command_ended = launched.is_none() || status.is_some();
            if !may_begin_later && command_ended && self.intake.live.is_empty() {
                break End::ProcessesExited;
            }
        };
        self.finish(&end, launched, status, say)
    }

    /// Empties the rings, writes the rest and the footer.
    fn finish(
        mut self,
        end: &End,
        launched: Option<Launched>,
        mut status: Option<ExitStatus>,
        say: &mut dyn FnMut(&str),
    ) -> Result<Recorded, Error> {
        let stop = clock::anchor();
        self.sample();
        // What was found just now is a fact of the recording, though too late to be of use.
        let reports = self.intake.reports(Instant::now());
        self.attach(reports, say);
        self.capture.detach(&mut |event| self.intake.take(event))?;
        self.read_ledger()?;
        if let Some(binaries) = self.intake.probing.binaries() {
            self.set(binaries);
        }
        self.anchors.close(stop);
        let closing = trace::ClosingMetadata {
            stop_ts: self.capture.clock_anchor().wall(stop.boot),
            stop_reason: end.reason().into(),
            // The first is in the metadata from the start.
            clock_anchors: self.anchors.as_slice()[1..].to_vec(),
        };
        let observed = self.intake.observed.with_kernel(self.capture.losses()?);
        let sink = self.intake.sink.expect("the loop runs only with a sink");
        let Ended { finished, complaints, warning } = sink.finish(closing, Some(observed));
        complaints.iter().chain(&warning).for_each(|line| say(line));
        self.said.iter().flat_map(Receiver::try_iter).for_each(|note| say(&note));
        if !self.intake.saw_plaintext {
            say(
                "no TLS plaintext was seen: see `probe` rows of the trace for what was looked into",
            );
        }
        if let (Some(mut launched), None) = (launched, status)
            && matches!(end, End::Duration | End::MaxSize | End::WriterFailed)
        {
            say("the recording has ended; the command goes on");
            status = Some(launched.wait().map_err(Error::Command)?);
        }
        Ok(Recorded {
            summary: finished.summary,
            command: status,
            lost: self.intake.lost,
            dropped: finished.dropped,
            finished: finished.unfinished.is_none(),
            failure: finished.failure.or(finished.unfinished),
        })
    }

    fn snapshot(&mut self, reason: &str) {
        if let Some(sink) = &mut self.intake.sink {
            sink.snapshot(reason, clock::anchor().wall);
        }
    }

    /// Tells what the writer has to say.
    fn tell(&self, say: &mut dyn FnMut(&str)) {
        self.said.iter().flat_map(Receiver::try_iter).for_each(|note| say(&note));
    }

    /// Watches files, sockets and pipes while something is observed and for a while after, but not
    /// for as long as nothing comes: it costs every process of the machine. Where the kernel refuses,
    /// everything else is recorded all the same.
    fn watch_io(&mut self, say: &mut dyn FnMut(&str)) {
        let now = Instant::now();
        if !self.intake.live.is_empty() {
            self.io_until = Some(now + IO_GRACE);
        }
        let wanted = !self.io_refused && self.io_until.is_some_and(|until| now < until);
        if let Err(error) = self.capture.watch_io(wanted) {
            self.io_refused = true;
            say(&format!("warning: files, sockets and pipes are NOT recorded: {error}"));
        }
    }

    /// Moves what is in the rings to the sink.
    fn drain(&mut self, timeout: Duration) -> Result<(), Error> {
        self.capture.drain(timeout, &mut |event| self.intake.take(event))?;
        Ok(())
    }

    /// Attaches what was found, records what came of it, and tells what the user has to know.
    fn attach(&mut self, reports: Vec<Report>, say: &mut dyn FnMut(&str)) {
        for report in reports {
            for (probe, warning) in report.attach(&mut self.capture) {
                if let Some(warning) = warning {
                    say(&warning);
                }
                self.intake.take_now(report.process, report.comm.clone(), Body::Probe(probe));
            }
        }
    }

    fn sample(&mut self) {
        let pids = self.intake.live.pids();
        self.sampler.begin_tick(&pids);
        for pid in pids {
            match self.sampler.sample(pid) {
                Some((id, comm, sample)) => {
                    self.intake.take_now(Some(id), Some(comm), Body::Sample(sample));
                }
                None => self.intake.live.missing(pid),
            }
        }
        if let Some((id, comm, sample)) = self.sampler.sample(std::process::id()) {
            self.intake.take_now(Some(id), Some(comm), Body::RecorderSample(sample));
        }
    }

    fn read_ledger(&mut self) -> Result<(), Error> {
        for loss in self.capture.take_losses()? {
            self.intake.take_own(loss);
        }
        Ok(())
    }

    /// Tells of programs that make TLS connections and show no plaintext, and records it.
    fn check_plaintext(&mut self, say: &mut dyn FnMut(&str)) {
        for warning in self.intake.self_check.due(self.intake.now()) {
            let directory = self.proc.directory(warning.process.pid);
            let version = package::find(&directory, Path::new(&warning.exe))
                .and_then(|package| package.version);
            say(&warning.line(version.as_deref()));
            let (process, comm) = (warning.process, warning.comm.clone());
            self.intake.take_now(Some(process), Some(comm), Body::Probe(warning.probe()));
        }
    }

    fn hand_over(&mut self) -> Result<(), super::sink::WriterFailed> {
        let now = self.intake.now();
        self.intake.sink.as_mut().map_or(Ok(()), |sink| sink.hand_over(now))
    }

    fn set(&mut self, entry: Entry) {
        if let Some(sink) = self.intake.sink.as_mut() {
            sink.set(entry);
        }
    }
}
