//! From what the model says of a forecast to the bounds that are issued around it.

use super::gains::{BLOCK, Dues, Rates};
use super::plan::{HORIZONS_MAX, Plan};
use super::tracker::Read;
use crate::intervals::Bounds;
use crate::intervals::bounds::sort;
use crate::simd::{Kernel, Simd};

/// A forecast as the model says it, scaled: y = center + spread x.
pub struct Scaled<'a> {
    pub center: f64,
    pub spread: f64,
    /// `[horizon]`
    pub values: &'a [f32],
    /// What it learned to say, `[quantile][horizon]`.
    pub quantiles: &'a [f32],
    /// Of each level, from the narrowest on.
    pub bounds: &'a [Bounds],
    pub restlessness: f32,
    /// What its unit is multiplied by.
    pub widening: f32,
}

/// The same as it is issued, in the readings' unit.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// `[horizon]`
    pub values: Vec<f32>,
    /// `[probability][horizon]`, ascending at each step.
    pub bounds: Vec<f32>,
    /// Each as it is followed: two that have come to cross have not changed places.
    pub own: Vec<f32>,
}

impl Forecast {
    pub(super) fn resize(&mut self, horizon: usize, bounds: usize) {
        self.values.resize(horizon, 0.0);
        self.bounds.resize(bounds * horizon, 0.0);
        self.own.resize(bounds * horizon, 0.0);
    }
}

/// The trackers of a series, and room for what they say.
pub(super) struct Trackers<'a> {
    /// All of the series.
    pub numbers: &'a [f32],
    /// Of each followed step.
    pub rates: &'a [Rates],
    pub dues: &'a Dues,
    /// ρ, `[followed]`, and what each bound is moved by, in blocks, `[followed][bound]`.
    pub scales: &'a mut [f32],
    pub moves: &'a mut [[f32; BLOCK]],
}

pub(super) struct Around<'a> {
    pub plan: &'a Plan,
    pub said: &'a Scaled<'a>,
    /// `None` where bounds stay as the model knows them.
    pub trackers: Option<Trackers<'a>>,
    pub out: &'a mut Forecast,
}

impl Kernel for Around<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { plan, said, trackers, out: Forecast { values, bounds, own } } = self;
        let (horizon, levels) = (said.values.len(), said.bounds.len());
        // Moves of a followed step.
        let stride = (2 * levels).next_multiple_of(BLOCK);
        let mut moved: Option<(&[f32], &[f32])> = None;
        if let Some(Trackers { numbers, rates, dues, scales, moves }) = trackers {
            let of_each = moves.chunks_exact_mut(stride / BLOCK);
            for (followed, (scale, moves)) in scales.iter_mut().zip(of_each).enumerate() {
                let numbers = &numbers[plan.place(followed)..][..plan.tracker()];
                *scale = Read { numbers, rates: &rates[followed], dues, moves }.run(simd);
            }
            moved = Some((scales, moves.as_flattened()));
        }
        for first in (0..horizon).step_by(S::LANES) {
            let steps = first..horizon.min(first + S::LANES);
            let followed = plan.around(&steps);
            let mut weights = [simd.splat(0.0); HORIZONS_MAX];
            for (weights, followed) in weights.iter_mut().zip(followed.clone()) {
                *weights = simd.load_part(plan.weights(followed, &steps));
            }
            let weights = &weights[..followed.len()];
            let v = simd.load_part(&said.values[steps.clone()]);
            simd.store_part(simd.affine(v, said.center, said.spread), &mut values[steps.clone()]);
            let scale = match moved {
                Some((scales, _)) => weighed(simd, weights, |i| scales[followed.start + i]),
                None => simd.splat(1.0),
            };
            for (level, known) in said.bounds.iter().enumerate() {
                let of = (said.values, said.quantiles);
                let around = known.at(simd, steps.clone(), of, said.restlessness);
                // The bounds of the narrowest level lie in the middle.
                let places = [(levels - 1 - level, -said.widening), (levels + level, said.widening)];
                for ((bound, outward), mut at) in places.into_iter().zip(around) {
                    if let Some((_, moves)) = moved {
                        let by = |i: usize| outward * moves[(followed.start + i) * stride + bound];
                        // v ± ρ (w d + w q), where w d is the distance that the model knows
                        at = v + scale * (at - v + weighed(simd, weights, by));
                    }
                    let row = bound * horizon;
                    let steps = row + steps.start..row + steps.end;
                    let at = simd.affine(at, said.center, said.spread);
                    simd.store_part(at, &mut own[steps.clone()]);
                    simd.store_part(at, &mut bounds[steps]);
                }
            }
            sort(simd, bounds, horizon, steps);
        }
    }
}

