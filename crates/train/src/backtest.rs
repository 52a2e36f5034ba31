//! Forecasts of models at origins of a history, channel by channel, from the states that they would have had while serving.

use super::windows::{Origin, Windows};
use super::{Channel, History};
use tidecast_core::forecaster::{CellStates, OriginView, Predictor};
use tidecast_core::intervals::volatility;
use tidecast_core::model::Model;
use tidecast_core::network::Network;
use tidecast_core::network::recurrence::{LastObservation, LinearRecurrence};
use tidecast_core::series::Scale;

/// Origins per batch: enough for full matrices.
const BATCH: usize = 64;

/// A forecast and its origin.
pub struct BacktestForecast<'a> {
    /// Index of the origin among those requested.
    pub index: usize,
    pub origin: Origin,
    pub scale: Scale,
    /// Scaled, by step of the horizon.
    pub values: &'a [f32],
    /// Learned quantiles, scaled, `[quantile][horizon]`.
    pub quantiles: &'a [f32],
    /// Volatility of the series at the origin.
    pub volatility: f32,
}

/// Calls `visit` with the state of a recurrence at each of `origins`, which belong to the channel and ascend. Without a
/// recurrence the state is empty.
pub fn scan_states(
    history: &History,
    channel: &Channel,
    recurrence: Option<&LinearRecurrence>,
    origins: &[Origin],
    mut visit: impl FnMut(Origin, &[f32]),
) {
    let mut state = vec![0.0; recurrence.map_or(0, LinearRecurrence::state_len)];
    let mut last = None;
    let mut origins = origins.iter().peekable();
    for index in &channel.segments {
        let segment = &history.segments[*index as usize];
        let mut processed = 0;
        let mut advance = |state: &mut [f32], until: usize| {
            let Some(recurrence) = recurrence else { return };
            if processed == 0 {
                recurrence.begin_run(state, last, segment.start, segment.values[0]);
                processed = 1;
            }
            if until > processed {
                let first = processed.saturating_sub(recurrence.lookback().max(1));
                recurrence.advance_many(state, &segment.values[first..until], until - processed);
                processed = until;
            }
        };
        while let Some(origin) = origins.next_if(|origin| origin.segment == *index) {
            advance(&mut state, origin.index as usize + 1);
            visit(*origin, &state);
        }
        advance(&mut state, segment.values.len());
        last = segment
            .values
            .last()
            .map(|value| LastObservation { step: segment.step(segment.values.len() - 1), value: *value });
    }
}

/// Models of a backtest, with a common recurrence.
#[derive(Clone, Copy)]
pub struct BacktestModels<'a> {
    pub models: &'a [Model],
    /// Index of the model that forecasts from an origin, by its step.
    pub select: &'a (dyn Fn(i64) -> usize + Sync),
}

impl<'a> BacktestModels<'a> {
    pub fn single(model: &'a Model) -> Self {
        Self { models: std::slice::from_ref(model), select: &|_| 0 }
    }
}

