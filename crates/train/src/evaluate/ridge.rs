//! Ridge regression on the window: all steps of the horizon directly from the last values less the last one, with the
//! same coefficients for every series. It is the bar that many published networks do not clear.

use tidecast_core::network::memory::{Normal, Penalties, solve};

/// Rows that are added to the sums at once: enough for a fast product, few enough to stay in the cache.
const ROWS_AT_ONCE: usize = 256;

/// Sums over rows: a row reads `[x(t-L+1) - x(t), .., x(t-1) - x(t), 1]`, and says `x(t+h) - x(t)`, all in spreads of its
/// series.
#[derive(Clone, Debug)]
pub struct RidgeSums {
    lookback: usize,
    horizon: usize,
    normal: Normal,
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
    /// If there is nothing to read or to say.
    pub fn new(lookback: usize, horizon: usize) -> Self {
        assert!(lookback > 0 && horizon > 0, "a row reads and says something");
        let normal = Normal::new(lookback, horizon);
        Self { lookback, horizon, normal, xs: Vec::new(), ys: Vec::new() }
    }

    /// Adds a row: the values up to the origin, of which the last `lookback` are read, and the horizon after it.
    pub fn add(&mut self, window: &[f64], horizon: &[f64], spread: f64) {
        let Some(last) = window.last().filter(|_| spread > 0.0) else { return };
        features(window, self.lookback, spread, |x| self.xs.push(x));
        self.ys.extend(horizon.iter().map(|y| ((y - last) / spread) as f32));
        if self.xs.len() >= ROWS_AT_ONCE * self.lookback {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.xs.is_empty() {
            self.normal.add(&self.xs, &self.ys);
            self.xs.clear();
            self.ys.clear();
        }
    }

    /// Adds the rows of another.
    pub fn plus(&mut self, mut other: Self) {
        self.flush();
        other.flush();
        self.normal.plus(&other.normal);
    }

    pub fn rows(&mut self) -> u64 {
        self.flush();
        self.normal.rows()
    }

    /// The coefficients that minimise Σ |y - Wᵀx|² + λ |W|²; `None` if the equations have no solution in floating point.
    pub fn fit(&mut self, penalty: f64) -> Option<Ridge> {
        self.flush();
        let (lookback, horizon) = (self.lookback, self.horizon);
        let penalties = Penalties { ridge: penalty, scales: vec![1.0; lookback] };
        let solution = solve(std::slice::from_ref(&self.normal), lookback, &penalties)?;
        let coefficient = |i: usize| solution.shared[i % horizon * lookback + i / horizon] as f32;
        let coefficients = (0..lookback * horizon).map(coefficient).collect();
        Some(Ridge { lookback, horizon, coefficients, penalty })
    }

    /// Σ (y - Wᵀx)² over the rows and the horizon.
    pub fn squared_error(&mut self, ridge: &Ridge) -> f64 {
        self.flush();
        let (lookback, horizon) = (self.lookback, self.horizon);
        let weight = |i: usize| f64::from(ridge.coefficients[i % lookback * horizon + i / lookback]);
        let shared = (0..lookback * horizon).map(weight).collect();
        let solution = tidecast_core::network::memory::Solution { shared, own: Vec::new() };
        self.normal.squared_errors(&solution, 0).iter().sum()
    }
}

impl Ridge {
    pub fn lookback(&self) -> usize {
        self.lookback
    }

    /// x̂(t + h) = x(t) + spread Σ w x
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

/// The features of a window, oldest first, then a constant. Where the series is younger than the window, its first value
/// stands for what came before.
fn features(window: &[f64], lookback: usize, spread: f64, mut take: impl FnMut(f32)) {
    let last = window.last().copied().unwrap_or(0.0);
    let window = &window[window.len().saturating_sub(lookback)..];
    let young = lookback - window.len();
    let way = |value: f64| ((value - last) / spread) as f32;
    let first = window.first().copied().unwrap_or(last);
    (0..young.min(lookback - 1)).for_each(|_| take(way(first)));
    window[..window.len().saturating_sub(1)].iter().for_each(|value| take(way(*value)));
    take(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x(t) = 1.5 x(t-1) - 0.8 x(t-2) + 3: a row of two differences says all that follows.
    fn series(steps: usize) -> Vec<f64> {
        let mut values = vec![10.0, 14.0];
        for t in 2..steps {
            let wave = (t as f64 * 0.7).sin() + (t as f64 * 0.31).cos();
            values.push(
                1.5 * values[t - 1] - 0.8 * values[t - 2] + 3.0 + if t % 50 == 0 { 5.0 * wave } else { 0.0 },
            );
        }
        values
    }

    #[test]
    fn what_is_linear_in_the_window_is_found() {
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
        for (said, came) in out.iter().zip(&values[31..34]) {
            assert!((said - came).abs() < 1e-2, "{said} {came}");
        }
    }

    #[test]
    fn a_series_without_spread_is_repeated_and_a_young_one_has_stood_still() {
        let mut sums = RidgeSums::new(3, 2);
        let values: Vec<f64> = (0..40).map(|t| f64::from(t % 5)).collect();
        (4..37).for_each(|t| sums.add(&values[..=t], &values[t + 1..t + 3], 1.0));
        let ridge = sums.fit(1.0).unwrap();
        let (mut young, mut stood, mut scratch) = ([0.0; 2], [0.0; 2], Vec::new());
        ridge.forecast(&[7.0], 0.0, &mut scratch, &mut young);
        assert_eq!(young, [7.0, 7.0]);
        ridge.forecast(&[1.0, 2.0], 1.0, &mut scratch, &mut young);
        ridge.forecast(&[1.0, 1.0, 2.0], 1.0, &mut scratch, &mut stood);
        assert_eq!(young, stood);
    }
}
