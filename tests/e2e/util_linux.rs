//! What the agent records, rendered, is what util-linux prints: byte for byte, flag by flag, in private IPC namespaces.
//!
//! Each test makes objects, takes one snapshot with the real agent (`highwater-agent snapshot --json`), reads that JSON
//! back and compares every rendering with the `ipcs` of this machine, run in the same namespace under LC_ALL=C. In the
//! namespaces `/etc` is a copy with accounts and a time zone of the test's own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use highwater_ipc::object::Kind;
use highwater_ipc::render::{Question, View, ipcs, lsipc};
use highwater_ipc::snapshot::{Namespace, Snapshot};
use highwater_ipc::time::Zone;
use highwater_proto::json::SnapshotJson;
use highwater_tests::binaries;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::process::{run, stdout_of};
use tempfile::TempDir;

#[test]
fn every_flag_prints_what_ipcs_prints() {
    let machine = Machine::new();
    make_semaphores(&machine.namespace);
    make_segments(&machine.namespace);
    make_queues(&machine.namespace);
    let sampled = machine.sample();
    let namespace = sampled.namespace();
    assert!(namespace.complete(), "{:?}", namespace.unreadable);
    let ids: Vec<_> = namespace.sem.iter().flatten().map(|array| array.semid).collect();
    assert!(!ids.is_sorted(), "the arrays were to be listed by index, not by id: {ids:?}");
    let perms: Vec<_> = namespace.shm.iter().flatten().map(|segment| segment.perms.0 & 0o3000).collect();
    assert!(perms.contains(&0o1000) && perms.contains(&0o2000) && perms.contains(&0o3000), "{perms:?}");
    machine.compare_all(&sampled);
}

#[test]
fn an_empty_namespace_and_extreme_limits_print_what_ipcs_prints() {
    let machine = Machine::new();
    machine.compare_all(&machine.sample());
    let set = "cd /proc/sys/kernel; echo 18446744073709551615 > shmmax; echo 18446744073709551615 > shmall; \
               echo 1 > shmmni; echo 250 32000 32 128 > sem; echo 0 > msgmni; echo 1048577 > msgmnb";
    machine.namespace.shell(set);
    let sampled = machine.sample();
    assert_eq!(sampled.namespace().limits.map(|limits| limits.shmall), Some(u64::MAX));
    machine.compare_all(&sampled);
}

#[test]
fn thirty_two_thousand_arrays_print_what_ipcs_prints() {
    let machine = Machine::new();
    machine.namespace.script("fill sem 32000\n");
    let sampled = machine.sample();
    assert_eq!(sampled.namespace().sem.as_ref().map(Vec::len), Some(32_000));
    for view in VIEWS {
        machine.compare(&sampled, &["-s"], view);
    }
}

/// The calls answer ENOSYS and `/proc/sysvipc` is hidden: empty tables and "kernel not configured for ...".
#[test]
fn without_sysvipc_the_words_are_those_of_ipcs() {
    let mut machine = Machine::new();
    machine.namespace.hide_directory("/proc/sysvipc");
    machine.prefix = vec![binaries::ipc_tool().into(), "without-sysvipc".into(), "--".into()];
    let sampled = machine.sample();
    let question = Question { view: View::Summary, ..Question::default() };
    let text = ipcs(&sampled.snapshot.state, sampled.namespace(), &question, &sampled.zone);
    assert!(String::from_utf8(text).expect("UTF-8").contains("kernel not configured for semaphores"));
    machine.compare_all(&sampled);
}

/// Where util-linux counts right: one semaphore an array, whole pages.
#[test]
fn lsipc_prints_what_lsipc_prints() {
    let machine = Machine::new();
    let empty = machine.sample();
    assert_eq!(lsipc(empty.namespace()), machine.real(&["lsipc"]));
    machine.namespace.script("fill sem 41\nfill shm 3\ncreate-shm 7 1048576\nfill msg 12\n");
    machine.namespace.shell("echo 250 32000 32 128 > /proc/sys/kernel/sem; echo 1536 > /proc/sys/kernel/shmmax");
    let sampled = machine.sample();
    assert_eq!(lsipc(sampled.namespace()), machine.real(&["lsipc"]));
}

const VIEWS: [(&str, View); 6] = [
    ("", View::Default),
    ("-t", View::Time),
    ("-p", View::Pid),
    ("-c", View::Creator),
    ("-u", View::Summary),
    ("-l", View::Limits),
];

const KINDS: [&[&str]; 9] =
    [&[], &["-a"], &["-s"], &["-m"], &["-q"], &["-s", "-m"], &["-s", "-q"], &["-m", "-q"], &["-q", "-m", "-s"]];

