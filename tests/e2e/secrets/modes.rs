//! Every file, directory and socket of a running `up` and of an enrolled agent: owner and mode; and what becomes of one
//! that is another's, open to others, or a symbolic link.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use highwater_tests::binaries;
use highwater_tests::cli::answer;
use highwater_tests::collector::{Options, Up};
use highwater_tests::ipc_namespace::IpcNamespace;
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::process::{Process, run};
use highwater_tests::wait::{PATIENCE, until};

/// Everything below a directory, itself included.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    // What the server makes and removes meanwhile is not there any more.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(tree(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// What is wrong with owner or mode of a path: `owner` may have all of it, nobody else anything.
fn wrong(path: &Path, owner: u32) -> Option<String> {
    let Ok(found) = fs::symlink_metadata(path) else { return None };
    let kind = found.file_type();
    let expected = if kind.is_dir() { 0o700 } else { 0o600 };
    // A socket's own mode says who may connect; nobody else comes as far as its directory, which is 0700.
    let is_closed = kind.is_socket() || found.mode() & 0o7777 == expected;
    let is_known = kind.is_dir() || kind.is_file() || kind.is_socket();
    let fine = is_known && is_closed && found.uid() == owner;
    (!fine).then(|| format!("{} has mode {:04o}, owner {}", path.display(), found.mode() & 0o7777, found.uid()))
}

fn user(name: &str) -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name)).expect("the user");
    line.split(':').nth(2).and_then(|uid| uid.parse().ok()).expect("a number")
}

/// Enrols an agent by hand, as its operator would; returns its state directory.
fn enrol(up: &Up, name: &str) -> PathBuf {
    let (token, state) = (up.directory().join(format!("{name}.token")), up.directory().join(name).join("state"));
    up.cli().run(&["token", "create", "--out", token.to_str().expect("UTF-8")]).must_succeed();
    let mut enrol = Command::new(binaries::agent());
    enrol.args(["enrol", "--collector", up.grpc(), "--token-file"]).arg(&token).arg("--state-dir").arg(&state);
    run(enrol);
    state
}

#[test]
fn every_file_directory_and_socket_of_up_and_of_an_agent_is_its_users_alone() {
    let namespace = IpcNamespace::named("modes");
    let options = Options { agent: true, inside: Some(&namespace), interval: Some("100ms"), ..Options::default() };
    let mut up = Up::start(&options);
    let state = enrol(&up, "agent");
    let mut command = namespace.command(binaries::agent());
    command.args(["run", "--interval", "100ms", "--state-dir"]).arg(&state);
    let mut agent = Process::spawn("highwater-agent", command, &up.directory().join("agent.log"));
    until("the agent streams", PATIENCE, || {
        agent.must_run();
        up.cli().json(&["hosts"])["hosts"].as_array().is_some_and(|hosts| hosts.len() == 2)
    });
    let looks = |looked: &mut BTreeSet<PathBuf>| {
        let data = up.data();
        let server = user("postgres");
        let mut found = Vec::new();
        for path in tree(up.directory()) {
            let below = |name: &str| path.starts_with(data.join(name));
            let of_server = below("postgres") || below("run");
            // The harness's own directory and logs; and who may connect, which the server reads and holds no secret.
            let harness = ["", "up.log", "agent.log"].iter().any(|name| path == up.directory().join(name));
            let exception = match path.strip_prefix(&data) {
                Ok(below) if below == Path::new("") => Some(0o711),
                Ok(below) if below == Path::new("pg_hba.conf") => Some(0o644),
                _ => None,
            };
            if let Some(mode) = exception {
                let meta = fs::metadata(&path).expect("there");
                assert_eq!((meta.mode() & 0o7777, meta.uid()), (mode, 0), "{}", path.display());
            } else if !harness {
                found.extend(wrong(&path, if of_server { server } else { 0 }));
            }
            looked.insert(path);
        }
        assert_eq!(found, Vec::<String>::new());
    };
    let mut looked = BTreeSet::new();
    looks(&mut looked);
    let names = |of: &Path| looked.contains(of);
    for file in
        ["client.json", "operator.token", "ca/ca.key", "ca/ca.der", "postgres.password", "postgres.log", "up.lock"]
    {
        assert!(names(&up.data().join(file)), "{file} was looked at");
    }
    assert!(names(&up.data().join("run/.s.PGSQL.5432")) && names(&up.directory().join("ready.json")));
    assert!(
        names(&state.join("key.pem"))
            && names(&state.join("enrolment.json"))
            && names(&up.data().join("agent/key.pem"))
    );
    assert!(names(&up.directory().join("agent.token")), "what `token create --out` wrote");
    println!("{} files, directories and sockets looked at", looked.len());
    assert!(agent.terminate(Duration::from_secs(10)).success());
    assert!(up.stop().success());
    // And what stays: the agent's last words, the server's files at rest.
    let mut stays = BTreeSet::new();
    looks_again(&up, &mut stays);
}

