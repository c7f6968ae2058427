//! Domain to JSON.

use std::collections::BTreeMap;

use highwater_ipc::activity::Activity;
use highwater_ipc::limits::{Limits, Totals};
use highwater_ipc::object::{Kind, MsgQueue, Owner, SemArray, ShmSegment};
use highwater_ipc::risk::Risk;
use highwater_ipc::snapshot::{LeftOut, Namespace, Snapshot, State, Unreadable};
use highwater_ipc::text::HostText;
use highwater_ipc::time::format_rfc3339_ms;

use super::held::holders;
use super::shape::{
    ActivityJson, HeldJson, LeftOutJson, LimitsJson, MsgJson, NamespaceJson, OwnerJson, RiskJson, SemJson, ShmJson,
    SnapshotJson, SpanJson, SysvipcJson, TotalsJson, UnreadableJson,
};

/// What is known about a snapshot beside what was sampled. All of it is optional: an agent alone knows its host's name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Envelope {
    /// The host's name.
    pub host: Option<HostText>,
    /// The host's id, an opaque text.
    pub host_id: Option<String>,
    /// The instant that was asked for, milliseconds since 1970.
    pub asked_at_ms: Option<i64>,
    /// The span over which this state was confirmed, by the host's wall clock.
    pub covered: Option<Span>,
    /// Other stretches that hold the instant asked for, after the clock stepped back.
    pub also: Option<Vec<Span>>,
    /// When the collector took the sample in, by its own clock, milliseconds since 1970.
    pub received_at_ms: Option<i64>,
    /// The host's wall clock minus the collector's, milliseconds.
    pub skew_ms: Option<i64>,
    /// What happened since the sample before; `None` = nothing, or nobody looked.
    pub activity: Option<Activity>,
}

/// A span of time, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Its begin.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
}

/// The names of a host's users and groups.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// By uid.
    pub users: &'a BTreeMap<u32, HostText>,
    /// By gid.
    pub groups: &'a BTreeMap<u32, HostText>,
}

impl<'a> Names<'a> {
    /// The names in a state.
    pub fn of(state: &'a State) -> Self {
        Names { users: &state.users, groups: &state.groups }
    }
}

impl SnapshotJson {
    /// Writes a snapshot. Wall times outside the years 0 to 9999 become the nearest instant inside.
    pub fn new(snapshot: &Snapshot, envelope: &Envelope) -> Self {
        let state = &snapshot.state;
        let names = Names::of(state);
        SnapshotJson {
            host: envelope.host.as_ref().map(HostText::escaped),
            host_id: envelope.host_id.clone(),
            asked_at: envelope.asked_at_ms.map(format_rfc3339_ms),
            at: format_rfc3339_ms(snapshot.at.wall_ms),
            covered: envelope.covered.map(SpanJson::from),
            also: envelope.also.as_ref().map(|spans| spans.iter().copied().map(SpanJson::from).collect()),
            received_at: envelope.received_at_ms.map(format_rfc3339_ms),
            skew_ms: envelope.skew_ms,
            interval_ms: state.interval_ms,
            took_us: snapshot.took_us,
            torn: state.namespaces.iter().any(|namespace| namespace.torn),
            boot_id: state.boot_id.to_string(),
            boot_us_u64: snapshot.at.boot_us.to_string(),
            tz: state.zone.escaped(),
            page_size: state.page_size,
            sysvipc: SysvipcJson {
                state: state.availability.state.name().to_owned(),
                evidence: state.availability.evidence.iter().map(HostText::escaped).collect(),
                remedy: state.availability.remedy.escaped(),
            },
            at_risk: state.risks.iter().map(RiskJson::from).collect(),
            unseen: state.unseen.iter().map(UnreadableJson::from).collect(),
            namespaces: state.namespaces.iter().map(|namespace| NamespaceJson::new(namespace, names)).collect(),
            activity: envelope.activity.as_ref().map(|activity| ActivityJson::new(activity, snapshot.at, names)),
            notes: Vec::new(),
        }
    }
}

impl NamespaceJson {
    /// Writes a namespace.
    pub fn new(namespace: &Namespace, names: Names<'_>) -> Self {
        let who = namespace.who.as_ref();
        let held = |kind, id, owner: Owner| HeldJson::new(who, kind, id, owner.uid);
        let (owners, unlisted) = holders(namespace, names);
        NamespaceJson {
            id: namespace.id.inode,
            instance: namespace.id.instance.to_string(),
            name: namespace.name.as_ref().map(HostText::escaped),
            named_by: namespace.named_by.name().to_owned(),
            skipped: namespace.skipped,
            complete: namespace.complete(),
            torn: Some(namespace.torn),
            unreadable: namespace.unreadable.iter().map(UnreadableJson::from).collect(),
            left_out: LeftOutJson::from(namespace.left_out),
            limits: namespace.limits.as_ref().map(LimitsJson::from),
            totals: namespace.totals.as_ref().map(TotalsJson::from),
            owners: Some(owners),
            sem: rows(namespace.sem.as_deref(), |array| SemJson {
                held: held(Kind::Sem, array.semid, array.owner),
                ..SemJson::new(array, names)
            }),
            shm: rows(namespace.shm.as_deref(), |segment| ShmJson {
                held: held(Kind::Shm, segment.shmid, segment.owner),
                ..ShmJson::new(segment, names)
            }),
            msg: rows(namespace.msg.as_deref(), |queue| MsgJson {
                held: held(Kind::Msg, queue.msqid, queue.owner),
                ..MsgJson::new(queue, names)
            }),
            unlisted,
        }
    }
}

