//! JSON to domain; what does not mean anything is refused with its place, field and value.

use std::collections::BTreeMap;

use highwater_ipc::availability::{Availability, SysvipcState};
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Key, MsgQueue, Owner, Perms, SemArray, ShmSegment};
use highwater_ipc::risk::{Risk, RiskKind};
use highwater_ipc::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, parse_rfc3339_ms};

use super::held;
use super::shape::{
    ActivityJson, LimitsJson, MsgJson, NamespaceJson, OwnerJson, RiskJson, SemJson, ShmJson, SnapshotJson, SpanJson,
    SysvipcJson, TotalsJson, UnreadableJson,
};
use super::write::{Envelope, Span};

/// Why JSON of the right shape is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A text that does not mean what its field should.
    #[error("{place}{field} is \"{value}\", not {expected}")]
    Meaning {
        /// Where, e.g. `namespaces[0].sem[3].`; empty at the top.
        place: String,
        /// The field.
        field: &'static str,
        /// Its value, cut.
        value: HostText,
        /// What would be right.
        expected: &'static str,
    },
    /// More entries than a snapshot holds.
    #[error("{place}{field} has {len} entries, at most {most} are possible")]
    TooMany {
        /// Where.
        place: String,
        /// The field.
        field: &'static str,
        /// Its entries.
        len: usize,
        /// The bound.
        most: usize,
    },
    /// One id with two names in one snapshot.
    #[error("{place}{field} names {id} \"{second}\", which is \"{first}\" elsewhere in the snapshot")]
    TwoNames {
        /// Where the second name is.
        place: String,
        /// The field.
        field: &'static str,
        /// The uid or gid.
        id: u32,
        /// The first name; empty = none.
        first: HostText,
        /// The second one, likewise.
        second: HostText,
    },
}

impl SnapshotJson {
    /// Reads the snapshot and what is known about it.
    pub fn to_snapshot(&self) -> Result<(Snapshot, Envelope), JsonError> {
        let mut names = Names::default();
        let mut namespaces = Vec::with_capacity(self.namespaces.len());
        for (i, namespace) in self.namespaces.iter().enumerate() {
            let place = Place { namespace: Some(i), row: None };
            namespaces.push(read_namespace(namespace, self.torn, place, &mut names)?);
        }
        let top = Place::default();
        let state = State {
            boot_id: boot_id(top, &self.boot_id)?,
            interval_ms: self.interval_ms,
            page_size: self.page_size,
            zone: text(top, "tz", &self.tz)?,
            availability: availability(top, &self.sysvipc)?,
            users: names.users.known(),
            groups: names.groups.known(),
            risks: risks(top, &self.at_risk)?,
            unseen: sources(top, "unseen", &self.unseen, State::MAX_UNSEEN)?,
            namespaces,
        };
        let at = At { wall_ms: time(top, "at", &self.at)?, boot_us: digits(top, "boot_us_u64", &self.boot_us_u64)? };
        Ok((Snapshot { at, took_us: self.took_us, state }, self.envelope()?))
    }

    fn envelope(&self) -> Result<Envelope, JsonError> {
        let top = Place::default();
        let maybe_time = |field, value: &Option<String>| value.as_deref().map(|v| time(top, field, v)).transpose();
        let spans = |spans: &Vec<SpanJson>| spans.iter().map(|s| span(top, "also.from", "also.to", s)).collect();
        Ok(Envelope {
            host: self.host.as_deref().map(|host| text(top, "host", host)).transpose()?,
            host_id: self.host_id.clone(),
            asked_at_ms: maybe_time("asked_at", &self.asked_at)?,
            covered: self.covered.as_ref().map(|s| span(top, "covered.from", "covered.to", s)).transpose()?,
            also: self.also.as_ref().map(spans).transpose()?,
            received_at_ms: maybe_time("received_at", &self.received_at)?,
            skew_ms: self.skew_ms,
            activity: self.activity.as_ref().map(ActivityJson::to_activity).transpose()?,
        })
    }
}

