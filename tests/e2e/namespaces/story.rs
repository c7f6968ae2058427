//! Containers come, hold things, run out of them, and go.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use highwater_tests::binaries;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::stand_in::StandIn;
use highwater_tests::wait::{PATIENCE, now_ms, until, until_some};
use serde_json::{Value, json};

use super::{Host, os, tool};
use crate::stories::stage::{Stage, fields};

const KINDS: [&[&str]; 5] = [&[], &["-s"], &["-m"], &["-q"], &["-a"]];
const VIEWS: [&[&str]; 6] = [&[], &["-u"], &["-l"], &["-t"], &["-p"], &["-c"]];

#[test]
fn each_container_is_shown_as_ipcs_shows_it_inside() {
    let host = Host::new("outer", "100ms");
    host.namespace.script("create-sem 0x1111 2 0640\nfill msg 1\n");
    let first = host.container();
    let second = first.container(&[&tool()]);
    let third = second.container(&[&tool()]);
    first.shell("echo 250 32000 32 8 > /proc/sys/kernel/sem");
    first.script("fill sem 8\n");
    first.shell("! ipcmk -S 1 2>/dev/null");
    second.shell("echo 33 > /proc/sys/kernel/shmmni; echo 1048576 > /proc/sys/kernel/shmmax");
    second.script("create-shm 0x2222 4096 0600\ncreate-shm private 65536 0640\ncreate-sem -2 3 0600\n");
    let queue = third.create("create-msg 0x3333 0600");
    third.script(&format!("send {queue} 100\nchown msg {queue} 33 33 0600\n"));
    host.until_shown(first.inode(), "eight arrays", |n| n["totals"]["sem_arrays"] == 8 && !n["name"].is_null());
    host.until_shown(second.inode(), "two segments", |n| n["totals"]["shm_segments"] == 2);
    host.until_shown(third.inode(), "its queue", |n| n["msg"][0]["uid"] == 33 && n["name"] == "ipc-tool");

    let compare = |inside: &IpcNamespace, selected: &[&str]| {
        for kind in KINDS {
            for view in VIEWS {
                let flags = [kind, view].concat();
                let printed = inside.shell(&format!("LC_ALL=C TZ=UTC ipcs {}", flags.join(" ")));
                let shown = host.cli.run(&[&["ipcs", host.name], selected, &flags[..]].concat()).must_succeed();
                assert_eq!(shown.text(), printed, "{flags:?} of {selected:?}");
            }
        }
    };
    for inside in [&first, &second, &third] {
        compare(inside, &["--namespace", &inside.inode().to_string()]);
        assert_eq!(host.events("namespace_appeared", inside.inode()).len(), 1);
    }
    compare(&host.namespace, &[]);
}

#[test]
fn who_was_refused_in_an_exhausted_container_three_deep_is_named() {
    let stage = Stage::prepared("deep", &[("HIGHWATER_NAMESPACES", "all")], |_| {});
    let mut outer = StandIn::in_its_own(&stage.namespace, "outermost", 1001);
    let mut middle = outer.below("between", 1002);
    let mut inner = middle.below("httpd", 48);
    inner.shell("echo 250 32000 32 8 > /proc/sys/kernel/sem");
    middle.shell("echo 33 > /proc/sys/kernel/shmmni");
    outer.shell("echo 12 > /proc/sys/kernel/msgmni");
    assert!(outer.call("create-msg 0x3333 0600") >= 0);
    assert!(middle.call("create-shm 0x2222 4096 0640") >= 0);
    assert_eq!(inner.call("fill-used 8"), 0);
    let cli = stage.cli();
    // A look right after its unshare finds the tool's own name, and the next one at all processes the one that it took.
    until("the last of eight is seen, in what is called httpd", PATIENCE, || {
        let answer = cli.run(&["ipcs", "deep", "--json", "--namespace", &inner.inode().to_string()]);
        let eight = |shown: &Value| shown["totals"]["sem_arrays"] == 8 && shown["name"] == "httpd";
        answer.code == 0 && eight(&answer.json()["namespaces"][0])
    });
    assert_eq!(inner.call("create-sem private 1"), -28, "ENOSPC");
    let refused = until_some("the refusal is told", PATIENCE, || {
        let told = cli.json(&["timeline", "deep", "--kind", "refused"]);
        told["events"].as_array()?.iter().find(|event| event["namespace"] == inner.inode()).cloned()
    });
    fields(
        &refused,
        &[
            ("by.comm", json!("httpd")),
            ("by.pid", json!(inner.pid())),
            ("by.uid", json!(48)),
            ("own_namespace", json!(false)),
            ("namespace_name", json!("httpd")),
            ("detail.call", json!("semget")),
            ("detail.errno.name", json!("ENOSPC")),
            ("detail.resource", json!("SEMMNI")),
            ("detail.used_u64", json!("8")),
            ("detail.limit_u64", json!("8")),
        ],
    );
    let line = format!("httpd (pid {}) refused semget: SEMMNI 8/8", inner.pid());
    let shown = stage.shown(&["timeline", "deep", "--kind", "refused"]);
    assert!(shown.contains(&line), "{shown}");
    for inside in [&outer, &middle, &inner] {
        for flags in ["-s", "-m", "-q", "-u", "-l"] {
            let printed = inside.shell(&format!("LC_ALL=C TZ=UTC ipcs {flags}"));
            let answer = cli.run(&["ipcs", "deep", "--namespace", &inside.inode().to_string(), flags]);
            assert_eq!(answer.must_succeed().text(), printed, "{flags}");
        }
    }
}

