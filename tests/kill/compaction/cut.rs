//! A socket between a compactor and PostgreSQL that kills the compactor at a chosen message.
//!
//! It reads what the compactor says (PostgreSQL's protocol, version 3) up to where the server is to answer: a simple query
//! or a Sync. One such turn is the last one: the compactor is dead before the server gets it, or before its answer comes.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use highwater_tests::postgres::Database;

/// What a client says that would like to speak TLS; a server on a socket of this machine says no.
const TLS_WANTED: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// When a compactor dies.
#[derive(Clone, Debug)]
pub(crate) struct When {
    /// Only turns whose statement begins so count; empty = all.
    pub(crate) statement: &'static str,
    /// At which of them, from 1.
    pub(crate) turn: u64,
    /// Whether the server still gets that one.
    pub(crate) delivered: bool,
}

/// Threads of it end with their connections; nothing outlives the test process.
pub(crate) struct Cutter {
    directory: tempfile::TempDir,
    armed: Arc<Mutex<Armed>>,
}

#[derive(Default)]
struct Armed {
    when: Option<When>,
    seen: u64,
    victim: Option<Child>,
    /// The statement at which it died.
    died_at: Option<String>,
}

impl Cutter {
    pub(crate) fn start(server: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = |directory: &Path| directory.join(".s.PGSQL.5432");
        let listener = UnixListener::bind(socket(directory.path())).expect("a socket");
        let armed = Arc::new(Mutex::new(Armed::default()));
        let (server, shared) = (socket(server), Arc::clone(&armed));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&server) else { continue };
                serve(client, server, &shared);
            }
        });
        Self { directory, armed }
    }

    /// The database's URL through here.
    pub(crate) fn url(&self, database: &Database) -> String {
        format!("postgres://highwater@localhost/{}?host={}", database.name, self.directory.path().display())
    }

    /// Starts a victim that dies then; without a time it is only watched.
    pub(crate) fn arm(&self, when: Option<When>, start: impl FnOnce() -> Child) {
        // Before the lock is free, none of its turns passes.
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        *armed = Armed { when, victim: Some(start()), ..Armed::default() };
    }

    /// How it ended, once it has: at which statement it was killed, or `None` and how it ended by itself.
    pub(crate) fn ended(&self) -> Option<Result<String, std::process::ExitStatus>> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        let status = armed.victim.as_mut().expect("a victim").try_wait().expect("a child")?;
        Some(armed.died_at.take().ok_or(status))
    }
}

impl Armed {
    /// One more turn; whether it is the last, and then whether the server gets it.
    fn turn(&mut self, statement: &str) -> Option<bool> {
        let when = self.when.as_ref()?;
        self.seen += u64::from(statement.starts_with(when.statement));
        if self.seen < when.turn {
            return None;
        }
        let delivered = when.delivered;
        self.when = None;
        let victim = self.victim.as_mut().expect("a victim");
        victim.kill().expect("SIGKILL to a child");
        victim.wait().expect("waiting for a child");
        self.died_at = Some(statement.to_owned());
        Some(delivered)
    }
}

fn serve(client: UnixStream, server: UnixStream, armed: &Arc<Mutex<Armed>>) {
    let clone = |stream: &UnixStream| stream.try_clone().expect("a second handle of a socket");
    let (mut from_client, mut to_server, armed) = (clone(&client), clone(&server), Arc::clone(armed));
    thread::spawn(move || {
        let _ = pass_turns(&mut from_client, &mut to_server, &armed);
        // What was said before is still carried out; nobody hears the answer.
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let mut bytes = [0; 8192];
        while let Ok(n @ 1..) = from_server.read(&mut bytes) {
            // To a dead one nothing is said, but the server must not find its socket full.
            let _ = to_client.write_all(&bytes[..n]);
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

fn pass_turns(client: &mut UnixStream, server: &mut UnixStream, armed: &Mutex<Armed>) -> io::Result<()> {
    let mut names = HashMap::new();
    let mut statement = String::new();
    let mut turn = Vec::new();
    // The first messages have no letter: perhaps it is asked for TLS, then it begins.
    while body(client, &mut turn)? == TLS_WANTED {
        server.write_all(&std::mem::take(&mut turn))?;
    }
    server.write_all(&std::mem::take(&mut turn))?;
    loop {
        let mut kind = [0];
        client.read_exact(&mut kind)?;
        turn.push(kind[0]);
        let said = body(client, &mut turn)?;
        let mut texts = said.split(|b| *b == 0).map(|t| String::from_utf8_lossy(t).into_owned());
        let mut text = || texts.next().unwrap_or_default();
        match kind[0] {
            b'Q' => statement = text(),
            b'P' => {
                let name = text();
                statement = text();
                names.insert(name, statement.clone());
            }
            b'B' => {
                let _portal = text();
                statement = names.get(&text()).cloned().unwrap_or_default();
            }
            _ => {}
        }
        if matches!(kind[0], b'Q' | b'S' | b'X') {
            let last = armed.lock().unwrap_or_else(PoisonError::into_inner).turn(&statement);
            if last != Some(false) {
                server.write_all(&std::mem::take(&mut turn))?;
            }
            if last.is_some() {
                return Ok(());
            }
        }
    }
}

/// The rest of a message: its length, itself included, and what it says.
fn body(client: &mut UnixStream, turn: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let rest = usize::try_from(u32::from_be_bytes(length)).expect("a length").saturating_sub(4);
    let mut said = vec![0; rest];
    client.read_exact(&mut said)?;
    turn.extend(length);
    turn.extend(&said);
    Ok(said)
}
