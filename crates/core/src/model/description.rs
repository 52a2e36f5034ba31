//! What a model says of itself: everything needed to forecast besides the numbers that were fitted, and where those came
//! from.

use serde::{Deserialize, Serialize};

use super::{MEDIAN_STEPS, ModelError};
use crate::intervals::RESTLESS_STEPS;
use crate::network::memory::Own;
use crate::network::{Decoder, Shape, StateKind};
use crate::series::{InputSpec, Keep, Moments, Rules, Scale, Scaling};

/// The version of the description; a reader refuses any other.
const FORMAT: u32 = 3;
/// Steps a model may look back to. Every series keeps as many values, and a file may claim any number: this is a month and
/// a half of minutes, more than any recurrent network can make use of.
const LOOKBACK_MAX: usize = 65_536;
/// Parts of the horizon for each of which the memory's readout knows the mean of an input known ahead.
const KNOWN_PARTS: usize = 8;

/// All that is needed to forecast besides the fitted numbers, and where those came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    pub format: u32,
    /// Values of a forecast.
    pub horizon: usize,
    /// Steps of the past that are read whole: by the cells, by the scaling of a window, by the readout.
    pub lookback: usize,
    /// Observed steps of a series before its first forecast.
    pub warm: u64,
    /// The series of which something of their own was learned, by id and target; all others share what was learned of all.
    pub series: Vec<(String, String)>,
    pub memory: Option<MemoryPart>,
    pub cells: Option<CellsPart>,
    /// How rows became steps in training. A pipeline must have the same step, aggregate and filling of gaps.
    pub rules: Rules,
    pub targets: Vec<String>,
    pub covariates: Vec<String>,
    pub known_ahead: Vec<String>,
    pub inputs: InputSpec,
    pub scaling: Scaling,
    /// Moments of each target in the training part.
    pub moments: Vec<Moments>,
    /// The recipe it was trained by, for the reader; nothing is computed from it.
    pub recipe: serde_json::Value,
    pub data: DataSummary,
    pub scores: Vec<Score>,
}

/// The memory and what its readout reads: `[states, recent, covariates, known ahead, 1]`, and what a series has of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryPart {
    /// Steps after which a difference is forgotten altogether; without it the poles alone forget.
    pub context: Option<usize>,
    /// Values before the last one that are read as they are, less the last one.
    pub recent: usize,
    /// Numbers of the state for which each of the description's series has further coefficients.
    pub copied: Vec<usize>,
    pub mix: Option<MixPart>,
    /// What was chosen on parts of the history that were not fitted, for the reader.
    pub penalties: Vec<Penalty>,
}

/// What is mixed with the memory's forecast, on how much of the horizon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixPart {
    /// Ends of the parts of the horizon that have weights of their own, exclusive; beyond the last the memory stands alone.
    pub ends: Vec<usize>,
    /// Steps after which values recur, for the seasonal forecast among those mixed.
    pub season: Option<usize>,
}

/// How the coefficients of a part of the horizon were held small.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// End of the part, exclusive.
    pub until: usize,
    pub ridge: f64,
    /// Weight of the series' own coefficients; 0 is without.
    pub copied: f64,
}

/// The cells. Beside a memory they forecast what it leaves over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellsPart {
    pub network: Shape,
    /// Steps of the window that go in at one step of the recurrence, their inputs side by side, the oldest first.
    pub segment: usize,
    /// Whether a forecast is said from a window's state or from the one that a series carries.
    pub state: StateKind,
    /// How much of what they say is believed, by parts of the horizon.
    pub shares: Vec<Share>,
    /// Of the quantiles that they say beside the forecast, ascending; beside a memory they are those of what it leaves over.
    pub probabilities: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// End of the part, exclusive.
    pub until: usize,
    pub share: f32,
}

/// What a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSummary {
    /// SHA-256 over all rows as they were read.
    pub fingerprint: String,
    pub rows: u64,
    pub series: usize,
    /// First and last step of the whole history, and the ends of its training and validation parts; RFC 3339.
    pub from: String,
    pub until: String,
    pub trained_until: String,
    pub validated_until: String,
}

/// Errors on one part of the history, in standard deviations of each series, so that series of different units can be
/// averaged. A baseline is left out where the history is too short for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// `validation` or `test`.
    pub part: String,
    pub forecasts: u64,
    pub mae: f64,
    pub repeat_last: f64,
    /// The value one season before.
    pub seasonal_naive: Option<f64>,
    /// Steps of that season.
    pub season: Option<usize>,
}

