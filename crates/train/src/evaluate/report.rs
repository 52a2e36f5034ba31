//! Results of an evaluation as values that are printed, drawn and written as JSON.

use rayon::prelude::*;
use serde::Serialize;

use super::baselines::{Baseline, ChannelFit};
use super::diebold_mariano::{Comparison, Verdict, compare};
use super::intervals::{IntervalResults, LevelIntervals, MethodIntervalMeans, MethodIntervals};
use super::scorer::{ChannelScores, EvaluationTask, SplitSums};
use super::split::SplitReport;
use tidecast_core::metrics::{ErrorSums, IntervalSums, Mean, mase};

#[derive(Clone, Debug, Serialize)]
pub struct EvaluationReport {
    pub pipeline: String,
    /// Short hash of the model.
    pub model: String,
    /// Steps of a forecast.
    pub horizon: usize,
    /// Length of a step, such as "1h".
    pub every: String,
    pub levels: Vec<f64>,
    pub split: SplitReport,
    pub notes: Vec<String>,
    /// `model`, then the baselines: the order of everything that is listed by method.
    pub methods: Vec<String>,
    /// The scored range, over all series.
    pub overall: OverallReport,
    /// The validation range, over all series.
    pub validation: OverallReport,
    pub by_step: Vec<StepReport>,
    /// Coverage over time at some steps of the horizon, over all series.
    pub intervals: Vec<LevelIntervals<MethodIntervalMeans>>,
    /// The baseline with the least error over all series on the validation range.
    pub best_baseline: String,
    pub verdicts: VerdictCounts,
    pub series: Vec<SeriesReport>,
}

/// Results over all series.
#[derive(Clone, Debug, Serialize)]
pub struct OverallReport {
    pub series: usize,
    /// Series that contribute to scaled means.
    pub series_with_naive_mae: usize,
    pub forecasts: u64,
    pub methods: Vec<MethodReport>,
    /// Intervals of the naive forecast and its residual quantiles; none where all series have too few residuals.
    pub naive_intervals: Option<NaiveIntervalReport>,
}

/// One method over all series.
#[derive(Clone, Debug, Serialize)]
pub struct MethodReport {
    pub method: String,
    /// Mean over series, with equal weights.
    pub mase: Option<f64>,
    /// Mean over series, with equal weights.
    pub smape: f64,
    pub levels: Vec<LevelMeans>,
    /// Over all values of all series, in the unit of the observations.
    pub pooled: MethodMetrics,
}

/// Means over series of the intervals of one level, with equal weights.
#[derive(Clone, Debug, Serialize)]
pub struct LevelMeans {
    pub level: f64,
    pub coverage: f64,
    pub scaled_interval_score: Option<f64>,
}

/// Intervals of the naive forecast and of the model, on the series that have both.
#[derive(Clone, Debug, Serialize)]
pub struct NaiveIntervalReport {
    pub series: usize,
    pub naive: Vec<LevelMeans>,
    pub model: Vec<LevelMeans>,
}

/// One step of the horizon over all series.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// Steps after the origin, from 1.
    pub step: usize,
    /// Mean over series, by method.
    pub mase: Vec<Option<f64>>,
    /// Over all values, by method.
    pub mae: Vec<f64>,
    /// Coverage of the model's intervals, by level.
    pub coverage: Vec<f64>,
}

/// Number of series by the verdict on the model against the best baseline of the series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerdictCounts {
    pub better: usize,
    pub worse: usize,
    pub inconclusive: usize,
    pub too_short: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct SeriesReport {
    pub series: String,
    pub target: String,
    pub forecasts: u64,
    /// Mean absolute error of the naive forecast in the training range; none where that is 0 or unknown.
    pub naive_mae: Option<f64>,
    pub methods: Vec<MethodMetrics>,
    /// `[method][step]`
    pub mae_by_step: Vec<Vec<f64>>,
    pub naive_intervals: Option<MethodMetrics>,
    /// Index of the method that is the best baseline on the validation range.
    pub best_baseline: usize,
    /// The model against that baseline.
    pub comparison: Comparison,
    /// Coverage over time at some steps of the horizon.
    pub intervals: Vec<LevelIntervals<MethodIntervals>>,
    /// Index of the channel.
    #[serde(skip)]
    pub channel: usize,
}

/// Metrics of one method, in the unit of the observations unless relative.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodMetrics {
    /// Compared values.
    pub values: u64,
    pub mae: f64,
    pub mse: f64,
    pub rmse: f64,
    /// Percent.
    pub smape: f64,
    /// None without a naive error.
    pub mase: Option<f64>,
    /// Mean over the median, which is the point forecast, and both bounds of each level; none without levels.
    pub pinball_loss: Option<f64>,
    pub levels: Vec<LevelMetrics>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LevelMetrics {
    pub level: f64,
    pub coverage: f64,
    pub width: f64,
    pub interval_score: f64,
    /// Interval score divided by the naive error; none without one.
    pub scaled_interval_score: Option<f64>,
}

