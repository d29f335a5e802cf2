//! What the processes of a recording did: from process events and samples to the rows of
//! `processes`, `samples`, `losses` and `probes`, and from those to what an agent's own machine
//! did while a model was answering. Sees every event but those with payload; order does not
//! matter beyond that of one process.

use std::collections::HashMap;

use super::channel::Channels;
use super::estimate::Estimates;
use super::llm_call::CallRow;
use super::loss::{LossRow, ProbeRow};
use super::process::{Outlived, ProcessRow, StartedBy};
use super::sample::SampleRow;
use super::tool_run::ToolRuns;
use crate::event::{Body, Event, ProcessId};
use crate::price::Prices;
use crate::reconstruct::finding::{Completeness, LlmCall, PartialReason, ToolCall};
use crate::time::WallNanos;

/// The kinds of events that [`Activity`] is made of.
pub const KINDS: &[&str] =
    &["process_seen", "process_fork", "process_exec", "process_exit", "sample", "loss", "probe"];

/// Longest chain of parents that is followed; the identities in a damaged trace may form a loop.
const MAX_ANCESTORS: usize = 1024;

/// Rows made from process events, samples, losses and probes.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    /// By start time and pid.
    pub processes: Vec<ProcessRow>,
    /// By time and process.
    pub samples: Vec<SampleRow>,
    /// What the recorder counted as lost, in trace order.
    pub losses: Vec<LossRow>,
    /// In trace order.
    pub probes: Vec<ProbeRow>,
    index: HashMap<ProcessId, usize>,
    /// The parent of each process, as a position in `processes`.
    parents: Vec<Option<usize>>,
    /// Total CPU time used by each process at known moments, in time order.
    cpu: Vec<Vec<(WallNanos, u64)>>,
    /// Sampled resident memory of each process, in time order.
    rss: Vec<Vec<(WallNanos, u64)>>,
}

impl Activity {
    /// Takes in an event; kinds other than [`KINDS`] are ignored.
    pub fn push(&mut self, event: &Event) {
        self.losses.extend(LossRow::from_event(event));
        self.probes.extend(ProbeRow::from_event(event));
        let Some(id) = event.process else {
            return;
        };
        match &event.body {
            Body::ProcessSeen(_)
            | Body::ProcessFork(_)
            | Body::ProcessExec(_)
            | Body::ProcessExit(_) => self.process(id).push(event),
            Body::Sample(sample) => {
                self.process(id).push(event);
                self.samples.push(SampleRow {
                    ts: event.ts,
                    process: id,
                    comm: event.comm.clone(),
                    sample: sample.clone(),
                    call_id: None,
                });
            }
            _ => {}
        }
    }

    fn process(&mut self, id: ProcessId) -> &mut ProcessRow {
        let processes = &mut self.processes;
        let index = *self.index.entry(id).or_insert_with(|| {
            processes.push(ProcessRow::new(id));
            processes.len() - 1
        });
        &mut processes[index]
    }

    /// Puts the rows in order and links the process tree; nothing may be pushed afterwards.
    pub fn finish(&mut self) {
        self.processes.sort_by_key(|row| (row.id.start_ts, row.id.pid));
        self.index = self.processes.iter().enumerate().map(|(at, row)| (row.id, at)).collect();
        self.samples.sort_by_key(|row| (row.ts, row.process));
        self.parents = link_parents(&self.processes);
        self.cpu = self.cpu_by_process();
        self.rss = vec![Vec::new(); self.processes.len()];
        for row in &self.samples {
            self.rss[self.index[&row.process]].push((row.ts, row.sample.rss_bytes));
        }
    }

    /// A process, where it has a row.
    #[must_use]
    pub fn find(&self, id: ProcessId) -> Option<&ProcessRow> {
        self.index.get(&id).map(|at| &self.processes[*at])
    }

