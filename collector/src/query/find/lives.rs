//! The lives of the objects that are looked for, followed record after record of one host. Pure.
//!
//! What one life is: an object stays itself while each sample that reads its list shows its id with the same fixed fields
//! ([`highwater_ipc::object::Object::is_same_as`]), also across a gap within one boot. A list that was not read, or lacks
//! rows, says nothing of what it does not show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_ipc::object::{Key, Kind};
use highwater_ipc::snapshot::{Namespace, NamespaceId, Snapshot, State};
use highwater_ipc::text::HostText;

use super::expr::Expr;
use super::field::{comm_of, objects};
use crate::query::change::{AnyObject, is_whole, without_equal_ends};
use crate::query::diff::ObjectId;
use crate::query::fold::Said;
use crate::query::story::sees_every_namespace;
use crate::query::walk::Step;
use crate::store::history::Stretch;

/// One object's life as far as it was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Where it is.
    pub namespace: NamespaceId,
    /// What that place is called, as claimed.
    pub namespace_name: Option<HostText>,
    /// Of which kind it is.
    pub kind: Kind,
    /// semid, shmid or msqid.
    pub id: i32,
    /// Its key in the last sample in which it is what is looked for; so are the owner and its names.
    pub key: Key,
    /// Its owner.
    pub uid: u32,
    /// The owner's name.
    pub user: Option<HostText>,
    /// The program's comm: of its maker or last user, else the only one of its owner's processes.
    pub comm: Option<HostText>,
    /// First sample that shows it, host's wall clock, milliseconds; not before the span begins.
    pub from_ms: i64,
    /// What that sample was.
    pub from_is: FromIs,
    /// Last sample that shows it, and why none after it does; `None` = it is there at the end of the span.
    pub to: Option<(i64, ToIs)>,
}

/// What the first sample that shows an object was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromIs {
    /// The sample before it read the list and did not show it: it was made in between.
    Created,
    /// It may have been there before: the first sample of the span or of the host, or the first to read that list.
    Seen,
}

/// Why no later sample shows an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToIs {
    /// The sample after it read the list and does not show it, or shows another object with its id.
    Removed,
    /// The host booted anew.
    Reboot,
    /// There is none, or none that could see it.
    LastSample,
}

impl FromIs {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            FromIs::Created => "created",
            FromIs::Seen => "seen",
        }
    }
}

impl ToIs {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            ToIs::Removed => "removed",
            ToIs::Reboot => "reboot",
            ToIs::LastSample => "last_sample",
        }
    }
}

/// The objects of a state that match, as lives of that one sample.
pub(super) fn lives_in(expr: &Expr, snapshot: &Snapshot, to: Option<(i64, ToIs)>) -> Vec<Life> {
    let state = &snapshot.state;
    let mut lives = Vec::new();
    for namespace in &state.namespaces {
        for object in objects(namespace).filter(|object| expr.matches(state, namespace, object)) {
            let life = Life::new(state, namespace, &object, (snapshot.at.wall_ms, FromIs::Seen));
            lives.push(Life { to, ..life });
        }
    }
    lives
}

impl Life {
    fn new(state: &State, namespace: &Namespace, object: &AnyObject, (from_ms, from_is): (i64, FromIs)) -> Self {
        let uid = object.owner().uid;
        Self {
            namespace: namespace.id,
            namespace_name: namespace.name.clone(),
            kind: object.kind(),
            id: object.id(),
            key: object.key(),
            uid,
            user: state.users.get(&uid).cloned(),
            comm: comm_of(namespace, object).cloned(),
            from_ms,
            from_is,
            to: None,
        }
    }

    /// Where it stands among the lives of its host.
    pub fn place(&self) -> (NamespaceId, Kind, i32, i64) {
        (self.namespace, self.kind, self.id, self.from_ms)
    }
}

