//! `highwater up`: one command, its private PostgreSQL, its end, and what it leaves when it is killed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use highwater_tests::binaries;
use highwater_tests::cli::{Answer, answer};
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::Postgres;
use highwater_tests::process::{Process, await_file, signal};
use highwater_tests::wait::{PATIENCE, until, until_some};

/// On a private PostgreSQL, without this host's agent.
fn alone(namespace: &IpcNamespace) -> Options<'_> {
    Options { inside: Some(namespace), ..Options::default() }
}

fn postmaster(up: &Up) -> u32 {
    let file = up.data().join("postgres/postmaster.pid");
    until_some("PostgreSQL's pid file", PATIENCE, || fs::read_to_string(&file).ok()?.lines().next()?.parse().ok())
}

/// Processes that name this path in their command line, zombies excepted.
fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.to_str().expect("a path of a test");
    let lines = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (line.contains(path) && !line.contains("watchdog")).then_some(line)
    });
    lines.collect()
}

fn up_in(namespace: &IpcNamespace, data: &Path, args: &[&str]) -> Answer {
    let mut command = namespace.command(binaries::highwater());
    command.args(["up", "--no-agent", "--data-dir"]).arg(data).args(args);
    answer(command)
}

/// A directory that any user can pass through.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    let data = directory.path().join("data");
    (directory, data)
}

#[test]
fn sigterm_ends_it_all_in_time_and_what_it_left_is_private() {
    let namespace = IpcNamespace::new();
    let mut up = Up::start(&alone(&namespace));
    let mode = |path: PathBuf| fs::metadata(path).expect("a file of up").mode() & 0o7777;
    let data = up.data();
    assert_eq!(mode(data.clone()), 0o711);
    for directory in ["ca", "postgres", "run"] {
        assert_eq!(mode(data.join(directory)), 0o700, "{directory}");
    }
    for secret in ["client.json", "operator.token", "ca/ca.key", "postgres.password", "../ready.json"] {
        assert_eq!(mode(data.join(secret)), 0o600, "{secret}");
    }
    // The ready file is there a moment before people are told.
    until("it says that it is ready", PATIENCE, || up.output().contains("ready\n"));
    let output = up.output();
    assert!(output.contains("ready\n") && output.contains("http://127.0.0.1:"), "{output}");
    assert!(output.contains("PostgreSQL's own shared memory segment"), "{output}");
    assert!(!output.contains(up.cli().token.as_str()), "a token is not printed");
    assert!(!processes_naming(&data).is_empty());
    assert!(up.stop().success());
    assert_eq!(processes_naming(&data), Vec::<String>::new());
    assert!(!data.join("../ready.json").exists(), "it is not ready any more");
    assert_eq!(namespace.shell("wc -l < /proc/sysvipc/shm").trim(), "1", "PostgreSQL's segment went with it");
}

