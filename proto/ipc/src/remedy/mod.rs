//! What a person can do about a limit that ran out, as commands.
//!
//! Pure: figures in, text out. A command is made of numbers and of words that are written here; no byte that a host, a
//! container or a user chose can enter one.
//!
//! - R1 First comes raising the limit ([`raise`]): it destroys nothing.
//! - R2 A command that removes ([`removals`]) names only arrays graded certain, by their whole row, and looks again
//!   before it acts: at the boot, at both namespaces, at every process, at each row, and at who waits for it. So it does
//!   nothing where the facts it was made from no longer hold, and nothing the second time.
//! - R3 No command removes everything, anything by key, or anything by an id alone: ids come back within seconds.

mod binding;
mod orphans;
mod raise;
#[cfg(test)]
mod tests;

pub use binding::{Excess, binding, excess};
pub use orphans::{INITIAL_PID_NAMESPACE, MAX_NAMED, Removal, removals};
pub use raise::{Raise, id_space, raise};

use alloc::format;
use alloc::string::String;

use crate::snapshot::Namespace;

/// A command as it is run in that namespace: as it stands for the host's own, which has no name, else through `nsenter`
/// of a process that is found in the namespace when the command runs (the inode does not change, pids do). Needs a
/// shell of the initial namespaces.
fn inside(namespace: &Namespace, command: &str) -> String {
    if namespace.name.is_none() {
        return String::from(command);
    }
    let inode = namespace.id.inode;
    let member = format!("find /proc/[0-9]*/ns/ipc -lname 'ipc:\\[{inode}\\]' 2>/dev/null | head -n 1 | cut -d/ -f3");
    format!("nsenter -i -t \"$({member})\" sh -c {}", quoted(command))
}

/// One word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
