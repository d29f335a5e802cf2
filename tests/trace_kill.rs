//! Recorders that are killed: whatever was written down before is there, for readers and for repair.
//!
//! The recorder is this program again, running the test that is ignored. Its streams say at every
//! position what stands there, so that no row that is wrong can pass for one that is right.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use agentsight::event::{Body, Direction, Event};
#[cfg(feature = "record")]
use agentsight::time::WallNanos;
use agentsight::trace::{
    Completeness, CreateFile, Limits, Reader, Recording, Skipped, Sync, log_path, repair,
};
use session::{Random, START};
use trace_file::{metadata, tls};

#[path = "support/session.rs"]
mod session;
#[path = "support/trace_file.rs"]
mod trace_file;

/// Names the directory that a child records into; without it this is no child.
const DIRECTORY: &str = "AGENTSIGHT_KILL_DIRECTORY";
/// How the child records: `recording` or `sink`.
const MANNER: &str = "AGENTSIGHT_KILL_MANNER";

const STREAMS: usize = 4;

/// How far each stream has come.
type Offsets = [u64; STREAMS];

/// What stands in a stream from `start` on: blocks that name their place. They repeat after a while,
/// as history that is sent again does.
fn content(stream: usize, start: u64, length: usize) -> Vec<u8> {
    const BLOCK_BYTES: u64 = 64;
    let mut bytes = Vec::with_capacity(length + 2 * BLOCK_BYTES as usize);
    let mut block = start / BLOCK_BYTES;
    while bytes.len() < length + (start % BLOCK_BYTES) as usize {
        let number = block % 20_000;
        let noise = Random::new(number * 4 + stream as u64 + 1).bits();
        let text = format!("stream {stream} block {number:08} noise {noise:016x} {stream:024}");
        bytes.extend_from_slice(&text.as_bytes()[..BLOCK_BYTES as usize - 1]);
        bytes.push(b'\n');
        block += 1;
    }
    bytes.drain(..(start % BLOCK_BYTES) as usize);
    bytes.truncate(length);
    bytes
}

/// The next events of a recording: a large write, some small reads.
fn load(random: &mut Random, offsets: &mut Offsets, ts: i64) -> Vec<Event> {
    let mut event = |stream: usize, length: u64| {
        let data = content(stream, offsets[stream], length as usize);
        let direction = if stream.is_multiple_of(2) { Direction::Write } else { Direction::Read };
        let event = tls(ts - START, stream as u64, direction, offsets[stream], &data);
        offsets[stream] += length;
        event
    };
    let mut events = vec![event(0, 8 * 1024), event(2, 1 + random.below(5000))];
    for _ in 0..random.below(12) {
        events.push(event(1 + 2 * random.below(2) as usize, 20 + random.below(300)));
    }
    events
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i64
}

fn create_file() -> CreateFile {
    Box::new(|path: &Path| OpenOptions::new().read(true).write(true).create_new(true).open(path))
}

fn begin(path: &Path, limits: Limits) -> Recording {
    let file = create_file()(path).unwrap();
    file.try_lock().unwrap();
    let recording = Recording::create(file, path, &metadata(), Sync::None, create_file());
    recording.unwrap().with_limits(limits)
}

/// What a child says it has taken in, appended to a file: a killed process takes nothing of it along.
struct Acknowledgements(File);

impl Acknowledgements {
    const BYTES: usize = 8 * (1 + STREAMS);

    fn add(&mut self, ts: i64, offsets: &Offsets) {
        let mut record = ts.to_le_bytes().to_vec();
        offsets.iter().for_each(|offset| record.extend(offset.to_le_bytes()));
        self.0.write_all(&record).unwrap();
    }

    /// How far the streams had come, at the latest moment not after `until`.
    fn read(directory: &Path, until: i64) -> Offsets {
        let bytes = std::fs::read(directory.join("acknowledged")).unwrap_or_default();
        let mut last = Offsets::default();
        for record in bytes.chunks_exact(Self::BYTES) {
            let mut words = record.chunks_exact(8).map(|word| word.try_into().unwrap());
            if i64::from_le_bytes(words.next().unwrap()) > until {
                break;
            }
            for (offset, word) in last.iter_mut().zip(words) {
                *offset = u64::from_le_bytes(word);
            }
        }
        last
    }
}

/// Not a test by itself: the recorder that the tests below kill.
#[test]
#[ignore = "the other tests start it"]
fn recorder() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let path = directory.join("run.parquet");
    let acknowledged = File::create(directory.join("acknowledged")).unwrap();
    match std::env::var(MANNER).as_deref() {
        Ok("recording") => record_in_a_tight_loop(&path, Acknowledgements(acknowledged)),
        #[cfg(feature = "record")]
        Ok("sink") => record_as_a_session(&path, Acknowledgements(acknowledged)),
        other => panic!("expected a manner of recording, found {other:?}"),
    }
}

