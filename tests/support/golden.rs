//! Goldens: what a test made, compared with what is stored.
//!
//! `UPDATE_GOLDEN=1` stores what was made instead; the change is then reviewed as a diff.

#![allow(unreachable_pub, reason = "shared by several test programs")]

use std::fs;
use std::path::{Path, PathBuf};

/// The stored text below `fixtures/golden`.
pub fn path(name: &str) -> PathBuf {
    Path::new(".").join("fixtures/golden").join(name)
}

/// Compares `made` with the golden `name`; gives what differs.
pub fn difference(name: &str, made: &str) -> Option<String> {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().expect("a golden is in a folder")).unwrap();
        fs::write(&path, made).unwrap();
        return None;
    }
    let stored = match fs::read_to_string(&path) {
        Ok(stored) => stored,
        Err(error) => return Some(format!("{name}: {error}; UPDATE_GOLDEN=1 makes it")),
    };
    if stored == made {
        return None;
    }
    let line = stored.lines().zip(made.lines()).take_while(|(old, new)| old == new).count();
    let at = |text: &str| text.lines().nth(line).unwrap_or("(end)").to_owned();
    Some(format!(
        "{name}, line {}:\n  stored: {}\n  made:   {}\n  UPDATE_GOLDEN=1 stores what was made",
        line + 1,
        at(&stored),
        at(made)
    ))
}

/// Fails with all `differences` at once.
pub fn assert_none(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "{} goldens differ:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
