//! Conditions on events at which a snapshot is taken: `--snapshot-on`.
//!
//! Sans-IO: events in, firings out, with the time of the event as the only clock. A condition on a
//! sample fires when a process crosses the threshold, not at every sample above it, and no condition
//! fires twice within [`DEBOUNCE_NS`]: a snapshot holds the time before its trigger anyway.

mod condition;
mod text;

use std::collections::HashSet;

use crate::event::{Body, Direction, Event, ProcessId, StreamData};
use crate::time::WallNanos;

pub use condition::{Compare, Condition};
pub use text::{Pattern, TextScan};

/// Time for which a trigger that fired stays quiet.
pub const DEBOUNCE_NS: i64 = 10_000_000_000;

/// Processes of which it is known that they are above a threshold; beyond it a process may fire
/// again at its next sample.
const MAX_ABOVE: usize = 1 << 16;

/// A condition that came true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    /// The condition as it was asked for.
    pub condition: String,
    /// When the event that made it true happened.
    pub ts: WallNanos,
}

/// All triggers of a recording.
#[derive(Debug, Default)]
pub struct Triggers(Vec<Trigger>);

#[derive(Debug)]
struct Trigger {
    condition: Condition,
    fired_ts: Option<WallNanos>,
    /// For conditions on samples: the processes above the threshold.
    above: HashSet<ProcessId>,
    /// For conditions on text.
    scan: Option<TextScan>,
}

impl Triggers {
    /// Watches for these conditions.
    #[must_use]
    pub fn new(conditions: Vec<Condition>) -> Self {
        let trigger = |condition: Condition| {
            let scan = match &condition {
                Condition::Text(pattern) => Some(TextScan::new(pattern.clone())),
                _ => None,
            };
            Trigger { condition, fired_ts: None, above: HashSet::new(), scan }
        };
        Self(conditions.into_iter().map(trigger).collect())
    }

    /// Whether there is nothing to watch for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at an event; the conditions that it makes true and that are not quiet come back.
    pub fn observe(&mut self, event: &Event) -> Vec<Fired> {
        let mut fired = Vec::new();
        for trigger in &mut self.0 {
            // Looked at also while it is quiet: text and thresholds have a memory.
            if trigger.is_met(event) && trigger.may_fire(event.ts) {
                trigger.fired_ts = Some(event.ts);
                fired.push(Fired { condition: trigger.condition.to_string(), ts: event.ts });
            }
        }
        fired
    }
}

impl Trigger {
    fn may_fire(&self, ts: WallNanos) -> bool {
        self.fired_ts.is_none_or(|last| ts.0.saturating_sub(last.0) >= DEBOUNCE_NS)
    }

    fn is_met(&mut self, event: &Event) -> bool {
        if let Some(scan) = &mut self.scan {
            return match &event.body {
                Body::Data(data) if data.source.is_plaintext() => scan.push(data),
                Body::TlsClose { conn_id } | Body::ChannelClose { conn_id, .. } => {
                    scan.close(*conn_id)
                }
                _ => false,
            };
        }
        match (&self.condition, &event.body) {
            (Condition::ExitCode(compare, code), Body::ProcessExit(exit)) => exit
                .exit_code
                .is_some_and(|found| compare.holds(f64::from(found), f64::from(*code))),
            (Condition::Signal(wanted), Body::ProcessExit(exit)) => {
                exit.signal.is_some_and(|found| wanted.is_none_or(|wanted| wanted == found))
            }
            (Condition::HttpStatus(compare, status), Body::Data(data))
                if data.source.is_plaintext() =>
            {
                statuses(data).any(|found| compare.holds(f64::from(found), f64::from(*status)))
            }
            (Condition::Rss(compare, bytes), Body::Sample(sample)) => {
                let holds = compare.holds(sample.rss_bytes as f64, *bytes as f64);
                self.crosses(event.process, holds)
            }
            (Condition::Cpu(compare, percent), Body::Sample(sample)) => {
                let holds = sample.cpu_percent.is_some_and(|found| compare.holds(found, *percent));
                self.crosses(event.process, holds)
            }
            (Condition::Rss(..) | Condition::Cpu(..), Body::ProcessExit(_)) => {
                self.crosses(event.process, false)
            }
            _ => false,
        }
    }

    /// Whether the process is on that side of the threshold now and was not before.
    fn crosses(&mut self, process: Option<ProcessId>, holds: bool) -> bool {
        let Some(process) = process else { return false };
        if !holds {
            self.above.remove(&process);
            return false;
        }
        if self.above.len() >= MAX_ABOVE {
            self.above.clear();
        }
        self.above.insert(process)
    }
}

