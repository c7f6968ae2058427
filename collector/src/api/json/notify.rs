//! Receivers of notifications.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everybody who is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiversJson {
    /// In the order of the collector's file.
    pub receivers: Vec<ReceiverJson>,
}

/// A receiver and how it fares; nothing secret of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReceiverJson {
    /// Its name.
    pub name: String,
    /// `webhook`, `alertmanager`, `slack` or `smtp`.
    pub kind: String,
    /// Where it is: scheme, host and port; of mail the addresses and the server.
    pub to: String,
    /// Of which severities it is told.
    pub severities: Vec<String>,
    /// Labels that a host must have.
    pub labels: BTreeMap<String, String>,
    /// When it last took something; null = never.
    pub last_sent_at: Option<String>,
    /// When it last failed; null = never.
    pub last_failed_at: Option<String>,
    /// How it last failed, and what to do.
    pub error: Option<String>,
    /// Since when it fails; null = it does not.
    pub failing_since: Option<String>,
    /// Notices that wait for it.
    pub waiting: u64,
    /// Notices given up within a day.
    pub given_up: u64,
}

/// Whom to test.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyTestJson {
    /// One receiver's name; null = all.
    pub receiver: Option<String>,
}

/// How a test went.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestsJson {
    /// In the order of the collector's file.
    pub results: Vec<TestedJson>,
}

/// How it went with one receiver.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TestedJson {
    /// Its name.
    pub receiver: String,
    /// Its kind.
    pub kind: String,
    /// Where it is.
    pub to: String,
    /// Whether it said that it has taken the test.
    pub ok: bool,
    /// How long that took.
    pub took_ms: u64,
    /// Why it has not; null = it has.
    pub error: Option<String>,
    /// What to do; null = nothing.
    pub remedy: Option<String>,
}
