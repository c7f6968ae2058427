//! A socket between the collector and PostgreSQL that can lose the answer to a COMMIT: the server has committed, the
//! collector cannot know.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use highwater_tests::postgres::Database;

/// Threads of it end with their connections; nothing outlives the test process.
pub(super) struct Proxy {
    directory: tempfile::TempDir,
    armed: Arc<AtomicBool>,
}

impl Proxy {
    pub(super) fn start(server: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(socket_in(directory.path())).unwrap();
        let server = socket_in(server);
        let armed = Arc::new(AtomicBool::new(false));
        let arms = Arc::clone(&armed);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&server) else { return };
                serve(client, server, &arms);
            }
        });
        Self { directory, armed }
    }

    /// The database's URL through here.
    pub(super) fn url(&self, database: &Database) -> String {
        format!("postgres://highwater@localhost/{}?host={}", database.name, self.directory.path().display())
    }

    pub(super) fn lose_the_next_commits_answer(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Whether it did.
    pub(super) fn lost_one(&self) -> bool {
        !self.armed.load(Ordering::SeqCst)
    }
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join(".s.PGSQL.5432")
}

fn serve(client: UnixStream, server: UnixStream, armed: &Arc<AtomicBool>) {
    let losing = Arc::new(AtomicBool::new(false));
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (arms, loses) = (Arc::clone(armed), Arc::clone(&losing));
    thread::spawn(move || {
        let _ = pump(&mut from_client, |bytes| {
            if bytes.windows(7).any(|w| w == b"COMMIT\0") && arms.swap(false, Ordering::SeqCst) {
                loses.store(true, Ordering::SeqCst);
            }
            to_server.write_all(bytes)
        });
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = pump(&mut from_server, |bytes| {
            if losing.load(Ordering::SeqCst) {
                // The server has answered the COMMIT; its words end here.
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            to_client.write_all(bytes)
        });
        let _ = to_client.shutdown(Shutdown::Both);
    });
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
