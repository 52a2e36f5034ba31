//! Fit of the readout from its sums: penalties and feature sets are selected out of sample, and the selection is fitted again
//! without each block.

use std::ops::Range;

use rayon::prelude::*;

use super::gram::{BLOCKS, GramSums, VALIDATION};
use tidecast_core::metrics::Mean;
use tidecast_core::model::Penalty;
use tidecast_core::network::recurrence::{
    NormalEquations, PerSeriesFeatures, RegressionRows, Regularization, Solution, least_absolute_deviations,
    solve_ridge,
};

/// Values before the last one that every feature set includes.
pub const RECENT_MIN: usize = 23;

/// Multiplications of a pass over all rows, up to which some rows are retained: methods that need several passes then take
/// seconds.
const RETAINED_PASS_MAX: f64 = 3e9;
/// Limit of the retained values: 64 MiB, a few times over while they are fitted.
const RETAINED_VALUES: f64 = 16_777_216.0;
/// Multiplications of a pass over the retained rows; more rows are subsampled.
const RETAINED_PASS: f64 = 3e8;

/// A mean error below this is rounding.
const ERROR_MIN: f64 = 1e-12;
/// Candidate ridge penalties, per row.
const RIDGES: [f64; 9] = [0.0001, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Ridge penalty without data to select it.
const RIDGE_DEFAULT: f64 = 0.1;
/// Candidate scales of the per-series features; 0 leaves them out.
const PER_SERIES_SCALES: [f64; 2] = [0.0, 0.5];
/// Candidate weights of the least absolute deviations fit in a blend with the least squares fit.
const ABSOLUTE_WEIGHTS: [f64; 2] = [0.5, 1.0];
/// Largest relative error at which a candidate replaces the default: a smaller gain may be chance.
const MIN_IMPROVEMENT: f64 = 0.99;
/// Largest relative error of a candidate on any fold and any series: a gain in one period need not recur in the next.
const MAX_REGRESSION: f64 = 1.005;

/// Features that a readout reads, besides covariates and the constant, which it always reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSet {
    /// States and all recent values.
    All,
    /// States and the latest values: the default.
    States,
    /// All recent values.
    Window,
    /// Plain decays and the latest values.
    PlainDecays,
    /// The latest values.
    Latest,
}

impl FeatureSet {
    /// True for sets with all recent values instead of the latest [`RECENT_MIN`].
    pub fn has_long_window(self) -> bool {
        matches!(self, Self::All | Self::Window)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::All => "recurrence states and all recent values",
            Self::States => "recurrence states and the latest values",
            Self::Window => "all recent values",
            Self::PlainDecays => "plain decays and the latest values",
            Self::Latest => "the latest values",
        }
    }
}

/// Layout of the features, and which sets are candidates. A short history cannot support all features.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureSets {
    /// States that are plain decays; they come first.
    pub plain_states: usize,
    pub states: usize,
    pub recent: usize,
    /// Rows per retained row; none where there are too many.
    pub row_stride: Option<usize>,
}

impl FeatureSets {
    /// Candidate sets, the default first. A history with too many rows to retain supports the default.
    pub fn candidates(&self) -> Vec<FeatureSet> {
        use FeatureSet::{All, Latest, PlainDecays, States, Window};
        let is_candidate = |set: &FeatureSet| match set {
            States => true,
            All | Window => self.row_stride.is_some() && self.recent > RECENT_MIN,
            PlainDecays => self.row_stride.is_some() && self.plain_states < self.states,
            Latest => self.row_stride.is_some(),
        };
        [States, All, Window, PlainDecays, Latest].into_iter().filter(is_candidate).collect()
    }

    /// True if `set` includes the feature at an index.
    pub fn includes(&self, set: FeatureSet, feature: usize) -> bool {
        if feature < self.states {
            return match set {
                FeatureSet::All | FeatureSet::States => true,
                FeatureSet::PlainDecays => feature < self.plain_states,
                FeatureSet::Window | FeatureSet::Latest => false,
            };
        }
        let index = feature - self.states;
        index < RECENT_MIN || index >= self.recent || set.has_long_window()
    }
}

/// Least number of rows per retained row; none if a pass over all rows takes too long.
pub fn retained_row_stride(rows: usize, features: usize, targets: usize) -> Option<f64> {
    let pass = rows as f64 * features as f64 * targets as f64;
    let values = rows as f64 * (features + targets) as f64;
    (pass <= RETAINED_PASS_MAX).then_some((pass / RETAINED_PASS).max(values / RETAINED_VALUES))
}

