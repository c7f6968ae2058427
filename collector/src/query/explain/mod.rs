//! Why a program was refused: what its error text can come from ([`crate::explain`]), held against what history shows of
//! that instant.
//!
//! In path order: [`evidence`] gathers what was refused, removed and in use around the instant, [`judge`] decides which of
//! the possible reasons it was (pure), [`steps`] says what to do about it (pure).
//!
//! - X1 A limit is only named where it was seen to be reached, or a traced call was refused by it; else the answer says
//!   which limits were looked at, and how far they were.
//! - X2 What to do is made from the host's present, not from the instant asked about: a limit that was raised since is not
//!   "raised" to less. Where the present is not known there is no command.
//! - X3 A command removes certain orphans only, and none of a product that must not lose its objects.

mod evidence;
mod judge;
#[cfg(test)]
mod judge_tests;
mod steps;

use std::sync::Arc;

use highwater_ipc::activity::Actor;
use highwater_ipc::snapshot::{NamespaceId, Snapshot};
use highwater_ipc::text::HostText;

use super::AskError;
use super::as_of::{Answer, AsOf, Instant, as_of};
use super::change::AnyObject;
use super::event::Place;
use super::gap::Gap;
use super::holder::Holder;
use super::owners::Owner;
use super::remedy::Step;
use crate::explain::{Catalogue, Product, Told};
use crate::host::HostId;
use crate::store::history::Reading;

/// The answer, or the gap that the instant lies in.
#[derive(Clone, Debug)]
pub enum ExplainAnswer {
    /// There is data.
    Explained(Box<Explanation>),
    /// There is none.
    Gap(AsOf),
}

/// What it was.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The instant asked for, host's wall clock, milliseconds.
    pub asked_ms: i64,
    /// The host's clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// When it happened, or the sample that shows it most; host's wall clock, milliseconds.
    pub at_ms: i64,
    /// What it was.
    pub verdict: Verdict,
    /// That in words; text from hosts is escaped.
    pub why: String,
    /// Where.
    pub place: Option<(NamespaceId, Place)>,
    /// The limit; `None` = none, or not known which.
    pub limit: Option<Met>,
    /// What names users as they were then.
    pub snapshot: Arc<Snapshot>,
    /// Who held most of what ran out.
    pub holder: Option<Holder>,
    /// Who held the rest, most first, at most [`MOST_OTHERS`].
    pub others: Vec<Owner>,
    /// How many objects the others hold in all.
    pub others_hold: u64,
    /// Whose objects are not to be removed by hand, of the holder.
    pub keeper: Option<Product>,
    /// Who was refused.
    pub victim: Option<Victim>,
    /// What was removed, and by whom.
    pub taken: Option<Taken>,
    /// The limits that it could have been, in each namespace nearest to one, most used first; at most [`MOST_LOOKED`].
    pub looked: Vec<Looked>,
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Spans around it of which nothing is known.
    pub gaps: Vec<Gap>,
    /// Whether refused calls are traced on that host: else a victim is never known.
    pub is_traced: bool,
}

/// The most other owners told.
pub const MOST_OTHERS: usize = 5;

/// The most limits told that were looked at.
pub const MOST_LOOKED: usize = 20;

/// What it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A traced call was refused by that limit.
    Refused,
    /// That limit was reached.
    Full,
    /// That limit was nearly reached: a program that makes several objects meets it.
    Near,
    /// The call asked for more than that limit allows.
    TooMuch,
    /// None of the limits that it could be was near.
    NotReached,
    /// No System V IPC for that program.
    NoSysvipc,
    /// The object was removed.
    Removed,
    /// The object is somebody else's, or a policy forbids the call.
    Denied,
    /// Memory ran out, not a limit of these.
    Memory,
    /// An object with that key was there.
    Exists,
    /// No object with that key was there.
    Missing,
    /// No System V IPC call at all.
    Posix,
    /// History does not show it.
    NotKnown,
}

impl Verdict {
    /// All, with their word in JSON.
    pub const ALL: [(Verdict, &'static str); 13] = [
        (Verdict::Refused, "refused"),
        (Verdict::Full, "full"),
        (Verdict::Near, "near"),
        (Verdict::TooMuch, "too_much"),
        (Verdict::NotReached, "not_reached"),
        (Verdict::NoSysvipc, "no_sysvipc"),
        (Verdict::Removed, "removed"),
        (Verdict::Denied, "denied"),
        (Verdict::Memory, "memory"),
        (Verdict::Exists, "exists"),
        (Verdict::Missing, "missing"),
        (Verdict::Posix, "posix"),
        (Verdict::NotKnown, "not_known"),
    ];

    /// The word in JSON.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(v, _)| *v == self).map_or("", |(_, name)| name)
    }
}

/// A limit, and what met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Its kernel name.
    pub resource: &'static str,
    /// In use, in the queue, or asked for; `None` = not known what was asked for.
    pub used: Option<u64>,
    /// The limit.
    pub limit: u64,
}

/// A process that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Who.
    pub by: Actor,
    /// That uid's name.
    pub user: Option<HostText>,
    /// How often, from then on.
    pub count: u64,
    /// Whether it is one of the programs of the message's product, for all that is known.
    pub is_its_own: bool,
}

/// An object that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// As it was last.
    pub object: AnyObject,
    /// Who removed it; `None` = that was not traced.
    pub by: Option<Actor>,
    /// The last sample that showed it; `None` = the instant is exact.
    pub after_ms: Option<i64>,
}

/// A limit that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Where.
    pub namespace: NamespaceId,
    /// What that is.
    pub place: Place,
    /// How far it was, at most.
    pub met: Met,
    /// When, host's wall clock, milliseconds.
    pub at_ms: i64,
}

/// Says what it was that `told` tells, on that host at that instant; `None` = it happened lately. `now_ms` is the
/// collector's wall clock.
pub async fn explain(
    reading: &mut Reading,
    host: HostId,
    (catalogue, told): (&Catalogue, &Told<'_>),
    at: Option<Instant>,
    now_ms: i64,
) -> Result<ExplainAnswer, AskError> {
    let asked = as_of(reading, host, at.unwrap_or(Instant::Now), now_ms).await?;
    let Answer::Held(held) = &asked.answer else { return Ok(ExplainAnswer::Gap(asked)) };
    let present = match as_of(reading, host, Instant::Now, now_ms).await?.answer {
        Answer::Held(present) => Some(present.snapshot),
        Answer::Gap(_) => None,
    };
    let held = (asked.asked_ms, held.snapshot.clone());
    let is_late = matches!(at, None | Some(Instant::Now));
    let host_now_ms = now_ms.saturating_add(asked.skew_ms);
    let evidence = evidence::gather(reading, (host, told), held, (is_late, host_now_ms), now_ms).await?;
    let mut explanation = judge::judge(told, evidence);
    explanation.skew_ms = asked.skew_ms;
    steps::add(&mut explanation, (catalogue, told), present.as_deref());
    Ok(ExplainAnswer::Explained(Box::new(explanation)))
}
