//! Ridge regression in closed form, from sums over the rows: every row is read once and not stored.
//!
//! A row of series c has the features `[d | o]`: d are shared by all series, o are per series. With the coefficients W of
//! the shared features and V_c of the per-series ones, it minimises
//!
//! ```text
//! Σ_c Σ_rows |y - Wᵀd - V_cᵀo|² + λ (|W|² + Σ_c |V_c|²)
//! ```
//!
//! The matrix of the normal equations is an arrow, since rows of different series have no per-series feature in common. Each
//! V_c is eliminated separately (a Schur complement), so the cost is linear in the number of series.

use std::ops::Range;

use nalgebra::{Cholesky, DMatrix, DMatrixView, Dyn};

/// The sums over the rows of one series that the normal equations consist of.
#[derive(Clone, Debug)]
pub struct NormalEquations {
    rows: u64,
    /// Σ x xᵀ
    xx: DMatrix<f64>,
    /// Σ x yᵀ
    pub(super) xy: DMatrix<f64>,
    /// Σ y² of each target.
    yy: Vec<f64>,
}

/// The penalty of a ridge regression.
#[derive(Clone, Debug, PartialEq)]
pub struct Regularization {
    /// λ
    pub ridge: f64,
    /// The factor of each feature before its coefficient is penalised; 0 removes the feature.
    pub scales: Vec<f64>,
}

/// Coefficients of the unscaled features.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// `[target][shared feature]`
    pub shared: Vec<f64>,
    /// One entry per series: `[target][per-series feature]`.
    pub per_series: Vec<Vec<f64>>,
}

impl NormalEquations {
    pub fn new(features: usize, targets: usize) -> Self {
        Self {
            rows: 0,
            xx: DMatrix::zeros(features, features),
            xy: DMatrix::zeros(features, targets),
            yy: vec![0.0; targets],
        }
    }

    pub fn features(&self) -> usize {
        self.xx.nrows()
    }

