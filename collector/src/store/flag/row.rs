//! Rows of the tables of flags, and what they mean.

use highwater_ipc::limits::Resource;
use highwater_ipc::record::{EpochNo, Seq};
use highwater_ipc::snapshot::NamespaceId;
use serde::{Deserialize, Serialize};
use sqlx::FromRow;

use super::super::StoreError;
use super::super::number::unsigned;
use crate::flag::{
    Cause, CauseKind, Days, Eta, Flag, FlagId, FlagState, FlagTold, Holder, Kind, Note, Remedy, Severity, StoredFlag,
};
use crate::host::HostId;

#[derive(Serialize, Deserialize)]
struct StoredStep {
    step: String,
    command: Option<String>,
    risk: String,
}

/// A cause in column `cause`.
#[derive(Serialize, Deserialize)]
struct StoredCause {
    kind: String,
    comm: String,
    per_event: f64,
    seen: u32,
    of: u32,
    left: u64,
    per_day: f64,
    /// Likely, low, high.
    days: [f64; 3],
}

/// What to do, as column `remedy` keeps it.
pub(super) fn write_remedy(remedy: &[Remedy]) -> String {
    let steps = remedy.iter().map(|step| StoredStep {
        step: step.step.clone(),
        command: step.command.clone(),
        risk: step.risk.clone(),
    });
    serde_json::to_string(&steps.collect::<Vec<_>>()).unwrap_or_else(|_| "[]".to_owned())
}

/// A cause, as column `cause` keeps it.
pub(super) fn write_cause(cause: &Cause) -> Option<String> {
    let Cause { per_event, seen, of, left, per_day, days_left, .. } = *cause;
    let (kind, comm) = (cause.kind.name().to_owned(), cause.comm.clone());
    let days = [days_left.likely, days_left.low, days_left.high];
    serde_json::to_string(&StoredCause { kind, comm, per_event, seen, of, left, per_day, days }).ok()
}

fn read_cause(text: &str) -> Option<Cause> {
    let StoredCause { kind, comm, per_event, seen, of, left, per_day, days } = serde_json::from_str(text).ok()?;
    let [likely, low, high] = days;
    let (kind, days_left) = (CauseKind::from_name(&kind)?, Days { likely, low, high });
    Some(Cause { kind, comm, per_event, seen, of, left, per_day, days_left })
}

/// A flag, and what receivers know of it.
#[derive(FromRow)]
pub(super) struct UntoldRow {
    #[sqlx(flatten)]
    pub(super) flag: FlagRow,
    pub(super) labels: String,
    pub(super) told: i16,
    pub(super) notices: i32,
}

/// A transition with its flag.
#[derive(FromRow)]
pub(super) struct ToldRow {
    flag_id: i64,
    at_ms: i64,
    epoch_no: i64,
    seq: i64,
    what: String,
    severity: String,
    namespace: i64,
    instance: String,
    own: bool,
    resource: String,
    kind: String,
    why: String,
}

impl ToldRow {
    pub(super) fn domain(self) -> Result<((EpochNo, Seq), FlagTold), StoreError> {
        let position =
            (EpochNo(unsigned("flag_event.epoch_no", self.epoch_no)?), Seq(unsigned("flag_event.seq", self.seq)?));
        let instance = self.instance.parse().map_err(|_| StoreError::Corrupt { what: "flag.instance".to_owned() })?;
        let told = FlagTold {
            id: FlagId(self.flag_id),
            at_ms: self.at_ms,
            raised: self.what == "raised",
            namespace: NamespaceId { inode: self.namespace.cast_unsigned(), instance },
            own: self.own,
            resource: self.resource,
            kind: self.kind,
            severity: self.severity,
            why: self.why,
        };
        Ok((position, told))
    }
}

