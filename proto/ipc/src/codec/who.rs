//! Who holds what: comms by uid, and what is known of objects beside their rows.

use alloc::vec::Vec;

use super::CodecError;
use super::rows::{BadColumn, Columns, Row, read_row, signed, wide, write_row};
use super::state::Context;
use super::varint::{Reader, Writer};
use crate::delta::WhoChange;
use crate::object::Kind;
use crate::snapshot::State;
use crate::text::HostText;
use crate::who::{Doubt, Grade, Known, Orphan, Who};

type CommsRow<T> = (u32, Option<T>);
type KnownRow<T> = ((Kind, i32), Option<T>);

pub(super) fn write_who(out: &mut Writer, context: &mut Context, who: &Who) {
    write_comms(out, context, who.comms.iter().map(|(uid, comms)| (*uid, Some(comms))));
    write_objects(out, context, who.objects.iter().map(|(key, known)| (*key, Some(known))));
}

pub(super) fn read_who(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Who, CodecError> {
    let offset = bytes.offset();
    let comms = ascending(offset, read_comms(bytes, context)?)?;
    let objects = ascending(offset, read_objects(bytes, context)?)?;
    Ok(Who { comms: comms.into_iter().collect(), objects: objects.into_iter().collect() })
}

pub(super) fn write_change(out: &mut Writer, context: &mut Context, change: &WhoChange) {
    match change {
        WhoChange::Same => {}
        WhoChange::Unknown => out.byte(1),
        WhoChange::Whole(who) => {
            out.byte(2);
            write_who(out, context, who);
        }
        WhoChange::Edits { comms, objects } => {
            out.byte(3);
            write_comms(out, context, comms.iter().map(|(uid, comms)| (*uid, comms.as_ref())));
            write_objects(out, context, objects.iter().map(|(key, known)| (*key, known.as_ref())));
        }
    }
}

pub(super) fn read_change(bytes: &mut Reader<'_>, context: &mut Context) -> Result<WhoChange, CodecError> {
    match bytes.code("what became of the owners", |code| (1..=3).contains(&code).then_some(code))? {
        1 => Ok(WhoChange::Unknown),
        2 => Ok(WhoChange::Whole(read_who(bytes, context)?)),
        _ => Ok(WhoChange::Edits { comms: read_comms(bytes, context)?, objects: read_objects(bytes, context)? }),
    }
}

/// What a map can hold: every value there, keys ascending.
fn ascending<K: Ord, V>(offset: usize, rows: Vec<(K, Option<V>)>) -> Result<Vec<(K, V)>, CodecError> {
    let refused = CodecError::NotCanonical { offset, what: "owners" };
    let rows: Option<Vec<(K, V)>> = rows.into_iter().map(|(key, value)| Some((key, value?))).collect();
    rows.filter(|rows| rows.is_sorted_by(|(a, _), (b, _)| a < b)).ok_or(refused)
}

fn write_comms<'a>(
    out: &mut Writer,
    context: &mut Context,
    rows: impl ExactSizeIterator<Item = CommsRow<&'a Vec<HostText>>>,
) {
    out.count(rows.len());
    let mut next = 0;
    for (uid, comms) in rows {
        out.signed(i64::from(uid) - next);
        next = i64::from(uid) + 1;
        out.count(comms.map_or(0, |comms| comms.len() + 1));
        comms.into_iter().flatten().for_each(|comm| context.texts.write_placed(out, comm));
    }
}

fn read_comms(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Vec<CommsRow<Vec<HostText>>>, CodecError> {
    let count = bytes.entries("owners", State::MAX_ENTRIES, 2)?;
    let mut next = 0;
    bytes.list(count, |bytes| {
        let uid = bytes.step("the uid of an owner", next)?;
        next = i64::from(uid) + 1;
        let comms = match bytes.length("an owner's comms", Who::MAX_COMMS + 1)?.checked_sub(1) {
            None => None,
            Some(count) => {
                bytes.spend("an owner's comms", count)?;
                Some(bytes.list(count, |bytes| context.texts.read_placed(bytes))?)
            }
        };
        Ok((uid, comms))
    })
}

fn write_objects<'a>(
    out: &mut Writer,
    context: &mut Context,
    rows: impl ExactSizeIterator<Item = KnownRow<&'a Known>>,
) {
    out.count(rows.len());
    let mut expected = [0; 16];
    for (key, known) in rows {
        let comm = known.and_then(|known| known.comm.as_ref());
        let place = comm.map(|comm| context.texts.place(comm));
        let columns = Columned { key, place, orphan: known.map(|known| known.orphan.clone()) }.columns();
        write_row(out, &columns, &expected);
        comm.into_iter().for_each(|comm| context.texts.write(out, comm));
        expected = after(columns);
    }
}

