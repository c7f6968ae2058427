//! `/proc/sysvipc/{sem,shm,msg}`: one line per object.
//!
//! Kernel sources: `sysvipc_sem_proc_show` (`ipc/sem.c`), `sysvipc_shm_proc_show`, `sysvipc_msg_proc_show`; `proc(5)`.
//! The first line names the columns, and they are found by name: kernels before 2.6.34 have no `rss` and `swap`, and a
//! later one may add columns. A file is believed whole or not at all: a line that does not parse is an error with its
//! place, never a row left out.

use highwater_ipc::object::{Key, Kind, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::text::HostText;

/// Path of a kind's file.
pub fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Sem => "/proc/sysvipc/sem",
        Kind::Shm => "/proc/sysvipc/shm",
        Kind::Msg => "/proc/sysvipc/msg",
    }
}

/// One file, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// The objects in the kernel's order, at most the budget.
    pub objects: Vec<T>,
    /// Lines beyond the budget.
    pub left_out: u64,
    /// Columns this agent knows that the kernel does not have; what they would say reads 0.
    pub lacking: Vec<&'static str>,
}

/// How much to take of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Objects to list at most.
    pub budget: usize,
    /// Whether the bytes are all of the file; if not, its last line is likely cut and is not looked at.
    pub whole: bool,
}

/// Parses `/proc/sysvipc/sem`.
pub fn parse_sem(bytes: &[u8], extent: Extent) -> Result<Listing<SemArray>, ParseError> {
    let columns = ["key", "semid", "perms", "nsems", "uid", "gid", "cuid", "cgid", "otime", "ctime"];
    parse(Kind::Sem, columns, &[], bytes, extent, |row| {
        Ok(SemArray {
            key: Key(row.signed(0)?),
            semid: row.signed(1)?,
            perms: row.perms(2)?,
            nsems: row.unsigned(3)?,
            owner: row.owner(4)?,
            otime: row.time(8)?,
            ctime: row.time(9)?,
        })
    })
}

/// Parses `/proc/sysvipc/shm`.
pub fn parse_shm(bytes: &[u8], extent: Extent) -> Result<Listing<ShmSegment>, ParseError> {
    let columns = [
        "key", "shmid", "perms", "size", "cpid", "lpid", "nattch", "uid", "gid", "cuid", "cgid", "atime", "dtime",
        "ctime", "rss", "swap",
    ];
    parse(Kind::Shm, columns, &["rss", "swap"], bytes, extent, |row| {
        Ok(ShmSegment {
            key: Key(row.signed(0)?),
            shmid: row.signed(1)?,
            perms: row.perms(2)?,
            size: row.large(3)?,
            cpid: row.signed(4)?,
            lpid: row.signed(5)?,
            nattch: row.large(6)?,
            owner: row.owner(7)?,
            atime: row.time(11)?,
            dtime: row.time(12)?,
            ctime: row.time(13)?,
            rss: row.large(14)?,
            swap: row.large(15)?,
        })
    })
}

/// Parses `/proc/sysvipc/msg`. `qbytes` is not in it and stays `None`.
pub fn parse_msg(bytes: &[u8], extent: Extent) -> Result<Listing<MsgQueue>, ParseError> {
    let columns = [
        "key", "msqid", "perms", "cbytes", "qnum", "lspid", "lrpid", "uid", "gid", "cuid", "cgid", "stime", "rtime",
        "ctime",
    ];
    parse(Kind::Msg, columns, &[], bytes, extent, |row| {
        Ok(MsgQueue {
            key: Key(row.signed(0)?),
            msqid: row.signed(1)?,
            perms: row.perms(2)?,
            cbytes: row.large(3)?,
            qnum: row.large(4)?,
            qbytes: None,
            lspid: row.signed(5)?,
            lrpid: row.signed(6)?,
            owner: row.owner(7)?,
            stime: row.time(11)?,
            rtime: row.time(12)?,
            ctime: row.time(13)?,
        })
    })
}

