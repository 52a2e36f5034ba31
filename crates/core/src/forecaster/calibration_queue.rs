//! Queue of actuals and forecasts between the rows and the network.
//!
//! The network runs over many forecasts at once, but calibration must see actuals and forecasts in the order of the rows:
//! operations wait here until the forecasts among them have run.

use std::ops::Range;

use compact_str::CompactString;

use super::series_store::StepContext;
use super::setup::{Scoring, Setup};
use crate::intervals::{
    Bounds, CalibratedForecast, CalibrationLayout, CalibrationMode, IssuedForecast, ModelOutput,
    OnlineCalibrator, ScaledForecast, ScoreMode, SeriesScores, saturating_f32,
};
use crate::metrics::naive_lag;
use crate::model::Model;
use crate::schema::{ForecastBuilder, ScoreBuilder};
use crate::series::Scale;

/// Queued operations that trigger a run: several per forecast where not every step issues one.
const OPS_MAX: usize = 2048;
/// Operations by which the state of a series is prefetched ahead; usually two are of one series.
const PREFETCH_OPS: usize = 8;

/// An operation in the order of the rows.
enum QueuedOp {
    /// A column was observed: its forecasts for the step are scored, and its intervals calibrated.
    Actual(Actual),
    /// The next of the pending forecasts is calibrated and written.
    Forecast,
    /// The scores of a finished period are written. Rare, hence boxed.
    EmitScores(Box<EmitScores>),
}

#[derive(Clone, Copy)]
struct Actual {
    column: usize,
    series_idx: Option<usize>,
    step: i64,
    value: f64,
}

struct EmitScores {
    column: usize,
    position: i64,
    id: CompactString,
    target: usize,
    period: i64,
    mode: OutputMode,
}

/// Output of the results of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputMode {
    Emit,
    /// The output of the rows is known already; only the state advances.
    Replay,
}

/// Builders of a push's output.
pub struct OutputBuilders {
    pub forecasts: ForecastBuilder,
    pub scores: ScoreBuilder,
}

/// A forecast of the model, scaled and uncalibrated.
pub struct RawForecast<'a> {
    pub column: usize,
    /// Index of the series in the model.
    pub series_idx: Option<usize>,
    /// Step of the origin.
    pub origin: i64,
    pub scale: Scale,
    pub volatility: f32,
    pub mode: OutputMode,
    /// `[horizon]`
    pub values: &'a [f32],
    /// `[quantile][horizon]`
    pub quantiles: &'a [f32],
    /// One per level.
    pub bounds: &'a [Bounds],
}

/// Calibration and scoring of all series of a partition, in row order.
pub struct CalibrationQueue {
    calibrator: OnlineCalibrator,
    mode: CalibrationMode,
    /// Steps of a scored period.
    period_steps: i64,
    /// By column: its current period, once known.
    periods: Vec<Option<i64>>,
    ops: Vec<QueuedOp>,
    /// Naive forecasts of the pending forecasts, `[forecast][tracked horizon]`.
    naive: Vec<f32>,
    /// Steps from the origin back to the naive forecast's value, `[tracked horizon]`.
    naive_back: Vec<usize>,
    /// Mean absolute residuals of each series in the model, `[tracked horizon]`; filled on first use.
    series_residuals: Vec<Option<Vec<f32>>>,
    /// Mean absolute residuals of the series that are not in the model, `[tracked horizon]`.
    pooled_residuals: Vec<f32>,
    /// Scratch for the forecast being issued.
    forecast: CalibratedForecast,
}

impl CalibrationQueue {
    /// `None` without intervals and scores.
    pub fn new(setup: &Setup) -> Option<Self> {
        let Setup { model, levels, every, scoring, calibration, .. } = setup;
        if !setup.needs_actuals() {
            return None;
        }
        let horizon = model.manifest.horizon;
        let horizons = scoring
            .as_ref()
            .map_or_else(|| CalibrationLayout::default_horizons(horizon), |s| s.horizons.clone());
        let mode = if scoring.is_some() { ScoreMode::Scored } else { ScoreMode::Unscored };
        let layout = CalibrationLayout::new(horizon, horizons, levels, *every, mode);
        let season = setup.season();
        Some(Self {
            mode: *calibration,
            period_steps: scoring.as_ref().map_or(1, |Scoring { every, .. }| i64::from(*every)),
            periods: Vec::new(),
            ops: Vec::new(),
            naive: Vec::new(),
            naive_back: layout.horizons().iter().map(|ahead| naive_lag(season, *ahead) - ahead).collect(),
            series_residuals: vec![None; model.manifest.series.len()],
            pooled_residuals: mean_residuals(model, &layout, None),
            forecast: CalibratedForecast::default(),
            calibrator: OnlineCalibrator::new(layout),
        })
    }

