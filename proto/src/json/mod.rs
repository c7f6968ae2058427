//! The contract's JSON of a snapshot: what `highwater-agent snapshot --json`, `ipcs --json` and a line of `export` are.
//!
//! Both directions, without loss: `SnapshotJson::new(&s, &e).to_snapshot() == (s, e)` for every snapshot whose time
//! lies in the years 0 to 9999 and whose names belong to its objects. So a program that got this JSON can render what
//! people know from the domain types.
//!
//! - Names and types of fields are fixed by the contract; a field may be added, none renamed or retyped. Unknown fields
//!   are ignored when read.
//! - `null` = could not be read or does not exist, `[]` = none, absent = the writer does not know of it (an agent alone
//!   has none of the [`Envelope`]'s collector fields).
//! - `*_u64` are strings of decimal digits, for numbers that can reach 2^64-1; no other number does on a real kernel.
//! - Text from hosts is escaped ([`highwater_ipc::text::HostText::escaped`]), keys are `0x%08x`, permissions octal as
//!   `/proc` prints them, times of the sampled host RFC 3339 in UTC with milliseconds, times of objects Unix seconds.
//! - Added to the contract: `boot_us_u64` (boot clock of the sample); `at_risk`, `unseen` and `activity` of the sample;
//!   `torn`, `named_by`, `skipped`, `owners` (uids with their comms; null = processes could not be looked at) and
//!   `unlisted` (what is known of objects that the lists do not show) of each namespace; `comm` (of the maker) of each
//!   object, and `doubt` of an orphan: the stable word for its `reason`.
//! - `last_pids` of an object are the dead processes that used an orphan last; null of any other: live pids are in no
//!   record.

mod activity;
mod differ;
mod held;
mod read;
mod shape;
#[cfg(test)]
mod tests;
mod write;

pub use differ::first_difference;
pub use read::JsonError;
pub use shape::{
    ActJson, ActivityJson, ActorJson, HeldJson, HolderJson, InNamespaceJson, KnownJson, LeftOutJson, LimitsJson,
    MsgJson, NamespaceJson, OrphanJson, OwnerJson, PeakJson, RiskJson, SemJson, ShmJson, SnapshotJson, SpanJson,
    SysvipcJson, TotalsJson, UnreadableJson, UsageJson,
};
pub use write::{Envelope, Names, Span};
