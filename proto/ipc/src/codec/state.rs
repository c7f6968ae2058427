//! A whole state, and the parts that a delta has in common with it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::CodecError;
use super::rows::{Columns, Row, read_list, read_row, write_list, write_row};
use super::texts::Texts;
use super::varint::{Reader, Writer, bits};
use super::who::{read_who, write_who};
use crate::availability::{Availability, SysvipcState};
use crate::limits::{Limits, Totals};
use crate::risk::{Risk, RiskKind};
use crate::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, State, Unreadable};
use crate::text::HostText;
use crate::time::At;

/// What differences are taken to: the body's time, and what stood in the body last.
pub(super) struct Context {
    /// The body's wall clock, whole seconds since 1970.
    pub(super) seconds: i64,
    /// The body's boot clock, microseconds.
    pub(super) boot_us: u64,
    /// The namespace named last.
    pub(super) id: NamespaceId,
    /// The comms that were named.
    pub(super) texts: Texts,
    limits: Columns,
}

impl Context {
    pub(super) fn new(at: &At) -> Self {
        // PROC_IPC_INIT_INO of linux/proc_ns.h: the namespace that every host has.
        let id = NamespaceId { inode: 0xEFFF_FFFF, instance: 0 };
        let seconds = at.wall_ms.div_euclid(1000);
        Self { seconds, boot_us: at.boot_us, id, texts: Texts::default(), limits: [0; 16] }
    }
}

/// How many parts a namespace can have or lack.
const PARTS: u32 = 11;

pub(super) fn write_state(out: &mut Writer, context: &mut Context, state: &State) {
    out.bytes(&state.boot_id.0);
    out.number(state.interval_ms.into());
    out.number(state.page_size.into());
    out.text(&state.zone);
    write_availability(out, &state.availability);
    write_names(out, &state.users);
    write_names(out, &state.groups);
    write_risks(out, &state.risks);
    write_unreadable(out, &state.unseen);
    out.count(state.namespaces.len());
    state.namespaces.iter().for_each(|namespace| write_namespace(out, context, namespace));
}

pub(super) fn read_state(bytes: &mut Reader<'_>, context: &mut Context) -> Result<State, CodecError> {
    Ok(State {
        boot_id: BootId(bytes.array("boot_id")?),
        interval_ms: bytes.u32("interval_ms")?,
        page_size: bytes.u32("page_size")?,
        zone: bytes.text("zone")?,
        availability: read_availability(bytes)?,
        users: read_names(bytes)?,
        groups: read_names(bytes)?,
        risks: read_risks(bytes)?,
        unseen: read_unseen(bytes)?,
        namespaces: {
            let count = bytes.count("namespaces", State::MAX_NAMESPACES, 4)?;
            bytes.list(count, |bytes| read_namespace(bytes, context))?
        },
    })
}

pub(super) fn write_availability(out: &mut Writer, availability: &Availability) {
    out.byte(match availability.state {
        SysvipcState::Available => 1,
        SysvipcState::Absent => 2,
        SysvipcState::ProcHidden => 3,
        SysvipcState::Blocked => 4,
        SysvipcState::Unknown => 5,
    });
    out.count(availability.evidence.len());
    availability.evidence.iter().for_each(|line| out.text(line));
    out.text(&availability.remedy);
}

pub(super) fn read_availability(bytes: &mut Reader<'_>) -> Result<Availability, CodecError> {
    let state = bytes.code("availability", |code| match code {
        1 => Some(SysvipcState::Available),
        2 => Some(SysvipcState::Absent),
        3 => Some(SysvipcState::ProcHidden),
        4 => Some(SysvipcState::Blocked),
        5 => Some(SysvipcState::Unknown),
        _ => None,
    })?;
    let count = bytes.count("evidence", Availability::MAX_EVIDENCE, 1)?;
    let evidence = bytes.list(count, |bytes| bytes.text("evidence"))?;
    Ok(Availability { state, evidence, remedy: bytes.text("remedy")? })
}

pub(super) fn write_risks(out: &mut Writer, risks: &[Risk]) {
    out.count(risks.len());
    for Risk { kind, why, remedy } in risks {
        out.byte(RiskKind::ALL.iter().find(|(k, ..)| k == kind).map_or(0, |(_, code, _)| *code));
        out.text(why);
        out.text(remedy);
    }
}

