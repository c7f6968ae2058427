//! One page of what was found, and where the next one begins. Pure.

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::NamespaceId;

use super::Question;
use super::lives::Life;
use crate::query::AskError;
use crate::store::fleet::HostName;

/// The answer.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By host, then namespace, kind, id and begin.
    pub matches: Vec<Match>,
    /// Where to go on; `None` = that was all.
    pub next: Option<Mark>,
    /// What this answer does not know.
    pub not_looked_at: NotLookedAt,
}

/// One object on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which host.
    pub host: HostName,
    /// Its clock minus the collector's, milliseconds.
    pub skew_ms: i64,
    /// The object.
    pub life: Life,
}

/// What an answer does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotLookedAt {
    /// So many hosts have records that are not compacted yet that only those that held such an object when they were
    /// compacted last were looked at.
    pub tails: Option<Tails>,
    /// Hosts on this page that may have held such an object and have no data for that instant.
    pub in_a_gap: usize,
    /// Hosts on this page whose stored records do not read.
    pub unreadable: usize,
}

/// Hosts with records that are not compacted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tails {
    /// When the one was compacted for which that is longest ago, collector's clock, milliseconds; `None` = never.
    pub since_ms: Option<i64>,
}

/// Where an object stands among those of its host: see [`Life::place`].
pub type Place = (NamespaceId, Kind, i32, i64);

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last host that was looked at.
    pub host: HostName,
    /// Its last match that was told; `None` = it was told whole.
    pub after: Option<Place>,
}

/// The most hosts whose states a page reads.
pub(super) const MOST_READ: usize = 2_000;

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Page<'q> {
    question: &'q Question,
    matches: Vec<Match>,
    /// The last host that needs no further look.
    done: Option<Mark>,
    read: usize,
    pub(super) not_looked_at: NotLookedAt,
}

impl<'q> Page<'q> {
    pub(super) fn new(question: &'q Question) -> Self {
        let (matches, not_looked_at) = (Vec::new(), NotLookedAt::default());
        Self { question, matches, done: question.after.clone(), read: 0, not_looked_at }
    }

    /// The host that the page before left half told: it comes first.
    pub(super) fn half_told(&self) -> Option<HostName> {
        self.question.after.as_ref().filter(|mark| mark.after.is_some()).map(|mark| mark.host.clone())
    }

    /// The host after which the others come.
    pub(super) fn begin(&self) -> Option<HostName> {
        self.question.after.as_ref().map(|mark| mark.host.clone())
    }

    /// Whether no further host should be read.
    pub(super) fn is_full(&self) -> bool {
        self.matches.len() >= self.question.most || self.read >= MOST_READ
    }

    /// Whether anything of this page is settled, so that it may end here.
    pub(super) fn has_begun(&self) -> bool {
        self.read > 0 || self.done != self.question.after
    }

    /// These hosts were passed over, up to this one.
    pub(super) fn pass(&mut self, host: &HostName) {
        self.done = Some(Mark { host: host.clone(), after: None });
    }

    /// Adds what was found on the next host, in order of [`Life::place`]; `false` = the page is full and not all of it fits.
    pub(super) fn take(&mut self, host: &HostName, skew_ms: i64, lives: Vec<Life>) -> bool {
        self.read = self.read.saturating_add(1);
        let told = self.question.after.as_ref().filter(|mark| mark.host == *host).and_then(|mark| mark.after);
        for life in lives.into_iter().filter(|life| told.is_none_or(|told| life.place() > told)) {
            if self.matches.len() >= self.question.most {
                let after = self.matches.last().filter(|last| last.host == *host).map(|last| last.life.place());
                if let Some(after) = after.or(told) {
                    self.done = Some(Mark { host: host.clone(), after: Some(after) });
                }
                return false;
            }
            self.matches.push(Match { host: host.clone(), skew_ms, life });
        }
        self.pass(host);
        true
    }

    /// What became of a host whose records do not make states: it is counted; other errors end the answer.
    pub(super) fn or_unreadable<T>(&mut self, read: Result<T, AskError>) -> Result<Option<T>, AskError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(AskError::Fold(_)) => {
                self.not_looked_at.unreadable = self.not_looked_at.unreadable.saturating_add(1);
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// There is more.
    pub(super) fn more(self) -> Found {
        Found { matches: self.matches, next: self.done, not_looked_at: self.not_looked_at }
    }

    /// That was all.
    pub(super) fn end(self) -> Found {
        Found { matches: self.matches, next: None, not_looked_at: self.not_looked_at }
    }
}
