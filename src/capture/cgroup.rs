//! The cgroup v2 hierarchy of this host: paths, ids and the containers in it.
//!
//! The kernel side knows a cgroup by its id, which is the inode number of its directory. Paths are
//! those of `/proc/PID/cgroup`, from the root of the hierarchy as this process sees it. A host
//! without the v2 hierarchy has no cgroups here; those of v1 are not looked at.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::event::container_id;

/// Most directories looked at for a container; a busy host has some thousands.
const MAX_DIRECTORIES: usize = 65_536;
/// Most paths remembered; cgroups that are gone are forgotten with the others.
const MAX_REMEMBERED: usize = 4096;
/// `FILEID_KERNFS` of include/linux/exportfs.h: the handle of a cgroup is its id.
const FILEID_KERNFS: i32 = 0xfe;
/// What container engines call the cgroup of the process that watches over a container.
const MONITOR_PREFIXES: [&str; 2] = ["libpod-conmon-", "crio-conmon-"];

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Inode number of its directory.
    pub id: u64,
    /// Path in the hierarchy, `/` for its root.
    pub path: String,
}

/// Why a cgroup cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no hierarchy.
    #[error("no cgroup v2 hierarchy is mounted")]
    NoHierarchy,
    /// No such cgroup.
    #[error("there is no cgroup {}", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
        /// Why its directory cannot be used.
        #[source]
        source: io::Error,
    },
    /// A container id that cannot be one.
    #[error("expected the beginning of a container id (hexadecimal), found {0:?}")]
    NoContainerId(String),
    /// No such container.
    #[error("no container with the id {0}... has a cgroup")]
    NoContainer(String),
    /// Several containers.
    #[error("several containers have an id that begins with {prefix}: {}", .found.join(", "))]
    SeveralContainers {
        /// What was asked for.
        prefix: String,
        /// Their ids.
        found: Vec<String>,
    },
}

impl CgroupError {
    /// What to do about it, where there is something.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoHierarchy => Some("mount -t cgroup2 none /sys/fs/cgroup, or use -c or -p"),
            Self::NotFound { .. } => Some("/proc/PID/cgroup tells the cgroup of a process"),
            Self::NoContainerId(_) => None,
            Self::NoContainer(_) => {
                Some("the container has to be running; on a cgroup v1 host use -p PID")
            }
            Self::SeveralContainers { .. } => Some("give more of the id"),
        }
    }
}

/// A mounted cgroup v2 hierarchy.
#[derive(Debug)]
pub struct Hierarchy {
    mount_point: PathBuf,
    /// Opened for [`Self::path_of`].
    directory: File,
    remembered: HashMap<u64, Option<String>>,
}

