//! Which processes are observed: what is selected, all that descends from it, and nothing else.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use agentsight::capture::bpf::{Capture, MapEntries, Options};
use agentsight::capture::cgroup::Hierarchy;
use agentsight::capture::matching::Matcher;
use agentsight::capture::scope::{CommandLines, Users};
use agentsight::event::{Body, Event, Image};

use super::observed::{Run, capture_with};

/// A user that runs nothing else on any host.
const STRANGER: u32 = 64_321;

/// Runs a program to its end.
fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// All events until `enough` holds of them.
fn events(capture: &mut Capture, enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut events = Vec::new();
    while !enough(&events) {
        assert!(Instant::now() < deadline, "not enough: {events:#?}");
        let mut sink = |event| events.push(event);
        capture.drain(Duration::from_millis(10), &mut sink).expect("rings are readable");
    }
    capture.detach(&mut |event| events.push(event)).expect("rings are readable");
    events
}

fn images(events: &[Event]) -> Vec<&Image> {
    let images = events.iter().filter_map(|event| match &event.body {
        Body::ProcessExec(image) => Some(image),
        _ => None,
    });
    images.collect()
}

fn exits(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.body, Body::ProcessExit(_))).count()
}

fn arguments(events: &[Event]) -> Vec<String> {
    images(events).iter().map(|image| image.argv[1..].join(" ")).collect()
}

/// A copy of a program under another name: the kernel side knows it by that alone.
fn program(run: &Run, name: &str) -> PathBuf {
    let path = run.dir().join(name);
    fs::copy("/bin/true", &path).expect("temporary directory is writable");
    path
}

#[test]
fn the_kernel_and_user_space_look_for_the_same_names() {
    let Some(this) = Run::new("names") else { return };
    let name = this.name();
    let mut cases: Vec<(PathBuf, Option<&str>, Vec<String>)> = Vec::new();
    let lines = [
        "NAME",
        "-x NAME",
        "run NAME",
        "-m NAME",
        "-x -m NAME",
        "run -m NAME x",
        "-c NAME",
        "-e NAME",
        "-p NAME",
        "--eval NAME",
        "--print NAME",
        "-m",
        "run",
        "run run NAME",
        "-mNAME",
        "other NAME",
        "-m other NAME",
        "-m -x NAME",
        "/opt/NAME",
        "/opt/NAME/",
        "/opt/NAME.py",
        "NAME.mjs",
        "NAME.old",
        "dir/NAME.exe",
        "NAMEx",
        "-- NAME",
        "--run NAME",
        "-1 -2 -3 -4 -5 -6 -7 NAME",
        "-1 -2 -3 -4 -5 -6 -7 -8 NAME",
        "-1 -2 -3 -4 -5 -6 -7 -m NAME",
        "LONG NAME",
        "-LONG NAME",
        "runs NAME",
        "-cx NAME",
        "",
    ];
    for file in ["node", "bun.exe", "python3.11", "python3.exe", "uv", "grep", "noder"] {
        let path = program(&this, file);
        for line in lines {
            let line = line.replace("NAME", name).replace("LONG", &"l".repeat(5000));
            let argv = line.split_whitespace().map(str::to_owned).collect();
            cases.push((path.clone(), None, argv));
        }
    }
    let sh = program(&this, "other");
    for called in [name.to_owned(), format!("-{name}"), format!("/x/{name}"), format!("x{name}")] {
        let called: &'static str = called.leak();
        cases.push((sh.clone(), Some(called), vec!["x".to_owned()]));
    }
    for called in ["node", "-python3", "nodex"] {
        cases.push((sh.clone(), Some(called), vec![name.to_owned()]));
    }
    // One that is found in any case, to know when all have been seen.
    cases.push((program(&this, name), None, vec!["last".to_owned()]));

    let matcher = Matcher::new([name]);
    let options = Options { names: matcher.matching_names(), ..Options::default() };
    let mut capture = Capture::load(&options).expect("loading was possible a moment ago");
    let mut expected = Vec::new();
    for (index, (path, called, argv)) in cases.iter().enumerate() {
        let mut command = Command::new(path);
        command.args(argv).env("INDEX", index.to_string());
        let shown =
            called.map_or_else(|| path.display().to_string(), |called| (*called).to_owned());
        command.arg0(&shown);
        run(&mut command);
        let whole: Vec<String> = std::iter::once(shown).chain(argv.iter().cloned()).collect();
        if matcher.matches_exec(path.to_str(), &whole) {
            expected.push(whole);
        }
    }
    let is_last = |image: &&Image| image.argv.last().is_some_and(|last| last == "last");
    let events = events(&mut capture, |events| images(events).iter().any(is_last));
    let found: Vec<Vec<String>> = images(&events).iter().map(|image| image.argv.clone()).collect();
    assert_eq!(found, expected);
    assert!(expected.len() > 50, "{}", expected.len());
}

#[test]
fn users_restrict_names_and_select_alone() {
    let Some(this) = Run::new("users") else { return };
    let path = program(&this, this.name());
    open_to_all(this.dir());
    let both = |argument: &str| {
        run(Command::new(&path).arg(format!("root {argument}")));
        run(Command::new(&path).arg(format!("stranger {argument}")).uid(STRANGER));
    };
    let restricting = Options { users: Users::Only(vec![STRANGER]), ..Options::default() };
    let mut capture = capture_with(&this, &restricting);
    both("1");
    run(Command::new("/bin/true").arg("unnamed").uid(STRANGER));
    let events = self::events(&mut capture, |events| exits(events) == 1);
    assert_eq!(arguments(&events), ["stranger 1"]);
    assert_eq!(images(&events)[0].uid, STRANGER);
    drop(capture);

    let alone = Options { users: Users::All(vec![STRANGER]), ..Options::default() };
    let mut capture = Capture::load(&alone).expect("loading was possible a moment ago");
    both("2");
    run(Command::new("/bin/true").arg("unnamed").uid(STRANGER));
    let events = self::events(&mut capture, |events| exits(events) == 2);
    assert_eq!(arguments(&events), ["stranger 2", "unnamed"]);
    assert!(images(&events).iter().all(|image| image.matched));
}

