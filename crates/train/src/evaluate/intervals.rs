//! Coverage of intervals over time, at a few steps of the horizon: the calibrated intervals, the uncorrected intervals of the
//! model, and those intervals calibrated by reference conformal methods, at the same origins.

use std::collections::VecDeque;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float32Type;
use serde::Serialize;

use super::scorer::{ChannelIndex, EvaluationTask};
use super::timeline::SeriesTimeline;
use tidecast_core::metrics::{Interval, IntervalSums};
use tidecast_core::schema::Forecasts;

/// Consecutive forecasts per value of the rolling coverage.
pub const COVERAGE_WINDOW: usize = 500;

/// Scores whose quantile ACI takes.
const SCORES_MAX: usize = COVERAGE_WINDOW;
/// Scores before the first correction: tail quantiles of fewer are random.
const SCORES_MIN: usize = 100;
/// γ of ACI, as published.
const GAMMA: f64 = 0.005;

/// A reference conformal method. Each extends the model's interval on both sides by a threshold on past conformity scores,
/// s = max(lower - y, y - upper) / width (conformalised quantile regression).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConformalMethod {
    /// Adaptive conformal inference (Gibbs and Candès, "Adaptive conformal inference under distribution shift", 2021).
    Aci,
    /// Scale-free online gradient descent (Bhatnagar, Wang, Xiong and Bai, "Improved online conformal prediction via strongly
    /// adaptive online learning", 2023).
    SfOgd,
}

impl ConformalMethod {
    const ALL: [Self; 2] = [Self::Aci, Self::SfOgd];

    fn name(self) -> &'static str {
        match self {
            Self::Aci => "ACI",
            Self::SfOgd => "SF-OGD",
        }
    }
}

/// Threshold of one method, level, channel and step of the horizon.
#[derive(Clone, Debug)]
enum Threshold {
    Aci { miss_target: f64, miss_rate: f64, recent: VecDeque<f64>, sorted: Vec<f64> },
    SfOgd { miss_target: f64, threshold: f64, scale: f64, squared_gradients: f64, count: usize },
}

impl Threshold {
    fn new(method: ConformalMethod, level: f64) -> Self {
        let miss_target = 1.0 - level;
        match method {
            ConformalMethod::Aci => {
                Self::Aci { miss_target, miss_rate: miss_target, recent: VecDeque::new(), sorted: Vec::new() }
            }
            ConformalMethod::SfOgd => {
                Self::SfOgd { miss_target, threshold: 0.0, scale: 0.0, squared_gradients: 0.0, count: 0 }
            }
        }
    }

    fn value(&self) -> f64 {
        match self {
            // The 1 - α_t quantile of past scores. The infinite quantile at α_t ≤ 0 is replaced by the largest score, in
            // favour of the method.
            Self::Aci { miss_rate, sorted, .. } if sorted.len() >= SCORES_MIN => {
                let rank = ((1.0 - miss_rate) * (sorted.len() + 1) as f64).ceil();
                sorted[(rank.clamp(1.0, sorted.len() as f64)) as usize - 1]
            }
            Self::Aci { .. } => 0.0,
            Self::SfOgd { threshold, .. } => *threshold,
        }
    }

    /// Updates with a score and the threshold that was in force for it.
    fn update(&mut self, score: f64, issued: f64) {
        let missed = f64::from(u8::from(score > issued));
        match self {
            Self::Aci { miss_target, miss_rate, recent, sorted } => {
                // α ← α + γ (α* - err)
                *miss_rate += GAMMA * (*miss_target - missed);
                recent.push_back(score);
                sorted.insert(sorted.partition_point(|other| *other < score), score);
                if recent.len() > SCORES_MAX {
                    let oldest = recent.pop_front().expect("it is not empty");
                    sorted.remove(sorted.partition_point(|other| *other < oldest));
                }
            }
            Self::SfOgd { miss_target, threshold, scale, squared_gradients, count } => {
                // q ← q + D/√3 (err - α) / √Σ (err - α)², where D is the largest of the first scores
                let gradient = missed - *miss_target;
                *squared_gradients += gradient * gradient;
                *count += 1;
                if *count <= SCORES_MIN {
                    *scale = scale.max(score.abs());
                }
                *threshold += *scale / 3f64.sqrt() * gradient / squared_gradients.sqrt();
            }
        }
    }
}

