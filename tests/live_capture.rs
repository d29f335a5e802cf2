//! The kernel side against real processes. Needs root and BPF; says loudly when it has to skip.

#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};
use std::process::Command;

use agentsight::capture::bpf::{Capture, Options};

#[test]
fn smoke() {
    let t = Instant::now();
    let mut capture = Capture::load(&Options { names: vec!["smoke-root".into()], ..Options::default() }).unwrap();
    eprintln!("load {:?} {:?}", t.elapsed(), capture.stats());
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("smoke-root");
    std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
    Command::new(&link).args(["-c", "/bin/true; (exit 3); /bin/echo hi >/dev/null; sleep 0.05; kill -9 $$"]).status().unwrap();
    for _ in 0..10 {
        capture.drain(Duration::from_millis(10), &mut |e| eprintln!("{e:?}")).unwrap();
    }
    eprintln!("{:#?}", capture.losses().unwrap());
}
