//! Reconstruction over every transcript of `fixtures/transcripts`.
//!
//! Findings are a function of the bytes of each direction and the time of each byte. So however a
//! transcript is cut into events, the findings must be equal, times included: a golden file per
//! transcript holds them. Damage is then done to the transcripts, which may only change what it
//! touches.

#[path = "transcript/render.rs"]
mod render;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};

use agentsight::event::{Body, Event, StreamData};
use agentsight::reconstruct::finding::{Completeness, Exchange, Finding, PartialReason};
use agentsight::reconstruct::{Options, Reconstructor};
use proptest::prelude::*;
use transcript::{Cut, Step, events, parse};

fn transcripts() -> Vec<(PathBuf, Vec<Step>)> {
    let folder = Path::new(".").join("fixtures/transcripts");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    let parse_file = |path: PathBuf| {
        let steps = parse(&fs::read_to_string(&path).unwrap());
        (path, steps)
    };
    paths.into_iter().map(parse_file).collect()
}

fn keeping_bodies() -> Options {
    Options { keep_bodies: true, ..Options::default() }
}

fn reconstruct(events: &[Event], options: Options) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut reconstructor = Reconstructor::new(options);
    for event in events {
        reconstructor.push(event, &mut |finding| findings.push(finding));
    }
    reconstructor.finish(&mut |finding| findings.push(finding));
    findings
}

fn exchanges(findings: &[Finding]) -> Vec<&Exchange> {
    let mut exchanges = Vec::new();
    for finding in findings {
        if let Finding::Exchange(exchange) = finding {
            exchanges.push(&**exchange);
        }
    }
    exchanges
}

#[test]
fn findings_equal_the_golden_however_events_are_cut() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for (path, steps) in transcripts() {
        let golden_path = path.with_extension("golden");
        let found = reconstruct(&events(&steps, Cut::Calls), keeping_bodies());
        let text = render::findings(&found);
        if update {
            fs::write(&golden_path, &text).unwrap();
        }
        let golden = fs::read_to_string(&golden_path).unwrap_or_default();
        assert_eq!(text, golden, "{}: UPDATE_GOLDEN=1 rewrites it", path.display());
        for (cut, name) in [(Cut::Joined, "joined"), (Cut::Bytes, "bytes")] {
            let other = reconstruct(&events(&steps, cut), keeping_bodies());
            assert_eq!(render::findings(&other), golden, "{} {name}", path.display());
            assert_eq!(other, found, "{} {name}", path.display());
        }
    }
}

#[test]
fn findings_without_bodies_differ_only_in_bodies() {
    for (path, steps) in transcripts() {
        let events = events(&steps, Cut::Calls);
        let mut with = reconstruct(&events, keeping_bodies());
        let without = reconstruct(&events, Options::default());
        for finding in &mut with {
            if let Finding::Exchange(exchange) = finding {
                exchange.request_body = None;
                exchange.response_body = None;
            }
        }
        assert_eq!(with, without, "{}", path.display());
    }
}

#[test]
fn an_end_at_any_byte_changes_nothing_that_ended_before() {
    for (path, steps) in transcripts() {
        let whole = reconstruct(&events(&steps, Cut::Calls), keeping_bodies());
        for cut in ended_early(&events(&steps, Cut::Calls)) {
            let mut found = Vec::new();
            let mut reconstructor = Reconstructor::new(keeping_bodies());
            for event in &cut {
                reconstructor.push(event, &mut |finding| found.push(finding));
            }
            // What was found up to here is what is found in the whole, and the rest is partial.
            assert_eq!(found, whole[..found.len()], "{} {cut:?}", path.display());
            let mut left = Vec::new();
            reconstructor.finish(&mut |finding| left.push(finding));
            // What waited behind a gap may still be whole, as it is in the end; no more is.
            for exchange in exchanges(&left) {
                let is_partial = exchange.completeness != Completeness::Complete;
                let is_final = || exchanges(&whole).contains(&exchange);
                assert!(is_partial || is_final(), "{} {exchange:?}", path.display());
            }
        }
    }
}

