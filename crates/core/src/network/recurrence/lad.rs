//! Least absolute deviations: coefficients that are robust where a series is mostly flat and sometimes jumps, since squared
//! errors would be dominated by the jumps. It takes several passes over the rows, which are therefore stored.
//!
//! It minimises Σ |y - wᵀx| + λ |w|² / 2κ by the alternating direction method of multipliers (Boyd, Parikh, Chu, Peleato and
//! Eckstein, "Distributed optimization and statistical learning via ADMM", 2011, section 6.1). With the residuals r and their
//! multipliers u, a pass over the rows is
//!
//! ```text
//! v = y - wᵀx + u      u ← v clamped to ±κ      r = v - u
//! w ← ridge solution of the targets y - r + u = y - v + 2u
//! ```
//!
//! so the equations are those of the ridge regression, factored once, and u is all that is stored per row. κ is a target's
//! typical error, which makes the result independent of the rows' unit.

use nalgebra::DMatrix;

use super::ridge::{NormalEquations, Regularization, RidgeEquations, Solution};

/// After so many passes the sum of absolute errors falls by less than a thousandth per pass.
const PASSES: usize = 40;
/// Rows per product.
const CHUNK_ROWS: usize = 256;
/// Smaller typical errors, in spreads, are rounding errors.
const TYPICAL_ERROR_MIN: f64 = 1e-9;

/// Rows of one series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegressionRows {
    /// `[row][feature]`
    pub xs: Vec<f32>,
    /// `[row][target]`
    pub ys: Vec<f32>,
}

impl RegressionRows {
    pub fn append(&mut self, other: Self) {
        self.xs.extend(other.xs);
        self.ys.extend(other.ys);
    }

    /// The sums over the rows.
    pub(super) fn normal_equations(&self, features: usize, targets: usize) -> NormalEquations {
        let mut normal = NormalEquations::new(features, targets);
        let (xs, ys) = (self.xs.chunks(CHUNK_ROWS * features), self.ys.chunks(CHUNK_ROWS * targets));
        xs.zip(ys).for_each(|(xs, ys)| normal.add(xs, ys));
        normal
    }

    /// Chunks of rows, as matrices features x rows and targets x rows.
    fn chunks(
        &self,
        features: usize,
        targets: usize,
    ) -> impl Iterator<Item = (DMatrix<f64>, DMatrix<f64>)> + '_ {
        let widen = |numbers: &[f32], size: usize| {
            let wide = numbers.iter().map(|number| f64::from(*number));
            DMatrix::from_iterator(size, numbers.len() / size, wide)
        };
        let xs = self.xs.chunks(CHUNK_ROWS * features);
        xs.zip(self.ys.chunks(CHUNK_ROWS * targets))
            .map(move |(x, y)| (widen(x, features), widen(y, targets)))
    }

    /// Σ |y - wᵀx| of each target, with the coefficients of a series.
    pub fn absolute_errors(&self, targets: usize, solution: &Solution, series: usize) -> Vec<f64> {
        let shared = solution.shared.len() / targets;
        let features = shared + solution.per_series.get(series).map_or(0, |weights| weights.len() / targets);
        let weights = solution.weights(features, targets, series);
        let mut sums = vec![0.0; targets];
        for (x, y) in self.chunks(features, targets) {
            let errors = y - weights.tr_mul(&x);
            for (sum, row) in sums.iter_mut().zip(errors.row_iter()) {
                *sum += row.iter().map(|error| error.abs()).sum::<f64>();
            }
        }
        sums
    }
}

