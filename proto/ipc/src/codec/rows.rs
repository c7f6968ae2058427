//! Objects, limits and totals as rows of columns.

use alloc::vec::Vec;

use super::CodecError;
use super::varint::{Reader, Writer};
use crate::limits::{Limits, Totals};
use crate::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use crate::snapshot::State;

/// A row: narrower numbers widened, signed ones by their sign, groups and creator less the owner. Columns beyond a row's own are 0.
pub(crate) type Columns = [u64; 16];

/// What can be a row.
pub(crate) trait Row: Sized {
    /// Its columns, as errors call them; bit i of `which` is column i. Never reordered within a version.
    const COLUMNS: &'static [&'static str];

    fn columns(&self) -> Columns;

    fn from_columns(columns: &Columns) -> Result<Self, BadColumn>;
}

/// A row of a list: its first column is its id.
pub(crate) trait ObjectRow: Row {
    /// How many columns after id and key are times.
    const TIMES: usize;
    /// The fewest bytes a row takes.
    const LEAST: usize = 1;
}

/// A column whose number does not fit its type.
#[derive(Debug)]
pub(crate) struct BadColumn {
    pub(crate) column: usize,
    pub(super) value: u64,
    pub(super) low: i64,
    pub(super) high: i64,
}

pub(super) fn write_row(out: &mut Writer, columns: &Columns, expected: &Columns) {
    let differs = |i: &usize| columns[*i] != expected[*i];
    out.number((0..columns.len()).filter(differs).fold(0, |which, i| which | 1 << i));
    for i in (0..columns.len()).filter(differs) {
        out.signed(columns[i].wrapping_sub(expected[i]).cast_signed());
    }
}

pub(super) fn read_row<T: Row>(bytes: &mut Reader<'_>, expected: &Columns) -> Result<(T, Columns), CodecError> {
    let offset = bytes.offset();
    let which = bytes.number("a row")?;
    if which >> T::COLUMNS.len() != 0 {
        return Err(CodecError::UnknownCode { offset, what: "a row's columns", value: which });
    }
    let mut columns = *expected;
    for (i, what) in T::COLUMNS.iter().enumerate().filter(|(i, _)| which >> i & 1 == 1) {
        let at = bytes.offset();
        match bytes.signed(what)? {
            0 => return Err(CodecError::NotCanonical { offset: at, what }),
            difference => columns[i] = columns[i].wrapping_add(difference.cast_unsigned()),
        }
    }
    let row = T::from_columns(&columns).map_err(|BadColumn { column, value, low, high }| CodecError::OutOfRange {
        offset,
        what: T::COLUMNS[column],
        value: value.cast_signed(),
        low,
        high,
    })?;
    Ok((row, columns))
}

/// Writes and reads the rows of one list, each expected to be like the one before.
pub(super) struct Neighbours(Columns);

impl Neighbours {
    /// The first row is expected to be zeros with the times of the body.
    pub(super) fn new<T: ObjectRow>(seconds: i64) -> Self {
        let mut first = [0; 16];
        first[2..2 + T::TIMES].fill(seconds.cast_unsigned());
        Self(first)
    }

    pub(super) fn write<T: ObjectRow>(&mut self, out: &mut Writer, row: &T) {
        let columns = row.columns();
        write_row(out, &columns, &self.0);
        self.passed(columns);
    }

    pub(super) fn read<T: ObjectRow>(&mut self, bytes: &mut Reader<'_>) -> Result<T, CodecError> {
        let (row, columns) = read_row(bytes, &self.0)?;
        self.passed(columns);
        Ok(row)
    }

    fn passed(&mut self, mut columns: Columns) {
        columns[0] = columns[0].wrapping_add(1);
        self.0 = columns;
    }
}

pub(super) fn write_list<T: ObjectRow>(out: &mut Writer, rows: &[T], seconds: i64) {
    out.count(rows.len());
    let mut neighbours = Neighbours::new::<T>(seconds);
    rows.iter().for_each(|row| neighbours.write(out, row));
}

pub(super) fn read_list<T: ObjectRow>(bytes: &mut Reader<'_>, seconds: i64) -> Result<Vec<T>, CodecError> {
    let count = bytes.entries("rows", State::MAX_ENTRIES, T::LEAST)?;
    let mut neighbours = Neighbours::new::<T>(seconds);
    bytes.list(count, |bytes| neighbours.read(bytes))
}

