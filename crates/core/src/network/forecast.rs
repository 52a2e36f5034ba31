//! Forecasting: from windows, along sequences, or one step at a time with carried state.

use super::forward::{Batch, ForwardPass, StateColumns, TILE, Tile, check_len};
use super::kernel::layer_step::{CellStates, LayerStep};
use super::kernel::packed::{Strided, StridedMut};
use super::state::LayerState;
use super::{Decoder, Network, Shape, State};
use crate::prefetch;

/// Reusable buffers of forecasting: no batch allocates, regardless of its width.
pub struct Scratch {
    pass: ForwardPass,
    /// h of a layer after a step of carried states, until all of its units are computed.
    next: Vec<f32>,
    /// `[column][x; e]`: the inputs of a step of carried states with embeddings.
    inputs: Vec<f32>,
    embedded: Vec<f32>,
}

impl Scratch {
    pub fn new(shape: &Shape) -> Self {
        Self {
            pass: ForwardPass::new(shape, 0, 0, TILE),
            next: vec![0.0; TILE * shape.hidden],
            inputs: Vec::new(),
            embedded: Vec::new(),
        }
    }
}

/// Sequences that are read in parallel from states of zero, with a forecast after every step. Only for the direct decoder: the
/// recursive one would run over its whole horizon after every step.
#[derive(Clone, Copy, Debug)]
pub struct Sequences<'a> {
    /// Columns: sequences read in parallel.
    pub width: usize,
    /// Steps of each.
    pub steps: usize,
    /// Steps at the start without a forecast, which bring the states close to carried ones.
    pub burn_in: usize,
    /// `[step][column][input]`
    pub inputs: &'a [f32],
    /// `[forecast][column][horizon][covariate]`; forecast 0 follows the first step after the burn-in.
    pub future_covariates: &'a [f32],
    /// `[column]`: the embedding of each column's series. Empty if all are unknown.
    pub series: &'a [Option<u32>],
}

impl Sequences<'_> {
    /// Forecasts of each column.
    pub fn forecasts(&self) -> usize {
        self.steps - self.burn_in
    }

    pub(super) fn check(&self, shape: &Shape) {
        assert_eq!(shape.decoder, Decoder::Direct, "sequences need the direct decoder");
        assert!(self.burn_in < self.steps, "a sequence is longer than its burn-in");
        let inputs = self.steps * self.width * shape.inputs;
        check_len(self.inputs, inputs, "inputs", "[step][column][input]");
        let covariates = self.forecasts() * self.width * shape.horizon * shape.future_covariates;
        let layout = "[forecast][column][horizon][covariate]";
        check_len(self.future_covariates, covariates, "future covariates", layout);
    }
}

/// Prefetches the states of columns that the next tile steps.
fn prefetch_states(state: &State, columns: &[usize]) {
    for (numbers, size) in state.layers() {
        columns.iter().for_each(|column| prefetch::slice(&numbers[column * size..][..size]));
    }
}

impl Network {
    /// Forecasts each column of `batch`, from states of zero, into `out` `[column][quantity][horizon]`: the point forecast, then
    /// each quantile.
    ///
    /// A column's forecast depends on that column only, bit for bit.
    ///
    /// # Panics
    /// If a slice has the wrong length, or `scratch` belongs to another shape.
    pub fn forecast(&self, batch: &Batch<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        self.forecast_tiles(None, batch, &mut scratch.pass, out);
    }

    /// As [`Network::forecast`], from the given columns of `state`, one for each column of the batch. `state` stays unchanged;
    /// `batch` holds the steps since, and may have none.
    ///
    /// # Panics
    /// As [`Network::forecast`], and if a column does not exist.
    pub fn forecast_from(
        &self,
        state: &State,
        columns: &[usize],
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.check_columns(state, columns);
        let shape = self.shape();
        assert_eq!(columns.len(), batch.width, "the batch has one column for each of the state");
        if batch.steps > 0 || shape.decoder == Decoder::Recursive {
            let from = StateColumns { state, columns };
            return self.forecast_tiles(Some(from), batch, &mut scratch.pass, out);
        }
        // No step follows: the head reads the states in place.
        batch.check(shape);
        check_len(out, batch.width * shape.outputs(), "outputs", "[column][quantity][horizon]");
        for tile in Tile::all(batch.width) {
            let indices = Some(&columns[tile.first..][..tile.count]);
            let top = Strided { data: state.hidden(shape.layers - 1), stride: shape.hidden, indices };
            let size = shape.horizon * shape.future_covariates;
            let covariates = tile.of(batch.future_covariates, 0, batch.width, size);
            let out = &mut out[tile.first * shape.outputs()..][..tile.count * shape.outputs()];
            let out = StridedMut { data: out, stride: shape.outputs() };
            self.head(top, covariates, 0, tile.count, out);
        }
    }

