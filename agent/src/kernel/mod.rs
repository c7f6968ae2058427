//! Asks the kernel; each file is a read and a pure parse.