/// Lets programs in a directory be run by any user.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// A cgroup of our own; removed when dropped.
struct OwnCgroup {
    directory: PathBuf,
    path: String,
    id: u64,
}

impl OwnCgroup {
    /// `None` where there is no v2 hierarchy, or none that may be changed.
    fn new(name: &str) -> Option<Self> {
        let hierarchy = Hierarchy::find().ok()?;
        let directory = hierarchy.mount_point().join(name);
        fs::create_dir_all(directory.join("inner")).ok()?;
        let cgroup = hierarchy.at(&directory).expect("it was just made");
        Some(Self { directory, path: cgroup.path, id: cgroup.id })
    }

    /// Runs a program in it or below it.
    fn run(&self, below: &str, program: &str) {
        let procs = self.directory.join(below).join("cgroup.procs");
        let script = format!("echo $$ > {}; exec {program}", procs.display());
        run(Command::new("/bin/sh").args(["-c", &script]));
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.directory.join("inner"));
        let _ = fs::remove_dir(&self.directory);
    }
}

#[test]
fn programs_in_a_cgroup_and_below_it_are_observed_and_no_others() {
    let Some(this) = Run::new("cgroup") else { return };
    let Some(own) = OwnCgroup::new(this.name()) else {
        eprintln!("SKIPPED: no cgroup v2 hierarchy to make a cgroup in");
        return;
    };
    let options = Options { cgroups: vec![own.id], ..Options::default() };
    let mut capture = Capture::load(&options).expect("loading was possible a moment ago");
    own.run("", "/bin/true in");
    run(Command::new("/bin/true").arg("out"));
    own.run("inner", "/bin/true below");
    let events = events(&mut capture, |events| exits(events) == 2);
    assert_eq!(arguments(&events), ["in", "below"]);
    let cgroups: Vec<_> = images(&events).iter().map(|image| image.cgroup.clone()).collect();
    assert_eq!(cgroups, [Some(own.path.clone()), Some(format!("{}/inner", own.path))]);
    assert!(images(&events).iter().all(|image| image.matched));
}

#[test]
fn a_command_line_is_decided_on_without_missing_anything_or_keeping_a_stranger() {
    const STRANGERS: usize = 300;
    let Some(this) = Run::new("cmdline") else { return };
    let mark = format!("--mark={}", this.name());
    let options = Options {
        command_lines: CommandLines::new(&[format!("x {mark}$")]).expect("a pattern"),
        ..Options::default()
    };
    let mut capture = Capture::load(&options).expect("loading was possible a moment ago");
    // Its children live and die before anybody can have looked at its arguments.
    let matching = "for i in 1 2 3 4 5; do /bin/true child $i; done; (exit 9) & wait; exit 7";
    let status = Command::new("/bin/sh").args(["-c", matching, "x", &mark]).status();
    assert_eq!(status.expect("there is a shell").code(), Some(7));
    let strangers = format!("for i in $(seq {STRANGERS}); do /bin/true {mark}; done");
    run(Command::new("/bin/sh").args(["-c", &strangers]));

    let events = events(&mut capture, |events| exits(events) == 7);
    let expected: Vec<String> = (1..=5).map(|i| format!("child {i}")).collect();
    assert_eq!(arguments(&events)[1..], expected);
    let matched: Vec<bool> = images(&events).iter().map(|image| image.matched).collect();
    assert_eq!(matched, [true, false, false, false, false, false]);
    let kinds = |kind| events.iter().filter(|event| event.body.kind() == kind).count();
    assert_eq!((kinds("process_fork"), kinds("process_exec"), kinds("process_exit")), (6, 6, 7));

    let losses = capture.losses().expect("the ledger is readable");
    let exec = losses.iter().find(|class| class.event_class == "process_exec").expect("a class");
    assert!(exec.decoded.unselected_events > STRANGERS as u64, "{exec:#?}");
    assert!(losses.iter().all(|class| class.balances() && class.is_settled()), "{losses:#?}");
    assert_eq!(capture.map_entries(), MapEntries::default(), "strangers are not observed");
}

#[test]
fn descendants_are_followed_through_sessions_double_forks_and_dead_parents() {
    let Some(mut this) = Run::new("escape") else { return };
    let mut capture = super::observed::capture(&this);
    // The middle process is gone before its child becomes a program in a session of its own.
    this.python(
        "import os, time\n\
         for n in range(3):\n\
         \x20   if os.fork() == 0:\n\
         \x20       os.setsid()\n\
         \x20       middle = os.getpid()\n\
         \x20       if os.fork() == 0:\n\
         \x20           while os.getppid() == middle: time.sleep(0.001)\n\
         \x20           os.execv('/bin/true', ['true', f'orphan{n}'])\n\
         \x20       os._exit(3)\n\
         while True:\n\
         \x20   try: os.wait()\n\
         \x20   except ChildProcessError: break",
    );
    let events = events(&mut capture, |events| exits(events) == 7);
    let mut orphans = arguments(&events).split_off(1);
    orphans.sort();
    assert_eq!(orphans, ["orphan0", "orphan1", "orphan2"]);
    assert!(images(&events)[1..].iter().all(|image| !image.matched));
}
