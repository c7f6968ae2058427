//! systemd-logind's `RemoveIPC=`: whether the objects of a user go when that user's last session ends.
//!
//! Sources: `logind.conf(5)`, `systemd.syntax(7)`, and systemd's `src/login/logind-user.c` (`user_finalize`: everybody
//! but system users; `user_may_gc`: not while the user lingers) and `src/shared/clean-ipc.c` (arrays, queues, and
//! segments without attachments, of logind's own IPC namespace). systemd's compiled default is yes; distributions that
//! changed it ship a commented line that says so.

use std::collections::BTreeMap;

use highwater_ipc::text::HostText;

use super::Kernel;

/// Whether objects are removed, and where that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveIpc {
    /// `RemoveIPC=yes`.
    pub on: bool,
    /// The file that says so; `None` = it is the default.
    pub file: Option<HostText>,
}

/// Where systemd looks for `logind.conf` and `logind.conf.d/*.conf`, the most important first.
const DIRECTORIES: [&str; 4] = ["/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd"];

/// Exists where systemd is the init (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";

/// Largest configuration file taken, and most drop-ins read; a shipped file has 1.5 kB.
const MAX_FILE: usize = 64 << 10;
const MAX_DROP_INS: usize = 64;

/// Reads the setting; `None` = systemd is not the init here, so that nobody removes anything.
pub fn read(kernel: &mut dyn Kernel) -> Option<RemoveIpc> {
    kernel.list(BOOTED).ok()?;
    let mut buffer = Vec::new();
    let mut found = RemoveIpc { on: true, file: None };
    for directory in DIRECTORIES {
        let path = format!("{directory}/logind.conf");
        if kernel.read(&path, MAX_FILE, &mut buffer).is_ok() {
            match (parse(&buffer), shipped_default(&buffer)) {
                (Some(on), _) => found = RemoveIpc { on, file: Some(path.as_str().into()) },
                (None, Some(on)) => found.on = on,
                (None, None) => {}
            }
            break;
        }
    }
    for path in drop_ins(kernel) {
        if kernel.read(&path, MAX_FILE, &mut buffer).is_ok()
            && let Some(on) = parse(&buffer)
        {
            found = RemoveIpc { on, file: Some(path.as_str().into()) };
        }
    }
    Some(found)
}

/// The drop-ins in the order in which they apply: by name, whatever their directory; of one name the file of the most
/// important directory counts alone.
fn drop_ins(kernel: &mut dyn Kernel) -> Vec<String> {
    let mut by_name = BTreeMap::new();
    for directory in DIRECTORIES {
        let directory = format!("{directory}/logind.conf.d");
        for name in kernel.list(&directory).unwrap_or_default() {
            if let Ok(name) = String::from_utf8(name)
                && name.ends_with(".conf")
            {
                let path = format!("{directory}/{name}");
                by_name.entry(name).or_insert(path);
            }
        }
    }
    by_name.into_values().take(MAX_DROP_INS).collect()
}

/// What the last `RemoveIPC=` of section `[Login]` says; words that are no boolean are passed over, as systemd does.
pub fn parse(text: &[u8]) -> Option<bool> {
    let mut in_login = false;
    let mut said = None;
    for line in lines(text) {
        if line.starts_with(b"[") {
            in_login = line == b"[Login]";
        } else if in_login && let Some(value) = value_of(line, b"RemoveIPC") {
            said = boolean(value).or(said);
        }
    }
    said
}

/// What a commented line `#RemoveIPC=` says: by convention the default the package was built with.
pub fn shipped_default(text: &[u8]) -> Option<bool> {
    lines(text).find_map(|line| boolean(value_of(line.strip_prefix(b"#")?, b"RemoveIPC")?))
}

/// SYS_UID_MAX of a `login.defs(5)`: the last uid that logind takes for a system user's.
pub fn parse_sys_uid_max(text: &[u8]) -> Option<u32> {
    let value = lines(text).find_map(|line| line.strip_prefix(b"SYS_UID_MAX"))?;
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

/// The last uid of system users on this host.
pub fn system_uid_max(kernel: &mut dyn Kernel) -> u32 {
    let mut buffer = Vec::new();
    let defined = kernel.read("/etc/login.defs", MAX_FILE, &mut buffer).ok().and_then(|_| parse_sys_uid_max(&buffer));
    defined.unwrap_or(DEFAULT_SYSTEM_UID_MAX)
}

/// SYS_UID_MAX as systemd and shadow are built.
const DEFAULT_SYSTEM_UID_MAX: u32 = 999;

/// Whether that user lingers (`loginctl enable-linger`): logind keeps the user, and so the objects, without a session.
pub fn lingers(kernel: &mut dyn Kernel, user: &HostText) -> bool {
    let Ok(name) = std::str::from_utf8(user.as_bytes()) else { return false };
    // The name becomes part of a path.
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return false;
    }
    kernel.read(&format!("/var/lib/systemd/linger/{name}"), 1, &mut Vec::new()).is_ok()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii)
}

