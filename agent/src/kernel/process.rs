//! Parsers of what `/proc` says of a process: `/proc/PID/stat`, `/proc/PID/status`, the links in `/proc/PID/ns`, and
//! whether the mount of `/proc` hides any of them.
//!
//! The comm is whatever the process called itself (`prctl(2)`, a file's name): it may hold spaces, parentheses,
//! newlines and bytes that are no text. Sources: `proc_pid_stat(5)`, `proc_pid_status(5)`, `fs/proc/array.c`.

use highwater_ipc::text::HostText;

/// Most bytes read of a process's file: `stat` has 400, `status` 1,500, and more only with long lists of groups, which
/// come after what is read here (`NSpid` excepted).
pub const MAX_PROCESS_FILE: usize = 64 << 10;

/// Ticks a second of the times in `/proc/PID/stat` (USER_HZ), the same on every 64-bit Linux but alpha and ia64.
const USER_HZ: u64 = 100;

/// `PF_KTHREAD` of `linux/sched.h`: a thread of the kernel itself, which makes no system calls.
const PF_KTHREAD: u64 = 0x0020_0000;

/// `linux/capability.h`, as a bit of `CapEff`.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What is taken from `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Field 2, without its parentheses.
    pub comm: HostText,
    /// Field 4: its parent, 0 = none that this `/proc` shows.
    pub ppid: i32,
    /// Field 6: its session, which is the pid of the process that made it.
    pub session: i32,
    /// Field 9, PF_KTHREAD.
    pub kernel_thread: bool,
    /// Field 22: when it started, microseconds since boot (CLOCK_BOOTTIME), cut to 10 ms.
    pub start_us: u64,
}

/// What is taken from `/proc/PID/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `Name`, with the kernel's escapes undone.
    pub comm: HostText,
    /// `PPid`.
    pub ppid: i32,
    /// `Tgid`: differs from the file's pid where that is a thread's.
    pub tgid: i32,
    /// `Uid`: real, effective, saved, file system.
    pub uids: [u32; 4],
    /// Whether it is pid 1 of its pid namespace (the last of `NSpid`), which takes in processes whose parent died.
    pub takes_in: bool,
}

/// Parses `/proc/PID/stat`; `None` = it is not what the kernel writes.
pub fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|b| *b == b'(')?;
    // Whatever follows the comm is numbers and one letter: the last parenthesis is the kernel's.
    let close = bytes.iter().rposition(|b| *b == b')')?;
    let comm = HostText::cut(bytes.get(open + 1..close)?);
    let mut fields = words(bytes.get(close + 1..)?);
    // Fields 3, 4, 5, 6, 7, 8, 9, then 22.
    fields.next()?;
    let ppid = number(fields.next()?)?;
    let session = number(fields.nth(1)?)?;
    let flags: u64 = number(fields.nth(2)?)?;
    let ticks: u64 = number(fields.nth(12)?)?;
    let start_us = ticks.saturating_mul(1_000_000 / USER_HZ);
    Some(Stat { comm, ppid, session, kernel_thread: flags & PF_KTHREAD != 0, start_us })
}

/// Parses `/proc/PID/status`; `None` = it is not what the kernel writes. No value but the name is of the process's own
/// making, and the kernel escapes the name's newlines.
pub fn parse_status(bytes: &[u8]) -> Option<Status> {
    let (mut comm, mut ppid, mut tgid, mut uids, mut takes_in) = (None, None, None, None, false);
    for line in bytes.split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        match name {
            b"Name" if comm.is_none() => comm = Some(unescaped(value.strip_prefix(b"\t").unwrap_or(value))),
            b"PPid" => ppid = words(value).next().and_then(number),
            b"Tgid" => tgid = words(value).next().and_then(number),
            b"Uid" => uids = four(value),
            b"NSpid" => {
                takes_in = words(value).last() == Some(b"1");
                break;
            }
            // Kernels before 4.1 have no NSpid.
            b"VmPeak" => break,
            _ => {}
        }
    }
    let takes_in = takes_in || tgid == Some(1);
    Some(Status { comm: comm?, ppid: ppid?, tgid: tgid?, uids: uids?, takes_in })
}

/// Whether `/proc/self/status` shows a process that may look at others: effective uid 0 or CAP_SYS_PTRACE.
pub fn parse_may_look(bytes: &[u8]) -> bool {
    let value = |name: &[u8]| bytes.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name));
    let root = value(b"Uid:").and_then(four).is_some_and(|uids| uids[1] == 0);
    let digits =
        value(b"CapEff:").and_then(|value| words(value).next()).and_then(|word| std::str::from_utf8(word).ok());
    let effective = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0);
    root || effective & CAP_SYS_PTRACE != 0
}

/// Inode in the target of a link of `/proc/PID/ns`, such as `ipc:[4026531839]`.
pub fn parse_namespace(target: &[u8]) -> Option<u64> {
    let open = target.iter().position(|b| *b == b'[')?;
    let digits = target.get(open + 1..)?.strip_suffix(b"]")?;
    number(digits)
}