/// After the end: nothing that was written on the way down is open either.
fn looks_again(up: &Up, looked: &mut BTreeSet<PathBuf>) {
    let (data, server) = (up.data(), user("postgres"));
    for path in tree(&data).into_iter().filter(|path| *path != data && *path != data.join("pg_hba.conf")) {
        let of_server = path.starts_with(data.join("postgres")) || path.starts_with(data.join("run"));
        assert_eq!(wrong(&path, if of_server { server } else { 0 }), None);
        looked.insert(path);
    }
    assert!(looked.len() > 100);
}

/// The rule that the walk applies finds what it is for.
#[test]
fn an_open_mode_another_owner_and_a_link_are_found_by_the_walk() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("file");
    fs::write(&path, "x").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    assert_eq!(wrong(&path, 0), None);
    assert!(wrong(&path, 12_345).is_some());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(wrong(&path, 0).is_some());
    let link = directory.path().join("link");
    symlink(&path, &link).expect("a link");
    assert!(wrong(&link, 0).is_some());
    assert!(tree(directory.path()).contains(&link));
}

/// What is done to a file while `up` is away.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Link,
    Mode,
    Owner,
}

/// Starts `up` on the directory; `Ok` if it gets ready (and ends in order), else what it said.
fn try_up(directory: &Path, database: &Database, inside: &IpcNamespace) -> Result<(), String> {
    let (ready, log) = (directory.join("ready.json"), directory.join("try.log"));
    let _ = fs::remove_file(&log);
    let mut command = inside.command(binaries::highwater());
    command.args(["up", "--http", ":0", "--grpc", ":0", "--interval", "100ms", "--data-dir"]);
    command.arg(directory.join("data")).arg("--ready-file").arg(&ready).arg("--database-url").arg(&database.url);
    let mut process = Process::spawn("highwater up", command, &log);
    let mut ended = None;
    until("it gets ready or ends", PATIENCE, || {
        ended = process.try_wait();
        ended.is_some() || fs::read_to_string(&ready).is_ok_and(|text| text.contains("\"http\""))
    });
    match ended {
        Some(status) => {
            assert!(!status.success());
            Err(process.output())
        }
        None => {
            assert!(process.terminate(Duration::from_secs(10)).success(), "{}", process.output());
            Ok(())
        }
    }
}

