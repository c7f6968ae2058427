//! The host's time zone, for printing its times as its own people see them.
//!
//! `/etc/localtime` is a link into the zone database on nearly every distribution: its name is the zone. Where it is a
//! copy, Debian's `/etc/timezone` has the name, else the copy itself ends with the POSIX rule now in force
//! (`tzfile(5)`, RFC 8536). The agent's own TZ does not count: it is the agent's, not the host's.

use highwater_ipc::text::HostText;

use super::Kernel;

/// The zone as it was read last: it is looked at again after [`LOOK_EVERY_US`].
#[derive(Debug, Default)]
pub struct Known(Option<(u64, HostText)>);

/// Time between two looks at the zone, microseconds.
const LOOK_EVERY_US: u64 = 5_000_000;

impl Known {
    /// The zone; `boot_us` is now.
    pub fn read(&mut self, kernel: &mut dyn Kernel, buffer: &mut Vec<u8>, boot_us: u64) -> HostText {
        match &self.0 {
            Some((before, zone)) if boot_us.saturating_sub(*before) < LOOK_EVERY_US => zone.clone(),
            _ => self.0.insert((boot_us, read(kernel, buffer))).1.clone(),
        }
    }
}

/// The zone's name, else its POSIX rule, else empty: UTC.
pub fn read(kernel: &mut dyn Kernel, buffer: &mut Vec<u8>) -> HostText {
    if let Some(name) = kernel.read_link(LOCALTIME).ok().and_then(|target| name_in(&target)) {
        return name;
    }
    if kernel.read("/etc/timezone", MAX_BYTES, buffer).is_ok()
        && let Some(name) = parse_timezone(buffer)
    {
        return name;
    }
    match kernel.read(LOCALTIME, MAX_BYTES, buffer) {
        Ok(true) => parse_footer(buffer).unwrap_or_default(),
        _ => HostText::default(),
    }
}

/// What follows `zoneinfo/` in a link's target, if it can be a zone's name.
pub fn name_in(target: &[u8]) -> Option<HostText> {
    let at = target.windows(DATABASE.len()).rposition(|window| window == DATABASE)?;
    let name = target.get(at + DATABASE.len()..)?;
    let name = name.strip_prefix(b"posix/").or_else(|| name.strip_prefix(b"right/")).unwrap_or(name);
    is_name(name).then(|| HostText::cut(name))
}

/// The first line of `/etc/timezone`.
pub fn parse_timezone(bytes: &[u8]) -> Option<HostText> {
    let line = bytes.split(|byte| *byte == b'\n').next()?.trim_ascii();
    is_name(line).then(|| HostText::cut(line))
}

/// The POSIX rule at the end of a zone file of version 2 or later.
pub fn parse_footer(bytes: &[u8]) -> Option<HostText> {
    let version = *bytes.strip_prefix(b"TZif")?.first()?;
    let rule = bytes.strip_suffix(b"\n")?;
    let start = rule.iter().rposition(|byte| *byte == b'\n')? + 1;
    let rule = rule.get(start..)?;
    let printable = rule.iter().all(u8::is_ascii_graphic) && rule.len() <= HostText::MAX;
    (version >= b'2' && printable && !rule.is_empty()).then(|| HostText::cut(rule))
}

const LOCALTIME: &str = "/etc/localtime";
const DATABASE: &[u8] = b"zoneinfo/";
/// The largest zone file has 4 kB.
const MAX_BYTES: usize = 64 << 10;

fn is_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_-+".contains(byte);
    !name.is_empty() && name.len() <= HostText::MAX && name.iter().all(allowed) && !name.starts_with(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_link_names_the_zone() {
        assert_eq!(name_in(b"/usr/share/zoneinfo/Europe/Berlin"), Some("Europe/Berlin".into()));
        assert_eq!(name_in(b"../usr/share/zoneinfo/posix/Etc/GMT+1"), Some("Etc/GMT+1".into()));
        assert_eq!(name_in(b"/usr/share/zoneinfo/"), None);
        assert_eq!(name_in(b"/usr/share/zoneinfo/../../etc/x"), None);
        assert_eq!(name_in(b"/etc/elsewhere"), None);
    }

    #[test]
    fn a_copied_zone_file_still_has_its_rule() {
        assert_eq!(
            parse_footer(b"TZif2...\x00\nCET-1CEST,M3.5.0,M10.5.0/3\n"),
            Some("CET-1CEST,M3.5.0,M10.5.0/3".into())
        );
        assert_eq!(parse_footer(b"TZif\0...\nCET-1\n"), None);
        assert_eq!(parse_timezone(b"Asia/Tokyo\n"), Some("Asia/Tokyo".into()));
        assert_eq!(parse_timezone(b"\x1b]0;x\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (name_in(&bytes), parse_timezone(&bytes), parse_footer(&[b"TZif2", &bytes[..]].concat()));
        }
    }
}
