//! Keeps records until they are acked; stores opaque bytes by (epoch, seq), knows no IPC.

pub mod disk;
mod policy;

pub use policy::FsyncPolicy;
