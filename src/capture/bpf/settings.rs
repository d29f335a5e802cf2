//! What the programs are told before they are loaded: which system calls mean what on this
//! architecture, and what is to be watched. Mirrors `bpf/settings.h`.

use super::Options;
use super::skeleton::OpenAgentsightSkel;
use crate::capture::bpf::WatchIo;

macro_rules! settings {
    ($($name:ident = $value:expr;)*) => {
        $(const $name: u32 = $value;)*

        /// Every setting by its name in `settings.h`.
        #[cfg(test)]
        const SETTINGS: &[(&str, u64)] = &[$((stringify!($name), $value as u64)),*];
    };
}

settings! {
    WATCH_FILES = 1;
    WATCH_CHANNELS = 2;
    WATCH_STDIO = 4;
    WATCH_ALL_DESCRIPTORS = 8;
    SYSCALL_NUMBERS = 512;
    ACTION_NONE = 0;
    ACTION_READ = 1;
    ACTION_WRITE = 2;
    ACTION_READ_VECTOR = 3;
    ACTION_WRITE_VECTOR = 4;
    ACTION_RECEIVE_MESSAGE = 5;
    ACTION_SEND_MESSAGE = 6;
    ACTION_RECEIVE_MESSAGES = 7;
    ACTION_SEND_MESSAGES = 8;
    ACTION_SENDFILE = 9;
    ACTION_SPLICE = 10;
    ACTION_OPEN = 11;
    ACTION_OPENAT = 12;
    ACTION_CLOSE = 13;
    ACTION_CONNECT = 14;
    ACTION_ACCEPT = 15;
    ACTION_UNLINK = 16;
    ACTION_RMDIR = 17;
    ACTION_MKDIR = 18;
    ACTION_TRUNCATE = 19;
    ACTION_RENAME = 20;
    ACTION_LINK = 21;
    ACTION_SYMLINK = 22;
    ACTION_UNLINKAT = 23;
    ACTION_MKDIRAT = 24;
    ACTION_RENAMEAT = 25;
    ACTION_LINKAT = 26;
    ACTION_SYMLINKAT = 27;
    ACTION_FTRUNCATE = 28;
    ACTION_IO_URING = 29;
    ACTION_CREAT = 30;
    ACTION_OPENAT2 = 31;
}

/// Calls that exist on every architecture, by what they do.
const CALLS: &[(libc::c_long, u32)] = &[
    (libc::SYS_read, ACTION_READ),
    (libc::SYS_pread64, ACTION_READ),
    (libc::SYS_recvfrom, ACTION_READ),
    (libc::SYS_write, ACTION_WRITE),
    (libc::SYS_pwrite64, ACTION_WRITE),
    (libc::SYS_sendto, ACTION_WRITE),
    (libc::SYS_readv, ACTION_READ_VECTOR),
    (libc::SYS_preadv, ACTION_READ_VECTOR),
    (libc::SYS_preadv2, ACTION_READ_VECTOR),
    (libc::SYS_writev, ACTION_WRITE_VECTOR),
    (libc::SYS_pwritev, ACTION_WRITE_VECTOR),
    (libc::SYS_pwritev2, ACTION_WRITE_VECTOR),
    (libc::SYS_recvmsg, ACTION_RECEIVE_MESSAGE),
    (libc::SYS_sendmsg, ACTION_SEND_MESSAGE),
    (libc::SYS_recvmmsg, ACTION_RECEIVE_MESSAGES),
    (libc::SYS_sendmmsg, ACTION_SEND_MESSAGES),
    (libc::SYS_sendfile, ACTION_SENDFILE),
    (libc::SYS_splice, ACTION_SPLICE),
    // The same order of arguments: from, offset, to.
    (libc::SYS_copy_file_range, ACTION_SPLICE),
    (libc::SYS_openat, ACTION_OPENAT),
    (libc::SYS_openat2, ACTION_OPENAT2),
    (libc::SYS_close, ACTION_CLOSE),
    (libc::SYS_connect, ACTION_CONNECT),
    (libc::SYS_accept, ACTION_ACCEPT),
    (libc::SYS_accept4, ACTION_ACCEPT),
    (libc::SYS_truncate, ACTION_TRUNCATE),
    (libc::SYS_ftruncate, ACTION_FTRUNCATE),
    (libc::SYS_unlinkat, ACTION_UNLINKAT),
    (libc::SYS_mkdirat, ACTION_MKDIRAT),
    (libc::SYS_renameat2, ACTION_RENAMEAT),
    (libc::SYS_linkat, ACTION_LINKAT),
    (libc::SYS_symlinkat, ACTION_SYMLINKAT),
    (libc::SYS_io_uring_enter, ACTION_IO_URING),
];

/// Calls that newer architectures have done without.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[(libc::c_long, u32)] = &[
    (libc::SYS_open, ACTION_OPEN),
    (libc::SYS_creat, ACTION_CREAT),
    (libc::SYS_unlink, ACTION_UNLINK),
    (libc::SYS_rmdir, ACTION_RMDIR),
    (libc::SYS_mkdir, ACTION_MKDIR),
    (libc::SYS_rename, ACTION_RENAME),
    (libc::SYS_renameat, ACTION_RENAMEAT),
    (libc::SYS_link, ACTION_LINK),
    (libc::SYS_symlink, ACTION_SYMLINK),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[(libc::c_long, u32)] = &[(libc::SYS_renameat, ACTION_RENAMEAT)];

/// What each system call does, by its number.
fn actions() -> [u8; SYSCALL_NUMBERS as usize] {
    let mut actions = [ACTION_NONE as u8; SYSCALL_NUMBERS as usize];
    for &(number, action) in CALLS.iter().chain(OLDER_CALLS) {
        if let Some(slot) = usize::try_from(number).ok().and_then(|at| actions.get_mut(at)) {
            *slot = action as u8;
        }
    }
    actions
}

/// The bits of what is watched.
fn watched(io: &WatchIo) -> u32 {
    let bits = [
        (io.files, WATCH_FILES),
        (io.channels, WATCH_CHANNELS),
        (io.stdio, WATCH_STDIO),
        (io.stdio_all_descriptors, WATCH_ALL_DESCRIPTORS),
    ];
    bits.iter().filter(|(on, _)| *on).fold(0, |sum, (_, bit)| sum | bit)
}

/// Fills in what concerns files, sockets and pipes.
pub(super) fn fill(open: &mut OpenAgentsightSkel<'_>, options: &Options) {
    let rodata = open.maps.rodata_data.as_mut().expect("the object has read-only settings");
    rodata.syscall_actions = actions();
    rodata.watched = watched(&options.io);
    rodata.io_wakeup_bytes = u64::from(options.io_ring_bytes / 4);
    rodata.stdio_call_bytes = options.io.stdio_max_bytes.unwrap_or(u64::MAX);
    rodata.stdio_any_user = u8::from(options.io.stdio_uid.is_none());
    rodata.stdio_uid = options.io.stdio_uid.unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::abi::assert_mirrors;

    #[test]
    fn every_setting_of_the_header_is_mirrored_with_its_value() {
        assert_mirrors(SETTINGS, include_str!("../../../bpf/settings.h"));
    }

    #[test]
    fn every_call_has_one_meaning() {
        let mut numbers: Vec<_> = CALLS.iter().chain(OLDER_CALLS).map(|(call, _)| *call).collect();
        numbers.sort_unstable();
        let all = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        assert!(numbers.iter().all(|number| *number < SYSCALL_NUMBERS.into()));
    }
}
