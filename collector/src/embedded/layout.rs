//! Where the private PostgreSQL keeps what, and a socket path that is short enough for the kernel.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use highwater_proto::token::to_hex;
use sha2::{Digest as _, Sha256};

use super::account::Account;
use super::error::{EmbeddedError, failed};

/// The port is part of the socket's name only: no TCP port is opened.
pub const PORT: u16 = 5432;
/// Most bytes of a unix socket's path (sun_path of unix(7) with its final NUL).
const SOCKET_PATH: usize = 107;

/// The paths of one private PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The data directory of `up`, absolute.
    pub data_dir: PathBuf,
    /// Folder of the unix socket.
    pub run: PathBuf,
}

impl Layout {
    /// For a data directory that exists.
    pub fn of(data_dir: &Path, account: &Account) -> Result<Self, EmbeddedError> {
        let data_dir = fs::canonicalize(data_dir).map_err(failed("resolving", data_dir))?;
        let run = run_folder(&data_dir, account.is_switched(), std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
        Ok(Self { data_dir, run })
    }

    /// The cluster.
    pub fn cluster(&self) -> PathBuf {
        self.data_dir.join("postgres")
    }

    /// A cluster in the making.
    pub fn new_cluster(&self) -> PathBuf {
        self.data_dir.join(format!("postgres.new.{}", std::process::id()))
    }

    /// Password of the collector's role.
    pub fn password(&self) -> PathBuf {
        self.data_dir.join("postgres.password")
    }

    /// What the server says.
    pub fn log(&self) -> PathBuf {
        self.data_dir.join("postgres.log")
    }

    /// Who may connect.
    pub fn hba(&self) -> PathBuf {
        self.data_dir.join("pg_hba.conf")
    }

    /// The unix socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join(format!(".s.PGSQL.{PORT}"))
    }

    /// Makes the socket's folder, 0700 and the server user's, or checks that it is.
    pub fn make_run(&self, account: &Account) -> Result<(), EmbeddedError> {
        let run = &self.run;
        let wrong = |why: String| failed("using", run)(io::Error::other(why));
        match DirBuilder::new().mode(0o700).create(run) {
            Ok(()) => account.give(run)?,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed("making", run)(e)),
        }
        let found = fs::symlink_metadata(run).map_err(failed("reading", run))?;
        if !found.is_dir() || ![account.uid, 0].contains(&found.uid()) || found.mode() & 0o022 != 0 {
            return Err(wrong(format!("it must be a directory that only user {} can write", account.name)));
        }
        // A run that died between making the folder and giving it away.
        account.give(run)?;
        fs::set_permissions(run, fs::Permissions::from_mode(0o700)).map_err(failed("closing", run))
    }
}

/// `run/` in the data directory, or where that is too long for a socket a folder named by its hash in a runtime
/// directory.
fn run_folder(data_dir: &Path, root: bool, xdg_runtime_dir: Option<PathBuf>) -> PathBuf {
    let near = data_dir.join("run");
    if near.as_os_str().len() + format!("/.s.PGSQL.{PORT}").len() <= SOCKET_PATH {
        return near;
    }
    let hash = Sha256::digest(data_dir.as_os_str().as_bytes());
    let name = format!("highwater-{}", to_hex(&hash[..8]));
    let usable = |dir: &PathBuf| dir.is_absolute() && dir.is_dir() && dir.as_os_str().len() < SOCKET_PATH / 2;
    let base = if root { Some(PathBuf::from("/run")) } else { xdg_runtime_dir };
    base.filter(usable).unwrap_or_else(std::env::temp_dir).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_in_the_data_directory_unless_its_path_is_too_long() {
        let short = PathBuf::from("/var/lib/highwater");
        assert_eq!(run_folder(&short, true, None), short.join("run"));
        let longest = PathBuf::from(format!("/{}", "d".repeat(107 - "/run/.s.PGSQL.5432".len() - 1)));
        assert_eq!(run_folder(&longest, false, None), longest.join("run"));
        let longer = PathBuf::from(format!("{}x", longest.display()));
        let far = run_folder(&longer, true, None);
        assert!(far.starts_with("/run/") || far.starts_with(std::env::temp_dir()), "{far:?}");
        assert_ne!(far, run_folder(&longer.join("y"), true, None));
        assert!(far.as_os_str().len() < 60);
    }
}
