//! Online calibration of the bounds of one series at one step of the horizon: a PID controller per bound.
//!
//! Let e be the error of a forecast in the unit of its interval, m the mean |e| on the validation split, x = e / ρ the score,
//! and d the distance of a bound from the forecast according to the model. The bound for probability p is
//!
//! ```text
//! forecast ± ρ (d + q + r (η E + sat(σ (E + E') / 2)))
//!
//! E ← (1 - 1/W) E + (miss - β)     miss balance: every miss widens by η r, every hit narrows by its fraction
//! r = √(β₀/β) (max x - min x)      moves scale with the trailing range of scores, more so where misses are rare
//! η = c / (1 + h/h₀)               tracking gain (P)
//! σ = k / (1 + h/h₁)               coupling gain: E' is E of the level's other bound, so σ acts on the level as a whole
//! q ← q + r η E / T                integrator (I)
//! ρ = a f + (1 - a) s              running error scale: a fast and a slow mean,
//! f ← f (1 + (min(|e| / (m f), 5) - 1) / τ)    each of which one error moves only so far
//! ```
//!
//! with β = p below the middle and 1 - p above; each bound learns separately and h steps late (Angelopoulos, Candès and
//! Tibshirani, "Conformal PID control for time series prediction", 2023; asymmetric and multi-step as in Wang and Hyndman,
//! "Online conformal inference for multi-step time series forecasting", 2024). A bound far enough out is never missed and one
//! far enough in always is, so E and q stay bounded and the long-run miss rate approaches β for any error distribution. ρ
//! takes the role of the scorecaster: it sees the size of an error, not just the miss.
//!
//! Errors far ahead come in runs of h on one side. A bound that follows them is late and swings, but the misses of a level do
//! not: while one bound is missed, the other is not. So η falls fast with h and finds the position of each bound, and σ falls
//! slowly and holds the level's coverage, like the threshold of a symmetric interval (Gibbs and Candès, "Adaptive conformal
//! inference under distribution shift", 2021). Positions hundreds of steps ahead take tens of thousands of updates to find: a
//! model that is biased there has a level with the right coverage in the wrong place.
//!
//! Misses are those of the unsorted bound: bounds that cross are issued sorted but tracked as they were.

use crate::simd::{Compare, Kernel, Simd, Vector};

/// Bounds per block: four, the bounds of two levels.
pub const BLOCK: usize = 4;

/// Gains of the controller, named as in the equations of the module.
///
/// Tuned on data before the scored parts and on a data set outside all benchmarks. W and T, nearly indifferent there, were
/// chosen with the scored parts in sight.
struct PidGains {
    /// c, of a bound with miss rate β₀.
    tracking: f32,
    /// h₀
    tracking_horizon: f32,
    /// k
    coupling: f32,
    /// h₁
    coupling_horizon: f32,
    /// Limit of sat, before the multiplication by r.
    coupling_max: f32,
    /// W, in updates.
    balance_window: f32,
    /// T, in updates.
    integral_time: f32,
    /// τ of the fast and the slow mean, in updates.
    scale_windows: [f32; 2],
    /// a
    fast_weight: f32,
    /// Updates, at least, after which the trailing range has forgotten two thirds of a score.
    range_window: f32,
}

const GAINS: PidGains = PidGains {
    tracking: 0.015,
    tracking_horizon: 1.0,
    coupling: 0.024,
    coupling_horizon: 32.0,
    coupling_max: 0.2,
    balance_window: 5000.0,
    integral_time: 1000.0,
    scale_windows: [100.0, 2000.0],
    fast_weight: 0.5,
    range_window: 500.0,
};

/// β₀: the miss rate of each bound of an 80 % interval.
const REFERENCE_MISS_RATE: f32 = 0.1;

/// Gains at one step of the horizon, precomputed per tracked horizon.
#[derive(Clone, Copy, Debug)]
pub struct HorizonGains {
    /// η
    tracking_gain: f32,
    /// σ/2
    coupling_gain: f32,
    coupling_max: f32,
    /// η/T
    integral_gain: f32,
    /// 1 - 1/W
    balance_decay: f32,
    /// 1/τ of the fast and the slow mean.
    scale_rates: [f32; 2],
    /// a
    fast_weight: f32,
    range_decay: f32,
}

