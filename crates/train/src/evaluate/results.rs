//! What an evaluation found, as values that are printed, drawn and written as JSON.

use serde::Serialize;

use super::bands::{Band, OverallBand};
use super::baselines::Kind;
use super::diebold_mariano::{Comparison, Verdict, compare};
use super::metrics::{Bounds, Errors, Metrics};
use super::parts::Told;
use super::scorer::{LaneScores, Sums, Task};
use crate::shards;

/// The whole of it.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    pub pipeline: String,
    /// The model's short hash.
    pub model: String,
    /// Steps of `every`.
    pub horizon: usize,
    pub every: String,
    pub levels: Vec<f64>,
    pub part: Told,
    /// What is said about how it was done.
    pub notes: Vec<String>,
    /// `ours`, then the baselines; everything by method is in this order.
    pub methods: Vec<String>,
    pub overall: Overall,
    /// The part that baselines were chosen on.
    pub validation: Overall,
    pub by_step: Vec<Step>,
    /// Intervals along time at a few steps of the horizon, over all series.
    pub intervals: Vec<OverallBand>,
    /// The baseline that was best on the validation part, over all series.
    pub best: String,
    pub verdicts: Verdicts,
    pub series: Vec<Series>,
}

/// Over all series.
#[derive(Clone, Debug, Serialize)]
pub struct Overall {
    pub series: usize,
    /// Of these, how many have a scale: the others are not in the means of what is measured by it.
    pub series_with_scale: usize,
    pub forecasts: u64,
    pub methods: Vec<Means>,
    /// Of the naive forecast with the quantiles of its residuals around it, on the series where there are enough of them.
    pub naive_intervals: Option<NaiveIntervals>,
}

/// One method over all series.
#[derive(Clone, Debug, Serialize)]
pub struct Means {
    pub method: String,
    /// Means over series, each counting the same.
    pub mase: Option<f64>,
    pub smape: f64,
    pub levels: Vec<LevelMeans>,
    /// Over all values of all series, in the readings' units.
    pub pooled: Metrics,
}

#[derive(Clone, Debug, Serialize)]
pub struct LevelMeans {
    pub level: f64,
    pub coverage: f64,
    pub scaled_interval_score: Option<f64>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NaiveIntervals {
    pub series: usize,
    /// Of these series alone.
    pub naive: Vec<LevelMeans>,
    pub ours: Vec<LevelMeans>,
}

/// One step of the horizon, over all series.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// 1 is the step after the origin.
    pub step: usize,
    /// Mean over series, by method.
    pub mase: Vec<Option<f64>>,
    /// Over all values, by method.
    pub mae: Vec<f64>,
    /// Of our intervals, by level.
    pub coverage: Vec<f64>,
}

/// How many series ours is better on than the baseline that was best for each on the validation part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdicts {
    pub better: usize,
    pub worse: usize,
    pub cannot_tell: usize,
    pub too_short: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct Series {
    pub series: String,
    pub target: String,
    pub forecasts: u64,
    /// Mean absolute error of the naive forecast in the training part; none where it is 0 or there is none.
    pub scale: Option<f64>,
    pub methods: Vec<Metrics>,
    /// `[method][step]`
    pub mae_by_step: Vec<Vec<f64>>,
    pub naive_intervals: Option<Metrics>,
    /// The baseline that was best on the validation part, as its place among the methods.
    pub best: usize,
    /// Ours against it.
    pub comparison: Comparison,
    /// Its intervals along time.
    pub intervals: Vec<Band>,
    /// The lane it came from.
    #[serde(skip)]
    pub lane: usize,
}

/// The circumstances of an evaluation.
#[derive(Clone, Debug)]
pub struct About {
    pub pipeline: String,
    pub model: String,
    pub every_text: String,
    /// Steps between two origins.
    pub every: u32,
    pub notes: Vec<String>,
}

/// Sums over the steps of a horizon.
fn over<T: Default>(steps: &[T], plus: impl Fn(&mut T, &T)) -> T {
    let mut sum = T::default();
    steps.iter().for_each(|step| plus(&mut sum, step));
    sum
}

fn all_steps(errors: &[Errors], bounds: &[Vec<Bounds>], levels: &[f64], scale: Option<f64>) -> Metrics {
    let bounds: Vec<Bounds> = bounds.iter().map(|steps| over(steps, Bounds::plus)).collect();
    let bounds = if bounds.iter().any(|bounds| bounds.count == 0) { &[][..] } else { &bounds };
    Metrics::of(&over(errors, Errors::plus), levels, bounds, scale)
}