/// Bytes of shared memory that the machine holds.
fn shared_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:")).expect("a line of /proc/meminfo");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).expect("kB") * 1024
}

#[test]
fn the_memory_of_a_container_that_died_comes_back_while_the_agent_runs() {
    const MIB: u64 = 1 << 20;
    let bytes = (600 * MIB).to_string();
    let host = Host::new("memory", "5s");
    let container = host.container();
    let before = shared_memory();
    let segment = container.create(&format!("create-shm private {}", 600 * MIB));
    container.tool(&format!("touch {segment} {}", 600 * MIB));
    let inode = container.inode();
    host.until_shown(inode, "its segment, and what unshare became", |n| {
        n["shm"][0]["rss_u64"].as_str() == Some(bytes.as_str()) && n["name"] == "ipc-tool"
    });
    let full = shared_memory();
    // Other tests hold less shared memory than this, the disks that they fill included.
    assert!(full > before + 350 * MIB, "{before:?} {full:?}");
    container.kill();
    let killed = now_ms();
    until("the memory is back", PATIENCE, || shared_memory() + 350 * MIB < full);
    let after = now_ms() - killed;
    println!("600 MiB back {after} ms after the last process was killed, with an interval of 5 s");
    assert!(after < 5000, "{after} ms");
    until("its end is told", PATIENCE, || !host.events("namespace_gone", inode).is_empty());
    fields(
        &host.events("namespace_gone", inode)[0],
        &[
            ("namespace_name", json!("ipc-tool")),
            ("detail.lost", json!({"sem": 0, "shm": 1, "msg": 0})),
            ("detail.bytes_u64", json!(bytes)),
        ],
    );
    assert!(!host.agent_holds(inode));
    assert!(host.now().expect("a host in sight")["namespaces"].as_array().is_some_and(|all| all.len() == 1));
}

#[test]
fn two_containers_with_one_inode_are_two_instances() {
    let host = Host::new("reuse", "100ms");
    // Whoever makes a namespace next gets the inode of one that went, which may be another test: so any of those that were
    // shown will do.
    let mut before = BTreeMap::new();
    let (inode, shown, container) = until_some("another container has an inode of before", PATIENCE, || {
        let container = host.container();
        let inode = container.inode();
        if let Some(shown) = before.remove(&inode) {
            return Some((inode, shown, container));
        }
        container.script("fill sem 3\n");
        before.insert(inode, host.until_shown(inode, "its arrays", |n| n["totals"]["sem_arrays"] == 3));
        container.kill();
        None
    });
    container.script("fill sem 5\n");
    let again = host.until_shown(inode, "the other's arrays", |n| n["totals"]["sem_arrays"] == 5);
    assert_eq!((&shown["id"], &again["id"]), (&inode.into(), &inode.into()));
    assert_ne!(shown["instance"], again["instance"]);
    until("both lives are told", PATIENCE, || {
        host.events("namespace_appeared", inode).len() >= 2 && !host.events("namespace_gone", inode).is_empty()
    });
    let removed = host.cli.json(&["timeline", host.name, "--kind", "removed", "--since", "-1h"]);
    let told = removed["events"].as_array().expect("events");
    assert!(told.iter().all(|event| event["namespace"] != inode), "its end is told, not that of its arrays: {removed}");
}

