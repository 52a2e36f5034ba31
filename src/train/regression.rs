//! The memory's readout by ridge regression: one pass over the history gathers sums, from which every penalty is solved,
//! judged on the validation part, and fitted again without a part of the history.

use super::walk::{Lane, walk};
use super::windows::{Origin, Split, Windows};
use super::{History, shards};
use crate::forecaster::write_features;
use crate::model::{MemoryPart, Penalty};
use crate::network::memory::{Memory, MemoryState, Normal, Own, Penalties, Solution, solve};

/// Parts of the training time that are left out in turn, so that what is learned on top sees errors as they are on data
/// that the readout does not know. More parts cost more sums; with four a fit still has three quarters of the data.
pub const BLOCKS: usize = 4;
/// Place of the validation part behind them.
const VALIDATION: usize = BLOCKS;

/// Rows that are added to the sums at once: enough for the product to be fast, few enough to stay in the cache.
const ROWS_AT_ONCE: usize = 256;

/// Multiplications spent on the sums, about: a minute on a core. Longer histories are thinned out evenly.
const MULTIPLICATIONS: f64 = 1e12;

/// Rows are never thinned out below this number, whatever their size.
const ROWS_LEAST: f64 = 50_000.0;

/// A mean square below this is rounding.
const LEAST_ERROR: f64 = 1e-12;

/// Spreads beyond which a row is cut off in training: one such value weighs as much as a thousand ordinary ones.
const FARTHEST: f32 = 30.0;

/// Penalties that are tried, as shares of the number of rows.
const RIDGES: [f64; 7] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// Where nothing is there to choose on.
const RIDGE: f64 = 0.1;
/// Weights of the copied states that are tried; 0 is without.
const COPIED: [f64; 2] = [0.0, 0.5];

/// What the regression reads.
pub struct Regression<'a> {
    pub windows: &'a Windows<'a>,
    pub part: &'a MemoryPart,
    pub memory: &'a Memory,
    pub lanes: &'a [Lane],
    pub split: Split,
}

/// The sums over all rows, apart by series, block and by how much of the horizon a row has.
pub struct Sums {
    /// Ends of the parts of the horizon.
    pub ends: Vec<usize>,
    shared: usize,
    /// `[series][block][part]`
    normals: Vec<Vec<Vec<Option<Normal>>>>,
}

/// Coefficients for the whole horizon: `[horizon][feature]` and `[series][own feature][horizon]`.
#[derive(Clone, Debug)]
pub struct Coefficients {
    pub shared: Vec<f32>,
    pub own: Vec<f32>,
}

/// The ends of the parts of a horizon: halved three times, since what is far ahead is another task than what is next.
pub fn parts(horizon: usize) -> Vec<usize> {
    let mut ends: Vec<usize> =
        [8, 4, 2, 1].map(|part| horizon / part).into_iter().filter(|end| *end > 0).collect();
    ends.dedup();
    ends
}

impl Regression<'_> {
    fn history(&self) -> &History {
        self.windows.history
    }

    fn own(&self) -> Own {
        self.windows.description.own()
    }

    fn features(&self) -> usize {
        let description = self.windows.description;
        self.part.features(self.memory.numbers(), &description.inputs, description.horizon)
    }

    /// Every `n`th origin is a row, so that sums of long histories do not take for ever; `n` has no factor in common with
    /// a day or an hour of steps, or some times of the day would never be seen.
    fn stride(&self) -> usize {
        let (features, horizon) = (self.features() + self.own().features(), self.windows.description.horizon);
        let cost = (features * (features + horizon)) as f64;
        let most = (MULTIPLICATIONS / cost).max(ROWS_LEAST);
        let steps: usize = self.history().segments.iter().map(|segment| segment.values.len()).sum();
        let mut stride = (steps as f64 / most).ceil().max(1.0) as usize;
        let day = 86_400_000_000 / self.windows.rules.grid.every.max(1);
        while stride > 1 && common_factor(stride as i64, day) > 1 {
            stride += 1;
        }
        stride
    }

    /// One pass over the history.
    pub fn sums(&self) -> Sums {
        let ends = parts(self.windows.description.horizon);
        let shared = self.features();
        let stride = self.stride();
        // Series with own coefficients have sums of their own; the others are added up in a fixed number of pieces.
        let pieces: Vec<&[Lane]> = match self.own().series {
            0 => self.lanes.chunks(self.lanes.len().div_ceil(2 * BLOCKS).max(1)).collect(),
            _ => self.lanes.chunks(1).collect(),
        };
        let mut normals = shards::each(
            pieces.len(),
            || (),
            |(), piece| {
                let mut rows = Rows::new(self, &ends);
                pieces[piece].iter().for_each(|lane| rows.gather(lane, stride));
                rows.finish()
            },
        );
        if self.own().series == 0 {
            let rest = normals.split_off(1.min(normals.len()));
            rest.into_iter().for_each(|other| merge(&mut normals[0], other));
        }
        Sums { ends, shared, normals }
    }
}