    pub fn calibrator(&self) -> &OnlineCalibrator {
        &self.calibrator
    }

    pub fn calibrator_mut(&mut self) -> &mut OnlineCalibrator {
        &mut self.calibrator
    }

    /// True if the queue must run before more is added.
    pub fn is_full(&self) -> bool {
        self.ops.len() >= OPS_MAX
    }

    /// True if an operation of these columns is queued.
    pub fn is_pending(&self, columns: &Range<usize>) -> bool {
        self.ops.iter().any(|op| match op {
            QueuedOp::Actual(actual) => columns.contains(&actual.column),
            QueuedOp::EmitScores(scores) => columns.contains(&scores.column),
            // Always preceded by an actual of its column.
            QueuedOp::Forecast => false,
        })
    }

    /// True if actuals have an effect.
    fn uses_actuals(&self) -> bool {
        self.mode == CalibrationMode::Online || self.calibrator.layout().is_scored()
    }

    /// Queues the actual of a target; if it begins a new period, the scores of the last one are emitted first.
    pub fn push_actual(
        &mut self,
        context: &StepContext<'_>,
        target: usize,
        series_idx: Option<usize>,
        mode: OutputMode,
    ) {
        if !self.uses_actuals() {
            return;
        }
        let column = context.slot * context.targets.len() + target;
        let (values, _) = context.targets[target].window.tail(1).expect("the target was observed");
        let (step, value) = (context.step, values[0]);
        if self.calibrator.layout().is_scored() {
            let period = step.div_euclid(self.period_steps);
            if let Some(previous) = self.enter_period(column, period).filter(|previous| *previous != period) {
                let (position, id) = (context.position, context.id.clone());
                self.push_scores(EmitScores { column, position, id, target, period: previous, mode });
            }
        }
        self.ops.push(QueuedOp::Actual(Actual { column, series_idx, step, value }));
    }

    /// Queues the scores of the last period of a series at the end of its input.
    pub fn push_final_scores(&mut self, slot: usize, id: &CompactString, position: i64, targets: usize) {
        if !self.calibrator.layout().is_scored() {
            return;
        }
        for target in 0..targets {
            let column = slot * targets + target;
            let entered = self.periods.get(column).copied().flatten();
            if let Some(period) = entered.or_else(|| self.restored_period(column)) {
                let (id, mode) = (id.clone(), OutputMode::Emit);
                self.push_scores(EmitScores { column, position, id, target, period, mode });
            }
        }
    }

    fn push_scores(&mut self, scores: EmitScores) {
        self.ops.push(QueuedOp::EmitScores(Box::new(scores)));
    }

    /// Sets the current period of a column; returns the previous one.
    fn enter_period(&mut self, column: usize, period: i64) -> Option<i64> {
        if column >= self.periods.len() {
            self.periods.resize(column + 1, None);
        }
        let previous = self.periods[column].replace(period);
        previous.or_else(|| self.restored_period(column))
    }

    /// The period of the last step before a restart.
    fn restored_period(&self, column: usize) -> Option<i64> {
        self.calibrator.last(column).map(|last| last.div_euclid(self.period_steps))
    }

    /// Queues a forecast; `history` ends with the value at its origin.
    pub fn push_forecast(&mut self, history: &[f64]) {
        self.ops.push(QueuedOp::Forecast);
        if self.calibrator.layout().is_scored() {
            self.naive.extend(self.naive_back.iter().map(|back| naive_value(history, *back)));
        }
    }

    /// Resets a column without queued operations.
    pub fn clear(&mut self, column: usize) {
        self.calibrator.clear(column);
        if let Some(period) = self.periods.get_mut(column) {
            *period = None;
        }
    }

