//! The bounds of a level: what each is counted from, how far it lies from that, and that they do not cross.

use super::widening;

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
    fn write(&self, forecast: &[f32], quantiles: &[f32], restlessness: f32, out: &mut [f32]) {
        let base = match self.base {
            Base::Forecast => forecast,
            Base::Quantile(number) => &quantiles[number * self.offsets.len()..],
        };
        let wider = widening(self.beta, restlessness);
        for ((out, base), offset) in out.iter_mut().zip(base).zip(&self.offsets) {
            *out = base + wider * offset;
        }
    }
}

impl Bounds {
    /// Writes lower and upper, `[horizon]` each, of a forecast `[horizon]` with its learned quantiles `[quantile][horizon]`,
    /// scaled, of a series that is so restless. Two that cross change places: each is then as near to its quantile as before,
    /// or nearer.
    pub fn write(
        &self,
        (forecast, quantiles): (&[f32], &[f32]),
        restlessness: f32,
        lower: &mut [f32],
        upper: &mut [f32],
    ) {
        self.lower.write(forecast, quantiles, restlessness, lower);
        self.upper.write(forecast, quantiles, restlessness, upper);
        // Counted first: most have no crossing, and a loop without a branch is a few wide comparisons.
        let crossings = lower.iter().zip(&*upper).map(|(lower, upper)| u32::from(lower > upper)).sum::<u32>();
        let crossed = if crossings == 0 { 0 } else { lower.len() };
        for (lower, upper) in lower.iter_mut().zip(upper).take(crossed) {
            if *lower > *upper {
                std::mem::swap(lower, upper);
            }
        }
    }
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
    let rows = quantiles.chunks_exact(horizon);
    let crossings = rows.clone().zip(rows.skip(1)).map(|(below, above)| {
        // Counted to the end: most have none, and a loop without a way out is a few wide comparisons.
        below.iter().zip(above).map(|(below, above)| u32::from(above < below)).sum::<u32>()
    });
    if crossings.sum::<u32>() == 0 {
        return;
    }
    for step in 0..horizon {
        for sorted in 1..quantiles.len() / horizon {
            let mut at = sorted * horizon + step;
            while at >= horizon && quantiles[at] < quantiles[at - horizon] {
                quantiles.swap(at, at - horizon);
                at -= horizon;
            }
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
