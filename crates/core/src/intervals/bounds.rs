//! The bounds of a level: what each is counted from, how far it lies from that, and that they do not cross.

use std::ops::Range;

use super::widening;
use crate::simd::{Compare, Isa, Kernel, Simd};

/// What a bound is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    Forecast,
    /// The learned quantile of this number.
    Quantile(usize),
}

/// One bound: its base, and how far it lies from that, scaled, for each step of the horizon.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    pub base: Base,
    /// How much restlessness widens the offsets.
    pub beta: f32,
    pub offsets: Vec<f32>,
}

/// The bounds of one level.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    pub lower: Bound,
    pub upper: Bound,
}

impl Bound {
    /// base + (1 + β r) offset
    #[inline(always)]
    fn at<S: Simd>(
        &self,
        simd: S,
        steps: Range<usize>,
        (forecast, quantiles): (&[f32], &[f32]),
        restlessness: f32,
    ) -> S::V {
        let base = simd.load_part(&self.base(forecast, quantiles)[steps.clone()]);
        base + simd.splat(widening(self.beta, restlessness)) * simd.load_part(&self.offsets[steps])
    }

    /// What it is counted from, of a forecast and its quantiles.
    #[inline(always)]
    fn base<'a>(&self, forecast: &'a [f32], quantiles: &'a [f32]) -> &'a [f32] {
        match self.base {
            Base::Forecast => forecast,
            Base::Quantile(number) => &quantiles[number * self.offsets.len()..],
        }
    }
}

impl Bounds {
    /// Writes lower and upper, `[horizon]` each, of a forecast `[horizon]` with its learned quantiles `[quantile][horizon]`,
    /// scaled, of a series that is so restless. Two that cross change places: each is then as near to its quantile as before,
    /// or nearer.
    ///
    /// # Panics
    /// If `lower` and `upper` are longer than the horizon.
    pub fn write(
        &self,
        (forecast, quantiles): (&[f32], &[f32]),
        restlessness: f32,
        lower: &mut [f32],
        upper: &mut [f32],
    ) {
        let of = (forecast, quantiles);
        Isa::widest().run(Write { bounds: self, of, restlessness, out: [lower, upper] });
    }

    /// The same of some steps, as many as there are lanes or fewer.
    #[inline(always)]
    pub(super) fn at<S: Simd>(
        &self,
        simd: S,
        steps: Range<usize>,
        (forecast, quantiles): (&[f32], &[f32]),
        restlessness: f32,
    ) -> [S::V; 2] {
        let of = (forecast, quantiles);
        let lower = self.lower.at(simd, steps.clone(), of, restlessness);
        let upper = self.upper.at(simd, steps, of, restlessness);
        in_order(lower, upper)
    }
}

struct Write<'a> {
    bounds: &'a Bounds,
    /// The forecast and its quantiles.
    of: (&'a [f32], &'a [f32]),
    restlessness: f32,
    out: [&'a mut [f32]; 2],
}

impl Kernel for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { bounds, of, restlessness, out: [lower, upper] } = self;
        let mut first = 0;
        for (lower, upper) in lower.chunks_mut(S::LANES).zip(upper.chunks_mut(S::LANES)) {
            let steps = first..first + lower.len();
            first = steps.end;
            let [low, high] = bounds.at(simd, steps, of, restlessness);
            simd.store_part(low, lower);
            simd.store_part(high, upper);
        }
    }
}

/// Two numbers in each lane, the lesser first.
#[inline(always)]
fn in_order<V: Compare>(x: V, y: V) -> [V; 2] {
    [y.min(x), x.max(y)]
}

/// The probabilities of the bounds of central intervals, ascending: (1 − level)/2 and (1 + level)/2 of each level.
pub fn probabilities(levels: &[f64]) -> Vec<f64> {
    let mut all: Vec<f64> = levels.iter().flat_map(|level| ends(*level)).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The probabilities of the bounds of one level.
pub(super) fn ends(level: f64) -> [f64; 2] {
    [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
}

/// Where the bounds of `level` stand among `probabilities`, if both do.
pub fn places(probabilities: &[f64], level: f64) -> Option<[usize; 2]> {
    // Levels have three decimals: what is nearer than this is the same.
    let place = |end: f64| probabilities.iter().position(|p| (p - end).abs() < 1e-9);
    let [lower, upper] = ends(level).map(place);
    Some([lower?, upper?])
}

/// Puts the quantiles of each step, `[quantile][horizon]`, into ascending order: sorted, they are at least as near to the true
/// ones as those that cross (Chernozhukov, Fernández-Val and Galichon, "Quantile and probability curves without crossing",
/// 2010).
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
        for steps in vectors(horizon, S::LANES) {
            sort(simd, quantiles, horizon, steps);
        }
    }
}

