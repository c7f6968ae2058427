//! The matrix of what can stand between an agent and System V IPC: state, evidence and remedy of each, as the program
//! prints them, against the golden files in this folder (`HIGHWATER_BLESS=1` rewrites them).
//!
//! Kernel configuration and container are fixtures, so that the answer is the same on every machine; the kernel's
//! release reads RELEASE.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use highwater_agent::sys::errno::Errno;
use highwater_tests::binaries;
use highwater_tests::cli::answer;
use highwater_tests::ipc_namespace::IpcNamespace;
use serde_json::Value;

mod fleet;

/// `CONFIG_SYSVIPC=y`.
const YES: Option<&str> = Some("CONFIG_X=y\nCONFIG_SYSVIPC=y\n");
/// Not set.
const NO: Option<&str> = Some("CONFIG_X=y\n# CONFIG_SYSVIPC is not set\n");

const CONFIG_GZ: &str = "evidence: tried /proc/config.gz:";

/// A namespace with that kernel configuration, and none of the machine's own hints at a container or SELinux.
fn host(config: Option<&str>) -> IpcNamespace {
    let namespace = IpcNamespace::new();
    namespace.kernel_config(config);
    namespace.shell(
        "mkdir -p /run/systemd; mount -t tmpfs fixture /run/systemd; echo lxc > /run/systemd/container
         [ ! -d /sys/fs/selinux ] || mount -t tmpfs fixture /sys/fs/selinux",
    );
    namespace
}

/// `highwater-agent snapshot --json` behind those words.
fn snapshot(namespace: &IpcNamespace, before: &[&str]) -> Value {
    let agent = binaries::agent();
    let mut words = before.iter().copied().chain([agent.to_str().expect("a path in UTF-8"), "snapshot", "--json"]);
    let mut command: Command = namespace.command(words.next().expect("the agent at least"));
    command.args(words);
    answer(command).must_succeed().json()
}

/// The same, with every System V IPC call answered by that errno.
fn refused(namespace: &IpcNamespace, errno: Errno) -> Value {
    let tool = binaries::ipc_tool();
    let errno = errno.0.to_string();
    snapshot(namespace, &[tool.to_str().expect("a path in UTF-8"), "refused", &errno, "--"])
}