/// Selection for one bucket of the horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct BucketSelection {
    pub penalty: Penalty,
    pub features: FeatureSet,
}

/// Fitted readouts, `[fold][bucket]`: without each block, and last on all blocks.
#[derive(Clone, Debug)]
pub struct ReadoutFit {
    folds: Vec<Vec<Solution>>,
    /// Weight of the least absolute deviations fit, by bucket.
    pub absolute_weights: Vec<f64>,
}

/// Coefficients for the whole horizon: `[horizon][feature]` and `[series][feature][horizon]`.
#[derive(Clone, Debug)]
pub struct Coefficients {
    pub shared: Vec<f32>,
    pub per_series: Vec<f32>,
}

/// Data of one fold of one bucket, by series.
struct Fold {
    /// Index of the block that is left out, or [`VALIDATION`].
    index: usize,
    train: Vec<NormalEquations>,
    held_out: Vec<NormalEquations>,
    /// Retained rows of the held-out data; empty if there are none.
    rows: Vec<RegressionRows>,
}

impl Fold {
    /// Logarithm of the mean held-out error of each series: absolute where rows were retained, else squared.
    fn log_errors(&self, solution: &Solution) -> Vec<Option<f64>> {
        let of_series = |(series, equations): (usize, &NormalEquations)| {
            let (sum, count) = match self.rows.get(series) {
                None => (equations.squared_errors(solution, series), equations.rows() as f64),
                Some(rows) => {
                    (rows.absolute_errors(equations.targets(), solution, series), rows.ys.len() as f64)
                }
            };
            (count > 0.0).then(|| (sum.iter().sum::<f64>() / count).max(ERROR_MIN).ln())
        };
        self.held_out.iter().enumerate().map(of_series).collect()
    }
}

/// Logarithms of mean errors, `[fold][series]`. Their mean gives a volatile series no more weight than a calm one.
#[derive(Clone, Debug)]
struct FoldErrors(Vec<Vec<Option<f64>>>);

impl FoldErrors {
    /// None without data.
    fn mean(&self) -> Option<f64> {
        mean(self.0.iter().flatten().copied())
    }

    /// True if these errors improve enough on `default` overall and regress too much on no fold and no series.
    fn improves_on(&self, default: &Self) -> bool {
        let change = |fold: usize, series: usize| Some(self.0[fold][series]? - default.0[fold][series]?);
        let (folds, series) = (self.0.len(), self.0.first().map_or(0, Vec::len));
        let of_fold = |fold: usize| mean((0..series).map(|series| change(fold, series)));
        let of_series = |series: usize| mean((0..folds).map(|fold| change(fold, series)));
        let all = mean((0..folds).flat_map(|fold| (0..series).map(move |series| change(fold, series))));
        let is_tolerable = |change: Option<f64>| change.is_none_or(|change| change <= MAX_REGRESSION.ln());
        all.is_some_and(|all| all < MIN_IMPROVEMENT.ln())
            && (0..folds).all(|fold| is_tolerable(of_fold(fold)))
            && (0..series).all(|series| is_tolerable(of_series(series)))
    }
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.flatten().collect::<Mean>().value()
}

/// A candidate and its held-out errors.
struct Scored<T> {
    candidate: T,
    errors: FoldErrors,
    mean: f64,
}

impl<T> Scored<T> {
    /// None without data or where a fold has no solution.
    fn new(candidate: T, errors: impl Iterator<Item = Option<Vec<Option<f64>>>>) -> Option<Self> {
        let errors = FoldErrors(errors.collect::<Option<_>>()?);
        Some(Self { candidate, mean: errors.mean()?, errors })
    }
}

/// The candidate with the least mean error; the first of equals.
fn best<'a, T: 'a>(scored: impl Iterator<Item = &'a Scored<T>>) -> Option<&'a Scored<T>> {
    scored.min_by(|a, b| a.mean.total_cmp(&b.mean))
}

/// The best of the candidates that improve on the default, or the default.
fn select<'a, T: 'a>(
    default: &'a Scored<T>,
    candidates: impl Iterator<Item = &'a Scored<T>>,
) -> &'a Scored<T> {
    best(candidates.filter(|candidate| candidate.errors.improves_on(&default.errors))).unwrap_or(default)
}

