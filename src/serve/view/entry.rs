//! One series of the view: its last steps with their forecasts, the current forecast, its errors and its status.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::serve::info::PipelineInfo;
use tidecast_core::forecaster::Scoring;
use tidecast_core::intervals::DriftDetector;
use tidecast_core::metrics::{ErrorSums, Mean, mase, naive_lag};
use tidecast_core::schema::Scores;
use tidecast_core::series::Aggregate;

/// Steps that errors are averaged over: a week of hours.
const SCORE_WINDOW: i64 = 168;
/// Refreshes without an observation before a series can be late: partitions are read in turns.
const IDLE_REFRESHES: u32 = 2;
/// Steps behind the other series before a series is late.
const LATE_STEPS: i64 = 2;

/// The status of a series, worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeriesStatus {
    /// No observations for longer than `max_gap`.
    Silent,
    /// Errors above their own history.
    Drifting,
    /// Behind the other series.
    Late,
    /// Not forecast yet, or not since a gap.
    #[default]
    Warming,
    Ok,
}

/// Retained data of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesBudget {
    /// Past steps, and the future steps that forecasts are stored for.
    pub steps: usize,
    /// Steps of the current forecast.
    pub forecast_steps: usize,
}

impl SeriesBudget {
    pub fn new(info: &PipelineInfo, past_steps: usize) -> Self {
        Self { steps: past_steps + info.view_horizons[1], forecast_steps: past_steps.min(info.horizon) }
    }

    /// Bytes of a series that uses all of its budget.
    pub fn bytes(&self, info: &PipelineInfo) -> usize {
        let lists = 1 + 2 * info.view_levels.len();
        let forecast = lists * (size_of::<Vec<f32>>() + self.forecast_steps * size_of::<f32>());
        let periods = PeriodScores::bytes(info.scoring.as_ref(), info.levels.len());
        self.steps * STEP_BYTES + forecast + periods
    }
}

/// The forecast of one step. NaN where there is none.
#[derive(Clone, Copy, Debug)]
pub struct ForecastPoint {
    value: f32,
    /// Lower and upper bound of the narrowest and of the widest interval.
    bounds: [[f32; 2]; 2],
}

impl ForecastPoint {
    const MISSING: Self = Self { value: f32::NAN, bounds: [[f32::NAN; 2]; 2] };

    /// Value, lower and upper bound of the narrowest interval, of the widest.
    fn to_array(self) -> [f32; 5] {
        let [[lower, upper], [widest_lower, widest_upper]] = self.bounds;
        [self.value, lower, upper, widest_lower, widest_upper]
    }

    fn contains(&self, level: usize, actual: f64) -> bool {
        let [lower, upper] = self.bounds[level].map(f64::from);
        lower <= actual && actual <= upper
    }
}

#[derive(Clone, Copy, Debug)]
pub struct StepRecord {
    /// NaN without observations.
    value: f32,
    /// Observations in the step.
    rows: u16,
    /// The forecast of this step at each of the view's horizons.
    forecasts: [ForecastPoint; 2],
}

const STEP_BYTES: usize = size_of::<StepRecord>();

const EMPTY_STEP: StepRecord =
    StepRecord { value: f32::NAN, rows: 0, forecasts: [ForecastPoint::MISSING; 2] };

#[derive(Clone, Copy, Debug)]
pub struct Observation {
    pub step: i64,
    pub time: i64,
    pub value: f64,
}

/// The latest forecast.
#[derive(Clone, Debug, Default)]
pub struct CurrentForecast {
    pub origin: i64,
    /// Value, lower and upper bound of the narrowest interval, of the widest: one value per step ahead each.
    pub lists: Vec<Vec<f32>>,
}

#[derive(Debug, Default)]
pub struct SeriesEntry {
    pub id: Arc<str>,
    /// Index of the target.
    pub target: usize,
    pub unit: Option<Arc<str>>,
    /// Step index of `steps[0]`.
    pub first_step: i64,
    pub steps: VecDeque<StepRecord>,
    /// The latest observation.
    pub last: Option<Observation>,
    /// An observation far from the others: accepted once the next one agrees.
    candidate: Option<Observation>,
    /// Steps up to this one are closed.
    pub closed: Option<i64>,
    /// Observed steps since the start or the last long gap; unknown for a series resumed from earlier state.
    pub observed_steps: Option<u64>,
    pub forecast: Option<CurrentForecast>,
    /// Scores at each of the view's horizons, as of the last refresh.
    pub scores: [WindowScores; 2],
    /// The last step in `scores` and `drift`.
    scored_step: Option<i64>,
    pub periods: PeriodScores,
    /// Drift of the errors at the first horizon.
    drift: DriftDetector,
    /// Incremented by each visible change.
    pub version: u64,
    observations: u64,
    observations_at_refresh: u64,
    idle_refreshes: u32,
    pub status: SeriesStatus,
}

