//! Hostile containers: crowds of objects in namespaces that any user can make, under names that try to break out.
//!
//! `HIGHWATER_CROWD=50` makes fifty of them instead of four; `ARCHITECTURE.md` has the figures of such a run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use highwater_ipc::time::parse_rfc3339_ms;
use highwater_tests::binaries;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::wait::{PATIENCE, now_ms, until};
use serde_json::Value;

use super::{Host, tool};

/// Objects that one unprivileged user namespace can hold: SEMMNI, SHMMNI and MSGMNI of a new namespace.
const FULL: &str = "fill sem 32000\nfill shm 4096\nfill msg 32000\n";
/// A comm with a newline, an escape sequence and what is no text.
const NAME: &[u8] = b"a\nb\x1b[31m\xff) S";

fn crowd() -> usize {
    std::env::var("HIGHWATER_CROWD").map_or(4, |number| number.parse().expect("a number in HIGHWATER_CROWD"))
}

/// Processor time a process has used, milliseconds, and its resident memory at most, MiB.
fn used(pid: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the agent runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a comm").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kib: u64 = peak.split_whitespace().next().and_then(|kb| kb.parse().ok()).expect("kB");
    (ticks * 10, kib / 1024)
}

/// What ten samples at an interval of a second cost, milliseconds each.
#[track_caller]
fn cost(host: &Host) -> u64 {
    let (agent, first) = (host.agent_pid(), last_seen(host));
    let before = used(agent).0;
    until("ten samples", 2 * PATIENCE, || last_seen(host) >= first + 10_000);
    (used(agent).0 - before) / 10
}

/// When the host was sampled last, as far as is stored; milliseconds since 1970.
fn last_seen(host: &Host) -> i64 {
    let hosts = host.cli.json(&["hosts"]);
    let all = hosts["hosts"].as_array().expect("hosts");
    let this = all.iter().find(|h| h["name"] == host.name).expect("this host");
    let text = this["last_seen"].as_str().expect("a time");
    parse_rfc3339_ms(text).expect("RFC 3339")
}

/// Whenever one looks, the newest sample is at most two intervals and what it takes to send it old, and none is missing.
#[track_caller]
fn samples_are_on_time(host: &Host) {
    let (began, mut oldest) = (now_ms(), 0);
    until("ten seconds have passed", PATIENCE, || {
        oldest = oldest.max(now_ms() - last_seen(host));
        now_ms() - began > 10_000
    });
    println!("the newest stored sample was never older than {oldest} ms, with an interval of 1 s");
    assert!(oldest < 3000, "{oldest} ms");
    nothing_is_missing(host);
}

#[track_caller]
fn nothing_is_missing(host: &Host) {
    let gaps = host.cli.json(&["timeline", host.name, "--kind", "gap", "--since", "-1h"]);
    let own = host.namespace.inode();
    for event in gaps["events"].as_array().expect("events") {
        let detail = &event["detail"];
        let foreign =
            detail["unread"].is_string() && event["namespace"] != own && detail["gap"]["reason"] == "unreadable";
        assert!(foreign, "samples are missing, or lists of its own: {event}");
        let told = detail["gap"]["detail"].as_str().expect("why");
        assert!(told.ends_with(" of them, which were counted and not listed"), "{event}");
    }
}

/// An array made in the host's own namespace is shown in time.
#[track_caller]
fn the_hosts_own_is_sampled_on_time(host: &Host) {
    for _ in 0..3 {
        let semid = host.namespace.create("create-sem private 1");
        let made = now_ms();
        let is_it = |array: &Value| array["semid"] == semid;
        until("the host's new array", PATIENCE, || {
            let now = host.now().expect("a host in sight");
            now["namespaces"][0]["sem"].as_array().is_some_and(|all| all.iter().any(is_it))
        });
        let after = now_ms() - made;
        println!("an array of the host's own is shown after {after} ms, with an interval of 1 s");
        assert!(after < 2500, "{after} ms");
    }
    nothing_is_missing(host);
}

/// Containers of an unprivileged user with those objects, and with that comm.
fn containers(host: &Host, many: usize, script: &str) -> (tempfile::TempDir, Vec<IpcNamespace>) {
    let directory = tempfile::Builder::new().prefix("highwater-crowd-").tempdir().expect("a temporary directory");
    let program = directory.path().join(OsStr::from_bytes(NAME));
    binaries::copy(tool(), &program);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), open).expect("chmod");
    let made = (0..many).map(|_| host.namespace.unprivileged_container(&[program.as_os_str()])).collect::<Vec<_>>();
    made.iter().for_each(|container| {
        container.script(script);
    });
    (directory, made)
}

#[test]
fn a_crowd_of_objects_is_counted_and_the_hosts_own_sampled_on_time() {
    let many = crowd();
    let host = Host::new("crowd", "1s");
    host.namespace.script("fill sem 65\n");
    let began = now_ms();
    let (_directory, hostile) = containers(&host, many, FULL);
    println!("{many} namespaces with 68,096 objects each were made in {} ms", now_ms() - began);
    for container in &hostile {
        // Its name is asked anew with each look at all processes: the first one may have found it before its exec.
        let shown = host.until_shown(container.inode(), "its totals and its name", |n| {
            n["left_out"]["msg"] == 32_000 && n["name"] == "a\\x0ab\\x1b[31m\\xff) S"
        });
        assert_eq!(shown["totals"]["sem_arrays"], 32_000);
        assert!(shown["sem"].is_null() && shown["shm"].is_null() && shown["msg"].is_null());
        assert_eq!(shown["named_by"], "comm");
    }
    the_hosts_own_is_sampled_on_time(&host);
    let (cpu, rss) = (cost(&host), used(host.agent_pid()).1);
    println!("agent beside {many} of them: {cpu} ms a sample, at most {rss} MiB resident");
    assert!(cpu <= if cfg!(debug_assertions) { 120 } else { 30 }, "{cpu} ms");
    assert!(rss <= 64, "{rss} MiB");
}

#[test]
fn as_many_objects_as_are_listed_cost_what_they_may() {
    let host = Host::new("budget", "1s");
    let (_directory, crowd) = containers(&host, 6, "fill sem 14000\n");
    for container in &crowd {
        host.until_shown(container.inode(), "its arrays", |n| {
            n["sem"].as_array().is_some_and(|all| all.len() == 14_000)
        });
    }
    let now = host.now().expect("a host in sight");
    let skipped = now["namespaces"].as_array().expect("namespaces").iter().map(|n| n["skipped"].as_u64().unwrap_or(0));
    assert!(skipped.max() > Some(0), "84,000 objects are more than one sample reads");
    samples_are_on_time(&host);
    let (cpu, rss) = (cost(&host), used(host.agent_pid()).1);
    println!("agent that lists 84,000 objects in six namespaces: {cpu} ms a sample, at most {rss} MiB resident");
    assert!(cpu <= if cfg!(debug_assertions) { 200 } else { 30 }, "{cpu} ms");
    assert!(rss <= 64, "{rss} MiB");
}
