//! The whole history on the grid, as the forecaster saw it closing step by step: every value and every filling that a
//! window would have held while serving.

use std::collections::BTreeMap;

use tidecast_core::forecaster::{StepContext, WindowUpdate};
use tidecast_core::series::{StepConfig, RunningStats, CovariateWindow};

/// A run of consecutive steps of one target of one id, from a cold start to the next.
#[derive(Debug)]
pub struct Segment {
    /// Number of the id, by first appearance.
    pub series: usize,
    pub target: usize,
    /// Which of the periods holds its covariates.
    pub period: usize,
    /// Step of the first value.
    pub start: i64,
    pub values: Vec<f64>,
    pub observed: Vec<bool>,
    /// The running moments after every [`MARK`]th step.
    marks: Vec<RunningStats>,
    /// The running moments after the last step.
    latest: RunningStats,
}

/// What an id knew besides its targets, from a cold start to the next.
#[derive(Debug, Default)]
pub struct Period {
    pub covariates: Vec<CovariateWindow>,
    /// What each step's rows knew of the coming horizon, `[known x horizon]`.
    pub ahead: BTreeMap<i64, Vec<f64>>,
}

/// Everything that can be learned from.
#[derive(Debug, Default)]
pub struct History {
    pub segments: Vec<Segment>,
    pub periods: Vec<Period>,
    /// Ids, by first appearance.
    pub ids: Vec<String>,
}

/// Steps between two marks of the running moments: to go on from the one before costs a fraction of a microsecond, and
/// the marks a fraction of a byte a step.
const MARK: usize = 64;

/// More steps than any history has: a track of the past forgets nothing.
const EVERYTHING: usize = 1 << 40;

impl Segment {
    /// The steps that were observed, in order.
    pub fn observed_steps(&self) -> impl Iterator<Item = i64> {
        let places = self.observed.iter().enumerate().filter(|(_, observed)| **observed);
        places.map(|(place, _)| self.step(place))
    }

    pub fn step(&self, place: usize) -> i64 {
        self.start + place as i64
    }

    /// The running moments at a place, over all that was observed up to there.
    pub fn running(&self, place: usize) -> RunningStats {
        let mut running = self.marks[place / MARK];
        for at in place / MARK * MARK + 1..=place {
            if self.observed[at] {
                running.add(self.values[at]);
            }
        }
        running
    }

    /// Adds steps, of which the last was observed; `running` is as after it.
    fn extend(&mut self, values: &[f64], observed: &[bool], running: RunningStats) {
        for (i, (value, observed)) in values.iter().zip(observed).enumerate() {
            if i + 1 == values.len() {
                self.latest = running;
            }
            if self.values.len().is_multiple_of(MARK) {
                self.marks.push(self.latest);
            }
            self.values.push(*value);
            self.observed.push(*observed);
        }
    }
}

impl History {
    /// Whether no series ever shows another value before this step.
    pub fn stands_still(&self, until: i64) -> bool {
        let mut first = BTreeMap::new();
        self.segments.iter().all(|segment| {
            let places = (0..segment.values.len()).take_while(|place| segment.step(*place) < until);
            let mut values =
                places.filter(|place| segment.observed[*place]).map(|place| segment.values[place]);
            values.all(|value| *first.entry((segment.series, segment.target)).or_insert(value) == value)
        })
    }
}

/// Writes a history down while it closes.
#[derive(Debug, Default)]
pub struct Recorder {
    pub history: History,
    /// Of each id: its current period, and the current segment of each target.
    current: Vec<Current>,
}

#[derive(Debug, Default)]
struct Current {
    period: usize,
    segments: Vec<Option<usize>>,
}

impl Recorder {
    pub fn add(&mut self, rules: &StepConfig, closing: &StepContext<'_>) {
        let History { segments, periods, ids } = &mut self.history;
        if closing.index >= ids.len() {
            // Ids close their first step in another order than they appear in.
            ids.resize(closing.index + 1, String::new());
            self.current.resize_with(closing.index + 1, Current::default);
        }
        let current = &mut self.current[closing.index];
        if closing.cold || current.segments.is_empty() {
            ids[closing.index] = closing.id.to_string();
            current.period = periods.len();
            current.segments = vec![None; closing.targets.len()];
            let covariates = vec![CovariateWindow::default(); closing.covariates.len()];
            periods.push(Period { covariates, ahead: BTreeMap::new() });
        }
        let period = &mut periods[current.period];
        for (track, value) in period.covariates.iter_mut().zip(closing.covariate_values) {
            if value.is_finite() {
                track.push(rules, EVERYTHING, closing.step, *value);
            }
        }
        if !closing.ahead.is_empty() {
            period.ahead.insert(closing.step, closing.ahead.to_vec());
        }
        for (target, state) in closing.targets.iter().enumerate() {
            let grew = match closing.entries[target] {
                WindowUpdate::Missing => continue,
                WindowUpdate::Extended(steps) => steps as usize,
                WindowUpdate::Reset => {
                    current.segments[target] = Some(segments.len());
                    segments.push(Segment {
                        series: closing.index,
                        target,
                        period: current.period,
                        start: closing.step,
                        values: Vec::new(),
                        observed: Vec::new(),
                        marks: Vec::new(),
                        latest: RunningStats::default(),
                    });
                    1
                }
            };
            let segment = current.segments[target].expect("a window starts before it grows");
            let (values, observed) = state.window.tail(grew).expect("the window keeps the longest gap");
            segments[segment].extend(values, observed, state.running);
        }
    }
}