impl MemoryPart {
    /// Features of the readout, beside a memory of so many numbers.
    pub fn features(&self, numbers: usize, inputs: &InputSpec, horizon: usize) -> usize {
        let known = inputs.known_ahead.len() * Self::known_parts(horizon);
        numbers + self.recent + inputs.covariates.len() + known + 1
    }

    /// Parts of the horizon for which the mean of an input known ahead is read.
    pub fn known_parts(horizon: usize) -> usize {
        KNOWN_PARTS.min(horizon)
    }

    fn wrong(&self, lookback: usize, horizon: usize) -> Option<String> {
        if self.recent >= lookback {
            return Some(format!("the memory reads {} recent values of {lookback} steps", self.recent));
        }
        if self.context.is_some_and(|context| context > LOOKBACK_MAX) {
            return Some(format!("the memory's context is more than {LOOKBACK_MAX} steps"));
        }
        let MixPart { ends, season } = self.mix.as_ref()?;
        let rises = ends.windows(2).all(|pair| pair[0] < pair[1]);
        let last = ends.last().copied().unwrap_or(0);
        let seasonal = season.is_none_or(|season| last <= season && season <= LOOKBACK_MAX);
        let possible = rises && ends.first() != Some(&0) && last <= horizon && seasonal;
        (!possible).then(|| "the parts of the mix do not fit the horizon and the season".to_owned())
    }

    /// Steps of the past that the seasonal forecast reads.
    pub fn season(&self) -> usize {
        self.mix.as_ref().and_then(|mix| mix.season).unwrap_or(0)
    }
}

