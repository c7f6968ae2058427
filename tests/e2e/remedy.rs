//! The printed commands, run by a real shell on real objects: what they change, and when they change nothing.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use highwater_ipc::limits::Limits;
use highwater_ipc::object::{Key, Kind, Owner, Perms, SemArray};
use highwater_ipc::remedy::{Removal, raise, removals};
use highwater_ipc::render::lsipc::Parameter;
use highwater_ipc::snapshot::{BootId, Namespace, NamespaceId};
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, until};

/// A uid that no process of any machine has, but those that these tests start in process namespaces of their own.
const UID: u32 = 61_234;
/// One that none has at all: for what is looked for among the machine's processes.
const NOBODY: u32 = 61_243;

/// The rows of `/proc/sysvipc/sem` in it.
fn arrays(ns: &IpcNamespace) -> Vec<SemArray> {
    let table = ns.shell("cat /proc/sysvipc/sem");
    let array = |line: &str| {
        let n: Vec<i64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let id = |i: usize| u32::try_from(n[i]).unwrap();
        SemArray {
            key: Key(n[0].try_into().unwrap()),
            semid: n[1].try_into().unwrap(),
            perms: Perms(u32::from_str_radix(&n[2].to_string(), 8).unwrap()),
            nsems: id(3),
            owner: Owner { uid: id(4), gid: id(5), cuid: id(6), cgid: id(7) },
            otime: n[8],
            ctime: n[9],
        }
    };
    table.lines().skip(1).map(array).collect()
}

fn ids(ns: &IpcNamespace) -> Vec<i32> {
    arrays(ns).iter().map(|array| array.semid).collect()
}

/// As a sample would tell it, had it graded those arrays so.
fn graded(ns: &IpcNamespace, grades: &[(i32, Grade)]) -> Namespace {
    let orphan = |grade| Orphan { grade, doubt: Doubt::None, last_pids: vec![] };
    let known = |(id, grade): &(i32, Grade)| ((Kind::Sem, *id), Known { comm: None, orphan: Some(orphan(*grade)) });
    Namespace {
        id: NamespaceId { inode: ns.inode(), instance: 1 },
        sem: Some(arrays(ns)),
        who: Some(Who { comms: BTreeMap::new(), objects: grades.iter().map(known).collect() }),
        ..Namespace::default()
    }
}

fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    BootId(u128::from_str_radix(&digits, 16).unwrap().to_be_bytes())
}