/// Accounts of the test: 10 and more characters, letters of two bytes at the cut, the backslash of a domain.
const USERS: &str = "averylongusername:x:71001:71001::/:/bin/sh\nexactly-10:x:71002:71002::/:/bin/sh\n\
                     elevenchars:x:71003:71003::/:/bin/sh\na\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}:x:71004:71004::/:/bin/sh\n\
                     WORKGROUP\\anna:x:71005:71005::/:/bin/sh\n";
const GROUPS: &str = "averylonggroupname:x:71001:\nWORKGROUP\\users:x:71005:\n";
const ZONE: &str = "Europe/Berlin";

/// A private IPC namespace whose `/etc` is a copy.
struct Machine {
    namespace: IpcNamespace,
    /// What every program is run by.
    prefix: Vec<OsString>,
    _etc: TempDir,
}

/// What the agent recorded there.
struct Sampled {
    snapshot: Snapshot,
    inode: u64,
    zone: HostZone,
}

impl Machine {
    fn new() -> Self {
        let namespace = IpcNamespace::new();
        let directory = tempfile::Builder::new().prefix("highwater-etc-").tempdir().expect("a temporary directory");
        let etc = directory.path().join("etc");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg("/etc").arg(&etc);
        run(copy);
        for (file, lines) in [("passwd", USERS), ("group", GROUPS)] {
            let path = etc.join(file);
            let text = fs::read_to_string(&path).expect("accounts in UTF-8") + lines;
            fs::write(path, text).expect("a copy of the accounts");
        }
        fs::remove_file(etc.join("localtime")).expect("a copy of the zone's link");
        symlink(format!("/usr/share/zoneinfo/{ZONE}"), etc.join("localtime")).expect("a link");
        fs::write(etc.join("timezone"), format!("{ZONE}\n")).expect("a zone's name");
        namespace.bind(&etc, "/etc");
        Self { namespace, prefix: Vec::new(), _etc: directory }
    }

    /// One snapshot by the agent, through its JSON.
    #[track_caller]
    fn sample(&self) -> Sampled {
        let mut command = self.command(binaries::agent().into());
        command.args(["snapshot", "--json"]);
        let json: SnapshotJson = serde_json::from_str(&stdout_of(command)).expect("the contract's JSON");
        let (snapshot, _) = json.to_snapshot().expect("a snapshot");
        let zone = std::str::from_utf8(snapshot.state.zone.as_bytes()).expect("a zone's name");
        assert_eq!(zone, ZONE);
        let zone = HostZone(jiff::tz::TimeZone::get(zone).expect("a zone of the database"));
        Sampled { snapshot, inode: self.namespace.inode(), zone }
    }

    #[track_caller]
    fn compare_all(&self, sampled: &Sampled) {
        for kinds in KINDS {
            for view in VIEWS {
                self.compare(sampled, kinds, view);
            }
        }
    }

    #[track_caller]
    fn compare(&self, sampled: &Sampled, kinds: &[&str], (flag, view): (&str, View)) {
        let asked = |flag, kind| kinds.contains(&flag).then_some(kind);
        let kinds_asked = [asked("-s", Kind::Sem), asked("-m", Kind::Shm), asked("-q", Kind::Msg)];
        let question = Question { kinds: kinds_asked.into_iter().flatten().collect(), view };
        let ours = ipcs(&sampled.snapshot.state, sampled.namespace(), &question, &sampled.zone);
        let mut words = vec!["ipcs"];
        words.extend(kinds);
        words.extend((!flag.is_empty()).then_some(flag));
        let theirs = self.real_bytes(&words);
        assert_same(&words.join(" "), &ours, &theirs);
    }

    #[track_caller]
    fn real(&self, words: &[&str]) -> String {
        String::from_utf8(self.real_bytes(words)).expect("UTF-8")
    }

    #[track_caller]
    fn real_bytes(&self, words: &[&str]) -> Vec<u8> {
        let mut command = self.command("env".into());
        command.args(["-u", "TZ", "LC_ALL=C"]).args(words);
        run(command).stdout
    }

    fn command(&self, program: OsString) -> Command {
        let mut words = self.prefix.iter().cloned().chain([program]);
        let mut command = self.namespace.command(words.next().unwrap_or_default());
        command.args(words);
        command
    }
}

impl Sampled {
    #[track_caller]
    fn namespace(&self) -> &Namespace {
        let mut namespaces = self.snapshot.state.namespaces.iter();
        namespaces
            .find(|namespace| namespace.id.inode == self.inode)
            .expect("the agent's own namespace in its snapshot")
    }
}