fn read_objects(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Vec<KnownRow<Known>>, CodecError> {
    let count = bytes.entries("what is known of objects", State::MAX_ENTRIES, 1)?;
    let mut expected = [0; 16];
    bytes.list(count, |bytes| {
        let (Columned { key, place, orphan }, columns) = read_row(bytes, &expected)?;
        expected = after(columns);
        let comm = place.map(|place| context.texts.read(bytes, place)).transpose()?;
        Ok((key, orphan.map(|orphan| Known { comm, orphan })))
    })
}

/// The next row is expected to be like this one, its id + 1.
fn after(mut columns: Columns) -> Columns {
    columns[0] = columns[0].wrapping_add(1);
    columns
}

/// What is known of an object as columns; its comm is a place among the texts.
struct Columned {
    key: (Kind, i32),
    place: Option<u64>,
    /// `None` = nothing is known any more.
    orphan: Option<Option<Orphan>>,
}

/// Column of the first pid.
const PIDS: usize = 5;

impl Row for Columned {
    const COLUMNS: &'static [&'static str] = &[
        "an object's id",
        "an object's comm",
        "an orphan's grade",
        "an orphan's pids",
        "an object's kind",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
        "the pid of an orphan",
    ];

    fn columns(&self) -> Columns {
        let (kind, id) = self.key;
        let mut out = [0; 16];
        out[0] = wide(id);
        out[1] = self.place.map_or(0, |place| place + 1);
        out[4] = kind_code(kind);
        match &self.orphan {
            None => {}
            Some(None) => out[2] = 1,
            Some(Some(orphan)) => {
                out[2] = grade_code(orphan.grade) << 4 | doubt_code(orphan.doubt);
                out[3] = orphan.last_pids.len() as u64;
                let mut before = 0;
                for (column, pid) in out[PIDS..].iter_mut().zip(&orphan.last_pids) {
                    *column = wide(*pid).wrapping_sub(before);
                    before = wide(*pid);
                }
            }
        }
        out
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        let known = match c[2] {
            0 => None,
            1 => Some(None),
            code => {
                let grade = Grade::ALL.into_iter().find(|(_, grade, _)| u64::from(*grade) == code >> 4);
                let doubt = Doubt::ALL.into_iter().find(|(_, doubt, _)| u64::from(*doubt) == code & 15);
                let both = grade.zip(doubt).ok_or(BadColumn { column: 2, value: code, low: 0, high: 0x37 })?;
                Some(Some((both.0.0, both.1.0)))
            }
        };
        let most = if matches!(known, Some(Some(_))) { Who::MAX_PIDS } else { 0 };
        let high = i64::try_from(most).unwrap_or(i64::MAX);
        let too_many = BadColumn { column: 3, value: c[3], low: 0, high };
        let count = usize::try_from(c[3]).ok().filter(|count| *count <= most).ok_or(too_many)?;
        let mut pids = *c;
        for column in PIDS..PIDS + Who::MAX_PIDS {
            if column - PIDS >= count {
                zero(c, column)?;
            } else if column > PIDS {
                pids[column] = pids[column].wrapping_add(pids[column - 1]);
            }
        }
        if known.is_none() {
            zero(c, 1)?;
        }
        let last_pids = (PIDS..PIDS + count).map(|column| signed(&pids, column)).collect::<Result<_, _>>()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind_code(*kind) == c[4]);
        Ok(Columned {
            key: (kind.ok_or(BadColumn { column: 4, value: c[4], low: 0, high: 2 })?, signed(c, 0)?),
            place: c[1].checked_sub(1),
            orphan: known.map(|orphan| orphan.map(|(grade, doubt)| Orphan { grade, doubt, last_pids })),
        })
    }
}

fn zero(columns: &Columns, column: usize) -> Result<(), BadColumn> {
    match columns[column] {
        0 => Ok(()),
        value => Err(BadColumn { column, value, low: 0, high: 0 }),
    }
}

pub(super) fn kind_code(kind: Kind) -> u64 {
    match kind {
        Kind::Sem => 0,
        Kind::Shm => 1,
        Kind::Msg => 2,
    }
}

fn grade_code(grade: Grade) -> u64 {
    Grade::ALL.iter().find(|(g, ..)| *g == grade).map_or(0, |(_, code, _)| u64::from(*code))
}

fn doubt_code(doubt: Doubt) -> u64 {
    Doubt::ALL.iter().find(|(d, ..)| *d == doubt).map_or(0, |(_, code, _)| u64::from(*code))
}
