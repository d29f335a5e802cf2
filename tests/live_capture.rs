//! The kernel side against real processes. Needs root and BPF, and says loudly when it has to skip.
//!
//! Every test observes a program under a name of its own, so that tests may run side by side.

#![cfg(target_os = "linux")]

#[path = "live_capture/floods.rs"]
mod floods;
mod observed;
#[path = "live_capture/scope.rs"]
mod scope;

use std::time::Duration;

use agentsight::capture::bpf::{Capture, Error, MapEntries, Options};
use agentsight::event::{Body, Direction};

use observed::{Run, Tls, capture, capture_with};

#[test]
fn a_shell_tree_is_followed_with_arguments_exit_codes_and_signals() {
    let Some(mut run) = Run::new("tree") else { return };
    let mut capture = capture(&run);
    run.shell("/bin/true one 'two  words' ''; (exit 3); sh -c 'kill -9 $$'; exit 7");
    run.collect(&mut capture);

    let root = run.pid();
    let exec = run.image_of(root);
    assert!(exec.matched && exec.exe.as_deref().is_some_and(|exe| exe.starts_with('/')));
    assert_eq!(exec.argv[1], "-c");
    assert_eq!(exec.cwd.as_deref(), Some(run.dir().to_str().expect("utf-8")));

    let exit = run.exit_of(root);
    assert_eq!((exit.exit_code, exit.signal), (Some(7), None));
    let children: Vec<u32> = run
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::ProcessFork(fork) if fork.ppid == root => event.process.map(|id| id.pid),
            _ => None,
        })
        .collect();
    let ends: Vec<_> =
        children.iter().map(|pid| run.exit_of(*pid)).map(|e| (e.exit_code, e.signal)).collect();
    assert_eq!(ends, [(Some(0), None), (Some(3), None), (None, Some(9))]);
    let first = run.image_of(children[0]);
    assert_eq!(first.argv, ["/bin/true", "one", "two  words", ""]);
    assert!(!first.matched);
    assert_eq!(first.ppid, root);
    run.assert_ledger_balances(&capture);
}

#[test]
fn half_a_megabyte_of_arguments_arrives_whole() {
    let Some(mut run) = Run::new("argv") else { return };
    let mut capture = capture(&run);
    let long: Vec<String> = (0..5).map(|n| format!("{n}").repeat(100_000)).collect();
    run.command("/bin/true", &long.iter().map(String::as_str).collect::<Vec<_>>());
    run.collect(&mut capture);
    let image = run.image_of(run.pid());
    assert_eq!(image.argv_lost_bytes, 0);
    assert!(image.argv[1..] == long);
    run.assert_ledger_balances(&capture);
}

#[test]
fn peak_memory_is_that_of_the_program_and_not_of_the_parent_that_forked_it() {
    let Some(mut run) = Run::new("peak") else { return };
    let mut capture = capture(&run);
    run.python(
        "import subprocess, re\n\
         ballast = bytearray(200 << 20)\n\
         subprocess.run(['/bin/true'])\n\
         print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read()).group(1))",
    );
    run.collect(&mut capture);
    let reported_bytes = run.stdout.trim().parse::<u64>().expect("a number of KiB") * 1024;
    let root = run.pid();
    let peak_bytes = run.exit_of(root).peak_rss_bytes;
    assert!(
        peak_bytes.abs_diff(reported_bytes) * 20 <= reported_bytes,
        "peak {peak_bytes}, VmHWM {reported_bytes}"
    );
    let child = run.child_of(root);
    let child_bytes = run.exit_of(child).peak_rss_bytes;
    assert!(child_bytes > 0 && child_bytes < 20 << 20, "peak of /bin/true {child_bytes}");
}

