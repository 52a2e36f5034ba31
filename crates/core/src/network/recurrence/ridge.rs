//! Ridge regression in closed form, from sums over the rows: each row is seen once and not kept.
//!
//! A row of series c reads the features `[d | o]`: the first are shared by all series, the others are its own. With the
//! coefficients W of the shared features, and V_c of each series' own, what is minimised is
//!
//! ```text
//! Σ_c Σ_rows |y - Wᵀd - V_cᵀo|² + λ (|W|² + Σ_c |V_c|²)
//! ```
//!
//! The normal equations have the shape of an arrow, since rows of different series share no own feature: each V_c is
//! eliminated by itself (a Schur complement), and the cost grows with the number of series, not with its cube.

use std::ops::Range;

use nalgebra::{Cholesky, DMatrix, DMatrixView, Dyn};

/// Sums over rows of one series.
#[derive(Clone, Debug)]
pub struct NormalEquations {
    rows: u64,
    /// Σ x xᵀ
    pub(super) xx: DMatrix<f64>,
    /// Σ x yᵀ
    pub(super) xy: DMatrix<f64>,
    /// Σ y² of each target
    yy: Vec<f64>,
}

/// How coefficients are held small.
#[derive(Clone, Debug, PartialEq)]
pub struct Regularization {
    /// λ
    pub ridge: f64,
    /// What each feature is multiplied by before its coefficient is held small; 0 leaves it out.
    pub scales: Vec<f64>,
}

/// Coefficients of the features as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// `[target][shared feature]`
    pub shared: Vec<f64>,
    /// Of each series `[target][own feature]`.
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

    /// Adds the sums of other rows of the same features; of their targets, those that this one has.
    ///
    /// # Panics
    /// If the other has other features, or fewer targets.
    pub fn plus(&mut self, other: &NormalEquations) {
        self.plus_targets(other, 0..self.targets());
    }

    /// As [`NormalEquations::plus`], with the targets `targets` of the other.
    pub fn plus_targets(&mut self, other: &NormalEquations, targets: Range<usize>) {
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

    /// Σ (y - wᵀx)² of each target, for the coefficients of series `number`.
    pub fn squared_errors(&self, solution: &Solution, number: usize) -> Vec<f64> {
        let weights = self.weights(solution, number);
        let said = &self.xx * &weights;
        // Σ y² - 2 wᵀ Σ x y + wᵀ Σ x xᵀ w
        let error = |target: usize| {
            let w = weights.column(target);
            self.yy[target] - 2.0 * w.dot(&self.xy.column(target)) + w.dot(&said.column(target))
        };
        (0..self.targets()).map(error).collect()
    }

    pub(super) fn weights(&self, solution: &Solution, number: usize) -> DMatrix<f64> {
        let targets = self.targets();
        let shared = solution.shared.len() / targets.max(1);
        let own = solution.per_series.get(number);
        DMatrix::from_fn(self.features(), targets, |feature, target| match own {
            _ if feature < shared => solution.shared[target * shared + feature],
            Some(own) => own[target * (self.features() - shared) + feature - shared],
            None => 0.0,
        })
    }
}

/// The least penalised squares over the rows of all series, of whose features the first `shared` are shared. `None` where
/// the equations have no solution in floating point: the penalty is too small.
///
/// # Panics
/// If the series have different features or targets, or `penalties` another number of scales.
pub fn solve_ridge(series: &[NormalEquations], shared: usize, penalties: &Regularization) -> Option<Solution> {
    Equations::new(series, shared, penalties)?.solve(series.iter().map(|normal| &normal.xy))
}

/// The equations of the least penalised squares, factored: they can be solved for other targets of the same rows.
pub(super) struct Equations {
    features: usize,
    shared: usize,
    /// Features that have a scale, and how many of them are shared; the others are left out.
    kept: Vec<usize>,
    shared_kept: usize,
    scales: Vec<f64>,
    /// Of each series, if it has own features.
    eliminated: Vec<Eliminated>,
    whole: Cholesky<f64, Dyn>,
}

/// What eliminates a series' own coefficients.
struct Eliminated {
    /// B: shared features by own ones.
    by_own: DMatrix<f64>,
    /// C: own features by own ones.
    corner: Cholesky<f64, Dyn>,
    /// C⁻¹ Bᵀ
    through_shared: DMatrix<f64>,
}