/// The events as they would be had the recording ended after each of their bytes.
fn ended_early(events: &[Event]) -> Vec<Vec<Event>> {
    let mut cuts = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let length = match &event.body {
            Body::Data(data) => data.data.len(),
            _ => 0,
        };
        for end in 0..=length {
            let mut cut = events[..=at].to_vec();
            if let Body::Data(last) = &mut cut[at].body
                && end < length
            {
                last.data.truncate(end);
                (last.data_bytes, last.lost_bytes) = (end as u64, 0);
            }
            cuts.push(cut);
        }
    }
    cuts
}

/// The findings that had ended before event `at`.
fn ended_before(bytes: &[Event], at: usize) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut reconstructor = Reconstructor::new(keeping_bodies());
    for event in &bytes[..at] {
        reconstructor.push(event, &mut |finding| found.push(finding));
    }
    found
}

#[test]
fn reordering_within_a_window_changes_nothing() {
    for (path, steps) in transcripts() {
        let bytes = events(&steps, Cut::Where(&|number| number % 7 == 0));
        let mut shuffled = bytes.clone();
        // Neighbours of one stream change places; ends stay where they are.
        for at in (0..shuffled.len().saturating_sub(1)).step_by(2) {
            let stream = |event: &Event| match &event.body {
                Body::Data(data) => Some((data.conn_id, data.direction)),
                _ => None,
            };
            // A stream that is joined late begins with what comes first.
            let is_begun = |data: &StreamData| {
                data.stream_offset == 0
                    || shuffled[..at].iter().any(|it| stream(it) == stream(&shuffled[at]))
            };
            let is_one_stream = match &shuffled[at].body {
                Body::Data(one) => {
                    stream(&shuffled[at]) == stream(&shuffled[at + 1]) && is_begun(one)
                }
                _ => false,
            };
            if is_one_stream {
                shuffled.swap(at, at + 1);
            }
        }
        let found = reconstruct(&bytes, keeping_bodies());
        assert_eq!(reconstruct(&shuffled, keeping_bodies()), found, "{}", path.display());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_cuts_change_nothing(seed in any::<u64>(), one_in in 2_u64..40) {
        for (path, steps) in transcripts() {
            let found = reconstruct(&events(&steps, Cut::Calls), keeping_bodies());
            let decide = |number: usize| {
                let mixed = (number as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed >> 32).is_multiple_of(one_in)
            };
            let cut = reconstruct(&events(&steps, Cut::Where(&decide)), keeping_bodies());
            prop_assert_eq!(cut, found, "{}", path.display());
        }
    }

    #[test]
    fn a_gap_changes_nothing_that_ended_before(
        start in any::<prop::sample::Index>(), length in 1_usize..400,
    ) {
        for (path, steps) in transcripts() {
            let bytes = events(&steps, Cut::Bytes);
            let start = start.index(bytes.len());
            let end = (start + length).min(bytes.len());
            let before = ended_before(&bytes, start);
            let is_data = |event: &&Event| matches!(event.body, Body::Data(_));
            let lost = bytes[start..end].iter().filter(|event| !is_data(event));
            let damaged: Vec<_> =
                bytes[..start].iter().chain(lost).chain(&bytes[end..]).cloned().collect();
            let found = reconstruct(&damaged, keeping_bodies());
            prop_assert!(found.len() >= before.len());
            prop_assert_eq!(&found[..before.len()], &before[..], "{}", path.display());
        }
    }

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for (_, steps) in transcripts() {
            let mut events = events(&steps, Cut::Joined);
            for (at, value) in &changes {
                let event = at.index(events.len());
                if let Body::Data(data) = &mut events[event].body
                    && !data.data.is_empty()
                {
                    let at = at.index(data.data.len());
                    data.data[at] = *value;
                }
            }
            reconstruct(&events, keeping_bodies());
        }
    }
}

#[test]
fn every_partial_reason_is_covered_by_a_transcript() {
    let mut seen = Vec::new();
    for (_, steps) in transcripts() {
        for exchange in exchanges(&reconstruct(&events(&steps, Cut::Calls), Options::default())) {
            if let Completeness::Partial(reason) = exchange.completeness {
                seen.push(reason);
            }
        }
    }
    for reason in [
        PartialReason::StillOpen,
        PartialReason::Closed,
        PartialReason::Gap,
        PartialReason::Malformed,
        PartialReason::NoResponse,
        PartialReason::JoinedLate,
        PartialReason::Decoding,
    ] {
        assert!(seen.contains(&reason), "{}", reason.as_str());
    }
}
