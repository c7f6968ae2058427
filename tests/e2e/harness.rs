//! What the other stories stand on.

use std::process::Command;

use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::stdout_of;
use highwater_tests::wait::{PATIENCE, until};

#[test]
fn objects_are_made_in_a_namespace_and_nowhere_else() {
    let namespace = IpcNamespace::new();
    let sem = namespace.create("create-sem 0x0d4d1234 4 0640");
    namespace.tool(&format!("chown sem {sem} 33 33 0600"));
    let shm = namespace.create("create-shm -1 4096");
    namespace.attach(shm);
    namespace.tool(&format!("remove shm {shm}"));
    namespace.create("create-msg private");
    let listed = namespace.shell("LC_ALL=C ipcs -s; LC_ALL=C ipcs -m; LC_ALL=C ipcs -q");
    assert!(listed.contains("0x0d4d1234 "), "{listed}");
    assert!(listed.contains(" dest"), "{listed}");
    let outside = stdout_of(Command::new("ipcs"));
    assert!(!outside.contains("0x0d4d1234"), "{outside}");
    namespace.script("churn sem 100\nfill sem 10\n");
    assert_eq!(namespace.shell("wc -l < /proc/sysvipc/sem").trim(), "12", "a header, one array and ten");
}

#[test]
fn a_namespace_with_processes_of_its_own_ends_them() {
    let namespace = IpcNamespace::with_processes("alpha");
    assert_eq!(namespace.shell("hostname; ps -e -o comm= | head -1"), "alpha\nipc-tool\n");
    let mut sleeper = namespace.command("sleep").arg("600").spawn().expect("sleep");
    until("the sleeper runs", PATIENCE, || namespace.shell("ps -e -o comm=").contains("sleep"));
    drop(namespace);
    assert!(!sleeper.wait().expect("nsenter").success());
}

#[test]
fn system_v_calls_can_be_made_to_answer_enosys() {
    let namespace = IpcNamespace::new();
    let mut command = namespace.command(highwater_tests::binaries::ipc_tool());
    command.args(["without-sysvipc", "--", "env", "LC_ALL=C", "ipcmk", "-S", "1"]);
    let output = command.output().expect("ipcmk");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("Function not implemented"), "{words}");
}

#[test]
fn each_test_gets_a_database_of_its_own() {
    let (one, two) = (Postgres::shared().database(), Postgres::shared().database());
    one.sql("CREATE TABLE here (n int)");
    assert_eq!(two.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'here'"), "0\n");
    assert_eq!(two.sql("SHOW fsync"), "on\n");
}

#[test]
fn a_killed_postmaster_comes_back_with_what_was_committed() {
    let mut server = Postgres::start();
    let database = server.database();
    database.sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)");
    server.kill_postmaster();
    server.restart();
    assert_eq!(database.sql("SELECT n FROM kept"), "7\n");
}