fn inode(link: &str) -> u64 {
    link.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// The one command for the one owner.
fn command(ns: &IpcNamespace, namespace: &Namespace, boot_id: BootId) -> Removal {
    let pid_namespace = inode(&ns.shell("readlink /proc/self/ns/pid"));
    let mut removals = removals(boot_id, namespace, pid_namespace);
    assert_eq!(removals.len(), 1, "{removals:?}");
    removals.remove(0)
}

fn sh(mut command: Command, script: &str) -> Output {
    command.args(["-c", script]).output().unwrap()
}

/// Runs it in there; what it said on standard output.
fn run_in(ns: &IpcNamespace, removal: &Removal) -> String {
    String::from_utf8(sh(ns.command("sh"), &removal.command).stdout).unwrap()
}

/// Four arrays of that uid, one of another.
fn with_arrays(ns: &IpcNamespace, uid: u32) -> (Vec<i32>, i32) {
    let mine: Vec<i32> = (1..=4)
        .map(|nsems| {
            let id = ns.create(&format!("create-sem private {nsems}"));
            ns.tool(&format!("chown sem {id} {uid} {uid}"));
            id
        })
        .collect();
    (mine, ns.create("create-sem 0x80000001 1"))
}

#[test]
fn r2_the_removal_takes_exactly_the_certain_arrays_and_nothing_the_second_time() {
    let ns = IpcNamespace::with_processes("remedy");
    let (mine, other) = with_arrays(&ns, UID);
    let namespace = graded(&ns, &[(mine[0], Grade::Certain), (mine[1], Grade::Likely), (mine[2], Grade::Certain)]);
    let removal = command(&ns, &namespace, boot_id());
    assert_eq!((removal.uid, removal.named, removal.of), (UID, 2, 2));
    let said = run_in(&ns, &removal);
    assert_eq!(said.lines().count(), 2, "ipcrm -v says what it removes: {said}");
    assert_eq!(ids(&ns), [mine[1], mine[3], other]);
    // The places are free again; what takes them is not what was named.
    let again = ns.create("create-sem private 1");
    ns.tool(&format!("chown sem {again} {UID} {UID}"));
    assert_eq!(run_in(&ns, &removal), "");
    let mut left = ids(&ns);
    left.sort_unstable();
    let mut expected = vec![mine[1], mine[3], other, again];
    expected.sort_unstable();
    assert_eq!(left, expected);
}

#[test]
fn r2_the_removal_refuses_while_a_process_of_that_uid_lives() {
    let ns = IpcNamespace::with_processes("remedy-alive");
    let (mine, _) = with_arrays(&ns, UID);
    let removal = command(&ns, &graded(&ns, &[(mine[0], Grade::Certain)]), boot_id());
    // Its real uid is another: the effective, saved and fs uid count too.
    for ids in [format!("--reuid {UID}"), format!("--euid {UID}"), format!("--ruid {UID}")] {
        let start = format!("setpriv {ids} sleep 600 </dev/null >/dev/null 2>&1 & echo $!");
        let pid: u32 = ns.shell(&start).trim().parse().unwrap();
        let has =
            format!("grep -q '^Uid:.*{UID}' /proc/{pid}/status && grep -q sleep /proc/{pid}/comm && echo yes; true");
        until("a process of that uid", PATIENCE, || ns.shell(&has) == "yes\n");
        assert_eq!(run_in(&ns, &removal), "", "{ids}");
        assert!(ns.shell("cat /proc/sysvipc/sem").contains(&format!("{}", mine[0])), "{ids}");
        ns.shell(&format!("kill {pid}"));
        until("it is gone", PATIENCE, || ns.shell(&format!("[ -e /proc/{pid} ] || echo gone")) == "gone\n");
    }
    assert_eq!(run_in(&ns, &removal).lines().count(), 1, "nobody lives now");
    assert!(!ids(&ns).contains(&mine[0]));
}

#[test]
fn r2_the_removal_refuses_in_another_namespace_and_in_another_boot() {
    let ns = IpcNamespace::with_processes("remedy-here");
    let (mine, _) = with_arrays(&ns, UID);
    let namespace = graded(&ns, &[(mine[0], Grade::Certain)]);
    let before = ids(&ns);
    let other_boot = command(&ns, &namespace, BootId([7; 16]));
    assert_eq!(run_in(&ns, &other_boot), "");
    let right = command(&ns, &namespace, boot_id());
    // Same rows, another IPC namespace, where the same id exists.
    let mut elsewhere = ns.command("unshare");
    let made = format!("ipcmk -S 1 >/dev/null; {}", right.command);
    elsewhere.args(["--ipc", "sh", "-c", &made]);
    assert_eq!(elsewhere.output().unwrap().stdout, b"");
    // The same IPC namespace seen from the machine's processes, among which nobody looked.
    let mut from_outside = Command::new("nsenter");
    from_outside.args(["--target", &ns.pid().to_string(), "--ipc", "sh"]);
    assert_eq!(sh(from_outside, &right.command).stdout, b"");
    // And where /proc cannot be read.
    let mut hidden = ns.command("unshare");
    let without_proc = format!("mount -t tmpfs none /proc; {}", right.command);
    hidden.args(["--mount", "sh", "-c", &without_proc]);
    assert_eq!(hidden.output().unwrap().stdout, b"");
    assert_eq!(ids(&ns), before);
    assert_eq!(run_in(&ns, &right).lines().count(), 1, "here it acts");
}

#[test]
fn r2_the_removal_skips_an_array_that_changed() {
    let ns = IpcNamespace::with_processes("remedy-changed");
    let (mine, other) = with_arrays(&ns, UID);
    let grades: Vec<_> = mine.iter().map(|id| (*id, Grade::Certain)).collect();
    let removal = command(&ns, &graded(&ns, &grades), boot_id());
    // One was used since (otime), one was given away, one came back under its id as another array.
    ns.tool(&format!("operate {} 0 1", mine[0]));
    ns.tool(&format!("chown sem {} {} {UID}", mine[1], UID + 1));
    assert_eq!(run_in(&ns, &removal).lines().count(), 2);
    assert_eq!(ids(&ns), [mine[0], mine[1], other]);
}

#[test]
fn r2_the_removal_skips_an_array_that_somebody_waits_for() {
    let ns = IpcNamespace::with_processes("remedy-awaited");
    let (mine, other) = with_arrays(&ns, UID);
    let grades: Vec<_> = mine.iter().map(|id| (*id, Grade::Certain)).collect();
    let removal = command(&ns, &graded(&ns, &grades), boot_id());
    let mut waiter = StandIn::new(&ns, "waiter", 0);
    // At its last semaphore of three: neither its row nor the one of any process of its uid says so.
    waiter.tell(&format!("wait-for {} 2", mine[2]));
    let listed = format!("ipcs -s -i {} | awk 'NF==5 && $1==2 && $3==1' | wc -l", mine[2]);
    until("it waits", PATIENCE, || ns.shell(&listed).trim() == "1");
    assert_eq!(run_in(&ns, &removal).lines().count(), 3);
    assert_eq!(ids(&ns), [mine[2], other]);
    ns.shell("kill -KILL $(ps -e -o pid=,comm= | awk '$2==\"waiter\"{print $1}')");
    until("nobody waits now", PATIENCE, || ns.shell(&listed).trim() == "0");
    assert_eq!(run_in(&ns, &removal).lines().count(), 1);
}

/// As it is printed for a container: from the machine's own shell, which finds its way by the inode.
#[test]
fn r2_in_a_container_the_removal_enters_its_namespace() {
    let ns = IpcNamespace::new();
    let (mine, other) = with_arrays(&ns, NOBODY);
    let pid_namespace = inode(&std::fs::read_link("/proc/self/ns/pid").unwrap().to_string_lossy());
    let namespace = Namespace { name: Some(HostText::from("c")), ..graded(&ns, &[(mine[3], Grade::Certain)]) };
    let removal = removals(boot_id(), &namespace, pid_namespace).remove(0);
    let nobody_there = Namespace { id: NamespaceId { inode: 5, instance: 1 }, ..namespace };
    let astray = removals(boot_id(), &nobody_there, pid_namespace).remove(0);
    assert!(!sh(Command::new("sh"), &astray.command).status.success());
    let done = sh(Command::new("sh"), &removal.command);
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().count(), 1, "{done:?}");
    assert_eq!(ids(&ns), [mine[0], mine[1], mine[2], other]);
}

