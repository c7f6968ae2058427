//! A file system of a few MiB that can be filled and freed: a full disk, for real.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// A file system in memory, mounted until dropped.
#[derive(Debug)]
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB on an empty directory.
    ///
    /// # Panics
    ///
    /// If this process may not.
    #[track_caller]
    pub fn mount(at: &Path, mib: u32) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0755"), "highwater-test"]).arg(at);
        run(mount);
        Self { at: at.to_owned() }
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
