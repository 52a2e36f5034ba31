//! Forecasting: from whole windows, or one step at a time with the state carried along.

use super::kernel::layer::{CellRows, Step};
use super::kernel::rows::{Rows, RowsMut};
use super::run::{Run, TILE, columns as columns_of, tiles};
use super::{Decoder, Network, Shape, State};
use crate::prefetch;

/// What the network reads to forecast `width` columns at once.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Columns: windows that are forecast side by side.
    pub width: usize,
    /// Steps of each window.
    pub steps: usize,
    /// `[step][column][input]`: each step is a column-major matrix of inputs x width.
    pub inputs: &'a [f32],
    /// Recursive decoder: `[horizon - 1][column][input]`, the steps after the window. Input 0 is replaced by
    /// what the network says. Direct decoder: empty.
    pub future: &'a [f32],
    /// `[column][horizon][known]`
    pub known: &'a [f32],
    /// The number of each column's series among those that the network has an embedding of, `None` where it is not known;
    /// empty where none is.
    pub series: &'a [Option<u32>],
}

impl Batch<'_> {
    /// Panics when a slice has not the length that follows from `shape`, `width` and `steps`.
    pub(super) fn check(&self, shape: &Shape) {
        let step = self.width * shape.inputs;
        assert_eq!(self.inputs.len(), self.steps * step, "inputs are [step][column][input]");
        assert_eq!(self.future.len(), shape.fed_back() * step, "future is [horizon - 1][column][input]");
        assert_eq!(
            self.known.len(),
            self.width * shape.horizon * shape.known,
            "known is [column][horizon][known]"
        );
        assert!(self.series.is_empty() || self.series.len() == self.width, "series is [column]");
    }
}

/// Buffers of forecasting, used again and again: nothing is allocated for a batch, whatever its width.
pub struct Scratch {
    pub(super) run: Run,
    /// h of a layer after a step of carried states, until all of its units are known.
    next: Vec<f32>,
    /// What a step of carried states reads where series have embeddings, `[column][x; e]`.
    inputs: Vec<f32>,
    embedded: Vec<f32>,
}

impl Scratch {
    pub fn new(shape: &Shape) -> Self {
        let (next, inputs, embedded) = (vec![0.0; TILE * shape.hidden], Vec::new(), Vec::new());
        Self { run: Run::new(shape, 0, 0, TILE), next, inputs, embedded }
    }
}

/// Asks for the states of columns that are about to take a step.
fn prefetch_states(state: &State, columns: &[usize]) {
    for (numbers, size) in state.layers() {
        columns.iter().for_each(|column| prefetch::slice(&numbers[column * size..][..size]));
    }
}

impl Network {
    /// Forecasts each column of `batch`, from states of zero, into `out` `[column][quantity][horizon]`: the forecast itself,
    /// then each quantile that the network says.
    ///
    /// A column's forecast depends on that column alone, bit for bit. Panics when a slice has the wrong
    /// length or `scratch` is another shape's.
    pub fn forecast(&self, batch: &Batch<'_>, scratch: &mut Scratch, out: &mut [f32]) {
        self.forecast_tiles(None, batch, &mut scratch.run, out);
    }

    /// As [`Network::forecast`], from the states of `columns`, which stay as they are: a column of the batch each. `batch`
    /// holds the steps since; there may be none.
    pub fn forecast_from(
        &self,
        (state, columns): (&State, &[usize]),
        batch: &Batch<'_>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        self.check(state, columns);
        let shape = self.shape();
        assert_eq!(columns.len(), batch.width, "a column of the state for each of the batch");
        if batch.steps > 0 || shape.decoder == Decoder::Recursive {
            return self.forecast_tiles(Some((state, columns)), batch, &mut scratch.run, out);
        }
        // Nothing goes on: the head reads the states where they lie.
        batch.check(shape);
        assert_eq!(out.len(), batch.width * shape.outputs(), "out is [column][quantity][horizon]");
        for tile in tiles(batch.width) {
            let top = state.hidden(shape.layers - 1);
            let at = Some(&columns[tile.first..][..tile.count]);
            let known = columns_of(batch.known, 0, batch.width, shape.horizon * shape.known, tile);
            let out = &mut out[tile.first * shape.outputs()..][..tile.count * shape.outputs()];
            let out = RowsMut { numbers: out, stride: shape.outputs() };
            self.say(Rows { numbers: top, stride: shape.hidden, at }, (known, 0), tile.count, out);
        }
    }

