//! What happened between two samples.

use alloc::vec::Vec;

use super::CodecError;
use super::rows::{BadColumn, Columns, Row, read_row, signed, wide, write_row};
use super::state::{self, Context};
use super::varint::{Reader, Writer};
use super::who::kind_code;
use crate::activity::{Act, Activity, Actor, Did, Peak};
use crate::limits::{Resource, Usage};
use crate::object::{Key, Kind};
use crate::snapshot::NamespaceId;

pub(super) fn write_activity(out: &mut Writer, context: &mut Context, activity: &Activity) {
    out.count(activity.acts.len());
    let mut expected = first(context);
    for act in &activity.acts {
        let comm = &act.by.comm;
        let columns = Columned { act: act.clone(), place: context.texts.place(comm), ids: act.ids.len() }.columns();
        write_row(out, &columns, &expected);
        expected = columns;
        context.texts.write(out, comm);
        context.texts.write_placed(out, &act.by.parent);
        let mut next = 0;
        for id in &act.ids {
            out.signed(i64::from(*id) - next);
            next = i64::from(*id) + 1;
        }
    }
    out.number(activity.more);
    out.number(activity.lost);
    out.count(activity.peaks.len());
    for peak in &activity.peaks {
        state::write_id(out, context, peak.namespace);
        out.signed(peak.boot_us.wrapping_sub(context.boot_us).cast_signed());
        out.number(peak.sem_arrays);
        out.number(peak.semaphores);
    }
}

