//! The forward pass of one tile of columns: the layers step by step, then the head. Forecasting and training run this same
//! code, so their forecasts have the same bits; training saves what the backward pass needs.

use std::ops::Range;

use nalgebra::DMatrix;

use super::kernel::layer_step::{CellStates, LayerStep};
use super::kernel::packed::{Strided, StridedMut};
use super::kernel::product::{Init, linear};
use super::weights::{gate_rows, head_rows, output_rows, state_rows};
use super::{Decoder, Network, Shape, State};

/// Columns that pass through the network together: enough to reuse each loaded panel of the weights often, few enough that a
/// step stays in the cache.
pub(super) const TILE: usize = 64;

/// The inputs of a forecast for many columns.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Columns: windows that are forecast together.
    pub width: usize,
    /// Steps of each window.
    pub steps: usize,
    /// `[step][column][input]`
    pub inputs: &'a [f32],
    /// `[horizon - 1][column][input]` with the recursive decoder: the steps after the window, whose input 0 is replaced by the
    /// forecast value. Empty with the direct decoder.
    pub feedback_inputs: &'a [f32],
    /// `[column][horizon][covariate]`
    pub future_covariates: &'a [f32],
    /// `[column]`: the embedding of each column's series, `None` for an unknown series. Empty if all are unknown.
    pub series: &'a [Option<u32>],
}

impl Batch<'_> {
    /// # Panics
    /// If the length of a slice does not follow from `shape`, `width` and `steps`.
    pub(super) fn check(&self, shape: &Shape) {
        let (step, horizon) = (self.width * shape.inputs, self.width * shape.horizon);
        check_len(self.inputs, self.steps * step, "inputs", "[step][column][input]");
        let feedback = shape.feedback_steps() * step;
        check_len(self.feedback_inputs, feedback, "feedback inputs", "[horizon - 1][column][input]");
        let covariates = horizon * shape.future_covariates;
        check_len(self.future_covariates, covariates, "future covariates", "[column][horizon][covariate]");
        assert!(self.series.is_empty() || self.series.len() == self.width, "series are [column]");
    }
}

#[inline]
#[track_caller]
pub(super) fn check_len(numbers: &[f32], expected: usize, name: &str, layout: &str) {
    assert_eq!(numbers.len(), expected, "{name} are {layout}");
}

/// Columns of a [`State`], in the order of a batch.
#[derive(Clone, Copy)]
pub(super) struct StateColumns<'a> {
    pub state: &'a State,
    pub columns: &'a [usize],
}

/// The columns of a batch that one pass takes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub first: usize,
    pub count: usize,
}

impl Tile {
    /// The tiles of a batch of `width` columns.
    pub fn all(width: usize) -> impl Iterator<Item = Self> {
        (0..width).step_by(TILE).map(move |first| Self { first, count: TILE.min(width - first) })
    }

    /// The tile's part of `data`, `[step][column][number]` with `width` columns of `size` numbers, at one step.
    pub fn of(self, data: &[f32], step: usize, width: usize, size: usize) -> &[f32] {
        &data[(step * width + self.first) * size..][..self.count * size]
    }
}

/// The buffers of one layer. A block of columns belongs to each stored step, and within it a column to each of the tile.
pub(super) struct LayerBuffers {
    /// `[h' | x | 1 | 0...]`: the operand of the layer's matrix, and of the sum of its gradients.
    pub states: DMatrix<f32>,
    /// The gates; without columns unless all steps are saved.
    pub gates: DMatrix<f32>,
    /// c'; without rows for cells without a cell state.
    pub cells: DMatrix<f32>,
}

/// The inputs and outputs of the head, a block of columns for each saved call.
pub(super) struct HeadBuffers {
    /// `[h | future covariates | 1 | 0...]`
    pub states: DMatrix<f32>,
    pub outputs: DMatrix<f32>,
}

/// The forward pass of a tile, with its buffers.
pub(super) struct ForwardPass {
    pub shape: Shape,
    pub layers: Vec<LayerBuffers>,
    pub head: HeadBuffers,
    /// `[column][hidden]`: dropout factors of the head's hidden inputs; empty without dropout.
    pub dropout: Vec<f32>,
    /// `[column]`: the embedding of each column of the tile.
    pub series: Vec<Option<u32>>,
    /// `[column][embedding]`
    embedded: Vec<f32>,
    /// Columns of the current tile.
    pub count: usize,
    /// Steps that can be saved; 0 if each step overwrites the one before the last.
    pub saved_steps: usize,
    /// Columns of the widest tile.
    pub width: usize,
}

