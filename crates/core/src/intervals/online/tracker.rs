//! The bounds of one step of the horizon of one series, corrected by what came.
//!
//! Let e be the error of a forecast in the unit that its interval had, m the mean size of such errors on the validation part,
//! x = e / ρ the error over a running scale, and d the distance of a bound from the forecast that the model knows. The bound
//! issued for probability p is
//!
//! ```text
//! forecast ± ρ (d + q + r (η E + sat(σ (E + E') / 2)))
//!
//! r = √(β₀/β) (max x - min x)      moves are parts of the trailing range of scores, larger ones where misses are few: out there
//!                                  scores lie far apart
//! η = c / (1 + h/h₀)
//! E ← (1 - 1/W) E + (miss - β)     quantile tracking: every miss widens by η r, every hit narrows by its share
//! σ = k / (1 + h/h₁)               what both bounds of a level are missed too often widens the level, what too seldom narrows
//!                                  it, by ± sat at most: E' is E of the level's other bound
//! q ← q + r η E / T                the integrator: what is missed too often for long is made good
//! ρ = a f + (1 - a) s              how large errors are of late: of a fast and of a slow mean,
//! f ← f (1 + (min(|e| / (m f), 5) - 1) / τ)    each of which one error can only move so far
//! ```
//!
//! with β = p below the middle and 1 - p above, each bound by itself and learning h steps late (Angelopoulos, Candès and
//! Tibshirani, "Conformal PID control for time series prediction", 2023; asymmetric and for each step of the horizon as in
//! Wang and Hyndman, "Online conformal inference for multi-step time series forecasting", 2024). A bound that is far enough out
//! is not missed and one that is far enough in is, whatever the series does: so neither E nor q can go far, and the share of
//! misses over a long time is near β without a word about how errors are distributed, the nearer the less E is left to hold: it
//! forgets E/W of them with each update. What the three name the scorecaster is here ρ, which sees how large an error was and not
//! only that it was one.
//!
//! Far ahead, errors come in runs of h to one side, of which nothing is known before the first of them is over: a bound that
//! follows them is late and swings. The misses of a level do not swing so, for while the one bound is missed the other is not.
//! So η falls fast with h and finds out where each bound lies, and σ falls slowly and holds the level's share of misses, as the
//! threshold of an interval does that is widened on both sides alike (Gibbs and Candès, "Adaptive conformal inference under
//! distribution shift", 2021). Where each bound lies is found out slowly, hundreds of steps ahead over tens of thousands of
//! updates: a model that forecasts too low there has a level that holds its share and lies too low.
//!
//! Misses are those of the bound itself: two that have crossed are issued in order, but each is followed as it was.

use super::gains::{BLOCK, Dues, Rates};
use crate::simd::{Compare, Kernel, Simd, Vector};

/// An error counts for no more than so many running scales in ρ, so that one reading gone mad widens nothing for long.
const SIZE_MOST: f32 = 5.0;
/// Scores count for no more than so many of m, either way: beyond, it is for ρ to follow.
const SCORE_MOST: f32 = 24.0;
/// How far ρ may lie from 1, either way: beyond, the readings are others than the model has ever seen.
const SCALE_MOST: f32 = 1e4;
/// How large a score is at most: an error of a million units over the least ρ.
const SCORES_MOST: f32 = 1e10;
/// How far a bound is moved at most, in units: far beyond any error, and far within what f32 has.
const MOVED_MOST: f32 = 1e20;
/// Misses that E counts, at most: a thousand in a row are another series.
const OWED_MOST: f32 = 1000.0;

const FAST: usize = 0;
const SLOW: usize = 1;
const LOW: usize = 2;
const HIGH: usize = 3;
const BOUNDS: usize = 4;
/// Of a bound: q and E. Four bounds lie together, as two levels have: all of their q, all of their E.
const OF_BOUND: usize = 2;
const INTEGRAL: usize = 0;
const OWED: usize = 1;

/// Numbers of a tracker of so many bounds: whole blocks, so that the two bounds of a single level cost what four do.
pub(super) fn numbers(bounds: usize) -> usize {
    if bounds == 0 { 0 } else { BOUNDS + OF_BOUND * bounds.next_multiple_of(BLOCK) }
}

/// Writes that of a series that nothing is known of: the model's bounds as they are.
pub(super) fn begin(numbers: &mut [f32]) {
    numbers.fill(0.0);
    numbers.iter_mut().take(LOW).for_each(|scale| *scale = 1.0);
}

