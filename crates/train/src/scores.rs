//! Scores of a model on a split of the history next to naive forecasts, its residual quantiles, and example forecasts.

use std::ops::Range;

use rayon::prelude::*;

use super::backtest::{BacktestForecast, BacktestModels, backtest};
use super::cells::OUTPUT_VALUES_MAX;
use super::history::ALL_STEPS;
use super::settings::TrainingSpec;
use super::training_data::group_by_channel;
use super::windows::{Origin, SampleLimit, Windows, sample_origins};
use super::{Channel, History, Seasons, Split};
use tidecast_core::intervals::{
    ConformalOffsets, ErrorQuantiles, ModelOutput, SERIES_ERRORS_MIN, choose_volatility_gain,
    volatility_scale,
};
use tidecast_core::metrics::{Mean, naive_lag};
use tidecast_core::model::{
    Model, ModelManifest, QuantileOffsets, ResidualQuantiles, Score, ScoredSplit, SeriesKey,
};
use tidecast_core::series::{Scale, StepConfig, moments};

/// Limit of the origins of a split that are scored: the standard error of the mean is then far below one percent.
const ORIGINS_MAX: usize = 50_000;
/// Example forecasts per series.
const EXAMPLES: usize = 3;
/// Interval level of example forecasts.
pub const EXAMPLE_LEVEL: f64 = 0.8;

/// Scored origins of the validation and the test split.
pub struct ScoredOrigins {
    pub validation: Vec<Origin>,
    pub test: Vec<Origin>,
}

impl ScoredOrigins {
    /// Samples the origins of both splits; `group` consecutive ones are sampled as a unit.
    pub fn sample(history: &History, manifest: &ModelManifest, split: Split, group: usize) -> Self {
        // Scoring stores an error for the forecast and for each quantile.
        let values = manifest.horizon * (1 + manifest.probabilities().len());
        let limit = SampleLimit { origins: ORIGINS_MAX.min(OUTPUT_VALUES_MAX / values).max(1), group };
        let sample = |steps: Range<i64>| sample_origins(history, manifest, steps, limit);
        Self {
            validation: sample(split.train_end..split.validation_end),
            test: sample(split.validation_end..split.end),
        }
    }
}

/// Scores a model on both splits and sets its scores and residual quantiles; returns it with examples of the test split.
pub fn score_model(
    model: Model,
    pipeline: &TrainingSpec,
    history: &History,
    channels: &[Channel],
    split: Split,
    origins: &ScoredOrigins,
) -> (Model, Vec<ExampleSeries>) {
    let step_config = &pipeline.step_config;
    let scorer = SplitScorer::new(history, channels, step_config, &model, split);
    let validation = scorer.score(&origins.validation, ScoredSplit::Validation);
    let test = scorer.score(&origins.test, ScoredSplit::Test);
    let mut manifest = model.manifest.clone();
    manifest.scores = [&validation, &test].into_iter().flatten().map(|scores| scores.score.clone()).collect();
    let residuals = validation.and_then(|scores| scores.residuals);
    let model = Model::new(manifest, model.recurrence, model.cells, residuals);
    let scorer = SplitScorer::new(history, channels, step_config, &model, split);
    let examples = scorer.examples(&pipeline.columns.targets, &origins.test);
    (model, examples)
}

/// Score of a split, and the residual quantiles of the model on it.
struct SplitScores {
    score: Score,
    residuals: Option<ResidualQuantiles>,
}

/// Errors of one channel.
#[derive(Default)]
struct ChannelErrors {
    forecasts: u64,
    /// Absolute errors in standard deviations of the series.
    model: Mean,
    naive: Mean,
    seasonal: Mean,
    /// Scaled residuals by step of the horizon, NaN where nothing was observed.
    residuals: Vec<Vec<f32>>,
    /// Volatility of the series at each origin.
    volatility: Vec<f32>,
    /// Scaled residuals of the learned quantiles, `[quantile][step]`.
    quantile_residuals: Vec<Vec<Vec<f32>>>,
}

/// Scores a model on splits of a history.
struct SplitScorer<'a> {
    windows: Windows<'a>,
    channels: &'a [Channel],
    model: &'a Model,
    /// `[id][target]`
    spreads: Vec<Vec<f64>>,
    season: Option<usize>,
}

