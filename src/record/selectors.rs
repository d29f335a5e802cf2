//! What the user asked to be recorded, as typed, and what that comes to on this host.

use std::path::PathBuf;

use super::owner::uid_of;
use crate::capture::cgroup::{Cgroup, CgroupError, Hierarchy};
use crate::capture::matching::Matcher;
use crate::capture::procfs::ProcFs;
use crate::capture::scope::{CommandLines, Scope, Users};

/// Selectors as typed. Users restrict the others, and select by themselves where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Names of agents ([`crate::capture::matching`]).
    pub names: Vec<String>,
    /// Processes that run already.
    pub pids: Vec<u32>,
    /// Regular expressions over command lines.
    pub command_lines: Vec<String>,
    /// Cgroups, as directories or as in `/proc/PID/cgroup`.
    pub cgroups: Vec<PathBuf>,
    /// Beginnings of container ids.
    pub containers: Vec<String>,
    /// Users, by name or number.
    pub users: Vec<String>,
}

/// Why selectors select nothing.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// No such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// A pattern that is none.
    #[error("--cmdline: expected a regular expression, found {pattern:?}: {reason}")]
    Pattern {
        /// What was given.
        pattern: String,
        /// Why it is none.
        reason: String,
    },
    /// A process that runs already and does not exist.
    #[error("there is no process {0}")]
    NoProcess(u32),
    /// A process of a user that is not to be recorded.
    #[error("process {pid} belongs to user {uid}, whom --uid does not name")]
    OtherUser {
        /// Process.
        pid: u32,
        /// Its real user id.
        uid: u32,
    },
    /// No such cgroup or container.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl SelectorError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoProcess(_) => Some("to wait for a process that is yet to start, use -c NAME"),
            Self::Cgroup(error) => error.hint(),
            Self::NoUser(_) | Self::Pattern { .. } | Self::OtherUser { .. } => None,
        }
    }
}

impl Selectors {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.selects() && self.users.is_empty()
    }

    /// What they come to on this host.
    ///
    /// # Errors
    /// When something that they name does not exist.
    pub fn scope(&self, proc: &ProcFs) -> Result<Scope, SelectorError> {
        let users = self.users()?;
        for &pid in &self.pids {
            let uid = proc.real_uid(pid).ok_or(SelectorError::NoProcess(pid))?;
            if !users.allow(uid) {
                return Err(SelectorError::OtherUser { pid, uid });
            }
        }
        Ok(Scope {
            names: Matcher::new(&self.names),
            command_lines: self.command_lines()?,
            cgroups: self.cgroups()?,
            users,
        })
    }

    /// The selectors as the options that asked for them.
    #[must_use]
    pub fn filters(&self) -> Vec<String> {
        fn options<'a, T: ToString>(
            option: &'a str,
            values: impl IntoIterator<Item = T> + 'a,
        ) -> impl Iterator<Item = String> + 'a {
            values.into_iter().map(move |value| format!("{option} {}", value.to_string()))
        }
        options("-c", &self.names)
            .chain(options("-p", &self.pids))
            .chain(options("--cmdline", &self.command_lines))
            .chain(options("--cgroup", self.cgroups.iter().map(|path| path.display())))
            .chain(options("--container", &self.containers))
            .chain(options("--uid", &self.users))
            .collect()
    }

    fn selects(&self) -> bool {
        let Self { names, pids, command_lines, cgroups, containers, users: _ } = self;
        !(names.is_empty()
            && pids.is_empty()
            && command_lines.is_empty()
            && cgroups.is_empty()
            && containers.is_empty())
    }

    fn users(&self) -> Result<Users, SelectorError> {
        let mut uids = Vec::new();
        for user in &self.users {
            let uid = user.parse().ok().or_else(|| uid_of(user.as_ref()).ok().flatten());
            uids.push(uid.ok_or_else(|| SelectorError::NoUser(user.clone()))?);
        }
        Ok(match (uids.is_empty(), self.selects()) {
            (true, _) => Users::Any,
            (false, true) => Users::Only(uids),
            (false, false) => Users::All(uids),
        })
    }

    fn command_lines(&self) -> Result<CommandLines, SelectorError> {
        let refused = |pattern: &String, reason: String| SelectorError::Pattern {
            pattern: pattern.clone(),
            reason,
        };
        for pattern in &self.command_lines {
            // Alone, so that the message is about the right one.
            CommandLines::new(std::slice::from_ref(pattern))
                .map_err(|reason| refused(pattern, reason))?;
        }
        CommandLines::new(&self.command_lines)
            .map_err(|reason| refused(&self.command_lines.join(" "), reason))
    }

    fn cgroups(&self) -> Result<Vec<Cgroup>, SelectorError> {
        if self.cgroups.is_empty() && self.containers.is_empty() {
            return Ok(Vec::new());
        }
        let hierarchy = Hierarchy::find()?;
        let mut found = Vec::new();
        for path in &self.cgroups {
            found.push(hierarchy.at(path)?);
        }
        for container in &self.containers {
            found.extend(hierarchy.of_container(container)?);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::clock;

    fn proc() -> ProcFs {
        ProcFs::new(clock::anchor())
    }

    #[test]
    fn users_restrict_other_selectors_and_stand_in_for_none() {
        let users = vec!["root".to_owned(), "12345".to_owned()];
        let alone = Selectors { users, ..Selectors::default() };
        assert_eq!(alone.scope(&proc()).unwrap().users, Users::All(vec![0, 12345]));
        let named = Selectors { names: vec!["node".into()], ..alone.clone() };
        assert_eq!(named.scope(&proc()).unwrap().users, Users::Only(vec![0, 12345]));
        assert!(!alone.is_empty() && Selectors::default().is_empty());
        let unknown = Selectors { users: vec!["no such user".into()], ..alone };
        assert_eq!(
            unknown.scope(&proc()).unwrap_err().to_string(),
            "there is no user no such user"
        );
    }

    #[test]
    fn a_process_that_is_gone_or_another_users_is_refused() {
        let gone = Selectors { pids: vec![u32::MAX], ..Selectors::default() };
        let error = gone.scope(&proc()).unwrap_err();
        assert!(matches!(error, SelectorError::NoProcess(u32::MAX)) && error.hint().is_some());
        let pids = vec![std::process::id()];
        let users = vec!["4294967000".to_owned()];
        let other = Selectors { pids: pids.clone(), users, ..Selectors::default() };
        let error = other.scope(&proc()).unwrap_err();
        assert!(matches!(error, SelectorError::OtherUser { pid, .. } if pid == pids[0]));
    }

    #[test]
    fn a_pattern_is_refused_with_its_fault() {
        let patterns = vec!["fine".to_owned(), "a(b".to_owned()];
        let selectors = Selectors { command_lines: patterns, ..Selectors::default() };
        let error = selectors.scope(&proc()).unwrap_err().to_string();
        assert!(error.contains("\"a(b\": unclosed group"), "{error}");
    }

    #[test]
    fn filters_read_as_the_options_did() {
        let selectors = Selectors {
            names: vec!["claude".into()],
            pids: vec![7],
            command_lines: vec!["a b".into()],
            cgroups: vec!["/x".into()],
            containers: vec!["3e".into()],
            users: vec!["dev".into()],
        };
        let expected =
            ["-c claude", "-p 7", "--cmdline a b", "--cgroup /x", "--container 3e", "--uid dev"];
        assert_eq!(selectors.filters(), expected);
    }
}
