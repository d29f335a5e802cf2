//! What shows that a process was started by a tool call: that what the call asks for stands in the
//! arguments or the standard input of the process.
//!
//! Agents hand a command on in many ways: as an argument of a shell, quoted once more, between set-up
//! and clean-up; to a shell that runs already; split into the arguments of a program. Texts are
//! therefore compared without quotes, backslashes and white space.

use serde_json::Value;

use crate::reconstruct::finding::ToolCall;

/// Texts of the arguments that are looked at, the longest first.
const MAX_TEXTS: usize = 16;

/// Longest text that is looked for: beyond it the begin is enough.
const MAX_TEXT_CHARS: usize = 4096;

/// Shortest text that proves anything by itself, characters without blanks.
const MIN_PROOF_CHARS: usize = 4;

/// How deep arguments are looked into.
const MAX_DEPTH: usize = 8;

/// Names of arguments that hold what a shell or an interpreter is to run.
const COMMANDS: &[&str] = &["command", "cmd", "script", "code", "commands", "shell_command"];

/// Names of arguments that hold the path of a file.
const PATHS: &[&str] = &[
    "absolute_path",
    "file",
    "filePath",
    "file_path",
    "filename",
    "notebook_path",
    "path",
    "target_file",
];

/// Lines of a patch that name the file to be changed.
const PATCH_LINES: &[&str] = &[
    "*** Update File: ",
    "*** Add File: ",
    "*** Delete File: ",
    "*** Move to: ",
    "+++ b/",
    "+++ ",
];

/// What shows a link, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Evidence {
    /// The arguments of the process hold the command.
    Command,
    /// Its standard input does.
    Input,
    /// Its arguments hold the values of the tool's arguments.
    Values,
    /// Its arguments are part of the command.
    PartOfCommand,
    /// The agent itself used the file.
    File,
    /// No other process and no other tool call ran.
    Time,
}

impl Evidence {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Command | Self::Values | Self::PartOfCommand => "argv",
            Self::Input => "stdin",
            Self::File => "file",
            Self::Time => "time",
        }
    }
}

/// What a tool call asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The command, squeezed.
    command: Option<String>,
    /// Other texts, squeezed, the longest first.
    values: Vec<String>,
    names_file: bool,
}

impl Wanted {
    pub(super) fn of(call: &ToolCall) -> Self {
        let Some(arguments) = call.arguments.as_deref() else { return Self::default() };
        let Ok(arguments) = serde_json::from_str::<Value>(arguments) else {
            // Broken off, or no JSON but the text of a tool that takes one.
            let text = squeezed(arguments, MAX_TEXT_CHARS);
            return Self { command: Some(text).filter(|it| is_proof(it)), ..Self::default() };
        };
        let command = command(&arguments)
            .map(|text| squeezed(&text, MAX_TEXT_CHARS))
            .filter(|it| !it.is_empty());
        let mut values = Vec::new();
        texts(&arguments, 0, &mut values);
        let mut values: Vec<String> =
            values.iter().map(|text| squeezed(text, MAX_TEXT_CHARS)).collect();
        values.retain(|text| is_proof(text));
        values.sort_by_key(|text| std::cmp::Reverse(text.len()));
        values.truncate(MAX_TEXTS);
        Self { command, values, names_file: !paths(call).is_empty() }
    }

    /// What shows that a process was started by the call.
    pub(super) fn evidence(&self, texts: &Texts) -> Option<Evidence> {
        let Some(command) = &self.command else {
            let longest = self.values.first()?;
            let holds = |argv: &Vec<String>| argv.iter().any(|it| it.contains(longest.as_str()));
            return texts.commands.iter().any(holds).then_some(Evidence::Values);
        };
        // A command of a letter or two stands in many arguments.
        let is_it = |argv: &Vec<String>| {
            argv.concat() == *command
                || (is_proof(command) && argv.iter().any(|it| it.contains(command.as_str())))
        };
        if texts.commands.iter().any(is_it) {
            return Some(Evidence::Command);
        }
        if is_proof(command) && texts.input.contains(command.as_str()) {
            return Some(Evidence::Input);
        }
        let is_part = |argv: &Vec<String>| {
            let program = argv.first().map_or("", |it| it.rsplit('/').next().unwrap_or(it));
            let text = format!("{program}{}", argv.get(1..).unwrap_or_default().concat());
            !program.is_empty() && is_proof(&text) && command.contains(&text)
        };
        texts.commands.iter().any(is_part).then_some(Evidence::PartOfCommand)
    }