impl SeriesEntry {
    pub fn new(id: Arc<str>, target: usize, unit: Option<Arc<str>>) -> Self {
        Self { id, target, unit, observed_steps: Some(0), ..Self::default() }
    }

    /// Adds a finite value.
    pub fn observe(&mut self, info: &PipelineInfo, time: i64, value: f64, budget: SeriesBudget) {
        let observation = Observation { step: info.grid.step_of(time), time, value };
        let Some(last) = self.last else { return self.accept(info, observation, budget) };
        let is_near = |from: i64, step: i64| (step - from).abs() <= info.max_gap;
        if is_near(last.step, observation.step) {
            self.candidate = None;
            return self.accept(info, observation, budget);
        }
        // Once a series is forecast, older observations are late, however many agree.
        if observation.step < last.step && self.closed.is_some() {
            return;
        }
        match self.candidate.take() {
            Some(candidate)
                if observation.time > candidate.time && is_near(candidate.step, observation.step) =>
            {
                self.reset(candidate.step > last.step);
                self.accept(info, candidate, budget);
                self.accept(info, observation, budget);
            }
            _ => self.candidate = Some(observation),
        }
    }

    /// Starts again after a long gap. Steps before the gap stay visible unless time moved backwards.
    fn reset(&mut self, is_forward: bool) {
        self.observed_steps = Some(0);
        self.forecast = None;
        if !is_forward {
            self.steps.clear();
            self.last = None;
        }
    }

    fn accept(&mut self, info: &PipelineInfo, observation: Observation, budget: SeriesBudget) {
        if self.closed.is_some_and(|closed| observation.step <= closed) {
            return;
        }
        if self.last.is_some_and(|last| last.time == observation.time) {
            return;
        }
        let Some(step) = self.step_mut(observation.step, budget) else { return };
        if info.complete_after.is_some_and(|rows| u32::from(step.rows) >= rows) {
            return;
        }
        let value = observation.value as f32;
        step.rows = step.rows.saturating_add(1);
        let is_first = step.rows == 1;
        step.value = match info.aggregate {
            _ if is_first => value,
            Aggregate::Mean => step.value + (value - step.value) / f32::from(step.rows),
            Aggregate::Last => value,
            Aggregate::Sum => step.value + value,
            Aggregate::Min => step.value.min(value),
            Aggregate::Max => step.value.max(value),
        };
        self.observed_steps.iter_mut().for_each(|steps| *steps += u64::from(is_first));
        if self.last.is_none_or(|last| observation.time > last.time) {
            self.last = Some(observation);
        }
        self.observations += 1;
        self.version += 1;
    }

    /// Stores a forecast issued at `origin`. `lists` are ordered as in [`CurrentForecast`].
    pub fn set_forecast(&mut self, info: &PipelineInfo, origin: i64, lists: &[&[f32]], budget: SeriesBudget) {
        let origin = info.grid.step_of(origin);
        for (index, horizon) in info.view_horizons.iter().enumerate() {
            let at = |list: usize| {
                lists.get(list).and_then(|list| list.get(horizon - 1)).copied().unwrap_or(f32::NAN)
            };
            let point = ForecastPoint { value: at(0), bounds: [[at(1), at(2)], [at(3), at(4)]] };
            if let Some(step) = self.step_mut(origin + *horizon as i64, budget) {
                step.forecasts[index] = point;
            }
        }
        let lists = lists.iter().map(|list| list[..budget.forecast_steps.min(list.len())].to_vec()).collect();
        self.forecast = Some(CurrentForecast { origin, lists });
        // A forecast implies that its origin and all earlier steps are closed.
        self.closed = Some(self.closed.map_or(origin, |closed| closed.max(origin)));
        self.version += 1;
    }