    pub fn targets(&self) -> usize {
        self.yy.len()
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds rows: `xs` is `[row][feature]`, `ys` `[row][target]`.
    ///
    /// # Panics
    /// If a slice has the wrong length.
    pub fn add(&mut self, xs: &[f32], ys: &[f32]) {
        let (features, targets) = (self.features(), self.targets());
        let rows = xs.len() / features;
        assert_eq!(xs.len(), rows * features, "xs are [row][feature]");
        assert_eq!(ys.len(), rows * targets, "ys are [row][target]");
        let x = DMatrix::from_iterator(features, rows, xs.iter().map(|x| f64::from(*x)));
        let y = DMatrix::from_iterator(targets, rows, ys.iter().map(|y| f64::from(*y)));
        self.xx.gemm(1.0, &x, &x.transpose(), 1.0);
        self.xy.gemm(1.0, &x, &y.transpose(), 1.0);
        for (sum, row) in self.yy.iter_mut().zip(y.row_iter()) {
            *sum += row.iter().map(|y| y * y).sum::<f64>();
        }
        self.rows += rows as u64;
    }

    /// Adds the sums over other rows of the same features, for the first targets of `other`.
    ///
    /// # Panics
    /// If `other` has other features, or fewer targets.
    pub fn merge(&mut self, other: &NormalEquations) {
        self.merge_targets(other, 0..self.targets());
    }

    /// As [`NormalEquations::merge`], for a range of the targets of `other`.
    pub fn merge_targets(&mut self, other: &NormalEquations, targets: Range<usize>) {
        self.rows += other.rows;
        self.xx += &other.xx;
        self.xy += other.xy.columns(targets.start, targets.len());
        for (sum, more) in self.yy.iter_mut().zip(&other.yy[targets]) {
            *sum += more;
        }
    }

    /// Σ x² of each feature.
    pub fn squares(&self) -> Vec<f64> {
        self.xx.diagonal().iter().copied().collect()
    }

    /// Σ (y - wᵀx)² of each target, with the coefficients of a series.
    pub fn squared_errors(&self, solution: &Solution, series: usize) -> Vec<f64> {
        let weights = solution.weights(self.features(), self.targets(), series);
        let xxw = &self.xx * &weights;
        // Σ y² - 2 wᵀ Σ x y + wᵀ Σ x xᵀ w
        let error = |target: usize| {
            let w = weights.column(target);
            self.yy[target] - 2.0 * w.dot(&self.xy.column(target)) + w.dot(&xxw.column(target))
        };
        (0..self.targets()).map(error).collect()
    }
}

impl Solution {
    /// The coefficients of all features for one series, features x targets; those of an unknown series' per-series features are 0.
    pub(super) fn weights(&self, features: usize, targets: usize, series: usize) -> DMatrix<f64> {
        let shared = self.shared.len() / targets.max(1);
        let per_series = self.per_series.get(series);
        DMatrix::from_fn(features, targets, |feature, target| match per_series {
            _ if feature < shared => self.shared[target * shared + feature],
            Some(weights) => weights[target * (features - shared) + feature - shared],
            None => 0.0,
        })
    }
}

/// The ridge solution over the rows of all series, of whose features the first `shared` are shared. `None` if the equations are
/// singular in floating point: the penalty is too small.
///
/// # Panics
/// If the series have different features or targets, or `regularization` another number of scales.
pub fn solve_ridge(
    series: &[NormalEquations],
    shared: usize,
    regularization: &Regularization,
) -> Option<Solution> {
    RidgeEquations::new(series, shared, regularization)?.solve(series.iter().map(|normal| &normal.xy))
}

/// The regularized normal equations, factored: they can be solved for any targets of the same rows.
pub(super) struct RidgeEquations {
    features: usize,
    shared: usize,
    /// Features with a scale other than 0.
    used: Vec<usize>,
    /// Number of shared features in `used`.
    used_shared: usize,
    /// Scales of the used features.
    scales: Vec<f64>,
    /// One elimination per series, if there are per-series features.
    eliminations: Vec<Elimination>,
    schur: Cholesky<f64, Dyn>,
}

/// The elimination of one series' coefficients.
struct Elimination {
    /// B: shared features x per-series features.
    b: DMatrix<f64>,
    /// C: per-series features x per-series features.
    c: Cholesky<f64, Dyn>,
    /// C⁻¹ Bᵀ
    c_inverse_bt: DMatrix<f64>,
}

impl RidgeEquations {
    pub fn new(series: &[NormalEquations], shared: usize, regularization: &Regularization) -> Option<Self> {
        let Regularization { ridge, scales } = regularization;
        let features = series.first().map_or(0, NormalEquations::features);
        assert_eq!(scales.len(), features, "every feature has a scale");
        let used: Vec<usize> = (0..features).filter(|feature| scales[*feature] != 0.0).collect();
        let used_shared = used.partition_point(|feature| *feature < shared);
        let scales: Vec<f64> = used.iter().map(|feature| scales[*feature]).collect();
        let used_per_series = used.len() - used_shared;
        let mut schur = DMatrix::zeros(used_shared, used_shared);
        let mut eliminations = Vec::with_capacity(series.len());
        for normal in series {
            assert_eq!(normal.features(), features, "all series have the same features");
            // Σ x xᵀ of the scaled features, with the blocks A, B and C.
            let xx = DMatrix::from_fn(used.len(), used.len(), |i, j| {
                normal.xx[(used[i], used[j])] * (scales[i] * scales[j])
            });
            schur += xx.view((0, 0), (used_shared, used_shared));
            if used_per_series == 0 {
                continue;
            }
            // C V = R - Bᵀ W, so V = C⁻¹ R - C⁻¹ Bᵀ W, and (A - B C⁻¹ Bᵀ) W = P - B C⁻¹ R
            let c = factor(xx.view((used_shared, used_shared), (used_per_series, used_per_series)), *ridge)?;
            let b = xx.view((0, used_shared), (used_shared, used_per_series)).into_owned();
            let c_inverse_bt = c.solve(&b.transpose());
            schur.gemm(-1.0, &b, &c_inverse_bt, 1.0);
            eliminations.push(Elimination { b, c, c_inverse_bt });
        }
        let schur = factor(schur.as_view(), *ridge)?;
        Some(Self { features, shared, used, used_shared, scales, eliminations, schur })
    }