/// A link is never followed, to read or to write; a file of another user or open to others is never believed. What is
/// only ever written, whole, takes its own place again.
#[test]
fn a_harmed_file_is_refused_by_name_with_the_remedy_or_replaced_and_a_links_target_is_left_alone() {
    let database = Postgres::shared().database();
    let namespace = IpcNamespace::named("harmed");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("data");
    try_up(directory.path(), &database, &namespace).expect("a first run");
    let mut files: Vec<PathBuf> = tree(&data).into_iter().filter(|path| path.is_file()).collect();
    files.push(directory.path().join("ready.json"));
    let target = directory.path().join("target");
    let (mut refused, mut replaced) = (BTreeSet::new(), BTreeSet::new());
    for file in &files {
        let name = file.strip_prefix(directory.path()).expect("below it").display().to_string();
        for harm in [Harm::Link, Harm::Mode, Harm::Owner] {
            let Ok(content) =
                fs::read(file).or_else(|_| if name == "ready.json" { Ok(b"{}".to_vec()) } else { Err(()) })
            else {
                // A segment of the spool that the runs since have acked away.
                continue;
            };
            let _ = fs::remove_file(file);
            match harm {
                Harm::Link => {
                    fs::write(&target, &content).expect("written");
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).expect("chmod");
                    symlink(&target, file).expect("a link");
                }
                Harm::Mode | Harm::Owner => {
                    fs::write(file, &content).expect("written");
                    let mode = if matches!(harm, Harm::Mode) { 0o644 } else { 0o600 };
                    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("chmod");
                    let owner = if matches!(harm, Harm::Owner) { 12_345 } else { 0 };
                    chown(file, Some(owner), None).expect("root, which may give files away");
                }
            }
            match try_up(directory.path(), &database, &namespace) {
                Err(said) => {
                    let remedy = match harm {
                        Harm::Link => "a symbolic link is not followed here",
                        Harm::Mode => "chmod 600",
                        Harm::Owner => "belongs to uid 12345",
                    };
                    assert!(said.contains(remedy) && said.contains(&name), "{harm:?} of {name}: {said}");
                    refused.insert(name.clone());
                }
                Ok(()) => {
                    replaced.insert(name.clone());
                }
            }
            if matches!(harm, Harm::Link) {
                assert_eq!(fs::read(&target).expect("the target"), content, "what {name} led to is left alone");
            }
            let stays = fs::symlink_metadata(file).is_ok();
            if stays && wrong(file, 0).is_some() {
                assert!(refused.contains(&name), "{name} was used as it was: {:?}", wrong(file, 0));
            }
            let _ = fs::remove_file(file);
            if name != "ready.json" {
                fs::write(file, &content).expect("written");
                fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("chmod");
            }
        }
    }
    println!("refused {refused:?}\nreplaced {replaced:?}");
    for name in ["data/client.json", "data/ca/ca.key", "data/ca/ca.der", "data/up.lock", "data/agent/key.pem"] {
        assert!(refused.contains(name) && !replaced.contains(name), "{name}");
    }
    for name in ["data/operator.token", "ready.json"] {
        assert!(replaced.contains(name) && !refused.contains(name), "{name}");
    }
}

#[test]
fn the_private_servers_password_and_log_are_refused_when_they_are_not_ours() {
    let namespace = IpcNamespace::new();
    let options = Options { inside: Some(&namespace), ..Options::default() };
    let mut up = Up::start(&options);
    assert!(up.stop().success());
    let data = up.data();
    let target = up.directory().join("target");
    let start = || {
        let log = up.directory().join("try.log");
        let _ = fs::remove_file(&log);
        let mut command = namespace.command(binaries::highwater());
        command.args(["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]).arg(&data);
        let mut process = Process::spawn("highwater up", command, &log);
        assert!(!process.wait_exit(PATIENCE).success());
        process.output()
    };
    for name in ["postgres.password", "postgres.log"] {
        let file = data.join(name);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
        let said = start();
        assert!(said.contains(name) && said.contains("chmod 600"), "{said}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        chown(&file, Some(12_345), None).expect("root");
        let said = start();
        assert!(said.contains(name) && said.contains("belongs to uid 12345"), "{said}");
        chown(&file, Some(0), None).expect("root");
        fs::rename(&file, &target).expect("moved");
        symlink(&target, &file).expect("a link");
        let before = fs::read(&target).expect("the target");
        let said = start();
        assert!(said.contains(name) && said.contains("symbolic link"), "{said}");
        assert_eq!(fs::read(&target).expect("the target"), before);
        fs::rename(&target, &file).expect("moved back");
    }
    up.start_again(&options);
    assert!(up.stop().success());
}

/// Before initdb: nothing is left but the lock, and the words name the directory and what to do.
#[test]
fn a_parent_that_the_servers_user_cannot_pass_is_an_error_before_the_cluster_is_made() {
    let namespace = IpcNamespace::new();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("chmod");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("chmod");
    let data = closed.join("data");
    let mut command = namespace.command(binaries::highwater());
    command.args(["up", "--no-agent", "--http", ":0", "--grpc", ":0", "--data-dir"]).arg(&data);
    let refused = answer(command).must_exit(1);
    let named = fs::canonicalize(&closed).expect("a path");
    assert!(refused.err.contains(named.to_str().expect("UTF-8")), "{}", refused.err);
    assert!(refused.err.contains("--data-dir") || refused.err.contains("chmod"), "{}", refused.err);
    let left: Vec<_> = fs::read_dir(&data).expect("it").flatten().map(|entry| entry.file_name()).collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with("postgres.new") || name == "postgres"),
        "{left:?}"
    );
}