    fn forecast_tiles(
        &self,
        from: Option<(&State, &[usize])>,
        batch: &Batch<'_>,
        run: &mut Run,
        out: &mut [f32],
    ) {
        let shape = self.shape();
        batch.check(shape);
        assert_eq!(run.shape, *shape, "the scratch is that of the network's shape");
        let outputs = shape.outputs();
        assert_eq!(out.len(), batch.width * outputs, "out is [column][quantity][horizon]");
        for tile in tiles(batch.width) {
            let out = &mut out[tile.first * outputs..][..tile.count * outputs];
            run.forecast(self, from, batch, tile, out);
        }
    }

    /// The chosen columns of `state`, none of them twice, take one step with `input` `[column][input]` of the columns' `series`
    /// (empty where none is known).
    ///
    /// The same steps give the same bits as in a window, whichever columns step together. Panics when `input` has the wrong
    /// length or a column is not there.
    pub fn step(
        &self,
        (state, columns): (&mut State, &[usize]),
        input: &[f32],
        series: &[Option<u32>],
        scratch: &mut Scratch,
    ) {
        let (shape, width) = (self.shape(), columns.len());
        self.check(state, columns);
        assert_eq!(scratch.run.shape, *shape, "the scratch is that of the network's shape");
        assert_eq!(input.len(), width * shape.inputs, "input is [column][input]");
        prefetch_states(state, &columns[..width.min(TILE)]);
        for tile in tiles(width) {
            let next_tile = tile.first + tile.count..width.min(tile.first + 2 * TILE);
            prefetch_states(state, columns.get(next_tile).unwrap_or_default());
            let input = columns_of(input, 0, width, shape.inputs, tile);
            let series = series.get(tile.first..).unwrap_or_default();
            let Scratch { next, inputs, embedded, .. } = &mut *scratch;
            let input = match shape.embedding {
                0 => input,
                _ => self.beside(
                    input,
                    &series[..series.len().min(tile.count)],
                    tile.count,
                    (inputs, embedded),
                ),
            };
            self.step_tile((state, &columns[tile.first..][..tile.count]), input, next);
        }
    }

    /// Each column's inputs, and beside them what is learned of its series.
    fn beside<'s>(
        &self,
        input: &[f32],
        series: &[Option<u32>],
        count: usize,
        (both, embedded): (&'s mut Vec<f32>, &mut Vec<f32>),
    ) -> &'s [f32] {
        let (inputs, size) = (self.shape().inputs, self.shape().embedding);
        self.embed(series, embedded);
        embedded.resize(count * size, 0.0);
        both.clear();
        for (x, e) in input.chunks_exact(inputs).zip(embedded.chunks_exact(size)) {
            both.extend_from_slice(x);
            both.extend_from_slice(e);
        }
        both
    }

    /// Columns of the states, as many as a tile has at most, take a step where they lie.
    fn step_tile(&self, (state, columns): (&mut State, &[usize]), input: &[f32], next: &mut [f32]) {
        let (shape, size) = (self.shape(), self.shape().hidden);
        for (k, weights) in self.layers.iter().enumerate() {
            let (below, hidden, cells) = state.layer_mut(k);
            let inputs = match below {
                None => Rows::dense(input, shape.inputs_of(0)),
                Some(below) => Rows { numbers: below, stride: size, at: Some(columns) },
            };
            let step = Step {
                kind: shape.cell,
                panels: &weights.panels,
                peepholes: &weights.fused.peepholes,
                hidden: Rows { numbers: hidden, stride: size, at: Some(columns) },
                inputs,
                cells: CellRows { numbers: cells, before: 0, after: 0, at: Some(columns) },
                out: RowsMut { numbers: next, stride: size },
                gates: None,
            };
            step.take(columns.len());
            for (h, column) in next.chunks_exact(size).zip(columns) {
                hidden[column * size..][..size].copy_from_slice(h);
            }
        }
    }

    fn check(&self, state: &State, columns: &[usize]) {
        assert!(state.fits(self.shape()), "the state is that of the network's shape");
        let within = columns.iter().all(|column| *column < state.width());
        assert!(within, "the columns are those of the state");
    }
}