impl HorizonGains {
    pub fn new(horizon: usize) -> Self {
        let h = horizon as f32;
        // η = c / (1 + h/h₀)
        let tracking_gain = GAINS.tracking / (1.0 + h / GAINS.tracking_horizon);
        Self {
            tracking_gain,
            // σ = k / (1 + h/h₁)
            coupling_gain: GAINS.coupling / (1.0 + h / GAINS.coupling_horizon) / 2.0,
            coupling_max: GAINS.coupling_max,
            integral_gain: tracking_gain / GAINS.integral_time,
            balance_decay: 1.0 - 1.0 / GAINS.balance_window,
            scale_rates: GAINS.scale_windows.map(|window| 1.0 / window),
            fast_weight: GAINS.fast_weight,
            // At least four runs of errors.
            range_decay: 1.0 - 1.0 / GAINS.range_window.max(4.0 * h),
        }
    }
}

/// Constants of one block of bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockTargets {
    /// β
    miss_rate: [f32; BLOCK],
    /// √(β₀/β)
    rarity: [f32; BLOCK],
    /// -1 for lower, 1 for upper bounds; 0 for padding, which is never missed.
    pub outward: [f32; BLOCK],
}

/// Constants of all bounds, in blocks; the last block is padded.
#[derive(Clone, Debug)]
pub struct BoundTargets {
    bounds: usize,
    pub blocks: Vec<BlockTargets>,
}

impl BoundTargets {
    pub fn new(probabilities: &[f64]) -> Self {
        let block = |probabilities: &[f64]| {
            let mut block = BlockTargets::default();
            for (i, p) in probabilities.iter().enumerate() {
                let miss_rate = p.min(1.0 - p) as f32;
                block.miss_rate[i] = miss_rate;
                block.rarity[i] = (REFERENCE_MISS_RATE / miss_rate).sqrt();
                block.outward[i] = if *p < 0.5 { -1.0 } else { 1.0 };
            }
            block
        };
        Self { bounds: probabilities.len(), blocks: probabilities.chunks(BLOCK).map(block).collect() }
    }
}

/// Limit of an error in ρ, in running scales: a single outlier does not widen intervals for long.
const ERROR_MAX: f32 = 5.0;
/// Limit of |x|, in m: larger errors are left to ρ.
const SCORE_MAX: f32 = 24.0;
/// Limit of ρ and 1/ρ: beyond, the data is unlike anything the model has seen.
const SCALE_MAX: f32 = 1e4;
/// Limit of the trailing range: an error of a million units over the smallest ρ.
const RANGE_MAX: f32 = 1e10;
/// Limit of |q|, in units: far beyond any error, far within f32.
const INTEGRAL_MAX: f32 = 1e20;
/// Limit of |E|: a thousand misses in a row are a different series.
const BALANCE_MAX: f32 = 1000.0;

// State of a tracker: f, s, min x, max x; then per block of bounds all q, all E.
const FAST: usize = 0;
const SLOW: usize = 1;
const SCORE_MIN_INDEX: usize = 2;
const SCORE_MAX_INDEX: usize = 3;
const BOUNDS: usize = 4;
const PER_BOUND: usize = 2;
const INTEGRAL: usize = 0;
const BALANCE: usize = 1;

/// Length of the state of a tracker; whole blocks, so two bounds cost as much as four.
pub(super) fn state_len(bounds: usize) -> usize {
    if bounds == 0 { 0 } else { BOUNDS + PER_BOUND * bounds.next_multiple_of(BLOCK) }
}

/// Resets a tracker: it then issues the bounds of the model.
pub(super) fn reset(state: &mut [f32]) {
    state.fill(0.0);
    state.iter_mut().take(SCORE_MIN_INDEX).for_each(|scale| *scale = 1.0);
}

/// True if finite numbers are a state that a tracker can reach: others might give infinite bounds.
pub(super) fn is_valid(state: &[f32]) -> bool {
    if state.is_empty() {
        return true;
    }
    let is_scale = |scale: &f32| (1.0 / SCALE_MAX..=SCALE_MAX).contains(scale);
    let is_range = (-RANGE_MAX..=0.0).contains(&state[SCORE_MIN_INDEX])
        && (0.0..=RANGE_MAX).contains(&state[SCORE_MAX_INDEX]);
    let limits = [INTEGRAL_MAX, BALANCE_MAX].into_iter().cycle();
    let mut bounds = state[BOUNDS..].chunks(BLOCK).zip(limits);
    let is_bound = |(numbers, limit): (&[f32], f32)| numbers.iter().all(|number| number.abs() <= limit);
    state.iter().take(SCORE_MIN_INDEX).all(is_scale) && is_range && bounds.all(is_bound)
}

