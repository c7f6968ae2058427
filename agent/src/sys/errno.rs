//! Error numbers of the kernel.

use std::{fmt, io};

/// An error number as the kernel returned it (`errno(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Operation not permitted.
    pub const EPERM: Errno = Errno(libc::EPERM);
    /// No such file or directory.
    pub const ENOENT: Errno = Errno(libc::ENOENT);
    /// No such process.
    pub const ESRCH: Errno = Errno(libc::ESRCH);
    /// Input/output error; also stands for an error without a number.
    pub const EIO: Errno = Errno(libc::EIO);
    /// Permission denied.
    pub const EACCES: Errno = Errno(libc::EACCES);
    /// A part of the path is not a directory.
    pub const ENOTDIR: Errno = Errno(libc::ENOTDIR);
    /// Invalid argument; for `*_STAT_ANY` an index without object.
    pub const EINVAL: Errno = Errno(libc::EINVAL);
    /// Out of memory.
    pub const ENOMEM: Errno = Errno(libc::ENOMEM);
    /// Too many open files in the system.
    pub const ENFILE: Errno = Errno(libc::ENFILE);
    /// Too many open files in this process.
    pub const EMFILE: Errno = Errno(libc::EMFILE);
    /// Function not implemented.
    pub const ENOSYS: Errno = Errno(libc::ENOSYS);
    /// Removed between two looks at it.
    pub const EIDRM: Errno = Errno(libc::EIDRM);

    /// Whether it says that this process or host is short of something just now, rather than anything about the file.
    pub fn is_shortage(self) -> bool {
        matches!(self, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)
    }

    /// The number inside an I/O error; EIO where it has none.
    pub fn of(error: &io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno)
    }

    /// The errno of the call that just failed on this thread.
    pub(super) fn last() -> Errno {
        Errno::of(&io::Error::last_os_error())
    }

    /// The number of that C name, where this room knows it.
    pub fn from_name(name: &str) -> Option<Errno> {
        KNOWN.iter().find(|(_, known, _)| *known == name).map(|(number, ..)| Errno(*number))
    }

    /// Its C name, where this room knows it.
    pub fn name(self) -> Option<&'static str> {
        KNOWN.iter().find(|(number, ..)| *number == self.0).map(|(_, name, _)| *name)
    }
}

/// `ENOSYS (38): function not implemented`; the same words whatever the C library and the locale.
impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KNOWN.iter().find(|(number, ..)| *number == self.0) {
            Some((number, name, text)) => write!(f, "{name} ({number}): {text}"),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl std::error::Error for Errno {}

/// The numbers that the reads and calls of this agent can meet.
const KNOWN: [(i32, &str, &str); 22] = [
    (libc::EPERM, "EPERM", "operation not permitted"),
    (libc::ENOENT, "ENOENT", "no such file or directory"),
    (libc::ESRCH, "ESRCH", "no such process"),
    (libc::EINTR, "EINTR", "interrupted system call"),
    (libc::EIO, "EIO", "input/output error"),
    (libc::ENXIO, "ENXIO", "no such device or address"),
    (libc::ENOMEM, "ENOMEM", "out of memory"),
    (libc::EACCES, "EACCES", "permission denied"),
    (libc::EFAULT, "EFAULT", "bad address"),
    (libc::EBUSY, "EBUSY", "device or resource busy"),
    (libc::ENOTDIR, "ENOTDIR", "not a directory"),
    (libc::EISDIR, "EISDIR", "is a directory"),
    (libc::EINVAL, "EINVAL", "invalid argument"),
    (libc::ENFILE, "ENFILE", "too many open files in the system"),
    (libc::EMFILE, "EMFILE", "too many open files"),
    (libc::ENOTTY, "ENOTTY", "inappropriate ioctl for device"),
    (libc::ENOSPC, "ENOSPC", "no space left on device"),
    (libc::ERANGE, "ERANGE", "result too large"),
    (libc::ENOSYS, "ENOSYS", "function not implemented"),
    (libc::ELOOP, "ELOOP", "too many symbolic links"),
    (libc::EIDRM, "EIDRM", "identifier removed"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP", "operation not supported"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_name_number_and_meaning() {
        assert_eq!(Errno::ENOSYS.to_string(), "ENOSYS (38): function not implemented");
        assert_eq!(Errno(9999).to_string(), "errno 9999");
        assert_eq!(Errno::of(&io::Error::other("x")), Errno::EIO);
    }
}