/// Coverage and score of the intervals of one method, level, channel and step of the horizon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IntervalStats {
    pub forecasts: u64,
    /// Fraction of actual values inside the interval, bounds included.
    pub coverage: f64,
    /// Fraction of actual values exactly on a bound.
    pub ties: f64,
    /// Least coverage of any [`COVERAGE_WINDOW`] consecutive forecasts; none of fewer.
    pub min_rolling_coverage: Option<f64>,
    /// Mean interval score, in the unit of the observations.
    pub interval_score: f64,
}

/// Accumulates [`IntervalStats`].
#[derive(Clone, Debug, Default)]
struct IntervalTracker {
    sums: IntervalSums,
    recent: VecDeque<bool>,
    recent_covered: usize,
    min_rolling_coverage: Option<f64>,
}

impl IntervalTracker {
    fn add(&mut self, interval: &Interval, actual: f64) {
        let is_covered = interval.contains(actual);
        self.sums.add(interval, actual);
        self.recent.push_back(is_covered);
        self.recent_covered += usize::from(is_covered);
        if self.recent.len() > COVERAGE_WINDOW {
            self.recent_covered -= usize::from(self.recent.pop_front() == Some(true));
        }
        if self.recent.len() == COVERAGE_WINDOW {
            let coverage = self.recent_covered as f64 / COVERAGE_WINDOW as f64;
            self.min_rolling_coverage =
                Some(self.min_rolling_coverage.map_or(coverage, |min| min.min(coverage)));
        }
    }

    /// None without forecasts.
    fn stats(&self) -> Option<IntervalStats> {
        (self.sums.count > 0).then(|| IntervalStats {
            forecasts: self.sums.count,
            coverage: self.sums.coverage(),
            ties: self.sums.ties(),
            min_rolling_coverage: self.min_rolling_coverage,
            interval_score: self.sums.score(),
        })
    }
}

/// Role of an origin: methods learn from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OriginRole {
    Scored,
    WarmUp,
}

/// Uncorrected intervals of one channel and step of the horizon, and their calibration by the reference methods.
#[derive(Clone, Debug)]
struct ReferenceCalibrators {
    ahead: i64,
    /// `[level][method]`
    thresholds: Vec<Vec<Threshold>>,
    pending: VecDeque<PendingIntervals>,
    /// `[level]`: the uncorrected interval, then each method.
    trackers: Vec<Vec<IntervalTracker>>,
}

/// Intervals that wait for their actual value.
#[derive(Clone, Debug)]
struct PendingIntervals {
    origin: i64,
    role: OriginRole,
    /// Uncorrected, `[level]`.
    intervals: Vec<Interval>,
    /// `[level][method]`
    thresholds: Vec<Vec<f64>>,
}

impl ReferenceCalibrators {
    fn new(ahead: usize, levels: &[f64]) -> Self {
        let thresholds =
            |level: &f64| ConformalMethod::ALL.map(|method| Threshold::new(method, *level)).to_vec();
        Self {
            ahead: ahead as i64,
            thresholds: levels.iter().map(thresholds).collect(),
            pending: VecDeque::new(),
            trackers: vec![vec![IntervalTracker::default(); 1 + ConformalMethod::ALL.len()]; levels.len()],
        }
    }

    /// Adds an interval per level, issued at an origin after all previous ones. `observed` returns the value at a step.
    fn issue(
        &mut self,
        origin: i64,
        role: OriginRole,
        intervals: Vec<Interval>,
        observed: impl Fn(i64) -> Option<f64>,
    ) {
        self.update(origin, &observed);
        let values = |thresholds: &Vec<Threshold>| thresholds.iter().map(Threshold::value).collect();
        let thresholds = self.thresholds.iter().map(values).collect();
        self.pending.push_back(PendingIntervals { origin, role, intervals, thresholds });
    }