/// ρ = a f + (1 - a) s
fn error_scale(state: &[f32], gains: &HorizonGains) -> f32 {
    gains.fast_weight * state[FAST] + (1.0 - gains.fast_weight) * state[SLOW]
}

/// max x - min x
fn score_range(state: &[f32]) -> f32 {
    state[SCORE_MAX_INDEX] - state[SCORE_MIN_INDEX]
}

/// E of each bound of a block, and E' of the other bound of its level: bounds i and n - 1 - i form a level. Padding has 0.
#[inline(always)]
fn miss_balances<const N: usize>(
    blocks: &[[[f32; BLOCK]; N]],
    block: usize,
    bounds: usize,
) -> [[f32; BLOCK]; 2] {
    let balance = blocks[block][BALANCE];
    if bounds == BLOCK {
        return [balance, [balance[3], balance[2], balance[1], balance[0]]];
    }
    let other = |bound: usize| {
        let other = bounds.checked_sub(1 + bound)?;
        Some(blocks[other / BLOCK][BALANCE][other % BLOCK])
    };
    [balance, std::array::from_fn(|i| other(block * BLOCK + i).unwrap_or(0.0))]
}

/// Computes the outward moves of all bounds, in units; returns ρ.
pub(super) struct ReadMoves<'a> {
    pub state: &'a [f32],
    pub gains: &'a HorizonGains,
    pub targets: &'a BoundTargets,
    pub moves: &'a mut [[f32; BLOCK]],
}

impl Kernel for ReadMoves<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        const { assert!(S::LANES >= BLOCK, "a block fits one vector") };
        let Self { state, gains, targets, moves } = self;
        let (tracking, coupling) = (simd.splat(gains.tracking_gain), simd.splat(gains.coupling_gain));
        let (low, high) = (simd.splat(-gains.coupling_max), simd.splat(gains.coupling_max));
        let range = simd.splat(score_range(state));
        let (bounds, _) = state[BOUNDS..].as_chunks::<BLOCK>();
        let (blocks, _) = bounds.as_chunks::<PER_BOUND>();
        for (block, (moves, target)) in moves.iter_mut().zip(&targets.blocks).enumerate() {
            let [balance, other] = miss_balances(blocks, block, targets.bounds);
            let (balance, other) = (simd.load_partial(&balance), simd.load_partial(&other));
            // sat(σ (E + E') / 2)
            let level = (coupling * (balance + other)).clamp(low, high);
            let integral = simd.load_partial(&blocks[block][INTEGRAL]);
            // q + r (η E + sat(σ (E + E') / 2))
            let sum = integral + simd.load_partial(&target.rarity) * range * (tracking * balance + level);
            simd.store_partial(sum, moves);
        }
        error_scale(state, gains)
    }
}

/// Updates a tracker with the outcome of a forecast. An actual value exactly on a bound does not move that bound.
pub(super) struct UpdateTracker<'a> {
    pub state: &'a mut [f32],
    pub gains: &'a HorizonGains,
    pub targets: &'a BoundTargets,
    /// e
    pub error: f32,
    /// m
    pub mean_error: f32,
    pub actual: f64,
    /// Unsorted bounds that were issued.
    pub bounds: &'a [f32],
}

