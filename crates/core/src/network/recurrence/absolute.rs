//! Coefficients with the least absolute errors: where a series is calm for long and sometimes leaps, squares are about the
//! leaps alone. They take several passes over the rows, which therefore have to be kept.
//!
//! What is minimised is Σ |y - wᵀx| + λ |w|² / 2κ, by the alternating direction method of multipliers (Boyd, Parikh, Chu,
//! Peleato & Eckstein, "Distributed optimization and statistical learning via ADMM", 2011, 6.1). With r the errors and u
//! their multipliers, a pass over the rows is
//!
//! ```text
//! v = y - wᵀx + u      u ← v held within ±κ      r = v - u
//! w ← least penalised squares of the targets y - r + u = y - v + 2u
//! ```
//!
//! so that the equations are those of the ridge, factored once, and nothing but u is kept of a row. κ, a target's size of an
//! ordinary error, makes the result a matter of the rows alone and not of their unit.

use nalgebra::DMatrix;

use super::ridge::{Equations, NormalEquations, Regularization, Solution};

/// Passes over the rows: after so many the sum of absolute errors falls by less than a thousandth.
const PASSES: usize = 40;
/// Rows that go through a product at once.
const ROWS_AT_ONCE: usize = 256;
/// An ordinary error below this, in spreads, is rounding.
const LEAST_ERROR: f64 = 1e-9;

/// Rows of one series: `[row][feature]` and `[row][target]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegressionRows {
    pub xs: Vec<f32>,
    pub ys: Vec<f32>,
}

impl RegressionRows {
    pub fn append(&mut self, other: Self) {
        self.xs.extend(other.xs);
        self.ys.extend(other.ys);
    }

    /// Rows as columns, some at a time.
    fn chunks(
        &self,
        features: usize,
        targets: usize,
    ) -> impl Iterator<Item = (DMatrix<f64>, DMatrix<f64>)> + '_ {
        let wide = |numbers: &[f32], each: usize| {
            DMatrix::from_iterator(
                each,
                numbers.len() / each,
                numbers.iter().map(|number| f64::from(*number)),
            )
        };
        let xs = self.xs.chunks(ROWS_AT_ONCE * features);
        xs.zip(self.ys.chunks(ROWS_AT_ONCE * targets))
            .map(move |(x, y)| (wide(x, features), wide(y, targets)))
    }

    /// Σ |y - wᵀx| of each target, for the coefficients of series `number`.
    pub fn absolute_errors(&self, targets: usize, solution: &Solution, number: usize) -> Vec<f64> {
        let shared = solution.shared.len() / targets;
        let features = shared + solution.per_series.get(number).map_or(0, |own| own.len() / targets);
        let weights = NormalEquations::new(features, targets).weights(solution, number);
        let mut sums = vec![0.0; targets];
        for (x, y) in self.chunks(features, targets) {
            let errors = y - weights.tr_mul(&x);
            sums.iter_mut()
                .zip(errors.row_iter())
                .for_each(|(sum, row)| *sum += row.iter().map(|error| error.abs()).sum::<f64>());
        }
        sums
    }
}