/// One object that is there, whether or not it ever matched.
#[derive(Clone, Debug)]
struct Alive {
    object: AnyObject,
    /// The first sample of the span that shows it; `None` = so far only one before the span does.
    from: Option<(i64, FromIs)>,
    /// As it was in the last sample in which it matched.
    matched: Option<Life>,
    /// The last sample that shows it, if its list could not be read whole since.
    hidden_ms: Option<i64>,
}

/// The lives of one host, followed.
#[derive(Debug)]
pub(super) struct Lives<'e> {
    expr: &'e Expr,
    /// What every object that can ever match fulfils.
    for_life: Expr,
    since_ms: i64,
    until_ms: i64,
    alive: BTreeMap<ObjectId, Alive>,
    /// Lists of this boot that were read whole: what they newly show was made since.
    known: BTreeSet<(NamespaceId, Kind)>,
    last: Option<(Arc<Snapshot>, Arc<Stretch>)>,
    done: Vec<Life>,
    cost: usize,
}

impl<'e> Lives<'e> {
    /// Begins with nothing known; the span is of the host's clock, milliseconds, both included.
    pub(super) fn new(expr: &'e Expr, (since_ms, until_ms): (i64, i64)) -> Self {
        let (alive, known) = (BTreeMap::new(), BTreeSet::new());
        Self {
            for_life: expr.for_life(),
            expr,
            since_ms,
            until_ms,
            alive,
            known,
            last: None,
            done: Vec::new(),
            cost: 0,
        }
    }

    /// Goes on with the next record.
    pub(super) fn follow(&mut self, step: &Step) {
        let Said::Sample { snapshot, .. } = &step.said else { return };
        let before = self.last.replace((snapshot.clone(), step.stretch.clone()));
        let state = &snapshot.state;
        let gone_ms = match (&before, step.prev_wall_ms) {
            (Some((_, stretch)), Some(prev)) if stretch.place == step.stretch.place => prev,
            (Some((_, stretch)), _) => stretch.end_wall_ms,
            (None, _) => snapshot.at.wall_ms,
        };
        let last = before.as_ref().map(|(snapshot, _)| &snapshot.state);
        let is_reboot = last.is_some_and(|last| last.boot_id != state.boot_id);
        if is_reboot {
            self.close(gone_ms, ToIs::Reboot, |_| true);
            self.known.clear();
        }
        let is_new_epoch =
            before.as_ref().is_some_and(|(_, stretch)| stretch.place.epoch() != step.stretch.place.epoch());
        let unseen = if is_new_epoch && !sees_every_namespace(state) { ToIs::LastSample } else { ToIs::Removed };
        let there: BTreeSet<NamespaceId> = state.namespaces.iter().map(|n| n.id).collect();
        self.close(gone_ms, unseen, |(namespace, ..)| !there.contains(namespace));
        self.known.retain(|(namespace, _)| there.contains(namespace));
        // Before the span it only says what was there: nothing of it is in the span unless a later sample shows it, too.
        let is_before = step.is_before((self.since_ms, self.until_ms));
        let from = (!is_before).then_some(snapshot.at.wall_ms.max(self.since_ms));
        for namespace in &state.namespaces {
            let earlier = last.filter(|_| !is_reboot).and_then(|s| s.namespaces.iter().find(|n| n.id == namespace.id));
            let names_differ = last.is_some_and(|last| last.users != state.users || last.groups != state.groups);
            let differs = names_differ || earlier.is_none_or(|earlier| earlier.who != namespace.who);
            let created = is_reboot || !step.opening;
            let visit = Visit { state, namespace, earlier, from, gone_ms, is_reboot, created, differs };
            Kind::ALL.into_iter().for_each(|kind| self.visit(&visit, kind));
        }
    }