    /// Scores pending intervals and updates the thresholds with the values up to step `until`.
    fn update(&mut self, until: i64, observed: &impl Fn(i64) -> Option<f64>) {
        while self.pending.front().is_some_and(|pending| pending.origin + self.ahead <= until) {
            let pending = self.pending.pop_front().expect("it is not empty");
            let Some(actual) = observed(pending.origin + self.ahead) else { continue };
            for (i, interval) in pending.intervals.iter().enumerate() {
                let Interval { level, lower, upper } = *interval;
                let width = if upper > lower { upper - lower } else { 1.0 };
                if pending.role == OriginRole::Scored {
                    self.trackers[i][0].add(interval, actual);
                }
                let score = (lower - actual).max(actual - upper) / width;
                for (method, threshold) in pending.thresholds[i].iter().enumerate() {
                    let (lower, upper) = (lower - threshold * width, upper + threshold * width);
                    // A negative threshold may invert an interval.
                    let middle = (lower + upper) / 2.0;
                    let corrected = Interval { level, lower: lower.min(middle), upper: upper.max(middle) };
                    if pending.role == OriginRole::Scored {
                        self.trackers[i][1 + method].add(&corrected, actual);
                    }
                    self.thresholds[i][method].update(score, *threshold);
                }
            }
        }
    }
}

/// Intervals of all methods for one level and step of the horizon.
#[derive(Clone, Debug, Serialize)]
pub struct LevelIntervals<M> {
    /// Steps after the origin.
    pub step: usize,
    pub level: f64,
    pub methods: Vec<M>,
}

/// Intervals of one method on one channel.
#[derive(Clone, Debug, Serialize)]
pub struct MethodIntervals {
    pub method: &'static str,
    #[serde(flatten)]
    pub stats: IntervalStats,
}

/// Intervals of one method over all channels, with equal weights.
#[derive(Clone, Debug, Serialize)]
pub struct MethodIntervalMeans {
    pub method: &'static str,
    pub coverage: f64,
    /// Largest difference between the coverage of a channel and the level.
    pub max_coverage_error: f64,
    pub ties: f64,
    /// Least coverage of any [`COVERAGE_WINDOW`] consecutive forecasts of any channel; none where all have fewer.
    pub min_rolling_coverage: Option<f64>,
    /// Mean over channels of the interval score divided by that of the uncorrected intervals.
    pub relative_interval_score: f64,
}

/// Interval statistics of each channel and over all of them.
#[derive(Clone, Debug, Default)]
pub struct IntervalResults {
    pub channels: Vec<Vec<LevelIntervals<MethodIntervals>>>,
    pub overall: Vec<LevelIntervals<MethodIntervalMeans>>,
}

/// Collects interval statistics of all channels.
pub struct IntervalReport<'a> {
    task: EvaluationTask<'a>,
    index: ChannelIndex<'a>,
    /// Steps of the horizon, ascending.
    steps: Vec<usize>,
    timelines: Vec<SeriesTimeline<'a>>,
    /// Calibrated intervals, `[channel][step][level]`.
    calibrated: Vec<Vec<Vec<IntervalTracker>>>,
    /// `[channel][step]`
    references: Vec<Vec<ReferenceCalibrators>>,
}

/// The calibrated intervals, the uncorrected ones, then the reference methods.
fn method_names() -> impl Iterator<Item = &'static str> {
    ["model", "uncorrected"].into_iter().chain(ConformalMethod::ALL.map(ConformalMethod::name))
}

impl<'a> IntervalReport<'a> {
    /// `steps` are the steps of the horizon to report, ascending.
    pub fn new(task: EvaluationTask<'a>, steps: Vec<usize>) -> Self {
        let EvaluationTask { history, channels, levels, .. } = task;
        let trackers = vec![vec![IntervalTracker::default(); levels.len()]; steps.len()];
        let references: Vec<_> =
            steps.iter().map(|ahead| ReferenceCalibrators::new(*ahead, levels)).collect();
        Self {
            task,
            index: ChannelIndex::new(&task),
            timelines: channels.iter().map(|channel| SeriesTimeline::new(history, channel)).collect(),
            calibrated: vec![trackers; channels.len()],
            references: vec![references; channels.len()],
            steps,
        }
    }