/// The mean of what is there.
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values.flatten() {
        sum += value;
        count += 1.0;
    }
    (count > 0.0).then(|| sum / count)
}

/// Puts together what the scores say.
pub fn results(
    task: &Task<'_>,
    lanes: &[LaneScores<'_>],
    (bands, intervals): (Vec<Vec<Band>>, Vec<OverallBand>),
    about: About,
) -> Evaluation {
    let names: Vec<&str> = task.baselines.kinds.iter().map(Kind::name).collect();
    let methods: Vec<String> = std::iter::once("ours").chain(names).map(str::to_owned).collect();
    let overlap = task.horizon.div_ceil(about.every.max(1) as usize);
    let shown: Vec<usize> = (0..lanes.len()).filter(|lane| lanes[*lane].scored.forecasts > 0).collect();
    // On all cores: the test takes as many multiplications a series as there are origins times their overlap.
    let mut series = shards::each(shown.len(), || (), |(), i| one(task, shown[i], &lanes[shown[i]], overlap));
    for series in &mut series {
        series.intervals = bands.get(series.lane).cloned().unwrap_or_default();
    }
    series.sort_by(|a, b| (&a.series, &a.target).cmp(&(&b.series, &b.target)));
    let validated = lanes.iter().any(|lane| lane.validation.forecasts > 0);
    let overall = overall(task, lanes, &methods, |lane| &lane.scored);
    let validation = self::overall(task, lanes, &methods, |lane| &lane.validation);
    let best = best_of(if validated { &validation } else { &overall });
    let mut notes = about.notes;
    if !validated {
        notes.push(
            "there is no validation part: the best baseline was chosen on the scored part, in its favour"
                .into(),
        );
    }
    let mut verdicts = Verdicts::default();
    for series in &series {
        *match series.comparison.verdict {
            Verdict::Better => &mut verdicts.better,
            Verdict::Worse => &mut verdicts.worse,
            Verdict::CannotTell => &mut verdicts.cannot_tell,
            Verdict::TooShort => &mut verdicts.too_short,
        } += 1;
    }
    Evaluation {
        pipeline: about.pipeline,
        model: about.model,
        horizon: task.horizon,
        every: about.every_text,
        levels: task.levels.to_vec(),
        part: task.parts.told.clone(),
        notes,
        best: methods[best].clone(),
        by_step: (0..task.horizon).map(|step| by_step(task, lanes, step)).collect(),
        methods,
        intervals,
        overall,
        validation,
        verdicts,
        series,
    }
}

/// Place of the baseline with the least MASE over all series, or the least error where no series has a scale.
fn best_of(overall: &Overall) -> usize {
    let error = |place: &usize| {
        let means = &overall.methods[*place];
        means.mase.unwrap_or(means.pooled.mae)
    };
    (1..overall.methods.len()).min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0)
}

fn one(task: &Task<'_>, number: usize, lane: &LaneScores<'_>, overlap: usize) -> Series {
    let Task { history, lanes, baselines, levels, targets, .. } = *task;
    let scale = baselines.fitted[number].scale;
    let chosen_on = if lane.validation.forecasts > 0 { &lane.validation } else { &lane.scored };
    let mae = |place: &usize| over(&chosen_on.errors[*place], Errors::plus).mae();
    let best = (1..chosen_on.errors.len()).min_by(|a, b| mae(a).total_cmp(&mae(b))).unwrap_or(0);
    let Sums { forecasts, errors, ours, naive } = &lane.scored;
    let naive_intervals = baselines.fitted[number].bounds.as_ref().filter(|bounds| !bounds.is_empty());
    let naive_place = usize::from(baselines.seasons.first().is_some());
    let of_method = |(place, errors): (usize, &Vec<Errors>)| {
        all_steps(errors, if place == 0 { ours } else { &[] }, levels, scale)
    };
    Series {
        series: history.ids[lanes[number].series].clone(),
        target: targets[lanes[number].target].clone(),
        forecasts: *forecasts,
        scale,
        methods: errors.iter().enumerate().map(of_method).collect(),
        mae_by_step: errors.iter().map(|steps| steps.iter().map(Errors::mae).collect()).collect(),
        naive_intervals: naive_intervals.map(|_| all_steps(&errors[1 + naive_place], naive, levels, scale)),
        best,
        comparison: compare(&lane.losses[0], &lane.losses[best], overlap),
        intervals: Vec::new(),
        lane: number,
    }
}

