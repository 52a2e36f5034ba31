//! Online calibration and scoring of many series, updated as actual values arrive.
//!
//! Every series starts with the bounds of the model. A tracker per tracked step of the horizon moves them according to the
//! forecasts issued that many steps before; steps in between are interpolated. A forecast is pending until the step it is for
//! is observed; if that never happens, nothing is learned from it.
//!
//! The state of a series is one slice of f32, so a million series cost exactly their numbers.

use super::apply::{ApplyCalibration, CalibratedForecast, ScaledForecast, Trackers};
use super::drift;
use super::layout::{CalibrationLayout, div_rem};
use super::score_accumulator::{self, AddOutcome, HorizonScores, Outcome};
use super::tracker::{self, BLOCK, BoundTargets, HorizonGains, UpdateTracker};
use crate::prefetch;
use crate::simd::{Isa, Kernel, Simd};

/// Last step of a series without history.
const NEVER: i64 = i64::MIN;

/// Maximum number of lanes. The bounds of two levels are four numbers and many horizons a dozen steps: vectors of sixteen
/// would be partial, and each would wait for narrower stores just made; they cost a quarter more.
const LANES_MAX: usize = 8;

/// Limit of an error, in units: keeps every product finite.
const ERROR_MAX: f32 = 1e6;

/// Online calibration of all series, by dense series index.
#[derive(Clone, Debug)]
pub struct OnlineCalibrator {
    isa: Isa,
    layout: CalibrationLayout,
    /// Per tracked step.
    gains: Vec<HorizonGains>,
    targets: BoundTargets,
    /// `[series][state]`
    states: Vec<f32>,
    /// Last step of each series.
    last: Vec<i64>,
    /// Outputs of the trackers of one series: ρ per tracked step, and moves in blocks of `[tracked][bound]`.
    scales: Vec<f32>,
    moves: Vec<[f32; BLOCK]>,
    /// Buffers for the sorted bounds of one forecast and for its outcome.
    sorted: Vec<f32>,
    outcome: Vec<f32>,
}

/// Adaptation of bounds to past outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalibrationMode {
    /// Bounds follow the outcomes of the series.
    Online,
    /// Bounds stay where the validation errors of the model put them.
    Fixed,
}

/// Forecast to be scored once its actual values arrive.
pub struct IssuedForecast<'a> {
    pub origin: i64,
    pub forecast: &'a CalibratedForecast,
    /// Unit of errors, in the unit of the series; 0 for a constant series.
    pub unit: f32,
    /// Naive forecast per tracked step; empty unless scored.
    pub naive: &'a [f32],
}

/// Scores of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesScores {
    /// Ascending by horizon; tracked steps without a scored forecast are omitted.
    pub horizons: Vec<HorizonScores>,
    /// True if errors drift from their own history.
    pub is_drifting: bool,
}

impl OnlineCalibrator {
    pub fn new(layout: CalibrationLayout) -> Self {
        let (tracked, blocks) = (layout.horizons().len(), layout.probabilities().len().div_ceil(BLOCK));
        Self {
            isa: Isa::with_max_lanes(LANES_MAX),
            gains: layout.horizons().iter().map(|horizon| HorizonGains::new(*horizon)).collect(),
            targets: BoundTargets::new(layout.probabilities()),
            states: Vec::new(),
            last: Vec::new(),
            scales: vec![1.0; tracked],
            moves: vec![[0.0; BLOCK]; tracked * blocks],
            outcome: vec![0.0; layout.accumulator_len()],
            layout,
            sorted: Vec::new(),
        }
    }

    pub fn layout(&self) -> &CalibrationLayout {
        &self.layout
    }

    /// Resets a series to no history.
    pub fn clear(&mut self, series: usize) {
        self.ensure(series);
        self.last[series] = NEVER;
        let Self { layout, states, .. } = self;
        let state = &mut states[series * layout.state_len()..][..layout.state_len()];
        state.fill(0.0);
        for tracked in 0..layout.horizons().len() {
            tracker::reset(&mut state[layout.tracker_offset(tracked)..][..layout.tracker_len()]);
            let pending = layout.pending_capacity(tracked) * layout.entry_len();
            state[layout.pending_offset(tracked)..][..pending].fill(f32::NAN);
        }
    }

    /// Last step of a series; none without history.
    pub fn last(&self, series: usize) -> Option<i64> {
        self.last.get(series).copied().filter(|last| *last != NEVER)
    }

