//! Asks the kernel; each file is a read and a pure parse.
//!
//! [`Kernel`] is the seam: [`real::RealKernel`] asks the running kernel, [`fake::FakeKernel`] answers from a captured
//! machine, with faults where a test wants them. Reads of files go through it by the name they have on the host;
//! what the bytes mean is decided by pure functions, one file per kernel file: [`sysvipc`], [`limits`], [`kconfig`],
//! [`identity`], [`zone`], [`accounts`], [`surroundings`], [`logind`]. [`availability`] decides from the findings whether this host can do System V
//! IPC at all.

pub mod accounts;
mod ask;
pub mod availability;
mod captured;
pub mod cgroup;
pub mod fake;
pub mod identity;
pub mod kconfig;
pub mod limits;
pub mod logind;
pub mod names;
pub mod process;
pub mod real;
pub mod reread;
mod shared;
pub mod surroundings;
pub mod sysvipc;
pub mod totals;
pub mod zone;

pub use ask::{Account, Entry, INITIAL_NAMESPACE, Kernel, Seen};
