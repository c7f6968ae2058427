//! Objects across the fleet and time: `sem.key=0x0d4d*`, `shm.size>1G,orphan=any`.
//!
//! [`Expr`] is what is looked for, matched exactly against an object of a state. [`Filter`] is the little that is stored
//! of a chunk's states, or of a host's present, so that only what may hold such an object is read. [`find`] reads it:
//! [`present`] and [`past`] look at one instant of each host, [`span`] follows lives, which is [`lives`].
//!
//! What holds: what is told of an object was read from a state, never from a filter; a host that a filter says nothing of
//! is read. A page reads a bounded amount and says where to go on, so it may hold less than was asked for, or nothing,
//! and not be the last.

#[cfg(test)]
mod db_tests;
mod expr;
mod field;
mod filter;
mod gather;
mod lives;
#[cfg(test)]
mod lives_tests;
mod names;
mod pack;
mod page;
mod past;
mod present;
mod span;
mod spread;
#[cfg(test)]
mod tests;

pub use expr::{Expr, ExprError, MAX_BYTES, MAX_TERMS};
pub use filter::Filter;
pub use gather::FilterBuilder;
pub use lives::{FromIs, Life, ToIs};
pub use page::{Found, Mark, Match, NotLookedAt, Place};

use self::page::Page;
use super::AskError;
use crate::store::history::Reading;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is looked for.
    pub expr: Expr,
    /// When.
    pub when: When,
    /// The most matches wanted.
    pub most: usize,
    /// Those after this place.
    pub after: Option<Mark>,
}

/// When an object is looked for: instants of the collector's clock, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// In the present of each host; of one that is silent, in its newest sample. Hosts that are gone are left out.
    Now,
    /// At this instant.
    At(i64),
    /// From the first to the second, both included.
    Between(i64, i64),
}

/// Finds; `now_ms` is the collector's wall clock. In order of the hosts' names and ids, then [`Life::place`].
pub async fn find(reading: &mut Reading, question: &Question, now_ms: i64) -> Result<Found, AskError> {
    let page = Page::new(question);
    match question.when {
        When::Now => present::find(reading, question, page, now_ms).await,
        When::At(at_ms) => past::find(reading, question, page, (at_ms, now_ms)).await,
        When::Between(since_ms, until_ms) => {
            span::find(reading, question, page, (since_ms, until_ms.min(now_ms)), now_ms).await
        }
    }
}