#[test]
fn peak_memory_of_a_small_program_is_exact_too() {
    let Some(mut run) = Run::new("small") else { return };
    let mut capture = capture(&run);
    // What the kernel keeps uncounted per CPU is a good part of what a shell needs. The shell reads
    // the file itself and frees nothing before it ends.
    run.shell(
        "while read key kib unit; do [ $key = VmHWM: ] && echo $kib; done < /proc/self/status",
    );
    run.collect(&mut capture);
    let reported_bytes = run.stdout.trim().parse::<u64>().expect("a number of KiB") * 1024;
    let peak_bytes = run.exit_of(run.pid()).peak_rss_bytes;
    assert!(
        peak_bytes.abs_diff(reported_bytes) * 20 <= reported_bytes,
        "peak {peak_bytes}, VmHWM {reported_bytes}"
    );
}

#[test]
fn processor_time_of_all_threads_is_counted() {
    let Some(mut run) = Run::new("cpu") else { return };
    let mut capture = capture(&run);
    // hashlib releases the interpreter lock, so the threads burn time of their own.
    run.python(
        "import hashlib, resource, threading\n\
         work = lambda: hashlib.pbkdf2_hmac('sha256', b'x', b'y', 400000)\n\
         threads = [threading.Thread(target=work) for _ in range(3)]\n\
         [t.start() for t in threads]; [t.join() for t in threads]\n\
         usage = resource.getrusage(resource.RUSAGE_SELF)\n\
         print(int((usage.ru_utime + usage.ru_stime) * 1e9))",
    );
    run.collect(&mut capture);
    let reported_ns: u64 = run.stdout.trim().parse().expect("a number of nanoseconds");
    let exit = run.exit_of(run.pid());
    let counted_ns = exit.cpu_user_ns + exit.cpu_system_ns;
    // What the interpreter needs to end comes on top; a tick may be missing.
    assert!(counted_ns + 10_000_000 >= reported_ns, "counted {counted_ns}, used {reported_ns}");
    assert!(counted_ns <= reported_ns + 100_000_000, "counted {counted_ns}, used {reported_ns}");
}

#[test]
fn no_process_of_a_fork_storm_is_missed() {
    const PROCESSES: usize = 2000;
    let Some(mut run) = Run::new("storm") else { return };
    let mut capture = capture(&run);
    // Two at a time; each ends with a code of its own, after having been two programs.
    run.shell_while_draining(
        "for i in $(seq 1 1000); do sh -c \"exec sh -c 'exit $((i % 200))'\" & /bin/true; done; wait",
        &mut capture,
    );
    run.collect(&mut capture);
    let count = |kind| run.events.iter().filter(|event| event.body.kind() == kind).count();
    // One more is the seq in the command substitution, and the shell itself was not forked.
    assert_eq!(count("process_fork"), PROCESSES + 1);
    assert_eq!(count("process_exec"), 3 * 1000 + 2);
    assert_eq!(count("process_exit"), PROCESSES + 2);
    let codes: u64 = run
        .events
        .iter()
        .filter_map(|event| match &event.body {
            Body::ProcessExit(exit) => Some(exit.exit_code.expect("nobody was killed") as u64),
            _ => None,
        })
        .sum();
    assert_eq!(codes, 5 * (0..200).sum::<u64>());
    run.assert_ledger_balances(&capture);
    run.assert_rows_equal_ledger(&capture);
    assert_eq!(capture.map_entries(), MapEntries::default());
}

#[test]
fn a_program_is_matched_by_the_script_of_its_interpreter_but_not_by_an_option() {
    let Some(mut run) = Run::new("script") else { return };
    let mut capture = capture(&run);
    let script = run.dir().join(run.name());
    std::fs::write(&script, "print('ran')").expect("temporary directory is writable");
    run.plain("/usr/bin/python3", &["-B", script.to_str().expect("utf-8")]);
    run.collect(&mut capture);
    assert!(run.image_of(run.pid()).matched);
    assert_eq!(run.exit_of(run.pid()).exit_code, Some(0));
}