/// The statuses of the response heads that begin where a call begins, as nearly all do: a head that
/// follows another message within one call, or is split within its first line, is not seen.
fn statuses(tls: &StreamData) -> impl Iterator<Item = u16> {
    let is_read = tls.direction == Direction::Read;
    let mut at = Some(0_usize).filter(|_| is_read);
    let mut calls = tls.call_bytes.iter();
    std::iter::from_fn(move || {
        let start = at?;
        let step = calls.next().and_then(|bytes| usize::try_from(*bytes).ok());
        at = step.and_then(|step| start.checked_add(step));
        tls.data.get(start..)
    })
    .filter_map(status)
}

/// The status of a response head (RFC 9112 section 4: `HTTP/1.1 200 OK`).
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (version, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    let is_status = version.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit);
    is_status.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Source;
    use crate::event::{Exit, Sample};

    fn event(ts_ms: i64, body: Body) -> Event {
        let process = Some(ProcessId { pid: 7, start_ts: WallNanos(1) });
        Event { ts: WallNanos(ts_ms * 1_000_000), process, tid: None, comm: None, body }
    }

    fn read(data: &[u8], calls: &[u64]) -> Body {
        Body::Data(StreamData {
            source: Source::Tls,
            conn_id: 1,
            direction: Direction::Read,
            stream_offset: 0,
            data_bytes: data.len() as u64,
            lost_bytes: 0,
            data: data.to_vec(),
            library: "openssl".into(),
            fd: None,
            call_ts: calls.iter().map(|_| WallNanos(0)).collect(),
            call_bytes: calls.to_vec(),
        })
    }

    fn exit(exit_code: Option<i32>, signal: Option<i32>) -> Body {
        Body::ProcessExit(Exit { exit_code, signal, ..Exit::default() })
    }

    fn rss(rss_bytes: u64) -> Body {
        Body::Sample(Sample { rss_bytes, cpu_percent: Some(95.5), ..Sample::default() })
    }

    fn watch(condition: &str) -> Triggers {
        Triggers::new(vec![condition.parse().unwrap()])
    }

    fn fires(condition: &str, body: Body) -> bool {
        !watch(condition).observe(&event(0, body)).is_empty()
    }

    #[test]
    fn each_condition_fires_on_its_event_and_on_no_other() {
        assert!(fires("exit-code!=0", exit(Some(1), None)));
        assert!(!fires("exit-code!=0", exit(Some(0), None)));
        assert!(!fires("exit-code!=0", exit(None, Some(9))), "a signal is no exit code");
        assert!(fires("exit-code=137", exit(Some(137), None)));
        assert!(fires("signal", exit(None, Some(11))));
        assert!(
            fires("signal=11", exit(None, Some(11))) && !fires("signal=9", exit(None, Some(11)))
        );
        assert!(fires("http-status>=500", read(b"HTTP/1.1 529 Overloaded\r\n", &[])));
        assert!(!fires("http-status>=500", read(b"HTTP/1.1 200 OK\r\n", &[])));
        assert!(!fires("http-status>=500", read(b"x HTTP/1.1 529 \r\n", &[])));
        assert!(fires("http-status=404", read(b"bodyHTTP/1.0 404 \r\n", &[4, 15])));
        assert!(!fires("http-status=404", read(b"HTTP/1.1 40", &[u64::MAX, 3])));
        assert!(fires("rss>2GB", rss((2 << 30) + 1)) && !fires("rss>2GB", rss(2 << 30)));
        assert!(fires("cpu>90%", rss(0)) && !fires("cpu>95.5%", rss(0)));
        assert!(fires("text=rate.?limit", read(b"a rate_limit error", &[])));
    }

    #[test]
    fn a_threshold_fires_when_it_is_crossed_and_not_while_it_is_passed() {
        let mut triggers = watch("rss>1GB");
        let over = |triggers: &mut Triggers, s: i64, bytes| {
            !triggers.observe(&event(s * 1000, rss(bytes))).is_empty()
        };
        assert!(over(&mut triggers, 0, 3 << 30));
        assert!(!over(&mut triggers, 60, 3 << 30), "still above");
        assert!(!over(&mut triggers, 61, 0));
        assert!(over(&mut triggers, 62, 3 << 30), "above again");
        triggers.observe(&event(80_000, exit(Some(0), None)));
        assert!(over(&mut triggers, 90, 3 << 30), "another life");
    }

    #[test]
    fn a_trigger_that_fired_is_quiet_for_a_while_and_others_are_not() {
        let conditions = ["exit-code!=0", "signal"].map(|text| text.parse().unwrap());
        let mut triggers = Triggers::new(conditions.into());
        let mut at = |ts_ms: i64, body: Body| {
            let fired = triggers.observe(&event(ts_ms, body));
            fired.into_iter().map(|fired| fired.condition).collect::<Vec<_>>()
        };
        assert_eq!(at(0, exit(Some(1), None)), ["exit-code!=0"]);
        assert_eq!(at(9_999, exit(Some(1), None)), [""; 0]);
        assert_eq!(at(9_999, exit(None, Some(9))), ["signal"]);
        assert_eq!(at(10_000, exit(Some(1), None)), ["exit-code!=0"]);
    }
}
