//! Applies calibration to a forecast: model bounds in scaled units to issued bounds in the unit of the series.

use std::ops::Range;

use super::bounds::{Bounds, ModelOutput, sort_steps, step_vectors};
use super::layout::{CalibrationLayout, TRACKED_HORIZONS_MAX};
use super::tracker::{BLOCK, BoundTargets, HorizonGains, ReadMoves};
use crate::simd::{Kernel, Simd};

/// Forecast of a model before calibration; y = center + spread x converts its output to the unit of the series.
pub struct ScaledForecast<'a> {
    pub center: f64,
    pub spread: f64,
    pub output: ModelOutput<'a>,
    /// Per level, narrowest first.
    pub bounds: &'a [Bounds],
    /// Unit of errors, in spreads.
    pub volatility_scale: f32,
}

/// Forecast as issued, in the unit of the series.
#[derive(Clone, Debug, Default)]
pub struct CalibratedForecast {
    /// `[horizon]`
    pub values: Vec<f32>,
    /// `[probability][horizon]`, ascending at each step.
    pub bounds: Vec<f32>,
    /// `[probability][horizon]`: bounds by probability even where they cross, as the trackers need them.
    pub unsorted_bounds: Vec<f32>,
}

impl CalibratedForecast {
    pub(super) fn resize(&mut self, horizon: usize, bounds: usize) {
        self.values.resize(horizon, 0.0);
        self.bounds.resize(bounds * horizon, 0.0);
        self.unsorted_bounds.resize(bounds * horizon, 0.0);
    }
}

/// Trackers of a series, and buffers for their readings.
pub(super) struct Trackers<'a> {
    /// Whole state of the series.
    pub state: &'a [f32],
    /// Per tracked step.
    pub gains: &'a [HorizonGains],
    pub targets: &'a BoundTargets,
    /// ρ per tracked step.
    pub scales: &'a mut [f32],
    /// Upward moves in spreads, blocks of `[tracked][bound]`.
    pub moves: &'a mut [[f32; BLOCK]],
}

pub(super) struct ApplyCalibration<'a> {
    pub layout: &'a CalibrationLayout,
    pub forecast: &'a ScaledForecast<'a>,
    /// None to issue the bounds of the model.
    pub trackers: Option<Trackers<'a>>,
    pub out: &'a mut CalibratedForecast,
}

impl Kernel for ApplyCalibration<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layout, forecast, trackers, out } = self;
        let stride = (2 * forecast.bounds.len()).next_multiple_of(BLOCK);
        let mut readings: Option<Readings<'_>> = None;
        if let Some(Trackers { state, gains, targets, scales, moves }) = trackers {
            let per_tracked = moves.chunks_exact_mut(stride / BLOCK);
            for (tracked, (scale, moves)) in scales.iter_mut().zip(per_tracked).enumerate() {
                let state = &state[layout.tracker_offset(tracked)..][..layout.tracker_len()];
                *scale = ReadMoves { state, gains: &gains[tracked], targets, moves }.run(simd);
                // From outward to upward, from units to spreads.
                for (moves, targets) in moves.iter_mut().zip(&targets.blocks) {
                    let outward = simd.load_partial(&targets.outward);
                    let up = simd.load_partial(moves) * outward * simd.splat(forecast.volatility_scale);
                    simd.store_partial(up, moves);
                }
            }
            readings = Some(Readings { scales, moves: moves.as_flattened(), stride });
        }
        let mut writer = Writer { layout, forecast, readings, out };
        for steps in step_vectors(forecast.output.values.len(), S::LANES) {
            // A constant length lets the compiler drop the length checks of whole vectors.
            if steps.len() == S::LANES {
                writer.write(simd, steps.start..steps.start + S::LANES);
            } else {
                writer.write(simd, steps);
            }
        }
    }
}

/// Outputs of all trackers of a series.
struct Readings<'a> {
    /// ρ per tracked step.
    scales: &'a [f32],
    /// `[tracked][bound]`, rows of `stride`.
    moves: &'a [f32],
    stride: usize,
}

struct Writer<'a> {
    layout: &'a CalibrationLayout,
    forecast: &'a ScaledForecast<'a>,
    readings: Option<Readings<'a>>,
    out: &'a mut CalibratedForecast,
}

