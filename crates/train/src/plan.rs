//! Choices before training: the recurrence that fits the grid and the length of the history, and the manifest of the model.

use super::ensemble::ensemble_spec;
use super::gram::{BLOCKS, bucket_ends};
use super::history::ALL_STEPS;
use super::progress::Decision;
use super::readout_fit::{BucketSelection, FeatureSet, FeatureSets, RECENT_MIN, retained_row_stride};
use super::settings::{TrainConfig, TrainingSpec};
use super::{Channel, History, Split};
use tidecast_core::intervals::probabilities;
use tidecast_core::model::{CellsSpec, DataSummary, ModelManifest, RecurrenceSpec, SeriesKey};
use tidecast_core::network::recurrence::LinearRecurrence;
use tidecast_core::network::{Shape, StateKind};
use tidecast_core::schema::format_time;
use tidecast_core::series::{GapFill, InputSpec, Moments, RunningStats};
use tidecast_core::time::{DAY, HOUR, steps_per, stride_coprime_to_day};

/// Limit of the harmonics of a day: periods below two hours are left to the recent values.
const HARMONICS_MAX: i64 = 12;
/// Decay times of the daily resonators in days: from the shape of yesterday to that of two weeks.
const RESONATOR_DAYS: [i64; 4] = [1, 3, 7, 14];
/// Limit of the recent values of a readout: two weeks of hours, a day and some hours of five minutes.
const RECENT_MAX: i64 = 335;
/// Days of recent values.
const RECENT_DAYS: i64 = 2;
/// Days of history from which on the value of the day before is an expert.
const SEASON_DAYS_MIN: i64 = 4;
/// Limit of the values in the sums of all series with coefficients of their own: 512 MiB.
const SUM_VALUES_MAX: usize = 64 << 20;
/// Limit of the series with parameters of their own: in the recurrence each adds some forty numbers per step of the horizon
/// to the model file.
pub const PER_SERIES_MAX: usize = 256;
/// Least length of a history in units of the slowest decay.
const DECAYS_MIN: i64 = 8;
/// Days before the first forecast of a series: one to observe the day, one to observe that it recurs.
const WARMUP_DAYS: i64 = 2;
/// The warm-up takes at most 1/WARMUP_FRACTION of the training steps of a series.
const WARMUP_FRACTION: i64 = 10;

/// A recurrence and its readout before they are fitted.
#[derive(Clone, Debug)]
pub struct RecurrencePlan {
    pub poles: Vec<[f32; 2]>,
    pub spec: RecurrenceSpec,
    pub feature_sets: FeatureSets,
    /// Observed steps of a series before its first forecast.
    pub warmup: u64,
    pub decisions: Vec<Decision>,
}

/// Poles of a recurrence.
struct PolePlan {
    poles: Vec<[f32; 2]>,
    plain_decays: usize,
    /// Indices of poles whose states have per-series coefficients.
    per_series: Vec<usize>,
    /// Steps before the first forecast: two days, or the slowest plain decay.
    warmup: i64,
}

impl RecurrencePlan {
    pub fn new(pipeline: &TrainingSpec, history: &History, channels: &[Channel], split: Split) -> Self {
        let every = pipeline.step_config.grid.every;
        let steps = median_training_steps(history, channels, split);
        let mut decisions = Vec::new();
        let plan = PolePlan::new(every, steps, channels.len(), &mut decisions);
        let season = steps_of(DAY, every).filter(|day| *day * SEASON_DAYS_MIN <= steps);
        let ensemble = ensemble_spec(pipeline.train.horizon, season.map(|day| day as usize));
        decisions.push(Decision::new(
            format!(
                "blend the first {} steps of the horizon with medians and naive forecasts",
                ensemble.bucket_ends.last().unwrap_or(&0)
            ),
            "weights are fitted on out-of-sample forecasts",
        ));
        let warmup = plan.warmup.min(steps / WARMUP_FRACTION).max(RECENT_MIN as i64 + 1) as u64;
        decisions.push(Decision::new(
            format!("a series is forecast after {warmup} observed steps"),
            "the recurrence has then observed the season, and the scale is known",
        ));
        let per_series = plan.per_series.iter();
        let per_series = per_series.map(|pole| LinearRecurrence::state_indices(&plan.poles, *pole)[0]);
        let mut spec = RecurrenceSpec {
            window: pipeline.train.recurrence_window,
            recent_values: RECENT_MIN,
            per_series_features: per_series.collect(),
            ensemble: Some(ensemble),
            penalties: Vec::new(),
        };
        let sum_series = if channels.len() > PER_SERIES_MAX { 1 } else { channels.len().max(1) };
        let feature_sets = feature_sets(pipeline, history, sum_series, &mut spec, &plan, season);
        if feature_sets.row_stride.is_some() {
            decisions.push(Decision::new(
                format!(
                    "select the features of the readout from its states and the last {} values",
                    spec.recent_values + 1
                ),
                "the history is small enough to compare them out of sample",
            ));
        }
        Self { poles: plan.poles, spec, feature_sets, warmup, decisions }
    }

