//! From uses of tools to the processes that ran them: which process a tool call started, what it and
//! its descendants used, and what they left behind. No table of its own; `tool_calls` and `processes`
//! have columns from here.
//!
//! A tool call names no process. What it asks for is looked for in the arguments, and in the standard
//! input, of the processes that its agent started while it ran ([`evidence`]); time alone is believed
//! only where there is one process and one tool call that it could be.

mod evidence;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::evidence::{Evidence, Texts, Wanted};
use super::activity::Activity;
use super::file::FileRow;
use crate::event::{Body, Confidence, Direction, Event, ProcessId, Source};
use crate::reconstruct::finding::ToolCall;
use crate::time::{CLOCK_TICK_NS, WallNanos};

/// Processes that one tool call may have started and that are looked at, the first of them. Each is held
/// against the text of each call that it may belong to.
const MAX_CANDIDATES: usize = 512;

/// Kept of the standard input of a process.
const INPUT_BYTES: usize = 16 << 10;

/// Processes of which standard input is kept.
const MAX_INPUTS: usize = 4096;

/// What became known of how a tool call ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolRun {
    /// The process that it started; `None` where none is known.
    pub root: Option<ProcessId>,
    /// How sure that is, or that it is `file` that it used.
    pub confidence: Option<Confidence>,
    /// What shows it: `argv` or `stdin` (what was asked for stands there), `time` (nothing else ran),
    /// `file` (the agent itself used the file that is named).
    pub evidence: Option<&'static str>,
    /// The file that the agent itself used.
    pub file: Option<String>,
    /// Processes: the root and its descendants.
    pub processes: u64,
    /// CPU time of these, until the result was sent.
    pub cpu_ms: Option<f64>,
    /// Highest resident memory of one of them.
    pub peak_rss_bytes: Option<u64>,
    /// Bytes that they fetched from storage.
    pub read_bytes: Option<u64>,
    /// Bytes that they sent to storage.
    pub written_bytes: Option<u64>,
    /// Exit status of the root.
    pub exit_code: Option<i32>,
    /// Signal that ended the root.
    pub signal: Option<i32>,
    /// Files that they used.
    pub files: u64,
    /// Processes that ran on after the result was sent.
    pub left_running: u64,
}

/// How all tool calls of a trace ran.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolRuns {
    /// One for each tool call, in their order.
    pub runs: Vec<ToolRun>,
    /// The tool call that a process is part of, as a position in `runs`.
    of_process: BTreeMap<ProcessId, usize>,
}

impl ToolRuns {
    /// The tool call that a process was started by, as a position among the tool calls.
    #[must_use]
    pub fn of_process(&self, process: ProcessId) -> Option<usize> {
        self.of_process.get(&process).copied()
    }
}

/// The beginnings of what processes read from their standard input.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    by_process: HashMap<ProcessId, Vec<u8>>,
}

impl Inputs {
    /// Takes in an event; all but what is read from descriptor 0 is ignored.
    pub fn push(&mut self, event: &Event) {
        let (Body::Data(data), Some(process)) = (&event.body, event.process) else { return };
        let is_input =
            data.source == Source::Stdio && data.direction == Direction::Read && data.fd == Some(0);
        if !is_input
            || (self.by_process.len() >= MAX_INPUTS && !self.by_process.contains_key(&process))
        {
            return;
        }
        let kept = self.by_process.entry(process).or_default();
        let room = INPUT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&data.data[..data.data.len().min(room)]);
    }

    fn of(&self, process: ProcessId) -> &[u8] {
        self.by_process.get(&process).map_or(&[], Vec::as_slice)
    }
}

