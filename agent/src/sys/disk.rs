//! Room on a disk: `statvfs(3)`.

use std::ffi::CString;
use std::mem;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::errno::Errno;

/// Room on the file system that holds a path, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Free for everybody but root.
    pub free: u64,
    /// All of it.
    pub size: u64,
}

/// Room on the file system that holds `path`.
pub fn room(path: &Path) -> Result<Room, Errno> {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Err(Errno(libc::ENOENT)) };
    // SAFETY: `struct statvfs` is integers, for which zeros are a value; the path ends with a zero byte, the call fills the
    // structure and keeps no pointer.
    let (answer, found) = unsafe {
        let mut found: libc::statvfs = mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    if answer != 0 {
        return Err(Errno::last());
    }
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Room { free: bytes(found.f_bavail), size: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_no_more_free_than_it_has_and_what_is_not_there_has_no_room() {
        let found = room(Path::new("/")).unwrap();
        assert!(found.free <= found.size && found.size > 0, "{found:?}");
        assert_eq!(room(Path::new("/nowhere/at/all")), Err(Errno(libc::ENOENT)));
        assert!(room(Path::new("/with\0zero")).is_err());
    }
}
