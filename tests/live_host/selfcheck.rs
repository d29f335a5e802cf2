//! A program that makes TLS connections and shows no plaintext is told of while it is recorded.

use std::process::Command;

use agentsight::event::Body;

use super::host::live;
use super::noise::Sink;
use super::recorder::{Recording, Running};
use super::rows::Rows;

/// A handshake, and then nothing: as if the plaintext went through functions nobody knows.
const SILENT: &str = "
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))))
sys.stdin.readline()
";

#[test]
fn a_silent_program_is_warned_of_and_is_a_row() {
    live(|host| {
        let sink = Sink::start(host);
        let script = host.write("silent-agent.py", SILENT);
        let output = host.path("run.parquet");
        let mut recording = Recording::start(&output, &["-c", "silent-agent"]);
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).arg(sink.port.to_string()).stdin(std::process::Stdio::piped());
        let mut client = Running::start(&mut command);
        let stdin = client.stdin();
        recording.running().says("0 plaintext bytes on 1 TLS connection: ");
        let said = recording.running().stderr();
        assert!(said.contains(&format!("(pid {})", client.pid())), "{said}");
        drop(stdin);
        client.end().succeeded();
        let rows = Rows::read(&recording.stop());
        let probes = rows.events.iter().filter_map(|event| match &event.body {
            Body::Probe(probe) => Some(&probe.detail),
            _ => None,
        });
        let warnings = probes.filter(|detail| detail.starts_with("0 plaintext bytes on 1"));
        assert_eq!(warnings.count(), 1);
    });
}
