//! Sums for the readout of the recurrence, gathered in one pass over the history; of a small history also some of the rows.

use rayon::prelude::*;

use super::backtest::scan_states;
use super::windows::{Origin, Windows};
use super::{Channel, Split};
use tidecast_core::forecaster::{ReadoutView, write_readout_features};
use tidecast_core::model::RecurrenceSpec;
use tidecast_core::network::recurrence::{
    LinearRecurrence, NormalEquations, PerSeriesFeatures, RegressionRows,
};
use tidecast_core::time::stride_coprime_to_day;

/// Blocks of the training split. Each is left out once, so that residuals for the cells are out of sample. Each block costs
/// sums of its own; with four of them a fit still has three quarters of the data.
pub const BLOCKS: usize = 4;
/// Index of the validation split, after the blocks.
pub const VALIDATION: usize = BLOCKS;

/// Rows per update of the sums: large enough for a fast product, small enough for the cache.
const ROWS_PER_UPDATE: usize = 256;
/// Approximate multiplications for the sums, about a minute on a core. Longer histories are subsampled.
const MULTIPLICATIONS: f64 = 1e12;
/// Subsampling keeps at least this many rows.
const ROWS_MIN: f64 = 50_000.0;
/// Limit of features and targets in spreads: a value beyond it would outweigh a thousand ordinary ones.
const SPREADS_MAX: f32 = 30.0;

/// Inputs of the sums.
pub struct GramBuilder<'a> {
    pub windows: &'a Windows<'a>,
    pub spec: &'a RecurrenceSpec,
    pub recurrence: &'a LinearRecurrence,
    pub channels: &'a [Channel],
    pub split: Split,
    /// Rows per retained row; none retains no rows.
    pub row_stride: Option<usize>,
}

/// Sums over all rows, by series, block and by how much of the horizon a row has.
pub struct GramSums {
    /// Ends of the horizon buckets.
    pub bucket_ends: Vec<usize>,
    /// Number of shared features.
    pub shared: usize,
    pub per_series: PerSeriesFeatures,
    /// `[series][block][bucket]`
    pub equations: Vec<Vec<Vec<Option<NormalEquations>>>>,
    /// Retained rows with the whole horizon, `[series][block]`; empty where there are too many.
    pub rows: Vec<Vec<RegressionRows>>,
}

/// Ends of the buckets of a horizon, which is halved three times: later steps need other coefficients than the next ones.
pub fn bucket_ends(horizon: usize) -> Vec<usize> {
    let mut ends: Vec<usize> =
        [8, 4, 2, 1].map(|fraction| horizon / fraction).into_iter().filter(|end| *end > 0).collect();
    ends.dedup();
    ends
}

/// The block of a step, or [`VALIDATION`] after the training split.
pub fn block_of(split: Split, step: i64) -> usize {
    let steps = i128::from((split.train_end - split.first).max(1));
    let block = i128::from((step - split.first).max(0)) * BLOCKS as i128 / steps;
    (block as usize).min(VALIDATION)
}

/// End of the split that a block belongs to.
pub fn end_of_split(split: Split, block: usize) -> i64 {
    if block == VALIDATION { split.validation_end } else { split.train_end }
}

impl GramBuilder<'_> {
    /// Origins per row.
    fn stride(&self, features: usize) -> usize {
        let cost = (features * (features + self.windows.manifest.horizon)) as f64;
        let rows_max = (MULTIPLICATIONS / cost).max(ROWS_MIN);
        let steps = self.windows.history.steps();
        stride_coprime_to_day(steps as f64 / rows_max, self.windows.step_config.grid.every)
    }

    /// Gathers the sums.
    pub fn build(&self) -> GramSums {
        let manifest = self.windows.manifest;
        let (bucket_ends, per_series) = (bucket_ends(manifest.horizon), manifest.per_series_features());
        let shared = self.spec.features(self.recurrence.state_len(), &manifest.inputs, manifest.horizon);
        let stride = self.stride(shared + per_series.count());
        let has_per_series = per_series.series > 0;
        // Series with coefficients of their own need sums of their own. The others are added in a fixed number of chunks, so
        // that the result does not depend on the number of threads.
        let chunk_size = if has_per_series { 1 } else { self.channels.len().div_ceil(2 * BLOCKS).max(1) };
        let chunks = self.channels.par_chunks(chunk_size).map(|channels| {
            let mut rows = RowCollector {
                builder: self,
                shared,
                per_series: &per_series,
                bucket_ends: &bucket_ends,
                equations: vec![vec![None; bucket_ends.len()]; BLOCKS + 1],
                pending: vec![vec![RegressionRows::default(); bucket_ends.len()]; BLOCKS + 1],
                retained: vec![RegressionRows::default(); BLOCKS + 1],
                complete_rows: 0,
            };
            channels.iter().for_each(|channel| rows.collect_channel(channel, stride));
            for block in 0..=BLOCKS {
                (0..bucket_ends.len()).for_each(|bucket| rows.flush(block, bucket));
            }
            (rows.equations, rows.retained)
        });
        let mut chunks: Vec<_> = chunks.collect();
        if !has_per_series {
            let sum =
                chunks.into_iter().reduce(|(mut equations, mut rows), (other_equations, other_rows)| {
                    merge(&mut equations, other_equations);
                    rows.iter_mut().zip(other_rows).for_each(|(rows, other)| rows.append(other));
                    (equations, rows)
                });
            chunks = sum.into_iter().collect();
        }
        let (equations, mut rows): (Vec<_>, Vec<_>) = chunks.into_iter().unzip();
        if self.row_stride.is_none() {
            rows.clear();
        }
        GramSums { bucket_ends, shared, per_series, equations, rows }
    }
}

