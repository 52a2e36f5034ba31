//! The training losses and their derivatives.

use super::Loss;
use crate::metrics;

/// The targets of a batch and the loss.
#[derive(Clone, Copy, Debug)]
pub struct LossSpec<'a> {
    /// `[column][horizon]` for windows, `[forecast][column][horizon]` for sequences; NaN are skipped.
    pub targets: &'a [f32],
    /// The loss of the point forecast.
    pub loss: Loss,
    /// The probability of each quantile; its loss is the pinball loss.
    pub probabilities: &'a [f64],
    /// `[column][hidden]`: factors of the head's hidden inputs, the same for every call of a column (variational dropout: Gal and
    /// Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016). Empty without dropout.
    pub dropout: &'a [f32],
}

/// A summed loss, and the number of targets it was summed over.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    pub sum: f64,
    pub count: usize,
}

/// A loss and its derivative with respect to the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossValue {
    pub value: f64,
    pub derivative: f32,
}

impl LossSum {
    pub fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

impl LossSpec<'_> {
    /// The loss of one forecast, `[quantity][horizon]`, against its targets.
    pub fn evaluate(&self, forecast: &[f32], targets: &[f32]) -> LossSum {
        let mut total = LossSum::default();
        for (step, target) in targets.iter().enumerate().filter(|(_, target)| !target.is_nan()) {
            let outputs = forecast.iter().skip(step).step_by(targets.len()).enumerate();
            total.sum +=
                outputs.map(|(quantity, output)| self.value(quantity, output - target).value).sum::<f64>();
            total.count += 1;
        }
        total
    }

    /// The loss of an output whose difference from its target is `error`: quantity 0 is the point forecast, the others are the
    /// quantiles.
    pub(super) fn value(&self, quantity: usize, error: f32) -> LossValue {
        match quantity.checked_sub(1) {
            None => self.loss.value(error),
            Some(quantile) => pinball(self.probabilities[quantile], error),
        }
    }
}

/// The pinball loss of a quantile that lies `error` above the actual: its expectation is minimal at the quantile of
/// probability `p` (Koenker and Bassett, "Regression quantiles", 1978).
pub fn pinball(p: f64, error: f32) -> LossValue {
    // with e = q - y: 1 - p above the actual, -p below it, 0 at the kink
    let derivative = match error {
        _ if error > 0.0 => 1.0 - p,
        _ if error < 0.0 => -p,
        _ => 0.0,
    };
    LossValue { value: metrics::pinball_loss(p, -f64::from(error)), derivative: derivative as f32 }
}

impl Loss {
    /// The loss of a forecast that lies `error` above its target.
    pub fn value(self, error: f32) -> LossValue {
        let e = f64::from(error);
        let (value, derivative) = match self {
            // e², 2e
            Loss::Mse => (e * e, 2.0 * error),
            // |e|, sign(e), and 0 at the kink
            Loss::Mae => (e.abs(), if error == 0.0 { 0.0 } else { error.signum() }),
            // e² / 2 up to 1, |e| - 1/2 beyond; e clamped to [-1, 1]
            Loss::Huber if e.abs() <= 1.0 => (0.5 * e * e, error),
            Loss::Huber => (e.abs() - 0.5, error.signum()),
        };
        LossValue { value, derivative }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_derivatives_are_correct() {
        let loss = |value, derivative| LossValue { value, derivative };
        assert_eq!(Loss::Mse.value(-3.0), loss(9.0, -6.0));
        assert_eq!(Loss::Mae.value(-3.0), loss(3.0, -1.0));
        assert_eq!(Loss::Mae.value(0.0), loss(0.0, 0.0));
        assert_eq!(Loss::Huber.value(0.5), loss(0.125, 0.5));
        assert_eq!(Loss::Huber.value(1.0), loss(0.5, 1.0));
        assert_eq!(Loss::Huber.value(-3.0), loss(2.5, -1.0));
        assert_eq!(pinball(0.25, -3.0), loss(0.75, -0.25));
        assert_eq!(pinball(0.25, 2.0), loss(1.5, 0.75));
        assert_eq!(pinball(0.25, 0.0), loss(0.0, 0.0));
    }

    #[test]
    fn the_pinball_loss_is_minimal_at_the_quantile() {
        let actuals: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
        for p in [0.025, 0.3, 0.5, 0.9] {
            let loss = |q: f32| actuals.iter().map(|y| pinball(p, q - y).value).sum::<f64>();
            let best = (0..=200).map(|i| i as f32 / 200.0).min_by(|a, b| loss(*a).total_cmp(&loss(*b)));
            assert!((f64::from(best.unwrap()) - p).abs() < 0.006, "{p}: {best:?}");
        }
    }
}
