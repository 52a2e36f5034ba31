//! The losses: what an error costs, and the slope of that.

use super::Loss;

/// The loss of a quantile for probability `p` that lies `error` above what came, and its derivative with respect to the
/// quantile: what comes above it costs p, what comes below it 1 - p, so that the loss is least where a share p comes below
/// (Koenker and Bassett, "Regression quantiles", 1978).
pub fn pinball(p: f64, error: f32) -> (f64, f32) {
    let wide = f64::from(error);
    // with e = q - y: (1 - p) e above what came, -p e below it; 0 where there is no slope
    let slope = match error {
        _ if error > 0.0 => 1.0 - p,
        _ if error < 0.0 => -p,
        _ => 0.0,
    };
    (slope * wide, slope as f32)
}

impl Loss {
    /// The loss of one value whose forecast minus target is `error`, and its derivative with respect to the
    /// forecast.
    pub fn of(self, error: f32) -> (f64, f32) {
        let wide = f64::from(error);
        match self {
            // e², 2e
            Loss::Mse => (wide * wide, 2.0 * error),
            // |e|, sign(e), and 0 where there is no slope
            Loss::Mae => (wide.abs(), if error == 0.0 { 0.0 } else { error.signum() }),
            // e² / 2 up to 1, |e| - 1/2 beyond; e limited to [-1, 1]
            Loss::Huber if wide.abs() <= 1.0 => (0.5 * wide * wide, error),
            Loss::Huber => (wide.abs() - 0.5, error.signum()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_slopes() {
        assert_eq!(Loss::Mse.of(-3.0), (9.0, -6.0));
        assert_eq!(Loss::Mae.of(-3.0), (3.0, -1.0));
        assert_eq!(Loss::Mae.of(0.0), (0.0, 0.0));
        assert_eq!(Loss::Huber.of(0.5), (0.125, 0.5));
        assert_eq!(Loss::Huber.of(1.0), (0.5, 1.0));
        assert_eq!(Loss::Huber.of(-3.0), (2.5, -1.0));
        assert_eq!(pinball(0.25, -3.0), (0.75, -0.25));
        assert_eq!(pinball(0.25, 2.0), (1.5, 0.75));
        assert_eq!(pinball(0.25, 0.0), (0.0, 0.0));
    }

    /// The quantile of what came is where the pinball loss is least.
    #[test]
    fn the_least_pinball_loss_is_at_the_quantile() {
        let came: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 1000) as f32 / 1000.0).collect();
        for p in [0.025, 0.3, 0.5, 0.9] {
            let loss = |q: f32| came.iter().map(|y| pinball(p, q - y).0).sum::<f64>();
            let best = (0..=200).map(|i| i as f32 / 200.0).min_by(|a, b| loss(*a).total_cmp(&loss(*b)));
            assert!((f64::from(best.unwrap()) - p).abs() < 0.006, "{p}: {best:?}");
        }
    }
}