impl Writer<'_> {
    /// Writes up to one vector of steps.
    #[inline(always)]
    fn write<S: Simd>(&mut self, simd: S, steps: Range<usize>) {
        let Self { layout, forecast, readings, out } = self;
        let ScaledForecast { center, spread, output, bounds: level_bounds, .. } = forecast;
        let CalibratedForecast { values, bounds, unsorted_bounds } = out;
        let (horizon, levels) = (output.values.len(), level_bounds.len());
        let tracked = layout.neighbors_of(&steps);
        let mut weights = [simd.splat(0.0); TRACKED_HORIZONS_MAX];
        for (weights, tracked) in weights.iter_mut().zip(tracked.clone()) {
            *weights = simd.load_partial(layout.weights(tracked, &steps));
        }
        let weights = &weights[..tracked.len()];
        let v = simd.load_partial(&output.values[steps.clone()]);
        simd.store_partial(simd.affine(v, *center, *spread), &mut values[steps.clone()]);
        let scale = match readings {
            Some(Readings { scales, .. }) => interpolate(simd, weights, |i| scales[tracked.start + i]),
            None => simd.splat(1.0),
        };
        for (level, model_bounds) in level_bounds.iter().enumerate() {
            let pair = model_bounds.at(simd, steps.clone(), *output);
            // The bounds of the narrowest level are the two in the middle.
            for (bound, mut at) in [levels - 1 - level, levels + level].into_iter().zip(pair) {
                if let Some(Readings { moves, stride, .. }) = readings {
                    let by = |i: usize| moves[(tracked.start + i) * *stride + bound];
                    // v + ρ (d + move)
                    at = v + scale * (at - v + interpolate(simd, weights, by));
                }
                let row = bound * horizon;
                let steps = row + steps.start..row + steps.end;
                let at = simd.affine(at, *center, *spread);
                simd.store_partial(at, &mut unsorted_bounds[steps.clone()]);
                simd.store_partial(at, &mut bounds[steps]);
            }
        }
        sort_steps(simd, bounds, horizon, steps);
    }
}