/// The coefficients with the least penalised absolute errors over `rows`, a series each, of whose features the first
/// `shared` are shared. `start` are those with the least squares, from which an ordinary error is taken. `None` where the
/// equations have no solution, or there are no rows.
pub fn least_absolute_deviations(
    rows: &[RegressionRows],
    shared: usize,
    penalties: &Regularization,
    start: &Solution,
) -> Option<Solution> {
    let features = penalties.scales.len();
    let targets = start.shared.len() / shared.max(1);
    let count: usize = rows.iter().map(|rows| rows.xs.len() / features).sum();
    if count == 0 {
        return None;
    }
    let mut ordinary = vec![0.0; targets];
    let mut normals = Vec::with_capacity(rows.len());
    for (number, rows) in rows.iter().enumerate() {
        let errors = rows.absolute_errors(targets, start, number);
        ordinary.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error / count as f64);
        let mut normal = NormalEquations::new(features, targets);
        let (xs, ys) = (rows.xs.chunks(ROWS_AT_ONCE * features), rows.ys.chunks(ROWS_AT_ONCE * targets));
        xs.zip(ys).for_each(|(xs, ys)| normal.add(xs, ys));
        normals.push(normal);
    }
    ordinary.iter_mut().for_each(|size| *size = size.max(LEAST_ERROR));
    let equations = Equations::new(&normals, shared, penalties)?;
    let mut solution = start.clone();
    let mut multipliers: Vec<Vec<DMatrix<f64>>> = Vec::new();
    for pass in 0..PASSES {
        for (number, (rows, normal)) in rows.iter().zip(&mut normals).enumerate() {
            let weights = normal.weights(&solution, number);
            normal.xy.fill(0.0);
            if pass == 0 {
                multipliers.push(Vec::new());
            }
            for (chunk, (x, y)) in rows.chunks(features, targets).enumerate() {
                if pass == 0 {
                    multipliers[number].push(DMatrix::zeros(targets, y.ncols()));
                }
                let u = &mut multipliers[number][chunk];
                let mut v = &y - weights.tr_mul(&x) + &*u;
                for (mut u, mut v) in u.column_iter_mut().zip(v.column_iter_mut()) {
                    for ((u, v), size) in u.iter_mut().zip(v.iter_mut()).zip(&ordinary) {
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

    /// Two series of y = wᵀx, of which one row in five leaps.
    fn rows() -> Vec<RegressionRows> {
        let mut random = Random::new(11);
        let series = (0..2).map(|_| {
            let mut rows = RegressionRows::default();
            for row in 0..300 {
                let x: Vec<f32> = (0..FEATURES).map(|_| random.within(1.0)).collect();
                let leap = if row % 5 == 0 { 20.0 + random.within(5.0) } else { 0.0 };
                rows.ys.push(2.0 * x[0] - x[1] + 0.5 * x[2] + 0.1 * random.within(1.0) + leap);
                rows.xs.extend(x);
            }
            rows
        });
        series.collect()
    }

    fn errors(rows: &[RegressionRows], solution: &Solution) -> f64 {
        rows.iter().enumerate().flat_map(|(number, rows)| rows.absolute_errors(1, solution, number)).sum()
    }

    fn fitted(rows: &[RegressionRows]) -> (Solution, Solution) {
        let penalties = Regularization { ridge: 1e-3, scales: vec![1.0; FEATURES] };
        let normal = |rows: &RegressionRows| {
            let mut normal = NormalEquations::new(FEATURES, 1);
            normal.add(&rows.xs, &rows.ys);
            normal
        };
        let normals: Vec<NormalEquations> = rows.iter().map(normal).collect();
        let squares = solve_ridge(&normals, 3, &penalties).unwrap();
        let absolute = least_absolute_deviations(rows, 3, &penalties, &squares).unwrap();
        (squares, absolute)
    }

    #[test]
    fn leaps_do_not_move_what_holds_for_the_rest() {
        let (squares, absolute) = fitted(&rows());
        let wrong = |solution: &Solution| {
            solution
                .shared
                .iter()
                .zip([2.0, -1.0, 0.5])
                .map(|(w, true_w)| (w - true_w).abs())
                .fold(0.0, f64::max)
        };
        assert!(wrong(&absolute) < 0.05 && wrong(&squares) > 0.3, "{absolute:?} {squares:?}");
    }

    #[test]
    fn nothing_beside_the_solution_errs_less() {
        let rows = rows();
        let (_, absolute) = fitted(&rows);
        let best = errors(&rows, &absolute);
        for place in 0..3 {
            for step in [-0.02, 0.02] {
                let mut beside = absolute.clone();
                beside.shared[place] += step;
                assert!(errors(&rows, &beside) > best);
            }
        }
        let mut beside = absolute.clone();
        beside.per_series[1][0] += 0.05;
        assert!(errors(&rows, &beside) > best);
    }
}
