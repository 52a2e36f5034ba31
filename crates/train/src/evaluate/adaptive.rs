//! Other ways to go on correcting intervals as actuals arrive, for comparison: each widens the model's own interval on both
//! sides by a threshold of its scores, s = max(lower - y, y - upper) / width (conformalised quantile regression).

use std::collections::VecDeque;

/// Scores that the quantile is taken of: as many as a rolling coverage looks at.
const WINDOW: usize = 500;
/// Before so many scores the model's own interval stands: the tails of fewer are chance.
const LEAST: usize = 100;

/// A way of comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Adaptive conformal inference (Gibbs and Candès, "Adaptive conformal inference under distribution shift", 2021).
    Aci,
    /// Scale-free online gradient descent (Bhatnagar, Wang, Xiong and Bai, "Improved online conformal prediction via strongly
    /// adaptive online learning", 2023).
    SfOgd,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Aci, Self::SfOgd];

    pub fn name(self) -> &'static str {
        match self {
            Self::Aci => "ACI",
            Self::SfOgd => "SF-OGD",
        }
    }
}

/// The threshold of one level some steps ahead of one series.
#[derive(Clone, Debug)]
pub enum Threshold {
    Aci { miss: f64, rate: f64, order: VecDeque<f64>, sorted: Vec<f64> },
    SfOgd { miss: f64, threshold: f64, size: f64, squares: f64, seen: usize },
}

/// γ of ACI, as in the paper.
const GAMMA: f64 = 0.005;

impl Threshold {
    pub fn new(way: Way, level: f64) -> Self {
        let miss = 1.0 - level;
        match way {
            Way::Aci => Self::Aci { miss, rate: miss, order: VecDeque::new(), sorted: Vec::new() },
            Way::SfOgd => Self::SfOgd { miss, threshold: 0.0, size: 0.0, squares: 0.0, seen: 0 },
        }
    }

    pub fn now(&self) -> f64 {
        match self {
            // The 1 - α_t quantile of past scores. An infinite one, at α_t ≤ 0, is taken to be the largest: in its favour.
            Self::Aci { rate, sorted, .. } if sorted.len() >= LEAST => {
                let rank = ((1.0 - rate) * (sorted.len() + 1) as f64).ceil();
                sorted[(rank.clamp(1.0, sorted.len() as f64)) as usize - 1]
            }
            Self::Aci { .. } => 0.0,
            Self::SfOgd { threshold, .. } => *threshold,
        }
    }

    /// Takes a score, and whether what was issued then had missed.
    pub fn learn(&mut self, score: f64, missed: bool) {
        let erred = f64::from(u8::from(missed));
        match self {
            Self::Aci { miss, rate, order, sorted } => {
                // α ← α + γ (α* - err)
                *rate += GAMMA * (*miss - erred);
                order.push_back(score);
                let place = sorted.partition_point(|other| *other < score);
                sorted.insert(place, score);
                if order.len() > WINDOW {
                    let oldest = order.pop_front().expect("it is not empty");
                    sorted.remove(sorted.partition_point(|other| *other < oldest));
                }
            }
            Self::SfOgd { miss, threshold, size, squares, seen } => {
                // q ← q + D/√3 (err - α) / √Σ (err - α)², D being the largest of the first scores
                let gradient = erred - *miss;
                *squares += gradient * gradient;
                *seen += 1;
                if *seen <= LEAST {
                    *size = size.max(score.abs());
                }
                *threshold += *size / 3f64.sqrt() * gradient / squares.sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holds_its_level_in_the_long_run() {
        for way in Way::ALL {
            for level in [0.8, 0.95] {
                let mut threshold = Threshold::new(way, level);
                let mut missed = 0.0;
                for i in 0..40_000 {
                    let score = ((i * 7919) % 10_007) as f64 / 10_007.0 * if i < 20_000 { 1.0 } else { 3.0 };
                    let misses = score > threshold.now();
                    missed += if i >= 10_000 { f64::from(u8::from(misses)) } else { 0.0 };
                    threshold.learn(score, misses);
                }
                let coverage = 1.0 - missed / 30_000.0;
                assert!((coverage - level).abs() < 0.01, "{}: {coverage}", way.name());
            }
        }
    }
}
