//! How much memory the C library's allocator keeps: `mallopt(3)`, `malloc_trim(3)`. With another library than glibc
//! nothing happens.

/// All threads take their memory from one place. To be called before a second thread is started: an agent's threads
/// seldom work at the same time, and each of its own would keep what it once needed.
pub fn one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes two numbers and keeps no pointer; a value that it does not know is refused.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that nobody holds back to the kernel.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; what is in use stays where it is, and other threads wait meanwhile.
    unsafe {
        libc::malloc_trim(0);
    }
}
