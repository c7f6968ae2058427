//! Private directories and the files in them: the seam between the spool and a device.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// `EIO` of `errno(3)`, on every architecture of Linux: the device failed.
const EIO: i32 = 5;

/// One directory of files that nobody else reads or writes. Nothing is durable before `sync` (a file's bytes) and
/// `sync_dir` (its name) returned.
pub trait Disk: Send {
    /// Names and lengths of the regular files, in no order.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;
    /// Makes an empty file; fails with [`ErrorKind::AlreadyExists`] if anything has that name.
    fn create(&mut self, name: &str) -> io::Result<()>;
    /// Adds bytes at a file's end. A failure may leave a part of them there.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Fills `buffer` from `offset` on; returns less than its length only at the file's end. Fails with
    /// [`ErrorKind::InvalidData`] where the device cannot give the bytes (EIO).
    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Cuts a file to `len` bytes.
    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()>;
    /// Forces a file's bytes and length to the device.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file another name, replacing what had it, at once.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Forces created, renamed and removed names to the device.
    fn sync_dir(&mut self) -> io::Result<()>;

    /// Writes a small file whole and durably: after a crash there is the old one or the new one.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.new");
        match self.remove(&temporary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        self.create(&temporary)?;
        self.append(&temporary, bytes)?;
        self.sync(&temporary)?;
        self.rename(&temporary, name)?;
        self.sync_dir()
    }

    /// Reads a small file whole; `None` if it is not there. More than `most` bytes are an error.
    fn read_whole(&mut self, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; most.saturating_add(1)];
        match self.read_at(name, 0, &mut bytes) {
            Ok(len) if len > most => {
                Err(io::Error::new(ErrorKind::InvalidData, format!("{name} is longer than {most} bytes")))
            }
            Ok(len) => {
                bytes.truncate(len);
                Ok(Some(bytes))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// A directory of the real file system: mode 0700, files 0600, of this process's user. Symbolic links are not
/// followed, and what others could read or write is refused.
#[derive(Debug)]
pub struct PrivateDir {
    path: PathBuf,
    directory: File,
    /// The file last appended to and the one last read, kept open.
    appending: Option<(String, File)>,
    reading: Option<(String, File)>,
}

impl PrivateDir {
    /// Opens a directory, made with mode 0700 if it is missing (its parents with it).
    pub fn create(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| named(path, &e))?;
        Self::open(path)
    }

    /// Opens a directory that must exist.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = File::open(path).map_err(|e| named(path, &e))?;
        let meta = directory.metadata().map_err(|e| named(path, &e))?;
        if !meta.is_dir() {
            return Err(refused(path, "it is no directory"));
        }
        private(path, &meta, "chmod 700")?;
        Ok(Self { path: path.to_owned(), directory, appending: None, reading: None })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the directory for this process alone until the lock is dropped or the process ends, however it ends.
    pub fn lock(&self) -> io::Result<Lock> {
        let path = self.path.join("lock");
        let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => open_own(&path, OpenOptions::new().write(true))?,
            other => other.map_err(|e| named(&path, &e))?,
        };
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                ErrorKind::WouldBlock,
                format!("{} is in use by another agent: stop it, or use another --state-dir", self.path.display()),
            )),
            Err(fs::TryLockError::Error(e)) => Err(named(&path, &e)),
        }
    }

    fn appending(&mut self, name: &str) -> io::Result<&mut File> {
        if self.appending.as_ref().is_none_or(|(open, _)| open != name) {
            let file = open_own(&self.path.join(name), OpenOptions::new().append(true))?;
            self.appending = Some((name.to_owned(), file));
        }
        let missing = || io::Error::from(ErrorKind::NotFound);
        self.appending.as_mut().map(|(_, file)| file).ok_or_else(missing)
    }

    fn reading(&mut self, name: &str) -> io::Result<&File> {
        if self.reading.as_ref().is_none_or(|(open, _)| open != name) {
            let file = open_own(&self.path.join(name), OpenOptions::new().read(true))?;
            self.reading = Some((name.to_owned(), file));
        }
        let missing = || io::Error::from(ErrorKind::NotFound);
        self.reading.as_ref().map(|(_, file)| file).ok_or_else(missing)
    }

    /// Forgets open files: their names mean something else from now on.
    fn forget(&mut self, name: &str) {
        self.appending.take_if(|(open, _)| open == name);
        self.reading.take_if(|(open, _)| open == name);
    }
}