/// Finds out how tool calls ran. The activity is finished; files are those of the whole trace.
#[must_use]
pub fn tool_runs(
    calls: &[ToolCall],
    activity: &Activity,
    inputs: &Inputs,
    files: &[FileRow],
) -> ToolRuns {
    let searches: Vec<Search> = calls.iter().map(|call| Search::new(call, activity)).collect();
    let mut runs = ToolRuns { runs: Vec::with_capacity(calls.len()), ..ToolRuns::default() };
    let mut files_of: HashMap<Option<ProcessId>, Vec<&FileRow>> = HashMap::new();
    for file in files {
        files_of.entry(file.process()).or_default().push(file);
    }
    let children = activity.children();
    for (at, found) in assign(calls, &searches, activity, inputs).into_iter().enumerate() {
        let Some(Found { roots, confidence, evidence }) = found else {
            let of_agent = calls[at].process.and_then(|agent| files_of.get(&Some(agent)));
            runs.runs.push(by_file(&calls[at], of_agent.map_or(&[], Vec::as_slice)));
            continue;
        };
        let tree: Vec<usize> = roots.iter().flat_map(|root| tree(*root, &children)).collect();
        for process in &tree {
            runs.of_process.entry(activity.processes[*process].id).or_insert(at);
        }
        let run = ToolRun {
            confidence: Some(confidence),
            evidence: Some(evidence.as_str()),
            ..measured(&calls[at], roots[0], &tree, activity)
        };
        runs.runs.push(run);
    }
    for file in files {
        let of = file.process().and_then(|process| runs.of_process(process));
        if let Some(run) = of.and_then(|at| runs.runs.get_mut(at)) {
            run.files += 1;
        }
    }
    runs
}

/// The processes that a tool call may have started.
struct Search {
    wanted: Wanted,
    /// Positions among the processes, those whose parents are older than the call first come first.
    candidates: Vec<usize>,
}

impl Search {
    fn new(call: &ToolCall, activity: &Activity) -> Self {
        let wanted = Wanted::of(call);
        let agent = call.process.and_then(|id| activity.position(id));
        let Some(agent) = agent.filter(|_| !call.is_server_side) else {
            return Self { wanted, candidates: Vec::new() };
        };
        // Processes begin at clock ticks, so up to one earlier than they did.
        let from = WallNanos(call.start_ts.0.saturating_sub(CLOCK_TICK_NS as i64));
        let until = call.end_ts.unwrap_or(WallNanos(i64::MAX));
        let first = activity.processes.partition_point(|row| row.id.start_ts < from);
        let began = activity.processes[first..].iter().take_while(|row| row.id.start_ts <= until);
        let is_older = |parent: usize| activity.processes[parent].id.start_ts < from;
        let candidates = (first..first + began.count())
            .filter(|at| activity.parent(*at).is_some_and(is_older))
            .filter(|at| activity.is_in_tree(*at, agent) && *at != agent)
            .take(MAX_CANDIDATES)
            .collect();
        Self { wanted, candidates }
    }
}

/// The processes of a tool call that began by themselves, the first in front; never none.
#[derive(Clone, Debug)]
struct Found {
    roots: Vec<usize>,
    confidence: Confidence,
    evidence: Evidence,
}

/// Gives each tool call its processes: by content first, then by time among what is left.
fn assign(
    calls: &[ToolCall],
    searches: &[Search],
    activity: &Activity,
    inputs: &Inputs,
) -> Vec<Option<Found>> {
    let mut found: Vec<Option<Found>> = vec![None; calls.len()];
    let mut texts: BTreeMap<usize, Texts> = BTreeMap::new();
    // Of each process that shows what a call asks for: the calls, and what it shows.
    let mut claims: BTreeMap<usize, Vec<(usize, Evidence)>> = BTreeMap::new();
    let mut matches = vec![0_usize; calls.len()];
    for (at, search) in searches.iter().enumerate() {
        for &candidate in &search.candidates {
            let row = &activity.processes[candidate];
            let texts = texts
                .entry(candidate)
                .or_insert_with(|| Texts::new(row.commands(), inputs.of(row.id)));
            if let Some(evidence) = search.wanted.evidence(texts) {
                claims.entry(candidate).or_default().push((at, evidence));
                matches[at] += 1;
            }
        }
    }
    // In the order in which they began: where the same is asked for twice, the first process is taken
    // for the first call.
    for (candidate, claims) in &claims {
        let free = claims.iter().filter(|(call, _)| found[*call].is_none());
        let best = free.min_by_key(|(call, evidence)| (*evidence, calls[*call].start_ts, *call));
        if let Some(&(call, evidence)) = best {
            let is_part = evidence == Evidence::PartOfCommand;
            let is_unique = claims.len() == 1 && matches[call] == 1 && !is_part;
            let confidence = if is_unique { Confidence::Certain } else { Confidence::Likely };
            found[call] = Some(Found { roots: vec![*candidate], confidence, evidence });
        } else if let [(call, Evidence::PartOfCommand)] = claims.as_slice()
            && let Some(of) = &mut found[*call]
            && of.evidence == Evidence::PartOfCommand
        {
            // A shell that ran already starts each part of a command by itself.
            of.roots.push(*candidate);
        }
    }
    by_time(searches, &texts, &mut found);
    found
}

