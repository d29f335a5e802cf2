//! Hand-built records: whole, cut, rounded up, absurd; and what becomes of them as events.

use proptest::prelude::*;

use super::*;
use crate::event::{Body, Direction, Event, Exit, Fork, Image};
use crate::time::{ClockAnchor, WallNanos};

const ANCHOR: ClockAnchor = ClockAnchor::new(BootNanos(0), WallNanos(1_000_000_000_000));

fn decoder() -> Decoder {
    Decoder::new(ANCHOR, 4096)
}

/// Bytes of a record, field by field, as the kernel lays them out.
#[derive(Clone)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn header(kind: u32, pid: u32, boot_ns: u64) -> Self {
        let mut comm = [0; abi::EVENT_COMM_BYTES];
        comm[..4].copy_from_slice(b"node");
        Self(Vec::new()).u32(kind).u32(pid).u32(pid).u32(0).u64(boot_ns).u64(77_777_777).raw(&comm)
    }

    fn u32(self, value: u32) -> Self {
        self.raw(&value.to_ne_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.raw(&value.to_ne_bytes())
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn parse(&self) -> Result<Record, DecodeError> {
        parse(&self.0)
    }
}

fn fork() -> Bytes {
    Bytes::header(abi::EVENT_PROCESS_FORK, 10, 5).u32(9).u32(1000)
}

fn exec_with(flags: u32, parts: [&[u8]; 3], total: u32, offset: u32) -> Bytes {
    let lengths = parts.map(|part| part.len() as u32);
    let [exe, cwd, argv] = lengths;
    let head = Bytes::header(abi::EVENT_PROCESS_EXEC, 10, 6).u32(9).u32(1000).u32(flags);
    let head = head.u32(exe).u32(cwd).u32(total).u32(offset).u32(argv).u64(77);
    parts.iter().fold(head, |bytes, part| bytes.raw(part))
}

fn exec() -> Bytes {
    exec_with(abi::EXEC_MATCHED, [b"node\0bin\0usr\0", b"me\0home\0", b"node\0-p\0\0"], 9, 0)
}

fn argv_part(offset: u32, part: &[u8]) -> Bytes {
    let head = Bytes::header(abi::EVENT_EXEC_ARGV, 10, 6);
    head.u32(offset).u32(part.len() as u32).raw(part)
}

fn exit(wait_status: u32, cpu_ns: [u64; 3]) -> Bytes {
    let head = Bytes::header(abi::EVENT_PROCESS_EXIT, 10, 7).u32(9).u32(wait_status);
    let [user, system, runtime] = cpu_ns;
    head.u64(user).u64(system).u64(runtime).u64(100).u64(512).u64(1024)
}

fn data(handle: u64, generation: u64, offset: u64, lost: u32, bytes: &[u8]) -> Bytes {
    let captured = bytes.len() as u32;
    let head = Bytes::header(abi::EVENT_TLS_DATA, 10, 8).u64(handle).u64(generation).u64(offset);
    head.u32(captured + lost)
        .u32(captured)
        .raw(&[abi::DIRECTION_WRITE, 1, 0, 0, 0, 0, 0, 0])
        .raw(bytes)
}

fn close(handle: u64, generation: u64) -> Bytes {
    Bytes::header(abi::EVENT_TLS_CLOSE, 10, 9).u64(handle).u64(generation)
}

fn every_kind() -> [Bytes; 6] {
    [
        fork(),
        exec(),
        argv_part(0, b"abc"),
        exit(0, [1, 1, 2]),
        data(1, 2, 3, 4, b"abc"),
        close(1, 2),
    ]
}

fn event(decoder: &mut Decoder, bytes: &Bytes) -> Event {
    decoder.push(bytes.parse().expect("a whole record")).expect("a record that is an event")
}

fn image(decoder: &mut Decoder, bytes: &Bytes) -> Image {
    match event(decoder, bytes).body {
        Body::ProcessExec(image) => image,
        other => panic!("expected an exec, found {other:?}"),
    }
}

#[test]
fn what_is_of_an_unselected_process_counts_as_neither_handed_on_nor_unusable() {
    let mut decoder = decoder();
    event(&mut decoder, &data(1, 2, 0, 0, b"kept"));
    decoder.pass_over(&data(9, 2, 0, 0, b"dropped").parse().unwrap());
    let of_class = |decoder: &Decoder, class: usize| decoder.decoded()[class];
    let expected = Decoded {
        events: 1,
        bytes: 4,
        unselected_events: 1,
        unselected_bytes: 7,
        ..Decoded::default()
    };
    assert_eq!(of_class(&decoder, abi::CLASS_TLS_DATA), expected);

    let before = of_class(&decoder, abi::CLASS_PROCESS_EXEC);
    event(&mut decoder, &exec());
    decoder.unselect(abi::CLASS_PROCESS_EXEC, before);
    let expected = Decoded { unselected_events: 1, unselected_bytes: 9, ..Decoded::default() };
    assert_eq!(of_class(&decoder, abi::CLASS_PROCESS_EXEC), expected);
}

#[test]
fn a_record_cut_at_any_length_is_an_error_and_not_a_panic() {
    for whole in every_kind() {
        whole.parse().expect("a whole record");
        for length in 0..whole.0.len() {
            let error = parse(&whole.0[..length]).expect_err("cut");
            let DecodeError::CutShort { expected, found, .. } = error else {
                panic!("expected cut short, found {error:?}");
            };
            assert_eq!(found, length as u64);
            assert!(expected > found);
        }
    }
}

#[test]
fn bytes_behind_a_record_are_not_part_of_it() {
    for whole in every_kind() {
        assert_eq!(whole.clone().raw(&[0xff; 300]).parse(), whole.parse());
    }
}

#[test]
fn lengths_that_reach_beyond_the_record_are_cut_short() {
    let mut bytes = data(1, 2, 3, 0, b"abc");
    let captured = std::mem::offset_of!(DataEvent, captured_bytes);
    bytes.0[captured..captured + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
    bytes.0[captured - 4..captured].copy_from_slice(&u32::MAX.to_ne_bytes());
    assert!(matches!(bytes.parse(), Err(DecodeError::CutShort { .. })));
}

#[test]
fn impossible_fields_and_unknown_kinds_are_refused_by_name() {
    let mut more_captured_than_moved = data(1, 2, 3, 0, b"abc");
    let at = std::mem::offset_of!(DataEvent, data_bytes);
    more_captured_than_moved.0[at] = 2;
    let impossible = |field| Err(DecodeError::Impossible { kind: abi::EVENT_TLS_DATA, field });
    assert_eq!(more_captured_than_moved.parse(), impossible("captured_bytes"));

    let mut neither_read_nor_write = data(1, 2, 3, 0, b"abc");
    neither_read_nor_write.0[std::mem::offset_of!(DataEvent, direction)] = 2;
    assert_eq!(neither_read_nor_write.parse(), impossible("direction"));

    assert_eq!(Bytes::header(99, 1, 1).parse(), Err(DecodeError::UnknownKind(99)));
}

#[test]
fn a_fork_is_about_the_child() {
    let event = event(&mut decoder(), &fork());
    assert_eq!(event.body, Body::ProcessFork(Fork { ppid: 9, uid: 1000 }));
    assert_eq!(event.ts, WallNanos(1_000_000_000_005));
    let process = event.process.expect("a process");
    // Floored to a clock tick: see `ClockAnchor::process_start`.
    assert_eq!((process.pid, process.start_ts), (10, WallNanos(1_000_070_000_000)));
    assert_eq!(event.comm.as_deref(), Some("node"));
}

#[test]
fn paths_arrive_leaf_first_and_arguments_keep_empty_ones() {
    let image = image(&mut decoder(), &exec());
    assert_eq!(image.exe.as_deref(), Some("/usr/bin/node"));
    assert_eq!(image.cwd.as_deref(), Some("/home/me"));
    assert_eq!(image.argv, ["node", "-p", ""]);
    assert_eq!(image.argv_lost_bytes, 0);
    assert!(image.matched);
}

#[test]
fn a_path_without_its_beginning_does_not_look_absolute() {
    let flags = abi::EXEC_EXE_TRUNCATED | abi::EXEC_CWD_TRUNCATED;
    let image = image(&mut decoder(), &exec_with(flags, [b"b\0a\0", b"", b""], 0, 0));
    assert_eq!(image.exe.as_deref(), Some(".../a/b"));
    assert_eq!(image.cwd, None);
    assert!(!image.matched && image.argv.is_empty());
}

#[test]
fn no_component_is_the_root_directory() {
    let image = image(&mut decoder(), &exec_with(0, [b"init\0", b"", b"init\0"], 5, 0));
    assert_eq!(image.cwd.as_deref(), Some("/"));
}

#[test]
fn arguments_in_parts_are_put_together() {
    let mut decoder = decoder();
    assert_eq!(decoder.push(argv_part(0, b"abc").parse().expect("whole")), None);
    assert_eq!(decoder.push(argv_part(3, b"d\0e").parse().expect("whole")), None);
    let image = image(&mut decoder, &exec_with(0, [b"x\0", b"", b"f\0"], 8, 6));
    assert_eq!(image.argv, ["abcd", "ef"]);
    assert_eq!(image.argv_lost_bytes, 0);
}

#[test]
fn behind_a_lost_part_the_arguments_are_counted_as_lost() {
    let mut decoder = decoder();
    decoder.push(argv_part(0, b"abc").parse().expect("whole"));
    let image = image(&mut decoder, &exec_with(0, [b"x\0", b"", b"f\0"], 8, 6));
    assert_eq!(image.argv, ["abc"]);
    assert_eq!(image.argv_lost_bytes, 5);
    let exec = decoder.decoded()[abi::CLASS_PROCESS_EXEC];
    assert_eq!((exec.bytes, exec.unusable_bytes), (3, 2));
}

#[test]
fn parts_of_an_exec_whose_record_was_lost_do_not_reach_the_next_one() {
    let mut decoder = decoder();
    decoder.push(argv_part(0, b"stale").parse().expect("whole"));
    assert_eq!(image(&mut decoder, &exec()).argv, ["node", "-p", ""]);
    assert_eq!(decoder.decoded()[abi::CLASS_PROCESS_EXEC].unusable_bytes, 5);
}

#[test]
fn exit_tells_code_from_signal() {
    let exit_of = |bytes: &Bytes| match event(&mut decoder(), bytes).body {
        Body::ProcessExit(exit) => exit,
        other => panic!("expected an exit, found {other:?}"),
    };
    let plain = exit_of(&exit(3 << 8, [30, 10, 100]));
    let expected = Exit {
        ppid: 9,
        exit_code: Some(3),
        signal: None,
        cpu_user_ns: 75,
        cpu_system_ns: 25,
        peak_rss_bytes: 409_600,
        read_bytes: 512,
        written_bytes: 1024,
    };
    assert_eq!(plain, expected);
    // With the core dump flag.
    let killed = exit_of(&exit(0x80 | 11, [0, 0, 100]));
    assert_eq!((killed.exit_code, killed.signal), (None, Some(11)));
    assert_eq!((killed.cpu_user_ns, killed.cpu_system_ns), (100, 0));
    let huge = exit_of(&exit(0, [u64::MAX, u64::MAX, u64::MAX]));
    assert_eq!(huge.cpu_user_ns.checked_add(huge.cpu_system_ns), Some(u64::MAX));
}

#[test]
fn connections_are_numbered_by_first_sight_and_a_handle_used_again_is_a_new_one() {
    let mut decoder = decoder();
    assert_eq!(decoder.library_tag("openssl"), 1);
    let mut conn_of = |bytes: &Bytes| match event(&mut decoder, bytes).body {
        Body::Data(data) => {
            assert_eq!(data.library, "openssl");
            assert_eq!(data.direction, Direction::Write);
            data.conn_id
        }
        Body::TlsClose { conn_id } => conn_id,
        other => panic!("expected TLS, found {other:?}"),
    };
    assert_eq!(conn_of(&data(0xa, 1, 0, 0, b"x")), 1);
    assert_eq!(conn_of(&data(0xb, 1, 0, 0, b"x")), 2);
    assert_eq!(conn_of(&data(0xa, 1, 1, 0, b"x")), 1);
    assert_eq!(conn_of(&close(0xa, 1)), 1);
    assert_eq!(conn_of(&data(0xa, 2, 0, 0, b"x")), 3);
}

#[test]
fn a_close_of_an_unknown_connection_is_counted_and_no_event() {
    let mut decoder = decoder();
    assert_eq!(decoder.push(close(1, 1).parse().expect("whole")), None);
    let closes = decoder.decoded()[abi::CLASS_TLS_CLOSE];
    assert_eq!(closes, Decoded { unusable_events: 1, ..Decoded::default() });
}

#[test]
fn every_byte_of_arguments_that_goes_in_is_accounted_for() {
    let mut decoder = decoder();
    let mut part = |offset, bytes: &[u8]| {
        assert_eq!(decoder.push(argv_part(offset, bytes).parse().expect("whole")), None);
    };
    // Begun twice, then a hole, then nothing to continue.
    part(0, b"one");
    part(0, b"two");
    part(9, b"three");
    let exec = decoder.decoded()[abi::CLASS_PROCESS_EXEC];
    assert_eq!((exec.bytes, exec.unusable_bytes), (0, 8));
    assert_eq!(decoder.open_argv_bytes(), 3);
    decoder.finish();
    let exec = decoder.decoded()[abi::CLASS_PROCESS_EXEC];
    assert_eq!((exec.bytes, exec.unusable_bytes), (0, 11));
    assert_eq!(decoder.open_argv_bytes(), 0);
}

#[test]
fn a_record_that_is_none_is_accounted_for_as_far_as_it_tells() {
    for record in every_kind() {
        let class = record.parse().expect("whole").class();
        let events = u64::from(!matches!(record.parse(), Ok(Record::Argv { .. })));
        let (told, told_events, bytes) = accounted(&record.0);
        assert_eq!((told, told_events), (Some(class), events));
        let (cut, _, cut_bytes) = accounted(&record.0[..EventHeader::BYTES]);
        assert_eq!((cut, cut_bytes), (Some(class), 0));
        assert!(bytes <= record.0.len() as u64);
    }
    assert_eq!(accounted(b"short"), (None, 1, 0));
    let (class, _, bytes) = accounted(&data(1, 1, 0, 0, b"plain").0);
    assert_eq!((class, bytes), (Some(abi::CLASS_TLS_DATA), 5));
}

#[test]
fn connections_left_open_at_exit_are_reported_for_removal_once() {
    let mut decoder = decoder();
    event(&mut decoder, &data(0xa, 1, 0, 0, b"x"));
    event(&mut decoder, &data(0xb, 1, 0, 0, b"x"));
    event(&mut decoder, &close(0xb, 1));
    assert_eq!(decoder.take_abandoned(), []);
    event(&mut decoder, &exit(0, [0, 0, 0]));
    let abandoned = decoder.take_abandoned();
    let found: Vec<_> = abandoned.iter().map(|left| (left.process.pid, left.handle)).collect();
    assert_eq!(found, [(10, 0xa)]);
    assert_eq!(decoder.take_abandoned(), []);
}

#[test]
fn lost_bytes_are_what_moved_and_is_not_there() {
    let Body::Data(hole) = event(&mut decoder(), &data(1, 2, 70, 500, b"")).body else {
        panic!("expected TLS data");
    };
    assert_eq!((hole.stream_offset, hole.data_bytes, hole.lost_bytes), (70, 500, 500));
    // No library was registered under the tag.
    assert_eq!(hole.library, "unknown");
}

#[test]
fn library_tags_run_out_into_unknown() {
    let mut decoder = decoder();
    for tag in 1..=255 {
        assert_eq!(decoder.library_tag(&format!("library {tag}")), tag);
    }
    assert_eq!(decoder.library_tag("one too many"), 0);
    assert_eq!(decoder.library_tag("library 7"), 7);
}

proptest! {
    #[test]
    fn any_bytes_give_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_known_kind_go_through_the_decoder(
        kind in 1_u32..=6,
        bytes in proptest::collection::vec(any::<u8>(), 44..400),
        small in 0_usize..40,
    ) {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend_from_slice(&bytes);
        // Small lengths, so that many records get past the length checks.
        for at in (48..record.len().min(88)).skip(small) {
            record[at] &= 0x07;
        }
        if let Ok(record) = parse(&record) {
            let mut decoder = decoder();
            let held = record.clone();
            decoder.push(record);
            decoder.push(held);
        }
    }
}
