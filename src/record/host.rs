//! Facts about this host and recording for the metadata.

use std::ffi::OsString;
use std::io;

use crate::time::ClockAnchor;
use crate::trace;

/// What is known about a recording when it starts.
///
/// # Errors
/// When the kernel gives no random recording id.
pub fn metadata(
    anchor: ClockAnchor,
    command_line: &[OsString],
    filters: Vec<String>,
) -> io::Result<trace::Metadata> {
    let recording_id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    Ok(trace::Metadata {
        recorder_version: env!("CARGO_PKG_VERSION").into(),
        recording_id,
        command_line: command_line.iter().map(|a| a.to_string_lossy().into_owned()).collect(),
        start_ts: anchor.wall,
        host: host(),
        clock_anchors: vec![anchor],
        filters,
        redaction: String::new(),
    })
}

fn host() -> trace::Host {
    let line = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    // The machine id is 128 random bits, so its hash tells nothing about the host, yet stays the
    // same for all its recordings (machine-id(5) asks to publish it only hashed).
    let identity = [line("/etc/machine-id"), line("/proc/sys/kernel/hostname")].concat();
    let pseudonym = |text: &str| format!("{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()));
    // 128 random bits as well, new at each boot.
    let boot = line("/proc/sys/kernel/random/boot_id");
    trace::Host {
        kernel: line("/proc/sys/kernel/osrelease"),
        arch: std::env::consts::ARCH.into(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |n| u32::try_from(n.get()).unwrap_or(0)),
        hostname: format!("host-{}", pseudonym(&identity)),
        boot_id: if boot.is_empty() { boot } else { format!("boot-{}", pseudonym(&boot)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::clock;

    #[test]
    fn the_hostname_is_a_pseudonym() {
        let metadata = metadata(clock::anchor(), &["rec".into()], vec![]).unwrap();
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert!(metadata.host.hostname.starts_with("host-"));
        assert!(!metadata.host.hostname.contains(hostname.trim()));
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(metadata.host.boot_id.starts_with("boot-"));
        assert!(!metadata.host.boot_id.contains(boot_id.trim()));
        assert_eq!(metadata.host.boot_id, host().boot_id);
        assert_eq!(metadata.recording_id.len(), 36);
        assert!(!metadata.host.kernel.is_empty() && metadata.host.cpus > 0);
    }
}
