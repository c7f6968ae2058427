//! Waiting for files, and timing calls: `poll(2)`, `getppid(2)`.

use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use super::errno::Errno;
use super::host;

/// Flag of `open(2)`: a read that finds nothing returns at once.
pub const NONBLOCKING: i32 = libc::O_NONBLOCK;

/// Waits until one of the files can be read or is hung up: `None` = for as long as it takes. Fills `ready`, which is
/// cleared first, with the positions of those that can. A signal counts as nothing ready.
pub fn poll(files: &[BorrowedFd<'_>], timeout: Option<Duration>, ready: &mut Vec<usize>) -> Result<(), Errno> {
    ready.clear();
    let mut asked: Vec<libc::pollfd> =
        files.iter().map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 }).collect();
    let count = libc::nfds_t::try_from(asked.len()).map_err(|_| Errno::EINVAL)?;
    // A wait of less than a millisecond is one, not none.
    let ms = timeout.map_or(-1, |t| i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX));
    // SAFETY: `asked` holds `count` entries and outlives the call; the descriptors are open while `files` borrows them.
    let answer = unsafe { libc::poll(asked.as_mut_ptr(), count, ms) };
    if answer < 0 {
        let error = Errno::last();
        return if error == Errno(libc::EINTR) { Ok(()) } else { Err(error) };
    }
    ready.extend(asked.iter().enumerate().filter(|(_, file)| file.revents != 0).map(|(at, _)| at));
    Ok(())
}

/// How long so many of the cheapest system calls take (`getppid(2)`, made anew each time).
pub fn time_calls(count: u32) -> Duration {
    let begun = host::monotonic();
    for _ in 0..count {
        // SAFETY: takes nothing, returns a number, cannot fail.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
    host::monotonic().saturating_sub(begun)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_file_is_ready_when_it_has_something() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let (quiet, _open) = std::io::pipe().unwrap();
        let mut ready = vec![7];
        let files = [quiet.as_fd(), reader.as_fd()];
        poll(&files, Some(Duration::ZERO), &mut ready).unwrap();
        assert_eq!(ready, Vec::<usize>::new());
        writer.write_all(b"x").unwrap();
        poll(&files, None, &mut ready).unwrap();
        assert_eq!(ready, [1]);
    }

    #[test]
    fn calls_take_time() {
        assert!(time_calls(10_000) > Duration::ZERO);
    }
}