pub(super) fn read_risks(bytes: &mut Reader<'_>) -> Result<Vec<Risk>, CodecError> {
    let count = bytes.entries("risks", Risk::MAX, 3)?;
    let known = |code| RiskKind::ALL.iter().find(|(_, c, _)| *c == code).map(|(kind, ..)| *kind);
    bytes.list(count, |bytes| {
        Ok(Risk { kind: bytes.code("a risk", known)?, why: bytes.text("a risk's why")?, remedy: bytes.text("remedy")? })
    })
}

fn write_names(out: &mut Writer, names: &BTreeMap<u32, HostText>) {
    out.count(names.len());
    let mut next = 0;
    for (&id, name) in names {
        out.number(u64::from(id) - next);
        out.text(name);
        next = u64::from(id) + 1;
    }
}

fn read_names(bytes: &mut Reader<'_>) -> Result<BTreeMap<u32, HostText>, CodecError> {
    let count = bytes.entries("names", State::MAX_ENTRIES, 2)?;
    let mut names = BTreeMap::new();
    let mut next = 0;
    for _ in 0..count {
        let gap = bytes.at_most("the id of a name", u64::from(u32::MAX).saturating_sub(next))?;
        let id = next + gap;
        names.insert(u32::try_from(id).unwrap_or(u32::MAX), bytes.text("a name")?);
        next = id + 1;
    }
    Ok(names)
}

pub(super) fn write_namespace(out: &mut Writer, context: &mut Context, namespace: &Namespace) {
    write_id(out, context, namespace.id);
    let left_out = namespace.left_out != LeftOut::default();
    let Namespace { name, named_by, skipped, torn, limits, totals, sem, shm, msg, who, .. } = namespace;
    out.number(bits(&[
        limits.is_some(),
        totals.is_some(),
        sem.is_some(),
        shm.is_some(),
        msg.is_some(),
        *torn,
        name.is_some(),
        who.is_some(),
        *named_by != NamedBy::Nothing,
        *skipped > 0,
        left_out,
    ]));
    limits.iter().for_each(|limits| write_limits(out, context, limits));
    totals.iter().for_each(|totals| write_totals(out, totals));
    sem.iter().for_each(|rows| write_list(out, rows, context.seconds));
    shm.iter().for_each(|rows| write_list(out, rows, context.seconds));
    msg.iter().for_each(|rows| write_list(out, rows, context.seconds));
    name.iter().for_each(|name| out.text(name));
    who.iter().for_each(|who| write_who(out, context, who));
    if *named_by != NamedBy::Nothing {
        out.byte(named_by_code(*named_by));
    }
    if *skipped > 0 {
        out.number((*skipped).into());
    }
    if left_out {
        write_left_out(out, &namespace.left_out);
    }
    write_unreadable(out, &namespace.unreadable);
}

