//! The system calls as typed functions, and the only unsafe code.
//!
//! Each function makes one call, checks its return value and copies the answer into a Rust type; nothing here keeps a
//! pointer, a file descriptor or state. Errors are an [`Errno`]. Only 64-bit Linux: there the C library's structures
//! are the kernel's.
#![allow(unsafe_code, reason = "the one room of foreign calls; every block says why it is sound")]

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("highwater-agent reads 64-bit Linux kernels");

pub mod accounts;
pub mod disk;
pub mod errno;
pub mod host;
pub mod memory;
pub mod namespace;
pub mod sysvipc;
pub mod wait;