/// Whether a tracker could have these numbers, all of them finite: with others, what it says may not be.
pub(super) fn is_sound(numbers: &[f32]) -> bool {
    if numbers.is_empty() {
        return true;
    }
    let is_scale = |scale: &f32| (1.0 / SCALE_MOST..=SCALE_MOST).contains(scale);
    let is_range =
        (-SCORES_MOST..=0.0).contains(&numbers[LOW]) && (0.0..=SCORES_MOST).contains(&numbers[HIGH]);
    let most = [MOVED_MOST, OWED_MOST].into_iter().cycle();
    let mut bounds = numbers[BOUNDS..].chunks(BLOCK).zip(most);
    let is_bound = |(numbers, most): (&[f32], f32)| numbers.iter().all(|number| number.abs() <= most);
    numbers.iter().take(LOW).all(is_scale) && is_range && bounds.all(is_bound)
}

/// ρ
fn scale(numbers: &[f32], rates: &Rates) -> f32 {
    rates.share * numbers[FAST] + (1.0 - rates.share) * numbers[SLOW]
}

/// max x - min x
fn range(numbers: &[f32]) -> f32 {
    numbers[HIGH] - numbers[LOW]
}

/// E of each bound of a block, and of the other bound of its level: the first and the last are of the widest. What is no bound
/// owes nothing.
#[inline(always)]
fn owed<const N: usize>(blocks: &[[[f32; BLOCK]; N]], block: usize, bounds: usize) -> [[f32; BLOCK]; 2] {
    let own = blocks[block][OWED];
    if bounds == BLOCK {
        return [own, [own[3], own[2], own[1], own[0]]];
    }
    let other = |bound: usize| {
        let other = bounds.checked_sub(1 + bound)?;
        Some(blocks[other / BLOCK][OWED][other % BLOCK])
    };
    [own, std::array::from_fn(|place| other(block * BLOCK + place).unwrap_or(0.0))]
}

/// Writes what a tracker moves the model's bounds by now, outward; gives ρ.
pub(super) struct Read<'a> {
    pub numbers: &'a [f32],
    pub rates: &'a Rates,
    pub dues: &'a Dues,
    pub moves: &'a mut [[f32; BLOCK]],
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        const { assert!(S::LANES >= BLOCK, "a block goes through at once") };
        let Self { numbers, rates, dues, moves } = self;
        let (step, together) = (simd.splat(rates.step), simd.splat(rates.together));
        let (least, most) = (simd.splat(-rates.together_most), simd.splat(rates.together_most));
        let range = simd.splat(range(numbers));
        let (of_bounds, _) = numbers[BOUNDS..].as_chunks::<BLOCK>();
        let (blocks, _) = of_bounds.as_chunks::<OF_BOUND>();
        for (block, (moves, due)) in moves.iter_mut().zip(&dues.blocks).enumerate() {
            let [owed, other] = owed(blocks, block, dues.bounds);
            let (owed, other) = (simd.load_part(&owed), simd.load_part(&other));
            let level = (together * (owed + other)).clamp(least, most);
            let integral = simd.load_part(&blocks[block][INTEGRAL]);
            let by = integral + simd.load_part(&due.hurry) * range * (step * owed + level);
            simd.store_part(by, moves);
        }
        scale(numbers, rates)
    }
}