/// Logs, closes small row groups and replaces logs without a pause. What is acknowledged is logged.
fn record_in_a_tight_loop(path: &Path, mut acknowledged: Acknowledgements) {
    let limits = Limits { group_bytes: 150_000, ..Limits::default() };
    let mut recording = begin(path, limits);
    let mut random = Random::new(u64::from(std::process::id()));
    let mut offsets = Offsets::default();
    loop {
        for event in load(&mut random, &mut offsets, now()) {
            recording.push(event).unwrap();
        }
        recording.flush_log().unwrap();
        acknowledged.add(now(), &offsets);
    }
}

/// Hands over every 15 ms, as a session does. What is acknowledged was handed over.
#[cfg(feature = "record")]
fn record_as_a_session(path: &Path, mut acknowledged: Acknowledgements) {
    use agentsight::record::names::Names;
    use agentsight::record::pipeline::Pipeline;
    use agentsight::record::retention::Retention;
    use agentsight::record::sink::Sink;
    use agentsight::record::store::{Plan, Store};
    use agentsight::record::trigger::Triggers;

    let limits = Limits { group_bytes: 1_500_000, ..Limits::default() };
    let plan = Plan {
        names: Names::of(path),
        retention: Retention::Whole,
        sync: Sync::None,
        limits,
        owner: None,
        force: false,
        metadata: metadata(),
    };
    let (notes, _said) = std::sync::mpsc::channel();
    let store = Store::create(plan, notes).unwrap();
    let pipeline = Pipeline::new(store, Triggers::default(), Sync::None);
    let mut sink = Sink::start(pipeline).unwrap();
    let mut random = Random::new(u64::from(std::process::id()));
    let mut offsets = Offsets::default();
    loop {
        for event in load(&mut random, &mut offsets, now()) {
            sink.push(event);
        }
        sink.hand_over(WallNanos(now())).unwrap();
        acknowledged.add(now(), &offsets);
        std::thread::sleep(Duration::from_millis(15));
    }
}

/// A recorder at work.
struct Victim {
    child: Child,
    directory: tempfile::TempDir,
    /// When to kill it.
    at: Instant,
}

