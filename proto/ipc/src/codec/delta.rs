//! A difference.

use alloc::vec::Vec;

use super::CodecError;
use super::activity::{read_some_activity, write_activity};
use super::rows::{Neighbours, ObjectRow, read_list, write_list};
use super::state::{self, Context};
use super::varint::{Reader, Writer, bits};
use super::who;
use crate::activity::Activity;
use crate::delta::{Delta, ListChange, NamespaceChange, NamespaceDelta, WhoChange};
use crate::object::Object;
use crate::snapshot::{BootId, State};
use crate::text::HostText;

/// How many parts a delta can change.
const PARTS: u32 = 11;
/// How many parts of a namespace can change.
const NAMESPACE_PARTS: u32 = 12;

pub(super) fn write_delta(out: &mut Writer, context: &mut Context, delta: &Delta) {
    out.number(delta.took_us.into());
    let Delta { activity, boot_id, interval_ms, page_size, zone, availability, users, groups, risks, unseen, .. } =
        delta;
    out.number(bits(&[
        !delta.namespaces.is_empty(),
        !activity.is_empty(),
        !users.is_empty(),
        !groups.is_empty(),
        availability.is_some(),
        risks.is_some(),
        unseen.is_some(),
        zone.is_some(),
        interval_ms.is_some(),
        page_size.is_some(),
        boot_id.is_some(),
    ]));
    if !delta.namespaces.is_empty() {
        out.count(delta.namespaces.len());
        delta.namespaces.iter().for_each(|namespace| write_namespace(out, context, namespace));
    }
    if !activity.is_empty() {
        write_activity(out, context, activity);
    }
    write_names(out, users);
    write_names(out, groups);
    availability.iter().for_each(|availability| state::write_availability(out, availability));
    risks.iter().for_each(|risks| state::write_risks(out, risks));
    unseen.iter().for_each(|unseen| state::write_unreadable(out, unseen));
    zone.iter().for_each(|zone| out.text(zone));
    interval_ms.iter().for_each(|ms| out.number((*ms).into()));
    page_size.iter().for_each(|bytes| out.number((*bytes).into()));
    boot_id.iter().for_each(|id| out.bytes(&id.0));
}