impl Kernel for UpdateTracker<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const { assert!(S::LANES >= BLOCK, "a block fits one vector") };
        let Self { state, gains, targets, error, mean_error, actual, bounds } = self;
        let limit = (SCORE_MAX * mean_error).min(INTEGRAL_MAX);
        // x = e / ρ
        let score = (error / error_scale(state, gains)).clamp(-limit, limit);
        state[SCORE_MAX_INDEX] = score.max(state[SCORE_MAX_INDEX] * gains.range_decay);
        state[SCORE_MIN_INDEX] = score.min(state[SCORE_MIN_INDEX] * gains.range_decay);
        let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
        let integral_gain = simd.splat(gains.integral_gain * score_range(state));
        let (integral_min, integral_max) = (simd.splat(-limit), simd.splat(limit));
        let (balance_min, balance_max) = (simd.splat(-BALANCE_MAX), simd.splat(BALANCE_MAX));
        let decay = simd.splat(gains.balance_decay);
        let (rows, _) = state[BOUNDS..].as_chunks_mut::<BLOCK>();
        let (blocks, _) = rows.as_chunks_mut::<PER_BOUND>();
        for ((block, target), bounds) in blocks.iter_mut().zip(&targets.blocks).zip(bounds.chunks(BLOCK)) {
            let mut above = padded(bounds);
            for above in &mut above {
                *above = (actual - f64::from(*above)) as f32;
            }
            let beyond = simd.load_partial(&above) * simd.load_partial(&target.outward);
            // miss - β
            let missed = beyond.select_gt(zero, one, zero) - simd.load_partial(&target.miss_rate);
            let [integrals, balances] = block;
            let (q, e) = (simd.load_partial(integrals), simd.load_partial(balances));
            // E ← (1 - 1/W) E + (miss - β)
            let balance = (decay * e + missed).clamp(balance_min, balance_max);
            // q ← q + r η E / T
            let step = simd.load_partial(&target.rarity) * integral_gain * balance;
            let integral = (q + step).clamp(integral_min, integral_max);
            let distance = beyond.max(zero - beyond);
            simd.store_partial(distance.select_gt(zero, integral, q), integrals);
            simd.store_partial(distance.select_gt(zero, balance, e), balances);
        }
        if mean_error > 0.0 {
            for (mean, rate) in [FAST, SLOW].into_iter().zip(gains.scale_rates) {
                let before = state[mean];
                // f ← f (1 + (min(|e| / (m f), 5) - 1) / τ)
                let size = (error.abs() / (mean_error * before)).min(ERROR_MAX);
                state[mean] = (before * (1.0 + (size - 1.0) * rate)).clamp(1.0 / SCALE_MAX, SCALE_MAX);
            }
        }
    }
}

