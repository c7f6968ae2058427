//! `setns(2)`: moves the calling thread, and no other, into an IPC namespace.

use std::fs::File;
use std::os::fd::AsRawFd;

use super::errno::Errno;

/// Moves the calling thread into the IPC namespace that the file (`/proc/PID/ns/ipc`) is of. EPERM without CAP_SYS_ADMIN
/// in it and in the thread's own user namespace; EINVAL for a file that is none of an IPC namespace.
pub fn enter_ipc(file: &File) -> Result<(), Errno> {
    // SAFETY: takes and returns integers; the descriptor is open while `file` lives. What changes is which System V
    // objects this thread's later calls reach, and no memory hangs on that: nothing here attaches segments.
    let answer = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWIPC) };
    if answer < 0 { Err(Errno::last()) } else { Ok(()) }
}