    /// The record of a step, added with all steps before it if it is new; `None` for a step before the retained ones. The oldest
    /// steps are dropped to stay within the budget.
    fn step_mut(&mut self, step: i64, budget: SeriesBudget) -> Option<&mut StepRecord> {
        let end = self.first_step + self.steps.len() as i64;
        if self.steps.is_empty() || step - end >= budget.steps as i64 {
            self.steps.clear();
            self.first_step = step;
        }
        let missing = step + 1 - self.first_step - self.steps.len() as i64;
        let wanted = self.steps.len() + usize::try_from(missing).unwrap_or(0);
        self.drop_oldest(wanted.saturating_sub(budget.steps));
        let wanted = wanted.min(budget.steps);
        if wanted > self.steps.capacity() {
            // A queue doubles its capacity by itself, which could exceed the budget twofold.
            let capacity = (wanted + wanted / 4).min(budget.steps);
            self.steps.reserve_exact(capacity - self.steps.len());
        }
        self.steps.resize(wanted, EMPTY_STEP);
        usize::try_from(step - self.first_step).ok().and_then(|index| self.steps.get_mut(index))
    }

    fn drop_oldest(&mut self, count: usize) {
        self.steps.drain(..count.min(self.steps.len()));
        self.first_step += count as i64;
    }

    /// Drops steps and forecast values beyond a smaller budget.
    pub fn shrink(&mut self, budget: SeriesBudget) {
        self.drop_oldest(self.steps.len().saturating_sub(budget.steps));
        self.steps.shrink_to(budget.steps);
        for list in self.forecast.iter_mut().flat_map(|forecast| &mut forecast.lists) {
            list.truncate(budget.forecast_steps);
            list.shrink_to_fit();
        }
    }

