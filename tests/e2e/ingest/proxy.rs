//! A socket between the collector and PostgreSQL at which a test cuts connections, loses answers, or does something of
//! its own between two statements.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use highwater_tests::postgres::Database;

/// Threads of it end with their connections; nothing outlives the test process.
pub(crate) struct Proxy {
    directory: tempfile::TempDir,
    armed: Arc<Mutex<Option<Fate>>>,
}

/// What becomes of bytes on their way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// They arrive.
    Pass,
    /// The connection ends before the server gets them.
    CutBefore,
    /// The server gets and answers them; the connection ends where its answer begins.
    LoseAnswer,
    /// The server gets and answers them; the connection stays, and nothing comes over it any more.
    NeverAnswer,
    /// Of a COMMIT: the server prepares transaction `in-doubt` instead, and the client hears that it is done. So looks a
    /// commit that several servers agreed on, of which one has not carried it out yet.
    Prepare,
    /// Likewise, but the client hears nothing.
    PrepareUnheard,
}

impl Proxy {
    pub(crate) fn start(server: &Path) -> Self {
        let armed = Arc::new(Mutex::new(None));
        let arms = Arc::clone(&armed);
        let watch = move |bytes: &[u8]| {
            let commits = bytes.windows(7).any(|w| w == b"COMMIT\0");
            commits.then(|| arms.lock().unwrap().take()).flatten().unwrap_or(Fate::Pass)
        };
        Self { armed, ..Self::watching(server, watch) }
    }

    /// Asks `watch` of everything that is on its way to the server; while it thinks, its connection waits.
    pub(crate) fn watching(server: &Path, watch: impl Fn(&[u8]) -> Fate + Send + Sync + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_in(directory.path())).unwrap();
        let (server, watch) = (socket_in(server), Arc::new(watch));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A server that is away refuses; so does this.
                let Ok(server) = UnixStream::connect(&server) else { continue };
                let watch = Arc::clone(&watch);
                serve(client, server, move |bytes| watch(bytes));
            }
        });
        Self { directory, armed: Arc::default() }
    }

    /// The database's URL through here.
    pub(crate) fn url(&self, database: &Database) -> String {
        format!("postgres://highwater@localhost/{}?host={}", database.name, self.directory.path().display())
    }

    pub(crate) fn lose_the_next_commits_answer(&self) {
        self.arm(Fate::LoseAnswer);
    }

    /// The next COMMIT meets this fate.
    pub(crate) fn arm(&self, fate: Fate) {
        *self.armed.lock().unwrap() = Some(fate);
    }

    /// Whether it did.
    pub(crate) fn lost_one(&self) -> bool {
        self.armed.lock().unwrap().is_none()
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join(".s.PGSQL.5432")
}

fn serve(client: UnixStream, server: UnixStream, watch: impl Fn(&[u8]) -> Fate + Send + 'static) {
    let (losing, silent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (loses, silences) = (Arc::clone(&losing), Arc::clone(&silent));
    thread::spawn(move || {
        let cut = pump(&mut from_client, |bytes| {
            match watch(bytes) {
                Fate::Pass => {}
                Fate::Prepare => return to_server.write_all(&prepare(bytes)),
                Fate::PrepareUnheard => {
                    loses.store(true, Ordering::SeqCst);
                    return to_server.write_all(&prepare(bytes));
                }
                Fate::CutBefore => return Err(ErrorKind::ConnectionAborted.into()),
                Fate::LoseAnswer => loses.store(true, Ordering::SeqCst),
                Fate::NeverAnswer => silences.store(true, Ordering::SeqCst),
            }
            to_server.write_all(bytes)
        });
        let cut = cut.is_err_and(|e| e.kind() == ErrorKind::ConnectionAborted);
        let _ = to_server.shutdown(if cut { Shutdown::Both } else { Shutdown::Write });
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = pump(&mut from_server, |bytes| {
            if losing.load(Ordering::SeqCst) {
                // The server has answered; its words end here.
                return Err(ErrorKind::BrokenPipe.into());
            }
            if silent.load(Ordering::SeqCst) {
                return Ok(());
            }
            to_client.write_all(bytes)
        });
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

/// The bytes with PREPARE TRANSACTION in the place of a COMMIT: a query is `Q`, its length without that letter, its text
/// and a zero.
fn prepare(bytes: &[u8]) -> Vec<u8> {
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    let text = b"PREPARE TRANSACTION 'in-doubt'\0";
    let at = bytes.windows(COMMIT.len()).position(|w| w == COMMIT).expect("a COMMIT in one piece");
    let length = u32::try_from(text.len() + 4).unwrap().to_be_bytes();
    [&bytes[..at], b"Q", &length, text, &bytes[at + COMMIT.len()..]].concat()
}

fn pump(from: &mut UnixStream, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = [0; 8192];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(()),
            n => to(&bytes[..n])?,
        }
    }
}
