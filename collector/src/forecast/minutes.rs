//! The last four hours in steps of three quarters of a minute, whatever the number of rows.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How far back it goes, seconds.
const KEPT: f64 = 14_400.0;
/// Rows closer than this share a step, seconds.
const STEP: f64 = 45.0;

/// The value at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steady instant.
    pub at: f64,
    /// What was used.
    pub used: f64,
    begun: f64,
}

/// The last four hours, oldest first; at most 321 points.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Minutes {
    points: VecDeque<Point>,
}

impl Minutes {
    /// Forgets all, where nothing was known for a while or everything was freed.
    pub fn clear(&mut self) {
        self.points.clear();
    }

    /// Adds a row; whether it began a new step.
    pub fn add(&mut self, at: f64, used: f64) -> bool {
        while self.points.front().is_some_and(|first| at - first.at > KEPT) {
            self.points.pop_front();
        }
        match self.points.back_mut() {
            Some(last) if at - last.begun < STEP => {
                last.at = at;
                last.used = used;
                false
            }
            _ => {
                self.points.push_back(Point { at, used, begun: at });
                true
            }
        }
    }

    /// The points.
    pub fn points(&self) -> &VecDeque<Point> {
        &self.points
    }

    /// The greatest change from one point to the next within the last two hours.
    pub fn greatest_jump(&self, now: f64) -> f64 {
        let recent = || self.points.iter().skip_while(|p| now - p.at > 7_200.0);
        recent().zip(recent().skip(1)).fold(0.0, |most, (a, b)| most.max((b.used - a.used).abs()))
    }
}
