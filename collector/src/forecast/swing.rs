//! The heights from which use came back by itself: what has a precedent is no news.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Peaks that are kept; a daily cycle leaves one a day.
const KEPT: usize = 64;

/// A height that was left again without a reset.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// Steady instant of the height.
    pub at: f64,
    /// The height.
    pub level: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    Up { low: f64, peak: Peak },
    Down { low: f64 },
}

/// Follows a level up and down and keeps its peaks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Swings {
    way: Option<Way>,
    peaks: VecDeque<Peak>,
}

impl Swings {
    /// The next level. It has come back once it lies `step` and the share `back` of the last rise below the peak.
    pub fn follow(&mut self, now: f64, level: f64, step: f64, back: f64) {
        let here = Peak { at: now, level };
        self.way = Some(match self.way {
            None => Way::Up { low: level, peak: here },
            Some(Way::Up { low, peak }) => {
                let peak = if level > peak.level { here } else { peak };
                let low = low.min(level);
                if level < peak.level - step.max(back * (peak.level - low)) {
                    self.keep(peak);
                    Way::Down { low: level }
                } else {
                    Way::Up { low, peak }
                }
            }
            Some(Way::Down { low }) => {
                let low = low.min(level);
                if level > low + step { Way::Up { low, peak: here } } else { Way::Down { low } }
            }
        });
    }

    /// After a reset the way down was not its own.
    pub fn restart(&mut self) {
        self.way = None;
    }

    /// Forgets the peaks since an instant: what ended at the limit is no precedent of harmlessness.
    pub fn forget_since(&mut self, instant: f64) {
        self.peaks.retain(|peak| peak.at < instant);
    }

    /// The highest peak since an instant.
    pub fn highest_since(&self, instant: f64) -> Option<f64> {
        self.peaks.iter().filter(|p| p.at >= instant).map(|p| p.level).max_by(f64::total_cmp)
    }

    /// The highest peak between two instants.
    pub fn highest_between(&self, from: f64, until: f64) -> Option<f64> {
        let within = self.peaks.iter().filter(|p| p.at >= from && p.at <= until);
        within.map(|p| p.level).max_by(f64::total_cmp)
    }

    fn keep(&mut self, peak: Peak) {
        if self.peaks.len() >= KEPT {
            self.peaks.pop_front();
        }
        self.peaks.push_back(peak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn highest(levels: &[f64]) -> Option<f64> {
        let mut swings = Swings::default();
        for (at, level) in levels.iter().enumerate() {
            swings.follow(at as f64, *level, 4.0, 0.25);
        }
        swings.highest_since(0.0)
    }

    #[test]
    fn a_height_counts_once_use_has_come_back_from_it() {
        assert_eq!(highest(&[10.0, 30.0, 50.0, 49.0]), None);
        assert_eq!(highest(&[10.0, 30.0, 50.0, 30.0]), Some(50.0));
        assert_eq!(highest(&[10.0, 50.0, 20.0, 60.0, 58.0]), Some(50.0));
    }

    #[test]
    fn a_dent_in_a_long_rise_is_no_way_back() {
        assert_eq!(highest(&[10.0, 50.0, 44.0, 80.0]), None);
    }
}