/// The block in which a step lies; what comes after the training part is the validation part's.
pub fn block(split: Split, step: i64) -> usize {
    let whole = i128::from((split.train_end - split.first).max(1));
    let place = i128::from((step - split.first).max(0)) * BLOCKS as i128 / whole;
    (place as usize).min(VALIDATION)
}

fn common_factor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_factor(b, a % b) }
}

fn merge(into: &mut [Vec<Option<Normal>>], from: Vec<Vec<Option<Normal>>>) {
    for (into, from) in into.iter_mut().flatten().zip(from.into_iter().flatten()) {
        match (into.as_mut(), from) {
            (Some(into), Some(from)) => into.plus(&from),
            (None, from) => *into = from,
            (Some(_), None) => {}
        }
    }
}

/// Rows on their way into the sums, by block and part.
struct Rows<'a> {
    of: &'a Regression<'a>,
    own: Own,
    ends: &'a [usize],
    normals: Vec<Vec<Option<Normal>>>,
    /// Features and targets of the rows that wait.
    waiting: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
}

impl<'a> Rows<'a> {
    fn new(of: &'a Regression<'a>, ends: &'a [usize]) -> Self {
        let normals = vec![vec![None; ends.len()]; BLOCKS + 1];
        let waiting = vec![vec![(Vec::new(), Vec::new()); ends.len()]; BLOCKS + 1];
        Self { of, own: of.own(), ends, normals, waiting }
    }

    fn gather(&mut self, lane: &Lane, stride: usize) {
        let (windows, split) = (self.of.windows, self.of.split);
        let mut number = 0usize;
        let mut origins = Vec::new();
        for segment in &lane.segments {
            let of = &windows.history.segments[*segment as usize];
            for place in windows.description.lookback.max(1) - 1..of.values.len() {
                if of.observed[place] && of.step(place) < split.validation_end {
                    number += 1;
                    if number.is_multiple_of(stride) {
                        origins.push(Origin { segment: *segment, place: place as u32 });
                    }
                }
            }
        }
        walk(windows.history, lane, Some(self.of.memory), &origins, |origin, state| self.add(origin, state));
    }

    fn add(&mut self, origin: Origin, state: &MemoryState) {
        let Regression { windows, part, split, .. } = self.of;
        let segment = &windows.history.segments[origin.segment as usize];
        let (place, step) = (origin.place as usize, segment.step(origin.place as usize));
        let block = block(*split, step);
        let end = if block == VALIDATION { split.validation_end } else { split.train_end };
        // How much of the horizon lies in the same part and the same run.
        let left = (segment.values.len() - place - 1).min((end - step - 1).max(0) as usize);
        let Some(tail) = self.ends.iter().rposition(|end| *end <= left) else { return };
        let Some(view) = windows.view(origin) else { return };
        let scale = view.scale;
        if scale.spread == 0.0 {
            return;
        }
        let (xs, ys) = &mut self.waiting[block][tail];
        let (shared, own) = (self.of.features(), self.own.features());
        let start = xs.len();
        xs.resize(start + shared + own, 0.0);
        let (features, owned) = xs[start..].split_at_mut(shared);
        let ahead = windows.ahead(origin);
        write_features(windows.description, part, windows.rules, state, &view, ahead, features);
        features.iter_mut().for_each(|x| *x = x.clamp(-FARTHEST, FARTHEST));
        self.own.write(features, owned);
        let last = segment.values[place];
        let way = |value: &f64| (((value - last) / scale.spread) as f32).clamp(-FARTHEST, FARTHEST);
        ys.extend(segment.values[place + 1..=place + self.ends[tail]].iter().map(way));
        if xs.len() >= ROWS_AT_ONCE * (shared + own) {
            self.flush(block, tail);
        }
    }

    fn flush(&mut self, block: usize, tail: usize) {
        let (features, targets) = (self.of.features() + self.own.features(), self.ends[tail]);
        let (xs, ys) = &mut self.waiting[block][tail];
        if xs.is_empty() {
            return;
        }
        self.normals[block][tail].get_or_insert_with(|| Normal::new(features, targets)).add(xs, ys);
        xs.clear();
        ys.clear();
    }

    fn finish(mut self) -> Vec<Vec<Option<Normal>>> {
        for block in 0..=BLOCKS {
            (0..self.ends.len()).for_each(|tail| self.flush(block, tail));
        }
        self.normals
    }
}

impl Sums {
    /// Rows that trained, and rows to choose on.
    pub fn rows(&self) -> (u64, u64) {
        let count = |blocks: std::ops::Range<usize>| {
            let normals =
                self.normals.iter().flat_map(|series| series[blocks.clone()].iter().flatten().flatten());
            normals.map(Normal::rows).sum()
        };
        (count(0..BLOCKS), count(VALIDATION..BLOCKS + 1))
    }

