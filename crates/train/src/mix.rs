//! The weights of the mix: by series and part of the horizon those with the least absolute error on forecasts of times that
//! the readout was not fitted on. Each block of the training part is forecast by the fit without it, the validation part by
//! the fit on all blocks.

use super::regression::{BLOCKS, block};
use super::replay::{Said, replay};
use super::walk::Lane;
use super::windows::{Origin, Split, Windows};
use super::{History, shards};
use tidecast_core::forecaster::Anchors;
use tidecast_core::model::{EXPERTS, Expert, Mix, MixPart, Model};

/// Errors that weigh in for a series, block and part of the horizon, about; more are thinned out evenly.
const ERRORS: usize = 4000;
/// Errors that weigh in of all series together, for those that have no weights of their own.
const ERRORS_OF_ALL: usize = 100_000;
/// How often an error of the validation part counts: it is the nearest to what comes.
const VALIDATION_COUNTS: f64 = 3.0;
/// A mix is only taken where its error is below this part of the best single forecast's: what is gained by less is chance.
const WORTH: f64 = 0.99;
/// Mean errors below this part of a spread say nothing about which forecast is better.
const LEAST_ERROR: f64 = 1e-4;
/// Steps of the descent.
const STEPS: usize = 150;

/// Forecasts of all experts beside what came.
#[derive(Clone, Default)]
struct Errors {
    /// What each expert says, and what came.
    said: Vec<[f32; EXPERTS]>,
    came: Vec<f32>,
    counts: Vec<f32>,
}

impl Errors {
    fn push(&mut self, said: [f32; EXPERTS], came: f32, counts: f64) {
        self.said.push(said);
        self.came.push(came);
        self.counts.push(counts as f32);
    }

    /// One of every `every`.
    fn thinned(&self, every: usize) -> Self {
        let mut kept = Self::default();
        for i in (0..self.came.len()).step_by(every.max(1)) {
            kept.push(self.said[i], self.came[i], f64::from(self.counts[i]));
        }
        kept
    }

    /// Lets all errors together count `counts` times the mean error of the best single forecast: a restless time says no more
    /// about the weights than a calm one.
    fn level(mut self, counts: f64) -> Self {
        let least = (0..EXPERTS).map(|expert| self.loss(&single(expert))).fold(f64::INFINITY, f64::min);
        let number = self.came.len() as f64;
        let level = (counts * number / least.max(LEAST_ERROR * number)) as f32;
        self.counts.iter_mut().for_each(|count| *count *= level);
        self
    }

    fn append(&mut self, other: &Self) {
        self.said.extend(&other.said);
        self.came.extend(&other.came);
        self.counts.extend(&other.counts);
    }

    fn loss(&self, weights: &[f64; EXPERTS]) -> f64 {
        let error = |i: usize| (dot(weights, &self.said[i]) - f64::from(self.came[i])).abs();
        (0..self.came.len()).map(|i| f64::from(self.counts[i]) * error(i)).sum()
    }

