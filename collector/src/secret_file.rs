//! Files that hold a secret: mode 0600, created new, never through a symbolic link; a file that others could have
//! read or written is refused instead of used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Why a secret's file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, e.g. `reading`.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link, directory or device.
    #[error("{} is no regular file (a symbolic link is not followed here): name the file itself", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to somebody else.
    #[error("{} belongs to uid {owner}, this process is uid {own}: run as that user, or give the file away", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        own: u32,
    },
    /// Others may read or write it.
    #[error("{} has mode {mode:04o}, others could use it: chmod 600 it, and replace any secret in it", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than any secret has.
    #[error("{} is longer than {most} bytes: is it the right file?", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The bound.
        most: usize,
    },
}

impl SecretFileError {
    /// Whether the file is simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, SecretFileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether [`create`] found that the file is there already.
    pub fn is_taken(&self) -> bool {
        matches!(self, SecretFileError::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}

/// Creates the file, which must not exist; durable, and whole or absent even if the process dies half way.
pub fn create(path: &Path, secret: &[u8]) -> Result<(), SecretFileError> {
    let temporary = write_beside(path, secret)?;
    let linked = fs::hard_link(&temporary, path).map_err(failed("creating", path));
    let _ = fs::remove_file(&temporary);
    linked?;
    sync_directory(path)
}

/// Writes the file, replacing what was there; a reader sees the old or the new one, whole.
pub fn replace(path: &Path, secret: &[u8]) -> Result<(), SecretFileError> {
    let temporary = write_beside(path, secret)?;
    if let Err(e) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(failed("writing", path)(e));
    }
    sync_directory(path)
}

/// Reads at most `most` bytes of a file that is regular, this user's own and closed to others.
pub fn read(path: &Path, most: usize) -> Result<Vec<u8>, SecretFileError> {
    let file = open_own(path, OpenOptions::new().read(true))?;
    let mut secret = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut secret).map_err(failed("reading", path))?;
    if secret.len() > most {
        return Err(SecretFileError::TooLong { path: path.to_owned(), most });
    }
    Ok(secret)
}

/// Opens a file that is written in place (a lock, a log) as `options` say: created 0600, or there already and as
/// [`read`] wants it.
pub fn open(path: &Path, options: &OpenOptions) -> Result<File, SecretFileError> {
    match options.clone().create_new(true).mode(0o600).open(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => open_own(path, options),
        other => other.map_err(failed("creating", path)),
    }
}

/// Opens a file that is regular, this user's own, closed to others, and the very one that was looked at.
fn open_own(path: &Path, options: &OpenOptions) -> Result<File, SecretFileError> {
    let reading = failed("reading", path);
    let named = fs::symlink_metadata(path).map_err(&reading)?;
    if !named.is_file() {
        return Err(SecretFileError::NotRegular { path: path.to_owned() });
    }
    let file = options.open(path).map_err(&reading)?;
    let opened = file.metadata().map_err(&reading)?;
    // The file that was looked at is the one that was opened: nobody put a link in between.
    if (opened.dev(), opened.ino()) != (named.dev(), named.ino()) {
        return Err(SecretFileError::NotRegular { path: path.to_owned() });
    }
    let own = effective_uid().map_err(&reading)?;
    if opened.uid() != own {
        return Err(SecretFileError::Owner { path: path.to_owned(), owner: opened.uid(), own });
    }
    let mode = opened.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretFileError::Mode { path: path.to_owned(), mode });
    }
    Ok(file)
}

/// The effective user of this process: the owner of its directory in /proc.
pub fn effective_uid() -> io::Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

fn write_beside(path: &Path, secret: &[u8]) -> Result<PathBuf, SecretFileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let writing = failed("writing", &temporary);
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
    let mut file = match open() {
        // Left by a process of the same id that died while writing.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&temporary).and_then(|()| open()).map_err(&writing)?
        }
        other => other.map_err(&writing)?,
    };
    if let Err(e) = file.write_all(secret).and_then(|()| file.sync_all()) {
        let _ = fs::remove_file(&temporary);
        return Err(writing(e));
    }
    Ok(temporary)
}

fn sync_directory(path: &Path) -> Result<(), SecretFileError> {
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|d| d.sync_all()).map_err(failed("syncing", directory))
}

fn failed(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> SecretFileError + use<> {
    let path = path.to_owned();
    move |source| SecretFileError::Io { doing, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_secret_reads_back_and_is_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        assert_eq!((read(&path, 10).unwrap(), mode(&path)), (b"one".to_vec(), 0o600));
        replace(&path, b"two").unwrap();
        assert_eq!((read(&path, 10).unwrap(), mode(&path)), (b"two".to_vec(), 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn creating_never_overwrites_and_never_follows_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        create(&path, b"one").unwrap();
        assert!(create(&path, b"two").unwrap_err().is_taken());
        let link = dir.path().join("link");
        symlink(dir.path().join("elsewhere"), &link).unwrap();
        assert!(create(&link, b"x").unwrap_err().is_taken());
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn reading_refuses_a_link_an_open_mode_and_a_long_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(read(&path, 10).unwrap_err().is_missing());
        create(&path, b"0123456789").unwrap();
        assert!(matches!(read(&path, 9), Err(SecretFileError::TooLong { most: 9, .. })));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(read(&link, 10), Err(SecretFileError::NotRegular { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read(&path, 10), Err(SecretFileError::Mode { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(12_345), None).expect("root, which may give files away");
        let refused = read(&path, 10).unwrap_err();
        assert!(matches!(refused, SecretFileError::Owner { owner: 12_345, own: 0, .. }), "{refused}");
    }

    #[test]
    fn a_file_that_is_written_in_place_is_made_private_and_never_reached_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut appending = OpenOptions::new();
        appending.append(true);
        open(&path, &appending).unwrap().write_all(b"one").unwrap();
        open(&path, &appending).unwrap().write_all(b"two").unwrap();
        assert_eq!((read(&path, 10).unwrap(), mode(&path)), (b"onetwo".to_vec(), 0o600));
        for target in [path.clone(), dir.path().join("elsewhere")] {
            let link = dir.path().join("link");
            symlink(&target, &link).unwrap();
            assert!(matches!(open(&link, &appending), Err(SecretFileError::NotRegular { .. })));
            fs::remove_file(link).unwrap();
        }
        assert!(!dir.path().join("elsewhere").exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(open(&path, &appending), Err(SecretFileError::Mode { mode: 0o644, .. })));
    }
}
