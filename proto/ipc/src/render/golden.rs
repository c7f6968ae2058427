//! The captured machine: `testdata/debian12.txt` holds what `/proc`, `*_INFO` and util-linux 2.38.1 (LC_ALL=C,
//! TZ=Europe/Berlin) said in one IPC namespace of a Debian 12, a section each.

use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::{Question, View, ipcs, ipcs_object, lsipc};
use crate::availability::{Availability, SysvipcState};
use crate::limits::{Limits, Totals};
use crate::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use crate::snapshot::{BootId, Namespace, NamespaceId, State};
use crate::text::HostText;
use crate::time::Zone;

const CAPTURE: &[u8] = include_bytes!("testdata/debian12.txt");

/// Berlin in winter, when the capture was made.
struct Winter;

impl Zone for Winter {
    fn offset_at(&self, _: i64) -> i32 {
        3_600
    }
}

#[test]
fn prints_every_flag_as_util_linux_does() {
    let state = captured();
    let mut compared = 0;
    for (title, expected) in sections() {
        let Some(flags) = title.strip_prefix("ipcs") else { continue };
        if flags.contains("-i") {
            continue;
        }
        let mut question = Question::default();
        for flag in flags.split_whitespace() {
            match flag {
                "-a" => question.kinds.clear(),
                "-s" => question.kinds.push(Kind::Sem),
                "-m" => question.kinds.push(Kind::Shm),
                "-q" => question.kinds.push(Kind::Msg),
                "-t" => question.view = View::Time,
                "-p" => question.view = View::Pid,
                "-c" => question.view = View::Creator,
                "-u" => question.view = View::Summary,
                "-l" => question.view = View::Limits,
                other => panic!("the capture has an unknown flag {other}"),
            }
        }
        let ours = ipcs(&state, &state.namespaces[0], &question, &Winter);
        assert_eq!(ours.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{title}");
        compared += 1;
    }
    assert_eq!(compared, 30);
}

/// util-linux counts 8 semaphores (8 arrays, one in the first) where SEM_INFO counts 32,278, and rounds pages together:
/// those two lines and the width that follows from them are ours, all else is equal.
#[test]
fn lsipc_is_util_linux_s_but_for_its_wrong_sums() {
    let state = captured();
    let squeeze = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let ours = squeeze(&lsipc(&state.namespaces[0]));
    let theirs = squeeze(core::str::from_utf8(section("lsipc")).unwrap());
    let differing: Vec<_> = ours.iter().zip(&theirs).filter(|(a, b)| a != b).map(|(a, _)| a.as_str()).collect();
    assert_eq!(
        differing,
        [
            "SHMALL Shared memory pages 18446744073692774399 4224454 0.00%",
            "SEMMNS Total number of semaphores 1024000000 32278 0.00%"
        ]
    );
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn an_object_shows_its_recorded_fields() {
    let state = captured();
    let text = |kind, id| ipcs_object(&state, &state.namespaces[0], kind, id, &Winter);
    let segment = text(Kind::Shm, state.namespaces[0].shm.as_ref().unwrap()[2].shmid).unwrap();
    let segment = String::from_utf8(segment).unwrap();
    assert!(segment.contains("\nuid=1001 (averylongusername)\n"), "{segment}");
    assert!(segment.contains("\nperms=2644\n") && segment.contains("\ndtime=Not set\n"), "{segment}");
    assert_eq!(text(Kind::Sem, -5), None);
}

#[test]
fn lsipc_of_an_empty_namespace_is_util_linux_s() {
    let mut state = captured();
    state.namespaces[0].totals = Some(Totals::default());
    let expected = "\
RESOURCE DESCRIPTION                                              LIMIT USED  USE%
MSGMNI   Number of message queues                                 32000    0 0.00%
MSGMAX   Max size of message (bytes)                                 8K    -     -
MSGMNB   Default max size of queue (bytes)                          16K    -     -
SHMMNI   Shared memory segments                                    4096    0 0.00%
SHMALL   Shared memory pages                       18446744073692774399    0 0.00%
SHMMAX   Max size of shared memory segment (bytes)                  16E    -     -
SHMMIN   Min size of shared memory segment (bytes)                   1B    -     -
SEMMNI   Number of semaphore identifiers                          32000    0 0.00%
SEMMNS   Total number of semaphores                          1024000000    0 0.00%
SEMMSL   Max semaphores per semaphore set.                        32000    -     -
SEMOPM   Max number of operations per semop(2)                      500    -     -
SEMVMX   Semaphore max value                                      32767    -     -
";
    assert_eq!(lsipc(&state.namespaces[0]), expected);
}

/// The texts of a kernel without System V IPC, as `ipcs` prints them there with exit code 0.
#[test]
fn what_could_not_be_read_is_shown_as_on_a_kernel_without_sysvipc() {
    let mut state = captured();
    let namespace = &mut state.namespaces[0];
    (namespace.limits, namespace.totals) = (None, None);
    (namespace.sem, namespace.shm, namespace.msg) = (None, None, None);
    let text = |kinds: &[Kind], view| {
        let question = Question { kinds: kinds.to_vec(), view };
        String::from_utf8(ipcs(&state, &state.namespaces[0], &question, &Winter)).unwrap()
    };
    assert_eq!(
        text(&[], View::Summary),
        "\nkernel not configured for message queues\n\nkernel not configured for shared memory\n\n\
         kernel not configured for semaphores\n\n"
    );
    assert_eq!(
        text(&[Kind::Sem], View::Default),
        "\n------ Semaphore Arrays --------\nkey        semid      owner      perms      nsems     \n\n"
    );
    assert_eq!(text(&[Kind::Sem], View::Pid), "\n\n");
    assert_eq!(text(&[Kind::Shm], View::Limits), "\nunable to fetch shared memory limits\n\n");
    assert!(
        lsipc(&state.namespaces[0]).contains("SEMMNI   Number of semaphore identifiers               -    -    -\n")
    );
}

#[test]
fn numbers_of_64_bits_and_hostile_names_stay_on_their_line() {
    let mut state = captured();
    state.users.insert(33, HostText::cut(b"a\n\x1b[2J\\\xff"));
    let namespace = &mut state.namespaces[0];
    let limits = namespace.limits.as_mut().unwrap();
    (limits.shmmax, limits.shmall, limits.semmni) = (u64::MAX, u64::MAX, u64::MAX);
    let segment = &mut namespace.shm.as_mut().unwrap()[0];
    (segment.size, segment.nattch, segment.owner.uid) = (u64::MAX, u64::MAX, u32::MAX);
    (segment.atime, segment.dtime, segment.ctime) = (i64::MIN, i64::MAX, -1);
    namespace.shm.as_mut().unwrap().truncate(1);
    namespace.sem.as_mut().unwrap().truncate(1);
    let text = |kind, view| {
        let question = Question { kinds: vec![kind], view };
        String::from_utf8(ipcs(&state, &state.namespaces[0], &question, &Winter)).unwrap()
    };
    let last = |text: String| text.lines().nth(3).unwrap().to_owned();
    assert_eq!(
        last(text(Kind::Shm, View::Default)),
        "0x00000098 32768      4294967295 600        18446744073709551615 18446744073709551615              "
    );
    assert_eq!(
        last(text(Kind::Sem, View::Default)),
        "0x0d4d0002 32768      a\\x0a\\x1b[2J\\\\\\xff 600        1         "
    );
    assert!(last(text(Kind::Shm, View::Time)).ends_with("Jan  1 00:59:59     "));
    let limits = text(Kind::Shm, View::Limits);
    assert!(limits.contains("max seg size (kbytes) = 18014398509481983\n"), "{limits}");
    assert!(limits.contains("max total shared memory (kbytes) = 18446744073709551612\n"), "{limits}");
}

fn sections() -> Vec<(&'static str, &'static [u8])> {
    let mut sections = vec![];
    let mut rest = CAPTURE;
    while let Some(line_end) = rest.iter().position(|b| *b == b'\n') {
        let title = core::str::from_utf8(&rest[..line_end]).unwrap();
        let title = title.strip_prefix("==> ").and_then(|t| t.strip_suffix(" <==")).unwrap();
        let body = &rest[line_end + 1..];
        let len = body.windows(5).position(|w| w == b"\n==> ").map_or(body.len(), |at| at + 1);
        sections.push((title, &body[..len]));
        rest = &body[len..];
    }
    sections
}

fn section(title: &str) -> &'static [u8] {
    sections().into_iter().find(|(t, _)| *t == title).unwrap_or_else(|| panic!("the capture lacks {title}")).1
}

fn numbers(title: &str) -> Vec<u64> {
    let text = core::str::from_utf8(section(title)).unwrap();
    text.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

fn table(title: &str) -> Vec<BTreeMap<&'static str, &'static str>> {
    let mut lines = core::str::from_utf8(section(title)).unwrap().lines();
    let names: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    lines.map(|line| names.iter().copied().zip(line.split_whitespace()).collect()).collect()
}

fn names(title: &str) -> BTreeMap<u32, HostText> {
    section(title)
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let fields: Vec<_> = line.split(|b| *b == b':').collect();
            (core::str::from_utf8(fields[2]).unwrap().parse().unwrap(), HostText::cut(fields[0]))
        })
        .collect()
}

