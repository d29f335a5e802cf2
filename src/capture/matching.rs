//! Which processes a recording is about: the rule behind `-c NAME`, in one place.
//!
//! A process has *candidate names*, and matches when one of them equals a `NAME`. The kernel side
//! applies the same rule when a program is executed; whatever changes here has to change there.
//!
//! 1. The basename of the executable file.
//! 2. The basename of `argv[0]`, without the `-` that marks a login shell.
//! 3. Where 1 or 2 is a known interpreter ([`INTERPRETERS`], version suffix ignored): the basename
//!    of its script, which is the first of the next [`MAX_SCRIPT_ARGUMENTS`] arguments that does not
//!    begin with `-`. The subcommand `run` is passed over; behind `-m` it is the module's name; an
//!    option that carries the program itself (`-c`, `-e`, `-p`, `--eval`, `--print`) ends the
//!    search. Values of other options are not told from scripts.
//! 4. For processes that already run, the name of the group leader (`/proc/PID/comm`), because it
//!    is all that is left where a program renamed itself. Never the name of another thread: agents
//!    name those after what they do ("HTTP Client"), and the kernel cuts them at 15 bytes.
//!
//! A candidate also equals `NAME` without one of the [`EXTENSIONS`]. Comparison is by bytes, with
//! case. Nothing here reads `/proc` or knows what an agent is.

/// Programs that run another program given as an argument; digits and dots at the end of the
/// process's name are ignored (`python3.11`).
pub const INTERPRETERS: &[&str] = &[
    "node", "nodejs", "bun", "deno", "tsx", "npx", "python", "pypy", "uv", "ruby", "perl", "sh",
    "bash", "dash", "zsh", "ash", "ksh", "busybox", "env",
];

/// File name endings that need not be part of a `NAME`.
pub const EXTENSIONS: &[&str] = &[".js", ".mjs", ".cjs", ".py", ".exe"];

/// How many arguments behind `argv[0]` are looked at for a script.
pub const MAX_SCRIPT_ARGUMENTS: usize = 8;

/// Arguments of this size and more end the search for a script: no path is that long.
const LONGEST_ARGUMENT_BYTES: usize = 4095;

/// Options whose value is the program, so that no script follows.
const PROGRAM_OPTIONS: &[&str] = &["-c", "-e", "-p", "--eval", "--print"];

/// The names to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    names: Vec<String>,
}

impl Matcher {
    /// A matcher for `names`; of a path only the last component counts. Empty names match nothing.
    pub fn new<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(|name| basename(name.as_ref()).to_owned());
        Self { names: names.filter(|name| !name.is_empty()).collect() }
    }

    /// Whether there is nothing to match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The names it looks for, without directories.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Every candidate name that matches, for a comparison that knows nothing of extensions.
    #[must_use]
    pub fn matching_names(&self) -> Vec<String> {
        let endings = || std::iter::once("").chain(EXTENSIONS.iter().copied());
        self.names
            .iter()
            .flat_map(|name| endings().map(move |end| format!("{name}{end}")))
            .collect()
    }

    /// Whether a program that is being executed matches: rules 1 to 3.
    #[must_use]
    pub fn matches_exec(&self, exe: Option<&str>, argv: &[String]) -> bool {
        candidate_names(exe, argv).any(|candidate| self.matches_name(candidate))
    }

    /// Whether a process that already runs matches: rules 1 to 4. `leader_comm` is the name of its
    /// first thread.
    #[must_use]
    pub fn matches_running(&self, exe: Option<&str>, argv: &[String], leader_comm: &str) -> bool {
        self.matches_exec(exe, argv) || self.matches_name(leader_comm)
    }

    fn matches_name(&self, candidate: &str) -> bool {
        self.names.iter().any(|name| {
            candidate
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || EXTENSIONS.contains(&rest))
        })
    }
}

/// The candidate names of a program, rules 1 to 3; never an empty one.
pub fn candidate_names<'a>(
    exe: Option<&'a str>,
    argv: &'a [String],
) -> impl Iterator<Item = &'a str> {
    let (file, called) = own_names(exe, argv);
    let script = script(exe, argv).map(|script| basename(script.argument()));
    [file, called, script].into_iter().flatten().filter(|name| !name.is_empty())
}

/// The argument that is the script of an interpreter, as it was given; `None` where the program is
/// no interpreter, or its script is not given by a path.
#[must_use]
pub fn script_argument<'a>(exe: Option<&str>, argv: &'a [String]) -> Option<&'a str> {
    match script(exe, argv)? {
        Script::File(path) => Some(path).filter(|path| !path.is_empty()),
        Script::Module(_) => None,
    }
}

/// Names of the program itself: of its file, and what it was called.
fn own_names<'a>(exe: Option<&'a str>, argv: &'a [String]) -> (Option<&'a str>, Option<&'a str>) {
    let called = argv.first().map(|name| basename(name.strip_prefix('-').unwrap_or(name)));
    (exe.map(basename), called)
}

