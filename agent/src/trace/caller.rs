//! Who called: asked of `/proc/PID` while it still lives.
//!
//! A call that fails is often a process's last, so it is asked at once, and a zombie will do. `status` names the process
//! of the thread, its comm and effective uid, `stat` when it began (a process that began after the event is another with
//! a pid that came back) and its parent, whose `comm` says who ran it, `ns/ipc` its IPC namespace (a zombie has none any
//! more). The namespace's file is opened to be asked its number and closed at once: an open one would keep a dead
//! container's memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use highwater_ipc::text::HostText;

use super::{Caller, Place};
use crate::sys::host;

/// The most bytes of `status` and `stat` that are looked at; what is asked for stands in the first 200.
const MAX: u64 = 4096;
/// The most threads remembered.
const REMEMBERED: usize = 1024;
/// So long a thread is believed to be who it was, although it was not asked again, nanoseconds.
const FRESH_NS: u64 = 100_000_000;
/// So long after it was asked last a thread that is gone is believed to have been who it was: ids come back in order,
/// so within this time none does.
const GONE_NS: u64 = 1_000_000_000;
/// The kernel counts a process's start in hundredths of a second (USER_HZ).
const TICK_NS: u64 = 10_000_000;

/// Remembers threads for a moment, and asks who they are.
#[derive(Debug, Default)]
pub struct Callers {
    known: BTreeMap<i32, Remembered>,
    /// Threads that may still be asked before the next [`Callers::refill`].
    left: u32,
}

#[derive(Debug)]
struct Remembered {
    asked_ns: u64,
    caller: Arc<Caller>,
}

/// What `/proc` says of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Who it is.
    pub caller: Caller,
    /// When it began, nanoseconds since boot, to a hundredth of a second.
    pub began_ns: u64,
}

impl Callers {
    /// So many threads may be asked from now on.
    pub fn refill(&mut self, asks: u32) {
        self.left = asks;
    }

    /// Who the thread was at that time, nanoseconds since boot; `now_ns` is now. `look` asks the kernel, `comms` its
    /// memory of names of threads that are gone.
    pub fn ask(
        &mut self,
        (tid, at_ns): (i32, u64),
        now_ns: u64,
        look: &mut dyn FnMut(i32) -> Option<Found>,
        comms: &mut dyn FnMut(i32) -> Option<HostText>,
    ) -> Arc<Caller> {
        let known = self.known.get(&tid).filter(|known| known.asked_ns <= at_ns.saturating_add(GONE_NS));
        if let Some(known) = known.filter(|known| now_ns.saturating_sub(known.asked_ns) < FRESH_NS) {
            return Arc::clone(&known.caller);
        }
        let may_ask = self.left > 0;
        self.left = self.left.saturating_sub(1);
        let found = may_ask.then(|| look(tid)).flatten().filter(|found| found.began_ns <= at_ns);
        let caller = match (found, known) {
            (Some(found), before) => {
                let mut caller = found.caller;
                // A zombie has left its namespace; it did not change it between two calls of a moment.
                let before = before.filter(|known| at_ns.saturating_sub(known.asked_ns) < GONE_NS);
                caller.place = caller.place.or_else(|| before.and_then(|known| known.caller.place));
                Arc::new(caller)
            }
            (None, Some(known)) if at_ns.saturating_sub(known.asked_ns) < GONE_NS => return Arc::clone(&known.caller),
            _ => {
                let comm = if may_ask { comms(tid).unwrap_or_default() } else { HostText::default() };
                return Arc::new(Caller { pid: tid, comm, ..Caller::default() });
            }
        };
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        self.known.insert(tid, Remembered { asked_ns: now_ns, caller: Arc::clone(&caller) });
        caller
    }
}

/// Asks `/proc`; `None` = the thread is gone or may not be looked at.
pub fn look(tid: i32) -> Option<Found> {
    let (pid, uid, name) = parse_status(&read(&format!("/proc/{tid}/status"))?)?;
    let stat = read(&format!("/proc/{tid}/stat"))?;
    let began_ns = parse_start(&stat)?.saturating_mul(TICK_NS);
    // Another thread than the first has a name of its own; people know the process by the first one's.
    let name = if pid == tid { name } else { read_comm(pid).unwrap_or(name) };
    // Whom nobody else runs says nothing, nor does a server of its children.
    let parent = parse_parent(&stat).filter(|parent| *parent > 1).and_then(read_comm);
    let parent = parent.filter(|parent| *parent != name).unwrap_or_default();
    Some(Found { caller: Caller { pid, comm: name, uid: Some(uid), place: place(tid), parent }, began_ns })
}

fn read_comm(pid: i32) -> Option<HostText> {
    let comm = read(&format!("/proc/{pid}/comm"))?;
    Some(HostText::cut(comm.strip_suffix(b"\n").unwrap_or(&comm)))
}

fn place(tid: i32) -> Option<Place> {
    let file = File::open(format!("/proc/{tid}/ns/ipc")).ok()?;
    let inode = file.metadata().ok()?.ino();
    Some(Place { inode, instance: host::namespace_id(&file).ok() })
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Process, effective uid and name, from `/proc/TID/status`.
pub fn parse_status(bytes: &[u8]) -> Option<(i32, u32, HostText)> {
    let line = |name: &[u8]| bytes.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let pid = text(line(b"Tgid:\t")?)?.trim().parse().ok()?;
    let uid = text(line(b"Uid:\t")?)?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((pid, uid, HostText::cut(&unescaped(line(b"Name:\t")?))))
}

/// The kernel writes a newline as `\n` and a backslash as `\\` there.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(other) => other,
                None => b'\\',
            },
            other => other,
        });
    }
    out
}

