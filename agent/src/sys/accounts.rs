//! `getpwuid_r(3)` and `getgrgid_r(3)`: names of users and groups as the name service switch answers them.
//!
//! They may ask the network and take long: only the name resolver's own thread calls them.

use std::ffi::{CStr, c_char};
use std::{mem, ptr};

use libc::c_int;

use super::errno::Errno;

/// Name of a uid, as bytes; `None` = no such user.
pub fn user_name(uid: u32) -> Result<Option<Vec<u8>>, Errno> {
    look_up(|buffer| {
        // SAFETY: zeros are a value of `struct passwd`; buffer and its length belong together; on success `pw_name`
        // is null or points to a terminated string inside the buffer, which is copied before the buffer moves.
        unsafe {
            let mut entry: libc::passwd = mem::zeroed();
            let mut found = ptr::null_mut();
            let error = libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found);
            (error, (error == 0 && !found.is_null()).then(|| copy(entry.pw_name)).flatten())
        }
    })
}

/// Name of a gid, as bytes; `None` = no such group.
pub fn group_name(gid: u32) -> Result<Option<Vec<u8>>, Errno> {
    look_up(|buffer| {
        // SAFETY: as in `user_name`, with `struct group` and `gr_name`.
        unsafe {
            let mut entry: libc::group = mem::zeroed();
            let mut found = ptr::null_mut();
            let error = libc::getgrgid_r(gid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found);
            (error, (error == 0 && !found.is_null()).then(|| copy(entry.gr_name)).flatten())
        }
    })
}

/// Largest entry taken: a group of many thousand members.
const MAX_ENTRY: usize = 1 << 20;

/// Calls with a larger buffer until the entry fits or is beyond [`MAX_ENTRY`].
fn look_up(call: impl Fn(&mut [c_char]) -> (c_int, Option<Vec<u8>>)) -> Result<Option<Vec<u8>>, Errno> {
    let mut buffer: Vec<c_char> = vec![0; 1024];
    loop {
        match call(&mut buffer) {
            // getpwuid_r(3): these also mean "not found".
            (0 | libc::ENOENT | libc::ESRCH, name) => return Ok(name),
            (libc::ERANGE, _) if buffer.len() < MAX_ENTRY => buffer = vec![0; buffer.len() * 4],
            (libc::EINTR, _) => {}
            (error, _) => return Err(Errno(error)),
        }
    }
}

/// # Safety
/// `name` is null or points to a terminated string that lives during the call.
unsafe fn copy(name: *const c_char) -> Option<Vec<u8>> {
    // SAFETY: promised by the caller.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_an_unused_id_has_none() {
        assert_eq!(user_name(0), Ok(Some(b"root".to_vec())));
        assert_eq!(group_name(0), Ok(Some(b"root".to_vec())));
        assert_eq!(user_name(4_294_967_294), Ok(None));
    }
}