/// What is known of each followed step, by how much each weighs.
#[inline(always)]
fn weighed<S: Simd>(simd: S, weights: &[S::V], known: impl Fn(usize) -> f32) -> S::V {
    let mut sum = simd.splat(0.0);
    for (i, weight) in weights.iter().enumerate() {
        sum = sum + *weight * simd.splat(known(i));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervals::{Base, Bound, probabilities};
    use crate::simd::Isa;

    const HORIZON: usize = 19;
    const FOLLOWED: [usize; 3] = [2, 7, 18];

    fn number(i: usize) -> f32 {
        ((i * 37) % 41) as f32 / 41.0
    }

    /// y = c + s (v ± ρ (w d + w q)), each weighed by how near it is to the followed steps, number by number.
    fn expected(said: &Scaled<'_>, scales: &[f32], moves: &[f32], stride: usize) -> Vec<Vec<f64>> {
        let levels = said.bounds.len();
        let of = |step: usize, bound: usize| {
            let after = FOLLOWED.iter().position(|followed| *followed > step).unwrap_or(FOLLOWED.len());
            let (from, to) = (after.saturating_sub(1), after.min(FOLLOWED.len() - 1));
            let between = (FOLLOWED[to] - FOLLOWED[from]).max(1) as f64;
            let part = if from == to { 0.0 } else { (step - FOLLOWED[from]) as f64 / between };
            let line =
                |of: &dyn Fn(usize) -> f32| (1.0 - part) * f64::from(of(from)) + part * f64::from(of(to));
            let (level, is_upper) =
                if bound < levels { (levels - 1 - bound, false) } else { (bound - levels, true) };
            let known = &said.bounds[level];
            let known = if is_upper { &known.upper } else { &known.lower };
            let way = if is_upper { 1.0 } else { -1.0 };
            let (scale, by) = (line(&|i| scales[i]), line(&|i| moves[i * stride + bound]));
            let (v, distance) = (f64::from(said.values[step - 1]), f64::from(known.offsets[step - 1]));
            let distance = distance * (1.0 + f64::from(known.beta * said.restlessness));
            said.center + said.spread * (v + scale * (distance + way * f64::from(said.widening) * by))
        };
        (0..2 * levels).map(|bound| (1..=HORIZON).map(|step| of(step, bound)).collect()).collect()
    }

    #[test]
    fn bounds_are_moved_as_their_trackers_say() {
        for levels in 1..=3 {
            let all: Vec<f64> = (1..=levels).map(|level| 0.3 * level as f64).collect();
            let probabilities = probabilities(&all);
            let plan = Plan::new(HORIZON, FOLLOWED.to_vec(), &all, 1, false);
            let bound = |level: usize, way: f32| {
                let offsets = (0..HORIZON).map(|i| way * (3.0 * (level + 1) as f32 + number(i))).collect();
                Bound { base: Base::Forecast, beta: 0.5, offsets }
            };
            let bounds: Vec<Bounds> = (0..levels)
                .map(|level| Bounds { lower: bound(level, -1.0), upper: bound(level, 2.0) })
                .collect();
            let values: Vec<f32> = (0..HORIZON).map(number).collect();
            let said = Scaled {
                center: 1e3,
                spread: 7.0,
                values: &values,
                quantiles: &[],
                bounds: &bounds,
                restlessness: 1.5,
                widening: 1.75,
            };
            let numbers: Vec<f32> = (0..plan.numbers()).map(|i| 0.5 + number(i)).collect();
            let rates: Vec<Rates> = FOLLOWED.map(Rates::new).to_vec();
            let dues = Dues::of(&probabilities);
            let blocks = probabilities.len().div_ceil(BLOCK);
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::all() {
                let (mut scales, mut moves) = ([0.0; 3], vec![[0.0; BLOCK]; 3 * blocks]);
                let trackers = Trackers {
                    numbers: &numbers,
                    rates: &rates,
                    dues: &dues,
                    scales: &mut scales,
                    moves: &mut moves,
                };
                let mut out = Forecast::default();
                out.resize(HORIZON, 2 * levels);
                isa.run(Around { plan: &plan, said: &said, trackers: Some(trackers), out: &mut out });
                let expected = expected(&said, &scales, moves.as_flattened(), blocks * BLOCK).concat();
                for (found, expected) in out.own.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-3, "{isa:?}: {found} {expected}");
                }
                assert!(moves.as_flattened()[..2 * levels].iter().all(|by| *by > 0.1), "{moves:?}");
                let bits = || out.own.iter().chain(&out.bounds).chain(&out.values).map(|n| n.to_bits());
                assert!(first.get_or_insert_with(|| bits().collect()).iter().copied().eq(bits()), "{isa:?}");
            }
        }
    }
}