impl CellsPart {
    fn wrong(&self, of: &Description) -> Option<String> {
        let (inputs, shape, segment) = (&of.inputs, &self.network, self.segment);
        if segment == 0 || !of.lookback.is_multiple_of(segment) {
            return Some(format!(
                "a lookback of {} steps is not cut into segments of {segment}",
                of.lookback
            ));
        }
        if self.state == StateKind::Carried {
            let wrong = match (segment, shape.decoder, of.scaling) {
                (2.., _, _) => Some(format!("a carried state takes one step at a time, not {segment}")),
                (_, Decoder::Recursive, _) => Some("a carried state is read by a direct decoder".to_owned()),
                (_, _, Scaling::WindowLast | Scaling::WindowStandard) => {
                    Some("a carried state reads no window that could give a scale".to_owned())
                }
                (_, Decoder::Direct, Scaling::Fixed | Scaling::Running) => None,
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        if segment > 1 && shape.decoder == Decoder::Recursive {
            return Some(format!("a recursive network says one step at a time, but reads {segment}"));
        }
        let described = inputs.width().saturating_mul(segment);
        if described != shape.inputs {
            return Some(format!("{described} inputs are described, the network has {}", shape.inputs));
        }
        if inputs.known_ahead.len() != shape.known {
            let known = inputs.known_ahead.len();
            return Some(format!(
                "{known} inputs known ahead are described, the network has {}",
                shape.known
            ));
        }
        if shape.horizon != of.horizon {
            return Some(format!("the horizon is {}, that of the network {}", of.horizon, shape.horizon));
        }
        let (embedded, known) = (shape.series, if shape.embedding > 0 { of.series.len() } else { 0 });
        if embedded != known {
            return Some(format!("{known} series are described, the network has an embedding of {embedded}"));
        }
        let (quantiles, probabilities) = (shape.quantiles, &self.probabilities);
        if quantiles != probabilities.len() {
            let count = probabilities.len();
            return Some(format!(
                "{count} probabilities are described, the network says {quantiles} quantiles"
            ));
        }
        let inside = probabilities.iter().all(|p| *p > 0.0 && *p < 1.0);
        if !inside || !probabilities.windows(2).all(|pair| pair[0] < pair[1]) {
            return Some("the probabilities of its quantiles do not rise between 0 and 1".to_owned());
        }
        let rises = self.shares.windows(2).all(|pair| pair[0].until < pair[1].until);
        let ends = self.shares.last().map(|share| share.until) == Some(of.horizon);
        let finite = self.shares.iter().all(|share| share.share.is_finite());
        (!rises || !ends || !finite).then(|| "the shares of the cells do not cover the horizon".to_owned())
    }
}

impl Description {
    pub const FORMAT: u32 = FORMAT;

    /// What series have of their own in the memory's readout.
    ///
    /// # Panics
    /// If there is no memory.
    pub fn own(&self) -> Own {
        let memory = self.memory.as_ref().expect("only a memory has a readout");
        Own { series: self.series.len(), copied: memory.copied.clone() }
    }

    /// Of the quantiles that the cells say, ascending.
    pub fn probabilities(&self) -> &[f64] {
        self.cells.as_ref().map_or(&[], |cells| &cells.probabilities)
    }

    /// Training moments of target `target`; a pipeline's further targets share the first one's.
    pub fn moments(&self, target: usize) -> Moments {
        self.moments.get(target).or(self.moments.first()).copied().unwrap_or(Moments { mean: 0.0, sd: 1.0 })
    }

    /// Whether the cells' state is carried from step to step.
    pub fn carries(&self) -> bool {
        self.cells.as_ref().is_some_and(|cells| cells.state == StateKind::Carried)
    }

    /// How a forecast is scaled, at an origin of this scale and last value: what remembers says the way from the last value.
    pub fn said_from(&self, scale: Scale, last: f64) -> Scale {
        if self.memory.is_some() || self.carries() { Scale { center: last, ..scale } } else { scale }
    }

    /// Values of each series that are looked back on at an origin, besides what is carried: the window, a season, those that
    /// the memory's forecast is mixed with medians of, and where there are intervals, what tells whether the series is restless.
    pub fn past(&self, has_intervals: bool) -> usize {
        let season = self.memory.as_ref().map_or(0, MemoryPart::season);
        let is_mixed = self.memory.as_ref().is_some_and(|memory| memory.mix.is_some());
        let medians = if is_mixed { MEDIAN_STEPS } else { 0 };
        let restless = if has_intervals { RESTLESS_STEPS + 1 } else { 0 };
        self.lookback.max(season).max(medians).max(restless)
    }

    /// Values of each series that have to be at hand, where gaps are filled by `rules`.
    pub fn keep(&self, rules: &Rules, has_intervals: bool) -> Keep {
        // What is carried takes what fills a gap when that has ended, each with the value before it; and a difference that is
        // forgotten lies a context before.
        let reach = self.memory.as_ref().map_or(0, |memory| memory.context.map_or(1, |context| context + 1));
        let goes_on = self.carries() || self.memory.is_some();
        let filled = if goes_on { rules.grid.steps_in(rules.max_gap) as usize } else { 0 };
        Keep { steps: self.past(has_intervals).max(reach + 1).max(2), filled }
    }

    pub(super) fn check(&self) -> Result<(), ModelError> {
        let numbers = |what: &str, moments: &[Moments], count: usize| {
            let finite = moments.iter().all(|m| m.mean.is_finite() && m.sd.is_finite() && m.sd >= 0.0);
            (moments.len() != count || !finite).then(|| format!("it needs {count} finite moments of {what}"))
        };
        let (inputs, grid) = (&self.inputs, self.rules.grid);
        let wrong = [
            (self.lookback == 0).then(|| "lookback is 0".to_owned()),
            (self.lookback > LOOKBACK_MAX)
                .then(|| format!("lookback is {}, more than {LOOKBACK_MAX}", self.lookback)),
            (grid.every <= 0 || !(0..grid.every).contains(&grid.offset))
                .then(|| "the grid is impossible".to_owned()),
            (self.rules.max_gap < 0 || self.rules.lateness < 0)
                .then(|| "max_gap or lateness is below 0".to_owned()),
            (self.memory.is_none() && self.cells.is_none())
                .then(|| "it has neither a memory nor cells".to_owned()),
            (self.horizon == 0 || self.horizon > crate::network::HORIZON_MAX)
                .then(|| format!("the horizon is {}", self.horizon)),
            self.memory.as_ref().and_then(|memory| memory.wrong(self.lookback, self.horizon)),
            self.cells.as_ref().and_then(|cells| cells.wrong(self)),
            numbers("covariates", &inputs.covariates, self.covariates.len()),
            numbers("inputs known ahead", &inputs.known_ahead, self.known_ahead.len()),
            numbers("targets", &self.moments, self.targets.len()),
        ];
        wrong.into_iter().flatten().next().map_or(Ok(()), |wrong| Err(ModelError::Contradiction(wrong)))
    }
}
