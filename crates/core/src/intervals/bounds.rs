//! Interval bounds of one level around a forecast, in scaled units, and the order of bounds.

use std::ops::Range;

use crate::simd::{Compare, Isa, Kernel, Simd};

/// Steps over which volatility is averaged.
pub const VOLATILITY_STEPS: usize = 24;

/// Largest volatility: that of a series alternating between one spread below and one spread above its mean.
///
/// A larger one comes from an outlier among the last values, or from a spread that is out of date.
const VOLATILITY_MAX: f64 = 2.0;

/// Recent volatility of a series, in spreads: mean |y(t) - y(t-1)| over the last [`VOLATILITY_STEPS`] steps.
pub fn volatility(values: &[f64], spread: f64) -> f32 {
    let values = &values[values.len().saturating_sub(VOLATILITY_STEPS + 1)..];
    // Four independent sums shorten the dependency chain.
    let mut sums = [0.0; 4];
    for (i, pair) in values.windows(2).enumerate() {
        sums[i % 4] += (pair[1] - pair[0]).abs();
    }
    let sum: f64 = sums.iter().sum();
    let mean = sum / values.len().saturating_sub(1).max(1) as f64;
    if spread > 0.0 { (mean / spread).min(VOLATILITY_MAX) as f32 } else { 0.0 }
}

/// Factor by which volatility v widens bounds: 1 + β v.
pub fn volatility_scale(gain: f32, volatility: f32) -> f32 {
    1.0 + gain * volatility
}

/// Model output at one origin, in scaled units.
#[derive(Clone, Copy, Debug)]
pub struct ModelOutput<'a> {
    /// Point forecast, `[horizon]`.
    pub values: &'a [f32],
    /// Learned quantiles, `[quantile][horizon]`; empty without any.
    pub quantiles: &'a [f32],
    /// [`volatility`] of the series at the origin.
    pub volatility: f32,
}

/// Base that a bound is an offset from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Forecast,
    /// Learned quantile, by index.
    Quantile(usize),
}

/// Lower or upper bound: base + (1 + β v) offset.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub base: Base,
    /// β
    pub volatility_gain: f32,
    /// Scaled, `[horizon]`.
    pub offsets: Vec<f32>,
}

/// Bounds of one interval level.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    pub lower: Bound,
    pub upper: Bound,
}

impl Bound {
    /// Bound at up to one vector of steps.
    #[inline(always)]
    fn at<S: Simd>(&self, simd: S, steps: Range<usize>, output: ModelOutput<'_>) -> S::V {
        let base = match self.base {
            Base::Forecast => output.values,
            Base::Quantile(index) => &output.quantiles[index * self.offsets.len()..],
        };
        let scale = simd.splat(volatility_scale(self.volatility_gain, output.volatility));
        // base + (1 + β v) offset
        simd.load_partial(&base[steps.clone()]) + scale * simd.load_partial(&self.offsets[steps])
    }
}

impl Bounds {
    /// Writes both bounds, scaled, `[horizon]` each. Bounds that cross are swapped: neither is then farther from its quantile.
    ///
    /// # Panics
    /// If `lower` and `upper` are longer than the horizon.
    pub fn write(&self, output: ModelOutput<'_>, lower: &mut [f32], upper: &mut [f32]) {
        Isa::widest().run(WriteBounds { bounds: self, output, lower, upper });
    }

    /// Lower and upper bound at up to one vector of steps.
    #[inline(always)]
    pub(super) fn at<S: Simd>(&self, simd: S, steps: Range<usize>, output: ModelOutput<'_>) -> [S::V; 2] {
        let lower = self.lower.at(simd, steps.clone(), output);
        let upper = self.upper.at(simd, steps, output);
        in_order(lower, upper)
    }
}

struct WriteBounds<'a> {
    bounds: &'a Bounds,
    output: ModelOutput<'a>,
    lower: &'a mut [f32],
    upper: &'a mut [f32],
}

impl Kernel for WriteBounds<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut first = 0;
        for (lower, upper) in self.lower.chunks_mut(S::LANES).zip(self.upper.chunks_mut(S::LANES)) {
            let steps = first..first + lower.len();
            first = steps.end;
            let [low, high] = self.bounds.at(simd, steps, self.output);
            simd.store_partial(low, lower);
            simd.store_partial(high, upper);
        }
    }
}

/// The two values of each lane in ascending order.
#[inline(always)]
fn in_order<V: Compare>(x: V, y: V) -> [V; 2] {
    [y.min(x), x.max(y)]
}