/// Takes what came of a forecast. What lies on a bound does not say on which side it is to lie.
pub(super) struct Update<'a> {
    pub numbers: &'a mut [f32],
    pub rates: &'a Rates,
    pub dues: &'a Dues,
    /// Its error in units, and the mean size that the model knows of such errors.
    pub error: f32,
    pub mean: f32,
    /// What came, and the bounds that had been issued for it.
    pub actual: f64,
    pub issued: &'a [f32],
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const { assert!(S::LANES >= BLOCK, "a block goes through at once") };
        let Self { numbers, rates, dues, error, mean, actual, issued } = self;
        let most = (SCORE_MOST * mean).min(MOVED_MOST);
        let score = (error / scale(numbers, rates)).clamp(-most, most);
        numbers[HIGH] = score.max(numbers[HIGH] * rates.range);
        numbers[LOW] = score.min(numbers[LOW] * rates.range);
        let (zero, one) = (simd.splat(0.0), simd.splat(1.0));
        let made_good = simd.splat(rates.made_good * range(numbers));
        let (least, most) = (simd.splat(-most), simd.splat(most));
        let (owed_least, owed_most) = (simd.splat(-OWED_MOST), simd.splat(OWED_MOST));
        let kept = simd.splat(rates.owed);
        let (bounds, _) = numbers[BOUNDS..].as_chunks_mut::<BLOCK>();
        let (blocks, _) = bounds.as_chunks_mut::<OF_BOUND>();
        for ((block, due), issued) in blocks.iter_mut().zip(&dues.blocks).zip(issued.chunks(BLOCK)) {
            // How far above each what came lies.
            let mut above = padded(issued);
            for above in &mut above {
                *above = (actual - f64::from(*above)) as f32;
            }
            let beyond = simd.load_part(&above) * simd.load_part(&due.outward);
            let missed = beyond.if_above(zero, one, zero) - simd.load_part(&due.due);
            let [of_q, of_e] = block;
            let (q, e) = (simd.load_part(of_q), simd.load_part(of_e));
            let owed = (kept * e + missed).clamp(owed_least, owed_most);
            let integral = simd.load_part(&due.hurry) * made_good * owed;
            let integral = (q + integral).clamp(least, most);
            let away = beyond.max(zero - beyond);
            simd.store_part(away.if_above(zero, integral, q), of_q);
            simd.store_part(away.if_above(zero, owed, e), of_e);
        }
        if mean > 0.0 {
            for (mean_size, rate) in [FAST, SLOW].into_iter().zip(rates.scales) {
                let before = numbers[mean_size];
                let size = (error.abs() / (mean * before)).min(SIZE_MOST);
                numbers[mean_size] =
                    (before * (1.0 + (size - 1.0) * rate)).clamp(1.0 / SCALE_MOST, SCALE_MOST);
            }
        }
    }
}

