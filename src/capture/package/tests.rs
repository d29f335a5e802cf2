//! Packages in made-up process directories, kind and hostile.

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

    fn find(&self, program: &str) -> Option<Package> {
        find(self.0.path(), Path::new(program))
    }

    fn version(&self, program: &str) -> Option<String> {
        self.find(program)?.version
    }
}

fn package(name: Option<&str>, version: &str) -> Option<Package> {
    Some(Package { name: name.map(str::to_owned), version: Some(version.to_owned()) })
}

#[test]
fn a_version_directory_names_the_version() {
    let process = Process::new();
    process.write("/home/u/.local/share/agent/versions/2.1.197", "");
    process.write("/home/u/package.json", r#"{"name": "not-it", "version": "0.0.1"}"#);
    let found = process.find("/home/u/.local/share/agent/versions/2.1.197");
    assert_eq!(found, package(None, "2.1.197"));
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
        assert_eq!(process.find("/a/b/c/agent"), package(Some("agent"), "1.0"));
    }
    let long = format!(r#"{{"name": "a\nb", "version": "{}"}}"#, "1".repeat(1000));
    process.write("/a/b/package.json", &long);
    let version = "1".repeat(LONGEST_NAME_CHARS);
    assert_eq!(process.find("/a/b/c/agent"), package(Some("ab"), &version));
}

#[test]
fn manifests_far_above_or_at_the_root_are_somebody_elses() {
    let process = Process::new();
    process.write("/1/2/3/4/5/6/agent", "");
    process.write("/usr/bin/agent", "");
    process.write("/1/package.json", r#"{"version": "1.0"}"#);
    process.write("/package.json", r#"{"version": "1.0"}"#);
    assert_eq!(process.find("/1/2/3/4/5/6/agent"), None);
    assert_eq!(process.find("/usr/bin/agent"), None);
}

#[test]
fn no_file_but_a_regular_one_within_the_root_is_read() {
    let process = Process::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("package.json"), r#"{"version": "6.6.6"}"#).unwrap();
    process.write("/a/agent", "");
    let manifest = process.at("/a/package.json");
    let version = || process.version("/a/agent");

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
