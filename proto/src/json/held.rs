//! Who holds the objects: owners with their comms, makers, orphans.

use std::collections::BTreeMap;

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::Namespace;
use highwater_ipc::text::HostText;
use highwater_ipc::who::{Doubt, Grade, Known, Orphan, Who};

use super::read::{JsonError, Place, bounded, text};
use super::shape::{HeldJson, HolderJson, KnownJson, MsgJson, NamespaceJson, OrphanJson, SemJson, ShmJson};
use super::write::Names;

impl HeldJson {
    /// Writes what is known of an object beside its row: `null` where processes could not be looked at.
    pub(super) fn new(who: Option<&Who>, kind: Kind, id: i32, uid: u32) -> Self {
        let known = who.and_then(|who| who.objects.get(&(kind, id)));
        let comms = who.map(|who| who.comms.get(&uid).map(|comms| escaped(comms)).unwrap_or_default());
        HeldJson { owners: Some(comms), ..HeldJson::of(known) }
    }

    fn of(known: Option<&Known>) -> Self {
        let orphan = known.and_then(|known| known.orphan.as_ref());
        HeldJson {
            last_pids: Some(orphan.map(|orphan| orphan.last_pids.clone())),
            owners: None,
            comm: Some(known.and_then(|known| known.comm.as_ref()).map(HostText::escaped)),
            orphan: Some(orphan.map(OrphanJson::from)),
        }
    }

    /// `None` = nothing is known.
    fn known(&self, place: Place) -> Result<Option<Known>, JsonError> {
        let last_pids = self.last_pids.clone().flatten().unwrap_or_default();
        bounded(place, "last_pids", last_pids.len(), Who::MAX_PIDS)?;
        let comm = self.comm.iter().flatten().next().map(|comm| text(place, "comm", comm)).transpose()?;
        let orphan = self.orphan.iter().flatten().next().map(|json| orphan(place, json, last_pids)).transpose()?;
        let known = Known { comm, orphan };
        Ok((known != Known::default()).then_some(known))
    }
}

impl From<&Orphan> for OrphanJson {
    fn from(orphan: &Orphan) -> Self {
        OrphanJson {
            grade: orphan.grade.name().to_owned(),
            doubt: orphan.doubt.name().to_owned(),
            reason: orphan.doubt.reason().to_owned(),
        }
    }
}

/// The owners of a namespace, and what is known of objects that its lists do not show (they were left out, or could not
/// be read).
pub(super) fn holders(namespace: &Namespace, names: Names<'_>) -> (Option<Vec<HolderJson>>, Vec<KnownJson>) {
    let Some(who) = &namespace.who else { return (None, Vec::new()) };
    let holder = |(uid, comms): (&u32, &Vec<HostText>)| HolderJson {
        uid: *uid,
        user: names.users.get(uid).map(HostText::escaped),
        comms: escaped(comms),
    };
    let listed: BTreeMap<(Kind, i32), ()> = rows(namespace).map(|key| (key, ())).collect();
    let unlisted = who.objects.iter().filter(|(key, _)| !listed.contains_key(key));
    let known = |((kind, id), known): (&(Kind, i32), &Known)| KnownJson {
        kind: kind.name().to_owned(),
        id: *id,
        held: HeldJson::of(Some(known)),
    };
    (Some(who.comms.iter().map(holder).collect()), unlisted.map(known).collect())
}

fn rows(namespace: &Namespace) -> impl Iterator<Item = (Kind, i32)> {
    let sem = namespace.sem.iter().flatten().map(|row| (Kind::Sem, row.semid));
    let shm = namespace.shm.iter().flatten().map(|row| (Kind::Shm, row.shmid));
    let msg = namespace.msg.iter().flatten().map(|row| (Kind::Msg, row.msqid));
    sem.chain(shm).chain(msg)
}

/// Who holds the objects of a namespace; `None` where `owners` is null or absent.
pub(super) fn who(place: Place, json: &NamespaceJson) -> Result<Option<Who>, JsonError> {
    let Some(holders) = json.owners.iter().flatten().next() else { return Ok(None) };
    let mut who = Who::default();
    for holder in holders {
        bounded(place, "owners.comms", holder.comms.len(), Who::MAX_COMMS)?;
        let comms = holder.comms.iter().map(|comm| text(place, "owners.comms", comm)).collect::<Result<_, _>>()?;
        who.comms.insert(holder.uid, comms);
    }
    let mut learn = |place: Place, kind: Kind, id: i32, held: &HeldJson| {
        held.known(place).map(|known| known.and_then(|known| who.objects.insert((kind, id), known)))
    };
    for (i, SemJson { semid, held, .. }) in json.sem.iter().flatten().enumerate() {
        learn(place.row("sem", i), Kind::Sem, *semid, held)?;
    }
    for (i, ShmJson { shmid, held, .. }) in json.shm.iter().flatten().enumerate() {
        learn(place.row("shm", i), Kind::Shm, *shmid, held)?;
    }
    for (i, MsgJson { msqid, held, .. }) in json.msg.iter().flatten().enumerate() {
        learn(place.row("msg", i), Kind::Msg, *msqid, held)?;
    }
    for (i, KnownJson { kind: name, id, held }) in json.unlisted.iter().enumerate() {
        let place = place.row("unlisted", i);
        learn(place, kind(place, "kind", name)?, *id, held)?;
    }
    Ok(Some(who))
}

fn orphan(place: Place, json: &OrphanJson, last_pids: Vec<i32>) -> Result<Orphan, JsonError> {
    let grade = Grade::ALL.into_iter().find(|(grade, ..)| grade.name() == json.grade);
    let doubt = Doubt::ALL.into_iter().find(|(doubt, ..)| doubt.name() == json.doubt);
    Ok(Orphan {
        grade: grade.ok_or_else(|| place.not("orphan.grade", &json.grade, "certain, likely or unattached"))?.0,
        doubt: doubt.ok_or_else(|| place.not("orphan.doubt", &json.doubt, "one of the doubts"))?.0,
        last_pids,
    })
}

/// The kind of that name.
pub(super) fn kind(place: Place, field: &'static str, name: &str) -> Result<Kind, JsonError> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| place.not(field, name, "sem, shm or msg"))
}

fn escaped(texts: &[HostText]) -> Vec<String> {
    texts.iter().map(HostText::escaped).collect()
}
