//! A notice as JSON: the flag in the contract's shape. It is the body of a webhook, and how the outbox keeps a notice.

use std::collections::BTreeMap;

use highwater_ipc::time::{format_rfc3339_ms, parse_rfc3339_ms};
use serde::{Deserialize, Serialize};

use super::notice::{Flag, Notice, Owner, Severity, Step, Transition};
use crate::host::HostId;

/// A kept notice that does not read: somebody edited the row, or a later version wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a notice does not read: {0}")]
pub struct Unreadable(String);

/// The flag as `flags` answers it, with the host's id and labels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FlagJson {
    id: String,
    host: String,
    host_id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    namespace: u64,
    resource: String,
    kind: String,
    severity: String,
    state: String,
    raised_at: String,
    cleared_at: Option<String>,
    used_u64: Option<String>,
    limit_u64: Option<String>,
    growth_per_hour: Option<f64>,
    eta: Option<String>,
    eta_low: Option<String>,
    eta_high: Option<String>,
    owner: Option<OwnerJson>,
    why: String,
    remedy: Vec<StepJson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OwnerJson {
    uid: u32,
    user: Option<String>,
    comm: Option<String>,
    arrays: u64,
    orphans: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StepJson {
    step: String,
    command: Option<String>,
    risk: String,
}

#[derive(Serialize, Deserialize)]
struct KeptJson {
    number: u32,
    transition: String,
    flag: FlagJson,
}

/// Writes a notice down for the outbox.
pub fn keep(notice: &Notice) -> String {
    let kept = KeptJson {
        number: notice.number,
        transition: notice.transition.name().to_owned(),
        flag: FlagJson::from(&notice.flag),
    };
    // Maps with text keys and plain fields: there is nothing in it that JSON could refuse.
    serde_json::to_string(&kept).unwrap_or_default()
}

/// Reads what [`keep`] wrote.
pub fn read(kept: &str) -> Result<Notice, Unreadable> {
    let kept: KeptJson = serde_json::from_str(kept).map_err(|e| Unreadable(e.to_string()))?;
    let transition = Transition::from_name(&kept.transition);
    Ok(Notice {
        number: kept.number,
        transition: transition.ok_or_else(|| Unreadable(format!("transition {:?}", kept.transition)))?,
        flag: kept.flag.domain()?,
    })
}

impl From<&Flag> for FlagJson {
    fn from(flag: &Flag) -> Self {
        Self {
            id: flag.id(),
            host: flag.host.clone(),
            host_id: flag.host_id.to_string(),
            labels: flag.labels.clone(),
            namespace: flag.namespace,
            resource: flag.resource.clone(),
            kind: flag.kind.clone(),
            severity: flag.severity.name().to_owned(),
            state: flag.state.clone(),
            raised_at: format_rfc3339_ms(flag.raised_ms),
            cleared_at: flag.cleared_ms.map(format_rfc3339_ms),
            used_u64: flag.used.map(|n| n.to_string()),
            limit_u64: flag.limit.map(|n| n.to_string()),
            growth_per_hour: flag.growth_per_hour,
            eta: flag.eta_ms.map(format_rfc3339_ms),
            eta_low: flag.eta_low_ms.map(format_rfc3339_ms),
            eta_high: flag.eta_high_ms.map(format_rfc3339_ms),
            owner: flag.owner.as_ref().map(|o| OwnerJson {
                uid: o.uid,
                user: o.user.clone(),
                comm: o.comm.clone(),
                arrays: o.arrays,
                orphans: o.orphans,
            }),
            why: flag.why.clone(),
            remedy: flag
                .remedy
                .iter()
                .map(|s| StepJson { step: s.step.clone(), command: s.command.clone(), risk: s.risk.clone() })
                .collect(),
        }
    }
}

impl FlagJson {
    fn domain(self) -> Result<Flag, Unreadable> {
        let wrong = |what: &str, text: &str| Unreadable(format!("{what} {text:?}"));
        let at = |text: &str| parse_rfc3339_ms(text).ok_or_else(|| wrong("time", text));
        let maybe_at = |text: Option<String>| text.map(|t| at(&t)).transpose();
        let number = |text: Option<String>| text.map(|t| t.parse::<u64>().map_err(|_| wrong("number", &t))).transpose();
        let hex = |text: &str| i64::from_str_radix(text, 16).map_err(|_| wrong("id", text));
        let step = |s: StepJson| Step { step: s.step, command: s.command, risk: s.risk };
        Ok(Flag {
            flag_id: hex(&self.id)?,
            host_id: HostId(hex(&self.host_id)?),
            host: self.host,
            labels: self.labels,
            namespace: self.namespace,
            resource: self.resource,
            kind: self.kind,
            severity: Severity::from_name(&self.severity).ok_or_else(|| wrong("severity", &self.severity))?,
            state: self.state,
            raised_ms: at(&self.raised_at)?,
            cleared_ms: maybe_at(self.cleared_at)?,
            used: number(self.used_u64)?,
            limit: number(self.limit_u64)?,
            growth_per_hour: self.growth_per_hour,
            eta_ms: maybe_at(self.eta)?,
            eta_low_ms: maybe_at(self.eta_low)?,
            eta_high_ms: maybe_at(self.eta_high)?,
            owner: self.owner.map(|o| Owner {
                uid: o.uid,
                user: o.user,
                comm: o.comm,
                arrays: o.arrays,
                orphans: o.orphans,
            }),
            why: self.why,
            remedy: self.remedy.into_iter().map(step).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::samples::full;
    use super::*;

    #[test]
    fn a_notice_that_is_kept_reads_back_and_anything_else_is_refused() {
        for transition in Transition::ALL {
            let notice = full(2, transition);
            assert_eq!(read(&keep(&notice)), Ok(notice));
        }
        let mut bare = full(1, Transition::Raised);
        bare.flag.owner = None;
        (bare.flag.used, bare.flag.limit, bare.flag.eta_ms) = (Some(u64::MAX), None, None);
        assert_eq!(read(&keep(&bare)), Ok(bare.clone()));
        for (from, to) in [("\"raised\"", "\"new\""), ("\"critical\"", "\"bad\""), ("18446744073709551615", "-1")] {
            assert!(read(&keep(&bare).replace(from, to)).is_err(), "{to}");
        }
        assert!(read("{}").is_err());
    }
}