    /// The coefficients for Σ x yᵀ of each series; `None` if they are not finite.
    pub fn solve<'a>(&self, sums: impl Iterator<Item = &'a DMatrix<f64>>) -> Option<Solution> {
        let used_per_series = self.used.len() - self.used_shared;
        let mut right: Option<DMatrix<f64>> = None;
        let mut count = 0;
        let mut c_inverse_r = Vec::with_capacity(self.eliminations.len());
        for xy in sums {
            let xy =
                DMatrix::from_fn(self.used.len(), xy.ncols(), |i, j| xy[(self.used[i], j)] * self.scales[i]);
            let right = right.get_or_insert_with(|| DMatrix::zeros(self.used_shared, xy.ncols()));
            *right += xy.rows(0, self.used_shared);
            if used_per_series > 0 {
                let Elimination { b, c, .. } = &self.eliminations[count];
                let solved = c.solve(&xy.rows(self.used_shared, used_per_series).into_owned());
                right.gemm(-1.0, b, &solved, 1.0);
                c_inverse_r.push(solved);
            }
            count += 1;
        }
        let w = self.schur.solve(&right?);
        let shared = self.unscale(&w, 0..self.used_shared, 0..self.shared);
        let series = (0..count).map(|series| {
            let mut v = c_inverse_r.get(series).cloned().unwrap_or_else(|| DMatrix::zeros(0, w.ncols()));
            if used_per_series > 0 {
                v.gemm(-1.0, &self.eliminations[series].c_inverse_bt, &w, 1.0);
            }
            self.unscale(&v, self.used_shared..self.used.len(), self.shared..self.features)
        });
        let per_series = if self.features > self.shared { series.collect() } else { Vec::new() };
        let solution = Solution { shared, per_series };
        let is_finite = |numbers: &Vec<f64>| numbers.iter().all(|number| number.is_finite());
        (is_finite(&solution.shared) && solution.per_series.iter().all(is_finite)).then_some(solution)
    }

    /// From coefficients of the scaled features `used[range]` to those of all `features`, `[target][feature]`.
    fn unscale(&self, weights: &DMatrix<f64>, range: Range<usize>, features: Range<usize>) -> Vec<f64> {
        let mut all = vec![0.0; features.len() * weights.ncols()];
        for (target, column) in weights.column_iter().enumerate() {
            for (w, index) in column.iter().zip(range.clone()) {
                all[target * features.len() + self.used[index] - features.start] = w * self.scales[index];
            }
        }
        all
    }
}

/// The Cholesky decomposition of `matrix` + λI.
fn factor(matrix: DMatrixView<'_, f64>, ridge: f64) -> Option<Cholesky<f64, Dyn>> {
    let mut matrix = matrix.into_owned();
    for i in 0..matrix.nrows() {
        matrix[(i, i)] += ridge;
    }
    Cholesky::new(matrix)
}

#[cfg(test)]
mod tests {
    use super::super::RegressionRows;
    use super::*;
    use crate::network::Random;

    const SHARED: usize = 7;
    const PER_SERIES: usize = 3;
    const TARGETS: usize = 2;

    /// Rows of three series: y = Wᵀd + V_cᵀo + noise.
    fn rows(noise: f32) -> Vec<RegressionRows> {
        let mut random = Random::new(3);
        let w: Vec<f32> = (0..TARGETS * SHARED).map(|_| random.uniform(1.0)).collect();
        let series = (0..3).map(|c| {
            let v: Vec<f32> = (0..TARGETS * PER_SERIES).map(|_| random.uniform(1.0)).collect();
            let mut rows = RegressionRows::default();
            for _ in 0..200 + 50 * c {
                let x: Vec<f32> = (0..SHARED + PER_SERIES).map(|_| random.uniform(2.0)).collect();
                for target in 0..TARGETS {
                    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                    let y = dot(&w[target * SHARED..][..SHARED], &x)
                        + dot(&v[target * PER_SERIES..][..PER_SERIES], &x[SHARED..]);
                    rows.ys.push(y + random.uniform(1.0) * noise);
                }
                rows.xs.extend(x);
            }
            rows
        });
        series.collect()
    }