pub(super) fn read_activity(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Activity, CodecError> {
    let count = bytes.entries("acts", Activity::MAX_ACTS, 1)?;
    let mut expected = first(context);
    let acts = bytes.list(count, |bytes| {
        let (Columned { mut act, place, ids }, columns) = read_row(bytes, &expected)?;
        expected = columns;
        act.by.comm = context.texts.read(bytes, place)?;
        act.by.parent = context.texts.read_placed(bytes)?;
        let mut next = 0;
        act.ids = bytes.list(ids, |bytes| {
            let id: i32 = bytes.step("the id of an act", next)?;
            next = i64::from(id) + 1;
            Ok(id)
        })?;
        Ok(act)
    })?;
    let (more, lost) = (bytes.number("more acts")?, bytes.number("lost events")?);
    let count = bytes.entries("peaks", Activity::MAX_PEAKS, 5)?;
    let peaks = bytes.list(count, |bytes| {
        Ok(Peak {
            namespace: state::read_id(bytes, context)?,
            boot_us: context.boot_us.wrapping_add(bytes.signed("the time of a peak")?.cast_unsigned()),
            sem_arrays: bytes.number("a peak's arrays")?,
            semaphores: bytes.number("a peak's semaphores")?,
        })
    })?;
    Ok(Activity { acts, more, lost, peaks })
}

/// An activity that is there only because something happened.
pub(super) fn read_some_activity(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Activity, CodecError> {
    let offset = bytes.offset();
    match read_activity(bytes, context)? {
        none if none.is_empty() => Err(CodecError::NotCanonical { offset, what: "activity" }),
        some => Ok(some),
    }
}

/// What the first act is expected to be: one `semget` for one semaphore by root in the namespace named last, just now,
/// refused with ENOSPC.
fn first(context: &Context) -> Columns {
    let mut out = [0; 16];
    out[0] = context.boot_us;
    out[3] = call_code(Did::Refused(28), Kind::Sem);
    (out[7], out[8], out[10]) = (1, 1, 1);
    (out[12], out[13], out[14]) = (context.id.inode, context.id.instance, 1);
    out
}

/// An act as columns; its comm is a place among the texts, of its ids there is the number. Its parent's comm follows the
/// comm.
struct Columned {
    act: Act,
    place: u64,
    ids: usize,
}

impl Row for Columned {
    const COLUMNS: &'static [&'static str] = &[
        "the time of an act",
        "the pid of an act",
        "the comm of an act",
        "an act",
        "the limit that bound",
        "which limit bound",
        "the key of an act",
        "the uid of an act",
        "the size of an act",
        "the last time of an act",
        "the count of an act",
        "the ids of an act",
        "the inode of an act",
        "the instance of an act",
        "whether an act's namespace is known",
        "what the limit had left",
    ];

    fn columns(&self) -> Columns {
        let Act { did, kind, namespace, by, first_us, last_us, count, key, size, bound_by, .. } = &self.act;
        let id = namespace.unwrap_or(NamespaceId { inode: 0, instance: 0 });
        let (resource, used, limit) = bound_by.map_or((0, 0, 0), |u| (resource_code(u.resource), u.used, u.limit));
        [
            *first_us,
            wide(by.pid),
            self.place,
            call_code(*did, *kind),
            limit,
            resource,
            wide(key.0),
            by.uid.map_or(0, |uid| u64::from(uid) + 1),
            *size,
            last_us.wrapping_sub(*first_us),
            *count,
            self.ids as u64,
            id.inode,
            id.instance,
            namespace.is_some().into(),
            limit.wrapping_sub(used),
        ]
    }

    fn from_columns(c: &Columns) -> Result<Self, BadColumn> {
        let bad = |column: usize, high: u64| {
            Err(BadColumn { column, value: c[column], low: 0, high: i64::try_from(high).unwrap_or(i64::MAX) })
        };
        let (did, kind) = match call(c[3]) {
            Some(call) => call,
            None => return bad(3, call_code(Did::Refused(u32::MAX), Kind::Msg)),
        };
        let uid = match c[7].checked_sub(1).map(u32::try_from) {
            None => None,
            Some(Ok(uid)) => Some(uid),
            Some(Err(_)) => return bad(7, u64::from(u32::MAX) + 1),
        };
        let ids = match usize::try_from(c[11]) {
            Ok(ids) if ids <= Activity::MAX_IDS => ids,
            _ => return bad(11, Activity::MAX_IDS as u64),
        };
        let namespace = match (c[14], c[12], c[13]) {
            (1, inode, instance) => Some(NamespaceId { inode, instance }),
            (0, 0, 0) => None,
            (0, 0, _) => return bad(13, 0),
            (0, ..) => return bad(12, 0),
            _ => return bad(14, 1),
        };
        let bound_by = match (c[5], c[4], c[15]) {
            (0, 0, 0) => None,
            (0, 0, _) => return bad(15, 0),
            (0, ..) => return bad(4, 0),
            (code, limit, left) => match Resource::ALL.into_iter().find(|r| resource_code(*r) == code) {
                Some(resource) => Some(Usage { resource, used: limit.wrapping_sub(left), limit }),
                None => return bad(5, Resource::ALL.len() as u64),
            },
        };
        let by = Actor { pid: signed(c, 1)?, uid, ..Actor::default() };
        let (first_us, last_us) = (c[0], c[0].wrapping_add(c[9]));
        let (count, key, size) = (c[10], Key(signed(c, 6)?), c[8]);
        let ids_read = Vec::new();
        let act = Act { did, kind, namespace, by, first_us, last_us, count, key, size, ids: ids_read, bound_by };
        Ok(Columned { act, place: c[2], ids })
    }
}

/// What was called and what came of it: made, removed, refused with errno 0, 1 ..; times three, plus the kind.
fn call_code(did: Did, kind: Kind) -> u64 {
    let did = match did {
        Did::Created => 0,
        Did::Removed => 1,
        Did::Refused(errno) => 2 + u64::from(errno),
    };
    did * 3 + kind_code(kind)
}

fn call(code: u64) -> Option<(Did, Kind)> {
    let kind = Kind::ALL.into_iter().find(|kind| kind_code(*kind) == code % 3)?;
    let did = match code / 3 {
        0 => Did::Created,
        1 => Did::Removed,
        refused => Did::Refused(u32::try_from(refused - 2).ok()?),
    };
    Some((did, kind))
}

fn resource_code(resource: Resource) -> u64 {
    match resource {
        Resource::Semmni => 1,
        Resource::Semmns => 2,
        Resource::Shmmni => 3,
        Resource::Shmall => 4,
        Resource::Msgmni => 5,
    }
}
