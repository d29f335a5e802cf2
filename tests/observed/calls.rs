//! How calls are counted, on a library whose functions do exactly what a test wants.

use std::path::PathBuf;
use std::process::Command;

use agentsight::capture::bpf::{Capture, MapEntries, Options, TlsFunction};
use agentsight::event::Body;

use super::{Run, capture, capture_with, file_offset};

/// A process that loads the shim and runs `calls`: Python with `shim`, `one` and `two` (connections)
/// and `data` (16 MiB of the byte 'd') in scope.
pub(super) fn run_calls(run: &mut Run, capture: &mut Capture, calls: &str) {
    let library = build(run);
    for (symbol, function) in [
        ("shim_write", TlsFunction::Write),
        ("shim_write_outer", TlsFunction::Write),
        ("shim_write_through", TlsFunction::Write),
        ("shim_read", TlsFunction::Read),
        ("shim_write_jumps", TlsFunction::Write),
        ("shim_write_hangs", TlsFunction::Write),
        ("shim_write_ex2", TlsFunction::WriteEx2),
        ("shim_free", TlsFunction::Free),
    ] {
        let offset = file_offset(&library, symbol);
        capture.attach_tls(&library, offset, function, "shim").expect("attachable");
    }
    run.python(&format!(
        "import ctypes, os, signal, threading\n\
         shim = ctypes.CDLL({:?})\n\
         one, two = ctypes.c_void_p(0x1000), ctypes.c_void_p(0x2000)\n\
         data = ctypes.create_string_buffer(b'd' * (16 << 20))\n\
         {calls}",
        library.to_str().expect("utf-8"),
    ));
    run.collect(capture);
    run.assert_ledger_balances(capture);
    run.assert_rows_equal_ledger(capture);
}

fn build(run: &Run) -> PathBuf {
    let library = run.dir().join("libshim.so");
    let source = "tests/observed/shim.c";
    let status = Command::new("clang")
        .args(["-shared", "-fPIC", "-O0", "-fno-optimize-sibling-calls", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .expect("clang built this crate's BPF programs");
    assert!(status.success());
    library
}

/// `(conn_id, stream_offset, data_bytes, lost_bytes)` of every TLS event.
fn rows(run: &Run) -> Vec<(u64, u64, u64, u64)> {
    let row = |data: &&agentsight::event::StreamData| {
        (data.conn_id, data.stream_offset, data.data_bytes, data.lost_bytes)
    };
    run.tls_data().iter().map(row).collect()
}

#[test]
fn a_call_inside_a_call_is_counted_once() {
    let Some(mut run) = Run::new("nested") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write_outer(one, data, 10); shim.shim_write(one, data, 5)",
    );
    assert_eq!(rows(&run), [(1, 0, 10, 0), (1, 10, 5, 0)]);
}

#[test]
fn a_call_of_another_kind_or_connection_inside_a_call_is_counted_too() {
    let Some(mut run) = Run::new("inside") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_read(one, data, 10); shim.shim_write_through(one, data, 20, two); \
         shim.shim_write(one, data, 5)",
    );
    // In the order in which they return: the write in the read, the read; the write to the outer
    // connection, the one through it.
    let expected = [(1, 0, 9, 0), (1, 0, 10, 0), (2, 0, 25, 0), (1, 9, 20, 0), (1, 29, 5, 0)];
    assert_eq!(rows(&run), expected);
}

#[test]
fn a_call_left_by_longjmp_does_not_hide_the_next_one() {
    let Some(mut run) = Run::new("longjmp") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_try(one, data, 10); shim.shim_write(one, data, 5)",
    );
    assert_eq!(rows(&run), [(1, 0, 5, 0)]);
}

#[test]
fn failed_and_empty_calls_are_not_data() {
    let Some(mut run) = Run::new("failed") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write(one, data, -1); shim.shim_write(one, data, 0); \
         shim.shim_write_ex2(None, data, 9, 0, data); shim.shim_write(one, data, 1)",
    );
    assert_eq!(rows(&run), [(1, 0, 1, 0)]);
}

