//! A cause in words, and what to do about it. Pure.

use highwater_ipc::limits::Resource;

use super::super::words::counted;
use crate::flag::{Cause, CauseKind};
use crate::query::remedy::Step;

/// What it is, how many more there can be, and when those will have been.
pub fn words(cause: &Cause, resource: Resource) -> String {
    let Cause { comm, seen, of, per_event, .. } = cause;
    let unit = counted(resource);
    let times = if seen == of { seen.to_string() } else { format!("{seen} of {of}") };
    let plus = format!("+{}", short(*per_event));
    match cause.kind {
        CauseKind::Reload => format!("+{per_event:.1} per reload of {comm} ({seen} of {of}), {}", left(cause)),
        CauseKind::Recurring => {
            format!("{plus} {unit} each time {comm} (the same process) makes some ({seen} of {of}), {}", left(cause))
        }
        CauseKind::Process => {
            format!("{plus} {unit} each time a process of {comm} makes some ({seen} of {of}), {}", left(cause))
        }
        CauseKind::Restart => {
            format!("{plus} {unit} at each of {times} restarts of {comm} (the earlier ones stay); {}", left(cause))
        }
        CauseKind::Killed => format!(
            "{plus} {unit} at each of {times} restarts of {comm} whose processes were killed, or ended without removing \
             theirs (their {} stayed behind); {}: let it stop in an orderly way: raise TimeoutStopSec",
            objects(resource),
            left(cause)
        ),
        CauseKind::CrashLoop => format!(
            "crash loop of {comm}, {}: {plus} {unit} each time ({seen} of {of}), {}",
            rate(cause.per_day),
            left(cause)
        ),
    }
}

/// `47 left, at your 6 a day: 7.8 days (7.1 to 8.9)`.
fn left(cause: &Cause) -> String {
    let days = cause.days_left;
    if cause.left == 0 {
        return "none left: the next one is refused".to_owned();
    }
    let (likely, unit) = span(days.likely);
    let [low, high] = [days.low, days.high].map(|days| one(days * per_day(unit)));
    let yours =
        if cause.kind == CauseKind::CrashLoop { String::new() } else { format!(", at your {}", rate(cause.per_day)) };
    format!("{} left{yours}: {} {unit} ({low} to {high})", cause.left, one(likely))
}

/// What fits the cause; its command is the host's own matter, for units have names of their own.
pub fn step(cause: &Cause) -> Step {
    let comm = &cause.comm;
    let (what, risk) = match cause.kind {
        CauseKind::Reload => (
            format!("restart {comm} instead of reloading it: stopped in an orderly way it removes what it made"),
            "what it serves is away for as long as a stop and a start take; what it lost track of in earlier reloads \
             stays, and can be removed once it is certain that nobody holds it",
        ),
        CauseKind::Recurring | CauseKind::Process => (
            format!("find what {comm} does each time, and why it keeps what it makes then"),
            "none: restarted in an orderly way it removes its own, until it has made as many again",
        ),
        CauseKind::Restart => (
            format!("find why {comm} does not remove at its end what it made, or does not take it over when it starts"),
            "none",
        ),
        CauseKind::Killed => (
            format!(
                "let {comm} stop in an orderly way: raise TimeoutStopSec of its unit (systemd sends SIGKILL when that is \
                 over), or what else kills it; killed it removes nothing"
            ),
            "a stop then takes as long as it takes",
        ),
        CauseKind::CrashLoop => (
            format!(
                "stop whatever starts {comm} again and again (its unit's Restart=, a supervisor), and mend what it fails \
                 at: its log says that"
            ),
            "it is away until then, as it is now between two starts",
        ),
    };
    Step { what, command: None, risk: risk.to_owned() }
}

fn objects(resource: Resource) -> &'static str {
    match resource {
        Resource::Semmni | Resource::Semmns => counted(Resource::Semmni),
        Resource::Shmmni | Resource::Shmall => counted(Resource::Shmmni),
        Resource::Msgmni => counted(Resource::Msgmni),
    }
}

/// `6 a day`.
fn rate(per_day: f64) -> String {
    let (value, unit) = match per_day {
        rate if rate >= 720.0 => (rate / 1_440.0, "minute"),
        rate if rate >= 48.0 => (rate / 24.0, "hour"),
        rate if rate >= 1.0 => (rate, "day"),
        rate => (rate * 7.0, "week"),
    };
    format!("{} a {unit}", short(value))
}

/// In what people count.
fn span(days: f64) -> (f64, &'static str) {
    let unit = match days {
        days if days >= 2.0 => "days",
        days if days >= 2.0 / 24.0 => "hours",
        _ => "minutes",
    };
    (days * per_day(unit), unit)
}

fn per_day(unit: &str) -> f64 {
    match unit {
        "days" => 1.0,
        "hours" => 24.0,
        _ => 1_440.0,
    }
}

/// A whole number without its `.0`.
fn short(value: f64) -> String {
    if value >= 100.0 || (value - value.round()).abs() < 0.05 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn one(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}
