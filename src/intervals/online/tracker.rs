//! The bounds of one step of the horizon of one series, corrected by what came.
//!
//! Let e be the error of a forecast in the unit that its interval had, m the mean size of such errors on the validation part,
//! x = e / ρ the error over a running scale, and d the distance of a bound from the forecast that the model knows. The bound
//! issued for probability p is
//!
//! ```text
//! forecast ± ρ (d + q + η (E + G / (1 + h/h₀)² · tan(π/2 · D / (w t))))
//!
//! η = c √(β₀/β) / (1 + h/h₀) · (max x - min x)    the step is a part of the trailing range of scores, a larger one where
//!                                                 misses are few: out there scores lie far apart
//! E ← (1 - 1/W) E + (miss - β)                    quantile tracking: every miss widens by η, every hit narrows by its share
//! q ← q + η E / (T (1 + h/h₀))                    the integrator: what is missed too often for long is made good
//! D ← (1 - 1/w) D + (miss - β)                    the guard: misses of late, which cost nothing while they are few and
//!                                                 without bound as their share nears t beyond what is due
//! ρ = a f + (1 - a) s                             how large errors are of late: of a fast and of a slow mean,
//! f ← f (1 + (min(|e| / (m f), 5) - 1) / τ)       each of which one error can only move so far
//! ```
//!
//! with β = p below the middle and 1 - p above, each bound by itself and learning h steps late (Angelopoulos, Candès and
//! Tibshirani, "Conformal PID control for time series prediction", 2023; asymmetric and for each step of the horizon as in
//! Wang and Hyndman, "Online conformal inference for multi-step time series forecasting", 2024). A bound that is far enough out
//! is not missed and one that is far enough in is, whatever the series does: so neither E nor q can go far, and the share of
//! misses over a long time is β without a word about how errors are distributed. What the three name the scorecaster is here
//! ρ, which sees how large an error was and not only that it was one.
//!
//! Misses are those of the bound itself: two that have crossed are issued in order, but each is followed as it was.

use super::gains::{BLOCK, Dues, GAINS, Rates};
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
/// The part of the tolerance at which the guard stays: tan(π/2 · 0.95) is 12.7.
const SATURATION: f32 = 0.95;
/// Misses that E counts, at most: three hundred in a row are another series.
const OWED_MOST: f32 = 300.0;

const FAST: usize = 0;
const SLOW: usize = 1;
const LOW: usize = 2;
const HIGH: usize = 3;
const STEP: usize = 4;
const BOUNDS: usize = 5;
/// Of a bound: q, E and D. Four bounds lie together, as two levels have: all of their q, all of their E, all of their D.
const OF_BOUND: usize = 3;

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
    let is_step = (0.0..=2.0 * SCORES_MOST).contains(&numbers[STEP]);
    // As |miss - β| < 1, |D| < w.
    let most = [MOVED_MOST, OWED_MOST, GAINS.window].into_iter().cycle();
    let mut bounds = numbers[BOUNDS..].chunks(BLOCK).zip(most);
    let is_bound = |(numbers, most): (&[f32], f32)| numbers.iter().all(|number| number.abs() <= most);
    numbers.iter().take(LOW).all(is_scale) && is_range && is_step && bounds.all(is_bound)
}

/// ρ
fn scale(numbers: &[f32], rates: &Rates) -> f32 {
    rates.share * numbers[FAST] + (1.0 - rates.share) * numbers[SLOW]
}