fn rows<T, J>(objects: Option<&[T]>, write: impl Fn(&T) -> J) -> Option<Vec<J>> {
    objects.map(|objects| objects.iter().map(write).collect())
}

impl SemJson {
    /// Writes an array alone: who holds it is told in a snapshot.
    pub fn new(array: &SemArray, names: Names<'_>) -> Self {
        SemJson {
            key: array.key.to_string(),
            semid: array.semid,
            perms: array.perms.to_string(),
            nsems: array.nsems,
            owner: OwnerJson::new(array.owner, names),
            otime: array.otime,
            ctime: array.ctime,
            held: HeldJson::default(),
        }
    }
}

impl ShmJson {
    /// Writes a segment, likewise.
    pub fn new(segment: &ShmSegment, names: Names<'_>) -> Self {
        ShmJson {
            key: segment.key.to_string(),
            shmid: segment.shmid,
            perms: segment.perms.to_string(),
            size_u64: segment.size.to_string(),
            cpid: segment.cpid,
            lpid: segment.lpid,
            nattch: segment.nattch,
            owner: OwnerJson::new(segment.owner, names),
            atime: segment.atime,
            dtime: segment.dtime,
            ctime: segment.ctime,
            rss_u64: segment.rss.to_string(),
            swap_u64: segment.swap.to_string(),
            held: HeldJson::default(),
        }
    }
}

impl MsgJson {
    /// Writes a queue, likewise.
    pub fn new(queue: &MsgQueue, names: Names<'_>) -> Self {
        MsgJson {
            key: queue.key.to_string(),
            msqid: queue.msqid,
            perms: queue.perms.to_string(),
            cbytes_u64: queue.cbytes.to_string(),
            qnum: queue.qnum,
            qbytes_u64: queue.qbytes.map(|bytes| bytes.to_string()),
            lspid: queue.lspid,
            lrpid: queue.lrpid,
            owner: OwnerJson::new(queue.owner, names),
            stime: queue.stime,
            rtime: queue.rtime,
            ctime: queue.ctime,
            held: HeldJson::default(),
        }
    }
}

impl OwnerJson {
    /// Writes owner and creator with their names.
    pub fn new(owner: Owner, names: Names<'_>) -> Self {
        let user = |uid| names.users.get(&uid).map(HostText::escaped);
        let group = |gid| names.groups.get(&gid).map(HostText::escaped);
        let Owner { uid, gid, cuid, cgid } = owner;
        OwnerJson { uid, gid, cuid, cgid, user: user(uid), group: group(gid), cuser: user(cuid), cgroup: group(cgid) }
    }
}

impl From<Span> for SpanJson {
    fn from(span: Span) -> Self {
        SpanJson { from: format_rfc3339_ms(span.from_ms), to: format_rfc3339_ms(span.to_ms) }
    }
}

impl From<&Unreadable> for UnreadableJson {
    fn from(unreadable: &Unreadable) -> Self {
        UnreadableJson {
            source: unreadable.source.escaped(),
            line: (unreadable.line > 0).then_some(unreadable.line),
            error: unreadable.error.escaped(),
        }
    }
}

impl From<&Risk> for RiskJson {
    fn from(Risk { kind, why, remedy }: &Risk) -> Self {
        RiskJson { kind: kind.name().to_owned(), why: why.escaped(), remedy: remedy.escaped() }
    }
}

impl From<LeftOut> for LeftOutJson {
    fn from(LeftOut { sem, shm, msg }: LeftOut) -> Self {
        LeftOutJson { sem, shm, msg }
    }
}

impl From<&Limits> for LimitsJson {
    fn from(limits: &Limits) -> Self {
        LimitsJson {
            semmsl: limits.semmsl,
            semmns: limits.semmns,
            semopm: limits.semopm,
            semmni: limits.semmni,
            semvmx: limits.semvmx,
            shmmax_u64: limits.shmmax.to_string(),
            shmall_u64: limits.shmall.to_string(),
            shmmni: limits.shmmni,
            shmmin: limits.shmmin,
            msgmax: limits.msgmax,
            msgmnb: limits.msgmnb,
            msgmni: limits.msgmni,
        }
    }
}

impl From<&Totals> for TotalsJson {
    fn from(totals: &Totals) -> Self {
        TotalsJson {
            sem_arrays: totals.sem_arrays,
            semaphores: totals.semaphores,
            shm_segments: totals.shm_segments,
            shm_pages_u64: totals.shm_pages.to_string(),
            shm_resident_u64: totals.shm_resident.to_string(),
            shm_swapped_u64: totals.shm_swapped.to_string(),
            swap_attempts: totals.swap_attempts,
            swap_successes: totals.swap_successes,
            msg_queues: totals.msg_queues,
            msg_messages: totals.msg_messages,
            msg_bytes_u64: totals.msg_bytes.to_string(),
        }
    }
}
