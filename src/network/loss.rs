//! The losses: what an error costs, and the slope of that.

use super::Loss;

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
    }
}