/// Where in the document.
#[derive(Clone, Copy, Default)]
pub(super) struct Place {
    namespace: Option<usize>,
    row: Option<(&'static str, usize)>,
}

impl Place {
    pub(super) fn row(self, kind: &'static str, index: usize) -> Place {
        Place { row: Some((kind, index)), ..self }
    }

    fn path(self) -> String {
        let namespace = self.namespace.map(|i| format!("namespaces[{i}].")).unwrap_or_default();
        let row = self.row.map(|(kind, i)| format!("{kind}[{i}].")).unwrap_or_default();
        namespace + &row
    }

    pub(super) fn not(self, field: &'static str, value: &str, expected: &'static str) -> JsonError {
        JsonError::Meaning { place: self.path(), field, value: HostText::from(value), expected }
    }
}

/// Names by id as the objects tell them.
#[derive(Default)]
struct Names {
    users: Ids,
    groups: Ids,
}

/// `None` = that id was seen without a name.
#[derive(Default)]
struct Ids(BTreeMap<u32, Option<HostText>>);

impl Ids {
    fn learn(&mut self, place: Place, field: &'static str, id: u32, name: Option<&str>) -> Result<(), JsonError> {
        let name = name.map(|name| text(place, field, name)).transpose()?;
        let first = self.0.entry(id).or_insert_with(|| name.clone());
        if *first == name {
            return Ok(());
        }
        let (first, second) = (first.clone().unwrap_or_default(), name.unwrap_or_default());
        Err(JsonError::TwoNames { place: place.path(), field, id, first, second })
    }

