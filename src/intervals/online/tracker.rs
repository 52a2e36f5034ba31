//! The bounds of one step of the horizon of one series, corrected by what came.
//!
//! Let e be the error of a forecast in the unit that its interval had, m the mean size of such errors on the validation part,
//! x = e / ρ the error over a running scale, and d the distance of a bound from the forecast that the model knows. The bound
//! issued for probability p is
//!
//! ```text
//! forecast ± ρ (d + q + η (E + G / (1 + h/h₀)² · tan(π/2 · D / (w t))))
//!
//! η = c / (1 + h/h₀) · (max x - min x)            the step is a part of the trailing range of scores
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

/// How fast what is followed. Chosen on the parts of the samples that models are trained and validated on, and on sets that
/// are in no bar.
struct Gains {
    /// c and h₀. What is learned comes h steps late, and errors so far ahead come in runs of h: to follow them faster is to
    /// follow chance.
    step: f32,
    slower: f32,
    /// W and T, in updates.
    memory: f32,
    integral: f32,
    /// w, t and G.
    window: f32,
    tolerance: f32,
    guard: f32,
    /// Updates that the fast and the slow scale are means of, about, and a.
    fast: f32,
    slow: f32,
    share: f32,
    /// Updates after which a score has left the trailing range by about two thirds.
    range: f32,
}

const GAINS: Gains = Gains {
    step: 0.01,
    slower: 24.0,
    memory: 2000.0,
    integral: 2000.0,
    window: 400.0,
    tolerance: 0.07,
    guard: 30.0,
    fast: 100.0,
    slow: 2000.0,
    share: 0.5,
    range: 500.0,
};

/// What the gains come to `h` steps ahead: what is only multiplied for every forecast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    /// c / (1 + h/h₀), 1 / (T (1 + h/h₀)) and G / (1 + h/h₀)²
    step: f32,
    integral: f32,
    guard: f32,
    /// 1 - 1/W, 1 - 1/w and 1 / (w t)
    owed: f32,
    late: f32,
    tolerated: f32,
    /// 1/τ of the fast and of the slow scale, and a.
    scales: [f32; 2],
    share: f32,
    /// What is left of the trailing range.
    range: f32,
}

impl Rates {
    pub(super) fn new(horizon: usize) -> Self {
        let (gains, slowed) = (&GAINS, 1.0 + horizon as f32 / GAINS.slower);
        Self {
            step: gains.step / slowed,
            integral: 1.0 / (gains.integral * slowed),
            guard: gains.guard / (slowed * slowed),
            owed: 1.0 - 1.0 / gains.memory,
            late: 1.0 - 1.0 / gains.window,
            tolerated: 1.0 / (gains.window * gains.tolerance),
            scales: [1.0 / gains.fast, 1.0 / gains.slow],
            share: gains.share,
            range: 1.0 - 1.0 / gains.range,
        }
    }
}

/// An error counts for no more than so many running scales in ρ, so that one reading gone mad widens nothing for long.
const SIZE_MOST: f32 = 5.0;
/// Scores count for no more than so many of m, either way: beyond, it is for ρ to follow.
const SCORE_MOST: f32 = 24.0;
/// How far ρ may lie from 1, either way: beyond, the readings are others than the model has ever seen.
const SCALE_MOST: f32 = 1e4;
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
/// Of a bound: q, E and D.
const OF_BOUND: usize = 3;

/// Numbers of a tracker of so many bounds.
pub(super) fn numbers(bounds: usize) -> usize {
    if bounds == 0 { 0 } else { BOUNDS + OF_BOUND * bounds }
}

/// Writes that of a series that nothing is known of: the model's bounds as they are.
pub(super) fn begin(numbers: &mut [f32]) {
    numbers.fill(0.0);
    numbers.iter_mut().take(LOW).for_each(|scale| *scale = 1.0);
}

/// Whether a tracker could have these numbers, all of them finite.
pub(super) fn is_sound(numbers: &[f32]) -> bool {
    let is_scale = |scale: &f32| (1.0 / SCALE_MOST..=SCALE_MOST).contains(scale);
    let is_range = |numbers: &[f32]| numbers[LOW] <= 0.0 && numbers[HIGH] >= 0.0;
    numbers.iter().take(LOW).all(is_scale) && (numbers.is_empty() || is_range(numbers))
}

/// ρ
fn scale(numbers: &[f32], rates: &Rates) -> f32 {
    rates.share * numbers[FAST] + (1.0 - rates.share) * numbers[SLOW]
}

/// tan(π/2 x) for 0 ≤ x ≤ [`SATURATION`], within 1e-5 of itself. By its partial fractions (DLMF 4.22.3),
///
/// ```text
/// tan(π/2 x) = 4/π x (1/(1 - x²) + 1/(9 - x²) + 1/(25 - x²) + …)
/// ```
///
/// of which all but the first are together the beginning of a power series in x², since they vary little. The same bits
/// everywhere, which no library's tangent is.
fn tan_of_right_angles(x: f32) -> f32 {
    /// Σ 1/k² over the odd k from 3 on, Σ 1/k⁴, Σ 1/k⁶, Σ 1/k⁸ and Σ 1/k¹⁰.
    const REST: [f32; 5] =
        [0.233_700_55, 0.014_678_032, 0.001_447_076_6, 0.000_155_179_03, 0.000_017_041_363];
    let square = x * x;
    let rest = REST.iter().rev().fold(0.0, |sum, of| sum * square + of);
    std::f32::consts::FRAC_2_PI * 2.0 * x * ((1.0 - square).recip() + rest)
}

