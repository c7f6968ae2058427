//! What the host is and what its clocks say: `uname(2)`, `sysconf(3)`, `clock_gettime(2)`, the namespace file.

use std::ffi::CStr;
use std::fs::File;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::c_char;

use super::errno::Errno;

/// `uname(2)`: what the kernel calls itself and its host, as bytes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Uname {
    /// Host name (`nodename`), which is also what `gethostname(2)` answers.
    pub nodename: Vec<u8>,
    /// Kernel release.
    pub release: Vec<u8>,
    /// Machine, e.g. `x86_64`.
    pub machine: Vec<u8>,
}

/// `uname(2)`.
pub fn uname() -> Result<Uname, Errno> {
    // SAFETY: `struct utsname` is arrays of characters, for which zeros are a value; the call fills it and keeps no
    // pointer.
    let (answer, uts) = unsafe {
        let mut uts: libc::utsname = mem::zeroed();
        (libc::uname(&mut uts), uts)
    };
    if answer != 0 {
        return Err(Errno::last());
    }
    Ok(Uname { nodename: text(&uts.nodename), release: text(&uts.release), machine: text(&uts.machine) })
}

/// Bytes in a page (`sysconf(_SC_PAGESIZE)`).
pub fn page_size() -> u32 {
    // SAFETY: takes and returns integers.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4096)
}

/// CLOCK_REALTIME: time since 1970 and whether it lies before it.
pub fn realtime() -> (Duration, bool) {
    let (seconds, nanoseconds) = clock(libc::CLOCK_REALTIME);
    if seconds < 0 {
        // 1.2 s before 1970 is -2 s + 0.8 s.
        let before = Duration::from_secs(seconds.unsigned_abs());
        return (before.saturating_sub(Duration::from_nanos(nanoseconds)), true);
    }
    (Duration::new(seconds.unsigned_abs(), 0) + Duration::from_nanos(nanoseconds), false)
}

/// CLOCK_BOOTTIME: time since boot, suspend included.
pub fn boottime() -> Duration {
    let (seconds, nanoseconds) = clock(libc::CLOCK_BOOTTIME);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) + Duration::from_nanos(nanoseconds)
}

/// CLOCK_MONOTONIC: time since boot, suspend not included.
pub fn monotonic() -> Duration {
    let (seconds, nanoseconds) = clock(libc::CLOCK_MONOTONIC);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) + Duration::from_nanos(nanoseconds)
}

/// Whether a time service keeps CLOCK_REALTIME (`adjtimex(2)`, no STA_UNSYNC); nothing is adjusted.
pub fn clock_is_kept() -> Result<bool, Errno> {
    // SAFETY: `struct timex` is integers, for which zeros are a value; modes 0 only reads, and the call keeps no pointer.
    let (answer, status) = unsafe {
        let mut timex: libc::timex = mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    if answer < 0 { Err(Errno::last()) } else { Ok(status & libc::STA_UNSYNC == 0) }
}

/// `ioctl(NS_GET_ID)` on an open namespace file: a number no other namespace of this boot has or had (Linux 6.18;
/// ENOTTY before).
pub fn namespace_id(file: &File) -> Result<u64, Errno> {
    let mut id = 0_u64;
    // SAFETY: the descriptor is open while `file` lives; NS_GET_ID writes the eight bytes that `id` has.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_ID, &raw mut id) };
    if answer < 0 { Err(Errno::last()) } else { Ok(id) }
}

/// `_IOR(0xb7, 13, __u64)` of `linux/nsfs.h`, in the encoding of this architecture.
const NS_GET_ID: libc::Ioctl = libc::_IOR::<u64>(0xb7, 13);

fn clock(which: libc::clockid_t) -> (i64, u64) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a whole timespec and outlives the call. It fails only for a clock that does not exist; these
    // exist since Linux 2.6.39, and zeros stay zeros.
    unsafe { libc::clock_gettime(which, &raw mut now) };
    (now.tv_sec, u64::try_from(now.tv_nsec).unwrap_or(0))
}

fn text(field: &[c_char]) -> Vec<u8> {
    let bytes: Vec<u8> = field.iter().map(|c| c.to_ne_bytes()[0]).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(|_| bytes.clone(), |text| text.to_bytes().to_vec())
}
