//! Corrections of learned quantiles: a network that says q_p was never shown how often it is right on other times, so each
//! is moved by the p-quantile of actual − q_p there, at every step of the horizon. On times like those, the corrected
//! quantile holds its share however good or bad q_p is (Romano, Patterson and Candès, "Conformalized quantile regression",
//! 2019; both tails apart, as in their theorem 2).

use super::bounds::{Base, Bound, Bounds};
use super::quantile;

/// How far the quantiles are moved, scaled, `[probability][horizon]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Corrections {
    horizon: usize,
    values: Vec<f32>,
}

impl Corrections {
    /// From what came less each quantile, by probability and step; `None` where one has fewer than `least` errors, or none.
    pub fn of(errors: Vec<Vec<Vec<f32>>>, probabilities: &[f64], least: usize) -> Option<Self> {
        let horizon = errors.first()?.len();
        let mut values = Vec::with_capacity(probabilities.len() * horizon);
        for (steps, p) in errors.into_iter().zip(probabilities) {
            for mut step in steps {
                step.sort_unstable_by(f32::total_cmp);
                values.push(quantile(&step, *p).filter(|_| step.len() >= least)?);
            }
        }
        Some(Self { horizon, values })
    }

    /// Puts back what a file kept; `None` if that is not its size.
    pub fn from_values(horizon: usize, probabilities: usize, values: Vec<f32>) -> Option<Self> {
        let size = horizon > 0 && horizon.checked_mul(probabilities) == Some(values.len());
        size.then_some(Self { horizon, values })
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The bounds at the probabilities of these numbers.
    pub fn bounds(&self, numbers: [usize; 2]) -> Bounds {
        let [lower, upper] = numbers.map(|number| Bound {
            base: Base::Quantile(number),
            // What was learned knows how restless the series is.
            beta: 0.0,
            offsets: self.values[number * self.horizon..][..self.horizon].to_vec(),
        });
        Bounds { lower, upper }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervals::probabilities;

    #[test]
    fn corrected_quantiles_hold_their_share_however_wrong_they_were() {
        let came: Vec<f32> = (0..10_000).map(|i| ((i * 7919) % 10_000) as f32 / 10_000.0).collect();
        let wrong = [0.4f32, 0.1];
        let errors = wrong.map(|q| vec![came.iter().map(|y| y - q).collect::<Vec<f32>>()]);
        let corrections = Corrections::of(errors.to_vec(), &probabilities(&[0.8]), 1).unwrap();
        let [mut lower, mut upper] = [[0.0; 1]; 2];
        corrections.bounds([0, 1]).write((&[0.0], &wrong), 1.0, &mut lower, &mut upper);
        let ([lower], [upper]) = (lower, upper);
        let inside = came.iter().filter(|y| (lower..=upper).contains(y)).count() as f64 / 1e4;
        assert!((inside - 0.8).abs() < 0.002 && (lower - 0.1).abs() < 1e-3, "{lower} {upper} {inside}");
    }

    #[test]
    fn too_few_errors_correct_nothing() {
        let errors = || vec![vec![vec![1.0; 99], vec![1.0; 100]]; 2];
        assert_eq!(Corrections::of(errors(), &[0.1, 0.9], 100), None);
        assert_eq!(Corrections::of(errors(), &[0.1, 0.9], 99).unwrap().values(), &[1.0; 4]);
        assert_eq!(Corrections::of(vec![vec![vec![]]], &[0.1], 0), None);
        assert_eq!(Corrections::from_values(2, 2, vec![0.0; 3]), None);
    }
}
