//! From what the model says of a forecast to the bounds that are issued around it.

use std::ops::Range;

use super::gains::{BLOCK, Dues, Rates};
use super::plan::{HORIZONS_MAX, Plan};
use super::tracker::Read;
use crate::intervals::Bounds;
use crate::intervals::bounds::{sort, vectors};
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
    /// ρ, `[followed]`, and by how many spreads each bound is moved up, in blocks, `[followed][bound]`.
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
        let Self { plan, said, trackers, out } = self;
        // Moves of a followed step.
        let stride = (2 * said.bounds.len()).next_multiple_of(BLOCK);
        let mut moved: Option<(&[f32], &[f32])> = None;
        if let Some(Trackers { numbers, rates, dues, scales, moves }) = trackers {
            let of_each = moves.chunks_exact_mut(stride / BLOCK);
            for (followed, (scale, moves)) in scales.iter_mut().zip(of_each).enumerate() {
                let numbers = &numbers[plan.place(followed)..][..plan.tracker()];
                *scale = Read { numbers, rates: &rates[followed], dues, moves }.run(simd);
                // From outward to upward, and from units to spreads.
                for (moves, due) in moves.iter_mut().zip(&dues.blocks) {
                    let up = simd.load_part(moves) * simd.load_part(&due.outward) * simd.splat(said.widening);
                    simd.store_part(up, moves);
                }
            }
            moved = Some((scales, moves.as_flattened()));
        }
        let mut moving = Moving { plan, said, moved, stride, out };
        for steps in vectors(said.values.len(), S::LANES) {
            // Whole vectors are compiled apart: how long they are need not be asked.
            if steps.len() == S::LANES {
                moving.take(simd, steps.start..steps.start + S::LANES);
            } else {
                moving.take(simd, steps);
            }
        }
    }
}

/// A forecast whose trackers have been read.
struct Moving<'a> {
    plan: &'a Plan,
    said: &'a Scaled<'a>,
    /// ρ, `[followed]`, and by how many spreads each bound is moved up, `[followed][bound]`.
    moved: Option<(&'a [f32], &'a [f32])>,
    /// Moves of a followed step.
    stride: usize,
    out: &'a mut Forecast,
}

