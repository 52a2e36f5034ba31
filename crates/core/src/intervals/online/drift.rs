//! Whether a series' errors have left their own history: the test of Page and Hinkley.
//!
//! Let x be the size of an error over the mean size of those before it. The test (Page, "Continuous inspection schemes", 1954;
//! Hinkley, "Inference about the change-point from cumulative sum tests", 1971) adds up how far x lies above what is usual,
//!
//! ```text
//! g ← max(0, g + min(x, X) - 1 - δ)
//! ```
//!
//! and says drift when g exceeds λ. δ is what an error may grow by and be no drift; X keeps one reading gone mad from being
//! one; g stops at 2 λ, so that a drift that is over is soon seen to be. The mean goes on, slowly: after some hundreds of
//! forecasts, what was new is the series' history; after one or two thousand, where errors have grown a hundredfold. Errors of
//! exactly 0 alone are none: the first other one begins it. A drift is told until g has fallen to half of λ, so that it does
//! not flicker.

/// δ: errors half as large again for long are no drift; twice as large are one after λ / (1 - δ) forecasts.
const ALLOWED: f32 = 0.5;
/// λ, in mean errors. Independent errors of a normal distribution go over it by chance about once in 10^20 forecasts, so
/// that what is left for it to stand are errors that come in clusters: as storms do, of a day or two on an hourly grid.
const LIMIT: f32 = 50.0;
/// X: so many times the usual, no one error is worth more than a tenth of λ.
const MOST: f32 = 5.0;
/// Forecasts that the mean is of: a month of hours.
const HISTORY: f32 = 720.0;
/// And before which nothing is said: the mean of fewer is chance.
const LEAST: f32 = 100.0;

const MEAN: usize = 0;
const SUM: usize = 1;
const COUNT: usize = 2;
const DRIFTS: usize = 3;
pub(super) const NUMBERS: usize = 4;

/// The test of one series by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drift([f32; NUMBERS]);

impl Drift {
    /// Takes the size of the next error.
    pub fn add(&mut self, size: f32) {
        update(&mut self.0, size);
    }

    /// Whether the errors have left their own history.
    pub fn is_on(&self) -> bool {
        drifts(&self.0)
    }
}

/// Takes the size of an error.
pub(super) fn update(numbers: &mut [f32], size: f32) {
    let mean = numbers[MEAN];
    if numbers[COUNT] >= LEAST && mean > 0.0 {
        let beyond = (size / mean).min(MOST) - 1.0 - ALLOWED;
        numbers[SUM] = (numbers[SUM] + beyond).clamp(0.0, 2.0 * LIMIT);
        let limit = if drifts(numbers) { LIMIT / 2.0 } else { LIMIT };
        numbers[DRIFTS] = f32::from(u8::from(numbers[SUM] > limit));
    }
    numbers[COUNT] = if mean > 0.0 { (numbers[COUNT] + 1.0).min(HISTORY) } else { 1.0 };
    // One error can move the mean no farther than it can move the sum.
    let size = if numbers[COUNT] > LEAST { size.min(MOST * mean) } else { size };
    numbers[MEAN] += (size - mean) / numbers[COUNT];
}

/// Whether a test could have these numbers, all of them finite.
pub(super) fn is_sound(numbers: &[f32]) -> bool {
    numbers.is_empty()
        || numbers[MEAN] >= 0.0
            && (0.0..=2.0 * LIMIT).contains(&numbers[SUM])
            && (0.0..=HISTORY).contains(&numbers[COUNT])
            && [0.0, 1.0].contains(&numbers[DRIFTS])
}

pub(super) fn drifts(numbers: &[f32]) -> bool {
    numbers[DRIFTS] > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of errors of a normal distribution, about, in clusters: of a mean of 0.8.
    fn sizes(count: usize) -> impl Iterator<Item = f32> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        (0..count).map(move |_| ((0..12).map(|_| uniform()).sum::<f32>() - 6.0).abs())
    }

    fn first_drift(sizes: impl Iterator<Item = f32>) -> Option<usize> {
        let mut drift = Drift::default();
        sizes.into_iter().position(|size| {
            drift.add(size);
            drift.is_on()
        })
    }

    #[test]
    fn errors_as_ever_are_no_drift() {
        assert_eq!(first_drift(sizes(100_000)), None);
        let daily = sizes(50_000).enumerate().map(|(i, size)| if i % 24 < 12 { 0.2 * size } else { size });
        assert_eq!(first_drift(daily), None);
        let mad = sizes(10_000).enumerate().map(|(i, size)| if i % 97 == 0 { 1e6 } else { size });
        assert_eq!(first_drift(mad), None);
    }

    #[test]
    fn errors_of_nothing_are_no_history() {
        assert_eq!(first_drift(std::iter::repeat_n(0.0, 500).chain(sizes(2000))), None);
    }

    #[test]
    fn errors_that_double_are_a_drift_soon() {
        let doubled = |from: usize| {
            let grown = move |(i, size)| if i < from { size } else { 2.0 * size };
            first_drift(sizes(from + 1000).enumerate().map(grown)).map(|at| at - from)
        };
        assert!(doubled(2000).is_some_and(|late| (30..250).contains(&late)), "{:?}", doubled(2000));
        let tenfold = |(i, size): (usize, f32)| if i < 500 { size } else { 10.0 * size };
        let late = first_drift(sizes(600).enumerate().map(tenfold)).map(|at| at - 500);
        assert!(late.is_some_and(|late| late < 30), "{late:?}");
    }

    #[test]
    fn what_was_a_drift_becomes_history() {
        let mut numbers = [0.0; NUMBERS];
        let all = sizes(6000).enumerate().map(|(i, size)| if i < 2000 { size } else { 3.0 * size });
        let mut told = Vec::new();
        for size in all {
            update(&mut numbers, size);
            told.push(drifts(&numbers));
        }
        assert!(told[2200] && !told[5999]);
        assert!(told.windows(2).filter(|pair| pair[0] != pair[1]).count() <= 2, "it flickers");
    }
}
