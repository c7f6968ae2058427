//! What happened between two samples.

use highwater_ipc::activity::{Act, Activity, Actor, Did, Peak};
use highwater_ipc::limits::{Resource, Usage};
use highwater_ipc::snapshot::NamespaceId;
use highwater_ipc::text::HostText;
use highwater_ipc::time::{At, format_rfc3339_ms};

use super::held;
use super::read::{JsonError, Place, bounded, digits, key, text};
use super::shape::{ActJson, ActivityJson, ActorJson, InNamespaceJson, PeakJson, UsageJson};
use super::write::Names;

impl ActivityJson {
    /// Writes what happened before the sample of that time.
    pub fn new(activity: &Activity, at: At, names: Names<'_>) -> Self {
        ActivityJson {
            acts: activity.acts.iter().map(|act| ActJson::new(act, at, names)).collect(),
            more_u64: activity.more.to_string(),
            lost_u64: activity.lost.to_string(),
            peaks: activity.peaks.iter().map(|peak| PeakJson::new(peak, at)).collect(),
        }
    }

    pub(super) fn to_activity(&self) -> Result<Activity, JsonError> {
        let top = Place::default();
        bounded(top, "activity.acts", self.acts.len(), Activity::MAX_ACTS)?;
        bounded(top, "activity.peaks", self.peaks.len(), Activity::MAX_PEAKS)?;
        let acts = self.acts.iter().enumerate().map(|(i, json)| act(top.row("activity.acts", i), json));
        let peaks = self.peaks.iter().enumerate().map(|(i, json)| peak(top.row("activity.peaks", i), json));
        Ok(Activity {
            acts: acts.collect::<Result<_, _>>()?,
            more: digits(top, "activity.more_u64", &self.more_u64)?,
            lost: digits(top, "activity.lost_u64", &self.lost_u64)?,
            peaks: peaks.collect::<Result<_, _>>()?,
        })
    }
}

impl ActJson {
    fn new(act: &Act, at: At, names: Names<'_>) -> Self {
        let (did, errno) = match act.did {
            Did::Created => (CREATED, None),
            Did::Removed => (REMOVED, None),
            Did::Refused(errno) => (REFUSED, Some(errno)),
        };
        ActJson {
            at: wall(at, act.first_us),
            did: did.to_owned(),
            errno,
            kind: act.kind.name().to_owned(),
            namespace: act.namespace.map(InNamespaceJson::from),
            by: ActorJson {
                pid: act.by.pid,
                comm: act.by.comm.escaped(),
                uid: act.by.uid,
                user: act.by.uid.and_then(|uid| names.users.get(&uid)).map(HostText::escaped),
                parent: (act.by.parent != HostText::default()).then(|| act.by.parent.escaped()),
            },
            first_us_u64: act.first_us.to_string(),
            last_us_u64: act.last_us.to_string(),
            count_u64: act.count.to_string(),
            key: act.key.to_string(),
            size_u64: act.size.to_string(),
            ids: act.ids.clone(),
            bound_by: act.bound_by.map(UsageJson::from),
        }
    }
}

impl PeakJson {
    fn new(peak: &Peak, at: At) -> Self {
        PeakJson {
            at: wall(at, peak.boot_us),
            namespace: peak.namespace.into(),
            boot_us_u64: peak.boot_us.to_string(),
            sem_arrays_u64: peak.sem_arrays.to_string(),
            semaphores_u64: peak.semaphores.to_string(),
        }
    }
}

impl From<NamespaceId> for InNamespaceJson {
    fn from(id: NamespaceId) -> Self {
        InNamespaceJson { id: id.inode, instance: id.instance.to_string() }
    }
}

impl From<Usage> for UsageJson {
    fn from(usage: Usage) -> Self {
        UsageJson {
            resource: usage.resource.name().to_owned(),
            used_u64: usage.used.to_string(),
            limit_u64: usage.limit.to_string(),
        }
    }
}

const CREATED: &str = "created";
const REMOVED: &str = "removed";
const REFUSED: &str = "refused";

/// The wall clock at an instant of the boot clock, by a sample near it.
fn wall(at: At, boot_us: u64) -> String {
    let ms = i128::from(at.wall_ms) + (i128::from(boot_us) - i128::from(at.boot_us)).div_euclid(1000);
    let nearest = if ms < 0 { i64::MIN } else { i64::MAX };
    format_rfc3339_ms(i64::try_from(ms).unwrap_or(nearest))
}

fn actor(place: Place, json: &ActorJson) -> Result<Actor, JsonError> {
    let parent = json.parent.as_ref().map(|parent| text(place, "by.parent", parent)).transpose()?;
    let comm = text(place, "by.comm", &json.comm)?;
    Ok(Actor { pid: json.pid, comm, uid: json.uid, parent: parent.unwrap_or_default() })
}

fn act(place: Place, json: &ActJson) -> Result<Act, JsonError> {
    bounded(place, "ids", json.ids.len(), Activity::MAX_IDS)?;
    let did = match (json.did.as_str(), json.errno) {
        (CREATED, None) => Did::Created,
        (REMOVED, None) => Did::Removed,
        (REFUSED, Some(errno)) => Did::Refused(errno),
        _ => return Err(place.not("did", &json.did, "created or removed, or refused with an errno")),
    };
    Ok(Act {
        did,
        kind: held::kind(place, "kind", &json.kind)?,
        namespace: json.namespace.as_ref().map(|json| namespace(place, json)).transpose()?,
        by: actor(place, &json.by)?,
        first_us: digits(place, "first_us_u64", &json.first_us_u64)?,
        last_us: digits(place, "last_us_u64", &json.last_us_u64)?,
        count: digits(place, "count_u64", &json.count_u64)?,
        key: key(place, &json.key)?,
        size: digits(place, "size_u64", &json.size_u64)?,
        ids: json.ids.clone(),
        bound_by: json.bound_by.as_ref().map(|json| usage(place, json)).transpose()?,
    })
}

fn peak(place: Place, json: &PeakJson) -> Result<Peak, JsonError> {
    Ok(Peak {
        namespace: namespace(place, &json.namespace)?,
        boot_us: digits(place, "boot_us_u64", &json.boot_us_u64)?,
        sem_arrays: digits(place, "sem_arrays_u64", &json.sem_arrays_u64)?,
        semaphores: digits(place, "semaphores_u64", &json.semaphores_u64)?,
    })
}

fn namespace(place: Place, json: &InNamespaceJson) -> Result<NamespaceId, JsonError> {
    Ok(NamespaceId { inode: json.id, instance: digits(place, "namespace.instance", &json.instance)? })
}

fn usage(place: Place, json: &UsageJson) -> Result<Usage, JsonError> {
    let resource = Resource::ALL.into_iter().find(|resource| resource.name() == json.resource);
    Ok(Usage {
        resource: resource.ok_or_else(|| place.not("bound_by.resource", &json.resource, "the name of a limit"))?,
        used: digits(place, "bound_by.used_u64", &json.used_u64)?,
        limit: digits(place, "bound_by.limit_u64", &json.limit_u64)?,
    })
}