    /// Weights with the least sum of absolute errors, by exponentiated gradient (Kivinen and Warmuth 1997):
    /// w ← w exp(-η g) / Σ w exp(-η g), where g is the slope in units of the best single expert's error.
    fn weights(&self) -> [f64; EXPERTS] {
        let losses: [f64; EXPERTS] = std::array::from_fn(|expert| self.loss(&single(expert)));
        let best = (0..EXPERTS).min_by(|a, b| losses[*a].total_cmp(&losses[*b])).expect("there are experts");
        if losses[best] <= 0.0 {
            return single(best);
        }
        let mut weights = [1.0 / EXPERTS as f64; EXPERTS];
        let (mut least, mut found) = (f64::INFINITY, weights);
        for step in 0..STEPS {
            let (mut loss, mut slope) = (0.0, [0.0; EXPERTS]);
            for i in 0..self.came.len() {
                let (said, counts) = (&self.said[i], f64::from(self.counts[i]));
                let error = dot(&weights, said) - f64::from(self.came[i]);
                loss += counts * error.abs();
                let sign = if error == 0.0 { 0.0 } else { counts * error.signum() };
                slope.iter_mut().zip(said).for_each(|(slope, said)| *slope += sign * f64::from(*said));
            }
            if loss < least {
                (least, found) = (loss, weights);
            }
            let rate = 1.0 / (1.0 + step as f64 / 10.0).sqrt();
            let lowest = slope.iter().copied().fold(f64::INFINITY, f64::min);
            for (weight, slope) in weights.iter_mut().zip(slope) {
                *weight *= (-rate * (slope - lowest) / losses[best]).exp();
            }
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        if least <= WORTH * losses[best] { found } else { single(best) }
    }
}

/// All weight on one.
fn single(expert: usize) -> [f64; EXPERTS] {
    std::array::from_fn(|other| f64::from(u8::from(other == expert)))
}

fn dot(weights: &[f64; EXPERTS], said: &[f32; EXPERTS]) -> f64 {
    weights.iter().zip(said).map(|(weight, said)| weight * f64::from(*said)).sum()
}

/// What is mixed and where: at most a day of the horizon, in two parts, since what helps the next steps is not what helps
/// later ones, and far ahead the memory stands alone.
pub fn part(horizon: usize, day: Option<usize>) -> MixPart {
    let mixed = horizon.min(day.unwrap_or(horizon));
    let ends = [mixed / 4, mixed].into_iter().filter(|end| *end > 0).collect();
    MixPart { ends, season: day }
}

/// Fits the mix. `folds` are the models without each block, then the one on all; they have no mix yet.
pub fn fit(windows: &Windows<'_>, lanes: &[Lane], folds: &[Model], split: Split, part: MixPart) -> Mix {
    let own = folds[BLOCKS].description.series.len();
    let parts = part.ends.len();
    let empty = Mix::new(part.clone(), vec![0.0; parts * EXPERTS]);
    let share = (ERRORS_OF_ALL / lanes.len().max(1)).max(1);
    let of_lanes = shards::each(
        lanes.len(),
        || (),
        |(), number| {
            let errors = gather(windows, (number, &lanes[number]), folds, split, &empty);
            let weights: Vec<_> = match number < own {
                true => errors.iter().flat_map(Errors::weights).collect(),
                false => Vec::new(),
            };
            let thinned = errors.iter().map(|errors| errors.thinned(errors.came.len().div_ceil(share)));
            (weights, thinned.collect::<Vec<_>>())
        },
    );
    let mut all = vec![Errors::default(); parts];
    let mut weights = Vec::new();
    for (own, errors) in &of_lanes {
        weights.extend(own.iter().map(|weight| *weight as f32));
        all.iter_mut().zip(errors).for_each(|(all, errors)| all.append(errors));
    }
    weights.extend(all.iter().flat_map(Errors::weights).map(|weight| weight as f32));
    Mix::new(part, weights)
}

/// The errors of a lane for each part of the horizon.
fn gather(
    windows: &Windows<'_>,
    (number, lane): (usize, &Lane),
    folds: &[Model],
    split: Split,
    mix: &Mix,
) -> Vec<Errors> {
    let ends = &mix.part.ends;
    let origins = sampled(windows, lane, split, *ends.last().expect("a mix has parts"));
    let mut errors = vec![vec![Errors::default(); BLOCKS + 1]; ends.len()];
    replay(windows, (number, lane), folds, &|step| block(split, step), &origins, |said: Said<'_>| {
        let segment = &windows.history.segments[said.origin.segment as usize];
        let place = said.origin.place as usize;
        if said.scale.spread == 0.0 {
            return;
        }
        let running = segment.running(place);
        let anchors = Anchors::new(windows.past(said.origin), &running, said.scale, Some(mix));
        let block = block(split, segment.step(place));
        let mut first = 0;
        for (errors, end) in errors.iter_mut().zip(ends) {
            for i in first..*end {
                if segment.observed[place + 1 + i] {
                    let all = Expert::ALL.map(|expert| anchors.says(expert, i, said.values[i]));
                    errors[block].push(all, said.scale.apply(segment.values[place + 1 + i]), 1.0);
                }
            }
            first = *end;
        }
    });
    let all = errors.into_iter().map(|blocks| {
        let mut all = Errors::default();
        for (block, errors) in blocks.into_iter().enumerate() {
            let counts = if block == BLOCKS { VALIDATION_COUNTS } else { 1.0 };
            // Long parts of the horizon bring more errors than are needed.
            all.append(&errors.thinned(errors.came.len().div_ceil(ERRORS)).level(counts));
        }
        all
    });
    all.collect()
}

/// Origins of a lane spread evenly over each block, whose mixed part of the horizon lies in the same run and part.
fn sampled(windows: &Windows<'_>, lane: &Lane, split: Split, mixed: usize) -> Vec<Origin> {
    let mut by_block = vec![Vec::new(); BLOCKS + 1];
    let history: &History = windows.history;
    for number in &lane.segments {
        let segment = &history.segments[*number as usize];
        for place in 0..segment.values.len().saturating_sub(mixed) {
            let step = segment.step(place);
            let block = block(split, step);
            let end = if block == BLOCKS { split.validation_end } else { split.train_end };
            let origin = Origin { segment: *number, place: place as u32 };
            if segment.observed[place] && step + (mixed as i64) < end && windows.is_whole(origin) {
                by_block[block].push(origin);
            }
        }
    }
    let most = (2 * ERRORS / mixed).max(50);
    let thinned = by_block.into_iter().flat_map(|origins| {
        let every = origins.len().div_ceil(most).max(1);
        // Odd, or hours of the day that recur every so many steps would be all there is.
        origins.into_iter().step_by(every | usize::from(every > 1)).collect::<Vec<_>>()
    });
    thinned.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::network::Random;

    /// The memory is right in the first half of the errors, the last value in the other.
    fn errors(noise: f32) -> Errors {
        let mut random = Random::new(5);
        let mut errors = Errors::default();
        for _ in 0..2000 {
            let came = random.within(3.0);
            let said = [came + noise * random.within(1.0), came + random.within(1.0), 0.0, 9.0, -9.0];
            errors.push(said, came, 1.0);
        }
        errors
    }

    #[test]
    fn two_equally_good_forecasts_are_averaged() {
        let weights = errors(1.0).weights();
        assert!((weights[0] - 0.5).abs() < 0.1 && (weights[1] - 0.5).abs() < 0.1, "{weights:?}");
        assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn where_nothing_is_gained_the_memory_stands_alone() {
        assert_eq!(errors(0.01).weights(), [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(Errors::default().weights(), [1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_block_counts_as_much_whatever_its_errors() {
        let counted = |far: f32| {
            let mut errors = errors(1.0);
            errors.said.iter_mut().flatten().chain(&mut errors.came).for_each(|number| *number *= far);
            let level = errors.level(3.0);
            (0..EXPERTS).map(|expert| level.loss(&single(expert))).fold(f64::INFINITY, f64::min)
        };
        assert!((counted(1.0) - 6000.0).abs() < 1.0 && (counted(50.0) - 6000.0).abs() < 1.0);
    }

    #[test]
    fn a_mix_covers_a_day_at_most() {
        assert_eq!(part(720, Some(24)).ends, [6, 24]);
        assert_eq!(part(12, Some(288)).ends, [3, 12]);
        assert_eq!(part(60, None).ends, [15, 60]);
        assert_eq!(part(1, Some(24)).ends, [1]);
    }
}