impl Equations {
    /// As [`solve_ridge`], before the targets.
    pub(super) fn new(series: &[NormalEquations], shared: usize, penalties: &Regularization) -> Option<Self> {
        let features = series.first().map_or(0, NormalEquations::features);
        assert_eq!(penalties.scales.len(), features, "a scale a feature");
        let kept: Vec<usize> = (0..features).filter(|feature| penalties.scales[*feature] != 0.0).collect();
        let shared_kept = kept.partition_point(|feature| *feature < shared);
        let scales: Vec<f64> = kept.iter().map(|feature| penalties.scales[*feature]).collect();
        let own = kept.len() - shared_kept;
        let mut whole = DMatrix::zeros(shared_kept, shared_kept);
        let mut eliminated = Vec::with_capacity(series.len());
        for normal in series {
            assert_eq!(normal.features(), features, "all series have the same columns");
            // Of features multiplied by their scales.
            let xx = DMatrix::from_fn(kept.len(), kept.len(), |i, j| {
                normal.xx[(kept[i], kept[j])] * (scales[i] * scales[j])
            });
            whole += xx.view((0, 0), (shared_kept, shared_kept));
            if own == 0 {
                continue;
            }
            // C V = R - Bᵀ W: V = C⁻¹ R - C⁻¹ Bᵀ W, and what is left of the equations of W is
            // (A - B C⁻¹ Bᵀ) W = (P - B C⁻¹ R)
            let corner = factor(xx.view((shared_kept, shared_kept), (own, own)), penalties.ridge)?;
            let by_own = xx.view((0, shared_kept), (shared_kept, own)).into_owned();
            let through_shared = corner.solve(&by_own.transpose());
            whole.gemm(-1.0, &by_own, &through_shared, 1.0);
            eliminated.push(Eliminated { by_own, corner, through_shared });
        }
        let whole = factor(whole.as_view(), penalties.ridge)?;
        Some(Self { features, shared, kept, shared_kept, scales, eliminated, whole })
    }

    /// The coefficients for Σ x yᵀ of each series; `None` if they are not finite.
    pub(super) fn solve<'a>(&self, sums: impl Iterator<Item = &'a DMatrix<f64>>) -> Option<Solution> {
        let own = self.kept.len() - self.shared_kept;
        let mut right: Option<DMatrix<f64>> = None;
        let mut count = 0;
        let mut owned = Vec::with_capacity(self.eliminated.len());
        for xy in sums {
            let xy =
                DMatrix::from_fn(self.kept.len(), xy.ncols(), |i, j| xy[(self.kept[i], j)] * self.scales[i]);
            let right = right.get_or_insert_with(|| DMatrix::zeros(self.shared_kept, xy.ncols()));
            *right += xy.rows(0, self.shared_kept);
            if own > 0 {
                let Eliminated { by_own, corner, .. } = &self.eliminated[count];
                let through_targets = corner.solve(&xy.rows(self.shared_kept, own).into_owned());
                right.gemm(-1.0, by_own, &through_targets, 1.0);
                owned.push(through_targets);
            }
            count += 1;
        }
        let w = self.whole.solve(&right?);
        let shared = self.unscaled(&w, 0..self.shared_kept, 0..self.shared);
        let series = (0..count).map(|number| {
            let mut v = owned.get(number).cloned().unwrap_or_else(|| DMatrix::zeros(0, w.ncols()));
            if own > 0 {
                v.gemm(-1.0, &self.eliminated[number].through_shared, &w, 1.0);
            }
            self.unscaled(&v, self.shared_kept..self.kept.len(), self.shared..self.features)
        });
        let own = if self.features > self.shared { series.collect() } else { Vec::new() };
        let solution = Solution { shared, per_series: own };
        let finite = |numbers: &Vec<f64>| numbers.iter().all(|number| number.is_finite());
        (finite(&solution.shared) && solution.per_series.iter().all(finite)).then_some(solution)
    }

    /// From coefficients of the kept features in `range`, scaled, to those of all features in `of`, `[target][feature]`.
    fn unscaled(&self, weights: &DMatrix<f64>, range: Range<usize>, of: Range<usize>) -> Vec<f64> {
        let mut all = vec![0.0; of.len() * weights.ncols()];
        for (target, column) in weights.column_iter().enumerate() {
            for (w, place) in column.iter().zip(range.clone()) {
                all[target * of.len() + self.kept[place] - of.start] = w * self.scales[place];
            }
        }
        all
    }
}

