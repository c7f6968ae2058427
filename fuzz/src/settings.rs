//! Limits, and what is read of the host itself.

use highwater_agent::kernel::{accounts, identity, kconfig, limits, logind, surroundings, zone};
use highwater_ipc::text::HostText;

use super::named;

/// Every parser of a setting, on the same bytes.
pub fn settings(data: &[u8]) {
    numbers::<1>(data);
    numbers::<4>(data);
    let _ = kconfig::finding(data);
    for limit in [0, 3, 1000] {
        let names = accounts::parse(data, limit);
        assert!(names.len() <= limit);
        for name in names.values() {
            named(name);
            assert!(!name.as_bytes().iter().any(|byte| matches!(byte, b':' | b'\n')));
        }
    }
    for name in [zone::name_in(data), zone::parse_timezone(data), zone::parse_footer(data)].into_iter().flatten() {
        named(&name);
        assert!(name.as_bytes().iter().all(u8::is_ascii_graphic), "a zone's name is plain");
    }
    host(data);
    around(data);
}

fn numbers<const N: usize>(data: &[u8]) {
    match limits::parse::<N>("/proc/sys/kernel/sem", data) {
        Ok(numbers) => {
            let printed: String = numbers.iter().map(|number| format!("{number}\t")).collect();
            assert_eq!(limits::parse::<N>("/proc/sys/kernel/sem", printed.as_bytes()), Ok(numbers));
        }
        Err(error) => assert!(error.to_string().len() < 2048, "an error stays short"),
    }
}

fn host(data: &[u8]) {
    if let Some(id) = identity::parse_boot_id(data) {
        assert_eq!(identity::parse_boot_id(id.to_string().as_bytes()), Some(id));
    }
    if let Some(name) = identity::parse_pretty_name(data) {
        assert!(name.as_bytes().len() <= HostText::MAX && !name.as_bytes().contains(&b'\n'));
    }
    let _ = identity::parse_release(data);
    let commented: Vec<u8> = data.split(|byte| *byte == b'\n').flat_map(|line| [b"#", line, b"\n"].concat()).collect();
    assert_eq!(logind::parse(&commented), None, "a comment sets nothing");
    let _ = (logind::parse(data), logind::shipped_default(data), logind::parse_sys_uid_max(data));
}

fn around(data: &[u8]) {
    for name in [&b"Seccomp:"[..], b"TracerPid:"] {
        let _ = surroundings::parse_number(data, name);
    }
    if let Some(capabilities) = surroundings::parse_capabilities(data) {
        let line = format!("CapEff:\t{capabilities:016x}\n");
        assert_eq!(surroundings::parse_capabilities(line.as_bytes()), Some(capabilities));
    }
    if let Some(kind) = surroundings::parse_mask(data) {
        assert!(kind.as_bytes().len() <= HostText::MAX && !kind.as_bytes().contains(&b' '));
    }
    if let Some(name) = surroundings::parse_container(data) {
        assert!(name.len() < data.len() && !name.contains(&0));
    }
    if let Some(profile) = surroundings::parse_apparmor(data) {
        named(&profile);
        assert!(!profile.as_bytes().iter().any(|byte| matches!(byte, 0 | b'\n')));
    }
    let _ = surroundings::parse_sandbox(data);
}
