//! A disk in memory that can fill up, tear writes, fail and crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use super::disk::Disk;

/// Clones share one disk, so a test keeps one to do damage with.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Names now, and names that a crash leaves; both point to files.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<File>,
    /// Bytes that still fit, `None` = no limit.
    room: Option<usize>,
    fail_sync: bool,
    /// What reading segments fails with.
    fail_reads: Option<ErrorKind>,
    /// What a write without room fails with, `None` = ENOSPC.
    full: Option<ErrorKind>,
    /// What fails.
    faults: BTreeSet<Fault>,
    /// Bytes of files that the device does not give (EIO).
    bad: Vec<(usize, Range<u64>)>,
    /// Changes until the power goes, `None` = it stays.
    power: Option<usize>,
}

/// A change that a disk can refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    Create,
    Truncate,
    Rename,
    Remove,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

impl FakeDisk {
    /// From now on only so many bytes more fit; what does not fit is written in part, then ENOSPC.
    pub(crate) fn set_room(&self, bytes: Option<usize>) {
        self.0.lock().unwrap().room = bytes;
    }

    /// Whether forcing fails.
    pub(crate) fn fail_sync(&self, fail: bool) {
        self.0.lock().unwrap().fail_sync = fail;
    }

    /// What reading segments fails with from now on.
    pub(crate) fn fail_reads(&self, kind: Option<ErrorKind>) {
        self.0.lock().unwrap().fail_reads = kind;
    }

    /// What a write without room fails with from now on.
    pub(crate) fn fail_full(&self, kind: ErrorKind) {
        self.0.lock().unwrap().full = Some(kind);
    }

    /// Whether such changes fail.
    pub(crate) fn fail(&self, fault: Fault, fails: bool) {
        let faults = &mut self.0.lock().unwrap().faults;
        if fails {
            faults.insert(fault)
        } else {
            faults.remove(&fault)
        };
    }

    /// From now on the device does not give these bytes of a file.
    pub(crate) fn spoil(&self, name: &str, bytes: Range<u64>) {
        let mut state = self.0.lock().unwrap();
        let index = state.names[name];
        state.bad.push((index, bytes));
    }

    /// After so many more changes the power goes: from then on every change fails.
    pub(crate) fn power_for(&self, changes: Option<usize>) {
        self.0.lock().unwrap().power = changes;
    }

    /// What the machine would find if it lost power now: of each file what was forced and the first `torn` bytes of what
    /// it gained; of changed names that were not forced, those that `names` has a bit for.
    pub(crate) fn crashed(&self, torn: usize, names: u64) -> Self {
        let state = self.0.lock().unwrap();
        let either: BTreeSet<&String> = state.names.keys().chain(state.durable_names.keys()).collect();
        let mut contents = BTreeMap::new();
        for (i, name) in either.into_iter().enumerate() {
            let early = names >> (i % 64) & 1 == 1;
            let Some(index) = if early { &state.names } else { &state.durable_names }.get(name) else { continue };
            let file = &state.files[*index];
            let gained = file.bytes.strip_prefix(file.synced.as_slice()).unwrap_or_default();
            contents.insert(name.clone(), [&file.synced, &gained[..torn.min(gained.len())]].concat());
        }
        Self::with(&contents)
    }

    /// The machine loses power: what was not forced is gone, but for the first `torn` bytes of what each file gained.
    pub(crate) fn crash(&self, torn: usize) {
        let mut state = self.0.lock().unwrap();
        state.names = state.durable_names.clone();
        for file in &mut state.files {
            let mut kept = file.synced.clone();
            if file.bytes.starts_with(&file.synced) {
                kept.extend(file.bytes[file.synced.len()..].iter().take(torn));
            }
            file.bytes.clone_from(&kept);
            file.synced = kept;
        }
    }

    /// Changes a file's bytes behind the spool's back.
    pub(crate) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let index = state.names[name];
        change(&mut state.files[index].bytes);
        state.files[index].synced = state.files[index].bytes.clone();
    }

    /// Names and bytes of all files.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock().unwrap();
        state.names.iter().map(|(name, at)| (name.clone(), state.files[*at].bytes.clone())).collect()
    }

    /// A disk with these files, all durable.
    pub(crate) fn with(contents: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut state = State::default();
        for (name, bytes) in contents {
            state.names.insert(name.clone(), state.files.len());
            state.files.push(File { bytes: bytes.clone(), synced: bytes.clone() });
        }
        state.durable_names = state.names.clone();
        Self(Arc::new(Mutex::new(state)))
    }

    /// A change that may be refused, and is the last one before the power goes.
    fn change(&self, fault: Option<Fault>) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        match &mut state.power {
            Some(0) => return Err(io::Error::other("there is no power")),
            Some(left) => *left -= 1,
            None => {}
        }
        match fault.filter(|fault| state.faults.contains(fault)) {
            Some(fault) => Err(io::Error::other(format!("the device refuses: {fault:?}"))),
            None => Ok(()),
        }
    }

    fn on<T>(&self, name: &str, act: impl FnOnce(&mut File, &mut Option<usize>) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        let State { names, files, room, .. } = &mut *state;
        let index = *names.get(name).ok_or(ErrorKind::NotFound)?;
        act(&mut files[index], room)
    }
}

