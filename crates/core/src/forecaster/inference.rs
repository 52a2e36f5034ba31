//! Batching of forecasts for the network.
//!
//! The inputs of a forecast are copied when it is issued, the network runs over many at once, and the outputs are written in
//! the order of issue. The bits of a forecast do not depend on the others in its batch.

use std::sync::Arc;

use compact_str::CompactString;

use super::calibration_queue::{CalibrationQueue, OutputBuilders, OutputMode, RawForecast};
use super::predictor::{OriginView, Predictor};
use super::series_store::{StepContext, TargetState};
use super::setup::Setup;
use super::states::{AuxStates, AuxStatesMut, CellStates, RecurrenceStates};
use crate::intervals::{Bounds, volatility};
use crate::model::SeriesKey;
use crate::series::{Scale, StepInput, WindowUpdate, WindowView};

/// Forecasts per run of windowed cells: kernels reach full speed, and the inputs still fit the cache.
const WINDOW_BATCH: usize = 64;
/// Forecasts per run of carried states: more, so that prefetching hides the latency of the states.
const CARRIED_BATCH: usize = 256;

/// A forecast without its values.
struct PendingForecast {
    column: usize,
    /// Step of the origin.
    origin: i64,
    scale: Scale,
    series_idx: Option<usize>,
    volatility: f32,
    mode: OutputMode,
}

/// Pending forecasts of a partition, and the carried states they are computed from.
pub struct InferenceBatcher {
    setup: Arc<Setup>,
    /// Bounds of series without parameters of their own, one per level.
    pooled_bounds: Vec<Bounds>,
    /// Bounds of each series in the model, filled on first use.
    series_bounds: Vec<Option<Vec<Bounds>>>,
    pending: Vec<PendingForecast>,
    predictor: Predictor,
    recurrence: Option<RecurrenceStates>,
    cells: Option<CellStates>,
    calibration: Option<CalibrationQueue>,
    /// Outputs of carried cells, `[forecast][output][horizon]`.
    cell_outputs: Vec<f32>,
    /// By slot and target: index of the series in the model.
    series_idx: Vec<Vec<Option<usize>>>,
    outputs: Vec<f32>,
    /// Forecasts per run.
    batch_size: usize,
    /// Past values read at an origin.
    history_steps: usize,
    uses_volatility: bool,
}

impl InferenceBatcher {
    pub fn new(setup: Arc<Setup>) -> Self {
        let model = &setup.model;
        let carries_state = model.manifest.carries_state();
        let series = if setup.levels.is_empty() { 0 } else { model.manifest.series.len() };
        let network = model.cells.as_ref().filter(|_| carries_state);
        let calibration = CalibrationQueue::new(&setup);
        Self {
            pooled_bounds: bounds_of(&setup, None),
            series_bounds: vec![None; series],
            pending: Vec::new(),
            predictor: Predictor::default(),
            recurrence: model.recurrence.as_ref().map(|part| RecurrenceStates::new(part.recurrence.clone())),
            cells: network.map(|network| CellStates::new(network.shape())),
            cell_outputs: Vec::new(),
            series_idx: Vec::new(),
            outputs: Vec::new(),
            batch_size: if carries_state { CARRIED_BATCH } else { WINDOW_BATCH },
            history_steps: setup.history_steps(),
            uses_volatility: calibration.is_some() && model.uses_volatility(),
            calibration,
            setup,
        }
    }