    /// Runs all queued operations in order; `forecasts` are the queued forecasts.
    pub fn run<'a>(
        &mut self,
        setup: &Setup,
        mut forecasts: impl Iterator<Item = RawForecast<'a>>,
        out: &mut OutputBuilders,
    ) {
        let mut ops = std::mem::take(&mut self.ops);
        ops.iter().take(PREFETCH_OPS).for_each(|op| self.prefetch(op));
        let mut forecast_count = 0;
        for (i, op) in ops.iter().enumerate() {
            ops.get(i + PREFETCH_OPS).into_iter().for_each(|op| self.prefetch(op));
            match op {
                QueuedOp::Actual(actual) => self.apply_actual(setup, *actual),
                QueuedOp::Forecast => {
                    let raw = forecasts.next().expect("every queued forecast is pending in the batcher");
                    self.issue(setup, &raw, forecast_count);
                    if raw.mode == OutputMode::Emit {
                        let CalibratedForecast { values, bounds, .. } = &self.forecast;
                        out.forecasts.append_values(output_lists(setup.levels.len(), values, bounds));
                    }
                    forecast_count += 1;
                }
                QueuedOp::EmitScores(request) => {
                    let scores = self.calibrator.take_period(request.column);
                    if request.mode == OutputMode::Emit {
                        self.write_scores(setup, request, &scores, out);
                    }
                }
            }
        }
        ops.clear();
        self.ops = ops;
        self.naive.clear();
    }

    fn prefetch(&self, op: &QueuedOp) {
        if let QueuedOp::Actual(actual) = op {
            self.calibrator.prefetch(actual.column);
        }
    }

    /// Scores the forecasts for an observed step and calibrates by them.
    fn apply_actual(&mut self, setup: &Setup, actual: Actual) {
        let Actual { column, series_idx, step, value } = actual;
        let Self { calibrator, series_residuals, pooled_residuals, .. } = self;
        let residuals = match series_idx.and_then(|series| series_residuals.get_mut(series)) {
            Some(residuals) => {
                residuals.get_or_insert_with(|| mean_residuals(&setup.model, calibrator.layout(), series_idx))
            }
            None => pooled_residuals,
        };
        calibrator.observe(column, step, value, residuals);
    }

    /// Calibrates the bounds of a forecast into `self.forecast`, and stores it until its actuals arrive.
    fn issue(&mut self, setup: &Setup, raw: &RawForecast<'_>, index: usize) {
        let uses_actuals = self.uses_actuals();
        let Self { calibrator, naive, forecast, mode, .. } = self;
        let volatility_scale = setup.model.volatility_scale(raw.series_idx, raw.volatility);
        let Scale { center, spread } = raw.scale;
        let scaled = ScaledForecast {
            center,
            spread,
            output: ModelOutput { values: raw.values, quantiles: raw.quantiles, volatility: raw.volatility },
            bounds: raw.bounds,
            volatility_scale,
        };
        calibrator.apply(raw.column, &scaled, *mode, forecast);
        if !uses_actuals {
            return;
        }
        let tracked = calibrator.layout().horizons().len();
        let naive = if naive.is_empty() { &[][..] } else { &naive[index * tracked..][..tracked] };
        let unit = saturating_f32(spread * f64::from(volatility_scale));
        calibrator.issue(raw.column, &IssuedForecast { origin: raw.origin, forecast, unit, naive });
    }

    fn write_scores(
        &self,
        setup: &Setup,
        request: &EmitScores,
        scores: &SeriesScores,
        out: &mut OutputBuilders,
    ) {
        let EmitScores { position, ref id, target, period, .. } = *request;
        let (start, end) = (period * self.period_steps, (period + 1) * self.period_steps);
        let span = [start, end].map(|step| setup.step_config.grid.start_of(step));
        out.scores.push(position, id, &setup.columns.targets[target], span, scores);
    }
}

/// ŷ(t + h) = y(t - back), or the last value where the history is shorter.
fn naive_value(history: &[f64], back: usize) -> f32 {
    let last = history.len() - 1;
    saturating_f32(history[last.checked_sub(back).unwrap_or(last)])
}

/// The model's mean absolute residuals of a series, `[tracked horizon]`.
fn mean_residuals(model: &Model, layout: &CalibrationLayout, series_idx: Option<usize>) -> Vec<f32> {
    layout.horizons().iter().map(|ahead| model.mean_residual(series_idx, ahead - 1)).collect()
}

/// The lists of a forecast in the order of the output: values, then lower and upper bounds from the narrowest level on.
///
/// `bounds` are `[probability][horizon]`, ascending.
fn output_lists<'a>(levels: usize, values: &'a [f32], bounds: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
    let bound = move |probability: usize| &bounds[probability * values.len()..][..values.len()];
    let pairs = (0..levels).flat_map(move |level| [bound(levels - 1 - level), bound(levels + level)]);
    std::iter::once(values).chain(pairs)
}
