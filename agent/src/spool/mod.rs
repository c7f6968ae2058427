//! Keeps records until they are acked; stores opaque bytes by (epoch, seq), knows no IPC.