fn overall<'a>(
    task: &Task<'_>,
    lanes: &'a [LaneScores<'_>],
    methods: &[String],
    part: impl Fn(&'a LaneScores<'_>) -> &'a Sums,
) -> Overall {
    let Task { baselines, levels, .. } = *task;
    let parts: Vec<(&Sums, Option<f64>, bool)> = lanes
        .iter()
        .zip(&baselines.fitted)
        .map(|(lane, fitted)| (part(lane), fitted.scale, fitted.bounds.is_some()))
        .filter(|(sums, ..)| sums.forecasts > 0)
        .collect();
    let means = |method: usize| {
        let bounds = |sums: &'a Sums| if method == 0 { &sums.ours[..] } else { &[] };
        let each: Vec<Metrics> = parts
            .iter()
            .map(|(sums, scale, _)| all_steps(&sums.errors[method], bounds(sums), levels, *scale))
            .collect();
        let mut errors = Errors::default();
        let mut pooled = vec![Bounds::default(); if method == 0 { levels.len() } else { 0 }];
        for (sums, ..) in &parts {
            errors.plus(&over(&sums.errors[method], Errors::plus));
            for (pooled, steps) in pooled.iter_mut().zip(bounds(sums)) {
                pooled.plus(&over(steps, Bounds::plus));
            }
        }
        Means {
            method: methods[method].clone(),
            mase: mean(each.iter().map(|metrics| metrics.mase)),
            smape: mean(each.iter().map(|metrics| Some(metrics.smape))).unwrap_or(f64::NAN),
            levels: if method == 0 { level_means(levels, &each) } else { Vec::new() },
            pooled: Metrics::of(&errors, levels, &pooled, None),
        }
    };
    let with_bounds: Vec<_> = parts.iter().filter(|(.., there)| *there && !levels.is_empty()).collect();
    let naive_intervals = (!with_bounds.is_empty()).then(|| {
        let of = |bounds: fn(&Sums) -> &Vec<Vec<Bounds>>| {
            let each: Vec<Metrics> = with_bounds
                .iter()
                .map(|(sums, scale, _)| all_steps(&sums.errors[0], bounds(sums), levels, *scale))
                .collect();
            level_means(levels, &each)
        };
        NaiveIntervals {
            series: with_bounds.len(),
            naive: of(|sums| &sums.naive),
            ours: of(|sums| &sums.ours),
        }
    });
    Overall {
        series: parts.len(),
        series_with_scale: parts.iter().filter(|(_, scale, _)| scale.is_some()).count(),
        forecasts: parts.iter().map(|(sums, ..)| sums.forecasts).sum(),
        methods: (0..methods.len()).map(means).collect(),
        naive_intervals,
    }
}

fn level_means(levels: &[f64], each: &[Metrics]) -> Vec<LevelMeans> {
    let of_level = |(place, level): (usize, &f64)| {
        let there = || each.iter().map(|metrics| metrics.levels.get(place));
        LevelMeans {
            level: *level,
            coverage: mean(there().map(|metrics| metrics.map(|m| m.coverage))).unwrap_or(f64::NAN),
            scaled_interval_score: mean(there().map(|metrics| metrics.and_then(|m| m.scaled_interval_score))),
        }
    };
    levels.iter().enumerate().map(of_level).collect()
}

fn by_step(task: &Task<'_>, lanes: &[LaneScores<'_>], step: usize) -> Step {
    let methods = 0..=task.baselines.kinds.len();
    let scaled = |method: usize| {
        let each = lanes.iter().zip(&task.baselines.fitted).map(|(lane, fitted)| {
            let errors = &lane.scored.errors[method][step];
            fitted.scale.filter(|_| errors.count > 0).map(|scale| errors.mae() / scale)
        });
        mean(each)
    };
    let pooled = |method: usize| {
        let mut sum = Errors::default();
        lanes.iter().for_each(|lane| sum.plus(&lane.scored.errors[method][step]));
        sum.mae()
    };
    let coverage = |level: usize| {
        let mut sum = Bounds::default();
        lanes.iter().for_each(|lane| sum.plus(&lane.scored.ours[level][step]));
        sum.inside as f64 / sum.count as f64
    };
    Step {
        step: step + 1,
        mase: methods.clone().map(scaled).collect(),
        mae: methods.map(pooled).collect(),
        coverage: (0..task.levels.len()).map(coverage).collect(),
    }
}