/// A flag.
#[derive(FromRow)]
pub(super) struct FlagRow {
    host_id: i64,
    name: String,
    flag_id: i64,
    namespace: i64,
    instance: String,
    resource: String,
    kind: String,
    severity: String,
    state: String,
    raised_ms: i64,
    cleared_ms: Option<i64>,
    used: Option<String>,
    limit_: Option<String>,
    growth_per_hour: Option<f64>,
    eta_ms: Option<i64>,
    eta_low_ms: Option<i64>,
    eta_high_ms: Option<i64>,
    owner_uid: Option<i64>,
    owner_user: Option<String>,
    owner_comm: Option<String>,
    owner_arrays: Option<i64>,
    owner_orphans: Option<i64>,
    cause: Option<String>,
    follows: Option<i64>,
    audible: bool,
    why: String,
    remedy: String,
    own: bool,
    note: Option<String>,
    noted_by: Option<String>,
    noted_ms: Option<i64>,
    until_ms: Option<i64>,
    silence_note: Option<String>,
}

impl FlagRow {
    pub(super) fn domain(self) -> Result<StoredFlag, StoreError> {
        let corrupt = |column: &str, value: &str| StoreError::Corrupt { what: format!("flag.{column} = {value}") };
        let number = |column: &str, text: &str| text.parse::<u64>().map_err(|_| corrupt(column, text));
        let resource = Resource::ALL.into_iter().find(|r| r.name() == self.resource);
        let steps: Vec<StoredStep> =
            serde_json::from_str(&self.remedy).map_err(|error| corrupt("remedy", &error.to_string()))?;
        let remedy = steps.into_iter().map(|s| Remedy { step: s.step, command: s.command, risk: s.risk }).collect();
        let holder = self.owner_uid.map(|uid| Holder {
            uid: u32::try_from(uid).unwrap_or(u32::MAX),
            user: self.owner_user,
            comm: self.owner_comm,
            objects: u64::try_from(self.owner_arrays.unwrap_or(0)).unwrap_or(0),
            orphans: u64::try_from(self.owner_orphans.unwrap_or(0)).unwrap_or(0),
        });
        let cause = self.cause.map(|cause| read_cause(&cause).ok_or_else(|| corrupt("cause", &cause))).transpose()?;
        let host = HostId(self.host_id);
        let state = match (self.state.as_str(), self.until_ms) {
            ("cleared", _) => FlagState::Cleared,
            (_, Some(_)) => FlagState::Silenced,
            ("acknowledged", None) => FlagState::Acknowledged,
            (_, None) => FlagState::Open,
        };
        Ok(StoredFlag {
            state,
            note: self.note.map(|text| Note {
                text,
                by: self.noted_by.unwrap_or_default(),
                at_ms: self.noted_ms.unwrap_or(0),
            }),
            silence: self.until_ms.map(|until_ms| (until_ms, self.silence_note.unwrap_or_default())),
            host: self.name,
            flag: Flag {
                host,
                id: FlagId(self.flag_id),
                namespace: NamespaceId {
                    inode: self.namespace.cast_unsigned(),
                    instance: number("instance", &self.instance)?,
                },
                own: self.own,
                resource: resource.ok_or_else(|| corrupt("resource", &self.resource))?,
                kind: Kind::from_name(&self.kind).ok_or_else(|| corrupt("kind", &self.kind))?,
                severity: Severity::from_name(&self.severity).ok_or_else(|| corrupt("severity", &self.severity))?,
                raised_ms: self.raised_ms,
                cleared_ms: self.cleared_ms,
                used: number("used", self.used.as_deref().unwrap_or("0"))?,
                limit: number("limit_", self.limit_.as_deref().unwrap_or("0"))?,
                growth_per_hour: self.growth_per_hour,
                eta: Eta { at_ms: self.eta_ms, low_ms: self.eta_low_ms, high_ms: self.eta_high_ms },
                holder,
                cause,
                follows: self.follows.map(FlagId),
                notify: self.audible,
                why: self.why,
                remedy,
            },
        })
    }
}