impl Disk for PrivateDir {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|e| named(&self.path, &e))? {
            let entry = entry.map_err(|e| named(&self.path, &e))?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Removed since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(named(&entry.path(), &e)),
            };
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                files.push((name, meta.len()));
            }
        }
        Ok(files)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        let path = self.path.join(name);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
        self.appending = Some((name.to_owned(), file.map_err(|e| named(&path, &e))?));
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        self.appending(name)?.write_all(bytes).map_err(|e| named(&path, &e))
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let path = self.path.join(name);
        let file = self.reading(name)?;
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(EIO) => {
                    return Err(io::Error::new(ErrorKind::InvalidData, format!("{}: {e}", path.display())));
                }
                Err(e) => return Err(named(&path, &e)),
            }
        }
        Ok(filled)
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let path = self.path.join(name);
        self.appending(name)?.set_len(len).map_err(|e| named(&path, &e))
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        self.appending(name)?.sync_data().map_err(|e| named(&path, &e))
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        let target = self.path.join(to);
        fs::rename(self.path.join(from), &target).map_err(|e| named(&target, &e))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(|e| named(&path, &e))
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.directory.sync_all().map_err(|e| named(&self.path, &e))
    }
}

/// Holds a directory for this process; the kernel lets go of it when the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Reads at most `most` bytes of a file that is regular (a symbolic link is not followed), this user's own and closed to
/// others.
pub fn read_private(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let file = open_own(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(|e| named(path, &e))?;
    if bytes.len() > most {
        let why = format!("{} is longer than {most} bytes: is it the right file?", path.display());
        return Err(io::Error::new(ErrorKind::InvalidData, why));
    }
    Ok(bytes)
}

/// Opens a file that is regular, this user's own, closed to others, and the very one that was looked at.
fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let looked_at = fs::symlink_metadata(path).map_err(|e| named(path, &e))?;
    if !looked_at.is_file() {
        return Err(refused(path, "it is no regular file (a symbolic link is not followed here)"));
    }
    let file = options.open(path).map_err(|e| named(path, &e))?;
    let opened = file.metadata().map_err(|e| named(path, &e))?;
    if (opened.dev(), opened.ino()) != (looked_at.dev(), looked_at.ino()) {
        return Err(refused(path, "it was exchanged while it was opened"));
    }
    private(path, &opened, "chmod 600")?;
    Ok(file)
}

fn private(path: &Path, meta: &fs::Metadata, remedy: &str) -> io::Result<()> {
    // The owner of a process's directory in /proc is its effective user.
    // Without /proc it is not known; that is not to look as if the file were not there.
    let own = fs::metadata("/proc/self").map_err(|e| refused(Path::new("/proc/self"), &e.to_string()))?.uid();
    if meta.uid() != own {
        let why = format!("it belongs to uid {}, this process is uid {own}: chown it, or run as that user", meta.uid());
        return Err(refused(path, &why));
    }
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(refused(path, &format!("it has mode {mode:04o}, others could use it: {remedy} it")));
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("{}: {why}", path.display()))
}

/// The same error, saying which file.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn two_processes_never_hold_one_directory() {
        let dir = tempfile::tempdir().unwrap();
        let private = PrivateDir::create(&dir.path().join("state")).unwrap();
        let lock = private.lock().unwrap();
        assert_eq!(private.lock().unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        private.lock().unwrap();
    }

    #[test]
    fn directories_and_files_that_others_may_use_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut private = PrivateDir::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        private.replace("a", b"x").unwrap();
        assert_eq!(fs::metadata(path.join("a")).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(path.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
        let mut private = PrivateDir::open(&path).unwrap();
        assert_eq!(private.read_whole("a", 10).unwrap_err().kind(), ErrorKind::PermissionDenied);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert_eq!(PrivateDir::open(&path).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn symbolic_links_are_neither_read_nor_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut private = PrivateDir::create(&dir.path().join("state")).unwrap();
        fs::write(dir.path().join("elsewhere"), "x").unwrap();
        symlink(dir.path().join("elsewhere"), private.path().join("a")).unwrap();
        assert_eq!(private.read_whole("a", 10).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(private.append("a", b"y").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(private.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(dir.path().join("elsewhere")).unwrap(), b"x");
    }
}