    /// Marks which processes made calls and which call each sample fell into.
    pub fn attribute(&mut self, calls: &[LlmCall]) {
        let mut spans: Vec<Span> = calls.iter().filter_map(|call| self.span(call)).collect();
        spans.sort_by_key(|span| (span.from, span.call_id));
        for span in &spans {
            self.processes[span.process].made_calls = true;
        }
        // Samples and calls are both in time order: one walk over both, with the calls that run
        // at the moment kept aside. They are few, so looking at each is cheap.
        let mut upcoming = spans.into_iter().peekable();
        let mut running: Vec<Span> = Vec::new();
        for at in 0..self.samples.len() {
            let ts = self.samples[at].ts;
            while let Some(span) = upcoming.next_if(|span| span.from <= ts) {
                running.push(span);
            }
            running.retain(|span| span.until >= ts);
            let Some(&process) = self.index.get(&self.samples[at].process) else {
                continue;
            };
            let call = running.iter().find(|span| self.is_in_tree(process, span.process));
            self.samples[at].call_id = call.map(|span| span.call_id);
        }
    }

    /// Where a process stands among the rows.
    pub(super) fn position(&self, id: ProcessId) -> Option<usize> {
        self.index.get(&id).copied()
    }

    /// Where the parent of a process stands.
    pub(super) fn parent(&self, process: usize) -> Option<usize> {
        self.parents.get(process).copied().flatten()
    }

