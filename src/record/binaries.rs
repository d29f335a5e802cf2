//! Which programs the agents of a recording are: path, size, build-id, package and version.
//!
//! The package of an interpreter is that of its script. Nothing is executed to ask for a version.

use std::collections::BTreeMap;
use std::path::Path;

use crate::capture::matching;
use crate::capture::package::{self, Package};
use crate::event::Image;
use crate::trace::{Binary, Entry};

/// Binaries remembered; an agent has a handful.
const MOST_BINARIES: usize = 256;
/// Longest path looked at and kept, in bytes: that of the kernel.
const LONGEST_PATH_BYTES: usize = 4096;
/// The binaries of one recording.
#[derive(Debug, Default)]
pub struct Binaries {
    /// By path and script.
    known: BTreeMap<(String, Option<String>), Binary>,
    changed: bool,
}

impl Binaries {
    /// Takes what is known of a program; what is known already is completed, not replaced.
    pub fn add(&mut self, binary: Binary) {
        let key = (binary.path.clone(), binary.script.clone());
        if !self.known.contains_key(&key) && self.known.len() >= MOST_BINARIES {
            return;
        }
        let known = self.known.entry(key).or_insert_with(|| {
            self.changed = true;
            Binary { path: binary.path.clone(), script: binary.script.clone(), ..Binary::default() }
        });
        let before = known.clone();
        // A program that was updated while it was recorded is described as it was first seen.
        known.size_bytes = known.size_bytes.or(binary.size_bytes);
        known.build_id = known.build_id.take().or(binary.build_id);
        known.package = known.package.take().or(binary.package);
        known.version = known.version.take().or(binary.version);
        known.matched |= binary.matched;
        self.changed |= before != *known;
    }

    /// The entry of the metadata, if it has changed since it was last taken.
    pub fn take_entry(&mut self) -> Option<Entry> {
        std::mem::take(&mut self.changed).then(|| {
            let binaries: Vec<Binary> = self.known.values().cloned().collect();
            Entry::binaries(&binaries)
        })
    }
}

/// What the start of a program alone tells; `None` when that is nothing, or when it is `env`, which
/// only starts the program it is about.
#[must_use]
pub fn of_image(image: &Image) -> Option<Binary> {
    let path = image.exe.as_deref().filter(|path| path.len() <= LONGEST_PATH_BYTES)?;
    if path.ends_with("/env") {
        return None;
    }
    Some(Binary {
        path: path.to_owned(),
        script: script_of(image),
        matched: image.matched,
        ..Binary::default()
    })
}

/// The same with what its files tell. `process` is its directory in `/proc`; `build_id` is known
/// from looking into the file.
#[must_use]
pub fn describe(process: &Path, image: &Image, build_id: Option<String>) -> Option<Binary> {
    let binary = of_image(image)?;
    let size_bytes = std::fs::metadata(process.join("exe")).ok().map(|file| file.len());
    let program = Path::new(binary.script.as_ref().unwrap_or(&binary.path));
    let package = if binary.script.is_none() && is_replaced(process) {
        // An update while it runs: the files around it are those of another version.
        Package { name: None, version: package::version_of_path(program) }
    } else {
        package::find(process, program).unwrap_or_default()
    };
    let (package, version) = (package.name, package.version);
    Some(Binary { size_bytes, build_id, package, version, ..binary })
}

/// Whether the executable of a process has lost its name since it was started.
fn is_replaced(process: &Path) -> bool {
    let exe = std::fs::read_link(process.join("exe")).unwrap_or_default();
    exe.as_os_str().as_encoded_bytes().ends_with(b" (deleted)")
}

/// Path of the script that an interpreter runs, as far as its arguments tell; a module that is
/// looked up by name has none.
fn script_of(image: &Image) -> Option<String> {
    let script = matching::script_argument(image.exe.as_deref(), &image.argv)?;
    if script.starts_with('/') {
        return Some(script.to_owned()).filter(|path| path.len() <= LONGEST_PATH_BYTES);
    }
    let path = format!("{}/{script}", image.cwd.as_deref()?.trim_end_matches('/'));
    (path.len() <= LONGEST_PATH_BYTES).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

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
            cwd: Some("/srv".into()),
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
        fs::create_dir_all(process.at("/srv/bin")).unwrap();
        // Absolute within the process's root, which is not ours.
        symlink("/opt/agent/dist/cli.js", process.at("/srv/bin/agent")).unwrap();
        let binary = process.describe("/usr/bin/node", &["node", "--quiet", "bin/agent"]);
        assert_eq!(binary.script.as_deref(), Some("/srv/bin/agent"));
        assert_eq!(known(&binary), (Some("agent"), Some("1.0")));
    }

    #[test]
    fn an_agent_that_was_updated_since_its_start_has_not_the_new_version() {
        let process = Process::new();
        process.write("/a/agent", "");
        process.write("/a/package.json", r#"{"name": "agent", "version": "2.0"}"#);
        symlink("/a/agent (deleted)", process.0.path().join("exe")).unwrap();
        let image = image("/a/agent", &["agent"]);
        assert_eq!(known(&describe(process.0.path(), &image, None).unwrap()), (None, None));
        let image = Image { exe: Some("/b/versions/1.0.2/agent".into()), ..image };
        let described = describe(process.0.path(), &image, None).unwrap();
        assert_eq!(known(&described), (None, Some("1.0.2")));
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
}