    fn forecast_tiles(
        &self,
        from: Option<StateColumns<'_>>,
        batch: &Batch<'_>,
        pass: &mut ForwardPass,
        out: &mut [f32],
    ) {
        let shape = self.shape();
        batch.check(shape);
        let outputs = shape.outputs();
        check_len(out, batch.width * outputs, "outputs", "[column][quantity][horizon]");
        for tile in Tile::all(batch.width) {
            let out = &mut out[tile.first * outputs..][..tile.count * outputs];
            pass.forecast(self, from, batch, tile, out);
        }
    }

    /// Forecasts after every step that follows the burn-in, into `out` `[forecast][column][quantity][horizon]`.
    ///
    /// # Panics
    /// If a slice has the wrong length, the decoder is not direct, or `scratch` belongs to another shape.
    pub fn forecast_sequences(&self, sequences: &Sequences<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        let shape = self.shape();
        let Sequences { width, steps, burn_in, inputs, future_covariates, .. } = *sequences;
        sequences.check(shape);
        let outputs = shape.outputs();
        let layout = "[forecast][column][quantity][horizon]";
        check_len(out, sequences.forecasts() * width * outputs, "outputs", layout);
        let pass = &mut scratch.pass;
        for tile in Tile::all(width) {
            pass.begin(self, None, sequences.series, tile);
            for step in 0..steps {
                pass.set_input(step, tile.of(inputs, step, width, shape.inputs));
                pass.step(self, step);
                let Some(forecast) = step.checked_sub(burn_in) else { continue };
                let size = shape.horizon * shape.future_covariates;
                let covariates = tile.of(future_covariates, forecast, width, size);
                let out = &mut out[(forecast * width + tile.first) * outputs..][..tile.count * outputs];
                pass.head(self, step + 1, 0, covariates, StridedMut { data: out, stride: outputs });
            }
        }
    }

    /// Steps the given columns of `state`, each at most once, with `input` `[column][input]`. `series` is `[column]`, or empty if
    /// all series are unknown.
    ///
    /// A column's new state depends on that column only and equals that of a window over the same steps, bit for bit.
    ///
    /// # Panics
    /// If `input` has the wrong length, a column does not exist, or `scratch` belongs to another shape.
    pub fn step(
        &self,
        state: &mut State,
        columns: &[usize],
        input: &[f32],
        series: &[Option<u32>],
        scratch: &mut Scratch,
    ) {
        let (shape, width) = (self.shape(), columns.len());
        self.check_columns(state, columns);
        assert_eq!(scratch.pass.shape, *shape, "the scratch belongs to the network's shape");
        check_len(input, width * shape.inputs, "inputs", "[column][input]");
        prefetch_states(state, &columns[..width.min(TILE)]);
        for tile in Tile::all(width) {
            let next_tile = tile.first + tile.count..width.min(tile.first + 2 * TILE);
            prefetch_states(state, columns.get(next_tile).unwrap_or_default());
            let Scratch { next, inputs, embedded, .. } = &mut *scratch;
            let mut input = tile.of(input, 0, width, shape.inputs);
            if shape.embedding > 0 {
                let series = series.get(tile.first..).unwrap_or_default();
                self.embed(&series[..series.len().min(tile.count)], embedded);
                embedded.resize(tile.count * shape.embedding, 0.0);
                concatenate(input, shape.inputs, embedded, shape.embedding, inputs);
                input = inputs;
            }
            self.step_tile(state, &columns[tile.first..][..tile.count], input, next);
        }
    }

    /// Steps the columns of one tile in place.
    fn step_tile(&self, state: &mut State, columns: &[usize], input: &[f32], next: &mut [f32]) {
        let (shape, size) = (self.shape(), self.shape().hidden);
        for (k, weights) in self.layers.iter().enumerate() {
            let LayerState { below, hidden, cell } = state.layer_mut(k);
            let inputs = match below {
                None => Strided::dense(input, shape.inputs_of(0)),
                Some(below) => Strided { data: below, stride: size, indices: Some(columns) },
            };
            let step = LayerStep {
                kind: shape.cell,
                weights: &weights.packed,
                peepholes: &weights.fused.peepholes,
                hidden: Strided { data: hidden, stride: size, indices: Some(columns) },
                inputs,
                cells: CellStates { data: cell, before: 0, after: 0, indices: Some(columns) },
                out: StridedMut { data: next, stride: size },
                gates: None,
            };
            step.run(columns.len());
            for (h, column) in next.chunks_exact(size).zip(columns) {
                hidden[column * size..][..size].copy_from_slice(h);
            }
        }
    }

    fn check_columns(&self, state: &State, columns: &[usize]) {
        assert!(state.matches(self.shape()), "the state belongs to the network's shape");
        let are_in_state = columns.iter().all(|column| *column < state.width());
        assert!(are_in_state, "the state has all columns");
    }
}

/// `out` = `[column][a; b]`
fn concatenate(a: &[f32], a_size: usize, b: &[f32], b_size: usize, out: &mut Vec<f32>) {
    out.clear();
    for (a, b) in a.chunks_exact(a_size).zip(b.chunks_exact(b_size)) {
        out.extend_from_slice(a);
        out.extend_from_slice(b);
    }
}