/// Whether the topmost mount on `/proc` in a `mountinfo` hides processes from anybody (`hidepid`); `None` = no such
/// mount is listed.
pub fn parse_hides(mountinfo: &[u8]) -> Option<bool> {
    let lines = mountinfo.split(|b| *b == b'\n');
    let mut on_proc = lines.filter(|line| words(line).nth(4) == Some(b"/proc"));
    // Later mounts cover earlier ones.
    let options = on_proc.next_back()?;
    let named =
        |option: &[u8]| matches!(option.strip_prefix(b"hidepid="), Some(value) if value != b"0" && value != b"off");
    Some(words(options).flat_map(|word| word.split(|b| *b == b',')).any(named))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn four(value: &[u8]) -> Option<[u32; 4]> {
    let mut words = words(value);
    let mut next = || words.next().and_then(number);
    Some([next()?, next()?, next()?, next()?])
}

/// Undoes `seq_escape_str(.., ESCAPE_SPACE | ESCAPE_SPECIAL, "\n\\")`, and the octal escapes of other kernels.
fn unescaped(name: &[u8]) -> HostText {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'n', after @ ..]) => {
                out.push(b'\n');
                rest = after;
            }
            (b'\\', [b'\\', after @ ..]) => {
                out.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(*first),
        }
    }
    HostText::cut(&out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAIL: &str =
        "S 17630 17631 835 0 -1 4194304 101 0 0 0 0 0 0 0 20 0 1 0 3143721 3133440 413 18446744073709551615";
    const STATUS: &str = "Name:\tcat\nUmask:\t0022\nState:\tR (running)\nTgid:\t17899\nNgid:\t0\nPid:\t17899\nPPid:\t17630\n\
                          TracerPid:\t0\nUid:\t1\t2\t3\t4294967295\nGid:\t0\t0\t0\t0\nGroups:\t \nNStgid:\t17899\t1\n\
                          NSpid:\t17899\t1\nVmPeak:\t2928 kB\n";

    #[test]
    fn the_fields_of_stat_are_those_of_the_manual() {
        let stat = parse_stat(format!("17900 (cat) {TAIL}\n").as_bytes()).unwrap();
        let start_us = 31_437_210_000;
        assert_eq!(stat, Stat { comm: "cat".into(), ppid: 17_630, session: 835, kernel_thread: false, start_us });
        assert!(parse_stat(b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0").unwrap().kernel_thread);
    }

    #[test]
    fn the_fields_of_status_are_those_of_the_manual() {
        let status = parse_status(STATUS.as_bytes()).unwrap();
        let uids = [1, 2, 3, u32::MAX];
        assert_eq!(status, Status { comm: "cat".into(), ppid: 17_630, tgid: 17_899, uids, takes_in: true });
        let initial = STATUS.replace("17899\t1", "17899");
        assert!(!parse_status(initial.as_bytes()).unwrap().takes_in);
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        for end in 0..STATUS.find("Uid").unwrap() {
            assert_eq!(parse_status(&STATUS.as_bytes()[..end]), None);
        }
        assert_eq!(parse_stat(b"17900 (cat) S 17630 17631 835 0 -1 4194304"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn hidepid_of_the_topmost_proc_counts() {
        let line = |options: &str| format!("22 27 0:21 / /proc rw,relatime - proc proc rw{options}\n");
        let hides = |text: String| parse_hides(text.as_bytes());
        assert_eq!(hides(line("")), Some(false));
        assert_eq!(hides(line(",hidepid=invisible")), Some(true));
        assert_eq!(hides(line(",gid=4,hidepid=2")), Some(true));
        assert_eq!(hides(line(",hidepid=off")), Some(false));
        assert_eq!(hides(line(",hidepid=2") + &line("")), Some(false));
        assert_eq!(hides("1 1 0:1 / /proc/sys rw - proc proc rw,hidepid=2\n".into()), None);
    }

    #[test]
    fn root_and_who_has_the_capability_may_look() {
        assert!(parse_may_look(b"Uid:\t5\t0\t5\t5\nCapEff:\t0000000000000000\n"));
        assert!(parse_may_look(b"Uid:\t5\t5\t5\t5\nCapEff:\t0000000000080000\n"));
        assert!(!parse_may_look(b"Uid:\t0\t5\t0\t0\nCapEff:\t000001fffff7ffff\n"));
        assert!(!parse_may_look(b""));
    }

    #[test]
    fn a_namespace_is_the_number_in_its_link() {
        assert_eq!(parse_namespace(b"ipc:[4026531839]"), Some(4_026_531_839));
        for wrong in [&b"ipc:[]"[..], b"ipc:[1", b"ipc:4", b"", b"ipc:[99999999999999999999]"] {
            assert_eq!(parse_namespace(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn any_comm_comes_through_both_files(comm in proptest::collection::vec(1_u8.., 0..=15)) {
            let mut stat = b"1 (".to_vec();
            stat.extend(&comm);
            stat.extend(format!(") {TAIL}").bytes());
            let parsed = parse_stat(&stat).unwrap();
            prop_assert_eq!((parsed.comm.as_bytes(), parsed.session), (&comm[..], 835));
            let mut status = b"Name:\t".to_vec();
            for byte in &comm {
                match byte {
                    b'\n' => status.extend(b"\\n"),
                    b'\\' => status.extend(b"\\\\"),
                    other => status.push(*other),
                }
            }
            status.extend(&STATUS.as_bytes()["Name:\tcat".len()..]);
            let parsed = parse_status(&status).unwrap();
            prop_assert_eq!((parsed.comm.as_bytes(), parsed.uids), (&comm[..], [1, 2, 3, u32::MAX]));
        }

        #[test]
        fn any_bytes_are_parsed_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (parse_stat(&bytes), parse_status(&bytes), parse_namespace(&bytes), parse_hides(&bytes));
        }
    }
}
