//! One flag out of what the readers say, with hysteresis.

use serde::{Deserialize, Serialize};

use super::eta::Forecast;
use super::hours::HOUR;
use super::past::Past;
use super::why::Why;

/// How far below the share that is tight it is so no more.
const ROOMY: f64 = 0.05;
/// What was full is watched until it was not for a day and a half, seconds: it may be full daily.
const AFTER_FULL: f64 = 36.0 * HOUR;
/// How many times what is critical must be left until it is no more.
const EASED: f64 = 1.5;
/// What was critical stays so for this long, seconds, unless there is much room or so many times the time.
const CALM: f64 = 12.0 * HOUR;
const FAR: f64 = 3.0;

/// How urgent a flag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Exhaustion is likely within days, or little room is left.
    Warning,
    /// Exhaustion is likely within a day, or allocations fail already.
    Critical,
}

/// A change of the flag: raised, refreshed or cleared. Times are by the host's clock, unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// When it was decided.
    pub at: f64,
    /// Up or down; up while up changes severity or refreshes the forecast.
    pub raised: bool,
    /// How urgent; when cleared, how urgent it was.
    pub severity: Severity,
    /// When the next allocation will fail.
    pub eta: Option<f64>,
    /// Lower end of the 80 % interval for it.
    pub eta_low: Option<f64>,
    /// Upper end; none with a lower end set = it may never come.
    pub eta_high: Option<f64>,
    /// What it rests on.
    pub why: Why,
}

/// The flag of a series.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Alarm {
    tight: bool,
    up: Option<Severity>,
    /// Steady instant at which it was critical last.
    urgent_at: f64,
    /// Steady instant of the last line.
    said: f64,
}

impl Alarm {
    /// Decides. `wall` is by how much the host's clock is ahead of the steady one.
    pub fn decide(&mut self, past: &Past, forecast: Option<Forecast>, wall: f64) -> Option<Transition> {
        let now = past.now;
        let full = past.full_at.is_some_and(|at| now - at < AFTER_FULL);
        self.tight = full || past.share() >= if self.tight { past.policy.tight - ROOMY } else { past.policy.tight };
        let refusing = past.limit > 0.0 && past.used >= past.cap();
        if forecast.is_none() && !self.tight {
            let was = self.up.take()?;
            let why = Why::cleared(past);
            let at = now + wall;
            return Some(Transition {
                at,
                raised: false,
                severity: was,
                eta: None,
                eta_low: None,
                eta_high: None,
                why,
            });
        }
        let left = forecast.map(|f| f.eta - now);
        let is_critical = self.up == Some(Severity::Critical);
        let bound = past.policy.critical * if is_critical { EASED } else { 1.0 };
        let urgent = refusing || left.is_some_and(|left| left < bound);
        if urgent {
            self.urgent_at = now;
        }
        // Use that hovers below a limit is refused again and again, and is as urgent in between.
        let hovers =
            past.share() >= past.policy.tight - ROOMY || left.is_some_and(|left| left < FAR * past.policy.critical);
        let critical = urgent || is_critical && hovers && now - self.urgent_at < CALM;
        let severity = if critical { Severity::Critical } else { Severity::Warning };
        if self.up == Some(severity) && (forecast.is_none() || now - self.said < HOUR) {
            return None;
        }
        self.up = Some(severity);
        self.said = now;
        Some(Transition {
            at: now + wall,
            raised: true,
            severity,
            eta: forecast.map(|f| f.eta.max(now + 60.0) + wall),
            eta_low: forecast.map(|f| f.low.max(now) + wall),
            eta_high: forecast.map(|f| f.high.max(now + 60.0) + wall),
            why: Why::raised(past, forecast, refusing),
        })
    }
}