pub(super) fn wide(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

fn unsigned(columns: &Columns, column: usize) -> Result<u32, BadColumn> {
    unsigned_value(columns[column], column)
}

fn unsigned_value(value: u64, column: usize) -> Result<u32, BadColumn> {
    u32::try_from(value).map_err(|_| BadColumn { column, value, low: 0, high: u32::MAX.into() })
}

pub(super) fn signed(columns: &Columns, column: usize) -> Result<i32, BadColumn> {
    let value = columns[column];
    i32::try_from(value.cast_signed()).map_err(|_| BadColumn {
        column,
        value,
        low: i32::MIN.into(),
        high: i32::MAX.into(),
    })
}

/// gid and cuid less the uid, cgid less the gid: mostly 0.
fn owner_columns(owner: &Owner) -> [u64; 4] {
    let [uid, gid, cuid, cgid] = [owner.uid, owner.gid, owner.cuid, owner.cgid].map(u64::from);
    [uid, gid.wrapping_sub(uid), cuid.wrapping_sub(uid), cgid.wrapping_sub(gid)]
}

fn owner(columns: &Columns, first: usize) -> Result<Owner, BadColumn> {
    let (uid, gid) = (columns[first], columns[first].wrapping_add(columns[first + 1]));
    let of = |column, value| unsigned_value(value, column);
    Ok(Owner {
        uid: of(first, uid)?,
        gid: of(first + 1, gid)?,
        cuid: of(first + 2, uid.wrapping_add(columns[first + 2]))?,
        cgid: of(first + 3, gid.wrapping_add(columns[first + 3]))?,
    })
}

impl Row for SemArray {
    const COLUMNS: &'static [&'static str] =
        &["semid", "key", "ctime", "otime", "nsems", "uid", "gid", "cuid", "cgid", "perms"];

    fn columns(&self) -> Columns {
        let [uid, gid, cuid, cgid] = owner_columns(&self.owner);
        let mut out = [0; 16];
        out[..10].copy_from_slice(&[
            wide(self.semid),
            wide(self.key.0),
            self.ctime.cast_unsigned(),
            self.otime.cast_unsigned(),
            self.nsems.into(),
            uid,
            gid,
            cuid,
            cgid,
            self.perms.0.into(),
        ]);
        out
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        Ok(SemArray {
            semid: signed(c, 0)?,
            key: Key(signed(c, 1)?),
            ctime: c[2].cast_signed(),
            otime: c[3].cast_signed(),
            nsems: unsigned(c, 4)?,
            owner: owner(c, 5)?,
            perms: Perms(unsigned(c, 9)?),
        })
    }
}

impl ObjectRow for SemArray {
    const TIMES: usize = 2;
}

impl Row for ShmSegment {
    const COLUMNS: &'static [&'static str] = &[
        "shmid", "key", "ctime", "atime", "dtime", "lpid", "nattch", "size", "rss", "cpid", "uid", "gid", "cuid",
        "cgid", "perms", "swap",
    ];

    fn columns(&self) -> Columns {
        let [uid, gid, cuid, cgid] = owner_columns(&self.owner);
        [
            wide(self.shmid),
            wide(self.key.0),
            self.ctime.cast_unsigned(),
            self.atime.cast_unsigned(),
            self.dtime.cast_unsigned(),
            wide(self.lpid),
            self.nattch,
            self.size,
            self.rss,
            wide(self.cpid),
            uid,
            gid,
            cuid,
            cgid,
            self.perms.0.into(),
            self.swap,
        ]
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        Ok(ShmSegment {
            shmid: signed(c, 0)?,
            key: Key(signed(c, 1)?),
            ctime: c[2].cast_signed(),
            atime: c[3].cast_signed(),
            dtime: c[4].cast_signed(),
            lpid: signed(c, 5)?,
            nattch: c[6],
            size: c[7],
            rss: c[8],
            cpid: signed(c, 9)?,
            owner: owner(c, 10)?,
            perms: Perms(unsigned(c, 14)?),
            swap: c[15],
        })
    }
}