/// What a tracker adds to the model's bounds now: ρ, then what each bound is moved by, outward.
pub(super) fn read(numbers: &[f32], rates: &Rates, out: &mut [f32]) {
    out[0] = scale(numbers, rates);
    for (out, bound) in out[1..].iter_mut().zip(numbers[BOUNDS..].chunks_exact(OF_BOUND)) {
        // Too few misses are no reason to hurry.
        let part = (bound[2] * rates.tolerated).clamp(0.0, SATURATION);
        *out = bound[0] + numbers[STEP] * (bound[1] + rates.guard * tan_of_right_angles(part));
    }
}

/// Takes what came of a forecast: its error in units, the mean size that the model knows of such errors, and for each bound
/// how often it is to be missed (β) and whether what came lies beyond it (`None` on it: that does not say on which side it is
/// to lie).
pub(super) fn update(
    numbers: &mut [f32],
    rates: &Rates,
    (error, mean): (f32, f32),
    due: &[f32],
    beyond: impl Fn(usize) -> Option<bool>,
) {
    let most = SCORE_MOST * mean;
    let score = (error / scale(numbers, rates)).clamp(-most, most);
    numbers[HIGH] = score.max(numbers[HIGH] * rates.range);
    numbers[LOW] = score.min(numbers[LOW] * rates.range);
    let step = rates.step * (numbers[HIGH] - numbers[LOW]);
    numbers[STEP] = step;
    for (number, (bound, due)) in numbers[BOUNDS..].chunks_exact_mut(OF_BOUND).zip(due).enumerate() {
        let Some(beyond) = beyond(number) else { continue };
        let missed = f32::from(u8::from(beyond)) - due;
        bound[1] = (rates.owed * bound[1] + missed).clamp(-OWED_MOST, OWED_MOST);
        bound[2] = rates.late * bound[2] + missed;
        bound[0] = (bound[0] + step * bound[1] * rates.integral).clamp(-most, most);
    }
    if mean > 0.0 {
        for (mean_size, rate) in [FAST, SLOW].into_iter().zip(rates.scales) {
            let before = numbers[mean_size];
            let size = (error.abs() / (mean * before)).min(SIZE_MOST);
            numbers[mean_size] = (before * (1.0 + (size - 1.0) * rate)).clamp(1.0 / SCALE_MOST, SCALE_MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: [f32; 2] = [0.1, 0.1];

    #[test]
    fn the_tangent_is_that_of_right_angles() {
        let all = (0..=95_000).map(|i| i as f32 / 1e5);
        let error = |x: f32| {
            let exact = (f64::from(x) * std::f64::consts::FRAC_PI_2).tan();
            (f64::from(tan_of_right_angles(x)) - exact).abs() / exact.max(1.0)
        };
        let worst = all.map(error).fold(0.0, f64::max);
        assert!(worst < 1e-5, "{worst}");
    }

    /// Shares of misses below and above in the last half, when `errors` come of forecasts whose bounds the model has at ±1,
    /// learned of so many steps later.
    fn misses(errors: &[f32], horizon: usize) -> [f32; 2] {
        let rates = Rates::new(horizon);
        let mut tracker = vec![0.0; numbers(2)];
        begin(&mut tracker);
        let (mut issued, mut misses) = (Vec::new(), [0.0; 2]);
        for t in 0..errors.len() {
            let mut out = [0.0; 3];
            read(&tracker, &rates, &mut out);
            issued.push([-out[0] * (1.0 + out[1]), out[0] * (1.0 + out[2])]);
            let beyond = |at: usize, side: usize| match side {
                0 => errors[at] < issued[at][0],
                _ => errors[at] > issued[at][1],
            };
            if t >= errors.len() / 2 {
                (0..2).for_each(|side| misses[side] += f32::from(u8::from(beyond(t, side))));
            }
            if let Some(at) = (t + 1).checked_sub(horizon) {
                update(&mut tracker, &rates, (errors[at], 0.8), &DUE, |side| Some(beyond(at, side)));
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
                let [below, above] = misses(&errors, horizon);
                assert!(
                    (below - 0.1).abs() < 0.01 && (above - 0.1).abs() < 0.01,
                    "{horizon}: {below} {above}"
                );
            }
        }
    }

    #[test]
    fn one_reading_gone_mad_changes_little() {
        let mut errors = noise(4000);
        errors[2000] = 1e6;
        let [below, above] = misses(&errors, 1);
        assert!((below - 0.1).abs() < 0.02 && (above - 0.1).abs() < 0.02, "{below} {above}");
    }

    #[test]
    fn what_lies_on_a_bound_moves_it_neither_way() {
        let mut tracker = vec![0.0; numbers(2)];
        begin(&mut tracker);
        let rates = Rates::new(1);
        update(&mut tracker, &rates, (1.0, 1.0), &DUE, |side| (side == 0).then_some(false));
        assert!(
            tracker[BOUNDS + 1] < 0.0 && tracker[BOUNDS + OF_BOUND..].iter().all(|number| *number == 0.0)
        );
    }
}