pub(super) fn read_namespace(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Namespace, CodecError> {
    let id = read_id(bytes, context)?;
    let has = bytes.bits("what a namespace has", PARTS)?;
    Ok(Namespace {
        id,
        limits: if has(0) { Some(read_limits(bytes, context)?) } else { None },
        totals: if has(1) { Some(read_totals(bytes)?) } else { None },
        sem: if has(2) { Some(read_list(bytes, context.seconds)?) } else { None },
        shm: if has(3) { Some(read_list(bytes, context.seconds)?) } else { None },
        msg: if has(4) { Some(read_list(bytes, context.seconds)?) } else { None },
        torn: has(5),
        name: if has(6) { Some(bytes.text("a namespace's name")?) } else { None },
        who: if has(7) { Some(read_who(bytes, context)?) } else { None },
        named_by: if has(8) { read_some_named_by(bytes)? } else { NamedBy::Nothing },
        skipped: if has(9) { read_some_skipped(bytes)? } else { 0 },
        left_out: if has(10) { read_some_left_out(bytes)? } else { LeftOut::default() },
        unreadable: read_unreadable(bytes)?,
    })
}

pub(super) fn named_by_code(named_by: NamedBy) -> u8 {
    NamedBy::ALL.iter().find(|(n, ..)| *n == named_by).map_or(0, |(_, code, _)| *code)
}

pub(super) fn named_by(code: u8) -> Option<NamedBy> {
    NamedBy::ALL.iter().find(|(_, c, _)| *c == code).map(|(named_by, ..)| *named_by)
}

/// What a name is, there only because it is something.
fn read_some_named_by(bytes: &mut Reader<'_>) -> Result<NamedBy, CodecError> {
    bytes.code("what a name is", |code| named_by(code).filter(|named_by| *named_by != NamedBy::Nothing))
}

/// A number that is there only because it is not 0.
fn read_some_skipped(bytes: &mut Reader<'_>) -> Result<u32, CodecError> {
    let offset = bytes.offset();
    match bytes.u32("skipped")? {
        0 => Err(CodecError::NotCanonical { offset, what: "skipped" }),
        skipped => Ok(skipped),
    }
}

pub(super) fn write_id(out: &mut Writer, context: &mut Context, id: NamespaceId) {
    out.signed(id.inode.wrapping_sub(context.id.inode).cast_signed());
    out.signed(id.instance.wrapping_sub(context.id.instance).cast_signed());
    context.id = id;
}

pub(super) fn read_id(bytes: &mut Reader<'_>, context: &mut Context) -> Result<NamespaceId, CodecError> {
    let inode = bytes.signed("a namespace's inode")?.cast_unsigned();
    let instance = bytes.signed("a namespace's instance")?.cast_unsigned();
    let before = context.id;
    context.id =
        NamespaceId { inode: before.inode.wrapping_add(inode), instance: before.instance.wrapping_add(instance) };
    Ok(context.id)
}

pub(super) fn write_limits(out: &mut Writer, context: &mut Context, limits: &Limits) {
    let columns = limits.columns();
    write_row(out, &columns, &context.limits);
    context.limits = columns;
}

pub(super) fn read_limits(bytes: &mut Reader<'_>, context: &mut Context) -> Result<Limits, CodecError> {
    let (limits, columns) = read_row(bytes, &context.limits)?;
    context.limits = columns;
    Ok(limits)
}

pub(super) fn write_totals(out: &mut Writer, totals: &Totals) {
    write_row(out, &totals.columns(), &[0; 16]);
}

pub(super) fn read_totals(bytes: &mut Reader<'_>) -> Result<Totals, CodecError> {
    read_row(bytes, &[0; 16]).map(|(totals, _)| totals)
}

pub(super) fn write_left_out(out: &mut Writer, left_out: &LeftOut) {
    out.number(left_out.sem);
    out.number(left_out.shm);
    out.number(left_out.msg);
}

pub(super) fn read_left_out(bytes: &mut Reader<'_>) -> Result<LeftOut, CodecError> {
    let mut count = || bytes.number("left_out");
    Ok(LeftOut { sem: count()?, shm: count()?, msg: count()? })
}

/// Counts that are there only because one of them is not 0.
fn read_some_left_out(bytes: &mut Reader<'_>) -> Result<LeftOut, CodecError> {
    let offset = bytes.offset();
    match read_left_out(bytes)? {
        none if none == LeftOut::default() => Err(CodecError::NotCanonical { offset, what: "left_out" }),
        some => Ok(some),
    }
}

pub(super) fn write_unreadable(out: &mut Writer, unreadable: &[Unreadable]) {
    out.count(unreadable.len());
    for Unreadable { source, line, error } in unreadable {
        out.text(source);
        out.number((*line).into());
        out.text(error);
    }
}

pub(super) fn read_unreadable(bytes: &mut Reader<'_>) -> Result<Vec<Unreadable>, CodecError> {
    read_sources(bytes, "unreadable", Namespace::MAX_UNREADABLE)
}

pub(super) fn read_unseen(bytes: &mut Reader<'_>) -> Result<Vec<Unreadable>, CodecError> {
    read_sources(bytes, "unseen", State::MAX_UNSEEN)
}

fn read_sources(bytes: &mut Reader<'_>, what: &'static str, bound: usize) -> Result<Vec<Unreadable>, CodecError> {
    let count = bytes.entries(what, bound, 3)?;
    bytes.list(count, |bytes| {
        Ok(Unreadable {
            source: bytes.text("an unreadable source")?,
            line: bytes.u32("an unreadable line")?,
            error: bytes.text("a read error")?,
        })
    })
}