    /// State of a series; empty without history.
    pub fn state(&self, series: usize) -> &[f32] {
        let start = self.last(series).map(|_| series * self.layout.state_len());
        start.map_or(&[], |start| &self.states[start..][..self.layout.state_len()])
    }

    /// Restores [`Self::last`] and [`Self::state`]; `false` if no series can reach that state.
    #[must_use]
    pub fn restore(&mut self, series: usize, last: i64, state: &[f32]) -> bool {
        self.clear(series);
        if state.len() != self.layout.state_len() || last == NEVER {
            return false;
        }
        self.states[series * self.layout.state_len()..][..state.len()].copy_from_slice(state);
        self.last[series] = last;
        let is_finite = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite());
        let layout = &self.layout;
        let is_valid = |tracked: usize| {
            let (start, pending) = (layout.tracker_offset(tracked), layout.pending_offset(tracked));
            let (tracker, accumulators) = state[start..pending].split_at(layout.tracker_len());
            let (running, period) = accumulators.split_at(layout.accumulator_len());
            let entries = state[pending..].chunks(layout.entry_len());
            let mut entries = entries.take(layout.pending_capacity(tracked));
            is_finite(&state[start..pending])
                && tracker::is_valid(tracker)
                && [running, period].into_iter().all(score_accumulator::is_valid)
                && entries.all(|entry| entry[0].is_nan() || is_finite(entry) && entry[1] >= 0.0)
        };
        let drift = &state[layout.drift_offset()..];
        (0..layout.horizons().len()).all(is_valid) && is_finite(drift) && drift::is_valid(drift)
    }

    /// Scores the pending forecasts for an observed step and updates their trackers, oldest forecast first.
    ///
    /// `mean_errors` are the mean absolute errors on the validation split per tracked step, in units.
    pub fn observe(&mut self, series: usize, step: i64, actual: f64, mean_errors: &[f32]) {
        self.advance(series, step);
        let Self { isa, layout, gains, targets, states, sorted, outcome, .. } = self;
        let state = &mut states[series * layout.state_len()..][..layout.state_len()];
        isa.run(UpdateCalibration {
            layout,
            gains,
            targets,
            state,
            step,
            actual,
            mean_errors,
            sorted,
            outcome,
        });
        let state = &mut self.states[series * self.layout.state_len()..][..self.layout.state_len()];
        // This step may issue no forecast: drop the entry of an earlier lap. With one issue per step, there is none.
        let tracked_steps = if self.layout.every() == 1 { 0 } else { self.layout.horizons().len() };
        for tracked in 0..tracked_steps {
            let entry = self.layout.entry_offset(tracked, step);
            entry.into_iter().for_each(|entry| state[entry] = f32::NAN);
        }
    }

    /// Prefetches the state of a series.
    pub fn prefetch(&self, series: usize) {
        self.last.get(series).into_iter().for_each(prefetch::value);
        let len = self.layout.state_len();
        self.states.get(series * len..(series + 1) * len).into_iter().for_each(prefetch::slice);
    }

    /// Writes the forecast of a series as it is to be issued.
    pub fn apply(
        &mut self,
        series: usize,
        forecast: &ScaledForecast<'_>,
        mode: CalibrationMode,
        out: &mut CalibratedForecast,
    ) {
        self.ensure(series);
        let Self { isa, layout, gains, targets, states, scales, moves, .. } = self;
        let bounds = layout.probabilities().len();
        out.resize(forecast.output.values.len(), bounds);
        let state = &states[series * layout.state_len()..][..layout.state_len()];
        let trackers = Trackers { state, gains, targets, scales, moves };
        let trackers = (mode == CalibrationMode::Online && bounds > 0).then_some(trackers);
        isa.run(ApplyCalibration { layout, forecast, trackers, out });
    }

    /// Adds an issued forecast to the pending ones.
    pub fn issue(&mut self, series: usize, issued: &IssuedForecast<'_>) {
        self.advance(series, issued.origin);
        let Self { layout, states, .. } = self;
        let state = &mut states[series * layout.state_len()..][..layout.state_len()];
        let CalibratedForecast { values, unsorted_bounds, .. } = issued.forecast;
        let horizon = values.len();
        let bounds = layout.probabilities().len();
        for tracked in 0..layout.horizons().len() {
            let step = layout.horizons()[tracked] - 1;
            let Some(entry) = layout.entry_offset(tracked, issued.origin) else { continue };
            let entry = &mut state[entry..][..layout.entry_len()];
            entry[0] = values[step];
            entry[1] = issued.unit;
            let at_step = unsorted_bounds.iter().skip(step).step_by(horizon);
            entry[2..2 + bounds].iter_mut().zip(at_step).for_each(|(entry, bound)| *entry = *bound);
            if layout.is_scored() {
                entry[2 + bounds] = issued.naive[tracked];
            }
        }
    }

    /// Running scores of a series, over about [`score_accumulator::SCORE_WINDOW`] forecasts.
    pub fn scores(&self, series: usize) -> SeriesScores {
        let state = self.state(series);
        let is_scored = !state.is_empty() && self.layout.is_scored();
        SeriesScores {
            horizons: self.horizon_scores(series, CalibrationLayout::running_offset),
            is_drifting: is_scored && drift::is_drifting(&state[self.layout.drift_offset()..]),
        }
    }

    /// Scores of a series since the previous call.
    pub fn take_period(&mut self, series: usize) -> SeriesScores {
        let horizons = self.horizon_scores(series, CalibrationLayout::period_offset);
        let scores = SeriesScores { horizons, ..self.scores(series) };
        let Self { layout, states, .. } = self;
        for tracked in 0..layout.horizons().len() {
            let start = series * layout.state_len() + layout.period_offset(tracked);
            states[start..][..layout.accumulator_len()].fill(0.0);
        }
        scores
    }

    /// Scores from the accumulators of a series at an offset per tracked step.
    fn horizon_scores(
        &self,
        series: usize,
        offset: fn(&CalibrationLayout, usize) -> usize,
    ) -> Vec<HorizonScores> {
        let (layout, state) = (&self.layout, self.state(series));
        if state.is_empty() || !layout.is_scored() {
            return Vec::new();
        }
        let horizons = layout.horizons().iter().enumerate();
        let scores = horizons.map(|(tracked, horizon)| {
            let sums = &state[offset(layout, tracked)..][..layout.accumulator_len()];
            HorizonScores::new(*horizon, sums)
        });
        scores.filter(|scores| scores.forecasts > 0.0).collect()
    }

    /// Moves a series to a step. The skipped steps issued nothing, so their entries are of an earlier lap and are dropped.
    fn advance(&mut self, series: usize, step: i64) {
        self.ensure(series);
        let last = std::mem::replace(&mut self.last[series], step);
        if last == step || last == NEVER || last + 1 == step {
            return;
        }
        let Self { layout, states, .. } = self;
        let state = &mut states[series * layout.state_len()..][..layout.state_len()];
        let every = layout.every();
        let (first, end) = (div_rem(last, every).0 + 1, div_rem(step - 1, every).0 + 1);
        for tracked in 0..layout.horizons().len() {
            for number in first.max(end - layout.pending_capacity(tracked) as i64)..end {
                let entry = layout.entry_offset(tracked, number * every);
                entry.into_iter().for_each(|entry| state[entry] = f32::NAN);
            }
        }
    }

    /// Makes room for a series.
    fn ensure(&mut self, series: usize) {
        while series >= self.last.len() {
            self.last.push(NEVER);
            self.states.resize(self.last.len() * self.layout.state_len(), 0.0);
            self.clear(self.last.len() - 1);
        }
    }
}

