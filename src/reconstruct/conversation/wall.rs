//! Where the wall time of a turn went.
//!
//! Each call is cut into phases; tools run between calls. At any moment several may be going on: a
//! retry while a hedged attempt streams, a side question beside the main call. The moment then counts
//! for the one that stands first in [`Phase`]: what makes headway comes before what waits. Every
//! moment counts once, so the parts sum to the whole.

use crate::reconstruct::finding::{BlockRef, Completeness, LlmCall, PartialReason, WallTime};
use crate::time::WallNanos;

/// A pause between response bytes that is at least this long is a stall.
pub(super) const STALL_MS: f64 = 1_000.0;

/// Phases kept of a call; what follows counts for the last of them.
const MAX_PHASES: usize = 1_024;

/// What a moment is spent on, in the order in which one hides the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Stream,
    Thinking,
    Upload,
    Wait,
    Stall,
    Retry,
    Tool,
}

const PHASES: usize = Phase::Tool as usize + 1;

/// From the first byte of a call to its last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: WallNanos,
    /// Its end, or the last moment of it that is known.
    pub(super) end: WallNanos,
    /// Whether it was still going on when the recording ended.
    pub(super) is_open: bool,
}

impl Span {
    pub(super) fn of(call: &LlmCall) -> Self {
        let exchange = &call.exchange;
        let moments = [exchange.request_end_ts, exchange.first_byte_ts, call.first_token_ts];
        let streamed = call.content.response.iter().filter_map(|block| block.streamed);
        let known = moments
            .into_iter()
            .flatten()
            .chain(streamed.map(|(_, last)| last))
            .chain(call.pauses.last().map(|(_, until)| *until))
            .fold(exchange.start_ts, WallNanos::max);
        Self {
            start: exchange.start_ts,
            end: exchange.end_ts.unwrap_or(known).max(exchange.start_ts),
            is_open: exchange.end_ts.is_none()
                && exchange.completeness == Completeness::Partial(PartialReason::StillOpen),
        }
    }
}

/// The phases of a call: each with its end, the first from the begin of the call on.
#[derive(Debug, Default)]
pub(super) struct Phases(Box<[(WallNanos, Phase)]>);

impl Phases {
    /// Cuts a call into phases. `is_thinking` says of a block of the response whether it is
    /// reasoning.
    pub(super) fn of(call: &LlmCall, span: Span, is_thinking: impl Fn(&BlockRef) -> bool) -> Self {
        let exchange = &call.exchange;
        let mut phases = Builder { span, at: span.start, phases: Vec::new() };
        let answered = exchange.first_byte_ts.unwrap_or(span.end);
        let sent = exchange.request_end_ts.unwrap_or(answered);
        phases.until(sent, Phase::Upload);
        // A whole response has no first token: its bytes are what comes.
        phases.until(call.first_token_ts.unwrap_or(answered), Phase::Wait);
        let mut thinking: Vec<(WallNanos, WallNanos)> = call
            .content
            .response
            .iter()
            .filter(|block| is_thinking(block))
            .filter_map(|block| block.streamed)
            .collect();
        thinking.sort_unstable();
        let is_stall = |(from, until): &&(WallNanos, WallNanos)| until.ms_since(*from) >= STALL_MS;
        let mut thinking = thinking.into_iter().peekable();
        for (from, until) in call.pauses.iter().filter(is_stall) {
            phases.arriving(*from, &mut thinking);
            phases.until(*until, Phase::Stall);
        }
        phases.arriving(span.end, &mut thinking);
        Self(phases.phases.into())
    }

    /// Its parts: from, until, what.
    fn parts(&self, start: WallNanos) -> impl Iterator<Item = (WallNanos, WallNanos, Phase)> {
        let starts = std::iter::once(start).chain(self.0.iter().map(|(until, _)| *until));
        starts.zip(&self.0).map(|(from, (until, phase))| (from, *until, *phase))
    }
}

struct Builder {
    span: Span,
    /// Where the next phase begins.
    at: WallNanos,
    phases: Vec<(WallNanos, Phase)>,
}

impl Builder {
    fn until(&mut self, until: WallNanos, phase: Phase) {
        let until = until.min(self.span.end);
        if until <= self.at {
            return;
        }
        self.at = until;
        let is_full = self.phases.len() >= MAX_PHASES;
        match self.phases.last_mut() {
            Some((end, last)) if *last == phase || is_full => *end = until,
            _ => self.phases.push((until, phase)),
        }
    }