fn captured() -> State {
    let [sem, shm] = [numbers("/proc/sys/kernel/sem"), numbers("SHM_INFO")];
    let [sem_info, msg_info] = [numbers("SEM_INFO"), numbers("MSG_INFO")];
    let kernel = |name: &str| numbers(&["/proc/sys/kernel/", name].concat())[0];
    let namespace = Namespace {
        id: NamespaceId { inode: 1, instance: 1 },
        name: None,
        torn: false,
        limits: Some(Limits {
            semmsl: sem[0],
            semmns: sem[1],
            semopm: sem[2],
            semmni: sem[3],
            semvmx: 32767,
            shmmax: kernel("shmmax"),
            shmall: kernel("shmall"),
            shmmni: kernel("shmmni"),
            shmmin: 1,
            msgmax: kernel("msgmax"),
            msgmnb: kernel("msgmnb"),
            msgmni: kernel("msgmni"),
        }),
        totals: Some(Totals {
            sem_arrays: sem_info[0],
            semaphores: sem_info[1],
            shm_segments: shm[0],
            shm_pages: shm[1],
            shm_resident: shm[2],
            shm_swapped: shm[3],
            swap_attempts: shm[4],
            swap_successes: shm[5],
            msg_queues: msg_info[0],
            msg_messages: msg_info[1],
            msg_bytes: msg_info[2],
        }),
        sem: Some(table("/proc/sysvipc/sem").iter().map(array).collect()),
        shm: Some(table("/proc/sysvipc/shm").iter().map(segment).collect()),
        msg: Some(table("/proc/sysvipc/msg").iter().map(queue).collect()),
        unreadable: vec![],
        left_out: Default::default(),
        ..Namespace::default()
    };
    State {
        boot_id: BootId::default(),
        interval_ms: 1000,
        page_size: 4096,
        zone: HostText::from("Europe/Berlin"),
        availability: Availability { state: SysvipcState::Available, evidence: vec![], remedy: HostText::default() },
        users: names("passwd"),
        groups: names("group"),
        namespaces: vec![namespace],
        ..State::default()
    }
}

