//! Whether the kernel was built with `CONFIG_SYSVIPC`, from its configuration file.
//!
//! Candidates in order: `/proc/config.gz` (CONFIG_IKCONFIG_PROC), `/boot/config-RELEASE`, `/lib/modules/RELEASE/config`,
//! `/lib/modules/RELEASE/build/.config`. The first that can be read and says one or the other decides.

use highwater_ipc::text::HostText;
use miniz_oxide::inflate::decompress_to_vec_with_limit;

use super::Kernel;

/// What the configuration says of CONFIG_SYSVIPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kconfig {
    /// `CONFIG_SYSVIPC=y`.
    Yes {
        /// The file that says so.
        file: HostText,
    },
    /// `# CONFIG_SYSVIPC is not set`, or not a word of it in a file that is a configuration.
    NotSet {
        /// The file that says so.
        file: HostText,
    },
    /// No candidate could be read.
    NotFound {
        /// Each candidate and what was wrong with it.
        tried: Vec<(HostText, HostText)>,
    },
}

/// Looks for the configuration of the running kernel, of that release.
pub fn read(kernel: &mut dyn Kernel, release: &[u8]) -> Kconfig {
    let mut buffer = Vec::new();
    let mut tried = Vec::new();
    for file in candidates(release) {
        let wrong = match kernel.read(&file, MAX_FILE, &mut buffer) {
            Err(errno) => HostText::from(errno.to_string().as_str()),
            Ok(_) => match finding(&buffer) {
                Ok(true) => return Kconfig::Yes { file: file.as_str().into() },
                Ok(false) => return Kconfig::NotSet { file: file.as_str().into() },
                Err(error) => error.into(),
            },
        };
        tried.push((file.as_str().into(), wrong));
    }
    Kconfig::NotFound { tried }
}

/// Whether a configuration, plain or gzipped, has CONFIG_SYSVIPC; an error if it is none.
pub fn finding(bytes: &[u8]) -> Result<bool, &'static str> {
    let inflated;
    let text = if bytes.starts_with(&GZIP) {
        inflated = gunzip(bytes).ok_or("no whole gzip file")?;
        &inflated[..]
    } else {
        bytes
    };
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut is_configuration = false;
    let said = lines.find_map(|line| {
        is_configuration |= line.starts_with(b"CONFIG_") || line.starts_with(b"# CONFIG_");
        match line {
            b"CONFIG_SYSVIPC=y" => Some(true),
            b"# CONFIG_SYSVIPC is not set" => Some(false),
            _ => None,
        }
    });
    // An option whose dependencies are not met is left out of the file altogether.
    said.or(is_configuration.then_some(false)).ok_or("no kernel configuration in it")
}

/// Largest file taken, and what it may inflate to; distribution kernels have 0.3 MB.
const MAX_FILE: usize = 4 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];

fn candidates(release: &[u8]) -> Vec<String> {
    let mut candidates = vec!["/proc/config.gz".to_owned()];
    // The release becomes part of a path: nothing but a plain name may.
    let plain = !release.is_empty() && release.iter().all(|b| b.is_ascii_graphic() && *b != b'/');
    if let (true, Ok(release)) = (plain, std::str::from_utf8(release)) {
        candidates.push(format!("/boot/config-{release}"));
        candidates.push(format!("/lib/modules/{release}/config"));
        candidates.push(format!("/lib/modules/{release}/build/.config"));
    }
    candidates
}

/// Inflates a gzip file (RFC 1952) of one member; its checksum is not looked at.
fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let flags = *bytes.get(3)?;
    let mut rest = bytes.get(10..)?;
    if flags & 4 != 0 {
        let length = usize::from(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]));
        rest = rest.get(2 + length..)?;
    }
    for named in [8, 16] {
        if flags & named != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 2 != 0 {
        rest = rest.get(2..)?;
    }
    decompress_to_vec_with_limit(rest, MAX_FILE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `printf '# CONFIG_SYSVIPC is not set\n' | gzip -9`, with the file name kept.
    const NOT_SET_GZ: &[u8] = include_bytes!("../../testdata/kernels/absent/root/proc/config.gz");

    #[test]
    fn tells_set_from_not_set_and_from_no_configuration() {
        assert_eq!(finding(b"CONFIG_X=y\nCONFIG_SYSVIPC=y\n"), Ok(true));
        assert_eq!(finding(b"# CONFIG_SYSVIPC is not set\n"), Ok(false));
        assert_eq!(finding(b"CONFIG_SYSVIPC_SYSCTL=y\n"), Ok(false));
        assert_eq!(finding(b"hello\n"), Err("no kernel configuration in it"));
        assert_eq!(finding(NOT_SET_GZ), Ok(false));
        assert_eq!(finding(&NOT_SET_GZ[..NOT_SET_GZ.len() / 2]), Err("no whole gzip file"));
    }

    #[test]
    fn a_release_with_a_slash_names_no_file() {
        assert_eq!(candidates(b"../../etc/shadow").len(), 1);
        assert_eq!(candidates(b"6.1.0-18-amd64").len(), 4);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200), gzip: bool) {
            let start: &[u8] = if gzip { &GZIP } else { &[] };
            let _ = finding(&[start, &bytes].concat());
        }
    }
}
