//! Records about channels and paths in the words of events.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::capture::abi::{self, ChannelEvent, PathEvent, TlsSocketEvent};
use crate::event::{
    Channel, ChannelType, Confidence, OpenOperation, PathOperation, Role, Source, TlsSocket,
};

/// Flags of open(2) that are worth a word, by their values on this architecture. Access modes are
/// no flags and come first.
const OPEN_FLAGS: &[(i32, &str)] = &[
    (libc::O_CREAT, "O_CREAT"),
    (libc::O_EXCL, "O_EXCL"),
    (libc::O_TRUNC, "O_TRUNC"),
    (libc::O_APPEND, "O_APPEND"),
    (libc::O_DIRECTORY, "O_DIRECTORY"),
    (libc::O_NOFOLLOW, "O_NOFOLLOW"),
    (libc::O_CLOEXEC, "O_CLOEXEC"),
    (libc::O_PATH, "O_PATH"),
];

/// Where the bytes of a data record of this kind were observed.
pub(super) fn source(kind: u32) -> Source {
    match kind {
        abi::EVENT_SOCKET_DATA => Source::Socket,
        abi::EVENT_STDIO_DATA => Source::Stdio,
        abi::EVENT_TLS_HELLO => Source::TlsHello,
        abi::EVENT_DNS_DATA => Source::Dns,
        _ => Source::Tls,
    }
}

/// A channel by its number.
pub(super) fn channel(event: &ChannelEvent, conn_id: u64) -> Channel {
    let (channel_type, local_addr, remote_addr) = match event.channel_type {
        abi::CHANNEL_PIPE => {
            let pipe = format!("pipe:[{}]", event.inode);
            (ChannelType::Pipe, Some(pipe.clone()), Some(pipe))
        }
        abi::CHANNEL_UNIX => {
            let local = format!("unix:[{}]", event.inode);
            let peer = (event.peer_inode != 0).then(|| format!("unix:[{}]", event.peer_inode));
            (ChannelType::Unix, Some(local), unix_path(event).or(peer))
        }
        abi::CHANNEL_UDP => (ChannelType::Udp, local(event), remote(event)),
        _ => (ChannelType::Tcp, local(event), remote(event)),
    };
    Channel {
        conn_id,
        channel_type,
        role: match event.role {
            abi::ROLE_CONNECT => Role::Connect,
            abi::ROLE_ACCEPT => Role::Accept,
            _ => Role::Inherited,
        },
        fd: event.fd,
        local_addr,
        remote_addr,
        errno: event.error.into(),
    }
}

fn unix_path(event: &ChannelEvent) -> Option<String> {
    let length = usize::try_from(event.path_bytes).unwrap_or(usize::MAX).min(event.path.len());
    match event.path.get(..length)? {
        [] => None,
        // unix(7): an abstract name begins with NUL, and every byte of it counts.
        [0, name @ ..] => Some(format!("@{}", String::from_utf8_lossy(name))),
        path => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            Some(String::from_utf8_lossy(&path[..end]).into_owned())
        }
    }
}

fn local(event: &ChannelEvent) -> Option<String> {
    internet(event, &event.local_address, event.local_port)
}

fn remote(event: &ChannelEvent) -> Option<String> {
    internet(event, &event.remote_address, event.remote_port)
}

/// An address with its port; `None` where there is neither. IPv4 in IPv6 is written as IPv4.
fn internet(event: &ChannelEvent, address: &[u8; abi::ADDRESS_BYTES], port: u16) -> Option<String> {
    if port == 0 && *address == [0; abi::ADDRESS_BYTES] {
        return None;
    }
    let address = if i32::from(event.family) == libc::AF_INET {
        let [a, b, c, d, ..] = *address;
        Ipv4Addr::new(a, b, c, d).into()
    } else {
        Ipv6Addr::from(*address).to_canonical()
    };
    Some(SocketAddr::new(address, port).to_string())
}