/// Probabilities of the bounds of central intervals, ascending: (1 - level) / 2 and (1 + level) / 2 of each level.
pub fn probabilities(levels: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = levels.iter().flat_map(|level| level_probabilities(*level)).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// Probabilities of the lower and upper bound of a level.
pub(super) fn level_probabilities(level: f64) -> [f64; 2] {
    [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
}

/// Indices of both bounds of a level in `probabilities`; none unless both are present.
pub fn bound_indices(probabilities: &[f64], level: f64) -> Option<[usize; 2]> {
    // Levels have three decimals: a smaller difference is rounding.
    let index = |end: f64| probabilities.iter().position(|p| (p - end).abs() < 1e-9);
    let [lower, upper] = level_probabilities(level).map(index);
    Some([lower?, upper?])
}

/// Sorts the quantiles of each step, `[quantile][horizon]`, in ascending order.
///
/// Rearranged quantiles are at least as close to the true ones as quantiles that cross (Chernozhukov, Fernández-Val and
/// Galichon, "Quantile and probability curves without crossing", 2010).
pub fn rearrange(quantiles: &mut [f32], horizon: usize) {
    Isa::widest().run(Rearrange { quantiles, horizon });
}

struct Rearrange<'a> {
    quantiles: &'a mut [f32],
    horizon: usize,
}

impl Kernel for Rearrange<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { quantiles, horizon } = self;
        for steps in step_vectors(horizon, S::LANES) {
            sort_steps(simd, quantiles, horizon, steps);
        }
    }
}

/// The steps of a horizon, one vector of lanes at a time.
///
/// The last vector overlaps the one before, which computes the same values twice; a horizon below one vector is one partial vector.
#[inline(always)]
pub(super) fn step_vectors(horizon: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
    let last = horizon.saturating_sub(lanes);
    (0..horizon).step_by(lanes).map(move |first| first.min(last)..horizon.min(first + lanes))
}

/// Sorts the rows of `[row][horizon]` in ascending order at up to one vector of steps.
#[inline(always)]
pub(super) fn sort_steps<S: Simd>(simd: S, rows: &mut [f32], horizon: usize, steps: Range<usize>) {
    let count = rows.len() / horizon;
    // Rows are usually in order: check before the quadratic sort.
    let mut cross = false;
    for after in 1..count {
        let (below, above) = (&rows[(after - 1) * horizon..], &rows[after * horizon..]);
        let (below, above) = (&below[steps.clone()], &above[steps.clone()]);
        cross |= simd.load_partial(below).any_gt(simd.load_partial(above));
    }
    if !cross {
        return;
    }
    // Insertion sort of all lanes at once.
    for sorted in 1..count {
        for row in (1..=sorted).rev() {
            let (before, after) = rows[(row - 1) * horizon..].split_at_mut(horizon);
            let (below, above) = (&mut before[steps.clone()], &mut after[steps.clone()]);
            let [low, high] = in_order(simd.load_partial(below), simd.load_partial(above));
            simd.store_partial(low, below);
            simd.store_partial(high, above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volatility_is_the_mean_step_in_spreads_up_to_a_maximum() {
        assert_eq!(volatility(&[5.0, 1.0, 3.0, 3.0], 2.0), 1.0);
        assert_eq!(volatility(&[5.0], 2.0), 0.0);
        assert_eq!(volatility(&[5.0, f64::MAX, 5.0], 2.0), 2.0);
    }

    #[test]
    fn levels_have_two_probabilities_each() {
        let all = probabilities(&[0.5, 0.8]);
        assert_eq!(all.len(), 4);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((bound_indices(&all, 0.8), bound_indices(&all, 0.5)), (Some([0, 3]), Some([1, 2])));
        assert_eq!(bound_indices(&all, 0.6), None);
    }

    #[test]
    fn quantiles_are_sorted_at_each_step() {
        let mut quantiles = [3.0, 1.0, 2.0, 2.0, 1.0, 9.0];
        rearrange(&mut quantiles, 2);
        assert_eq!(quantiles, [1.0, 1.0, 2.0, 2.0, 3.0, 9.0]);
    }

    #[test]
    fn every_instruction_set_sorts_each_step_independently() {
        for (horizon, count) in [(1, 4), (5, 3), (8, 2), (12, 5), (17, 4), (40, 3)] {
            let numbers: Vec<f32> = (0..count * horizon).map(|i| ((i * 37) % 41) as f32).collect();
            let mut expected = numbers.clone();
            for step in 0..horizon {
                let mut column: Vec<f32> = numbers[step..].iter().step_by(horizon).copied().collect();
                column.sort_unstable_by(f32::total_cmp);
                expected[step..].iter_mut().step_by(horizon).zip(column).for_each(|(to, from)| *to = from);
            }
            for isa in Isa::all() {
                let mut found = numbers.clone();
                isa.run(Rearrange { quantiles: &mut found, horizon });
                assert_eq!(found, expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn bounds_never_cross() {
        let bound = |index, offset| Bound {
            base: Base::Quantile(index),
            volatility_gain: 0.0,
            offsets: vec![offset, -offset],
        };
        let bounds = Bounds { lower: bound(0, 3.0), upper: bound(1, 0.0) };
        let written = |bounds: &Bounds, volatility| {
            let [mut lower, mut upper] = [[0.0; 2]; 2];
            let output = ModelOutput { values: &[9.0, 9.0], quantiles: &[1.0, 1.0, 2.0, 2.0], volatility };
            bounds.write(output, &mut lower, &mut upper);
            [lower, upper]
        };
        assert_eq!(written(&bounds, 7.0), [[2.0, -2.0], [4.0, 2.0]]);
        let upper = Bound { base: Base::Forecast, volatility_gain: 2.0, offsets: vec![0.5; 2] };
        assert_eq!(written(&Bounds { upper, ..bounds }, 1.0), [[4.0, -2.0], [10.5, 10.5]]);
    }
}