/// Compares state, evidence, remedy and what is not seen with the golden file of that name.
#[track_caller]
fn golden(name: &str, snapshot: &Value) {
    let sysvipc = &snapshot["sysvipc"];
    let mut text = format!("state: {}\n", sysvipc["state"].as_str().expect("a state"));
    for line in sysvipc["evidence"].as_array().expect("a list") {
        let _ = writeln!(text, "evidence: {}", line.as_str().expect("text"));
    }
    let _ = writeln!(text, "remedy: {}", sysvipc["remedy"].as_str().expect("a remedy"));
    for entry in snapshot["unseen"].as_array().into_iter().flatten() {
        let (source, error) = (entry["source"].as_str().expect("text"), entry["error"].as_str().expect("text"));
        let _ = writeln!(text, "unseen: {source}: {error}");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let text: String = text
        .replace(release.trim_end(), "RELEASE")
        .lines()
        // A machine with AppArmor confines what it likes.
        .filter(|line| !line.starts_with("evidence: AppArmor"))
        // How many processes a machine has is its own affair.
        .map(|line| match line.split_once(" or more processes") {
            Some((start, end)) => format!("{} N or more processes{end}", start.rsplit_once(' ').map_or("", |(s, _)| s)),
            None => line.to_owned(),
        })
        // Not every kernel offers this file; where it does, the fixture is an empty one.
        .map(|line| if line.starts_with(CONFIG_GZ) { CONFIG_GZ.to_owned() } else { line })
        .fold(String::new(), |all, line| all + &line + "\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/availability").join(format!("{name}.txt"));
    if std::env::var_os("HIGHWATER_BLESS").is_some() {
        std::fs::write(&file, &text).expect("writing the golden file");
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{} (HIGHWATER_BLESS=1 rewrites it)", file.display());
}

#[test]
fn plain() {
    golden("plain", &snapshot(&host(YES), &[]));
}

#[test]
fn a_filter_that_answers_enosys() {
    golden("seccomp-enosys", &refused(&host(YES), Errno::ENOSYS));
}

#[test]
fn a_filter_that_answers_eperm() {
    golden("seccomp-eperm", &refused(&host(YES), Errno::EPERM));
}

#[test]
fn a_filter_is_told_without_a_configuration_too() {
    golden("seccomp-eperm-no-config", &refused(&host(None), Errno::EPERM));
}

#[test]
fn sysvipc_masked() {
    let namespace = host(YES);
    namespace.hide_directory("/proc/sysvipc");
    golden("proc-sysvipc-masked", &snapshot(&namespace, &[]));
}

#[test]
fn proc_not_mounted_still_shows_every_object() {
    let namespace = host(YES);
    let semid = namespace.create("create-sem 0x0d4d1234 4 0640");
    // Whatever the machine mounted below /proc goes with it, in this mount namespace alone.
    let agent = binaries::agent();
    let mut command = namespace.command("unshare");
    command.args(["--mount", "sh", "-e", "-c", "umount -l /proc; exec \"$0\" snapshot --json"]).arg(agent);
    let seen = answer(command).must_succeed().json();
    golden("proc-not-mounted", &seen);
    let rows = seen["namespaces"][0]["sem"].as_array().expect("a list");
    assert_eq!(rows.len(), 1, "{seen}");
    assert_eq!((&rows[0]["semid"], &rows[0]["perms"]), (&Value::from(semid), &Value::from("640")));
    assert_eq!(seen["namespaces"][0]["totals"]["semaphores"], 4);
}

#[test]
fn the_configuration_says_not_set() {
    let namespace = host(NO);
    namespace.hide_directory("/proc/sysvipc");
    golden("config-not-set", &refused(&namespace, Errno::ENOSYS));
}

#[test]
fn a_configuration_of_the_other_places_is_found_as_well() {
    let found_in = |place: &str| {
        let namespace = host(None);
        namespace.hide_directory("/proc/sysvipc");
        let words = "# CONFIG_SYSVIPC is not set";
        let release = "$(uname -r)";
        namespace.shell(&format!(
            "mkdir -p /lib/modules; mount -t tmpfs fixture /lib/modules; f={place}
             f=$(echo $f | sed s,RELEASE,{release},); mkdir -p $(dirname $f); echo '{words}' > $f"
        ));
        refused(&namespace, Errno::ENOSYS)
    };
    golden("config-not-set-modules", &found_in("/lib/modules/RELEASE/config"));
    golden("config-not-set-build", &found_in("/lib/modules/RELEASE/build/.config"));
}

#[test]
fn without_sysvipc_as_a_kernel_without_it_looks() {
    let namespace = host(None);
    namespace.hide_directory("/proc/sysvipc");
    golden("without-sysvipc", &refused(&namespace, Errno::ENOSYS));
    let namespace = host(YES);
    namespace.hide_directory("/proc/sysvipc");
    golden("without-sysvipc-config-yes", &refused(&namespace, Errno::ENOSYS));
}

#[test]
fn the_namespace_of_process_1_unreadable_for_root() {
    let namespace = host(YES);
    // Without CAP_SYS_PTRACE root may not look at a process with more capabilities than its own, as process 1 is.
    let before = ["setpriv", "--bounding-set=-sys_ptrace", "--"];
    let mut look = namespace.command(before[0]);
    look.args(&before[1..]).args(["readlink", "/proc/1/ns/ipc"]);
    assert_ne!(answer(look).code, 0, "/proc/1/ns/ipc is readable");
    let all = [&["env", "HIGHWATER_NAMESPACES=all"], before.as_slice()].concat();
    golden("proc-1-unreadable", &snapshot(&namespace, &all));
}

#[test]
fn hidepid_and_no_privilege() {
    let namespace = host(YES);
    namespace.create("create-sem 0x0d4d1234 4 0600");
    let namespace_script = "mount -t proc -o hidepid=2 proc /proc; exec setpriv --reuid 64321 --regid 64321 \
                            --clear-groups --inh-caps=-all --bounding-set=-all \"$0\" snapshot --json";
    let program = namespace.public_agent();
    let mut command = namespace.command("unshare");
    command.args(["--mount", "sh", "-e", "-c", namespace_script]).arg(program).env("HIGHWATER_NAMESPACES", "all");
    let seen = answer(command).must_succeed().json();
    golden("hidepid-unprivileged", &seen);
    assert_eq!(seen["namespaces"][0]["sem"].as_array().map(Vec::len), Some(1), "{seen}");
}