impl Disk for FakeDisk {
    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.contents().into_iter().map(|(name, bytes)| (name, bytes.len() as u64)).collect())
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        self.change(Some(Fault::Create))?;
        let mut state = self.0.lock().unwrap();
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let index = state.files.len();
        state.files.push(File::default());
        state.names.insert(name.to_owned(), index);
        Ok(())
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(None)?;
        let full = self.0.lock().unwrap().full.unwrap_or(ErrorKind::StorageFull);
        self.on(name, |file, room| {
            let fits = room.map_or(bytes.len(), |room| room.min(bytes.len()));
            file.bytes.extend_from_slice(&bytes[..fits]);
            if let Some(room) = room {
                *room -= fits;
            }
            if fits < bytes.len() { Err(full.into()) } else { Ok(()) }
        })
    }

    fn read_at(&mut self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(kind) = self.0.lock().unwrap().fail_reads.filter(|_| name.ends_with(".seg")) {
            return Err(kind.into());
        }
        let to = offset.saturating_add(buffer.len() as u64);
        let state = self.0.lock().unwrap();
        let index = state.names.get(name);
        if state.bad.iter().any(|(n, bad)| Some(n) == index && bad.start < to && offset < bad.end) {
            return Err(ErrorKind::InvalidData.into());
        }
        drop(state);
        self.on(name, |file, _| {
            let rest = file.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        self.change(Some(Fault::Truncate))?;
        self.on(name, |file, room| {
            let len = usize::try_from(len).unwrap();
            if let Some(room) = room {
                *room += file.bytes.len().saturating_sub(len);
            }
            file.bytes.truncate(len);
            Ok(())
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.change(None)?;
        if self.0.lock().unwrap().fail_sync {
            return Err(io::Error::other("the device is gone"));
        }
        self.on(name, |file, _| {
            file.synced.clone_from(&file.bytes);
            Ok(())
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.change(Some(Fault::Rename))?;
        let mut state = self.0.lock().unwrap();
        let index = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), index);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.change(Some(Fault::Remove))?;
        let mut state = self.0.lock().unwrap();
        let index = state.names.remove(name).ok_or(ErrorKind::NotFound)?;
        let freed = state.files[index].bytes.len();
        if let Some(room) = &mut state.room {
            *room += freed;
        }
        Ok(())
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.change(None)?;
        let mut state = self.0.lock().unwrap();
        if state.fail_sync {
            return Err(io::Error::other("the device is gone"));
        }
        state.durable_names = state.names.clone();
        Ok(())
    }
}

/// What the spool relies on, kept by the fake and by the real directory alike.
#[cfg(test)]
mod tests {
    use super::super::disk::PrivateDir;
    use super::*;

    fn behaves(disk: &mut dyn Disk) {
        disk.create("a").unwrap();
        assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
        disk.append("a", b"0123").unwrap();
        disk.append("a", b"456789").unwrap();
        let mut buffer = [0; 4];
        assert_eq!((disk.read_at("a", 8, &mut buffer).unwrap(), &buffer[..2]), (2, &b"89"[..]));
        assert_eq!(disk.read_at("a", 99, &mut buffer).unwrap(), 0);
        disk.truncate("a", 5).unwrap();
        disk.append("a", b"x").unwrap();
        disk.sync("a").unwrap();
        disk.rename("a", "b").unwrap();
        disk.sync_dir().unwrap();
        assert_eq!(disk.read_at("a", 0, &mut buffer).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.read_whole("b", 6).unwrap().unwrap(), b"01234x");
        assert_eq!(disk.read_whole("b", 5).unwrap_err().kind(), ErrorKind::InvalidData);
        disk.replace("b", b"new").unwrap();
        assert_eq!(disk.read_whole("b", 5).unwrap().unwrap(), b"new");
        assert_eq!(disk.list().unwrap(), [("b".to_owned(), 3)]);
        disk.remove("b").unwrap();
        assert_eq!(disk.remove("b").unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.read_whole("b", 5).unwrap(), None);
    }

    #[test]
    fn the_fake_and_the_real_disk_behave_alike() {
        behaves(&mut FakeDisk::default());
        let dir = tempfile::tempdir().unwrap();
        behaves(&mut PrivateDir::create(&dir.path().join("d")).unwrap());
    }
}