#[test]
fn a_process_that_runs_already_is_observed_from_then_on() {
    let Some(mut run) = Run::new("track") else { return };
    let mut capture = capture(&run);
    run.tracked(&mut capture, "/bin/sh", &["-c", "read go; exec /bin/true"]);
    run.collect(&mut capture);
    let image = run.image_of(run.pid());
    assert!(image.matched);
    assert_eq!(image.argv, ["/bin/true"]);
    assert!(matches!(
        capture.track(u32::MAX / 2, false),
        Err(Error::NoProcess { pid }) if pid == u32::MAX / 2
    ));
}

#[test]
fn a_process_that_has_ended_but_was_not_waited_for_cannot_be_tracked() {
    let Some(run) = Run::new("zombie") else { return };
    let mut capture = capture(&run);
    let zombie = observed::Zombie::new();
    let refused = capture.track(zombie.pid(), true);
    assert!(matches!(refused, Err(Error::NoProcess { pid }) if pid == zombie.pid()));
    assert_eq!(capture.map_entries(), MapEntries::default());
}

/// Both directions of a TLS client, byte for byte, by both output paths.
fn tls_round_trip(name: &str, force_compat: bool, attach: impl FnOnce(&Tls, &mut Capture)) {
    let Some(mut run) = Run::new(name) else { return };
    let mut capture = capture_with(&run, &Options { force_compat, ..Options::default() });
    let tls = Tls::start(&run);
    attach(&tls, &mut capture);
    // Sizes around every tier and the part size, then one large call.
    let sizes = [1, 255, 256, 257, 2048, 2049, 16384, 16385, 65535, 65536, 65537, 200_000, 1 << 20];
    run.python(&tls.client(&sizes));
    run.collect(&mut capture);

    let (sent, received) = run.reported_hashes();
    assert_eq!(run.stream_hash(Direction::Write), sent);
    assert_eq!(run.stream_hash(Direction::Read), received);
    let total: usize = sizes.iter().sum();
    assert_eq!(run.stream(Direction::Write).len(), total);
    assert_eq!(capture.stats().exact_size, !force_compat && observed::kernel_has_exact_size());
    assert!(run.tls_data().iter().all(|data| data.lost_bytes == 0));
    if !force_compat {
        assert!(run.tls_data().iter().all(|data| data.library == "openssl"));
    }
    // The client freed its connection before it ended.
    let closes =
        run.events.iter().filter(|event| matches!(event.body, Body::TlsClose { .. })).count();
    assert_eq!(closes, 1);
    run.assert_ledger_balances(&capture);
    run.assert_rows_equal_ledger(&capture);
}

#[test]
fn both_directions_of_a_tls_client_arrive_byte_for_byte() {
    tls_round_trip("tls", false, Tls::attach);
}

#[test]
fn the_functions_behind_the_interface_give_the_same_bytes() {
    tls_round_trip("inner", false, |tls, capture| {
        let probed = tls.attach_found(capture);
        if !probed.iter().any(|name| name == "ssl_read_internal") {
            eprintln!("this libssl has none that are cheaper to probe: {probed:?}");
        }
    });
}

#[test]
fn the_path_for_old_kernels_gives_the_same_bytes() {
    tls_round_trip("compat", true, Tls::attach);
}

#[test]
fn openssls_own_client_is_captured_through_the_plain_functions() {
    own_client("client", Tls::attach);
}

#[test]
fn openssls_own_client_is_captured_behind_the_interface() {
    own_client("behind", |tls, capture| drop(tls.attach_found(capture)));
}

fn own_client(name: &str, attach: impl FnOnce(&Tls, &mut Capture)) {
    let Some(mut run) = Run::new(name) else { return };
    let mut capture = capture(&run);
    let tls = Tls::start(&run);
    attach(&tls, &mut capture);
    let request = "GET / HTTP/1.1\nHost: localhost\n";
    run.with_stdin(request);
    let connect = format!("127.0.0.1:{}", tls.port());
    run.command("/usr/bin/openssl", &["s_client", "-quiet", "-no_ign_eof", "-connect", &connect]);
    run.collect(&mut capture);
    assert_eq!(run.stream(Direction::Write), request.as_bytes());
}