/// Description of the run for a report.
#[derive(Clone, Debug)]
pub struct RunInfo {
    pub pipeline: String,
    pub model: String,
    /// Length of a step as text.
    pub every: String,
    /// Steps between two origins.
    pub origin_stride: u32,
    pub notes: Vec<String>,
}

impl MethodMetrics {
    fn new(errors: &ErrorSums, levels: &[f64], intervals: &[IntervalSums], naive_mae: Option<f64>) -> Self {
        let (mae, mse) = (errors.mae(), errors.mse());
        let of_level = |(level, sums): (&f64, &IntervalSums)| LevelMetrics {
            level: *level,
            coverage: sums.coverage(),
            width: sums.width(),
            interval_score: sums.score(),
            scaled_interval_score: naive_mae.map(|naive_mae| sums.score() / naive_mae),
        };
        let bounds: f64 = intervals.iter().map(IntervalSums::pinball_loss).sum();
        let median = 0.5 * mae;
        Self {
            values: errors.count,
            mae,
            mse,
            rmse: mse.sqrt(),
            smape: errors.smape(),
            mase: naive_mae.and_then(|naive_mae| mase(mae, naive_mae)),
            pinball_loss: (!intervals.is_empty())
                .then(|| (median + bounds) / (1 + 2 * intervals.len()) as f64),
            levels: levels.iter().zip(intervals).map(of_level).collect(),
        }
    }

    /// Metrics over all steps of the horizon, from `[step]` and `[level][step]`.
    fn over_horizon(
        errors: &[ErrorSums],
        intervals: &[Vec<IntervalSums>],
        levels: &[f64],
        naive_mae: Option<f64>,
    ) -> Self {
        let intervals: Vec<IntervalSums> = intervals.iter().map(sum_intervals).collect();
        let has_values = intervals.iter().all(|sums| sums.count > 0);
        Self::new(&sum_errors(errors), levels, if has_values { &intervals } else { &[] }, naive_mae)
    }
}

fn sum_errors<'a>(steps: impl IntoIterator<Item = &'a ErrorSums>) -> ErrorSums {
    let mut sum = ErrorSums::default();
    steps.into_iter().for_each(|step| sum.merge(step));
    sum
}

fn sum_intervals<'a>(steps: impl IntoIterator<Item = &'a IntervalSums>) -> IntervalSums {
    let mut sum = IntervalSums::default();
    steps.into_iter().for_each(|step| sum.merge(step));
    sum
}

/// Mean of the present values; none without any.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    values.flatten().collect::<Mean>().value()
}

/// Assembles the report from the scores of each channel.
pub fn report(
    task: &EvaluationTask<'_>,
    channels: &[ChannelScores<'_>],
    intervals: IntervalResults,
    info: RunInfo,
) -> EvaluationReport {
    let baselines = task.baselines.kinds.iter().copied().map(Baseline::name);
    let methods: Vec<String> = std::iter::once("model").chain(baselines).map(str::to_owned).collect();
    let overlap = task.horizon.div_ceil(info.origin_stride.max(1) as usize);
    // In parallel: the significance test of a series takes origins x overlap multiplications.
    let mut series: Vec<SeriesReport> = (0..channels.len())
        .into_par_iter()
        .filter(|channel| channels[*channel].scored.forecasts > 0)
        .map(|channel| series_report(task, channel, &channels[channel], overlap))
        .collect();
    for series in &mut series {
        series.intervals = intervals.channels.get(series.channel).cloned().unwrap_or_default();
    }
    series.sort_by(|a, b| (&a.series, &a.target).cmp(&(&b.series, &b.target)));
    let overall = overall_report(task, channels, &methods, |channel| &channel.scored);
    let validation = overall_report(task, channels, &methods, |channel| &channel.validation);
    let mut notes = info.notes;
    let best = if validation.forecasts > 0 {
        best_baseline(&validation)
    } else {
        notes.push(
            "there is no validation range: the best baseline is selected on the scored range, to its advantage".into(),
        );
        best_baseline(&overall)
    };
    EvaluationReport {
        pipeline: info.pipeline,
        model: info.model,
        horizon: task.horizon,
        every: info.every,
        levels: task.levels.to_vec(),
        split: task.split.report.clone(),
        notes,
        best_baseline: methods[best].clone(),
        by_step: (0..task.horizon).map(|step| step_report(task, channels, step)).collect(),
        methods,
        intervals: intervals.overall,
        overall,
        validation,
        verdicts: VerdictCounts::new(&series),
        series,
    }
}

impl VerdictCounts {
    fn new(series: &[SeriesReport]) -> Self {
        let mut counts = Self::default();
        for series in series {
            *match series.comparison.verdict {
                Verdict::Better => &mut counts.better,
                Verdict::Worse => &mut counts.worse,
                Verdict::Inconclusive => &mut counts.inconclusive,
                Verdict::TooShort => &mut counts.too_short,
            } += 1;
        }
        counts
    }
}

/// Index of the baseline with the least MASE over all series, or the least MAE where no series has a naive error.
fn best_baseline(overall: &OverallReport) -> usize {
    let error = |method: &usize| {
        let report = &overall.methods[*method];
        report.mase.unwrap_or(report.pooled.mae)
    };
    (1..overall.methods.len()).min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0)
}

