//! A history on its grid, recorded from the forecaster step by step: the observed and filled values that windows would have
//! held while serving.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};

use tidecast_core::forecaster::StepContext;
use tidecast_core::series::{CovariateWindow, RunningStats, StepConfig, WindowUpdate};
use tidecast_core::time::{DAY, WEEK, steps_per};

/// Consecutive steps of one target of one id, from one cold start to the next.
#[derive(Debug, Default)]
pub struct Segment {
    /// Index of the id, by first appearance.
    pub series: usize,
    pub target: usize,
    /// Index of the span with the covariates.
    pub span: usize,
    /// Step of the first value.
    pub start: i64,
    pub values: Vec<f64>,
    pub observed: Vec<bool>,
    /// Running statistics after every [`STATS_INTERVAL`]th step.
    stats: Vec<RunningStats>,
    /// Running statistics after the last step.
    latest: RunningStats,
}

/// Covariates of one id, from one cold start to the next.
#[derive(Debug, Default)]
pub struct CovariateSpan {
    pub covariates: Vec<CovariateWindow>,
    /// Covariates of the horizon that were known at a step, `[covariate x horizon]`.
    pub future: BTreeMap<i64, Vec<f64>>,
}

/// Everything that training reads.
#[derive(Debug, Default)]
pub struct History {
    pub segments: Vec<Segment>,
    pub spans: Vec<CovariateSpan>,
    /// Ids, by first appearance.
    pub ids: Vec<String>,
}

/// One target of one id: the indices of its segments, in time order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    pub series: usize,
    pub target: usize,
    pub segments: Vec<u32>,
}

/// Steps between saved statistics: replaying the steps in between takes a fraction of a microsecond.
const STATS_INTERVAL: usize = 64;

/// A range of all steps. Half of the extremes leaves room for differences.
pub const ALL_STEPS: Range<i64> = i64::MIN / 2..i64::MAX / 2;

/// Retention of a covariate window that never drops a value.
const UNLIMITED: usize = 1 << 40;

impl Segment {
    /// Observed steps of a range with their values, in order.
    pub fn observations(&self, steps: Range<i64>) -> impl Iterator<Item = (i64, f64)> {
        let index = |step: i64| (step - self.start).clamp(0, self.values.len() as i64) as usize;
        let indices = (index(steps.start)..index(steps.end)).filter(|index| self.observed[*index]);
        indices.map(|index| (self.step(index), self.values[index]))
    }

    pub fn step(&self, index: usize) -> i64 {
        self.start + index as i64
    }

    /// Running statistics over the observed values up to an index, inclusive.
    pub fn stats_at(&self, index: usize) -> RunningStats {
        let mut stats = self.stats[index / STATS_INTERVAL];
        for i in index / STATS_INTERVAL * STATS_INTERVAL + 1..=index {
            if self.observed[i] {
                stats.add(self.values[i]);
            }
        }
        stats
    }

    /// Appends steps, of which the last was observed; `stats` includes it.
    fn extend(&mut self, values: &[f64], observed: &[bool], stats: RunningStats) {
        for (i, (value, observed)) in values.iter().zip(observed).enumerate() {
            if i + 1 == values.len() {
                self.latest = stats;
            }
            if self.values.len().is_multiple_of(STATS_INTERVAL) {
                self.stats.push(self.latest);
            }
            self.values.push(*value);
            self.observed.push(*observed);
        }
    }
}

impl History {
    /// Number of steps of all segments.
    pub fn steps(&self) -> usize {
        self.segments.iter().map(|segment| segment.values.len()).sum()
    }

    /// All channels, ordered by id and target.
    pub fn channels(&self) -> Vec<Channel> {
        let mut order: Vec<u32> = (0..self.segments.len() as u32).collect();
        let key = |index: &u32| {
            let segment = &self.segments[*index as usize];
            (segment.series, segment.target)
        };
        // The sort is stable: segments of a channel stay in time order.
        order.sort_by_key(key);
        let channels = order.chunk_by(|a, b| key(a) == key(b)).map(|segments| {
            let (series, target) = key(&segments[0]);
            Channel { series, target, segments: segments.to_vec() }
        });
        channels.collect()
    }

    /// True if all observed values of each channel before step `until` are equal.
    pub fn is_constant_until(&self, until: i64) -> bool {
        let mut first = BTreeMap::new();
        self.segments.iter().all(|segment| {
            let mut observations = segment.observations(ALL_STEPS.start..until);
            observations
                .all(|(_, value)| *first.entry((segment.series, segment.target)).or_insert(value) == value)
        })
    }
}