impl ForwardPass {
    /// Buffers for tiles of up to `width` columns that save `saved_steps` steps and `head_calls` calls of the head; none are saved
    /// if `saved_steps` is 0.
    pub fn new(shape: &Shape, saved_steps: usize, head_calls: usize, width: usize) -> Self {
        let width = width.min(TILE);
        // Without saved steps, one block is read while the other is written, and c' is overwritten by c.
        let (state_blocks, cell_blocks, head_blocks) = match saved_steps {
            0 => (2, 1, 0),
            _ => (saved_steps + 1, saved_steps + 1, head_calls.max(1)),
        };
        let layer = |k: usize| LayerBuffers {
            states: ones_row(state_rows(shape, k), state_blocks * width, shape.hidden + shape.inputs_of(k)),
            gates: DMatrix::zeros(gate_rows(shape), saved_steps * width),
            cells: DMatrix::zeros(shape.cell.cell_states() * shape.hidden, cell_blocks * width),
        };
        let head = HeadBuffers {
            states: ones_row(head_rows(shape), head_blocks * width, shape.hidden + shape.head_covariates()),
            outputs: DMatrix::zeros(output_rows(shape), head_blocks * width),
        };
        let layers = (0..shape.layers).map(layer).collect();
        let (dropout, series, embedded) = (vec![], vec![], vec![]);
        Self { shape: *shape, layers, head, dropout, series, embedded, count: 0, saved_steps, width }
    }

    /// Calls of the head that can be saved.
    pub fn saved_head_calls(&self) -> usize {
        self.head.outputs.ncols() / self.width
    }

    /// First column of the states before a step.
    fn state_block(&self, step: usize) -> usize {
        self.count * if self.saved_steps == 0 { step % 2 } else { step }
    }

    /// First column of c' of a step.
    fn cell_block(&self, step: usize) -> usize {
        self.count * if self.saved_steps == 0 { 0 } else { step }
    }

    /// Prepares for a tile of a batch, with the initial states `from`, or zeros. `series` is `[column]` of the batch, or empty if
    /// all are unknown.
    pub fn begin(
        &mut self,
        network: &Network,
        from: Option<StateColumns<'_>>,
        series: &[Option<u32>],
        tile: Tile,
    ) {
        assert_eq!(self.shape, *network.shape(), "the scratch belongs to the network's shape");
        assert!(tile.count <= self.width, "the buffers are wide enough for the tile");
        self.count = tile.count;
        let hidden = self.shape.hidden;
        for (k, layer) in self.layers.iter_mut().enumerate() {
            let (state_rows, cell_rows) = (layer.states.nrows(), layer.cells.nrows());
            for position in 0..tile.count {
                let states = &mut layer.states.as_mut_slice()[position * state_rows..][..hidden];
                let cells = &mut layer.cells.as_mut_slice()[position * cell_rows..][..cell_rows];
                match from {
                    Some(StateColumns { state, columns }) => {
                        let column = columns[tile.first + position];
                        states.copy_from_slice(&state.hidden(k)[column * hidden..][..hidden]);
                        cells.copy_from_slice(&state.cell(k)[column * cell_rows..][..cell_rows]);
                    }
                    None => {
                        states.fill(0.0);
                        cells.fill(0.0);
                    }
                }
            }
        }
        self.series.clear();
        self.series.extend(series.iter().skip(tile.first).take(tile.count));
        self.series.resize(tile.count, None);
        network.embed(&self.series, &mut self.embedded);
    }

    /// Sets the inputs `[column][input]` of a step, and appends the embeddings.
    pub fn set_input(&mut self, step: usize, inputs: &[f32]) {
        let (start, count, hidden) = (self.state_block(step), self.count, self.shape.hidden);
        let (width, embedding) = (self.shape.inputs, self.shape.embedding);
        let (rows, states) = (self.layers[0].states.nrows(), self.layers[0].states.as_mut_slice());
        let to = StridedMut { data: &mut states[start * rows + hidden..], stride: rows };
        copy_columns(Strided::dense(inputs, width), to, count, width);
        let to = StridedMut { data: &mut states[start * rows + hidden + width..], stride: rows };
        copy_columns(Strided::dense(&self.embedded, embedding), to, count, embedding);
    }

