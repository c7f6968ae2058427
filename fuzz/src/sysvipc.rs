//! `/proc/sysvipc/{sem,shm,msg}`.

use std::fmt::Debug;

use highwater_agent::kernel::sysvipc::{Extent, Listing, ParseError, parse_msg, parse_sem, parse_shm};
use highwater_ipc::object::{MsgQueue, Owner, SemArray, ShmSegment};

type Parse<T> = fn(&[u8], Extent) -> Result<Listing<T>, ParseError>;

/// All three parsers on the same bytes: each refuses the others' columns at the first line.
pub fn sysvipc(data: &[u8]) {
    check(data, parse_sem, SEM, sem);
    check(data, parse_shm, SHM, shm);
    check(data, parse_msg, MSG, msg);
}

fn check<T: Clone + PartialEq + Debug>(data: &[u8], parse: Parse<T>, header: &str, line: fn(&T) -> String) {
    let all = Extent { budget: usize::MAX, whole: true };
    let lines = data.iter().filter(|byte| **byte == b'\n').count();
    // A file that was not read whole is judged without its last line.
    let cut = parse(data, Extent { whole: false, ..all });
    if let Ok(cut) = &cut {
        assert!(cut.objects.len() < lines.max(1));
    }
    let Ok(listing) = parse(data, all) else { return };
    assert_eq!((listing.objects.len() + 1, listing.left_out), (lines, 0), "an object is a line, whole or not at all");
    assert_eq!(Ok(&listing), cut.as_ref(), "every line has its end");
    // As the kernel would print them, they are the same objects.
    let printed = header.to_owned() + &listing.objects.iter().map(line).collect::<String>();
    assert_eq!(parse(printed.as_bytes(), all).map(|again| again.objects), Ok(listing.objects.clone()));
    // A budget takes the first so many and counts the others.
    let budget = listing.objects.len() / 2;
    let part = parse(data, Extent { budget, whole: true }).unwrap();
    assert_eq!(part.objects, listing.objects[..budget]);
    assert_eq!(part.left_out, (listing.objects.len() - budget) as u64);
}

const SEM: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SHM: &str = "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap\n";
const MSG: &str = "key msqid perms cbytes qnum lspid lrpid uid gid cuid cgid stime rtime ctime\n";

fn owner(owner: &Owner) -> String {
    format!("{} {} {} {}", owner.uid, owner.gid, owner.cuid, owner.cgid)
}

fn sem(o: &SemArray) -> String {
    let (key, perms, owner) = (o.key.0, o.perms.0, owner(&o.owner));
    format!("{key} {} {perms:o} {} {owner} {} {}\n", o.semid, o.nsems, o.otime, o.ctime)
}

fn shm(o: &ShmSegment) -> String {
    let (key, perms, owner) = (o.key.0, o.perms.0, owner(&o.owner));
    let made = format!("{key} {} {perms:o} {} {} {} {}", o.shmid, o.size, o.cpid, o.lpid, o.nattch);
    format!("{made} {owner} {} {} {} {} {}\n", o.atime, o.dtime, o.ctime, o.rss, o.swap)
}

fn msg(o: &MsgQueue) -> String {
    let (key, perms, owner) = (o.key.0, o.perms.0, owner(&o.owner));
    assert_eq!(o.qbytes, None, "the file does not say it");
    let held = format!("{key} {} {perms:o} {} {} {} {}", o.msqid, o.cbytes, o.qnum, o.lspid, o.lrpid);
    format!("{held} {owner} {} {} {}\n", o.stime, o.rtime, o.ctime)
}
