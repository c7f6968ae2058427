//! Which host and which boot this is: boot id, machine id, distribution, what `uname(2)` says.

use highwater_ipc::session::HostFacts;
use highwater_ipc::snapshot::BootId;
use highwater_ipc::text::HostText;

use super::Kernel;
use crate::sys::errno::Errno;

/// The boot this kernel runs since, from [`BOOT_ID`].
pub fn boot_id(kernel: &mut dyn Kernel) -> Result<BootId, BootIdError> {
    let mut buffer = Vec::new();
    kernel.read(BOOT_ID, MAX_BYTES, &mut buffer).map_err(BootIdError::Unreadable)?;
    parse_boot_id(&buffer).ok_or(BootIdError::NoUuid)
}

/// Where the kernel tells its boot id.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why it is not known which boot this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error("{BOOT_ID}: {0}")]
    Unreadable(Errno),
    /// It holds something else.
    #[error("{BOOT_ID} holds no UUID")]
    NoUuid,
}

/// The facts an agent tells its collector. What cannot be read is empty, the boot id zeros.
pub fn host_facts(kernel: &mut dyn Kernel) -> HostFacts {
    let uname = kernel.uname().unwrap_or_default();
    HostFacts {
        agent_version: env!("CARGO_PKG_VERSION").into(),
        machine_id: machine_id(kernel),
        boot_id: boot_id(kernel).unwrap_or_default(),
        hostname: HostText::cut(&uname.nodename),
        kernel: HostText::cut(&uname.release),
        arch: HostText::cut(&uname.machine),
        distro: distro(kernel),
    }
}

/// A UUID with its four hyphens: 16 bytes.
pub fn parse_boot_id(bytes: &[u8]) -> Option<BootId> {
    let digits: Vec<u8> = bytes.trim_ascii().iter().copied().filter(|byte| *byte != b'-').collect();
    if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = u128::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?;
    Some(BootId(number.to_be_bytes()))
}

/// The first two numbers of a release such as `6.1.0-13-amd64`; (0, 0) where it has none.
pub fn parse_release(release: &[u8]) -> (u32, u32) {
    let text = String::from_utf8_lossy(release);
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// PRETTY_NAME of an os-release file (`os-release(5)`), unquoted; `None` if it has none.
pub fn parse_pretty_name(bytes: &[u8]) -> Option<HostText> {
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    // Of repeated names the last counts, as in the shell that the format is made for.
    let value = lines.filter_map(|line| line.strip_prefix(b"PRETTY_NAME=")).next_back()?;
    let value = match value {
        [quote @ (b'"' | b'\''), inner @ .., end] if quote == end => inner,
        bare => bare,
    };
    let mut name = Vec::with_capacity(value.len());
    let mut escaped = false;
    for byte in value {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        name.push(*byte);
    }
    Some(HostText::cut(&name))
}

/// These files have a line or a few.
const MAX_BYTES: usize = 16 << 10;

fn machine_id(kernel: &mut dyn Kernel) -> HostText {
    let mut buffer = Vec::new();
    for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
        if kernel.read(path, MAX_BYTES, &mut buffer).is_ok() && !buffer.trim_ascii().is_empty() {
            let id = buffer.trim_ascii();
            return HostText::cut(id.get(..MACHINE_ID).unwrap_or(id));
        }
    }
    HostText::default()
}

/// Longest machine id told; a real one has 32 digits.
const MACHINE_ID: usize = 64;

fn distro(kernel: &mut dyn Kernel) -> HostText {
    let mut buffer = Vec::new();
    for path in ["/etc/os-release", "/usr/lib/os-release"] {
        if kernel.read(path, MAX_BYTES, &mut buffer).is_ok() {
            return parse_pretty_name(&buffer).unwrap_or_default();
        }
    }
    HostText::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_boot_id_is_sixteen_bytes() {
        let id = parse_boot_id(b"01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
        assert_eq!(id.0[..4], [0x01, 0x23, 0x45, 0x67]);
        assert_eq!(parse_boot_id(b"01234567-89ab-cdef-0123-456789abcde\n"), None);
        assert_eq!(parse_boot_id(b"+1234567-89ab-cdef-0123-456789abcdef\n"), None);
    }

    #[test]
    fn a_pretty_name_loses_its_quotes() {
        let text = b"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 \\\"bookworm\\\"\"\n";
        assert_eq!(parse_pretty_name(text), Some("Debian GNU/Linux 12 \"bookworm\"".into()));
        assert_eq!(parse_pretty_name(b"PRETTY_NAME=Void"), Some("Void".into()));
        assert_eq!(parse_pretty_name(b"PRETTY_NAME=\""), Some("\"".into()));
        assert_eq!(parse_pretty_name(b"NAME=x\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (parse_boot_id(&bytes), parse_pretty_name(&[b"PRETTY_NAME=", &bytes[..]].concat()));
        }
    }
}