    /// The response arrives until then; parts of it are reasoning.
    fn arriving(
        &mut self,
        until: WallNanos,
        thinking: &mut std::iter::Peekable<impl Iterator<Item = (WallNanos, WallNanos)>>,
    ) {
        while let Some((first, last)) = thinking.peek().copied().filter(|(first, _)| *first < until)
        {
            self.until(first, Phase::Stream);
            self.until(last.min(until), Phase::Thinking);
            if last > until {
                break;
            }
            thinking.next();
        }
        self.until(until, Phase::Stream);
    }
}

/// Something that went on in a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    pub(super) from: WallNanos,
    pub(super) until: WallNanos,
    pub(super) phase: Phase,
}

/// The stretches of a call: its phases, or one, when it was an attempt that came to nothing.
pub(super) fn stretches(
    span: Span,
    phases: &Phases,
    came_to_nothing: bool,
    into: &mut Vec<Stretch>,
) {
    if came_to_nothing {
        into.push(Stretch { from: span.start, until: span.end, phase: Phase::Retry });
    } else {
        let parts = phases.parts(span.start);
        into.extend(parts.map(|(from, until, phase)| Stretch { from, until, phase }));
    }
}

/// Splits the time from `start` to `end`: what no stretch covers is the user's.
pub(super) fn split(start: WallNanos, end: WallNanos, stretches: &[Stretch]) -> WallTime {
    let mut edges: Vec<(WallNanos, Phase, i32)> = Vec::with_capacity(stretches.len() * 2);
    for stretch in stretches {
        let (from, until) = (stretch.from.max(start), stretch.until.min(end));
        if from < until {
            edges.push((from, stretch.phase, 1));
            edges.push((until, stretch.phase, -1));
        }
    }
    edges.sort_unstable_by_key(|(ts, ..)| *ts);
    let mut running = [0_i32; PHASES];
    // One more for what is nobody's.
    let mut spent_ns = [0_i64; PHASES + 1];
    let mut at = start;
    for (ts, phase, change) in edges {
        let current = running.iter().position(|count| *count > 0).unwrap_or(PHASES);
        spent_ns[current] = spent_ns[current].saturating_add(ts.0.saturating_sub(at.0));
        at = ts;
        running[phase as usize] += change;
    }
    spent_ns[PHASES] = spent_ns[PHASES].saturating_add(end.0.saturating_sub(at.0).max(0));
    let ms = |at: usize| spent_ns[at] as f64 / 1e6;
    WallTime {
        upload_ms: ms(Phase::Upload as usize),
        wait_ms: ms(Phase::Wait as usize),
        thinking_ms: ms(Phase::Thinking as usize),
        stream_ms: ms(Phase::Stream as usize),
        stall_ms: ms(Phase::Stall as usize),
        tool_ms: ms(Phase::Tool as usize),
        user_ms: ms(PHASES),
        retry_ms: ms(Phase::Retry as usize),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> WallNanos {
        WallNanos(ms * 1_000_000)
    }

    fn stretch(from: i64, until: i64, phase: Phase) -> Stretch {
        Stretch { from: at(from), until: at(until), phase }
    }

    #[test]
    fn headway_hides_waiting_and_what_nobody_does_is_the_users() {
        let stretches = [
            stretch(0, 10, Phase::Upload),
            stretch(10, 50, Phase::Wait),
            stretch(20, 30, Phase::Stream),
            stretch(40, 60, Phase::Tool),
        ];
        let split = split(at(0), at(100), &stretches);
        let expected = WallTime {
            upload_ms: 10.0,
            wait_ms: 30.0,
            stream_ms: 10.0,
            tool_ms: 10.0,
            user_ms: 40.0,
            ..WallTime::default()
        };
        assert_eq!(split, expected);
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole_whatever_overlaps(
            parts in prop::collection::vec((-50_i64..150, -50_i64..150, 0_usize..PHASES), 0..20),
        ) {
            const ALL: [Phase; PHASES] = [
                Phase::Stream, Phase::Thinking, Phase::Upload, Phase::Wait, Phase::Stall,
                Phase::Retry, Phase::Tool,
            ];
            let stretches: Vec<_> =
                parts.iter().map(|(from, until, phase)| stretch(*from, *until, ALL[*phase])).collect();
            let mut reversed = stretches.clone();
            reversed.reverse();
            let whole = split(at(0), at(100), &stretches);
            prop_assert!((whole.total_ms() - 100.0).abs() < 1e-9, "{whole:?}");
            prop_assert_eq!(whole, split(at(0), at(100), &reversed));
        }
    }
}