#[test]
fn a_signal_while_the_cluster_is_made_leaves_no_process_no_memory_and_no_half_of_it() {
    let namespace = IpcNamespace::new();
    let (directory, data) = directory();
    let mut command = namespace.command(binaries::highwater());
    command.args(["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]).arg(&data);
    let mut up = Process::spawn("highwater up", command, &directory.path().join("log"));
    until("initdb is at work", PATIENCE, || data.join("postgres.log").exists());
    assert!(up.terminate(Duration::from_secs(10)).success());
    assert_eq!(processes_naming(&data), Vec::<String>::new());
    assert_eq!(namespace.shell("wc -l < /proc/sysvipc/shm").trim(), "1", "no segment is left");
    let mut left: Vec<_> = fs::read_dir(&data).expect("the data directory").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["postgres.log", "up.lock"]);
}

/// A closing terminal sends SIGHUP twice, a wrapper SIGINT and then SIGTERM: the second one ended `up` at once, and its
/// server ran on.
#[test]
fn signals_that_follow_the_first_one_do_not_cut_the_stop_short() {
    let namespace = IpcNamespace::new();
    let mut up = Up::start(&alone(&namespace));
    let more = ["HUP", "TERM", "HUP", "HUP"];
    let pid = up.pid();
    signal(pid, "INT");
    more.iter().for_each(|name| signal(pid, name));
    assert!(up.stop().success(), "{}", up.output());
    assert_eq!(processes_naming(&up.data()), Vec::<String>::new());
}

#[test]
fn a_killed_up_is_picked_up_by_the_next_one_its_running_server_included() {
    let namespace = IpcNamespace::new();
    let mut up = Up::start(&alone(&namespace));
    let token = up.cli().json(&["token", "create", "--label", "role=web"]);
    let (server, credential) = (postmaster(&up), up.cli().token);
    up.kill();
    assert!(!processes_naming(&up.data()).is_empty(), "the server was left running");
    up.start_again(&alone(&namespace));
    assert_eq!(postmaster(&up), server, "and goes on");
    assert_eq!(up.cli().token, credential);
    let listed = up.cli().json(&["tokens", "list"]);
    assert_eq!(listed["tokens"][0]["id"], token["id"]);
    assert!(up.stop().success());
    assert_eq!(processes_naming(&up.data()), Vec::<String>::new());
    // And after an orderly end.
    up.start_again(&alone(&namespace));
    assert_eq!(up.cli().json(&["token", "list"])["tokens"][0]["id"], token["id"]);
    assert!(up.stop().success());
}

#[test]
fn a_killed_postmaster_is_started_again_under_it() {
    let namespace = IpcNamespace::new();
    let mut up = Up::start(&alone(&namespace));
    let killed = postmaster(&up);
    signal(killed, "KILL");
    until("the API answers from a new server", PATIENCE, || {
        up.cli().run(&["token", "list"]).code == 0 && postmaster(&up) != killed
    });
    assert!(up.stop().success());
    assert_eq!(processes_naming(&up.data()), Vec::<String>::new());
}

#[test]
fn a_second_up_on_the_same_directory_is_told_of_the_first() {
    let namespace = IpcNamespace::new();
    let mut up = Up::start(&alone(&namespace));
    let second = up_in(&namespace, &up.data(), &["--http", ":0", "--grpc", ":0"]).must_exit(1);
    assert!(second.err.contains(&format!("(pid {})", up.pid())), "{}", second.err);
    assert_eq!(second.err.lines().count(), 1, "{}", second.err);
    up.cli().run(&["token", "list"]).must_succeed();
    assert!(up.stop().success());
}

#[test]
fn an_address_that_was_asked_for_and_is_taken_is_an_error_before_anything_is_made() {
    let namespace = IpcNamespace::new();
    let (_directory, data) = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("its address").to_string();
    for (flag, other) in [("--http", "--grpc"), ("--grpc", "--http")] {
        let refused = up_in(&namespace, &data, &[flag, &address, other, ":0"]).must_exit(1);
        assert!(refused.err.contains(flag) && refused.err.contains(&address), "{}", refused.err);
    }
    let open = up_in(&namespace, &data, &["--http", "0.0.0.0:0"]).must_exit(1);
    assert!(open.err.contains("no TLS"), "{}", open.err);
    assert!(!data.join("postgres").exists());
    up_in(&namespace, &data, &["--http", "example.org:80"]).must_exit(2);
}

#[test]
fn a_default_port_that_is_taken_is_replaced_and_said() {
    // Whoever holds it, it is taken.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let database = Postgres::shared().database();
    let (directory, data) = directory();
    let log = directory.path().join("log");
    let ready = directory.path().join("ready");
    let mut command = Command::new(binaries::highwater());
    command.args(["up", "--no-agent", "--grpc", ":0", "--data-dir"]).arg(&data).arg("--ready-file").arg(&ready);
    command.env("HIGHWATER_DATABASE_URL", &database.url);
    let mut up = Process::spawn("highwater up", command, &log);
    let text = await_file(&mut up, &ready);
    assert!(!text.contains(":8080\""), "{text}");
    let said = up.output();
    assert!(said.contains("127.0.0.1:8080 is taken: the API listens on 127.0.0.1:"), "{said}");
    // Ctrl-C.
    up.signal("INT");
    assert!(up.wait_exit(Duration::from_secs(10)).success());
    assert!(!data.join("postgres").exists(), "with a database of its own it makes no other");
}

#[test]
fn a_parent_that_postgresql_cannot_enter_is_named_before_a_cluster_is_made() {
    let namespace = IpcNamespace::new();
    let (directory, _) = directory();
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("mkdir");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let data = closed.join("data");
    let refused = up_in(&namespace, &data, &["--http", ":0", "--grpc", ":0"]).must_exit(1);
    assert!(refused.err.contains(closed.to_str().expect("UTF-8")), "{}", refused.err);
    assert!(refused.err.contains("chmod o+x") && refused.err.contains("--data-dir"), "{}", refused.err);
    let made: Vec<_> = fs::read_dir(&data).expect("the data directory").flatten().map(|e| e.file_name()).collect();
    assert!(!made.iter().any(|name| name.to_string_lossy().starts_with("postgres")), "{made:?}");
}

#[test]
fn without_system_v_ipc_it_asks_for_a_database_elsewhere() {
    let namespace = IpcNamespace::new();
    let (_directory, data) = directory();
    let mut command = namespace.command(binaries::ipc_tool());
    command.args(["without-sysvipc", "--"]).arg(binaries::highwater());
    command.args(["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]).arg(&data);
    let refused = answer(command).must_exit(1);
    assert!(refused.err.contains("no System V shared memory"), "{}", refused.err);
    assert!(refused.err.contains("--database-url"), "{}", refused.err);
    assert!(!data.join("postgres").exists());
}

#[test]
fn tokens_are_made_listed_and_revoked_and_their_file_is_new_and_closed() {
    let mut up = Up::collector(&Postgres::shared().database());
    let cli = up.cli();
    let file = up.directory().join("web.token");
    let path = file.to_str().expect("UTF-8");
    let made = cli.json(&["token", "create", "--ttl", "30m", "--out", path]);
    assert_eq!(fs::metadata(&file).expect("the token's file").mode() & 0o7777, 0o600);
    let secret = fs::read_to_string(&file).expect("the token's file").trim().to_owned();
    assert!(secret.starts_with("hw1."), "{secret}");
    assert_eq!(made["file"], path);
    assert!(made.get("token").is_none(), "what is in the file is not printed as well");
    assert!(made["expires_at"].as_str().expect("`expires_at`").ends_with('Z'));
    let again = cli.run(&["token", "create", "--out", path]).must_exit(1);
    assert!(again.err.contains("is there already"), "{}", again.err);
    let shown = cli.json(&["token", "create"]);
    assert!(shown["token"].as_str().expect("`token`").starts_with("hw1."), "without --out it is shown this once");
    let plain = cli.run(&["token", "create"]).must_succeed();
    assert!(plain.text().starts_with("hw1.") && plain.text().lines().count() == 1);
    let id = made["id"].as_str().expect("`id`");
    cli.run(&["tokens", "revoke", id]).must_succeed();
    let listed = cli.json(&["token", "list"]);
    let state = |id: &str| {
        let tokens = listed["tokens"].as_array().expect("`tokens`");
        tokens.iter().find(|t| t["id"] == id).expect("the token")["state"].clone()
    };
    assert_eq!(state(id), "revoked");
    assert!(!listed.to_string().contains(&secret));
    cli.run(&["token", "revoke", "nobody"]).must_exit(1);
    cli.run(&["token", "create", "--ttl", "1 hour"]).must_exit(2);
    let nobody = cli.run(&["token", "create", "--host", "nobody"]).must_exit(1);
    assert!(nobody.err.contains("nobody"), "{}", nobody.err);
    assert!(up.stop().success());
}

#[test]
fn the_harness_leaves_no_server_behind() {
    let namespace = IpcNamespace::named("bare");
    let options = Options { inside: Some(&namespace), ..Options::default() };
    let segments = || namespace.shell("wc -l < /proc/sysvipc/shm").trim().to_owned();
    let mut killed = Up::start(&options);
    killed.kill();
    assert_eq!(segments(), "2", "the killed one's server runs on");
    drop(killed);
    assert_eq!(segments(), "1");
}

/// clap quoted it in its error, whichever way it was given.
#[test]
fn a_database_password_is_never_printed_nor_taken_from_the_arguments() {
    let (_directory, data) = directory();
    let run = |arguments: &[&str], variable: &str| {
        let mut command = Command::new(binaries::highwater());
        command.args(arguments).env("HIGHWATER_DATABASE_URL", variable);
        let refused = answer(command).must_exit(1);
        assert!(!refused.err.contains("topsecret") && refused.out.is_empty(), "{refused:?}");
        refused.err
    };
    let data = data.to_str().expect("UTF-8");
    for command in [["migrate"].as_slice(), &["up", "--data-dir", data]] {
        let with_flag = |url| [command, &["--database-url", url]].concat();
        let wrong = "postgres:/u:topsecret@h/d";
        assert!(run(command, wrong).contains("HIGHWATER_DATABASE_URL is no database URL"));
        assert!(run(&with_flag(wrong), "").contains("--database-url has a password"));
        let said = run(&with_flag("postgres://u:topsecret@h/d"), "");
        assert!(said.contains("HIGHWATER_DATABASE_URL") && said.contains(".pgpass"), "{said}");
    }
    assert!(run(&["migrate"], "").contains("no database is named"));
}
