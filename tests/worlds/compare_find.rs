//! `find`, against a look at every sample.

use std::collections::BTreeSet;

use highwater::query::change::AnyObject;
use highwater::query::find::{Expr, Found, Life, Question, When, find as ask_find};
use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, NamespaceId, State};
use highwater_ipc::text::HostText;
use highwater_tests::chance::Chance;

use crate::compare::{Compared, unanswered};
use crate::content;
use crate::counting::{listed, uid};
use crate::truth::{Expected, Of};
use crate::world::Kept;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Term {
    Uid(u32),
    Cuid(u32),
    Id(i32),
    Inode(u64),
    Orphan,
    Comm(&'static str),
    Nsems(u32),
    SizeAbove(u64),
    QnumFrom(u64),
}

impl Term {
    /// One that asks for what some object has, mostly.
    pub(crate) fn any(chance: &mut Chance) -> Self {
        match chance.below(9) {
            0 => Term::Uid(content::uid(chance)),
            1 => Term::Cuid(content::uid(chance)),
            2 => Term::Id(content::id(chance)),
            3 => Term::Inode(content::OWN + chance.below(4)),
            4 => Term::Orphan,
            5 => Term::Comm(chance.pick(&["www-data", "postgres"])),
            6 => Term::Nsems(1 + u32::try_from(chance.below(4)).unwrap()),
            7 => Term::SizeAbove(chance.pick(&[0, 1_000, u64::MAX - 2])),
            _ => Term::QnumFrom(chance.below(9)),
        }
    }

    fn text(self) -> String {
        match self {
            Term::Uid(uid) => format!("uid={uid}"),
            Term::Cuid(cuid) => format!("cuid={cuid}"),
            Term::Id(id) => format!("id={id}"),
            Term::Inode(inode) => format!("namespace={inode}"),
            Term::Orphan => "orphan=any".to_owned(),
            Term::Comm(comm) => format!("comm={comm}"),
            Term::Nsems(nsems) => format!("sem.nsems={nsems}"),
            Term::SizeAbove(size) => format!("shm.size>{size}"),
            Term::QnumFrom(qnum) => format!("msg.qnum>={qnum}"),
        }
    }

    fn holds(self, namespace: &Namespace, object: &AnyObject) -> bool {
        match (self, object) {
            (Term::Uid(of), _) => uid(object) == of,
            (Term::Cuid(of), AnyObject::Sem(o)) => o.owner.cuid == of,
            (Term::Cuid(of), AnyObject::Shm(o)) => o.owner.cuid == of,
            (Term::Cuid(of), AnyObject::Msg(o)) => o.owner.cuid == of,
            (Term::Id(id), _) => object.id() == id,
            (Term::Inode(inode), _) => namespace.id.inode == inode,
            (Term::Orphan, _) => {
                let known = namespace.who.as_ref().and_then(|w| w.objects.get(&(object.kind(), object.id())));
                known.is_some_and(|known| known.orphan.is_some())
            }
            (Term::Comm(comm), _) => comm_of(namespace, object).is_some_and(|is| is.as_bytes() == comm.as_bytes()),
            (Term::Nsems(nsems), AnyObject::Sem(array)) => array.nsems == nsems,
            (Term::SizeAbove(size), AnyObject::Shm(segment)) => segment.size > size,
            (Term::QnumFrom(qnum), AnyObject::Msg(queue)) => queue.qnum >= qnum,
            _ => false,
        }
    }
}

/// The comm that is known of an object, else the only one of its owner.
fn comm_of(namespace: &Namespace, object: &AnyObject) -> Option<HostText> {
    let who = namespace.who.as_ref()?;
    let known = who.objects.get(&(object.kind(), object.id())).and_then(|known| known.comm.clone());
    known.or_else(|| match who.comms.get(&uid(object)).map(Vec::as_slice) {
        Some([only]) => Some(only.clone()),
        _ => None,
    })
}

/// Which object.
type Which = (NamespaceId, Kind, i32);

/// What is told of an object in one sample.
type Told = (Which, i32, u32, Option<HostText>, Option<HostText>, i64);

fn told(life: &Life) -> Told {
    let which = (life.namespace, life.kind, life.id);
    (which, life.key.0, life.uid, life.user.clone(), life.comm.clone(), life.from_ms)
}

/// What of a state is looked for.
fn matching<'s>(state: &'s State, terms: &[Term]) -> Vec<(&'s Namespace, AnyObject)> {
    let all = state.namespaces.iter().flat_map(|namespace| {
        Kind::ALL
            .into_iter()
            .flat_map(move |kind| listed(Some(namespace), kind).into_iter().map(move |object| (namespace, object)))
    });
    all.filter(|(namespace, object)| terms.iter().all(|term| term.holds(namespace, object))).collect()
}