impl GramSums {
    /// Rows of the training split.
    pub fn training_rows(&self) -> u64 {
        let equations = self.equations.iter().flat_map(|series| series[..BLOCKS].iter().flatten().flatten());
        equations.map(NormalEquations::rows).sum()
    }

    /// Steps of a bucket.
    fn steps(&self, bucket: usize) -> Range<usize> {
        let start = bucket.checked_sub(1).map_or(0, |previous| self.bucket_ends[previous]);
        start..self.bucket_ends[bucket]
    }

    /// Sums over some blocks for a bucket, by series.
    fn sum_blocks(&self, bucket: usize, is_included: impl Fn(usize) -> bool) -> Vec<NormalEquations> {
        let steps = self.steps(bucket);
        let any = self.equations.iter().flatten().flatten().flatten().next();
        let features = any.map_or(0, NormalEquations::features);
        let of_series = |series: &Vec<Vec<Option<NormalEquations>>>| {
            let mut sum = NormalEquations::new(features, steps.len());
            for (_, buckets) in series.iter().enumerate().filter(|(block, _)| is_included(*block)) {
                for equations in buckets[bucket..].iter().flatten() {
                    sum.merge_targets(equations, steps.clone());
                }
            }
            sum
        };
        self.equations.iter().map(of_series).collect()
    }

    /// Retained rows of some blocks with the targets of a bucket, by series.
    fn rows_of_blocks(&self, bucket: usize, is_included: impl Fn(usize) -> bool) -> Vec<RegressionRows> {
        let horizon = self.bucket_ends.last().copied().unwrap_or(0);
        let of_series = |series: &Vec<RegressionRows>| {
            let mut all = RegressionRows::default();
            for (_, rows) in series.iter().enumerate().filter(|(block, _)| is_included(*block)) {
                all.xs.extend_from_slice(&rows.xs);
                all.ys.extend(rows.ys.chunks(horizon).flat_map(|row| &row[self.steps(bucket)]));
            }
            all
        };
        self.rows.iter().map(of_series).collect()
    }

    /// Folds of a bucket that have training data and held-out data: the validation split with a fit on all blocks, and each
    /// block with a fit on the others. A single period of a year would mislead.
    fn folds(&self, bucket: usize) -> Vec<Fold> {
        let fold = |index: usize| Fold {
            index,
            train: self.sum_blocks(bucket, |block| block != VALIDATION && block != index),
            held_out: self.sum_blocks(bucket, |block| block == index),
            rows: self.rows_of_blocks(bucket, |block| block == index),
        };
        let has_data = |fold: &Fold| count_rows(&fold.train) > 0 && count_rows(&fold.held_out) > 0;
        (0..=BLOCKS).map(fold).filter(has_data).collect()
    }

    /// Selects penalties and features of each bucket by the mean held-out error.
    pub fn select(&self, sets: &FeatureSets) -> Vec<BucketSelection> {
        (0..self.bucket_ends.len()).map(|bucket| self.select_bucket(bucket, sets)).collect()
    }

    fn select_bucket(&self, bucket: usize, sets: &FeatureSets) -> BucketSelection {
        let end = self.bucket_ends[bucket];
        // A single series has nothing to share.
        let has_per_series = self.per_series.series >= 2 && !self.per_series.indices.is_empty();
        let scales = if has_per_series { &PER_SERIES_SCALES[..] } else { &PER_SERIES_SCALES[..1] };
        let mut candidates = Vec::new();
        for features in sets.candidates() {
            for ridge in RIDGES {
                for scale in scales {
                    let penalty = Penalty { end, ridge, per_series: *scale };
                    candidates.push(BucketSelection { penalty, features });
                }
            }
        }
        let folds = self.folds(bucket);
        let score = |candidate: BucketSelection| {
            let errors = folds.iter().map(|fold| {
                let regularization = self.regularization(&fold.train, &candidate, sets);
                Some(fold.log_errors(&solve_ridge(&fold.train, self.shared, &regularization)?))
            });
            let errors: Vec<_> = errors.collect();
            Scored::new(candidate, errors.into_iter())
        };
        let scored: Vec<Option<Scored<BucketSelection>>> = candidates.into_par_iter().map(score).collect();
        let best_of =
            |set: FeatureSet| best(scored.iter().flatten().filter(|scored| scored.candidate.features == set));
        let Some(default) = best_of(FeatureSet::States) else {
            let penalty = Penalty { end, ridge: RIDGE_DEFAULT, per_series: 0.0 };
            return BucketSelection { penalty, features: FeatureSet::States };
        };
        select(default, sets.candidates().into_iter().filter_map(best_of)).candidate.clone()
    }

