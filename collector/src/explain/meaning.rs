//! What an answer of a call can come from. Sources: `semget(2)`, `semop(2)`, `shmget(2)`, `shmat(2)`, `msgget(2)`,
//! `msgsnd(2)`, and `ipc/{sem,shm,msg,util}.c`.

use highwater_ipc::render::lsipc::Parameter;
use serde::Deserialize;

use super::call::Call;
use super::errno::Errno;

/// Why a call can have failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// One of these was used up in its namespace; in the kernel's order.
    UsedUp(&'static [Parameter]),
    /// It asked for more than one object, or one call, may have.
    TooMuch(Parameter),
    /// Its queue is full.
    QueueFull,
    /// There is no System V IPC, or something in front of it refuses the call.
    NoSysvipc,
    /// The object is gone.
    Removed,
    /// The object belongs to somebody else, or a policy refuses.
    Denied,
    /// No memory, or no huge pages: none of these limits.
    Memory,
    /// An object with that key exists.
    Exists,
    /// No object with that key exists.
    Missing,
    /// A POSIX object: none of these limits.
    Posix,
    /// Something that has nothing to do with limits.
    Other,
}

/// A cause that a message names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// [`Cause::Posix`].
    Posix,
    /// [`Cause::Removed`].
    Removed,
    /// [`Cause::Memory`].
    Memory,
    /// [`Cause::QueueFull`].
    QueueFull,
}

impl From<Means> for Cause {
    fn from(means: Means) -> Self {
        match means {
            Means::Posix => Cause::Posix,
            Means::Removed => Cause::Removed,
            Means::Memory => Cause::Memory,
            Means::QueueFull => Cause::QueueFull,
        }
    }
}

/// What `errno` of `call` can come from.
pub fn cause(call: Call, errno: Errno) -> Cause {
    match (call, errno.name) {
        (_, "ENOSYS") => Cause::NoSysvipc,
        (_, "EACCES" | "EPERM") => Cause::Denied,
        (_, "EIDRM") => Cause::Removed,
        // `newary` counts semaphores before arrays, `newseg` pages before segments.
        (Call::Semget, "ENOSPC") => Cause::UsedUp(&[Parameter::Semmns, Parameter::Semmni]),
        (Call::Shmget, "ENOSPC") => Cause::UsedUp(&[Parameter::Shmall, Parameter::Shmmni]),
        (Call::Msgget, "ENOSPC") => Cause::UsedUp(&[Parameter::Msgmni]),
        (Call::Semget, "EINVAL") => Cause::TooMuch(Parameter::Semmsl),
        (Call::Shmget, "EINVAL") => Cause::TooMuch(Parameter::Shmmax),
        (Call::Semop, "E2BIG") => Cause::TooMuch(Parameter::Semopm),
        (Call::Semop | Call::Semctl, "ERANGE") => Cause::TooMuch(Parameter::Semvmx),
        (Call::Msgsnd, "EAGAIN" | "EINTR") => Cause::QueueFull,
        (Call::Semop | Call::Semctl | Call::Shmat | Call::Shmctl, "EINVAL") => Cause::Removed,
        (Call::Msgsnd | Call::Msgrcv | Call::Msgctl, "EINVAL") => Cause::Removed,
        (Call::Semget | Call::Shmget | Call::Msgget, "EEXIST") => Cause::Exists,
        (Call::Semget | Call::Shmget | Call::Msgget, "ENOENT") => Cause::Missing,
        (_, "ENOMEM") => Cause::Memory,
        _ => Cause::Other,
    }
}

impl Cause {
    /// The limits that it can be, in the kernel's order.
    pub fn limits(&self) -> &[Parameter] {
        match self {
            Cause::UsedUp(limits) => limits,
            Cause::TooMuch(limit) => std::slice::from_ref(limit),
            Cause::QueueFull => &[Parameter::Msgmnb],
            _ => &[],
        }
    }
}
