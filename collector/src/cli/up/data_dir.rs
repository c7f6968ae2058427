//! The data directory of `up`: made, private, and held by one `up` at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::secret_file::{self, SecretFileError, effective_uid};

/// A data directory that this process holds until it ends or drops this.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be the data directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// The system refused.
    #[error("{doing} the data directory {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its lock file is not one of ours.
    #[error(transparent)]
    LockFile(#[from] SecretFileError),
    /// Another `up` is at work there.
    #[error("another `highwater up`{by} uses {}: stop it, or choose another --data-dir", path.display())]
    Taken {
        /// The directory.
        path: PathBuf,
        /// ` (pid N)`, if it said so.
        by: String,
    },
    /// Other things are in it.
    #[error(
        "{} holds other things, and the data directory is for Highwater alone: name an empty or a new one with \
         --data-dir, e.g. {}/highwater", path.display(), path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// It is somebody else's, or others can write it.
    #[error("the data directory {} {why}: choose another --data-dir, or a new one", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

const LOCK_FILE: &str = "up.lock";

impl DataDir {
    /// Makes the directory if it is missing (0700; as root 0711, for PostgreSQL's user has to pass through), checks that
    /// nobody else can write it and that nothing else is in it, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |doing| move |source| DataDirError::Io { doing, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(failed("making"))?;
        let path = &fs::canonicalize(path).map_err(failed("resolving"))?;
        let found = fs::metadata(path).map_err(failed("reading"))?;
        let own = effective_uid().map_err(failed("reading"))?;
        let refused = |why| Err(DataDirError::NotPrivate { path: path.to_owned(), why });
        if found.uid() != own {
            return refused(format!("belongs to uid {}, this process is uid {own}", found.uid()));
        }
        if found.mode() & 0o022 != 0 {
            return refused(format!("has mode {:04o}, others can write it", found.mode() & 0o7777));
        }
        // Closing a directory that others use would shut them out; every run leaves its lock file in one that is ours.
        let is_empty = fs::read_dir(path).map_err(failed("reading"))?.next().is_none();
        if !is_empty && !path.join(LOCK_FILE).exists() {
            return Err(DataDirError::InUse { path: path.to_owned() });
        }
        let mode = if own == 0 { 0o711 } else { 0o700 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("closing"))?;
        Ok(Self { path: path.to_owned(), _lock: lock(path)? })
    }

    /// Its path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Locks the directory by a file in it that holds the pid. The lock ends with the process, however it ends.
fn lock(path: &Path) -> Result<File, DataDirError> {
    let failed = |source| DataDirError::Io { doing: "locking", path: path.to_owned(), source };
    let mut file = secret_file::open(&path.join(LOCK_FILE), OpenOptions::new().read(true).write(true))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = (&file).take(32).read_to_string(&mut pid);
            let by = pid.trim().parse::<u32>().map_or(String::new(), |pid| format!(" (pid {pid})"));
            return Err(DataDirError::Taken { path: path.to_owned(), by });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_new_directory_is_private_and_missing_parents_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(&dir.path().join("a/b/data")).unwrap();
        let expect = if effective_uid().unwrap() == 0 { 0o711 } else { 0o700 };
        assert_eq!(mode(held.path()), expect);
    }

    #[test]
    fn the_second_of_two_is_told_who_was_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let held = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(held);
        DataDir::open(&path).unwrap();
    }

    /// The lock was opened through the link, and what it led to was emptied and got the pid.
    #[test]
    fn a_link_in_the_place_of_the_lock_file_is_refused_and_what_it_leads_to_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        drop(DataDir::open(&path).unwrap());
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        fs::remove_file(path.join(LOCK_FILE)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, path.join(LOCK_FILE)).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "kept");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(DataDir::open(&open), Err(DataDirError::NotPrivate { .. })));
    }

    /// The second run took the first one's lock file for a sign that the directory was its own, and closed it to others.
    #[test]
    fn a_directory_with_other_things_is_refused_each_time_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let used = dir.path().join("used");
        fs::create_dir(&used).unwrap();
        fs::write(used.join("thing"), "").unwrap();
        fs::set_permissions(&used, fs::Permissions::from_mode(0o755)).unwrap();
        for _ in 0..2 {
            let error = DataDir::open(&used).unwrap_err().to_string();
            assert!(error.contains("--data-dir"), "{error}");
            assert_eq!((mode(&used), fs::read_dir(&used).unwrap().count()), (0o755, 1));
        }
    }
}
