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

/// How fast what is followed. Chosen on the parts of the samples that models are trained and validated on, and on sets that
/// are in no bar.
struct Gains {
    /// c (of a bound that is missed as often as β₀) and h₀. What is learned comes h steps late, and errors so far ahead come
    /// in runs of h: to follow them faster is to follow chance.
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
    step: 0.015,
    slower: 16.0,
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
/// How large a score is at most: an error of a million units over the least ρ.
const SCORES_MOST: f32 = 1e10;
/// How far a bound is moved at most, in units: far beyond any error, and far within what f32 has.
const MOVED_MOST: f32 = 1e20;
/// The part of the tolerance at which the guard stays: tan(π/2 · 0.95) is 12.7.
const SATURATION: f32 = 0.95;
/// β₀: that of the bounds of 80 %.
const DUE: f32 = 0.1;
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

/// Whether a tracker could have these numbers, all of them finite: with others, what it says may not be.
pub(super) fn is_sound(numbers: &[f32]) -> bool {
    if numbers.is_empty() {
        return true;
    }
    let is_scale = |scale: &f32| (1.0 / SCALE_MOST..=SCALE_MOST).contains(scale);
    let is_range =
        (-SCORES_MOST..=0.0).contains(&numbers[LOW]) && (0.0..=SCORES_MOST).contains(&numbers[HIGH]);
    let is_step = (0.0..=2.0 * SCORES_MOST).contains(&numbers[STEP]);
    let is_bound = |bound: &[f32]| {
        // As |miss - β| < 1, |D| < w.
        let most = [MOVED_MOST, OWED_MOST, GAINS.window];
        bound.iter().zip(most).all(|(number, most)| number.abs() <= most)
    };
    let mut bounds = numbers[BOUNDS..].chunks_exact(OF_BOUND);
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
fn tan_of_right_angles(x: f32) -> f32 {
    /// Σ 1/k² over the odd k from 3 on, Σ 1/k⁴ and Σ 1/k⁶.
    const REST: [f32; 3] = [0.233_700_55, 0.014_678_032, 0.001_447_076_6];
    let square = x * x;
    let rest = REST[0] + square * (REST[1] + square * REST[2]);
    std::f32::consts::FRAC_2_PI * 2.0 * x * ((1.0 - square).recip() + rest)
}

/// What is known of each bound: how often it is to be missed, and what its step is multiplied by for that.
#[derive(Clone, Debug)]
pub(super) struct Dues {
    due: Vec<f32>,
    hurry: Vec<f32>,
}

impl Dues {
    pub(super) fn of(probabilities: &[f64]) -> Self {
        let due: Vec<f32> = probabilities.iter().map(|p| p.min(1.0 - p) as f32).collect();
        // √(β₀/β)
        let hurry = due.iter().map(|due| (DUE / due).sqrt()).collect();
        Self { due, hurry }
    }
}

/// Bounds that are computed side by side: four, as two levels have.
const SIDE_BY_SIDE: usize = 4;

fn side_by_side(numbers: &[f32]) -> [f32; SIDE_BY_SIDE] {
    let mut all = [0.0; SIDE_BY_SIDE];
    all.iter_mut().zip(numbers).for_each(|(to, number)| *to = *number);
    all
}

/// Some bounds, each of their numbers together.
#[derive(Default)]
struct Block {
    integral: [f32; SIDE_BY_SIDE],
    owed: [f32; SIDE_BY_SIDE],
    late: [f32; SIDE_BY_SIDE],
}

impl Block {
    fn read(numbers: &[f32]) -> Self {
        let mut block = Self::default();
        for (place, bound) in numbers.chunks_exact(OF_BOUND).enumerate() {
            [block.integral[place], block.owed[place], block.late[place]] = [bound[0], bound[1], bound[2]];
        }
        block
    }

    fn write(&self, numbers: &mut [f32]) {
        for (place, bound) in numbers.chunks_exact_mut(OF_BOUND).enumerate() {
            bound.copy_from_slice(&[self.integral[place], self.owed[place], self.late[place]]);
        }
    }
}

/// What a tracker adds to the model's bounds now: ρ, then what each bound is moved by, outward.
pub(super) fn read(numbers: &[f32], rates: &Rates, dues: &Dues, out: &mut [f32]) {
    out[0] = scale(numbers, rates);
    let blocks = numbers[BOUNDS..].chunks(OF_BOUND * SIDE_BY_SIDE).zip(dues.hurry.chunks(SIDE_BY_SIDE));
    for (out, (block, hurry)) in out[1..].chunks_mut(SIDE_BY_SIDE).zip(blocks) {
        let Block { integral, owed, late } = Block::read(block);
        let (hurry, mut moves) = (side_by_side(hurry), [0.0; SIDE_BY_SIDE]);
        for place in 0..SIDE_BY_SIDE {
            // Too few misses are no reason to hurry.
            let part = (late[place] * rates.tolerated).clamp(0.0, SATURATION);
            let step = hurry[place] * numbers[STEP];
            moves[place] = integral[place] + step * (owed[place] + rates.guard * tan_of_right_angles(part));
        }
        match out.first_chunk_mut() {
            Some(out) => *out = moves,
            None => out.copy_from_slice(&moves[..out.len()]),
        }
    }
}

/// Takes what came of a forecast: its error in units, the mean size that the model knows of such errors, and for each bound
/// whether what came lies beyond it (`None` on it: that does not say on which side it is to lie).
pub(super) fn update(
    numbers: &mut [f32],
    rates: &Rates,
    (error, mean): (f32, f32),
    dues: &Dues,
    beyond: impl Fn(usize) -> Option<bool>,
) {
    let most = (SCORE_MOST * mean).min(MOVED_MOST);
    let score = (error / scale(numbers, rates)).clamp(-most, most);
    numbers[HIGH] = score.max(numbers[HIGH] * rates.range);
    numbers[LOW] = score.min(numbers[LOW] * rates.range);
    let step = rates.step * (numbers[HIGH] - numbers[LOW]);
    numbers[STEP] = step;
    let blocks = numbers[BOUNDS..].chunks_mut(OF_BOUND * SIDE_BY_SIDE);
    let dues = dues.due.chunks(SIDE_BY_SIDE).zip(dues.hurry.chunks(SIDE_BY_SIDE));
    for (number, (numbers, (due, hurry))) in blocks.zip(dues).enumerate() {
        let (before, hurry) = (Block::read(numbers), side_by_side(hurry));
        let (mut missed, mut told) = ([0.0; SIDE_BY_SIDE], [false; SIDE_BY_SIDE]);
        for (place, due) in due.iter().enumerate() {
            let beyond = beyond(number * SIDE_BY_SIDE + place);
            told[place] = beyond.is_some();
            missed[place] = f32::from(u8::from(beyond == Some(true))) - due;
        }
        let mut after = Block::default();
        for place in 0..SIDE_BY_SIDE {
            let [q, e, d] = [before.integral[place], before.owed[place], before.late[place]];
            let owed = (rates.owed * e + missed[place]).clamp(-OWED_MOST, OWED_MOST);
            let late = rates.late * d + missed[place];
            let integral = (q + hurry[place] * step * owed * rates.integral).clamp(-most, most);
            after.owed[place] = if told[place] { owed } else { e };
            after.late[place] = if told[place] { late } else { d };
            after.integral[place] = if told[place] { integral } else { q };
        }
        after.write(numbers);
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

    const P: [f64; 2] = [0.1, 0.9];

    #[test]
    fn the_tangent_is_that_of_right_angles() {
        let all = (0..=95_000).map(|i| i as f32 / 1e5);
        let error = |x: f32| {
            let exact = (f64::from(x) * std::f64::consts::FRAC_PI_2).tan();
            (f64::from(tan_of_right_angles(x)) - exact).abs() / exact.max(1.0)
        };
        let worst = all.map(error).fold(0.0, f64::max);
        assert!(worst < 2e-5, "{worst}");
    }

    /// Share of misses of each bound in the last half, when `errors` come of forecasts whose bounds the model has at ±1,
    /// learned of so many steps later.
    fn misses<const N: usize>(errors: &[f32], horizon: usize, probabilities: [f64; N]) -> [f32; N] {
        let (rates, dues) = (Rates::new(horizon), Dues::of(&probabilities));
        let mut tracker = vec![0.0; numbers(N)];
        begin(&mut tracker);
        let (mut issued, mut misses) = (Vec::<[f32; N]>::new(), [0.0; N]);
        let mut out = vec![0.0; 1 + N];
        for t in 0..errors.len() {
            read(&tracker, &rates, &dues, &mut out);
            let side = |bound: usize| if bound < N / 2 { -1.0 } else { 1.0 };
            issued.push(std::array::from_fn(|bound| side(bound) * out[0] * (1.0 + out[1 + bound])));
            let beyond = |at: usize, bound: usize| side(bound) * (errors[at] - issued[at][bound]) > 0.0;
            if t >= errors.len() / 2 {
                (0..N).for_each(|bound| misses[bound] += f32::from(u8::from(beyond(t, bound))));
            }
            if let Some(at) = (t + 1).checked_sub(horizon) {
                update(&mut tracker, &rates, (errors[at], 0.8), &dues, |bound| Some(beyond(at, bound)));
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
        update(&mut tracker, &rates, (1.0, 1.0), &Dues::of(&P), |side| (side == 0).then_some(false));
        assert!(
            tracker[BOUNDS + 1] < 0.0 && tracker[BOUNDS + OF_BOUND..].iter().all(|number| *number == 0.0)
        );
    }
}
