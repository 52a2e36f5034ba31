//! The manifest of a model: everything needed to forecast apart from the fitted numbers, and the provenance of those.

use serde::{Deserialize, Serialize};

use super::ensemble::{EnsembleSpec, MEDIAN_STEPS};
use super::error::ModelError;
use crate::intervals::VOLATILITY_STEPS;
use crate::named_enum::named_enum;
use crate::network::recurrence::PerSeriesFeatures;
use crate::network::{Decoder, HORIZON_MAX, Shape, StateKind};
use crate::series::{InputSpec, Moments, Retention, Scale, Scaling, StepConfig};

/// Limit of the lookback, in steps. Every series retains that many values, and a file may claim any number. 65 536 minutes
/// are a month and a half, more than a recurrent network can use.
const LOOKBACK_MAX: usize = 65_536;
/// Horizon buckets over which the readout sees the mean of a future covariate.
const FUTURE_BUCKETS: usize = 8;

/// Everything needed to forecast apart from the fitted numbers, stored as JSON in the model file.
///
/// A *horizon bucket* is a run of consecutive steps of the horizon that share a parameter. It is written as the step after
/// its last one, and begins where the bucket before it ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    pub format: u32,
    /// Values of a forecast.
    pub horizon: usize,
    /// Past steps read by the cells' window, the window's scaling and the readout.
    pub lookback: usize,
    /// Observed steps of a series before its first forecast.
    pub warmup: u64,
    /// The series with per-series parameters. All others use the shared ones.
    pub series: Vec<SeriesKey>,
    pub recurrence: Option<RecurrenceSpec>,
    pub cells: Option<CellsSpec>,
    /// The rules that made steps of rows in training. A pipeline must have the same step, aggregate and gap filling.
    pub step_config: StepConfig,
    pub targets: Vec<String>,
    pub covariates: Vec<String>,
    pub future_covariates: Vec<String>,
    pub inputs: InputSpec,
    pub scaling: Scaling,
    /// Moments of each target in the training split.
    pub moments: Vec<Moments>,
    /// The settings of the training run, for the reader; nothing is computed from them.
    pub training: serde_json::Value,
    pub data: DataSummary,
    pub scores: Vec<Score>,
}

/// One target of one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesKey {
    pub id: String,
    pub target: String,
}

/// The linear recurrence and the features of its readout: `[states, recent values, covariates, future covariates, 1]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrenceSpec {
    /// Steps after which a difference leaves the state; without it a difference only decays.
    pub window: Option<usize>,
    /// Values before the last one that the readout sees, as differences from the last one.
    pub recent_values: usize,
    /// Features with additional coefficients for each series of the manifest.
    pub per_series_features: Vec<usize>,
    pub ensemble: Option<EnsembleSpec>,
    /// The regularization chosen by cross-validation, for the reader.
    pub penalties: Vec<Penalty>,
}

/// The regularization of one horizon bucket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Penalty {
    /// End of the bucket, exclusive.
    pub end: usize,
    pub ridge: f64,
    /// Scale of the per-series features; 0 removes them.
    pub per_series: f64,
}

/// The recurrent network. Next to a linear recurrence it forecasts the residuals of that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellsSpec {
    pub network: Shape,
    /// Steps of the window that are one step of the network: their inputs are concatenated, oldest first.
    pub segment: usize,
    pub state: StateKind,
    /// Weight of the network's output in the forecast, by horizon bucket.
    pub blend_weights: Vec<BlendWeight>,
    /// Probabilities of the network's quantiles, ascending; next to a recurrence they are quantiles of its residuals.
    pub probabilities: Vec<f64>,
}

/// The weight of the network's output in one horizon bucket.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlendWeight {
    /// End of the bucket, exclusive.
    pub end: usize,
    pub weight: f32,
}

/// The data that a model was trained on. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSummary {
    /// SHA-256 over all rows in the order read.
    pub fingerprint: String,
    pub rows: u64,
    pub series: usize,
    /// First step of the history.
    pub start: String,
    /// Last step of the history.
    pub end: String,
    /// End of the training split.
    pub train_end: String,
    /// End of the validation split.
    pub validation_end: String,
}

named_enum! {
    /// A split of the history that was scored after training.
    pub enum ScoredSplit {
        Validation = "validation",
        Test = "test",
    }
}

/// Mean absolute errors on one split, in standard deviations of each series so that units do not matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    pub split: ScoredSplit,
    pub forecasts: u64,
    pub mae: f64,
    /// Error of the forecast that repeats the last value.
    pub naive_mae: f64,
    /// Error of the forecast that repeats the value one season before; absent where the history is too short.
    pub seasonal_naive_mae: Option<f64>,
    /// Period of the seasonal baseline, in steps.
    pub season: Option<usize>,
}