#[test]
fn a_ring_that_overflows_leaves_gaps_of_the_right_length_and_an_exact_ledger() {
    let Some(mut run) = Run::new("overflow") else { return };
    let options = Options { payload_ring_bytes: 256 << 10, ..Options::default() };
    let mut capture = capture_with(&run, &options);
    let tls = Tls::start(&run);
    tls.attach(&mut capture);
    let sizes = [40_000; 40];
    run.python(&tls.client(&sizes));
    // Nobody reads meanwhile: collect begins when the client has ended.
    run.collect(&mut capture);

    let total: u64 = sizes.iter().map(|size| *size as u64).sum();
    let ledger = capture.losses().expect("the ledger is readable");
    let entry = ledger.iter().find(|class| class.event_class == "tls_data").expect("class").entry;
    assert!(entry.lost_events[0] > 0, "the ring did not overflow: {entry:?}");
    assert_eq!(entry.attempted_bytes, 2 * total);
    run.assert_ledger_balances(&capture);
    run.assert_rows_equal_ledger(&capture);
    // Rows lie where they belong in the stream: their bytes are those that the client sent there.
    let rows: Vec<_> =
        run.tls_data().into_iter().filter(|data| data.direction == Direction::Write).collect();
    assert!(!rows.is_empty());
    for row in rows {
        for (index, byte) in row.data.iter().enumerate() {
            let at = row.stream_offset as usize + index;
            assert_eq!(*byte, observed::pattern(at), "at stream offset {at}");
        }
    }
    let losses = capture.take_losses().expect("the ledger is readable");
    let lost: u64 = losses
        .iter()
        .map(|event| match &event.body {
            Body::Loss(loss) => loss.lost_bytes,
            _ => 0,
        })
        .sum();
    assert_eq!(lost, entry.lost_bytes.iter().sum::<u64>());
    assert!(capture.take_losses().expect("the ledger is readable").is_empty());
}

#[test]
fn arguments_that_do_not_fit_the_ring_are_accounted_for_to_the_byte() {
    let Some(mut run) = Run::new("argvlost") else { return };
    let options = Options { control_ring_bytes: 64 << 10, ..Options::default() };
    let mut capture = capture_with(&run, &options);
    // The records of the shell itself fit: it waits until those of the large area have been read.
    let script = "/bin/true $(seq 1 60000); sleep 0.3; exit 7";
    run.shell_while_draining(script, &mut capture);
    run.collect(&mut capture);
    let ledger = capture.losses().expect("the ledger is readable");
    let exec = ledger.iter().find(|class| class.event_class == "process_exec").expect("a class");
    assert!(exec.entry.lost_bytes[0] > 0, "the ring did not overflow: {exec:#?}");
    run.assert_ledger_balances(&capture);
    let mut lost_bytes = 0;
    for event in capture.take_losses().expect("the ledger is readable") {
        let Body::Loss(loss) = event.body else { panic!("expected losses, found {event:?}") };
        assert_eq!(loss.event_class, "process_exec");
        lost_bytes += loss.lost_bytes;
    }
    assert_eq!(exec.entry.attempted_bytes, exec.decoded.bytes + lost_bytes);
}

#[test]
fn processes_nobody_asked_for_leave_no_trace() {
    let Some(mut run) = Run::new("untracked") else { return };
    let mut capture = capture(&run);
    let tls = Tls::start(&run);
    tls.attach(&mut capture);
    run.plain("/usr/bin/python3", &["-c", &tls.client(&[1000])]);
    capture.drain(Duration::from_millis(50), &mut |event| run.events.push(event)).expect("drain");
    assert_eq!(run.events, []);
    assert!(capture.losses().expect("ledger").iter().all(|c| c.entry.attempted_events == 0));
}