    /// One list of one sample.
    fn visit(&mut self, visit: &Visit<'_>, kind: Kind) {
        let namespace = visit.namespace;
        if !self.expr.kinds.has(kind) {
            return;
        }
        if !namespace.has(kind) {
            self.hide((namespace.id, kind), visit.gone_ms, |_| false);
            return;
        }
        let is_equal = visit.earlier.is_some_and(|earlier| same_list(earlier, namespace, kind));
        if is_equal && !visit.differs && !visit.is_first_in_span(self) {
            return;
        }
        let is_known = visit.is_reboot || self.known.contains(&(namespace.id, kind));
        let is_whole_now = is_whole(namespace, kind);
        let whole = visit.earlier.filter(|earlier| earlier.has(kind) && is_whole(earlier, kind) && is_whole_now);
        if let Some(earlier) = whole.filter(|_| !visit.differs && !visit.is_first_in_span(self)) {
            // One change in 32,000 rows is the usual case: what begins and ends alike is passed over.
            let (old, new) = differing(earlier, namespace, kind);
            let shown: BTreeSet<i32> = new.iter().map(AnyObject::id).collect();
            let gone: Vec<i32> = old.iter().map(AnyObject::id).filter(|id| !shown.contains(id)).collect();
            self.cost_of(old.len().saturating_add(new.len()));
            gone.into_iter().for_each(|id| self.close_one((namespace.id, kind, id), visit.gone_ms));
            new.iter().for_each(|object| self.show(visit, object, visit.created && is_known));
            return;
        }
        let mut shown = BTreeSet::new();
        for object in objects(namespace).filter(|object| object.kind() == kind) {
            shown.insert(object.id());
            self.show(visit, &object, visit.created && is_known);
        }
        self.cost_of(shown.len());
        if is_whole_now {
            let is_gone = |(n, k, id): &ObjectId| (*n, *k) == (namespace.id, kind) && !shown.contains(id);
            self.close(visit.gone_ms, ToIs::Removed, is_gone);
            self.known.insert((namespace.id, kind));
        } else {
            self.hide((namespace.id, kind), visit.gone_ms, |id| shown.contains(&id));
        }
    }

    fn cost_of(&mut self, rows: usize) {
        self.cost = self.cost.saturating_add(rows);
    }

    /// One object of one sample.
    fn show(&mut self, visit: &Visit<'_>, object: &AnyObject, is_created: bool) {
        let key = (visit.namespace.id, object.kind(), object.id());
        if self.alive.get(&key).is_some_and(|alive| !is_same(object, &alive.object)) {
            self.close_one(key, visit.gone_ms);
        }
        if !self.for_life.matches(visit.state, visit.namespace, object) {
            return;
        }
        let from_is = if is_created { FromIs::Created } else { FromIs::Seen };
        let alive = self.alive.entry(key).or_insert_with(|| Alive {
            object: *object,
            from: visit.from.map(|from_ms| (from_ms, from_is)),
            matched: None,
            hidden_ms: None,
        });
        alive.object = *object;
        alive.hidden_ms = None;
        // One that an earlier sample showed was not made in the span.
        alive.from = alive.from.or(visit.from.map(|from_ms| (from_ms, FromIs::Seen)));
        if let Some(from) = alive.from
            && self.expr.matches(visit.state, visit.namespace, object)
        {
            alive.matched = Some(Life::new(visit.state, visit.namespace, object, from));
        }
    }

    /// These are no longer there.
    fn close(&mut self, gone_ms: i64, why: ToIs, is_gone: impl Fn(&ObjectId) -> bool) {
        let (done, until_ms) = (&mut self.done, self.until_ms);
        self.alive.retain(|id, alive| {
            let gone = is_gone(id);
            if gone && let Some(life) = alive.matched.take() {
                done.push(Life { to: Some((alive.hidden_ms.unwrap_or(gone_ms).min(until_ms), why)), ..life });
            }
            !gone
        });
    }

    /// A list that was not read whole does not show these: they may be there.
    fn hide(&mut self, (namespace, kind): (NamespaceId, Kind), gone_ms: i64, is_shown: impl Fn(i32) -> bool) {
        let list = (namespace, kind, i32::MIN)..=(namespace, kind, i32::MAX);
        for ((.., id), alive) in self.alive.range_mut(list) {
            if !is_shown(*id) {
                alive.hidden_ms.get_or_insert(gone_ms);
            }
        }
    }

