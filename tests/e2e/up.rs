//! `highwater up` from its start to its end.

use std::os::unix::fs::PermissionsExt as _;

use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;

#[test]
fn it_gets_ready_stops_on_sigterm_and_takes_its_server_along() {
    let namespace = IpcNamespace::named("bare");
    let options = Options { inside: Some(&namespace), ..Options::default() };
    let mut up = Up::start(&options);
    let mode = std::fs::metadata(up.directory().join("ready.json")).expect("the ready file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let segments = || namespace.shell("wc -l < /proc/sysvipc/shm").trim().to_owned();
    assert_eq!(segments(), "2", "a header, and one segment of the private PostgreSQL");
    assert!(up.stop().success(), "{}", up.output());
    assert_eq!(segments(), "1", "the server is gone, and its segment with it");
    assert!(up.output().contains("http://127.0.0.1:"), "{}", up.output());
}

#[test]
fn after_a_kill_the_next_one_takes_over_the_server_that_still_runs() {
    let namespace = IpcNamespace::named("bare");
    let options = Options { inside: Some(&namespace), ..Options::default() };
    let mut up = Up::start(&options);
    up.kill();
    up.start_again(&options);
    assert!(up.stop().success(), "{}", up.output());
    assert_eq!(namespace.shell("wc -l < /proc/sysvipc/shm").trim(), "1", "no server is left behind");
}