    /// Adds forecasts with calibrated intervals. Origins of a series must ascend.
    pub fn add_calibrated(&mut self, forecasts: &RecordBatch) {
        let view = Forecasts::new(forecasts);
        for row in 0..view.len() {
            let Some((channel, origin)) = self.locate(&view, row) else { continue };
            if !self.task.split.scored.contains(&origin) {
                continue;
            }
            for (ahead, trackers) in self.steps.iter().zip(&mut self.calibrated[channel]) {
                let Some(actual) = self.timelines[channel].observed(origin + *ahead as i64) else { continue };
                let intervals = intervals_at(&view, row, *ahead, self.task.levels);
                trackers
                    .iter_mut()
                    .zip(intervals)
                    .for_each(|(tracker, interval)| tracker.add(&interval, actual));
            }
        }
    }

    /// Adds the same forecasts with uncorrected intervals, from the first one on: the reference methods learn from all.
    pub fn add_uncorrected(&mut self, forecasts: &RecordBatch) {
        let view = Forecasts::new(forecasts);
        for row in 0..view.len() {
            let Some((channel, origin)) = self.locate(&view, row) else { continue };
            let is_scored = self.task.split.scored.contains(&origin);
            let role = if is_scored { OriginRole::Scored } else { OriginRole::WarmUp };
            let timeline = &self.timelines[channel];
            for (ahead, references) in self.steps.iter().zip(&mut self.references[channel]) {
                let intervals = intervals_at(&view, row, *ahead, self.task.levels);
                references.issue(origin, role, intervals, |step| timeline.observed(step));
            }
        }
    }

    /// Channel and origin of a forecast.
    fn locate(&self, forecasts: &Forecasts<'_>, row: usize) -> Option<(usize, i64)> {
        let channel = self.index.find(forecasts.series.value(row), forecasts.targets.value(row))?;
        Some((channel, self.task.grid.step_of(forecasts.origins.value(row))))
    }

    pub fn finish(mut self) -> IntervalResults {
        for (references, timeline) in self.references.iter_mut().zip(&self.timelines) {
            references.iter_mut().for_each(|of| of.update(i64::MAX, &|step| timeline.observed(step)));
        }
        let channels: Vec<_> = (0..self.calibrated.len()).map(|channel| self.channel(channel)).collect();
        let mut overall = Vec::new();
        for step in &self.steps {
            for level in self.task.levels {
                let is_same = |of: &&LevelIntervals<_>| of.step == *step && of.level == *level;
                let all: Vec<_> = channels.iter().flat_map(|channel| channel.iter().find(is_same)).collect();
                if !all.is_empty() {
                    overall.push(overall_intervals(*step, *level, &all));
                }
            }
        }
        IntervalResults { channels, overall }
    }

    fn channel(&self, channel: usize) -> Vec<LevelIntervals<MethodIntervals>> {
        let mut all = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            for (j, level) in self.task.levels.iter().enumerate() {
                let calibrated = &self.calibrated[channel][i][j];
                let trackers = std::iter::once(calibrated).chain(&self.references[channel][i].trackers[j]);
                let stats: Option<Vec<IntervalStats>> = trackers.map(IntervalTracker::stats).collect();
                let Some(stats) = stats else { continue };
                let methods =
                    method_names().zip(stats).map(|(method, stats)| MethodIntervals { method, stats });
                all.push(LevelIntervals { step: *step, level: *level, methods: methods.collect() });
            }
        }
        all
    }
}

