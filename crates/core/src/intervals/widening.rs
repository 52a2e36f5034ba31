//! Bounds that are wider where a series is restless: what is mostly calm and sometimes not errs most where it has just moved.

use super::quantile;

/// Differences of which a restlessness is the mean.
pub const RESTLESS_STEPS: usize = 24;
/// How much restlessness may widen that is tried: at the last, a series that moves by a hundredth of its spread a step has
/// bounds twice as wide as one that stands still.
const WIDENINGS: [f32; 5] = [0.0, 1.0, 5.0, 25.0, 100.0];
/// The levels by whose bounds a widening is judged.
const JUDGED: [f64; 2] = [0.8, 0.95];
/// A widening is only taken where its interval score is below this part of that without: less is chance.
const WORTH: f64 = 0.97;
/// Origins that a widening is judged on, at most; more are thinned out evenly.
const JUDGED_MOST: usize = 4096;
/// And at least: fewer do not reach into the tails.
const JUDGED_LEAST: usize = 100;

/// As restless as a series can be for long, which goes from one side of its mean to the other at every step: by two spreads.
/// What is said to move further has had a reading gone mad among the last ones, or its spread is not that of these days.
const RESTLESS_MOST: f64 = 2.0;

/// How much a series has moved of late: the mean way from one value to the next, in spreads, [`RESTLESS_MOST`] at most.
pub fn restlessness(values: &[f64], spread: f64) -> f32 {
    let values = &values[values.len().saturating_sub(RESTLESS_STEPS + 1)..];
    // Four sums side by side: they do not wait for one another.
    let mut ways = [0.0; 4];
    for (i, pair) in values.windows(2).enumerate() {
        ways[i % 4] += (pair[1] - pair[0]).abs();
    }
    let ways: f64 = ways.iter().sum();
    let mean = ways / values.len().saturating_sub(1).max(1) as f64;
    if spread > 0.0 { (mean / spread).min(RESTLESS_MOST) as f32 } else { 0.0 }
}

/// By how much bounds are wider where a series is restless: 1 + β r.
pub fn widening(beta: f32, restlessness: f32) -> f32 {
    1.0 + beta * restlessness
}

/// The β with the least interval score (Gneiting & Raftery 2007) when the quantiles of one half of the errors, each over its
/// widening, bound the other half. `errors` are those of one step of the horizon with the restlessness at their origins: in
/// the order of time, or of all series one after the other, so that half of the series bound the others. 0 unless it is worth it.
pub fn choose_widening(errors: &[(f32, f32)]) -> f32 {
    let every = errors.len().div_ceil(JUDGED_MOST).max(1);
    let errors: Vec<(f32, f32)> = errors.iter().step_by(every).copied().collect();
    if errors.len() < JUDGED_LEAST {
        return 0.0;
    }
    let (early, late) = errors.split_at(errors.len() / 2);
    let score = |beta: f32| score(beta, early, late) + score(beta, late, early);
    let scores = WIDENINGS.map(score);
    let best = (0..WIDENINGS.len()).min_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or(0);
    if scores[best] < WORTH * scores[0] { WIDENINGS[best] } else { 0.0 }
}

/// The interval scores of `held` when the quantiles of `known` bound it, of all levels that are judged.
fn score(beta: f32, known: &[(f32, f32)], held: &[(f32, f32)]) -> f64 {
    let mut sorted: Vec<f32> = known.iter().map(|(error, r)| error / widening(beta, *r)).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let of_level = |level: f64| -> f64 {
        let tail = (1.0 - level) / 2.0;
        let [lower, upper] = [tail, 1.0 - tail].map(|p| quantile(&sorted, p).unwrap_or(0.0));
        let of_one = |(error, r): &(f32, f32)| {
            let [lower, upper] = [lower, upper].map(|bound| f64::from(bound * widening(beta, *r)));
            let beyond = (lower - f64::from(*error)).max(f64::from(*error) - upper).max(0.0);
            // (u - l) + 2/α times what lies beyond, where α = 1 - level
            upper - lower + 2.0 / (1.0 - level) * beyond
        };
        held.iter().map(of_one).sum()
    };
    JUDGED.into_iter().map(of_level).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_errs_more_where_it_is_restless_is_bounded_wider_there() {
        let errors = |grows: bool| -> Vec<(f32, f32)> {
            let noise = |i: usize| ((i * 7919) % 2000) as f32 / 1000.0 - 1.0;
            let restless = |i: usize| if (i / 50).is_multiple_of(4) { 0.4 } else { 0.01 };
            let size = |i: usize| if grows { 0.05 + restless(i) } else { 1.0 };
            (0..2000).map(|i| (noise(i) * size(i), restless(i))).collect()
        };
        assert_eq!(choose_widening(&errors(false)), 0.0);
        assert!(choose_widening(&errors(true)) >= 5.0);
        assert_eq!(restlessness(&[5.0, 1.0, 3.0, 3.0], 2.0), 1.0);
        assert_eq!(restlessness(&[5.0], 2.0), 0.0);
        assert_eq!(restlessness(&[5.0, f64::MAX, 5.0], 2.0), 2.0);
    }
}
