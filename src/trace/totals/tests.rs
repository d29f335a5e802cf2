//! Totals: counted, bounded, written and read back.

use proptest::prelude::*;

use super::*;
use crate::event::{Direction, Loss, Source, StreamData};
use crate::time::WallNanos;

fn event(body: Body) -> Event {
    Event { ts: WallNanos(0), process: None, tid: None, comm: None, body }
}

fn tls(data: usize, lost_bytes: u64, calls: usize) -> Event {
    event(Body::Data(StreamData {
        source: Source::Tls,
        conn_id: 1,
        direction: Direction::Read,
        stream_offset: 0,
        data_bytes: data as u64 + lost_bytes,
        lost_bytes,
        data: vec![0; data],
        library: "openssl".into(),
        fd: None,
        call_ts: vec![WallNanos(0); calls],
        call_bytes: vec![1; calls],
    }))
}

fn loss(class: &str, cause: &str, lost_events: u64) -> Event {
    event(Body::Loss(Loss {
        first_ts: WallNanos(0),
        event_class: class.into(),
        cause: cause.into(),
        lost_events,
        lost_bytes: 7,
        conn_id: None,
    }))
}

fn probe(path: &str, state: ProbeState) -> Event {
    event(Body::Probe(Probe {
        path: path.into(),
        library: None,
        state,
        detail: String::new(),
        build_id: None,
    }))
}

fn totals(events: &[Event]) -> Totals {
    let mut totals = Totals::default();
    events.iter().for_each(|event| totals.count(event));
    totals
}

fn reread(totals: &Totals) -> Result<Totals, MalformedTotals> {
    let entries = totals.entries();
    Totals::parse(entries.iter().map(|entry| (entry.key, entry.value.as_str())))
}

#[test]
fn joined_calls_count_each_and_lost_tails_are_not_written() {
    let totals = totals(&[tls(10, 0, 0), tls(5000, 0, 3), tls(20, 4, 0)]);
    let tls = totals.kinds["tls_data"];
    assert_eq!(tls, KindTotal { events: 3, calls: 5, bytes: 5034, lost_bytes: 4 });
    assert_eq!(tls.written(), Tally { events: 5, bytes: 5030 });
}

#[test]
fn the_last_outcome_of_a_binary_counts_and_dull_ones_give_way() {
    let mut events: Vec<Event> =
        (0..MOST_PROBES).map(|n| probe(&format!("/lib/{n}"), ProbeState::Absent)).collect();
    events.push(probe("/bin/agent", ProbeState::Unresolved));
    events.push(probe("/bin/agent", ProbeState::Attached));
    events.push(probe("/lib/late", ProbeState::Absent));
    let totals = totals(&events);
    assert_eq!(totals.probes.binaries.len(), MOST_PROBES);
    let of = |path: &str| totals.probes.binaries.values().find(|probe| probe.path == path);
    assert_eq!(of("/bin/agent").unwrap().state, ProbeState::Attached);
    assert_eq!(of("/lib/late"), None);
    let rows = [("absent", MOST_PROBES as u64 + 1), ("attached", 1), ("unresolved", 1)];
    assert_eq!(totals.probes.rows, BTreeMap::from(rows));
}

#[test]
fn losses_of_very_many_causes_are_counted_together() {
    let many: Vec<Event> =
        (0..MOST_LOSSES + 5).map(|n| loss("tls_data", &format!("cause {n}"), 1)).collect();
    let totals = totals(&many);
    assert_eq!(totals.losses.len(), MOST_LOSSES + 1);
    assert_eq!(totals.losses[&(OTHER.into(), OTHER.into())], Tally { events: 5, bytes: 35 });
    assert_eq!(reread(&totals).unwrap(), totals);
}