impl<'a> SplitScorer<'a> {
    fn new(
        history: &'a History,
        channels: &'a [Channel],
        step_config: &'a StepConfig,
        model: &'a Model,
        split: Split,
    ) -> Self {
        let windows = Windows { history, manifest: &model.manifest, step_config };
        let spreads = training_spreads(&windows, split.train_end);
        let season = Seasons::new(step_config.grid.every, split.train_end - split.first).day;
        Self { windows, channels, model, spreads, season }
    }

    fn spread(&self, origin: &Origin) -> f64 {
        let segment = &self.windows.history.segments[origin.segment as usize];
        self.spreads[segment.series][segment.target]
    }

    /// Origins of series that are not constant in the training split.
    fn scorable(&self, origins: &[Origin]) -> Vec<Origin> {
        origins.iter().filter(|origin| self.spread(origin) > 0.0).copied().collect()
    }

    /// Errors of each channel.
    fn errors(&self, origins: &[Origin], season: Option<usize>) -> Vec<ChannelErrors> {
        let manifest = self.windows.manifest;
        let of_channel = |(channel, origins): (usize, &Vec<Origin>)| {
            let residuals = vec![Vec::new(); manifest.horizon];
            let quantile_residuals = vec![residuals.clone(); manifest.probabilities().len()];
            let mut errors = ChannelErrors { residuals, quantile_residuals, ..ChannelErrors::default() };
            let model = BacktestModels::single(self.model);
            backtest(&self.windows, self.channels, channel, model, origins, |forecast| {
                self.add_errors(&mut errors, &forecast, season);
            });
            errors
        };
        let by_channel = group_by_channel(&self.windows, self.channels, origins);
        by_channel.par_iter().enumerate().map(of_channel).collect()
    }

    fn add_errors(&self, errors: &mut ChannelErrors, forecast: &BacktestForecast<'_>, season: Option<usize>) {
        let segment = &self.windows.history.segments[forecast.origin.segment as usize];
        let (index, unit) = (forecast.origin.index as usize, self.spread(&forecast.origin));
        errors.forecasts += 1;
        let is_scaled = forecast.scale.spread > 0.0;
        if is_scaled {
            errors.volatility.push(forecast.volatility);
            errors.residuals.iter_mut().for_each(|residuals| residuals.push(f32::NAN));
        }
        let actuals = self.windows.actuals(forecast.origin);
        for (i, (actual, value)) in actuals.zip(forecast.values).enumerate() {
            if actual.is_nan() {
                continue;
            }
            let error = |forecast: f64| (actual - forecast).abs() / unit;
            errors.model.add(error(forecast.scale.invert(*value)));
            errors.naive.add(error(segment.values[index]));
            if season.is_some() {
                errors.seasonal.add(error(segment.values[index + i + 1 - naive_lag(season, i + 1)]));
            }
            if let Some(residual) = errors.residuals[i].last_mut().filter(|_| is_scaled) {
                let actual = forecast.scale.apply(actual);
                *residual = actual - value;
                let quantiles = forecast.quantiles.iter().skip(i).step_by(self.windows.manifest.horizon);
                for (residuals, quantile) in errors.quantile_residuals.iter_mut().zip(quantiles) {
                    residuals[i].push(actual - quantile);
                }
            }
        }
    }