/// Names the first line that differs: 32,000 lines are no error message.
#[track_caller]
fn assert_same(what: &str, ours: &[u8], theirs: &[u8]) {
    let lines = |bytes: &[u8]| -> Vec<String> {
        bytes.split(|byte| *byte == b'\n').map(|line| line.escape_ascii().to_string()).collect()
    };
    if ours != theirs {
        let (ours, theirs) = (lines(ours), lines(theirs));
        let at = ours.iter().zip(&theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
        panic!("{what}, line {}:\nours   {:?}\ntheirs {:?}", at + 1, ours.get(at), theirs.get(at));
    }
}

/// A zone of the machine's database.
struct HostZone(jiff::tz::TimeZone);

impl Zone for HostZone {
    fn offset_at(&self, unix_seconds: i64) -> i32 {
        jiff::Timestamp::from_second(unix_seconds).map_or(0, |at| self.0.to_offset(at).seconds())
    }
}

fn make_semaphores(namespace: &IpcNamespace) {
    let first = namespace.create("create-sem 0x0d4d0001 1 0600");
    let kept = [
        ("create-sem -559038737 17 0666", "71001 71001 0666"),
        ("create-sem private 1", "4000000000 71001 0600"),
        ("create-sem 0x7fffffff 250 0640", "71004 4294967294 0640"),
        ("create-sem -1 3", "71002 71002 0"),
        ("create-sem 2 32000", "71005 71005 0777"),
        ("create-sem 3 2", "71003 33 0600"),
    ];
    for (create, owner) in kept {
        let id = namespace.create(create);
        namespace.tool(&format!("chown sem {id} {owner}"));
    }
    let operated = namespace.create("create-sem private 4 0600");
    namespace.tool(&format!("operate {operated} 1 1"));
    namespace.tool(&format!("remove sem {first}"));
    past_the_wrap(namespace, "sem", "create-sem 0x0d4d0002 1 0600");
}

fn make_segments(namespace: &IpcNamespace) {
    let first = namespace.create("create-shm private 4096");
    let kept = [
        ("create-shm 0x00bc614e 56", "0 0 0600"),
        ("create-shm -2 20480", "71001 71001 0644"),
        ("create-shm private 17179869184", "4000000000 4000000000 0600"),
        ("create-shm 7 123456789", "71004 71004 0660"),
        ("create-shm 8 4096", "71005 0 0600"),
    ];
    let mut ids = vec![];
    for (create, owner) in kept {
        let id = namespace.create(create);
        namespace.tool(&format!("chown shm {id} {owner}"));
        ids.push(id);
    }
    namespace.tool(&format!("lock-shm {}", ids[1]));
    namespace.tool(&format!("lock-shm {}", ids[4]));
    for attached in [ids[2], ids[4]] {
        namespace.attach(attached);
        namespace.tool(&format!("remove shm {attached}"));
    }
    namespace.tool(&format!("remove shm {first}"));
    past_the_wrap(namespace, "shm", "create-shm private 5000");
}

fn make_queues(namespace: &IpcNamespace) {
    let first = namespace.create("create-msg private");
    let used = namespace.create("create-msg 0x1234 0644");
    namespace.tool(&format!("chown msg {used} 71001 71001 0644"));
    namespace.script(&format!("send {used} 100\nsend {used} 0\nsend {used} 33\nreceive {used}\n"));
    let sent = namespace.create("create-msg -3");
    namespace.tool(&format!("send {sent} 1"));
    namespace.tool(&format!("chown msg {sent} 4000000000 0 0600"));
    let unused = namespace.create("create-msg private");
    namespace.tool(&format!("chown msg {unused} 71003 71003 0600"));
    namespace.tool(&format!("remove msg {first}"));
    past_the_wrap(namespace, "msg", "create-msg 0x78 0620");
}

/// Makes an object that is listed first although its id is the highest: the kernel uses a free index again at once
/// (before Linux 5.1) or after some 64 others, and the id carries how often.
fn past_the_wrap(namespace: &IpcNamespace, kind: &str, create: &str) {
    for _ in 0..200 {
        let id = namespace.create(create);
        let listed = namespace.shell(&format!("awk 'NR == 2 {{ print $2 }}' /proc/sysvipc/{kind}"));
        if listed.trim() == id.to_string() {
            return;
        }
        namespace.tool(&format!("remove {kind} {id}"));
    }
    panic!("no {kind} object came to the lowest index");
}