/// Why a file cannot be believed, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} line {line}: {problem}")]
pub struct ParseError {
    /// The file.
    pub file: &'static str,
    /// The line, from 1, which is the header.
    pub line: u32,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// There is not even a header.
    #[error("empty, without the line that names the columns")]
    Empty,
    /// A column that every kernel has is not in the header.
    #[error("no column {0}")]
    NoColumn(&'static str),
    /// The line ends before all columns are there, or without its newline; the first column that is not whole.
    #[error("ends in or before column {0}")]
    Truncated(HostText),
    /// The line has more values than the header has names.
    #[error("{values} values under {columns} columns")]
    TooMany {
        /// Values in the line.
        values: usize,
        /// Columns in the header.
        columns: usize,
    },
    /// A value is no number, or one out of its range.
    #[error("column {column}: {value} is not {wanted}")]
    Value {
        /// The column.
        column: &'static str,
        /// What stood there, cut at 64 bytes.
        value: HostText,
        /// What should have.
        wanted: &'static str,
    },
}

/// What stood where something else was wanted, short enough to stand in an error.
pub(super) fn shown(value: &[u8]) -> HostText {
    HostText::cut(value.get(..64).unwrap_or(value))
}

/// Most columns a header may have; the kernel's widest file has 16.
const MAX_COLUMNS: usize = 64;

fn parse<T, const N: usize>(
    kind: Kind,
    known: [&'static str; N],
    optional: &[&'static str],
    bytes: &[u8],
    extent: Extent,
    row: impl Fn(&Row<'_, N>) -> Result<T, Problem>,
) -> Result<Listing<T>, ParseError> {
    let file = path(kind);
    let bytes = if extent.whole { bytes } else { up_to_last_newline(bytes) };
    let mut lines = Lines { rest: bytes, number: 0 };
    let at = |line: u32| move |problem: Problem| ParseError { file, line, problem };
    let header = lines.next().ok_or_else(|| at(1)(Problem::Empty))?;
    let header = header.ended(|| "key".into()).and_then(|text| Header::read(&known, optional, text)).map_err(at(1))?;
    let mut listing = Listing { objects: Vec::new(), left_out: 0, lacking: header.lacking(&known) };
    for line in lines {
        if listing.objects.len() >= extent.budget {
            listing.left_out += 1;
            continue;
        }
        let text = line.ended(|| header.last_column()).map_err(at(line.number))?;
        let mut fields = [None; N];
        let mut values = 0;
        for value in Fields(text) {
            if let Some(Some(column)) = header.columns.get(values)
                && let Some(field) = fields.get_mut(*column)
            {
                *field = Some(value);
            }
            values += 1;
        }
        let columns = header.columns.len();
        if values > columns {
            return Err(at(line.number)(Problem::TooMany { values, columns }));
        }
        if values < columns {
            return Err(at(line.number)(Problem::Truncated(header.name_at(values))));
        }
        listing.objects.push(row(&Row { known: &known, fields }).map_err(at(line.number))?);
    }
    Ok(listing)
}

/// A line with its number, and whether its newline was there.
struct Line<'a> {
    number: u32,
    text: &'a [u8],
    has_end: bool,
}

impl<'a> Line<'a> {
    /// The kernel ends every line; without the end the last number may have lost digits.
    fn ended(&self, last_column: impl Fn() -> HostText) -> Result<&'a [u8], Problem> {
        if self.has_end { Ok(self.text) } else { Err(Problem::Truncated(last_column())) }
    }
}

struct Lines<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.number = self.number.saturating_add(1);
        let newline = self.rest.iter().position(|byte| *byte == b'\n');
        let (text, rest) = self.rest.split_at(newline.unwrap_or(self.rest.len()));
        self.rest = rest.get(1..).unwrap_or_default();
        Some(Line { number: self.number, text, has_end: newline.is_some() })
    }
}

fn up_to_last_newline(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    bytes.get(..end).unwrap_or_default()
}

/// What stands between white space.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let begin = self.0.iter().position(|byte| !byte.is_ascii_whitespace())?;
        let rest = self.0.get(begin..)?;
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        let (field, rest) = rest.split_at_checked(end)?;
        self.0 = rest;
        Some(field)
    }
}

/// Which known column each place of a line holds.
struct Header<'a> {
    columns: Vec<Option<usize>>,
    names: Vec<&'a [u8]>,
}

