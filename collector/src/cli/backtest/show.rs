//! What the evaluator says, for programs and for the eye. Pure.

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::cli::table::{Tone, paint};
use crate::cli::when;
use crate::forecast::{Severity, Transition};

/// How lines for the eye look.
pub(super) struct Look<'a> {
    /// The zone of times.
    pub(super) zone: &'a TimeZone,
    /// Whether colours are wanted.
    pub(super) color: bool,
}

impl Look<'_> {
    /// Above a series.
    pub(super) fn heading(&self, series: &str) -> String {
        paint(series, Tone::Strong, self.color)
    }

    /// Of a series to which nothing was said.
    pub(super) fn nothing(&self, rows: u64) -> String {
        paint(&format!("  no flag in {rows} rows"), Tone::Faint, self.color)
    }
}

/// A line of `--json`; times in unix seconds.
#[derive(Serialize)]
struct Line<'a> {
    series: &'a str,
    at: f64,
    state: &'static str,
    severity: &'static str,
    eta: Option<f64>,
    eta_low: Option<f64>,
    eta_high: Option<f64>,
    kind: &'static str,
    used_u64: String,
    limit_u64: String,
    growth_per_hour: Option<f64>,
    why: String,
}

/// A transition as a JSON line.
pub(super) fn json(series: &str, transition: &Transition) -> String {
    let milliseconds = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
    let line = Line {
        series,
        at: milliseconds(transition.at),
        state: if transition.raised { "raised" } else { "cleared" },
        severity: severity(transition),
        eta: transition.eta.map(f64::round),
        eta_low: transition.eta_low.map(f64::round),
        eta_high: transition.eta_high.map(f64::round),
        kind: transition.why.kind(),
        used_u64: transition.why.used.to_string(),
        limit_u64: transition.why.limit.to_string(),
        growth_per_hour: transition.why.growth_per_hour().map(milliseconds),
        why: transition.why.words(""),
    };
    // Only maps with keys that are no text can fail, and there is none.
    serde_json::to_string(&line).unwrap_or_default()
}

/// A transition as a line for the eye; none if it only refreshes the forecast.
pub(super) fn line(look: &Look<'_>, before: Option<&Transition>, transition: &Transition) -> Option<String> {
    let refreshes = |b: &Transition| {
        let same_kind = b.why.kind() == transition.why.kind();
        b.raised && transition.raised && b.severity == transition.severity && same_kind
    };
    if before.is_some_and(refreshes) {
        return None;
    }
    let at = when::show(ms(transition.at), look.zone);
    let state = match (transition.raised, transition.severity) {
        (false, _) => paint("cleared ", Tone::Good, look.color),
        (true, Severity::Warning) => paint("warning ", Tone::Warn, look.color),
        (true, Severity::Critical) => paint("critical", Tone::Bad, look.color),
    };
    Some(format!("  {at}  {state}  {}{}", exhaustion(transition), transition.why.words("")))
}

/// "full in 2 d (80 %: 1 d to 4 d): ", if that is forecast.
fn exhaustion(transition: &Transition) -> String {
    let left = |instant: f64| match instant - transition.at {
        seconds if seconds < 60.0 => "now".to_owned(),
        seconds => when::show_duration(ms(seconds)),
    };
    match (transition.eta, transition.eta_low, transition.eta_high) {
        (Some(eta), Some(low), Some(high)) if transition.why.kind() == "trend" => {
            let within = if eta - transition.at < 60.0 { "" } else { "in " };
            format!("full {within}{} (80 %: {} to {}): ", left(eta), left(low), left(high))
        }
        _ => String::new(),
    }
}

fn severity(transition: &Transition) -> &'static str {
    match transition.severity {
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates; what is shown lies before the year 9999")]
fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}