impl Victim {
    /// Starts a recorder and waits until it has acknowledged something.
    fn start(manner: &str, lives: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "recorder", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(MANNER, manner)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while Acknowledgements::read(directory.path(), i64::MAX) == Offsets::default() {
            assert!(Instant::now() < deadline, "the recorder does not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        Self { child, directory, at: Instant::now() + lives }
    }

    /// Kills it when its time has come, and says what had been acknowledged `grace` before.
    fn kill(&mut self, grace: Duration) -> Offsets {
        std::thread::sleep(self.at.saturating_duration_since(Instant::now()));
        let until = now() - grace.as_nanos() as i64;
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "the recorder ended by itself: {status}");
        Acknowledgements::read(self.directory.path(), until)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Only where a test failed is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a recording; panics if any row is not what the recorder was given.
fn read(path: &Path) -> (Vec<Event>, Offsets, Completeness) {
    let reader = Reader::open(path).unwrap();
    let events: Vec<Event> = reader.events(None).collect::<Result<_, _>>().unwrap();
    assert_eq!(reader.skipped(), Skipped::default());
    let mut streams: BTreeMap<u64, u64> = BTreeMap::new();
    for event in &events {
        let Body::Data(tls) = &event.body else { panic!("expected tls_data, found {event:?}") };
        let end = streams.entry(tls.conn_id).or_default();
        assert_eq!(*end, tls.stream_offset, "a gap in stream {}", tls.conn_id);
        let expected = content(tls.conn_id as usize, tls.stream_offset, tls.data.len());
        assert!(tls.data == expected, "stream {} at {}", tls.conn_id, tls.stream_offset);
        *end += tls.data_bytes;
    }
    let mut offsets = Offsets::default();
    streams.iter().for_each(|(stream, end)| offsets[*stream as usize] = *end);
    (events, offsets, reader.completeness().clone())
}

/// Kills `count` recorders, some at a time, and looks at what each left.
fn kill(count: usize, manner: &str, lives_ms: (u64, u64), grace: Duration) {
    const AT_A_TIME: usize = 16;
    // Printed, so that a run that fails can be had again.
    let seed = std::env::var("KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| now().unsigned_abs());
    eprintln!("KILL_SEED={seed}");
    let mut random = Random::new(seed);
    let (mut from_log, mut torn, mut older) = (0, 0, 0);
    for killed in (0..count).step_by(AT_A_TIME) {
        let mut lives = || Duration::from_millis(lives_ms.0 + random.below(lives_ms.1));
        let some = AT_A_TIME.min(count - killed);
        let mut victims: Vec<_> = (0..some).map(|_| Victim::start(manner, lives())).collect();
        victims.sort_by_key(|victim| victim.at);
        let acknowledged: Vec<_> = victims.iter_mut().map(|victim| victim.kill(grace)).collect();
        for (victim, acknowledged) in victims.iter().zip(acknowledged) {
            let path = victim.directory.path().join("run.parquet");
            let (events, offsets, completeness) = read(&path);
            assert!(
                offsets.iter().zip(&acknowledged).all(|(found, expected)| found >= expected),
                "expected {acknowledged:?}, found {offsets:?}, {completeness:?}"
            );
            let Completeness::Unfinished(recovery) = completeness else {
                panic!("expected it to be unfinished, found {completeness:?}");
            };
            assert!(!recovery.live && recovery.log_damage.is_none(), "{recovery:?}");
            from_log += u64::from(recovery.rows_from_log > 0);
            torn += u64::from(recovery.torn_bytes > 0);
            older += u64::from(acknowledged != Offsets::default());

            let repaired = repair(&path).unwrap();
            assert_eq!(repaired.rows, events.len() as u64);
            let (after, _, completeness) = read(&path);
            assert_eq!(completeness, Completeness::Repaired);
            assert!(after == events, "repair changed what is read");
            assert!(!log_path(&path).exists());
        }
    }
    eprintln!("{count} killed: {from_log} with rows in the log, {torn} within a frame");
    assert!(from_log * 4 > count as u64, "the log was hardly ever needed: {from_log} of {count}");
    assert!(older * 2 > count as u64, "hardly anything was acknowledged: {older} of {count}");
}

#[test]
fn everything_logged_survives_a_kill_at_any_moment() {
    kill(80, "recording", (0, 120), Duration::ZERO);
}

#[cfg(feature = "record")]
#[test]
fn everything_older_than_a_second_survives_a_kill() {
    kill(200, "sink", (300, 1700), Duration::from_secs(1));
}

/// A killed recording with one closed row group and a log of three rows: file, log, all its events.
fn small_pair(path: &Path) -> (Vec<u8>, Vec<u8>, Vec<Event>) {
    let mut recording = begin(path, Limits::default());
    let mut offset = 0;
    for at in 0..5 {
        let data = content(0, offset, 50);
        recording.push(tls(at, 0, Direction::Write, offset, &data)).unwrap();
        offset += data.len() as u64;
        if at == 1 {
            recording.close_row_group().unwrap();
        }
        recording.flush_log().unwrap();
    }
    drop(recording);
    let (events, ..) = read(path);
    (std::fs::read(path).unwrap(), std::fs::read(log_path(path)).unwrap(), events)
}

/// What a damaged pair comes to: the first so many events, or no trace at all. Never anything else.
fn events_left(path: &Path, all: &[Event]) -> Option<(usize, Completeness)> {
    let reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let events: Vec<Event> = reader.events(None).collect::<Result<_, _>>().unwrap();
    assert!(events == all[..events.len()], "wrong rows");
    Some((events.len(), reader.completeness().clone()))
}

#[test]
fn a_log_cut_at_any_length_costs_only_what_stood_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    let (_, log, all) = small_pair(&path);
    let file = OpenOptions::new().write(true).open(log_path(&path)).unwrap();
    let mut most = all.len();
    for length in (0..log.len() as u64).rev() {
        file.set_len(length).unwrap();
        let (left, completeness) = events_left(&path, &all).expect("the closed group is there");
        assert!(left == most || left + 1 == most || left == 2, "{left} events at {length}");
        most = left;
        let Completeness::Unfinished(recovery) = completeness else { panic!("{completeness:?}") };
        assert!(recovery.torn_bytes > 0 || recovery.log_damage.is_some() || left < all.len());
    }
    assert_eq!(most, 2);
}

#[test]
fn a_file_cut_at_any_length_is_completed_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    let (main, _, all) = small_pair(&path);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let (mut whole, mut refused) = (0, 0);
    for length in (0..main.len()).rev() {
        // Nobody reads the footer when there is a log, and reading the rest takes time: of the
        // lengths that end within it, every 23rd will do.
        if refused == 0
            && length < main.len() - 100
            && length % 23 > 0
            && is_within_footer(&main, length)
        {
            continue;
        }
        file.set_len(length as u64).unwrap();
        // The log goes on where the last row group ends; what stands behind that is not needed.
        match events_left(&path, &all) {
            Some((left, _)) => {
                assert_eq!((left, refused), (all.len(), 0), "at {length}");
                whole += 1;
            }
            None => refused += 1,
        }
    }
    assert!(whole > 300 && refused > 1000, "{whole} read, {refused} refused");
}

/// Whether the file, cut at this length, still has more than the beginning of its footer.
fn is_within_footer(main: &[u8], length: usize) -> bool {
    let (_, trailer) = main.split_at(main.len() - 8);
    let footer_bytes = u32::from_le_bytes(trailer[..4].try_into().unwrap()) as usize;
    length > main.len() - 8 - footer_bytes + 100
}

#[test]
fn a_bit_flipped_in_the_log_costs_only_what_stood_behind_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.parquet");
    let (_, log, all) = small_pair(&path);
    // Behind the header, which has no rows.
    for at in 4096..log.len() {
        let mut damaged = log.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(log_path(&path), damaged).unwrap();
        let (left, completeness) = events_left(&path, &all).expect("the closed group is there");
        assert!(left < all.len(), "byte {at} was not missed");
        let Completeness::Unfinished(recovery) = completeness else { panic!("{completeness:?}") };
        assert!(recovery.torn_bytes > 0 || recovery.log_damage.is_some(), "{recovery:?}");
    }
}
