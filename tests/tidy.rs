//! The source itself under test: import rules, file sizes, headers, nothing left open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines of a file before its tests. One subject rarely needs more.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    PathBuf::from(".")
}

fn files(directory: &str, extensions: &[&str]) -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(directory), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| extensions.contains(&e.to_str().unwrap())))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text)
        })
        .collect()
}

/// The code of a file: what stands before its unit tests, without comments.
fn code(text: &str) -> String {
    let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..end]
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" // ").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

struct Rule {
    may_use: Vec<String>,
    must_not_name: Vec<String>,
}

/// The table of `docs/ARCHITECTURE.md`, so that the drawing and the check cannot differ.
fn rules() -> BTreeMap<String, Rule> {
    let text = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let quoted =
        |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
    text.split("## Import rules")
        .nth(1)
        .unwrap()
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').collect();
            let rule = Rule { may_use: quoted(cells[2]), must_not_name: quoted(cells[3]) };
            (quoted(cells[1]).remove(0), rule)
        })
        .collect()
}

fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    let name = below.split('/').next()?;
    let name = name.strip_suffix(".rs").unwrap_or(name);
    (!matches!(name, "lib" | "bin")).then_some(name)
}

/// The modules of this crate that a line names through `crate::`.
fn used_modules(code: &str) -> Vec<String> {
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .flat_map(|(at, word)| {
            let rest = &code[at + word.len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list.split('}').next().unwrap_or("").split(',').collect(),
                None => vec![rest],
            };
            names
                .into_iter()
                .map(|name| {
                    let name = name.trim_start();
                    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                    name[..end.unwrap_or(name.len())].to_owned()
                })
                .collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let rules = rules();
    assert!(rules.len() >= 10, "the table of docs/ARCHITECTURE.md was not read: {}", rules.len());
    let mut broken = Vec::new();
    for (path, text) in files("src", &["rs"]) {
        let Some(module) = module_of(&path) else { continue };
        let Some(rule) = rules.get(module) else {
            broken.push(format!("{path}: module {module} is not in docs/ARCHITECTURE.md"));
            continue;
        };
        let code = code(&text);
        for used in used_modules(&code) {
            if used != module && rules.contains_key(&used) && !rule.may_use.contains(&used) {
                broken.push(format!("{path}: {module} must not use {used}"));
            }
        }
        for word in &rule.must_not_name {
            if names(&code, word) {
                broken.push(format!("{path}: {module} must not name {word}"));
            }
        }
        let home_of_libbpf = path == "src/capture/bpf.rs" || path.starts_with("src/capture/bpf/");
        if names(&code, "libbpf_rs") && !home_of_libbpf {
            broken.push(format!("{path}: libbpf_rs is named outside src/capture/bpf"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whether `word` stands in `code` as a word of its own.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let after = &code[at + word.len()..];
        !code[..at].ends_with(part) && (!word.ends_with(part) || !after.starts_with(part))
    })
}

#[test]
fn the_checks_themselves_see_what_they_should() {
    assert!(names("use arrow::array;", "arrow"));
    assert!(!names("let narrow = 1; arrow_schema();", "arrow"));
    assert_eq!(used_modules("use crate::{event::Event, time}; crate::trace::open()").len(), 3);
    assert_eq!(code("// std::fs\nlet a; // std::fs\n"), "let a;");
}

#[test]
fn files_say_what_they_own_and_stay_one_subject() {
    let mut broken = Vec::new();
    for (path, text) in files("src", &["rs"]).into_iter().chain(files("tests", &["rs"])) {
        if !text.starts_with("//!") {
            broken.push(format!("{path}: expected a //! header on the first line"));
        }
        let end = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
        let lines = text[..end].lines().count();
        if lines > MAX_LINES {
            broken.push(format!("{path}: {lines} lines before its tests, at most {MAX_LINES}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn bpf_sources_carry_the_licence_the_kernel_needs() {
    let sources = files("bpf", &["c", "h"]);
    assert!(!sources.is_empty());
    for (path, text) in sources {
        let first = text.lines().next().unwrap_or("");
        assert!(
            first.contains("SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause"),
            "{path}: expected the SPDX line first, found {first:?}"
        );
    }
}

#[test]
fn nothing_is_left_open() {
    // Put together here so that this file does not find itself.
    let marks = [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    let mut broken = Vec::new();
    for directory in ["src", "bpf", "tests", "queries", "scripts", "examples", "benches"] {
        for (path, text) in files(directory, &["rs", "c", "h", "sql", "sh", "py"]) {
            for mark in &marks {
                if text.contains(mark) {
                    broken.push(format!("{path}: {mark}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_environment_of_processes_is_never_read() {
    // Only documents may speak of it; put together here so that this file does not find itself.
    let file = ["envi", "ron"].concat();
    // The file itself, what the procfs crate calls it, and where the kernel keeps it.
    let forbidden = [
        format!("/{file}"),
        format!("{file}\""),
        format!("{file}()"),
        "env_start".to_owned(),
        "env_end".to_owned(),
    ];
    let mut broken = Vec::new();
    for (path, text) in files("src", &["rs"]).into_iter().chain(files("bpf", &["c", "h"])) {
        for word in &forbidden {
            if code(&text).contains(word.as_str()) {
                broken.push(format!("{path}: {word}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_readme_speaks_of_files_that_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let mut checked = 0;
    for word in readme.split(|c: char| c.is_whitespace() || "`()[]\"'|,".contains(c)) {
        let directories = ["docs/", "queries/", "fixtures/", "scripts/", "bpf/", "src/"];
        if directories.iter().any(|directory| word.starts_with(directory)) && !word.contains('*') {
            checked += 1;
            let path = word.trim_end_matches(['.', ':', ';']);
            assert!(root().join(path).exists(), "README.md names {path}, which is not there");
        }
    }
    assert!(checked > 0, "README.md names no file of the project");
}