    /// Limits the recent values to the latest ones.
    pub fn shorten(&mut self) {
        (self.spec.recent_values, self.feature_sets.recent) = (RECENT_MIN, RECENT_MIN);
    }
}

/// Steps of a period, if it has a whole number of at least four.
fn steps_of(period: i64, every: i64) -> Option<i64> {
    steps_per(period, every).filter(|steps| *steps >= 4)
}

impl PolePlan {
    /// Poles for steps of `every` microseconds, of which a series has `steps` to train on.
    fn new(every: i64, steps: i64, channels: usize, decisions: &mut Vec<Decision>) -> Self {
        let day = steps_of(DAY, every);
        // A slower decay is observed too rarely to be learned.
        let longest = steps / DECAYS_MIN;
        let slowest = day.map_or(longest as f64, |day| (0.9 * day as f64).min(longest as f64));
        let decays: Vec<f64> =
            (0..).map(|k| 2.0 * 3f64.powi(k)).take_while(|decay| *decay <= slowest.max(2.0)).collect();
        let slowest = *decays.last().unwrap_or(&2.0);
        decisions.push(Decision::new(
            format!("recurrence: {} plain decays over 2 to {slowest:.0} steps", decays.len()),
            format!(
                "each three times the previous one, below a day and 1/{DECAYS_MIN} of the {steps} training steps of a series"
            ),
        ));
        let mut plan = Self {
            poles: decays.iter().map(|decay| LinearRecurrence::pole(*decay, 0.0)).collect(),
            plain_decays: decays.len(),
            per_series: (0..decays.len()).collect(),
            warmup: slowest as i64,
        };
        if let Some(day) = day.filter(|day| *day <= longest) {
            plan.warmup = WARMUP_DAYS * day;
            plan.add_resonators_of_day(day, steps, decisions);
            if let Some(hour) = steps_of(HOUR, every) {
                plan.add_resonators_of_hour(hour, day, decisions);
            }
        }
        decisions.push(if channels <= PER_SERIES_MAX {
            Decision::new(
                format!("{channels} series may have coefficients of their own in addition to shared ones"),
                format!("the limit is {PER_SERIES_MAX}"),
            )
        } else {
            plan.per_series.clear();
            let reason = format!("{channels} series exceed the limit of {PER_SERIES_MAX}");
            Decision::new("all series share all coefficients", reason)
        });
        plan
    }

    fn add_resonators_of_day(&mut self, day: i64, steps: i64, decisions: &mut Vec<Decision>) {
        let harmonics = HARMONICS_MAX.min(day / 2);
        let decays = RESONATOR_DAYS.into_iter().filter(|days| days * day <= steps / DECAYS_MIN);
        let decays: Vec<i64> = decays.collect();
        for decay in &decays {
            for harmonic in 0..=harmonics {
                if harmonic <= 1 {
                    self.per_series.push(self.poles.len());
                }
                self.poles.push(resonator(decay * day, harmonic, day));
            }
        }
        decisions.push(Decision::new(
            format!("recurrence: resonators of the day with {harmonics} harmonics, over {decays:?} days"),
            format!("a day is {day} steps, and a series has {} days of training data", steps / day),
        ));
    }

    fn add_resonators_of_hour(&mut self, hour: i64, day: i64, decisions: &mut Vec<Decision>) {
        let harmonics = HARMONICS_MAX.min(hour / 2);
        self.poles.extend((1..=harmonics).map(|harmonic| resonator(day, harmonic, hour)));
        decisions.push(Decision::new(
            format!("recurrence: resonators of the hour with {harmonics} harmonics, over a day"),
            format!("an hour is {hour} steps, enough for hourly and quarter-hourly patterns"),
        ));
    }
}