impl<'a> Header<'a> {
    fn read(known: &[&'static str], optional: &[&'static str], text: &'a [u8]) -> Result<Self, Problem> {
        let names: Vec<&[u8]> = Fields(text).take(MAX_COLUMNS + 1).collect();
        if names.len() > MAX_COLUMNS {
            return Err(Problem::TooMany { values: names.len(), columns: MAX_COLUMNS });
        }
        if let Some(column) = known.iter().find(|k| !names.contains(&k.as_bytes()) && !optional.contains(k)) {
            return Err(Problem::NoColumn(column));
        }
        let place = |name: &&[u8]| known.iter().position(|k| k.as_bytes() == *name);
        Ok(Header { columns: names.iter().map(place).collect(), names })
    }

    fn lacking(&self, known: &[&'static str]) -> Vec<&'static str> {
        known.iter().enumerate().filter(|(i, _)| !self.columns.contains(&Some(*i))).map(|(_, name)| *name).collect()
    }

    fn name_at(&self, place: usize) -> HostText {
        self.names.get(place).map(|name| shown(name)).unwrap_or_default()
    }

    fn last_column(&self) -> HostText {
        self.names.last().map(|name| shown(name)).unwrap_or_default()
    }
}

/// The values of one line, by known column.
struct Row<'a, const N: usize> {
    known: &'a [&'static str; N],
    fields: [Option<&'a [u8]>; N],
}

impl<const N: usize> Row<'_, N> {
    /// `%d`: keys, ids, pids.
    fn signed(&self, column: usize) -> Result<i32, Problem> {
        self.number(column, 10, "a number from -2147483648 to 2147483647")
    }

    /// `%u`, and `%lu` where the meaning bounds it.
    fn unsigned(&self, column: usize) -> Result<u32, Problem> {
        self.number(column, 10, "a number from 0 to 4294967295")
    }

    /// `%lu` and `%llu`: bytes and counts.
    fn large(&self, column: usize) -> Result<u64, Problem> {
        self.number(column, 10, "a number from 0 to 18446744073709551615")
    }

    /// `%o`.
    fn perms(&self, column: usize) -> Result<Perms, Problem> {
        self.number(column, 8, "an octal number up to 37777777777").map(Perms)
    }

    /// Seconds since 1970: `%lu` or `%llu` of a signed number, so that a time before 1970 shows as one near 2^64.
    fn time(&self, column: usize) -> Result<i64, Problem> {
        let wanted = "seconds since 1970 that fit 64 bits";
        let seconds: i128 = self.number(column, 10, wanted)?;
        let seconds = i64::try_from(seconds).or_else(|_| u64::try_from(seconds).map(u64::cast_signed));
        seconds.map_err(|_| self.no(column, wanted))
    }

    /// Four columns: uid gid cuid cgid.
    fn owner(&self, first: usize) -> Result<Owner, Problem> {
        Ok(Owner {
            uid: self.unsigned(first)?,
            gid: self.unsigned(first + 1)?,
            cuid: self.unsigned(first + 2)?,
            cgid: self.unsigned(first + 3)?,
        })
    }

    /// A column the kernel lacks reads 0.
    fn number<V: TryFrom<i128>>(&self, column: usize, radix: u8, wanted: &'static str) -> Result<V, Problem> {
        let number = number(self.text(column), radix);
        number.and_then(|number| V::try_from(number).ok()).ok_or_else(|| self.no(column, wanted))
    }

    fn text(&self, column: usize) -> &[u8] {
        self.fields.get(column).copied().flatten().unwrap_or(b"0")
    }

    fn no(&self, column: usize, wanted: &'static str) -> Problem {
        let name = self.known.get(column).copied().unwrap_or_default();
        Problem::Value { column: name, value: shown(self.text(column)), wanted }
    }
}

/// Digits of a radix up to 10, with a minus sign or without, of at most 64 bits. Nearly all that a sample costs of its
/// own time is here: thousands of numbers a second.
fn number(text: &[u8], radix: u8) -> Option<i128> {
    let (digits, is_negative) = text.strip_prefix(b"-").map_or((text, false), |rest| (rest, true));
    if digits.is_empty() {
        return None;
    }
    let mut sum = 0_u64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit >= radix {
            return None;
        }
        sum = sum.checked_mul(radix.into())?.checked_add(digit.into())?;
    }
    let sum = i128::from(sum);
    Some(if is_negative { -sum } else { sum })
}

#[cfg(test)]
#[path = "sysvipc_tests.rs"]
mod tests;