    /// Where the children of each process stand.
    pub(super) fn children(&self) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); self.processes.len()];
        for (process, parent) in self.parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(process);
            }
        }
        children
    }

    /// CPU time that a process had used by then, nanoseconds; `None` where that was never looked at.
    pub(super) fn cpu_ns_until(&self, process: usize, until: WallNanos) -> Option<f64> {
        let points = self.cpu.get(process).filter(|points| points.len() > 1)?;
        Some(cpu_at(points, until))
    }

    /// Marks which processes tool calls started, and which ran on when they should have ended.
    pub fn attribute_tools(&mut self, calls: &[ToolCall], runs: &ToolRuns) {
        for at in 0..self.processes.len() {
            let ended = self.processes[at].exit.as_ref().map(|(ts, _)| *ts);
            let runs_on = |since: WallNanos| ended.is_none_or(|ended| ended > since);
            let agent = self.lineage(at).skip(1).find(|it| self.processes[*it].is_agent());
            let agent_ended = agent.and_then(|it| Some(self.processes[it].exit.as_ref()?.0));
            let tool = runs.of_process(self.processes[at].id);
            let tool_ended = tool.and_then(|tool| calls[tool].end_ts);
            let row = &mut self.processes[at];
            row.tool = tool.map(|tool| StartedBy {
                tool_call_id: calls[tool].tool_call_id.clone(),
                call_id: calls[tool].call_id,
                confidence: runs.runs[tool].confidence,
            });
            row.outlived = match (agent_ended, tool_ended) {
                (Some(ts), _) if runs_on(ts) => Some((Outlived::Agent, ts)),
                (_, Some(ts)) if runs_on(ts) => Some((Outlived::ToolCall, ts)),
                _ => None,
            };
        }
    }

    fn span(&self, call: &LlmCall) -> Option<Span> {
        let process = *self.index.get(&call.exchange.process?)?;
        let (from, until) = (call.exchange.start_ts, runs_until(call));
        Some(Span { call_id: call.call_id, process, from, until })
    }

    /// Whether a process is `root` or descends from it.
    pub(super) fn is_in_tree(&self, process: usize, root: usize) -> bool {
        self.lineage(process).any(|ancestor| ancestor == root)
    }

    /// A process and its ancestors, nearest first.
    fn lineage(&self, process: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(process), |at| self.parents[*at]).take(MAX_ANCESTORS)
    }

    /// Joins calls with the names and the activity of their processes, with what is at the other
    /// end of their connections, and with what they cost where `prices` are given.
    #[must_use]
    pub fn call_rows(
        &self,
        calls: &[LlmCall],
        channels: &Channels,
        prices: Option<&Prices>,
    ) -> Vec<CallRow> {
        let estimates = Estimates::new(calls);
        let row = |call: &LlmCall| {
            let estimate = estimates.of(call);
            let usage = estimate.as_ref().map(|estimate| estimate.usage(&call.usage));
            let estimated_cost = prices.zip(usage).map(|(it, usage)| it.cost_of(call, &usage));
            let process = call.exchange.process.and_then(|id| self.index.get(&id).copied());
            let name = process.and_then(|at| self.processes[at].name()).map(String::from);
            CallRow {
                agent: call.agent.clone().or(name),
                avg_cpu_percent: process.and_then(|at| self.cpu_during(call, at)),
                peak_rss_bytes: process.and_then(|at| self.peak_rss_during(call, at)),
                peer: channels.peer(call.exchange.conn_id),
                cost: prices.map(|prices| prices.cost(call)).unwrap_or_default(),
                estimate,
                estimated_cost: estimated_cost.unwrap_or_default(),
                call: call.clone(),
            }
        };
        calls.iter().map(row).collect()
    }

    /// CPU time of each process so far at its start, its samples and its end.
    fn cpu_by_process(&self) -> Vec<Vec<(WallNanos, u64)>> {
        let mut cpu: Vec<_> = self.processes.iter().map(|row| vec![(row.id.start_ts, 0)]).collect();
        for row in &self.samples {
            let used = row.sample.cpu_user_ns.saturating_add(row.sample.cpu_system_ns);
            cpu[self.index[&row.process]].push((row.ts, used));
        }
        for (points, row) in cpu.iter_mut().zip(&self.processes) {
            if let Some((ts, exit)) = &row.exit {
                points.push((*ts, exit.cpu_user_ns.saturating_add(exit.cpu_system_ns)));
            }
            points.sort_unstable();
        }
        cpu
    }

    fn cpu_during(&self, call: &LlmCall, root: usize) -> Option<f64> {
        let (from, until) = (call.exchange.start_ts, call.exchange.end_ts?);
        let mut used_ns = None;
        for process in (0..self.processes.len()).filter(|at| self.is_in_tree(*at, root)) {
            let points = &self.cpu[process];
            if points.last().is_some_and(|(last, _)| *last > from) && points[0].0 < until {
                let used = cpu_at(points, until) - cpu_at(points, from);
                *used_ns.get_or_insert(0.0) += used.max(0.0);
            }
        }
        let lasted_ns = until.ms_since(from) * 1e6;
        used_ns.filter(|_| lasted_ns > 0.0).map(|used_ns: f64| used_ns / lasted_ns * 100.0)
    }

    fn peak_rss_during(&self, call: &LlmCall, root: usize) -> Option<u64> {
        let (from, until) = (call.exchange.start_ts, runs_until(call));
        let mut rss: HashMap<usize, u64> = HashMap::new();
        let mut changes = Vec::new();
        for process in (0..self.processes.len()).filter(|at| self.is_in_tree(*at, root)) {
            let points = &self.rss[process];
            let before = points.partition_point(|(ts, _)| *ts < from);
            if let Some((_, bytes)) =
                points[..before].last().filter(|_| self.lives_at(process, from))
            {
                rss.insert(process, *bytes);
            }
            let during = points[before..].iter().take_while(|(ts, _)| *ts <= until);
            changes.extend(during.map(|(ts, bytes)| (*ts, process, *bytes)));
        }
        changes.sort_unstable();
        let mut peak = if rss.is_empty() { None } else { Some(sum(&rss)) };
        for (ts, process, bytes) in changes {
            rss.insert(process, bytes);
            rss.retain(|at, _| self.lives_at(*at, ts));
            peak = peak.max(Some(sum(&rss)));
        }
        peak
    }

    fn lives_at(&self, process: usize, ts: WallNanos) -> bool {
        self.processes[process].exit.as_ref().is_none_or(|(ended, _)| *ended >= ts)
    }
}

/// A call as an interval in a process.
struct Span {
    call_id: u64,
    /// Position in [`Activity::processes`].
    process: usize,
    from: WallNanos,
    until: WallNanos,
}