    /// Scores the model on `origins`; none if none of them can be scored.
    fn score(&self, origins: &[Origin], split: ScoredSplit) -> Option<SplitScores> {
        let scorable = self.scorable(origins);
        // All forecasts are compared on the same origins. The seasonal one is omitted if fewer than nine in ten origins have
        // a season of values before them.
        let has_season = |origin: &Origin| self.season.is_none_or(|s| origin.index as usize + 1 >= s);
        let seasonal: Vec<Origin> = scorable.iter().filter(|origin| has_season(origin)).copied().collect();
        let (scorable, season) = match seasonal.len() * 10 >= scorable.len() * 9 {
            true => (seasonal, self.season),
            false => (scorable, None),
        };
        let errors = self.errors(&scorable, season);
        let probabilities = self.model.manifest.probabilities();
        let of_series = |errors: &ChannelErrors| {
            let gain = errors.volatility_gain();
            let quantiles = ErrorQuantiles::for_series(errors.scaled_by_volatility(gain));
            let residuals = errors.quantile_residuals.clone();
            let offsets = ConformalOffsets::new(residuals, probabilities, SERIES_ERRORS_MIN);
            (quantiles.map(|quantiles| (quantiles, gain)), offsets)
        };
        let per_series = &errors[..self.model.manifest.series.len().min(errors.len())];
        let per_series: Vec<_> = per_series.par_iter().map(of_series).collect();
        let (per_series, per_series_offsets): (Vec<_>, Vec<_>) = per_series.into_iter().unzip();
        let total = errors.into_iter().reduce(ChannelErrors::merge)?;
        let score = Score {
            split,
            forecasts: total.forecasts,
            mae: total.model.value()?,
            naive_mae: total.naive.value()?,
            seasonal_naive_mae: total.seasonal.value(),
            season,
        };
        let pooled_gain = total.volatility_gain();
        let pooled = ErrorQuantiles::pooled(total.scaled_by_volatility(pooled_gain));
        let offsets = ConformalOffsets::new(total.quantile_residuals, probabilities, 1).map(|pooled| {
            let per_series = per_series_offsets.into_iter().map(|of| of.unwrap_or_else(|| pooled.clone()));
            QuantileOffsets { per_series: per_series.collect(), pooled }
        });
        let residuals = pooled.map(|pooled| {
            let of_series = per_series.into_iter().map(|of| of.unwrap_or((pooled.to_series(), pooled_gain)));
            let (per_series, mut volatility_gain): (Vec<_>, Vec<_>) = of_series.unzip();
            volatility_gain.push(pooled_gain);
            ResidualQuantiles { per_series, pooled, volatility_gain, offsets }
        });
        Some(SplitScores { score, residuals })
    }

    /// Channels that can be scored on `origins` and their mean absolute errors, ascending by error.
    fn channels_by_error(&self, origins: &[Origin]) -> Vec<(usize, f64)> {
        let errors = self.errors(&self.scorable(origins), None).into_iter().enumerate();
        let mut by_error: Vec<_> =
            errors.filter_map(|(channel, errors)| Some((channel, errors.model.value()?))).collect();
        by_error.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        by_error
    }
}

impl ChannelErrors {
    fn merge(mut self, other: Self) -> Self {
        self.forecasts += other.forecasts;
        self.model.merge(&other.model);
        self.naive.merge(&other.naive);
        self.seasonal.merge(&other.seasonal);
        let mine = self.residuals.iter_mut().chain(self.quantile_residuals.iter_mut().flatten());
        let others = other.residuals.into_iter().chain(other.quantile_residuals.into_iter().flatten());
        mine.zip(others).for_each(|(mine, others)| mine.extend(others));
        self.volatility.extend(other.volatility);
        self
    }

    /// Effect of volatility on the width of intervals, from the residuals in the middle of the horizon.
    fn volatility_gain(&self) -> f32 {
        let Some(residuals) = self.residuals.get(self.residuals.len() / 2) else { return 0.0 };
        let pairs = residuals.iter().copied().zip(self.volatility.iter().copied());
        choose_volatility_gain(&pairs.filter(|(residual, _)| !residual.is_nan()).collect::<Vec<_>>())
    }

    /// Residuals divided by the volatility scale, by step of the horizon.
    fn scaled_by_volatility(&self, gain: f32) -> Vec<Vec<f32>> {
        let of_step = |residuals: &Vec<f32>| {
            let pairs = residuals.iter().zip(&self.volatility).filter(|(residual, _)| !residual.is_nan());
            pairs.map(|(residual, volatility)| residual / volatility_scale(gain, *volatility)).collect()
        };
        self.residuals.iter().map(of_step).collect()
    }
}

/// Standard deviation of each series before step `until`, `[id][target]`; 0 where values are constant.
fn training_spreads(windows: &Windows<'_>, until: i64) -> Vec<Vec<f64>> {
    let history = windows.history;
    let targets = windows.manifest.targets.len();
    let mut values = vec![vec![Vec::new(); targets]; history.ids.len()];
    for segment in &history.segments {
        let observations = segment.observations(ALL_STEPS.start..until);
        values[segment.series][segment.target].extend(observations.map(|(_, value)| value));
    }
    let spread = |values: &Vec<f64>| Scale::from(moments(values)).spread;
    values.iter().map(|targets| targets.iter().map(spread).collect()).collect()
}