#[test]
fn the_count_is_found_where_the_extended_function_stores_it() {
    let Some(mut run) = Run::new("stored") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "done = ctypes.c_size_t(); \
         shim.shim_write_ex2(two, data, ctypes.c_size_t(70000), ctypes.c_ulong(0), ctypes.byref(done))",
    );
    assert_eq!(rows(&run), [(1, 0, 65_536, 0), (1, 65_536, 4_464, 0)]);
}

#[test]
fn memory_that_cannot_be_read_is_a_hole_of_the_right_length() {
    for force_compat in [false, true] {
        let Some(mut run) = Run::new(&format!("fault-{force_compat}")) else { return };
        let mut capture = capture_with(&run, &Options { force_compat, ..Options::default() });
        run_calls(
            &mut run,
            &mut capture,
            "shim.shim_write(one, data, 4); shim.shim_write(one, ctypes.c_void_p(8), 1000); \
             shim.shim_write(one, data, 4)",
        );
        assert_eq!(rows(&run), [(1, 0, 4, 0), (1, 4, 1000, 1000), (1, 1004, 4, 0)]);
        let losses = capture.take_losses().expect("the ledger is readable");
        let [Body::Loss(loss)] = &losses.iter().map(|e| e.body.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("expected one loss, found {losses:?}");
        };
        assert_eq!(
            (loss.cause.as_str(), loss.lost_events, loss.lost_bytes),
            ("copy_fault", 0, 1000)
        );
    }
}

#[test]
fn the_end_of_a_call_of_sixteen_megabytes_is_counted_as_truncated() {
    let Some(mut run) = Run::new("truncated") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write(one, data, 16 << 20); shim.shim_write(one, data, 1)",
    );
    let rows = rows(&run);
    let captured: u64 = rows.iter().map(|(_, _, data, lost)| data - lost).sum();
    assert_eq!(captured, (8 << 20) + 1);
    assert_eq!(rows[rows.len() - 2..], [(1, 8 << 20, 8 << 20, 8 << 20), (1, 16 << 20, 1, 0),]);
}

#[test]
fn a_handle_used_again_after_free_is_another_connection() {
    let Some(mut run) = Run::new("reused") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write(one, data, 3); shim.shim_write(two, data, 3); shim.shim_free(one); \
         shim.shim_write(one, data, 3)",
    );
    assert_eq!(rows(&run), [(1, 0, 3, 0), (2, 0, 3, 0), (3, 0, 3, 0)]);
}

#[test]
fn a_forked_child_and_a_new_program_have_connections_of_their_own() {
    let Some(mut run) = Run::new("image") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write(one, data, 3)\n\
         if os.fork() == 0:\n    shim.shim_write(one, data, 3); os._exit(0)\n\
         os.wait()\n\
         again = f'import ctypes; s = ctypes.CDLL({shim._name!r}); '\n\
         again += 's.shim_write(ctypes.c_void_p(0x1000), b\"abc\", 3)'\n\
         os.execv('/usr/bin/python3', ['python3', '-c', again])",
    );
    assert_eq!(rows(&run), [(1, 0, 3, 0), (2, 0, 3, 0), (3, 0, 3, 0)]);
}

#[test]
fn nothing_is_left_in_the_maps_when_a_process_is_killed_in_a_call() {
    let Some(mut run) = Run::new("killed") else { return };
    let mut capture = capture(&run);
    run_calls(
        &mut run,
        &mut capture,
        "shim.shim_write(one, data, 3)\n\
         entered, enter = os.pipe()\n\
         threading.Thread(target=shim.shim_write_hangs, args=(two, data, enter)).start()\n\
         os.read(entered, 1)\n\
         os.kill(os.getpid(), signal.SIGKILL)",
    );
    assert_eq!(run.exit_of(run.pid()).signal, Some(9));
    assert_eq!(capture.map_entries(), MapEntries::default());
}
