//! A file system of a few MiB that can be filled and freed: a full disk, for real.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::run;

/// A file system in memory, mounted until dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
    _own: Option<TempDir>,
}

impl SmallDisk {
    /// Mounts one of so many MiB on an empty directory.
    ///
    /// # Panics
    ///
    /// If this process may not.
    #[track_caller]
    pub fn mount(at: &Path, mib: u32) -> Self {
        Self::mounted(at.to_owned(), mib, None)
    }

    fn mounted(at: PathBuf, mib: u32, own: Option<TempDir>) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "highwater-test"]).arg(&at);
        run(mount);
        Self { at, _own: own }
    }

    /// Mounts one of so many MiB on a directory of its own. A namespace that is made later sees it, too.
    ///
    /// # Panics
    ///
    /// If this process may not.
    #[track_caller]
    pub fn new(mib: u32) -> Self {
        let own = tempfile::Builder::new().prefix("highwater-disk-").tempdir().expect("a temporary directory");
        Self::mounted(own.path().to_owned(), mib, Some(own))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Leaves nothing free.
    ///
    /// # Panics
    ///
    /// If that fails otherwise than for want of room.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filling()).expect("a file");
        for size in [1 << 20, 4096] {
            let chunk = vec![0xff; size];
            loop {
                match file.write_all(&chunk) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::StorageFull => break,
                    Err(e) => panic!("filling a disk: {e}"),
                }
            }
        }
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = std::fs::remove_file(self.filling());
    }

    fn filling(&self) -> PathBuf {
        self.at.join("filling")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Somebody may be about to leave it: it goes when the last one has.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
