//! Which files a process has mapped as code, and where the recorder finds them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::DELETED_MARK;

/// Most bytes of `/proc/PID/maps` read: JIT compilers make tens of thousands of lines.
const MAX_MAPS_BYTES: u64 = 64 << 20;
/// Most different files kept for one process.
const MAX_FILES: usize = 4096;
/// Longest line: two addresses, numbers and a path of `PATH_MAX` with every byte escaped.
const MAX_LINE_BYTES: u64 = 4 * 4096 + 256;

/// A file that a process has mapped as code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappedFile {
    /// Its path as the process sees it, lossily decoded.
    pub path: String,
    /// Major and minor number of its file system. Not always what `stat(2)` says of the same file:
    /// overlayfs and btrfs differ.
    pub device: (u32, u32),
    /// Inode number on that file system.
    pub inode: u64,
    /// Whether its name is gone, as after an update while it runs.
    pub deleted: bool,
    /// Where the recorder itself opens it: through the process's root directory, so that other
    /// mount namespaces work, or through the mapping where the name is gone.
    pub tracer_path: PathBuf,
}

/// The files mapped as code by the process whose `/proc` directory is given, each once, in the
/// order of their addresses.
///
/// # Errors
/// When the process is gone or may not be read.
pub fn mapped_files(process: &Path) -> io::Result<Vec<MappedFile>> {
    let maps = BufReader::new(File::open(process.join("maps"))?.take(MAX_MAPS_BYTES));
    parse(process, maps)
}

fn parse(process: &Path, mut maps: impl BufRead) -> io::Result<Vec<MappedFile>> {
    let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
    let mut line = Vec::new();
    while files.len() < MAX_FILES {
        line.clear();
        if maps.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(file) = parse_line(process, &line)
            && seen.insert((file.device, file.inode))
        {
            files.push(file);
        }
    }
    Ok(files)
}

/// `55d0c000-55d0d000 r-xp 00001000 fd:01 1234   /path with spaces`
fn parse_line(process: &Path, line: &[u8]) -> Option<MappedFile> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut fields = line.splitn(6, |&byte| byte == b' ');
    let mut field = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let (addresses, permissions) = (field()?, field()?);
    let (_offset, device, inode) = (field()?, field()?, field()?.parse().ok()?);
    let path = fields.next()?.trim_ascii_start();
    if permissions.as_bytes().get(2) != Some(&b'x') || inode == 0 || path.first() != Some(&b'/') {
        return None;
    }
    let (major, minor) = device.split_once(':')?;
    let device = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let path = unescape(path);
    let named = path.strip_suffix(DELETED_MARK.as_bytes());
    let tracer_path = match named {
        Some(_) => process.join("map_files").join(canonical_range(addresses)?),
        None => in_root(process, &path),
    };
    let deleted = named.is_some();
    let path = String::from_utf8_lossy(named.unwrap_or(&path)).into_owned();
    Some(MappedFile { path, device, inode, deleted, tracer_path })
}

/// The name of a mapping in `map_files`, which has no leading zeros where `maps` may have some.
fn canonical_range(addresses: &str) -> Option<String> {
    let (start, end) = addresses.split_once('-')?;
    let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    Some(format!("{start:x}-{end:x}"))
}

fn in_root(process: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let inside = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    process.join("root").join(std::ffi::OsStr::from_bytes(&path[inside..]))
}

/// The kernel writes a line feed in a path as `\012` and nothing else specially.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memmem::find(rest, br"\012") {
        plain.extend(&rest[..at]);
        plain.push(b'\n');
        rest = &rest[at + 4..];
    }
    plain.extend(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse_text(text: &str) -> Vec<MappedFile> {
        parse(Path::new("/proc/7"), text.as_bytes()).unwrap()
    }

    #[test]
    fn code_of_files_is_kept_once_and_everything_else_left_out() {
        let files = parse_text(
            "00400000-00401000 r--p 00000000 fd:01 11 /bin/a b\n\
             00401000-00402000 r-xp 00001000 fd:01 11 /bin/a b\n\
             00402000-00403000 r-xp 00005000 fd:01 11 /bin/a b\n\
             00500000-00501000 r-xp 00000000 fd:01 12      /lib/libssl.so.3 (deleted)\n\
             00600000-00601000 rwxp 00000000 00:00 0 \n\
             00700000-00701000 r-xp 00000000 00:00 0 [vdso]\n\
             00800000-00801000 rw-p 00000000 fd:01 13 /lib/data\n\
             00900000-00901000 r-xp 00000000 00:1f 14 /line\\012feed\n",
        );
        let paths: Vec<_> = files.iter().map(|file| (&*file.path, file.deleted)).collect();
        assert_eq!(
            paths,
            [("/bin/a b", false), ("/lib/libssl.so.3", true), ("/line\nfeed", false)]
        );
        assert_eq!(files[0].tracer_path, Path::new("/proc/7/root/bin/a b"));
        assert_eq!(files[1].tracer_path, Path::new("/proc/7/map_files/500000-501000"));
        assert_eq!((files[2].device, files[2].inode), ((0, 0x1f), 14));
    }

    #[test]
    fn the_executable_of_this_process_is_found_and_can_be_opened() {
        let exe = std::env::current_exe().unwrap();
        let files = mapped_files(Path::new("/proc/self")).unwrap();
        let file = files.iter().find(|file| Path::new(&file.path) == exe).unwrap();
        assert!(!file.deleted);
        assert!(File::open(&file.tracer_path).is_ok());
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(mapped_files(Path::new("/no/such/process")).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let files = parse(Path::new("/proc/7"), &text[..]).unwrap();
            prop_assert!(files.len() <= text.len());
        }
    }
}