/// Rank of an example among all series by error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExampleRank {
    Best,
    Median,
    Worst,
}

impl ExampleRank {
    pub fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Median => "median",
            Self::Worst => "worst",
        }
    }
}

/// Forecasts of one series with the observations around them.
#[derive(Clone, Debug)]
pub struct ExampleSeries {
    pub series: SeriesKey,
    pub rank: ExampleRank,
    /// Mean absolute error in standard deviations of the series.
    pub mae: f64,
    /// Times in microseconds and values.
    pub observations: Vec<(i64, f64)>,
    pub forecasts: Vec<ExampleForecast>,
}

/// One forecast, with times in microseconds.
#[derive(Clone, Debug)]
pub struct ExampleForecast {
    pub values: Vec<(i64, f64)>,
    /// Lower and upper bounds of [`EXAMPLE_LEVEL`]; empty without intervals.
    pub bounds: Vec<(i64, f64, f64)>,
}

impl SplitScorer<'_> {
    /// Examples of the series with the least, the median and the largest error.
    fn examples(&self, targets: &[String], origins: &[Origin]) -> Vec<ExampleSeries> {
        let by_error = self.channels_by_error(origins);
        let Some(last) = by_error.len().checked_sub(1) else { return Vec::new() };
        let mut ranks =
            vec![(0, ExampleRank::Best), (last / 2, ExampleRank::Median), (last, ExampleRank::Worst)];
        ranks.dedup_by_key(|(index, _)| *index);
        let by_channel = group_by_channel(&self.windows, self.channels, origins);
        let example = |(index, rank): (usize, ExampleRank)| {
            let (channel, mae) = by_error[index];
            let (observations, forecasts) = self.example_forecasts(channel, &by_channel[channel]);
            let Channel { series, target, .. } = self.channels[channel];
            let id = self.windows.history.ids[series].clone();
            let series = SeriesKey { id, target: targets[target].clone() };
            ExampleSeries { series, rank, mae, observations, forecasts }
        };
        ranks.into_iter().map(example).collect()
    }

    /// Consecutive forecasts of a channel from its middle origin on, with the observations around them.
    fn example_forecasts(
        &self,
        channel: usize,
        origins: &[Origin],
    ) -> (Vec<(i64, f64)>, Vec<ExampleForecast>) {
        let (windows, horizon) = (&self.windows, self.windows.manifest.horizon);
        let grid = windows.step_config.grid;
        let middle = origins[origins.len() / 2];
        let segment = &windows.history.segments[middle.segment as usize];
        let is_selected = |origin: &&Origin| {
            let distance =
                origin.index.checked_sub(middle.index).filter(|_| origin.segment == middle.segment);
            distance.is_some_and(|distance| (distance as usize).is_multiple_of(horizon + 1))
        };
        let selected: Vec<Origin> = origins.iter().filter(is_selected).take(EXAMPLES).copied().collect();
        let bounds = self.model.residuals.is_some().then(|| self.model.bounds(EXAMPLE_LEVEL, Some(channel)));
        let mut forecasts = Vec::new();
        let model = BacktestModels::single(self.model);
        backtest(windows, self.channels, channel, model, &selected, |forecast| {
            let BacktestForecast { scale, values, quantiles, volatility, .. } = forecast;
            let step = segment.step(forecast.origin.index as usize);
            let time = |i: usize| grid.start_of(step + 1 + i as i64);
            let [mut lower, mut upper] = [(); 2].map(|()| vec![0.0; horizon]);
            if let Some(bounds) = &bounds {
                bounds.write(ModelOutput { values, quantiles, volatility }, &mut lower, &mut upper);
            }
            let pairs = lower.iter().zip(&upper).enumerate().filter(|_| bounds.is_some());
            forecasts.push(ExampleForecast {
                values: values.iter().enumerate().map(|(i, value)| (time(i), scale.invert(*value))).collect(),
                bounds: pairs.map(|(i, (l, u))| (time(i), scale.invert(*l), scale.invert(*u))).collect(),
            });
        });
        let end = selected.last().copied().unwrap_or(middle).index as usize + horizon + 1;
        let first = (middle.index as usize).saturating_sub(3 * horizon);
        let observations = segment.observations(segment.step(first)..segment.step(end));
        (observations.map(|(step, value)| (grid.start_of(step), value)).collect(), forecasts)
    }
}
