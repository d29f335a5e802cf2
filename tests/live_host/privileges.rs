//! Recording with few privileges, and giving up those that are not needed.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use agentsight::capture::capability::Capabilities;
use agentsight::event::Direction;

use super::host::{Host, live, until};
use super::noise::{Sink, noise, system_libssl};
use super::recorder::{Recording, Running, recorder};
use super::rows::Rows;

/// A user that every Debian has and that has nothing.
const NOBODY: u32 = 65_534;

/// The recorder's own rule, kept apart from it: what it may still have while it records.
fn allowed() -> Capabilities {
    Capabilities::to_trace()
        .and(Capabilities::to_look())
        .and(Capabilities::CHECKPOINT_RESTORE)
        .and(Capabilities::SYS_ADMIN)
}

/// Effective capabilities and `NoNewPrivs` of every thread of a process.
fn threads(pid: u32) -> Vec<(Capabilities, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| {
        let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let mask = u64::from_str_radix(field("CapEff:")?, 16).ok()?;
        Some((Capabilities(mask), field("NoNewPrivs:")?.to_owned()))
    };
    tasks.filter_map(of_task).collect()
}

/// Waits until no thread has more; the one that starts the command ends when that has started.
#[track_caller]
fn has_given_up(pid: u32, allowed: Capabilities) {
    until(&format!("no more than {:#x} and nothing new in every thread", allowed.0), || {
        let threads = threads(pid);
        let limited = |(effective, no_new_privileges): &(Capabilities, String)| {
            allowed.has(*effective) && no_new_privileges == "1"
        };
        threads.len() >= 3 && threads.iter().all(limited)
    });
}

/// Has a client use a TLS library that the recorder has to find and attach to by then.
fn unseen_client(host: &Host, sink: &Sink) -> u64 {
    let library = host.path("libssl.so.3");
    std::fs::copy(system_libssl(), &library).unwrap();
    let mut command = noise(host, sink);
    command.env("LD_LIBRARY_PATH", library.parent().unwrap());
    let mut client = Running::start(&mut command);
    // The last look that finds it early enough is one of the first second.
    std::thread::sleep(std::time::Duration::from_secs(1));
    client.stdin().write_all(b"go\n").unwrap();
    client.end().succeeded().stdout.trim().parse().unwrap()
}

#[test]
fn root_keeps_what_later_binaries_need_and_nothing_else() {
    live(|host| {
        let sink = Sink::start(host);
        let output = host.path("run.parquet");
        let mut recording = Recording::start(&output, &["-c", "noise.py"]);
        has_given_up(recording.running().pid(), allowed());
        let sent = unseen_client(host, &sink);
        let rows = Rows::read(&recording.stop());
        assert_eq!(rows.moved(Direction::Write).0 + rows.lost_bytes("tls_data"), sent);
    });
}

#[test]
fn a_user_with_capabilities_records_and_the_command_gets_none_of_them() {
    live(|host| {
        let output = host.path("run.parquet");
        let show = "grep -E '^(CapEff|CapPrm|CapAmb|NoNewPrivs|Uid)' /proc/self/status; sleep 1";
        let mut command = unprivileged(host, &output, "+sys_admin");
        let mut running = Running::start(command.args(["--", "sh", "-c", show]));
        running.says("recording to");
        has_given_up(running.pid(), allowed().and(Capabilities::KILL));
        let ended = running.end().succeeded();
        let none = format!("{:016x}", 0);
        for line in [&format!("CapEff:\t{none}"), &format!("CapAmb:\t{none}"), "NoNewPrivs:\t0"] {
            assert!(ended.stdout.contains(line), "{}", ended.stdout);
        }
        assert!(ended.stdout.contains(&format!("Uid:\t{NOBODY}")), "{}", ended.stdout);
        assert_eq!(std::fs::metadata(&output).unwrap().uid(), NOBODY);
        let rows = Rows::read(&output);
        assert!(rows.images().any(|(_, image)| image.argv[0] == "grep"));
    });
}

/// The recorder as a user who has the capabilities that recording always needs, and `more`.
fn unprivileged(host: &Host, output: &Path, more: &str) -> Command {
    // Users cannot reach the directory of the build.
    let program = host.path("agentsight-rec");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_agentsight-rec"), &program).unwrap();
    }
    let capabilities = format!("+bpf,+perfmon,+sys_ptrace,+dac_read_search,{more}");
    let capabilities = capabilities.trim_end_matches(',');
    let user = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command.args(["--inh-caps", capabilities, "--ambient-caps", capabilities]);
    command.arg(program).arg("-o").arg(output).current_dir(host.path(""));
    command
}

#[test]
fn what_is_missing_is_said_with_the_command_that_gives_it() {
    live(|host| {
        let output = host.path("run.parquet");
        let refused = |command: &mut Command, words: &[&str]| {
            let ended = Running::start(command.args(["-c", "nothing", "--duration", "1s"])).end();
            // Where the kernel asks for less, there is nothing to complain of.
            if ended.status.success() && words.contains(&"CAP_SYS_ADMIN") {
                return;
            }
            assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
            for word in words {
                assert!(ended.stderr.contains(word), "{word} in {}", ended.stderr);
            }
            assert!(!output.exists());
        };
        let setcap = "sudo setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search";
        refused(&mut unprivileged(host, &output, ""), &["CAP_SYS_ADMIN", setcap]);
        let mut without = Command::new("setpriv");
        without.args(["--reuid", "65534", "--clear-groups"]);
        without.arg(host.path("agentsight-rec")).arg("-o").arg(&output);
        refused(&mut without, &["missing CAP_BPF and CAP_PERFMON", setcap]);
        let unshared = |flags: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(flags).arg(host.path("agentsight-rec")).arg("-o").arg(&output);
            command
        };
        refused(&mut unshared(&["-U", "-r"]), &["user namespace", "hint: run it on the host"]);
        let container = ["-p", "-f", "--mount-proc"];
        refused(&mut unshared(&container), &["container", "--pid=host --privileged"]);
    });
}

#[test]
fn under_sudo_files_of_a_long_recording_are_the_users() {
    live(|host| {
        let output = host.path("run.parquet");
        let mut command = recorder(&output);
        command.env("SUDO_UID", NOBODY.to_string()).env("SUDO_GID", NOBODY.to_string());
        command.args(["--rotate-time", "1s", "--", "sh", "-c", "sleep 2.5; id -u"]);
        let mut running = Running::start(&mut command);
        running.says("recording to");
        has_given_up(running.pid(), allowed().and(Capabilities::KILL));
        running.signal("USR1");
        let ended = running.end().succeeded();
        assert_eq!(ended.stdout.trim(), NOBODY.to_string());
        let files = std::fs::read_dir(host.path("")).unwrap().map(|file| file.unwrap());
        let owners: Vec<(String, u32)> = files
            .filter(|file| file.file_name().to_string_lossy().ends_with(".parquet"))
            .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().uid()))
            .collect();
        assert!(owners.len() >= 3, "{owners:?}");
        assert!(owners.iter().all(|(_, uid)| *uid == NOBODY), "{owners:?}");
    });
}