/// Start in hundredths of a second since boot, field 22 of `/proc/PID/stat`.
pub fn parse_start(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(field(bytes, 19)?).ok()?.parse().ok()
}

/// Pid of the parent, field 4 of `/proc/PID/stat`.
pub fn parse_parent(bytes: &[u8]) -> Option<i32> {
    std::str::from_utf8(field(bytes, 1)?).ok()?.parse().ok()
}

/// A field of `stat`, counted from 0 behind the last parenthesis, for a comm may hold some.
fn field(bytes: &[u8], place: usize) -> Option<&[u8]> {
    let after = bytes.iter().rposition(|byte| *byte == b')')? + 1;
    bytes.get(after..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(place)
}

/// The name of a thread in `saved_cmdlines`, a line `TID COMM` each. A comm may hold a newline and so forge a line: where
/// two lines speak of one thread nothing is known.
pub fn parse_saved(bytes: &[u8], tid: i32) -> Option<HostText> {
    let tid = format!("{tid} ");
    let mut named = bytes.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(tid.as_bytes()));
    let comm = named.next().filter(|comm| !comm.is_empty() && comm.len() <= 15 && *comm != b"<...>")?;
    named.next().is_none().then(|| HostText::cut(comm))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(comm: &str, began_ns: u64, inode: Option<u64>) -> Found {
        let place = inode.map(|inode| Place { inode, instance: None });
        Found { caller: Caller { pid: 7, comm: comm.into(), uid: Some(33), place, ..Caller::default() }, began_ns }
    }

    #[test]
    fn the_kernels_text_names_process_uid_and_start() {
        let status =
            b"Name:\ta\\nb\\\\\nUmask:\t0022\nState:\tZ (zombie)\nTgid:\t41\nNgid:\t0\nUid:\t0\t33\t0\t0\nGid:\t1\n";
        assert_eq!(parse_status(status), Some((41, 33, HostText::cut(b"a\nb\\"))));
        assert_eq!(parse_status(b"Name:\tx\nTgid:\tx\nUid:\t0\t0\n"), None);
        let stat = b"41 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 1234 20 21\n";
        assert_eq!((parse_parent(stat), parse_start(stat)), (Some(1), Some(1234)));
        assert_eq!(parse_start(b"41 (a"), None);
    }

    #[test]
    fn this_process_is_who_it_is() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let found = look(pid).unwrap();
        assert_eq!(found.caller.pid, pid);
        assert!(found.caller.place.is_some() && found.caller.uid.is_some());
        assert!(found.began_ns <= u64::try_from(host::boottime().as_nanos()).unwrap());
        let thread = std::thread::spawn(|| {
            let link = std::fs::read_link("/proc/thread-self").unwrap();
            look(link.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap()
        });
        assert_eq!(thread.join().unwrap().caller, found.caller, "a thread is its process");
    }

    #[test]
    fn a_saved_name_counts_only_where_one_line_speaks() {
        assert_eq!(parse_saved(b"12 sh\n134 ipcmk\n", 134), Some("ipcmk".into()));
        assert_eq!(parse_saved(b"12 x\n134 root\n134 ipcmk\n", 134), None, "a comm forged a line");
        assert_eq!(parse_saved(b"1345 ipcmk\n", 134), None);
        assert_eq!(parse_saved(b"134 <...>\n", 134), None);
    }

    #[test]
    fn a_process_that_began_after_the_event_is_another() {
        let mut callers = Callers::default();
        callers.refill(10);
        let caller = callers.ask((7, 100), 200, &mut |_| Some(found("other", 150, None)), &mut |_| Some("gone".into()));
        assert_eq!(*caller, Caller { pid: 7, comm: "gone".into(), ..Caller::default() });
    }

    #[test]
    fn one_that_is_gone_is_who_it_was_a_moment_ago_and_not_later() {
        let mut callers = Callers::default();
        callers.refill(10);
        let (ask_ns, mut nobody) = (1_000_000_000, |_: i32| None);
        callers.ask((7, ask_ns), ask_ns, &mut |_| Some(found("apache2", 1, Some(5))), &mut |_| None);
        let soon = ask_ns + GONE_NS - 1;
        let caller = callers.ask((7, soon), soon, &mut |_| None, &mut nobody);
        assert_eq!((caller.comm.clone(), caller.place.is_some()), ("apache2".into(), true));
        let zombie = callers.ask((7, soon), soon, &mut |_| Some(found("apache2", 1, None)), &mut nobody);
        assert!(zombie.place.is_some(), "it did not move");
        let late = soon + 2 * GONE_NS;
        let caller = callers.ask((7, late), late, &mut |_| None, &mut nobody);
        assert_eq!((caller.comm.clone(), caller.uid), (HostText::default(), None));
    }

    #[test]
    fn nobody_is_asked_beyond_the_budget() {
        let mut callers = Callers::default();
        callers.refill(1);
        let mut asked = 0;
        for tid in 0..5 {
            callers.ask(
                (tid, 9),
                9,
                &mut |_| {
                    asked += 1;
                    None
                },
                &mut |_| None,
            );
        }
        assert_eq!(asked, 1);
    }
}