fn overall_intervals(
    step: usize,
    level: f64,
    all: &[&LevelIntervals<MethodIntervals>],
) -> LevelIntervals<MethodIntervalMeans> {
    let count = all.len() as f64;
    let of_method = |(index, method): (usize, &'static str)| {
        let stats = || all.iter().map(|channel| &channel.methods[index].stats);
        let mean = |value: fn(&IntervalStats) -> f64| stats().map(value).sum::<f64>() / count;
        let relative = |channel: &&LevelIntervals<MethodIntervals>| {
            let uncorrected = channel.methods[1].stats.interval_score;
            if uncorrected > 0.0 { channel.methods[index].stats.interval_score / uncorrected } else { 1.0 }
        };
        MethodIntervalMeans {
            method,
            coverage: mean(|stats| stats.coverage),
            max_coverage_error: stats().map(|stats| (stats.coverage - level).abs()).fold(0.0, f64::max),
            ties: mean(|stats| stats.ties),
            min_rolling_coverage: stats().filter_map(|stats| stats.min_rolling_coverage).reduce(f64::min),
            relative_interval_score: all.iter().map(relative).sum::<f64>() / count,
        }
    };
    LevelIntervals { step, level, methods: method_names().enumerate().map(of_method).collect() }
}

/// The interval of each level `ahead` steps after the origin of a forecast.
fn intervals_at(forecasts: &Forecasts<'_>, row: usize, ahead: usize, levels: &[f64]) -> Vec<Interval> {
    let bound = |list: usize| {
        let list = forecasts.lists[list];
        let index = list.value_offsets()[row] as usize + ahead - 1;
        f64::from(list.values().as_primitive::<Float32Type>().value(index))
    };
    let interval = |(i, level): (usize, &f64)| Interval {
        level: *level,
        lower: bound(1 + 2 * i),
        upper: bound(2 + 2 * i),
    };
    levels.iter().enumerate().map(interval).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: Interval = Interval { level: 0.8, lower: 0.0, upper: 1.0 };

    #[test]
    fn reference_methods_reach_their_level_in_the_long_run() {
        for method in ConformalMethod::ALL {
            for level in [0.8, 0.95] {
                let mut threshold = Threshold::new(method, level);
                let mut missed = 0.0;
                for i in 0..40_000 {
                    let score = ((i * 7919) % 10_007) as f64 / 10_007.0 * if i < 20_000 { 1.0 } else { 3.0 };
                    let issued = threshold.value();
                    missed += if i >= 10_000 { f64::from(u8::from(score > issued)) } else { 0.0 };
                    threshold.update(score, issued);
                }
                let coverage = 1.0 - missed / 30_000.0;
                assert!((coverage - level).abs() < 0.01, "{}: {coverage}", method.name());
            }
        }
    }

    #[test]
    fn interval_stats_match_hand_computation() {
        let mut tracker = IntervalTracker::default();
        for i in 0..COVERAGE_WINDOW + 200 {
            // A hundred misses in a row.
            let actual = if (250..350).contains(&i) { 3.0 } else { 0.5 };
            tracker.add(&UNIT, actual);
        }
        tracker.add(&UNIT, 1.0);
        let stats = tracker.stats().unwrap();
        let count = (COVERAGE_WINDOW + 201) as f64;
        assert_eq!((stats.forecasts, stats.ties), (701, 1.0 / count));
        assert_eq!((stats.coverage, stats.min_rolling_coverage), (601.0 / count, Some(0.8)));
        assert!((stats.interval_score - (count + 100.0 * 2.0 / 0.2 * 2.0) / count).abs() < 1e-9);
        assert_eq!(IntervalTracker::default().stats(), None);
    }

    #[test]
    fn reference_methods_learn_from_an_actual_only_once_it_is_observed() {
        let mut references = ReferenceCalibrators::new(3, &[0.8]);
        let observed = |step: i64| (step != 7).then_some(9.0);
        for origin in 0..10 {
            let role = if origin >= 2 { OriginRole::Scored } else { OriginRole::WarmUp };
            references.issue(origin, role, vec![UNIT], observed);
        }
        references.update(9, &observed);
        // Origins 2 to 6, without origin 4, whose step 7 was not observed.
        assert_eq!(references.trackers[0][0].stats().unwrap().forecasts, 4);
        assert_eq!(references.pending.len(), 3);
    }
}