fn series_report(
    task: &EvaluationTask<'_>,
    channel: usize,
    scores: &ChannelScores<'_>,
    overlap: usize,
) -> SeriesReport {
    let EvaluationTask { history, channels, baselines, levels, targets, .. } = *task;
    let fit = &baselines.channels[channel];
    let selection = if scores.validation.forecasts > 0 { &scores.validation } else { &scores.scored };
    let mae = |method: &usize| sum_errors(&selection.errors[*method]).mae();
    let best_baseline = (1..selection.errors.len()).min_by(|a, b| mae(a).total_cmp(&mae(b))).unwrap_or(0);
    let SplitSums { forecasts, errors, intervals, naive_intervals } = &scores.scored;
    let naive_method = 1 + usize::from(baselines.seasons.shortest().is_some());
    let metrics = |(method, errors): (usize, &Vec<ErrorSums>)| {
        let intervals = if method == 0 { &intervals[..] } else { &[] };
        MethodMetrics::over_horizon(errors, intervals, levels, fit.naive_mae)
    };
    SeriesReport {
        series: history.ids[channels[channel].series].clone(),
        target: targets[channels[channel].target].clone(),
        forecasts: *forecasts,
        naive_mae: fit.naive_mae,
        methods: errors.iter().enumerate().map(metrics).collect(),
        mae_by_step: errors.iter().map(|steps| steps.iter().map(ErrorSums::mae).collect()).collect(),
        naive_intervals: fit.residual_bounds.is_some().then(|| {
            MethodMetrics::over_horizon(&errors[naive_method], naive_intervals, levels, fit.naive_mae)
        }),
        best_baseline,
        comparison: compare(&scores.losses[0], &scores.losses[best_baseline], overlap),
        intervals: Vec::new(),
        channel,
    }
}

/// Sums of one channel and its baselines.
struct ChannelSums<'a> {
    sums: &'a SplitSums,
    fit: &'a ChannelFit,
}

fn overall_report<'a>(
    task: &EvaluationTask<'a>,
    channels: &'a [ChannelScores<'_>],
    methods: &[String],
    range: impl Fn(&'a ChannelScores<'_>) -> &'a SplitSums,
) -> OverallReport {
    let EvaluationTask { baselines, levels, .. } = *task;
    let all: Vec<ChannelSums<'_>> = channels
        .iter()
        .zip(&baselines.channels)
        .map(|(scores, fit)| ChannelSums { sums: range(scores), fit })
        .filter(|channel| channel.sums.forecasts > 0)
        .collect();
    OverallReport {
        series: all.len(),
        series_with_naive_mae: all.iter().filter(|channel| channel.fit.naive_mae.is_some()).count(),
        forecasts: all.iter().map(|channel| channel.sums.forecasts).sum(),
        methods: methods.iter().enumerate().map(|(i, name)| method_report(&all, i, name, levels)).collect(),
        naive_intervals: naive_interval_report(&all, levels),
    }
}

fn method_report(channels: &[ChannelSums<'_>], method: usize, name: &str, levels: &[f64]) -> MethodReport {
    let is_model = method == 0;
    let levels = if is_model { levels } else { &[] };
    let of_channel = |channel: &ChannelSums<'_>| {
        let intervals = if is_model { &channel.sums.intervals[..] } else { &[] };
        MethodMetrics::over_horizon(&channel.sums.errors[method], intervals, levels, channel.fit.naive_mae)
    };
    let each: Vec<MethodMetrics> = channels.iter().map(of_channel).collect();
    let mut errors = ErrorSums::default();
    let mut intervals = vec![IntervalSums::default(); levels.len()];
    for channel in channels {
        errors.merge(&sum_errors(&channel.sums.errors[method]));
        for (sum, steps) in intervals.iter_mut().zip(&channel.sums.intervals) {
            sum.merge(&sum_intervals(steps));
        }
    }
    MethodReport {
        method: name.to_owned(),
        mase: mean(each.iter().map(|metrics| metrics.mase)),
        smape: mean(each.iter().map(|metrics| Some(metrics.smape))).unwrap_or(f64::NAN),
        levels: level_means(levels, &each),
        pooled: MethodMetrics::new(&errors, levels, &intervals, None),
    }
}