fn merge(sums: &mut [Vec<Option<NormalEquations>>], others: Vec<Vec<Option<NormalEquations>>>) {
    for (sum, other) in sums.iter_mut().flatten().zip(others.into_iter().flatten()) {
        match (sum.as_mut(), other) {
            (Some(sum), Some(other)) => sum.merge(&other),
            (None, other) => *sum = other,
            (Some(_), None) => {}
        }
    }
}

/// Collects rows of some channels and adds them to sums, `[block][bucket]`.
struct RowCollector<'a> {
    builder: &'a GramBuilder<'a>,
    shared: usize,
    per_series: &'a PerSeriesFeatures,
    bucket_ends: &'a [usize],
    equations: Vec<Vec<Option<NormalEquations>>>,
    /// Rows that are not in the sums yet.
    pending: Vec<Vec<RegressionRows>>,
    /// Retained rows, by block.
    retained: Vec<RegressionRows>,
    /// Rows with the whole horizon so far.
    complete_rows: usize,
}

impl RowCollector<'_> {
    fn collect_channel(&mut self, channel: &Channel, stride: usize) {
        let GramBuilder { windows, split, recurrence, .. } = *self.builder;
        let mut count = 0usize;
        let mut origins = Vec::new();
        for number in &channel.segments {
            let segment = &windows.history.segments[*number as usize];
            for index in windows.manifest.lookback.max(1) - 1..segment.values.len() {
                if segment.observed[index] && segment.step(index) < split.validation_end {
                    count += 1;
                    if count.is_multiple_of(stride) {
                        origins.push(Origin { segment: *number, index: index as u32 });
                    }
                }
            }
        }
        scan_states(windows.history, channel, Some(recurrence), &origins, |origin, state| {
            self.add(origin, state);
        });
    }

    fn add(&mut self, origin: Origin, state: &[f32]) {
        let GramBuilder { windows, spec, split, row_stride, .. } = *self.builder;
        let segment = &windows.history.segments[origin.segment as usize];
        let (index, step) = (origin.index as usize, segment.step(origin.index as usize));
        let block = block_of(split, step);
        // Steps of the horizon in the same split and segment.
        let steps =
            (segment.values.len() - index - 1).min((end_of_split(split, block) - step - 1).max(0) as usize);
        let Some(bucket) = self.bucket_ends.iter().rposition(|end| *end <= steps) else { return };
        let Some(view) = windows.view(origin) else { return };
        let scale = view.scale;
        if scale.spread == 0.0 {
            return;
        }
        let (shared, per_series) = (self.shared, self.per_series.count());
        let RegressionRows { xs, ys } = &mut self.pending[block][bucket];
        let start = xs.len();
        xs.resize(start + shared + per_series, 0.0);
        let (features, own) = xs[start..].split_at_mut(shared);
        let view = ReadoutView { state, window: &view, future: windows.future(origin) };
        write_readout_features(windows.manifest, spec, windows.step_config, &view, features);
        features.iter_mut().for_each(|x| *x = x.clamp(-SPREADS_MAX, SPREADS_MAX));
        self.per_series.copy(features, own);
        let last = segment.values[index];
        let scaled = |value: &f64| (((value - last) / scale.spread) as f32).clamp(-SPREADS_MAX, SPREADS_MAX);
        let targets = self.bucket_ends[bucket];
        ys.extend(segment.values[index + 1..=index + targets].iter().map(scaled));
        if bucket + 1 == self.bucket_ends.len() {
            self.complete_rows += 1;
            if row_stride.is_some_and(|stride| self.complete_rows.is_multiple_of(stride)) {
                self.retained[block].xs.extend_from_slice(&xs[start..]);
                self.retained[block].ys.extend_from_slice(&ys[ys.len() - targets..]);
            }
        }
        if xs.len() >= ROWS_PER_UPDATE * (shared + per_series) {
            self.flush(block, bucket);
        }
    }

    fn flush(&mut self, block: usize, bucket: usize) {
        let features = self.shared + self.per_series.count();
        let targets = self.bucket_ends[bucket];
        let RegressionRows { xs, ys } = &mut self.pending[block][bucket];
        if xs.is_empty() {
            return;
        }
        let equations = &mut self.equations[block][bucket];
        equations.get_or_insert_with(|| NormalEquations::new(features, targets)).add(xs, ys);
        xs.clear();
        ys.clear();
    }
}
