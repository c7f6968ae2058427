//! The private PostgreSQL, on real servers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::EmbeddedError;
use super::postmaster::{self, Found};
use super::supervise::Postgres;

/// A data directory that the server's user can reach.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

async fn start(data_dir: &Path) -> Postgres {
    Postgres::start(data_dir, |_| {}, &CancellationToken::new()).await.unwrap()
}

fn pid(data_dir: &Path) -> u32 {
    postmaster::read(&cluster(data_dir)).unwrap().pid
}

fn cluster(data_dir: &Path) -> std::path::PathBuf {
    fs::canonicalize(data_dir).unwrap().join("postgres")
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

async fn ask(options: &PgConnectOptions, question: &'static str) -> Result<String, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    sqlx::query(question).fetch_one(&mut connection).await?.try_get(0)
}

/// Asks until there is an answer, at most 30 s.
async fn ask_until_answered(options: &PgConnectOptions, question: &'static str) -> String {
    let answered = async {
        loop {
            match ask(options, question).await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answered).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_collectors_role_owns_its_database_and_is_no_superuser() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let options = postgres.options();
    let role = "SELECT rolsuper::text || rolcreaterole || rolcreatedb FROM pg_roles WHERE rolname = current_user";
    assert_eq!(ask(&options, role).await.unwrap(), "falsefalsefalse");
    let owner = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = current_database()";
    assert_eq!(ask(&options, owner).await.unwrap(), "highwater");
    assert_eq!(ask(&options, "SELECT current_setting('listen_addresses')").await.unwrap(), "");
    // The superuser has no way in, and a wrong password has none either.
    let superuser = options.clone().username("postgres").database("postgres");
    assert!(ask(&superuser, "SELECT 'in'").await.is_err());
    assert!(ask(&options.clone().password("wrong"), "SELECT 'in'").await.is_err());
    let segment = postgres.own_segment().unwrap();
    assert!(segment.uid != 0 && segment.segment.key != 0, "{segment:?}");
    let pid = pid(dir.path());
    postgres.stop().await.unwrap();
    assert_eq!(postmaster::look(pid, &cluster(dir.path())), Found::Other);
    assert!(!dir.path().join("run/.s.PGSQL.5432").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_left_running_is_taken_over_and_stopped_by_the_next_run() {
    let dir = data_dir();
    let first = start(dir.path()).await;
    let left = pid(dir.path());
    ask(&first.options(), "CREATE TABLE kept AS SELECT 'yes'::text AS x").await.unwrap_err();
    drop(first);
    let second = start(dir.path()).await;
    assert_eq!(pid(dir.path()), left);
    assert_eq!(ask(&second.options(), "SELECT x FROM kept").await.unwrap(), "yes");
    second.stop().await.unwrap();
    assert_eq!(postmaster::look(left, &cluster(dir.path())), Found::Other);
}

/// It was given up after SIGQUIT, and ran on.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_taken_over_and_does_not_stop_is_killed_before_the_deadline() {
    let dir = data_dir();
    let first = start(dir.path()).await;
    let left = pid(dir.path());
    drop(first);
    let second = start(dir.path()).await;
    assert_eq!(pid(dir.path()), left);
    signal("STOP", left);
    second.stop_by(Instant::now() + Duration::from_secs(3)).await.unwrap();
    assert_eq!(postmaster::look(left, &cluster(dir.path())), Found::Other);
    // The next one clears up after it, as soon as the children of the killed one are gone.
    let next = async {
        loop {
            match Postgres::start(dir.path(), |_| {}, &CancellationToken::new()).await {
                Ok(next) => return next,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postmaster_that_is_killed_is_started_again() {
    let dir = data_dir();
    let postgres = start(dir.path()).await;
    let first = pid(dir.path());
    signal("KILL", first);
    assert_eq!(ask_until_answered(&postgres.options(), "SELECT 'back'").await, "back");
    assert_ne!(pid(dir.path()), first);
    postgres.stop().await.unwrap();
}

/// After a reboot the pid in postmaster.pid may be anybody's; PostgreSQL itself would refuse to start if that process
/// is its own user's.
#[tokio::test(flavor = "multi_thread")]
async fn a_pid_file_whose_pid_lives_again_as_something_else_is_no_obstacle() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    let owner = fs::metadata(cluster(dir.path())).unwrap();
    let other = {
        use std::os::unix::fs::MetadataExt as _;
        use std::os::unix::process::CommandExt as _;
        Command::new("sleep").arg("600").uid(owner.uid()).gid(owner.gid()).spawn().unwrap()
    };
    let line = format!("{}\n{}\n1\n5432\n\n\n", other.id(), cluster(dir.path()).display());
    fs::write(cluster(dir.path()).join("postmaster.pid"), line).unwrap();
    let postgres = start(dir.path()).await;
    assert_eq!(ask(&postgres.options(), "SELECT 'yes'").await.unwrap(), "yes");
    postgres.stop().await.unwrap();
    let mut other = other;
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_while_making_the_cluster_it_leaves_none() {
    let dir = data_dir();
    let stopping = CancellationToken::new();
    let ended = Postgres::start(dir.path(), |_| stopping.cancel(), &stopping).await;
    assert!(matches!(ended, Err(EmbeddedError::Stopped)));
    assert!(!dir.path().join("postgres").exists());
    let postgres = start(dir.path()).await;
    let unfinished = fs::read_dir(dir.path())
        .unwrap()
        .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with("postgres.new"));
    assert_eq!(unfinished.count(), 0);
    postgres.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_very_long_data_directory_still_gets_a_socket() {
    let dir = data_dir();
    let long = dir.path().join("d".repeat(120));
    fs::create_dir(&long).unwrap();
    fs::set_permissions(&long, fs::Permissions::from_mode(0o711)).unwrap();
    let postgres = start(&long).await;
    assert_eq!(ask(&postgres.options(), "SELECT 'yes'").await.unwrap(), "yes");
    let run = postmaster::read(&cluster(&long)).unwrap().socket_folder;
    postgres.stop().await.unwrap();
    fs::remove_dir(run).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_password_is_said_and_nothing_is_overwritten() {
    let dir = data_dir();
    start(dir.path()).await.stop().await.unwrap();
    fs::remove_file(dir.path().join("postgres.password")).unwrap();
    let error = Postgres::start(dir.path(), |_| {}, &CancellationToken::new()).await.err().unwrap();
    assert!(matches!(error, EmbeddedError::Password { .. }), "{error}");
    assert!(dir.path().join("postgres/PG_VERSION").exists());
}