    fn normal_equations(rows: &[RegressionRows]) -> Vec<NormalEquations> {
        rows.iter().map(|rows| rows.normal_equations(SHARED + PER_SERIES, TARGETS)).collect()
    }

    fn regularization(ridge: f64) -> Regularization {
        Regularization { ridge, scales: (0..SHARED + PER_SERIES).map(|i| 0.5 + 0.2 * i as f64).collect() }
    }

    /// The regularized squared error, row by row.
    fn objective(rows: &[RegressionRows], solution: &Solution, regularization: &Regularization) -> f64 {
        let mut sum = 0.0;
        for (c, rows) in rows.iter().enumerate() {
            for (x, y) in rows.xs.chunks(SHARED + PER_SERIES).zip(rows.ys.chunks(TARGETS)) {
                for (target, y) in y.iter().enumerate() {
                    let shared = &solution.shared[target * SHARED..][..SHARED];
                    let per_series = &solution.per_series[c][target * PER_SERIES..][..PER_SERIES];
                    let forecast: f64 =
                        shared.iter().chain(per_series).zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                    sum += (f64::from(*y) - forecast).powi(2);
                }
            }
        }
        let norm = |weights: &[f64], scales: &[f64]| -> f64 {
            let pairs = weights.chunks(scales.len()).flat_map(|w| w.iter().zip(scales));
            pairs.map(|(w, s)| (w / s).powi(2)).sum()
        };
        let Regularization { ridge, scales } = regularization;
        let per_series: f64 =
            solution.per_series.iter().map(|weights| norm(weights, &scales[SHARED..])).sum();
        sum + ridge * (norm(&solution.shared, &scales[..SHARED]) + per_series)
    }

    #[test]
    fn coefficients_are_recovered_without_noise() {
        let normals = normal_equations(&rows(0.0));
        let solution = solve_ridge(&normals, SHARED, &regularization(1e-9)).unwrap();
        for (series, normal) in normals.iter().enumerate() {
            assert!(normal.squared_errors(&solution, series).iter().all(|error| error.abs() < 1e-5));
        }
    }

    #[test]
    fn the_solution_is_a_minimum() {
        let rows = rows(1.0);
        let regularization = regularization(30.0);
        let solution = solve_ridge(&normal_equations(&rows), SHARED, &regularization).unwrap();
        let best = objective(&rows, &solution, &regularization);
        for index in 0..SHARED * TARGETS {
            for step in [-1e-3, 1e-3] {
                let mut moved = solution.clone();
                moved.shared[index] += step;
                assert!(objective(&rows, &moved, &regularization) > best);
            }
        }
        for (series, index) in [(0, 0), (1, 3), (2, 5)] {
            let mut moved = solution.clone();
            moved.per_series[series][index] += 1e-3;
            assert!(objective(&rows, &moved, &regularization) > best);
        }
    }

    #[test]
    fn squared_errors_from_the_sums_equal_those_of_the_rows() {
        let rows = rows(1.0);
        let normals = normal_equations(&rows);
        let none = Regularization { ridge: 0.0, ..regularization(0.0) };
        let solution = solve_ridge(&normals, SHARED, &regularization(5.0)).unwrap();
        let sums = normals.iter().enumerate().flat_map(|(c, normal)| normal.squared_errors(&solution, c));
        assert!((sums.sum::<f64>() - objective(&rows, &solution, &none)).abs() < 1e-6);
    }

    #[test]
    fn a_feature_with_scale_zero_has_no_coefficient() {
        let mut without = regularization(1.0);
        without.scales[2] = 0.0;
        let solution = solve_ridge(&normal_equations(&rows(1.0)), SHARED, &without).unwrap();
        assert_eq!((solution.shared[2], solution.shared[SHARED + 2]), (0.0, 0.0));
    }

    #[test]
    fn singular_equations_have_no_solution() {
        let unregularized = Regularization { ridge: 0.0, scales: vec![1.0; 4] };
        assert_eq!(solve_ridge(&[NormalEquations::new(4, 1)], 4, &unregularized), None);
    }
}
