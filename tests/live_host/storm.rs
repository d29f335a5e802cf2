//! Processes that live for less than a millisecond, ten thousand of them.

use std::collections::BTreeMap;
use std::process::Command;

use agentsight::event::Body;

use super::host::live;
use super::program::compile;
use super::recorder::record;
use super::rows::Rows;

const SPAWNERS: usize = 4;
const CHILDREN: usize = 2500;

#[test]
fn every_process_of_a_storm_is_in_the_trace_with_its_parent_and_exit_code() {
    live(|host| {
        let storm = compile(host, "storm");
        let output = host.path("run.parquet");
        let mut command = Command::new(&storm);
        command.args([SPAWNERS.to_string(), CHILDREN.to_string()]);
        // With that of the build, the loader looks for libraries in a hundred places per program.
        command.env_remove("LD_LIBRARY_PATH");
        let ended = record::<&str>(&output, &[], &mut command).succeeded();
        assert!(ended.stderr.contains("nothing lost"), "{}", ended.stderr);

        let rows = Rows::read(&output);
        rows.nothing_lost();
        // By process: what forked it, what it ran, how it ended.
        let mut forks = BTreeMap::new();
        let mut exits = BTreeMap::new();
        for event in &rows.events {
            let Some(id) = event.process else { continue };
            match &event.body {
                Body::ProcessFork(fork) => assert_eq!(forks.insert(id.pid, fork.ppid), None),
                Body::ProcessExit(exit) => assert_eq!(exits.insert(id.pid, exit.clone()), None),
                _ => {}
            }
        }
        let mut leaves: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (pid, image) in rows.images().filter(|(_, image)| image.argv[1] == "leaf") {
            let (spawner, number): (u32, usize) =
                (image.argv[2].parse().unwrap(), image.argv[3].parse().unwrap());
            assert_eq!((image.ppid, forks[&pid], exits[&pid].ppid), (spawner, spawner, spawner));
            let expected = i32::try_from(number % 251).unwrap();
            assert_eq!((exits[&pid].exit_code, exits[&pid].signal), (Some(expected), None));
            leaves.entry(spawner).or_default().push(number);
        }
        assert_eq!(leaves.len(), SPAWNERS);
        let all: Vec<usize> = (0..CHILDREN).collect();
        assert!(leaves.values().all(|numbers| *numbers == all), "each once and in order");
        // The storm itself, its spawners and the leaves.
        assert_eq!(exits.len(), 1 + SPAWNERS + SPAWNERS * CHILDREN);
    });
}