    /// Allocated bytes of the steps and the current forecast.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let lists = self.forecast.iter().flat_map(|forecast| &forecast.lists);
        let forecast: usize = lists.map(|list| size_of_val(list) + list.capacity() * size_of::<f32>()).sum();
        self.steps.capacity() * STEP_BYTES + forecast
    }

    /// The record of a retained step.
    fn step(&self, step: i64) -> Option<&StepRecord> {
        self.steps.get(usize::try_from(step - self.first_step).ok()?)
    }

    pub fn value(&self, step: i64) -> Option<f32> {
        self.step(step).map(|step| step.value).filter(|value| value.is_finite())
    }

    /// The forecast of the step after the latest observation, which may lie after the forecast's origin. `list` is an index as in
    /// [`CurrentForecast`].
    pub fn next(&self, list: usize) -> Option<f32> {
        let (forecast, last) = (self.forecast.as_ref()?, self.last?);
        let ahead = usize::try_from(last.step - forecast.origin).unwrap_or(0);
        forecast.lists.get(list)?.get(ahead).copied().filter(|value| value.is_finite())
    }

    /// The retained steps from `from` on, column by column: values, and the five lists of [`ForecastPoint::to_array`] per horizon.
    pub fn steps_json(&self, from: i64) -> serde_json::Value {
        let from = from.max(self.first_step);
        let steps = self.steps.iter().skip(usize::try_from(from - self.first_step).unwrap_or(0));
        let values: Vec<f32> = steps.clone().map(|step| step.value).collect();
        let forecasts = [0, 1].map(|horizon| {
            let points: Vec<[f32; 5]> =
                steps.clone().map(|step| step.forecasts[horizon].to_array()).collect();
            [0, 1, 2, 3, 4].map(|list| points.iter().map(|point| point[list]).collect::<Vec<f32>>())
        });
        serde_json::json!({ "first_step": from, "values": values, "forecasts": forecasts })
    }

    /// Everything but the steps.
    pub fn detail_json(&self, info: &PipelineInfo) -> serde_json::Value {
        let forecast = self
            .forecast
            .as_ref()
            .map(|forecast| serde_json::json!({ "origin": forecast.origin, "lists": forecast.lists }));
        let next = [0, 1, 2].map(|list| self.next(list));
        serde_json::json!({
            "status": self.status,
            "unit": self.unit.as_deref(),
            "warmup_steps_observed": self.warmup_steps_observed(info),
            "time_ms": self.last.map(|last| last.time as f64 / 1e3),
            "value": self.last.map(|last| last.value),
            "last_step": self.last.map(|last| last.step),
            "closed_step": self.closed,
            "scores": self.scores,
            "periods": self.periods.latest,
            "drift": self.periods.drift,
            "next": next,
            "forecast": forecast,
        })
    }

    pub fn warmup_steps_observed(&self, info: &PipelineInfo) -> Option<u64> {
        self.observed_steps.map(|steps| steps.min(info.warmup_steps))
    }

    /// Compares the names of two series, with digits as numbers, and then their targets.
    pub fn cmp_names(&self, other: &Self) -> Ordering {
        natural_order(&self.id, &other.id).then(self.target.cmp(&other.target))
    }

    /// The time of the latest observation, once there are two.
    pub fn confirmed_time(&self) -> Option<i64> {
        self.last.filter(|_| self.observations > 1).map(|last| last.time)
    }

    /// Updates scores, drift and status. Runs once a second with the event time of the view.
    pub fn update_status(&mut self, info: &PipelineInfo, event_time: Option<i64>) {
        if self.scored_step != self.closed {
            let from = self.scored_step.map_or(self.first_step, |scored| scored + 1);
            let mut drift = self.drift;
            for scored in self.scored_steps(info, 0, from) {
                drift.add((scored.actual - scored.forecast).abs() as f32);
            }
            (self.drift, self.scored_step) = (drift, self.closed);
            self.scores = [0, 1].map(|horizon_index| self.window_scores(info, horizon_index));
        }
        let is_idle = self.observations == self.observations_at_refresh;
        self.idle_refreshes = if is_idle { self.idle_refreshes.saturating_add(1) } else { 0 };
        self.observations_at_refresh = self.observations;
        let behind = match (event_time, self.last) {
            (Some(time), Some(last)) if self.idle_refreshes >= IDLE_REFRESHES => {
                info.grid.step_of(time) - last.step
            }
            _ => 0,
        };
        let status = if behind > info.max_gap.max(LATE_STEPS + 1) {
            SeriesStatus::Silent
        } else if self.forecast.is_none() {
            SeriesStatus::Warming
        } else if behind > LATE_STEPS {
            SeriesStatus::Late
        } else if self.drift.is_drifting() {
            SeriesStatus::Drifting
        } else {
            SeriesStatus::Ok
        };
        if status != self.status {
            self.status = status;
            self.version += 1;
        }
    }

    fn window_scores(&self, info: &PipelineInfo, horizon_index: usize) -> WindowScores {
        let from = self.closed.map_or(self.first_step, |closed| closed - SCORE_WINDOW + 1);
        let (mut errors, mut naive, mut paired) = (ErrorSums::default(), Mean::default(), Mean::default());
        let mut covered = vec![Mean::default(); info.view_levels.len()];
        for scored in self.scored_steps(info, horizon_index, from) {
            errors.add(scored.actual, scored.forecast);
            if let Some(forecast) = scored.naive {
                naive.add((scored.actual - forecast).abs());
                paired.add((scored.actual - scored.forecast).abs());
            }
            for (covered, is_covered) in covered.iter_mut().zip(scored.is_covered) {
                covered.add(f64::from(u8::from(is_covered)));
            }
        }
        WindowScores {
            count: errors.count,
            mae: (errors.count > 0).then(|| errors.mae()),
            naive_mae: naive.value(),
            mase: paired.value().zip(naive.value()).and_then(|(mae, naive_mae)| mase(mae, naive_mae)),
            bias: (errors.count > 0).then(|| errors.bias()),
            coverage: covered.iter().filter_map(Mean::value).collect(),
        }
    }

    /// The closed steps from `from` on that have both a value and a forecast.
    fn scored_steps(
        &self,
        info: &PipelineInfo,
        horizon_index: usize,
        from: i64,
    ) -> impl Iterator<Item = ScoredStep> {
        let end = self.first_step + self.steps.len() as i64;
        let closed = self.closed.map_or(self.first_step, |closed| (closed + 1).min(end));
        let lag = naive_lag(info.baseline_season(), info.view_horizons[horizon_index]) as i64;
        (from.max(self.first_step)..closed).filter_map(move |step| {
            let actual = f64::from(self.value(step)?);
            let point = self.step(step)?.forecasts[horizon_index];
            point.value.is_finite().then(|| ScoredStep {
                actual,
                forecast: f64::from(point.value),
                naive: self.value(step - lag).map(f64::from),
                is_covered: [0, 1].map(|level| point.contains(level, actual)),
            })
        })
    }
}

