//! What hostile or unlucky processes do to the recorder: nothing but what the trace says.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agentsight::event::Direction;

use super::host::{live, until};
use super::noise::{Sink, noise, system_libssl};
use super::recorder::{Recording, Running, recorder};
use super::rows::Rows;

#[test]
fn garbage_over_tls_is_recorded_like_anything_else() {
    live(|host| {
        let sink = Sink::start(host);
        let output = host.path("run.parquet");
        let mut client = Running::start(&mut noise(host, &sink));
        let recording = Recording::start(&output, &["-p", &client.pid().to_string()]);
        drop(std::io::Write::write_all(&mut client.stdin(), b"go\n"));
        let sent: u64 = client.end().succeeded().stdout.trim().parse().unwrap();
        recording.end().succeeded();
        let rows = Rows::read(&output);
        let (in_rows, without_data) = rows.moved(Direction::Write);
        // A client without a server's patience may be faster than a loaded host's recorder.
        let lost = rows.lost_bytes("tls_data");
        assert_eq!((in_rows + lost, without_data), (sent, 0));
        assert!(lost < sent / 2, "{lost} of {sent} bytes were lost");
    });
}

#[test]
fn a_library_that_was_replaced_while_it_is_in_use_is_recorded() {
    live(|host| {
        let sink = Sink::start(host);
        // A copy that only this client maps, and that nobody can find by its name any more.
        let library = host.path("libssl.so.3");
        std::fs::copy(system_libssl(), &library).unwrap();
        let mut command = noise(host, &sink);
        command.env("LD_LIBRARY_PATH", library.parent().unwrap());
        let mut client = Running::start(&mut command);
        let maps = format!("/proc/{}/maps", client.pid());
        let mapped = || std::fs::read_to_string(&maps).unwrap().contains(library.to_str().unwrap());
        until("the library to be mapped", mapped);
        std::fs::remove_file(&library).unwrap();
        std::fs::write(&library, "not a library").unwrap();

        let output = host.path("run.parquet");
        let recording = Recording::start(&output, &["-p", &client.pid().to_string()]);
        drop(std::io::Write::write_all(&mut client.stdin(), b"go\n"));
        let sent: u64 = client.end().succeeded().stdout.trim().parse().unwrap();
        recording.end().succeeded();
        assert_eq!(Rows::read(&output).moved(Direction::Write), (sent, 0));
    });
}

#[test]
fn a_process_that_ends_while_it_is_attached_to_is_recorded_or_refused() {
    live(|host| {
        let mut outcomes = (0, 0);
        // From long before the recorder looks to long after it has begun.
        for step in 0..12 {
            let life = Duration::from_millis(step * 40).as_secs_f64().to_string();
            let sleeper = Running::start(Command::new("sleep").arg(&life));
            let output = host.path(&format!("{step}.parquet"));
            let mut command = recorder(&output);
            let ended = Running::start(command.args(["-p", &sleeper.pid().to_string()])).end();
            let refused = ended.stderr.contains("there is no process");
            match ended.status.code() {
                Some(0) => assert_eq!(stop_reason(&output), "processes_exited"),
                Some(2) if refused => assert!(!output.exists(), "{}", ended.stderr),
                _ => panic!("{}: {}", ended.status, ended.stderr),
            }
            if refused { outcomes.0 += 1 } else { outcomes.1 += 1 }
        }
        assert!(outcomes.1 > 0, "{outcomes:?}");
    });
}

fn stop_reason(trace: &Path) -> String {
    agentsight::trace::Reader::open(trace).unwrap().metadata()["agentsight.stop_reason"].clone()
}