    /// This one was removed.
    fn close_one(&mut self, id: ObjectId, gone_ms: i64) {
        if let Some(Alive { matched: Some(life), hidden_ms, .. }) = self.alive.remove(&id) {
            let to_ms = hidden_ms.unwrap_or(gone_ms).min(self.until_ms);
            self.done.push(Life { to: Some((to_ms, ToIs::Removed)), ..life });
        }
    }

    /// Rows that were looked at one by one so far: what following has cost.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// The span is over: `is_held` = what the last sample shows is held at its end. In order of [`Life::place`].
    pub(super) fn finish(mut self, is_held: bool) -> Vec<Life> {
        let end_ms = self.last.as_ref().map_or(self.until_ms, |(_, stretch)| stretch.end_wall_ms.min(self.until_ms));
        for alive in std::mem::take(&mut self.alive).into_values() {
            let last_ms = alive.hidden_ms.or((!is_held).then_some(end_ms));
            let to = last_ms.map(|last_ms| (last_ms.min(self.until_ms), ToIs::LastSample));
            self.done.extend(alive.matched.map(|life| Life { to, ..life }));
        }
        self.done.sort_by_key(Life::place);
        self.done
    }

    /// Whether any object that is followed was shown only before the span.
    fn is_waiting(&self) -> bool {
        self.alive.values().any(|alive| alive.from.is_none())
    }
}

/// One namespace of one sample.
struct Visit<'s> {
    state: &'s State,
    namespace: &'s Namespace,
    /// As the sample before it in the same boot shows it.
    earlier: Option<&'s Namespace>,
    /// When that is in the span; `None` = before it.
    from: Option<i64>,
    /// The last sample that can show what this one lacks.
    gone_ms: i64,
    is_reboot: bool,
    /// Whether what a known list newly shows was made since the sample before.
    created: bool,
    /// Whether what is known beside the rows differs from the sample before.
    differs: bool,
}

impl Visit<'_> {
    fn is_first_in_span(&self, lives: &Lives<'_>) -> bool {
        self.from.is_some() && lives.is_waiting()
    }
}

/// What is left of the two lists of one kind without what they begin and end with alike.
fn differing(a: &Namespace, b: &Namespace, kind: Kind) -> (Vec<AnyObject>, Vec<AnyObject>) {
    fn of<T: Copy + PartialEq>(
        a: &Option<Vec<T>>,
        b: &Option<Vec<T>>,
        any: fn(T) -> AnyObject,
    ) -> (Vec<AnyObject>, Vec<AnyObject>) {
        let (a, b) = without_equal_ends(a.as_deref().unwrap_or_default(), b.as_deref().unwrap_or_default());
        (a.iter().copied().map(any).collect(), b.iter().copied().map(any).collect())
    }
    match kind {
        Kind::Sem => of(&a.sem, &b.sem, AnyObject::Sem),
        Kind::Shm => of(&a.shm, &b.shm, AnyObject::Shm),
        Kind::Msg => of(&a.msg, &b.msg, AnyObject::Msg),
    }
}

fn same_list(a: &Namespace, b: &Namespace, kind: Kind) -> bool {
    let same = match kind {
        Kind::Sem => a.sem == b.sem,
        Kind::Shm => a.shm == b.shm,
        Kind::Msg => a.msg == b.msg,
    };
    same && is_whole(a, kind) == is_whole(b, kind)
}

fn is_same(a: &AnyObject, b: &AnyObject) -> bool {
    use highwater_ipc::object::Object as _;
    match (a, b) {
        (AnyObject::Sem(a), AnyObject::Sem(b)) => a.is_same_as(b),
        (AnyObject::Shm(a), AnyObject::Shm(b)) => a.is_same_as(b),
        (AnyObject::Msg(a), AnyObject::Msg(b)) => a.is_same_as(b),
        _ => false,
    }
}