impl ObjectRow for ShmSegment {
    const TIMES: usize = 3;
}

/// `qbytes` is two columns: whether it is known, and its value, 0 if it is not.
impl Row for MsgQueue {
    const COLUMNS: &'static [&'static str] = &[
        "msqid",
        "key",
        "ctime",
        "stime",
        "rtime",
        "lspid",
        "lrpid",
        "cbytes",
        "qnum",
        "uid",
        "gid",
        "cuid",
        "cgid",
        "perms",
        "qbytes known",
        "qbytes",
    ];

    fn columns(&self) -> Columns {
        let [uid, gid, cuid, cgid] = owner_columns(&self.owner);
        [
            wide(self.msqid),
            wide(self.key.0),
            self.ctime.cast_unsigned(),
            self.stime.cast_unsigned(),
            self.rtime.cast_unsigned(),
            wide(self.lspid),
            wide(self.lrpid),
            self.cbytes,
            self.qnum,
            uid,
            gid,
            cuid,
            cgid,
            self.perms.0.into(),
            self.qbytes.is_some().into(),
            self.qbytes.unwrap_or(0),
        ]
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        Ok(MsgQueue {
            msqid: signed(c, 0)?,
            key: Key(signed(c, 1)?),
            ctime: c[2].cast_signed(),
            stime: c[3].cast_signed(),
            rtime: c[4].cast_signed(),
            lspid: signed(c, 5)?,
            lrpid: signed(c, 6)?,
            cbytes: c[7],
            qnum: c[8],
            owner: owner(c, 9)?,
            perms: Perms(unsigned(c, 13)?),
            qbytes: match (c[14], c[15]) {
                (1, qbytes) => Some(qbytes),
                (0, 0) => None,
                (0, value) => return Err(BadColumn { column: 15, value, low: 0, high: 0 }),
                (value, _) => return Err(BadColumn { column: 14, value, low: 0, high: 1 }),
            },
        })
    }
}

impl ObjectRow for MsgQueue {
    const TIMES: usize = 3;
}

impl Row for Limits {
    const COLUMNS: &'static [&'static str] = &[
        "semmsl", "semmns", "semopm", "semmni", "semvmx", "shmmax", "shmall", "shmmni", "shmmin", "msgmax", "msgmnb",
        "msgmni",
    ];

    fn columns(&self) -> Columns {
        let mut out = [0; 16];
        out[..12].copy_from_slice(&[
            self.semmsl,
            self.semmns,
            self.semopm,
            self.semmni,
            self.semvmx,
            self.shmmax,
            self.shmall,
            self.shmmni,
            self.shmmin,
            self.msgmax,
            self.msgmnb,
            self.msgmni,
        ]);
        out
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        Ok(Limits {
            semmsl: c[0],
            semmns: c[1],
            semopm: c[2],
            semmni: c[3],
            semvmx: c[4],
            shmmax: c[5],
            shmall: c[6],
            shmmni: c[7],
            shmmin: c[8],
            msgmax: c[9],
            msgmnb: c[10],
            msgmni: c[11],
        })
    }
}

impl Row for Totals {
    const COLUMNS: &'static [&'static str] = &[
        "sem_arrays",
        "semaphores",
        "shm_segments",
        "shm_pages",
        "shm_resident",
        "msg_queues",
        "msg_messages",
        "msg_bytes",
        "shm_swapped",
        "swap_attempts",
        "swap_successes",
    ];

    fn columns(&self) -> Columns {
        let mut out = [0; 16];
        out[..11].copy_from_slice(&[
            self.sem_arrays,
            self.semaphores,
            self.shm_segments,
            self.shm_pages,
            self.shm_resident,
            self.msg_queues,
            self.msg_messages,
            self.msg_bytes,
            self.shm_swapped,
            self.swap_attempts,
            self.swap_successes,
        ]);
        out
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        Ok(Totals {
            sem_arrays: c[0],
            semaphores: c[1],
            shm_segments: c[2],
            shm_pages: c[3],
            shm_resident: c[4],
            msg_queues: c[5],
            msg_messages: c[6],
            msg_bytes: c[7],
            shm_swapped: c[8],
            swap_attempts: c[9],
            swap_successes: c[10],
        })
    }
}