/// Believes the time where a process and a call have nobody else they could belong to.
fn by_time(searches: &[Search], texts: &BTreeMap<usize, Texts>, found: &mut [Option<Found>]) {
    let taken: BTreeSet<usize> = found.iter().flatten().flat_map(|it| it.roots.clone()).collect();
    let mut asking: BTreeMap<usize, usize> = BTreeMap::new();
    let mut only: Vec<(usize, usize)> = Vec::new();
    for (at, search) in searches.iter().enumerate().filter(|(at, _)| found[*at].is_none()) {
        let left: Vec<usize> =
            search.candidates.iter().filter(|it| !taken.contains(it)).copied().collect();
        left.iter().for_each(|candidate| *asking.entry(*candidate).or_default() += 1);
        if let [candidate] = left.as_slice() {
            only.push((at, *candidate));
        }
    }
    for (call, candidate) in only {
        // What shows a command that it is not is no match, however it fits in time.
        let may_be = match texts.get(&candidate) {
            Some(texts) if !texts.is_empty() => searches[call].wanted.shows_nothing(),
            _ => true,
        };
        if asking.get(&candidate) == Some(&1) && may_be {
            let (confidence, evidence) = (Confidence::Likely, Evidence::Time);
            found[call] = Some(Found { roots: vec![candidate], confidence, evidence });
        }
    }
}

/// A process and its descendants.
fn tree(root: usize, children: &[Vec<usize>]) -> Vec<usize> {
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&process) = tree.get(next) {
        next += 1;
        tree.extend(children.get(process).into_iter().flatten());
        // Identities in a damaged trace may form a loop.
        if tree.len() > children.len() {
            tree.truncate(children.len());
            break;
        }
    }
    tree
}

fn measured(call: &ToolCall, root: usize, tree: &[usize], activity: &Activity) -> ToolRun {
    let until = call.end_ts.unwrap_or(WallNanos(i64::MAX));
    let rows = || tree.iter().map(|at| &activity.processes[*at]);
    let sum = |values: Vec<u64>| {
        (!values.is_empty()).then(|| values.iter().fold(0_u64, |sum, it| sum.saturating_add(*it)))
    };
    let cpu: Vec<f64> = tree.iter().filter_map(|at| activity.cpu_ns_until(*at, until)).collect();
    let runs_on =
        |exit: Option<WallNanos>| call.end_ts.is_some_and(|end| exit.is_none_or(|it| it > end));
    let row = &activity.processes[root];
    ToolRun {
        root: Some(row.id),
        processes: tree.len() as u64,
        cpu_ms: (!cpu.is_empty()).then(|| cpu.iter().sum::<f64>() / 1e6),
        peak_rss_bytes: rows().filter_map(|row| row.peak_rss_bytes()).max(),
        read_bytes: sum(rows().filter_map(|row| row.read_bytes()).collect()),
        written_bytes: sum(rows().filter_map(|row| row.written_bytes()).collect()),
        exit_code: row.exit.as_ref().and_then(|(_, exit)| exit.exit_code),
        signal: row.exit.as_ref().and_then(|(_, exit)| exit.signal),
        left_running: rows().filter(|row| runs_on(row.exit.as_ref().map(|(ts, _)| *ts))).count()
            as u64,
        ..ToolRun::default()
    }
}

/// A tool that the agent itself carried out on a file that its arguments name.
fn by_file(call: &ToolCall, files: &[&FileRow]) -> ToolRun {
    let until = call.end_ts.unwrap_or(WallNanos(i64::MAX));
    let paths = evidence::paths(call);
    let in_time = |file: &FileRow| {
        let (first, last) = file.span();
        first <= until && last >= call.start_ts
    };
    let is_named = |path: &&str| paths.iter().any(|named| evidence::is_path(path, named));
    let mut found: Option<ToolRun> = None;
    for file in files.iter().filter(|file| !paths.is_empty() && in_time(file)) {
        let Some(path) = file.path().filter(is_named) else { continue };
        // What was first used while the tool ran was used by it; what was used before may be both.
        let is_new = file.span().0 >= call.start_ts;
        let run = found.get_or_insert_with(|| ToolRun {
            evidence: Some(Evidence::File.as_str()),
            confidence: Some(Confidence::Likely),
            file: Some(path.to_owned()),
            ..ToolRun::default()
        });
        run.files += 1;
        if is_new {
            run.confidence = Some(Confidence::Certain);
        }
    }
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests;