fn naive_interval_report(channels: &[ChannelSums<'_>], levels: &[f64]) -> Option<NaiveIntervalReport> {
    let has_bounds = |channel: &&ChannelSums<'_>| channel.fit.residual_bounds.is_some();
    let channels: Vec<_> = channels.iter().filter(has_bounds).collect();
    let means = |intervals: fn(&SplitSums) -> &Vec<Vec<IntervalSums>>| {
        let of_channel = |ChannelSums { sums, fit }: &&ChannelSums<'_>| {
            MethodMetrics::over_horizon(&sums.errors[0], intervals(sums), levels, fit.naive_mae)
        };
        level_means(levels, &channels.iter().map(of_channel).collect::<Vec<_>>())
    };
    (!channels.is_empty()).then(|| NaiveIntervalReport {
        series: channels.len(),
        naive: means(|sums| &sums.naive_intervals),
        model: means(|sums| &sums.intervals),
    })
}

fn level_means(levels: &[f64], each: &[MethodMetrics]) -> Vec<LevelMeans> {
    let of_level = |(index, level): (usize, &f64)| {
        let metrics = || each.iter().map(|metrics| metrics.levels.get(index));
        LevelMeans {
            level: *level,
            coverage: mean(metrics().map(|metrics| Some(metrics?.coverage))).unwrap_or(f64::NAN),
            scaled_interval_score: mean(metrics().map(|metrics| metrics?.scaled_interval_score)),
        }
    };
    levels.iter().enumerate().map(of_level).collect()
}

fn step_report(task: &EvaluationTask<'_>, channels: &[ChannelScores<'_>], step: usize) -> StepReport {
    let methods = 0..=task.baselines.kinds.len();
    let scaled = |method: usize| {
        let fits = channels.iter().zip(&task.baselines.channels);
        mean(fits.map(|(channel, fit)| {
            let errors = &channel.scored.errors[method][step];
            mase(errors.mae(), fit.naive_mae.filter(|_| errors.count > 0)?)
        }))
    };
    let pooled =
        |method: usize| sum_errors(channels.iter().map(|channel| &channel.scored.errors[method][step])).mae();
    let coverage = |level: usize| {
        sum_intervals(channels.iter().map(|channel| &channel.scored.intervals[level][step])).coverage()
    };
    StepReport {
        step: step + 1,
        mase: methods.clone().map(scaled).collect(),
        mae: methods.map(pooled).collect(),
        coverage: (0..task.levels.len()).map(coverage).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidecast_core::metrics::Interval;

    #[test]
    fn method_metrics_match_hand_computation() {
        // y 10 12 8 0, ŷ 8 12 9 1: errors 2 0 -1 -1
        let (mut errors, mut intervals) = (ErrorSums::default(), IntervalSums::default());
        for (actual, forecast) in [(10.0, 8.0), (12.0, 12.0), (8.0, 9.0), (0.0, 1.0)] {
            errors.add(actual, forecast);
            intervals.add(&Interval { level: 0.5, lower: forecast - 1.0, upper: forecast + 1.0 }, actual);
        }
        let metrics = MethodMetrics::new(&errors, &[0.5], &[intervals], Some(4.0));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(close(metrics.rmse, 1.5f64.sqrt()) && close(metrics.mase.unwrap(), 0.25));
        assert!(close(metrics.levels[0].scaled_interval_score.unwrap(), 0.75));
        // Median: 0.5 |e|, in total 2. Lower bound, p = .25, y - l = 3 1 0 0: 1. Upper bound, p = .75, y - u = 1 -1 -2 -2: 2.
        assert!(close(metrics.pinball_loss.unwrap(), (2.0 + 1.0 + 2.0) / 4.0 / 3.0));
    }

    #[test]
    fn metrics_without_levels_or_naive_error_are_absent() {
        let mut errors = ErrorSums::default();
        errors.add(1.0, 2.0);
        let metrics = MethodMetrics::new(&errors, &[], &[], None);
        assert_eq!((metrics.pinball_loss, metrics.mase, metrics.levels.len()), (None, None, 0));
    }
}
