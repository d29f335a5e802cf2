//! Estimates of token counts that a provider did not report: streams that were cut, servers that send
//! no usage. They never stand in a column of reported counts.
//!
//! Tokenizers of current models are not published, and counting with older ones is off by up to half.
//! The trace itself knows better: wherever a model reported counts, the text that was added between
//! two requests of a conversation, and the text that was generated, say how many bytes make a token of
//! that model on this kind of text. The middle of these ratios is used, and how far off it is for half
//! of the calls it is from is its error. Without enough such calls a fixed ratio is used.

use std::collections::BTreeMap;

use crate::reconstruct::finding::{CallClass, Context, LlmCall, Usage, UsageState};

/// Calls from which a ratio is taken at least.
const MIN_CASES: usize = 3;

/// Bytes per token where the trace says nothing: of mixed text and source code.
const FIXED_BYTES_PER_TOKEN: f64 = 3.5;

/// How far that was seen to be off, either way, over prose, source and JSON; text in other scripts is
/// further off.
const FIXED_ERROR_PERCENT: f64 = 28.0;

/// Counts that a call did not report.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// All input; `None` where it was reported, or the request is not known whole.
    pub input_tokens: Option<u64>,
    /// All output until the end or the cut; `None` where it was reported, or none was seen.
    pub output_tokens: Option<u64>,
    /// `trace` (ratio of the trace's own calls) or `fixed` (3.5 bytes per token).
    pub method: &'static str,
    /// How far off it is likely to be, percent.
    pub error_percent: f64,
}

impl Estimate {
    /// The usage that the call would have had.
    #[must_use]
    pub fn usage(&self, reported: &Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.or(reported.input_tokens),
            output_tokens: self.output_tokens.or(reported.output_tokens),
            ..reported.clone()
        }
    }
}

/// Bytes per token of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ratio {
    bytes_per_token: f64,
    error_percent: f64,
    method: &'static str,
}

const FIXED: Ratio = Ratio {
    bytes_per_token: FIXED_BYTES_PER_TOKEN,
    error_percent: FIXED_ERROR_PERCENT,
    method: "fixed",
};

impl Ratio {
    /// The middle of the cases, each bytes and tokens; the fixed one if they are too few.
    fn of(cases: &[(u64, u64)]) -> Self {
        if cases.len() < MIN_CASES {
            return FIXED;
        }
        let mut ratios: Vec<f64> = cases.iter().map(|case| case.0 as f64 / case.1 as f64).collect();
        let bytes_per_token = middle(&mut ratios);
        let off = |case: &(u64, u64)| {
            (case.0 as f64 / bytes_per_token - case.1 as f64).abs() / case.1 as f64 * 100.0
        };
        let mut errors: Vec<f64> = cases.iter().map(off).collect();
        Self { bytes_per_token, error_percent: middle(&mut errors), method: "trace" }
    }

    fn tokens(self, bytes: u64) -> u64 {
        (bytes as f64 / self.bytes_per_token).round() as u64
    }
}

fn middle(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is known of bytes and tokens in one trace.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    /// By model.
    input: BTreeMap<String, Vec<(u64, u64)>>,
    output: BTreeMap<String, Vec<(u64, u64)>>,
    /// Of each conversation: the size of requests and their tokens as reported, by number of the call.
    known: BTreeMap<u64, Vec<(u64, Known)>>,
}

/// A request of which size and tokens are known.
#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    tokens: u64,
}

impl Estimates {
    /// Learns from all calls of a trace, in the order of their numbers.
    #[must_use]
    pub fn new(calls: &[LlmCall]) -> Self {
        let mut estimates = Self::default();
        for call in calls.iter().filter(|call| call.usage_state == UsageState::Reported) {
            estimates.learn(call);
        }
        estimates
    }

    fn learn(&mut self, call: &LlmCall) {
        let Some(model) = model(call) else { return };
        let cases = |bytes: Option<u64>, tokens: Option<u64>| {
            Some((bytes.filter(|it| *it > 0)?, tokens.filter(|it| *it > 0)?))
        };
        if let Some(case) = cases(call.generated_bytes, call.usage.output_tokens) {
            self.output.entry(model.to_owned()).or_default().push(case);
        }
        let (Some(bytes), Some(tokens)) = (request_bytes(call), call.usage.total_input_tokens())
        else {
            return;
        };
        let Some(conversation) = call.placement.conversation_id else { return };
        let known = self.known.entry(conversation).or_default();
        if let Some((_, before)) = known.last() {
            let added = bytes.checked_sub(before.bytes);
            if let Some(case) = cases(added, tokens.checked_sub(before.tokens)) {
                self.input.entry(model.to_owned()).or_default().push(case);
            }
        }
        known.push((call.call_id, Known { bytes, tokens }));
    }

    /// What a call did not report; `None` where it reported all, nothing is known of it, or it was
    /// refused or only counted.
    #[must_use]
    pub fn of(&self, call: &LlmCall) -> Option<Estimate> {
        let is_refused = call.exchange.status.is_some_and(|status| status >= 400);
        if call.usage_state == UsageState::Reported
            || is_refused
            || call.placement.class == CallClass::CountTokens
        {
            return None;
        }
        let ratio = |cases: &BTreeMap<String, Vec<(u64, u64)>>| {
            Ratio::of(model(call).and_then(|model| cases.get(model)).map_or(&[], Vec::as_slice))
        };
        let mut used: Vec<Ratio> = Vec::new();
        let input_tokens = match call.usage.total_input_tokens() {
            Some(_) => None,
            None => request_bytes(call).map(|bytes| {
                let ratio = ratio(&self.input);
                used.push(ratio);
                self.input_tokens(call, bytes, ratio)
            }),
        };
        let output_tokens = call.generated_bytes.filter(|bytes| *bytes > 0).map(|bytes| {
            let ratio = ratio(&self.output);
            used.push(ratio);
            ratio.tokens(bytes).max(call.usage.output_tokens.unwrap_or(0))
        });
        // The weaker of the two methods names the estimate.
        let worst = used.into_iter().max_by(|a, b| a.error_percent.total_cmp(&b.error_percent))?;
        let (method, error_percent) = (worst.method, worst.error_percent);
        Some(Estimate { input_tokens, output_tokens, method, error_percent })
    }