/// Compares names with their digits as numbers: `mote-2` before `mote-10`.
pub fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (digits_a, digits_b) = (digits(a), digits(b));
        let order = if digits_a > 0 && digits_b > 0 {
            let [number_a, number_b] =
                [&a[..digits_a], &b[..digits_b]].map(|number| number.trim_start_matches('0'));
            (a, b) = (&a[digits_a..], &b[digits_b..]);
            number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b))
        } else {
            let (mut chars_a, mut chars_b) = (a.chars(), b.chars());
            let (first_a, first_b) = (chars_a.next(), chars_b.next());
            if first_a.is_none() && first_b.is_none() {
                return Ordering::Equal;
            }
            (a, b) = (chars_a.as_str(), chars_b.as_str());
            first_a.cmp(&first_b)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// A forecast with its actual value.
struct ScoredStep {
    actual: f64,
    forecast: f64,
    /// The baseline's forecast.
    naive: Option<f64>,
    /// Containment of the actual value by each retained interval.
    is_covered: [bool; 2],
}

/// Scores of a series at one horizon over its last steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WindowScores {
    /// Scored forecasts.
    pub count: u64,
    /// Mean absolute error, in the unit of the series.
    pub mae: Option<f64>,
    /// MAE of the baseline, over the steps where it has a forecast.
    pub naive_mae: Option<f64>,
    /// MAE over `naive_mae`, both over the steps where the baseline has a forecast; `None` if the baseline was never wrong.
    pub mase: Option<f64>,
    /// Mean of actual minus forecast.
    pub bias: Option<f64>,
    /// Coverage of each retained interval level.
    pub coverage: Vec<f64>,
}

/// Bytes of a period and of one coverage value, as allocated. Five horizons at two levels take 0.4 kB per series; the maximum,
/// eight at sixteen, 1.1 kB.
const PERIOD_BYTES: usize = size_of::<Period>() + 16;
const COVERAGE_BYTES: usize = size_of::<f32>();

/// The stream's own scores of one series: the latest period of each scored horizon.
#[derive(Debug, Default)]
pub struct PeriodScores {
    /// Ascending by horizon.
    pub latest: Vec<Period>,
    /// True if the latest period ended in drift.
    pub drift: Option<bool>,
}

/// Scores of one series at one horizon in one period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Period {
    pub horizon: u32,
    pub from_ms: f64,
    pub until_ms: f64,
    pub forecasts: u32,
    /// Mean absolute error, in the unit of the series.
    pub mae: f32,
    /// MAE over that of the naive forecast; `None` if the naive forecast was never wrong.
    pub mase: Option<f32>,
    /// Mean of actual minus forecast.
    pub bias: f32,
    /// Coverage of each level.
    pub coverage: Box<[f32]>,
}

impl PeriodScores {
    /// Largest size of the periods of a series.
    pub fn bytes(scoring: Option<&Scoring>, levels: usize) -> usize {
        scoring.map_or(0, |scoring| scoring.horizons.len() * (PERIOD_BYTES + levels * COVERAGE_BYTES))
    }

    /// Replaces the period of a row's horizon. Ignores horizons that the pipeline does not score.
    pub fn set(&mut self, scoring: &Scoring, rows: &Scores<'_>, row: usize) {
        let horizon = rows.horizons.value(row).unsigned_abs();
        if !scoring.horizons.contains(&(horizon as usize)) {
            return;
        }
        let period = Period {
            horizon,
            from_ms: rows.from.value(row) as f64 / 1e3,
            until_ms: rows.until.value(row) as f64 / 1e3,
            forecasts: rows.forecasts.value(row).unsigned_abs(),
            mae: rows.mae.value(row),
            mase: rows.mase(row),
            bias: rows.bias.value(row),
            coverage: rows.coverage.iter().map(|coverage| coverage.value(row)).collect(),
        };
        self.drift = Some(rows.drift.value(row));
        match self.latest.binary_search_by_key(&horizon, |period| period.horizon) {
            Ok(index) => self.latest[index] = period,
            Err(index) => {
                self.latest.reserve_exact(1);
                self.latest.insert(index, period);
            }
        }
    }
}
