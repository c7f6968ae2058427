//! `ipcs` as util-linux 2.38.1 prints it under LC_ALL=C.
//!
//! Where that program is wrong this is right instead: numbers beyond 2^63-1 are not shown as negative, and kbytes that
//! exceed 64 bits saturate. What could not be read is shown as that program shows it on a kernel without System V IPC:
//! an empty table, "kernel not configured for semaphores", "unable to fetch semaphore limits". To say more on standard
//! error is the caller's part.

use alloc::vec::Vec;

use super::page::{Page, ctime, short_time};
use crate::limits::{Limits, Totals};
use crate::object::{Kind, MsgQueue, Object, Perms, SemArray, ShmSegment};
use crate::snapshot::{Namespace, State};
use crate::time::Zone;

/// What is asked: which kinds, and which of their views.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Question {
    /// The kinds to show, in any order; none = all (`-a`). They are listed as `ipcs` lists them: message queues, shared
    /// memory, semaphores.
    pub kinds: Vec<Kind>,
    /// The view; of several flags `ipcs` obeys the last.
    pub view: View,
}

impl Question {
    fn asks(&self, kind: Kind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// The view of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum View {
    /// Keys, ids, owners, sizes.
    #[default]
    Default,
    /// `-t`: times.
    Time,
    /// `-p`: pids of creator and last operation; nothing for semaphores.
    Pid,
    /// `-c`: creators and owners.
    Creator,
    /// `-u`: totals.
    Summary,
    /// `-l`: limits.
    Limits,
}

/// The answer for one namespace of a state.
pub fn ipcs(state: &State, namespace: &Namespace, question: &Question, zone: &dyn Zone) -> Vec<u8> {
    let mut page = Page::default();
    page.line(format_args!(""));
    for kind in [Kind::Msg, Kind::Shm, Kind::Sem] {
        if !question.asks(kind) {
            continue;
        }
        match question.view {
            View::Limits => limits(&mut page, kind, namespace.limits.as_ref(), state.page_size),
            View::Summary => summary(&mut page, kind, namespace.totals.as_ref()),
            view => {
                let list = List { state, view, zone };
                match kind {
                    Kind::Msg => list.table(&mut page, namespace.msg.as_deref()),
                    Kind::Shm => list.table(&mut page, namespace.shm.as_deref()),
                    Kind::Sem => list.table(&mut page, namespace.sem.as_deref()),
                }
            }
        }
        page.line(format_args!(""));
    }
    page.into_bytes()
}

fn limits(page: &mut Page, kind: Kind, limits: Option<&Limits>, page_size: u32) {
    let Some(limits) = limits else {
        let what = match kind {
            Kind::Msg => "message",
            Kind::Shm => "shared memory",
            Kind::Sem => "semaphore",
        };
        page.line(format_args!("unable to fetch {what} limits"));
        return;
    };
    match kind {
        Kind::Msg => {
            page.line(format_args!("------ Messages Limits --------"));
            page.line(format_args!("max queues system wide = {}", limits.msgmni));
            page.line(format_args!("max size of message (bytes) = {}", limits.msgmax));
            page.line(format_args!("default max size of queue (bytes) = {}", limits.msgmnb));
        }
        Kind::Shm => {
            page.line(format_args!("------ Shared Memory Limits --------"));
            page.line(format_args!("max number of segments = {}", limits.shmmni));
            page.line(format_args!("max seg size (kbytes) = {}", limits.shmmax / 1024));
            let total = kbytes(limits.shmall, page_size);
            page.line(format_args!("max total shared memory (kbytes) = {total}"));
            page.line(format_args!("min seg size (bytes) = {}", limits.shmmin));
        }
        Kind::Sem => {
            page.line(format_args!("------ Semaphore Limits --------"));
            page.line(format_args!("max number of arrays = {}", limits.semmni));
            page.line(format_args!("max semaphores per array = {}", limits.semmsl));
            page.line(format_args!("max semaphores system wide = {}", limits.semmns));
            page.line(format_args!("max ops per semop call = {}", limits.semopm));
            page.line(format_args!("semaphore max value = {}", limits.semvmx));
        }
    }
}

/// Pages in kbytes; beyond 64 bits the highest multiple of a page's kbytes.
fn kbytes(pages: u64, page_size: u32) -> u64 {
    let per_page = u64::from(page_size / 1024);
    pages.checked_mul(per_page).unwrap_or_else(|| u64::MAX - u64::MAX % per_page.max(1))
}

fn summary(page: &mut Page, kind: Kind, totals: Option<&Totals>) {
    let Some(totals) = totals else {
        let what = match kind {
            Kind::Msg => "message queues",
            Kind::Shm => "shared memory",
            Kind::Sem => "semaphores",
        };
        page.line(format_args!("kernel not configured for {what}"));
        return;
    };
    match kind {
        Kind::Msg => {
            page.line(format_args!("------ Messages Status --------"));
            page.line(format_args!("allocated queues = {}", totals.msg_queues));
            page.line(format_args!("used headers = {}", totals.msg_messages));
            page.line(format_args!("used space = {} bytes", totals.msg_bytes));
        }
        Kind::Shm => {
            page.line(format_args!("------ Shared Memory Status --------"));
            page.line(format_args!("segments allocated {}", totals.shm_segments));
            page.line(format_args!("pages allocated {}", totals.shm_pages));
            page.line(format_args!("pages resident  {}", totals.shm_resident));
            page.line(format_args!("pages swapped   {}", totals.shm_swapped));
            let (attempts, successes) = (totals.swap_attempts, totals.swap_successes);
            page.line(format_args!("Swap performance: {attempts} attempts\t {successes} successes"));
        }
        Kind::Sem => {
            page.line(format_args!("------ Semaphore Status --------"));
            page.line(format_args!("used arrays = {}", totals.sem_arrays));
            page.line(format_args!("allocated semaphores = {}", totals.semaphores));
        }
    }
}

/// What a table of objects is printed with.
struct List<'a> {
    state: &'a State,
    view: View,
    zone: &'a dyn Zone,
}