/// Up to a block of bounds, padded with 0.
#[inline(always)]
fn padded(bounds: &[f32]) -> [f32; BLOCK] {
    match bounds.first_chunk() {
        Some(all) => *all,
        None => std::array::from_fn(|i| bounds.get(i).copied().unwrap_or(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bounds::probabilities;
    use super::*;
    use crate::network::Random;
    use crate::simd::Isa;

    const P: [f64; 2] = [0.1, 0.9];

    /// Fraction of misses of each bound in the second half, for forecasts of 0 with model bounds at ±1 that are scored
    /// `horizon` steps late.
    fn miss_rates<const N: usize>(errors: &[f32], horizon: usize, probabilities: [f64; N]) -> [f32; N] {
        let (gains, targets) = (&HorizonGains::new(horizon), &BoundTargets::new(&probabilities));
        let mut state = vec![0.0; state_len(N)];
        reset(&mut state);
        let (mut issued, mut misses) = (Vec::<[f32; N]>::new(), [0.0; N]);
        let mut moves = vec![[0.0; BLOCK]; N.div_ceil(BLOCK)];
        for t in 0..errors.len() {
            let scale = Isa::widest().run(ReadMoves { state: &state, gains, targets, moves: &mut moves });
            let moves = moves.as_flattened();
            let side = |bound: usize| if bound < N / 2 { -1.0 } else { 1.0 };
            issued.push(std::array::from_fn(|bound| side(bound) * scale * (1.0 + moves[bound])));
            let beyond = |at: usize, bound: usize| side(bound) * (errors[at] - issued[at][bound]) > 0.0;
            if t >= errors.len() / 2 {
                (0..N).for_each(|bound| misses[bound] += f32::from(u8::from(beyond(t, bound))));
            }
            if let Some(at) = (t + 1).checked_sub(horizon) {
                let (error, actual) = (errors[at], f64::from(errors[at]));
                let (state, bounds) = (&mut state[..], &issued[at][..]);
                let update = UpdateTracker { state, gains, targets, error, mean_error: 0.8, actual, bounds };
                Isa::widest().run(update);
            }
        }
        misses.map(|misses| misses / (errors.len() - errors.len() / 2) as f32)
    }

    fn noise(count: usize) -> Vec<f32> {
        let mut random = Random::new(7);
        (0..count).map(|_| random.normal()).collect()
    }

    #[test]
    fn each_bound_reaches_its_miss_rate_for_any_errors() {
        let noise = noise(20_000);
        let map = |f: &dyn Fn(usize, f32) -> f32| -> Vec<f32> {
            noise.iter().enumerate().map(|(t, e)| f(t, *e)).collect()
        };
        let skewed = map(&|_, e| e.exp() - 1.0);
        let shifted = map(&|_, e| e + 3.0);
        let growing = map(&|t, e| e * (1.0 + t as f32 / 1000.0));
        let volatile = map(&|t, e| if (t / 700).is_multiple_of(2) { e } else { 5.0 * e });
        let calm = map(&|_, e| e / 100.0);
        for errors in [noise.clone(), skewed, shifted, growing, volatile, calm] {
            for horizon in [1, 24] {
                let [below, above] = miss_rates(&errors, horizon, P);
                assert!(
                    (below - 0.1).abs() < 0.01 && (above - 0.1).abs() < 0.01,
                    "{horizon}: {below} {above}"
                );
            }
        }
    }

    #[test]
    fn rare_misses_reach_their_rate() {
        let noise = noise(20_000);
        let shifted: Vec<f32> = noise.iter().map(|e| e + 3.0).collect();
        let probabilities = [0.01, 0.025, 0.1, 0.9, 0.975, 0.99];
        for errors in [noise, shifted] {
            for (missed, p) in miss_rates(&errors, 1, probabilities).into_iter().zip(probabilities) {
                let target = p.min(1.0 - p) as f32;
                assert!((missed - target).abs() < 0.1 * target, "{p}: {missed}");
            }
        }
    }

    #[test]
    fn coverage_holds_where_errors_come_in_runs() {
        let runs = noise(400);
        for run in [24, 168] {
            let errors: Vec<f32> = (0..runs.len() * run).map(|t| runs[t / run]).collect();
            for probabilities in [[0.1, 0.9], [0.025, 0.975]] {
                let missed: f32 = miss_rates(&errors, run, probabilities).iter().sum();
                let target = 2.0 * probabilities[0] as f32;
                assert!((missed - target).abs() < 0.01, "{run}: {missed} of {target}");
            }
        }
    }

    #[test]
    fn moves_follow_the_control_equation_on_every_instruction_set() {
        let gains = &HorizonGains::new(12);
        for levels in 1..=3 {
            let all: Vec<f64> = (1..=levels).map(|level| 0.3 * level as f64).collect();
            let targets = &BoundTargets::new(&probabilities(&all));
            let bounds = 2 * levels;
            let mut state = vec![0.0; state_len(bounds)];
            reset(&mut state);
            (state[SCORE_MIN_INDEX], state[SCORE_MAX_INDEX]) = (-2.0, 1.0);
            // Some couplings saturate, in both directions.
            let (integrals, balances): (Vec<f32>, Vec<f32>) =
                (0..bounds).map(|bound| (0.1 * bound as f32, [200.0, 3.0, -400.0][bound % 3])).unzip();
            for bound in 0..bounds {
                let block = BOUNDS + bound / BLOCK * BLOCK * PER_BOUND + bound % BLOCK;
                (state[block], state[block + BLOCK]) = (integrals[bound], balances[bound]);
            }
            for isa in Isa::all() {
                let mut moves = vec![[0.0; BLOCK]; bounds.div_ceil(BLOCK)];
                isa.run(ReadMoves { state: &state, gains, targets, moves: &mut moves });
                for (bound, by) in moves.as_flattened()[..bounds].iter().enumerate() {
                    let rarity = targets.blocks[bound / BLOCK].rarity[bound % BLOCK];
                    let level = gains.coupling_gain * (balances[bound] + balances[bounds - 1 - bound]);
                    let level = level.clamp(-gains.coupling_max, gains.coupling_max);
                    let expected =
                        integrals[bound] + 3.0 * rarity * (gains.tracking_gain * balances[bound] + level);
                    assert!((by - expected).abs() < 1e-4, "{levels} {bound}: {by} {expected}");
                }
            }
        }
    }

    #[test]
    fn one_outlier_changes_little() {
        let mut errors = noise(4000);
        errors[2000] = 1e6;
        let [below, above] = miss_rates(&errors, 1, P);
        assert!((below - 0.1).abs() < 0.02 && (above - 0.1).abs() < 0.02, "{below} {above}");
    }

    #[test]
    fn an_actual_on_a_bound_does_not_move_it() {
        let mut state = vec![0.0; state_len(2)];
        reset(&mut state);
        Isa::widest().run(UpdateTracker {
            state: &mut state,
            gains: &HorizonGains::new(1),
            targets: &BoundTargets::new(&P),
            error: 1.0,
            mean_error: 1.0,
            actual: 1.0,
            bounds: &[-1.0, 1.0],
        });
        let rows: Vec<&[f32]> = state[BOUNDS..].chunks(BLOCK).collect();
        assert!(rows[BALANCE][0] < 0.0 && rows.iter().all(|row| row[1..] == [0.0; 3]));
    }
}