    /// Whether nothing that it asks for could show in a process: it names neither a command nor a file.
    pub(super) fn shows_nothing(&self) -> bool {
        self.command.is_none() && self.values.is_empty() && !self.names_file
    }
}

/// What a process shows, squeezed.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    commands: Vec<Vec<String>>,
    input: String,
}

impl Texts {
    pub(super) fn new<'a>(commands: impl Iterator<Item = &'a [String]>, input: &[u8]) -> Self {
        let squeeze = |argv: &[String]| argv.iter().map(|it| squeezed(it, usize::MAX)).collect();
        let input = squeezed(&String::from_utf8_lossy(input), usize::MAX);
        Self { commands: commands.map(squeeze).collect(), input }
    }

    /// Whether nothing is known of what it runs.
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// A text without quotes, backslashes and white space, as many characters of it.
fn squeezed(text: &str, max_chars: usize) -> String {
    let is_kept = |c: &char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\' | '`');
    text.chars().filter(is_kept).take(max_chars).collect()
}

fn is_proof(squeezed: &str) -> bool {
    squeezed.chars().take(MIN_PROOF_CHARS).count() == MIN_PROOF_CHARS
}

/// What a shell or interpreter is to run. As a list of arguments it ends with the script where its
/// begin is a shell.
fn command(arguments: &Value) -> Option<String> {
    let named = COMMANDS.iter().find_map(|name| arguments.get(name))?;
    match named {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
            let is_script = parts.len() > 2
                && parts[parts.len() - 2].starts_with('-')
                && parts[parts.len() - 2].ends_with('c');
            match parts.last() {
                Some(script) if is_script => Some((*script).to_owned()),
                _ => Some(parts.join(" ")),
            }
        }
        _ => None,
    }
}

fn texts<'a>(value: &'a Value, depth: usize, out: &mut Vec<&'a str>) {
    if depth > MAX_DEPTH || out.len() > 1024 {
        return;
    }
    match value {
        Value::String(text) => out.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, depth + 1, out)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, depth + 1, out)),
        _ => {}
    }
}

/// The paths that the arguments of a call name: by the name of the argument, or in a patch.
pub(super) fn paths(call: &ToolCall) -> Vec<String> {
    let Some(text) = call.arguments.as_deref() else { return Vec::new() };
    let Ok(arguments) = serde_json::from_str::<Value>(text) else { return in_patch(text) };
    let mut found: Vec<String> = PATHS
        .iter()
        .filter_map(|name| Some(arguments.get(name)?.as_str()?.to_owned()))
        .filter(|path| !path.is_empty())
        .collect();
    let mut values = Vec::new();
    texts(&arguments, 0, &mut values);
    found.extend(values.into_iter().flat_map(in_patch));
    found.truncate(MAX_TEXTS);
    found
}

fn in_patch(text: &str) -> Vec<String> {
    let path = |line: &str| {
        let path = PATCH_LINES.iter().find_map(|begin| line.strip_prefix(begin))?.trim();
        (!path.is_empty()).then(|| path.to_owned())
    };
    text.lines().filter_map(path).take(MAX_TEXTS).collect()
}

/// Whether a path is the one that is named, which may be relative.
pub(super) fn is_path(path: &str, named: &str) -> bool {
    let named = named.strip_prefix("./").unwrap_or(named);
    path == named
        || path
            .strip_suffix(named)
            .is_some_and(|folder| folder.ends_with('/') && !named.starts_with('/'))
}
