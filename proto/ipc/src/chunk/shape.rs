//! What the columns of the three kinds are like.

use crate::codec::rows::{Columns, ObjectRow};
use crate::limits::Totals;
use crate::object::{MsgQueue, Object, Perms, SemArray, ShmSegment};

/// What a column holds, and so what foretells it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// The id: the one before foretells it.
    Id,
    /// The key: mostly none, or near the one before.
    Key,
    /// Seconds since 1970: near the sample's.
    Time,
    /// A process: one of late, or younger.
    Pid,
    /// A number that is counted up and down.
    Count,
    /// Bytes of messages: as many a message as before.
    Fill,
    /// Bytes of memory: whole pages.
    Bytes,
    /// One of few values.
    Often,
    /// The first of four columns of owner and creator: one of few.
    Owner,
    /// The other three.
    Owned,
}

/// A row as it is modelled.
pub(super) trait Shape: ObjectRow + Object {
    /// What its columns are, in order.
    const CLASSES: &'static [Class];

    /// Which column is the size of the object.
    const SIZE: usize = 0;
    /// Which columns the totals depend on.
    const COUNTED: &'static [usize];
    /// What its parts are called.
    const PARTS: &'static Parts;

    /// Columns, bit by bit, in the order in which changed ones are told, or back.
    fn ordered(mask: u64) -> u64 {
        mask
    }

    /// What it can not do next, below 4: nothing can leave what is empty, nor grow what is full.
    fn bound(columns: &Columns) -> usize;

    /// What it adds to the totals.
    fn totals(&self, page: u64) -> Totals;
}

/// What the parts of the rows of one kind are called, in errors and where bits are counted.
pub(super) struct Parts {
    pub(super) touched: &'static str,
    pub(super) gone: &'static str,
    pub(super) mask: &'static str,
    pub(super) place: &'static str,
    pub(super) first: &'static str,
    /// By column.
    pub(super) changed: &'static [&'static str],
    pub(super) came: &'static [&'static str],
}

/// Names of the parts of one kind.
macro_rules! parts {
    ($kind:literal: $($column:literal)*) => {
        &Parts {
            touched: concat!($kind, " touched"),
            gone: concat!($kind, " gone"),
            mask: concat!($kind, " what changed"),
            place: concat!($kind, " new place"),
            first: concat!($kind, " first"),
            changed: &[$(concat!($kind, " ", $column)),*],
            came: &[$(concat!($kind, " new ", $column)),*],
        }
    };
}

use Class::{Bytes, Count, Fill, Id, Key, Often, Owned, Owner, Pid, Time};

impl Shape for SemArray {
    const CLASSES: &'static [Class] = &[Id, Key, Time, Time, Often, Owner, Owned, Owned, Owned, Often];
    const COUNTED: &'static [usize] = &[4];
    const PARTS: &'static Parts = parts!("sem": "id" "key" "ctime" "otime" "nsems" "uid" "gid" "cuid" "cgid" "perms");

    fn bound(_: &Columns) -> usize {
        0
    }

    fn totals(&self, _: u64) -> Totals {
        Totals { sem_arrays: 1, semaphores: self.nsems.into(), ..Totals::default() }
    }
}

impl Shape for ShmSegment {
    const CLASSES: &'static [Class] =
        &[Id, Key, Time, Time, Time, Pid, Count, Often, Bytes, Pid, Owner, Owned, Owned, Owned, Often, Bytes];
    const SIZE: usize = 7;
    const COUNTED: &'static [usize] = &[7, 8, 15];
    const PARTS: &'static Parts = parts!("shm": "id" "key" "ctime" "atime" "dtime" "lpid" "nattch" "size" "rss" "cpid"
        "uid" "gid" "cuid" "cgid" "perms" "swap");

    fn bound(columns: &Columns) -> usize {
        // One that is removed goes with its last detach.
        let least = u64::from(columns[14] & u64::from(Perms::DEST) != 0);
        usize::from(columns[6] <= least) + 2 * usize::from(columns[8] >= columns[7])
    }

    fn totals(&self, page: u64) -> Totals {
        Totals {
            shm_segments: 1,
            shm_pages: self.size.div_ceil(page),
            shm_resident: self.rss / page,
            shm_swapped: self.swap / page,
            ..Totals::default()
        }
    }
}

impl Shape for MsgQueue {
    const CLASSES: &'static [Class] =
        &[Id, Key, Time, Time, Time, Pid, Pid, Fill, Count, Owner, Owned, Owned, Owned, Often, Often, Often];
    const COUNTED: &'static [usize] = &[7, 8];
    const PARTS: &'static Parts = parts!("msg": "id" "key" "ctime" "stime" "rtime" "lspid" "lrpid" "cbytes" "qnum" "uid"
        "gid" "cuid" "cgid" "perms" "qbytes known" "qbytes");

    /// Messages before their bytes.
    fn ordered(mask: u64) -> u64 {
        mask & !0x180 | mask << 1 & 0x100 | mask >> 1 & 0x80
    }

    fn bound(columns: &Columns) -> usize {
        usize::from(columns[8] == 0)
    }

    fn totals(&self, _: u64) -> Totals {
        Totals { msg_queues: 1, msg_messages: self.qnum, msg_bytes: self.cbytes, ..Totals::default() }
    }
}
