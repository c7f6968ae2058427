//! A thread enters another process's IPC namespace, sees what is in it, and leaves nothing of itself there (needs root
//! and `unshare`).
#![allow(clippy::unwrap_used, reason = "a test program: it may panic anywhere")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use highwater_agent::kernel::Kernel;
use highwater_agent::kernel::real::RealKernel;
use highwater_agent::sys::errno::Errno;

/// A process in an IPC namespace with that SEMMNI, until its input closes.
fn elsewhere(semmni: u64) -> Child {
    let script = format!("echo 250 32000 32 {semmni} > /proc/sys/kernel/sem; echo ready; exec cat");
    let mut child = Command::new("unshare")
        .args(["--ipc", "sh", "-ec", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    child
}

fn links(directory: &str, below: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join(below));
    entries.filter_map(|path| Some(fs::read_link(path).ok()?.to_string_lossy().into_owned())).collect()
}

/// No descriptor and no thread of this process is in that namespace.
fn nothing_is_in(namespace: &str) -> bool {
    let held = links("/proc/self/fd", "").into_iter().chain(links("/proc/self/task", "ns/ipc"));
    !held.into_iter().any(|link| link == namespace)
}

#[test]
fn a_thread_enters_sees_and_leaves_nothing_behind() {
    let [mut first, mut second] = [elsewhere(7), elsewhere(9)];
    let pids = [first.id(), second.id()].map(|pid| i32::try_from(pid).unwrap());
    let namespaces = pids.map(|pid| fs::read_link(Path::new(&format!("/proc/{pid}/ns/ipc"))).unwrap());
    let namespaces = namespaces.map(|link| link.to_string_lossy().into_owned());
    let sampler = thread::spawn(move || {
        let mut kernel = RealKernel::new();
        let at_home = (kernel.namespace(), kernel.sem_limits());
        let (mut seen, mut buffer, mut listed) = (Vec::new(), Vec::new(), Vec::new());
        for (pid, semmni) in pids.into_iter().zip([7, 9]) {
            seen.push(kernel.enter(pid).unwrap());
            assert_eq!(kernel.sem_limits().unwrap().semmni, semmni);
            kernel.read("/proc/sys/kernel/sem", 100, &mut buffer).unwrap();
            assert!(buffer.ends_with(format!("\t{semmni}\n").as_bytes()), "files show the thread's namespace too");
            assert_eq!(kernel.namespace().unwrap().inode, seen[seen.len() - 1].inode);
        }
        assert_eq!(kernel.enter(i32::MAX), Err(Errno::ENOENT));
        assert_eq!(kernel.sem_limits().unwrap().semmni, 9, "after an error it is where it was");
        kernel.home();
        kernel.home();
        assert_eq!((kernel.namespace(), kernel.sem_limits()), at_home);
        kernel.pids(&mut listed).unwrap();
        assert!(pids.iter().all(|pid| listed.contains(pid)));
        assert!(namespaces.iter().all(|namespace| nothing_is_in(namespace)));
        let shown: Vec<String> = seen.iter().map(|seen| format!("ipc:[{}]", seen.inode)).collect();
        assert_eq!(shown, namespaces);
        assert!(seen[0].id.is_none() || seen[0].id != seen[1].id, "{seen:?}");
    });
    sampler.join().unwrap();
    for child in [&mut first, &mut second] {
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
