//! The system calls, and the only unsafe code.