/// The coefficients with the least regularized absolute errors over `rows`, one element per series; the first `shared`
/// features are shared by all series. `start` is the ridge solution, which gives the typical error. `None` if the equations are
/// singular or there are no rows.
pub fn least_absolute_deviations(
    rows: &[RegressionRows],
    shared: usize,
    regularization: &Regularization,
    start: &Solution,
) -> Option<Solution> {
    let features = regularization.scales.len();
    let targets = start.shared.len() / shared.max(1);
    let count: usize = rows.iter().map(|rows| rows.xs.len() / features).sum();
    if count == 0 {
        return None;
    }
    let mut typical = vec![0.0; targets];
    let mut normals = Vec::with_capacity(rows.len());
    for (series, rows) in rows.iter().enumerate() {
        let errors = rows.absolute_errors(targets, start, series);
        typical.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error / count as f64);
        normals.push(rows.normal_equations(features, targets));
    }
    typical.iter_mut().for_each(|size| *size = size.max(TYPICAL_ERROR_MIN));
    let equations = RidgeEquations::new(&normals, shared, regularization)?;
    let mut solution = start.clone();
    let mut multipliers: Vec<Vec<DMatrix<f64>>> = Vec::new();
    for pass in 0..PASSES {
        for (series, (rows, normal)) in rows.iter().zip(&mut normals).enumerate() {
            let weights = solution.weights(features, targets, series);
            normal.xy.fill(0.0);
            if pass == 0 {
                multipliers.push(Vec::new());
            }
            for (chunk, (x, y)) in rows.chunks(features, targets).enumerate() {
                if pass == 0 {
                    multipliers[series].push(DMatrix::zeros(targets, y.ncols()));
                }
                let u = &mut multipliers[series][chunk];
                let mut v = &y - weights.tr_mul(&x) + &*u;
                for (mut u, mut v) in u.column_iter_mut().zip(v.column_iter_mut()) {
                    for ((u, v), size) in u.iter_mut().zip(v.iter_mut()).zip(&typical) {
                        *u = v.clamp(-size, *size);
                        *v = 2.0 * *u - *v;
                    }
                }
                normal.xy.gemm(1.0, &x, &(y + v).transpose(), 1.0);
            }
        }
        solution = equations.solve(normals.iter().map(|normal| &normal.xy))?;
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::super::solve_ridge;
    use super::*;
    use crate::network::Random;

    const FEATURES: usize = 4;

    /// Two series of y = wᵀx in which every fifth row jumps.
    fn rows() -> Vec<RegressionRows> {
        let mut random = Random::new(11);
        let series = (0..2).map(|_| {
            let mut rows = RegressionRows::default();
            for row in 0..300 {
                let x: Vec<f32> = (0..FEATURES).map(|_| random.uniform(1.0)).collect();
                let jump = if row % 5 == 0 { 20.0 + random.uniform(5.0) } else { 0.0 };
                rows.ys.push(2.0 * x[0] - x[1] + 0.5 * x[2] + 0.1 * random.uniform(1.0) + jump);
                rows.xs.extend(x);
            }
            rows
        });
        series.collect()
    }

    fn error(rows: &[RegressionRows], solution: &Solution) -> f64 {
        rows.iter().enumerate().flat_map(|(series, rows)| rows.absolute_errors(1, solution, series)).sum()
    }

    /// The ridge solution, and that of the least absolute deviations.
    fn fit(rows: &[RegressionRows]) -> [Solution; 2] {
        let regularization = Regularization { ridge: 1e-3, scales: vec![1.0; FEATURES] };
        let normals: Vec<_> = rows.iter().map(|rows| rows.normal_equations(FEATURES, 1)).collect();
        let ridge = solve_ridge(&normals, 3, &regularization).unwrap();
        let lad = least_absolute_deviations(rows, 3, &regularization, &ridge).unwrap();
        [ridge, lad]
    }

    #[test]
    fn jumps_do_not_change_the_coefficients() {
        let [ridge, lad] = fit(&rows());
        let distance = |solution: &Solution| {
            let pairs = solution.shared.iter().zip([2.0, -1.0, 0.5]);
            pairs.map(|(w, true_w)| (w - true_w).abs()).fold(0.0, f64::max)
        };
        assert!(distance(&lad) < 0.05 && distance(&ridge) > 0.3, "{lad:?} {ridge:?}");
    }

    #[test]
    fn the_solution_is_a_minimum() {
        let rows = rows();
        let [_, lad] = fit(&rows);
        let best = error(&rows, &lad);
        for index in 0..3 {
            for step in [-0.02, 0.02] {
                let mut moved = lad.clone();
                moved.shared[index] += step;
                assert!(error(&rows, &moved) > best);
            }
        }
        let mut moved = lad.clone();
        moved.per_series[1][0] += 0.05;
        assert!(error(&rows, &moved) > best);
    }
}
