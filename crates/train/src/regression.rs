//! What the memory's readout is solved from: one pass over the history gathers sums, and of a small history the rows too.

use super::readings::Readings;
use super::walk::{Lane, walk};
use super::windows::{Origin, Split, Windows};
use super::{History, shards};
use tidecast_core::forecaster::write_features;
use tidecast_core::model::MemoryPart;
use tidecast_core::network::memory::{Memory, Normal, Own, Rows};

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

/// Spreads beyond which a row is cut off in training: one such value weighs as much as a thousand ordinary ones.
const FARTHEST: f32 = 30.0;

/// What the regression reads.
pub struct Regression<'a> {
    pub windows: &'a Windows<'a>,
    pub part: &'a MemoryPart,
    pub memory: &'a Memory,
    pub lanes: &'a [Lane],
    pub split: Split,
    pub readings: &'a Readings,
}

/// The sums over all rows, apart by series, block and by how much of the horizon a row has.
pub struct Sums {
    /// Ends of the parts of the horizon.
    pub ends: Vec<usize>,
    pub shared: usize,
    /// `[series][block][part]`
    pub normals: Vec<Vec<Vec<Option<Normal>>>>,
    /// `[series][block]`, with the whole horizon; empty where they are too many to keep.
    pub rows: Vec<Vec<Rows>>,
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
        stride(steps as f64 / most, self.windows.rules.grid.every)
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
        let gathered = shards::each(
            pieces.len(),
            || (),
            |(), piece| {
                let mut rows = Gathering::new(self, &ends);
                pieces[piece].iter().for_each(|lane| rows.gather(lane, stride));
                rows.finish()
            },
        );
        let (mut normals, mut rows): (Vec<_>, Vec<_>) = gathered.into_iter().unzip();
        if self.own().series == 0 {
            let rest = normals.split_off(1.min(normals.len()));
            rest.into_iter().for_each(|other| merge(&mut normals[0], other));
            let rest = rows.split_off(1.min(rows.len()));
            for (into, from) in rest.into_iter().flat_map(|other| other.into_iter().enumerate()) {
                rows[0][into].append(from);
            }
        }
        if self.readings.keep.is_none() {
            rows.clear();
        }
        Sums { ends, shared, normals, rows }
    }
}

/// The block in which a step lies; what comes after the training part is the validation part's.
pub fn block(split: Split, step: i64) -> usize {
    let whole = i128::from((split.train_end - split.first).max(1));
    let place = i128::from((step - split.first).max(0)) * BLOCKS as i128 / whole;
    (place as usize).min(VALIDATION)
}

/// The first whole number from `least` on that has no factor in common with a day of steps of `every` microseconds.
pub fn stride(least: f64, every: i64) -> usize {
    let mut stride = least.ceil().max(1.0) as usize;
    let day = 86_400_000_000 / every.max(1);
    while stride > 1 && common_factor(stride as i64, day) > 1 {
        stride += 1;
    }
    stride
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
struct Gathering<'a> {
    of: &'a Regression<'a>,
    own: Own,
    ends: &'a [usize],
    normals: Vec<Vec<Option<Normal>>>,
    /// Features and targets of the rows that wait.
    waiting: Vec<Vec<(Vec<f32>, Vec<f32>)>>,
    /// Rows that are kept, by block, and how many there were to choose from.
    kept: Vec<Rows>,
    seen: usize,
}

impl<'a> Gathering<'a> {
    fn new(of: &'a Regression<'a>, ends: &'a [usize]) -> Self {
        let normals = vec![vec![None; ends.len()]; BLOCKS + 1];
        let waiting = vec![vec![(Vec::new(), Vec::new()); ends.len()]; BLOCKS + 1];
        Self { of, own: of.own(), ends, normals, waiting, kept: vec![Rows::default(); BLOCKS + 1], seen: 0 }
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

    fn add(&mut self, origin: Origin, state: &[f32]) {
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
        let whole = tail + 1 == self.ends.len();
        self.seen += usize::from(whole);
        if self.of.readings.keep.is_some_and(|every| whole && self.seen.is_multiple_of(every)) {
            self.kept[block].xs.extend_from_slice(&xs[start..]);
            self.kept[block].ys.extend_from_slice(&ys[ys.len() - self.ends[tail]..]);
        }
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

    fn finish(mut self) -> (Vec<Vec<Option<Normal>>>, Vec<Rows>) {
        for block in 0..=BLOCKS {
            (0..self.ends.len()).for_each(|tail| self.flush(block, tail));
        }
        (self.normals, self.kept)
    }
}
