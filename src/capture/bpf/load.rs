//! Opening, configuring and loading the skeleton for the kernel at hand, by probing what it has.

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Iter, MapCore, MapFlags, MapInfo, ProgramType};

use super::settings;
use super::skeleton::{AgentsightSkel, AgentsightSkelBuilder, OpenAgentsightSkel};
use super::{Error, Options};
use crate::capture::abi;
use crate::capture::clock;
use crate::capture::matching::INTERPRETERS;
use crate::capture::scope::Users;

/// What the kernel offers beyond the minimum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    /// Programs can tell through which probe they were called (5.15).
    pub(super) attach_cookie: bool,
    /// Records can have the size of what they hold (6.16).
    pub(super) exact_size: bool,
    /// Programs can be told of the end of system calls (CONFIG_FTRACE_SYSCALLS).
    pub(super) system_calls: bool,
}

impl Features {
    fn probe(options: &Options) -> Self {
        let wanted = !options.force_compat;
        Self {
            attach_cookie: wanted && attach_cookie_exists(),
            exact_size: wanted && kernel_has_function("bpf_probe_read_user_dynptr"),
            system_calls: kernel_has_tracepoint("sys_exit"),
        }
    }
}

/// Loads the programs, nothing attached yet, and tells them which names to look for.
pub(super) fn load(options: &Options) -> Result<(AgentsightSkel<'static>, Features), Error> {
    check_ring(options.payload_ring_bytes)?;
    check_ring(options.control_ring_bytes)?;
    check_ring(options.io_ring_bytes)?;
    let names = options.names.iter().map(|name| name_key(name)).collect::<Result<Vec<_>, _>>()?;
    let (users, restrict) = match &options.users {
        Users::Any => (&[][..], 0),
        Users::All(uids) => (&uids[..], abi::SELECT_UID),
        Users::Only(uids) => (&uids[..], abi::SELECT_ONLY_UID),
    };
    set_printing(options.debug);

    let features = Features::probe(options);
    let by_cgroup = if options.cgroups.is_empty() { 0 } else { abi::SELECT_CGROUP };
    let mut skel = load_skeleton(options, features, restrict | by_cgroup)?;
    find_per_cpu_areas(&mut skel);
    for name in INTERPRETERS {
        put_name(&skel, &name_key(name)?, abi::NAME_INTERPRETER)?;
        put_name(&skel, &name_key(&format!("{name}.exe"))?, abi::NAME_INTERPRETER)?;
    }
    for uid in users {
        put(&skel.maps.wanted_uids, "wanted_uids", &uid.to_ne_bytes(), 1)?;
    }
    for id in &options.cgroups {
        put(&skel.maps.wanted_cgroups, "wanted_cgroups", &id.to_ne_bytes(), 1)?;
    }
    for (name, key) in options.names.iter().zip(&names) {
        let name = name.strip_suffix(".exe").unwrap_or(name);
        let interpreter = INTERPRETERS.contains(&name);
        let flags = abi::NAME_WANTED | if interpreter { abi::NAME_INTERPRETER } else { 0 };
        put_name(&skel, key, flags)?;
    }
    Ok((skel, features))
}

/// How often loading is tried again when a signal interrupted the verifier, which it answers with
/// EAGAIN. libbpf tries five times for each program by itself.
const LOAD_RETRIES: u32 = 3;

fn load_skeleton(
    options: &Options,
    features: Features,
    selectors: u32,
) -> Result<AgentsightSkel<'static>, Error> {
    let mut retries = LOAD_RETRIES;
    loop {
        match open_skeleton(options, features, selectors)?.load() {
            Ok(skel) => return Ok(skel),
            Err(error) if retries > 0 && error.kind() == libbpf_rs::ErrorKind::WouldBlock => {
                retries -= 1;
            }
            Err(error) => return Err(Error::from_load(error)),
        }
    }
}

fn open_skeleton(
    options: &Options,
    features: Features,
    selectors: u32,
) -> Result<OpenAgentsightSkel<'static>, Error> {
    // The skeleton borrows the slot it is opened into. A pointer's worth of memory is given up for
    // each capture instead of making `Capture` refer to itself.
    let slot = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = AgentsightSkelBuilder::default().open(slot).map_err(Error::from_load)?;
    let rodata = open.maps.rodata_data.as_mut().expect("the object has read-only settings");
    rodata.payload_wakeup_bytes = u64::from(options.payload_ring_bytes / 4);
    rodata.control_wakeup_bytes = u64::from(options.control_ring_bytes / 4);
    rodata.has_attach_cookie = u8::from(features.attach_cookie);
    rodata.force_compat = u8::from(options.force_compat);
    rodata.selectors = selectors;
    rodata.decides_later = u8::from(!options.command_lines.is_empty());
    rodata.possible_cpus = libbpf_rs::num_possible_cpus().map_err(Error::from_load)? as u32;
    settings::fill(&mut open, options);
    // Absent without CONFIG_FTRACE_SYSCALLS, and on kernels whose program would be refused: then
    // files, sockets and pipes are missed, and nothing else.
    open.progs.handle_syscall_exit.set_autoload(features.system_calls);
    open.maps
        .payload_ring
        .set_max_entries(options.payload_ring_bytes)
        .and_then(|()| open.maps.control_ring.set_max_entries(options.control_ring_bytes))
        .and_then(|()| open.maps.io_ring.set_max_entries(options.io_ring_bytes))
        .and_then(|()| open.maps.tracked.set_max_entries(options.tracked_processes))
        .map_err(Error::from_load)?;
    Ok(open)
}

