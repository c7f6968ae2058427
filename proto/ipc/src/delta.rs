//! The difference of two states: `apply(a, diff(a, b)) == b` for any two, order of rows included.
//!
//! A delta names what it removes or changes in the order of the state it was made from, and what it adds in the order
//! of the state it leads to. So both ways are one walk along the lists, and a delta that does not fit its base is told
//! by the first name that the walk does not meet.

mod apply;
mod diff;
#[cfg(test)]
mod tests;

pub use apply::apply;
pub use diff::diff;

use alloc::vec::Vec;

use crate::activity::Activity;
use crate::availability::Availability;
use crate::limits::{Limits, Totals};
use crate::object::{Kind, MsgQueue, SemArray, ShmSegment};
use crate::risk::Risk;
use crate::snapshot::{BootId, LeftOut, NamedBy, Namespace, NamespaceId, Unreadable};
use crate::text::HostText;
use crate::who::Known;

/// What changed from one state to the next. Every changed value is absolute, so a reader without the base still learns
/// totals and limits.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Delta {
    /// How long the later sample's reads took, microseconds.
    pub took_us: u32,
    /// What happened since the sample before; no part of the difference, it travels with it.
    pub activity: Activity,
    /// New boot id (only in a diff for people; a new boot begins a new epoch).
    pub boot_id: Option<BootId>,
    /// New sampling interval, milliseconds.
    pub interval_ms: Option<u32>,
    /// New page size, bytes.
    pub page_size: Option<u32>,
    /// New time zone.
    pub zone: Option<HostText>,
    /// New availability.
    pub availability: Option<Availability>,
    /// uids whose name is new or other; `None` = no longer named.
    pub users: Vec<(u32, Option<HostText>)>,
    /// gids, likewise.
    pub groups: Vec<(u32, Option<HostText>)>,
    /// New list of risks, whole.
    pub risks: Option<Vec<Risk>>,
    /// New list of what cannot be seen, whole.
    pub unseen: Option<Vec<Unreadable>>,
    /// Namespaces that went or changed, in the order of the earlier list, and those that appeared, by position. One
    /// that changed its place among the others is in it twice, as gone and as appeared; that alone says nothing of its
    /// life.
    pub namespaces: Vec<NamespaceDelta>,
}

/// What happened to one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamespaceDelta {
    /// It is no longer there.
    Gone(NamespaceId),
    /// It is new, at this position of the later list.
    Appeared {
        /// Index in the later state's list.
        position: u32,
        /// All of it.
        namespace: Namespace,
    },
    /// It is still there and something in it changed.
    Changed(NamespaceChange),
}

/// What changed in one namespace; `None` and [`ListChange::Same`] = as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceChange {
    /// Which one.
    pub id: NamespaceId,
    /// New name.
    pub name: Option<Option<HostText>>,
    /// What that name is.
    pub named_by: Option<NamedBy>,
    /// New number of samples that pass it by.
    pub skipped: Option<u32>,
    /// Whether the later sample was torn, where that differs.
    pub torn: Option<bool>,
    /// New limits, whole.
    pub limits: Option<Option<Limits>>,
    /// New totals, whole.
    pub totals: Option<Option<Totals>>,
    /// Semaphore arrays.
    pub sem: ListChange<SemArray>,
    /// Shared memory segments.
    pub shm: ListChange<ShmSegment>,
    /// Message queues.
    pub msg: ListChange<MsgQueue>,
    /// New list of what could not be read, whole.
    pub unreadable: Option<Vec<Unreadable>>,
    /// New counts of what was left out.
    pub left_out: Option<LeftOut>,
    /// Who holds what.
    pub who: WhoChange,
}

/// What changed about who holds the objects of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum WhoChange {
    /// Nothing.
    #[default]
    Same,
    /// Processes can no longer be looked at.
    Unknown,
    /// They could not be looked at before, or this is shorter: all that is known, in the place of what was.
    Whole(crate::who::Who),
    /// Absolute values of what is new or other; `None` = nothing is known any more. Ascending.
    Edits {
        /// uids with their comms.
        comms: Vec<(u32, Option<Vec<HostText>>)>,
        /// Objects.
        objects: Vec<((Kind, i32), Option<Known>)>,
    },
}

/// What happened to one list of objects.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ListChange<T> {
    /// Nothing.
    #[default]
    Same,
    /// It can no longer be read.
    Unreadable,
    /// The whole later list: it could not be read before, or ids repeat, or kept rows changed places.
    Whole(Vec<T>),
    /// Rows that went, changed or came; the kept ones keep their order.
    Edits {
        /// Ids of rows that went, in the order of the earlier list.
        removed: Vec<i32>,
        /// Later values of rows whose id stayed and which can be the same object, in the order of the lists.
        changed: Vec<T>,
        /// New rows with their index in the later list, ascending. A row whose id stayed but which cannot be the same
        /// object (see [`crate::object::Object::is_same_as`]) is in `removed` and here.
        added: Vec<(u32, T)>,
    },
}

/// Why a delta does not fit its base.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// The namespace it changes or removes is not in the base, or not in the order of the base.
    #[error("the delta names IPC namespace {inode} (instance {instance}), which its base does not have")]
    NoSuchNamespace {
        /// Inode.
        inode: u64,
        /// Instance.
        instance: u64,
    },
    /// A row it removes or changes is not in the base, or not in the order of the base.
    #[error("the delta names {kind} id {id}, which its base does not have")]
    NoSuchObject {
        /// `sem`, `shm` or `msg`.
        kind: &'static str,
        /// The id.
        id: i32,
    },
    /// It edits rows that the base could not read.
    #[error("the delta edits the {kind} rows of IPC namespace {inode}, which its base could not read")]
    NoRows {
        /// `sem`, `shm` or `msg`.
        kind: &'static str,
        /// Inode of the namespace.
        inode: u64,
    },
    /// It takes the name of a uid or gid that has none in the base.
    #[error("the delta takes the name of {what} {id}, which has none in its base")]
    NoSuchName {
        /// `uid` or `gid`.
        what: &'static str,
        /// Which.
        id: u32,
    },
    /// A position lies beyond the list, or before one that was given earlier.
    #[error("the delta puts {what} at position {position} of a list of {len}")]
    BadPosition {
        /// What is put.
        what: &'static str,
        /// Where.
        position: u32,
        /// Into how many.
        len: usize,
    },
    /// The later state would hold more than one state may.
    #[error("the delta leads to a state of {count} {what}, the bound is {bound}")]
    TooMany {
        /// What there would be too many of.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        bound: usize,
    },
}