/// When a call stopped running: its end; for one still open, never; else the last that is known.
fn runs_until(call: &LlmCall) -> WallNanos {
    let exchange = &call.exchange;
    if let Some(end) = exchange.end_ts {
        return end;
    }
    if exchange.completeness == Completeness::Partial(PartialReason::StillOpen) {
        return WallNanos(i64::MAX);
    }
    let known = [exchange.request_end_ts, exchange.first_byte_ts, call.first_token_ts];
    known.into_iter().flatten().fold(exchange.start_ts, WallNanos::max)
}

/// The position of each process's parent: of the processes that had the parent's pid, the last
/// that was created no later than the child. `processes` are in order of creation.
fn link_parents(processes: &[ProcessRow]) -> Vec<Option<usize>> {
    let mut by_pid: HashMap<u32, Vec<usize>> = HashMap::new();
    for (at, row) in processes.iter().enumerate() {
        by_pid.entry(row.id.pid).or_default().push(at);
    }
    let parent = |(at, row): (usize, &ProcessRow)| {
        let same_pid = by_pid.get(&row.ppid)?;
        let born = same_pid.partition_point(|i| processes[*i].id.start_ts <= row.id.start_ts);
        same_pid[..born].last().copied().filter(|parent| *parent != at)
    };
    processes.iter().enumerate().map(parent).collect()
}

/// CPU time used until `ts`, on the straight lines between the known moments.
fn cpu_at(points: &[(WallNanos, u64)], ts: WallNanos) -> f64 {
    let after = points.partition_point(|(at, _)| *at <= ts);
    match (after.checked_sub(1).map(|at| points[at]), points.get(after)) {
        (None, _) => 0.0,
        (Some((_, used)), None) => used as f64,
        (Some((from, used)), Some((until, more))) => {
            let part = ts.ms_since(from) / until.ms_since(from);
            used as f64 + more.saturating_sub(used) as f64 * part
        }
    }
}