    /// The carried states, without the effects of pending operations.
    pub fn states(&self) -> AuxStates<'_> {
        let Self { recurrence, cells, calibration, .. } = self;
        let calibrator = calibration.as_ref().map(CalibrationQueue::calibrator);
        AuxStates { recurrence: recurrence.as_ref(), cells: cells.as_ref(), calibrator }
    }

    pub fn states_mut(&mut self) -> AuxStatesMut<'_> {
        let Self { recurrence, cells, calibration, .. } = self;
        let calibrator = calibration.as_mut().map(CalibrationQueue::calibrator_mut);
        AuxStatesMut { recurrence: recurrence.as_mut(), cells: cells.as_mut(), calibrator }
    }

    /// Prefetches the states that a row of a series reads first.
    pub fn prefetch(&self, slot: usize) {
        let targets = self.setup.columns.targets.len();
        for column in slot * targets..(slot + 1) * targets {
            self.recurrence.iter().for_each(|states| states.prefetch(column));
        }
    }

    /// Advances the states of a series over a closed step, and issues a forecast for every target that is due.
    ///
    /// A target is due if it was observed, the step is a multiple of `forecast.every`, and its series is warm. In replay
    /// mode forecasts are computed only where later intervals depend on them.
    pub fn step_closed(&mut self, context: &StepContext<'_>, mode: OutputMode, out: &mut OutputBuilders) {
        // Usually 1, and a division is slow.
        let every = i64::from(self.setup.every);
        let is_due = every == 1 || context.step.rem_euclid(every) == 0;
        let is_needed = mode == OutputMode::Emit || self.calibration.is_some();
        for target in 0..context.targets.len() {
            if context.updates[target] != WindowUpdate::Missing {
                let series_idx = series_in_model(&mut self.series_idx, &self.setup, context, target);
                if let Some(calibration) = &mut self.calibration {
                    calibration.push_actual(context, target, series_idx, mode);
                }
                if let Some(recurrence) = &mut self.recurrence {
                    let (update, window) = (context.updates[target], &context.targets[target].window);
                    recurrence.advance(column(context, target), update, window, context.step);
                }
                let scale = self.advance_cells(context, target, series_idx, out);
                if is_due && is_needed {
                    self.issue(context, target, series_idx, scale, mode, out);
                }
            }
            let is_full = self.pending.len() >= self.batch_size;
            if is_full || self.calibration.as_ref().is_some_and(CalibrationQueue::is_full) {
                self.run(out);
            }
        }
    }

    /// The input of a series has ended, and its open steps have closed.
    pub fn series_ended(&mut self, slot: usize, id: &CompactString, position: i64) {
        if let Some(calibration) = &mut self.calibration {
            calibration.push_final_scores(slot, id, position, self.setup.columns.targets.len());
        }
    }

    /// Clears the states of an evicted series, after its pending operations.
    pub fn evict(&mut self, slot: usize, out: &mut OutputBuilders) {
        if let Some(series_idx) = self.series_idx.get_mut(slot) {
            series_idx.clear();
        }
        let targets = self.setup.columns.targets.len();
        let columns = slot * targets..(slot + 1) * targets;
        let has_step = |cells: &CellStates| columns.clone().any(|column| cells.is_pending(column));
        let has_op = self.calibration.as_ref().is_some_and(|queue| queue.is_pending(&columns));
        if has_op || self.cells.as_ref().is_some_and(has_step) {
            self.run(out);
        }
        for column in columns {
            self.recurrence.iter_mut().for_each(|states| states.clear(column));
            self.cells.iter_mut().for_each(|states| states.clear(column));
            self.calibration.iter_mut().for_each(|queue| queue.clear(column));
        }
    }

    /// Advances carried cells over the steps just added to a window; the last one may stay pending.
    ///
    /// Returns the scale of these steps, or `None` without carried cells.
    fn advance_cells(
        &mut self,
        context: &StepContext<'_>,
        target: usize,
        series_idx: Option<usize>,
        out: &mut OutputBuilders,
    ) -> Option<Scale> {
        self.cells.as_ref()?;
        let column = column(context, target);
        let added = match context.updates[target] {
            WindowUpdate::Missing => 0,
            WindowUpdate::Reset => 1,
            WindowUpdate::Extended(steps) => steps as usize,
        };
        let state = &context.targets[target];
        let manifest = &self.setup.model.manifest;
        // The steps that fill a gap are appended with the step after the gap, so they have its scale.
        let scale = Scale::at_origin(manifest.scaling, &[], &state.stats, manifest.moments(target));
        let available = state.window.len().min(added + 1);
        let (values, observed) = state.window.tail(available).expect("the window holds these steps");
        for i in available - added..available {
            // A forecast of the column must run before its state advances.
            let is_blocked =
                |cells: &CellStates| cells.is_pending(column) || cells.pending_count() == self.batch_size;
            if self.cells.as_ref().is_some_and(is_blocked) {
                self.run(out);
            }
            let Setup { model, step_config, .. } = &*self.setup;
            let (Some(cells), Some(network)) = (&mut self.cells, &model.cells) else { return None };
            if context.updates[target] == WindowUpdate::Reset {
                cells.clear(column);
            }
            let step = context.step - (available - 1 - i) as i64;
            let previous = i.checked_sub(1).map(|previous| values[previous]);
            let input = StepInput::new(scale, previous, values[i], observed[i]);
            let inputs = cells.add_step(network.shape(), column, series_idx);
            model.manifest.inputs.write_step(step_config, step, input, context.covariates, inputs);
        }
        Some(scale)
    }

    /// Issues a forecast of a target if its series is warm; `carried_scale` is the scale of carried cells.
    fn issue(
        &mut self,
        context: &StepContext<'_>,
        target: usize,
        series_idx: Option<usize>,
        carried_scale: Option<Scale>,
        mode: OutputMode,
        out: &mut OutputBuilders,
    ) {
        let Setup { model, step_config, columns, .. } = &*self.setup;
        let manifest = &model.manifest;
        let TargetState { window, stats } = &context.targets[target];
        let Some((values, observed)) = window.tail(manifest.lookback) else { return };
        if stats.count < manifest.warmup {
            return;
        }
        let scale = carried_scale
            .unwrap_or_else(|| Scale::at_origin(manifest.scaling, values, stats, manifest.moments(target)));
        let column = column(context, target);
        let (history, _) =
            window.tail(window.len().min(self.history_steps)).expect("the window holds these steps");
        let recurrence = self.recurrence.as_ref().map_or(&[][..], |states| states.column(column));
        let origin = OriginView {
            window: WindowView {
                values,
                observed,
                covariates: context.covariates,
                origin: context.step,
                scale,
            },
            future: context.future,
            recurrence,
            history,
            stats,
            series_idx,
        };
        let scale = self.predictor.add(model, step_config, &origin);
        if let (Some(cells), Some(network)) = (&mut self.cells, &model.cells) {
            manifest.inputs.write_future(context.future, cells.add_origin(network.shape(), column));
        }
        if let Some(calibration) = &mut self.calibration {
            calibration.push_forecast(history);
        }
        if mode == OutputMode::Emit {
            let origin = step_config.grid.start_of(context.step);
            out.forecasts.append_key(context.position, context.id, &columns.targets[target], origin);
        }
        self.pending.push(PendingForecast {
            column,
            origin: context.step,
            scale,
            series_idx,
            volatility: if self.uses_volatility { volatility(history, scale.spread) } else { 0.0 },
            mode,
        });
    }

    /// Runs the network over all pending steps and forecasts, and writes the forecasts in the order of issue.
    pub fn run(&mut self, out: &mut OutputBuilders) {
        let model = &self.setup.model;
        if let (Some(cells), Some(network)) = (&mut self.cells, &model.cells) {
            cells.run(network, &mut self.cell_outputs);
        }
        if !self.pending.is_empty() {
            self.predictor.run(model, &self.cell_outputs, &mut self.outputs);
        }
        let horizon = model.manifest.horizon;
        match &mut self.calibration {
            Some(calibration) => {
                for series_idx in self.pending.iter().filter_map(|pending| pending.series_idx) {
                    if let Some(bounds) = self.series_bounds.get_mut(series_idx) {
                        bounds.get_or_insert_with(|| bounds_of(&self.setup, Some(series_idx)));
                    }
                }
                let quantiles = self.predictor.quantiles();
                let quantiles_len = model.manifest.probabilities().len() * horizon;
                let raw = self.pending.iter().enumerate().map(|(i, pending)| {
                    let series_bounds =
                        pending.series_idx.and_then(|i| self.series_bounds.get(i)?.as_deref());
                    RawForecast {
                        column: pending.column,
                        series_idx: pending.series_idx,
                        origin: pending.origin,
                        scale: pending.scale,
                        volatility: pending.volatility,
                        mode: pending.mode,
                        values: &self.outputs[i * horizon..][..horizon],
                        quantiles: &quantiles[i * quantiles_len..][..quantiles_len],
                        bounds: series_bounds.unwrap_or(&self.pooled_bounds),
                    }
                });
                calibration.run(&self.setup, raw, out);
            }
            // Without intervals and scores the forecasts are final.
            None => {
                let scales = self.pending.iter().map(|pending| pending.scale);
                Scale::invert_all(scales, horizon, &mut self.outputs);
                for (pending, values) in self.pending.iter().zip(self.outputs.chunks_exact(horizon)) {
                    if pending.mode == OutputMode::Emit {
                        out.forecasts.append_values([values]);
                    }
                }
            }
        }
        self.pending.clear();
    }
}

/// The column of a target among the carried states.
fn column(context: &StepContext<'_>, target: usize) -> usize {
    context.slot * context.targets.len() + target
}

/// The bounds of each level for a series in the model, or for all other series.
fn bounds_of(setup: &Setup, series_idx: Option<usize>) -> Vec<Bounds> {
    setup.levels.iter().map(|level| setup.model.bounds(*level, series_idx)).collect()
}

/// Index in the model of a target of a series; `cache` is searched once per series.
#[inline]
fn series_in_model(
    cache: &mut Vec<Vec<Option<usize>>>,
    setup: &Setup,
    context: &StepContext<'_>,
    target: usize,
) -> Option<usize> {
    let series = &setup.model.manifest.series;
    if series.is_empty() {
        return None;
    }
    if cache.len() <= context.slot {
        cache.resize(context.slot + 1, Vec::new());
    }
    let cached = &mut cache[context.slot];
    if cached.is_empty() {
        let index = |target: &String| {
            let is_match = |key: &SeriesKey| *key.id == **context.id && key.target == *target;
            series.iter().position(is_match)
        };
        cached.extend(setup.columns.targets.iter().map(index));
    }
    cached[target]
}
