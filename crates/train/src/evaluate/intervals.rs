//! Intervals along time: ours as they come out of the line, the model's own, and those of other ways to correct them, at the
//! same origins. Each is looked at over all that is scored and over any [`RECENT`] forecasts in a row.

use std::collections::VecDeque;

use serde::Serialize;

use super::adaptive::{Threshold, Way};
use super::metrics::interval_score;

/// Forecasts in a row over which coverage is looked at.
pub const RECENT: usize = 500;

/// What came of the intervals of one method, at one level, some steps ahead of one series.
#[derive(Clone, Debug, Default)]
pub struct Held {
    count: u64,
    inside: u64,
    ties: u64,
    score: f64,
    recent: VecDeque<bool>,
    recent_inside: usize,
    worst: Option<f64>,
}

/// The same as shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeldShares {
    pub forecasts: u64,
    /// Share of actuals within, and of those that were exactly a bound.
    pub coverage: f64,
    pub ties: f64,
    /// Least share within of any [`RECENT`] forecasts in a row; none of fewer.
    pub worst_recent: Option<f64>,
    /// In the readings' unit.
    pub interval_score: f64,
}

impl Held {
    pub fn add(&mut self, level: f64, actual: f64, lower: f64, upper: f64) {
        let inside = lower <= actual && actual <= upper;
        self.count += 1;
        self.inside += u64::from(inside);
        self.ties += u64::from(actual == lower || actual == upper);
        self.score += interval_score(level, actual, lower, upper);
        self.recent.push_back(inside);
        self.recent_inside += usize::from(inside);
        if self.recent.len() > RECENT {
            self.recent_inside -= usize::from(self.recent.pop_front() == Some(true));
        }
        if self.recent.len() == RECENT {
            let share = self.recent_inside as f64 / RECENT as f64;
            self.worst = Some(self.worst.map_or(share, |worst| worst.min(share)));
        }
    }

    pub fn shares(&self) -> Option<HeldShares> {
        let count = self.count as f64;
        (self.count > 0).then(|| HeldShares {
            forecasts: self.count,
            coverage: self.inside as f64 / count,
            ties: self.ties as f64 / count,
            worst_recent: self.worst,
            interval_score: self.score / count,
        })
    }
}

/// The model's own intervals some steps ahead of one series, and what others make of them.
#[derive(Clone, Debug)]
pub struct Others {
    horizon: i64,
    levels: Vec<f64>,
    /// `[level][way]`
    thresholds: Vec<Vec<Threshold>>,
    waiting: VecDeque<Waiting>,
    /// `[level]`: the model's own, then each way.
    pub held: Vec<Vec<Held>>,
}

#[derive(Clone, Debug)]
struct Waiting {
    origin: i64,
    scored: bool,
    /// Of each level.
    bounds: Vec<[f64; 2]>,
    issued: Vec<Vec<f64>>,
}

impl Others {
    pub fn new(horizon: usize, levels: &[f64]) -> Self {
        let of = |level: &f64| Way::ALL.map(|way| Threshold::new(way, *level)).to_vec();
        Self {
            horizon: horizon as i64,
            levels: levels.to_vec(),
            thresholds: levels.iter().map(of).collect(),
            waiting: VecDeque::new(),
            held: vec![vec![Held::default(); 1 + Way::ALL.len()]; levels.len()],
        }
    }

    /// An interval of each level was issued at an origin, behind all before; `observed` is what was observed at a step.
    pub fn issue(
        &mut self,
        origin: i64,
        scored: bool,
        bounds: Vec<[f64; 2]>,
        observed: impl Fn(i64) -> Option<f64>,
    ) {
        self.settle(origin, &observed);
        let now = |thresholds: &Vec<Threshold>| thresholds.iter().map(Threshold::now).collect();
        let issued = self.thresholds.iter().map(now).collect();
        self.waiting.push_back(Waiting { origin, scored, bounds, issued });
    }

    /// Takes what came until a step.
    pub fn settle(&mut self, until: i64, observed: &impl Fn(i64) -> Option<f64>) {
        while self.waiting.front().is_some_and(|waiting| waiting.origin + self.horizon <= until) {
            let Waiting { origin, scored, bounds, issued } = self.waiting.pop_front().expect("there is one");
            let Some(actual) = observed(origin + self.horizon) else { continue };
            for (level, [lower, upper]) in bounds.into_iter().enumerate() {
                let width = if upper > lower { upper - lower } else { 1.0 };
                if scored {
                    self.held[level][0].add(self.levels[level], actual, lower, upper);
                }
                let score = (lower - actual).max(actual - upper) / width;
                for (way, threshold) in issued[level].iter().enumerate() {
                    let (low, high) = (lower - threshold * width, upper + threshold * width);
                    // A negative threshold may turn an interval inside out.
                    let middle = (low + high) / 2.0;
                    let (low, high) = (low.min(middle), high.max(middle));
                    if scored {
                        self.held[level][1 + way].add(self.levels[level], actual, low, high);
                    }
                    self.thresholds[level][way].learn(score, score > *threshold);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_by_hand() {
        let mut held = Held::default();
        for i in 0..RECENT + 200 {
            // A hundred misses in a row.
            let actual = if (250..350).contains(&i) { 3.0 } else { 0.5 };
            held.add(0.8, actual, 0.0, 1.0);
        }
        held.add(0.8, 1.0, 0.0, 1.0);
        let shares = held.shares().unwrap();
        let count = (RECENT + 201) as f64;
        assert_eq!((shares.forecasts, shares.ties), (701, 1.0 / count));
        assert_eq!((shares.coverage, shares.worst_recent), (601.0 / count, Some(0.8)));
        assert!((shares.interval_score - (count + 100.0 * 2.0 / 0.2 * 2.0) / count).abs() < 1e-9);
        assert_eq!(Held::default().shares(), None);
    }

    #[test]
    fn what_others_learn_comes_as_late_as_it_came() {
        let mut others = Others::new(3, &[0.8]);
        let observed = |step: i64| (step != 7).then_some(9.0);
        for origin in 0..10 {
            others.issue(origin, origin >= 2, vec![[0.0, 1.0]], observed);
        }
        others.settle(9, &observed);
        // Origins 2 to 6, without the one of which nothing was observed.
        assert_eq!(others.held[0][0].shares().unwrap().forecasts, 4);
        assert_eq!(others.waiting.len(), 3);
    }
}