    /// From the last request of the conversation that is known, if it is a begin of this one: then only
    /// what was added is estimated.
    fn input_tokens(&self, call: &LlmCall, bytes: u64, ratio: Ratio) -> u64 {
        let known = call.placement.conversation_id.and_then(|id| self.known.get(&id));
        let before = known.and_then(|known| {
            let before = known.partition_point(|(call_id, _)| *call_id < call.call_id);
            known[..before].last().map(|(_, known)| *known)
        });
        match before.and_then(|before| Some((before, bytes.checked_sub(before.bytes)?))) {
            Some((before, added)) => before.tokens.saturating_add(ratio.tokens(added)),
            None => ratio.tokens(bytes),
        }
    }
}

fn model(call: &LlmCall) -> Option<&str> {
    call.model.as_deref().or(call.request_model.as_deref())
}

/// Size of all that a request says; `None` where that is not all that the model reads, because the
/// provider holds the history.
fn request_bytes(call: &LlmCall) -> Option<u64> {
    let whole = call.correlation.previous_response_id.is_none();
    let Context { system_bytes, tool_definition_bytes, tool_result_bytes, user_bytes, .. } =
        call.context.filter(|_| whole)?;
    let assistant_bytes = call.context?.assistant_bytes;
    let parts =
        [system_bytes, tool_definition_bytes, tool_result_bytes, user_bytes, assistant_bytes];
    Some(parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part))).filter(|sum| *sum > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconstruct::finding::{Exchange, Placement};
    use crate::time::WallNanos;

    fn call(call_id: u64, request_bytes: u64, generated_bytes: u64) -> LlmCall {
        let exchange = Exchange { status: Some(200), ..Exchange::new(call_id, 1, WallNanos(0)) };
        LlmCall {
            model: Some("m".into()),
            context: Some(Context { user_bytes: request_bytes, ..Context::default() }),
            generated_bytes: Some(generated_bytes),
            placement: Placement { conversation_id: Some(1), ..Placement::default() },
            ..LlmCall::new(exchange, "openai", "openai_chat", "sse")
        }
    }

    /// Calls of a model of 5 bytes per token in, 4 out, and 1000 tokens that no text explains.
    fn reported(call_id: u64, request_bytes: u64, generated_bytes: u64) -> LlmCall {
        let mut call = call(call_id, request_bytes, generated_bytes);
        call.usage.input_tokens = Some(1000 + request_bytes / 5);
        call.usage.output_tokens = Some(generated_bytes / 4);
        call.usage_state = UsageState::Reported;
        call
    }

    #[test]
    fn ratios_come_from_what_was_added_and_the_rest_cancels_out() {
        let known: Vec<LlmCall> = (0..5).map(|n| reported(n, 5000 + n * 500, 400)).collect();
        let estimates = Estimates::new(&known);
        let cut = call(9, 8000, 800);
        let estimate = estimates.of(&cut).unwrap();
        assert_eq!((estimate.input_tokens, estimate.output_tokens), (Some(2600), Some(200)));
        assert_eq!((estimate.method, estimate.error_percent), ("trace", 0.0));
        let mut elsewhere = cut.clone();
        elsewhere.placement.conversation_id = Some(2);
        assert_eq!(estimates.of(&elsewhere).unwrap().input_tokens, Some(1600));
        let mut chained = cut.clone();
        chained.correlation.previous_response_id = Some("r".into());
        assert_eq!(estimates.of(&chained).unwrap().input_tokens, None);
        let usage = estimate.usage(&cut.usage);
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(2600), Some(200)));
    }

    #[test]
    fn too_few_calls_give_the_fixed_ratio_with_its_error() {
        let estimate = Estimates::new(&[reported(1, 5000, 400)]).of(&call(9, 7000, 350)).unwrap();
        assert_eq!(estimate.output_tokens, Some(100));
        assert_eq!((estimate.method, estimate.error_percent), ("fixed", FIXED_ERROR_PERCENT));
    }

    #[test]
    fn one_strange_call_does_not_move_the_ratio_and_shows_in_no_error() {
        let mut known: Vec<LlmCall> = (0..6).map(|n| reported(n, 5000 + n * 500, 400)).collect();
        known[2].usage.output_tokens = Some(40_000);
        let estimate = Estimates::new(&known).of(&call(9, 8000, 800)).unwrap();
        assert_eq!((estimate.output_tokens, estimate.error_percent), (Some(200), 0.0));
    }

    #[test]
    fn what_was_reported_is_not_estimated_and_partial_counts_are_a_floor() {
        let known: Vec<LlmCall> = (0..5).map(|n| reported(n, 5000 + n * 500, 400)).collect();
        let estimates = Estimates::new(&known);
        assert_eq!(estimates.of(&known[1]), None);
        let mut cut = call(9, 8000, 800);
        cut.usage_state = UsageState::Partial;
        (cut.usage.input_tokens, cut.usage.output_tokens) = (Some(7), Some(900));
        let estimate = estimates.of(&cut).unwrap();
        assert_eq!((estimate.input_tokens, estimate.output_tokens), (None, Some(900)));
        cut.exchange.status = Some(529);
        assert_eq!(estimates.of(&cut), None);
    }
}
