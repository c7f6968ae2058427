//! How a limit is raised.

use alloc::format;
use alloc::string::String;

use super::inside;
use crate::limits::Limits;
use crate::render::lsipc::Parameter;
use crate::snapshot::Namespace;

/// How to raise one limit of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raise {
    /// Which.
    pub parameter: Parameter,
    /// To what.
    pub to: u64,
    /// The command that raises it at once, until the next boot.
    pub command: String,
    /// The line that keeps it: of a file in `/etc/sysctl.d` for the host's namespace, else a setting for whoever makes
    /// the container (`--sysctl`).
    pub keep: String,
}

/// How many ids there are in a namespace: no limit on a number of objects can exceed it. 32768, or 2^24 where the kernel
/// was booted with `ipcmni_extend`, which shows only by a limit that is already beyond (`ipc/ipc_sysctl.c`).
pub fn id_space(limits: &Limits) -> u64 {
    const ORDINARY: u64 = 1 << 15;
    const EXTENDED: u64 = 1 << 24;
    let most = limits.semmni.max(limits.shmmni).max(limits.msgmni);
    if most > ORDINARY { EXTENDED } else { ORDINARY }
}

/// Raises that limit to twice its value (and to `need` at least), or as far as the kernel goes. `None` where its limits
/// are not known, where it is at the kernel's maximum, or where nothing can raise it (SHMMIN, SEMVMX).
pub fn raise(namespace: &Namespace, parameter: Parameter, need: u64) -> Option<Raise> {
    let limits = namespace.limits.as_ref()?;
    let (now, most) = range(parameter, limits)?;
    let to = now.saturating_mul(2).max(need).min(most);
    if to <= now {
        return None;
    }
    let [msl, mns, opm, mni] = [limits.semmsl, limits.semmns, limits.semopm, limits.semmni];
    // The file as it is when the command runs, with one of its four numbers replaced.
    let (fields, keep) = match parameter {
        Parameter::Semmsl => (format!("{to},$2,$3,$4"), format!("{to} {mns} {opm} {mni}")),
        Parameter::Semmns => (format!("$1,{to},$3,$4"), format!("{msl} {to} {opm} {mni}")),
        Parameter::Semopm => (format!("$1,$2,{to},$4"), format!("{msl} {mns} {to} {mni}")),
        Parameter::Semmni => {
            let command = format!("sysctl -w kernel.sem=\"$(awk '{{print $1,$2,$3}}' /proc/sys/kernel/sem) {to}\"");
            let keep = format!("kernel.sem = {msl} {mns} {opm} {to}");
            return Some(Raise { parameter, to, command: inside(namespace, &command), keep });
        }
        _ => {
            let name = sysctl(parameter)?;
            let (command, keep) = (format!("sysctl -w {name}={to}"), format!("{name} = {to}"));
            return Some(Raise { parameter, to, command: inside(namespace, &command), keep });
        }
    };
    let command = format!("sysctl -w kernel.sem=\"$(awk '{{print {fields}}}' /proc/sys/kernel/sem)\"");
    Some(Raise { parameter, to, command: inside(namespace, &command), keep: format!("kernel.sem = {keep}") })
}

/// What it is now and the most that the kernel takes.
fn range(parameter: Parameter, limits: &Limits) -> Option<(u64, u64)> {
    // `kernel.sem` and the sizes of messages are signed 32-bit numbers.
    const INT: u64 = i32::MAX as u64;
    Some(match parameter {
        Parameter::Semmni => (limits.semmni, id_space(limits)),
        Parameter::Shmmni => (limits.shmmni, id_space(limits)),
        Parameter::Msgmni => (limits.msgmni, id_space(limits)),
        Parameter::Semmns => (limits.semmns, INT),
        // SEMMSL is bounded by what `semop(2)` addresses with an unsigned short.
        Parameter::Semmsl => (limits.semmsl, 65_536),
        Parameter::Semopm => (limits.semopm, INT),
        Parameter::Shmall => (limits.shmall, u64::MAX),
        Parameter::Shmmax => (limits.shmmax, u64::MAX),
        Parameter::Msgmax => (limits.msgmax, INT),
        Parameter::Msgmnb => (limits.msgmnb, INT),
        Parameter::Shmmin | Parameter::Semvmx => return None,
    })
}

fn sysctl(parameter: Parameter) -> Option<&'static str> {
    Some(match parameter {
        Parameter::Shmmni => "kernel.shmmni",
        Parameter::Shmall => "kernel.shmall",
        Parameter::Shmmax => "kernel.shmmax",
        Parameter::Msgmni => "kernel.msgmni",
        Parameter::Msgmax => "kernel.msgmax",
        Parameter::Msgmnb => "kernel.msgmnb",
        _ => return None,
    })
}