    fn known(self) -> BTreeMap<u32, HostText> {
        self.0.into_iter().filter_map(|(id, name)| Some((id, name?))).collect()
    }
}

fn read_namespace(json: &NamespaceJson, torn: bool, place: Place, names: &mut Names) -> Result<Namespace, JsonError> {
    for holder in json.owners.iter().flatten().flatten() {
        names.users.learn(place, "owners.user", holder.uid, holder.user.as_deref())?;
    }
    Ok(Namespace {
        id: NamespaceId { inode: json.id, instance: digits(place, "instance", &json.instance)? },
        name: json.name.as_deref().map(|name| text(place, "name", name)).transpose()?,
        named_by: named_by(place, &json.named_by)?,
        skipped: json.skipped,
        torn: json.torn.unwrap_or(torn),
        limits: json.limits.as_ref().map(|json| limits(place, json)).transpose()?,
        totals: json.totals.as_ref().map(|json| totals(place, json)).transpose()?,
        sem: rows(json.sem.as_deref(), |i, json| sem(place.row("sem", i), json, names))?,
        shm: rows(json.shm.as_deref(), |i, json| shm(place.row("shm", i), json, names))?,
        msg: rows(json.msg.as_deref(), |i, json| msg(place.row("msg", i), json, names))?,
        unreadable: sources(place, "unreadable", &json.unreadable, Namespace::MAX_UNREADABLE)?,
        left_out: LeftOut { sem: json.left_out.sem, shm: json.left_out.shm, msg: json.left_out.msg },
        who: held::who(place, json)?,
    })
}

fn rows<J, T>(
    rows: Option<&[J]>,
    mut read: impl FnMut(usize, &J) -> Result<T, JsonError>,
) -> Result<Option<Vec<T>>, JsonError> {
    rows.map(|rows| rows.iter().enumerate().map(|(i, row)| read(i, row)).collect()).transpose()
}

fn sem(place: Place, json: &SemJson, names: &mut Names) -> Result<SemArray, JsonError> {
    Ok(SemArray {
        key: key(place, &json.key)?,
        semid: json.semid,
        perms: perms(place, &json.perms)?,
        nsems: json.nsems,
        owner: owner(place, &json.owner, names)?,
        otime: json.otime,
        ctime: json.ctime,
    })
}

fn shm(place: Place, json: &ShmJson, names: &mut Names) -> Result<ShmSegment, JsonError> {
    Ok(ShmSegment {
        key: key(place, &json.key)?,
        shmid: json.shmid,
        perms: perms(place, &json.perms)?,
        size: digits(place, "size_u64", &json.size_u64)?,
        cpid: json.cpid,
        lpid: json.lpid,
        nattch: json.nattch,
        owner: owner(place, &json.owner, names)?,
        atime: json.atime,
        dtime: json.dtime,
        ctime: json.ctime,
        rss: digits(place, "rss_u64", &json.rss_u64)?,
        swap: digits(place, "swap_u64", &json.swap_u64)?,
    })
}

fn msg(place: Place, json: &MsgJson, names: &mut Names) -> Result<MsgQueue, JsonError> {
    Ok(MsgQueue {
        key: key(place, &json.key)?,
        msqid: json.msqid,
        perms: perms(place, &json.perms)?,
        cbytes: digits(place, "cbytes_u64", &json.cbytes_u64)?,
        qnum: json.qnum,
        qbytes: json.qbytes_u64.as_deref().map(|bytes| digits(place, "qbytes_u64", bytes)).transpose()?,
        lspid: json.lspid,
        lrpid: json.lrpid,
        owner: owner(place, &json.owner, names)?,
        stime: json.stime,
        rtime: json.rtime,
        ctime: json.ctime,
    })
}

fn owner(place: Place, json: &OwnerJson, names: &mut Names) -> Result<Owner, JsonError> {
    names.users.learn(place, "user", json.uid, json.user.as_deref())?;
    names.users.learn(place, "cuser", json.cuid, json.cuser.as_deref())?;
    names.groups.learn(place, "group", json.gid, json.group.as_deref())?;
    names.groups.learn(place, "cgroup", json.cgid, json.cgroup.as_deref())?;
    Ok(Owner { uid: json.uid, gid: json.gid, cuid: json.cuid, cgid: json.cgid })
}

fn limits(place: Place, json: &LimitsJson) -> Result<Limits, JsonError> {
    Ok(Limits {
        semmsl: json.semmsl,
        semmns: json.semmns,
        semopm: json.semopm,
        semmni: json.semmni,
        semvmx: json.semvmx,
        shmmax: digits(place, "limits.shmmax_u64", &json.shmmax_u64)?,
        shmall: digits(place, "limits.shmall_u64", &json.shmall_u64)?,
        shmmni: json.shmmni,
        shmmin: json.shmmin,
        msgmax: json.msgmax,
        msgmnb: json.msgmnb,
        msgmni: json.msgmni,
    })
}

fn totals(place: Place, json: &TotalsJson) -> Result<Totals, JsonError> {
    Ok(Totals {
        sem_arrays: json.sem_arrays,
        semaphores: json.semaphores,
        shm_segments: json.shm_segments,
        shm_pages: digits(place, "totals.shm_pages_u64", &json.shm_pages_u64)?,
        shm_resident: digits(place, "totals.shm_resident_u64", &json.shm_resident_u64)?,
        shm_swapped: digits(place, "totals.shm_swapped_u64", &json.shm_swapped_u64)?,
        swap_attempts: json.swap_attempts,
        swap_successes: json.swap_successes,
        msg_queues: json.msg_queues,
        msg_messages: json.msg_messages,
        msg_bytes: digits(place, "totals.msg_bytes_u64", &json.msg_bytes_u64)?,
    })
}

fn availability(place: Place, json: &SysvipcJson) -> Result<Availability, JsonError> {
    bounded(place, "sysvipc.evidence", json.evidence.len(), Availability::MAX_EVIDENCE)?;
    let state = SysvipcState::from_name(&json.state)
        .ok_or_else(|| place.not("sysvipc.state", &json.state, "one of the five states"))?;
    let evidence = json.evidence.iter().map(|line| text(place, "sysvipc.evidence", line)).collect::<Result<_, _>>()?;
    Ok(Availability { state, evidence, remedy: text(place, "sysvipc.remedy", &json.remedy)? })
}

fn sources(
    place: Place,
    field: &'static str,
    sources: &[UnreadableJson],
    most: usize,
) -> Result<Vec<Unreadable>, JsonError> {
    bounded(place, field, sources.len(), most)?;
    let read = |json: &UnreadableJson| {
        Ok(Unreadable {
            source: text(place, field, &json.source)?,
            line: json.line.unwrap_or(0),
            error: text(place, field, &json.error)?,
        })
    };
    sources.iter().map(read).collect()
}

fn risks(place: Place, risks: &[RiskJson]) -> Result<Vec<Risk>, JsonError> {
    bounded(place, "at_risk", risks.len(), Risk::MAX)?;
    let read = |json: &RiskJson| {
        let kind = RiskKind::ALL.into_iter().find(|(kind, ..)| kind.name() == json.kind);
        Ok(Risk {
            kind: kind.ok_or_else(|| place.not("at_risk.kind", &json.kind, "the name of a risk"))?.0,
            why: text(place, "at_risk.why", &json.why)?,
            remedy: text(place, "at_risk.remedy", &json.remedy)?,
        })
    };
    risks.iter().map(read).collect()
}

fn named_by(place: Place, value: &str) -> Result<NamedBy, JsonError> {
    let known = NamedBy::ALL.into_iter().find(|(named_by, ..)| named_by.name() == value);
    known.map(|(named_by, ..)| named_by).ok_or_else(|| place.not("named_by", value, "what a name can be"))
}

fn span(place: Place, from: &'static str, to: &'static str, json: &SpanJson) -> Result<Span, JsonError> {
    Ok(Span { from_ms: time(place, from, &json.from)?, to_ms: time(place, to, &json.to)? })
}

pub(super) fn text(place: Place, field: &'static str, value: &str) -> Result<HostText, JsonError> {
    HostText::from_escaped(value).ok_or_else(|| place.not(field, value, "escaped text of at most 256 bytes"))
}

fn time(place: Place, field: &'static str, value: &str) -> Result<i64, JsonError> {
    parse_rfc3339_ms(value).ok_or_else(|| place.not(field, value, "a time like 2026-11-24T03:12:00.000Z"))
}

pub(super) fn digits(place: Place, field: &'static str, value: &str) -> Result<u64, JsonError> {
    let all_digits = value.bytes().all(|b| b.is_ascii_digit());
    let number = if all_digits { value.parse().ok() } else { None };
    number.ok_or_else(|| place.not(field, value, "a string of decimal digits, at most 18446744073709551615"))
}

pub(super) fn key(place: Place, value: &str) -> Result<Key, JsonError> {
    let bytes = value.strip_prefix("0x").and_then(crate::token::from_hex::<4>);
    let key = bytes.map(|bytes| Key(i32::from_be_bytes(bytes)));
    key.ok_or_else(|| place.not("key", value, "0x and eight hexadecimal digits"))
}

fn perms(place: Place, value: &str) -> Result<Perms, JsonError> {
    let octal = value.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let bits = if octal { u32::from_str_radix(value, 8).ok() } else { None };
    bits.map(Perms).ok_or_else(|| place.not("perms", value, "octal digits"))
}

fn boot_id(place: Place, value: &str) -> Result<BootId, JsonError> {
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    let bytes = if lengths == [8, 4, 4, 4, 12] { crate::token::from_hex(&value.replace('-', "")) } else { None };
    bytes.map(BootId).ok_or_else(|| place.not("boot_id", value, "a boot id of 8-4-4-4-12 hexadecimal digits"))
}

pub(super) fn bounded(place: Place, field: &'static str, len: usize, most: usize) -> Result<(), JsonError> {
    if len > most {
        return Err(JsonError::TooMany { place: place.path(), field, len, most });
    }
    Ok(())
}