fn sum(rss: &HashMap<usize, u64>) -> u64 {
    rss.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Exit, Fork, Sample};
    use crate::reconstruct::finding::Exchange;

    /// The made-up process `pid` that began at `start_s`.
    fn id(pid: u32, start_s: i64) -> ProcessId {
        ProcessId { pid, start_ts: at(start_s) }
    }

    fn at(s: i64) -> WallNanos {
        WallNanos(s * 1_000_000_000)
    }

    fn event(s: i64, id: ProcessId, body: Body) -> Event {
        Event { ts: at(s), process: Some(id), tid: None, comm: Some("worker".into()), body }
    }

    fn fork(id: ProcessId, ppid: u32) -> Event {
        Event { ts: id.start_ts, ..event(0, id, Body::ProcessFork(Fork { ppid, uid: 0 })) }
    }

    fn sample(s: i64, id: ProcessId, cpu_s: u64, rss_bytes: u64) -> Event {
        let cpu_user_ns = cpu_s * 1_000_000_000;
        event(s, id, Body::Sample(Sample { cpu_user_ns, rss_bytes, ..Sample::default() }))
    }

    fn exit(s: i64, id: ProcessId, cpu_s: u64) -> Event {
        let cpu_system_ns = cpu_s * 1_000_000_000;
        event(s, id, Body::ProcessExit(Exit { cpu_system_ns, ..Exit::default() }))
    }

    fn call(call_id: u64, id: ProcessId, from_s: i64, until_s: Option<i64>) -> LlmCall {
        let exchange = Exchange {
            process: Some(id),
            end_ts: until_s.map(at),
            completeness: Completeness::Partial(PartialReason::StillOpen),
            ..Exchange::new(call_id, 1, at(from_s))
        };
        LlmCall::new(exchange, "anthropic", "anthropic_messages", "sse")
    }

    fn activity(events: &[Event]) -> Activity {
        let mut activity = Activity::default();
        events.iter().for_each(|event| activity.push(event));
        activity.finish();
        activity
    }

    fn call_ids(mut activity: Activity, calls: &[LlmCall]) -> Vec<Option<u64>> {
        activity.attribute(calls);
        activity.samples.iter().map(|row| row.call_id).collect()
    }

    #[test]
    fn a_sample_belongs_to_the_call_of_its_own_tree_that_started_first() {
        let (agent, child, other) = (id(1, 0), id(2, 0), id(3, 0));
        let mut events = vec![fork(agent, 99), fork(child, 1), fork(other, 99)];
        for s in [2, 4, 6, 9] {
            events.extend([agent, child, other].map(|id| sample(s, id, 0, 1)));
        }
        let calls = [call(7, agent, 1, Some(5)), call(8, agent, 3, Some(7))];
        let ids = call_ids(activity(&events), &calls);
        let (first, second, none) = ([Some(7), Some(7), None], [Some(8), Some(8), None], [None; 3]);
        assert_eq!(ids, [first, first, second, none].concat());
    }

    #[test]
    fn a_call_still_open_runs_to_the_end_and_one_cut_off_does_not() {
        let agent = id(1, 0);
        let events = [fork(agent, 99), sample(2, agent, 0, 1), sample(9, agent, 0, 1)];
        let mut cut = call(5, agent, 1, None);
        assert_eq!(call_ids(activity(&events), &[cut.clone()]), [Some(5), Some(5)]);
        cut.exchange.completeness = Completeness::Partial(PartialReason::Closed);
        cut.exchange.first_byte_ts = Some(at(3));
        assert_eq!(call_ids(activity(&events), &[cut]), [Some(5), None]);
    }

    #[test]
    fn cpu_of_a_call_counts_the_whole_tree_and_children_never_sampled() {
        let (agent, child) = (id(1, 0), id(2, 11));
        let events = [
            fork(agent, 99),
            sample(10, agent, 4, 100),
            // 2 s of CPU in 10 s, half of them within the call.
            sample(20, agent, 6, 300),
            fork(child, 1),
            exit(13, child, 2),
        ];
        let row = &activity(&events).call_rows(
            &[call(1, agent, 10, Some(15))],
            &Channels::default(),
            None,
        )[0];
        assert_eq!(row.avg_cpu_percent, Some((1.0 + 2.0) / 5.0 * 100.0));
        assert_eq!(row.agent.as_deref(), Some("worker"));
    }

    #[test]
    fn memory_of_a_call_is_the_highest_sum_of_who_lived() {
        let (agent, child) = (id(1, 0), id(2, 0));
        let events = [
            fork(agent, 99),
            fork(child, 1),
            sample(9, agent, 0, 100),
            sample(9, child, 0, 1000),
            exit(10, child, 0),
            sample(12, agent, 0, 200),
            sample(30, agent, 0, 900),
        ];
        let rss = |call| {
            activity(&events).call_rows(&[call], &Channels::default(), None)[0].peak_rss_bytes
        };
        assert_eq!(rss(call(1, agent, 10, Some(20))), Some(1100));
        assert_eq!(rss(call(1, agent, 11, Some(20))), Some(200));
        assert_eq!(rss(call(1, agent, 1, Some(2))), None);
        assert_eq!(rss(call(1, agent, 11, None)), Some(900));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let (old, new, child) = (id(1, 0), id(1, 50), id(2, 60));
        let events = [fork(old, 99), fork(new, 99), fork(child, 1), sample(61, child, 0, 1)];
        let calls = [call(1, old, 60, Some(70)), call(2, new, 60, Some(70))];
        assert_eq!(call_ids(activity(&events), &calls), [Some(2)]);
    }

    #[test]
    fn processes_that_claim_to_be_each_others_parents_end_the_search() {
        let (a, b) = (id(1, 0), id(2, 0));
        let events = [fork(a, 2), fork(b, 1), sample(1, a, 0, 1)];
        assert_eq!(call_ids(activity(&events), &[call(3, b, 0, Some(2))]), [Some(3)]);
        assert_eq!(call_ids(activity(&events), &[call(3, id(9, 0), 0, Some(2))]), [None]);
    }
}
