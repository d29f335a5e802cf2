//! What a recording is about: which processes are selected, by name, command line, cgroup and user.
//!
//! - Names, command lines and cgroups *select*: one that applies is enough.
//! - Users select by themselves where nothing else does. Otherwise they *restrict*: what is
//!   selected has to belong to one of them. It is the real user id that counts, at exec.
//! - Descendants of what is selected belong to the recording whatever they are; that is followed,
//!   not asked here.
//!
//! The kernel side decides at exec by the same rule, but for command lines: those only this module
//! understands (`capture::bpf::provisional`).

use regex_automata::meta::Regex;

use super::cgroup::{self, Cgroup};
use super::matching::Matcher;

/// Regular expressions over command lines.
#[derive(Clone, Debug, Default)]
pub struct CommandLines {
    /// One automaton for all; absent when there are none.
    regex: Option<Regex>,
}

impl CommandLines {
    /// Matches where one of `patterns` is found in the arguments joined by spaces, `argv[0]` first.
    ///
    /// # Errors
    /// With the reason when a pattern is no regular expression, or too large.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, String> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let regex = Regex::new_many(patterns).map_err(|error| {
            let syntax = error.syntax_error().map(ToString::to_string);
            // The library draws an arrow over several lines; the last says what is wrong.
            let text = syntax.unwrap_or_else(|| error.to_string());
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })?;
        Ok(Self { regex: Some(regex) })
    }

    /// Whether nothing can match.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.regex.is_none()
    }

    /// Whether a program with these arguments matches.
    #[must_use]
    pub fn matches(&self, argv: &[String]) -> bool {
        self.regex.as_ref().is_some_and(|regex| regex.is_match(&*argv.join(" ")))
    }
}

/// Which users' processes are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Users {
    /// Users play no part.
    #[default]
    Any,
    /// All processes of these.
    All(Vec<u32>),
    /// Selected processes only where they are one of these users'.
    Only(Vec<u32>),
}

impl Users {
    /// Whether a selected process of this user belongs to the recording.
    #[must_use]
    pub fn allow(&self, uid: u32) -> bool {
        match self {
            Self::Any => true,
            Self::All(uids) | Self::Only(uids) => uids.contains(&uid),
        }
    }
}

/// The selectors of a recording.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// By name.
    pub names: Matcher,
    /// By command line.
    pub command_lines: CommandLines,
    /// By cgroup; those below count as well.
    pub cgroups: Vec<Cgroup>,
    /// By user.
    pub users: Users,
}

/// What is known of a process that runs already.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Real user id.
    pub uid: u32,
    /// Path of the executable.
    pub exe: Option<&'a str>,
    /// Arguments.
    pub argv: &'a [String],
    /// Name of the first thread.
    pub leader_comm: &'a str,
    /// Cgroup in the v2 hierarchy.
    pub cgroup: Option<&'a str>,
}

impl Scope {
    /// Whether processes that are yet to start may be selected.
    #[must_use]
    pub fn selects_programs(&self) -> bool {
        !self.names.is_empty()
            || !self.command_lines.is_empty()
            || !self.cgroups.is_empty()
            || matches!(self.users, Users::All(_))
    }

    /// Whether a process that runs already is selected.
    #[must_use]
    pub fn selects(&self, process: &Candidate<'_>) -> bool {
        let Candidate { uid, exe, argv, leader_comm, cgroup } = *process;
        if !self.users.allow(uid) {
            return false;
        }
        let in_cgroup =
            |wanted: &Cgroup| cgroup.is_some_and(|cgroup| cgroup::is_within(cgroup, &wanted.path));
        matches!(self.users, Users::All(_))
            || self.names.matches_running(exe, argv, leader_comm)
            || self.command_lines.matches(argv)
            || self.cgroups.iter().any(in_cgroup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate<'a>(uid: u32, argv: &'a [String], cgroup: &'a str) -> Candidate<'a> {
        Candidate {
            uid,
            exe: Some("/usr/bin/node"),
            argv,
            leader_comm: "node",
            cgroup: Some(cgroup),
        }
    }

    fn argv(arguments: &str) -> Vec<String> {
        arguments.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn any_selector_is_enough_and_users_restrict_all_of_them() {
        let mut scope = Scope {
            names: Matcher::new(["aider"]),
            command_lines: CommandLines::new(&["server.js --agent", "^x"]).unwrap(),
            cgroups: vec![Cgroup { id: 1, path: "/agents".into() }],
            users: Users::Any,
        };
        let (script, other) = (argv("node server.js --agent"), argv("node other.js"));
        assert!(scope.selects(&candidate(1, &script, "/")));
        assert!(scope.selects(&candidate(1, &other, "/agents/inner")));
        assert!(scope.selects(&candidate(1, &argv("node aider"), "/")));
        assert!(!scope.selects(&candidate(1, &other, "/agentsmith")));
        assert!(scope.selects_programs());

        scope.users = Users::Only(vec![7]);
        assert!(scope.selects(&candidate(7, &script, "/")));
        assert!(!scope.selects(&candidate(1, &script, "/")));
        assert!(!scope.selects(&candidate(7, &other, "/")));
    }

    #[test]
    fn users_alone_select_all_that_is_theirs() {
        let scope = Scope { users: Users::All(vec![7, 8]), ..Scope::default() };
        assert!(scope.selects(&candidate(8, &[], "/")));
        assert!(!scope.selects(&candidate(9, &[], "/")));
        assert!(scope.selects_programs());
        let restricting = Scope { users: Users::Only(vec![7]), ..Scope::default() };
        assert!(!restricting.selects(&candidate(7, &[], "/")));
        assert!(!restricting.selects_programs() && !Scope::default().selects_programs());
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        assert!(CommandLines::new(&["("]).is_err());
        let none: [&str; 0] = [];
        assert!(!CommandLines::new(&none).unwrap().matches(&argv("x")));
    }
}
