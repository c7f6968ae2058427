//! Growth from restart to restart: each tooth steeper than the last, until one reaches the limit.

use serde::{Deserialize, Serialize};

use super::eta::{Forecast, Growth, Kind, Spread};
use super::hours::DAY;
use super::past::Past;

/// Rates of the newest teeth that are looked at.
const LOOKED_AT: usize = 6;

/// The growth of the teeth that is on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sawtooth {
    on: Option<Forecast>,
}

impl Sawtooth {
    /// What it says now.
    pub fn forecast(&self) -> Option<Forecast> {
        self.on
    }

    /// Ends it.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// Looks at the teeth; once on, it stays until a whole tooth contradicts.
    pub fn look(&mut self, past: &Past) {
        let Some(rates) = Rates::of(past) else {
            self.end();
            return;
        };
        let seen = if self.on.is_some() { rates.slope > rates.error } else { rates.rising() };
        self.on = rates.forecast(past).filter(|_| seen);
    }
}

/// How the teeth grow.
#[derive(Clone, Debug)]
struct Rates {
    /// Rates of the newest teeth, oldest first, per second; not of the one that is growing, for a tooth need not be
    /// straight.
    rates: Vec<f64>,
    /// Least-squares slope per tooth, its error, and the fit at the last one.
    slope: f64,
    error: f64,
    fit: f64,
    /// Usual length and floor.
    length: f64,
    floor: f64,
}

impl Rates {
    fn of(past: &Past) -> Option<Self> {
        let teeth = past.teeth.all();
        let mut lengths: Vec<f64> = teeth.iter().filter(|t| t.whole).map(|t| t.length()).collect();
        if teeth.len() < 3 || lengths.len() < 2 {
            return None;
        }
        lengths.sort_by(f64::total_cmp);
        let length = *lengths.get(lengths.len() / 2)?;
        let newest = teeth.iter().skip(teeth.len().saturating_sub(LOOKED_AT));
        let mut floors: Vec<f64> = newest.clone().map(|t| t.floor).collect();
        floors.sort_by(f64::total_cmp);
        let floor = *floors.get(floors.len() / 2)?;
        let rates: Vec<f64> = newest.map(|t| t.rate()).collect();
        let (slope, error, fit) = line(&rates);
        Some(Self { rates, slope, error, fit, length, floor })
    }

    /// Whether the growth is beyond the scatter of the teeth.
    fn rising(&self) -> bool {
        let (first, last) = (self.rates.first().copied().unwrap_or(0.0), self.rates.last().copied().unwrap_or(0.0));
        let falls = self.rates.windows(2).filter(|pair| pair[1] <= pair[0]).count();
        // The fewer teeth, the easier they lie on a line by chance.
        let sure = match self.rates.len() {
            0..=3 => 8.0,
            4 => 4.5,
            _ => 3.0,
        };
        falls <= 1 && last > 1.15 * first && self.slope > sure * self.error
    }

    /// The first tooth that will reach the cap before its reset, and when.
    fn forecast(&self, past: &Past) -> Option<Forecast> {
        let now = past.now - past.segment.since;
        for tooth in 0..64_u32 {
            let ahead = f64::from(tooth);
            let rate = (self.fit + self.slope * (ahead + 1.0)).max(1e-12);
            let begin = ahead * self.length;
            let need =
                if tooth == 0 { now + (past.cap() - past.used) / rate } else { (past.cap() - self.floor) / rate };
            if begin - now > past.policy.warning {
                return None;
            }
            if need <= self.length.max(if tooth == 0 { now } else { 0.0 }) {
                let left = (begin + need - now).max(0.0);
                let growth = Growth { per_day: rate * DAY, over: self.length };
                return (left < past.policy.warning)
                    .then(|| Forecast::new(Kind::Sawtooth, past.now, left, Spread::TEETH, growth));
            }
        }
        None
    }
}

/// Least squares over 0, 1, 2 ..: slope, its standard error, and the fit at the last.
fn line(values: &[f64]) -> (f64, f64, f64) {
    let n = values.len() as f64;
    let (mean_x, mean_y) = ((n - 1.0) / 2.0, values.iter().sum::<f64>() / n);
    let (mut xx, mut xy) = (0.0, 0.0);
    for (x, y) in values.iter().enumerate() {
        xx += (x as f64 - mean_x).powi(2);
        xy += (x as f64 - mean_x) * (y - mean_y);
    }
    let slope = xy / xx;
    let left: f64 =
        values.iter().enumerate().map(|(x, y)| (y - mean_y - slope * (x as f64 - mean_x)).powi(2)).sum::<f64>();
    let error = (left / (n - 2.0).max(1.0) / xx).sqrt();
    (slope, error, mean_y + slope * (n - 1.0 - mean_x))
}
