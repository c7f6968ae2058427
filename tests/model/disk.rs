//! A directory in memory: bytes that were not forced die with the machine, in whole or torn; it can fill up; a fuse ends
//! the process in the middle of what it does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use highwater_agent::spool::disk::Disk;

use crate::chance::Chance;

/// Clones are handles of one directory; [`ModelDisk::copy`] makes another directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelDisk(Arc<Mutex<Directory>>);

#[derive(Clone, Debug, Default)]
struct Directory {
    /// Names now, and names that a crash leaves; both point into `files`.
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    files: Vec<File>,
    /// Bytes that still fit, `None` = no limit.
    room: Option<usize>,
    was_full: bool,
    /// A write found no room.
    refused: bool,
    /// Bytes that were ever appended.
    appended: u64,
    /// Changes that still happen before the process dies.
    fuse: Option<u64>,
    /// A mutation: forcing the cursor does nothing, and nobody is told.
    forgets_cursor: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

impl ModelDisk {
    /// An empty directory.
    pub(crate) fn new(forgets_cursor: bool) -> Self {
        let disk = Self::default();
        disk.lock().forgets_cursor = forgets_cursor;
        disk
    }

    /// Another directory with the same contents.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// From now on only so many bytes more fit.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        let mut directory = self.lock();
        directory.room = room;
        directory.was_full |= room.is_some();
    }

    /// Whether whoever may use `most` bytes never had to drop any.
    pub(crate) fn had_room(&self, most: u64) -> bool {
        let directory = self.lock();
        !directory.was_full && directory.appended <= most
    }

    /// Whether it was ever too full for a write.
    pub(crate) fn has_refused(&self) -> bool {
        self.lock().refused
    }

    /// The process dies after so many more changes; `None` = it does not.
    pub(crate) fn set_fuse(&self, changes: Option<u64>) {
        self.lock().fuse = changes;
    }

    /// Whether the fuse has blown.
    pub(crate) fn has_blown(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// The machine loses power.
    pub(crate) fn crash(&self, chance: &mut Chance) {
        let mut directory = self.lock();
        // Names reach the device in order, but nobody says when.
        if chance.one_in(2) {
            directory.names = directory.durable.clone();
        }
        directory.durable = directory.names.clone();
        for file in &mut directory.files {
            let mut left = file.synced.clone();
            if file.bytes.starts_with(&file.synced) {
                let gained = &file.bytes[file.synced.len()..];
                let kept = chance.index(gained.len() + 1);
                left.extend_from_slice(&gained[..kept]);
                // The length may be there before the bytes are.
                if chance.one_in(4) {
                    left.resize(file.bytes.len(), 0);
                }
            }
            file.bytes.clone_from(&left);
            file.synced = left;
        }
    }

    /// A byte of a segment rots.
    pub(crate) fn damage(&self, chance: &mut Chance) {
        let mut directory = self.lock();
        let segments: Vec<usize> =
            directory.names.iter().filter(|(name, _)| name.ends_with(".seg")).map(|(_, at)| *at).collect();
        if segments.is_empty() {
            return;
        }
        let file = &mut directory.files[segments[chance.index(segments.len())]];
        let at = chance.index(file.bytes.len());
        if let Some(byte) = file.bytes.get_mut(at) {
            *byte ^= 1 << chance.below(8);
            file.synced.clone_from(&file.bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Directory> {
        self.0.lock().unwrap()
    }

    /// Makes one change, unless the process dies of it.
    fn change(&self, change: impl FnOnce(&mut Directory) -> io::Result<()>) -> io::Result<()> {
        let mut directory = self.lock();
        match &mut directory.fuse {
            Some(0) => return Err(io::Error::other("this process is dead")),
            Some(left) => *left -= 1,
            None => {}
        }
        if directory.fuse == Some(0) {
            return Err(io::Error::other("this process is dead"));
        }
        change(&mut directory)
    }
}

impl Directory {
    fn file(&mut self, name: &str) -> io::Result<(&mut File, &mut Option<usize>)> {
        let at = *self.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok((&mut self.files[at], &mut self.room))
    }
}

impl Disk for ModelDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let directory = self.lock();
        Ok(directory.names.iter().map(|(name, at)| (name.clone(), directory.files[*at].bytes.len() as u64)).collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.change(|directory| {
            if directory.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            directory.names.insert(name.to_owned(), directory.files.len());
            directory.files.push(File::default());
            Ok(())
        })
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let dies = self.lock().fuse == Some(1);
        if dies {
            // The kernel had taken a part.
            let mut directory = self.lock();
            let (file, _) = directory.file(name)?;
            file.bytes.extend_from_slice(&bytes[..bytes.len() / 2]);
        }
        self.change(|directory| {
            directory.appended += bytes.len() as u64;
            let (file, room) = directory.file(name)?;
            let fits = room.map_or(bytes.len(), |room| room.min(bytes.len()));
            file.bytes.extend_from_slice(&bytes[..fits]);
            if let Some(room) = room {
                *room -= fits;
            }
            if fits < bytes.len() {
                directory.refused = true;
                return Err(ErrorKind::StorageFull.into());
            }
            Ok(())
        })
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut directory = self.lock();
        let (file, _) = directory.file(name)?;
        let rest = file.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.change(|directory| {
            let (file, room) = directory.file(name)?;
            let len = usize::try_from(len).unwrap();
            if let Some(room) = room {
                *room += file.bytes.len().saturating_sub(len);
            }
            file.bytes.truncate(len);
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change(|directory| {
            let lies = directory.forgets_cursor && name.starts_with("cursor");
            let (file, _) = directory.file(name)?;
            if !lies {
                file.synced.clone_from(&file.bytes);
            }
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(|directory| {
            let at = directory.names.remove(from).ok_or(ErrorKind::NotFound)?;
            directory.names.insert(to.to_owned(), at);
            Ok(())
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(|directory| {
            let at = directory.names.remove(name).ok_or(ErrorKind::NotFound)?;
            let freed = directory.files[at].bytes.len();
            if let Some(room) = &mut directory.room {
                *room += freed;
            }
            Ok(())
        })
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.change(|directory| {
            directory.durable = directory.names.clone();
            Ok(())
        })
    }
}