/// A cgroup that goes with the test.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    /// Makes that path, part by part, below the root of version 2.
    fn new(path: &str) -> Self {
        let mounts = fs::read_to_string("/proc/mounts").expect("/proc/mounts");
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("cgroup version 2");
        let mut at = PathBuf::from(mount.split(' ').nth(1).expect("where it is mounted"));
        let mut made = Vec::new();
        for part in path.split('/') {
            at.push(part);
            if fs::create_dir(&at).is_ok() {
                made.push(at.clone());
            }
        }
        assert!(at.is_dir(), "{}", at.display());
        let all = Self(made);
        assert!(!all.0.is_empty(), "{path} was there before");
        all
    }

    fn take_in(&self, pid: u32) {
        let last = self.0.last().expect("at least one part");
        fs::write(last.join("cgroup.procs"), pid.to_string()).expect("moving a process");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Busy until the processes in it are reaped.
        let last = self.0.last().cloned().unwrap_or_default();
        until("the cgroup is empty", PATIENCE, || {
            fs::read_to_string(last.join("cgroup.procs")).is_ok_and(|pids| pids.is_empty())
        });
        for path in self.0.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

#[test]
fn a_container_is_named_after_its_cgroup_and_a_forgery_after_its_comm() {
    let id = format!("{:064x}", std::process::id());
    let top = format!("highwater-test-{}", std::process::id());
    let genuine = Cgroup::new(&format!("{top}/docker/{id}"));
    let forged = Cgroup::new(&format!("{top}-forged/docker/{id}x"));
    let host = Host::new("named", "100ms");
    let [first, second] = [host.container(), host.container()];
    genuine.take_in(first.pid());
    forged.take_in(second.pid());
    // A name is asked anew when all processes are looked at, at least every ten seconds.
    let shown = host.until_shown(first.inode(), "its container's id", |n| n["name"] == id.as_str());
    assert_eq!(shown["named_by"], "docker");
    let shown = host.until_shown(second.inode(), "its comm", |n| n["name"] == "ipc-tool");
    assert_eq!(shown["named_by"], "comm");
    drop((first, second, host));
}

#[test]
fn nothing_in_a_containers_root_is_read() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let make = |path: &str| fs::create_dir_all(root.path().join(path)).expect("a directory");
    make("etc");
    make("proc");
    let secret = root.path().join("secret");
    let canary = "canary:x:424242:424242::/:/bin/sh\n";
    fs::write(&secret, canary).expect("a secret");
    for name in ["etc/passwd", "etc/group"] {
        std::os::unix::fs::symlink("/secret", root.path().join(name)).expect("a link");
    }
    let host = Host::new("rooted", "100ms");
    let chroot = [os("--root"), root.path().as_os_str()];
    let mut command = vec![os("/usr/sbin/chroot"), chroot[1], os("/ipc-tool")];
    if !Path::new("/usr/sbin/chroot").exists() {
        command[0] = os("chroot");
    }
    bring_in(root.path());
    let container = host.namespace.container(&command);
    let array = container.create("create-sem private 1 0600");
    container.tool(&format!("chown sem {array} 424242 424242 0600"));
    let read_before = fs::metadata(&secret).expect("the secret").atime_nsec();
    let shown = host.until_shown(container.inode(), "its array", |n| n["sem"][0]["uid"] == 424_242);
    assert!(shown["sem"][0]["user"].is_null() && shown["sem"][0]["group"].is_null(), "{shown}");
    for command in
        [&["ipcs", host.name, "--json"][..], &["timeline", host.name, "--json"], &["blame", host.name, "--json"]]
    {
        let told = host.cli.run(command).must_succeed();
        // The host itself is not called that.
        assert!(!told.text().contains("canary"), "{}", told.text());
    }
    assert_eq!(fs::metadata(&secret).expect("the secret").atime_nsec(), read_before, "nobody read it");
    // The file system does keep that time.
    let _ = fs::read(&secret).expect("the secret");
    assert_ne!(fs::metadata(&secret).expect("the secret").atime_nsec(), read_before);
}

/// Copies `ipc-tool` and the libraries it is linked with into a root of its own.
fn bring_in(root: &Path) {
    let mut ldd = std::process::Command::new("ldd");
    ldd.arg(tool());
    let listed = highwater_tests::process::stdout_of(ldd);
    binaries::copy(tool(), &root.join("ipc-tool"));
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let target = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(target.parent().expect("a directory")).expect("a directory");
        binaries::copy(library, &target);
    }
}
