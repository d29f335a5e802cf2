//! Binaries in made-up process directories, kind and hostile.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

/// A directory that looks like `/proc/PID`, with a root of its own.
struct Process(TempDir);

impl Process {
    fn new() -> Self {
        let process = Self(tempfile::tempdir().unwrap());
        fs::create_dir(process.0.path().join("root")).unwrap();
        process
    }

    fn at(&self, inside: &str) -> PathBuf {
        self.0.path().join("root").join(inside.trim_start_matches('/'))
    }

    fn write(&self, inside: &str, text: &str) {
        fs::create_dir_all(self.at(inside).parent().unwrap()).unwrap();
        fs::write(self.at(inside), text).unwrap();
    }

    fn describe(&self, exe: &str, argv: &[&str]) -> Binary {
        let _ = fs::remove_file(self.0.path().join("exe"));
        symlink(self.at(exe), self.0.path().join("exe")).unwrap();
        describe(self.0.path(), &image(exe, argv), Some("0a".into())).unwrap()
    }
}

fn image(exe: &str, argv: &[&str]) -> Image {
    Image {
        exe: Some(exe.into()),
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        cwd: Some("/work".into()),
        matched: true,
        ..Image::default()
    }
}

fn known(binary: &Binary) -> (Option<&str>, Option<&str>) {
    (binary.package.as_deref(), binary.version.as_deref())
}