/// Records a history from closed steps.
#[derive(Debug, Default)]
pub struct HistoryRecorder {
    pub history: History,
    /// By id.
    current: Vec<CurrentSpan>,
}

/// Indices of the current covariate span of an id, and of the current segment of each target.
#[derive(Debug, Default)]
struct CurrentSpan {
    span: usize,
    segments: Vec<Option<usize>>,
}

impl HistoryRecorder {
    pub fn record(&mut self, config: &StepConfig, closed: &StepContext<'_>) {
        let History { segments, spans, ids } = &mut self.history;
        if closed.slot >= ids.len() {
            // The order of first closed steps differs from that of first appearances.
            ids.resize(closed.slot + 1, String::new());
            self.current.resize_with(closed.slot + 1, CurrentSpan::default);
        }
        let current = &mut self.current[closed.slot];
        if closed.cold_start || current.segments.is_empty() {
            ids[closed.slot] = closed.id.to_string();
            current.span = spans.len();
            current.segments = vec![None; closed.targets.len()];
            let covariates = vec![CovariateWindow::default(); closed.covariates.len()];
            spans.push(CovariateSpan { covariates, future: BTreeMap::new() });
        }
        let span = &mut spans[current.span];
        for (window, value) in span.covariates.iter_mut().zip(closed.covariate_values) {
            if value.is_finite() {
                window.push(config, UNLIMITED, closed.step, *value);
            }
        }
        if !closed.future.is_empty() {
            span.future.insert(closed.step, closed.future.to_vec());
        }
        for (target, state) in closed.targets.iter().enumerate() {
            let added = match closed.updates[target] {
                WindowUpdate::Missing => continue,
                WindowUpdate::Extended(steps) => steps as usize,
                WindowUpdate::Reset => {
                    current.segments[target] = Some(segments.len());
                    segments.push(Segment {
                        series: closed.slot,
                        target,
                        span: current.span,
                        start: closed.step,
                        ..Segment::default()
                    });
                    1
                }
            };
            let segment = current.segments[target].expect("a window is reset before it is extended");
            let (values, observed) = state.window.tail(added).expect("the window retains the longest gap");
            segments[segment].extend(values, observed, state.stats);
        }
    }
}

/// Fractions of the observed steps for training and for validation; the rest is the test split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitFractions {
    pub train: f64,
    pub validation: f64,
}

/// Ends of the training, validation and test splits as steps, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// First step of the training split.
    pub first: i64,
    pub train_end: i64,
    pub validation_end: i64,
    pub end: i64,
}

impl Split {
    /// Splits by fractions of the observed steps. Fractions of the time between the first and the last step would depend on
    /// a few rows from a device with a wrong clock.
    ///
    /// # Errors
    /// If no step was observed.
    pub fn new(history: &History, fractions: SplitFractions) -> Result<Self> {
        let observations = history.segments.iter().flat_map(|segment| segment.observations(ALL_STEPS));
        let mut steps: Vec<i64> = observations.map(|(step, _)| step).collect();
        steps.sort_unstable();
        let ends = steps.first().copied().zip(steps.last().copied());
        let (first, last) = ends.context(
            "the history is empty: none of its rows was accepted; provide observations, or correct [columns] or [grid] if \
             its rows were refused",
        )?;
        let at =
            |fraction: f64| steps.get((steps.len() as f64 * fraction) as usize).copied().unwrap_or(last + 1);
        let (train_end, validation_end) = (at(fractions.train), at(fractions.train + fractions.validation));
        Ok(Self { first, train_end, validation_end, end: last + 1 })
    }
}

/// Seasons that a history is long enough for, in steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seasons {
    /// Requires two days: one to repeat, one to compare with.
    pub day: Option<usize>,
    /// Requires three weeks: of two, a holiday would be half.
    pub week: Option<usize>,
}

impl Seasons {
    /// For steps of `every` microseconds and `steps` steps of training.
    pub fn new(every: i64, steps: i64) -> Self {
        let season = |period: i64, cycles_min: i64| {
            let season = steps_per(period, every)?;
            (season >= 2 && steps >= cycles_min * season).then_some(season as usize)
        };
        Self { day: season(DAY, 2), week: season(WEEK, 3) }
    }

    pub fn shortest(&self) -> Option<usize> {
        self.day.or(self.week)
    }
}
