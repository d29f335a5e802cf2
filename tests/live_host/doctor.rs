//! `agentsight-rec doctor` on this host, as root and as somebody who may nothing.

use std::process::Command;

use serde_json::Value;

use super::host::live;
use super::noise::{Sink, noise};
use super::recorder::{Ended, Running};

fn doctor(arguments: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentsight-rec"));
    Running::start(command.arg("doctor").args(arguments)).end()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[test]
fn a_host_that_records_is_found_to() {
    live(|_| {
        let ended = doctor(&["--format", "json"]);
        let report = json(&ended);
        for check in report["host"].as_array().unwrap() {
            let fine = check["state"] == "ok" || check["required"] == false;
            assert!(fine, "{check}");
        }
        let names = report["host"].as_array().unwrap().iter().map(|check| &check["name"]);
        for name in ["type information", "process hooks", "function probes", "kernel lockdown"] {
            assert!(names.clone().any(|found| found == name), "{name}");
        }
        let code = ended.status.code().map(i64::from);
        assert_eq!(report["verdict"].as_i64(), code);
        assert_ne!(code, Some(2));
    });
}

#[test]
fn a_running_client_is_described_with_the_functions_that_would_be_probed() {
    live(|host| {
        let sink = Sink::start(host);
        let mut client = Running::start(&mut noise(host, &sink));
        let pid = client.pid().to_string();
        super::host::until("its TLS library", || {
            let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
            maps.contains("libssl")
        });
        for arguments in [["-p", &pid], ["-c", "noise.py"]] {
            let report = json(&doctor(&[&arguments[..], &["--format", "json"]].concat()));
            let process = &report["processes"][0];
            assert_eq!(process["pid"].to_string(), pid);
            let files = process["files"].as_array().unwrap();
            let library = files.iter().find(|file| file["library"] == "openssl").unwrap();
            let functions = library["functions"].as_array().unwrap();
            assert!(functions.len() >= 3, "{library}");
            assert!(functions.iter().all(|f| f["file_offset"].as_u64() > Some(0)), "{library}");
        }
        drop(client.stdin());
        let text = doctor(&["/bin/sh"]).stdout;
        assert!(text.contains("programs\n  /"), "{text}");
        assert!(text.contains("no TLS library in it"), "{text}");
    });
}

#[test]
fn who_may_nothing_is_told_what_is_missing_and_how_to_get_it() {
    live(|host| {
        let program = host.path("agentsight-rec");
        std::fs::copy(env!("CARGO_BIN_EXE_agentsight-rec"), &program).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        let ended = Running::start(command.arg(program).arg("doctor")).end();
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        for words in [
            "missing  right to trace    no CAP_BPF and CAP_PERFMON",
            "limited  right to look ",
            "setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search",
            "verdict: nothing can be recorded\n",
        ] {
            assert!(ended.stdout.contains(words), "{words:?} in\n{}", ended.stdout);
        }
    });
}