/// A kind of object with its headings and rows; `Default`, `Time` and `Pid` only, the creators' table is one for all.
trait Listed: Object {
    /// Heading of the creators' table and what it calls the id.
    const CREATORS: (&'static str, &'static str);

    fn heading(view: View, page: &mut Page);

    fn row(&self, list: &List<'_>, page: &mut Page);
}

impl List<'_> {
    fn table<T: Listed>(&self, page: &mut Page, objects: Option<&[T]>) {
        if self.view == View::Creator {
            let (title, id) = T::CREATORS;
            page.line(format_args!("------ {title} Creators/Owners --------"));
            columns(page, &[id, "perms", "cuid", "cgid", "uid", "gid"]);
        } else {
            T::heading(self.view, page);
        }
        for object in objects.unwrap_or_default() {
            if self.view == View::Creator {
                self.creators(page, object);
            } else {
                object.row(self, page);
            }
        }
    }

    fn creators<T: Object>(&self, page: &mut Page, object: &T) {
        let owner = object.owner();
        page.put(format_args!("{:<10} {:<10o} ", object.id(), access(object.perms())));
        page.user(self.state, owner.cuid);
        page.put(format_args!(" "));
        page.group(self.state, owner.cgid);
        page.put(format_args!(" "));
        page.user(self.state, owner.uid);
        page.put(format_args!(" "));
        page.group(self.state, owner.gid);
        page.line(format_args!(""));
    }

    /// Key, id, owner, permissions: how every default row begins.
    fn keyed<T: Object>(&self, page: &mut Page, object: &T) {
        page.put(format_args!("{} {:<10} ", object.key(), object.id()));
        page.owner(self.state, object.owner().uid);
        page.put(format_args!(" {:<10o}", access(object.perms())));
    }

    /// Id in `width` columns and owner: how the other rows begin.
    fn owned<T: Object>(&self, page: &mut Page, object: &T, width: usize) {
        page.put(format_args!("{:<width$} ", object.id()));
        page.owner(self.state, object.owner().uid);
    }

    fn short_times(&self, page: &mut Page, times: [i64; 3]) {
        for time in times {
            page.put(format_args!(" {:<20}", short_time(time, self.zone)));
        }
        page.line(format_args!(""));
    }
}

/// The nine permission bits.
fn access(perms: Perms) -> u32 {
    perms.0 & 0o777
}

/// Headings 10 wide, each padded.
fn columns(page: &mut Page, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        let gap = if i == 0 { "" } else { " " };
        page.put(format_args!("{gap}{name:<10}"));
    }
    page.line(format_args!(""));
}