    /// The sums over some blocks for part `part` of the horizon, a series each.
    fn merged(&self, part: usize, blocks: impl Fn(usize) -> bool) -> Vec<Normal> {
        let first = if part == 0 { 0 } else { self.ends[part - 1] };
        let features = self.normals.iter().flatten().flatten().flatten().next().map_or(0, Normal::features);
        let one = |series: &Vec<Vec<Option<Normal>>>| {
            let mut sum = Normal::new(features, self.ends[part] - first);
            for (_, parts) in series.iter().enumerate().filter(|(block, _)| blocks(*block)) {
                for normal in parts[part..].iter().flatten() {
                    sum.plus_targets(normal, first..self.ends[part]);
                }
            }
            sum
        };
        self.normals.iter().map(one).collect()
    }

    /// Chooses the penalties of each part of the horizon: those with the least error on parts of the history that were not
    /// fitted. These are the validation part, fitted on all training blocks, and each training block, fitted on the others:
    /// one part of a year alone misleads. What is averaged are the logarithms of the mean squares of each series and fold, so
    /// that a restless one counts no more than others.
    pub fn choose(&self, own: &Own) -> Vec<Penalty> {
        let copied = if own.series == 0 || own.copied.is_empty() { &COPIED[..1] } else { &COPIED[..] };
        let tried: Vec<(f64, f64)> =
            RIDGES.into_iter().flat_map(|ridge| copied.iter().map(move |copied| (ridge, *copied))).collect();
        let of_part = |part: usize| {
            let until = self.ends[part];
            let penalty = |(ridge, copied)| Penalty { until, ridge, copied };
            let folds: Vec<(Vec<Normal>, Vec<Normal>)> = (0..=BLOCKS)
                .map(|fold| {
                    let train = self.merged(part, |block| block < BLOCKS && block != fold);
                    (train, self.merged(part, |block| block == fold))
                })
                .filter(|(train, judged)| rows(train) > 0 && rows(judged) > 0)
                .collect();
            let errors = shards::each(
                tried.len(),
                || (),
                |(), i| {
                    let (mut sum, mut count) = (0.0, 0.0);
                    for (train, judged) in &folds {
                        let solution = self.solve(train, own, &penalty(tried[i]))?;
                        for (number, normal) in
                            judged.iter().enumerate().filter(|(_, normal)| normal.rows() > 0)
                        {
                            let errors: f64 = normal.squared_errors(&solution, number).iter().sum();
                            sum += (errors / normal.rows() as f64).max(LEAST_ERROR).ln();
                            count += 1.0;
                        }
                    }
                    let sum = sum / count;
                    Some(sum)
                },
            );
            let found = errors.into_iter().zip(&tried).filter_map(|(error, tried)| Some((error?, *tried)));
            let best = found.min_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|_| !folds.is_empty());
            best.map_or(penalty((RIDGE, 0.0)), |(_, tried)| penalty(tried))
        };
        (0..self.ends.len()).map(of_part).collect()
    }

    /// Fits all parts of the horizon on the training blocks but `without`.
    pub fn fit(&self, own: &Own, penalties: &[Penalty], without: Option<usize>) -> Option<Coefficients> {
        let horizon = *self.ends.last()?;
        let (features, owned) = (self.shared, own.features());
        let mut shared = Vec::with_capacity(horizon * features);
        let mut series = vec![0.0; own.series * owned * horizon];
        let mut first = 0;
        for (part, penalty) in penalties.iter().enumerate() {
            let train = self.merged(part, |block| block < BLOCKS && Some(block) != without);
            let solution = self.solve(&train, own, penalty)?;
            shared.extend(solution.shared.iter().map(|w| *w as f32));
            for (c, coefficients) in solution.own.iter().enumerate() {
                for (place, v) in coefficients.iter().enumerate() {
                    let (target, feature) = (place / owned, place % owned);
                    series[(c * owned + feature) * horizon + first + target] = *v as f32;
                }
            }
            first = penalty.until;
        }
        Some(Coefficients { shared, own: series })
    }

    fn solve(&self, train: &[Normal], own: &Own, penalty: &Penalty) -> Option<Solution> {
        let rows = rows(train);
        let mut squares = vec![0.0; train.first()?.features()];
        for normal in train {
            squares.iter_mut().zip(normal.squares()).for_each(|(sum, square)| *sum += square);
        }
        // A feature is brought to a mean square of 1 before its coefficient is held small.
        let scale = |feature: usize| {
            if squares[feature] > 0.0 { (rows as f64 / squares[feature]).sqrt() } else { 0.0 }
        };
        let mut scales: Vec<f64> = (0..self.shared).map(scale).collect();
        if own.series > 0 {
            scales.extend(own.copied.iter().map(|feature| penalty.copied * scale(*feature)));
        }
        solve(train, self.shared, &Penalties { ridge: penalty.ridge * rows as f64, scales })
    }
}

fn rows(normals: &[Normal]) -> u64 {
    normals.iter().map(Normal::rows).sum()
}
