//! The `highwater` binary; everything is in the library.

fn main() {}