impl Listed for MsgQueue {
    const CREATORS: (&'static str, &'static str) = ("Message Queues", "msqid");

    fn heading(view: View, page: &mut Page) {
        match view {
            View::Time => {
                page.line(format_args!("------ Message Queues Send/Recv/Change Times --------"));
                let (send, recv, change) = ("send", "recv", "change");
                page.line(format_args!("{:<8} {:<10} {send:<20} {recv:<20} {change:<20}", "msqid", "owner"));
            }
            View::Pid => {
                page.line(format_args!("------ Message Queues PIDs --------"));
                columns(page, &["msqid", "owner", "lspid", "lrpid"]);
            }
            _ => {
                page.line(format_args!("------ Message Queues --------"));
                page.put(format_args!("{:<10} {:<10} {:<10} {:<10}", "key", "msqid", "owner", "perms"));
                page.line(format_args!(" {:<12} {:<12}", "used-bytes", "messages"));
            }
        }
    }

    fn row(&self, list: &List<'_>, page: &mut Page) {
        match list.view {
            View::Time => {
                list.owned(page, self, 8);
                list.short_times(page, [self.stime, self.rtime, self.ctime]);
            }
            View::Pid => {
                list.owned(page, self, 8);
                page.line(format_args!("  {:5}     {:5}", self.lspid, self.lrpid));
            }
            _ => {
                list.keyed(page, self);
                page.line(format_args!(" {:<12} {:<12}", self.cbytes, self.qnum));
            }
        }
    }
}

impl Listed for ShmSegment {
    const CREATORS: (&'static str, &'static str) = ("Shared Memory Segment", "shmid");

    fn heading(view: View, page: &mut Page) {
        match view {
            View::Time => {
                page.line(format_args!("------ Shared Memory Attach/Detach/Change Times --------"));
                let (attached, detached, changed) = ("attached", "detached", "changed");
                page.line(format_args!("{:<10} {:<10} {attached:<20} {detached:<20} {changed:<20}", "shmid", "owner"));
            }
            View::Pid => {
                page.line(format_args!("------ Shared Memory Creator/Last-op PIDs --------"));
                columns(page, &["shmid", "owner", "cpid", "lpid"]);
            }
            _ => {
                page.line(format_args!("------ Shared Memory Segments --------"));
                page.put(format_args!("{:<10} {:<10} {:<10} {:<10}", "key", "shmid", "owner", "perms"));
                page.line(format_args!(" {:<10} {:<10} {:<12}", "bytes", "nattch", "status"));
            }
        }
    }

    fn row(&self, list: &List<'_>, page: &mut Page) {
        match list.view {
            View::Time => {
                list.owned(page, self, 10);
                list.short_times(page, [self.atime, self.dtime, self.ctime]);
            }
            View::Pid => {
                list.owned(page, self, 10);
                page.line(format_args!(" {:<10} {:<10}", self.cpid.cast_unsigned(), self.lpid.cast_unsigned()));
            }
            _ => {
                list.keyed(page, self);
                let dest = if self.perms.dest() { "dest" } else { "" };
                let locked = if self.perms.locked() { "locked" } else { "" };
                page.line(format_args!(" {:<10} {:<10} {dest:<6} {locked:<6}", self.size, self.nattch));
            }
        }
    }
}

impl Listed for SemArray {
    const CREATORS: (&'static str, &'static str) = ("Semaphore Arrays", "semid");

    fn heading(view: View, page: &mut Page) {
        match view {
            View::Time => {
                page.line(format_args!("------ Semaphore Operation/Change Times --------"));
                let (op, changed) = ("last-op", "last-changed");
                page.line(format_args!("{:<8} {:<10} {op:<26} {changed:<26}", "semid", "owner"));
            }
            View::Pid => {}
            _ => {
                page.line(format_args!("------ Semaphore Arrays --------"));
                columns(page, &["key", "semid", "owner", "perms", "nsems"]);
            }
        }
    }

    fn row(&self, list: &List<'_>, page: &mut Page) {
        match list.view {
            View::Time => {
                list.owned(page, self, 8);
                let (op, changed) = (ctime(self.otime, list.zone), ctime(self.ctime, list.zone));
                page.line(format_args!("  {op:<26.24} {changed:<26.24}"));
            }
            View::Pid => {}
            _ => {
                list.keyed(page, self);
                page.line(format_args!(" {:<10}", self.nsems));
            }
        }
    }
}