#[test]
fn a_program_is_described_by_the_package_it_lies_in() {
    let process = Process::new();
    process.write("/lib/node_modules/agent/bin/agent", "0123456789");
    process.write("/lib/node_modules/agent/bin/package.json", r#"{"type": "module"}"#);
    let manifest = r#"{"name": "@maker/agent", "version": "2.1.197", "bin": {"agent": "x"}}"#;
    process.write("/lib/node_modules/agent/package.json", manifest);
    let binary = process.describe("/lib/node_modules/agent/bin/agent", &["agent"]);
    let expected = Binary {
        path: "/lib/node_modules/agent/bin/agent".into(),
        size_bytes: Some(10),
        build_id: Some("0a".into()),
        script: None,
        package: Some("@maker/agent".into()),
        version: Some("2.1.197".into()),
        matched: true,
    };
    assert_eq!(binary, expected);
}

#[test]
fn an_interpreter_is_described_by_its_script_behind_links() {
    let process = Process::new();
    process.write("/usr/bin/node", "");
    process.write("/opt/agent/dist/cli.js", "");
    process.write("/opt/agent/package.json", r#"{"name": "agent", "version": "1.0"}"#);
    fs::create_dir_all(process.at("/work/bin")).unwrap();
    // Absolute within the process's root, which is not ours.
    symlink("/opt/agent/dist/cli.js", process.at("/work/bin/agent")).unwrap();
    let binary = process.describe("/usr/bin/node", &["node", "--quiet", "bin/agent"]);
    assert_eq!(binary.script.as_deref(), Some("/work/bin/agent"));
    assert_eq!(known(&binary), (Some("agent"), Some("1.0")));
}

#[test]
fn a_version_directory_names_the_version() {
    let process = Process::new();
    process.write("/home/u/.local/share/agent/versions/2.1.197", "");
    process.write("/home/u/package.json", r#"{"name": "not-it", "version": "0.0.1"}"#);
    let binary = process.describe("/home/u/.local/share/agent/versions/2.1.197", &["agent"]);
    assert_eq!(known(&binary), (None, Some("2.1.197")));
    let of = |path: &str| version_of_path(Path::new(path));
    assert_eq!(of("/x/versions/v0.3.0-beta.1/bin/agent").as_deref(), Some("0.3.0-beta.1"));
    assert_eq!(of("/x/versions/node/v20.1.0/bin/node"), None);
    assert_eq!(of("/x/versions/3/agent"), None);
    assert_eq!(of("/x/versions/1.2$(x)"), None);
}

#[test]
fn what_cannot_be_read_as_a_manifest_is_passed_over() {
    let process = Process::new();
    process.write("/a/b/c/agent", "");
    process.write("/a/package.json", r#"{"name": "agent", "version": "1.0"}"#);
    let huge = format!(r#"{{"version": "9", "x": "{}"}}"#, "y".repeat(1 << 20));
    let deep = format!(r#"{{"version": "9", "x": {}"#, "[".repeat(100_000));
    for hostile in ["", "[]", "{\"version\": 3}", "\u{0}", &huge, &deep] {
        process.write("/a/b/package.json", hostile);
        assert_eq!(known(&process.describe("/a/b/c/agent", &["x"])).1, Some("1.0"));
    }
    let long = format!(r#"{{"name": "a\nb", "version": "{}"}}"#, "1".repeat(1000));
    process.write("/a/b/package.json", &long);
    let binary = process.describe("/a/b/c/agent", &["x"]);
    assert_eq!(known(&binary), (Some("ab"), Some(&*"1".repeat(LONGEST_NAME_CHARS))));
}

#[test]
fn manifests_far_above_or_at_the_root_are_somebody_elses() {
    let process = Process::new();
    process.write("/1/2/3/4/5/6/agent", "");
    process.write("/usr/bin/agent", "");
    process.write("/1/package.json", r#"{"version": "1.0"}"#);
    process.write("/package.json", r#"{"version": "1.0"}"#);
    assert_eq!(known(&process.describe("/1/2/3/4/5/6/agent", &["x"])), (None, None));
    assert_eq!(known(&process.describe("/usr/bin/agent", &["x"])), (None, None));
}

#[test]
fn no_file_but_a_regular_one_within_the_root_is_read() {
    let process = Process::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("package.json"), r#"{"version": "6.6.6"}"#).unwrap();
    process.write("/a/agent", "");
    let manifest = process.at("/a/package.json");
    let version = || known(&process.describe("/a/agent", &["x"])).1.map(str::to_owned);

    symlink(outside.path().join("package.json"), &manifest).unwrap();
    assert_eq!(version(), None, "an absolute link leads out of the root");
    fs::remove_file(&manifest).unwrap();
    symlink("../../../../package.json", &manifest).unwrap();
    assert_eq!(version(), None);
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    assert_eq!(version(), None, "a directory");
    fs::remove_dir(&manifest).unwrap();

    // A pipe that nobody writes to: opening it would wait for ever.
    let name = CString::new(manifest.to_str().unwrap()).unwrap();
    // SAFETY: the name ends with NUL and outlives the call.
    #[expect(unsafe_code, reason = "std does not make pipes with names")]
    let made = unsafe { libc::mkfifo(name.as_ptr(), 0o600) };
    assert_eq!(made, 0);
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| done.send(version()));
        assert_eq!(wait.recv_timeout(Duration::from_secs(20)), Ok(None));
    });
}

#[test]
fn a_process_that_is_gone_leaves_what_its_start_told() {
    let process = Process::new();
    let gone = describe(&process.0.path().join("gone"), &image("/a/agent", &["agent"]), None);
    let expected = Binary { path: "/a/agent".into(), matched: true, ..Binary::default() };
    assert_eq!(gone, Some(expected));
    assert_eq!(of_image(&image("/usr/bin/env", &["env", "agent"])), None);
    let long = format!("/{}", "x".repeat(LONGEST_PATH_BYTES));
    assert_eq!(of_image(&image(&long, &["agent"])), None);
    assert_eq!(of_image(&image("/usr/bin/node", &["node", &long])).unwrap().script, None);
}

#[test]
fn findings_complete_each_other_and_are_told_once() {
    let mut binaries = Binaries::default();
    assert_eq!(binaries.take_entry(), None);
    let start = Binary { path: "/a".into(), matched: true, ..Binary::default() };
    binaries.add(start.clone());
    assert!(binaries.take_entry().is_some());
    binaries.add(start.clone());
    assert_eq!(binaries.take_entry(), None, "nothing new");
    binaries.add(Binary { size_bytes: Some(7), version: Some("1.0".into()), ..start.clone() });
    binaries.add(Binary { version: Some("2.0".into()), matched: false, ..start.clone() });
    let whole = Binary { size_bytes: Some(7), version: Some("1.0".into()), ..start.clone() };
    assert_eq!(binaries.take_entry(), Some(Entry::binaries(&[whole])));
    for n in 0..2 * MOST_BINARIES {
        binaries.add(Binary { path: format!("/{n}"), ..Binary::default() });
    }
    assert_eq!(binaries.known.len(), MOST_BINARIES);
}