#[test]
fn counting_goes_on_where_it_stopped() {
    let events =
        [tls(5000, 0, 3), loss("tls_data", "ring_full", 2), probe("/a", ProbeState::Failed)];
    let mut first = reread(&totals(&events)).unwrap();
    events.iter().for_each(|event| first.count(event));
    let twice: Vec<Event> = events.iter().chain(&events).cloned().collect();
    assert_eq!(first, totals(&twice));
    let mut merged = totals(&events);
    merged.merge(&totals(&events));
    assert_eq!(merged, first);
    assert_eq!(merged.lost("tls_data"), Tally { events: 4, bytes: 14 });
}

#[test]
fn totals_that_contradict_the_format_are_refused() {
    let refused = |key, value: &str| {
        let error = Totals::parse([(key, value)]).expect_err(value);
        assert_eq!(error.key, key);
    };
    for text in ["", "[]", "null", r#"{"tls_data":3}"#, r#"{"tls_data":{"events":-1,"bytes":0}}"#] {
        refused(KINDS_KEY, text);
    }
    refused(KINDS_KEY, r#"{"tls_data":{"events":1,"bytes":1,"lost_bytes":2}}"#);
    refused(KINDS_KEY, &"[".repeat(10_000));
    refused(KINDS_KEY, &format!("{{}}{}", " ".repeat(LONGEST_JSON_BYTES)));
    refused(LOSSES_KEY, r#"[{"event_class":"tls_data","cause":"x","lost_events":1}]"#);
    refused(PROBES_KEY, r#"{"rows":{"maybe":1},"binaries":[]}"#);
    let unknown = Totals::parse([("agentsight.unknown", "?")]);
    assert_eq!(unknown, Ok(Totals::default()));
}

fn any_totals() -> impl Strategy<Value = Totals> {
    let data = (0..9000usize, 0..3u64, 0..4usize).prop_map(|(data, lost, n)| tls(data, lost, n));
    let losses =
        (".{0,80}", ".{0,80}", any::<u64>()).prop_map(|(class, cause, n)| loss(&class, &cause, n));
    let states = prop_oneof![Just(ProbeState::Absent), Just(ProbeState::Attached)];
    let probes = (".{0,700}", states).prop_map(|(path, state)| probe(&path, state));
    let events = prop::collection::vec(prop_oneof![data, losses, probes], 0..40);
    events.prop_map(|events| totals(&events))
}

proptest! {
    #[test]
    fn totals_read_back_as_they_were(totals in any_totals()) {
        prop_assert_eq!(reread(&totals).unwrap(), totals);
    }

    #[test]
    fn any_text_is_totals_or_an_error(
        key in prop::sample::select(vec![KINDS_KEY, LOSSES_KEY, PROBES_KEY]),
        value in prop_oneof![".{0,200}", r#"[\[\]{}",:a-z0-9 ]{0,200}"#],
    ) {
        if let Ok(totals) = Totals::parse([(key, value.as_str())]) {
            prop_assert_eq!(reread(&totals).unwrap(), totals);
        }
    }
}

#[test]
fn every_library_of_a_binary_is_listed_in_place_of_the_belief_that_it_has_none() {
    let of_library = |library: Option<&str>, state| {
        let mut event = probe("/bin/agent", state);
        let Body::Probe(probe) = &mut event.body else { panic!() };
        probe.library = library.map(str::to_owned);
        event
    };
    let totals = totals(&[
        of_library(None, ProbeState::Absent),
        of_library(Some("openssl"), ProbeState::Attached),
        of_library(Some("rustls"), ProbeState::Unresolved),
        of_library(Some("rustls"), ProbeState::Attached),
    ]);
    let listed: Vec<_> = totals
        .probes
        .binaries
        .values()
        .map(|probe| (probe.library.as_deref(), probe.state))
        .collect();
    let attached = ProbeState::Attached;
    assert_eq!(listed, [(Some("openssl"), attached), (Some("rustls"), attached)]);
    assert_eq!(reread(&totals).unwrap(), totals);
}