/// A link by the numbers of both.
pub(super) fn tls_socket(event: &TlsSocketEvent, conn_id: u64, socket_conn_id: u64) -> TlsSocket {
    let confidence = match event.confidence {
        abi::CONFIDENCE_CERTAIN => Confidence::Certain,
        _ => Confidence::Likely,
    };
    TlsSocket { conn_id, socket_conn_id, confidence }
}

/// What was done to a path; `None` where it was only opened.
pub(super) fn path_operation(event: &PathEvent) -> Option<PathOperation> {
    Some(match event.operation {
        abi::PATH_OPEN | abi::PATH_OPEN_FAILED => return None,
        abi::PATH_RENAME => PathOperation::Rename,
        abi::PATH_UNLINK => PathOperation::Unlink,
        abi::PATH_RMDIR => PathOperation::Rmdir,
        abi::PATH_MKDIR => PathOperation::Mkdir,
        abi::PATH_TRUNCATE => PathOperation::Truncate,
        abi::PATH_LINK => PathOperation::Link,
        _ => PathOperation::Symlink,
    })
}

/// How a file came to be used, and the flags of that.
pub(super) fn opened(event: &PathEvent) -> (OpenOperation, Option<String>) {
    let is = |flag: u32| event.flags & flag != 0;
    let own = abi::PATH_CREATED | abi::PATH_TRUNCATED | abi::PATH_DIRECTORY;
    let operation = if is(abi::PATH_CREATED) {
        OpenOperation::Create
    } else if is(abi::PATH_INHERITED) {
        OpenOperation::Inherited
    } else if is(abi::PATH_DIRECTORY) {
        OpenOperation::OpenDirectory
    } else {
        OpenOperation::Open
    };
    let flags = (operation != OpenOperation::Inherited)
        .then(|| open_flags((event.flags & !own).cast_signed()));
    (operation, flags)
}

fn open_flags(flags: i32) -> String {
    let access = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "O_RDONLY",
    };
    let set = OPEN_FLAGS.iter().filter(|(flag, _)| flags & flag == *flag).map(|(_, name)| *name);
    std::iter::once(access).chain(set).collect::<Vec<_>>().join("|")
}

/// A path from what the program gave and what that is relative to, without `.` and `..`: lexically,
/// so that a `..` behind a symbolic link goes where it is written and not where it leads.
pub(super) fn absolute(given: &[u8], base: &[u8], base_truncated: bool) -> Option<String> {
    let given = given.strip_suffix(&[0]).unwrap_or(given);
    let base = super::decoder::path(base, base_truncated);
    if given.is_empty() {
        return base;
    }
    let given = String::from_utf8_lossy(given);
    // The root directory has no components.
    let base = if given.starts_with('/') { String::new() } else { base.unwrap_or_default() };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(given.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let root = if base_truncated { "" } else { "/" };
    Some(format!("{root}{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(given: &str, base: &str) -> Option<String> {
        let mut components: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
        components.reverse();
        let base: Vec<u8> = components.iter().flat_map(|part| part.bytes().chain([0])).collect();
        absolute(format!("{given}\0").as_bytes(), &base, false)
    }

    #[test]
    fn relative_paths_are_made_absolute_as_they_are_written() {
        assert_eq!(joined("/etc/hosts", "").as_deref(), Some("/etc/hosts"));
        assert_eq!(joined("a/./b", "/home/u").as_deref(), Some("/home/u/a/b"));
        assert_eq!(joined("../x", "/home/u").as_deref(), Some("/home/x"));
        assert_eq!(joined("../../../x", "/home").as_deref(), Some("/x"));
        assert_eq!(joined("x", "/").as_deref(), Some("/x"));
        assert_eq!(absolute(b"", b"", false), None);
        assert_eq!(absolute(b"", b"u\0home\0", false).as_deref(), Some("/home/u"));
        assert_eq!(absolute(b"x\0", b"u\0", true).as_deref(), Some(".../u/x"));
    }

    #[test]
    fn flags_are_named() {
        assert_eq!(open_flags(libc::O_RDONLY), "O_RDONLY");
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
        assert_eq!(open_flags(flags), "O_WRONLY|O_CREAT|O_TRUNC");
    }
}