/// The pole with a decay of `decay` steps and `harmonic` turns per `period` steps.
fn resonator(decay: i64, harmonic: i64, period: i64) -> [f32; 2] {
    LinearRecurrence::pole(decay as f64, std::f64::consts::TAU * harmonic as f64 / period as f64)
}

/// Candidate features of the readout. In a small history they include more recent values, which extends `spec`. `sum_series`
/// is the number of series with sums of their own.
fn feature_sets(
    pipeline: &TrainingSpec,
    history: &History,
    sum_series: usize,
    spec: &mut RecurrenceSpec,
    plan: &PolePlan,
    day: Option<i64>,
) -> FeatureSets {
    let complex = plan.poles.iter().filter(|pole| pole[1] != 0.0).count();
    let (states, horizon) = (plan.poles.len() + complex, pipeline.train.horizon);
    let steps = history.steps();
    let rows = steps.saturating_sub(history.segments.len() * horizon);
    let features = |recent: usize| states + recent + 1 + spec.per_series_features.len();
    let stride = |recent: usize| retained_row_stride(rows, features(recent), horizon);
    let recent = day.map_or(0, |day| (RECENT_DAYS * day - 1).min(RECENT_MAX)) as usize;
    let sums = sum_series * (BLOCKS + 1) * bucket_ends(horizon).len();
    let is_affordable = features(recent).pow(2) * sums <= SUM_VALUES_MAX;
    // A longer window delays the first forecast after every cold start.
    let steps_after_start: usize =
        history.segments.iter().map(|segment| segment.values.len().saturating_sub(recent)).sum();
    let starts_rarely = steps_after_start * 10 >= steps * 8;
    let is_long = recent > RECENT_MIN && is_affordable && stride(recent).is_some() && starts_rarely;
    let recent = if is_long { recent } else { spec.recent_values };
    let every = pipeline.step_config.grid.every;
    let row_stride = stride(recent).map(|min| stride_coprime_to_day(min, every));
    spec.recent_values = recent;
    FeatureSets { plain_states: plan.plain_decays, states, recent, row_stride }
}

/// Decisions on the readout that differ from the default.
pub fn readout_decisions(selections: &[BucketSelection], absolute_weights: &[f64]) -> Vec<Decision> {
    let mut decisions = Vec::new();
    let mut first = 0;
    for (selection, absolute) in selections.iter().zip(absolute_weights) {
        let steps = format!("steps {} to {} of the horizon", first + 1, selection.penalty.end);
        first = selection.penalty.end;
        if selection.features != FeatureSet::States {
            decisions.push(Decision::new(
                format!("{steps}: the readout uses {}", selection.features.name()),
                "lower error out of sample than the default features",
            ));
        }
        if *absolute > 0.0 {
            decisions.push(Decision::new(
                format!("{steps}: {:.0}% of the readout is fitted by absolute errors", 100.0 * absolute),
                "lower error out of sample than a fit by squared errors",
            ));
        }
    }
    decisions
}

/// Keys of the channels, in their order; none where they are too many for parameters of their own.
pub fn series_keys(pipeline: &TrainingSpec, history: &History, channels: &[Channel]) -> Vec<SeriesKey> {
    let key = |channel: &Channel| SeriesKey {
        id: history.ids[channel.series].clone(),
        target: pipeline.columns.targets[channel.target].clone(),
    };
    if channels.len() > PER_SERIES_MAX { Vec::new() } else { channels.iter().map(key).collect() }
}

/// Median over channels of the steps in the training split.
fn median_training_steps(history: &History, channels: &[Channel], split: Split) -> i64 {
    let steps = |channel: &Channel| {
        let of_segment = |index: &u32| {
            let segment = &history.segments[*index as usize];
            (split.train_end - segment.start).clamp(0, segment.values.len() as i64)
        };
        channel.segments.iter().map(of_segment).sum::<i64>()
    };
    let mut all: Vec<i64> = channels.iter().map(steps).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0).max(1)
}

