//! Finds programs the way the invoking user's shell would.
//!
//! `sudo` replaces PATH by a list of system directories, while agents are mostly installed below
//! the user's home. The places installers use there are searched after PATH.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::owner::Owner;

/// Where the installers of agents and their runtimes put programs, below the home directory.
const HOME_DIRECTORIES: [&str; 6] =
    [".local/bin", "bin", ".npm-global/bin", ".bun/bin", ".volta/bin", ".cargo/bin"];

/// PATH, followed by the owner's own program directories that exist and are not on it.
#[must_use]
pub fn search_path(path: Option<OsString>, owner: Option<&Owner>) -> OsString {
    let path = path.unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Some(owner) = owner {
        for below in HOME_DIRECTORIES {
            let directory = owner.home.join(below);
            if directory.is_dir() && !directories.contains(&directory) {
                directories.push(directory);
            }
        }
    }
    // A directory with a colon in its name cannot have come from PATH and is not in the list above.
    std::env::join_paths(directories).unwrap_or(path)
}

/// The executable files that starting `program` may lead to: the file itself and, if it is a
/// script, the interpreter of its first line.
#[must_use]
pub fn executables(program: &OsStr, search_path: &OsStr) -> Vec<PathBuf> {
    let Some(file) = find(program, search_path) else { return Vec::new() };
    let mut found = vec![file];
    // Scripts may name scripts; the kernel follows four such steps (fs/exec.c).
    for _ in 0..4 {
        let last = found.last().expect("starts with one and only grows");
        match interpreter(last).and_then(|name| find(&name, search_path)) {
            Some(next) => found.push(next),
            None => break,
        }
    }
    found
}

fn find(program: &OsStr, search_path: &OsStr) -> Option<PathBuf> {
    let runnable = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let candidates = if Path::new(program).components().count() > 1 {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(search_path).map(|directory| directory.join(program)).collect()
    };
    let found = candidates.into_iter().find(|path| runnable(path))?;
    Some(std::fs::canonicalize(&found).unwrap_or(found))
}

/// The program that a `#!` line runs, looking through `env` to the name it is given.
fn interpreter(script: &Path) -> Option<OsString> {
    use std::io::Read;
    let mut head = [0; 256];
    let length = std::fs::File::open(script).ok()?.read(&mut head).ok()?;
    let line = head[..length].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let program = words.next()?;
    if Path::new(program).file_name() == Some(OsStr::new("env")) {
        // Options (`-S`) and assignments may stand before the name.
        return words.find(|w| !w.starts_with('-') && !w.contains('=')).map(OsString::from);
    }
    Some(program.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::canonicalize(path).unwrap()
    }

    #[test]
    fn a_script_leads_to_its_interpreter_through_env() {
        let directory = tempfile::tempdir().unwrap();
        let agent = script(directory.path(), "agent", "#!/usr/bin/env -S runtime --flag\ncode");
        let runtime = script(directory.path(), "runtime", "\x7fELF");
        let found = executables(OsStr::new("agent"), directory.path().as_os_str());
        assert_eq!(found, [agent, runtime]);
    }

    #[test]
    fn a_script_that_names_itself_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loop");
        script(directory.path(), "loop", &format!("#!{}\n", path.display()));
        assert_eq!(executables(path.as_os_str(), OsStr::new("")).len(), 5);
    }

    #[test]
    fn unknown_and_unexecutable_names_lead_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("data"), "#!/bin/sh").unwrap();
        let path = directory.path().as_os_str();
        assert!(executables(OsStr::new("data"), path).is_empty());
        assert!(executables(OsStr::new("missing"), path).is_empty());
    }

    #[test]
    fn the_owners_directories_follow_path() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join(".local/bin")).unwrap();
        let owner = Owner {
            uid: 1000,
            gid: 1000,
            name: "user".into(),
            home: home.path().into(),
            groups: vec![1000],
        };
        let path = search_path(Some("/usr/bin:/bin".into()), Some(&owner));
        let expected = format!("/usr/bin:/bin:{}", home.path().join(".local/bin").display());
        assert_eq!(path, OsString::from(expected));
        assert_eq!(search_path(Some("/bin".into()), None), OsString::from("/bin"));
    }
}