fn factor(matrix: DMatrixView<'_, f64>, ridge: f64) -> Option<Cholesky<f64, Dyn>> {
    let mut matrix = matrix.into_owned();
    for i in 0..matrix.nrows() {
        matrix[(i, i)] += ridge;
    }
    Cholesky::new(matrix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Random;

    const SHARED: usize = 7;
    const OWN: usize = 3;
    const TARGETS: usize = 2;

    struct Rows {
        xs: Vec<f32>,
        ys: Vec<f32>,
    }

    /// Rows of three series: y = Wᵀd + V_cᵀo + noise.
    fn rows(noise: f32) -> Vec<Rows> {
        let mut random = Random::new(3);
        let w: Vec<f32> = (0..TARGETS * SHARED).map(|_| random.within(1.0)).collect();
        let series = (0..3).map(|c| {
            let v: Vec<f32> = (0..TARGETS * OWN).map(|_| random.within(1.0)).collect();
            let mut rows = Rows { xs: vec![], ys: vec![] };
            for _ in 0..200 + 50 * c {
                let x: Vec<f32> = (0..SHARED + OWN).map(|_| random.within(2.0)).collect();
                for target in 0..TARGETS {
                    let dot = |w: &[f32], x: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                    let y = dot(&w[target * SHARED..][..SHARED], &x)
                        + dot(&v[target * OWN..][..OWN], &x[SHARED..]);
                    rows.ys.push(y + random.within(1.0) * noise);
                }
                rows.xs.extend(x);
            }
            rows
        });
        series.collect()
    }

    fn normals(rows: &[Rows]) -> Vec<NormalEquations> {
        let normal = |rows: &Rows| {
            let mut normal = NormalEquations::new(SHARED + OWN, TARGETS);
            for (xs, ys) in rows.xs.chunks(60 * (SHARED + OWN)).zip(rows.ys.chunks(60 * TARGETS)) {
                normal.add(xs, ys);
            }
            normal
        };
        rows.iter().map(normal).collect()
    }

    fn penalties(ridge: f64) -> Regularization {
        Regularization { ridge, scales: (0..SHARED + OWN).map(|i| 0.5 + 0.2 * i as f64).collect() }
    }

    /// The penalised squares, row by row.
    fn objective(rows: &[Rows], solution: &Solution, penalties: &Regularization) -> f64 {
        let mut sum = 0.0;
        for (c, rows) in rows.iter().enumerate() {
            for (x, y) in rows.xs.chunks(SHARED + OWN).zip(rows.ys.chunks(TARGETS)) {
                for (target, y) in y.iter().enumerate() {
                    let shared = &solution.shared[target * SHARED..][..SHARED];
                    let own = &solution.per_series[c][target * OWN..][..OWN];
                    let said: f64 = shared.iter().chain(own).zip(x).map(|(w, x)| w * f64::from(*x)).sum();
                    sum += (f64::from(*y) - said).powi(2);
                }
            }
        }
        let size = |weights: &[f64], scales: &[f64]| -> f64 {
            weights
                .chunks(scales.len())
                .flat_map(|w| w.iter().zip(scales))
                .map(|(w, s)| (w / s).powi(2))
                .sum()
        };
        let own: f64 = solution.per_series.iter().map(|own| size(own, &penalties.scales[SHARED..])).sum();
        sum + penalties.ridge * (size(&solution.shared, &penalties.scales[..SHARED]) + own)
    }

    #[test]
    fn without_noise_the_coefficients_come_back() {
        let rows = rows(0.0);
        let normals = normals(&rows);
        let solution = solve_ridge(&normals, SHARED, &penalties(1e-9)).unwrap();
        for (number, normal) in normals.iter().enumerate() {
            assert!(normal.squared_errors(&solution, number).iter().all(|error| error.abs() < 1e-5));
        }
    }

    #[test]
    fn nothing_beside_the_solution_is_better() {
        let rows = rows(1.0);
        let penalties = penalties(30.0);
        let solution = solve_ridge(&normals(&rows), SHARED, &penalties).unwrap();
        let best = objective(&rows, &solution, &penalties);
        for place in 0..SHARED * TARGETS {
            for step in [-1e-3, 1e-3] {
                let mut beside = solution.clone();
                beside.shared[place] += step;
                assert!(objective(&rows, &beside, &penalties) > best);
            }
        }
        for (series, place) in [(0, 0), (1, 3), (2, 5)] {
            let mut beside = solution.clone();
            beside.per_series[series][place] += 1e-3;
            assert!(objective(&rows, &beside, &penalties) > best);
        }
    }

    #[test]
    fn errors_from_the_sums_are_those_of_the_rows() {
        let rows = rows(1.0);
        let normals = normals(&rows);
        let none = Regularization { ridge: 0.0, ..penalties(0.0) };
        let solution = solve_ridge(&normals, SHARED, &penalties(5.0)).unwrap();
        let sums = normals.iter().enumerate().flat_map(|(c, normal)| normal.squared_errors(&solution, c));
        assert!((sums.sum::<f64>() - objective(&rows, &solution, &none)).abs() < 1e-6);
    }

    #[test]
    fn a_feature_without_scale_is_left_out_and_no_equations_have_no_solution() {
        let normals = normals(&rows(1.0));
        let mut left_out = penalties(1.0);
        left_out.scales[2] = 0.0;
        let solution = solve_ridge(&normals, SHARED, &left_out).unwrap();
        assert_eq!((solution.shared[2], solution.shared[SHARED + 2]), (0.0, 0.0));
        assert_eq!(solve_ridge(&[NormalEquations::new(4, 1)], 4, &Regularization { ridge: 0.0, scales: vec![1.0; 4] }), None);
    }
}