fn value_of<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = line.split_at(at);
    (name.trim_ascii() == key).then(|| value.get(1..).unwrap_or_default().trim_ascii())
}

/// `parse_boolean` of systemd.
fn boolean(value: &[u8]) -> Option<bool> {
    match value.to_ascii_lowercase().as_slice() {
        b"1" | b"yes" | b"y" | b"true" | b"t" | b"on" => Some(true),
        b"0" | b"no" | b"n" | b"false" | b"f" | b"off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::FakeKernel;
    use proptest::prelude::*;

    fn host(files: &[(&str, &str)]) -> FakeKernel {
        let mut kernel = FakeKernel::new();
        kernel.files.insert("/run/systemd/system/any".into(), Ok(Vec::new()));
        for (path, text) in files {
            kernel.files.insert((*path).into(), Ok(text.as_bytes().to_vec()));
        }
        kernel
    }

    fn said(files: &[(&str, &str)]) -> (bool, Option<String>) {
        let found = read(&mut host(files)).unwrap();
        (found.on, found.file.map(|file| file.escaped()))
    }

    const MAIN: &str = "/etc/systemd/logind.conf";

    #[test]
    fn without_systemd_nobody_removes_anything() {
        let mut kernel = FakeKernel::new();
        kernel.files.insert(MAIN.into(), Ok(b"[Login]\nRemoveIPC=yes\n".to_vec()));
        assert_eq!(read(&mut kernel), None);
    }

    #[test]
    fn the_default_is_yes_unless_the_package_ships_another() {
        assert_eq!(said(&[]), (true, None));
        assert_eq!(said(&[(MAIN, "[Login]\n#RemoveIPC=yes\n")]), (true, None));
        assert_eq!(said(&[(MAIN, "[Login]\n#RemoveIPC=no\n")]), (false, None));
        assert_eq!(said(&[("/usr/lib/systemd/logind.conf", "[Login]\n#RemoveIPC=no\n")]), (false, None));
    }

    #[test]
    fn a_later_name_wins_and_a_more_important_directory_hides_its_namesake() {
        let yes = "[Login]\nRemoveIPC=yes\n";
        let no = "[Login]\nRemoveIPC=no\n";
        let main = (MAIN, no);
        assert_eq!(said(&[main]), (false, Some(MAIN.into())));
        let vendor = ("/usr/lib/systemd/logind.conf.d/50-a.conf", yes);
        assert_eq!(said(&[main, vendor]), (true, Some(vendor.0.into())));
        // Emptied (or linked to /dev/null) in /etc, the vendor's file says nothing any more.
        assert_eq!(said(&[main, vendor, ("/etc/systemd/logind.conf.d/50-a.conf", "")]), (false, Some(MAIN.into())));
        let run = ("/run/systemd/logind.conf.d/60-b.conf", no);
        assert_eq!(said(&[("/etc/systemd/logind.conf.d/50-a.conf", yes), run]), (false, Some(run.0.into())));
        assert_eq!(said(&[main, ("/etc/systemd/logind.conf.d/50-a.txt", yes)]), (false, Some(MAIN.into())));
    }

    #[test]
    fn only_the_last_boolean_of_its_section_counts() {
        let table: [(&[u8], Option<bool>); 7] = [
            (b"[Login]\nRemoveIPC=yes\nRemoveIPC=no\n", Some(false)),
            (b"[Login]\nRemoveIPC=no\nRemoveIPC=perhaps\n", Some(false)),
            (b"[Login]\n RemoveIPC = Off \n", Some(false)),
            (b"[Login]\n#RemoveIPC=no\n;RemoveIPC=no\n", None),
            (b"[Other]\nRemoveIPC=no\n", None),
            (b"RemoveIPC=no\n", None),
            (b"[Login]\nRemoveIPCs=no\n", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn system_users_end_where_login_defs_says() {
        let mut kernel = host(&[]);
        assert_eq!(system_uid_max(&mut kernel), 999);
        let text = "#SYS_UID_MAX 100\nSYS_UID_MAX\t\t  499\nUID_MIN 500\n";
        kernel.files.insert("/etc/login.defs".into(), Ok(text.into()));
        assert_eq!(system_uid_max(&mut kernel), 499);
    }

    #[test]
    fn a_user_lingers_by_a_file_of_that_name() {
        let mut kernel = host(&[("/var/lib/systemd/linger/oracle", ""), ("/var/lib/systemd/passwd", "")]);
        assert!(lingers(&mut kernel, &"oracle".into()));
        for other in ["db2", "", ".", "../passwd", "a/b"] {
            assert!(!lingers(&mut kernel, &other.into()), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse(&[b"[Login]\nRemoveIPC=", &bytes[..]].concat()), shipped_default(&bytes));
            let _ = parse_sys_uid_max(&bytes);
        }
    }
}