impl RecurrenceSpec {
    /// Features of the readout of a recurrence with `states` numbers of state.
    pub fn features(&self, states: usize, inputs: &InputSpec, horizon: usize) -> usize {
        let future = inputs.future_covariates.len() * Self::future_buckets(horizon);
        states + self.recent_values + inputs.covariates.len() + future + 1
    }

    /// Horizon buckets over which the readout sees the mean of a future covariate.
    pub fn future_buckets(horizon: usize) -> usize {
        FUTURE_BUCKETS.min(horizon)
    }

    /// Past steps that the seasonal expert reads.
    pub fn season(&self) -> usize {
        self.ensemble.as_ref().and_then(|ensemble| ensemble.season).unwrap_or(0)
    }

    fn find_inconsistency(&self, lookback: usize, horizon: usize) -> Option<String> {
        if self.recent_values >= lookback {
            let recent = self.recent_values;
            return Some(format!("the recurrence reads {recent} recent values of {lookback} steps"));
        }
        if self.window.is_some_and(|window| window > LOOKBACK_MAX) {
            return Some(format!("the recurrence's window is more than {LOOKBACK_MAX} steps"));
        }
        let EnsembleSpec { bucket_ends, season } = self.ensemble.as_ref()?;
        let increases = bucket_ends.windows(2).all(|pair| pair[0] < pair[1]);
        let last = bucket_ends.last().copied().unwrap_or(0);
        let has_season = season.is_none_or(|season| last <= season && season <= LOOKBACK_MAX);
        // At least one bucket, or the forecast would have no weights.
        let is_valid =
            increases && bucket_ends.first().is_some_and(|end| *end > 0) && last <= horizon && has_season;
        (!is_valid).then(|| "the buckets of the ensemble do not fit the horizon and the season".to_owned())
    }
}

impl CellsSpec {
    fn find_inconsistency(&self, manifest: &ModelManifest) -> Option<String> {
        let (shape, segment, lookback) = (&self.network, self.segment, manifest.lookback);
        if segment == 0 || !lookback.is_multiple_of(segment) {
            return Some(format!(
                "a lookback of {lookback} steps is not a multiple of the segment {segment}"
            ));
        }
        if let Some(reason) = self.find_unsupported_state(manifest.scaling) {
            return Some(reason);
        }
        if segment > 1 && shape.decoder == Decoder::Recursive {
            return Some(format!("the recursive decoder needs a segment of 1, not {segment}"));
        }
        let expected = [
            ("inputs", manifest.inputs.width().saturating_mul(segment), shape.inputs),
            ("future covariates", manifest.inputs.future_covariates.len(), shape.future_covariates),
            ("steps of the horizon", manifest.horizon, shape.horizon),
            ("embedded series", if shape.embedding > 0 { manifest.series.len() } else { 0 }, shape.series),
            ("quantiles", self.probabilities.len(), shape.quantiles),
        ];
        for (name, described, found) in expected {
            if described != found {
                return Some(format!("{described} {name} are described, but the network has {found}"));
            }
        }
        let is_inside = self.probabilities.iter().all(|p| *p > 0.0 && *p < 1.0);
        if !is_inside || !self.probabilities.windows(2).all(|pair| pair[0] < pair[1]) {
            return Some("the probabilities of the quantiles do not increase between 0 and 1".to_owned());
        }
        let increases = self.blend_weights.windows(2).all(|pair| pair[0].end < pair[1].end);
        let covers = self.blend_weights.last().map(|last| last.end) == Some(manifest.horizon);
        let is_finite = self.blend_weights.iter().all(|bucket| bucket.weight.is_finite());
        (!increases || !covers || !is_finite).then(|| "the blend weights do not cover the horizon".to_owned())
    }

    fn find_unsupported_state(&self, scaling: Scaling) -> Option<String> {
        let has_window_scale = matches!(scaling, Scaling::WindowLast | Scaling::WindowStandard);
        match self.state {
            StateKind::Window => None,
            StateKind::Carried if self.segment > 1 => {
                Some(format!("a carried state needs a segment of 1, not {}", self.segment))
            }
            StateKind::Carried if self.network.decoder == Decoder::Recursive => {
                Some("a carried state needs the direct decoder".to_owned())
            }
            StateKind::Carried => {
                has_window_scale.then(|| "a carried state has no window to scale by".to_owned())
            }
        }
    }
}

impl ModelManifest {
    /// The version of the manifest; any other is rejected.
    pub const FORMAT: u32 = 1;