/// The bounds of a block; where there are fewer, the others are 0.
#[inline(always)]
fn padded(bounds: &[f32]) -> [f32; BLOCK] {
    match bounds.first_chunk() {
        Some(all) => *all,
        None => std::array::from_fn(|place| bounds.get(place).copied().unwrap_or(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    const P: [f64; 2] = [0.1, 0.9];

    /// Takes an error of a forecast of 0.
    fn update(numbers: &mut [f32], rates: &Rates, dues: &Dues, error: f32, mean: f32, issued: &[f32]) {
        let actual = f64::from(error);
        Isa::widest().run(Update { numbers, rates, dues, error, mean, actual, issued });
    }

    /// Share of misses of each bound in the last half, when `errors` come of forecasts whose bounds the model has at ±1,
    /// learned of so many steps later.
    fn misses<const N: usize>(errors: &[f32], horizon: usize, probabilities: [f64; N]) -> [f32; N] {
        let (rates, dues) = (Rates::new(horizon), Dues::of(&probabilities));
        let mut tracker = vec![0.0; numbers(N)];
        begin(&mut tracker);
        let (mut issued, mut misses) = (Vec::<[f32; N]>::new(), [0.0; N]);
        let mut moves = vec![[0.0; BLOCK]; N.div_ceil(BLOCK)];
        for t in 0..errors.len() {
            let read = Read { numbers: &tracker, rates: &rates, dues: &dues, moves: &mut moves };
            let scale = Isa::widest().run(read);
            let by = moves.as_flattened();
            let side = |bound: usize| if bound < N / 2 { -1.0 } else { 1.0 };
            issued.push(std::array::from_fn(|bound| side(bound) * scale * (1.0 + by[bound])));
            let beyond = |at: usize, bound: usize| side(bound) * (errors[at] - issued[at][bound]) > 0.0;
            if t >= errors.len() / 2 {
                (0..N).for_each(|bound| misses[bound] += f32::from(u8::from(beyond(t, bound))));
            }
            if let Some(at) = (t + 1).checked_sub(horizon) {
                update(&mut tracker, &rates, &dues, errors[at], 0.8, &issued[at]);
            }
        }
        misses.map(|misses| misses / (errors.len() - errors.len() / 2) as f32)
    }

    /// About normal.
    fn noise(count: usize) -> Vec<f32> {
        let mut state = 7u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn each_bound_is_missed_as_often_as_is_due_whatever_comes() {
        let noise = noise(20_000);
        let skewed: Vec<f32> = noise.iter().map(|e| e.exp() - 1.0).collect();
        let shifted: Vec<f32> = noise.iter().map(|e| e + 3.0).collect();
        let growing: Vec<f32> =
            noise.iter().enumerate().map(|(t, e)| e * (1.0 + t as f32 / 1000.0)).collect();
        let restless: Vec<f32> =
            noise.iter().enumerate().map(|(t, e)| if (t / 700) % 2 == 0 { *e } else { 5.0 * e }).collect();
        let calm: Vec<f32> = noise.iter().map(|e| e / 100.0).collect();
        for errors in [noise, skewed, shifted, growing, restless, calm] {
            for horizon in [1, 24] {
                let [below, above] = misses(&errors, horizon, P);
                assert!(
                    (below - 0.1).abs() < 0.01 && (above - 0.1).abs() < 0.01,
                    "{horizon}: {below} {above}"
                );
            }
        }
    }

    #[test]
    fn rare_misses_are_as_rare_as_is_due() {
        let noise = noise(20_000);
        let shifted: Vec<f32> = noise.iter().map(|e| e + 3.0).collect();
        let probabilities = [0.01, 0.025, 0.1, 0.9, 0.975, 0.99];
        for errors in [noise, shifted] {
            for (missed, p) in misses(&errors, 1, probabilities).into_iter().zip(probabilities) {
                let due = p.min(1.0 - p) as f32;
                assert!((missed - due).abs() < 0.1 * due, "{p}: {missed}");
            }
        }
    }

    #[test]
    fn a_level_is_held_where_errors_come_in_runs() {
        let runs = noise(400);
        for run in [24, 168] {
            let errors: Vec<f32> = (0..runs.len() * run).map(|t| runs[t / run]).collect();
            for probabilities in [[0.1, 0.9], [0.025, 0.975]] {
                let missed: f32 = misses(&errors, run, probabilities).iter().sum();
                let due = 2.0 * probabilities[0] as f32;
                assert!((missed - due).abs() < 0.01, "{run}: {missed} of {due}");
            }
        }
    }

    #[test]
    fn bounds_are_moved_by_what_they_are_owed_and_their_levels() {
        let rates = Rates::new(12);
        for levels in 1..=3 {
            let all: Vec<f64> = (1..=levels).map(|level| 0.3 * level as f64).collect();
            let dues = Dues::of(&crate::intervals::probabilities(&all));
            let bounds = 2 * levels;
            let mut tracker = vec![0.0; numbers(bounds)];
            begin(&mut tracker);
            (tracker[LOW], tracker[HIGH]) = (-2.0, 1.0);
            // Some levels would be moved by more than there is, either way.
            let (integrals, owed): (Vec<f32>, Vec<f32>) =
                (0..bounds).map(|bound| (0.1 * bound as f32, [200.0, 3.0, -400.0][bound % 3])).unzip();
            for bound in 0..bounds {
                let block = BOUNDS + bound / BLOCK * BLOCK * OF_BOUND + bound % BLOCK;
                (tracker[block], tracker[block + BLOCK]) = (integrals[bound], owed[bound]);
            }
            for isa in Isa::all() {
                let mut moves = vec![[0.0; BLOCK]; bounds.div_ceil(BLOCK)];
                isa.run(Read { numbers: &tracker, rates: &rates, dues: &dues, moves: &mut moves });
                for (bound, by) in moves.as_flattened()[..bounds].iter().enumerate() {
                    let hurry = dues.blocks[bound / BLOCK].hurry[bound % BLOCK];
                    let level = rates.together * (owed[bound] + owed[bounds - 1 - bound]);
                    let level = level.clamp(-rates.together_most, rates.together_most);
                    let expected = integrals[bound] + 3.0 * hurry * (rates.step * owed[bound] + level);
                    assert!((by - expected).abs() < 1e-4, "{levels} {bound}: {by} {expected}");
                }
            }
        }
    }

    #[test]
    fn one_reading_gone_mad_changes_little() {
        let mut errors = noise(4000);
        errors[2000] = 1e6;
        let [below, above] = misses(&errors, 1, P);
        assert!((below - 0.1).abs() < 0.02 && (above - 0.1).abs() < 0.02, "{below} {above}");
    }

    #[test]
    fn what_lies_on_a_bound_moves_it_neither_way() {
        let mut tracker = vec![0.0; numbers(2)];
        begin(&mut tracker);
        let rates = Rates::new(1);
        update(&mut tracker, &rates, &Dues::of(&P), 1.0, 1.0, &[-1.0, 1.0]);
        let bounds: Vec<&[f32]> = tracker[BOUNDS..].chunks(BLOCK).collect();
        assert!(bounds[1][0] < 0.0 && bounds.iter().all(|of_each| of_each[1..] == [0.0; 3]));
    }
}