impl Hierarchy {
    /// The one of this host.
    ///
    /// # Errors
    /// When none is mounted or it cannot be opened.
    pub fn find() -> Result<Self, CgroupError> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount_point = mount_point(&mounts).ok_or(CgroupError::NoHierarchy)?;
        let directory = File::open(&mount_point)
            .map_err(|source| CgroupError::NotFound { path: mount_point.clone(), source })?;
        Ok(Self { mount_point, directory, remembered: HashMap::new() })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// The cgroup at a path, given as a directory of the mounted hierarchy or as in
    /// `/proc/PID/cgroup`.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(&self, path: &Path) -> Result<Cgroup, CgroupError> {
        let below = path.strip_prefix(&self.mount_point).or_else(|_| path.strip_prefix("/"));
        let directory = self.mount_point.join(below.unwrap_or(path));
        let not_found = |source| CgroupError::NotFound { path: path.to_owned(), source };
        // Resolves `..`, so that the path is one of the hierarchy.
        let directory = std::fs::canonicalize(directory).map_err(not_found)?;
        self.cgroup(&directory).map_err(not_found)
    }

    /// The cgroups of the one container whose id begins with `prefix`. A container has one, or a
    /// few side by side.
    ///
    /// # Errors
    /// When there is none, or more than one container.
    pub fn of_container(&self, prefix: &str) -> Result<Vec<Cgroup>, CgroupError> {
        let is_prefix = (1..=64).contains(&prefix.len())
            && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return Err(CgroupError::NoContainerId(prefix.to_owned()));
        }
        let mut found: Vec<(String, Cgroup)> = Vec::new();
        for directory in self.directories() {
            let Some(name) = directory.file_name().and_then(|name| name.to_str()) else { continue };
            let monitor = MONITOR_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            let Some(id) = container_id(name).filter(|id| id.starts_with(prefix)) else { continue };
            if let (false, Ok(cgroup)) = (monitor, self.cgroup(&directory)) {
                found.push((id.to_owned(), cgroup));
            }
        }
        let mut ids: Vec<String> = found.iter().map(|(id, _)| id.clone()).collect();
        ids.sort();
        ids.dedup();
        match ids.len() {
            0 => Err(CgroupError::NoContainer(prefix.to_owned())),
            1 => Ok(found.into_iter().map(|(_, cgroup)| cgroup).collect()),
            _ => Err(CgroupError::SeveralContainers { prefix: prefix.to_owned(), found: ids }),
        }
    }

    /// The path of the cgroup with this id; `None` when it is gone.
    pub fn path_of(&mut self, id: u64) -> Option<String> {
        if let Some(path) = self.remembered.get(&id) {
            return path.clone();
        }
        let path = self.open_by_id(id).ok().and_then(|directory| {
            let directory = format!("/proc/self/fd/{}", directory.as_raw_fd());
            self.relative(&std::fs::read_link(directory).ok()?)
        });
        if self.remembered.len() >= MAX_REMEMBERED {
            // Rare enough that starting over is cheaper than an order of use.
            self.remembered.clear();
        }
        self.remembered.insert(id, path.clone());
        path
    }

    fn cgroup(&self, directory: &Path) -> io::Result<Cgroup> {
        let metadata = std::fs::metadata(directory)?;
        let outside = || io::Error::other("it is not in the cgroup v2 hierarchy");
        let path = self.relative(directory).filter(|_| metadata.is_dir()).ok_or_else(outside)?;
        Ok(Cgroup { id: metadata.ino(), path })
    }

    fn relative(&self, directory: &Path) -> Option<String> {
        let below = directory.strip_prefix(&self.mount_point).ok()?;
        Some(format!("/{}", below.to_str()?))
    }

    /// All directories, each before those in it.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = vec![self.mount_point.clone()];
        let mut next = 0;
        while next < found.len() && found.len() < MAX_DIRECTORIES {
            let entries = std::fs::read_dir(&found[next]).into_iter().flatten().flatten();
            let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            found.extend(below.map(|entry| entry.path()));
            next += 1;
        }
        found.truncate(MAX_DIRECTORIES);
        found
    }

    /// `open_by_handle_at(2)`: finds a cgroup by its id without a walk; needs
    /// `CAP_DAC_READ_SEARCH`.
    fn open_by_id(&self, id: u64) -> io::Result<OwnedFd> {
        #[repr(C)]
        struct Handle {
            bytes: u32,
            kind: i32,
            id: u64,
        }
        let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id };
        // SAFETY: the handle has the layout of struct file_handle with eight bytes of content and
        // outlives the call; the descriptor it returns is owned by nobody else.
        #[expect(unsafe_code, reason = "std does not open by handle")]
        unsafe {
            let descriptor = libc::open_by_handle_at(
                self.directory.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            );
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(OwnedFd::from_raw_fd(descriptor))
        }
    }
}

/// The path of a cgroup in the v2 hierarchy, from the text of `/proc/PID/cgroup`.
#[must_use]
pub fn path_in(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::")).filter(|path| path.starts_with('/'))
}