/// Forecasts from `origins` of one of `channels`, which ascend. `visit` is called in the order of origins for each model.
pub fn backtest(
    windows: &Windows<'_>,
    channels: &[Channel],
    channel: usize,
    BacktestModels { models, select }: BacktestModels<'_>,
    origins: &[Origin],
    mut visit: impl FnMut(BacktestForecast<'_>),
) {
    let mut batches: Vec<Batch> = models.iter().map(Batch::new).collect();
    let recurrence =
        models.first().and_then(|model| model.recurrence.as_ref()).map(|model| &model.recurrence);
    let series = windows.series_index(channel);
    let mut count = 0;
    scan_states(windows.history, &channels[channel], recurrence, origins, |origin, state| {
        let segment = &windows.history.segments[origin.segment as usize];
        let window = windows.view(origin).expect("windows at sampled origins are complete");
        let stats = segment.stats_at(origin.index as usize);
        let volatility = volatility(windows.past(origin), window.scale.spread);
        let (future, past) = (windows.future(origin), windows.past(origin));
        let selected = select(window.origin);
        let view = OriginView {
            window,
            future,
            recurrence: state,
            history: past,
            stats: &stats,
            series_idx: series,
        };
        let (model, batch) = (&models[selected], &mut batches[selected]);
        let scale = batch.predictor.add(model, windows.step_config, &view);
        if let Some(runner) = &mut batch.runner {
            batch.cell_outputs.extend_from_slice(runner.forecast(windows, model, origin, series));
        }
        batch.pending.push(PendingOrigin { index: count, origin, scale, volatility });
        count += 1;
        if batch.pending.len() == BATCH {
            batch.flush(model, &mut visit);
        }
    });
    for (batch, model) in batches.iter_mut().zip(models) {
        batch.flush(model, &mut visit);
    }
}

/// Origins of one model that are forecast together.
#[derive(Default)]
struct Batch {
    predictor: Predictor,
    runner: Option<StateRunner>,
    /// Outputs of cells that carry their state, `[origin][quantity][horizon]`.
    cell_outputs: Vec<f32>,
    pending: Vec<PendingOrigin>,
    outputs: Vec<f32>,
}

struct PendingOrigin {
    index: usize,
    origin: Origin,
    scale: Scale,
    volatility: f32,
}

impl Batch {
    fn new(model: &Model) -> Self {
        Self { runner: StateRunner::new(model), ..Self::default() }
    }

    fn flush(&mut self, model: &Model, visit: &mut impl FnMut(BacktestForecast<'_>)) {
        self.predictor.run(model, &self.cell_outputs, &mut self.outputs);
        self.cell_outputs.clear();
        let horizon = model.manifest.horizon;
        let quantiles_len = model.manifest.probabilities().len() * horizon;
        let outputs = self.outputs.chunks_exact(horizon).enumerate();
        for (pending, (i, values)) in self.pending.drain(..).zip(outputs) {
            let quantiles = &self.predictor.quantiles()[i * quantiles_len..][..quantiles_len];
            let PendingOrigin { index, origin, scale, volatility } = pending;
            visit(BacktestForecast { index, origin, scale, values, quantiles, volatility });
        }
    }
}

/// Steps whose inputs are written together: the way to the first origin may be as long as the history.
const STEPS_PER_CHUNK: usize = 4096;

/// State of the cells along a channel.
pub struct StateRunner {
    states: CellStates,
    segment: u32,
    /// Steps of the segment that the state includes.
    processed: usize,
    inputs: Vec<f32>,
    outputs: Vec<f32>,
}

impl StateRunner {
    /// The initial state; none if the cells of the model carry no state.
    pub fn new(model: &Model) -> Option<Self> {
        let network = model.cells.as_ref().filter(|_| model.manifest.carries_state())?;
        let states = CellStates::new(network.shape());
        Some(Self { states, segment: 0, processed: 0, inputs: Vec::new(), outputs: Vec::new() })
    }

    /// Output of the cells at an origin after all previous ones, `[quantity][horizon]`. `series` is the index of the series
    /// in the manifest.
    pub fn forecast(
        &mut self,
        windows: &Windows<'_>,
        model: &Model,
        origin: Origin,
        series: Option<usize>,
    ) -> &[f32] {
        let Some(network) = &model.cells else { return &[] };
        let until = origin.index as usize + 1;
        if self.segment != origin.segment || self.processed == 0 {
            self.states.clear(0);
            (self.segment, self.processed) = (origin.segment, 0);
        }
        while self.processed < until {
            self.advance(windows, network, origin, series);
        }
        &self.outputs
    }

    /// Processes a chunk of the steps up to an origin, and forecasts if it is reached.
    fn advance(&mut self, windows: &Windows<'_>, network: &Network, origin: Origin, series: Option<usize>) {
        let (shape, until) = (network.shape(), origin.index as usize + 1);
        let steps = self.processed..until.min(self.processed + STEPS_PER_CHUNK);
        self.inputs.resize(steps.len() * shape.inputs, 0.0);
        windows.write_steps(origin.segment, steps, &mut self.inputs);
        for input in self.inputs.chunks_exact(shape.inputs) {
            self.processed += 1;
            self.states.add_step(shape, 0, series).copy_from_slice(input);
            if self.processed == until {
                let inputs = &windows.manifest.inputs;
                inputs.write_future(windows.future(origin), self.states.add_origin(shape, 0));
            }
            self.states.run(network, &mut self.outputs);
        }
    }
}