/// Weighted sum of the readings of the tracked steps: Σ w(i) x(i).
#[inline(always)]
fn interpolate<S: Simd>(simd: S, weights: &[S::V], reading: impl Fn(usize) -> f32) -> S::V {
    let mut sum = simd.splat(0.0);
    for (i, weight) in weights.iter().enumerate() {
        sum = sum + *weight * simd.splat(reading(i));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::bounds::{Base, Bound, probabilities};
    use super::super::layout::ScoreMode;
    use super::*;
    use crate::simd::Isa;

    fn number(i: usize) -> f32 {
        ((i * 37) % 41) as f32 / 41.0
    }

    /// Reference in f64, `[bound][step]`: center + spread (v + ρ (d ± move)), interpolated between `tracked` steps. `moves`
    /// are outward.
    fn expected(forecast: &ScaledForecast<'_>, tracked: &[usize], scales: &[f32], moves: &[f32]) -> Vec<f64> {
        let ScaledForecast { center, spread, output, bounds, volatility_scale } = forecast;
        let (levels, horizon) = (bounds.len(), output.values.len());
        let stride = moves.len() / tracked.len();
        let bound_at = |step: usize, bound: usize| {
            let after = tracked.iter().position(|at| *at > step).unwrap_or(tracked.len());
            let (from, to) = (after.saturating_sub(1), after.min(tracked.len() - 1));
            let between = (tracked[to] - tracked[from]).max(1) as f64;
            let weight = if from == to { 0.0 } else { (step - tracked[from]) as f64 / between };
            let linear =
                |at: &dyn Fn(usize) -> f32| (1.0 - weight) * f64::from(at(from)) + weight * f64::from(at(to));
            let (level, is_upper) =
                if bound < levels { (levels - 1 - bound, false) } else { (bound - levels, true) };
            let known = if is_upper { &bounds[level].upper } else { &bounds[level].lower };
            let sign = if is_upper { 1.0 } else { -1.0 };
            let (scale, by) = (linear(&|i| scales[i]), linear(&|i| moves[i * stride + bound]));
            let (v, distance) = (f64::from(output.values[step - 1]), f64::from(known.offsets[step - 1]));
            let distance = distance * (1.0 + f64::from(known.volatility_gain * output.volatility));
            center + spread * (v + scale * (distance + sign * f64::from(*volatility_scale) * by))
        };
        let steps = (0..2 * levels).flat_map(|bound| (1..=horizon).map(move |step| (step, bound)));
        steps.map(|(step, bound)| bound_at(step, bound)).collect()
    }

    /// Compares all instruction sets with the reference and each other, with and without trackers.
    fn check(horizon: usize, tracked: &[usize], levels: usize) {
        let all: Vec<f64> = (1..=levels).map(|level| 0.3 * level as f64).collect();
        let layout = CalibrationLayout::new(horizon, tracked.to_vec(), &all, 1, ScoreMode::Unscored);
        // Some bounds cross.
        let bound = |level: usize, sign: f32| {
            let offsets = (0..horizon).map(|i| sign * (3.0 + 5.0 * number(7 * i + 11 * level))).collect();
            Bound { base: Base::Forecast, volatility_gain: 0.5, offsets }
        };
        let both = |level| Bounds { lower: bound(level, -1.0), upper: bound(level, 2.0) };
        let bounds: Vec<Bounds> = (0..levels).map(both).collect();
        let values: Vec<f32> = (0..horizon).map(number).collect();
        let forecast = ScaledForecast {
            center: 1e3,
            spread: 7.0,
            output: ModelOutput { values: &values, quantiles: &[], volatility: 1.5 },
            bounds: &bounds,
            volatility_scale: 1.75,
        };
        let state: &[f32] = &(0..layout.state_len()).map(|i| 0.5 + number(i)).collect::<Vec<_>>();
        let gains: &[HorizonGains] = &tracked.iter().map(|h| HorizonGains::new(*h)).collect::<Vec<_>>();
        let targets = &BoundTargets::new(&probabilities(&all));
        let blocks = targets.blocks.len();
        for is_calibrated in [true, false] {
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::all() {
                let mut scales = vec![1.0; tracked.len()];
                let mut outward = vec![[0.0; BLOCK]; tracked.len() * blocks];
                let mut moves = outward.clone();
                let trackers = if is_calibrated { tracked.len() } else { 0 };
                for (i, moves) in outward.chunks_mut(blocks).enumerate().take(trackers) {
                    let state = &state[layout.tracker_offset(i)..][..layout.tracker_len()];
                    scales[i] = isa.run(ReadMoves { state, gains: &gains[i], targets, moves });
                    assert!(moves.as_flattened()[..2 * levels].iter().all(|by| *by > 0.1), "{moves:?}");
                }
                let expected = expected(&forecast, tracked, &scales, outward.as_flattened());
                let trackers = Trackers { state, gains, targets, scales: &mut scales, moves: &mut moves };
                let trackers = is_calibrated.then_some(trackers);
                let mut out = CalibratedForecast::default();
                out.resize(horizon, 2 * levels);
                isa.run(ApplyCalibration { layout: &layout, forecast: &forecast, trackers, out: &mut out });
                for (found, expected) in out.unsorted_bounds.iter().zip(&expected) {
                    assert!((f64::from(*found) - expected).abs() < 1e-3, "{isa:?}: {found} {expected}");
                }
                for step in 0..horizon {
                    let column =
                        |all: &[f32]| -> Vec<f32> { all[step..].iter().step_by(horizon).copied().collect() };
                    let (mut sorted, issued) = (column(&out.unsorted_bounds), column(&out.bounds));
                    sorted.sort_unstable_by(f32::total_cmp);
                    assert_eq!(issued, sorted, "{isa:?}");
                }
                let all = out.unsorted_bounds.iter().chain(&out.bounds).chain(&out.values);
                let bits: Vec<u32> = all.map(|number| number.to_bits()).collect();
                assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{isa:?}");
            }
        }
    }

    #[test]
    fn calibrated_bounds_match_the_equation_on_every_instruction_set() {
        // Less than a vector, whole vectors, and vectors with a remainder.
        for horizon in [1_usize, 3, 4, 7, 8, 9, 15, 16, 17, 19, 33] {
            let mut tracked = vec![1, horizon.div_ceil(3), horizon];
            tracked.dedup();
            (1..=3).for_each(|levels| check(horizon, &tracked, levels));
        }
        // Steps before the first and after the last tracked step.
        for (horizon, tracked) in [(19, &[2, 7, 18][..]), (17, &[5]), (33, &[12]), (3, &[2]), (48, &[6, 24])]
        {
            (1..=3).for_each(|levels| check(horizon, tracked, levels));
        }
    }
}