/// Whether `path` is the cgroup `above` or below it.
#[must_use]
pub fn is_within(path: &str, above: &str) -> bool {
    let above = above.trim_end_matches('/');
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where the v2 hierarchy is mounted, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)); of
/// several mounts the one that shows it from its root.
fn mount_point(mounts: &str) -> Option<PathBuf> {
    let mut found = None;
    for line in mounts.lines() {
        let Some((fields, kind)) = line.split_once(" - ") else { continue };
        let mut fields = fields.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        if kind.split(' ').next() != Some("cgroup2") {
            continue;
        }
        if root == "/" {
            return Some(PathBuf::from(point));
        }
        found.get_or_insert_with(|| PathBuf::from(point));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3e1c0d8a5b7f9e2d4c6a8b0f1e3d5c7a9b1f3e5d7c9a0b2f4e6d8c0a1b3f5e7d";

    /// A directory that looks like a hierarchy; inode numbers are those of its file system.
    fn hierarchy(directories: &[&str]) -> (tempfile::TempDir, Hierarchy) {
        let root = tempfile::tempdir().unwrap();
        let mount_point = std::fs::canonicalize(root.path()).unwrap();
        for directory in directories {
            std::fs::create_dir_all(mount_point.join(directory)).unwrap();
        }
        let directory = File::open(&mount_point).unwrap();
        (root, Hierarchy { mount_point, directory, remembered: HashMap::new() })
    }

    #[test]
    fn containers_of_all_engines_are_known_by_their_cgroup() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod1/{ID}"),
            format!("/kubepods-pod1.slice:cri-containerd:{ID}"),
        ] {
            assert_eq!(container_id(&path), Some(ID), "{path}");
        }
        let inner = ID.replace('3', "4");
        assert_eq!(container_id(&format!("/docker/{ID}/docker/{inner}")), Some(&*inner));
        for path in ["/", "/user.slice/user-1000.slice", "/docker/3e1c", &format!("/x{ID}a")] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    #[test]
    fn a_container_is_found_by_the_beginning_of_its_id() {
        let other = ID.replace('3', "4");
        let monitor = format!("machine.slice/libpod-conmon-{ID}.scope");
        let (_root, hierarchy) = hierarchy(&[
            &format!("machine.slice/libpod-{ID}.scope/container"),
            &monitor,
            &format!("docker/{other}"),
        ]);
        let found = hierarchy.of_container(&ID[..12]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, format!("/machine.slice/libpod-{ID}.scope"));
        assert!(matches!(hierarchy.of_container("ffff"), Err(CgroupError::NoContainer(_))));
        for prefix in ["", "3E1C", "../x", &"a".repeat(65)] {
            let refused = hierarchy.of_container(prefix);
            assert!(matches!(refused, Err(CgroupError::NoContainerId(_))), "{prefix}");
        }
        let (_root, two) = self::hierarchy(&[&format!("a/{ID}"), &format!("b/3{}", &other[1..])]);
        let refused = two.of_container("3");
        assert!(
            matches!(&refused, Err(CgroupError::SeveralContainers { found, .. }) if found.len() == 2),
            "{refused:?}"
        );
    }

    #[test]
    fn a_cgroup_is_named_by_its_directory_or_its_path() {
        let (_root, hierarchy) = hierarchy(&["user.slice/a"]);
        let at = |path: &Path| hierarchy.at(path).map(|cgroup| cgroup.path);
        assert_eq!(at(Path::new("/user.slice/a")).unwrap(), "/user.slice/a");
        assert_eq!(at(Path::new("user.slice/a/")).unwrap(), "/user.slice/a");
        assert_eq!(at(&hierarchy.mount_point.join("user.slice")).unwrap(), "/user.slice");
        assert_eq!(at(Path::new("/")).unwrap(), "/");
        assert!(at(Path::new("/user.slice/b")).is_err());
        assert!(at(Path::new("/../..")).is_err(), "outside of the hierarchy");
        let inode = std::fs::metadata(hierarchy.mount_point.join("user.slice")).unwrap().ino();
        assert_eq!(hierarchy.at(Path::new("/user.slice")).unwrap().id, inode);
    }

    #[test]
    fn a_cgroup_is_within_itself_and_those_above_it() {
        assert!(is_within("/a/b", "/a"));
        assert!(is_within("/a", "/a") && is_within("/a", "/") && is_within("/", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/", "/a"));
    }

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let mounts = "25 30 0:22 /sub /mnt rw - cgroup2 none rw\n\
                      26 30 0:23 / /sys/fs/cgroup/cpu rw - cgroup none rw,cpu\n\
                      27 30 0:22 / /sys/fs/cgroup/unified rw,nosuid shared:4 - cgroup2 none rw\n";
        assert_eq!(mount_point(mounts), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount_point("26 30 0:23 / /x rw - cgroup none rw"), None);
        assert_eq!(path_in("9:name=systemd:/\n0::/user.slice\n"), Some("/user.slice"));
        assert_eq!(path_in("9:name=systemd:/\n"), None);
    }

    #[test]
    fn the_path_of_an_id_is_found_again_on_this_host() {
        // Root without CAP_DAC_READ_SEARCH, and hosts without the hierarchy, have nothing to ask.
        let Ok(mut hierarchy) = Hierarchy::find() else { return };
        let root = hierarchy.at(Path::new("/")).unwrap();
        if hierarchy.open_by_id(root.id).is_ok() {
            assert_eq!(hierarchy.path_of(root.id).as_deref(), Some("/"));
        }
        assert_eq!(hierarchy.path_of(u64::MAX), None);
    }
}