    /// Fits all buckets without each block and on all blocks, by least squares. Where rows were retained, the fit is blended with
    /// least absolute deviations if that lowers the held-out error. None where the equations are singular.
    pub fn fit(&self, selections: &[BucketSelection], sets: &FeatureSets) -> Option<ReadoutFit> {
        let buckets = selections.len();
        let fit = |index: usize| {
            let (fold, bucket) = (index / buckets, index % buckets);
            let is_training = |block: usize| block != VALIDATION && block != fold;
            let (train, selection) = (self.sum_blocks(bucket, is_training), &selections[bucket]);
            let mut regularization = self.regularization(&train, selection, sets);
            let squares = solve_ridge(&train, self.shared, &regularization)?;
            let rows = self.rows_of_blocks(bucket, is_training);
            let count: usize = rows.iter().map(|rows| rows.ys.len() / self.steps(bucket).len()).sum();
            regularization.ridge = selection.penalty.ridge * count as f64;
            let absolute = least_absolute_deviations(&rows, self.shared, &regularization, &squares);
            Some((squares, absolute))
        };
        let fits: Option<Vec<(Solution, Option<Solution>)>> =
            (0..(BLOCKS + 1) * buckets).into_par_iter().map(fit).collect();
        let fits = fits?;
        let weights = (0..buckets).into_par_iter().map(|bucket| self.absolute_weight(bucket, &fits));
        let absolute_weights: Vec<f64> = weights.collect();
        let blended = fits.iter().enumerate().map(|(index, (squares, absolute))| match absolute {
            Some(absolute) => blend(squares, absolute, absolute_weights[index % buckets]),
            None => squares.clone(),
        });
        let blended: Vec<Solution> = blended.collect();
        Some(ReadoutFit { folds: blended.chunks(buckets).map(<[_]>::to_vec).collect(), absolute_weights })
    }

    /// Weight of the least absolute deviations fit of a bucket, with the least held-out error. `fits` are the solutions by
    /// least squares and by least absolute deviations, `[fold][bucket]`.
    fn absolute_weight(&self, bucket: usize, fits: &[(Solution, Option<Solution>)]) -> f64 {
        let folds = self.folds(bucket);
        let score = |weight: f64| {
            let folds = folds.iter().filter(|fold| !fold.rows.is_empty());
            let errors = folds.map(|fold| {
                let (squares, absolute) = &fits[fold.index * self.bucket_ends.len() + bucket];
                Some(fold.log_errors(&blend(squares, absolute.as_ref()?, weight)))
            });
            Scored::new(weight, errors)
        };
        let Some(default) = score(0.0) else { return 0.0 };
        let candidates: Vec<Scored<f64>> = ABSOLUTE_WEIGHTS.into_iter().filter_map(score).collect();
        select(&default, candidates.iter()).candidate
    }

    fn regularization(
        &self,
        train: &[NormalEquations],
        selection: &BucketSelection,
        sets: &FeatureSets,
    ) -> Regularization {
        let (rows, penalty) = (count_rows(train), &selection.penalty);
        let mut squares = vec![0.0; train.first().map_or(0, NormalEquations::features)];
        for equations in train {
            squares.iter_mut().zip(equations.squares()).for_each(|(sum, square)| *sum += square);
        }
        // Scales a feature to a mean square of 1, so that one penalty fits all; 0 leaves it out.
        let scale =
            |feature: usize| match squares[feature] > 0.0 && sets.includes(selection.features, feature) {
                true => (rows as f64 / squares[feature]).sqrt(),
                false => 0.0,
            };
        let mut scales: Vec<f64> = (0..self.shared).map(scale).collect();
        if self.per_series.series > 0 {
            scales.extend(self.per_series.indices.iter().map(|feature| penalty.per_series * scale(*feature)));
        }
        Regularization { ridge: penalty.ridge * rows as f64, scales }
    }
}

