//! When to sample, what a sample is, and which record it becomes; no sockets.