    /// The per-series features of the readout.
    ///
    /// # Panics
    /// If the model has no linear recurrence.
    pub fn per_series_features(&self) -> PerSeriesFeatures {
        let recurrence = self.recurrence.as_ref().expect("only a recurrence has a readout");
        PerSeriesFeatures { series: self.series.len(), indices: recurrence.per_series_features.clone() }
    }

    /// Probabilities of the network's quantiles, ascending.
    pub fn probabilities(&self) -> &[f64] {
        self.cells.as_ref().map_or(&[], |cells| &cells.probabilities)
    }

    /// Training moments of a target; targets that the model does not know use those of the first one.
    pub fn moments(&self, target: usize) -> Moments {
        self.moments.get(target).or(self.moments.first()).copied().unwrap_or(Moments { mean: 0.0, sd: 1.0 })
    }

    /// True if the network's state is carried from step to step.
    pub fn carries_state(&self) -> bool {
        self.cells.as_ref().is_some_and(|cells| cells.state == StateKind::Carried)
    }

    /// The scale of the model's outputs at an origin: carried state forecasts the change from the last value.
    pub fn output_scale(&self, scale: Scale, last: f64) -> Scale {
        if self.recurrence.is_some() || self.carries_state() {
            Scale { center: last, ..scale }
        } else {
            scale
        }
    }

    /// Past values of a series read at an origin: by the window, the seasonal expert, the medians, and, with intervals, the
    /// estimate of volatility.
    pub fn history_steps(&self, has_intervals: bool) -> usize {
        let season = self.recurrence.as_ref().map_or(0, RecurrenceSpec::season);
        let has_ensemble = self.recurrence.as_ref().is_some_and(|recurrence| recurrence.ensemble.is_some());
        let medians = if has_ensemble { MEDIAN_STEPS } else { 0 };
        let volatility = if has_intervals { VOLATILITY_STEPS + 1 } else { 0 };
        self.lookback.max(season).max(medians).max(volatility)
    }

    /// Values of each series that must be retained when gaps are filled by `config`.
    pub fn retention(&self, config: &StepConfig, has_intervals: bool) -> Retention {
        // At the end of a gap carried state takes all filled steps at once, each as a difference from the value before it, and
        // the difference that leaves the recurrence's window lies that window further back.
        let reach = self.recurrence.as_ref().map_or(0, |spec| spec.window.map_or(1, |window| window + 1));
        let has_carried = self.carries_state() || self.recurrence.is_some();
        let filled = if has_carried { config.grid.steps_in(config.max_gap) as usize } else { 0 };
        Retention { steps: self.history_steps(has_intervals).max(reach + 1).max(2), filled }
    }

    /// # Errors
    /// If two fields contradict each other or a number is out of range.
    pub(super) fn validate(&self) -> Result<(), ModelError> {
        let check_moments = |what: &str, moments: &[Moments], count: usize| {
            let finite = moments.iter().all(|m| m.mean.is_finite() && m.sd.is_finite() && m.sd >= 0.0);
            (moments.len() != count || !finite).then(|| format!("it needs {count} finite moments of {what}"))
        };
        let (inputs, config, grid) = (&self.inputs, &self.step_config, self.step_config.grid);
        let reasons = [
            (self.lookback == 0).then(|| "lookback is 0".to_owned()),
            (self.lookback > LOOKBACK_MAX)
                .then(|| format!("lookback is {}, more than {LOOKBACK_MAX}", self.lookback)),
            (grid.every <= 0 || !(0..grid.every).contains(&grid.offset))
                .then(|| format!("a grid of {} with offset {} is impossible", grid.every, grid.offset)),
            (config.max_gap < 0 || config.lateness < 0).then(|| "max_gap or lateness is below 0".to_owned()),
            (self.recurrence.is_none() && self.cells.is_none())
                .then(|| "it has neither a recurrence nor cells".to_owned()),
            (self.horizon == 0 || self.horizon > HORIZON_MAX)
                .then(|| format!("horizon is {}, not 1 to {HORIZON_MAX}", self.horizon)),
            self.recurrence.as_ref().and_then(|spec| spec.find_inconsistency(self.lookback, self.horizon)),
            self.cells.as_ref().and_then(|spec| spec.find_inconsistency(self)),
            check_moments("covariates", &inputs.covariates, self.covariates.len()),
            check_moments("future covariates", &inputs.future_covariates, self.future_covariates.len()),
            check_moments("targets", &self.moments, self.targets.len()),
        ];
        reasons.into_iter().flatten().next().map_or(Ok(()), |reason| Err(ModelError::Inconsistent(reason)))
    }
}
