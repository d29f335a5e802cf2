//! More processes than are kept track of: counted, and nothing comes to a halt.

use agentsight::capture::bpf::{Capture, MapEntries, Options};
use agentsight::event::{Body, Event};

use super::observed::{Run, capture_with};

/// Each process makes two more until there are 2^LEVELS leaves; all of them live at the same time.
const BOMB: &str = "
import os, sys, time
level = 0
children = []
while level < int(sys.argv[1]):
    pid = os.fork()
    level += 1
    if pid:
        children.append(pid)
    else:
        children = []
time.sleep(0.3)
for pid in children:
    os.waitpid(pid, 0)
";
const LEVELS: u32 = 8;

fn count(events: &[Event], kind: &str) -> u64 {
    events.iter().filter(|event| event.body.kind() == kind).count() as u64
}

/// `process_fork` events that were lost because the map was full.
fn lost_forks(capture: &mut Capture) -> u64 {
    let losses = capture.take_losses().expect("the ledger is readable");
    let forks = losses.iter().filter_map(|event| match &event.body {
        Body::Loss(loss) if loss.event_class == "process_fork" => {
            assert_eq!(loss.cause, "map_full");
            Some(loss.lost_events)
        }
        _ => None,
    });
    forks.sum()
}

#[test]
fn processes_beyond_what_is_kept_track_of_are_counted_and_the_others_complete() {
    let Some(mut run) = Run::new("bomb") else { return };
    let options = Options { tracked_processes: 64, ..Options::default() };
    let mut capture = capture_with(&run, &options);
    run.python_with(BOMB, &[&LEVELS.to_string()], &mut capture);
    run.collect(&mut capture);

    let lost = lost_forks(&mut capture);
    let (forks, exits) = (count(&run.events, "process_fork"), count(&run.events, "process_exit"));
    assert!(lost > 0, "{forks} forks fitted");
    // Children of what is not observed are not even seen, so they are in neither number.
    assert!(forks + lost < 1 << LEVELS, "{forks} and {lost}");
    assert_eq!(exits, forks + 1, "what is observed is observed to its end");
    run.assert_ledger_balances(&capture);
    assert_eq!(capture.map_entries(), MapEntries::default());
}

#[test]
fn a_bomb_that_fits_is_complete() {
    let Some(mut run) = Run::new("bombfits") else { return };
    let mut capture = capture_with(&run, &Options::default());
    run.python_with(BOMB, &[&LEVELS.to_string()], &mut capture);
    run.collect(&mut capture);
    assert_eq!(lost_forks(&mut capture), 0);
    assert_eq!(count(&run.events, "process_fork"), (1 << LEVELS) - 1);
    assert_eq!(count(&run.events, "process_exit"), 1 << LEVELS);
    run.assert_rows_equal_ledger(&capture);
}
