//! The founding note's row, and others that break programs which take them for impossible: from the kernel's file to
//! `ipcs --json`, unchanged.

use std::path::PathBuf;

use highwater_tests::agent::{Agent, host_name};
use highwater_tests::answers::{namespace, objects};
use highwater_tests::collector::Up;
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use serde_json::{Value, json};

const SEM: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SHM: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      \
    atime      dtime      ctime                   rss                  swap\n";
const MSG: &str = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      \
    rtime      ctime\n";

/// Files that an agent finds in place of its own.
struct Fixture {
    namespace: IpcNamespace,
    directory: tempfile::TempDir,
}

impl Fixture {
    fn new(host: &str) -> Self {
        Self { namespace: IpcNamespace::named(host), directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn show(&self, target: &str, content: &[u8]) {
        let file: PathBuf = self.directory.path().join(target.replace('/', "_"));
        std::fs::write(&file, content).expect("a fixture");
        self.namespace.bind(&file, target);
    }

    /// What `ipcs --json` says of it, after a way through agent, wire and PostgreSQL.
    fn read_back(&self) -> Value {
        let database = Postgres::shared().database();
        let up = Up::collector(&database);
        let _agent = Agent::running(&up, &self.namespace);
        up.cli().json(&["ipcs", &host_name(&self.namespace)])
    }
}

#[test]
fn the_founding_note_s_row_comes_back_unchanged() {
    let fixture = Fixture::new("note");
    let row = "         0      98304   600          1  1001 4294967295     0     0          0 1241364839\n";
    fixture.show("/proc/sysvipc/sem", format!("{SEM}{row}").as_bytes());
    fixture.show("/etc/passwd", b"root:x:0:0:root:/:/bin/sh\napache:x:1001:48:Apache:/:/sbin/nologin\n");
    fixture.show("/etc/group", b"root:x:0:\n");
    let snapshot = fixture.read_back();
    let expected = json!({
        "key": "0x00000000", "semid": 98304, "perms": "600", "nsems": 1,
        "uid": 1001, "gid": 4_294_967_295_u32, "cuid": 0, "cgid": 0,
        "user": "apache", "group": null, "cuser": "root", "cgroup": "root",
        "otime": 0, "ctime": 1_241_364_839,
    });
    assert_eq!(objects(&snapshot, "sem").len(), 1);
    has_all(&objects(&snapshot, "sem")[0], &expected);
    assert_eq!(namespace(&snapshot)["complete"], true);
    assert_eq!(snapshot["sysvipc"]["state"], "available");
}

#[test]
fn the_largest_numbers_and_unknown_columns_pass() {
    let fixture = Fixture::new("largest");
    let most = u64::MAX;
    let header = SHM.replace("swap\n", "swap  colour\n");
    let row = format!(
        "        -1 2147483647  3640 {most} 4194304 0 {most} 0 0 0 0 0 0 9223372036854775807 {most} {most} green\n"
    );
    fixture.show("/proc/sysvipc/shm", format!("{header}{row}").as_bytes());
    let queue = format!("-2147483648 0 666 {most} {most} 1 2 0 0 4294967295 4294967294 1 2 3\n");
    fixture.show("/proc/sysvipc/msg", format!("{MSG}{queue}").as_bytes());
    let snapshot = fixture.read_back();
    let segment = json!({
        "key": "0xffffffff", "shmid": 2_147_483_647, "perms": "3640", "size_u64": "18446744073709551615",
        "rss_u64": "18446744073709551615", "swap_u64": "18446744073709551615", "cpid": 4_194_304, "lpid": 0,
    });
    has_all(&objects(&snapshot, "shm")[0], &segment);
    let queue = json!({
        "key": "0x80000000", "msqid": 0, "perms": "666", "cbytes_u64": "18446744073709551615",
        "lspid": 1, "lrpid": 2, "cuid": 4_294_967_295_u32, "cgid": 4_294_967_294_u32, "stime": 1, "rtime": 2, "ctime": 3,
    });
    has_all(&objects(&snapshot, "msg")[0], &queue);
}

#[test]
fn hostile_names_are_shown_without_losing_a_byte() {
    let fixture = Fixture::new("hostile");
    let row = "         0          0   600          1  1001  1002     0     0          0          1\n";
    fixture.show("/proc/sysvipc/sem", format!("{SEM}{row}").as_bytes());
    fixture.show("/etc/passwd", b"root:x:0:0::/:/bin/sh\nev\xffil\x1b[31m\xe2\x80\xae:x:1001:1:a:/:/bin/sh\n");
    fixture.show("/etc/group", b"root:x:0:\ngr\\oup\xc3:x:1002:\n");
    let snapshot = fixture.read_back();
    let expected = json!({ "user": r"ev\xffil\x1b[31m\xe2\x80\xae", "group": r"gr\\oup\xc3", "cuser": "root" });
    has_all(&objects(&snapshot, "sem")[0], &expected);
}

#[test]
fn a_truncated_line_makes_its_kind_unreadable_and_the_rest_is_stored() {
    let fixture = Fixture::new("truncated");
    let rows =
        "         0          0   600          1     0     0     0     0          0          1\n         0      3\n";
    fixture.show("/proc/sysvipc/sem", format!("{SEM}{rows}").as_bytes());
    fixture.namespace.create("create-msg 0x77");
    let snapshot = fixture.read_back();
    let namespace = namespace(&snapshot);
    assert_eq!(namespace["sem"], Value::Null, "could not be read, which is not \"none\"");
    assert_eq!(namespace["complete"], false);
    let unreadable = &namespace["unreadable"][0];
    assert_eq!((&unreadable["source"], &unreadable["line"]), (&json!("/proc/sysvipc/sem"), &json!(3)));
    assert!(!unreadable["error"].as_str().unwrap_or("").is_empty(), "{unreadable}");
    assert_eq!(objects(&snapshot, "msg")[0]["key"], "0x00000077");
    assert_eq!(objects(&snapshot, "shm").len(), 0);
}

/// Every expected field is there with that value; others may be, too.
#[track_caller]
fn has_all(row: &Value, expected: &Value) {
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&row[field], value, "`{field}` of {row}");
    }
}
