//! What fits between the kernel and a reader that is away, and what is said of the rest.

use agentsight::capture::abi::LedgerEntry;
use agentsight::capture::bpf::Capture;

use super::calls::run_calls;
use super::{Run, capture};

fn tls_ledger(capture: &Capture) -> LedgerEntry {
    let ledger = capture.losses().expect("the ledger is readable");
    ledger.iter().find(|class| class.event_class == "tls_data").expect("a class").entry
}

/// Nobody reads the rings while the calls are made: reading begins when their process has ended.
fn burst(topic: &str, calls: &str) -> Option<(Run, LedgerEntry)> {
    let mut run = Run::new(topic)?;
    let mut capture = capture(&run);
    run_calls(&mut run, &mut capture, calls);
    let entry = tls_ledger(&capture);
    Some((run, entry))
}

#[test]
fn more_than_a_hundred_thousand_small_events_are_in_flight_with_the_default_ring() {
    let calls = "shim.shim_write_often(one, data, 100, 110_000)";
    let Some((run, entry)) = burst("flight", calls) else { return };
    assert_eq!(entry.attempted_events, 110_000);
    assert_eq!(entry.lost_events.iter().sum::<u64>(), 0, "{entry:?}");
    assert_eq!(run.tls_data().len(), 110_000);
}

#[test]
fn an_event_stream_of_nine_thousand_chunks_is_recorded_whole_three_times() {
    let calls = "for _ in range(3): shim.shim_write_often(one, data, 110, 9_000)";
    let Some((run, entry)) = burst("chunks", calls) else { return };
    assert_eq!(entry.lost_events.iter().sum::<u64>(), 0, "{entry:?}");
    let mut expected_offset = 0;
    for data in run.tls_data() {
        assert_eq!(
            (data.stream_offset, data.data.len(), data.lost_bytes),
            (expected_offset, 110, 0)
        );
        expected_offset += 110;
    }
    assert_eq!(expected_offset, 3 * 9_000 * 110);
}

#[test]
fn a_call_of_four_mebibytes_arrives_whole() {
    let Some((run, entry)) = burst("large", "shim.shim_write(one, data, 4 << 20)") else { return };
    assert_eq!((entry.submitted_bytes, entry.lost_bytes.iter().sum::<u64>()), (4 << 20, 0));
    assert_eq!(run.tls_data().iter().map(|data| data.data.len()).sum::<usize>(), 4 << 20);
}

#[test]
fn a_burst_of_24_mebibytes_fits_and_one_of_48_is_accounted_for_to_the_byte() {
    for (mebibytes, fits) in [(24_u64, true), (48, false)] {
        let calls = format!("shim.shim_write_often(one, data, 16384, {})", mebibytes * 64);
        let Some((run, entry)) = burst(&format!("burst-{mebibytes}"), &calls) else { return };
        let lost_bytes = entry.lost_bytes.iter().sum::<u64>();
        assert_eq!(entry.attempted_bytes, mebibytes << 20);
        assert_eq!(lost_bytes == 0, fits, "{entry:?}");
        let kept: u64 = run.tls_data().iter().map(|data| data.data.len() as u64).sum();
        assert_eq!(kept + lost_bytes, mebibytes << 20);
    }
}
