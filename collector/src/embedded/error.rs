//! Why there is no private PostgreSQL.

use std::io;
use std::path::{Path, PathBuf};

use crate::secret_file::SecretFileError;

/// Why the private PostgreSQL could not be found, made, started or stopped; each with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No server binaries.
    #[error(
        "no PostgreSQL server from version 13 on was found in PATH or /usr/lib/postgresql/*/bin{found}: install one, or \
         name an existing server with --database-url. On Debian and Ubuntu `make up` in Highwater's source installs one, \
         without the system-wide cluster that `apt install postgresql` starts"
    )]
    NoBinaries {
        /// What was found but does not do, e.g. `; /usr/bin/postgres is version 12`.
        found: String,
    },
    /// As root: nobody to run the server as.
    #[error(
        "PostgreSQL does not run as root, and /etc/passwd has neither `postgres` nor `nobody`: add one, or run \
         `highwater up` as another user"
    )]
    NoAccount,
    /// The server's user cannot reach the data directory.
    #[error(
        "{} cannot be entered by user {user} (uid {uid}), who runs PostgreSQL for `up` as root: chmod o+x it, or choose \
         another --data-dir", path.display()
    )]
    NotTraversable {
        /// The directory.
        path: PathBuf,
        /// The server's user.
        user: String,
        /// Its number.
        uid: u32,
    },
    /// The kernel has no System V IPC.
    #[error(
        "PostgreSQL cannot start on this host: its kernel has no System V shared memory ({said}). Name a PostgreSQL \
         server on another host with --database-url postgres://USER@HOST/NAME (or HIGHWATER_DATABASE_URL)"
    )]
    NoSysVIpc {
        /// The server's own words.
        said: String,
    },
    /// A program of PostgreSQL failed.
    #[error("{program} failed ({status}): {said}; all it said is in {}", log.display())]
    Program {
        /// Its name.
        program: &'static str,
        /// Exit status.
        status: String,
        /// The telling line of its log.
        said: String,
        /// The log.
        log: PathBuf,
    },
    /// A program of PostgreSQL did not end, or the server did not accept connections, in time.
    #[error("{what} took longer than {seconds} s; see {}", log.display())]
    TooSlow {
        /// What.
        what: &'static str,
        /// The bound.
        seconds: u64,
        /// The log.
        log: PathBuf,
    },
    /// The cluster is there, but its password is not, or is another one.
    #[error("the cluster in {} does not take the password in {}: {why}; restore that file from a backup", cluster.display(), file.display())]
    Password {
        /// The cluster.
        cluster: PathBuf,
        /// The file.
        file: PathBuf,
        /// What went wrong.
        why: String,
    },
    /// The cluster is of another major version than the binaries.
    #[error(
        "the cluster in {} was made by PostgreSQL {cluster_version}, and no binaries of that version were found \
         (found: {found}): install postgresql-{cluster_version}, or pg_upgrade the cluster", cluster.display()
    )]
    Version {
        /// The cluster.
        cluster: PathBuf,
        /// Its version.
        cluster_version: String,
        /// Versions that are there.
        found: String,
    },
    /// A file with a secret.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// The system refused something.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Told to stop before the server was ready.
    #[error("stopped while PostgreSQL was starting")]
    Stopped,
    /// No randomness for a password.
    #[error("no random bytes for the database password: {0}")]
    Random(#[from] getrandom::Error),
}

/// Makes an [`EmbeddedError::Io`] of an I/O error.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> EmbeddedError + use<> {
    let path = path.to_owned();
    move |source| EmbeddedError::Io { doing, path: path.clone(), source }
}
