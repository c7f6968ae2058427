//! What the stories stand on: a database, receivers, notices, and the sender in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater::cli::migrate::DatabaseUrl;
use highwater::clock::SystemClock;
use highwater::health::Health;
use highwater::host::HostId;
use highwater::notify::config;
use highwater::notify::deliver::Wires;
use highwater::notify::notice::{Flag, Notice, Severity, Step, Transition};
use highwater::notify::outbox;
use highwater::notify::receiver::Receivers;
use highwater::notify::sender::{Config, Sender};
use highwater::store::{Db, notice};
use highwater_tests::postgres::{Database, Postgres};
use highwater_tests::wait::now_ms;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What every webhook here is signed with.
pub(crate) const SECRET: &str = "s3cret";

/// A database with the schema, and a connection to it.
pub(crate) async fn migrated() -> (Database, Db) {
    let database = Postgres::shared().database();
    let db = connect(&database).await;
    db.migrate().await.expect("the schema");
    (database, db)
}

pub(crate) async fn connect(database: &Database) -> Db {
    let url = DatabaseUrl::named(Some(database.url.as_ref())).expect("a URL").expect("a URL");
    Db::connect(url.options(), 4).await.expect("a connection")
}

/// A file of receivers and its secrets.
pub(crate) struct File {
    directory: TempDir,
}

impl File {
    /// Writes it; `s` beside it holds [`SECRET`].
    pub(crate) fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        highwater::secret_file::create(&directory.path().join("s"), SECRET.as_bytes()).expect("a secret");
        std::fs::write(directory.path().join("notify.toml"), text).expect("a file");
        Self { directory }
    }

    /// Adds a secret beside it.
    pub(crate) fn with_secret(self, name: &str, secret: &str) -> Self {
        highwater::secret_file::create(&self.directory.path().join(name), secret.as_bytes()).expect("a secret");
        self
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("notify.toml")
    }

    /// What it says.
    pub(crate) fn receivers(&self) -> Arc<Receivers> {
        Arc::new(config::load(Path::new(&self.path())).expect("receivers"))
    }
}

/// A webhook in the file.
pub(crate) fn webhook(name: &str, url: &str) -> String {
    format!("[[receiver]]\nname = \"{name}\"\nkind = \"webhook\"\nurl = \"{url}/hook\"\nsecret_file = \"s\"\n")
}

/// A transition of a flag of host 7.
pub(crate) fn transition(flag_id: i64, number: u32, transition: Transition) -> Notice {
    let cleared_ms = (transition == Transition::Cleared).then(now_ms);
    Notice {
        number,
        transition,
        flag: Flag {
            flag_id,
            host_id: HostId(7),
            host: "web-17".to_owned(),
            labels: [("team".to_owned(), "db".to_owned())].into(),
            namespace: 4_026_531_839,
            resource: "SEMMNI".to_owned(),
            kind: "tight".to_owned(),
            severity: Severity::Critical,
            state: "open".to_owned(),
            raised_ms: now_ms() - 60_000,
            cleared_ms,
            used: Some(121),
            limit: Some(128),
            growth_per_hour: None,
            eta_ms: None,
            eta_low_ms: None,
            eta_high_ms: None,
            owner: None,
            why: "121 of 128 semaphore arrays are in use, né".to_owned(),
            remedy: vec![Step { step: "look".to_owned(), command: None, risk: String::new() }],
        },
    }
}

/// Puts notices into the outbox, as the evaluator will.
pub(crate) async fn queue(db: &Db, receivers: &Receivers, notices: &[Notice]) {
    let rows: Vec<_> = notices.iter().flat_map(|n| outbox::rows(receivers, n, now_ms())).collect();
    let mut connection = db.dedicated().await.expect("a connection");
    let mut tx = connection.write().await.expect("a transaction");
    notice::insert(&mut tx, &rows).await.expect("rows");
    tx.commit().await.expect("a commit");
    connection.close().await;
}

/// A sender at work, in a hurry.
pub(crate) struct Working {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Working {
    pub(crate) fn start(db: &Db, receivers: &Arc<Receivers>) -> Self {
        let stop = CancellationToken::new();
        let sender = Sender {
            db: db.clone(),
            clock: Arc::new(SystemClock),
            health: Arc::new(Health::default()),
            receivers: receivers.clone(),
            deliver: Arc::new(Wires::new(receivers, Duration::from_millis(500))),
            holder: "test".to_owned(),
            config: Config { look: Duration::from_millis(20), first_wait_ms: 50 },
        };
        Self { task: tokio::spawn(sender.run(stop.clone())), stop }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the sender");
    }
}