impl ReadoutFit {
    /// Coefficients of all buckets, fitted without a block or on all blocks.
    pub fn coefficients(&self, without: Option<usize>, per_series: &PerSeriesFeatures) -> Coefficients {
        let buckets = &self.folds[without.unwrap_or(BLOCKS)];
        let features = per_series.count();
        let shared = buckets.iter().flat_map(|solution| &solution.shared).map(|w| *w as f32).collect();
        let steps = |solution: &Solution| solution.per_series.first().map_or(0, |of| of.len() / features);
        let horizon: usize = buckets.iter().map(steps).sum();
        let mut all = vec![0.0; per_series.series * features * horizon];
        let mut first = 0;
        for solution in buckets.iter().filter(|_| features > 0) {
            for (series, coefficients) in solution.per_series.iter().enumerate() {
                for (index, value) in coefficients.iter().enumerate() {
                    let (target, feature) = (index / features, index % features);
                    all[(series * features + feature) * horizon + first + target] = *value as f32;
                }
            }
            first += steps(solution);
        }
        Coefficients { shared, per_series: all }
    }
}

/// (1 - weight) a + weight b
fn blend(a: &Solution, b: &Solution, weight: f64) -> Solution {
    let both = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (1.0 - weight) * a + weight * b).collect();
    let per_series = a.per_series.iter().zip(&b.per_series).map(|(a, b)| both(a, b)).collect();
    Solution { shared: both(&a.shared, &b.shared), per_series }
}

fn count_rows(equations: &[NormalEquations]) -> u64 {
    equations.iter().map(NormalEquations::rows).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::network::Random;

    /// Rows of states, the latest values and a constant. The target depends on the first state and the latest value, and has
    /// an outlier of up to `outlier` in one row of five.
    fn sums(states: usize, rows: usize, outlier: f32) -> (GramSums, FeatureSets) {
        let shared = states + RECENT_MIN + 1;
        let mut random = Random::new(7);
        let mut block = || {
            let mut block = RegressionRows::default();
            for row in 0..rows {
                let mut x: Vec<f32> = (0..shared).map(|_| random.uniform(1.0)).collect();
                x[shared - 1] = 1.0;
                let jump = if row % 5 == 0 { outlier * random.uniform(1.0).abs() } else { 0.0 };
                block.ys.push(x[states] + x[0] + 0.3 * random.uniform(1.0) + jump);
                block.xs.extend(x);
            }
            block
        };
        let blocks: Vec<RegressionRows> = (0..=BLOCKS).map(|_| block()).collect();
        let equations = |block: &RegressionRows| {
            let mut equations = NormalEquations::new(shared, 1);
            equations.add(&block.xs, &block.ys);
            vec![Some(equations)]
        };
        let equations = vec![blocks.iter().map(equations).collect()];
        let sets = FeatureSets { plain_states: 1, states, recent: RECENT_MIN, row_stride: Some(1) };
        let per_series = PerSeriesFeatures::default();
        (GramSums { bucket_ends: vec![1], shared, per_series, equations, rows: vec![blocks] }, sets)
    }

    #[test]
    fn absolute_deviations_are_selected_for_outliers() {
        let weight = |outlier: f32| {
            let (sums, sets) = sums(2, 300, outlier);
            sums.fit(&sums.select(&sets), &sets).unwrap().absolute_weights[0]
        };
        assert_eq!(weight(0.0), 0.0);
        assert!(weight(30.0) > 0.0);
    }

    #[test]
    fn few_rows_select_few_features() {
        let (sums, sets) = sums(200, 30, 0.0);
        assert_eq!(sums.select(&sets)[0].features, FeatureSet::PlainDecays);
    }

    #[test]
    fn feature_sets_include_their_groups_and_all_covariates() {
        let sets = FeatureSets { plain_states: 2, states: 5, recent: RECENT_MIN + 4, row_stride: Some(1) };
        let count = |set| {
            let all = (0..5 + RECENT_MIN + 4 + 2).filter(|feature| sets.includes(set, *feature));
            all.count() - 2 - RECENT_MIN
        };
        assert_eq!(sets.candidates().into_iter().map(count).collect::<Vec<_>>(), [5, 9, 4, 2, 0]);
    }

    #[test]
    fn long_histories_have_one_candidate_and_retain_no_rows() {
        let sets = FeatureSets { plain_states: 2, states: 5, recent: RECENT_MIN, row_stride: None };
        assert_eq!(sets.candidates(), [FeatureSet::States]);
        assert_eq!(retained_row_stride(100_000_000, 100, 24), None);
        assert!(retained_row_stride(3000, 400, 12).is_some_and(|stride| stride < 1.0));
    }
}