/// Lets the programs find the per-CPU parts of memory counters. Without them, resident set sizes
/// are only as exact as the kernel's own getrusage(2), so a failure is not worth stopping for.
fn find_per_cpu_areas(skel: &mut AgentsightSkel<'_>) {
    let Ok(info) = MapInfo::new(skel.maps.ledger.as_fd()) else { return };
    let Some(bss) = skel.maps.bss_data.as_mut() else { return };
    bss.area_map_id = info.info.id;
    let iterator = skel.progs.find_per_cpu_areas.attach().and_then(|link| Iter::new(&link));
    if let Ok(mut iterator) = iterator {
        // It prints nothing: reading runs it.
        let _ = iterator.read_to_end(&mut Vec::new());
    }
}

fn check_ring(bytes: u32) -> Result<(), Error> {
    if bytes.is_power_of_two() && u64::from(bytes) >= clock::page_bytes() {
        Ok(())
    } else {
        Err(Error::RingSize { bytes })
    }
}

fn name_key(name: &str) -> Result<[u8; abi::NAME_BYTES], Error> {
    let limit = abi::NAME_BYTES - 1;
    if name.len() > limit {
        return Err(Error::NameTooLong { name: name.to_owned(), limit });
    }
    let mut key = [0; abi::NAME_BYTES];
    key[..name.len()].copy_from_slice(name.as_bytes());
    Ok(key)
}

fn put_name(skel: &AgentsightSkel<'_>, key: &[u8], flags: u32) -> Result<(), Error> {
    put(&skel.maps.wanted_names, "wanted_names", key, flags)
}

fn put(map: &impl MapCore, name: &'static str, key: &[u8], value: u32) -> Result<(), Error> {
    let put = map.update(key, &value.to_ne_bytes(), MapFlags::ANY);
    put.map_err(|source| Error::Map { map: name, source })
}

fn attach_cookie_exists() -> bool {
    ProgramType::Kprobe
        .is_helper_supported(libbpf_rs::libbpf_sys::BPF_FUNC_get_attach_cookie)
        .unwrap_or(false)
}

/// BTF names the type of a tracepoint's programs after it.
fn kernel_has_tracepoint(name: &str) -> bool {
    let name = format!("btf_trace_{name}");
    libbpf_rs::btf::Btf::from_vmlinux()
        .is_ok_and(|btf| btf.type_by_name::<libbpf_rs::btf::types::Typedef<'_>>(&name).is_some())
}

fn kernel_has_function(name: &str) -> bool {
    libbpf_rs::btf::Btf::from_vmlinux()
        .is_ok_and(|btf| btf.type_by_name::<libbpf_rs::btf::types::Func<'_>>(name).is_some())
}

/// libbpf prints to stderr by itself, also where a failure is expected.
fn set_printing(debug: bool) {
    #[expect(clippy::print_stderr, reason = "asked for")]
    fn print(_: libbpf_rs::PrintLevel, message: String) {
        eprint!("{message}");
    }
    libbpf_rs::set_print(debug.then_some((libbpf_rs::PrintLevel::Debug, print)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_never_match_is_refused() {
        let longest = "n".repeat(abi::NAME_BYTES - 1);
        let key = name_key(&longest).expect("fits with its NUL");
        assert_eq!(key[abi::NAME_BYTES - 1], 0);
        let refused = name_key(&format!("{longest}n"));
        assert!(matches!(refused, Err(Error::NameTooLong { limit: 63, .. })));
    }

    #[test]
    fn interpreters_fit_and_have_no_version_of_their_own() {
        for name in INTERPRETERS {
            name_key(name).expect("fits");
            assert!(name.ends_with(|last: char| last.is_ascii_alphabetic()), "{name}");
        }
    }

    #[test]
    fn rings_the_kernel_would_refuse_are_refused_with_the_reason() {
        for bytes in [0, 1024, 3 << 20] {
            assert!(matches!(check_ring(bytes), Err(Error::RingSize { .. })), "{bytes}");
        }
        check_ring(16 << 20).expect("a power of two");
    }
}