pub(super) fn read_delta(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Delta, CodecError> {
    let took_us = bytes.u32("took_us")?;
    let which = bytes.bits("what a delta changes", PARTS)?;
    Ok(Delta {
        took_us,
        namespaces: if which(0) {
            let offset = bytes.offset();
            match bytes.count("changed namespaces", State::MAX_NAMESPACES, 3)? {
                0 => return Err(CodecError::NotCanonical { offset, what: "changed namespaces" }),
                count => bytes.list(count, |bytes| read_namespace(bytes, context))?,
            }
        } else {
            Vec::new()
        },
        activity: if which(1) { read_some_activity(bytes, context)? } else { Activity::default() },
        users: if which(2) { read_names(bytes)? } else { Vec::new() },
        groups: if which(3) { read_names(bytes)? } else { Vec::new() },
        availability: if which(4) { Some(state::read_availability(bytes)?) } else { None },
        risks: if which(5) { Some(state::read_risks(bytes)?) } else { None },
        unseen: if which(6) { Some(state::read_unseen(bytes)?) } else { None },
        zone: if which(7) { Some(bytes.text("zone")?) } else { None },
        interval_ms: if which(8) { Some(bytes.u32("interval_ms")?) } else { None },
        page_size: if which(9) { Some(bytes.u32("page_size")?) } else { None },
        boot_id: if which(10) { Some(BootId(bytes.array("boot_id")?)) } else { None },
    })
}

fn write_names(out: &mut Writer, names: &[(u32, Option<HostText>)]) {
    if names.is_empty() {
        return;
    }
    out.count(names.len());
    let mut next = 0;
    for (id, name) in names {
        out.signed(i64::from(*id) - next);
        out.optional_text(name.as_ref());
        next = i64::from(*id) + 1;
    }
}

fn read_names(bytes: &mut Reader<'_>) -> Result<Vec<(u32, Option<HostText>)>, CodecError> {
    let offset = bytes.offset();
    let count = bytes.entries("changed names", State::MAX_ENTRIES, 2)?;
    if count == 0 {
        return Err(CodecError::NotCanonical { offset, what: "changed names" });
    }
    let mut next = 0;
    bytes.list(count, |bytes| {
        let id = bytes.step("the id of a changed name", next)?;
        next = i64::from(id) + 1;
        Ok((id, bytes.optional_text("a changed name")?))
    })
}

fn write_namespace(out: &mut Writer, context: &mut Context, delta: &NamespaceDelta) {
    match delta {
        NamespaceDelta::Gone(id) => {
            out.byte(1);
            state::write_id(out, context, *id);
        }
        NamespaceDelta::Appeared { position, namespace } => {
            out.byte(2);
            out.number((*position).into());
            state::write_namespace(out, context, namespace);
        }
        NamespaceDelta::Changed(change) => {
            out.byte(3);
            state::write_id(out, context, change.id);
            write_change(out, context, change);
        }
    }
}

fn read_namespace(bytes: &mut Reader<'_>, context: &mut Context) -> Result<NamespaceDelta, CodecError> {
    match bytes.code("what became of a namespace", |code| (1..=3).contains(&code).then_some(code))? {
        1 => Ok(NamespaceDelta::Gone(state::read_id(bytes, context)?)),
        2 => Ok(NamespaceDelta::Appeared {
            position: bytes.u32("a namespace's position")?,
            namespace: state::read_namespace(bytes, context)?,
        }),
        _ => read_change(bytes, context).map(NamespaceDelta::Changed),
    }
}

fn write_change(out: &mut Writer, context: &mut Context, change: &NamespaceChange) {
    let NamespaceChange { name, named_by, skipped, torn, limits, totals, sem, shm, msg, .. } = change;
    let NamespaceChange { unreadable, left_out, who, .. } = change;
    out.number(bits(&[
        totals.is_some(),
        *sem != ListChange::Same,
        *shm != ListChange::Same,
        *msg != ListChange::Same,
        limits.is_some(),
        torn.is_some(),
        name.is_some(),
        unreadable.is_some(),
        left_out.is_some(),
        *who != WhoChange::Same,
        named_by.is_some(),
        skipped.is_some(),
    ]));
    if let Some(totals) = totals {
        out.byte(totals.is_some().into());
        totals.iter().for_each(|totals| state::write_totals(out, totals));
    }
    write_edits(out, sem, context.seconds);
    write_edits(out, shm, context.seconds);
    write_edits(out, msg, context.seconds);
    if let Some(limits) = limits {
        out.byte(limits.is_some().into());
        limits.iter().for_each(|limits| state::write_limits(out, context, limits));
    }
    torn.iter().for_each(|torn| out.byte((*torn).into()));
    name.iter().for_each(|name| out.optional_text(name.as_ref()));
    unreadable.iter().for_each(|unreadable| state::write_unreadable(out, unreadable));
    left_out.iter().for_each(|left_out| state::write_left_out(out, left_out));
    who::write_change(out, context, who);
    named_by.iter().for_each(|named_by| out.byte(state::named_by_code(*named_by)));
    skipped.iter().for_each(|skipped| out.number((*skipped).into()));
}

fn read_change(bytes: &mut Reader<'_>, context: &mut Context) -> Result<NamespaceChange, CodecError> {
    let id = state::read_id(bytes, context)?;
    let which = bytes.bits("what changed in a namespace", NAMESPACE_PARTS)?;
    let seconds = context.seconds;
    let totals = match which(0) {
        true if bytes.flag("whether totals are known")? => Some(Some(state::read_totals(bytes)?)),
        known => known.then_some(None),
    };
    let sem = if which(1) { read_edits(bytes, seconds)? } else { ListChange::Same };
    let shm = if which(2) { read_edits(bytes, seconds)? } else { ListChange::Same };
    let msg = if which(3) { read_edits(bytes, seconds)? } else { ListChange::Same };
    let limits = match which(4) {
        true if bytes.flag("whether limits are known")? => Some(Some(state::read_limits(bytes, context)?)),
        known => known.then_some(None),
    };
    Ok(NamespaceChange {
        id,
        torn: if which(5) { Some(bytes.flag("torn")?) } else { None },
        name: if which(6) { Some(bytes.optional_text("a namespace's name")?) } else { None },
        limits,
        totals,
        sem,
        shm,
        msg,
        unreadable: if which(7) { Some(state::read_unreadable(bytes)?) } else { None },
        left_out: if which(8) { Some(state::read_left_out(bytes)?) } else { None },
        who: if which(9) { who::read_change(bytes, context)? } else { WhoChange::Same },
        named_by: if which(10) { Some(bytes.code("what a name is", state::named_by)?) } else { None },
        skipped: if which(11) { Some(bytes.u32("skipped")?) } else { None },
    })
}

fn write_edits<T: ObjectRow>(out: &mut Writer, change: &ListChange<T>, seconds: i64) {
    match change {
        ListChange::Same => {}
        ListChange::Unreadable => out.byte(1),
        ListChange::Whole(rows) => {
            out.byte(2);
            write_list(out, rows, seconds);
        }
        ListChange::Edits { removed, changed, added } => {
            out.byte(3);
            out.count(removed.len());
            let mut next = 0;
            for id in removed {
                out.signed(i64::from(*id) - next);
                next = i64::from(*id) + 1;
            }
            write_list(out, changed, seconds);
            out.count(added.len());
            let mut next = 0;
            let mut neighbours = Neighbours::new::<T>(seconds);
            for (position, row) in added {
                out.signed(i64::from(*position) - next);
                next = i64::from(*position) + 1;
                neighbours.write(out, row);
            }
        }
    }
}

fn read_edits<T: ObjectRow + Object>(bytes: &mut Reader<'_>, seconds: i64) -> Result<ListChange<T>, CodecError> {
    match bytes.code("what became of a list", |code| (1..=3).contains(&code).then_some(code))? {
        1 => Ok(ListChange::Unreadable),
        2 => Ok(ListChange::Whole(read_list(bytes, seconds)?)),
        _ => {
            let count = bytes.entries("removed rows", State::MAX_ENTRIES, 1)?;
            let mut next = 0;
            let removed = bytes.list(count, |bytes| {
                let id: i32 = bytes.step("the id of a removed row", next)?;
                next = i64::from(id) + 1;
                Ok(id)
            })?;
            let changed = read_list(bytes, seconds)?;
            let count = bytes.entries("added rows", State::MAX_ENTRIES, 1 + T::LEAST)?;
            let mut next = 0;
            let mut neighbours = Neighbours::new::<T>(seconds);
            let added = bytes.list(count, |bytes| {
                let position: u32 = bytes.step("the position of an added row", next)?;
                next = i64::from(position) + 1;
                Ok((position, neighbours.read(bytes)?))
            })?;
            Ok(ListChange::Edits { removed, changed, added })
        }
    }
}