/// The manifest of a model before anything is fitted. `series` are the keys of series that may have parameters of their own.
pub fn initial_manifest(
    pipeline: &TrainingSpec,
    history: &History,
    series: Vec<SeriesKey>,
    split: Split,
    data: DataSummary,
) -> ModelManifest {
    let TrainConfig { recurrence, embedding, state, cell, lookback, horizon, segment, .. } = pipeline.train;
    let (columns, step_config) = (&pipeline.columns, &pipeline.step_config);
    let carries_state = cell.is_some() && state == StateKind::Carried;
    let reads_windows = cell.is_some() && state == StateKind::Window;
    let inputs = InputSpec {
        change: carries_state,
        mask: step_config.gap_fill == GapFill::Missing,
        covariates: covariate_moments(pipeline, history, split),
        calendar: pipeline.train.calendar.clone(),
        future_covariates: future_covariate_moments(pipeline, history, split),
    };
    let time = |step: i64| format_time(step_config.grid.start_of(step));
    let embedded = if embedding > 0 { series.len() } else { 0 };
    let probabilities = probabilities(if pipeline.train.quantiles { &pipeline.levels[..] } else { &[] });
    let cells = cell.map(|cell| CellsSpec {
        network: Shape {
            cell,
            inputs: inputs.width() * segment,
            hidden: pipeline.train.hidden,
            layers: pipeline.train.layers,
            horizon,
            future_covariates: inputs.future_covariates.len(),
            quantiles: probabilities.len(),
            embedding,
            series: embedded,
            decoder: pipeline.train.decoder,
        },
        segment,
        state,
        blend_weights: Vec::new(),
        probabilities,
    });
    ModelManifest {
        format: ModelManifest::FORMAT,
        horizon,
        // Cells that carry their state read one step at a time, after a warm-up of `lookback` steps.
        lookback: if reads_windows { whole_segments(lookback, &pipeline.train) } else { 1 },
        warmup: if carries_state { lookback as u64 } else { 0 },
        // Only a recurrence and an embedding have per-series parameters.
        series: if recurrence || embedded > 0 { series } else { Vec::new() },
        recurrence: None,
        cells,
        step_config: step_config.clone(),
        targets: columns.targets.clone(),
        covariates: columns.covariates.clone(),
        future_covariates: columns.future_covariates.clone(),
        inputs,
        scaling: pipeline.train.scaling,
        moments: target_moments(pipeline, history, split),
        training: serde_json::to_value(&pipeline.train).unwrap_or_default(),
        data: DataSummary {
            series: history.ids.len(),
            start: time(split.first),
            end: time(split.end),
            train_end: time(split.train_end),
            validation_end: time(split.validation_end),
            ..data
        },
        scores: Vec::new(),
    }
}

/// Rounds steps up to whole segments of the cells.
pub fn whole_segments(steps: usize, config: &TrainConfig) -> usize {
    if config.cell.is_some() { steps.next_multiple_of(config.segment) } else { steps }
}

/// Moments of the observed values of each target in the training split.
fn target_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let mut stats = vec![RunningStats::default(); pipeline.columns.targets.len()];
    for segment in &history.segments {
        let observations = segment.observations(ALL_STEPS.start..split.train_end);
        observations.for_each(|(_, value)| stats[segment.target].add(value));
    }
    stats.iter().map(RunningStats::moments).collect()
}

/// Moments of each covariate over the steps of the training split where it is known.
fn covariate_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let mut stats = vec![RunningStats::default(); pipeline.columns.covariates.len()];
    for span in &history.spans {
        for (stats, window) in stats.iter_mut().zip(&span.covariates) {
            let known = window.known().take_while(|(step, _)| *step < split.train_end);
            known.for_each(|(_, value)| stats.add(value));
        }
    }
    stats.iter().map(RunningStats::moments).collect()
}

/// Moments of each future covariate over the horizons of origins in the training split.
fn future_covariate_moments(pipeline: &TrainingSpec, history: &History, split: Split) -> Vec<Moments> {
    let mut stats = vec![RunningStats::default(); pipeline.columns.future_covariates.len()];
    for (_, future) in history.spans.iter().flat_map(|span| span.future.range(..split.train_end)) {
        for (stats, values) in stats.iter_mut().zip(future.chunks(pipeline.train.horizon)) {
            values.iter().filter(|value| value.is_finite()).for_each(|value| stats.add(*value));
        }
    }
    stats.iter().map(RunningStats::moments).collect()
}