/// The steps of a horizon, as many at once as there are lanes: the last of them may begin among those before, whose numbers come
/// out the same once more. Where the horizon has fewer, they go through together.
#[inline(always)]
pub(super) fn vectors(horizon: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
    let last = horizon.saturating_sub(lanes);
    (0..horizon).step_by(lanes).map(move |first| first.min(last)..horizon.min(first + lanes))
}

/// Puts the numbers of some steps into ascending order, as many steps as there are lanes or fewer.
#[inline(always)]
pub(super) fn sort<S: Simd>(simd: S, rows: &mut [f32], horizon: usize, steps: Range<usize>) {
    let count = rows.len() / horizon;
    // Mostly they are.
    let mut cross = false;
    for after in 1..count {
        let (below, above) = (&rows[(after - 1) * horizon..], &rows[after * horizon..]);
        let (below, above) = (&below[steps.clone()], &above[steps.clone()]);
        cross |= simd.load_part(below).is_any_above(simd.load_part(above));
    }
    if !cross {
        return;
    }
    for sorted in 1..count {
        // Each sinks through those that are in order already; where it stops, the others stay.
        for at in (1..=sorted).rev() {
            let (before, after) = rows[(at - 1) * horizon..].split_at_mut(horizon);
            let (below, above) = (&mut before[steps.clone()], &mut after[steps.clone()]);
            let [low, high] = in_order(simd.load_part(below), simd.load_part(above));
            simd.store_part(low, below);
            simd.store_part(high, above);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_two_probabilities_each() {
        let all = probabilities(&[0.5, 0.8]);
        assert_eq!(all.len(), 4);
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((places(&all, 0.8), places(&all, 0.5)), (Some([0, 3]), Some([1, 2])));
        assert_eq!(places(&all, 0.6), None);
    }

    #[test]
    fn quantiles_are_put_in_order_step_by_step() {
        let mut quantiles = [3.0, 1.0, 2.0, 2.0, 1.0, 9.0];
        rearrange(&mut quantiles, 2);
        assert_eq!(quantiles, [1.0, 1.0, 2.0, 2.0, 3.0, 9.0]);
    }

    #[test]
    fn steps_are_put_in_order_each_by_itself_by_every_instruction_set() {
        for (horizon, count) in [(1, 4), (5, 3), (8, 2), (12, 5), (17, 4), (40, 3)] {
            let numbers: Vec<f32> = (0..count * horizon).map(|i| ((i * 37) % 41) as f32).collect();
            let mut expected = numbers.clone();
            for step in 0..horizon {
                let mut of_step: Vec<f32> = numbers[step..].iter().step_by(horizon).copied().collect();
                of_step.sort_unstable_by(f32::total_cmp);
                expected[step..].iter_mut().step_by(horizon).zip(of_step).for_each(|(to, from)| *to = from);
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
        let bound = |number, offset| Bound {
            base: Base::Quantile(number),
            beta: 0.0,
            offsets: vec![offset, -offset],
        };
        let bounds = Bounds { lower: bound(0, 3.0), upper: bound(1, 0.0) };
        let written = |bounds: &Bounds, restlessness| {
            let [mut lower, mut upper] = [[0.0; 2]; 2];
            let of = (&[9.0, 9.0][..], &[1.0, 1.0, 2.0, 2.0][..]);
            bounds.write(of, restlessness, &mut lower, &mut upper);
            [lower, upper]
        };
        assert_eq!(written(&bounds, 7.0), [[2.0, -2.0], [4.0, 2.0]]);
        let around =
            Bounds { upper: Bound { base: Base::Forecast, beta: 2.0, offsets: vec![0.5; 2] }, ..bounds };
        assert_eq!(written(&around, 1.0), [[4.0, -2.0], [10.5, 10.5]]);
    }
}