/// tan(π/2 x) for 0 ≤ x ≤ [`SATURATION`], within 2e-5 of itself. By its partial fractions (DLMF 4.22.3),
///
/// ```text
/// tan(π/2 x) = 4/π x (1/(1 - x²) + 1/(9 - x²) + 1/(25 - x²) + …)
/// ```
///
/// of which all but the first are together the beginning of a power series in x², since they vary little. The same bits
/// everywhere, which no library's tangent is.
#[inline(always)]
fn tan_of_right_angles<S: Simd>(simd: S, x: S::V) -> S::V {
    /// Σ 1/k² over the odd k from 3 on, Σ 1/k⁴ and Σ 1/k⁶.
    const REST: [f32; 3] = [0.233_700_55, 0.014_678_032, 0.001_447_076_6];
    let one = simd.splat(1.0);
    let square = x * x;
    let rest = simd.splat(REST[1]) + square * simd.splat(REST[2]);
    let rest = simd.splat(REST[0]) + square * rest;
    simd.splat(std::f32::consts::FRAC_2_PI * 2.0) * x * (one / (one - square) + rest)
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
        let (zero, most) = (simd.splat(0.0), simd.splat(SATURATION));
        let (tolerated, guard) = (simd.splat(rates.tolerated), simd.splat(rates.guard));
        let (bounds, _) = numbers[BOUNDS..].as_chunks::<BLOCK>();
        let (blocks, _) = bounds.as_chunks::<OF_BOUND>();
        for ((moves, [integral, owed, late]), due) in moves.iter_mut().zip(blocks).zip(&dues.0) {
            let (integral, owed, late) =
                (simd.load_part(integral), simd.load_part(owed), simd.load_part(late));
            // Too few misses are no reason to hurry.
            let part = (late * tolerated).clamp(zero, most);
            let step = simd.load_part(&due.hurry) * simd.splat(numbers[STEP]);
            let by = integral + step * (owed + guard * tan_of_right_angles(simd, part));
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
        numbers[STEP] = rates.step * (numbers[HIGH] - numbers[LOW]);
        let (zero, one, step) = (simd.splat(0.0), simd.splat(1.0), simd.splat(numbers[STEP]));
        let (least, most) = (simd.splat(-most), simd.splat(most));
        let (owed_least, owed_most) = (simd.splat(-OWED_MOST), simd.splat(OWED_MOST));
        let (rate_owed, rate_late) = (simd.splat(rates.owed), simd.splat(rates.late));
        let made_good = simd.splat(rates.integral);
        let (bounds, _) = numbers[BOUNDS..].as_chunks_mut::<BLOCK>();
        let (blocks, _) = bounds.as_chunks_mut::<OF_BOUND>();
        for ((block, due), issued) in blocks.iter_mut().zip(&dues.0).zip(issued.chunks(BLOCK)) {
            // How far above each what came lies.
            let mut above = padded(issued);
            for above in &mut above {
                *above = (actual - f64::from(*above)) as f32;
            }
            let beyond = simd.load_part(&above) * simd.load_part(&due.outward);
            let missed = beyond.if_above(zero, one, zero) - simd.load_part(&due.due);
            let [of_q, of_e, of_d] = block;
            let (q, e, d) = (simd.load_part(of_q), simd.load_part(of_e), simd.load_part(of_d));
            let owed = (rate_owed * e + missed).clamp(owed_least, owed_most);
            let late = rate_late * d + missed;
            let integral = simd.load_part(&due.hurry) * step * owed * made_good;
            let integral = (q + integral).clamp(least, most);
            let away = beyond.max(zero - beyond);
            simd.store_part(away.if_above(zero, integral, q), of_q);
            simd.store_part(away.if_above(zero, owed, e), of_e);
            simd.store_part(away.if_above(zero, late, d), of_d);
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

    /// The tangents of some angles.
    struct Tangents<'a>(&'a mut [f32]);

    impl Kernel for Tangents<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for angles in self.0.chunks_mut(S::LANES) {
                let tangents = tan_of_right_angles(simd, simd.load_part(angles));
                simd.store_part(tangents, angles);
            }
        }
    }

    #[test]
    fn the_tangent_is_that_of_right_angles() {
        let all: Vec<f32> = (0..=95_000).map(|i| i as f32 / 1e5).collect();
        let mut found = all.clone();
        Isa::widest().run(Tangents(&mut found));
        let error = |(x, found): (&f32, &f32)| {
            let exact = (f64::from(*x) * std::f64::consts::FRAC_PI_2).tan();
            (f64::from(*found) - exact).abs() / exact.max(1.0)
        };
        let worst = all.iter().zip(&found).map(error).fold(0.0, f64::max);
        assert!(worst < 2e-5, "{worst}");
    }

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