    /// Steps all layers with the inputs that were set.
    pub fn step(&mut self, network: &Network, step: usize) {
        let (now, next) = (self.state_block(step), self.state_block(step + 1));
        let (before, after) = (self.cell_block(step), self.cell_block(step + 1));
        let (hidden, count) = (self.shape.hidden, self.count);
        for (k, weights) in network.layers.iter().enumerate() {
            if k > 0 {
                // The inputs are the h that the layer below has just written.
                let (below, above) = self.layers.split_at_mut(k);
                let (from, to) = (&below[k - 1].states, &mut above[0].states);
                let (from_rows, to_rows) = (from.nrows(), to.nrows());
                let from = Strided::dense(&from.as_slice()[next * from_rows..], from_rows);
                let to = &mut to.as_mut_slice()[now * to_rows + hidden..];
                copy_columns(from, StridedMut { data: to, stride: to_rows }, count, hidden);
            }
            let LayerBuffers { states, gates, cells } = &mut self.layers[k];
            let (rows, gate_rows, cell_rows) = (states.nrows(), gates.nrows(), cells.nrows());
            let block = |start: usize| start * rows..(start + count) * rows;
            let (states, out) = split_disjoint(states.as_mut_slice(), block(now), block(next));
            let gates = (self.saved_steps > 0).then(|| StridedMut {
                data: &mut gates.as_mut_slice()[now * gate_rows..][..count * gate_rows],
                stride: gate_rows,
            });
            let cells = CellStates {
                data: cells.as_mut_slice(),
                before: before * cell_rows,
                after: after * cell_rows,
                indices: None,
            };
            let step = LayerStep {
                kind: self.shape.cell,
                weights: &weights.packed,
                peepholes: &weights.fused.peepholes,
                hidden: Strided::dense(states, rows),
                inputs: Strided::dense(&states[hidden..], rows),
                cells,
                out: StridedMut { data: out, stride: rows },
                gates,
            };
            step.run(count);
        }
    }

    /// Call `i` of the head, after `done` steps, into `out`. `covariates` is `[column][horizon][covariate]` of the tile.
    pub fn head(&self, network: &Network, done: usize, i: usize, covariates: &[f32], out: StridedMut<'_>) {
        let top = &self.layers[self.shape.layers - 1].states;
        let states = &top.as_slice()[self.state_block(done) * top.nrows()..];
        network.head(Strided::dense(states, top.nrows()), covariates, i, self.count, out);
    }

    /// As [`ForwardPass::head`], with dropout, and saves its inputs and outputs as call `i`.
    pub fn head_saved(&mut self, network: &Network, done: usize, i: usize, covariates: &[f32]) {
        let (hidden, count) = (self.shape.hidden, self.count);
        let (from, to) = (self.state_block(done), i * count);
        let HeadBuffers { states, outputs } = &mut self.head;
        let rows = states.nrows();
        let inputs = &mut states.as_mut_slice()[to * rows..][..count * rows];

        let top = &self.layers[self.shape.layers - 1].states;
        let top = Strided::dense(&top.as_slice()[from * top.nrows()..], top.nrows());
        copy_columns(top, StridedMut { data: inputs, stride: rows }, count, hidden);
        // ĥ = f ∘ h
        for (h, factors) in inputs.chunks_exact_mut(rows).zip(self.dropout.chunks_exact(hidden)) {
            h.iter_mut().zip(factors).for_each(|(h, factor)| *h *= factor);
        }
        let covariates = &covariates[first_covariate(&self.shape, i)..];
        let covariates = Strided::dense(covariates, self.shape.horizon * self.shape.future_covariates);
        let out = StridedMut { data: &mut inputs[hidden..], stride: rows };
        copy_columns(covariates, out, count, self.shape.head_covariates());

        // y = W [ĥ; future covariates; 1]
        let output_rows = outputs.nrows();
        let out = &mut outputs.as_mut_slice()[to * output_rows..][..count * output_rows];
        let inputs = [Strided::dense(inputs, rows), Strided::dense(&inputs[hidden..], rows)];
        let out = StridedMut { data: out, stride: output_rows };
        linear(&network.head.packed, Init::Bias, inputs, count, out);
    }

