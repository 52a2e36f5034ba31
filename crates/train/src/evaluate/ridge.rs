//! Ridge regression on a window, with the same coefficients for every series: a direct forecast of all steps of the horizon
//! from the differences to the last value. Many published networks do not beat this baseline.

use tidecast_core::network::recurrence::{NormalEquations, Regularization, Solution, solve_ridge};

/// Rows per update of the sums: large enough for a fast product, small enough for the cache.
const ROWS_PER_UPDATE: usize = 256;

/// Sums over rows. A row maps `[x(t-L+1) - x(t), .., x(t-1) - x(t), 1]` to `x(t+h) - x(t)`, in spreads of its series.
#[derive(Clone, Debug)]
pub struct RidgeSums {
    lookback: usize,
    horizon: usize,
    equations: NormalEquations,
    xs: Vec<f32>,
    ys: Vec<f32>,
}

/// Fitted coefficients, `[feature][step of the horizon]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    lookback: usize,
    horizon: usize,
    coefficients: Vec<f32>,
    pub penalty: f64,
}

impl RidgeSums {
    /// # Panics
    /// If `lookback` or `horizon` is 0.
    pub fn new(lookback: usize, horizon: usize) -> Self {
        assert!(lookback > 0 && horizon > 0, "a row has features and targets");
        let equations = NormalEquations::new(lookback, horizon);
        Self { lookback, horizon, equations, xs: Vec::new(), ys: Vec::new() }
    }

    /// Adds a row: the values up to the origin, of which the last `lookback` are used, and the horizon after it. Ignored
    /// where `spread` is 0.
    pub fn add(&mut self, window: &[f64], horizon: &[f64], spread: f64) {
        let Some(last) = window.last().filter(|_| spread > 0.0) else { return };
        features(window, self.lookback, spread, |x| self.xs.push(x));
        self.ys.extend(horizon.iter().map(|y| ((y - last) / spread) as f32));
        if self.xs.len() >= ROWS_PER_UPDATE * self.lookback {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.xs.is_empty() {
            self.equations.add(&self.xs, &self.ys);
            self.xs.clear();
            self.ys.clear();
        }
    }

    /// Adds the rows of `other`.
    pub fn merge(&mut self, mut other: Self) {
        self.flush();
        other.flush();
        self.equations.merge(&other.equations);
    }

    pub fn rows(&mut self) -> u64 {
        self.flush();
        self.equations.rows()
    }

    /// The coefficients that minimise Σ |y - Wᵀx|² + λ |W|²; none if the equations are singular in floating point.
    pub fn fit(&mut self, penalty: f64) -> Option<Ridge> {
        self.flush();
        let (lookback, horizon) = (self.lookback, self.horizon);
        let regularization = Regularization { ridge: penalty, scales: vec![1.0; lookback] };
        let solution = solve_ridge(std::slice::from_ref(&self.equations), lookback, &regularization)?;
        let coefficient = |i: usize| solution.shared[i % horizon * lookback + i / horizon] as f32;
        let coefficients = (0..lookback * horizon).map(coefficient).collect();
        Some(Ridge { lookback, horizon, coefficients, penalty })
    }

    /// Σ (y - Wᵀx)² over rows and horizon.
    pub fn squared_error(&mut self, ridge: &Ridge) -> f64 {
        self.flush();
        let (lookback, horizon) = (self.lookback, self.horizon);
        let weight = |i: usize| f64::from(ridge.coefficients[i % lookback * horizon + i / lookback]);
        let shared = (0..lookback * horizon).map(weight).collect();
        let solution = Solution { shared, per_series: Vec::new() };
        self.equations.squared_errors(&solution, 0).iter().sum()
    }
}

impl Ridge {
    pub fn lookback(&self) -> usize {
        self.lookback
    }

    /// x̂(t + h) = x(t) + spread Σ w x. `sums` is a buffer.
    pub fn forecast(&self, window: &[f64], spread: f64, sums: &mut Vec<f32>, out: &mut [f64]) {
        let last = window.last().copied().unwrap_or(0.0);
        sums.clear();
        sums.resize(self.horizon, 0.0);
        if spread > 0.0 {
            let mut rows = self.coefficients.chunks_exact(self.horizon);
            features(window, self.lookback, spread, |x| {
                let row = rows.next().expect("a row of coefficients for each feature");
                sums.iter_mut().zip(row).for_each(|(sum, w)| *sum += w * x);
            });
        }
        for (out, sum) in out.iter_mut().zip(&*sums) {
            *out = last + spread * f64::from(*sum);
        }
    }
}

/// Emits the features of a window, oldest first, then a constant. A window shorter than `lookback` is padded with its first
/// value.
fn features(window: &[f64], lookback: usize, spread: f64, mut emit: impl FnMut(f32)) {
    let last = window.last().copied().unwrap_or(0.0);
    let window = &window[window.len().saturating_sub(lookback)..];
    let padding = lookback - window.len();
    let scaled = |value: f64| ((value - last) / spread) as f32;
    let first = window.first().copied().unwrap_or(last);
    (0..padding.min(lookback - 1)).for_each(|_| emit(scaled(first)));
    window[..window.len().saturating_sub(1)].iter().for_each(|value| emit(scaled(*value)));
    emit(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x(t) = 1.5 x(t-1) - 0.8 x(t-2) + 3, with a shock every 50 steps: two differences determine the next values.
    fn series(steps: usize) -> Vec<f64> {
        let mut values = vec![10.0, 14.0];
        for t in 2..steps {
            let wave = (t as f64 * 0.7).sin() + (t as f64 * 0.31).cos();
            let shock = if t % 50 == 0 { 5.0 * wave } else { 0.0 };
            values.push(1.5 * values[t - 1] - 0.8 * values[t - 2] + 3.0 + shock);
        }
        values
    }

    #[test]
    fn linear_dynamics_are_recovered() {
        let values = series(50);
        let mut sums = RidgeSums::new(4, 3);
        for t in 3..46 {
            sums.add(&values[..=t], &values[t + 1..t + 4], 2.0);
        }
        assert_eq!(sums.rows(), 43);
        let ridge = sums.fit(1e-9).unwrap();
        assert!(sums.squared_error(&ridge) < 1e-4);
        let (mut out, mut scratch) = ([0.0; 3], Vec::new());
        ridge.forecast(&values[..=30], 2.0, &mut scratch, &mut out);
        for (forecast, actual) in out.iter().zip(&values[31..34]) {
            assert!((forecast - actual).abs() < 1e-2, "{forecast} {actual}");
        }
    }

    #[test]
    fn constant_series_repeat_their_value_and_short_windows_are_padded() {
        let mut sums = RidgeSums::new(3, 2);
        let values: Vec<f64> = (0..40).map(|t| f64::from(t % 5)).collect();
        (4..37).for_each(|t| sums.add(&values[..=t], &values[t + 1..t + 3], 1.0));
        let ridge = sums.fit(1.0).unwrap();
        let (mut short, mut padded, mut scratch) = ([0.0; 2], [0.0; 2], Vec::new());
        ridge.forecast(&[7.0], 0.0, &mut scratch, &mut short);
        assert_eq!(short, [7.0, 7.0]);
        ridge.forecast(&[1.0, 2.0], 1.0, &mut scratch, &mut short);
        ridge.forecast(&[1.0, 1.0, 2.0], 1.0, &mut scratch, &mut padded);
        assert_eq!(short, padded);
    }
}