/// What is told of a sample's objects.
fn expected(this: &Compared<'_>, index: Option<usize>, terms: &[Term]) -> Vec<Told> {
    let Some(snapshot) = index.and_then(|index| this.truth.entries[index].snapshot()) else { return Vec::new() };
    let state = &snapshot.state;
    let tell = |(namespace, object): (&Namespace, AnyObject)| {
        let which = (namespace.id, object.kind(), object.id());
        let user = state.users.get(&uid(&object)).cloned();
        (which, object.key().0, uid(&object), user, comm_of(namespace, &object), snapshot.at.wall_ms)
    };
    let mut all: Vec<Told> = matching(state, terms).into_iter().map(tell).collect();
    all.sort_by_key(|(which, ..)| *which);
    all
}

/// Asks for all pages.
async fn ask(this: &mut Compared<'_>, terms: &[Term], when: When, most: usize) -> Kept<Vec<Life>> {
    let mut text = format!("host=h{}.", this.host.0);
    terms.iter().for_each(|term| text += &format!(",{}", term.text()));
    let expr: Expr = text.parse().or_else(unanswered)?;
    let mut question = Question { expr, when, most, after: None };
    let mut lives = Vec::new();
    loop {
        let Found { matches, next, .. } =
            ask_find(&mut this.reading, &question, this.now_ms).await.or_else(unanswered)?;
        lives.extend(matches.into_iter().map(|found| found.life));
        question.after = next;
        if question.after.is_none() {
            return Ok(lives);
        }
    }
}

/// `find` in the present, at an instant, and between two.
pub(crate) async fn find(this: &mut Compared<'_>, (from_ms, to_ms): (i64, i64), chance: &mut Chance) -> Kept {
    let mut terms = vec![Term::any(chance)];
    if chance.one_in(3) {
        terms.push(chance.pick(&[Term::Uid(33), Term::Cuid(0), Term::Orphan, Term::Id(0)]));
    }
    let most = if chance.one_in(3) { 1 } else { 1_000 };
    let present: Vec<Told> = ask(this, &terms, When::Now, most).await?.iter().map(told).collect();
    let wanted = expected(this, this.truth.last().map(|(index, _)| index), &terms);
    if present != wanted {
        return this.wrong(format!("{terms:?} are now {present:?} and not {wanted:?}"));
    }
    past(this, (from_ms, to_ms), (&terms, most)).await
}

/// The same at an instant and between two.
pub(crate) async fn past(
    this: &mut Compared<'_>,
    (from_ms, to_ms): (i64, i64),
    (terms, most): (&[Term], usize),
) -> Kept {
    // Instants are of the collector's clock here, and none is later than its own.
    let skew_ms = this.host_now_ms - this.now_ms;
    let (from_ms, to_ms) = (from_ms.min(this.host_now_ms), to_ms.min(this.host_now_ms));
    let then: Vec<Told> = ask(this, terms, When::At(from_ms - skew_ms), most).await?.iter().map(told).collect();
    let index = match this.truth.at(from_ms, this.host_now_ms, this.backlog_from_ms) {
        Expected::Held { index, .. } => Some(index),
        _ => None,
    };
    let wanted = expected(this, index, terms);
    if then != wanted {
        return this.wrong(format!("{terms:?} are at {from_ms} {then:?} and not {wanted:?}"));
    }
    let lives = ask(this, terms, When::Between(from_ms - skew_ms, to_ms - skew_ms), most).await?;
    let found: BTreeSet<Which> = lives.iter().map(|life| (life.namespace, life.kind, life.id)).collect();
    let mut wanted = BTreeSet::new();
    for (index, _) in this.truth.walk((from_ms, to_ms)).into_iter().filter(|(_, of)| *of != Of::Before) {
        let Some(snapshot) = this.truth.entries[index].snapshot() else { continue };
        let which = matching(&snapshot.state, terms).into_iter().map(|(n, o)| (n.id, o.kind(), o.id()));
        wanted.extend(which);
    }
    if found != wanted {
        return this.wrong(format!("{terms:?} are between {from_ms} and {to_ms} {found:?} and not {wanted:?}"));
    }
    Ok(())
}
