//! Why a flag is up, in words with figures.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, Growth, Kind};
use super::hours::{DAY, HOUR};
use super::past::Past;

/// What a flag rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// What was used.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// What was seen.
    pub reason: Reason,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// Growth towards the limit.
    Growth(Kind, Growth),
    /// Little room is left, without growth that would fill it.
    Tight,
    /// The next allocation fails.
    Refusing,
    /// The danger is over.
    Over,
}

impl Why {
    /// Of a flag that is up.
    pub(super) fn raised(past: &Past, forecast: Option<Forecast>, refusing: bool) -> Self {
        let reason = match forecast {
            _ if refusing => Reason::Refusing,
            Some(forecast) => Reason::Growth(forecast.kind, forecast.growth),
            None => Reason::Tight,
        };
        Self { used: past.sampled.0, limit: past.sampled.1, reason }
    }

    /// Of a flag that is cleared.
    pub(super) fn cleared(past: &Past) -> Self {
        Self { used: past.sampled.0, limit: past.sampled.1, reason: Reason::Over }
    }

    /// The flag's kind as the API names it.
    pub fn kind(&self) -> &'static str {
        match self.reason {
            Reason::Growth(..) | Reason::Over => "trend",
            Reason::Tight => "tight",
            Reason::Refusing => "refusing",
        }
    }

    /// Units an hour, if there is growth.
    pub fn growth_per_hour(&self) -> Option<f64> {
        match self.reason {
            Reason::Growth(_, growth) => Some(growth.per_day / (DAY / HOUR)),
            _ => None,
        }
    }

    /// Over how long that was seen, seconds.
    pub fn grown_seconds(&self) -> Option<f64> {
        match self.reason {
            Reason::Growth(_, growth) => Some(growth.over),
            _ => None,
        }
    }

    /// In words. `unit` is what is counted ("arrays", "semaphores"), empty if that is not known.
    pub fn words(&self, unit: &str) -> String {
        let mut words = match self.reason {
            Reason::Growth(kind, growth) => grew(kind, growth, unit),
            _ => String::new(),
        };
        let gap = if unit.is_empty() { "" } else { " " };
        // Writing into a string does not fail.
        let _ = write!(words, "{} of {}{gap}{unit} used", self.used, self.limit);
        words.push_str(match self.reason {
            Reason::Growth(Kind::Drift | Kind::Peaks, _) => "; nothing like it came back by itself before",
            Reason::Growth(Kind::Climb | Kind::Surge, _) => "; no rise like it came back by itself before",
            Reason::Growth(Kind::Sawtooth, _) => "; a restart will come too late",
            Reason::Tight => "; little room, but no growth that would fill it",
            Reason::Refusing => ": the next allocation fails",
            Reason::Over => "; the danger is over",
        });
        words
    }
}

/// The growth: so much per time, over how long, and what is telling about it.
fn grew(kind: Kind, growth: Growth, unit: &str) -> String {
    let gap = if unit.is_empty() { "" } else { " " };
    let much = |per: f64| amount(growth.per_day * per / DAY);
    let over = span(growth.over);
    match kind {
        Kind::Drift => format!("grew {}{gap}{unit} a day for {over}, nearly each hour of the day; ", much(DAY)),
        Kind::Peaks => format!("the day's peak grew {}{gap}{unit} a day for {over}; ", much(DAY)),
        Kind::Climb => format!("grew {}{gap}{unit} an hour for {over}, steadily; ", much(HOUR)),
        Kind::Surge => format!("grew {}{gap}{unit} a minute for {over}, steadily; ", much(60.0)),
        Kind::Sawtooth => {
            format!("grows faster from restart to restart, now {}{gap}{unit} a day over {over}; ", much(DAY))
        }
    }
}

fn amount(value: f64) -> String {
    if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn span(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 2.0 * DAY => (s / DAY, "days"),
        s if s >= 2.0 * HOUR => (s / HOUR, "hours"),
        s => (s / 60.0, "minutes"),
    };
    format!("{value:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(reason: Reason, unit: &str) -> String {
        Why { used: 212, limit: 250, reason }.words(unit)
    }

    #[test]
    fn the_words_hold_the_figures_that_the_flag_rests_on() {
        let growth = Growth { per_day: 41.2, over: 3.1 * DAY };
        assert_eq!(
            words(Reason::Growth(Kind::Drift, growth), "arrays"),
            "grew 41 arrays a day for 3 days, nearly each hour of the day; 212 of 250 arrays used; nothing like it came \
             back by itself before"
        );
        let growth = Growth { per_day: 2_880.0, over: 1_200.0 };
        assert_eq!(
            words(Reason::Growth(Kind::Surge, growth), ""),
            "grew 2.0 a minute for 20 minutes, steadily; 212 of 250 used; no rise like it came back by itself before"
        );
        assert_eq!(words(Reason::Tight, ""), "212 of 250 used; little room, but no growth that would fill it");
        assert_eq!(words(Reason::Over, "semaphores"), "212 of 250 semaphores used; the danger is over");
    }
}
