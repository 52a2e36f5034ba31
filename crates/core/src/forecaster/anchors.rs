//! The simple forecasts that are mixed with the memory's, and the bounds it is held to. All are ways from the last value, in
//! units of the spread.

use crate::model::{EXPERT_COUNT, Expert, MEDIAN_STEPS, Ensemble};
use crate::series::{RunningStats, Scale};

/// How far beyond what a series has shown so far a forecast may lie, in parts of what it has shown.
const MARGIN: f64 = 0.1;

/// What stands beside the memory's forecast of one origin.
#[derive(Clone, Debug, Default)]
pub struct ExpertForecasts {
    low: f32,
    high: f32,
    medians: [f32; 2],
    /// For each step of the mixed part of the horizon; empty where the past does not reach back.
    seasonal: Vec<f32>,
}

impl ExpertForecasts {
    /// `past` ends with the last value and reaches a season back if it can; `scale` has the last value as its center.
    pub fn new(past: &[f64], running: &RunningStats, scale: Scale, mix: Option<&Ensemble>) -> Self {
        let range = running.max - running.min;
        let bounds =
            [running.min - MARGIN * range, running.max + MARGIN * range].map(|bound| scale.apply(bound));
        let [low, high] = [bounds[0].min(0.0), bounds[1].max(0.0)];
        let Some(mix) = mix else { return Self { low, high, ..Self::default() } };
        let median = |count: usize| scale.apply(median(&past[past.len().saturating_sub(count)..]));
        let mixed = mix.spec.bucket_ends.last().copied().unwrap_or(0);
        // ŷ(t + h) = y(t + h - s), for h up to s
        let before = mix.spec.season.and_then(|season| past.len().checked_sub(season));
        let seasonal = before.map_or(Vec::new(), |first| {
            past[first..].iter().take(mixed).map(|value| scale.apply(*value)).collect()
        });
        Self { low, high, medians: [median(6), median(MEDIAN_STEPS)], seasonal }
    }

    /// What `expert` says of step `i` of the horizon, where the memory says `memory`.
    pub fn says(&self, expert: Expert, i: usize, memory: f32) -> f32 {
        match expert {
            Expert::Recurrence => memory,
            Expert::Last => 0.0,
            Expert::Median6 => self.medians[0],
            Expert::Median24 => self.medians[1],
            Expert::Seasonal => self.seasonal.get(i).copied().unwrap_or(memory),
        }
    }

    /// The memory's forecast, held within what the series has shown.
    pub fn hold(&self, memory: &mut [f32]) {
        memory.iter_mut().for_each(|said| *said = said.clamp(self.low, self.high));
    }

    /// What all experts say, mixed by the weights of series `own`, in place of the memory's forecast.
    pub fn mix(&self, mix: &Ensemble, own: Option<usize>, said: &mut [f32]) {
        let weights = mix.weights_of(own).chunks_exact(EXPERT_COUNT);
        let mut first = 0;
        for (end, weights) in mix.spec.bucket_ends.iter().zip(weights) {
            for (i, said) in said.iter_mut().enumerate().take(*end).skip(first) {
                let memory = *said;
                *said = Expert::ALL.iter().zip(weights).map(|(e, w)| w * self.says(*e, i, memory)).sum();
            }
            first = *end;
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = [0.0; MEDIAN_STEPS];
    let sorted = &mut sorted[..values.len()];
    sorted.copy_from_slice(values);
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => sorted[count / 2 - 1] + (sorted[count / 2] - sorted[count / 2 - 1]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EnsembleSpec;

    fn anchors(past: &[f64]) -> (ExpertForecasts, Ensemble) {
        let part = EnsembleSpec { bucket_ends: vec![1, 3], season: Some(4) };
        let weights = vec![
            0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.75, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
            1.0,
        ];
        let mix = Ensemble::new(part, weights);
        let mut running = RunningStats::default();
        past.iter().for_each(|value| running.add(*value));
        let scale = Scale { center: *past.last().unwrap(), spread: 2.0 };
        (ExpertForecasts::new(past, &running, scale, Some(&mix)), mix)
    }

    #[test]
    fn a_series_has_its_weights_and_others_theirs() {
        let (anchors, mix) = anchors(&[1.0, 9.0, 3.0, 5.0, 2.0, 4.0]);
        let mut own = [8.0f32; 5];
        anchors.mix(&mix, Some(0), &mut own);
        // The median of six is 3.5; a season before came 3, 5, 2.
        let half = |value: f64| ((value - 4.0) / 2.0) as f32;
        let second = |seasonal: f64| 0.25 * half(3.5) + 0.75 * half(seasonal);
        assert_eq!(own, [4.0, second(5.0), second(2.0), 8.0, 8.0]);
        let mut other = [8.0f32; 5];
        anchors.mix(&mix, None, &mut other);
        assert_eq!(other, [8.0, half(5.0), half(2.0), 8.0, 8.0]);
    }

    #[test]
    fn what_is_beyond_all_that_was_seen_is_held_back() {
        let (anchors, _) = anchors(&[0.0, 10.0, 4.0]);
        let mut said = [9.0, -9.0, 1.0];
        anchors.hold(&mut said);
        assert_eq!(said, [3.5, -2.5, 1.0]);
    }

    #[test]
    fn where_the_past_is_shorter_than_the_season_the_memory_stands_in() {
        let (anchors, mix) = anchors(&[1.0, 2.0]);
        let mut said = [8.0f32, 6.0];
        anchors.mix(&mix, None, &mut said);
        assert_eq!(said, [8.0, 6.0]);
    }
}