    /// Forecasts the columns of a tile into `out` `[column][quantity][horizon]`, or, if all steps are saved, into the head's
    /// buffers.
    pub fn forecast(
        &mut self,
        network: &Network,
        from: Option<StateColumns<'_>>,
        batch: &Batch<'_>,
        tile: Tile,
        out: &mut [f32],
    ) {
        let (shape, width) = (self.shape, batch.width);
        self.begin(network, from, batch.series, tile);
        for step in 0..batch.steps {
            self.set_input(step, tile.of(batch.inputs, step, width, shape.inputs));
            self.step(network, step);
        }
        let covariates = tile.of(batch.future_covariates, 0, width, shape.horizon * shape.future_covariates);
        for i in 0..=shape.feedback_steps() {
            let done = batch.steps + i;
            match self.saved_steps {
                0 => {
                    let out = StridedMut { data: &mut out[i..], stride: shape.outputs() };
                    self.head(network, done, i, covariates, out);
                }
                _ => self.head_saved(network, done, i, covariates),
            }
            if i < shape.feedback_steps() {
                self.set_input(done, tile.of(batch.feedback_inputs, i, width, shape.inputs));
                self.feed_back(done, i, out);
                self.step(network, done);
            }
        }
    }

    /// Sets input 0 of a step to value `i` of the forecast.
    fn feed_back(&mut self, step: usize, i: usize, out: &[f32]) {
        let (start, outputs) = (self.state_block(step), &self.head.outputs);
        let states = &mut self.layers[0].states;
        for position in 0..self.count {
            let value = match self.saved_steps {
                0 => out[position * self.shape.outputs() + i],
                _ => outputs[(0, i * self.count + position)],
            };
            states[(self.shape.hidden, start + position)] = value;
        }
    }

    /// Copies the top layer's h after `done` steps into `out` `[column][hidden]`.
    pub fn top_hidden(&self, done: usize, out: &mut [f32]) {
        let (top, hidden) = (&self.layers[self.shape.layers - 1].states, self.shape.hidden);
        let from = Strided::dense(&top.as_slice()[self.state_block(done) * top.nrows()..], top.nrows());
        copy_columns(from, StridedMut { data: out, stride: hidden }, self.count, hidden);
    }
}

impl Network {
    /// The embeddings of some series, `[column][embedding]`; zeros for an unknown series.
    pub(super) fn embed(&self, series: &[Option<u32>], out: &mut Vec<f32>) {
        let size = self.shape().embedding;
        out.clear();
        out.resize(series.len() * size, 0.0);
        if size == 0 {
            return;
        }
        for (series, out) in series.iter().zip(out.chunks_exact_mut(size)) {
            if let Some(numbers) = self.embedding(*series) {
                out.copy_from_slice(numbers);
            }
        }
    }

    /// Call `i` of the head for `count` columns, from the top layer's h and `covariates` `[column][horizon][covariate]`.
    pub(super) fn head(
        &self,
        top: Strided<'_>,
        covariates: &[f32],
        i: usize,
        count: usize,
        out: StridedMut<'_>,
    ) {
        let shape = self.shape();
        let covariates = &covariates[first_covariate(shape, i)..];
        let covariates = Strided::dense(covariates, shape.horizon * shape.future_covariates);
        // y = W [h; future covariates; 1]
        linear(&self.head.packed, Init::Bias, [top, covariates], count, out);
    }
}

/// The first of a column's future covariates that call `i` of the head reads.
fn first_covariate(shape: &Shape, i: usize) -> usize {
    match shape.decoder {
        Decoder::Direct => 0,
        Decoder::Recursive => i * shape.future_covariates,
    }
}

/// One range of `numbers` to read, and a disjoint one to write.
fn split_disjoint(numbers: &mut [f32], read: Range<usize>, write: Range<usize>) -> (&[f32], &mut [f32]) {
    let [read, write] = numbers.get_disjoint_mut([read, write]).expect("different blocks are disjoint");
    (read, write)
}

/// A matrix of zeros with one row of ones, over which the biases' gradients are summed. The forward pass writes neither to
/// that row nor to the padding below it.
fn ones_row(rows: usize, columns: usize, row: usize) -> DMatrix<f32> {
    let mut matrix = DMatrix::zeros(rows, columns);
    matrix.row_mut(row).fill(1.0);
    matrix
}

/// Copies the first `len` numbers of `count` columns.
fn copy_columns(from: Strided<'_>, to: StridedMut<'_>, count: usize, len: usize) {
    if len == 0 {
        return;
    }
    for (from, to) in from.data.chunks(from.stride).zip(to.data.chunks_mut(to.stride)).take(count) {
        to[..len].copy_from_slice(&from[..len]);
    }
}