impl Moving<'_> {
    /// Some steps of the horizon, as many as there are lanes or fewer.
    #[inline(always)]
    fn take<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { plan, said, moved, stride, out: Forecast { values, bounds, own } } = self;
        let (horizon, levels) = (said.values.len(), said.bounds.len());
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
            for (bound, mut at) in [levels - 1 - level, levels + level].into_iter().zip(around) {
                if let Some((_, moves)) = moved {
                    let by = |i: usize| moves[(followed.start + i) * *stride + bound];
                    // v + ρ (w d + w q), where w d is the distance that the model knows
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

    fn number(i: usize) -> f32 {
        ((i * 37) % 41) as f32 / 41.0
    }

    /// y = c + s (v ± ρ (w d + w q)), each weighed by how near it is to the `followed` steps, number by number,
    /// `[bound][step]`. `moves` are outward.
    fn expected(said: &Scaled<'_>, followed: &[usize], scales: &[f32], moves: &[f32]) -> Vec<f64> {
        let (levels, horizon) = (said.bounds.len(), said.values.len());
        let stride = moves.len() / followed.len();
        let of = |step: usize, bound: usize| {
            let after = followed.iter().position(|at| *at > step).unwrap_or(followed.len());
            let (from, to) = (after.saturating_sub(1), after.min(followed.len() - 1));
            let between = (followed[to] - followed[from]).max(1) as f64;
            let part = if from == to { 0.0 } else { (step - followed[from]) as f64 / between };
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
        (0..2 * levels)
            .flat_map(|bound| (1..=horizon).map(move |step| (step, bound)))
            .map(|(s, b)| of(s, b))
            .collect()
    }

    /// The same of a forecast of so many steps and levels by every instruction set, with trackers and without.
    fn check(horizon: usize, followed: &[usize], levels: usize) {
        let all: Vec<f64> = (1..=levels).map(|level| 0.3 * level as f64).collect();
        let plan = Plan::new(horizon, followed.to_vec(), &all, 1, false);
        // As far out as it comes: some cross.
        let bound = |level: usize, way: f32| {
            let offsets = (0..horizon).map(|i| way * (3.0 + 5.0 * number(7 * i + 11 * level))).collect();
            Bound { base: Base::Forecast, beta: 0.5, offsets }
        };
        let both = |level| Bounds { lower: bound(level, -1.0), upper: bound(level, 2.0) };
        let bounds: Vec<Bounds> = (0..levels).map(both).collect();
        let values: Vec<f32> = (0..horizon).map(number).collect();
        let (center, spread, restlessness, widening) = (1e3, 7.0, 1.5, 1.75);
        let (values, bounds) = (&values[..], &bounds[..]);
        let said = Scaled { center, spread, values, quantiles: &[], bounds, restlessness, widening };
        let numbers: Vec<f32> = (0..plan.numbers()).map(|i| 0.5 + number(i)).collect();
        let rates: Vec<Rates> = followed.iter().map(|horizon| Rates::new(*horizon)).collect();
        let dues = Dues::of(&probabilities(&all));
        let blocks = dues.blocks.len();
        for is_moved in [true, false] {
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::all() {
                let mut scales = vec![1.0; followed.len()];
                let mut outward = vec![[0.0; BLOCK]; followed.len() * blocks];
                let mut moves = outward.clone();
                let trackers = if is_moved { followed.len() } else { 0 };
                for (i, moves) in outward.chunks_mut(blocks).enumerate().take(trackers) {
                    let numbers = &numbers[plan.place(i)..][..plan.tracker()];
                    scales[i] = isa.run(Read { numbers, rates: &rates[i], dues: &dues, moves });
                    assert!(moves.as_flattened()[..2 * levels].iter().all(|by| *by > 0.1), "{moves:?}");
                }
                let expected = expected(&said, followed, &scales, outward.as_flattened());
                let (numbers, rates, dues) = (&numbers[..], &rates[..], &dues);
                let trackers = Trackers { numbers, rates, dues, scales: &mut scales, moves: &mut moves };
                let trackers = is_moved.then_some(trackers);
                let mut out = Forecast::default();
                out.resize(horizon, 2 * levels);
                isa.run(Around { plan: &plan, said: &said, trackers, out: &mut out });
                for (found, expected) in out.own.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-3, "{isa:?}: {found} {expected}");
                }
                for step in 0..horizon {
                    let of_step =
                        |all: &[f32]| -> Vec<f32> { all[step..].iter().step_by(horizon).copied().collect() };
                    let (mut own, issued) = (of_step(&out.own), of_step(&out.bounds));
                    own.sort_unstable_by(f32::total_cmp);
                    assert_eq!(issued, own, "{isa:?}");
                }
                let bits = || out.own.iter().chain(&out.bounds).chain(&out.values).map(|n| n.to_bits());
                assert!(first.get_or_insert_with(|| bits().collect()).iter().copied().eq(bits()), "{isa:?}");
            }
        }
    }

    #[test]
    fn bounds_are_moved_as_their_trackers_say() {
        // Fewer steps than lanes, as many, a vector and a bit, several.
        for horizon in [1_usize, 3, 4, 7, 8, 9, 15, 16, 17, 19, 33] {
            let mut followed = vec![1, horizon.div_ceil(3), horizon];
            followed.dedup();
            (1..=3).for_each(|levels| check(horizon, &followed, levels));
        }
        // Steps before the first that is followed, and after the last.
        for (horizon, followed) in [(19, &[2, 7, 18][..]), (17, &[5]), (33, &[12]), (3, &[2]), (48, &[6, 24])]
        {
            (1..=3).for_each(|levels| check(horizon, followed, levels));
        }
    }
}