#[test]
fn r1_the_printed_commands_raise_each_limit_of_that_namespace() {
    let ns = IpcNamespace::new();
    ns.shell("echo 250 32000 32 128 > /proc/sys/kernel/sem; echo 16 > /proc/sys/kernel/msgmni");
    let limits = Limits {
        semmsl: 250,
        semmns: 32000,
        semopm: 32,
        semmni: 128,
        semvmx: 32767,
        shmmax: 1 << 30,
        shmall: 1 << 20,
        shmmni: 4096,
        shmmin: 1,
        msgmax: 8192,
        msgmnb: 16384,
        msgmni: 16,
    };
    let id = NamespaceId { inode: ns.inode(), instance: 1 };
    let own = Namespace { id, limits: Some(limits), ..Namespace::default() };
    let container = Namespace { name: Some(HostText::from("c")), ..own.clone() };
    let read =
        |file: &str| ns.shell(&format!("cat /proc/sys/kernel/{file}")).split_whitespace().collect::<Vec<_>>().join(" ");
    let inside = |parameter| {
        let raise = raise(&own, parameter, 0).unwrap();
        assert!(sh(ns.command("sh"), &raise.command).status.success(), "{}", raise.command);
    };
    inside(Parameter::Semmni);
    assert_eq!(read("sem"), "250 32000 32 256");
    inside(Parameter::Semmns);
    assert_eq!(read("sem"), "250 64000 32 256");
    inside(Parameter::Semmsl);
    assert_eq!(read("sem"), "500 64000 32 256");
    for (parameter, file, value) in [
        (Parameter::Msgmni, "msgmni", "32"),
        (Parameter::Shmmni, "shmmni", "8192"),
        (Parameter::Shmall, "shmall", "2097152"),
        (Parameter::Shmmax, "shmmax", "2147483648"),
    ] {
        inside(parameter);
        assert_eq!(read(file), value);
    }
    // At the kernel's maximum: it is taken, one more is not.
    let near = Namespace { limits: Some(Limits { semmni: 32_000, ..limits }), ..own.clone() };
    let most = raise(&near, Parameter::Semmni, 0).unwrap();
    assert_eq!(most.to, 32_768);
    assert!(sh(ns.command("sh"), &most.command).status.success());
    assert_eq!(read("sem"), "500 64000 32 32768");
    // From the machine's own shell, into the container.
    let raise = raise(&container, Parameter::Semmni, 0).unwrap();
    let done = sh(Command::new("sh"), &raise.command);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(read("sem"), "500 64000 32 256");
}
