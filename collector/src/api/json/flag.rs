//! Flags.

use serde::{Deserialize, Serialize};

use super::RemedyJson;

/// What is going wrong, or went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagsJson {
    /// The newest first.
    pub flags: Vec<FlagJson>,
    /// Where to go on.
    pub next_cursor: Option<String>,
}

/// One flag.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagJson {
    /// Its number.
    pub id: String,
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Inode of the namespace.
    pub namespace: u64,
    /// SEMMNI, SEMMNS, SHMMNI, SHMALL or MSGMNI.
    pub resource: String,
    /// `trend`, `tight` or `refusing`.
    pub kind: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// `open`, `acknowledged`, `silenced` or `cleared`.
    pub state: String,
    /// When it was raised, host's clock.
    pub raised_at: String,
    /// When it was cleared; null = it is up.
    pub cleared_at: Option<String>,
    /// What was used when it was judged last.
    pub used_u64: String,
    /// The limit.
    pub limit_u64: String,
    /// Growth that it rests on; null = it says nothing of growth.
    pub growth_per_hour: Option<f64>,
    /// When the next allocation will fail, host's clock; null = not in sight.
    pub eta: Option<String>,
    /// Lower end of the 80 % interval for that.
    pub eta_low: Option<String>,
    /// Upper end; null with a lower one = it may never come.
    pub eta_high: Option<String>,
    /// Who holds most of it; null = not known.
    pub owner: Option<FlagOwnerJson>,
    /// What makes it grow, where the events show it; null = they do not.
    pub cause: Option<FlagCauseJson>,
    /// The flag of the other limit on the same objects, which is reached first: receivers are told of that one; null = it
    /// follows none.
    pub follows: Option<String>,
    /// In words.
    pub why: String,
    /// What to do, in order.
    pub remedy: Vec<RemedyJson>,
    /// What somebody said of it who knows; null = nobody did.
    pub note: Option<FlagNoteJson>,
    /// Until when nobody is told of its host's flags, collector's clock; null = everybody is.
    pub silenced_until: Option<String>,
    /// Its transitions, in order; only where one flag was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<FlagEventJson>,
    /// What was used over the span that it rests on, in order, at most 48: the first, the last, the highest and evenly those
    /// between; `None` = more than one flag was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<FlagSampleJson>>,
}

/// Who holds most of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagOwnerJson {
    /// Whose.
    pub uid: u32,
    /// Its name; null = none.
    pub user: Option<String>,
    /// The program's comm; null = not known, or the uid runs several.
    pub comm: Option<String>,
    /// Objects: arrays, segments or queues.
    pub arrays: u64,
    /// What nobody seems to hold any more.
    pub orphans: u64,
}

/// What makes it grow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagCauseJson {
    /// `reload`, `recurring`, `process`, `restart`, `killed` or `crash_loop`.
    pub kind: String,
    /// The program.
    pub comm: String,
    /// What each event adds of what the limit counts.
    pub per_event: f64,
    /// How many events were seen that added something.
    pub seen: u32,
    /// Of so many of the sort.
    pub of: u32,
    /// How many more there can be.
    pub left_u64: String,
    /// How many there are in a day.
    pub per_day: f64,
    /// Days until there will have been as many as are left, from when it was judged last.
    pub days_left: f64,
    /// Lower end of the 80 % interval for that.
    pub days_left_low: f64,
    /// Upper end.
    pub days_left_high: f64,
    /// In words.
    pub words: String,
}

/// What an operator said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagNoteJson {
    /// The words.
    pub note: String,
    /// Who.
    pub by: String,
    /// When, collector's clock.
    pub at: String,
}

/// A transition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagEventJson {
    /// When, host's clock.
    pub at: String,
    /// `raised`, `worsened`, `eased` or `cleared`.
    pub what: String,
    /// `warning` or `critical`: since, or until when it was cleared.
    pub severity: String,
}

/// What was in use at an instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlagSampleJson {
    /// Where ten minutes or an hour begin or end, or the span does: with a flag's clearing or the newest sample; host's clock.
    pub at: String,
    /// The most at once in what begins then; where it ends with less, what was left.
    pub used_u64: String,
    /// The limit.
    pub limit_u64: String,
}

/// What to say of a flag.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeJson {
    /// The words, at most 1,000 characters.
    pub note: String,
}

/// For how long nobody is told of a host's flags.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceJson {
    /// Milliseconds; 0 ends a silence.
    pub for_ms: i64,
    /// Why, at most 1,000 characters.
    pub note: String,
}

/// A silence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SilencedJson {
    /// The host's name.
    pub host: String,
    /// Its id.
    pub host_id: String,
    /// Until when, collector's clock.
    pub until: String,
}
