//! On whose behalf the recorder runs: the user who typed `sudo`.
//!
//! The trace belongs to that user and a launched command runs as that user, with that user's
//! groups and home. Without sudo (a root shell, a container) there is nobody else, and root it is.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The invoking user, where it is not the user the recorder runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Login name.
    pub name: OsString,
    /// Home directory.
    pub home: PathBuf,
    /// All group ids, the primary one included.
    pub groups: Vec<u32>,
}

impl Owner {
    /// The user named by `SUDO_UID` and `SUDO_GID`, if the recorder runs as root under sudo for
    /// somebody else.
    ///
    /// # Errors
    /// When those variables name a user that the system does not know.
    pub fn from_sudo(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Option<Self>> {
        let number = |name: &str| variable(name)?.to_str()?.parse::<u32>().ok();
        let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID")) else {
            return Ok(None);
        };
        // SAFETY: geteuid has no arguments and cannot fail.
        #[expect(unsafe_code, reason = "libc call")]
        let euid = unsafe { libc::geteuid() };
        if euid != 0 || uid == 0 {
            return Ok(None);
        }
        let (name, home) = passwd(uid)?;
        let groups = groups(&name, gid)?;
        Ok(Some(Self { uid, gid, name, home, groups }))
    }

    /// Gives the file to this user.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn take(&self, file: &std::fs::File) -> io::Result<()> {
        std::os::unix::fs::fchown(file, Some(self.uid), Some(self.gid))
    }
}

/// Login name and home directory of a user id (`getpwuid_r(3)`).
fn passwd(uid: u32) -> io::Result<(OsString, PathBuf)> {
    let mut buffer = vec![0; 16 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: `passwd` is plain data for which all-zero is a valid value.
    #[expect(unsafe_code, reason = "libc call")]
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: all pointers are to live locals and the length is the buffer's.
    #[expect(unsafe_code, reason = "libc call")]
    let status = unsafe {
        libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    if found.is_null() {
        return Err(io::Error::other(format!("SUDO_UID is {uid}, but there is no such user")));
    }
    // SAFETY: on success both fields point at NUL-terminated strings inside `buffer`.
    #[expect(unsafe_code, reason = "libc call")]
    let text = |pointer| unsafe { std::ffi::CStr::from_ptr(pointer) };
    let name = OsStr::from_bytes(text(entry.pw_name).to_bytes()).to_owned();
    let home = Path::new(OsStr::from_bytes(text(entry.pw_dir).to_bytes())).to_owned();
    Ok((name, home))
}

/// The id of a user (`getpwnam_r(3)`); `None` when there is no such user.
///
/// # Errors
/// When the user database cannot be read.
pub fn uid_of(name: &OsStr) -> io::Result<Option<u32>> {
    let name = CString::new(name.as_bytes()).map_err(io::Error::other)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut found = std::ptr::null_mut();
    // SAFETY: `passwd` is plain data for which all-zero is a valid value.
    #[expect(unsafe_code, reason = "libc call")]
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    // SAFETY: all pointers are to live locals and the length is the buffer's.
    #[expect(unsafe_code, reason = "libc call")]
    let status = unsafe {
        libc::getpwnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match status {
        0 => Ok((!found.is_null()).then_some(entry.pw_uid)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// All groups of a user (`getgrouplist(3)`).
fn groups(name: &OsStr, gid: u32) -> io::Result<Vec<u32>> {
    let name = CString::new(name.as_bytes()).map_err(io::Error::other)?;
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: `count` is the capacity of `groups`; the call writes at most that many.
        #[expect(unsafe_code, reason = "libc call")]
        let status =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if status >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if count <= groups.len() {
            return Err(io::Error::other("the group list of the invoking user is not readable"));
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_sudo_there_is_no_other_owner() {
        assert_eq!(Owner::from_sudo(|_| None).unwrap(), None);
        let root = |name: &str| name.starts_with("SUDO_").then(|| OsString::from("0"));
        assert_eq!(Owner::from_sudo(root).unwrap(), None);
    }

    #[test]
    fn root_is_known_to_every_system() {
        let (name, home) = passwd(0).unwrap();
        assert_eq!(name, "root");
        assert!(home.is_absolute());
        assert!(groups(&name, 0).unwrap().contains(&0));
        assert_eq!(uid_of(&name).unwrap(), Some(0));
        assert_eq!(uid_of(OsStr::new("no such user")).unwrap(), None);
    }

    #[test]
    fn an_unknown_user_is_an_error_that_names_the_variable() {
        let error = passwd(4_294_967_000).unwrap_err().to_string();
        assert!(error.contains("SUDO_UID"), "{error}");
    }
}