type Fields = BTreeMap<&'static str, &'static str>;

fn n<T: core::str::FromStr<Err: core::fmt::Debug>>(row: &Fields, column: &str) -> T {
    row[column].parse().unwrap()
}

fn perms(row: &Fields) -> Perms {
    Perms(u32::from_str_radix(row["perms"], 8).unwrap())
}

fn owner(row: &Fields) -> Owner {
    Owner { uid: n(row, "uid"), gid: n(row, "gid"), cuid: n(row, "cuid"), cgid: n(row, "cgid") }
}

fn array(row: &Fields) -> SemArray {
    SemArray {
        key: Key(n(row, "key")),
        semid: n(row, "semid"),
        perms: perms(row),
        nsems: n(row, "nsems"),
        owner: owner(row),
        otime: n(row, "otime"),
        ctime: n(row, "ctime"),
    }
}

fn segment(row: &Fields) -> ShmSegment {
    ShmSegment {
        key: Key(n(row, "key")),
        shmid: n(row, "shmid"),
        perms: perms(row),
        size: n(row, "size"),
        cpid: n(row, "cpid"),
        lpid: n(row, "lpid"),
        nattch: n(row, "nattch"),
        owner: owner(row),
        atime: n(row, "atime"),
        dtime: n(row, "dtime"),
        ctime: n(row, "ctime"),
        rss: n(row, "rss"),
        swap: n(row, "swap"),
    }
}

fn queue(row: &Fields) -> MsgQueue {
    MsgQueue {
        key: Key(n(row, "key")),
        msqid: n(row, "msqid"),
        perms: perms(row),
        cbytes: n(row, "cbytes"),
        qnum: n(row, "qnum"),
        qbytes: None,
        lspid: n(row, "lspid"),
        lrpid: n(row, "lrpid"),
        owner: owner(row),
        stime: n(row, "stime"),
        rtime: n(row, "rtime"),
        ctime: n(row, "ctime"),
    }
}