/// What an interpreter runs, as its arguments give it.
enum Script<'a> {
    File(&'a str),
    Module(&'a str),
}

impl<'a> Script<'a> {
    fn argument(&self) -> &'a str {
        match self {
            Self::File(argument) | Self::Module(argument) => argument,
        }
    }
}

/// Whether a file of this name runs scripts.
#[must_use]
pub fn is_interpreter(name: &str) -> bool {
    let version = |c: char| c.is_ascii_digit() || c == '.';
    let name = name.strip_suffix(".exe").unwrap_or_else(|| name.trim_end_matches(version));
    INTERPRETERS.contains(&name)
}

fn script<'a>(exe: Option<&str>, argv: &'a [String]) -> Option<Script<'a>> {
    let (file, called) = own_names(exe, argv);
    if ![file, called].into_iter().flatten().any(is_interpreter) {
        return None;
    }
    let arguments = argv.get(1..).unwrap_or_default();
    let mut arguments = arguments.iter().take(MAX_SCRIPT_ARGUMENTS).map(String::as_str);
    // The kernel reads an argument no further, and does not know where the next one begins.
    let mut next = || arguments.next().filter(|argument| argument.len() < LONGEST_ARGUMENT_BYTES);
    loop {
        match next()? {
            "-m" => return next().map(Script::Module),
            option if PROGRAM_OPTIONS.contains(&option) => return None,
            option if option.starts_with('-') => {}
            "run" => {}
            script => return Some(Script::File(script)),
        }
    }
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(arguments: &str) -> Vec<String> {
        arguments.split_whitespace().map(str::to_owned).collect()
    }

    fn matches(name: &str, exe: &str, arguments: &str) -> bool {
        Matcher::new([name]).matches_exec(Some(exe), &argv(arguments))
    }

    #[test]
    fn a_process_is_known_by_file_argument_zero_and_script() {
        assert!(matches("claude", "/opt/claude", "agent --help"));
        assert!(matches("claude", "/opt/versions/2.1.197", "claude -p hello"));
        assert!(matches("bash", "/bin/busybox", "-bash"));
        assert!(matches("gemini", "/usr/bin/node", "node --no-warnings /usr/bin/gemini"));
        assert!(matches("aider", "/usr/bin/python3.11", "python3.11 -u -m aider --yes"));
        assert!(matches("agent", "/usr/bin/bun", "bun run /home/user/agent.mjs"));
        assert!(!matches("hello", "/opt/claude", "claude hello"));
    }

    #[test]
    fn arguments_of_a_script_are_not_scripts() {
        assert!(!matches("claude", "/usr/bin/node", "node server.js claude"));
        assert!(!matches("claude", "/bin/sh", "sh -c claude"));
        assert!(!matches("claude", "/usr/bin/grep", "grep claude"));
        let many = format!("node {} claude", "-x ".repeat(MAX_SCRIPT_ARGUMENTS));
        assert!(!matches("claude", "/usr/bin/node", &many));
    }

    #[test]
    fn an_extension_may_be_left_out_of_the_name_but_no_other_part() {
        assert!(matches("claude", "/x/bin/claude.exe", "x"));
        assert!(matches("claude.exe", "/x/bin/claude.exe", "x"));
        assert!(matches("agent", "/usr/bin/python3", "python3 agent.py"));
        assert!(!matches("claude", "/x/claude.exe.old", "x"));
        assert!(!matches("claude", "/x/claude-code", "x"));
        assert!(!matches("claude", "/x/claud", "x"));
        assert!(!matches("claude.js", "/x/claude", "x"));
    }

    #[test]
    fn the_leaders_name_counts_only_for_running_processes() {
        let matcher = Matcher::new(["claude"]);
        assert!(matcher.matches_running(None, &[], "claude"));
        assert!(!matcher.matches_running(None, &[], "HTTP Client"));
        assert!(!matcher.matches_exec(None, &[]));
    }

    #[test]
    fn nothing_matches_no_names_and_empty_ones() {
        for matcher in [Matcher::default(), Matcher::new(["", "/usr/bin/"])] {
            assert!(matcher.is_empty());
            assert!(!matcher.matches_running(Some(""), &argv("/"), ""));
        }
        assert_eq!(Matcher::new(["./bin/claude"]).names(), ["claude"]);
    }

    #[test]
    fn a_script_is_known_by_the_path_it_was_given() {
        let script =
            |exe, arguments| script_argument(Some(exe), &argv(arguments)).map(str::to_owned);
        assert_eq!(script("/usr/bin/node", "node -x dist/cli.js a"), Some("dist/cli.js".into()));
        assert_eq!(script("/usr/bin/bun", "bun run /srv/agent.ts"), Some("/srv/agent.ts".into()));
        assert_eq!(script("/usr/bin/python3", "python3 -m aider"), None);
        assert_eq!(script("/opt/claude", "claude cli.js"), None);
    }

    #[test]
    fn versions_do_not_hide_an_interpreter() {
        for name in ["node", "node20", "python3.11", "python", "pypy3.10", "bun.exe"] {
            assert!(is_interpreter(name), "{name}");
        }
        for name in ["claude", "", "3.11", "nodemon", "python-config"] {
            assert!(!is_interpreter(name), "{name}");
        }
    }
}