/// Scores the pending forecasts for an observed step of one series and updates their trackers.
struct UpdateCalibration<'a> {
    layout: &'a CalibrationLayout,
    /// Per tracked step.
    gains: &'a [HorizonGains],
    targets: &'a BoundTargets,
    /// Whole state of the series.
    state: &'a mut [f32],
    step: i64,
    actual: f64,
    /// Per tracked step, in units.
    mean_errors: &'a [f32],
    /// Buffers for sorted bounds and for the outcome.
    sorted: &'a mut Vec<f32>,
    outcome: &'a mut [f32],
}

impl Kernel for UpdateCalibration<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { layout, gains, targets, state, step, actual, mean_errors, sorted, outcome } = self;
        let bounds = layout.probabilities().len();
        // Oldest forecast first.
        for tracked in (0..layout.horizons().len()).rev() {
            let horizon = layout.horizons()[tracked];
            let Some(entry) = layout.entry_offset(tracked, step - horizon as i64) else { continue };
            // Trackers and accumulators precede the pending forecasts.
            let (before, pending) = state.split_at_mut(entry);
            let entry = &mut pending[..layout.entry_len()];
            let value = entry[0];
            if value.is_nan() {
                continue;
            }
            entry[0] = f32::NAN;
            let (unit, entry) = (entry[1], &entry[2..]);
            let mut issued = &entry[..bounds];
            let error = saturating_f32(actual - f64::from(value));
            let tracked_state = &mut before[layout.tracker_offset(tracked)..];
            let (tracker, accumulators) = tracked_state.split_at_mut(layout.tracker_len());
            if bounds > 0 && unit > 0.0 {
                UpdateTracker {
                    state: tracker,
                    gains: &gains[tracked],
                    targets,
                    error: (error / unit).clamp(-ERROR_MAX, ERROR_MAX),
                    mean_error: mean_errors[tracked],
                    actual,
                    bounds: issued,
                }
                .run(simd);
            }
            if layout.is_scored() {
                let naive_error = saturating_f32(actual - f64::from(entry[bounds]));
                // Bounds that cross were issued sorted.
                if !issued.is_sorted() {
                    sorted.clear();
                    sorted.extend_from_slice(issued);
                    sorted.sort_unstable_by(f32::total_cmp);
                    issued = sorted;
                }
                Outcome { error, naive_error, actual, bounds: issued }.write(outcome);
                let len = layout.accumulator_len();
                let (running, period) = accumulators[..2 * len].split_at_mut(len);
                AddOutcome { running, period, outcome }.run(simd);
                if tracked == 0 {
                    drift::update(&mut state[layout.drift_offset()..], error.abs());
                }
            }
        }
    }
}

/// Nearest f32; values out of range become the nearest finite one.
#[inline]
pub fn saturating_f32(value: f64) -> f32 {
    value.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::bounds::{Base, Bound, Bounds, ModelOutput};
    use super::super::layout::ScoreMode;
    use super::*;
    use crate::network::Random;

    const HORIZON: usize = 7;

    fn issue(calibrator: &mut OnlineCalibrator, origin: i64, value: f32) {
        let values: Vec<f32> = (0..HORIZON).map(|i| value + i as f32).collect();
        let bounds: Vec<f32> =
            [-1.0, 1.0].iter().flat_map(|offset| values.iter().map(move |v| v + offset)).collect();
        let naive = vec![value; calibrator.layout().horizons().len()];
        let forecast = CalibratedForecast { values, unsorted_bounds: bounds.clone(), bounds };
        calibrator.issue(0, &IssuedForecast { origin, forecast: &forecast, unit: 1.0, naive: &naive });
    }

    /// Observes a step and issues a forecast with constant bounds.
    fn observe_and_issue(calibrator: &mut OnlineCalibrator, step: i64, actual: f64, bounds: &[f32]) {
        let tracked = calibrator.layout().horizons().len();
        calibrator.observe(0, step, actual, &vec![0.8; tracked]);
        let unsorted_bounds: Vec<f32> = bounds.iter().flat_map(|bound| vec![*bound; HORIZON]).collect();
        let bounds = unsorted_bounds.clone();
        let forecast = CalibratedForecast { values: vec![2.5; HORIZON], bounds, unsorted_bounds };
        let naive = &[1.0, 2.0, 3.0][..tracked];
        calibrator.issue(0, &IssuedForecast { origin: step, forecast: &forecast, unit: 0.7, naive });
    }

    fn bits(calibrator: &OnlineCalibrator) -> Vec<u32> {
        calibrator.state(0).iter().map(|number| number.to_bits()).collect()
    }

    /// Observed steps, and whether a forecast is issued there.
    fn steps(every: i64) -> impl Iterator<Item = (i64, bool)> {
        let mut random = Random::new(5);
        let mut next = move |below: u64| random.next_u64() % below;
        let mut step = -40;
        (0..600).map(move |_| {
            step += match next(10) {
                0 => next(40) as i64 + 1,
                1 | 2 => 2,
                _ => 1,
            };
            (step, step.rem_euclid(every) == 0 && next(5) > 0)
        })
    }

    #[test]
    fn every_forecast_is_scored_against_its_own_actual_or_none() {
        for every in [1, 3] {
            let layout = CalibrationLayout::new(HORIZON, vec![1, 4, 7], &[0.8], every, ScoreMode::Scored);
            let mut calibrator = OnlineCalibrator::new(layout);
            let (mut issued, mut expected) = (HashMap::new(), vec![(0, 0.0f64); 3]);
            for (step, issues) in steps(i64::from(every)) {
                let actual = (step * step % 17) as f64;
                calibrator.observe(0, step, actual, &[1.0; 3]);
                for (expected, ahead) in expected.iter_mut().zip([1i64, 4, 7]) {
                    if let Some(value) = issued.get(&(step - ahead)) {
                        let forecast = f64::from(*value) + ahead as f64 - 1.0;
                        expected.0 += 1;
                        expected.1 += (actual - forecast).abs();
                    }
                }
                if issues {
                    issue(&mut calibrator, step, step as f32 * 0.5);
                    issued.insert(step, step as f32 * 0.5);
                }
            }
            let scores = calibrator.take_period(0);
            assert_eq!(scores.horizons.len(), 3);
            for (scores, (count, sum)) in scores.horizons.iter().zip(&expected) {
                assert!(*count > 50 && scores.forecasts == *count as f32, "{every}: {scores:?} {count}");
                assert!((f64::from(scores.mae) - sum / f64::from(*count)).abs() < 1e-2, "{scores:?}");
            }
            assert!(calibrator.take_period(0).horizons.is_empty());
            assert_eq!(calibrator.scores(0).horizons.len(), 3);
        }
    }

    #[test]
    fn state_has_the_same_bits_on_every_instruction_set() {
        let layout = CalibrationLayout::new(HORIZON, vec![1, 4, 7], &[0.5, 0.8, 0.95], 1, ScoreMode::Scored);
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::all() {
            let mut calibrator = OnlineCalibrator { isa, ..OnlineCalibrator::new(layout.clone()) };
            for step in 0..300 {
                let bounds = [0, 1, 4, 9, 16, 25].map(|b| b as f32 / 7.0 + (step % 5) as f32);
                observe_and_issue(&mut calibrator, step, (step * step % 17) as f64 / 3.0, &bounds);
            }
            assert_eq!(first.get_or_insert_with(|| bits(&calibrator)), &bits(&calibrator), "{isa:?}");
        }
    }

    #[test]
    fn a_restored_series_continues_with_equal_bits_and_invalid_state_is_rejected() {
        let layout = CalibrationLayout::new(HORIZON, vec![2, 7], &[0.5, 0.9], 1, ScoreMode::Scored);
        let new = || OnlineCalibrator::new(layout.clone());
        let (mut one, mut other) = (new(), new());
        let run = |calibrator: &mut OnlineCalibrator, steps: std::ops::Range<i64>| {
            for step in steps {
                observe_and_issue(calibrator, step, (step * 7 % 5) as f64, &[-2.0, 0.0, 2.0, 4.0]);
            }
        };
        run(&mut one, 0..50);
        assert!(other.restore(0, one.last(0).unwrap(), one.state(0)));
        run(&mut one, 50..90);
        run(&mut other, 50..90);
        assert_eq!(bits(&one), bits(&other));
        let state = one.state(0).to_vec();
        assert!(!other.restore(0, 3, &state[1..]));
        let mut accepts = |index: usize, number: f32| {
            let mut state = state.clone();
            state[index] = number;
            other.restore(0, 3, &state)
        };
        for invalid in [f32::NAN, f32::INFINITY, 0.0] {
            assert!(!accepts(0, invalid), "{invalid} is no scale");
        }
        for index in (0..layout.tracker_len()).chain(layout.drift_offset() + 1..layout.state_len()) {
            assert!(!accepts(index, f32::MAX), "number {index} is bounded");
        }
        // Counts of forecasts, and the unit of a pending one.
        let counts = [layout.running_offset(0), layout.period_offset(0), layout.drift_offset()];
        for index in counts.into_iter().chain([layout.pending_offset(0) + 1]) {
            assert!(!accepts(index, -1.0), "number {index} is not negative");
        }
    }

    #[test]
    fn a_new_series_gets_the_bounds_of_the_model() {
        let layout = CalibrationLayout::new(HORIZON, vec![1, 7], &[0.8], 1, ScoreMode::Unscored);
        let mut calibrator = OnlineCalibrator::new(layout);
        let bound =
            |offset| Bound { base: Base::Forecast, volatility_gain: 0.0, offsets: vec![offset; HORIZON] };
        let bounds = [Bounds { lower: bound(-2.5), upper: bound(3.25) }];
        let output = ModelOutput { values: &[1.0; HORIZON], quantiles: &[], volatility: 1.0 };
        let scaled =
            ScaledForecast { center: 10.0, spread: 2.0, output, bounds: &bounds, volatility_scale: 2.0 };
        for mode in [CalibrationMode::Online, CalibrationMode::Fixed] {
            let mut forecast = CalibratedForecast::default();
            calibrator.apply(3, &scaled, mode, &mut forecast);
            let expected = [[7.0; HORIZON], [18.5; HORIZON]].concat();
            assert_eq!((&forecast.values[..], &forecast.bounds), (&[12.0; HORIZON][..], &expected));
            assert_eq!(forecast.unsorted_bounds, expected);
        }
    }
}
